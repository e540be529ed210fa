// The fold to mean and variance, for reduce.wgsl: how many items, their mean, counted from `pivot`, and the sum of
// their squared deviations from it. An item is taken in as Welford (1962) does, states are merged as Chan, Golub
// and LeVeque (1979) do; neither subtracts large squares. The pivot is the first item, since differences of
// items near each other are exact: so a variance keeps its digits where the mean is a thousand deviations.

struct State { count: f32, pivot: f32, mean: f32, squares: f32 }

fn neutral() -> State { return State(0.0, 0.0, 0.0, 0.0); }

fn finite(x: f32) -> bool { return !(isnan_f32(x) || isinf_f32(x)); }

// The mean a moved towards b, `delta` away. Infinities have no difference, but a mean.
fn moved(a: f32, b: f32, delta: f32, share: f32) -> f32 {
    return select(a + b, a + delta * share, finite(delta));
}

fn push(state: State, x: Value, at: u32) -> State {
    let count = state.count + 1.0;
    let pivot = select(state.pivot, x, state.count == 0.0 && finite(x));
    let y = x - pivot;
    let delta = y - state.mean;
    let mean = moved(state.mean, y, delta, 1.0 / count);
    return State(count, pivot, mean, state.squares + delta * (y - mean));
}

fn merge(a: State, b: State) -> State {
    if (a.count == 0.0) { return b; }
    if (b.count == 0.0) { return a; }
    let count = a.count + b.count;
    let delta = (b.pivot - a.pivot) + (b.mean - a.mean);
    let share = b.count / count;
    let squares = a.squares + b.squares + delta * delta * (a.count * share);
    return State(count, a.pivot, moved(a.mean, b.mean, delta, share), squares);
}

// The fold log Σ exp(x), for reduce.wgsl and softmax.wgsl: the largest x so far and the sum of exp(x − largest),
// which neither overflows nor vanishes (Milakov and Gimelshein, 2018).

struct State { most: f32, sum: f32 }

fn neutral() -> State { return State(-inf_f32(), 0.0); }

fn push(state: State, x: Value, at: u32) -> State { return merge(state, State(x, 1.0)); }

fn merge(a: State, b: State) -> State {
    // Of equal maxima, which may be infinite, the difference is 0.
    let equal = a.most == b.most;
    let decay = select(exp_f32(-abs(a.most - b.most)), 1.0, equal);
    // NaN fails each comparison and gets into the sum through `decay`.
    if (a.most > b.most) { return State(a.most, a.sum + b.sum * decay); }
    return State(b.most, a.sum * decay + b.sum);
}

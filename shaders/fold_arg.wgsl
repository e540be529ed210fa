// The fold to the place of the first extreme, for reduce.wgsl: the greatest key (shaders/prelude/order.wgsl) and
// where it was first. The host gives `Key`, an unsigned type, and `key`, from a `Value` to its key; no key is less
// than that of nothing, and every place comes before its place.

struct State { key: Key, at: u32 }

fn neutral() -> State { return State(Key(0u), 0xffffffffu); }

fn push(state: State, x: Value, at: u32) -> State { return merge(state, State(key(x), at)); }

fn merge(a: State, b: State) -> State {
    let first = a.key > b.key || (a.key == b.key && a.at < b.at);
    return State(select(b.key, a.key, first), select(b.at, a.at, first));
}

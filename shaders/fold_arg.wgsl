// The fold to the place of the first extreme, for reduce.wgsl: the greatest key (shaders/prelude/order.wgsl) and
// where it was first. The host gives `Key`, an unsigned type, with `key`, from a `Value` to its key, `less` and
// `equal`; no key is less than that of nothing, 0, and every place comes before its place.

struct State { key: Key, at: u32 }

fn neutral() -> State { return State(Key(), 0xffffffffu); }

fn push(state: State, x: Value, at: u32) -> State { return merge(state, State(key(x), at)); }

fn merge(a: State, b: State) -> State {
    if (less(b.key, a.key) || (equal(a.key, b.key) && a.at < b.at)) { return a; }
    return b;
}

// normalize: rows with mean 0, if they are `CENTRED`, and mean square 1: y = (x − μ) r w + b with r = 1 / √(σ² +
// eps), where μ is the row's mean, or 0.
//
// Bindings: `x`; `weight` and `bias`, where there are; `y`, `mean`, `scale`. The first and `y` through `load_x`,
// `load_weight`, `load_bias` and `store_y`, which the host generates: an `Item` is one element or four neighbours.
// Grid: 256 invocations to a workgroup, of which `ALONG` share a row; one workgroup for each 256 / `ALONG` rows,
// folded into rows of `row`.
// Constants from the host: as combine.wgsl; `CENTRED`, `WEIGHT`, `BIAS`; `Item`, `WIDTH`, its elements, and
// `total`, their sum.
// Parameters, places and steps in items: `row`; `rows`, how many; `items` of a row; `x_offset`, `x_step` from row
// to row, `weight_offset`, `bias_offset`, `y_offset`; `first`, the place of the first row's statistics; `eps`.
//
// A lane takes every `ALONG`-th item. It sums 16 of them, counted from the first, which is near the others, and
// their squares; such blocks are merged as fold_moments.wgsl says, so that neither a large mean nor a long row
// costs digits. A row is read twice; the second time it comes from a cache.

const BLOCK: u32 = 16u;

fn block_state(base: u32, first: u32, end: u32) -> State {
    var pivot = 0.0;
    if (CENTRED) {
        let x = first_of(load_x(base + first));
        pivot = select(0.0, x, finite(x));
    }
    var sum = Item();
    var squares = Item();
    var count = 0.0;
    for (var i = first; i < end; i += ALONG) {
        let x = load_x(base + i) - pivot;
        sum += x;
        squares += x * x;
        count += WIDTH;
    }
    if (!CENTRED) { return State(count, 0.0, 0.0, total(squares)); }
    let mean = total(sum) / count;
    let rest = total(squares) - total(sum) * mean;
    return State(count, pivot, mean, select(rest, 0.0, rest < 0.0));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let o = (group.y * p.row + group.x) * ACROSS + lane / ALONG;
    let along = lane % ALONG;
    let base = p.x_offset + o * p.x_step;
    var state = neutral();
    if (o < p.rows) {
        for (var block = along; block < p.items; block += ALONG * BLOCK) {
            state = merge(state, block_state(base, block, min(p.items, block + ALONG * BLOCK)));
        }
    }
    state = combine(state, lane);
    if (o >= p.rows) { return; }
    let mu = state.pivot + state.mean;
    let r = 1.0 / sqrt(state.squares / state.count + bitcast<f32>(p.eps));
    let to = p.y_offset + o * p.items;
    for (var i = along; i < p.items; i += ALONG) {
        var y = (load_x(base + i) - mu) * r;
        if (WEIGHT) { y *= load_weight(p.weight_offset + i); }
        if (BIAS) { y += load_bias(p.bias_offset + i); }
        store_y(to + i, y);
    }
    if (along == 0u) {
        mean[p.first + o] = mu;
        scale[p.first + o] = r;
    }
}

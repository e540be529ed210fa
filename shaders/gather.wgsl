// gather: out[i] = x[at_x(i) + pick(index[at_index(i)]) · step], for `take` and `gather`: both walk the
// output, where x has stride 0 along the axes of the index and the index along all others.
//
// Bindings: 0 `x` and 2 `out`, elements as bits, read through `load_x` and `before` and written through
// `store_quad`, which the host generates for their width; 1 `index`; 3 `bounds` (pick.wgsl).
// Grid: one invocation for four elements, 256 in a workgroup, folded into rows of `row` invocations.
// Constants from the host: `Value`, the bits of an element; `PARTIAL`, whether `x` holds only a part of
// the axis, so that other elements stay as they are; `Places` with `at_x` and `at_index`.
//
// An invocation owns whole words of the output. A bad index gives 0.

struct Parameters {
    count: u32,
    row: u32,
    // In quads.
    out_offset: u32,
    step: u32,
    size: u32,
    slot: u32,
    // The part of the axis that x holds.
    first: u32,
    held: u32,
    @align(16) places: Places,
}

fn element(quad: u32, lane: u32) -> Value {
    // Past the end the last element is made again.
    let i = min(quad * 4u + lane, p.count - 1u);
    let place = pick(index[at_index(i)]);
    if (place == NONE) { return Value(); }
    let along = place - p.first;
    if (along >= p.held) {
        if (PARTIAL) { return before(p.out_offset + quad, lane); }
        return Value();
    }
    return load_x(at_x(i) + along * p.step);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quad = group.y * p.row + group.x * 256u + lane;
    if (quad >= (p.count + 3u) / 4u) { return; }
    let a = element(quad, 0u);
    let b = element(quad, 1u);
    let c = element(quad, 2u);
    let d = element(quad, 3u);
    store_quad(p.out_offset + quad, a, b, c, d);
}

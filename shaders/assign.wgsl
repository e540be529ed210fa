// assign: out[at_out(i)] = x[at_x(i)], or out[at_out(i)] += x[at_x(i)]: a strided operand into a window of
// the output, for `assign`, `concat` and copies of what WGSL cannot compute with.
//
// Bindings: 0 `x`, 1 `out`, through `load_x` and `store`, which the host generates.
// Grid: one invocation for an element, 256 in a workgroup, folded into rows of `row` invocations.
// Constants from the host: `Places` with `at_x` and `at_out`. The window meets no place twice; where elements
// are narrower than words, `out` is atomic, since the window may begin anywhere in one.

struct Parameters {
    count: u32,
    row: u32,
    @align(16) places: Places,
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.y * p.row + group.x * 256u + lane;
    if (i >= p.count) { return; }
    store(at_out(i), load_x(at_x(i)));
}

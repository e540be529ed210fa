// matmul_sum: the parts of split sums added up in order, then the epilogue.
//
// Bindings: 0 `parts_of`, one output after the other; 1 `out`; then the epilogue's other operands.
// Grid: one invocation for four neighbours of a row of the output, 256 in a workgroup, folded into rows of `row`
// invocations.
// Parameters: `row`; `count`, of invocations; `parts`; `size`, of a part; `n`, of a row; `out_offset`; then those of
// the epilogue.
// From the host: `Value`; `store_four(o, r, sums)` as for matmul.wgsl.

@group(0) @binding(0) var<storage, read_write> parts_of: array<Value>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.y * p.row + group.x * 256u + lane;
    if (i >= p.count) { return; }
    let fours = (p.n + 3u) / 4u;
    let o = i / fours;
    let r = i % fours * 4u;
    // Columns that a row does not have are made of the last one, and not stored.
    let at = o * p.n + min(vec4<u32>(r, r + 1u, r + 2u, r + 3u), vec4<u32>(p.n - 1u));
    var sums = vec4<Value>();
    for (var part = 0u; part < p.parts; part++) {
        let places = at + part * p.size;
        sums += vec4<Value>(parts_of[places.x], parts_of[places.y], parts_of[places.z], parts_of[places.w]);
    }
    store_four(o, r, sums);
}

// searchsorted: for each value its place in a sorted row, by bisection: behind all elements that are less, or, if
// `RIGHT`, that are not greater. NaN counts as greater than all numbers.
//
// Bindings: 0 the values, 1 the sorted rows, read through `load_in0`, `load_sorted`; 2 `out0`, int64 as two words.
// Grid: one invocation to a value, 256 in a workgroup, folded into rows of `row` workgroups.
// Constants from the host: `key`, with `less` and `equal`; `RIGHT`; `base_of(o)` with the places of a value, of its row, of its result.
// Parameters: `row`; `count`, how many values; `length` of the sorted rows and the `stride` of their elements.

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let o = (group.y * p.row + group.x) * 256u + lane;
    if (o >= p.count) { return; }
    let base = base_of(o);
    let sought = key(load_in0(at_in0(base, 0u)));
    let row = at_sorted(base, 0u);
    var low = 0u;
    var high = p.length;
    for (var i = 0; i < 32 && low < high; i++) {
        let middle = low + (high - low) / 2u;
        let here = key(load_sorted(row + middle * p.stride));
        if (less(here, sought) || (RIGHT && equal(here, sought))) { low = middle + 1u; } else { high = middle; }
    }
    out0[at_out0(base, 0u)] = vec2<u32>(low, 0u);
}

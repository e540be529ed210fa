// sort_emit: sorted entries (sort_parameters.wgsl) as values, fetched from where they were, and int64 places, low
// word first.
//
// Bindings: 0 the operand, read through `base_of` and `item`; 1 `entries`; 2 `values`; 3 `places`.
// Grid: one invocation to an element, 256 in a workgroup, folded into rows of `row` workgroups.
// Constants from the host: `Entry`; `stored`, an item as an element of `values`.
// Parameters: `row`; `count` elements in rows of `length`, which have `n` entries; `values_first` and
// `places_first`, where the results go.

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let element = (group.y * p.row + group.x) * 256u + lane;
    if (element >= p.count) { return; }
    let o = element / p.length;
    let at = entries[o * p.n + element % p.length].at;
    values[p.values_first + element] = stored(item(base_of(o), at));
    places[p.places_first + element] = vec2<u32>(at, 0u);
}

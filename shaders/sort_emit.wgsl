// sort_emit: sorted entries (sort_parameters.wgsl) as values, fetched from where they were, and int64 places, low
// word first.
//
// Bindings: 0 the operand, read through `base_of` and `item`; 1 `entries`; 2 `values`; 3 `places`.
// Grid: one invocation to an element, 256 in a workgroup, folded into rows of `row` workgroups.
// Constants from the host: `Entry`; `stored`, an item as an element of `values`.
// Parameters: `row`; `count` elements from `begin` on in rows of `length`, which have `n` entries; `values_first` and
// `places_first`, where the results go; `base`, the first entry that is bound; `origin`, the first place of a row that
// is, and how many are `held`: elements from elsewhere are left to other dispatches.

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let element = (group.y * p.row + group.x) * 256u + lane;
    if (element >= p.count) { return; }
    let o = (p.begin + element) / p.length;
    let at = entries[o * p.n + (p.begin + element) % p.length - p.base].at;
    if (at - p.origin >= p.held) { return; }
    values[p.values_first + element] = stored(item(base_of(o), at - p.origin));
    places[p.places_first + element] = vec2<u32>(at, 0u);
}

// scatter_keys: pairs[i] = (at_target(i) + place · step, start + i), where place is what the index says: where
// element i of a scatter goes, and which element it is, to be sorted by the first.
//
// Bindings: 0 `index`, int64; 1 `pairs`; 2 `bounds` (pick.wgsl).
// Grid: one invocation for an element, 256 in a workgroup, folded into rows of `row` invocations.
// Constants from the host: `REPORT`, whether indices may be negative and bad ones are reported; `Places` with
// `at_index` and `at_target`. An element without a place gets the key NONE.

struct Parameters {
    count: u32,
    row: u32,
    start: u32,
    step: u32,
    size: u32,
    slot: u32,
    @align(16) places: Places,
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.y * p.row + group.x * 256u + lane;
    if (i >= p.count) { return; }
    let word = index[at_index(i)];
    var place = select(NONE, word.x, word.y == 0u && word.x < p.size);
    if (REPORT) { place = pick(word); }
    let key = select(at_target(i) + place * p.step, NONE, place == NONE);
    pairs[i] = vec2<u32>(key, p.start + i);
}

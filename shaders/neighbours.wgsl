// neighbours: whether lanes exchange registers as combine.wgsl and its like suppose: that `SUBGROUP` neighbours,
// by their number in the workgroup, are in one subgroup, and in that order, which WGSL does not promise.
//
// Bindings: 0 `good`, a word for each lane: 1 if every exchange brought what was expected.
// Grid: some workgroups of 256 invocations.
// Constants from the host: `SUBGROUP`, a power of 2.
// Parameters: `row`, 256.

@group(0) @binding(0) var<storage, read_write> good: array<u32>;

struct Parameters {
    row: u32,
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var same = true;
    for (var mask = 1u; mask < SUBGROUP; mask *= 2u) {
        same = same && subgroupShuffleXor(lane, mask) == (lane ^ mask);
    }
    // Half of the lanes do something else in between, and come back.
    var sum = lane;
    if ((lane & 1u) == 0u) { sum += lane * 3u; }
    let other = lane ^ 1u;
    same = same && subgroupShuffleXor(sum, 1u) == select(other, other * 4u, (other & 1u) == 0u);
    good[group.x * p.row + lane] = select(0u, 1u, same);
}

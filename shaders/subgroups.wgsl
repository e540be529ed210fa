// subgroups: how many subgroups the driver makes of a workgroup of 256 invocations.
//
// Bindings: 0 `count`, a word.
// Grid: one workgroup.
// Parameters: `least`, 0.

@group(0) @binding(0) var<storage, read_write> count: array<u32>;

struct Parameters {
    least: u32,
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(num_subgroups) subgroups: u32) {
    if (lane == 0u) { count[0] = max(subgroups, p.least); }
}

// sort_step: one step of a bitonic sort (sort_parameters.wgsl) on entries that are far apart.
//
// Bindings: 0 `entries`, from entry `base` on, and 1 `others`, the same or those that are paired with them.
// Grid: one invocation to a pair, 256 in a workgroup, folded into rows of `row` workgroups.
// Constants from the host: `Entry`, with `less` and `equal` of keys.
// Parameters: `row`; `first`, the number of the first pair, and `pairs`, where they end; `n`, `size`; `near`, how far
// apart pairs are, or 0 where each has one entry in `entries` and one at the same place in `others`; `base`.

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let pair = p.first + (group.y * p.row + group.x) * 256u + lane;
    if (pair >= p.pairs) { return; }
    let i = lower(pair, p.near);
    let a = entries[i];
    let b = others[i + p.near];
    if (before(b, a) == (((p.base + i) & (p.n - 1u) & p.size) == 0u)) {
        entries[i] = b;
        others[i + p.near] = a;
    }
}

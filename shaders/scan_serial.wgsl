// scan_serial: as scan.wgsl, for short rows, and for items of one o that lie far apart: neighbouring invocations
// then read neighbours.
//
// Bindings, constants from the host and parameters: as scan.wgsl.
// Grid: one invocation for each chunk of each o, 256 in a workgroup, folded into rows of `row` workgroups.

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = (group.y * p.row + group.x) * 256u + lane;
    let o = at % p.outputs;
    let chunk = at / p.outputs;
    if (chunk >= p.chunks) { return; }
    let base = base_of(o);
    var running = neutral();
    if (GIVEN) { running = start(o, p.first + chunk); }
    let end = min(p.length, (chunk + 1u) * p.chunk);
    for (var r = chunk * p.chunk; r < end; r++) {
        running = push(running, item(base, r), r);
        out0[at_out0(base, r)] = running;
    }
}

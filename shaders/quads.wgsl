
// The entry of kernels whose invocations make four neighbours of the output each, `element(i)`, and store them as one:
// `store_quad`, from the host. Parameters: `count`, `row` and `out_offset`, in quads.

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quad = group.y * p.row + group.x * 256u + lane;
    if (quad >= (p.count + 3u) / 4u) { return; }
    let i = quad * 4u;
    let a = element(i);
    let b = element(i + 1u);
    let c = element(i + 2u);
    let d = element(i + 3u);
    store_quad(p.out_offset + quad, a, b, c, d);
}

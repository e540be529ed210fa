
// radix_move: every pair to the next free place of its digit; radix.wgsl tells of the whole.

@group(0) @binding(2) var<storage, read_write> sorted: array<vec2<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let chunk = id.x;
    if (chunk >= p.chunks) { return; }
    var to = array<u32, 16>();
    for (var d = 0u; d < 16u; d++) {
        to[d] = counts[d * p.chunks + chunk];
    }
    let end = min((chunk + 1u) * p.each, p.count);
    for (var i = chunk * p.each; i < end; i++) {
        let pair = pairs[i];
        let d = digit(pair.x);
        sorted[to[d]] = pair;
        to[d] += 1u;
    }
}

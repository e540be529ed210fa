
// radix_count: how often each digit occurs in each chunk; radix.wgsl tells of the whole.

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let chunk = id.x;
    if (chunk >= p.chunks) { return; }
    var found = array<u32, 16>();
    let end = min((chunk + 1u) * p.each, p.count);
    for (var i = chunk * p.each; i < end; i++) {
        found[digit(pairs[i].x)] += 1u;
    }
    for (var d = 0u; d < 16u; d++) {
        counts[d * p.chunks + chunk] = found[d];
    }
}

// multiply_adds: chains of fused multiply-adds that never leave the registers: what the device does at best.
//
// Bindings: 0 `y`, a word that no chain ever writes, so that none is dead.
// Grid: any number of workgroups of 256.
//
// An invocation runs eight chains of vectors of four, far more than any device needs to hide its latency,
// for 4 · `turns` steps: 8 · 4 · 4 · 2 · `turns` operations.

@group(0) @binding(0) var<storage, read_write> y: array<f32>;

struct Parameters {
    turns: u32,
    scale: f32,
    shift: f32,
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
    let scale = vec4<f32>(p.scale);
    let shift = vec4<f32>(p.shift);
    var a = vec4<f32>(f32(lane));
    var b = a + 1.0;
    var c = a + 2.0;
    var d = a + 3.0;
    var e = a + 4.0;
    var f = a + 5.0;
    var g = a + 6.0;
    var h = a + 7.0;
    for (var turn = 0u; turn < p.turns; turn++) {
        a = fma(a, scale, shift);
        b = fma(b, scale, shift);
        c = fma(c, scale, shift);
        d = fma(d, scale, shift);
        e = fma(e, scale, shift);
        f = fma(f, scale, shift);
        g = fma(g, scale, shift);
        h = fma(h, scale, shift);
        a = fma(a, scale, shift);
        b = fma(b, scale, shift);
        c = fma(c, scale, shift);
        d = fma(d, scale, shift);
        e = fma(e, scale, shift);
        f = fma(f, scale, shift);
        g = fma(g, scale, shift);
        h = fma(h, scale, shift);
        a = fma(a, scale, shift);
        b = fma(b, scale, shift);
        c = fma(c, scale, shift);
        d = fma(d, scale, shift);
        e = fma(e, scale, shift);
        f = fma(f, scale, shift);
        g = fma(g, scale, shift);
        h = fma(h, scale, shift);
        a = fma(a, scale, shift);
        b = fma(b, scale, shift);
        c = fma(c, scale, shift);
        d = fma(d, scale, shift);
        e = fma(e, scale, shift);
        f = fma(f, scale, shift);
        g = fma(g, scale, shift);
        h = fma(h, scale, shift);
    }
    // With 0 < scale < 1 and shift > 0 no sum of chains is negative.
    let sum = a + b + c + d + e + f + g + h;
    if (sum.x + sum.y + sum.z + sum.w < 0.0) { y[0] = sum.x; }
}

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

struct Chains {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
    e: vec4<f32>,
    f: vec4<f32>,
    g: vec4<f32>,
    h: vec4<f32>,
}

fn advance(x: Chains, scale: vec4<f32>, shift: vec4<f32>) -> Chains {
    return Chains(fma(x.a, scale, shift), fma(x.b, scale, shift), fma(x.c, scale, shift), fma(x.d, scale, shift),
        fma(x.e, scale, shift), fma(x.f, scale, shift), fma(x.g, scale, shift), fma(x.h, scale, shift));
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
    let scale = vec4<f32>(p.scale);
    let shift = vec4<f32>(p.shift);
    let a = vec4<f32>(f32(lane));
    var x = Chains(a, a + 1.0, a + 2.0, a + 3.0, a + 4.0, a + 5.0, a + 6.0, a + 7.0);
    for (var turn = 0u; turn < p.turns; turn++) {
        x = advance(x, scale, shift);
        x = advance(x, scale, shift);
        x = advance(x, scale, shift);
        x = advance(x, scale, shift);
    }
    // With 0 < scale < 1 and shift > 0 no sum of chains is negative.
    let sum = x.a + x.b + x.c + x.d + x.e + x.f + x.g + x.h;
    if (sum.x + sum.y + sum.z + sum.w < 0.0) { y[0] = sum.x; }
}

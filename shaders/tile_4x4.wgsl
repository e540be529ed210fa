// The sums of an invocation for tile.wgsl: 4 × 4, as rows of a vector. Every step along k reads two vectors for 16
// multiply-adds: half as many for a vector as tile_8x8.wgsl, but its tiles are small.

const ACROSS: u32 = TILE / 4u;

struct Sums {
    r0: vec4<Value>,
    r1: vec4<Value>,
    r2: vec4<Value>,
    r3: vec4<Value>,
}

fn multiply(sums: ptr<function, Sums>, at_a: u32, at_b: u32) {
    let a = strips[at_a];
    let b = strips[at_b];
    (*sums).r0 = madd(a.x, b, (*sums).r0);
    (*sums).r1 = madd(a.y, b, (*sums).r1);
    (*sums).r2 = madd(a.z, b, (*sums).r2);
    (*sums).r3 = madd(a.w, b, (*sums).r3);
}

fn finish(sums: ptr<function, Sums>, batch: u32, row: u32, column: u32) {
    store_row(batch, row, column, (*sums).r0);
    store_row(batch, row + 1u, column, (*sums).r1);
    store_row(batch, row + 2u, column, (*sums).r2);
    store_row(batch, row + 3u, column, (*sums).r3);
}


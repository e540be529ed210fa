// The sums of an invocation for tile.wgsl: 8 × 8, as rows of two vectors. It makes rows y … y + 3 of the upper half
// of the tile and of the lower, in both of them columns x … x + 3 of the left half and of the right: neighbours
// read neighbouring vectors, and every step along k reads four for 64 multiply-adds.

const ACROSS: u32 = TILE / 8u;
const HALF: u32 = TILE / 2u;

// Row i: l, columns of the left half, and h, of the right.
struct Sums {
    l0: vec4<Value>,
    h0: vec4<Value>,
    l1: vec4<Value>,
    h1: vec4<Value>,
    l2: vec4<Value>,
    h2: vec4<Value>,
    l3: vec4<Value>,
    h3: vec4<Value>,
    l4: vec4<Value>,
    h4: vec4<Value>,
    l5: vec4<Value>,
    h5: vec4<Value>,
    l6: vec4<Value>,
    h6: vec4<Value>,
    l7: vec4<Value>,
    h7: vec4<Value>,
}

fn multiply(sums: ptr<function, Sums>, at_a: u32, at_b: u32) {
    let upper = strips[at_a];
    let lower = strips[at_a + HALF / 4u];
    let left = strips[at_b];
    let right = strips[at_b + HALF / 4u];
    (*sums).l0 = madd(upper.x, left, (*sums).l0);
    (*sums).h0 = madd(upper.x, right, (*sums).h0);
    (*sums).l1 = madd(upper.y, left, (*sums).l1);
    (*sums).h1 = madd(upper.y, right, (*sums).h1);
    (*sums).l2 = madd(upper.z, left, (*sums).l2);
    (*sums).h2 = madd(upper.z, right, (*sums).h2);
    (*sums).l3 = madd(upper.w, left, (*sums).l3);
    (*sums).h3 = madd(upper.w, right, (*sums).h3);
    (*sums).l4 = madd(lower.x, left, (*sums).l4);
    (*sums).h4 = madd(lower.x, right, (*sums).h4);
    (*sums).l5 = madd(lower.y, left, (*sums).l5);
    (*sums).h5 = madd(lower.y, right, (*sums).h5);
    (*sums).l6 = madd(lower.z, left, (*sums).l6);
    (*sums).h6 = madd(lower.z, right, (*sums).h6);
    (*sums).l7 = madd(lower.w, left, (*sums).l7);
    (*sums).h7 = madd(lower.w, right, (*sums).h7);
}

fn finish(sums: ptr<function, Sums>, batch: u32, row: u32, column: u32) {
    store_row(batch, row, column, (*sums).l0);
    store_row(batch, row, column + HALF, (*sums).h0);
    store_row(batch, row + 1u, column, (*sums).l1);
    store_row(batch, row + 1u, column + HALF, (*sums).h1);
    store_row(batch, row + 2u, column, (*sums).l2);
    store_row(batch, row + 2u, column + HALF, (*sums).h2);
    store_row(batch, row + 3u, column, (*sums).l3);
    store_row(batch, row + 3u, column + HALF, (*sums).h3);
    store_row(batch, row + HALF, column, (*sums).l4);
    store_row(batch, row + HALF, column + HALF, (*sums).h4);
    store_row(batch, row + HALF + 1u, column, (*sums).l5);
    store_row(batch, row + HALF + 1u, column + HALF, (*sums).h5);
    store_row(batch, row + HALF + 2u, column, (*sums).l6);
    store_row(batch, row + HALF + 2u, column + HALF, (*sums).h6);
    store_row(batch, row + HALF + 3u, column, (*sums).l7);
    store_row(batch, row + HALF + 3u, column + HALF, (*sums).h7);
}


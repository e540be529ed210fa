// products: products of 32 × 32 in workgroup memory, for attention and recurrent sequences.
//
// 64 invocations make a `Tile` together: lane 8 · across + along has rows 4 · across … + 3 and columns 4 · along …
// + 3. Operands are staged in strips of 32 rows by 32 columns, a vector for four columns: `left` and `weights` row
// by row; `right` too, where its rows are multiplied along, or with the vectors of row r exchanged by r / 4 where
// they are multiplied across, so that the eight lanes of a row of the tile read from different banks. Two vectors
// are read for 16 multiply-adds. products_operand.wgsl has the functions that stage; the caller's barriers stand
// around them.

struct Tile { r0: vec4<f32>, r1: vec4<f32>, r2: vec4<f32>, r3: vec4<f32> }

var<workgroup> left: array<vec4<f32>, 256>;
var<workgroup> right: array<vec4<f32>, 256>;
var<workgroup> weights: array<vec4<f32>, 256>;

// t + A Bᵀ of the staged strips: A in `left`, B in `right` with its vectors exchanged.
fn times_rows(t: Tile, lane: u32) -> Tile {
    let a = lane / 8u * 32u;
    let along = lane % 8u;
    let b = along * 32u;
    var sums = t;
    for (var k = 0u; k < 8u; k++) {
        let at = b + (k ^ along);
        let b0 = right[at];
        let b1 = right[at + 8u];
        let b2 = right[at + 16u];
        let b3 = right[at + 24u];
        let a0 = left[a + k];
        sums.r0 += vec4<f32>(dot(a0, b0), dot(a0, b1), dot(a0, b2), dot(a0, b3));
        let a1 = left[a + k + 8u];
        sums.r1 += vec4<f32>(dot(a1, b0), dot(a1, b1), dot(a1, b2), dot(a1, b3));
        let a2 = left[a + k + 16u];
        sums.r2 += vec4<f32>(dot(a2, b0), dot(a2, b1), dot(a2, b2), dot(a2, b3));
        let a3 = left[a + k + 24u];
        sums.r3 += vec4<f32>(dot(a3, b0), dot(a3, b1), dot(a3, b2), dot(a3, b3));
    }
    return sums;
}

fn along_row(a: vec4<f32>, b0: vec4<f32>, b1: vec4<f32>, b2: vec4<f32>, b3: vec4<f32>) -> vec4<f32> {
    return a.x * b0 + a.y * b1 + a.z * b2 + a.w * b3;
}

// t + A B: A in `weights`, B in `right`.
fn times_columns(t: Tile, lane: u32) -> Tile {
    let a = lane / 8u * 32u;
    let along = lane % 8u;
    var sums = t;
    for (var k = 0u; k < 8u; k++) {
        let at = k * 32u + along;
        let b0 = right[at];
        let b1 = right[at + 8u];
        let b2 = right[at + 16u];
        let b3 = right[at + 24u];
        sums.r0 += along_row(weights[a + k], b0, b1, b2, b3);
        sums.r1 += along_row(weights[a + k + 8u], b0, b1, b2, b3);
        sums.r2 += along_row(weights[a + k + 16u], b0, b1, b2, b3);
        sums.r3 += along_row(weights[a + k + 24u], b0, b1, b2, b3);
    }
    return sums;
}

// Puts a tile where `times_columns` reads its left operand.
fn hold(t: Tile, lane: u32) {
    let at = lane / 8u * 32u + lane % 8u;
    weights[at] = t.r0;
    weights[at + 8u] = t.r1;
    weights[at + 16u] = t.r2;
    weights[at + 24u] = t.r3;
}

// A tile with its rows multiplied.
fn scaled(t: Tile, by: vec4<f32>) -> Tile {
    return Tile(t.r0 * by.x, t.r1 * by.y, t.r2 * by.z, t.r3 * by.w);
}

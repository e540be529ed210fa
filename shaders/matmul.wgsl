// matmul: out = a × b for a batch of matrices (M, K) and (K, N), anywhere in memory, to row-major (M, N).
//
// Bindings: 0 `a`, 1 `b`, read through `load_a` and `load_b`, which the host generates for their dtype;
// 2 `out`, written through `store` (matmul_parameters.wgsl); then the epilogue's other operands.
// Grid: one workgroup of 256 invocations for a tile of 64 × 64, all tiles of all batches in one row of
// `tiles_m · tiles_n · batches`, folded into rows of `row` workgroups.
// Constants from the host: `Value`, the type of an element and of its accumulator; `A_ALONG_K` and
// `B_ALONG_K`, whether neighbours in memory are neighbours along K.
//
// An invocation keeps 4 × 4 sums in registers. Strips of 16 along K go through workgroup memory, four rows
// (or columns) to a vector, so that each step along K reads two vectors for 16 multiply-adds. Rows of
// vectors are padded to 17, which spreads over the banks the writes of invocations that go along K.

const TILE: u32 = 64u;
const STRIP: u32 = 16u;
const PITCH: u32 = 17u;

var<workgroup> strip_a: array<vec4<Value>, 272>;
var<workgroup> strip_b: array<vec4<Value>, 272>;

// a[row][k], and 0 outside.
fn at_a(base: u32, row: u32, k: u32) -> Value {
    if (row < p.m && k < p.k) { return load_a(base + row * p.a_m + k * p.a_k); }
    return Value(0);
}

// b[k][column], and 0 outside.
fn at_b(base: u32, k: u32, column: u32) -> Value {
    if (column < p.n && k < p.k) { return load_b(base + k * p.b_k + column * p.b_n); }
    return Value(0);
}

fn store_row(batch: u32, row: u32, column: u32, sums: vec4<Value>) {
    if (row >= p.m) { return; }
    let o = batch * p.m + row;
    let at = p.out_offset + o * p.n + column;
    if (column < p.n) { store(at, o, column, sums.x); }
    if (column + 1u < p.n) { store(at + 1u, o, column + 1u, sums.y); }
    if (column + 2u < p.n) { store(at + 2u, o, column + 2u, sums.z); }
    if (column + 3u < p.n) { store(at + 3u, o, column + 3u, sums.w); }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile = group.y * p.row + group.x;
    let tiles_n = (p.n + TILE - 1u) / TILE;
    let tiles_m = (p.m + TILE - 1u) / TILE;
    let batch = tile / (tiles_m * tiles_n);
    if (batch >= p.batches) { return; }
    let row = tile / tiles_n % tiles_m * TILE;
    let column = tile % tiles_n * TILE;
    let base_a = a_of_batch(batch);
    let base_b = b_of_batch(batch);

    // Which vector of a strip this invocation loads: four rows of a, four columns of b, at one k.
    let across = lane / STRIP;
    let along = lane % STRIP;
    let a_k = select(across, along, A_ALONG_K);
    let a_row = row + 4u * select(along, across, A_ALONG_K);
    let b_k = select(across, along, B_ALONG_K);
    let b_column = column + 4u * select(along, across, B_ALONG_K);
    let to_a = a_k * PITCH + select(along, across, A_ALONG_K);
    let to_b = b_k * PITCH + select(along, across, B_ALONG_K);

    // The sums: rows 4·across … + 3, columns 4·along … + 3 of the tile.
    var sums0 = vec4<Value>();
    var sums1 = vec4<Value>();
    var sums2 = vec4<Value>();
    var sums3 = vec4<Value>();
    for (var strip = 0u; strip < p.k; strip += STRIP) {
        let ka = strip + a_k;
        let kb = strip + b_k;
        strip_a[to_a] = vec4<Value>(at_a(base_a, a_row, ka), at_a(base_a, a_row + 1u, ka),
            at_a(base_a, a_row + 2u, ka), at_a(base_a, a_row + 3u, ka));
        strip_b[to_b] = vec4<Value>(at_b(base_b, kb, b_column), at_b(base_b, kb, b_column + 1u),
            at_b(base_b, kb, b_column + 2u), at_b(base_b, kb, b_column + 3u));
        workgroupBarrier();
        for (var k = 0u; k < STRIP; k++) {
            let a = strip_a[k * PITCH + across];
            let b = strip_b[k * PITCH + along];
            sums0 += a.x * b;
            sums1 += a.y * b;
            sums2 += a.z * b;
            sums3 += a.w * b;
        }
        workgroupBarrier();
    }
    let to = column + 4u * along;
    store_row(batch, row + 4u * across, to, sums0);
    store_row(batch, row + 4u * across + 1u, to, sums1);
    store_row(batch, row + 4u * across + 2u, to, sums2);
    store_row(batch, row + 4u * across + 3u, to, sums3);
}

// The product in tiles: what matmul.wgsl and the convolutions multiply by. A workgroup makes a tile of
// TILE × TILE results, an invocation the sums that tile_8x8.wgsl or tile_4x4.wgsl keep in registers.
//
// Grid: one workgroup of LANES invocations for a tile, all tiles of all batches in one row, folded into rows
// of `row` workgroups.
// Constants from the host: `Value`, of an element and its accumulator; `madd(a, b, c)`, a·b + c; `TILE`,
// `LANES`, `STRIP`; `A_ALONG_K` and `B_ALONG_K`, whether neighbours in memory are neighbours along k.
// From the operands' file: the types `Rows` and `Columns` with `open_a(batch, row)` and `open_b(batch, column)`,
// the places of four rows and of four columns; `block_a(rows, k, end)` and `block_b(columns, k, end)`, their
// elements at k … k + 3, with zeros from `end` on; `batches()`; `open_batch(batch)`, the part of the sum over k;
// `store_row(batch, row, column, sums)`, which takes four neighbours of a row and keeps off what is outside.
//
// Strips of STRIP along k go through workgroup memory, four rows (or columns) to a vector. Each invocation
// brings one block of 4 × 4 a strip, one half of them of a and the other half of b: STRIP = 8 · LANES / TILE.
// It loads the next block before it multiplies and stores it after, so that memory works meanwhile. Rows
// of vectors are padded by one, which spreads over the banks what is stored along k.

struct Block {
    k0: vec4<Value>,
    k1: vec4<Value>,
    k2: vec4<Value>,
    k3: vec4<Value>,
}

const FOURS: u32 = TILE / 4u;
const PITCH: u32 = FOURS + 1u;
const OF_B: u32 = STRIP * PITCH;

var<workgroup> strips: array<vec4<Value>, 2u * STRIP * PITCH>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile = group.y * p.row + group.x;
    let tiles_n = (p.n + TILE - 1u) / TILE;
    let tiles_m = (p.m + TILE - 1u) / TILE;
    let batch = tile / (tiles_m * tiles_n);
    if (batch >= batches()) { return; }
    let row = tile / tiles_n % tiles_m * TILE;
    let column = tile % tiles_n * TILE;
    let sum = open_batch(batch);

    // Which block of each strip is this invocation's.
    let of_a = lane < LANES / 2u;
    let block = lane % (LANES / 2u);
    let along_k = select(B_ALONG_K, A_ALONG_K, of_a);
    let four = select(block % FOURS, block / (STRIP / 4u), along_k);
    let my_k = 4u * select(block / FOURS, block % (STRIP / 4u), along_k);
    let to = select(OF_B, 0u, of_a) + my_k * PITCH + four;
    var rows: Rows;
    var columns: Columns;
    var next: Block;
    if (of_a) {
        rows = open_a(batch, row + 4u * four);
        next = block_a(rows, sum.x + my_k, sum.y);
    } else {
        columns = open_b(batch, column + 4u * four);
        next = block_b(columns, sum.x + my_k, sum.y);
    }

    // Which sums are this invocation's: 32 neighbours take 4 × 8 places, which reads the fewest vectors.
    let group_of_32 = lane / 32u;
    let y = lane / 8u % 4u + group_of_32 / (ACROSS / 8u) * 4u;
    let x = lane % 8u + group_of_32 % (ACROSS / 8u) * 8u;
    var sums: Sums;
    for (var strip = sum.x; strip < sum.y; strip += STRIP) {
        workgroupBarrier();
        strips[to] = next.k0;
        strips[to + PITCH] = next.k1;
        strips[to + 2u * PITCH] = next.k2;
        strips[to + 3u * PITCH] = next.k3;
        workgroupBarrier();
        let k = strip + STRIP + my_k;
        if (of_a) {
            next = block_a(rows, k, sum.y);
        } else {
            next = block_b(columns, k, sum.y);
        }
        for (var step = 0u; step < STRIP; step++) {
            multiply(&sums, step * PITCH + y, OF_B + step * PITCH + x);
        }
    }
    finish(&sums, batch, row + 4u * y, column + 4u * x);
}

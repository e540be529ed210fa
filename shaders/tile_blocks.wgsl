// What tile.wgsl and tile_cooperative.wgsl share: which tile a workgroup makes, and which block of 4 × 4 of every
// strip is an invocation's to bring.
//
// Grid: one workgroup of LANES invocations for a tile, all tiles of all batches in one row, folded into rows
// of `row` workgroups.
// Constants from the host: `TILE`, `LANES`, `STRIP`; `A_ALONG_K` and `B_ALONG_K`, whether neighbours in memory are
// neighbours along k.
// From the operands' file: the types `Rows` and `Columns` with `open_a(batch, row)` and `open_b(batch, column)`,
// the places of four rows and of four columns; `block_a(rows, k, end)` and `block_b(columns, k, end)`, their
// elements at k … k + 3, with zeros from `end` on; `batches()`; `open_batch(batch)`, the part of the sum over k;
// `store_row(batch, row, column, sums)`, which takes four neighbours of a row and keeps off what is outside.

struct Block {
    k0: vec4<Value>,
    k1: vec4<Value>,
    k2: vec4<Value>,
    k3: vec4<Value>,
}

const FOURS: u32 = TILE / 4u;

// The upper left corner of a tile.
struct Corner {
    batch: u32,
    row: u32,
    column: u32,
}

fn corner_of(group: vec3<u32>) -> Corner {
    let tile = group.y * p.row + group.x;
    let tiles_n = (p.n + TILE - 1u) / TILE;
    let tiles_m = (p.m + TILE - 1u) / TILE;
    return Corner(tile / (tiles_m * tiles_n), tile / tiles_n % tiles_m * TILE, tile % tiles_n * TILE);
}

// One half of the invocations brings blocks of a, the other half of b: STRIP = 8 · LANES / TILE. A block is four
// rows (or columns), of which 4 · `four` is the first, at k … k + 3 of the strip.
struct Mine {
    of_a: bool,
    four: u32,
    k: u32,
}

fn mine_of(lane: u32) -> Mine {
    let of_a = lane < LANES / 2u;
    let block = lane % (LANES / 2u);
    let along_k = select(B_ALONG_K, A_ALONG_K, of_a);
    let four = select(block % FOURS, block / (STRIP / 4u), along_k);
    return Mine(of_a, four, 4u * select(block / FOURS, block % (STRIP / 4u), along_k));
}


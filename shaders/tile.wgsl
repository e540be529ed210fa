// The product in tiles: what matmul.wgsl and the convolutions multiply by. A workgroup makes a tile of
// TILE × TILE results, an invocation the sums that tile_8x8.wgsl or tile_4x4.wgsl keep in registers.
//
// Grid and constants: as tile_blocks.wgsl, and from the host `Value`, of an element and its accumulator, and
// `madd(a, b, c)`, a·b + c.
//
// Strips of STRIP along k go through workgroup memory, four rows (or columns) to a vector. Each invocation
// loads the next block before it multiplies and stores it after, so that memory works meanwhile. Rows
// of vectors are padded by one, which spreads over the banks what is stored along k.

const PITCH: u32 = FOURS + 1u;
const OF_B: u32 = STRIP * PITCH;

var<workgroup> strips: array<vec4<Value>, 2u * STRIP * PITCH>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = corner_of(group);
    if (at.batch >= batches()) { return; }
    let sum = open_batch(at.batch);
    let mine = mine_of(lane);
    let to = select(OF_B, 0u, mine.of_a) + mine.k * PITCH + mine.four;
    var rows: Rows;
    var columns: Columns;
    var next: Block;
    if (mine.of_a) {
        rows = open_a(at.batch, at.row + 4u * mine.four);
        next = block_a(rows, sum.x + mine.k, sum.y);
    } else {
        columns = open_b(at.batch, at.column + 4u * mine.four);
        next = block_b(columns, sum.x + mine.k, sum.y);
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
        let k = strip + STRIP + mine.k;
        if (mine.of_a) {
            next = block_a(rows, k, sum.y);
        } else {
            next = block_b(columns, k, sum.y);
        }
        for (var step = 0u; step < STRIP; step++) {
            multiply(&sums, step * PITCH + y, OF_B + step * PITCH + x);
        }
    }
    finish(&sums, at.batch, at.row + 4u * y, at.column + 4u * x);
}

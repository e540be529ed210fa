// The product in tiles of cooperative matrices, for half floats where subgroups multiply small matrices together and
// sum them in float32: what tile.wgsl does, for the same operands' files.
//
// Grid and constants: as tile_blocks.wgsl, and from the host `MATRIX`, rows and columns of a matrix; the types
// `Left`, `Right` and `Sum` of one; `PATCHES`, into how many patches a tile is cut, one to a subgroup, of
// `PATCH_M` × `PATCH_N`; `PATCHES_N`, how many of them lie beside each other.
//
// Strips of STRIP along k go through workgroup memory as half floats, the rows (or columns) of one k as neighbours,
// padded by 8, since matrices want 16 bytes. A subgroup keeps the sums of its patch in matrices; in the end
// they go through workgroup memory one by one, since nobody may know how a matrix lies in registers, and leave as fours.
// The size of subgroups is the driver's affair for each kernel: where there are fewer than patches, all strips
// are brought again for the rest; where there are more, the others look on.

const PITCH: u32 = TILE + 8u;
const OF_B: u32 = STRIP * PITCH;
const DOWN: u32 = PATCH_M / MATRIX;
const ACROSS: u32 = PATCH_N / MATRIX;
const SLOT: u32 = MATRIX * MATRIX;

var<workgroup> strips: array<f16, 2u * STRIP * PITCH>;
// A matrix of each patch.
var<workgroup> results: array<f32, PATCHES * SLOT>;
var<workgroup> together: u32;

fn put(at: u32, x: vec4<Value>) {
    strips[at] = f16(x.x);
    strips[at + 1u] = f16(x.y);
    strips[at + 2u] = f16(x.z);
    strips[at + 3u] = f16(x.w);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) subgroups: u32) {
    var at = corner_of(group);
    var sum = open_batch(at.batch);
    // Nobody may leave early, since matrices want all of a subgroup: beyond the last tile there is nothing to add up,
    // and nowhere to store it.
    if (at.batch >= batches()) {
        sum.y = sum.x;
        at.row = p.m;
    }
    let mine = mine_of(lane);
    let to = select(OF_B, 0u, mine.of_a) + mine.k * PITCH + 4u * mine.four;
    var rows: Rows;
    var columns: Columns;
    if (mine.of_a) {
        rows = open_a(at.batch, at.row + 4u * mine.four);
    } else {
        columns = open_b(at.batch, at.column + 4u * mine.four);
    }
    if (lane == 0u) { together = min(subgroups, PATCHES); }
    let at_once = workgroupUniformLoad(&together);

    for (var first = 0u; first < PATCHES; first += at_once) {
        let own = min(first + subgroup, PATCHES - 1u);
        let of_a = own / PATCHES_N * PATCH_M;
        let of_b = OF_B + own % PATCHES_N * PATCH_N;
        var sums: array<Sum, DOWN * ACROSS>;
        var next: Block;
        if (mine.of_a) {
            next = block_a(rows, sum.x + mine.k, sum.y);
        } else {
            next = block_b(columns, sum.x + mine.k, sum.y);
        }
        for (var strip = sum.x; strip < sum.y; strip += STRIP) {
            workgroupBarrier();
            put(to, next.k0);
            put(to + PITCH, next.k1);
            put(to + 2u * PITCH, next.k2);
            put(to + 3u * PITCH, next.k3);
            workgroupBarrier();
            let k = strip + STRIP + mine.k;
            if (mine.of_a) {
                next = block_a(rows, k, sum.y);
            } else {
                next = block_b(columns, k, sum.y);
            }
            for (var step = 0u; step < STRIP; step += MATRIX) {
                var right: array<Right, ACROSS>;
                for (var j = 0u; j < ACROSS; j++) {
                    right[j] = coopLoadT<Right>(&strips[of_b + step * PITCH + j * MATRIX], PITCH);
                }
                for (var i = 0u; i < DOWN; i++) {
                    let left = coopLoad<Left>(&strips[of_a + step * PITCH + i * MATRIX], PITCH);
                    for (var j = 0u; j < ACROSS; j++) {
                        let n = i * ACROSS + j;
                        sums[n] = coopMultiplyAdd(left, right[j], sums[n]);
                    }
                }
            }
        }
        for (var n = 0u; n < DOWN * ACROSS; n++) {
            workgroupBarrier();
            if (subgroup < at_once) { coopStoreT(sums[n], &results[subgroup * SLOT], MATRIX); }
            workgroupBarrier();
            for (var quad = lane; quad < at_once * SLOT / 4u; quad += LANES) {
                let its = first + quad / (SLOT / 4u);
                let row = its / PATCHES_N * PATCH_M + n / ACROSS * MATRIX + quad % (SLOT / 4u) / (MATRIX / 4u);
                let column = its % PATCHES_N * PATCH_N + n % ACROSS * MATRIX + quad % (MATRIX / 4u) * 4u;
                let lowest = 4u * quad;
                let four = vec4<Value>(results[lowest], results[lowest + 1u], results[lowest + 2u], results[lowest + 3u]);
                store_row(at.batch, at.row + row, at.column + column, four);
            }
        }
    }
}

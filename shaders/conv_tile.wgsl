
// The product in tiles of 64 × 64, as in matmul.wgsl: an invocation keeps 4 × 4 sums in registers, strips of
// 16 along k go through workgroup memory, four rows (or columns) to a vector. Addresses are computed once
// for a column and once for each step of k.
//
// Grid: one workgroup of 256 invocations for a tile, all tiles of all batches in one row of workgroups,
// folded into rows of `row`.
// Constants from the host: `B_ALONG_K`, whether neighbours along k of b, too, are neighbours in memory.

const TILE: u32 = 64u;
const STRIP: u32 = 16u;
const PITCH: u32 = 17u;

var<workgroup> strip_a: array<vec4<Value>, 272>;
var<workgroup> strip_b: array<vec4<Value>, 272>;

fn column_or_none(group: u32, n: u32) -> Site {
    if (n >= p.n) { return Site(0u, OUTSIDE, OUTSIDE); }
    return column_of(group, n);
}

fn four_of_a(group: u32, row: u32, k: u32, end: u32) -> vec4<Value> {
    var four = vec4<Value>();
    if (k >= end) { return four; }
    let area = digits().x * digits().y;
    let outer = k / area;
    let inner = k % area;
    if (row < p.m) { four.x = at_a(group, row, outer, inner); }
    if (row + 1u < p.m) { four.y = at_a(group, row + 1u, outer, inner); }
    if (row + 2u < p.m) { four.z = at_a(group, row + 2u, outer, inner); }
    if (row + 3u < p.m) { four.w = at_a(group, row + 3u, outer, inner); }
    return four;
}

fn store_column(batch: u32, row: u32, n: u32, sums: vec4<Value>) {
    if (n >= p.n) { return; }
    let at = y_column(batch, n) + row * y_row();
    if (row < p.m) { y[at] = sums.x; }
    if (row + 1u < p.m) { y[at + y_row()] = sums.y; }
    if (row + 2u < p.m) { y[at + 2u * y_row()] = sums.z; }
    if (row + 3u < p.m) { y[at + 3u * y_row()] = sums.w; }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile = id.y * p.row + id.x;
    let tiles_n = (p.n + TILE - 1u) / TILE;
    let tiles_m = (p.m + TILE - 1u) / TILE;
    let batch = tile / (tiles_m * tiles_n);
    if (batch >= p.batches) { return; }
    let group = batch % p.groups;
    let begin = batch / p.groups * p.each;
    let end = min(begin + p.each, p.k);
    let row = tile / tiles_n % tiles_m * TILE;
    let column = tile % tiles_n * TILE;

    // Which vector of a strip this invocation loads: four rows of a, four columns of b, at one k.
    let across = lane / STRIP;
    let along = lane % STRIP;
    let a_row = row + 4u * across;
    let b_k = select(across, along, B_ALONG_K);
    let b_column = column + 4u * select(along, across, B_ALONG_K);
    let to_a = along * PITCH + across;
    let to_b = b_k * PITCH + select(along, across, B_ALONG_K);
    let column0 = column_or_none(group, b_column);
    let column1 = column_or_none(group, b_column + 1u);
    let column2 = column_or_none(group, b_column + 2u);
    let column3 = column_or_none(group, b_column + 3u);

    // The sums: of columns 4·along … + 3 of the tile, rows 4·across … + 3.
    var sums0 = vec4<Value>();
    var sums1 = vec4<Value>();
    var sums2 = vec4<Value>();
    var sums3 = vec4<Value>();
    for (var strip = begin; strip < end; strip += STRIP) {
        strip_a[to_a] = four_of_a(group, a_row, strip + along, end);
        var of_b = vec4<Value>();
        if (strip + b_k < end) {
            let k = row_of(strip + b_k);
            of_b = vec4<Value>(at_b(column0, k), at_b(column1, k), at_b(column2, k), at_b(column3, k));
        }
        strip_b[to_b] = of_b;
        workgroupBarrier();
        for (var k = 0u; k < STRIP; k++) {
            let a = strip_a[k * PITCH + across];
            let b = strip_b[k * PITCH + along];
            sums0 += a * b.x;
            sums1 += a * b.y;
            sums2 += a * b.z;
            sums3 += a * b.w;
        }
        workgroupBarrier();
    }
    let to = column + 4u * along;
    store_column(batch, a_row, to, sums0);
    store_column(batch, a_row, to + 1u, sums1);
    store_column(batch, a_row, to + 2u, sums2);
    store_column(batch, a_row, to + 3u, sums3);
}

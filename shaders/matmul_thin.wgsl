// matmul_thin: products with at most four rows, or at most four columns: what they cost is reading the other
// operand, the long one, once.
//
// Bindings: as matmul.wgsl.
// Grid: one workgroup of 256 invocations for COLUMNS columns of the long operand (rows, if it is a), all of all
// batches in one row, folded into rows of `row` workgroups.
// Constants from the host: `Value`; `THIN_A`, whether a is the thin one; `COLUMNS` · `SLICES` = 256; `LONG_ALONG_K`,
// whether neighbours of the long operand are neighbours along k; `Sum`, a Value or a vector of them, for each of
// the thin operand's rows; `thin(base, k)`, these at k; `long_four(at, k, end)`, a column at k … k + 3 with zeros
// from `end` on; `store_sum(batch, column, sum)`.
//
// SLICES invocations share a column, each of which takes every SLICES-th four of k; their sums meet in workgroup
// memory, always in the same order.

var<workgroup> sums: array<Sum, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile = group.y * p.row + group.x;
    let columns = select(p.m, p.n, THIN_A);
    let tiles = (columns + COLUMNS - 1u) / COLUMNS;
    let batch = tile / tiles;
    if (batch >= batches()) { return; }
    let slice = select(lane / COLUMNS, lane % SLICES, LONG_ALONG_K);
    let across = select(lane % COLUMNS, lane / SLICES, LONG_ALONG_K);
    let column = tile % tiles * COLUMNS + across;
    let range = open_batch(batch);
    let of_thin = select(b_of_batch(batch), a_of_batch(batch), THIN_A);
    let of_long = select(a_of_batch(batch), b_of_batch(batch), THIN_A);
    let at = of_long + min(column, columns - 1u) * select(p.a_m, p.b_n, THIN_A);
    var sum = Sum();
    for (var k = range.x + 4u * slice; k < range.y; k += 4u * SLICES) {
        let four = long_four(at, k, range.y);
        sum += thin(of_thin, k) * four.x;
        // Zero times what lies beyond the end would not be zero if that were infinite.
        if (k + 1u < range.y) { sum += thin(of_thin, k + 1u) * four.y; }
        if (k + 2u < range.y) { sum += thin(of_thin, k + 2u) * four.z; }
        if (k + 3u < range.y) { sum += thin(of_thin, k + 3u) * four.w; }
    }
    let place = across * SLICES + slice;
    sums[place] = sum;
    for (var half = SLICES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (slice < half) { sums[place] += sums[place + half]; }
    }
    if (slice == 0u && column < columns) { store_sum(batch, column, sums[place]); }
}

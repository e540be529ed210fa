// What sort_tile.wgsl and sort_step.wgsl share. Batcher's bitonic sort (1968) of rows, each padded to `n` entries, a
// power of 2. An entry is a key and the place that it had, so no two of a row are equal and the order is that of
// a stable sort. Padding has the greatest key and places from `length` on, so it comes last.
//
// For size = 2, 4, …, n: for apart = size/2, …, 2, 1: entries i and i + apart, i without the bit `apart`, are put
// in ascending order if i has no bit `size`, else in descending order.

fn before(a: Entry, b: Entry) -> bool {
    return less(a.key, b.key) || (equal(a.key, b.key) && a.at < b.at);
}

// The lower of the n-th pair of entries that are `apart`; n itself for apart = 0.
fn lower(pair: u32, apart: u32) -> u32 {
    return (pair & (apart - 1u)) | ((pair & ~(apart - 1u)) << 1u);
}

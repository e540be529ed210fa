// products_result: how a tile of products.wgsl leaves for the result NAME, columns `column` … + 31 of rows of `width`
// elements, of which `rows` are there; `row` is the lane's first. The host puts a name for NAME, and generates
// `store_NAME(at, quad, left)`, of the first `left` elements of a quad.

fn rows_of_NAME(t: Tile, base: u32, width: u32, row: u32, rows: u32, column: u32, lane: u32) {
    let at = column + lane % 8u * 4u;
    if (at >= width) { return; }
    let to = base + row * width + at;
    let count = width - at;
    if (row < rows) { store_NAME(to, t.r0, count); }
    if (row + 1u < rows) { store_NAME(to + width, t.r1, count); }
    if (row + 2u < rows) { store_NAME(to + 2u * width, t.r2, count); }
    if (row + 3u < rows) { store_NAME(to + 3u * width, t.r3, count); }
}

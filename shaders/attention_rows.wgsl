// What attention.wgsl and attention_query.wgsl share, whose tiles have a row to a query: which keys count, and how
// rows of the result are written, through `store_out(at, quad, left)`, of which the host makes one of the first
// `left` elements.

// Which of the keys from `key` on a query sees; `row` is its place among the part's.
fn sees(row: u32, key: u32) -> vec4<bool> {
    let keys = vec4<u32>(key, key + 1u, key + 2u, key + 3u);
    var end = p.others;
    if (CAUSAL) { end = min(end, p.first + row + 1u); }
    if (row >= p.rows) { end = 0u; }
    return keys < vec4<u32>(end);
}

// The columns from `column` on of rows of `width` elements.
fn store_rows(t: Tile, base: u32, width: u32, row: u32, column: u32, lane: u32) {
    let at = column + lane % 8u * 4u;
    if (at >= width) { return; }
    let to = base + row * width + at;
    let count = width - at;
    if (row < p.rows) { store_out(to, t.r0, count); }
    if (row + 1u < p.rows) { store_out(to + width, t.r1, count); }
    if (row + 2u < p.rows) { store_out(to + 2u * width, t.r2, count); }
    if (row + 3u < p.rows) { store_out(to + 3u * width, t.r3, count); }
}

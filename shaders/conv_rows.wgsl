// The same of an a whose rows are no rows of a matrix in memory.

struct Rows {
    batch: u32,
    row: vec4<u32>,
}

// Rows that there are not are made of the last one; what becomes of them is not stored.
fn open_a(batch: u32, row: u32) -> Rows {
    return Rows(batch, min(vec4<u32>(row, row + 1u, row + 2u, row + 3u), vec4<u32>(p.m - 1u)));
}

fn across_a(rows: Rows, d: Digits) -> vec4<Value> {
    return vec4<Value>(at_a(rows.batch, rows.row.x, d), at_a(rows.batch, rows.row.y, d),
        at_a(rows.batch, rows.row.z, d), at_a(rows.batch, rows.row.w, d));
}

fn block_a(rows: Rows, k: u32, end: u32) -> Block {
    var block: Block;
    if (k >= end) { return block; }
    var d = digits_of(k);
    block.k0 = across_a(rows, d);
    d = after(d);
    if (k + 1u < end) { block.k1 = across_a(rows, d); }
    d = after(d);
    if (k + 2u < end) { block.k2 = across_a(rows, d); }
    d = after(d);
    if (k + 3u < end) { block.k3 = across_a(rows, d); }
    return block;
}


// What tile.wgsl asks of b, from the functions that say what a convolution multiplies. `store_row` comes from the
// host: neighbouring columns are neighbours in the output, or not.

struct Columns {
    c0: Site,
    c1: Site,
    c2: Site,
    c3: Site,
}

fn site_or_none(batch: u32, n: u32) -> Site {
    if (n >= p.n) { return Site(p.b_offset, OUTSIDE, OUTSIDE); }
    return site_of(batch, n);
}

fn open_b(batch: u32, column: u32) -> Columns {
    return Columns(site_or_none(batch, column), site_or_none(batch, column + 1u),
        site_or_none(batch, column + 2u), site_or_none(batch, column + 3u));
}

fn across_b(c: Columns, d: Digits) -> vec4<Value> {
    return vec4<Value>(at_b(c.c0, d), at_b(c.c1, d), at_b(c.c2, d), at_b(c.c3, d));
}

fn block_b(columns: Columns, k: u32, end: u32) -> Block {
    var block: Block;
    if (k >= end) { return block; }
    var d = digits_of(k);
    block.k0 = across_b(columns, d);
    d = after(d);
    if (k + 1u < end) { block.k1 = across_b(columns, d); }
    d = after(d);
    if (k + 2u < end) { block.k2 = across_b(columns, d); }
    d = after(d);
    if (k + 3u < end) { block.k3 = across_b(columns, d); }
    return block;
}


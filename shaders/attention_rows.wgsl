// What attention.wgsl and attention_query.wgsl share, whose tiles have a row to a query: which keys count, and
// products of queries and keys.

// Which of the keys from `key` on a query sees; `row` is its place among the part's.
fn sees(row: u32, key: u32) -> vec4<bool> {
    let keys = vec4<u32>(key, key + 1u, key + 2u, key + 3u);
    var end = p.others;
    if (CAUSAL) { end = min(end, p.first + row + 1u); }
    if (row >= p.rows) { end = 0u; }
    return keys < vec4<u32>(end);
}

// Queries `first` … + 31 by keys `key` … + 31.
fn queries_by_keys(base: Base, first: u32, key: u32, lane: u32) -> Tile {
    var t = Tile();
    for (var column = 0u; column < p.size; column += 32u) {
        workgroupBarrier();
        left_q(base.q, p.q_step, first, p.rows, column, p.size, lane);
        rows_k(base.k, p.k_step, key, p.others, column, p.size, lane);
        workgroupBarrier();
        t = times_rows(t, lane);
    }
    return t;
}

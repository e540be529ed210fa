// attention_key: the gradients of the keys and of the values of attention.wgsl. With P and dS of
// attention_query.wgsl: dK = dSᵀ Q and dV = Pᵀ dO.
//
// Bindings: `q`, `k`, `v`, `mask` if `MASK`, `dout`, `lse`, `delta`, `dk` and `dv`, or one of them; as
// attention_query.wgsl, and `dk_of(base)` and `dv_of(base)`, where a head's begin.
// Grid: 64 invocations to a workgroup, one for 32 keys of a head, folded into rows of `row`.
// Constants from the host: as attention.wgsl, but `KEY_CHUNKS` and `VALUE_CHUNKS`, how many of dK and of dV are
// summed.
// Parameters: as attention.wgsl, but `rows` are keys, of which `first` is the first of all, and `others` queries;
// `column` and `value_column`, the first of dK and of dV; `dout_step`.
//
// Tiles have a row to a key and a column to a query, so that nothing is summed along rows.

// Which of the queries from `query` on see a key; `row` is its place among the part's.
fn seen_by(row: u32, query: u32) -> vec4<bool> {
    let queries = vec4<u32>(query, query + 1u, query + 2u, query + 3u);
    var seen = queries < vec4<u32>(select(0u, p.others, row < p.rows));
    if (CAUSAL) { seen = seen & (queries >= vec4<u32>(p.first + row)); }
    return seen;
}

fn weights_of(x: vec4<f32>, mask: u32, row: u32, query: u32, lses: vec4<f32>) -> vec4<f32> {
    let seen = seen_by(row, query);
    let more = vec4<f32>(added(mask, query, row, seen.x), added(mask, query + 1u, row, seen.y),
        added(mask, query + 2u, row, seen.z), added(mask, query + 3u, row, seen.w));
    return weight4(x * bitcast<f32>(p.scale) + more - lses, seen);
}

fn slopes(w: vec4<f32>, d: vec4<f32>, row: u32, query: u32, deltas: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(), w * (d - deltas) * bitcast<f32>(p.scale), seen_by(row, query));
}

fn chunk_of_values(t: Tile, base: u32, query: u32, column: u32, lane: u32) -> Tile {
    workgroupBarrier();
    columns_dout(base, p.dout_step, query, p.others, column, p.value, lane);
    workgroupBarrier();
    return times_columns(t, lane);
}

fn chunk_of_keys(t: Tile, base: u32, query: u32, column: u32, lane: u32) -> Tile {
    workgroupBarrier();
    columns_q(base, p.q_step, query, p.others, column, p.size, lane);
    workgroupBarrier();
    return times_columns(t, lane);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = group.y * p.row + group.x;
    let head = at / p.blocks;
    if (head >= p.heads) { return; }
    let first = at % p.blocks * 32u;
    let base = base_of(head);
    let row = first + lane / 8u * 4u;
    var dk0 = Tile();
    var dk1 = Tile();
    var dk2 = Tile();
    var dk3 = Tile();
    var dv0 = Tile();
    var dv1 = Tile();
    var dv2 = Tile();
    var dv3 = Tile();
    // Queries before the first key do not see any of these.
    var query = 0u;
    if (CAUSAL) { query = (p.first + first) / 32u * 32u; }
    for (; query < p.others; query += 32u) {
        let mine = query + lane % 8u * 4u;
        let kept = kept_of(base, mine, p.others);
        var t = Tile();
        for (var column = 0u; column < p.size; column += 32u) {
            workgroupBarrier();
            left_k(base.k, p.k_step, first, p.rows, column, p.size, lane);
            rows_q(base.q, p.q_step, query, p.others, column, p.size, lane);
            workgroupBarrier();
            t = times_rows(t, lane);
        }
        t.r0 = weights_of(t.r0, mask_of(base), row, mine, kept.lses);
        t.r1 = weights_of(t.r1, mask_of(base), row + 1u, mine, kept.lses);
        t.r2 = weights_of(t.r2, mask_of(base), row + 2u, mine, kept.lses);
        t.r3 = weights_of(t.r3, mask_of(base), row + 3u, mine, kept.lses);
        if (VALUE_CHUNKS > 0u) {
            hold(t, lane);
            dv0 = chunk_of_values(dv0, base.dout, query, p.value_column, lane);
            if (VALUE_CHUNKS > 1u) { dv1 = chunk_of_values(dv1, base.dout, query, p.value_column + 32u, lane); }
            if (VALUE_CHUNKS > 2u) { dv2 = chunk_of_values(dv2, base.dout, query, p.value_column + 64u, lane); }
            if (VALUE_CHUNKS > 3u) { dv3 = chunk_of_values(dv3, base.dout, query, p.value_column + 96u, lane); }
        }
        if (KEY_CHUNKS > 0u) {
            var d = Tile();
            for (var column = 0u; column < p.value; column += 32u) {
                workgroupBarrier();
                left_v(base.v, p.v_step, first, p.rows, column, p.value, lane);
                rows_dout(base.dout, p.dout_step, query, p.others, column, p.value, lane);
                workgroupBarrier();
                d = times_rows(d, lane);
            }
            t.r0 = slopes(t.r0, d.r0, row, mine, kept.deltas);
            t.r1 = slopes(t.r1, d.r1, row + 1u, mine, kept.deltas);
            t.r2 = slopes(t.r2, d.r2, row + 2u, mine, kept.deltas);
            t.r3 = slopes(t.r3, d.r3, row + 3u, mine, kept.deltas);
            // The last chunk's weights are still read.
            workgroupBarrier();
            hold(t, lane);
            dk0 = chunk_of_keys(dk0, base.q, query, p.column, lane);
            if (KEY_CHUNKS > 1u) { dk1 = chunk_of_keys(dk1, base.q, query, p.column + 32u, lane); }
            if (KEY_CHUNKS > 2u) { dk2 = chunk_of_keys(dk2, base.q, query, p.column + 64u, lane); }
            if (KEY_CHUNKS > 3u) { dk3 = chunk_of_keys(dk3, base.q, query, p.column + 96u, lane); }
        }
    }
    if (KEY_CHUNKS > 0u) { rows_of_dk(dk0, dk_of(base), p.size, row, p.rows, p.column, lane); }
    if (KEY_CHUNKS > 1u) { rows_of_dk(dk1, dk_of(base), p.size, row, p.rows, p.column + 32u, lane); }
    if (KEY_CHUNKS > 2u) { rows_of_dk(dk2, dk_of(base), p.size, row, p.rows, p.column + 64u, lane); }
    if (KEY_CHUNKS > 3u) { rows_of_dk(dk3, dk_of(base), p.size, row, p.rows, p.column + 96u, lane); }
    if (VALUE_CHUNKS > 0u) { rows_of_dv(dv0, dv_of(base), p.value, row, p.rows, p.value_column, lane); }
    if (VALUE_CHUNKS > 1u) { rows_of_dv(dv1, dv_of(base), p.value, row, p.rows, p.value_column + 32u, lane); }
    if (VALUE_CHUNKS > 2u) { rows_of_dv(dv2, dv_of(base), p.value, row, p.rows, p.value_column + 64u, lane); }
    if (VALUE_CHUNKS > 3u) { rows_of_dv(dv3, dv_of(base), p.value, row, p.rows, p.value_column + 96u, lane); }
}

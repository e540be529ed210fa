// attention_query: the gradient of the queries of attention.wgsl. With the weights P = exp(scale Q Kᵀ + mask −
// lse), made again, D = Σ dO ∘ O along rows and dS = scale P ∘ (dO Vᵀ − D): dQ = dS K.
//
// Bindings: `q`, `k`, `v`, `mask` if `MASK`, `dout`, `lse`, `delta`, which is D, `out`, which is dQ; as
// attention.wgsl.
// Grid, constants and parameters: as attention.wgsl, but `column` and `CHUNKS` are those of K, and `dout_step`.

// A row of dS from the scores and from dO Vᵀ.
fn slopes(x: vec4<f32>, d: vec4<f32>, mask: u32, row: u32, key: u32, lse: f32, delta: f32) -> vec4<f32> {
    let seen = sees(row, key);
    let more = vec4<f32>(added(mask, row, key, seen.x), added(mask, row, key + 1u, seen.y),
        added(mask, row, key + 2u, seen.z), added(mask, row, key + 3u, seen.w));
    let scale = bitcast<f32>(p.scale);
    let w = weight4(x * scale + more - lse, seen);
    return select(vec4<f32>(), w * (d - delta) * scale, seen);
}

fn chunk(t: Tile, base: u32, key: u32, column: u32, lane: u32) -> Tile {
    workgroupBarrier();
    columns_k(base, p.k_step, key, p.others, column, p.size, lane);
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
    let kept = kept_of(base, row, p.rows);
    var out0 = Tile();
    var out1 = Tile();
    var out2 = Tile();
    var out3 = Tile();
    var end = p.others;
    if (CAUSAL) { end = min(end, p.first + first + 32u); }
    for (var key = 0u; key < end; key += 32u) {
        var t = queries_by_keys(base, first, key, lane);
        var d = Tile();
        for (var column = 0u; column < p.value; column += 32u) {
            workgroupBarrier();
            left_dout(base.dout, p.dout_step, first, p.rows, column, p.value, lane);
            rows_v(base.v, p.v_step, key, p.others, column, p.value, lane);
            workgroupBarrier();
            d = times_rows(d, lane);
        }
        let mine = key + lane % 8u * 4u;
        t.r0 = slopes(t.r0, d.r0, mask_of(base), row, mine, kept.lses.x, kept.deltas.x);
        t.r1 = slopes(t.r1, d.r1, mask_of(base), row + 1u, mine, kept.lses.y, kept.deltas.y);
        t.r2 = slopes(t.r2, d.r2, mask_of(base), row + 2u, mine, kept.lses.z, kept.deltas.z);
        t.r3 = slopes(t.r3, d.r3, mask_of(base), row + 3u, mine, kept.lses.w, kept.deltas.w);
        hold(t, lane);
        out0 = chunk(out0, base.k, key, p.column, lane);
        if (CHUNKS > 1u) { out1 = chunk(out1, base.k, key, p.column + 32u, lane); }
        if (CHUNKS > 2u) { out2 = chunk(out2, base.k, key, p.column + 64u, lane); }
        if (CHUNKS > 3u) { out3 = chunk(out3, base.k, key, p.column + 96u, lane); }
    }
    rows_of_out(out0, base.out, p.size, row, p.rows, p.column, lane);
    if (CHUNKS > 1u) { rows_of_out(out1, base.out, p.size, row, p.rows, p.column + 32u, lane); }
    if (CHUNKS > 2u) { rows_of_out(out2, base.out, p.size, row, p.rows, p.column + 64u, lane); }
    if (CHUNKS > 3u) { rows_of_out(out3, base.out, p.size, row, p.rows, p.column + 96u, lane); }
}

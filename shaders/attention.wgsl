// attention: out = softmax(scale Q Kᵀ + mask) V and lse, the logarithms of the sums of exponentials, with an
// online softmax (Milakov and Gimelshein, 2018; Dao et al., 2022). A query that sees no key gives zeros and −∞.
//
// Bindings: `q`, `k`, `v`, `mask` if `MASK`, `out`, `lse`; through `quad_q`, `quad_k`, `quad_v`, `load_mask`,
// `store_out`, which the host generates, as it does `base_of(head)`, where each operand's matrix begins.
// Grid: 64 invocations to a workgroup, one for 32 queries of a head, folded into rows of `row`.
// Constants from the host: as attention_scores.wgsl; `CHUNKS` of 32 columns of V that are summed, at most 4;
// `SUBGROUP` and `exchange`, as combine.wgsl.
// Parameters: `row`; `heads`; `blocks` of a head; `rows`, how many queries, of which `first` is the first of all;
// `others`, how many keys; `size` of a query and of a key, `value` of a value; `column`, the first that is summed;
// `scale`; `q_step`, `k_step`, `v_step`, `mask_step`, `mask_along`; and where operands begin.
//
// For each 32 keys: scores, a tile (tile.wgsl), along strips of 32 of `size`; the largest scores so far, for which
// the eight lanes of a row exchange theirs; weights relative to them, in workgroup memory; what was summed before,
// by the same measure; weights times values. Each lane sums the weights that it made; the eight sums meet at the
// end.

fn most_of_rows(mine: vec4<f32>, lane: u32) -> vec4<f32> {
    var most = mine;
    var step = 1u;
    while (step < 8u && step < SUBGROUP) {
        most = max(most, exchange(most, step));
        step *= 2u;
    }
    if (step < 8u) {
        workgroupBarrier();
        left[lane] = most;
        workgroupBarrier();
        let first = lane - lane % 8u + lane % step;
        for (var i = 0u; i < 8u; i += step) { most = max(most, left[first + i]); }
    }
    return most;
}

fn most4(x: vec4<f32>) -> f32 { return max(max(x.x, x.y), max(x.z, x.w)); }

fn sum4(x: vec4<f32>) -> f32 { return (x.x + x.y) + (x.z + x.w); }

fn scores(x: vec4<f32>, mask: u32, row: u32, key: u32, seen: vec4<bool>) -> vec4<f32> {
    let more = vec4<f32>(added(mask, row, key, seen.x), added(mask, row, key + 1u, seen.y),
        added(mask, row, key + 2u, seen.z), added(mask, row, key + 3u, seen.w));
    return select(vec4<f32>(-inf_f32()), x * bitcast<f32>(p.scale) + more, seen);
}

fn chunk(t: Tile, base: u32, key: u32, column: u32, lane: u32) -> Tile {
    workgroupBarrier();
    columns_v(base, p.v_step, key, p.others, column, p.value, lane);
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
    var most = vec4<f32>(-inf_f32());
    var sum = vec4<f32>();
    var out0 = Tile();
    var out1 = Tile();
    var out2 = Tile();
    var out3 = Tile();
    var end = p.others;
    if (CAUSAL) { end = min(end, p.first + first + 32u); }
    for (var key = 0u; key < end; key += 32u) {
        var t = queries_by_keys(base, first, key, lane);
        let mine = key + lane % 8u * 4u;
        let seen0 = sees(row, mine);
        let seen1 = sees(row + 1u, mine);
        let seen2 = sees(row + 2u, mine);
        let seen3 = sees(row + 3u, mine);
        t.r0 = scores(t.r0, mask_of(base), row, mine, seen0);
        t.r1 = scores(t.r1, mask_of(base), row + 1u, mine, seen1);
        t.r2 = scores(t.r2, mask_of(base), row + 2u, mine, seen2);
        t.r3 = scores(t.r3, mask_of(base), row + 3u, mine, seen3);
        let before = most;
        most = max(most, most_of_rows(vec4<f32>(most4(t.r0), most4(t.r1), most4(t.r2), most4(t.r3)), lane));
        // Nothing seen so far: any finite number will do.
        let from_most = select(most, vec4<f32>(), most == vec4<f32>(-inf_f32()));
        t.r0 = weight4(t.r0 - from_most.x, seen0);
        t.r1 = weight4(t.r1 - from_most.y, seen1);
        t.r2 = weight4(t.r2 - from_most.z, seen2);
        t.r3 = weight4(t.r3 - from_most.w, seen3);
        let fade = weight4(before - from_most, vec4<bool>(true));
        sum = sum * fade + vec4<f32>(sum4(t.r0), sum4(t.r1), sum4(t.r2), sum4(t.r3));
        hold(t, lane);
        out0 = chunk(scaled(out0, fade), base.v, key, p.column, lane);
        if (CHUNKS > 1u) { out1 = chunk(scaled(out1, fade), base.v, key, p.column + 32u, lane); }
        if (CHUNKS > 2u) { out2 = chunk(scaled(out2, fade), base.v, key, p.column + 64u, lane); }
        if (CHUNKS > 3u) { out3 = chunk(scaled(out3, fade), base.v, key, p.column + 96u, lane); }
    }
    workgroupBarrier();
    left[lane] = sum;
    workgroupBarrier();
    sum = vec4<f32>();
    for (var i = 0u; i < 8u; i++) { sum += left[lane - lane % 8u + i]; }
    // Values count for nothing where no key was seen.
    let by = select(1.0 / sum, vec4<f32>(), sum == vec4<f32>());
    rows_of_out(scaled(out0, by), base.out, p.value, row, p.rows, p.column, lane);
    if (CHUNKS > 1u) { rows_of_out(scaled(out1, by), base.out, p.value, row, p.rows, p.column + 32u, lane); }
    if (CHUNKS > 2u) { rows_of_out(scaled(out2, by), base.out, p.value, row, p.rows, p.column + 64u, lane); }
    if (CHUNKS > 3u) { rows_of_out(scaled(out3, by), base.out, p.value, row, p.rows, p.column + 96u, lane); }
    if (p.column == 0u && lane % 8u == 0u) {
        for (var i = 0u; i < 4u; i++) {
            if (row + i < p.rows) { lse[base.lse + row + i] = most[i] + log_f32(sum[i]); }
        }
    }
}

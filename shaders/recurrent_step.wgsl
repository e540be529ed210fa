// recurrent_step: one step of a recurrent layer: the product of the last hidden states with the recurrent weight,
// and the cell at its end.
//
// Bindings: as recurrent_forward.wgsl, and `u`, the recurrent weight (gates · H, H), and `last`, which is `h` once
// more, both through products_operand.wgsl.
// Grid: 64 invocations to a workgroup, one for 32 sequences and all gates of 8 units, or the one gate of 32 units,
// folded into rows of `row`.
// Constants from the host: as recurrent_cell.wgsl and recurrent_forward.wgsl.
// Parameters: as recurrent_forward.wgsl; `row`; `time` of the step; `u_offset`, `last_offset`; `blocks` of units.
//
// A tile (tile.wgsl) has a row to a sequence; the four columns of a lane are the gates of one unit, of a gru the
// fourth is empty, or four units where there is one gate.

const UNITS: u32 = select(8u, 32u, GATES == 1u);

// The rows of U whose products are the columns of the tile.
fn rows_of_gates(first: u32, column: u32, lane: u32) {
    for (var i = lane; i < 256u; i += 64u) {
        let r = i / 8u;
        let unit = first + select(r / 4u, r, GATES == 1u);
        let gate = select(r % 4u, 0u, GATES == 1u);
        let at = column + i % 8u * 4u;
        var quad = vec4<f32>();
        if (unit < p.hidden && gate < GATES && at < p.hidden) {
            quad = quad_u(p.u_offset + (gate * p.hidden + unit) * p.hidden + at, p.hidden - at);
        }
        right[i ^ (i / 32u)] = quad;
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = group.y * p.row + group.x;
    let first = at / p.blocks * 32u;
    let units = at % p.blocks * UNITS;
    if (first >= p.batch) { return; }
    let start = p.last_offset + before(p.time) * p.batch * p.hidden;
    var t = Tile();
    for (var column = 0u; column < p.hidden; column += 32u) {
        workgroupBarrier();
        left_last(start, p.hidden, first, p.batch, column, p.hidden, lane);
        rows_of_gates(units, column, lane);
        workgroupBarrier();
        t = times_rows(t, lane);
    }
    var sums = array<vec4<f32>, 4>(t.r0, t.r1, t.r2, t.r3);
    for (var i = 0u; i < 4u; i++) {
        let sequence = first + lane / 8u * 4u + i;
        if (sequence >= p.batch) { continue; }
        let row = sums[i];
        if (GATES > 1u) {
            let unit = units + lane % 8u;
            if (unit < p.hidden) {
                let state = take_step(p.time, sequence, unit, state_at(before(p.time), sequence, unit), row);
            }
        } else {
            for (var j = 0u; j < 4u; j++) {
                let unit = units + lane % 8u * 4u + j;
                if (unit < p.hidden) {
                    let products = vec4<f32>(row[j], 0.0, 0.0, 0.0);
                    let state = take_step(p.time, sequence, unit, state_at(before(p.time), sequence, unit), products);
                }
            }
        }
    }
}

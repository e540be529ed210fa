// recurrent_input_step: the gradients of one step of recurrent_step.wgsl: dh, which is U's product with the gates'
// gradients of the step taken after it, and then dgi and dgh.
//
// Bindings: as recurrent_backward.wgsl, and `u`, the recurrent weight (gates · H, H), and `later`, the gates'
// gradients, which are dgh or dgi once more, both through products_operand.wgsl.
// Grid: 64 invocations to a workgroup, one for 32 sequences and 32 units, folded into rows of `row`.
// Constants: as recurrent_backward.wgsl.
// Parameters: as recurrent_backward.wgsl; `row`; `time`; `later_time`; `product`, whether there is a step after
// it, otherwise dh is there already; `flag`, whether there is a step at all, otherwise dh is written, of a gru
// with what goes past the gates; `u_offset`, `later_offset`; `blocks` of units.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = group.y * p.row + group.x;
    let first = at / p.blocks * 32u;
    let units = at % p.blocks * 32u;
    if (first >= p.batch) { return; }
    var t = Tile();
    if (p.product == 1u) {
        let depth = GATES * p.hidden;
        let start = p.later_offset + p.later_time * p.batch * depth;
        for (var k = 0u; k < depth; k += 32u) {
            workgroupBarrier();
            weights_later(start, depth, first, p.batch, k, depth, lane);
            columns_u(p.u_offset, p.hidden, k, depth, units, p.hidden, lane);
            workgroupBarrier();
            t = times_columns(t, lane);
        }
    }
    var sums = array<vec4<f32>, 4>(t.r0, t.r1, t.r2, t.r3);
    for (var i = 0u; i < 4u; i++) {
        let sequence = first + lane / 8u * 4u + i;
        if (sequence >= p.batch) { continue; }
        let row = sums[i];
        for (var j = 0u; j < 4u; j++) {
            let unit = units + lane % 8u * 4u + j;
            if (unit >= p.hidden) { continue; }
            let place = sequence * p.hidden + unit;
            var d = row[j];
            if (p.product == 0u) { d = dh[p.dh_offset + place]; }
            let carry = load_carry(p.carry_offset + place);
            if (p.flag == 1u) {
                let back = take_back(p.time, sequence, unit, d, carry);
                store_carry(p.carry_offset + place, back.carry);
            } else {
                dh[p.dh_offset + place] = d + select(0.0, carry, CELL == GRU);
            }
        }
    }
}

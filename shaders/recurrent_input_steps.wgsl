// recurrent_input_steps: the gradients of recurrent_steps.wgsl, of many steps in one dispatch, from the last taken
// to the first: dgi, dgh, and dh of the step before, Σ_g U_gᵀ dgh_g.
//
// Bindings: as recurrent_backward.wgsl, and `u`, the recurrent weight (gates · H, H).
// Grid and constants: as recurrent_steps.wgsl; `join(a, b)`, the sum of products of two `Gates`, and `narrow`,
// which makes `Gates` of four.
// Parameters: as recurrent_backward.wgsl; `row`; `time`, that of the last step, and `steps`, how many are taken
// back; `u_offset`; `flag`, whether nothing comes before: of a gru, what goes past the gates is then added to dh.
//
// The gates' gradients of the workgroup's sequences lie in workgroup memory, and the lanes read U's rows side by
// side.

const ACROSS: u32 = 256u / PITCH;

var<workgroup> slopes: array<Gates, SLOTS>;

struct Passed { dh: f32, carry: f32 }

fn passed_at(sequence: u32, unit: u32) -> Passed {
    let at = sequence * p.hidden + unit;
    return Passed(dh[p.dh_offset + at], load_carry(p.carry_offset + at));
}

// Takes the step of a sequence back; the gates' gradients go to workgroup memory.
fn retreat(t: u32, sequence: u32, unit: u32, place: u32, passed: Passed) -> Passed {
    if (sequence >= p.batch || unit >= p.hidden) { return passed; }
    let back = take_back(t, sequence, unit, passed.dh, passed.carry);
    slopes[place] = narrow(back.dgh);
    return Passed(0.0, back.carry);
}

fn pass_on(sequence: u32, unit: u32, passed: Passed) {
    if (sequence >= p.batch || unit >= p.hidden) { return; }
    let at = sequence * p.hidden + unit;
    dh[p.dh_offset + at] = passed.dh + select(0.0, passed.carry, CELL == GRU && p.flag == 1u);
    store_carry(p.carry_offset + at, passed.carry);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = lane % PITCH;
    let across = lane / PITCH;
    let first = (group.y * p.row + group.x) * ACROSS * EACH + across;
    var passed0 = Passed();
    var passed1 = Passed();
    var passed2 = Passed();
    var passed3 = Passed();
    if (unit < p.hidden) {
        if (first < p.batch) { passed0 = passed_at(first, unit); }
        if (EACH > 1u && first + ACROSS < p.batch) { passed1 = passed_at(first + ACROSS, unit); }
        if (EACH > 2u && first + 2u * ACROSS < p.batch) { passed2 = passed_at(first + 2u * ACROSS, unit); }
        if (EACH > 3u && first + 3u * ACROSS < p.batch) { passed3 = passed_at(first + 3u * ACROSS, unit); }
    }
    for (var s = 0u; s < p.steps; s++) {
        let t = select(p.time - s, p.time + s, REVERSE);
        workgroupBarrier();
        passed0 = retreat(t, first, unit, lane, passed0);
        if (EACH > 1u) { passed1 = retreat(t, first + ACROSS, unit, lane + 256u, passed1); }
        if (EACH > 2u) { passed2 = retreat(t, first + 2u * ACROSS, unit, lane + 512u, passed2); }
        if (EACH > 3u) { passed3 = retreat(t, first + 3u * ACROSS, unit, lane + 768u, passed3); }
        workgroupBarrier();
        if (unit < p.hidden) {
            let sequence0 = across * PITCH;
            for (var k = 0u; k < p.hidden; k++) {
                var w = vec4<f32>();
                for (var g = 0u; g < GATES; g++) { w[g] = u[p.u_offset + (g * p.hidden + k) * p.hidden + unit]; }
                let column = narrow(w);
                passed0.dh += join(slopes[sequence0 + k], column);
                if (EACH > 1u) { passed1.dh += join(slopes[sequence0 + k + 256u], column); }
                if (EACH > 2u) { passed2.dh += join(slopes[sequence0 + k + 512u], column); }
                if (EACH > 3u) { passed3.dh += join(slopes[sequence0 + k + 768u], column); }
            }
        }
    }
    pass_on(first, unit, passed0);
    if (EACH > 1u) { pass_on(first + ACROSS, unit, passed1); }
    if (EACH > 2u) { pass_on(first + 2u * ACROSS, unit, passed2); }
    if (EACH > 3u) { pass_on(first + 3u * ACROSS, unit, passed3); }
}

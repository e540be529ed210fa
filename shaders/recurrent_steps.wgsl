// recurrent_steps: many steps of a recurrent layer in one dispatch, for layers of at most 128 units. A workgroup
// has whole sequences to itself, so that no other has to wait for it.
//
// Bindings: as recurrent_forward.wgsl, and `w`, the recurrent weight as (H, H, gates): for each last hidden unit,
// for each unit, its gates; read through `load_w`.
// Grid: 256 invocations to a workgroup; lane `PITCH` · i + j has unit j of `EACH` sequences, 256 / `PITCH` apart;
// one workgroup for each 256 / `PITCH` · `EACH` sequences, folded into rows of `row`.
// Constants from the host: as recurrent_cell.wgsl and recurrent_forward.wgsl; `PITCH`, a power of 2, not less than
// H; `EACH`, at most 4; `Gates`, a vector of `GATES`, and `wide`, which makes four of them.
// Parameters: as recurrent_forward.wgsl; `row`; `time`, the first step's, and `steps`, how many are taken.
//
// The hidden states of the workgroup's sequences lie in workgroup memory. A lane reads each weight once for all
// its sequences; the weights come from a cache.

const ACROSS: u32 = 256u / PITCH;

var<workgroup> hidden: array<f32, 1024>;

// Takes the step of the lane's i-th sequence, with the sums of its gates.
fn advance(t: u32, sequence: u32, unit: u32, place: u32, state: Unit, sums: Gates) -> Unit {
    if (sequence >= p.batch || unit >= p.hidden) { return state; }
    let next = take_step(t, sequence, unit, state, wide(sums));
    hidden[place] = next.h;
    return next;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = lane % PITCH;
    let across = lane / PITCH;
    let first = (group.y * p.row + group.x) * ACROSS * EACH + across;
    var state0 = Unit();
    var state1 = Unit();
    var state2 = Unit();
    var state3 = Unit();
    let start = before(p.time);
    if (unit < p.hidden) {
        if (first < p.batch) { state0 = state_at(start, first, unit); }
        if (EACH > 1u && first + ACROSS < p.batch) { state1 = state_at(start, first + ACROSS, unit); }
        if (EACH > 2u && first + 2u * ACROSS < p.batch) { state2 = state_at(start, first + 2u * ACROSS, unit); }
        if (EACH > 3u && first + 3u * ACROSS < p.batch) { state3 = state_at(start, first + 3u * ACROSS, unit); }
    }
    hidden[lane] = state0.h;
    if (EACH > 1u) { hidden[lane + 256u] = state1.h; }
    if (EACH > 2u) { hidden[lane + 512u] = state2.h; }
    if (EACH > 3u) { hidden[lane + 768u] = state3.h; }
    for (var s = 0u; s < p.steps; s++) {
        let t = select(p.time + s, p.time - s, REVERSE);
        workgroupBarrier();
        var sums0 = Gates();
        var sums1 = Gates();
        var sums2 = Gates();
        var sums3 = Gates();
        if (unit < p.hidden) {
            let sequence0 = across * PITCH;
            for (var k = 0u; k < p.hidden; k++) {
                let w = load_w(p.w_offset, k * p.hidden + unit);
                sums0 += hidden[sequence0 + k] * w;
                if (EACH > 1u) { sums1 += hidden[sequence0 + k + 256u] * w; }
                if (EACH > 2u) { sums2 += hidden[sequence0 + k + 512u] * w; }
                if (EACH > 3u) { sums3 += hidden[sequence0 + k + 768u] * w; }
            }
        }
        workgroupBarrier();
        state0 = advance(t, first, unit, lane, state0, sums0);
        if (EACH > 1u) { state1 = advance(t, first + ACROSS, unit, lane + 256u, state1, sums1); }
        if (EACH > 2u) { state2 = advance(t, first + 2u * ACROSS, unit, lane + 512u, state2, sums2); }
        if (EACH > 3u) { state3 = advance(t, first + 3u * ACROSS, unit, lane + 768u, state3, sums3); }
    }
}

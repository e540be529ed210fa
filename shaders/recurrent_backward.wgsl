// What recurrent_input_steps.wgsl and recurrent_input_step.wgsl share: the gradients of one step of one unit of
// one sequence.
//
// Bindings: `h` and for an lstm `c`, the states before and after all steps (L + 1, N, H); `kept` (L, N, 4 · H), if
// the cell keeps anything; `dy` (L, N, H), the gradient of all steps' h; `dgi` (L, N, gates · H), and for a gru
// `dgh` of the same shape; `dh`, what is passed on from step to step, (N, H), and `carry`, if the cell has one.
// Constants and parameters: as recurrent_forward.wgsl.

fn before(t: u32) -> u32 { return select(t, t + 1u, REVERSE); }
fn after(t: u32) -> u32 { return select(t + 1u, t, REVERSE); }

// The gradients of the step at time t, written, from the gradient `d` of its h that came through later steps' gates.
fn take_back(t: u32, sequence: u32, unit: u32, d: f32, carry: f32) -> Back {
    let row = t * p.batch + sequence;
    var kept = vec4<f32>();
    for (var k = 0u; k < KEPT; k++) { kept[k] = load_kept(p.kept_offset + (row * KEPT + k) * p.hidden + unit); }
    let place = (before(t) * p.batch + sequence) * p.hidden + unit;
    let next = (after(t) * p.batch + sequence) * p.hidden + unit;
    let slope = d + dy[p.dy_offset + row * p.hidden + unit];
    let back = back_of(kept, h[p.h_offset + place], load_c(p.c_offset + place), h[p.h_offset + next],
        load_c(p.c_offset + next), slope, carry);
    for (var g = 0u; g < GATES; g++) {
        let at = (row * GATES + g) * p.hidden + unit;
        dgi[p.dgi_offset + at] = back.dgi[g];
        store_dgh(p.dgh_offset + at, back.dgh[g]);
    }
    return back;
}

// What recurrent_steps.wgsl and recurrent_step.wgsl share: one step of one unit of one sequence.
//
// Bindings: `gi` (L, N, gates · H), `h` and for an lstm `c`, the states before and after all steps (L + 1, N, H);
// `bias` (gates · H), if `BIAS`; `kept` (L, N, 4 · H), if `KEEP`. Reversed, as `REVERSE` says, states stand in the
// steps' order too: the state before step t is number t + 1. Parameters: `batch`, N; `hidden`, H; and where each
// begins.

struct Unit { h: f32, c: f32 }

fn before(t: u32) -> u32 { return select(t, t + 1u, REVERSE); }
fn after(t: u32) -> u32 { return select(t + 1u, t, REVERSE); }

fn at_state(slot: u32, sequence: u32, unit: u32) -> u32 { return (slot * p.batch + sequence) * p.hidden + unit; }

fn state_at(slot: u32, sequence: u32, unit: u32) -> Unit {
    let at = at_state(slot, sequence, unit);
    return Unit(h[p.h_offset + at], load_c(p.c_offset + at));
}

// The step at time t from the state before it; writes what comes of it.
fn take_step(t: u32, sequence: u32, unit: u32, state: Unit, products: vec4<f32>) -> Unit {
    let row = t * p.batch + sequence;
    var shares = vec4<f32>();
    var more = vec4<f32>();
    for (var g = 0u; g < GATES; g++) {
        shares[g] = gi[p.gi_offset + (row * GATES + g) * p.hidden + unit];
        if (BIAS) { more[g] = load_bias(p.bias_offset + g * p.hidden + unit); }
    }
    let step = step_of(shares, products + more, state.h, state.c);
    let to = at_state(after(t), sequence, unit);
    h[p.h_offset + to] = step.h;
    store_c(p.c_offset + to, step.c);
    if (KEEP) {
        for (var k = 0u; k < KEPT; k++) {
            store_kept(p.kept_offset + (row * KEPT + k) * p.hidden + unit, step.kept[k]);
        }
    }
    return Unit(step.h, step.c);
}

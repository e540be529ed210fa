// softmax: exp(x − m) / s along rows, or x − m − log s, where m is a row's largest x and s = Σ exp(x − m).
//
// Bindings: the operands, read through `base_of` and `item`, which the host generates with the fused prologue;
// then `out0`; then, if `GIVEN`, the states of the rows, `given`.
// Grid: 256 invocations to a workgroup, of which `ALONG` share a row; one workgroup for each chunk of each group
// of 256 / `ALONG` rows, folded into rows of `row`. There are several chunks only if the states are given.
// Constants from the host: as combine.wgsl, for the fold of fold_logsumexp.wgsl; `LOG`; `GIVEN`.
// Parameters: `row`; `outputs`, how many rows, and `chunks`; `length` of a row and `chunk` of it to a workgroup.
//
// A row is read twice: once for m and s, which are found together, and once for the results; the second time it
// comes from a cache. An invocation writes the elements that it read, so the result may take an operand's place.

fn softened(x: f32, state: State) -> f32 {
    // Of a row that is −∞ throughout, or has an element +∞.
    if (isinf_f32(state.most)) { return nan_f32(); }
    if (LOG) { return (x - state.most) - log_f32(state.sum); }
    return exp_f32(x - state.most) / state.sum;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = group.y * p.row + group.x;
    let chunk = at % p.chunks;
    let o = at / p.chunks * ACROSS + lane / ALONG;
    let along = lane % ALONG;
    let base = base_of(o);
    var state = neutral();
    if (GIVEN) {
        if (o < p.outputs) { state = given_state(o); }
    } else {
        if (o < p.outputs) {
            for (var r = along; r < p.length; r += ALONG) {
                state = push(state, item(base, r), r);
            }
        }
        state = combine(state, lane);
    }
    if (o < p.outputs) {
        let end = min(p.length, (chunk + 1u) * p.chunk);
        for (var r = chunk * p.chunk + along; r < end; r += ALONG) {
            out0[at_out0(base, r)] = softened(item(base, r), state);
        }
    }
}

// combine: what the lanes of a row, or of a column, hold comes together, for reduce.wgsl and softmax.wgsl.
//
// Constants from the host: `ALONG`, how many lanes share a row, and `STRIDE`, how far apart they are, both
// powers of 2; `SUBGROUP`, how many neighbouring lanes can see each other's registers, or 1; `State` with
// `merge`, and `exchange`, the state of the lane whose number differs by a mask below `SUBGROUP`.
//
// Within a subgroup the lanes exchange states as a butterfly. The rest goes through workgroup memory, sixteen
// states to a round, since barriers cost more than reads. The order depends on the constants alone, and all
// lanes of a row get the same result if `merge` is commutative.

var<workgroup> held: array<State, 256>;

fn combine(mine: State, lane: u32) -> State {
    var state = mine;
    var step = 1u;
    while (step < ALONG && step * STRIDE < SUBGROUP) {
        state = merge(state, exchange(state, step * STRIDE));
        step *= 2u;
    }
    while (step < ALONG) {
        let radix = min(16u, ALONG / step);
        let apart = step * STRIDE;
        workgroupBarrier();
        held[lane] = state;
        workgroupBarrier();
        let first = lane - lane / apart % radix * apart;
        state = held[first];
        for (var i = 1u; i < radix; i++) {
            state = merge(state, held[first + i * apart]);
        }
        step *= radix;
    }
    return state;
}

// scan: out(o, r) = the fold of item(o, 0), …, item(o, r), where the items of one o lie close together.
//
// Bindings: 0 the operand, read through `base_of` and `item`, which the host generates; 1 `out0`; then, if
// `GIVEN`, `starts`: what all items up to the end of each chunk come to.
// Grid: one workgroup of 256 invocations for each chunk of each o, folded into rows of `row`.
// Constants from the host: `State` with `neutral`, `push` and `merge`; `GIVEN`.
// Parameters: `row`; `outputs`, how many o; `length`; `chunks`, and `chunk` items to each; `first`, the number of
// the first chunk, and `all`, how many `starts` each o has.
//
// A workgroup goes through its chunk by tiles of 16 items to an invocation. Each folds its items, the folds are
// scanned in workgroup memory in two levels of 16, and from there each invocation runs through its items again.
// It writes only what it alone has read, so the result may take the operand's place.

const EACH: u32 = 16u;

var<workgroup> held: array<State, 256>;
var<workgroup> of_sixteen: array<State, 16>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = group.y * p.row + group.x;
    let o = at / p.chunks;
    if (o >= p.outputs) { return; }
    let chunk = at % p.chunks;
    let base = base_of(o);
    var before = neutral();
    if (GIVEN) { before = start(o, p.first + chunk); }
    let end = min(p.length, (chunk + 1u) * p.chunk);
    let sixteen = lane / 16u;
    for (var tile = chunk * p.chunk; tile < end; tile += 256u * EACH) {
        let first = tile + lane * EACH;
        let stop = min(end, first + EACH);
        var mine = neutral();
        for (var r = first; r < stop; r++) { mine = push(mine, item(base, r), r); }
        held[lane] = mine;
        workgroupBarrier();
        var running = neutral();
        for (var i = sixteen * 16u; i < lane; i++) { running = merge(running, held[i]); }
        if (lane % 16u == 15u) { of_sixteen[sixteen] = merge(running, mine); }
        workgroupBarrier();
        var lower = before;
        for (var i = 0u; i < 16u; i++) {
            if (i == sixteen) { lower = before; }
            before = merge(before, of_sixteen[i]);
        }
        running = merge(lower, running);
        for (var r = first; r < stop; r++) {
            running = push(running, item(base, r), r);
            out0[at_out0(base, r)] = running;
        }
    }
}

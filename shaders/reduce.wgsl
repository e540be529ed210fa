// reduce: out[o] = the fold of item(o, r) over r < `length`, or over the chunks of that range.
//
// Bindings: the operands, read through `base_of` and `item`, which the host generates with the fused prologue;
// then the results, written through `store`. A chunk's result is its `State`, kept for a second run of this
// shader, whose items are those states; `include` takes in an item of either kind.
// Grid: 256 invocations to a workgroup, of which `ALONG` share a result and `ACROSS` = 256 / `ALONG` make
// results side by side; one workgroup for each chunk of each such group of results, folded into rows of `row`.
// Constants from the host: as combine.wgsl, and `ROWS`: whether lanes that share a result are neighbours, as
// suits items that are neighbours along r; otherwise lanes of neighbouring results are.
// Parameters: `row`; `outputs` and `chunks`; `length` of the reduced axes and `chunk` of it to a workgroup;
// `first`, what r counts from; `out_first` and `out_step`, where results and chunks go.
//
// A lane takes every `ALONG`-th item. It folds 64 of them to a state and merges that with what it had, so that
// rounding errors grow with the number of such blocks and not with the number of items.

const BLOCK: u32 = 64u;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = group.y * p.row + group.x;
    let chunk = at % p.chunks;
    let o = at / p.chunks * ACROSS + select(lane % ACROSS, lane / ALONG, ROWS);
    let along = select(lane / ACROSS, lane % ALONG, ROWS);
    var state = neutral();
    if (o < p.outputs) {
        let base = base_of(o);
        let end = min(p.length, (chunk + 1u) * p.chunk);
        for (var block = chunk * p.chunk + along; block < end; block += ALONG * BLOCK) {
            var part = neutral();
            let stop = min(end, block + ALONG * BLOCK);
            for (var r = block; r < stop; r += ALONG) {
                part = include(part, item(base, r), p.first + r);
            }
            state = merge(state, part);
        }
    }
    state = combine(state, lane);
    if (along == 0u && o < p.outputs) {
        store(p.out_first + o * p.out_step + chunk, state);
    }
}

// scatter_few: scatter along an axis on which the index is short: every element of the output looks through
// its line of the index for those that go to it, in order.
//
// Bindings: 0 `x`, 1 `index`, 2 `source`, 3 `out`, 4 `bounds` (pick.wgsl); elements through `load_x`,
// `load_source` and `store_quad`, which the host generates.
// Grid: one invocation for four elements, 256 in a workgroup, folded into rows of `row` invocations.
// Constants from the host: `Value`; `plus`, the sum or its second argument; `Places` with `at_x`, and with `at_index` and `at_source`, which
// have stride 0 along the axis.

struct Parameters {
    count: u32,
    row: u32,
    // In quads.
    out_offset: u32,
    // The axis of the output, and how many elements lie between its entries.
    size: u32,
    inner: u32,
    // The axis of the index.
    few: u32,
    index_step: u32,
    source_step: u32,
    slot: u32,
    // The first place along the axis in this part of the output.
    first: u32,
    part: u32,
    @align(16) places: Places,
}

fn element(i: u32) -> Value {
    // Past the end the last element is made again.
    let at = min(i, p.count - 1u);
    let along = p.first + at / p.inner % p.part;
    let of_index = at_index(at);
    let of_source = at_source(at);
    var y = load_x(at_x(at));
    for (var k = 0u; k < p.few; k++) {
        if (pick(index[of_index + k * p.index_step]) == along) {
            y = plus(y, load_source(of_source + k * p.source_step));
        }
    }
    return y;
}

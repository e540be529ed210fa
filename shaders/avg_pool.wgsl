
// avg_pool: the mean of every window of every plane, in float32.
//
// Bindings: 0 `x`, 1 `y`, through `load_x` and `store_quad`, which the host generates.
// Grid: one invocation for four outputs, 256 in a workgroup, folded into rows of `row` invocations.
// Constants from the host: `Places` with `at_x`, of planes.
// Rows of a window are summed one by one, then their sums, which keeps errors small in large windows.

fn element(i: u32) -> f32 {
    // Past the end the last output is made again.
    let at = min(i, p.count - 1u);
    let rows = window(at / p.out.y % p.out.x, 0u);
    let columns = window(at % p.out.y, 1u);
    let plane = at_x(at / p.out.y / p.out.x) + rows.first * p.step.x + columns.first * p.step.y;
    var sum = 0.0;
    for (var r = 0u; r < rows.count; r++) {
        var of_row = 0.0;
        for (var c = 0u; c < columns.count; c++) {
            of_row += load_x(plane + r * p.step.x + c * p.step.y);
        }
        sum += of_row;
    }
    return sum / (f32(rows.divisor) * f32(columns.divisor));
}

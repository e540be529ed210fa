
// avg_pool_input: the gradient of a mean over windows. Every element of the input adds up dy / divisor of the
// outputs whose windows it is in, `size` being those of the input and `out` those of dy.
//
// Bindings: 0 `x`, which is dy, 1 `y`, through `load_x` and `store_quad`, which the host generates.
// Grid: one invocation for four elements of the input, 256 in a workgroup, folded into rows of `row`.
// Constants from the host: `Places` with `at_x`, of planes.

// The first output that sees place `at` of an axis, and how many do.
fn seen_by(at: u32, axis: u32) -> vec2<u32> {
    let out = p.out[axis];
    var first = at * out / p.size[axis];
    var end = ((at + 1u) * out + p.size[axis] - 1u) / p.size[axis];
    if (!ADAPTIVE) {
        let padded = at + p.padding[axis];
        let before = select(0u, padded - p.window[axis] + 1u, padded >= p.window[axis]);
        first = (before + p.stride[axis] - 1u) / p.stride[axis];
        end = min(padded / p.stride[axis] + 1u, out);
    }
    return vec2<u32>(first, select(0u, end - first, end > first));
}

fn element(i: u32) -> f32 {
    // Past the end the last element is made again.
    let at = min(i, p.count - 1u);
    let rows = seen_by(at / p.size.y % p.size.x, 0u);
    let columns = seen_by(at % p.size.y, 1u);
    let plane = at_x(at / p.size.y / p.size.x);
    var sum = 0.0;
    for (var r = 0u; r < rows.y; r++) {
        let y = rows.x + r;
        let height = f32(window(y, 0u).divisor);
        for (var c = 0u; c < columns.y; c++) {
            let x = columns.x + c;
            sum += load_x(plane + y * p.step.x + x * p.step.y) / (height * f32(window(x, 1u).divisor));
        }
    }
    return sum;
}

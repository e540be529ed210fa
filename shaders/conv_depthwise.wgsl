// conv_depthwise: y[image][filter][i][j] = Σ w[filter][r][s] · x[image][group][i·stride + r·dilation − padding][…],
// where every group has one channel; also the gradient of x for windows that move by one, with w turned round.
//
// Bindings: 0 `a`, which is w, 1 `b`, which is x (or dy), 2 `out`; then the epilogue's other operands.
// Grid: one invocation for an element of the output, 256 in a workgroup, folded into rows of `row` invocations.
// Constants from the host: `WINDOW_Y`, `WINDOW_X`, so that loops over the window are unrolled; `TURNED`.
// Parameters as conv_parameters.wgsl names them, of which `n` counts the output.

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let element = id.y * p.row + id.x * 256u + lane;
    if (element >= p.n) { return; }
    let plane = element / p.length;
    let r = element % p.length;
    let filter_of = plane % (p.groups * p.filters);
    let image = plane / (p.groups * p.filters);
    let y0 = r / p.out_x * p.stride_y - p.padding_y;
    let x0 = r % p.out_x * p.stride_x - p.padding_x;
    let base = p.b_offset + (image * p.groups + filter_of / p.filters) * p.plane_y * p.plane_x;
    let of_w = p.a_offset + filter_of * WINDOW_Y * WINDOW_X;
    var sum = Value(0);
    for (var i = 0u; i < WINDOW_Y; i++) {
        let y = y0 + i * p.dilation_y;
        if (y >= p.plane_y) { continue; }
        for (var j = 0u; j < WINDOW_X; j++) {
            let x = x0 + j * p.dilation_x;
            if (x >= p.plane_x) { continue; }
            let tap = i * WINDOW_X + j;
            let turned = select(tap, WINDOW_Y * WINDOW_X - 1u - tap, TURNED);
            sum += load_a(of_w + turned) * load_b(base + y * p.plane_x + x);
        }
    }
    store(plane, r, sum);
}

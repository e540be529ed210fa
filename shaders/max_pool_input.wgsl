// max_pool_input: the gradient of a maximum over windows. Every element of the input adds up, in row-major order, dy
// of the outputs that see it and found their maximum there, `size` being those of the input and `out` those of dy.
//
// Bindings: 0 `x`, which is dy, 1 `y`, through `load_x` and `store_quad`, which the host generates; 2 `places_of`,
// where the maxima are, row-major from element `places_offset` on.
// Grid: one invocation for four elements of the input, 256 in a workgroup, folded into rows of `row`.
// Constants from the host: `Places` with `at_x`, of planes.

@group(0) @binding(2) var<storage, read_write> places_of: array<vec2<u32>>;

// The first output whose window may hold place `at` of an axis, and the end of them.
fn seen_by(at: u32, axis: u32) -> vec2<u32> {
    let out = p.out[axis];
    if (ADAPTIVE) {
        return vec2<u32>(at * out / p.size[axis], ((at + 1u) * out + p.size[axis] - 1u) / p.size[axis]);
    }
    let padded = at + p.padding[axis];
    let reach = (p.window[axis] - 1u) * p.dilation[axis] + 1u;
    let before = select(0u, padded - reach + 1u, padded >= reach);
    return vec2<u32>((before + p.stride[axis] - 1u) / p.stride[axis], min(padded / p.stride[axis] + 1u, out));
}

fn element(i: u32) -> f32 {
    // Past the end the last element is made again.
    let at = min(i, p.count - 1u);
    let area = p.size.x * p.size.y;
    let place = at % area;
    let rows = seen_by(place / p.size.y, 0u);
    let columns = seen_by(place % p.size.y, 1u);
    let plane = at_x(at / area);
    let of_places = p.places_offset + at / area * p.out.x * p.out.y;
    var sum = 0.0;
    for (var r = rows.x; r < rows.y; r++) {
        for (var c = columns.x; c < columns.y; c++) {
            let found = places_of[of_places + r * p.out.y + c];
            if (found.x == place && found.y == 0u) { sum += load_x(plane + r * p.step.x + c * p.step.y); }
        }
    }
    return sum;
}

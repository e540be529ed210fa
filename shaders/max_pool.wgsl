
// max_pool: the largest element of every window of every plane, and its place row · width + column as int64:
// the first of several, but the last NaN. A window of padding alone gives the lowest value and −1.
//
// Bindings: 0 `x`, 1 `y`, through `load_x` and `store_quad`, which the host generates; 2 `places_of`.
// Grid: one invocation for four outputs, 256 in a workgroup, folded into rows of `row` invocations.
// Constants from the host: `Value`; `beats(x, best)`; `lowest()`; `Places` with `at_x`, of planes.

@group(0) @binding(2) var<storage, read_write> places_of: array<vec2<u32>>;

struct Best {
    value: Value,
    place: vec2<u32>,
}

fn element(i: u32) -> Best {
    // Past the end the last output is made again.
    let at = min(i, p.count - 1u);
    let rows = window(at / p.out.y % p.out.x, 0u);
    let columns = window(at % p.out.y, 1u);
    let plane = at_x(at / p.out.y / p.out.x);
    var best = Best(lowest(), vec2<u32>(0xffffffffu));
    for (var r = 0u; r < rows.count; r++) {
        let y = rows.first + r * p.dilation.x;
        for (var c = 0u; c < columns.count; c++) {
            let x = columns.first + c * p.dilation.y;
            let value = load_x(plane + y * p.step.x + x * p.step.y);
            if (best.place.y != 0u || beats(value, best.value)) {
                best = Best(value, vec2<u32>(y * p.size.y + x, 0u));
            }
        }
    }
    return best;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quad = group.y * p.row + group.x * 256u + lane;
    if (quad >= (p.count + 3u) / 4u) { return; }
    let i = quad * 4u;
    let a = element(i);
    let b = element(i + 1u);
    let c = element(i + 2u);
    let d = element(i + 3u);
    store_quad(p.out_offset + quad, a.value, b.value, c.value, d.value);
    let to = (p.places_offset + quad) * 4u;
    places_of[to] = a.place;
    places_of[to + 1u] = b.place;
    places_of[to + 2u] = c.place;
    places_of[to + 3u] = d.place;
}

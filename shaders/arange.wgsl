// arange: out[i] = start + i · step.
//
// Bindings: 0 `out0`, written through `store_quad`, which the host generates for the output's dtype.
// Grid: one invocation for four elements, 256 in a workgroup, folded into rows of `row` invocations.
// Constants from the host: `Value`, the type of an element; `WHOLE`, whether start and step are integers
// and the output too, so that arithmetic wraps. Otherwise it is done in pairs of float32, which carry
// at least 44 bits: integers to 2^44 are exact, and fractions round as float64 would in all but rare cases.

struct Parameters {
    count: u32,
    row: u32,
    // Where the output's quads begin in what is bound.
    first: u32,
    unused: u32,
    // Integers as their low and high words, reals as pairs of float32.
    start: vec2<u32>,
    step: vec2<u32>,
}

fn element(i: u32) -> Value {
    if (WHOLE) {
        return whole(i);
    }
    // i has 32 bits, a float32 24: its halves are exact.
    let high = times(f32(i >> 16u) * 65536.0);
    let low = times(f32(i & 0xffffu));
    let start = Pair(bitcast<f32>(p.start.x), bitcast<f32>(p.start.y));
    return real(add_f32(start, add_f32(high, low)));
}

// n · step for a whole n of at most 16 significant bits.
fn times(n: f32) -> Pair {
    let product = product_f32(n, bitcast<f32>(p.step.x));
    return sum_f32(product.hi, product.lo + n * bitcast<f32>(p.step.y));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quad = group.y * p.row + group.x * 256u + lane;
    if (quad >= (p.count + 3u) / 4u) { return; }
    let i = quad * 4u;
    store_quad(quad, element(i), element(i + 1u), element(i + 2u), element(i + 3u));
}

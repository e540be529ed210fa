// random: element i is drawn from position `offset + i` of the stream of `key`, as rust/core/rng.rs states
// it: Philox 4×32-10 (Salmon et al., 2011), whose n-th block of four words is a bijection of n under the
// key. So every device draws the same words; uniforms are equal bit by bit, normals to a few ulp.
//
// Bindings: 0 `out0`, written through `store_quad`, which the host generates for the output's dtype.
// Grid: one invocation for four elements, 256 in a workgroup, folded into rows of `row` invocations.
// Constants from the host: `Value`, the type of an element; `draw`, an element from the words
// at its position (`single`) or from the two of its pair, of which it takes cosine or sine (`paired`);
// `PAIRED`, which of the two.

struct Parameters {
    count: u32,
    row: u32,
    key: vec2<u32>,
    offset: vec2<u32>,
}

// Words 0–7 from the block that holds the first of this invocation's elements.
struct Words { low: vec4<u32>, high: vec4<u32> }

fn philox(position: vec2<u32>) -> vec4<u32> {
    var c = vec4<u32>(position, 0u, 0u);
    var k = p.key;
    for (var round = 0; round < 10; round++) {
        let p0 = multiply_wide(0xd2511f53u, c.x);
        let p1 = multiply_wide(0xcd9e8d57u, c.z);
        c = vec4<u32>(p1.y ^ c.y ^ k.x, p1.x, p0.y ^ c.w ^ k.y, p0.x);
        k += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}

fn word(words: Words, i: u32) -> u32 {
    return select(words.low[i & 3u], words.high[i & 3u], i >= 4u);
}

// On [0, 1) with 24 bits.
fn uniform_f32(word: u32) -> f32 { return f32(word >> 8u) * 5.9604645e-08; }

// Box and Muller (1958): the cosine for even places, the sine for odd ones.
fn normal_f32(a: u32, b: u32, odd: bool) -> f32 {
    let radius = sqrt(-2.0 * log_f32(1.0 - uniform_f32(a)));
    // The angle is a fraction of a turn, so its quadrant is exact.
    let turns = 4.0 * uniform_f32(b);
    let quadrant = round(turns);
    let angle = Angle((turns - quadrant) * 1.57079633, u32(quadrant) + select(1u, 0u, odd));
    return radius * turn_f32(angle);
}

fn element(words: Words, at: u32) -> Value {
    if (PAIRED) {
        let even = at & 6u;
        return paired(word(words, even), word(words, even + 1u), (at & 1u) == 1u);
    }
    return single(word(words, at));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quad = group.y * p.row + group.x * 256u + lane;
    if (quad >= (p.count + 3u) / 4u) { return; }
    // Position offset + 4·quad in 64 bits; its block is a quarter of that.
    let low = p.offset.x + quad * 4u;
    let high = p.offset.y + (quad >> 30u) + select(0u, 1u, low < p.offset.x);
    let block = vec2<u32>((low >> 2u) | (high << 30u), high >> 2u);
    let first = low & 3u;
    var words: Words;
    words.low = philox(block);
    words.high = words.low;
    if (first != 0u) {
        words.high = philox(vec2<u32>(block.x + 1u, block.y + select(0u, 1u, block.x == 0xffffffffu)));
    }
    store_quad(quad, element(words, first), element(words, first + 1u), element(words, first + 2u),
        element(words, first + 3u));
}

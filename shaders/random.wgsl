// random: element i is drawn from position `offset + i` of the stream of `key`, as rust/core/rng.rs states
// it: Philox 4×32-10 (Salmon et al., 2011), whose n-th block of four words is a bijection of n under the
// key. So every device draws the same words; uniforms are equal bit by bit, normals to a few ulp.
//
// Bindings: 0 `out0`, written through `store_quad`, which the host generates for the output's dtype.
// Grid: one invocation for four elements, 256 in a workgroup, folded into rows of `row` invocations.
// Constants from the host: `Value`, the type of an element; `WORDS`, how many words an element takes at
// its position; `NORMAL`, whether it is one of the two normals that a pair of words makes; and `draw`, an
// element from its words, of which the second is 0 if it takes one.

struct Parameters {
    count: u32,
    row: u32,
    // Where the output's quads begin in what is bound.
    first: u32,
    unused: u32,
    // 64-bit numbers, low word first.
    key: vec2<u32>,
    offset: vec2<u32>,
    // Of integers within a range, and 0 otherwise.
    low: vec2<u32>,
    span: vec2<u32>,
}

// Words 0–11 from the block on that holds the first of this invocation's elements.
struct Words { a: vec4<u32>, b: vec4<u32>, c: vec4<u32> }

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
    return select(select(words.a[i & 3u], words.b[i & 3u], i >= 4u), words.c[i & 3u], i >= 8u);
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

// low + ⌊x · span / 2^64⌋ for the random x of two words, high word first; the result low word first.
fn within(high: u32, low: u32) -> vec2<u32> {
    let p00 = multiply_wide(low, p.span.x);
    let p01 = multiply_wide(low, p.span.y);
    let p10 = multiply_wide(high, p.span.x);
    let p11 = multiply_wide(high, p.span.y);
    let middle = p00.y + p01.x;
    let carry = select(0u, 1u, middle < p01.x) + select(0u, 1u, middle + p10.x < middle);
    var sum = add_wide(p11, vec2<u32>(p01.y, 0u));
    sum = add_wide(sum, vec2<u32>(p10.y, 0u));
    sum = add_wide(sum, vec2<u32>(carry, 0u));
    return add_wide(sum, p.low);
}

fn add_wide(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

// The element whose words begin at place `at`.
fn element(words: Words, at: u32) -> Value {
    if (NORMAL) {
        let even = at & ~1u;
        let odd = (at & 1u) == 1u;
        return normal(normal_f32(word(words, even), word(words, even + 1u), odd));
    }
    if (WORDS == 2u) { return draw(word(words, at), word(words, at + 1u)); }
    return draw(word(words, at), 0u);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quad = group.y * p.row + group.x * 256u + lane;
    if (quad >= (p.count + 3u) / 4u) { return; }
    // The first of the stream's words that are needed; its block is a quarter of that.
    let first = add_wide(p.offset, vec2<u32>(quad * 4u, 0u));
    var place = first;
    if (WORDS == 2u) { place = add_wide(first, first); }
    let block = vec2<u32>((place.x >> 2u) | (place.y << 30u), place.y >> 2u);
    let at = place.x & 3u;
    var words: Words;
    words.a = philox(block);
    words.b = words.a;
    words.c = words.a;
    // Of four single words, all lie in one block if the first does.
    if (WORDS == 2u || at != 0u) { words.b = philox(add_wide(block, vec2<u32>(1u, 0u))); }
    if (WORDS == 2u && at != 0u) { words.c = philox(add_wide(block, vec2<u32>(2u, 0u))); }
    store_quad(quad, element(words, at), element(words, at + WORDS), element(words, at + 2u * WORDS),
        element(words, at + 3u * WORDS));
}

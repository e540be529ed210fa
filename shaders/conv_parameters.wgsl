// What the convolution kernels share. All three are products of matrices that are never formed, one for each
// group (and part of the sum, and class of pixels): a (m, k) by b (k, n). conv.wgsl, conv_input.wgsl and
// conv_weight.wgsl say what a, b and the columns are; tile.wgsl, conv_direct.wgsl and conv_reduce.wgsl multiply.
//
// Operands are row-major: x (images, groups · channels, H, W), w (groups · filters, channels, R, S) and
// dy (images, groups · filters, H', W').
//
// k is an outer number and two digits below it, a row and a column. An element of b is found from its column's
// site, which is where its plane begins and a row and a column in it: each digit adds a multiple of a step to
// each. Rows and columns may lie outside of the plane, below 0 as well, which wraps around: there b is 0.
//
// Parameters: `row`; `parts`, `each`, of the sum; `groups`; `m`, `n`, `k`; `channels`, `filters`, of a group;
// `x_y` and `x_x`, the size of an image, and alike `out_`, `window_`, `stride_`, `padding_`, `dilation_`;
// `digits_y`, `digits_x`; `plane_y`, `plane_x`, the size of b's planes; `step_outer`, `step_y`, `step_x`;
// `a_offset`, `b_offset`; `results`, of a part; `length`, of a row of the output, and `out_offset`;
// then those of the epilogue.

// A digit of k, or several.
struct Digits {
    outer: u32,
    y: u32,
    x: u32,
}

struct Site {
    base: u32,
    y: u32,
    x: u32,
}

// A row that lies outside of every plane, whatever is added.
const OUTSIDE: u32 = 0x40000000u;
// The row of the output of what is not stored.
const NOWHERE: u32 = 0xffffffffu;

// How many values the two lower digits take in this batch.
var<private> digits: vec2<u32>;

fn digits_of(k: u32) -> Digits {
    let area = digits.x * digits.y;
    return Digits(k / area, k % area / digits.y, k % digits.y);
}

fn after(d: Digits) -> Digits {
    var next = Digits(d.outer, d.y, d.x + 1u);
    if (next.x == digits.y) {
        next.x = 0u;
        next.y += 1u;
        if (next.y == digits.x) {
            next.y = 0u;
            next.outer += 1u;
        }
    }
    return next;
}

fn at_b(site: Site, d: Digits) -> Value {
    let y = site.y + d.y * p.step_y;
    let x = site.x + d.x * p.step_x;
    if (y >= p.plane_y || x >= p.plane_x) { return Value(0); }
    return load_b(site.base + d.outer * p.step_outer + y * p.plane_x + x);
}

// The part of the sum over k, of `k` steps, that is the batch's.
fn part_of(batch: u32, k: u32) -> vec2<u32> {
    let begin = min(batch / (p.groups * classes()) * p.each, k);
    return vec2<u32>(begin, min(begin + p.each, k));
}

fn batches() -> u32 { return p.parts * p.groups * classes(); }


// What the convolution kernels share. All three are products of matrices that are never formed, one product
// for each group (and for each part of the sum): a (m, k) by b (k, n). conv.wgsl, conv_input.wgsl and
// conv_weight.wgsl say what a and b are, conv_tile.wgsl and conv_direct.wgsl multiply.
//
// Operands are row-major: x (images, groups · channels, H, W), w (groups · filters, channels, R, S) and
// dy (images, groups · filters, H', W').

struct Parameters {
    row: u32,
    // Products: parts · groups of them.
    batches: u32,
    groups: u32,
    m: u32,
    n: u32,
    k: u32,
    // Of the sum over k, to each part.
    each: u32,
    images: u32,
    channels: u32,
    filters: u32,
    size: vec2<u32>,
    out: vec2<u32>,
    window: vec2<u32>,
    stride: vec2<u32>,
    padding: vec2<u32>,
    dilation: vec2<u32>,
    a_offset: u32,
    b_offset: u32,
    y_offset: u32,
}

// A place of an operand: where its plane begins, and its row and column, which may lie outside.
struct Site {
    base: u32,
    y: u32,
    x: u32,
}

// A row that lies outside of every plane, whatever is added.
const OUTSIDE: u32 = 0x40000000u;

// Row k of b: what it adds to a column's site, k being an outer number and two digits below it.
fn row_of(k: u32) -> Site {
    let area = digits().x * digits().y;
    let step = steps();
    return Site(k / area * step.base, k % area / digits().y * step.y, k % digits().y * step.x);
}

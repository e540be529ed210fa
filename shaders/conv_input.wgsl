// conv_input: dx[image][c][y][x] = Σ w[filter][c][r][s] · dy[image][filter][i][j] over what meets there, that
// is y = i·stride + r·dilation − padding, and x so too, per group.
//   m: channels      n: (image, row, column) of a class      k: (filter, r, s) of a class
// Bindings: 0 `a`, which is w, 1 `b`, which is dy, 2 `out`, which is dx.
//
// Which taps r meet a row y depends on (y + padding) mod stride alone, so rows of one residue are a class, columns
// too, and each pair of them is a product of its own, without a single product that is zero by the stride.
// With g = gcd(dilation, stride), taps of one class are r0, r0 + stride / g, …; a class whose residue is no
// multiple of g has none, and its dx is 0. From one tap to the next i falls by dilation / g.
// Parameters of these besides: `period_y` and `period_x`, stride / g.

fn classes() -> u32 { return p.stride_y * p.stride_x; }

// Of one axis: the first tap and how many there are; the first row, how many, and which i its first tap meets.
struct Class {
    tap: u32,
    taps: u32,
    first: u32,
    count: u32,
    meets: u32,
}

var<private> rows_of: Class;
var<private> columns_of: Class;

fn class_of(number: u32, stride: u32, period: u32, dilation: u32, padding: u32, window: u32, size: u32) -> Class {
    let tap = number % period;
    let off = number / period;
    let residue = tap * dilation % stride + off;
    let first = (residue + stride - padding % stride) % stride;
    var class_: Class;
    class_.tap = tap;
    if (off == 0u && tap < window) { class_.taps = (window - tap + period - 1u) / period; }
    class_.first = first;
    if (first < size) { class_.count = (size - first + stride - 1u) / stride; }
    class_.meets = bitcast<u32>((i32(first + padding) - i32(tap * dilation)) / i32(stride));
    return class_;
}

fn open_batch(batch: u32) -> vec2<u32> {
    let number = batch / p.groups % classes();
    rows_of = class_of(number / p.stride_x, p.stride_y, p.period_y, p.dilation_y, p.padding_y, p.window_y, p.x_y);
    columns_of = class_of(number % p.stride_x, p.stride_x, p.period_x, p.dilation_x, p.padding_x, p.window_x, p.x_x);
    digits = vec2<u32>(rows_of.taps, columns_of.taps);
    return part_of(batch, p.filters * digits.x * digits.y);
}

fn at_a(batch: u32, row: u32, d: Digits) -> Value {
    let filter_of = batch % p.groups * p.filters + d.outer;
    let r = rows_of.tap + d.y * p.period_y;
    let s = columns_of.tap + d.x * p.period_x;
    return load_a(p.a_offset + ((filter_of * p.channels + row) * p.window_y + r) * p.window_x + s);
}

// A column's image, and its row and column among those of the class, of which there are at most so many.
fn pixel(n: u32) -> vec3<u32> {
    let height = (p.x_y + p.stride_y - 1u) / p.stride_y;
    let width = (p.x_x + p.stride_x - 1u) / p.stride_x;
    return vec3<u32>(n / (height * width), n % (height * width) / width, n % width);
}

fn site_of(batch: u32, n: u32) -> Site {
    let at = pixel(n);
    if (at.y >= rows_of.count || at.z >= columns_of.count) { return Site(p.b_offset, OUTSIDE, OUTSIDE); }
    let plane = (at.x * p.groups + batch % p.groups) * p.filters;
    return Site(p.b_offset + plane * p.out_y * p.out_x, rows_of.meets + at.y, columns_of.meets + at.z);
}

// No place for a column that the class does not have.
fn place_of(batch: u32, row: u32, n: u32) -> vec2<u32> {
    let at = pixel(n);
    if (at.y >= rows_of.count || at.z >= columns_of.count) { return vec2<u32>(NOWHERE); }
    let plane = (at.x * p.groups + batch % p.groups) * p.m + row;
    let part = batch / (p.groups * classes());
    let y = rows_of.first + at.y * p.stride_y;
    return vec2<u32>(part * p.results / p.length + plane, y * p.x_x + columns_of.first + at.z * p.stride_x);
}


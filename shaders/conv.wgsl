// conv: y[image][filter][i][j] = Σ w[filter][c][r][s] · x[image][c][i·stride + r·dilation − padding][…], per group.
//   m: filters      n: (image, i, j)      k: (c, r, s)
// Bindings: 0 `a`, which is w, 1 `b`, which is x, 2 `out`, which is y; then the epilogue's other operands.

fn classes() -> u32 { return 1u; }

fn open_batch(batch: u32) -> vec2<u32> {
    digits = vec2<u32>(p.digits_y, p.digits_x);
    return part_of(batch, p.k);
}

fn at_a(batch: u32, row: u32, d: Digits) -> Value {
    let filter_of = batch % p.groups * p.m + row;
    return load_a(p.a_offset + filter_of * p.k + (d.outer * digits.x + d.y) * digits.y + d.x);
}

// The upper left corner of the column's window.
fn site_of(batch: u32, n: u32) -> Site {
    let area = p.out_y * p.out_x;
    let i = n % area / p.out_x;
    let j = n % p.out_x;
    let plane = (n / area * p.groups + batch % p.groups) * p.channels;
    return Site(p.b_offset + plane * p.x_y * p.x_x, i * p.stride_y - p.padding_y, j * p.stride_x - p.padding_x);
}

// A row of the output, and a place in it.
fn place_of(batch: u32, row: u32, n: u32) -> vec2<u32> {
    let area = p.out_y * p.out_x;
    let plane = (n / area * p.groups + batch % p.groups) * p.m + row;
    return vec2<u32>(batch / p.groups * p.results / area + plane, n % area);
}


// conv_weight: dw[filter][c][r][s] = Σ dy[image][filter][i][j] · x[image][c][i·stride + r·dilation − padding][…],
// per group.
//   m: filters      n: (c, r, s)      k: (image, i, j)
// Bindings: 0 `a`, which is dy, 1 `b`, which is x, 2 `out`, which is dw.

fn classes() -> u32 { return 1u; }

fn open_batch(batch: u32) -> vec2<u32> {
    digits = vec2<u32>(p.digits_y, p.digits_x);
    return part_of(batch, p.k);
}

fn at_a(batch: u32, row: u32, d: Digits) -> Value {
    let plane = (d.outer * p.groups + batch % p.groups) * p.filters + row;
    return load_a(p.a_offset + (plane * digits.x + d.y) * digits.y + d.x);
}

fn site_of(batch: u32, n: u32) -> Site {
    let area = p.window_y * p.window_x;
    let r = n % area / p.window_x;
    let s = n % p.window_x;
    let plane = batch % p.groups * p.channels + n / area;
    return Site(p.b_offset + plane * p.x_y * p.x_x,
        r * p.dilation_y - p.padding_y, s * p.dilation_x - p.padding_x);
}

fn place_of(batch: u32, row: u32, n: u32) -> vec2<u32> { return vec2<u32>(batch * p.m + row, n); }


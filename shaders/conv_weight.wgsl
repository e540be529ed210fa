
// conv_weight: dw[filter][c][r][s] = Σ dy[image][filter][i][j] · x[image][c][i·stride + r·dilation − padding][…],
// per group, in parts of the sum, each to its own dw; conv_sum.wgsl adds them up.
//   m: filters      n: (c, r, s)      k: (image, i, j)
// Bindings: 0 `a`, which is dy, 1 `b`, which is x, 2 `y`, the parts.

fn at_a(group: u32, row: u32, outer: u32, inner: u32) -> Value {
    let plane = (outer * p.groups + group) * p.filters + row;
    return load_a(p.a_offset + plane * p.out.x * p.out.y + inner);
}

fn column_of(group: u32, n: u32) -> Site {
    let area = p.window.x * p.window.y;
    let r = n % area / p.window.y;
    let s = n % p.window.y;
    let plane = group * p.channels + n / area;
    return Site(p.b_offset + plane * p.size.x * p.size.y,
        r * p.dilation.x - p.padding.x, s * p.dilation.y - p.padding.y);
}

// How k is made of an outer number and two inner ones, and what one step of each adds to a site.
fn digits() -> vec2<u32> { return p.out; }
fn steps() -> Site { return Site(p.groups * p.channels * p.size.x * p.size.y, p.stride.x, p.stride.y); }

fn at_b(column: Site, k: Site) -> Value {
    let y = column.y + k.y;
    let x = column.x + k.x;
    if (y >= p.size.x || x >= p.size.y) { return Value(0); }
    return load_b(column.base + k.base + y * p.size.y + x);
}

fn y_column(batch: u32, n: u32) -> u32 { return p.y_offset + batch * p.m * p.n + n; }

fn y_row() -> u32 { return p.n; }

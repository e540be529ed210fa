
// conv_input: dx[image][c][y][x] = Σ w[filter][c][r][s] · dy[image][filter][i][j] over what meets there, that
// is y = i·stride + r·dilation − padding, and x so too, per group.
//   m: channels      n: (image, y, x)      k: (filter, r, s)
// Bindings: 0 `a`, which is w, 1 `b`, which is dy, 2 `y`, which is dx.

fn at_a(group: u32, row: u32, outer: u32, inner: u32) -> Value {
    let filter_of = group * p.filters + outer;
    return load_a(p.a_offset + (filter_of * p.channels + row) * p.window.x * p.window.y + inner);
}

fn column_of(group: u32, n: u32) -> Site {
    let area = p.size.x * p.size.y;
    let y = n % area / p.size.y;
    let x = n % p.size.y;
    let plane = (n / area * p.groups + group) * p.filters;
    return Site(p.b_offset + plane * p.out.x * p.out.y, y + p.padding.x, x + p.padding.y);
}

// How k is made of an outer number and two inner ones, and what one step of each adds to a site.
fn digits() -> vec2<u32> { return p.window; }
fn steps() -> Site { return Site(p.out.x * p.out.y, p.dilation.x, p.dilation.y); }

fn at_b(column: Site, k: Site) -> Value {
    if (column.y < k.y || column.x < k.x) { return Value(0); }
    let y = column.y - k.y;
    let x = column.x - k.x;
    let i = y / p.stride.x;
    let j = x / p.stride.y;
    if (i * p.stride.x != y || j * p.stride.y != x || i >= p.out.x || j >= p.out.y) { return Value(0); }
    return load_b(column.base + k.base + i * p.out.y + j);
}

fn y_column(batch: u32, n: u32) -> u32 {
    let area = p.size.x * p.size.y;
    return p.y_offset + (n / area * p.groups + batch) * p.m * area + n % area;
}

fn y_row() -> u32 { return p.size.x * p.size.y; }

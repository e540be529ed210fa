
// conv: y[image][filter][i][j] = Σ w[filter][c][r][s] · x[image][c][i·stride + r·dilation − padding][…], per group.
//   m: filters      n: (image, i, j)      k: (c, r, s)
// Bindings: 0 `a`, which is w, 1 `b`, which is x, 2 `y`.

fn at_a(group: u32, row: u32, outer: u32, inner: u32) -> Value {
    return load_a(p.a_offset + ((group * p.m + row) * p.channels + outer) * p.window.x * p.window.y + inner);
}

// Column n of b: the upper left corner of its window.
fn column_of(group: u32, n: u32) -> Site {
    let area = p.out.x * p.out.y;
    let i = n % area / p.out.y;
    let j = n % p.out.y;
    let plane = (n / area * p.groups + group) * p.channels;
    return Site(p.b_offset + plane * p.size.x * p.size.y,
        i * p.stride.x - p.padding.x, j * p.stride.y - p.padding.y);
}

// How k is made of an outer number and two inner ones, and what one step of each adds to a site.
fn digits() -> vec2<u32> { return p.window; }
fn steps() -> Site { return Site(p.size.x * p.size.y, p.dilation.x, p.dilation.y); }

fn at_b(column: Site, k: Site) -> Value {
    let y = column.y + k.y;
    let x = column.x + k.x;
    if (y >= p.size.x || x >= p.size.y) { return Value(0); }
    return load_b(column.base + k.base + y * p.size.y + x);
}

// Where column n of the product is stored, and how far its rows lie apart.
fn y_column(batch: u32, n: u32) -> u32 {
    let area = p.out.x * p.out.y;
    return p.y_offset + (n / area * p.groups + batch) * p.m * area + n % area;
}

fn y_row() -> u32 { return p.out.x * p.out.y; }

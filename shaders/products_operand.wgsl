// products_operand: how strips of the operand NAME get into workgroup memory for products.wgsl, rows `first` … + 31 of
// `rows`, columns `column` … + 31 of `size`, with zeros outside. Row r begins at element `base` + r · `step`. The
// host puts a name for NAME, and generates `quad_NAME(at, left)`: the four elements from `at` on, of which `left`
// are there.

fn strip_NAME(base: u32, step: u32, first: u32, rows: u32, column: u32, size: u32, i: u32) -> vec4<f32> {
    let row = first + i / 8u;
    let at = column + i % 8u * 4u;
    if (row >= rows || at >= size) { return vec4<f32>(); }
    return quad_NAME(base + row * step + at, size - at);
}

fn left_NAME(base: u32, step: u32, first: u32, rows: u32, column: u32, size: u32, lane: u32) {
    for (var i = lane; i < 256u; i += 64u) {
        left[i] = strip_NAME(base, step, first, rows, column, size, i);
    }
}

fn rows_NAME(base: u32, step: u32, first: u32, rows: u32, column: u32, size: u32, lane: u32) {
    for (var i = lane; i < 256u; i += 64u) {
        right[i ^ (i / 32u)] = strip_NAME(base, step, first, rows, column, size, i);
    }
}

fn columns_NAME(base: u32, step: u32, first: u32, rows: u32, column: u32, size: u32, lane: u32) {
    for (var i = lane; i < 256u; i += 64u) {
        right[i] = strip_NAME(base, step, first, rows, column, size, i);
    }
}

fn weights_NAME(base: u32, step: u32, first: u32, rows: u32, column: u32, size: u32, lane: u32) {
    for (var i = lane; i < 256u; i += 64u) {
        weights[i] = strip_NAME(base, step, first, rows, column, size, i);
    }
}

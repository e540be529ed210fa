// What max_pool.wgsl, avg_pool.wgsl and avg_pool_input.wgsl share: the windows that outputs see of an axis.
// Axis 0 are rows, axis 1 columns. Windows slide, or are the bins ⌊i·size/out⌋ … ⌈(i + 1)·size/out⌉ where
// the host says `ADAPTIVE`.

struct Parameters {
    count: u32,
    row: u32,
    // In quads.
    out_offset: u32,
    places_offset: u32,
    size: vec2<u32>,
    out: vec2<u32>,
    window: vec2<u32>,
    stride: vec2<u32>,
    padding: vec2<u32>,
    dilation: vec2<u32>,
    // Of the operand, from one row and one column of a plane to the next.
    step: vec2<u32>,
    // Whether an average counts the padding.
    include: u32,
    @align(16) places: Places,
}

struct Window {
    first: u32,
    count: u32,
    divisor: u32,
}

// How many elements of a window that begins at `start` of the padded axis lie before `end`.
fn taps(start: u32, end: u32, axis: u32) -> u32 {
    let reach = select(0u, end - start, end > start);
    return min((reach + p.dilation[axis] - 1u) / p.dilation[axis], p.window[axis]);
}

fn window(i: u32, axis: u32) -> Window {
    let size = p.size[axis];
    if (ADAPTIVE) {
        let first = i * size / p.out[axis];
        let count = ((i + 1u) * size + p.out[axis] - 1u) / p.out[axis] - first;
        return Window(first, count, count);
    }
    let pad = p.padding[axis];
    let start = i * p.stride[axis];
    let before = taps(start, pad, axis);
    let count = taps(start, size + pad, axis) - before;
    let divisor = select(count, taps(start, size + 2u * pad, axis), p.include == 1u);
    return Window(start + before * p.dilation[axis] - pad, count, divisor);
}

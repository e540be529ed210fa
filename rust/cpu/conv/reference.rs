//! Convolutions by their definition, in float64: slow, obvious, and what the tests believe.

use super::Dims;

/// Calls `f(x, w, y, product of x and w goes to y)` for every term: places in the three tensors.
fn terms(d: &Dims, mut f: impl FnMut(usize, usize, usize)) {
    let (cg, kg) = (d.c / d.conv.groups, d.k / d.conv.groups);
    for n in 0..d.n {
        for k in 0..d.k {
            for c in 0..cg {
                for (i, j) in (0..d.oh).flat_map(|i| (0..d.ow).map(move |j| (i, j))) {
                    for (r, s) in (0..d.r).flat_map(|r| (0..d.s).map(move |s| (r, s))) {
                        let y = i * d.conv.stride[0] + r * d.conv.dilation[0];
                        let x = j * d.conv.stride[1] + s * d.conv.dilation[1];
                        let (top, left) = (d.conv.padding[0], d.conv.padding[1]);
                        if y < top || y - top >= d.h || x < left || x - left >= d.w {
                            continue;
                        }
                        let channel = k / kg * cg + c;
                        f(
                            ((n * d.c + channel) * d.h + y - top) * d.w + x - left,
                            ((k * cg + c) * d.r + r) * d.s + s,
                            ((n * d.k + k) * d.oh + i) * d.ow + j,
                        );
                    }
                }
            }
        }
    }
}

pub fn forward(d: &Dims, x: &[f64], w: &[f64]) -> Vec<f64> {
    let mut y = vec![0.0; d.n * d.k * d.oh * d.ow];
    terms(d, |i, j, o| y[o] += x[i] * w[j]);
    y
}

pub fn backward_input(d: &Dims, dy: &[f64], w: &[f64]) -> Vec<f64> {
    let mut dx = vec![0.0; d.n * d.c * d.h * d.w];
    terms(d, |i, j, o| dx[i] += dy[o] * w[j]);
    dx
}

pub fn backward_weight(d: &Dims, x: &[f64], dy: &[f64]) -> Vec<f64> {
    let mut dw = vec![0.0; d.k * d.c / d.conv.groups * d.r * d.s];
    terms(d, |i, j, o| dw[j] += x[i] * dy[o]);
    dw
}

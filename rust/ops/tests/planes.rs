//! Convolutions and pools against plain loops, with derivatives of both orders.

use super::*;
use crate::ops::conv::{self, Conv2d};
use crate::ops::pool::{self, Pool2d};
use crate::ops::view;

fn conv2d(stride: [usize; 2], padding: [usize; 2], dilation: [usize; 2], groups: usize) -> Conv2d {
    Conv2d { stride, padding, dilation, groups }
}

/// The definition.
fn plain(x: &Tensor, w: &Tensor, c: Conv2d) -> Vec<f64> {
    let (xs, ws) = (x.shape().clone(), w.shape().clone());
    let (xv, wv) = (values(x), values(w));
    let out = c.output("conv2d", &xs, &ws).unwrap();
    let mut y = vec![];
    for n in 0..out[0] {
        for k in 0..out[1] {
            for i in 0..out[2] {
                for j in 0..out[3] {
                    let mut sum = 0.0;
                    for ch in 0..ws[1] {
                        for r in 0..ws[2] {
                            for s in 0..ws[3] {
                                let h = (i * c.stride[0] + r * c.dilation[0]).wrapping_sub(c.padding[0]);
                                let v = (j * c.stride[1] + s * c.dilation[1]).wrapping_sub(c.padding[1]);
                                if h < xs[2] && v < xs[3] {
                                    let channel = k / (ws[0] / c.groups) * ws[1] + ch;
                                    sum += xv[((n * xs[1] + channel) * xs[2] + h) * xs[3] + v]
                                        * wv[((k * ws[1] + ch) * ws[2] + r) * ws[3] + s];
                                }
                            }
                        }
                    }
                    y.push(sum);
                }
            }
        }
    }
    y
}

#[test]
fn convolution_and_its_gradients() {
    for (c, x, w) in [
        (conv2d([1, 1], [0, 0], [1, 1], 1), [2, 2, 4, 3], [3, 2, 3, 2]),
        (conv2d([2, 1], [1, 2], [1, 2], 1), [1, 2, 5, 4], [2, 2, 2, 3]),
        (conv2d([2, 3], [1, 0], [1, 1], 2), [1, 4, 4, 5], [2, 2, 3, 2]),
        (conv2d([1, 1], [1, 1], [1, 1], 3), [1, 3, 3, 3], [3, 1, 3, 3]),
    ] {
        let (x, w, b) = (noise(&x, 1), noise(&w, 2), noise(&[w[0]], 3));
        let y = conv::conv2d(&x, &w, None, c).unwrap();
        assert_close(&values(&y), &plain(&x, &w, c), 1e-12, "conv2d");
        check(&[x, w, b], |t| conv::conv2d(&t[0], &t[1], Some(&t[2]), c).unwrap());
    }
}

#[test]
fn lines_are_flat_planes() {
    let (x, w, b) = (noise(&[2, 2, 6], 1), noise(&[3, 2, 3], 2), noise(&[3], 3));
    let y = conv::conv1d(&x, &w, None, [2, 1, 1], 1).unwrap();
    let planes = |t: &Tensor| view::unsqueeze(t, 2).unwrap();
    assert_is(&y, &[2, 3, 3], &plain(&planes(&x), &planes(&w), conv2d([1, 2], [0, 1], [1, 1], 1)));
    check(&[x.clone(), w.clone(), b], |t| conv::conv1d(&t[0], &t[1], Some(&t[2]), [1, 1, 2], 1).unwrap());
    let single = conv::conv1d(&view::select(&x, 0, 1).unwrap(), &w, None, [2, 1, 1], 1).unwrap();
    assert_is(&single, &[3, 3], &values(&y)[9..]);
}

#[test]
fn transposed_convolution_is_the_adjoint() {
    for (c, extra, x, w) in [
        (conv2d([1, 1], [0, 0], [1, 1], 1), [0, 0], [2, 3, 3, 2], [3, 2, 2, 2]),
        (conv2d([2, 3], [1, 0], [1, 2], 1), [1, 2], [1, 2, 3, 2], [2, 3, 3, 2]),
        (conv2d([2, 2], [1, 1], [1, 1], 2), [1, 0], [1, 4, 2, 3], [4, 1, 3, 3]),
    ] {
        let (x, w) = (noise(&x, 1), noise(&w, 2));
        let y = conv::conv_transpose2d(&x, &w, None, c, extra).unwrap();
        let size = |i: usize| {
            (x.shape()[2 + i] - 1) * c.stride[i] + c.dilation[i] * (w.shape()[2 + i] - 1) + 1 + extra[i]
                - 2 * c.padding[i]
        };
        assert_eq!(y.shape()[..], [x.shape()[0], w.shape()[1] * c.groups, size(0), size(1)]);
        // ⟨conv_transpose(x), a⟩ = ⟨x, conv(a)⟩.
        let a = noise(y.shape(), 3);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        assert_close(
            &[dot(&values(&y), &values(&a))],
            &[dot(&values(&x), &plain(&a, &w, c))],
            1e-12,
            "adjoint",
        );
        let bias = noise(&[w.shape()[1] * c.groups], 4);
        check(&[x, w, bias], |t| conv::conv_transpose2d(&t[0], &t[1], Some(&t[2]), c, extra).unwrap());
    }
    let (x, w) = (noise(&[1, 2, 4], 1), noise(&[2, 3, 3], 2));
    let y = conv::conv_transpose1d(&x, &w, None, [2, 1, 1], 1, 1).unwrap();
    assert_eq!(y.shape()[..], [1, 3, 8]);
}

#[test]
fn convolutions_refuse() {
    let (x, w) = (noise(&[1, 2, 4, 4], 1), noise(&[3, 2, 3, 3], 2));
    let c = conv2d([1, 1], [0, 0], [1, 1], 1);
    let whole = cast::cast(&x, DType::I64).unwrap();
    assert_eq!(
        message(conv::conv2d(&whole, &w, None, c)),
        "conv2d: takes floats, not int64 and float64; cast them first, as in `x.float()`"
    );
    assert_eq!(
        message(conv::conv2d(&x, &w, Some(&noise(&[2], 1)), c)),
        "conv2d: bias (2,) for 3 output channels"
    );
    assert!(
        message(conv::conv2d(&noise(&[4], 1), &w, None, c))
            .contains("expected an input (N, C, H, W) or (C, H, W)")
    );
    assert!(message(conv::conv_transpose2d(&x, &w, None, c, [0, 0])).contains("input has 2 channels"));
    let back = noise(&[2, 3, 3, 3], 1);
    assert!(
        message(conv::conv_transpose2d(&x, &back, None, c, [1, 0]))
            .contains("output_padding 1 must be smaller")
    );
    let huge = conv2d([usize::MAX, 1], [0, 0], [1, 1], 1);
    assert!(conv::conv_transpose2d(&x, &back, None, huge, [0, 0]).is_err());
}

fn windows(kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2], ceil_mode: bool) -> Pool2d {
    Pool2d { kernel, stride, padding, dilation: [1, 1], ceil_mode, count_include_pad: false }
}

/// The elements of the input that each window holds, with their places.
fn held(x: &Tensor, p: Pool2d) -> Vec<Vec<(usize, f64)>> {
    let (s, v) = (x.shape().clone(), values(x));
    let out = p.output("pool", &s).unwrap();
    let mut all = vec![];
    for plane in 0..out[0] * out[1] {
        for i in 0..out[2] {
            for j in 0..out[3] {
                let mut window = vec![];
                for r in 0..p.kernel[0] {
                    for c in 0..p.kernel[1] {
                        let h = (i * p.stride[0] + r * p.dilation[0]).wrapping_sub(p.padding[0]);
                        let w = (j * p.stride[1] + c * p.dilation[1]).wrapping_sub(p.padding[1]);
                        if h < s[2] && w < s[3] {
                            let place = h * s[3] + w;
                            window.push((place, v[plane * s[2] * s[3] + place]));
                        }
                    }
                }
                all.push(window);
            }
        }
    }
    all
}

#[test]
fn pools_and_their_gradients() {
    let x = noise(&[2, 2, 5, 4], 1);
    for p in [
        windows([2, 2], [2, 2], [0, 0], false),
        windows([3, 2], [1, 2], [1, 1], false),
        windows([3, 3], [2, 2], [1, 0], true),
        Pool2d { dilation: [2, 1], ..windows([2, 2], [1, 1], [1, 0], false) },
    ] {
        let (y, places) = pool::max_pool2d(&x, p).unwrap();
        let best = |window: &Vec<(usize, f64)>| *window.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        let want: Vec<(usize, f64)> = held(&x, p).iter().map(best).collect();
        assert_close(&values(&y), &want.iter().map(|w| w.1).collect::<Vec<_>>(), 0.0, "max_pool2d");
        assert_close(&values(&places), &want.iter().map(|w| w.0 as f64).collect::<Vec<_>>(), 0.0, "places");
        check(std::slice::from_ref(&x), |x| pool::max_pool2d(&x[0], p).unwrap().0);
        if p.dilation == [1, 1] {
            let mean = |w: &Vec<(usize, f64)>| w.iter().map(|e| e.1).sum::<f64>() / w.len() as f64;
            let want: Vec<f64> = held(&x, p).iter().map(mean).collect();
            assert_close(&values(&pool::avg_pool2d(&x, p).unwrap()), &want, 1e-12, "avg_pool2d");
            for count_include_pad in [false, true] {
                let p = Pool2d { count_include_pad, ..p };
                check(std::slice::from_ref(&x), |x| pool::avg_pool2d(&x[0], p).unwrap());
            }
        }
    }
}

#[test]
fn adaptive_pools_and_their_gradients() {
    let x = noise(&[1, 2, 5, 4], 1);
    let v = values(&x);
    for size in [[1, 1], [2, 3], [5, 4], [7, 2]] {
        let bin = |i: usize, n: usize, m: usize| i * n / m..((i + 1) * n).div_ceil(m);
        let (mut means, mut best) = (vec![], vec![]);
        for plane in v.chunks(20) {
            for i in 0..size[0] {
                for j in 0..size[1] {
                    let held: Vec<f64> = bin(i, 5, size[0])
                        .flat_map(|h| bin(j, 4, size[1]).map(move |w| plane[h * 4 + w]))
                        .collect();
                    means.push(held.iter().sum::<f64>() / held.len() as f64);
                    best.push(held.iter().copied().fold(f64::NEG_INFINITY, f64::max));
                }
            }
        }
        assert_is(&pool::adaptive_avg_pool2d(&x, size).unwrap(), &[1, 2, size[0], size[1]], &means);
        assert_is(&pool::adaptive_max_pool2d(&x, size).unwrap().0, &[1, 2, size[0], size[1]], &best);
        check(std::slice::from_ref(&x), |x| pool::adaptive_avg_pool2d(&x[0], size).unwrap());
        check(std::slice::from_ref(&x), |x| pool::adaptive_max_pool2d(&x[0], size).unwrap().0);
    }
    let line = noise(&[3, 6], 2);
    assert_eq!(pool::adaptive_avg_pool1d(&line, 4).unwrap().shape()[..], [3, 4]);
    assert_eq!(pool::adaptive_max_pool1d(&line, 2).unwrap().1.shape()[..], [3, 2]);
    check(std::slice::from_ref(&line), |x| pool::max_pool1d(&x[0], [2, 2, 0, 1], false).unwrap().0);
    check(std::slice::from_ref(&line), |x| pool::avg_pool1d(&x[0], [3, 1, 1], false, true).unwrap());
    assert!(message(pool::adaptive_avg_pool2d(&x, [0, 1])).contains("cannot be pooled to (0, 1)"));
    assert!(
        message(pool::max_pool2d(&ints(&[1; 4], &[1, 2, 2]), windows([2, 2], [1, 1], [0, 0], false)))
            .contains("takes floats")
    );
}

//! Pools against their definition: one loop over outputs, one over what they see.

use super::index::{devices, list, tensor, turned};
use super::*;
use crate::ir::conv::Pool2d;

/// What output (i, j) sees of a plane, and what an average over it divides by.
fn seen(pool: Option<&Pool2d>, size: [usize; 2], out: [usize; 2], i: usize, j: usize) -> (Vec<usize>, usize) {
    let along = |axis: usize, o: usize| -> (Vec<usize>, usize) {
        let Some(pool) = pool else {
            let places: Vec<usize> =
                (o * size[axis] / out[axis]..((o + 1) * size[axis]).div_ceil(out[axis])).collect();
            return (places.clone(), places.len());
        };
        let taps = (0..pool.kernel[axis]).map(|tap| o * pool.stride[axis] + tap * pool.dilation[axis]);
        let padded = taps.clone().filter(|&at| at < size[axis] + 2 * pool.padding[axis]).count();
        let places: Vec<usize> =
            taps.filter_map(|at| at.checked_sub(pool.padding[axis])).filter(|&at| at < size[axis]).collect();
        let divisor = if pool.count_include_pad { padded } else { places.len() };
        (places, divisor)
    };
    let ((rows, a), (columns, b)) = (along(0, i), along(1, j));
    (rows.iter().flat_map(|y| columns.iter().map(move |x| y * size[1] + x)).collect(), a * b)
}

struct Case {
    pool: Option<Pool2d>,
    size: [usize; 2],
    out: [usize; 2],
}

fn cases() -> Vec<Case> {
    let mut all = vec![];
    for size in [[1, 1], [4, 6], [5, 5], [1, 9], [9, 23]] {
        for kernel in [[1, 1], [2, 2], [3, 3], [1, 4], [5, 2]] {
            for (stride, dilation) in [([1, 1], [1, 1]), ([2, 2], [1, 1]), ([3, 1], [2, 3]), ([2, 3], [1, 1])]
            {
                for flags in 0..4 {
                    let padding = if flags < 2 { [0, 0] } else { [kernel[0] / 2, kernel[1] / 2] };
                    let (ceil_mode, count_include_pad) = (flags % 2 == 1, flags != 2);
                    let pool = Pool2d { kernel, stride, padding, dilation, ceil_mode, count_include_pad };
                    if let Ok(y) = pool.output("pool", &[1, 1, size[0], size[1]].into()) {
                        all.push(Case { pool: Some(pool), size, out: [y[2], y[3]] });
                    }
                }
            }
        }
        all.extend([[1, 1], [2, 3], [7, 7]].map(|out| Case { pool: None, size, out }));
    }
    assert!(all.len() > 100);
    all
}

const PLANES: [usize; 2] = [2, 3];

fn shape(plane: [usize; 2]) -> [usize; 4] {
    [PLANES[0], PLANES[1], plane[0], plane[1]]
}

#[test]
fn maxima_and_their_places() {
    for device in devices() {
        let dtypes = [DType::F32, DType::BF16, DType::I8, DType::U16, DType::Bool, DType::I64];
        for (n, dtype) in dtypes.into_iter().enumerate() {
            for case in cases().iter().skip(n).step_by(if n == 0 { 1 } else { 7 }) {
                let mut x = tensor(&device, dtype, &shape(case.size), 1);
                if dtype.is_float() {
                    // Ties, infinities and NaN.
                    let numbers: Vec<Number> = noise(x.layout.count(), 2)
                        .iter()
                        .map(|x| match (x * 12.0).round() {
                            5.0 => f64::NAN,
                            r if r > 5.0 => f64::NEG_INFINITY,
                            r => r as f64,
                        })
                        .map(Number::Float)
                        .collect();
                    x = Tensor::new(&device, dtype, &shape(case.size), &numbers);
                }
                let x = turned(x);
                let out = Layout::contiguous(Shape::new(&shape(case.out)));
                let y = device.alloc(out.count() * dtype.size()).unwrap();
                let places = device.alloc(out.count() * 8).unwrap();
                let kernel = match case.pool {
                    Some(pool) => Kernel::MaxPool { pool },
                    None => Kernel::AdaptiveMaxPool,
                };
                let outs = [(&y, dtype), (&places, DType::I64)].map(|(buffer, dtype)| Out {
                    buffer,
                    shape: &out.shape,
                    dtype,
                });
                run(&kernel, &[x.view()], &outs).unwrap();
                let got = decode(dtype, &y.download(0..out.count() * dtype.size()).unwrap());
                let at = decode(DType::I64, &places.download(0..out.count() * 8).unwrap());
                let x = list(&x);
                let (area, from) = (case.out[0] * case.out[1], case.size[0] * case.size[1]);
                for o in 0..out.count() {
                    let plane = &x[o / area * from..][..from];
                    let (window, _) = seen(
                        case.pool.as_ref(),
                        case.size,
                        case.out,
                        o / case.out[1] % case.out[0],
                        o % case.out[1],
                    );
                    let mut best: Option<usize> = None;
                    for place in window {
                        let x = plane[place].float();
                        if best.is_none_or(|best| x > plane[best].float() || x.is_nan()) {
                            best = Some(place);
                        }
                    }
                    let what = (case.pool, case.size, dtype, o);
                    assert_eq!(at[o], Number::Int(best.map_or(-1, |best| best as i128)), "{what:?}");
                    if let Some(best) = best {
                        assert!(got[o].same(plane[best]), "{what:?}: {:?}, not {:?}", got[o], plane[best]);
                    } else if dtype.is_float() {
                        assert_eq!(got[o].float(), f64::NEG_INFINITY);
                    }
                }
            }
        }
    }
}

#[test]
fn gradients_of_maxima_go_to_their_places() {
    for device in &devices() {
        for (n, dtype) in [DType::F32, DType::F16, DType::BF16].into_iter().enumerate() {
            for case in cases().iter().skip(n).step_by(if n == 0 { 1 } else { 7 }) {
                let dy = turned(tensor(device, dtype, &shape(case.out), 4));
                let (area, from) = (case.out[0] * case.out[1], case.size[0] * case.size[1]);
                // Of what a window sees now this element, now that, or nothing.
                let of = |o: usize| {
                    let (i, j) = (o / case.out[1] % case.out[0], o % case.out[1]);
                    let (window, _) = seen(case.pool.as_ref(), case.size, case.out, i, j);
                    (o % 7 != 6).then(|| window.get(o * 5 % window.len().max(1)).copied()).flatten()
                };
                let count = dy.layout.count();
                let numbers: Vec<Number> =
                    (0..count).map(|o| Number::Int(of(o).map_or(-1, |place| place as i128))).collect();
                let places = Tensor::new(device, DType::I64, &shape(case.out), &numbers);
                let kernel = Kernel::MaxPoolInput { pool: case.pool };
                let got =
                    run_on(device, &kernel, &[&dy, &places], &shape(case.size), dtype).unwrap().numbers();
                let mut want = vec![0.0; got.len()];
                for (o, dy) in list(&dy).into_iter().enumerate() {
                    if let Some(place) = of(o) {
                        want[o / area * from + place] += dy.float();
                    }
                }
                let rounding = [1e-6, 2e-3, 1e-2][n];
                for (at, want) in want.into_iter().enumerate() {
                    let near = (got[at].float() - want).abs() <= rounding * (8.0 + want.abs());
                    assert!(
                        near,
                        "{:?} {:?} {dtype}: {at} is {:?}, not {want}",
                        case.pool, case.size, got[at]
                    );
                }
            }
        }
    }
}

#[test]
fn averages_and_their_gradients() {
    for device in devices() {
        for (n, dtype) in [DType::F32, DType::F16, DType::BF16].into_iter().enumerate() {
            let rounding = [1e-6, 2e-3, 1e-2][n];
            let few = if n == 0 { 1 } else { 5 };
            for case in
                cases().iter().step_by(few).filter(|c| c.pool.is_none_or(|pool| pool.dilation == [1, 1]))
            {
                let x = turned(tensor(&device, dtype, &shape(case.size), 3));
                let dy = turned(tensor(&device, dtype, &shape(case.out), 4));
                let (forward, backward) = match case.pool {
                    Some(pool) => (Kernel::AvgPool { pool }, Kernel::AvgPoolInput { pool }),
                    None => (Kernel::AdaptiveAvgPool, Kernel::AdaptiveAvgPoolInput),
                };
                let y = run_on(&device, &forward, &[&x], &shape(case.out), dtype).unwrap().numbers();
                let dx = run_on(&device, &backward, &[&dy], &shape(case.size), dtype).unwrap().numbers();
                let (x, dy) = (list(&x), list(&dy));
                let (area, from) = (case.out[0] * case.out[1], case.size[0] * case.size[1]);
                let mut want_dx = vec![0.0; x.len()];
                for o in 0..y.len() {
                    let (window, divisor) = seen(
                        case.pool.as_ref(),
                        case.size,
                        case.out,
                        o / case.out[1] % case.out[0],
                        o % case.out[1],
                    );
                    let base = o / area * from;
                    let want = window.iter().map(|at| x[base + at].float()).sum::<f64>() / divisor as f64;
                    let what = (case.pool, case.size, case.out, dtype, o);
                    assert!(
                        (y[o].float() - want).abs() <= 4.0 * rounding,
                        "{what:?}: {:?}, not {want}",
                        y[o]
                    );
                    window.iter().for_each(|at| want_dx[base + at] += dy[o].float() / divisor as f64);
                }
                for (at, want) in want_dx.into_iter().enumerate() {
                    let near = (dx[at].float() - want).abs() <= rounding * (8.0 + want.abs());
                    assert!(
                        near,
                        "{:?} {:?} {dtype}: gradient {at} is {:?}, not {want}",
                        case.pool, case.size, dx[at]
                    );
                }
            }
        }
    }
}

#[test]
fn pools_of_nothing_and_of_more_than_a_binding() {
    let Some(device) = device() else { return };
    let pool = Pool2d {
        kernel: [2; 2],
        stride: [2; 2],
        padding: [0; 2],
        dilation: [1; 2],
        ceil_mode: false,
        count_include_pad: true,
    };
    let none = Tensor::new(&device, DType::F32, &[0, 3, 4, 4], &[]);
    run_on(&device, &Kernel::AvgPool { pool }, &[&none], &[0, 3, 2, 2], DType::F32).unwrap();
    let ints = Tensor::new(&device, DType::I32, &[1, 1, 2, 2], &[Number::Int(1); 4]);
    assert!(run_on(&device, &Kernel::AvgPool { pool }, &[&ints], &[1, 1, 1, 1], DType::I32).is_err());
    // 151 MB of planes.
    let shape = [36, 1, 1024, 1024];
    let kernel = Kernel::Fill(crate::core::Scalar::Float(1.5));
    let x = run_on(&device, &kernel, &[], &shape, DType::F32).unwrap();
    let y = run_on(&device, &Kernel::AvgPool { pool }, &[&x], &[36, 1, 512, 512], DType::F32).unwrap();
    assert!(y.numbers().into_iter().all(|y| y == Number::Float(1.5)));
}

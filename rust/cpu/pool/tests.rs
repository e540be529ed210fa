//! Pools against their definition: one loop over outputs, one over the window.

use super::*;
use crate::core::{DType, Element};
use crate::cpu::stored::Stored;
use half::{bf16, f16};

/// The places in the plane that output (i, j) of a sliding pool sees, row by row.
fn seen(pool: &Pool2d, size: [usize; 2], i: usize, j: usize) -> Vec<usize> {
    let at = |axis: usize, o: usize, tap: usize| {
        let at = o * pool.stride[axis] + tap * pool.dilation[axis];
        at.checked_sub(pool.padding[axis]).filter(|&at| at < size[axis])
    };
    let mut places = vec![];
    for r in 0..pool.kernel[0] {
        for s in 0..pool.kernel[1] {
            if let (Some(y), Some(x)) = (at(0, i, r), at(1, j, s)) {
                places.push(y * size[1] + x);
            }
        }
    }
    places
}

/// The same for adaptive pools.
fn bin(size: [usize; 2], out: [usize; 2], i: usize, j: usize) -> Vec<usize> {
    let span = |axis: usize, o: usize| {
        let (size, out) = (size[axis] as f64, out[axis] as f64);
        (o as f64 * size / out).floor() as usize..((o + 1) as f64 * size / out).ceil() as usize
    };
    span(0, i).flat_map(|y| span(1, j).map(move |x| y * size[1] + x)).collect()
}

/// What an average over output (i, j) of a sliding pool divides by.
fn divisor(pool: &Pool2d, size: [usize; 2], i: usize, j: usize) -> usize {
    if !pool.count_include_pad {
        return seen(pool, size, i, j).len();
    }
    let [rows, columns] = [(0, i), (1, j)].map(|(axis, o)| {
        let padded = size[axis] + 2 * pool.padding[axis];
        (0..pool.kernel[axis]).filter(|tap| o * pool.stride[axis] + tap < padded).count()
    });
    rows * columns
}

trait Number: Stored + Element {
    fn of(x: f64) -> Self;
    fn to(self) -> f64;
}

macro_rules! number {
    ($($T:ty: $of:expr, $to:expr;)+) => {$(
        impl Number for $T {
            fn of(x: f64) -> Self {
                ($of)(x)
            }
            fn to(self) -> f64 {
                ($to)(self)
            }
        }
    )+};
}
number! {
    f32: |x| x as f32, |x| x as f64;
    f64: |x| x, |x| x;
    f16: f16::from_f64, f16::to_f64;
    bf16: bf16::from_f64, bf16::to_f64;
    i32: |x| (x * 8.0) as i32, |x| x as f64;
    u8: |x| (x * 8.0 + 100.0) as u8, |x| x as f64;
    i64: |x| (x * 8.0) as i64, |x| x as f64;
}

/// Few different values, so that there are ties, exact in every dtype.
fn values<T: Number>(count: usize) -> Vec<T> {
    (0..count).map(|i| T::of(((i * 7919 + i * i * 31) % 23) as f64 / 8.0 - 1.0)).collect()
}

const COUNT: usize = 3;

fn planes(size: [usize; 2], out: [usize; 2]) -> Planes {
    Planes { count: COUNT, size, out }
}

/// Every output of every plane: its index, its plane's elements, and what it sees of them.
fn outputs<'a, T>(
    p: &'a Planes,
    x: &'a [T],
    seen: impl Fn(usize, usize) -> Vec<usize> + 'a,
) -> impl Iterator<Item = (usize, &'a [T], Vec<usize>)> + 'a {
    let [rows, columns] = p.out;
    (0..p.count * rows * columns).map(move |o| {
        let (n, i, j) = (o / (rows * columns), o / columns % rows, o % columns);
        (o, &x[n * p.area()..(n + 1) * p.area()], seen(i, j))
    })
}

fn check_max<T: Number>(p: &Planes, x: &[T], pool: Option<&Pool2d>) {
    let total = COUNT * p.out_area();
    let (mut y, mut places) = (vec![T::of(99.0); total], vec![77i64; total]);
    // SAFETY: the buffers have the sizes of the planes.
    unsafe {
        let (x, y, places) = (x.as_ptr().cast(), y.as_mut_ptr().cast(), places.as_mut_ptr());
        match pool {
            Some(pool) => max_forward(T::DTYPE, pool, p, x, y, places).unwrap(),
            None => adaptive_max_forward(T::DTYPE, p, x, y, places).unwrap(),
        }
    }
    let window = |i, j| pool.map_or_else(|| bin(p.size, p.out, i, j), |pool| seen(pool, p.size, i, j));
    for (o, x, window) in outputs(p, x, window) {
        let mut best: Option<usize> = None;
        for at in window {
            if best.is_none_or(|best| x[at].to() > x[best].to() || x[at].to().is_nan()) {
                best = Some(at);
            }
        }
        assert_eq!(places[o], best.map_or(-1, |b| b as i64), "{p:?} {pool:?} output {o}");
        let want = best.map_or(T::LOWEST, |b| x[b]).to();
        assert!(y[o].to() == want || y[o].to().is_nan() && want.is_nan(), "{p:?} {pool:?} output {o}");
    }
}

fn check_max_gradient<T: Number>(p: &Planes, pool: Option<&Pool2d>) {
    let total = COUNT * p.out_area();
    let x = values::<T>(COUNT * p.area());
    let dy: Vec<T> = (0..total).map(|i| T::of((i % 16) as f64 / 8.0)).collect();
    let (mut y, mut places) = (vec![T::of(0.0); total], vec![0i64; total]);
    let mut dx = vec![T::of(99.0); x.len()];
    // SAFETY: the buffers have the sizes of the planes.
    unsafe {
        let (x, y) = (x.as_ptr().cast(), y.as_mut_ptr().cast());
        match pool {
            Some(pool) => max_forward(T::DTYPE, pool, p, x, y, places.as_mut_ptr()).unwrap(),
            None => adaptive_max_forward(T::DTYPE, p, x, y, places.as_mut_ptr()).unwrap(),
        }
        max_backward(T::DTYPE, p, dy.as_ptr().cast(), places.as_ptr(), dx.as_mut_ptr().cast()).unwrap();
    }
    let mut want = vec![0.0; x.len()];
    for (o, &place) in places.iter().enumerate() {
        if place >= 0 {
            want[o / p.out_area() * p.area() + place as usize] += dy[o].to();
        }
    }
    assert!(dx.iter().map(|x| x.to()).eq(want), "{p:?} {pool:?}");
}

fn check_avg<T: Number>(p: &Planes, pool: Option<&Pool2d>, relative: f64) {
    let x = values::<T>(COUNT * p.area());
    let dy = values::<T>(COUNT * p.out_area());
    let (mut y, mut dx) = (vec![T::of(99.0); dy.len()], vec![T::of(99.0); x.len()]);
    // SAFETY: the buffers have the sizes of the planes.
    unsafe {
        let (x, y) = (x.as_ptr().cast(), y.as_mut_ptr().cast());
        let (dy, dx) = (dy.as_ptr().cast(), dx.as_mut_ptr().cast());
        match pool {
            Some(pool) => {
                avg_forward(T::DTYPE, pool, p, x, y).unwrap();
                avg_backward(T::DTYPE, pool, p, dy, dx).unwrap();
            }
            None => {
                adaptive_avg_forward(T::DTYPE, p, x, y).unwrap();
                adaptive_avg_backward(T::DTYPE, p, dy, dx).unwrap();
            }
        }
    }
    let mut want_dx = vec![0.0; x.len()];
    let window = |i, j| pool.map_or_else(|| bin(p.size, p.out, i, j), |pool| seen(pool, p.size, i, j));
    for (o, x, window) in outputs(p, &x, window) {
        let (i, j) = (o / p.out[1] % p.out[0], o % p.out[1]);
        let divisor = pool.map_or(window.len(), |pool| divisor(pool, p.size, i, j)) as f64;
        let want = window.iter().map(|&at| x[at].to()).sum::<f64>() / divisor;
        assert!(
            (y[o].to() - want).abs() <= relative * 2.0,
            "{p:?} {pool:?}: {o} is {} not {want}",
            y[o].to()
        );
        for at in window {
            want_dx[o / p.out_area() * p.area() + at] += dy[o].to() / divisor;
        }
    }
    for (at, (got, want)) in dx.iter().zip(want_dx).enumerate() {
        assert!((got.to() - want).abs() <= relative * 8.0, "{p:?} {pool:?}: gradient {at}");
    }
}

fn geometries(mut f: impl FnMut(&Pool2d, &Planes)) {
    let mut count = 0;
    for size in [[1, 1], [2, 2], [4, 6], [5, 5], [7, 3], [1, 9], [9, 40], [8, 67]] {
        for kernel in [[1, 1], [2, 2], [3, 3], [2, 3], [1, 4], [5, 2]] {
            for stride in [[1, 1], [2, 2], [3, 1], [2, 3]] {
                for dilation in [[1, 1], [2, 3]] {
                    for half in [[0, 0], [1, 0], [1, 1]] {
                        for flags in 0..4 {
                            let pool = Pool2d {
                                kernel,
                                stride,
                                dilation,
                                padding: [half[0] * (kernel[0] / 2), half[1] * (kernel[1] / 2)],
                                ceil_mode: flags & 1 == 1,
                                count_include_pad: flags & 2 == 2,
                            };
                            if let Ok(y) = pool.output("pool", &[1, COUNT, size[0], size[1]].into()) {
                                f(&pool, &planes(size, [y[2], y[3]]));
                                count += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(count > 2000, "{count}");
}

#[test]
fn every_sliding_maximum() {
    geometries(|pool, p| {
        if pool.count_include_pad {
            return;
        }
        check_max::<f32>(p, &values(COUNT * p.area()), Some(pool));
        check_max::<i32>(p, &values(COUNT * p.area()), Some(pool));
        check_max_gradient::<f32>(p, Some(pool));
    });
}

#[test]
fn every_sliding_average() {
    geometries(|pool, p| {
        if pool.dilation == [1, 1] {
            check_avg::<f32>(p, Some(pool), 1e-6);
        }
    });
}

#[test]
fn every_dtype() {
    let pool = Pool2d {
        kernel: [2, 2],
        stride: [2, 2],
        padding: [0, 0],
        dilation: [1, 1],
        ceil_mode: false,
        count_include_pad: true,
    };
    for pool in [pool, Pool2d { kernel: [3, 3], padding: [1, 1], ..pool }] {
        let p = planes([20, 21], [10, if pool.padding[0] == 1 { 11 } else { 10 }]);
        check_max::<u8>(&p, &values(COUNT * p.area()), Some(&pool));
        check_max::<i64>(&p, &values(COUNT * p.area()), Some(&pool));
        check_max::<f16>(&p, &values(COUNT * p.area()), Some(&pool));
        check_max::<bf16>(&p, &values(COUNT * p.area()), Some(&pool));
        check_max::<f64>(&p, &values(COUNT * p.area()), Some(&pool));
        check_max_gradient::<f64>(&p, Some(&pool));
        check_max_gradient::<f16>(&p, Some(&pool));
        check_avg::<f64>(&p, Some(&pool), 1e-15);
        check_avg::<f16>(&p, Some(&pool), 1e-3);
        check_avg::<bf16>(&p, Some(&pool), 1e-2);
    }
}

#[test]
fn adaptive_bins() {
    for size in [[1, 1], [3, 7], [8, 8], [13, 5], [2, 40]] {
        for out in [[1, 1], [2, 2], [3, 5], [7, 7], [8, 8], [13, 1]] {
            let p = planes(size, out);
            check_max::<f32>(&p, &values(COUNT * p.area()), None);
            check_max_gradient::<f32>(&p, None);
            check_avg::<f32>(&p, None, 1e-6);
            check_avg::<f64>(&p, None, 1e-15);
        }
    }
}

#[test]
fn nan_and_infinities() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let specials = [nan, -inf, 0.0, inf, -0.0, -inf, -inf, 1.0, nan, -inf, -inf, -inf, 2.0];
    let x: Vec<f32> = (0..COUNT * 8 * 34).map(|i| specials[i * i % 13 * (i % 7) % 13] as f32).collect();
    geometries(|pool, p| {
        if p.area() * COUNT <= x.len() {
            check_max(p, &x[..p.area() * COUNT], Some(pool));
            let low = vec![f32::NEG_INFINITY; p.area() * COUNT];
            check_max(p, &low, Some(pool));
        }
    });
    let p = planes([8, 34], [3, 5]);
    check_max(&p, &x, None);
}

#[test]
fn empty_batches_and_forged_places() {
    let none = Planes { count: 0, size: [4, 4], out: [2, 2] };
    let bad = Planes { count: 1, size: [0, 4], out: [2, 2] };
    let one = Planes { count: 1, size: [2, 2], out: [2, 2] };
    let mut y = [5f32; 4];
    // SAFETY: no more than four elements are touched.
    unsafe {
        adaptive_avg_forward(DType::F32, &none, y.as_ptr().cast(), y.as_mut_ptr().cast()).unwrap();
        assert!(adaptive_avg_forward(DType::F32, &bad, y.as_ptr().cast(), y.as_mut_ptr().cast()).is_err());
        assert!(adaptive_avg_forward(DType::I32, &one, y.as_ptr().cast(), y.as_mut_ptr().cast()).is_err());
        assert_eq!(y, [5.0; 4]);
        let (dy, places) = ([1f32, 2.0, 4.0, 8.0], [i64::MIN, 4, 3, i64::MAX]);
        max_backward(DType::F32, &one, dy.as_ptr().cast(), places.as_ptr(), y.as_mut_ptr().cast()).unwrap();
        assert_eq!(y, [0.0, 0.0, 0.0, 4.0]);
        let nothing = Planes { count: 1, size: [2, 2], out: [0, 2] };
        adaptive_avg_backward(DType::F32, &nothing, dy.as_ptr().cast(), y.as_mut_ptr().cast()).unwrap();
        assert_eq!(y, [0.0; 4]);
    }
}

//! Rows normalized, and their gradients, against plain loops in float64.

use super::rows::elements;
use super::*;

/// What the formulas at the head of the shaders give: y, μ, r, and from dy: dx, dw, db.
struct Wanted {
    y: Vec<f64>,
    mean: Vec<f64>,
    scale: Vec<f64>,
    dx: Vec<f64>,
    dw: Vec<f64>,
    db: Vec<f64>,
}

fn wanted(centred: bool, n: usize, [x, dy]: [&[f64]; 2], [w, b]: [Option<&[f64]>; 2], eps: f64) -> Wanted {
    let mut all =
        Wanted { y: vec![], mean: vec![], scale: vec![], dx: vec![], dw: vec![0.0; n], db: vec![0.0; n] };
    let of = |t: Option<&[f64]>, i: usize, none: f64| t.map_or(none, |t| t[i]);
    for (x, dy) in x.chunks(n).zip(dy.chunks(n)) {
        let average = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
        let mu = if centred { average(&|i| x[i]) } else { 0.0 };
        let r = 1.0 / (average(&|i| (x[i] - mu) * (x[i] - mu)) + eps).sqrt();
        let hat = |i: usize| (x[i] - mu) * r;
        let h = |i: usize| dy[i] * of(w, i, 1.0);
        let mean_h = if centred { average(&h) } else { 0.0 };
        let along = average(&|i| h(i) * hat(i));
        for i in 0..n {
            all.y.push(hat(i) * of(w, i, 1.0) + of(b, i, 0.0));
            all.dx.push(r * (h(i) - mean_h - hat(i) * along));
            all.dw[i] += dy[i] * hat(i);
            all.db[i] += dy[i];
        }
        all.mean.push(mu);
        all.scale.push(r);
    }
    all
}

fn reals(t: &Tensor) -> Vec<f64> {
    elements(t).iter().map(|x| x.float()).collect()
}

/// Runs both kernels on `x`, a matrix, and compares.
fn check(device: &Device, centred: bool, [weight, bias]: [bool; 2], x: &Tensor, tolerance: f64) {
    let &[rows, n] = &x.layout.shape[..] else { unreachable!() };
    let dtype = x.dtype;
    let vector = |seed| Tensor::new(device, dtype, &[n], &floats(&noise(n, seed)));
    let (w, b) = (vector(1), vector(2));
    let dy = Tensor::new(device, dtype, &[rows, n], &floats(&noise(rows * n, 3)));
    let eps = 1e-5;
    let (wr, br) = (reals(&w), reals(&b));
    let given = [weight.then_some(&wr[..]), bias.then_some(&br[..])];
    let want = wanted(centred, n, [&reals(x), &reals(&dy)], given, eps);
    let what = format!("{} {dtype} {:?} {weight} {bias} {centred}", device.adapter(), x.layout);

    let mut inputs = vec![x];
    inputs.extend(weight.then_some(&w));
    inputs.extend(bias.then_some(&b));
    let column: (&[usize], DType) = (&[rows, 1], DType::F32);
    let kernel = Kernel::Normalize { centred, eps, weight, bias };
    let made = run_all(device, &kernel, &inputs, &[(&[rows, n], dtype), column, column]).unwrap();
    let rounding = tolerance + dtype_rounding(dtype);
    close(&format!("y of {what}"), &made[0], &want.y, rounding);
    close(&format!("mean of {what}"), &made[1], &want.mean, tolerance);
    close(&format!("scale of {what}"), &made[2], &want.scale, tolerance);

    let mut inputs = vec![x, &dy, &made[1], &made[2]];
    inputs.extend(weight.then_some(&w));
    let (matrix, vector) = ([rows, n], [n]);
    let mut results: Vec<(&[usize], DType)> = vec![(&matrix, dtype)];
    results.resize(1 + usize::from(weight) + usize::from(bias), (&vector, dtype));
    let kernel = Kernel::NormalizeInput { centred, weight, bias };
    let made = run_all(device, &kernel, &inputs, &results).unwrap();
    close(&format!("dx of {what}"), &made[0], &want.dx, rounding);
    if weight {
        close(&format!("dw of {what}"), &made[1], &want.dw, rounding);
    }
    if bias {
        close(&format!("db of {what}"), &made[1 + usize::from(weight)], &want.db, rounding);
    }
    // Nothing depends on who comes first.
    let again = run_all(device, &kernel, &inputs, &results).unwrap();
    for (a, b) in made.iter().zip(&again) {
        assert_eq!(a.numbers(), b.numbers(), "{what}");
    }
}

fn dtype_rounding(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 1e-3,
        DType::BF16 => 8e-3,
        _ => 0.0,
    }
}

/// Rows of all lengths: one element, parts of a quad, one lane, many, and more than lanes keep in registers.
#[test]
fn rows_are_normalized() {
    for (rank, device) in devices().iter().enumerate() {
        let sizes = [
            (40, 256),
            (300, 33),
            (5, 1),
            (3, 7),
            (70, 8),
            (9, 64),
            (3, 1030),
            (2, 1024),
            (2, 4100),
            (2, 9000),
        ];
        for (i, (rows, n)) in sizes.into_iter().enumerate().filter(|(i, _)| rank == 0 || *i < 2) {
            let x = Tensor::new(device, DType::F32, &[rows, n], &floats(&noise(rows * n, 7)));
            // All eight for one size, for others two or three of them: a driver takes long to compile a kernel.
            for flags in (0..8).filter(|flag| rank + i == 0 || (flag + i) % 3 == 0) {
                check(device, flags & 1 == 1, [flags & 2 == 2, flags & 4 == 4], &x, 3e-6);
            }
        }
    }
}

/// As they lie in memory: rows apart, from somewhere on, backwards, the same row again and again.
#[test]
fn rows_lie_anywhere() {
    let Some(device) = device() else { return };
    let all = || Tensor::new(&device, DType::F32, &[12, 40], &floats(&noise(480, 8)));
    for (axis, first, count, step) in [(0, 1, 5, 2), (0, 11, 12, -1), (1, 4, 32, 1), (1, 3, 20, 1)] {
        let mut x = all();
        x.layout = x.layout.slice(axis, first, count, step);
        check(&device, true, [true, true], &x, 3e-6);
    }
    let mut x = all();
    x.layout.strides[0] = 0;
    check(&device, false, [true, false], &x, 3e-6);
}

/// Half floats are read and written as they are, and computed in float32.
#[test]
fn half_floats_are_normalized_in_float32() {
    for device in devices() {
        for dtype in [DType::F16, DType::BF16] {
            for (rows, n) in [(4, 32), (3, 5), (5, 1000)] {
                let x = Tensor::new(device, dtype, &[rows, n], &floats(&noise(rows * n, 9)));
                check(device, true, [true, true], &x, 1e-5);
                check(device, false, [false, true], &x, 1e-5);
            }
        }
    }
}

/// A mean a thousand times the deviation costs no digits; what is not a number stays in its row.
#[test]
fn large_means_and_nan() {
    let Some(device) = device() else { return };
    let n = 777;
    let mut numbers: Vec<f32> = noise(3 * n, 10).iter().map(|x| 1000.0 + x).collect();
    let x = Tensor::new(&device, DType::F32, &[3, n], &floats(&numbers));
    check(&device, true, [false, false], &x, 2e-4);
    numbers[n + 5] = f32::NAN;
    numbers[2 * n] = f32::INFINITY;
    let x = Tensor::new(&device, DType::F32, &[3, n], &floats(&numbers));
    let column: (&[usize], DType) = (&[3, 1], DType::F32);
    let kernel = Kernel::Normalize { centred: true, eps: 1e-5, weight: false, bias: false };
    let made = run_all(&device, &kernel, &[&x], &[(&[3, n], DType::F32), column, column]).unwrap();
    let y = made[0].numbers();
    assert!(y[..n].iter().all(|y| y.float().is_finite()));
    assert!(y[n..].iter().all(|y| y.float().is_nan()));
}

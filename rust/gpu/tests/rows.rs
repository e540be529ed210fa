//! Reductions, moments and places of extremes, against plain loops in float64 and in wide integers.

use super::*;
use crate::core::Scalar;
use crate::core::dtype::Kind as Numbers;
use crate::ir::kernel::{Axes, Reduce};

/// Numbers that every dtype holds exactly, in no order, many of them twice.
pub fn mixed(dtype: DType, count: usize, seed: u64) -> Vec<Number> {
    let number = |x: &f32| match dtype {
        DType::Bool => Number::Int((*x > 0.8) as i128),
        _ if dtype.is_float() => Number::Float((x * 48.0).round() as f64 / 16.0),
        _ if dtype.kind() == Numbers::Signed => Number::Int((x * 48.0) as i128),
        _ => Number::Int((x * 48.0 + 50.0) as i128),
    };
    noise(count, seed).iter().map(number).collect()
}

/// A tensor's elements, in the order of its layout.
pub fn elements(t: &Tensor) -> Vec<Number> {
    let all = decode(t.dtype, &download(&t.buffer).unwrap());
    places(&t.layout).into_iter().map(|place| all[place]).collect()
}

/// The elements that meet in each result of reducing `axes`, and the shape of the results.
fn groups(shape: &[usize], axes: &[usize], x: &[Number]) -> (Vec<Vec<Number>>, Vec<usize>) {
    let kept: Vec<usize> = (0..shape.len()).map(|a| if axes.contains(&a) { 1 } else { shape[a] }).collect();
    let mut lists = vec![vec![]; kept.iter().product()];
    for (i, &x) in x.iter().enumerate() {
        let (mut rest, mut at, mut step) = (i, 0, 1);
        for axis in (0..shape.len()).rev() {
            let index = rest % shape[axis];
            rest /= shape[axis];
            if !axes.contains(&axis) {
                at += index * step;
                step *= shape[axis];
            }
        }
        lists[at].push(x);
    }
    (lists, kept)
}

fn reduced(op: Reduce, dtype: DType, list: &[Number]) -> Number {
    let float = |f: fn(f64, f64) -> f64, first: f64| {
        let all = list.iter().map(|x| x.float());
        Number::Float(all.fold(first, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { f(a, b) }))
    };
    let int = |f: fn(i128, i128) -> i128, first: i128| {
        let values = list.iter().map(|x| if let Number::Int(x) = x { *x } else { 0 });
        super::reference::wrap(dtype, values.fold(first, f))
    };
    match (op, dtype.is_float()) {
        (Reduce::Sum, true) => float(|a, b| a + b, 0.0),
        (Reduce::Prod, true) => float(|a, b| a * b, 1.0),
        (Reduce::Max, true) => float(f64::max, f64::NEG_INFINITY),
        (Reduce::Min, true) => float(f64::min, f64::INFINITY),
        (Reduce::LogSumExp, _) => {
            let Number::Float(most) = float(f64::max, f64::NEG_INFINITY) else { unreachable!() };
            let sum: f64 = list.iter().map(|x| (x.float() - most).exp()).sum();
            Number::Float(if most.is_infinite() { most } else { most + sum.ln() })
        }
        (Reduce::Sum, _) => int(|a, b| a + b, 0),
        (Reduce::Prod, _) => int(|a, b| a.wrapping_mul(b), 1),
        (Reduce::Max | Reduce::Any, _) => int(i128::max, if dtype == DType::Bool { 0 } else { i128::MIN }),
        (Reduce::Min | Reduce::All, _) => int(i128::min, if dtype == DType::Bool { 1 } else { i128::MAX }),
    }
}

/// How far a result may be off: half floats round it, float32 rounds what is summed.
fn near(op: Reduce, dtype: DType, list: &[Number], got: Number, want: Number) -> bool {
    if got.same(want) {
        return true;
    }
    // What is too large for a half float is infinite in it.
    let overflown = |x: Number| decode(dtype, &encode(dtype, &[x]))[0].float();
    let (x, y) = (got.float(), want.float());
    if dtype.is_float() && x.is_infinite() && x == overflown(want) {
        return true;
    }
    let size: f64 = list.iter().map(|x| x.float().abs()).sum();
    let of_sum = match op {
        Reduce::Sum => 5e-7 * size,
        Reduce::Prod => 1e-6 * list.len() as f64 * y.abs(),
        Reduce::LogSumExp => 1e-6 * (1.0 + y.abs()),
        _ => 0.0,
    };
    let rounding = match dtype {
        DType::F16 => 6e-4 * y.abs() + 6e-8,
        DType::BF16 => 5e-3 * y.abs(),
        _ => 0.0,
    };
    dtype.is_float() && (x - y).abs() <= of_sum + rounding
}

fn check(device: &Device, op: Reduce, axes: &[usize], x: &Tensor) {
    let shape = x.layout.shape.to_vec();
    let (lists, kept) = groups(&shape, axes, &elements(x));
    let kernel = Kernel::Reduce { op, axes: Axes::new(axes), map: Fused::identity(x.dtype) };
    let got = run_on(device, &kernel, &[x], &kept, x.dtype).unwrap().numbers();
    for (i, list) in lists.iter().enumerate() {
        let want = reduced(op, x.dtype, list);
        assert!(
            near(op, x.dtype, list, got[i], want),
            "{op:?} {} of {:?} over {axes:?}, element {i}: {:?}, not {want:?}",
            x.dtype,
            x.layout,
            got[i]
        );
    }
}

const ALL: [Reduce; 5] = [Reduce::Sum, Reduce::Prod, Reduce::Max, Reduce::Min, Reduce::LogSumExp];

/// Dtypes that devices compute with.
pub fn dtypes() -> impl Iterator<Item = DType> {
    DType::ALL.iter().copied().filter(|&dtype| dtype != DType::F64)
}

/// One shape in several layouts: as it is, transposed, backwards with gaps, and repeated along the first axis.
pub fn views(device: &Device, dtype: DType, shape: &[usize], seed: u64) -> Vec<Tensor> {
    let make =
        |shape: &[usize]| Tensor::new(device, dtype, shape, &mixed(dtype, shape.iter().product(), seed));
    let turned: Vec<usize> = shape.iter().rev().copied().collect();
    let backwards: Vec<usize> = (0..shape.len()).rev().collect();
    let mut transposed = make(&turned);
    transposed.layout = transposed.layout.permute(&backwards);
    let doubled: Vec<usize> = shape.iter().map(|size| 2 * size + 1).collect();
    let mut sparse = make(&doubled);
    for (axis, &size) in shape.iter().enumerate() {
        sparse.layout = sparse.layout.slice(axis, 2 * size, size, -2);
    }
    let mut repeated = make(&shape[1..]);
    repeated.layout = repeated.layout.broadcast_to(&Shape::new(shape)).unwrap();
    vec![make(shape), transposed, sparse, repeated]
}

#[test]
fn every_set_of_axes_and_every_layout() {
    for device in devices() {
        for (i, x) in views(device, DType::F32, &[3, 4, 5, 6], 1).iter().enumerate() {
            for set in 0..16u32 {
                let axes: Vec<usize> = (0..4).filter(|a| set >> a & 1 == 1).collect();
                check(device, Reduce::Sum, &axes, x);
                if i == 0 && set % 3 == 0 {
                    ALL.iter().for_each(|&op| check(device, op, &axes, x));
                }
            }
        }
    }
}

#[test]
fn every_dtype() {
    for device in devices() {
        for dtype in dtypes() {
            let x = Tensor::new(device, dtype, &[19, 37], &mixed(dtype, 703, 2));
            let ops: &[Reduce] = match dtype {
                DType::Bool => &[Reduce::Any, Reduce::All, Reduce::Max],
                _ if dtype.is_float() => &ALL,
                _ => &ALL[..4],
            };
            for &op in ops {
                check(device, op, &[1], &x);
                check(device, op, &[0], &x);
            }
        }
        let x = Tensor::new(device, DType::F64, &[2], &floats(&[1.0, 2.0]));
        let kernel =
            Kernel::Reduce { op: Reduce::Sum, axes: Axes::new(&[0]), map: Fused::identity(DType::F64) };
        let error = run_on(device, &kernel, &[&x], &[1], DType::F64).err().unwrap().to_string();
        assert!(error.contains("float64 is not supported"), "{error}");
    }
}

#[test]
fn short_and_long_rows_and_columns() {
    for device in devices() {
        let shapes: [&[usize]; 12] = [
            &[1, 1],
            &[300, 3],
            &[70, 100],
            &[260, 200],
            &[3, 1025],
            &[2, 20_001],
            &[1, 100_000],
            &[9, 40],
            &[2050, 30],
            &[5, 300],
            &[20_000, 33],
            &[1000, 2],
        ];
        for shape in shapes {
            let x = Tensor::new(device, DType::F32, shape, &mixed(DType::F32, shape.iter().product(), 3));
            for axes in [&[1][..], &[0], &[0, 1]] {
                check(device, Reduce::Sum, axes, &x);
                check(device, Reduce::LogSumExp, axes, &x);
            }
        }
    }
}

#[test]
fn nan_infinity_and_nothing() {
    let inf = f32::INFINITY;
    for device in devices() {
        let rows = [
            [1.0, f32::NAN, 3.0, inf],
            [-inf, -inf, -inf, -inf],
            [inf, 1.0, 2.0, 3.0],
            [inf, -inf, 0.0, 1.0],
            [-f32::NAN, -inf, 5.0, 1.0],
            [3e38, 1.0, -3e38, -inf],
        ];
        let x = Tensor::new(device, DType::F32, &[6, 4], &floats(rows.as_flattened()));
        for op in ALL {
            check(device, op, &[1], &x);
            check(device, op, &[0], &x);
        }
        let nothing = Tensor::new(device, DType::F32, &[3, 0, 2], &[]);
        for op in [Reduce::Sum, Reduce::Prod, Reduce::LogSumExp] {
            check(device, op, &[1], &nothing);
            check(device, op, &[0], &nothing);
        }
        let none = Tensor::new(device, DType::Bool, &[0], &[]);
        check(device, Reduce::Any, &[0], &none);
        check(device, Reduce::All, &[0], &none);
    }
}

/// `(x · y + ½)` rounded to `dtype`, which it gets from x in float32.
fn prologue(dtype: DType) -> Fused {
    let mut program = Program::default();
    program.inputs.extend([DType::F32, dtype]);
    program.scalars.push(dtype);
    let apply = |op, a, b| Step::Apply { op, dtype, args: [a, b, a] };
    program.steps.push(Step::Cast { from: DType::F32, to: dtype, arg: Reg::Input(0) });
    program.steps.push(apply(Elementwise::mul, Reg::Step(0), Reg::Input(1)));
    program.steps.push(apply(Elementwise::add, Reg::Step(1), Reg::Scalar(0)));
    program.outputs.push(Reg::Step(2));
    Fused { program: Arc::new(program), scalars: [Scalar::Float(0.5)].into_iter().collect() }
}

#[test]
fn a_prologue_runs_inside() {
    for device in devices() {
        for dtype in [DType::F32, DType::F16] {
            let x = Tensor::new(device, DType::F32, &[40, 50], &mixed(DType::F32, 2000, 4));
            let mut y = Tensor::new(device, dtype, &[40, 1], &mixed(dtype, 40, 5));
            y.layout = y.layout.broadcast_to(&[40, 50].into()).unwrap();
            // Products of sixteenths below 16 and their sums with ½ are exact in float32, and nearly so in halves.
            let values: Vec<Number> = elements(&x)
                .iter()
                .zip(elements(&y))
                .map(|(x, y)| {
                    let round = |v: f64| decode(dtype, &encode(dtype, &[Number::Float(v)]))[0].float();
                    Number::Float(round(round(x.float() * y.float()) + 0.5))
                })
                .collect();
            for axes in [&[0][..], &[1], &[0, 1]] {
                let (lists, kept) = groups(&[40, 50], axes, &values);
                let axes = Axes::new(axes);
                for op in [Reduce::Sum, Reduce::Max] {
                    let kernel = Kernel::Reduce { op, axes, map: prologue(dtype) };
                    let got = run_on(device, &kernel, &[&x, &y], &kept, dtype).unwrap().numbers();
                    for (got, list) in got.into_iter().zip(&lists) {
                        let want = reduced(op, dtype, list);
                        assert!(near(op, dtype, list, got, want), "{op:?} {dtype}: {got:?}, not {want:?}");
                    }
                }
            }
        }
    }
}

/// Mean and variance, as kernels give them.
fn moments(device: &Device, axes: &[usize], x: &Tensor) -> [Vec<Number>; 2] {
    let kept: Vec<usize> =
        x.layout.shape.iter().enumerate().map(|(a, &n)| if axes.contains(&a) { 1 } else { n }).collect();
    let shape = Shape::new(&kept);
    let outs = [0, 1].map(|_| device.alloc(shape.count() * x.dtype.size()).unwrap());
    let kernel = Kernel::Moments { axes: Axes::new(axes), map: Fused::identity(x.dtype) };
    let views = [0, 1].map(|i| Out { buffer: &outs[i], shape: &shape, dtype: x.dtype });
    run(&kernel, &[x.view()], &views).unwrap();
    outs.map(|out| decode(x.dtype, &out.download(0..shape.count() * x.dtype.size()).unwrap()))
}

#[test]
fn means_and_variances() {
    for device in devices() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let shapes: [(&[usize], &[usize]); 6] = [
                (&[7, 5], &[1]),
                (&[4, 6, 11, 10], &[0, 2, 3]),
                (&[300, 30], &[0]),
                (&[2, 30_000], &[1]),
                (&[1], &[0]),
                (&[5000, 3], &[0, 1]),
            ];
            for (shape, axes) in shapes {
                for shift in [0.0, 1000.0] {
                    if shift > 0.0 && dtype != DType::F32 {
                        continue;
                    }
                    let numbers: Vec<Number> = mixed(dtype, shape.iter().product(), 6)
                        .iter()
                        .map(|x| Number::Float(x.float() + shift))
                        .collect();
                    let x = Tensor::new(device, dtype, shape, &numbers);
                    let (lists, _) = groups(shape, axes, &numbers);
                    let [means, variances] = moments(device, axes, &x);
                    for (i, list) in lists.iter().enumerate() {
                        let n = list.len() as f64;
                        let mean = list.iter().map(|x| x.float()).sum::<f64>() / n;
                        let variance = list.iter().map(|x| (x.float() - mean).powi(2)).sum::<f64>() / n;
                        let (rounding, of_mean) = match dtype {
                            DType::F32 => (1e-5, 2e-7),
                            DType::F16 => (1e-3, 1e-3),
                            _ => (8e-3, 8e-3),
                        };
                        let (a, b) = (means[i].float(), variances[i].float());
                        assert!(
                            (a - mean).abs() <= of_mean * (mean.abs() + 3.0),
                            "{shape:?} {dtype}: {a}, not {mean}"
                        );
                        assert!(
                            (b - variance).abs() <= rounding * variance + 1e-12,
                            "{shape:?} {dtype}: {b}, not {variance}"
                        );
                    }
                }
            }
        }
        let inf = f32::INFINITY;
        let rows = [[1.0, inf, 2.0], [1.0, f32::NAN, 2.0], [inf, -inf, 1.0], [1e30, 1e30, 1e30]];
        let x = Tensor::new(device, DType::F32, &[4, 3], &floats(rows.as_flattened()));
        let [means, variances] = moments(device, &[1], &x);
        assert_eq!(means[0], Number::Float(f64::INFINITY));
        assert!(means[1].float().is_nan() && means[2].float().is_nan());
        assert!(variances[..3].iter().all(|v| v.float().is_nan()));
        assert_eq!(variances[3], Number::Float(0.0));
        let nothing = Tensor::new(device, DType::F32, &[2, 0], &[]);
        let [means, variances] = moments(device, &[1], &nothing);
        assert!(means.iter().chain(&variances).all(|x| x.float().is_nan()) && means.len() == 2);
    }
}

fn check_arg(device: &Device, largest: bool, axis: usize, x: &Tensor) {
    let shape = x.layout.shape.to_vec();
    let (lists, kept) = groups(&shape, &[axis], &elements(x));
    let got =
        run_on(device, &Kernel::ArgReduce { largest, axis }, &[x], &kept, DType::I64).unwrap().numbers();
    for (i, list) in lists.iter().enumerate() {
        let better = |a: Number, b: Number| {
            let (a, b) = (a.float(), b.float());
            !b.is_nan() && (a.is_nan() || if largest { a > b } else { a < b })
        };
        let best = (0..list.len()).fold(0, |best, i| if better(list[i], list[best]) { i } else { best });
        let layout = &x.layout;
        assert_eq!(
            got[i],
            Number::Int(best as i128),
            "largest {largest} {} {layout:?} along {axis}, element {i}",
            x.dtype
        );
    }
}

#[test]
fn places_of_extremes() {
    for device in devices() {
        for largest in [true, false] {
            for dtype in dtypes() {
                let x = Tensor::new(device, dtype, &[21, 40], &mixed(dtype, 840, 7));
                check_arg(device, largest, 0, &x);
                check_arg(device, largest, 1, &x);
            }
            for x in views(device, DType::F32, &[6, 7, 8], 8) {
                (0..3).for_each(|axis| check_arg(device, largest, axis, &x));
            }
            for shape in [[1, 1], [2, 50_000], [3000, 9], [300, 1030]] {
                let x = Tensor::new(device, DType::F32, &shape, &mixed(DType::F32, shape[0] * shape[1], 9));
                check_arg(device, largest, 0, &x);
                check_arg(device, largest, 1, &x);
            }
            let (inf, nan) = (f32::INFINITY, f32::NAN);
            let rows = [
                [0.0, -0.0, 0.0, -0.0],
                [1.0, nan, nan, inf],
                [-inf, -inf, inf, inf],
                [-0.0, 0.0, -nan, 1.0],
            ];
            check_arg(
                device,
                largest,
                1,
                &Tensor::new(device, DType::F32, &[4, 4], &floats(rows.as_flattened())),
            );
            let wide = [i64::MIN, i64::MAX, 1 << 40, -1].map(|x| Number::Int(x as i128));
            check_arg(device, largest, 0, &Tensor::new(device, DType::I64, &[4], &wide));
        }
        let empty = Tensor::new(device, DType::F32, &[2, 0], &[]);
        let kernel = Kernel::ArgReduce { largest: true, axis: 1 };
        assert!(run_on(device, &kernel, &[&empty], &[2, 1], DType::I64).is_err());
    }
}

#[test]
fn reductions_larger_than_a_binding() {
    let Some(device) = device() else { return };
    // 160 MB.
    let (rows, columns) = (5_000_001, 8);
    let mut x =
        run_on(&device, &Kernel::Fill(Scalar::Float(0.5)), &[], &[rows, columns], DType::F32).unwrap();
    let sum = |axes: &[usize], x: &Tensor, shape: &[usize]| {
        let kernel =
            Kernel::Reduce { op: Reduce::Sum, axes: Axes::new(axes), map: Fused::identity(DType::F32) };
        run_on(&device, &kernel, &[x], shape, DType::F32).unwrap().numbers()
    };
    let all = sum(&[0, 1], &x, &[1, 1])[0].float();
    assert!((all - 20_000_004.0).abs() <= 2.0, "{all}");
    assert!(sum(&[0], &x, &[1, columns]).iter().all(|y| (y.float() - 2_500_000.5).abs() <= 0.5));
    let by_row = sum(&[1], &x, &[rows, 1]);
    assert!(by_row.len() == rows && by_row.iter().all(|y| *y == Number::Float(4.0)));
    // The largest is far behind what one binding holds.
    x.layout = Layout::contiguous([rows * columns].into());
    let place = 39_999_990;
    let seven = Tensor::new(&device, DType::F32, &[1], &floats(&[7.0]));
    seven.buffer.copy_to(0, &x.buffer, 4 * place, 4).unwrap();
    check_place(&device, &x, place);
}

fn check_place(device: &Device, x: &Tensor, place: usize) {
    let got = run_on(device, &Kernel::ArgReduce { largest: true, axis: 0 }, &[x], &[1], DType::I64).unwrap();
    assert_eq!(got.numbers(), [Number::Int(place as i128)]);
}

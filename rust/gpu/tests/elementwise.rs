//! The elementwise table and conversions on every dtype, and how operands may lie.

use super::reference;
use super::*;
use crate::core::Scalar;
use crate::core::dtype::Kind as DKind;
use crate::ir::Class as OpClass;
use crate::ir::Elementwise as E;
use crate::ir::kernel::Scalars;

/// Values at which functions are special, and some between.
fn special() -> Vec<f32> {
    let mut all = vec![f32::NAN];
    for x in [
        0.0,
        1.0,
        0.5,
        2.0,
        0.25,
        0.1,
        0.7,
        0.999,
        1.001,
        1.5,
        3.0,
        2.5,
        10.0,
        88.0,
        89.5,
        104.0,
        1e-3,
        1e-8,
        1e-30,
        1e10,
        1e30,
        16777217.0,
        33000.5,
        50001.0,
        1e6,
        65504.0,
        3.4028235e38,
        f32::INFINITY,
        1.1754944e-38,
    ] {
        all.extend([x, -x]);
    }
    all
}

fn unary_inputs() -> Vec<f32> {
    let mut all = special();
    all.extend(noise(500, 1).iter().map(|x| 10.0 * x));
    all.extend(noise(500, 2));
    all.extend(noise(300, 3).iter().map(|x| 120.0 * x));
    all.extend(noise(300, 4).iter().map(|x| 10f32.powf(35.0 * x)));
    all.extend(noise(300, 5).iter().map(|x| 1.0 + 0.5 * x));
    all.extend(noise(200, 6).iter().map(|x| -(10f32.powf(6.0 * x))));
    all
}

fn binary_inputs() -> (Vec<f32>, Vec<f32>) {
    let (mut a, mut b) = (vec![], vec![]);
    for x in special() {
        for y in special() {
            a.push(x);
            b.push(y);
        }
    }
    for (i, scale) in [1.0, 10.0, 1e3, 1e6].into_iter().enumerate() {
        a.extend(noise(300, 10 + i as u64).iter().map(|x| scale * x));
        b.extend(noise(300, 20 + i as u64).iter().map(|x| 5.0 * x));
        a.extend(noise(200, 30 + i as u64).iter().map(|x| 10f32.powf(20.0 * x)));
        b.extend(noise(200, 40 + i as u64).iter().map(|x| scale * x));
    }
    (a, b)
}

/// How many ulp a result on float32 may be off, and by how much absolutely.
fn tolerance(op: E) -> (f64, f64) {
    match op {
        // Exact.
        E::neg | E::abs | E::sign | E::relu | E::floor | E::ceil | E::trunc | E::round => (0.0, 0.0),
        E::maximum | E::minimum | E::copysign | E::nextafter | E::fmod | E::r#where => (0.0, 0.0),
        E::add | E::sub | E::mul | E::square => (0.5, 0.0),
        // Vulkan allows 2.5 ulp to a division.
        E::div | E::reciprocal | E::floor_divide | E::remainder => (3.0, 0.0),
        E::sqrt | E::rsqrt | E::exp | E::exp2 | E::expm1 | E::log | E::log2 | E::log1p | E::sin | E::cos => {
            (3.0, 0.0)
        }
        // Differences that cancel: the error is relative to their terms.
        E::lgamma | E::digamma => (8.0, 4e-6),
        E::erfc => (12.0, 0.0),
        // The table's form underflows a little early.
        E::silu => (4.0, 1e-36),
        E::gelu | E::gelu_tanh | E::logaddexp | E::xlogy => (8.0, 4e-7),
        _ => (6.0, 0.0),
    }
}

/// The error of `got` in units of the last place of `want`, after the absolute tolerance.
fn ulps(got: f64, want: f64, absolute: f64) -> f64 {
    let rounded = want as f32 as f64;
    if got.is_nan() && want.is_nan() || got == rounded {
        return 0.0;
    }
    // Drivers may flush subnormal results.
    let tiny = f32::MIN_POSITIVE as f64;
    if want.abs() < 1.0001 * tiny && got.abs() < 1.0001 * tiny {
        return 0.0;
    }
    if !got.is_finite() || !rounded.is_finite() {
        return f64::INFINITY;
    }
    let ulp = (rounded.abs().max(tiny) as f32).next_up() as f64 - rounded.abs().max(tiny);
    ((got - want).abs() - absolute).max(0.0) / ulp
}

fn application(op: E, dtype: DType) -> Kernel {
    let args = (0..op.arity() as u8).map(Arg::Input).collect();
    Kernel::Apply { op, dtype, args }
}

#[test]
fn the_table_on_float32() {
    let Some(device) = device() else { return };
    let mut wrong = vec![];
    for &op in E::ALL.iter().filter(|op| op.argument(DType::F32).is_ok_and(|dtype| dtype == DType::F32)) {
        let inputs: Vec<Vec<f32>> = match op.arity() {
            1 => vec![unary_inputs()],
            2 => {
                let (a, b) = binary_inputs();
                vec![a, b]
            }
            _ => {
                let (a, b) = binary_inputs();
                vec![a.iter().map(|&x| (x > 0.5) as u8 as f32).collect(), a, b]
            }
        };
        let count = inputs[0].len();
        let tensors: Vec<Tensor> = inputs
            .iter()
            .enumerate()
            .map(|(i, values)| {
                let dtype = if op == E::r#where && i == 0 { DType::Bool } else { DType::F32 };
                Tensor::new(&device, dtype, &[count], &floats(values))
            })
            .collect();
        let operands: Vec<&Tensor> = tensors.iter().collect();
        let result = op.result(DType::F32);
        let got =
            run_on(&device, &application(op, DType::F32), &operands, &[count], result).unwrap().numbers();
        let (allowed, absolute) = tolerance(op);
        let (mut worst, mut at) = (0.0, 0);
        for i in 0..count {
            let x: Vec<f64> = inputs.iter().map(|values| values[i] as f64).collect();
            let error = ulps(got[i].float(), reference::float(op, &x), absolute);
            if error > worst {
                (worst, at) = (error, i);
            }
        }
        let x: Vec<f32> = inputs.iter().map(|values| values[at]).collect();
        let want = reference::float(op, &x.iter().map(|&x| x as f64).collect::<Vec<_>>());
        eprintln!("{:20} {worst:8.2} ulp at {x:?}", op.name());
        if worst > allowed {
            wrong.push(format!("{}{x:?}: {:?}, not {want}: {worst} ulp", op.name(), got[at]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Integers at the edges of a dtype and around 0.
fn integers(dtype: DType) -> Vec<i128> {
    let bits = 8 * dtype.size() as u32;
    let (low, high) = match dtype.kind() {
        DKind::Bool => (0, 1),
        DKind::Signed => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
        _ => (0, (1i128 << bits) - 1),
    };
    let mut all = vec![low, low + 1, low / 2, low / 3, high / 3, high / 2, high - 1, high];
    all.extend((-9..10).chain([31, 32, 33, 63, 64, 65, 100]));
    all.retain(|x| (low..=high).contains(x));
    all
}

#[test]
fn the_table_on_integers_and_bool() {
    let Some(device) = device() else { return };
    table(&device, DType::ALL.iter().copied().filter(|dtype| !dtype.is_float()));
}

#[test]
fn the_table_on_pairs_of_words() {
    if let [.., least] = devices() {
        assert!(!least.adapter().int64);
        table(least, [DType::I64, DType::U64]);
    }
}

fn table(device: &Device, dtypes: impl IntoIterator<Item = DType>) {
    let mut wrong = vec![];
    for dtype in dtypes {
        let values = integers(dtype);
        let pairs: Vec<(i128, i128)> =
            values.iter().flat_map(|&a| values.iter().map(move |&b| (a, b))).collect();
        let a: Vec<Number> = pairs.iter().map(|p| Number::Int(p.0)).collect();
        let b: Vec<Number> = pairs.iter().map(|p| Number::Int(p.1)).collect();
        let condition: Vec<Number> = (0..a.len()).map(|i| Number::Int((i % 3 == 0) as i128)).collect();
        let tensor = |dtype, numbers: &[Number]| Tensor::new(device, dtype, &[a.len()], numbers);
        let (x, y, c) = (tensor(dtype, &a), tensor(dtype, &b), tensor(DType::Bool, &condition));
        for &op in E::ALL.iter().filter(|op| op.argument(dtype).is_ok_and(|taken| taken == dtype)) {
            let operands: &[&Tensor] = match op.arity() {
                1 => &[&x],
                2 => &[&x, &y],
                _ => &[&c, &x, &y],
            };
            let shape = [a.len()];
            let result = run_on(device, &application(op, dtype), operands, &shape, op.result(dtype));
            let arguments = |i: usize| match op.class() {
                OpClass::Where => vec![i.is_multiple_of(3) as i128, pairs[i].0, pairs[i].1],
                _ => vec![pairs[i].0, pairs[i].1],
            };
            if reference::int(op, dtype, &arguments(0)).is_none() {
                assert!(matches!(result, Err(crate::core::Error::Device(_))), "{} {dtype}", op.name());
                continue;
            }
            let got = result.unwrap().numbers();
            for (i, &got) in got.iter().enumerate() {
                let want = reference::int(op, dtype, &arguments(i)).unwrap();
                let want = reference::wrap(op.result(dtype), want);
                if got != want {
                    wrong.push(format!("{} {dtype} {:?}: {got:?}, not {want:?}", op.name(), arguments(i)));
                    break;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn half_floats_round_after_every_operation() {
    let Some(device) = device() else { return };
    let values = special();
    for dtype in [DType::F16, DType::BF16] {
        let (a, b): (Vec<f32>, Vec<f32>) =
            values.iter().flat_map(|&a| values.iter().map(move |&b| (a, b))).unzip();
        let numbers = |x: &[f32]| decode(dtype, &encode(dtype, &floats(x)));
        let (a, b) = (numbers(&a), numbers(&b));
        let (x, y) =
            (Tensor::new(&device, dtype, &[a.len()], &a), Tensor::new(&device, dtype, &[a.len()], &b));
        for op in [E::add, E::mul, E::maximum] {
            let got =
                run_on(&device, &application(op, dtype), &[&x, &y], &[a.len()], dtype).unwrap().numbers();
            for i in 0..a.len() {
                let (a, b) = (a[i].float() as f32, b[i].float() as f32);
                let sum = match op {
                    E::add => a + b,
                    E::mul => a * b,
                    _ if a.is_nan() || b.is_nan() => f32::NAN,
                    _ => a.max(b),
                };
                let want = decode(dtype, &encode(dtype, &floats(&[sum])))[0];
                // Subnormal float32 in between may be flushed.
                let close = dtype == DType::BF16 && sum.abs() < 2.0 * f32::MIN_POSITIVE;
                assert!(
                    got[i].same(want) || close,
                    "{} {dtype} {a} {b}: {:?}, not {want:?}",
                    op.name(),
                    got[i]
                );
            }
        }
    }
}

#[test]
fn casts_between_all_dtypes() {
    let Some(device) = device() else { return };
    casts(&device, true);
    // Those of pairs of words.
    casts(devices().last().unwrap(), false);
}

fn casts(device: &Device, all_of_them: bool) {
    let all = || DType::ALL.iter().copied().filter(|&dtype| dtype != DType::F64);
    for from in all() {
        let values: Vec<Number> = match from.is_float() {
            true => special()
                .into_iter()
                .chain([127.5, 128.0, -129.0, 255.9, 4.3e9, 1e19, 2e19, -1e19])
                .map(|x| Number::Float(x as f64))
                .collect(),
            false => integers(from).into_iter().map(Number::Int).collect(),
        };
        let values = decode(from, &encode(from, &values));
        let x = Tensor::new(device, from, &[values.len()], &values);
        for to in all().filter(|to| all_of_them || from.size() == 8 || to.size() == 8) {
            let got = run_on(device, &Kernel::Cast, &[&x], &[values.len()], to).unwrap().numbers();
            for (value, got) in values.iter().zip(got) {
                let bits = 8 * to.size() as u32;
                let want = match (*value, to.kind()) {
                    (value, DKind::Bool) => Number::Int((value.float() != 0.0) as i128),
                    (value, DKind::Float) => {
                        decode(to, &encode(to, &[Number::Float(value.float() as f32 as f64)]))[0]
                    }
                    (Number::Float(x), DKind::Signed) => {
                        Number::Int((x as i128).clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1))
                    }
                    (Number::Float(x), _) => Number::Int((x as i128).clamp(0, (1 << bits) - 1)),
                    (Number::Int(x), _) => reference::wrap(to, x),
                };
                let flushed = want.float().abs() <= f32::MIN_POSITIVE as f64 && got.float() == 0.0;
                assert!(got.same(want) || flushed, "{from} {value:?} to {to}: {got:?}, not {want:?}");
            }
        }
    }
}

/// A fused chain with two outputs, a scalar and a cast: `y = (a + b) · s` and `z = y > c`.
fn chain(dtype: DType) -> Fused {
    let mut program = Program::default();
    program.inputs.extend([dtype, dtype, dtype]);
    program.scalars.push(dtype);
    program.steps.push(Step::Apply {
        op: E::add,
        dtype,
        args: [Reg::Input(0), Reg::Input(1), Reg::Input(0)],
    });
    program.steps.push(Step::Apply {
        op: E::mul,
        dtype,
        args: [Reg::Step(0), Reg::Scalar(0), Reg::Input(0)],
    });
    program.steps.push(Step::Apply { op: E::gt, dtype, args: [Reg::Step(1), Reg::Input(2), Reg::Input(0)] });
    program.outputs.extend([Reg::Step(1), Reg::Step(2)]);
    Fused { program: Arc::new(program), scalars: Scalars::from_iter([Scalar::Int(3)]) }
}

#[test]
fn operands_may_lie_anywhere() {
    let Some(device) = device() else { return };
    let base = Layout::contiguous([4, 6, 5].into());
    let row = Layout::contiguous([5].into());
    let shape = Shape::new(&[4, 6, 5]);
    let shifted = Layout { offset: 3, ..base.clone() };
    let views = [
        base.clone(),
        shifted,
        Layout { offset: 8, ..base.clone() },
        Layout::contiguous([6, 5, 4].into()).permute(&[2, 0, 1]),
        Layout::contiguous([8, 6, 5].into()).slice(0, 1, 4, 2),
        base.slice(1, 5, 6, -1),
        Layout::contiguous([4, 6, 9].into()).slice(2, 8, 5, -2),
        row.broadcast_to(&shape).unwrap(),
        Layout::contiguous([6, 1].into()).broadcast_to(&shape).unwrap(),
        Layout { offset: 7, ..Layout::contiguous([].into()) }.broadcast_to(&shape).unwrap(),
    ];
    let mut dtypes = vec![DType::F32, DType::I32, DType::U8, DType::I8, DType::F16, DType::BF16, DType::I16];
    dtypes.push(DType::I64);
    for dtype in dtypes {
        let values: Vec<Number> = (0..300).map(|i| Number::Int(i * 7 % 41)).collect();
        let values = decode(dtype, &encode(dtype, &values));
        for (i, a) in views.iter().enumerate() {
            let (b, c) = (&views[(i + 3) % views.len()], &views[(i * 7 + 1) % views.len()]);
            let tensors: Vec<Tensor> = [a, b, c]
                .iter()
                .map(|&layout| Tensor {
                    layout: layout.clone(),
                    ..Tensor::new(&device, dtype, &[300], &values)
                })
                .collect();
            let inputs: Vec<View<'_>> = tensors.iter().map(Tensor::view).collect();
            let y = Tensor::new(&device, dtype, &[120], &values[..120]);
            let z = Tensor::new(&device, DType::Bool, &[120], &values[..120]);
            let outs = [
                Out { buffer: &y.buffer, shape: &shape, dtype },
                Out { buffer: &z.buffer, shape: &shape, dtype: DType::Bool },
            ];
            run(&Kernel::Pointwise(chain(dtype)), &inputs, &outs).unwrap();
            let (y, z) = (y.numbers(), z.numbers());
            let at = [a, b, c].map(places);
            for j in 0..120 {
                let [a, b, c] = [0, 1, 2].map(|k| values[at[k][j]].float());
                let want = 3.0 * (a + b);
                let wrapped =
                    if dtype.is_float() { Number::Float(want) } else { reference::wrap(dtype, want as i128) };
                assert_eq!(y[j].float(), wrapped.float(), "{dtype} view {i} element {j}");
                assert_eq!(z[j], Number::Int((wrapped.float() > c) as i128), "{dtype} view {i} element {j}");
            }
        }
    }
}

#[test]
fn the_next_half_float() {
    let Some(device) = device() else { return };
    // a, b, and the next after a in float16 and in bfloat16
    let cases = [
        (1.0, 2.0, 1.0 + 2f64.powi(-10), 1.0 + 2f64.powi(-7)),
        (1.0, 0.0, 1.0 - 2f64.powi(-11), 1.0 - 2f64.powi(-8)),
        (-1.0, -2.0, -1.0 - 2f64.powi(-10), -1.0 - 2f64.powi(-7)),
        (-1.0, 0.0, -1.0 + 2f64.powi(-11), -1.0 + 2f64.powi(-8)),
        (f64::INFINITY, 0.0, 65504.0, 255.0 * 2f64.powi(120)),
        (3.0, 3.0, 3.0, 3.0),
        (f64::NAN, 1.0, f64::NAN, f64::NAN),
        (1.0, f64::NAN, f64::NAN, f64::NAN),
    ];
    for dtype in [DType::F16, DType::BF16] {
        let column = |f: &dyn Fn(usize) -> f64| {
            let numbers: Vec<Number> = (0..cases.len()).map(|i| Number::Float(f(i))).collect();
            Tensor::new(&device, dtype, &[cases.len()], &numbers)
        };
        let (a, b) = (column(&|i| cases[i].0), column(&|i| cases[i].1));
        let got =
            run_on(&device, &application(E::nextafter, dtype), &[&a, &b], &[cases.len()], dtype).unwrap();
        for (case, got) in cases.iter().zip(got.numbers()) {
            let (got, want) = (got.float(), if dtype == DType::F16 { case.2 } else { case.3 });
            assert!(got == want || got.is_nan() && want.is_nan(), "{dtype} {case:?}: {got}");
        }
    }
}

#[test]
fn shapes_of_every_size_and_rank() {
    let Some(device) = device() else { return };
    for count in [0, 1, 2, 3, 4, 5, 7, 1023, 1024, 1025, 4097] {
        for dtype in [DType::F32, DType::Bool, DType::U16] {
            let values: Vec<Number> = (0..count).map(|i| Number::Int((i % 2) as i128)).collect();
            let x = Tensor::new(&device, dtype, &[count], &values);
            let got = run_on(&device, &application(E::eq, dtype), &[&x, &x], &[count], DType::Bool)
                .unwrap()
                .numbers();
            assert_eq!(got, vec![Number::Int(1); count]);
        }
    }
    // Thirteen axes that nothing merges need more parameters than go with a command.
    let shape = [2; 13];
    let layout = Layout::contiguous(Shape::new(&shape));
    let reversed: Vec<usize> = (0..13).rev().collect();
    let values: Vec<Number> = (0..layout.count()).map(|i| Number::Int(i as i128)).collect();
    let mut x = Tensor::new(&device, DType::I32, &shape, &values);
    x.layout = layout.permute(&reversed);
    let got = run_on(&device, &Kernel::Copy, &[&x], &shape, DType::I32).unwrap().numbers();
    let want: Vec<Number> = places(&x.layout).into_iter().map(|at| values[at]).collect();
    assert_eq!(got, want);
}

#[test]
fn results_may_take_the_place_of_an_operand() {
    let Some(device) = device() else { return };
    let values = noise(5000, 9);
    let x = Tensor::new(&device, DType::F32, &[5000], &floats(&values));
    let shape = x.layout.shape.clone();
    let out = Out { buffer: &x.buffer, shape: &shape, dtype: DType::F32 };
    for _ in 0..3 {
        run(&application(E::add, DType::F32), &[x.view(), x.view()], &[out]).unwrap();
    }
    let want: Vec<Number> = values.iter().map(|&x| Number::Float(8.0 * x as f64)).collect();
    assert_eq!(x.numbers(), want);
}

#[test]
fn what_the_device_lacks_is_an_error_that_names_it() {
    let Some(device) = device() else { return };
    let x = Tensor { dtype: DType::F64, ..Tensor::new(&device, DType::F32, &[4], &floats(&[0.0; 4])) };
    let error =
        run_on(&device, &application(E::exp, DType::F64), &[&x], &[2], DType::F64).err().unwrap().to_string();
    for part in ["exp", "float64", device.adapter().name.as_str()] {
        assert!(error.contains(part), "{error}");
    }
}

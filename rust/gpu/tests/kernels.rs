//! Matrix products, sequences, random numbers, and what is not there yet.

use super::*;
use crate::core::{Scalar, rng};
use crate::ir::conv::{Conv2d, Pool2d};
use crate::ir::kernel::{Axes, Cell, Distribution, Reduce, Scan, Scatter};

/// The product of strided matrices in float64, and the same of their absolute values, which bounds the
/// rounding error.
pub(super) fn product(a: &Tensor, b: &Tensor) -> (Vec<f64>, Vec<f64>) {
    let (x, y) = (all(a), all(b));
    let (pa, pb) = (places(&a.layout), places(&b.layout));
    let rank = a.layout.rank();
    let (m, k, n) = (a.layout.shape[rank - 2], a.layout.shape[rank - 1], b.layout.shape[rank - 1]);
    let batches: usize = a.layout.shape[..rank - 2].iter().product();
    let (mut sums, mut sizes) = (vec![], vec![]);
    for at in 0..batches * m * n {
        let (batch, row, column) = (at / (m * n), at / n % m, at % n);
        let (mut sum, mut size) = (0.0, 0.0);
        for i in 0..k {
            let term = x[pa[(batch * m + row) * k + i]] * y[pb[(batch * k + i) * n + column]];
            sum += term;
            size += term.abs();
        }
        sums.push(sum);
        sizes.push(size);
    }
    (sums, sizes)
}

/// Everything in a tensor's buffer.
pub(super) fn all(t: &Tensor) -> Vec<f64> {
    decode(t.dtype, &download(&t.buffer).unwrap()).into_iter().map(Number::float).collect()
}

pub(super) fn matrix(device: &Device, dtype: DType, shape: &[usize], transposed: bool, seed: u64) -> Tensor {
    let rank = shape.len();
    let mut stored = shape.to_vec();
    if transposed {
        stored.swap(rank - 2, rank - 1);
    }
    let count = stored.iter().product();
    let numbers: Vec<Number> = match dtype.is_float() {
        true => floats(&noise(count, seed)),
        false => noise(count, seed).iter().map(|x| Number::Int((60.0 + 50.0 * x) as i128)).collect(),
    };
    let mut tensor = Tensor::new(device, dtype, &stored, &numbers);
    if transposed {
        let mut axes: Vec<usize> = (0..rank).collect();
        axes.swap(rank - 2, rank - 1);
        tensor.layout = tensor.layout.permute(&axes);
    }
    tensor
}

fn check_product(device: &Device, a: &Tensor, b: &Tensor, dtype: DType) {
    check_product_as(None, device, a, b, dtype);
}

/// The same by a kernel of the test's choice.
pub(super) fn check_product_as(
    choice: Option<crate::gpu::matmul::choice::Choice>,
    device: &Device,
    a: &Tensor,
    b: &Tensor,
    dtype: DType,
) {
    let rank = a.layout.rank();
    let mut shape = a.layout.shape.to_vec();
    shape[rank - 1] = b.layout.shape[rank - 1];
    let layout = Layout::contiguous(Shape::new(&shape));
    let buffer = device.alloc(layout.count() * dtype.size()).unwrap();
    let out = Out { buffer: &buffer, shape: &layout.shape, dtype };
    crate::gpu::matmul::run_as(choice, None, &[a.view(), b.view()], &out).unwrap();
    let got = Tensor { buffer, layout, dtype }.numbers();
    let (want, size) = product(a, b);
    let rounding = match dtype {
        DType::F16 => 1e-3,
        DType::BF16 => 8e-3,
        _ => 1e-6,
    };
    for i in 0..want.len() {
        let near = match dtype.is_float() {
            true => (got[i].float() - want[i]).abs() <= rounding * size[i] + 1e-12,
            false => got[i] == super::reference::wrap(dtype, want[i] as i128),
        };
        assert!(
            near,
            "{} @ {} {dtype} {choice:?}, element {i}: {:?}, not {}",
            a.layout.shape, b.layout.shape, got[i], want[i]
        );
    }
}

#[test]
fn products_of_all_shapes_and_transposes() {
    let Some(device) = device() else { return };
    let sizes = [
        (1, 1, 1),
        (1, 7, 1),
        (3, 0, 2),
        (5, 4, 3),
        (16, 16, 16),
        (17, 33, 19),
        (64, 64, 64),
        (65, 63, 67),
        (128, 96, 80),
        (1, 100, 200),
        (200, 100, 1),
        (130, 5, 70),
    ];
    for (m, k, n) in sizes {
        for transposes in 0..4 {
            let a = matrix(&device, DType::F32, &[m, k], transposes & 1 == 1, 1);
            let b = matrix(&device, DType::F32, &[k, n], transposes & 2 == 2, 2);
            check_product(&device, &a, &b, DType::F32);
        }
    }
}

#[test]
fn products_of_batches_and_views() {
    let Some(device) = device() else { return };
    for (m, k, n) in [(20, 17, 24), (3, 9, 5)] {
        let a = matrix(&device, DType::F32, &[6, m, k], false, 3);
        let b = matrix(&device, DType::F32, &[6, k, n], true, 4);
        check_product(&device, &a, &b, DType::F32);
        // One matrix for the whole batch.
        let mut shared = matrix(&device, DType::F32, &[k, n], false, 5);
        shared.layout = shared.layout.broadcast_to(&[6, k, n].into()).unwrap();
        check_product(&device, &a, &shared, DType::F32);
        // (batch, time, head, width) as (batch, head, time, width): two axes that do not merge; then three.
        let heads = |seed, rows, columns| {
            let mut t = matrix(&device, DType::F32, &[2, rows, 3, columns], false, seed);
            t.layout = t.layout.permute(&[0, 2, 1, 3]);
            t
        };
        check_product(&device, &heads(6, m, k), &heads(7, k, n), DType::F32);
        let many = |seed, rows, columns| {
            let mut t = matrix(&device, DType::F32, &[3, 2, rows, 2, columns], false, seed);
            t.layout = t.layout.permute(&[1, 3, 0, 2, 4]);
            t
        };
        check_product(&device, &many(8, m, k), &many(9, k, n), DType::F32);
        // Every second row, backwards, from an odd place.
        let mut sparse = matrix(&device, DType::F32, &[2 * m + 1, k], false, 10);
        sparse.layout = sparse.layout.slice(0, 2 * m - 1, m, -2);
        check_product(&device, &sparse, &matrix(&device, DType::F32, &[k, n], false, 11), DType::F32);
    }
}

#[test]
fn products_of_other_dtypes() {
    let Some(device) = device() else { return };
    let least = devices().last().map(|device| (device, DType::U64));
    let dtypes = [DType::F16, DType::BF16, DType::I8, DType::U16, DType::I32, DType::U32, DType::I64];
    for (device, dtype) in dtypes.map(|dtype| (&device, dtype)).into_iter().chain(least) {
        for (m, k, n) in [(33, 20, 35), (4, 11, 3)] {
            let a = matrix(device, dtype, &[m, k], false, 12);
            let b = matrix(device, dtype, &[k, n], true, 13);
            check_product(device, &a, &b, dtype);
        }
    }
}

#[test]
fn products_larger_than_a_binding() {
    let Some(device) = device() else { return };
    // 160 MB of rows times a narrow matrix.
    let (m, k, n) = (5_000_001, 8, 2);
    let a = run_on(&device, &Kernel::Fill(Scalar::Float(0.5)), &[], &[m, k], DType::F32).unwrap();
    let b = matrix(&device, DType::F32, &[k, n], false, 1);
    let got = run_on(&device, &Kernel::Matmul { epilogue: None }, &[&a, &b], &[m, n], DType::F32).unwrap();
    let weights = all(&b);
    let want: Vec<f64> = (0..n).map(|j| (0..k).map(|i| 0.5 * weights[i * n + j]).sum()).collect();
    for (at, got) in all(&got).into_iter().enumerate() {
        assert!((got - want[at % n]).abs() < 1e-5, "element {at}");
    }
}

#[test]
fn the_epilogue_follows_the_product() {
    let Some(device) = device() else { return };
    for dtype in [DType::F32, DType::F16] {
        let (a, b) =
            (matrix(&device, dtype, &[20, 30], false, 1), matrix(&device, dtype, &[30, 40], false, 2));
        let mut bias = matrix(&device, dtype, &[1, 40], false, 3);
        bias.layout = bias.layout.broadcast_to(&[20, 40].into()).unwrap();
        let mut program = Program::default();
        program.inputs.extend([dtype, dtype]);
        program.steps.push(Step::Apply {
            op: Elementwise::add,
            dtype,
            args: [Reg::Input(0), Reg::Input(1), Reg::Input(0)],
        });
        program.steps.push(Step::Apply { op: Elementwise::relu, dtype, args: [Reg::Step(0); 3] });
        program.outputs.push(Reg::Step(1));
        let epilogue = Some(Fused { program: Arc::new(program), scalars: Default::default() });
        let got = run_on(&device, &Kernel::Matmul { epilogue }, &[&a, &b, &bias], &[20, 40], dtype)
            .unwrap()
            .numbers();
        let ((sums, sizes), bias) = (product(&a, &b), all(&bias));
        for i in 0..800 {
            let want = (sums[i] + bias[i % 40]).max(0.0);
            let rounding = if dtype == DType::F16 { 2e-3 } else { 1e-6 };
            assert!((got[i].float() - want).abs() <= rounding * (sizes[i] + 1.0), "{dtype} element {i}");
        }
    }
}

/// `relu(0.5 · product + in1 + in2)` of float32.
fn residual() -> Fused {
    let mut program = Program::default();
    program.inputs.extend([DType::F32; 3]);
    program.scalars.push(DType::F32);
    let apply = |op, a, b| Step::Apply { op, dtype: DType::F32, args: [a, b, a] };
    program.steps.push(apply(Elementwise::mul, Reg::Input(0), Reg::Scalar(0)));
    program.steps.push(apply(Elementwise::add, Reg::Step(0), Reg::Input(1)));
    program.steps.push(apply(Elementwise::add, Reg::Step(1), Reg::Input(2)));
    program.steps.push(apply(Elementwise::relu, Reg::Step(2), Reg::Step(2)));
    program.outputs.push(Reg::Step(3));
    Fused { program: Arc::new(program), scalars: [Scalar::Float(0.5)].into_iter().collect() }
}

#[test]
fn the_epilogues_operands_lie_anywhere() {
    for device in devices() {
        for (m, k, n) in [(70, 17, 66), (20, 0, 24), (3, 9, 5)] {
            let mut a = matrix(device, DType::F32, &[3, 2, m, 2, k], false, 1);
            a.layout = a.layout.permute(&[1, 3, 0, 2, 4]);
            let b = matrix(device, DType::F32, &[2, 2, 3, k, n], true, 2);
            let mut bias = matrix(device, DType::F32, &[1, n], false, 3);
            bias.layout = bias.layout.broadcast_to(&[2, 2, 3, m, n].into()).unwrap();
            let mut other = matrix(device, DType::F32, &[3, n, 2, m, 2], false, 4);
            other.layout = other.layout.permute(&[2, 4, 0, 3, 1]);
            let kernel = Kernel::Matmul { epilogue: Some(residual()) };
            let got =
                run_on(device, &kernel, &[&a, &b, &bias, &other], &[2, 2, 3, m, n], DType::F32).unwrap();
            let ((sums, sizes), row, rest) = (product(&a, &b), all(&bias), all(&other));
            let of_rest = places(&other.layout);
            for (i, got) in got.numbers().into_iter().enumerate() {
                let want = (0.5 * sums[i] + row[i % n] + rest[of_rest[i]]).max(0.0);
                assert!((got.float() - want).abs() <= 1e-6 * (sizes[i] + 1.0), "{m} {k} {n} element {i}");
            }
        }
    }
    let Some(device) = device() else { return };
    // Rows in two halves.
    let (m, k, n) = (5_000_001, 8, 2);
    let a = run_on(&device, &Kernel::Fill(Scalar::Float(0.5)), &[], &[m, k], DType::F32).unwrap();
    let b = matrix(&device, DType::F32, &[k, n], false, 1);
    let x = run_on(&device, &Kernel::Fill(Scalar::Float(3.0)), &[], &[m, n], DType::F32).unwrap();
    let mut row = matrix(&device, DType::F32, &[1, n], false, 2);
    let weights = (all(&b), all(&row));
    row.layout = row.layout.broadcast_to(&[m, n].into()).unwrap();
    let kernel = Kernel::Matmul { epilogue: Some(residual()) };
    let got = run_on(&device, &kernel, &[&a, &b, &x, &row], &[m, n], DType::F32).unwrap();
    for (at, got) in all(&got).into_iter().enumerate() {
        let sum: f64 = (0..k).map(|i| 0.5 * weights.0[i * n + at % n]).sum();
        assert!((got - (0.5 * sum + 3.0 + weights.1[at % n]).max(0.0)).abs() < 1e-5, "element {at}");
    }
}

#[test]
fn sequences() {
    devices().iter().for_each(sequences_of);
}

fn sequences_of(device: &Device) {
    let arange = |start, step, count, dtype| {
        run_on(device, &Kernel::Arange { start, step }, &[], &[count], dtype).unwrap().numbers()
    };
    for (start, step) in [(0, 1), (-5, 3), (1 << 30, 1 << 20), (100, -7), (16_777_217, 1)] {
        for dtype in [DType::I32, DType::U8, DType::I16, DType::F32, DType::I64] {
            let got = arange(Scalar::Int(start), Scalar::Int(step), 5001, dtype);
            for (i, got) in got.into_iter().enumerate() {
                let value = start as i128 + step as i128 * i as i128;
                let want = match dtype {
                    DType::F32 => Number::Float(value as f32 as f64),
                    _ => super::reference::wrap(dtype, value),
                };
                assert_eq!(got, want, "{start} {step} {dtype} element {i}");
            }
        }
    }
    for (start, step) in [(0.0, 0.1), (-3.25, 1e-3), (1e6, -0.37), (0.1, 1e-9)] {
        let got = arange(Scalar::Float(start), Scalar::Float(step), 100_000, DType::F32);
        for (i, got) in got.into_iter().enumerate() {
            let want = start + step * i as f64;
            let bound =
                0.5001 * ((want.abs() as f32).next_up() - want.abs() as f32) as f64 + 1e-13 * start.abs();
            assert!((got.float() - want).abs() <= bound, "{start} {step} element {i}: {got:?}, not {want}");
        }
        for (i, got) in
            arange(Scalar::Float(start), Scalar::Float(step), 1000, DType::I32).into_iter().enumerate()
        {
            assert_eq!(got, Number::Int((start + step * i as f64) as i128), "{start} {step} element {i}");
        }
    }
}

#[test]
fn random_numbers_are_the_cpus() {
    let Some(device) = device() else { return };
    let word = |key, position: u64| rng::block(key, position / 4)[position as usize % 4];
    for (key, offset) in [(0, 0), (7, 1), (u64::MAX - 5, 2), (3 << 40, 3), (1, (1 << 34) - 3), (1, 1 << 40)] {
        let draw = |distribution, count, dtype| {
            run_on(&device, &Kernel::Random { distribution, key, offset }, &[], &[count], dtype)
                .unwrap()
                .numbers()
        };
        for (i, got) in draw(Distribution::Uniform, 1001, DType::F32).into_iter().enumerate() {
            let want = rng::uniform_f32(word(key, offset + i as u64));
            assert_eq!(got, Number::Float(want as f64), "key {key} offset {offset} element {i}");
        }
        for (i, got) in draw(Distribution::Normal, 1001, DType::F32).into_iter().enumerate() {
            let position = offset + i as u64;
            let pair = position / 2;
            let (even, odd) = rng::normal_pair(word(key, 2 * pair), word(key, 2 * pair + 1));
            let want = if position.is_multiple_of(2) { even } else { odd };
            assert!(
                (got.float() - want).abs() < 2e-6,
                "key {key} offset {offset} element {i}: {got:?}, not {want}"
            );
        }
        for dtype in [DType::Bool, DType::U8, DType::I16, DType::U32] {
            for (i, got) in draw(Distribution::Bits, 1001, dtype).into_iter().enumerate() {
                let word = word(key, offset + i as u64);
                let word = if dtype == DType::Bool { word & 1 } else { word };
                assert_eq!(got, super::reference::wrap(dtype, word as i128), "{dtype}");
            }
        }
        // 64 bits take two words, the first of them high.
        let pair = |i: usize| {
            let place = (offset + i as u64).wrapping_mul(2);
            (word(key, place) as u64) << 32 | word(key, place + 1) as u64
        };
        for dtype in [DType::I32, DType::U8, DType::I64] {
            for (low, span) in [(0, 1), (-5, 10), (0, 1 << 31), (7, 3 << 40), (i64::MIN, u64::MAX)] {
                for (i, got) in draw(Distribution::Integer { low, span }, 501, dtype).into_iter().enumerate()
                {
                    let want = low as i128 + ((pair(i) as u128 * span as u128) >> 64) as i128;
                    assert_eq!(got, super::reference::wrap(dtype, want), "{dtype} {low} {span} element {i}");
                }
            }
            if dtype == DType::I64 {
                for (i, got) in draw(Distribution::Bits, 101, dtype).into_iter().enumerate() {
                    assert_eq!(got, super::reference::wrap(dtype, pair(i) as i128));
                }
            }
        }
        for (dtype, mask) in [(DType::F16, 0xffff_e000), (DType::BF16, 0xffff_0000)] {
            for (i, got) in draw(Distribution::Uniform, 1001, dtype).into_iter().enumerate() {
                let want = f32::from_bits(rng::uniform_f32(word(key, offset + i as u64)).to_bits() & mask);
                assert_eq!(got, Number::Float(want as f64), "{dtype}");
            }
        }
    }
}

/// One kernel of every kind.
fn samples() -> Vec<Kernel> {
    let map = || Fused::identity(DType::F32);
    let conv = Conv2d { stride: [1; 2], padding: [0; 2], dilation: [1; 2], groups: 1 };
    let pool = Pool2d {
        kernel: [1; 2],
        stride: [1; 2],
        padding: [0; 2],
        dilation: [1; 2],
        ceil_mode: false,
        count_include_pad: true,
    };
    let axes = Axes::new(&[0]);
    let window = Layout::contiguous([1].into());
    let mut all = vec![
        Kernel::Cast,
        Kernel::Copy,
        Kernel::Pointwise(map()),
        Kernel::Fill(Scalar::Int(1)),
        Kernel::Arange { start: Scalar::Int(0), step: Scalar::Int(1) },
        Kernel::Random { distribution: Distribution::Uniform, key: 0, offset: 0 },
        Kernel::Matmul { epilogue: None },
        Kernel::Moments { axes, map: map() },
        Kernel::Normalize { centred: true, eps: 0.0, weight: false, bias: false },
        Kernel::NormalizeInput { centred: true, weight: false, bias: false },
        Kernel::Sort { descending: false },
        Kernel::SearchSorted { right: false },
        Kernel::Conv { conv, epilogue: None },
        Kernel::ConvInput { conv },
        Kernel::ConvWeight { conv },
        Kernel::MaxPool { pool },
        Kernel::MaxPoolInput { pool: Some(pool) },
        Kernel::AvgPool { pool },
        Kernel::AvgPoolInput { pool },
        Kernel::AdaptiveAvgPool,
        Kernel::AdaptiveAvgPoolInput,
        Kernel::AdaptiveMaxPool,
        Kernel::Attention { causal: false, scale: 1.0 },
        Kernel::AttentionInput { causal: false, scale: 1.0 },
        Kernel::Recurrent { cell: Cell::Lstm, reverse: false },
        Kernel::RecurrentInput { cell: Cell::Lstm, reverse: false },
        Kernel::Take { axis: 0 },
        Kernel::TakeInput { axis: 0 },
        Kernel::Gather { axis: 0 },
        Kernel::Scatter { axis: 0, mode: Scatter::Set },
        Kernel::Assign { window, mode: Scatter::Set },
        Kernel::Concat { axis: 0 },
    ];
    use Reduce::*;
    all.extend([Sum, Prod, Max, Min, Any, All, LogSumExp].map(|op| Kernel::Reduce { op, axes, map: map() }));
    all.extend([Scan::Sum, Scan::Prod, Scan::Max, Scan::Min].map(|op| Kernel::Scan { op, axis: 0 }));
    all.extend([true, false].map(|largest| Kernel::ArgReduce { largest, axis: 0 }));
    all.extend([true, false].map(|log| Kernel::Softmax { log, map: map() }));
    all
}

/// Every kernel has its arm: it runs, or says what is wrong with these operands.
#[test]
fn all_kernels_are_known() {
    let Some(device) = device() else { return };
    // Its own: the operands make bad indices.
    let device = Device::create(device::place_of(&device).unwrap(), "", false).unwrap();
    for kernel in samples() {
        let x = Tensor::new(&device, DType::F32, &[1; 4], &floats(&[1.0]));
        if let Err(error) = run_on(&device, &kernel, &[&x, &x, &x], &[1; 4], DType::F32) {
            assert!(error.to_string().contains(kernel.name()), "{}: {error}", kernel.name());
        }
    }
}

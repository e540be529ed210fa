//! Convolutions and their gradients by their definition in float64.

use super::index::{devices, list, turned};
use super::*;
use crate::ir::conv::Conv2d;

fn random(device: &Device, dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    Tensor::new(device, dtype, shape, &floats(&noise(shape.iter().product(), seed)))
}

/// Calls `f(place in x, place in w, place in y)` for every product that goes to y.
fn terms(conv: &Conv2d, x: &[usize], w: &[usize], y: &[usize], mut f: impl FnMut(usize, usize, usize)) {
    let of_group = w[0] / conv.groups;
    for o in 0..y.iter().product() {
        let at = super::index::multi(y, o);
        for t in 0..w[1..].iter().product() {
            let tap = super::index::multi(&w[1..], t);
            let place = |axis: usize| {
                let padded = at[axis + 2] * conv.stride[axis] + tap[axis + 1] * conv.dilation[axis];
                padded.checked_sub(conv.padding[axis]).filter(|&place| place < x[axis + 2])
            };
            if let (Some(row), Some(column)) = (place(0), place(1)) {
                let channel = at[1] / of_group * w[1] + tap[0];
                let from = super::index::offset(x, &[at[0], channel, row, column]);
                f(from, at[1] * w[1..].iter().product::<usize>() + t, o);
            }
        }
    }
}

fn near(got: &Tensor, want: &[f64], size: &[f64], dtype: DType, what: &dyn std::fmt::Debug) {
    let rounding = match dtype {
        DType::F16 => 1e-3,
        DType::BF16 => 8e-3,
        _ => 2e-6,
    };
    for (i, got) in got.numbers().into_iter().enumerate() {
        let near = (got.float() - want[i]).abs() <= rounding * size[i] + 1e-12;
        assert!(near, "{what:?} {dtype}: element {i} is {got:?}, not {}", want[i]);
    }
}

pub(super) fn check(device: &Device, conv: Conv2d, x: [usize; 4], w: [usize; 4], dtype: DType) {
    let y = conv.output("conv", &x.into(), &w.into()).unwrap();
    let (of_x, of_w) = (turned(random(device, dtype, &x, 1)), turned(random(device, dtype, &w, 2)));
    let of_dy = turned(random(device, dtype, &y, 3));
    let [a, b, g] =
        [&of_x, &of_w, &of_dy].map(|t| list(t).into_iter().map(Number::float).collect::<Vec<f64>>());
    let zeros = |shape: &[usize]| [vec![0.0; shape.iter().product()], vec![0.0; shape.iter().product()]];
    let (mut forward, mut input, mut weight) = (zeros(&y), zeros(&x), zeros(&w));
    terms(&conv, &x, &w, &y, |i, j, o| {
        for (sums, place, product) in
            [(&mut forward, o, a[i] * b[j]), (&mut input, i, g[o] * b[j]), (&mut weight, j, a[i] * g[o])]
        {
            sums[0][place] += product;
            sums[1][place] += product.abs();
        }
    });
    let what = (conv, x, w);
    let run = |kernel: Kernel, operands: [&Tensor; 2], shape: &[usize]| {
        run_on(device, &kernel, &operands, shape, dtype).unwrap()
    };
    let got = run(Kernel::Conv { conv, epilogue: None }, [&of_x, &of_w], &y);
    near(&got, &forward[0], &forward[1], dtype, &("conv", what));
    let got = run(Kernel::ConvInput { conv }, [&of_dy, &of_w], &x);
    near(&got, &input[0], &input[1], dtype, &("conv_input", what));
    let got = run(Kernel::ConvWeight { conv }, [&of_x, &of_dy], &w);
    near(&got, &weight[0], &weight[1], dtype, &("conv_weight", what));
}

#[test]
fn every_geometry() {
    let conv = |stride, padding, dilation, groups| Conv2d { stride, padding, dilation, groups };
    for device in devices() {
        for (c, x, w) in [
            (conv([1, 1], [0, 0], [1, 1], 1), [1, 1, 1, 1], [1, 1, 1, 1]),
            (conv([1, 1], [1, 1], [1, 1], 1), [2, 3, 7, 9], [5, 3, 3, 3]),
            (conv([2, 3], [2, 1], [1, 2], 1), [3, 4, 11, 10], [20, 4, 3, 2]),
            // Tiles of the large kernel, whole and in part.
            (conv([1, 1], [1, 1], [1, 1], 1), [2, 17, 9, 8], [70, 17, 3, 3]),
            (conv([2, 2], [3, 3], [1, 1], 1), [2, 16, 16, 15], [64, 16, 7, 7]),
            (conv([1, 1], [0, 0], [1, 1], 1), [3, 40, 5, 5], [33, 40, 1, 1]),
            (conv([2, 2], [0, 0], [3, 3], 2), [2, 40, 13, 13], [36, 20, 3, 3]),
            // Few channels, and depthwise with and without a multiplier.
            (conv([1, 2], [1, 0], [1, 1], 3), [2, 6, 5, 8], [9, 2, 3, 1]),
            (conv([1, 1], [1, 1], [1, 1], 8), [3, 8, 10, 10], [8, 1, 3, 3]),
            (conv([2, 1], [2, 2], [2, 1], 5), [1, 5, 9, 7], [10, 1, 5, 3]),
            // One axis.
            (conv([1, 2], [0, 1], [1, 2], 1), [4, 3, 1, 50], [6, 3, 1, 3]),
            // Rows and columns that no window reaches.
            (conv([4, 4], [0, 0], [1, 1], 1), [2, 2, 10, 11], [3, 2, 2, 2]),
            (conv([1, 1], [0, 0], [1, 1], 1), [0, 2, 4, 4], [3, 2, 2, 2]),
        ] {
            check(&device, c, x, w, DType::F32);
        }
        for dtype in [DType::F16, DType::BF16] {
            check(&device, conv([1, 1], [1, 1], [1, 1], 1), [2, 17, 6, 6], [18, 17, 3, 3], dtype);
            check(&device, conv([2, 1], [1, 1], [1, 1], 4), [2, 4, 6, 5], [4, 1, 3, 3], dtype);
        }
    }
}

#[test]
fn sums_in_parts_are_the_same_every_time() {
    let Some(device) = device() else { return };
    let conv = Conv2d { stride: [1; 2], padding: [1; 2], dilation: [1; 2], groups: 1 };
    for (x, w) in [([8, 16, 32, 32], [16, 16, 3, 3]), ([8, 3, 32, 32], [4, 3, 3, 3])] {
        check(&device, conv, x, w, DType::F32);
        let (of_x, of_dy) =
            (random(&device, DType::F32, &x, 1), random(&device, DType::F32, &[8, w[0], 32, 32], 2));
        let dw = || {
            run_on(&device, &Kernel::ConvWeight { conv }, &[&of_x, &of_dy], &w, DType::F32).unwrap().numbers()
        };
        assert_eq!(dw(), dw());
    }
}

#[test]
fn the_epilogue_follows_the_convolution() {
    let Some(device) = device() else { return };
    let conv = Conv2d { stride: [1; 2], padding: [1; 2], dilation: [1; 2], groups: 1 };
    for dtype in [DType::F32, DType::F16] {
        let (x, w) = (random(&device, dtype, &[2, 3, 6, 6], 1), random(&device, dtype, &[4, 3, 3, 3], 2));
        let mut bias = random(&device, dtype, &[4, 1, 1], 3);
        bias.layout = bias.layout.broadcast_to(&[2, 4, 6, 6].into()).unwrap();
        let mut program = Program::default();
        program.inputs.extend([dtype, dtype]);
        let args = [Reg::Input(0), Reg::Input(1), Reg::Input(0)];
        program.steps.push(Step::Apply { op: Elementwise::add, dtype, args });
        program.outputs.push(Reg::Step(0));
        let epilogue = Some(Fused { program: Arc::new(program), scalars: Default::default() });
        let shape = [2, 4, 6, 6];
        let plain =
            run_on(&device, &Kernel::Conv { conv, epilogue: None }, &[&x, &w], &shape, dtype).unwrap();
        let got = run_on(&device, &Kernel::Conv { conv, epilogue }, &[&x, &w, &bias], &shape, dtype).unwrap();
        let rounding = if dtype == DType::F16 { 4e-3 } else { 1e-6 };
        for ((got, plain), bias) in got.numbers().into_iter().zip(plain.numbers()).zip(list(&bias)) {
            assert!((got.float() - plain.float() - bias.float()).abs() <= rounding, "{dtype}");
        }
    }
}

#[test]
fn images_larger_than_a_binding() {
    let Some(device) = device() else { return };
    // 151 MB of images, which each dispatch takes a part of.
    let x = [36, 1, 1024, 1024];
    let conv = Conv2d { stride: [4; 2], padding: [0; 2], dilation: [1; 2], groups: 1 };
    let of_x = run_on(&device, &Kernel::Fill(crate::core::Scalar::Float(0.5)), &[], &x, DType::F32).unwrap();
    let w = random(&device, DType::F32, &[1, 1, 2, 2], 1);
    let y = [36, 1, 256, 256];
    let got = run_on(&device, &Kernel::Conv { conv, epilogue: None }, &[&of_x, &w], &y, DType::F32).unwrap();
    let want: f64 = list(&w).into_iter().map(|w| 0.5 * w.float()).sum();
    assert!(got.numbers().into_iter().all(|y| (y.float() - want).abs() < 1e-6));
    let ones = run_on(&device, &Kernel::Fill(crate::core::Scalar::Float(1.0)), &[], &y, DType::F32).unwrap();
    let dw =
        run_on(&device, &Kernel::ConvWeight { conv }, &[&of_x, &ones], &[1, 1, 2, 2], DType::F32).unwrap();
    assert_eq!(dw.numbers(), [Number::Float(36.0 * 65536.0 * 0.5); 4]);
    let dx = run_on(&device, &Kernel::ConvInput { conv }, &[&ones, &w], &x, DType::F32).unwrap();
    let total: f64 = dx.numbers().into_iter().map(Number::float).sum();
    assert!((total - 2.0 * want * 36.0 * 65536.0).abs() < 1.0, "{total}");
}

#[test]
fn a_plane_larger_than_a_binding_says_so() {
    let Some(device) = narrow() else { return };
    let (x, y, w) = ([1, 1, 600, 600], [1, 8, 598, 598], [8, 1, 3, 3]);
    let conv = Conv2d { stride: [1; 2], padding: [0; 2], dilation: [1; 2], groups: 1 };
    let ones = |shape: &[usize]| {
        run_on(&device, &Kernel::Fill(crate::core::Scalar::Float(1.0)), &[], shape, DType::F32).unwrap()
    };
    let (of_x, of_w, of_y) = (ones(&x), ones(&w), ones(&y));
    for (kernel, operands, shape) in [
        (Kernel::Conv { conv, epilogue: None }, [&of_x, &of_w], &y),
        (Kernel::ConvInput { conv }, [&of_y, &of_w], &x),
        (Kernel::ConvWeight { conv }, [&of_x, &of_y], &w),
    ] {
        let error = run_on(&device, &kernel, &operands, shape, DType::F32).err().unwrap().to_string();
        assert!(error.contains("an image of") && error.contains("does not fit"), "{error}");
    }
    assert_eq!(ones(&[3]).numbers(), [Number::Float(1.0); 3]);
}

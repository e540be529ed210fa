//! The ladder of products: every kernel, however operands lie, whole and in parts, with its endings; against
//! sums in float64.

use super::kernels::{all, check_product_as, matrix, product};
use super::*;
use crate::gpu::cooperative::Matrices;
use crate::gpu::matmul::choice::{Choice, Rung, TILES, Tile};
use crate::ir::conv::Conv2d;

fn rungs(m: usize, n: usize) -> Vec<Rung> {
    let mut rungs: Vec<Rung> = TILES.into_iter().map(Rung::Tile).collect();
    rungs.extend((m.min(n) <= 4).then_some(Rung::Thin));
    rungs
}

#[test]
fn every_rung_however_operands_lie() {
    let Some(device) = device() else { return };
    for (m, k, n) in
        [(132, 40, 136), (67, 33, 130), (1, 300, 77), (3, 68, 40), (36, 260, 4), (130, 1, 2), (5, 0, 7)]
    {
        for transposes in 0..4 {
            let a = matrix(&device, DType::F32, &[m, k], transposes & 1 == 1, 1);
            let b = matrix(&device, DType::F32, &[k, n], transposes & 2 == 2, 2);
            for rung in rungs(m, n) {
                for parts in [1, 3] {
                    check_product_as(Some(Choice { rung, parts }), &device, &a, &b, DType::F32);
                }
            }
        }
    }
}

#[test]
fn every_rung_on_batches_and_other_dtypes() {
    let Some(device) = device() else { return };
    for dtype in [DType::F16, DType::BF16, DType::I8, DType::I32, DType::U16, DType::I64, DType::U64] {
        for (m, k, n) in [(40, 36, 44), (33, 35, 39), (2, 50, 9)] {
            let one = dtype.size() == 8;
            for rung in if one { vec![Rung::One] } else { rungs(m, n) } {
                for parts in if one { 1..2 } else { 1..3 } {
                    let a = matrix(&device, dtype, &[2, m, k], false, 3);
                    let b = matrix(&device, dtype, &[2, k, n], true, 4);
                    check_product_as(Some(Choice { rung, parts }), &device, &a, &b, dtype);
                }
            }
        }
    }
}

#[test]
fn endings_of_every_dtype_and_rung() {
    let Some(device) = device() else { return };
    // The product plus a bias for each row, compared or cast.
    for out in [DType::F32, DType::F16, DType::BF16, DType::Bool, DType::I8, DType::I32] {
        for (m, k, n) in [(34, 40, 36), (34, 40, 33), (2, 40, 36)] {
            let (a, b) = (
                matrix(&device, DType::F16, &[m, k], false, 1),
                matrix(&device, DType::F16, &[k, n], true, 2),
            );
            let mut bias = matrix(&device, DType::F16, &[m, 1], false, 3);
            bias.layout = bias.layout.broadcast_to(&[m, n].into()).unwrap();
            let mut program = Program::default();
            program.inputs.extend([DType::F16, DType::F16]);
            let args = [Reg::Input(0), Reg::Input(1), Reg::Input(0)];
            program.steps.push(Step::Apply { op: Elementwise::add, dtype: DType::F16, args });
            if out != DType::F16 {
                program.steps.push(Step::Cast { from: DType::F16, to: out, arg: Reg::Step(0) });
            }
            program.outputs.push(Reg::Step(program.steps.len() as u16 - 1));
            let epilogue = Fused { program: Arc::new(program), scalars: Default::default() };
            let ((sums, sizes), bias_of) = (product(&a, &b), all(&bias));
            for rung in rungs(m, n) {
                for parts in [1, 2] {
                    let layout = Layout::contiguous([m, n].into());
                    let buffer = device.alloc(layout.count() * out.size()).unwrap();
                    let to = Out { buffer: &buffer, shape: &layout.shape, dtype: out };
                    let views = [a.view(), b.view(), bias.view()];
                    let forced = Some(Choice { rung, parts });
                    crate::gpu::matmul::run_as(forced, Some(&epilogue), &views, &to).unwrap();
                    let got = Tensor { buffer, layout, dtype: out }.numbers();
                    for i in 0..m * n {
                        let want = sums[i] + bias_of[i / n];
                        let got = got[i].float();
                        let near = match out {
                            DType::Bool => got == f64::from(u8::from(want != 0.0)) || want.abs() < 1e-3,
                            DType::I8 | DType::I32 => {
                                got == want.trunc()
                                    || (want - want.round()).abs() < 1e-2 && (got - want).abs() < 1.01
                            }
                            DType::BF16 => (got - want).abs() <= 8e-3 * (sizes[i] + 1.0),
                            _ => (got - want).abs() <= 2e-3 * (sizes[i] + 1.0),
                        };
                        assert!(near, "{out} {rung:?} {parts}: element {i} is {got}, not {want}");
                    }
                }
            }
        }
    }
}

#[test]
fn infinities_stay_in_their_rows_and_sums_in_parts_repeat() {
    let Some(device) = device() else { return };
    let (m, k, n) = (4, 70, 6);
    let mut numbers = floats(&noise(m * k, 1));
    // Behind the end of row 0's last four lies this.
    numbers[k] = Number::Float(f64::INFINITY);
    let a = Tensor::new(&device, DType::F32, &[m, k], &numbers);
    let b = matrix(&device, DType::F32, &[k, n], false, 2);
    for rung in rungs(m, n) {
        let mut last = None;
        for _ in 0..2 {
            let layout = Layout::contiguous([m, n].into());
            let buffer = device.alloc(4 * m * n).unwrap();
            let out = Out { buffer: &buffer, shape: &layout.shape, dtype: DType::F32 };
            crate::gpu::matmul::run_as(Some(Choice { rung, parts: 4 }), None, &[a.view(), b.view()], &out)
                .unwrap();
            let bytes = download(&buffer).unwrap();
            let got = decode(DType::F32, &bytes);
            for (i, x) in got.iter().enumerate() {
                assert_eq!(x.float().is_finite(), i / n != 1, "{rung:?} element {i}: {x:?}");
            }
            assert!(last.replace(bytes.clone()).is_none_or(|last| last == bytes));
        }
    }
}

/// Mesa has cooperative matrices in software from its version 26 on; see docs/devices.md.
#[test]
fn tiles_of_cooperative_matrices() {
    let Some(full) = device() else { return };
    let at = device::place_of(&full).unwrap();
    let device = Device::create(at, "", true).unwrap();
    let Some(matrices) = device.shared().cooperative else {
        assert_eq!(adapters().unwrap()[at].adapter.cooperative, 0, "their trial has failed");
        eprintln!("skipped: {} has no cooperative matrices", device.adapter());
        return;
    };
    let (none, masked) = (Device::create(at, "", false), Device::create(at, "float16", true));
    assert!([none, masked].into_iter().all(|device| device.unwrap().shared().cooperative.is_none()));
    for (m, k, n) in [(132, 40, 136), (67, 33, 130), (260, 100, 300), (5, 0, 7)] {
        for transposes in 0..4 {
            let a = matrix(&device, DType::F16, &[m, k], transposes & 1 == 1, 1);
            let b = matrix(&device, DType::F16, &[k, n], transposes & 2 == 2, 2);
            // As many patches as subgroups, more and fewer.
            for patches in [matrices.patches, 2 * matrices.patches, matrices.patches / 2] {
                let rung = Rung::Tile(Tile::of_matrices(Matrices { patches, ..matrices }));
                for parts in [1, 3] {
                    check_product_as(Some(Choice { rung, parts }), &device, &a, &b, DType::F16);
                }
            }
        }
    }
    // Without a choice of the test's: products, and convolutions with their gradients.
    let [a, b] = [1, 2].map(|seed| matrix(&device, DType::F16, &[2, 128, 128], false, seed));
    check_product_as(None, &device, &a, &b, DType::F16);
    let conv = Conv2d { stride: [1; 2], padding: [1; 2], dilation: [1; 2], groups: 1 };
    super::conv::check(&device, conv, [1, 12, 12, 12], [128, 12, 3, 3], DType::F16);
    let used = |shader: &str| device.shared().pipelines.names().contains(&shader);
    assert!(
        ["matmul", "conv", "conv_weight"].map(|shader| used(&format!("{shader}_cooperative"))) == [true; 3]
    );
}

//! Programs of several steps, operands of every layout, in-place outputs, threads.

use super::{Array, empty, outs, run, single};
use crate::core::{DType, Layout, Scalar, Shape};
use crate::cpu::isa::{self, Isa};
use crate::cpu::pointwise::{Evaluator, Segment, pointwise, pointwise_range, pointwise_segments};
use crate::cpu::threads::set_num_threads;
use crate::cpu::{Out, View};
use crate::ir::kernel::Fused;
use crate::ir::{Elementwise as E, Program, Reg, Step};
use std::sync::Arc;

fn ramp(dtype: DType, len: usize) -> Array {
    Array::of(dtype, &(0..len).map(|i| ((i * 7919) % 1009) as f64 / 64.0 - 7.0).collect::<Vec<_>>())
}

fn apply(op: E, dtype: DType, args: &[Reg]) -> Step {
    let mut all = [args[0]; 3];
    all[..args.len()].copy_from_slice(args);
    Step::Apply { op, dtype, args: all }
}

/// Two inputs, two scalars, two outputs, of which the first is read again later.
fn chain(dtype: DType) -> Program {
    let (a, b, s) = (Reg::Input(0), Reg::Input(1), Reg::Step);
    Program {
        inputs: [dtype, dtype].into_iter().collect(),
        scalars: [dtype, dtype].into_iter().collect(),
        steps: vec![
            apply(E::mul, dtype, &[a, Reg::Scalar(0)]),
            apply(E::add, dtype, &[s(0), b]),
            apply(E::tanh, dtype, &[s(1)]),
            apply(E::sub, dtype, &[a, s(2)]),
            apply(E::gt, dtype, &[s(3), Reg::Scalar(1)]),
            apply(E::r#where, dtype, &[s(4), s(1), b]),
            Step::Cast { from: dtype, to: DType::F32, arg: s(5) },
            apply(E::mul, DType::F32, &[s(6), s(6)]),
        ],
        outputs: [s(1), s(7)].into_iter().collect(),
    }
}

const SCALARS: [Scalar; 2] = [Scalar::Float(1.37), Scalar::Float(0.25)];

/// Every step as a program of its own.
fn step_by_step(
    program: &Program,
    scalars: &[Scalar],
    inputs: &[&Array],
    shape: &Shape,
    isa: Isa,
) -> Vec<Array> {
    let mut steps: Vec<Array> = vec![];
    for &step in &program.steps {
        let mut one = Program::default();
        let mut args = vec![];
        for &arg in step.args() {
            let array = match arg {
                Reg::Input(i) => inputs[i as usize].packed(),
                Reg::Step(i) => steps[i as usize].clone(),
                Reg::Scalar(i) => {
                    let value = Array::of(program.scalars[i as usize], &[scalars[i as usize].as_f64()]);
                    value.with(Layout::contiguous([1].into()).broadcast_to(shape).unwrap()).packed()
                }
            };
            one.inputs.push(array.dtype);
            args.push(array);
        }
        let regs: Vec<Reg> = (0..args.len()).map(|i| Reg::Input(i as u16)).collect();
        one.steps.push(match step {
            Step::Apply { op, dtype, .. } => apply(op, dtype, &regs),
            Step::Cast { from, to, .. } => Step::Cast { from, to, arg: Reg::Input(0) },
        });
        one.outputs.push(Reg::Step(0));
        let args: Vec<&Array> = args.iter().collect();
        steps.push(run(&one, &[], &args, shape, isa).remove(0));
    }
    program
        .outputs
        .iter()
        .map(|&reg| match reg {
            Reg::Step(i) => steps[i as usize].clone(),
            Reg::Input(i) => inputs[i as usize].packed(),
            Reg::Scalar(_) => unreachable!(),
        })
        .collect()
}

#[test]
fn fused_is_unfused_bit_for_bit() {
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
        let program = chain(dtype);
        for len in [1, 15, 16, 1023, 1024, 1025, 5000] {
            let (a, b) = (ramp(dtype, len), ramp(dtype, len));
            let shape = Shape::new(&[len]);
            for isa in Isa::supported() {
                let fused = run(&program, &SCALARS, &[&a, &b], &shape, isa);
                assert_eq!(
                    fused,
                    step_by_step(&program, &SCALARS, &[&a, &b], &shape, isa),
                    "{dtype} {len} {isa:?}"
                );
            }
        }
    }
}

/// Views of the shape (6, 5, 70) of all kinds.
fn layouts() -> Vec<Layout> {
    let shape = Shape::from([6, 5, 70]);
    let base = Layout::contiguous([12, 10, 140].into());
    let small = |sizes: [usize; 3]| Layout::contiguous(sizes.into()).broadcast_to(&shape).unwrap();
    vec![
        Layout::contiguous(shape.clone()),
        base.slice(0, 1, 6, 2).slice(1, 3, 5, 1).slice(2, 7, 70, 1),
        base.slice(0, 11, 6, -2).slice(1, 9, 5, -1).slice(2, 139, 70, -2),
        Layout::contiguous([70, 6, 5].into()).permute(&[1, 2, 0]),
        Layout::contiguous([5, 6, 70].into()).permute(&[1, 0, 2]),
        small([1, 1, 70]),
        small([6, 1, 1]),
        small([6, 5, 1]),
        small([1, 5, 1]),
        small([1, 5, 70]),
        small([1, 1, 1]),
    ]
}

#[test]
fn layouts_do_not_matter() {
    let shape = Shape::from([6, 5, 70]);
    for dtype in [DType::F32, DType::F16, DType::I64, DType::U8] {
        let memory = ramp(dtype, 12 * 10 * 140);
        for left in layouts() {
            for right in layouts() {
                let (a, b) = (memory.clone().with(left.clone()), memory.clone().with(right));
                let (pa, pb) = (a.packed(), b.packed());
                for op in [E::sub, E::lt] {
                    let program = single(op, dtype);
                    let strided = run(&program, &[], &[&a, &b], &shape, isa::get());
                    assert_eq!(
                        strided,
                        run(&program, &[], &[&pa, &pb], &shape, isa::get()),
                        "{:?}",
                        (dtype, left.clone(), b.layout)
                    );
                }
            }
        }
    }
}

#[test]
fn long_rows_and_whole_chunks() {
    // Rows longer than a block, and several chunks, through the parallel entry.
    let shape = Shape::from([37, 2500]);
    let (a, b) = (ramp(DType::F32, 37 * 2500), ramp(DType::F32, 37 * 5000));
    let row = ramp(DType::F32, 2500).with(Layout::contiguous([1, 2500].into()).broadcast_to(&shape).unwrap());
    let wide = b.with(Layout::contiguous([37, 5000].into()).slice(1, 30, 2500, 1));
    let program = chain(DType::F32);
    let map = Fused { program: Arc::new(program.clone()), scalars: SCALARS.into_iter().collect() };
    let across = ramp(DType::F32, 2500 * 37).with(Layout::contiguous([2500, 37].into()).permute(&[1, 0]));
    for other in [&row, &wide, &across, &a] {
        let want = step_by_step(&program, &SCALARS, &[&a, other], &shape, isa::get());
        for threads in [1, 2, 4] {
            set_num_threads(threads);
            let mut got = empty(&program, &shape);
            let outs = outs(&mut got, &shape);
            pointwise(&map, &[a.view(), other.view()], &outs).unwrap();
            assert_eq!(got, want, "{threads} threads");
        }
    }
}

#[test]
fn one_operation_takes_the_short_way() {
    for len in [1, 64, 100_003] {
        let shape = Shape::new(&[len]);
        let (a, b) = (ramp(DType::F32, len), ramp(DType::F32, len));
        let mut program = single(E::sub, DType::F32);
        for scalar in [false, true] {
            if scalar {
                program.inputs.truncate(1);
                program.scalars.push(DType::F32);
                program.steps[0] = apply(E::sub, DType::F32, &[Reg::Scalar(0), Reg::Input(0)]);
            }
            let scalars = &SCALARS[..scalar as usize];
            let inputs = if scalar { vec![&a] } else { vec![&a, &b] };
            let want = run(&program, scalars, &inputs, &shape, isa::get());
            for threads in [1, 4] {
                set_num_threads(threads);
                let mut got = empty(&program, &shape);
                let outs = outs(&mut got, &shape);
                let views: Vec<View> = inputs.iter().map(|a| a.view()).collect();
                let map =
                    Fused { program: Arc::new(program.clone()), scalars: scalars.iter().copied().collect() };
                pointwise(&map, &views, &outs).unwrap();
                assert_eq!(got, want);
            }
        }
    }
}

#[test]
fn outputs_may_lie_over_operands() {
    let len = 3000;
    let shape = Shape::new(&[len]);
    for dtype in [DType::F32, DType::F16] {
        let program = chain(dtype);
        let map = Fused { program: Arc::new(program.clone()), scalars: SCALARS.into_iter().collect() };
        let (a, b) = (ramp(dtype, len), ramp(dtype, len));
        let want = run(&program, &SCALARS, &[&a, &b], &shape, isa::get());
        for over in 0..2 {
            // Output 0, which later steps do not wait for, over operand 0 or 1.
            let mut inputs = [a.clone(), b.clone()];
            let mut second = empty(&program, &shape).remove(1);
            let ptr = inputs[over].bytes.as_mut_ptr();
            let outs = [
                Out { ptr, shape: &shape, dtype },
                Out { ptr: second.bytes.as_mut_ptr(), shape: &shape, dtype: DType::F32 },
            ];
            pointwise(&map, &[inputs[0].view(), inputs[1].view()], &outs).unwrap();
            assert_eq!((&inputs[over].bytes, &second), (&want[0].bytes, &want[1]), "{dtype} over {over}");

            // The same without knowing the outputs beforehand.
            let inputs = [a.clone(), b.clone()];
            let views = [inputs[0].view(), inputs[1].view()];
            let outs = [Out { ptr: views[over].ptr.cast_mut(), ..outs[0] }, outs[1]];
            let evaluator = Evaluator::new(&map, &views, &shape).unwrap();
            let mut scratch = evaluator.scratch().unwrap();
            pointwise_range(&evaluator, &mut scratch, &outs, 0, 1500);
            pointwise_range(&evaluator, &mut scratch, &outs, 1500, len - 1500);
            assert_eq!((&inputs[over].bytes, &second), (&want[0].bytes, &want[1]), "{dtype} over {over}");
        }
    }
}

#[test]
fn values_come_block_by_block() {
    let shape = Shape::from([30, 100]);
    let a = ramp(DType::F32, 3000);
    let row = ramp(DType::F32, 100).with(Layout::contiguous([1, 100].into()).broadcast_to(&shape).unwrap());
    let program = chain(DType::F32);
    let want = run(&program, &SCALARS, &[&a, &row], &shape, isa::get());
    let map = Fused { program: Arc::new(program), scalars: SCALARS.into_iter().collect() };
    let views = [a.view(), row.view()];
    let evaluator = Evaluator::new(&map, &views, &shape).unwrap();
    let mut scratch = evaluator.scratch().unwrap();
    for (start, len) in [(0, 1024), (1, 7), (99, 2), (2990, 10), (500, 1000)] {
        let values = evaluator.values(&mut scratch, start, len).cast::<f32>();
        for i in 0..len {
            // SAFETY: `len` values were asked for.
            assert_eq!(unsafe { *values.add(i) } as f64, want[0].get(start + i));
        }
    }

    let identity = Fused::identity(DType::F32);
    let evaluator = Evaluator::new(&identity, &views[..1], &shape).unwrap();
    let values = evaluator.values(&mut evaluator.scratch().unwrap(), 5, 10);
    assert_eq!(values, a.bytes[20..].as_ptr(), "row-major operands are not copied");
}

#[test]
fn outputs_that_are_inputs_or_scalars() {
    let shape = Shape::new(&[2000]);
    let a = ramp(DType::F32, 2000);
    let program = Program {
        inputs: [DType::F32].into_iter().collect(),
        scalars: [DType::F32].into_iter().collect(),
        steps: vec![
            apply(E::neg, DType::F32, &[Reg::Input(0)]),
            apply(E::exp, DType::F32, &[Reg::Scalar(0)]),
        ],
        outputs: [Reg::Input(0), Reg::Step(0), Reg::Step(0), Reg::Scalar(0), Reg::Step(1)]
            .into_iter()
            .collect(),
    };
    let got = run(&program, &SCALARS[..1], &[&a], &shape, isa::get());
    assert_eq!(got[0], a);
    assert_eq!(got[1], got[2]);
    for i in 0..2000 {
        assert_eq!((got[1].get(i), got[3].get(i)), (-a.get(i), 1.37f32 as f64));
        assert!((got[4].get(i) - 1.37f64.exp()).abs() < 1e-6);
    }
}

#[test]
fn segments_are_runs_of_one_program() {
    let program = Arc::new(chain(DType::F32));
    let sizes = [1, 40_000, 0, 7, 100_000, 64];
    let arrays: Vec<Array> = sizes.iter().map(|&n| ramp(DType::F32, n)).collect();
    let shapes: Vec<Shape> = sizes.iter().map(|&n| Shape::new(&[n])).collect();
    for threads in [1, 2, 4] {
        set_num_threads(threads);
        let mut got: Vec<Vec<Array>> = shapes.iter().map(|shape| empty(&program, shape)).collect();
        let views: Vec<[View; 2]> = arrays.iter().map(|a| [a.view(), a.view()]).collect();
        let outputs: Vec<Vec<Out>> = got.iter_mut().zip(&shapes).map(|(o, shape)| outs(o, shape)).collect();
        let scalars: Vec<[Scalar; 2]> = (0..6).map(|i| [Scalar::Float(i as f64), SCALARS[1]]).collect();
        let segments: Vec<Segment> = (0..6)
            .map(|i| Segment { scalars: &scalars[i], inputs: &views[i], outputs: &outputs[i] })
            .collect();
        pointwise_segments(&program, &segments).unwrap();
        for i in 0..6 {
            let want = run(&program, &scalars[i], &[&arrays[i], &arrays[i]], &shapes[i], isa::get());
            assert_eq!(got[i], want, "segment {i}, {threads} threads");
        }
    }
}

#[test]
fn empty_and_zero_dimensional() {
    let map = Fused { program: Arc::new(single(E::add, DType::F32)), scalars: Default::default() };
    let empty_shape = Shape::from([3, 0]);
    let nothing = Array::of(DType::F32, &[]).with(Layout::contiguous(empty_shape.clone()));
    let out = Out { ptr: std::ptr::null_mut(), shape: &empty_shape, dtype: DType::F32 };
    pointwise(&map, &[nothing.view(), nothing.view()], &[out]).unwrap();

    let one = Array::of(DType::F32, &[1.5]).with(Layout::contiguous([].into()));
    let mut y = [0f32];
    let out = Out { ptr: y.as_mut_ptr().cast(), shape: &Shape::from([]), dtype: DType::F32 };
    pointwise(&map, &[one.view(), one.view()], &[out]).unwrap();
    assert_eq!(y, [3.0]);
}

#[test]
fn dtypes_that_an_operation_does_not_take_are_errors() {
    let map = |op, dtype| Fused { program: Arc::new(single(op, dtype)), scalars: Default::default() };
    let (a, shape) = (ramp(DType::Bool, 4), Shape::from([4]));
    let views = [a.view(), a.view()];
    assert!(Evaluator::new(&map(E::add, DType::Bool), &views, &shape).is_err());
    assert!(Evaluator::new(&map(E::bitwise_and, DType::F32), &views, &shape).is_err());
    assert!(Evaluator::new(&map(E::exp, DType::I32), &views[..1], &shape).is_err());
    assert!(Evaluator::new(&map(E::add, DType::F32), &views[..1], &shape).is_err(), "an operand is missing");
}

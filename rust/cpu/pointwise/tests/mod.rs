//! Tests of the elementwise kernels: every operation on every dtype it takes (`ops`), conversions (`casts`), programs,
//! layouts, threads (`programs`).

mod casts;
mod ops;
mod programs;

use super::Evaluator;
use crate::core::{DType, Layout, Scalar, Shape};
use crate::cpu::isa::Isa;
use crate::cpu::lanes::f16_to_f32;
use crate::cpu::{Out, View};
use crate::ir::{Elementwise, Program, Reg, Step};
use std::sync::Arc;

/// An array of any dtype.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub bytes: Vec<u8>,
    pub dtype: DType,
    pub layout: Layout,
}

impl Array {
    /// Converts each number as a cast from float64 does.
    pub fn of(dtype: DType, values: &[f64]) -> Array {
        let mut bytes = vec![];
        for &x in values {
            let bits = super::scalar_bits(Scalar::Float(x), dtype);
            bytes.extend_from_slice(&bits.to_le_bytes()[..dtype.size()]);
        }
        Array { bytes, dtype, layout: Layout::contiguous([values.len()].into()) }
    }

    pub fn bits(&self, i: usize) -> u64 {
        let size = self.dtype.size();
        let mut bits = [0; 8];
        bits[..size].copy_from_slice(&self.bytes[i * size..(i + 1) * size]);
        u64::from_le_bytes(bits)
    }

    /// The element at place `i` of memory, exact but for 64-bit integers.
    pub fn get(&self, i: usize) -> f64 {
        let bits = self.bits(i);
        match self.dtype {
            DType::Bool | DType::U8 | DType::U16 | DType::U32 | DType::U64 => bits as f64,
            DType::I8 => bits as i8 as f64,
            DType::I16 => bits as i16 as f64,
            DType::I32 => bits as i32 as f64,
            DType::I64 => bits as i64 as f64,
            DType::F16 => f16_to_f32(bits as u16) as f64,
            DType::BF16 => f32::from_bits((bits as u32) << 16) as f64,
            DType::F32 => f32::from_bits(bits as u32) as f64,
            DType::F64 => f64::from_bits(bits),
        }
    }

    /// An integer or bool.
    pub fn int(&self, i: usize) -> i128 {
        let bits = self.bits(i);
        match self.dtype {
            DType::I8 => bits as i8 as i128,
            DType::I16 => bits as i16 as i128,
            DType::I32 => bits as i32 as i128,
            DType::I64 => bits as i64 as i128,
            _ => bits as i128,
        }
    }

    pub fn view(&self) -> View<'_> {
        View { ptr: self.bytes.as_ptr(), layout: &self.layout, dtype: self.dtype }
    }

    pub fn with(mut self, layout: Layout) -> Array {
        self.layout = layout;
        self
    }

    /// The elements of the layout in row-major order, one by one.
    pub fn packed(&self) -> Array {
        let size = self.dtype.size();
        let mut bytes = vec![];
        for i in 0..self.layout.count() {
            let (mut rest, mut at) = (i, self.layout.offset as isize);
            for axis in (0..self.layout.rank()).rev() {
                at += (rest % self.layout.shape[axis]) as isize * self.layout.strides[axis];
                rest /= self.layout.shape[axis];
            }
            bytes.extend_from_slice(&self.bytes[at as usize * size..(at as usize + 1) * size]);
        }
        Array { bytes, dtype: self.dtype, layout: Layout::contiguous(self.layout.shape.clone()) }
    }
}

/// A program of one operation on tensors.
pub fn single(op: Elementwise, dtype: DType) -> Program {
    let mut program = Program::default();
    let mut args = [Reg::Input(0); 3];
    for (i, arg) in args.iter_mut().enumerate().take(op.arity()) {
        *arg = Reg::Input(i as u16);
        program.inputs.push(if op == Elementwise::r#where && i == 0 { DType::Bool } else { dtype });
    }
    program.steps.push(Step::Apply { op, dtype, args });
    program.outputs.push(Reg::Step(0));
    program
}

pub fn cast(from: DType, to: DType) -> Program {
    let mut program = Program::identity(from);
    program.steps.push(Step::Cast { from, to, arg: Reg::Input(0) });
    program.outputs[0] = Reg::Step(0);
    program
}

/// The outputs of a program, on one thread with the instructions of `isa`.
pub fn run(program: &Program, scalars: &[Scalar], inputs: &[&Array], shape: &Shape, isa: Isa) -> Vec<Array> {
    let mut outputs = empty(program, shape);
    let views: Vec<View> = inputs.iter().map(|a| a.view()).collect();
    let outs = outs(&mut outputs, shape);
    let program = &Arc::new(program.clone());
    let evaluator = Evaluator::bind(program, scalars, &views, shape.count(), Some(&outs), isa).unwrap();
    evaluator.write(&mut evaluator.scratch().unwrap(), &outs, 0, shape.count());
    outputs
}

pub fn empty(program: &Program, shape: &Shape) -> Vec<Array> {
    let array = |&reg: &Reg| {
        let dtype = program.dtype(reg);
        Array {
            bytes: vec![0xaa; shape.count() * dtype.size()],
            dtype,
            layout: Layout::contiguous(shape.clone()),
        }
    };
    program.outputs.iter().map(array).collect()
}

pub fn outs<'a>(arrays: &mut [Array], shape: &'a Shape) -> Vec<Out<'a>> {
    arrays.iter_mut().map(|a| Out { ptr: a.bytes.as_mut_ptr(), shape, dtype: a.dtype }).collect()
}

//! A traced function: elementwise operations that were recorded once on stand-ins, and are asked for again as one
//! node. What costs a node an operation, fourteen of them for Adam's step, costs one in all.

use super::device::{Buffer, Device};
use super::node::{Operands, Spec, Specs};
use super::plan::{ScalarRef, Task, plan};
use super::run::{claim, describe};
use super::tensor::Tensor;
use crate::core::{DType, Result, Scalar, Shape};
use crate::ir::kernel::{Arg, Fused, Kernel};
use crate::ir::{Program, Reg, Step};
use smallvec::SmallVec;
use std::sync::Arc;

/// Where a scalar parameter of the program comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    /// The n-th number of the call.
    Given(usize),
    Constant(Scalar),
}

/// A program and what of a call it takes.
#[derive(Debug)]
pub struct Trace {
    program: Arc<Program>,
    /// Which tensor of the call each operand is.
    inputs: SmallVec<[usize; 6]>,
    numbers: SmallVec<[Number; 8]>,
    outputs: SmallVec<[DType; 4]>,
}

/// A tensor of two elements that has run, to be traced in the place of another.
pub fn stand_in(dtype: DType) -> Result<Tensor> {
    let buffer = Buffer::alloc(Device::Cpu, 2 * dtype.size())?;
    Ok(Tensor::from_buffer(Device::Cpu, Shape::new(&[2]), dtype, buffer))
}

impl Trace {
    /// What makes `outputs` of `inputs`, which are stand-ins, and of `numbers`, which differ from each other and
    /// from all that the function itself could mean. `None` where that is not one chain.
    pub fn new(outputs: &[Tensor], inputs: &[Tensor], numbers: &[f64]) -> Option<Trace> {
        let mut batch = claim(outputs.iter().map(|t| t.value().node.clone()).collect());
        let tasks = plan(&describe(&batch), true).tasks;
        let trace = || {
            let [Task::Pointwise(chain)] = &tasks[..] else { return None };
            let work = |node: usize| batch[node].work.as_ref().expect("nothing has run");
            let input = |r: &super::plan::OperandRef| {
                let operand = &work(r.node).operands[r.operand];
                let same =
                    |t: &Tensor| Arc::ptr_eq(&t.value().node, &operand.value.node) && operand.is_whole();
                inputs.iter().position(same)
            };
            let number = |r: &ScalarRef| {
                let scalar = match *r {
                    ScalarRef::Arg { node, arg } => match &work(node).kernel {
                        Kernel::Apply { args, .. } => match args[arg] {
                            Arg::Scalar(scalar) => scalar,
                            Arg::Input(_) => return None,
                        },
                        _ => return None,
                    },
                    ScalarRef::Fill { node } => match &work(node).kernel {
                        Kernel::Fill(scalar) => *scalar,
                        _ => return None,
                    },
                };
                let given = numbers.iter().position(|&n| scalar == Scalar::Float(n));
                Some(given.map_or(Number::Constant(scalar), Number::Given))
            };
            // The chain writes its outputs in an order of its own.
            let place = |t: &Tensor| {
                let node = batch.iter().position(|c| Arc::ptr_eq(c.node(), &t.value().node))?;
                let at = chain.outputs.iter().position(|&output| output == node)?;
                t.operand().is_whole().then_some(at)
            };
            let places: SmallVec<[usize; 4]> = outputs.iter().map(place).collect::<Option<_>>()?;
            if places.len() != chain.outputs.len() {
                return None;
            }
            let mut program = (*chain.program).clone();
            program.outputs = places.iter().map(|&at| chain.program.outputs[at]).collect();
            let mut inputs: SmallVec<[usize; 6]> = chain.inputs.iter().map(input).collect::<Option<_>>()?;
            in_order(&mut program, &mut inputs);
            Some(Trace {
                program: Arc::new(program),
                inputs,
                numbers: chain.scalars.iter().map(number).collect::<Option<_>>()?,
                outputs: outputs.iter().map(Tensor::dtype).collect(),
            })
        };
        let found = trace();
        // Whoever still holds a value of the stand-ins may ask for it.
        for claimed in &mut batch {
            let work = claimed.work.take();
            *claimed.node().work.lock() = work;
        }
        found
    }

    /// Whether another trace of the function, with other numbers, is the same: all else is a constant then.
    pub fn agrees(&self, other: &Trace) -> bool {
        self.program == other.program && self.inputs == other.inputs && self.numbers == other.numbers
    }

    /// The function of these tensors, which are of one shape and on one device, as one pending node.
    pub fn record(&self, tensors: &[Tensor], numbers: &[f64]) -> Result<SmallVec<[Tensor; 1]>> {
        let scalars = self.numbers.iter().map(|number| match *number {
            Number::Given(n) => Scalar::Float(numbers[n]),
            Number::Constant(scalar) => scalar,
        });
        let kernel = Kernel::Pointwise(Fused { program: self.program.clone(), scalars: scalars.collect() });
        let operands: Operands = self.inputs.iter().map(|&i| tensors[i].operand()).collect();
        let spec = |&dtype: &DType| Spec { shape: tensors[0].shape().clone(), dtype };
        let specs: Specs = self.outputs.iter().map(spec).collect();
        Tensor::pending(tensors[0].device(), kernel, operands, specs)
    }
}

/// Puts the operands into the order of the call's: an output then finds the operand that it replaces first, and is
/// laid over it.
fn in_order(program: &mut Program, inputs: &mut [usize]) {
    let mut order: SmallVec<[usize; 6]> = (0..inputs.len()).collect();
    order.sort_by_key(|&i| inputs[i]);
    program.inputs = order.iter().map(|&i| program.inputs[i]).collect();
    let moved = |reg: &mut Reg| {
        if let Reg::Input(i) = reg {
            *i = order.iter().position(|&from| from == *i as usize).expect("all are there") as u16;
        }
    };
    for step in &mut program.steps {
        match step {
            Step::Apply { args, .. } => args.iter_mut().for_each(moved),
            Step::Cast { arg, .. } => moved(arg),
        }
    }
    program.outputs.iter_mut().for_each(moved);
    inputs.sort_unstable();
}

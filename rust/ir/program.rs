//! A fused chain of elementwise operations in single assignment form: what the planner makes of
//! neighbouring nodes, what the CPU interprets block by block, and what becomes one WGSL kernel.
//! A program knows dtypes and structure, never sizes or scalar values, so it serves every step.

use super::elementwise::Elementwise;
use crate::core::DType;
use smallvec::SmallVec;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reg {
    /// An element of the n-th tensor operand.
    Input(u16),
    /// The n-th scalar parameter.
    Scalar(u16),
    /// The result of the n-th step.
    Step(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// `op` on arguments of `dtype` (after the condition, for `where`). Half floats compute in
    /// float32 and round to `dtype` at once, so that fused equals unfused bit for bit.
    Apply { op: Elementwise, dtype: DType, args: [Reg; 3] },
    /// Conversion: floats to integers truncate, saturate and take NaN to 0; integers wrap; anything to
    /// bool is `!= 0`.
    Cast { from: DType, to: DType, arg: Reg },
}

impl Step {
    pub fn result(self) -> DType {
        match self {
            Step::Apply { op, dtype, .. } => op.result(dtype),
            Step::Cast { to, .. } => to,
        }
    }

    pub fn args(&self) -> &[Reg] {
        match self {
            Step::Apply { op, args, .. } => &args[..op.arity()],
            Step::Cast { arg, .. } => std::slice::from_ref(arg),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Program {
    pub inputs: SmallVec<[DType; 8]>,
    /// The dtype to which each scalar parameter is converted.
    pub scalars: SmallVec<[DType; 8]>,
    pub steps: Vec<Step>,
    /// What is written, one tensor each.
    pub outputs: SmallVec<[Reg; 2]>,
}

impl Program {
    /// The program that passes its one input through: a copy.
    pub fn identity(dtype: DType) -> Program {
        let mut program = Program::default();
        program.inputs.push(dtype);
        program.outputs.push(Reg::Input(0));
        program
    }

    pub fn dtype(&self, reg: Reg) -> DType {
        match reg {
            Reg::Input(i) => self.inputs[i as usize],
            Reg::Scalar(i) => self.scalars[i as usize],
            Reg::Step(i) => self.steps[i as usize].result(),
        }
    }
}

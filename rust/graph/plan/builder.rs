//! From the elementwise items of a group to one program: which operands it reads once, which numbers it takes.

use super::{Kind, OperandRef, PlanArg, Planner, ScalarRef, Source};
use crate::core::DType;
use crate::ir::{Elementwise, Program, Reg, Step};
use rustc_hash::FxHashMap;

/// A chain in the making.
pub(super) struct Builder<'a> {
    planner: &'a Planner<'a>,
    pub program: Program,
    pub inputs: Vec<OperandRef>,
    pub scalars: Vec<ScalarRef>,
    /// Values of items, and of places outside the chain.
    pub regs: FxHashMap<usize, Reg>,
    places: FxHashMap<u32, Reg>,
}

impl<'a> Builder<'a> {
    pub fn new(planner: &'a Planner<'a>) -> Builder<'a> {
        Builder {
            planner,
            program: Program::default(),
            inputs: vec![],
            scalars: vec![],
            regs: FxHashMap::default(),
            places: FxHashMap::default(),
        }
    }

    fn scalar(&mut self, from: ScalarRef, dtype: DType) -> Reg {
        self.scalars.push(from);
        self.program.scalars.push(dtype);
        Reg::Scalar(self.scalars.len() as u16 - 1)
    }

    /// The `n`-th operand of item `i`.
    fn operand(&mut self, i: usize, n: usize, dtype: DType) -> Reg {
        let source = self.planner.items[i].sources[n];
        if let Source::Inside { node, whole, .. } = source {
            let node = node as usize;
            if whole && let Some(&reg) = self.regs.get(&node) {
                return reg;
            }
            if self.planner.fuse && matches!(self.planner.items[node].kind, Kind::Fill { .. }) {
                return self.scalar(ScalarRef::Fill { node }, dtype);
            }
        }
        if let Some(&reg) = self.places.get(&source.place()) {
            return reg;
        }
        self.inputs.push(OperandRef { node: i, operand: n });
        self.program.inputs.push(dtype);
        let reg = Reg::Input(self.program.inputs.len() as u16 - 1);
        self.places.insert(source.place(), reg);
        reg
    }

    fn step(&mut self, step: Step) -> Reg {
        self.program.steps.push(step);
        Reg::Step(self.program.steps.len() as u16 - 1)
    }

    /// Adds an elementwise item.
    pub fn add(&mut self, i: usize) {
        let planner = self.planner;
        let reg = match &planner.items[i].kind {
            Kind::Apply { op, dtype, args } => {
                let mut registers = [Reg::Scalar(0); 3];
                for (n, arg) in args.iter().enumerate() {
                    let dtype = if *op == Elementwise::r#where && n == 0 { DType::Bool } else { *dtype };
                    registers[n] = match arg {
                        PlanArg::Operand(at) => self.operand(i, *at as usize, dtype),
                        PlanArg::Scalar => self.scalar(ScalarRef::Arg { node: i, arg: n }, dtype),
                    };
                }
                self.step(Step::Apply { op: *op, dtype: *dtype, args: registers })
            }
            Kind::Cast { from, to } => {
                let arg = self.operand(i, 0, *from);
                self.step(Step::Cast { from: *from, to: *to, arg })
            }
            Kind::Copy { dtype } => self.operand(i, 0, *dtype),
            _ => unreachable!("groups of several hold elementwise items"),
        };
        self.regs.insert(i, reg);
    }
}

//! From a program to instructions for one block: half floats become conversions around float32 loops,
//! what depends on scalars alone is set apart, and every value gets a place to live in. Running them is
//! `eval`'s part.

use super::cast::{cast, narrow, round, to_odd, widen};
use super::loops::{self, Loop};
use crate::bail;
use crate::core::{DType, Result};
use crate::cpu::isa::Isa;
use crate::ir::elementwise::{Class, Elementwise};
use crate::ir::{Program, Reg, Step};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::sync::Arc;

/// Where a block of values is: an index into the scratch's table of addresses. Operands come first.
pub(super) type Place = u16;

#[derive(Clone, Copy, Debug)]
pub(super) struct Instr {
    pub run: Loop,
    pub args: [Place; 3],
    pub to: Place,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub place: Place,
    /// Whether the value may be made in the output's memory at once: nothing that the output could be
    /// laid over is read later. Otherwise it is copied there at the end of the block.
    pub direct: bool,
    pub dtype: DType,
}

/// The instructions for a block.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Places of scalar parameters, the same number in every element, written once: place, index, dtype.
    pub splats: SmallVec<[(Place, usize, DType); 4]>,
    /// Run once, on splats and operands of one element.
    pub setup: SmallVec<[Instr; 2]>,
    pub steps: SmallVec<[Instr; 8]>,
    pub outputs: SmallVec<[Output; 2]>,
    /// How many places there are.
    pub places: usize,
    /// The largest element that a place holds.
    pub width: usize,
}

/// What the plan has to know about an operand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Given {
    /// All its elements are one.
    pub single: bool,
    /// Its memory is read in place, and may be that of this set of outputs (one bit each).
    pub under: u64,
}

struct Value {
    dtype: DType,
    /// Depends on scalars and single elements alone.
    constant: bool,
    /// Whether an instruction makes it.
    made: bool,
    /// The last instruction that reads it.
    last: usize,
    place: Place,
    /// The float32 form of a half float, once there is one.
    wide: Option<usize>,
}

/// `usize::MAX` as the last reader: the value is an output.
const FOREVER: usize = usize::MAX;

struct Lowering<'a> {
    program: &'a Program,
    isa: Isa,
    values: SmallVec<[Value; 24]>,
    /// Loop, arguments and result, as indices of values; three arguments, repeated if fewer.
    code: SmallVec<[(Loop, [usize; 3], usize); 16]>,
    /// The value of each step.
    steps: SmallVec<[usize; 16]>,
}

/// A plan that was made before, with all that it depends on. The program is kept alive, so that its
/// address means it and no other.
struct Known {
    program: Arc<Program>,
    given: SmallVec<[Given; 4]>,
    isa: Isa,
    plan: Arc<Plan>,
}

/// Plans that a thread remembers; each address has one place.
const KNOWN: usize = 128;

thread_local! {
    static PLANS: RefCell<Vec<Option<Known>>> = const { RefCell::new(Vec::new()) };
}

/// The plan of a program: planning costs more than running on a small tensor, so plans are remembered.
pub(super) fn plan(program: &Arc<Program>, given: &[Given], isa: Isa) -> Result<Arc<Plan>> {
    let at = Arc::as_ptr(program) as usize / size_of::<Program>() % KNOWN;
    PLANS.with_borrow_mut(|plans| {
        if plans.is_empty() {
            plans.resize_with(KNOWN, || None);
        }
        if let Some(known) = &plans[at]
            && Arc::ptr_eq(&known.program, program)
            && known.given[..] == *given
            && known.isa == isa
        {
            return Ok(known.plan.clone());
        }
        let plan = Arc::new(lower(program, given, isa)?);
        plans[at] = Some(Known { program: program.clone(), given: given.into(), isa, plan: plan.clone() });
        Ok(plan)
    })
}

fn lower(program: &Program, given: &[Given], isa: Isa) -> Result<Plan> {
    let mut lowering =
        Lowering { program, isa, values: SmallVec::new(), code: SmallVec::new(), steps: SmallVec::new() };
    for (&dtype, given) in program.inputs.iter().zip(given) {
        lowering.value(dtype, given.single, false);
    }
    for &dtype in &program.scalars {
        lowering.value(dtype, true, false);
    }
    for &step in &program.steps {
        let value = lowering.step(step)?;
        lowering.steps.push(value);
    }
    Ok(lowering.finish(given))
}

impl Lowering<'_> {
    fn value(&mut self, dtype: DType, constant: bool, made: bool) -> usize {
        self.values.push(Value { dtype, constant, made, last: 0, place: 0, wide: None });
        self.values.len() - 1
    }

    fn of(&self, reg: Reg) -> usize {
        match reg {
            Reg::Input(i) => i as usize,
            Reg::Scalar(i) => self.program.inputs.len() + i as usize,
            Reg::Step(i) => self.steps[i as usize],
        }
    }

    fn emit(&mut self, run: Loop, args: [usize; 3], dtype: DType) -> usize {
        let constant = args.iter().all(|&a| self.values[a].constant);
        let result = self.value(dtype, constant, true);
        self.code.push((run, args, result));
        result
    }

    fn unary(&mut self, run: Loop, arg: usize, dtype: DType) -> usize {
        self.emit(run, [arg; 3], dtype)
    }

    /// The value as float32 if it is a half float, else itself.
    fn wide(&mut self, value: usize) -> usize {
        let dtype = self.values[value].dtype;
        if dtype.compute() == dtype {
            return value;
        }
        if let Some(wide) = self.values[value].wide {
            return wide;
        }
        let wide = self.unary(widen(dtype, self.isa), value, DType::F32);
        self.values[value].wide = Some(wide);
        wide
    }

    /// A float32 value as a half float. Steps that compute with it read its rounded float32 form; what nobody
    /// reads is left out in the end.
    fn narrowed(&mut self, value: usize, dtype: DType) -> usize {
        let rounded = self.unary(round(dtype, self.isa), value, DType::F32);
        let half = self.unary(narrow(dtype, self.isa), value, dtype);
        self.values[half].wide = Some(rounded);
        half
    }

    /// Takes out instructions whose results nobody reads.
    fn drop_unread(&mut self, outputs: &[usize]) {
        let mut read: SmallVec<[bool; 24]> = SmallVec::from_elem(false, self.values.len());
        outputs.iter().for_each(|&v| read[v] = true);
        for &(_, args, result) in self.code.iter().rev() {
            if read[result] {
                args.iter().for_each(|&a| read[a] = true);
            }
        }
        self.code.retain(|&mut (_, _, result)| read[result]);
    }

    fn step(&mut self, step: Step) -> Result<usize> {
        match step {
            Step::Apply { op, dtype, args } => {
                // `where` moves bits, whatever they mean, and `nextafter` counts them: in float32 the next
                // number would round back to where it came from.
                let as_bits = op.class() == Class::Where || op == Elementwise::nextafter;
                let compute = if as_bits { dtype } else { dtype.compute() };
                let Some(run) = loops::of(op, compute, self.isa) else {
                    bail!(DType, "{}: does not take {dtype}", op.name());
                };
                let mut values = [0; 3];
                for (i, &arg) in args.iter().enumerate() {
                    // Unused arguments repeat the first.
                    let value = if i < op.arity() { self.of(arg) } else { values[0] };
                    values[i] = if i < op.arity() && !as_bits { self.wide(value) } else { value };
                }
                let result = op.result(dtype);
                let made = self.emit(run, values, if result == dtype { compute } else { result });
                Ok(if result == dtype && compute != dtype { self.narrowed(made, dtype) } else { made })
            }
            Step::Cast { from, to, arg } => {
                let mut value = self.of(arg);
                if from == to {
                    return Ok(value);
                }
                value = self.wide(value);
                // A half float is reached from float64 by rounding to odd, from all else by float32.
                let (compute, have) = (to.compute(), self.values[value].dtype);
                if have != compute {
                    let run = if compute != to && have == DType::F64 {
                        Some(to_odd(self.isa))
                    } else {
                        cast(have, compute, self.isa)
                    };
                    let Some(run) = run else { bail!(DType, "cast: from {from} to {to}") };
                    value = self.unary(run, value, compute);
                }
                Ok(if compute == to { value } else { self.narrowed(value, to) })
            }
        }
    }

    /// Gives values their places and sorts instructions into those that run once and those that run for
    /// each block.
    fn finish(mut self, given: &[Given]) -> Plan {
        let mut plan = Plan::default();
        let outputs: SmallVec<[usize; 2]> = self.program.outputs.iter().map(|&reg| self.of(reg)).collect();
        self.drop_unread(&outputs);
        for (at, &(_, args, _)) in self.code.iter().enumerate() {
            args.iter().for_each(|&a| self.values[a].last = at);
        }
        outputs.iter().for_each(|&v| self.values[v].last = FOREVER);

        let operands = given.len();
        plan.places = operands;
        for (i, value) in self.values.iter_mut().enumerate() {
            plan.width = plan.width.max(value.dtype.size());
            if i < operands {
                value.place = i as Place;
            } else if value.constant || value.last == FOREVER {
                value.place = plan.places as Place;
                plan.places += 1;
                if !value.made {
                    plan.splats.push((value.place, i - operands, value.dtype));
                }
            }
        }
        let mut free: SmallVec<[Place; 8]> = SmallVec::new();
        for (at, &(run, args, result)) in self.code.iter().enumerate() {
            let value = &self.values[result];
            if !value.constant && value.last != FOREVER {
                let place = free.pop().unwrap_or_else(|| {
                    plan.places += 1;
                    plan.places as Place - 1
                });
                self.values[result].place = place;
            }
            let value = &self.values[result];
            let places = args.map(|a| self.values[a].place);
            let instr = Instr { run, args: places, to: value.place };
            if value.constant {
                plan.setup.push(instr);
                continue;
            }
            plan.steps.push(instr);
            for (n, &a) in args.iter().enumerate() {
                let arg = &self.values[a];
                if arg.made && !arg.constant && arg.last == at && !args[..n].contains(&a) {
                    free.push(arg.place);
                }
            }
        }

        // An output may be laid over an operand: it is not written before the operand was read last.
        for (k, &v) in outputs.iter().enumerate() {
            let value = &self.values[v];
            let alone = !outputs[..k].contains(&v);
            let made_at = plan.steps.iter().position(|s| s.to == value.place);
            let direct = alone
                && value.made
                && made_at.is_some_and(|at| {
                    let mut later = plan.steps[at + 1..].iter().flat_map(|s| s.args);
                    let mut copied = outputs.iter().copied();
                    let covers = |i: usize| i < operands && !given[i].single && given[i].under >> k & 1 == 1;
                    !later.any(|place| covers(place as usize)) && !copied.any(covers)
                });
            plan.outputs.push(Output { place: value.place, direct, dtype: value.dtype });
        }
        plan
    }
}

//! Reductions over any axes: sums and extremes, log-sum-exp, mean and variance, places of extremes. Each is a fold
//! of items into a state (`fold`); the shader is one for all. Where results are few and items many, the items
//! are cut into chunks, whose states a second run folds; so are spaces too large to be bound. The order
//! depends on shapes alone.

use super::device::Shared;
use super::fold::Fold;
use super::pipeline::{Parameters, Source};
use super::pointwise::{Window, grid};
use super::rows::{self, Launch, Space};
use super::shaders::REDUCE;
use super::wgsl::Type;
use super::{Buffer, Out, View};
use crate::bail;
use crate::core::{DType, Result, Shape};
use crate::ir::Program;
use crate::ir::kernel::{Axes, Fused, Reduce};
use smallvec::SmallVec;
use std::sync::Arc;

/// Invocations of a workgroup.
pub(super) const LANES: usize = 256;
/// Workgroups that keep a large device busy.
const BUSY: usize = 512;

pub(super) fn reduce(
    op: &str,
    kind: Reduce,
    axes: Axes,
    map: &Fused,
    inputs: &[View<'_>],
    out: &Out<'_>,
) -> Result<()> {
    let dtype = map.program.dtype(map.program.outputs[0]);
    let (fold, wide) = match kind {
        Reduce::LogSumExp if !dtype.is_float() => bail!(DType, "{op}: takes floats, not {dtype}"),
        Reduce::LogSumExp => (Fold::LogSum, DType::F32),
        _ => (Fold::Value(kind), rows::wide(dtype)),
    };
    rows::widened(op, out, wide, |out| run(op, fold, axes, map, inputs, &[*out]))
}

pub(super) fn moments(axes: Axes, map: &Fused, inputs: &[View<'_>], outputs: &[Out<'_>]) -> Result<()> {
    let [mean, variance] = outputs else { bail!(Device, "moments: has two results") };
    rows::widened("moments", mean, DType::F32, |mean| {
        rows::widened("moments", variance, DType::F32, |variance| {
            run("moments", Fold::Moments, axes, map, inputs, &[*mean, *variance])
        })
    })
}

pub(super) fn arg_reduce(op: &str, largest: bool, axis: usize, x: &View<'_>, out: &Out<'_>) -> Result<()> {
    let shape = &x.layout.shape;
    if out.shape.count() > 0 && shape[axis] == 0 {
        bail!(Shape, "{op}: axis {axis} of shape {shape} is empty");
    }
    let fold = Fold::Arg { largest };
    let map = Fused::identity(x.dtype);
    rows::widened(op, out, DType::I64, |out| run(op, fold, Axes::new(&[axis]), &map, &[*x], &[*out]))
}

fn run(op: &str, fold: Fold, axes: Axes, map: &Fused, inputs: &[View<'_>], outs: &[Out<'_>]) -> Result<()> {
    let shared = outs[0].buffer.device().shared();
    let space = Space::of_map(op, map, inputs, axes, shared)?;
    Job { op, shared, fold, map, inputs }.run(space, outs)
}

/// How the lanes of a workgroup share out a space.
#[derive(Clone, Copy, Debug)]
struct Plan {
    rows: bool,
    /// Lanes that share a result.
    along: usize,
    chunk: usize,
    chunks: usize,
}

impl Plan {
    fn of(space: &Space) -> Plan {
        let (outputs, length) = (space.kept(), space.length());
        // Columns fill a workgroup only if there are some.
        let by_rows = space.along_rows() || outputs < 8;
        let along = rows::lanes(outputs, length).min(if by_rows { LANES } else { 8 });
        let groups = outputs.div_ceil(LANES / along);
        let longest = if by_rows { 16_384 } else { 1024 };
        let chunks = match length > longest && groups < BUSY {
            true => (length / (longest / 2)).min(2 * BUSY / groups).max(1),
            false => 1,
        };
        let chunk = length.div_ceil(chunks).max(1);
        Plan { rows: by_rows, along, chunk, chunks: length.div_ceil(chunk).max(1) }
    }

    fn constants(&self) -> String {
        let across = LANES / self.along;
        format!(
            "const ROWS: bool = {};\nconst ALONG: u32 = {}u;\nconst ACROSS: u32 = {across}u;\nconst STRIDE: u32 = {}u;\n",
            self.rows,
            self.along,
            if self.rows { 1 } else { across }
        )
    }
}

/// States of all chunks: those of one result are neighbours.
pub(super) struct States {
    pub buffer: Buffer,
    pub outputs: usize,
    pub chunks: usize,
}

pub(super) struct Job<'a> {
    pub op: &'a str,
    pub shared: &'a Shared,
    pub fold: Fold,
    pub map: &'a Fused,
    pub inputs: &'a [View<'a>],
}

/// Where a dispatch writes.
enum Target<'a> {
    /// The results, from one on.
    Results(&'a [Out<'a>], usize),
    /// States, from a chunk on.
    States(&'a States, usize),
}

impl Job<'_> {
    fn ty(&self) -> Type {
        let program = &self.map.program;
        Type::of(program.dtype(program.outputs[0])).unwrap_or(Type::F32)
    }

    fn run(&self, part: Space, outs: &[Out<'_>]) -> Result<()> {
        if part.kept() == 0 {
            return Ok(());
        }
        let last = part.first + part.kept() - 1;
        let bound = outs
            .iter()
            .all(|out| Window::new(self.shared, out.buffer, part.first, last, out.dtype.size()).is_some());
        if bound && self.windows(&part).is_some() {
            let plan = Plan::of(&part);
            if plan.chunks == 1 {
                return self.dispatch(&part, plan, Target::Results(outs, part.first));
            }
        } else if let Some(halves) = part.halves(false) {
            return halves.into_iter().try_for_each(|half| self.run(half, outs));
        }
        let first = part.first;
        self.finish(&self.states(part)?, Target::Results(outs, first))
    }

    fn windows<'a>(&'a self, part: &Space) -> Option<SmallVec<[Window<'a>; 4]>> {
        let buffers: SmallVec<[_; 4]> =
            self.inputs.iter().map(|view| (view.buffer, view.dtype.size())).collect();
        part.windows(self.shared, &buffers)
    }

    /// The states of all chunks of a part.
    fn states(&self, part: Space) -> Result<States> {
        let outputs = part.kept();
        let fits = |part: &Space| self.windows(part).is_some();
        let pieces = part.pieces(&fits).ok_or_else(|| rows::too_large(self.op, self.shared))?;
        let plans: Vec<Plan> = pieces.iter().map(Plan::of).collect();
        let chunks = plans.iter().map(|plan| plan.chunks).sum();
        let bytes = outputs * chunks * self.fold.size(self.ty());
        let buffer = self.inputs[0].buffer.device().alloc(bytes)?;
        let states = States { buffer, outputs, chunks };
        let mut first = 0;
        for (piece, plan) in pieces.iter().zip(plans) {
            self.dispatch(piece, plan, Target::States(&states, first))?;
            first += plan.chunks;
        }
        Ok(states)
    }

    /// Folds the items of a part.
    fn dispatch(&self, part: &Space, plan: Plan, target: Target<'_>) -> Result<()> {
        let windows = self.windows(part).ok_or_else(|| rows::too_large(self.op, self.shared))?;
        self.record(part, windows, plan, target, Some(&self.map.program))
    }

    /// One state for each result of a part.
    pub fn state_of_each(&self, part: Space) -> Result<Buffer> {
        let states = self.states(part)?;
        if states.chunks == 1 {
            return Ok(states.buffer);
        }
        let buffer = states.buffer.device().alloc(states.outputs * self.fold.size(self.ty()))?;
        let folded = States { buffer, outputs: states.outputs, chunks: 1 };
        self.finish(&states, Target::States(&folded, 0))?;
        Ok(folded.buffer)
    }

    /// The states of chunks of a part that can be bound; those of one result are neighbours.
    pub fn states_of_chunks(&self, part: &Space, chunk: usize, target: (&States, usize)) -> Result<()> {
        let plan = Plan { chunk, chunks: part.length().div_ceil(chunk), ..Plan::of(part) };
        self.dispatch(part, plan, Target::States(target.0, target.1))
    }

    /// Folds the states of all chunks.
    fn finish(&self, states: &States, target: Target<'_>) -> Result<()> {
        let shape = Shape::new(&[states.outputs, states.chunks]);
        let layout = crate::core::Layout::contiguous(shape.clone());
        let part = Space::new(&shape, Axes::new(&[1]), [layout]);
        let plan = Plan { chunk: states.chunks, chunks: 1, ..Plan::of(&part) };
        let size = self.fold.size(self.ty());
        let last = states.outputs * states.chunks - 1;
        let window = Window::new(self.shared, &states.buffer, 0, last, size)
            .ok_or_else(|| rows::too_large(self.op, self.shared))?;
        self.record(&part, [window].into_iter().collect(), plan, target, None)
    }

    /// Records one dispatch over the values of a program, or over states.
    fn record(
        &self,
        part: &Space,
        windows: SmallVec<[Window<'_>; 4]>,
        plan: Plan,
        target: Target<'_>,
        program: Option<&Arc<Program>>,
    ) -> Result<()> {
        let (shared, ty) = (self.shared, self.ty());
        let outputs = part.kept();
        let mut bindings: SmallVec<[_; 6]> = windows.iter().map(|window| window.binding).collect();
        let (first, step, to_states) = match &target {
            Target::Results(outs, first) => {
                let mut place = 0;
                for out in *outs {
                    let last = first + outputs - 1;
                    let window = Window::new(shared, out.buffer, *first, last, out.dtype.size())
                        .ok_or_else(|| rows::too_large(self.op, shared))?;
                    place = first - window.first;
                    bindings.push(window.binding);
                }
                (place, 1, false)
            }
            Target::States(states, first) => {
                let size = self.fold.size(ty);
                let last = states.outputs * states.chunks - 1;
                let window = Window::new(shared, &states.buffer, 0, last, size)
                    .ok_or_else(|| rows::too_large(self.op, shared))?;
                bindings.push(window.binding);
                (*first, states.chunks, true)
            }
        };
        let groups = grid((outputs.div_ceil(LANES / plan.along) * plan.chunks) as u64);
        let numbers = [
            groups[0] as usize,
            outputs,
            plan.chunks,
            part.length(),
            plan.chunk,
            part.walked_first,
            first,
            step,
        ];
        let mut words: Vec<u32> = numbers.iter().map(|&n| n as u32).collect();
        part.words(&windows, &mut words);
        if program.is_some() {
            rows::scalar_words(self.map, &mut words);
        }
        let variant = Variant {
            fold: self.fold,
            ty,
            plan,
            ranks: part.ranks(),
            subgroup: self.fold.subgroup(ty, shared.subgroup),
            to_states,
        };
        let launch = Launch {
            shader: &REDUCE,
            variant: variant.key(),
            program: program.cloned(),
            words,
            bindings,
            groups,
        };
        launch.run(shared, || variant.constants(program.map(Arc::as_ref)))
    }
}

const FIELDS: [&str; 8] = ["row", "outputs", "chunks", "length", "chunk", "first", "out_first", "out_step"];

/// What specialises the shader.
struct Variant {
    fold: Fold,
    ty: Type,
    plan: Plan,
    ranks: [usize; 2],
    subgroup: u32,
    to_states: bool,
}

impl Variant {
    fn key(&self) -> Vec<u32> {
        let Variant { fold, ty, plan, ranks, subgroup, to_states } = self;
        let flags = u32::from(plan.rows) | u32::from(*to_states) << 1;
        vec![fold.key(), *ty as u32, plan.along as u32, ranks[0] as u32, ranks[1] as u32, *subgroup, flags]
    }

    /// The declarations for the values of a program, or for states.
    fn constants(&self, program: Option<&Program>) -> Result<String> {
        let fold = self.fold.text(self.ty, self.subgroup);
        let (names, items, scalars): (_, _, &[DType]) = match program {
            Some(program) => {
                let (names, items) = rows::items(program)?;
                let include =
                    "fn include(state: State, x: Item, at: u32) -> State { return push(state, x, at); }\n";
                (names, items + include, &program.scalars)
            }
            None => {
                let items = rows::binding("in0", 0, "State")
                    + "alias Item = State;\nfn item(base: Base, r: u32) -> Item { return in0[at_in0(base, r)]; }\n\
                       fn include(state: State, x: Item, at: u32) -> State { return merge(state, x); }\n";
                (vec!["in0".to_string()], items, &[])
            }
        };
        let (fields, places) = rows::places(&names, self.ranks);
        let stores = match self.to_states {
            true => {
                rows::binding("out0", names.len(), "State")
                    + "fn store(at: u32, state: State) { out0[at] = state; }\n"
            }
            false => self.fold.results(names.len()),
        };
        let head = rows::parameters(&FIELDS, &fields, scalars) + &self.plan.constants();
        Ok([head, fold, items, places, stores].concat())
    }
}

/// Variants of the shader: every fold on every dtype, and every way to share out a space.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    use Reduce::*;
    let mut all = vec![];
    for &dtype in DType::ALL.iter().filter(|&&dtype| dtype != DType::F64) {
        let ty = Type::of(dtype).unwrap_or(Type::F32);
        let mut folds: Vec<Fold> = [Sum, Prod, Max, Min, Any, All].map(Fold::Value).into();
        folds.extend([true, false].map(|largest| Fold::Arg { largest }));
        if ty == Type::F32 {
            folds.extend([Fold::LogSum, Fold::Moments]);
        } else if ty != Type::Bool {
            folds.retain(|fold| !matches!(fold, Fold::Value(Any | All)));
        }
        for fold in folds {
            for (rows, along, ranks) in
                [(true, LANES, [1, 1]), (true, 8, [0, 2]), (false, 8, [2, 0]), (true, 1, [3, 3])]
            {
                for (program, to_states, subgroup) in [(true, false, 1), (true, true, 4), (false, false, 32)]
                {
                    let plan = Plan { rows, along, chunk: 1, chunks: 1 };
                    let subgroup = fold.subgroup(ty, subgroup);
                    let variant = Variant { fold, ty, plan, ranks, subgroup, to_states };
                    let Ok(constants) = variant.constants(program.then_some(&program_of(dtype))) else {
                        continue;
                    };
                    let name = format!("reduce {fold:?} {dtype} {along} {ranks:?} {program} {to_states}");
                    all.push((name, rows::source(&REDUCE, &constants, 3, parameters)));
                }
            }
        }
    }
    all
}

fn program_of(dtype: DType) -> Program {
    let mut program = Program::identity(dtype);
    program.scalars.push(dtype);
    program
}

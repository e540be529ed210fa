//! Softmax and its logarithm along the last axis. A workgroup has a row, or several short ones, to itself. Where
//! rows are few and long, or too long to be bound, they are first reduced to their states, in pieces.

use super::fold::Fold;
use super::pipeline::{Parameters, Source};
use super::pointwise::{Window, grid};
use super::reduce::{Job, LANES};
use super::rows::{self, Launch, Space};
use super::shaders::SOFTMAX;
use super::wgsl::Type;
use super::{Buffer, Out, View};
use crate::bail;
use crate::core::{DType, Layout, Result};
use crate::ir::Program;
use crate::ir::kernel::{Axes, Fused};
use smallvec::SmallVec;

/// Rows from here on are worth several workgroups, if there are few.
const LONG: usize = 8192;
const FEW: usize = 64;
/// Of a row whose states are given, what one workgroup writes.
const CHUNK: usize = 4096;

pub(super) fn softmax(op: &str, log: bool, map: &Fused, inputs: &[View<'_>], out: &Out<'_>) -> Result<()> {
    let dtype = map.program.dtype(map.program.outputs[0]);
    if !dtype.is_float() {
        bail!(DType, "{op}: takes floats, not {dtype}");
    }
    let shared = out.buffer.device().shared();
    let last = Axes::new(&[out.shape.rank().max(1) - 1]);
    rows::widened(op, out, DType::F32, |out| {
        let space = Space::of_map(op, map, inputs, last, shared)?;
        let space = space.with(Layout::contiguous(out.shape.clone()));
        let call = Call { job: Job { op, shared, fold: Fold::LogSum, map, inputs }, log, out };
        if out.shape.count() == 0 { Ok(()) } else { call.run(space) }
    })
}

struct Call<'a> {
    job: Job<'a>,
    log: bool,
    out: &'a Out<'a>,
}

impl Call<'_> {
    fn run(&self, part: Space) -> Result<()> {
        let fits = self.windows(&part).is_some();
        match part.halves(false) {
            _ if fits && (part.length() <= LONG || part.kept() >= FEW) => self.dispatch(&part, None),
            Some(halves) if !fits => halves.into_iter().try_for_each(|half| self.run(half)),
            _ => {
                let states = self.job.state_of_each(part.clone().without_last())?;
                let pieces = part.pieces(&|piece| self.windows(piece).is_some());
                let pieces = pieces.ok_or_else(|| rows::too_large(self.job.op, self.job.shared))?;
                pieces.iter().try_for_each(|piece| self.dispatch(piece, Some(&states)))
            }
        }
    }

    fn windows(&self, part: &Space) -> Option<SmallVec<[Window<'_>; 4]>> {
        let inputs = self.job.inputs.iter().map(|view| (view.buffer, view.dtype.size()));
        let all: SmallVec<[_; 4]> = inputs.chain([(self.out.buffer, self.out.dtype.size())]).collect();
        part.windows(self.job.shared, &all)
    }

    fn dispatch(&self, part: &Space, states: Option<&Buffer>) -> Result<()> {
        let Job { op, shared, map, .. } = self.job;
        let (outputs, length) = (part.kept(), part.length());
        let along = rows::lanes(outputs, length);
        let chunk = if states.is_some() { CHUNK } else { length };
        let chunks = length.div_ceil(chunk);
        let windows = self.windows(part).ok_or_else(|| rows::too_large(op, shared))?;
        let mut bindings: SmallVec<[_; 6]> = windows.iter().map(|window| window.binding).collect();
        if let Some(states) = states {
            let window = Window::new(shared, states, 0, outputs - 1, Fold::LogSum.size(Type::F32));
            bindings.push(window.ok_or_else(|| rows::too_large(op, shared))?.binding);
        }
        let groups = grid((outputs.div_ceil(LANES / along) * chunks) as u64);
        let mut words = [groups[0] as usize, outputs, chunks, length, chunk].map(|n| n as u32).to_vec();
        part.words(&windows, &mut words);
        rows::scalar_words(map, &mut words);
        let variant = Variant {
            log: self.log,
            given: states.is_some(),
            along,
            ranks: part.ranks(),
            subgroup: Fold::LogSum.subgroup(Type::F32, shared.subgroup),
        };
        let program = Some(map.program.clone());
        let launch = Launch { shader: &SOFTMAX, variant: variant.key(), program, words, bindings, groups };
        launch.run(shared, || variant.constants(&map.program))
    }
}

const FIELDS: [&str; 5] = ["row", "outputs", "chunks", "length", "chunk"];

/// What specialises the shader.
struct Variant {
    log: bool,
    given: bool,
    along: usize,
    ranks: [usize; 2],
    subgroup: u32,
}

impl Variant {
    fn key(&self) -> Vec<u32> {
        let Variant { log, given, along, ranks, subgroup } = self;
        let flags = u32::from(*log) | u32::from(*given) << 1;
        vec![flags, *along as u32, ranks[0] as u32, ranks[1] as u32, *subgroup]
    }

    fn constants(&self, program: &Program) -> Result<String> {
        let Variant { log, given, along, ranks, subgroup } = *self;
        let (mut names, items) = rows::items(program)?;
        let mut bindings = rows::binding("out0", names.len(), "f32");
        bindings += &match given {
            true => {
                rows::binding("given", names.len() + 1, "State")
                    + "fn given_state(o: u32) -> State { return given[o]; }\n"
            }
            false => "fn given_state(o: u32) -> State { return neutral(); }\n".into(),
        };
        names.push("out0".into());
        let (fields, places) = rows::places(&names, ranks);
        let head = rows::parameters(&FIELDS, &fields, &program.scalars);
        let across = LANES / along;
        let constants = format!(
            "const LOG: bool = {log};\nconst GIVEN: bool = {given};\nconst ALONG: u32 = {along}u;\n\
             const ACROSS: u32 = {across}u;\nconst STRIDE: u32 = 1u;\n"
        );
        Ok([head, constants, Fold::LogSum.text(Type::F32, subgroup), items, places, bindings].concat())
    }
}

/// Variants of the shader: every float dtype, short and long rows.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    let mut all = vec![];
    for dtype in [DType::F16, DType::BF16, DType::F32] {
        for (given, along, ranks, subgroup) in [
            (false, 1, [0, 1], 1),
            (false, 8, [2, 1], 1),
            (false, LANES, [1, 1], 8),
            (true, LANES, [1, 1], 1),
        ] {
            for log in [false, true] {
                let variant = Variant { log, given, along, ranks, subgroup };
                if let Ok(constants) = variant.constants(&Program::identity(dtype)) {
                    let name = format!("softmax {dtype} {log} {given} {along} {ranks:?}");
                    all.push((name, rows::source(&SOFTMAX, &constants, 3, parameters)));
                }
            }
        }
    }
    all
}

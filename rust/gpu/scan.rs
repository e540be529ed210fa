//! Running sums, products and extremes along an axis. Where lines are few and long, chunks of them are folded
//! first, the folds are scanned in the same way, and then all chunks run side by side. Lines too long to be
//! bound go in pieces of whole chunks.

use super::device::Shared;
use super::fold::Fold;
use super::pipeline::{Parameters, Source};
use super::pointwise::{Window, grid};
use super::reduce::{Job, LANES, States};
use super::rows::{self, Launch, Space};
use super::shaders::{SCAN, SCAN_SERIAL};
use super::wgsl::Type;
use super::{Buffer, Out, View};
use crate::core::{DType, Layout, Result, Shape};
use crate::ir::Program;
use crate::ir::kernel::{Axes, Fused, Reduce, Scan};
use smallvec::SmallVec;

/// Lines up to this length are run through by one invocation each.
const SHORT: usize = 64;
/// Lines that keep a large device busy, one to an invocation or one to a workgroup.
const BUSY: [usize; 2] = [16_384, 256];
/// Longest lines that are not cut, and the chunks into which longer ones are, for each of the two ways.
const LONGEST: [usize; 2] = [512, 65_536];
const CHUNK: [usize; 2] = [256, 16_384];

pub(super) fn scan(op: &str, kind: Scan, axis: usize, x: &View<'_>, out: &Out<'_>) -> Result<()> {
    if out.shape.count() == 0 {
        return Ok(());
    }
    let kind = match kind {
        Scan::Sum => Reduce::Sum,
        Scan::Prod => Reduce::Prod,
        Scan::Max => Reduce::Max,
        Scan::Min => Reduce::Min,
    };
    rows::widened(op, out, rows::wide(x.dtype), |out| run(op, kind, axis, x, out))
}

/// Into a result of a wide dtype.
fn run(op: &str, kind: Reduce, axis: usize, x: &View<'_>, out: &Out<'_>) -> Result<()> {
    let shared = out.buffer.device().shared();
    let map = Fused::identity(x.dtype);
    let inputs = [*x];
    let space = Space::of_map(op, &map, &inputs, Axes::new(&[axis]), shared)?;
    let space = space.with(Layout::contiguous(out.shape.clone()));
    let job = Job { op, shared, fold: Fold::Value(kind), map: &map, inputs: &inputs };
    Call { job, kind, out }.run(space)
}

struct Call<'a> {
    job: Job<'a>,
    kind: Reduce,
    out: &'a Out<'a>,
}

impl Call<'_> {
    fn run(&self, part: Space) -> Result<()> {
        let fits = self.windows(&part).is_some();
        if let (false, Some(halves)) = (fits, part.halves(false)) {
            return halves.into_iter().try_for_each(|half| self.run(half));
        }
        let serial = !part.along_rows() || part.length() <= SHORT;
        let way = usize::from(!serial);
        let chunk = match part.length() > LONGEST[way] && part.kept() < BUSY[way] {
            true => CHUNK[way],
            false => part.length(),
        };
        let pieces = part.pieces(&|piece| self.windows(piece).is_some());
        let pieces = pieces.ok_or_else(|| rows::too_large(self.job.op, self.job.shared))?;
        let chunks: Vec<usize> = pieces.iter().map(|piece| piece.length().div_ceil(chunk)).collect();
        let (outputs, all) = (pieces[0].kept(), chunks.iter().sum());
        if all == 1 {
            return self.dispatch(&pieces[0], serial, chunk, None);
        }
        let dtype = self.out.dtype;
        let device = self.out.buffer.device();
        let folds = States { buffer: device.alloc(outputs * all * dtype.size())?, outputs, chunks: all };
        let mut first = 0;
        for (piece, chunks) in pieces.iter().zip(&chunks) {
            self.job.states_of_chunks(&piece.clone().without_last(), chunk, (&folds, first))?;
            first += chunks;
        }
        let shape = Shape::new(&[outputs, all]);
        let layout = Layout::contiguous(shape.clone());
        let starts = device.alloc(outputs * all * dtype.size())?;
        let (x, to) = (
            View { buffer: &folds.buffer, layout: &layout, dtype },
            Out { buffer: &starts, shape: &shape, dtype },
        );
        run(self.job.op, self.kind, 1, &x, &to)?;
        let mut first = 0;
        for (piece, chunks) in pieces.iter().zip(&chunks) {
            self.dispatch(piece, serial, chunk, Some((&starts, first, all)))?;
            first += chunks;
        }
        Ok(())
    }

    fn windows(&self, part: &Space) -> Option<SmallVec<[Window<'_>; 4]>> {
        let x = &self.job.inputs[0];
        part.windows(self.job.shared, &[(x.buffer, x.dtype.size()), (self.out.buffer, self.out.dtype.size())])
    }

    /// Scans the chunks of a piece; `starts` are all of a line, the number of the piece's first, and how many there are.
    fn dispatch(
        &self,
        piece: &Space,
        serial: bool,
        chunk: usize,
        starts: Option<(&Buffer, usize, usize)>,
    ) -> Result<()> {
        let Job { op, shared, map, .. } = self.job;
        let shared: &Shared = shared;
        let (outputs, length) = (piece.kept(), piece.length());
        let chunks = length.div_ceil(chunk);
        let windows = self.windows(piece).ok_or_else(|| rows::too_large(op, shared))?;
        let mut bindings: SmallVec<[_; 6]> = windows.iter().map(|window| window.binding).collect();
        let (mut first, mut all) = (0, 0);
        if let Some((buffer, from, count)) = starts {
            let window = Window::new(shared, buffer, 0, outputs * count - 1, self.out.dtype.size());
            bindings.push(window.ok_or_else(|| rows::too_large(op, shared))?.binding);
            (first, all) = (from, count);
        }
        let groups = grid(match serial {
            true => (outputs * chunks).div_ceil(LANES),
            false => outputs * chunks,
        } as u64);
        let mut words =
            [groups[0] as usize, outputs, length, chunks, chunk, first, all].map(|n| n as u32).to_vec();
        piece.words(&windows, &mut words);
        let shader = if serial { &SCAN_SERIAL } else { &SCAN };
        let x = self.job.inputs[0].dtype;
        let variant = Variant { kind: self.kind, given: starts.is_some(), dtype: x, ranks: piece.ranks() };
        let launch = Launch { shader, variant: variant.key(), program: None, words, bindings, groups };
        launch.run(shared, || variant.constants(&map.program))
    }
}

const FIELDS: [&str; 7] = ["row", "outputs", "length", "chunks", "chunk", "first", "all"];

/// What specialises the shaders.
struct Variant {
    kind: Reduce,
    given: bool,
    dtype: DType,
    ranks: [usize; 2],
}

impl Variant {
    fn key(&self) -> Vec<u32> {
        let Variant { kind, given, dtype, ranks } = self;
        vec![*kind as u32, u32::from(*given), *dtype as u32, ranks[0] as u32, ranks[1] as u32]
    }

    fn constants(&self, program: &Program) -> Result<String> {
        let (mut names, items) = rows::items(program)?;
        let mut bindings = rows::binding("out0", 1, "State");
        bindings += &match self.given {
            true => {
                rows::binding("starts", 2, "State")
                    + "fn start(o: u32, chunk: u32) -> State {\n    if (chunk == 0u) { return neutral(); }\n    \
                       return starts[o * p.all + chunk - 1u];\n}\n"
            }
            false => "fn start(o: u32, chunk: u32) -> State { return neutral(); }\n".into(),
        };
        names.push("out0".into());
        let (fields, places) = rows::places(&names, self.ranks);
        let head = rows::parameters(&FIELDS, &fields, &[]);
        let given = format!("const GIVEN: bool = {};\n", self.given);
        let ty = Type::of(self.dtype).unwrap_or(Type::F32);
        Ok([head, given, Fold::Value(self.kind).text(ty, 1), items, places, bindings].concat())
    }
}

/// Variants of the shaders: every kind on every dtype, with and without starts.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    let mut all = vec![];
    for &dtype in DType::ALL.iter().filter(|dtype| !matches!(dtype, DType::Bool | DType::F64)) {
        for kind in [Reduce::Sum, Reduce::Prod, Reduce::Max, Reduce::Min] {
            for (shader, given, ranks) in [
                (&SCAN, false, [1, 1]),
                (&SCAN, true, [0, 1]),
                (&SCAN_SERIAL, false, [2, 1]),
                (&SCAN_SERIAL, true, [1, 1]),
            ] {
                let variant = Variant { kind, given, dtype, ranks };
                if let Ok(constants) = variant.constants(&Program::identity(dtype)) {
                    let name = format!("{} {kind:?} {dtype} {given} {ranks:?}", shader.name);
                    all.push((name, rows::source(shader, &constants, 3, parameters)));
                }
            }
        }
    }
    all
}

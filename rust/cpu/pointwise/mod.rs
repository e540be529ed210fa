//! Elementwise work: a fused program of the table's operations over strided operands. A program is
//! interpreted block by block: each step is one compiled loop over a block that stays in the first-level
//! cache, so that memory is passed once however many steps there are.
//!
//! `loops` has the compiled loops, `cast` the conversions, `plan` turns a program into instructions,
//! `eval` runs them on a block; here is how the work is shared between threads.

mod cast;
mod eval;
mod loops;
mod plan;
#[cfg(test)]
mod tests;

pub use cast::{cast, narrow, scalar_bits, widen};
pub use eval::{Evaluator, Scratch};

use super::work::try_parallel;
use super::{Out, View, isa};
use crate::core::{DType, Result, Scalar};
use crate::ir::kernel::{Arg, Fused};
use crate::ir::{Elementwise, Program, Reg, Step};
use smallvec::SmallVec;
use std::sync::Arc;

/// About how many elements a thread takes at a time.
const GRAIN: usize = 32 * Evaluator::BLOCK;

/// Elements to a chunk of about `grain`, so that an even number of threads gets equal parts.
fn even(count: usize, grain: usize) -> usize {
    let chunks = count.div_ceil(grain);
    let chunks = if chunks > 1 { chunks.next_multiple_of(2) } else { 1 };
    count.div_ceil(chunks).next_multiple_of(Evaluator::BLOCK)
}

/// All outputs of the map over the operands, which are of the outputs' shape. An output may be laid over
/// an operand of the same row-major layout.
pub fn pointwise(map: &Fused, inputs: &[View], outputs: &[Out]) -> Result<()> {
    let Some(count) = outputs.first().map(|out| out.shape.count()).filter(|&n| n > 0) else {
        return Ok(());
    };
    if let Some((op, dtype, sources)) = single(map, inputs)
        && one_step(op, dtype, &sources, &outputs[0], count)
    {
        return Ok(());
    }
    let evaluator = Evaluator::bind(&map.program, &map.scalars, inputs, count, Some(outputs), isa::get())?;
    let grain = evaluator.grain();
    try_parallel(count.div_ceil(grain), |chunk| {
        let start = chunk * grain;
        evaluator.write(&mut evaluator.scratch()?, outputs, start, grain.min(count - start));
        Ok(())
    })
}

/// Runs the program over the elements `start .. start + len` on this thread.
pub fn pointwise_range(
    evaluator: &Evaluator,
    scratch: &mut Scratch,
    outputs: &[Out],
    start: usize,
    len: usize,
) {
    evaluator.write(scratch, outputs, start, len);
}

/// One run of a program that several share.
pub struct Segment<'a> {
    pub scalars: &'a [Scalar],
    pub inputs: &'a [View<'a>],
    pub outputs: &'a [Out<'a>],
}

/// One program over many groups of operands, as one parallel region: an optimizer's step over all
/// parameters.
pub fn pointwise_segments(program: &Arc<Program>, segments: &[Segment]) -> Result<()> {
    let counts = || segments.iter().map(|s| s.outputs.first().map_or(0, |out| out.shape.count()));
    let total: usize = counts().sum();
    // Chunks are equal parts of all segments laid end to end.
    try_parallel(total.div_ceil(GRAIN), |chunk| {
        let (start, end) = (chunk * GRAIN, total.min((chunk + 1) * GRAIN));
        let mut first = 0;
        for (segment, count) in segments.iter().zip(counts()) {
            let (from, to) = (start.max(first), end.min(first + count));
            if from < to {
                let Segment { scalars, inputs, outputs } = segment;
                let evaluator = Evaluator::bind(program, scalars, inputs, count, Some(outputs), isa::get())?;
                evaluator.write(&mut evaluator.scratch()?, outputs, from - first, to - from);
            }
            first += count;
        }
        Ok(())
    })
}

/// One operation by itself.
pub fn apply(op: Elementwise, dtype: DType, args: &[Arg], inputs: &[View], out: &Out) -> Result<()> {
    let count = out.shape.count();
    let sources: SmallVec<[Source; 3]> = args
        .iter()
        .map(|&arg| match arg {
            Arg::Input(n) => Source::View(&inputs[n as usize]),
            Arg::Scalar(scalar) => Source::Scalar(scalar),
        })
        .collect();
    if count == 0 || one_step(op, dtype, &sources, out, count) {
        return Ok(());
    }
    pointwise(&Fused::apply(op, dtype, args), inputs, std::slice::from_ref(out))
}

/// An argument of a single operation.
enum Source<'a> {
    View(&'a View<'a>),
    Scalar(Scalar),
}

/// The arguments of a program that is one operation.
fn single<'a>(
    map: &Fused,
    inputs: &'a [View<'a>],
) -> Option<(Elementwise, DType, SmallVec<[Source<'a>; 3]>)> {
    let (&[Step::Apply { op, dtype, args }], &[Reg::Step(0)]) =
        (&map.program.steps[..], &map.program.outputs[..])
    else {
        return None;
    };
    let sources = args[..op.arity()].iter().map(|&arg| match arg {
        Reg::Input(n) => Some(Source::View(&inputs[n as usize])),
        Reg::Scalar(n) => Some(Source::Scalar(map.scalars[n as usize])),
        Reg::Step(_) => None,
    });
    Some((op, dtype, sources.collect::<Option<_>>()?))
}

/// The short way for one operation on row-major operands and scalars. Returns false where it does not
/// apply.
fn one_step(op: Elementwise, dtype: DType, sources: &[Source], out: &Out, count: usize) -> bool {
    let Some(run) = loops::of(op, dtype, isa::get()) else { return false };
    // A block of each scalar, for as many elements as there are.
    let mut splats = [[std::mem::MaybeUninit::<u64>::uninit(); Evaluator::BLOCK]; 2];
    let mut free = splats.iter_mut();
    let mut pointers = [std::ptr::null::<u8>(); 3];
    // Bytes to go on for each element.
    let mut widths = [0; 3];
    for (i, source) in sources.iter().enumerate() {
        match *source {
            Source::View(view) => {
                if !view.layout.is_contiguous() {
                    return false;
                }
                (pointers[i], widths[i]) = (view.first(), view.dtype.size());
            }
            Source::Scalar(scalar) => {
                let Some(block) = free.next() else { return false };
                let bits = scalar_bits(scalar, dtype);
                let (len, width) = (count.min(Evaluator::BLOCK), dtype.size());
                // SAFETY: the block has room for as many elements of the widest dtype.
                unsafe { eval::fill((&raw const bits).cast(), width, block.as_mut_ptr().cast(), len) };
                pointers[i] = block.as_ptr().cast();
            }
        }
    }
    let any_scalar = widths[..sources.len()].contains(&0);
    let size = out.dtype.size();
    let shared = (SendPointers(pointers), *out);
    let work = |start: usize, len: usize| {
        let (SendPointers(pointers), out) = &shared;
        let piece = if any_scalar { Evaluator::BLOCK } else { len };
        let mut at = start;
        while at < start + len {
            let n = piece.min(start + len - at);
            let args = std::array::from_fn(|i| pointers[i].wrapping_add(at * widths[i]));
            // SAFETY: operands and output have `count` elements, blocks as many as a piece.
            unsafe { run(&args, out.ptr.wrapping_add(at * size), n) };
            at += n;
        }
    };
    if count <= GRAIN {
        work(0, count);
    } else {
        let grain = even(count, GRAIN);
        super::threads::parallel(count.div_ceil(grain), |chunk| {
            work(chunk * grain, grain.min(count - chunk * grain));
        });
    }
    true
}

/// Addresses of operands, which any thread may read.
struct SendPointers([*const u8; 3]);

// SAFETY: see `View`.
unsafe impl Sync for SendPointers {}

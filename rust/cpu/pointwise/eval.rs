//! Runs a plan block by block: finds or gathers the operands of a block, runs the loops, and leaves the
//! results in scratch or in the outputs' memory.

use super::cast::scalar_bits;
use super::plan::{Given, Plan, plan};
use crate::bail;
use crate::core::{Result, Scalar, Shape};
use crate::cpu::isa::{self, Isa};
use crate::cpu::view::Axes;
use crate::cpu::work::vectorized;
use crate::cpu::{Memory, Out, View};
use crate::for_width;
use crate::ir::Program;
use crate::ir::kernel::Fused;
use smallvec::SmallVec;
use std::cell::Cell;
use std::sync::Arc;

/// A program bound to operands and a shape, ready to give its values block by block. Workers share it;
/// each has a [`Scratch`] of its own.
pub struct Evaluator<'a> {
    plan: Arc<Plan>,
    scalars: &'a [Scalar],
    operands: SmallVec<[Operand<'a>; 8]>,
    /// Of strided operands.
    axes: SmallVec<[Axes; 2]>,
    /// Elements in all.
    count: usize,
    /// Blocks do not cross the ends of these rows.
    row: usize,
    /// Whether an operand lies across them, as a transpose does.
    crosswise: bool,
}

/// An operand and how its elements are reached.
struct Operand<'a> {
    view: &'a View<'a>,
    how: How,
}

enum How {
    /// Row-major: in place.
    Whole,
    /// One element, spread over a block beforehand.
    Single,
    /// So many elements again and again, as a bias's are: laid out for a block from any of them on beforehand.
    Repeated(usize),
    /// Along rows, by the n-th of the evaluator's axes: in place if the block lies within one, else
    /// collected.
    Strided(usize),
}

/// What a worker needs: blocks for intermediate values, and where each value is.
pub struct Scratch {
    memory: Option<Memory>,
    /// Address of each place; scratch of its own unless it is set to memory of an operand or output.
    table: SmallVec<[*mut u8; 24]>,
    /// Bytes between places.
    pitch: usize,
}

thread_local! {
    /// The block that this thread's last scratch left.
    static SPARE: Cell<Option<Memory>> = const { Cell::new(None) };
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            // Nothing is kept when the thread is ending.
            let _ = SPARE.try_with(|spare| {
                let old = spare.take();
                let keep =
                    if old.as_ref().is_some_and(|old| old.len() > memory.len()) { old } else { Some(memory) };
                spare.set(keep);
            });
        }
    }
}

impl Scratch {
    fn own(&self, place: usize) -> *mut u8 {
        let base = self.memory.as_ref().map_or(std::ptr::null_mut(), Memory::ptr);
        base.wrapping_add(place * self.pitch)
    }
}

// SAFETY: the addresses in the table lead to the scratch's own memory and to operands and outputs, which
// any thread may use (see `View`).
unsafe impl Send for Scratch {}

impl<'a> Evaluator<'a> {
    /// Elements in a block: results that the next loop reads again stay in the first-level cache.
    pub const BLOCK: usize = 1024;

    /// `inputs` are of the shape.
    pub fn new(map: &'a Fused, inputs: &'a [View<'a>], shape: &Shape) -> Result<Evaluator<'a>> {
        Evaluator::bind(&map.program, &map.scalars, inputs, shape.count(), None, isa::get())
    }

    /// With known outputs, fewer results have to be made in scratch and copied.
    pub(super) fn bind(
        program: &Arc<Program>,
        scalars: &'a [Scalar],
        inputs: &'a [View<'a>],
        count: usize,
        outputs: Option<&[Out]>,
        isa: Isa,
    ) -> Result<Evaluator<'a>> {
        let (tensors, numbers) = (program.inputs.len(), program.scalars.len());
        if (inputs.len(), scalars.len()) != (tensors, numbers) {
            bail!(
                Value,
                "pointwise: {} operands and {} scalars, where {tensors} and {numbers} belong",
                inputs.len(),
                scalars.len()
            );
        }
        let (mut row, mut crosswise) = (usize::MAX, false);
        let mut operands: SmallVec<[Operand; 8]> = SmallVec::new();
        let mut axes: SmallVec<[Axes; 2]> = SmallVec::new();
        let mut given: SmallVec<[Given; 8]> = SmallVec::new();
        for view in inputs {
            let (mut single, mut under) = (false, 0);
            let how = if view.layout.is_contiguous() {
                under = outputs.map_or(!0, |outputs| overlaid(view, count, outputs));
                How::Whole
            } else if view.layout.is_single() {
                single = true;
                How::Single
            } else {
                let of = Axes::new(view.layout);
                match of.period().filter(|&period| period <= Self::BLOCK) {
                    Some(period) => How::Repeated(period),
                    None => {
                        let across = of.is_crosswise();
                        if of.run() >= if across { Self::PART } else { Self::LONG } {
                            row = row.min(of.run());
                            crosswise |= across;
                        }
                        axes.push(of);
                        How::Strided(axes.len() - 1)
                    }
                }
            };
            operands.push(Operand { view, how });
            given.push(Given { single, under });
        }
        Ok(Evaluator { plan: plan(program, &given, isa)?, scalars, operands, axes, count, row, crosswise })
    }

    /// Rows shorter than this are collected, several to a block.
    const LONG: usize = 512;

    /// What a worker needs; memory is kept by the thread for the next one.
    pub fn scratch(&self) -> Result<Scratch> {
        // Not a multiple of a page, so that the places' lines do not fall into the same cache sets.
        let len = Self::BLOCK.min(self.count);
        let period = |operand: &Operand| if let How::Repeated(n) = operand.how { n } else { 0 };
        let periods = self.operands.iter().map(period).max().unwrap_or(0);
        let pitch = (len.next_multiple_of(16) + periods) * self.plan.width + 128;
        let size = pitch * self.plan.places;
        let memory = match SPARE.try_with(Cell::take).ok().flatten() {
            Some(memory) if memory.len() >= size => memory,
            _ => Memory::alloc(size)?,
        };
        let mut scratch = Scratch { memory: Some(memory), table: SmallVec::new(), pitch };
        for place in 0..self.plan.places {
            let own = scratch.own(place);
            scratch.table.push(own);
        }
        // SAFETY: places have room for `len` elements and a period, and operands are readable.
        unsafe {
            for &(place, index, dtype) in &self.plan.splats {
                let bits = scalar_bits(self.scalars[index], dtype);
                fill((&raw const bits).cast(), dtype.size(), scratch.table[place as usize], len);
            }
            for (i, Operand { view, how }) in self.operands.iter().enumerate() {
                match how {
                    How::Single => fill(view.first(), view.dtype.size(), scratch.table[i], len),
                    How::Repeated(period) => {
                        let (size, to) = (view.dtype.size(), scratch.table[i]);
                        let whole = period * size;
                        for at in (0..len * size + whole).step_by(whole) {
                            let part = whole.min(len * size + whole - at);
                            std::ptr::copy_nonoverlapping(view.first(), to.add(at), part);
                        }
                    }
                    _ => {}
                }
            }
            for instr in &self.plan.setup {
                let args = instr.args.map(|a| scratch.table[a as usize].cast_const());
                (instr.run)(&args, scratch.table[instr.to as usize], len);
            }
        }
        Ok(scratch)
    }

    /// Values of output 0 for the row-major elements `start .. start + len`, with `len <= BLOCK`: a
    /// pointer into an operand or into the scratch, valid until the scratch is used again.
    pub fn values(&self, scratch: &mut Scratch, start: usize, len: usize) -> *const u8 {
        debug_assert!(len <= Self::BLOCK && start + len <= self.count);
        for output in self.plan.outputs.iter().filter(|o| o.direct) {
            scratch.table[output.place as usize] = scratch.own(output.place as usize);
        }
        self.run(scratch, start, len);
        scratch.table[self.plan.outputs[0].place as usize]
    }

    /// Rows that are worked on side by side where an operand lies across them, and how much of each at a
    /// time: so that the cache lines that one row has touched still serve the next.
    const ROWS: usize = 16;
    const PART: usize = 128;

    /// From so many elements on an operand hardly lies in any cache. Where it is read and nothing else is
    /// done, its lines are asked for two blocks ahead; steps between would make the lines leave before they are used.
    const FAR: usize = 1 << 23;
    const AHEAD: usize = 2 * Self::BLOCK;

    /// How many elements a thread should take at a time: fewer, the more there is to do to each.
    pub(super) fn grain(&self) -> usize {
        match self.crosswise {
            true => Self::ROWS * self.row,
            false => super::even(self.count, super::GRAIN / self.plan.steps.len().clamp(1, 4)),
        }
    }

    /// Writes all outputs for the elements `start .. start + len`, of any length.
    pub(super) fn write(&self, scratch: &mut Scratch, outputs: &[Out], start: usize, len: usize) {
        let (mut at, end) = (start, start + len);
        while at < end {
            let rows = if self.crosswise && at % self.row == 0 { (end - at) / self.row } else { 0 };
            let rows = rows.min(Self::ROWS);
            if rows == 0 {
                let n = self.block_at(at).min(end - at);
                self.write_block(scratch, outputs, at, n);
                at += n;
                continue;
            }
            for part in (0..self.row).step_by(Self::PART) {
                let n = Self::PART.min(self.row - part);
                for row in 0..rows {
                    self.write_block(scratch, outputs, at + row * self.row + part, n);
                }
            }
            at += rows * self.row;
        }
    }

    fn write_block(&self, scratch: &mut Scratch, outputs: &[Out], at: usize, n: usize) {
        for (output, out) in self.plan.outputs.iter().zip(outputs).filter(|o| o.0.direct) {
            scratch.table[output.place as usize] = out.ptr.wrapping_add(at * output.dtype.size());
        }
        self.run(scratch, at, n);
        for (output, out) in self.plan.outputs.iter().zip(outputs).filter(|o| !o.0.direct) {
            let size = output.dtype.size();
            // SAFETY: the place holds `n` elements and the output has room for all of the shape's.
            // An output laid over the operand that it copies is that operand's very elements.
            unsafe {
                std::ptr::copy(scratch.table[output.place as usize], out.ptr.add(at * size), n * size);
            }
        }
    }

    /// How many elements the block has that starts at `start`: all of them, or an even part of a row.
    fn block_at(&self, start: usize) -> usize {
        if self.row == usize::MAX {
            return Self::BLOCK;
        }
        let part = self.row.div_ceil(self.row.div_ceil(Self::BLOCK));
        let within = start % self.row;
        (part - within % part).min(self.row - within)
    }

    fn run(&self, scratch: &mut Scratch, start: usize, len: usize) {
        for (i, Operand { view, how }) in self.operands.iter().enumerate() {
            match how {
                How::Whole => {
                    let size = view.dtype.size();
                    let at = view.first().wrapping_add(start * size);
                    if self.count >= Self::FAR && self.plan.steps.is_empty() {
                        fetch(at.wrapping_add(Self::AHEAD * size), len * size);
                    }
                    scratch.table[i] = at.cast_mut();
                }
                How::Single => {}
                How::Repeated(period) => {
                    scratch.table[i] = scratch.own(i).wrapping_add(start % period * view.dtype.size())
                }
                How::Strided(n) => {
                    let to = scratch.own(i);
                    // SAFETY: the place has room for a block, and the view's elements are readable.
                    scratch.table[i] = unsafe { collect(view, &self.axes[*n], start, len, to) };
                }
            }
        }
        for instr in &self.plan.steps {
            let args = instr.args.map(|a| scratch.table[a as usize].cast_const());
            // SAFETY: every place holds a block or an operand's or output's part of at least `len`
            // elements, and the loops were chosen for this processor.
            unsafe { (instr.run)(&args, scratch.table[instr.to as usize], len) };
        }
    }
}

/// Asks for the lines of a stretch of memory, which need not be there.
#[inline(always)]
fn fetch(at: *const u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..len).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint, which any address may be given to.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, len);
}

/// The set of outputs whose memory meets that of the view.
fn overlaid(view: &View, count: usize, outputs: &[Out]) -> u64 {
    let (first, size) = (view.first() as usize, count * view.dtype.size());
    let meets = |out: &Out| {
        let at = out.ptr as usize;
        at < first + size && first < at + count * out.dtype.size()
    };
    outputs.iter().enumerate().fold(0, |set, (k, out)| set | (meets(out) as u64) << k.min(63))
}

/// One element, repeated.
///
/// # Safety
/// An element of `width` bytes is readable at `from`, and `len` are writable at `to`.
pub(super) unsafe fn fill(from: *const u8, width: usize, to: *mut u8, len: usize) {
    macro_rules! of {
        ($T:ty) => {{
            // SAFETY: the caller's.
            unsafe {
                let value = from.cast::<$T>().read_unaligned();
                std::slice::from_raw_parts_mut(to.cast::<$T>(), len).fill(value);
            }
        }};
    }
    match width {
        1 => of!(u8),
        2 => of!(u16),
        4 => of!(u32),
        _ => of!(u64),
    }
}

/// The elements `start .. start + len` side by side: in place if they are, else copied to `to`.
///
/// # Safety
/// The view's elements are readable, and `len` are writable at `to`.
unsafe fn collect(view: &View, axes: &Axes, start: usize, len: usize, to: *mut u8) -> *mut u8 {
    let (first, stride) = (view.first(), axes.stride());
    for_width!(view.dtype, T => {
        if stride == 1 && start % axes.run() + len <= axes.run() {
            let mut at = first;
            axes.runs(start, len, |place, _| at = first.cast::<T>().wrapping_offset(place).cast());
            return at.cast_mut();
        }
        let mut to = to.cast::<T>();
        axes.runs(start, len, |place, count| {
            let from = first.cast::<T>().wrapping_offset(place);
            // SAFETY: the caller's; runs add up to `len` elements.
            unsafe {
                match stride {
                    1 if count >= 16 => std::ptr::copy_nonoverlapping(from, to, count),
                    0 => vectorized(|| std::slice::from_raw_parts_mut(to, count).fill(*from)),
                    _ => {
                        for i in 0..count {
                            *to.add(i) = *from.offset(i as isize * stride);
                        }
                    }
                }
                to = to.add(count);
            }
        });
    });
    to
}

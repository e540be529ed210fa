//! Whole sequences of a recurrent layer, and their gradients: hₜ = cell(giₜ, U hₜ₋₁ + d, hₜ₋₁), where gi, the
//! inputs' share of the gates of all steps, is a product made before. The cells' formulas are in `cells.rs`.
//!
//! ```text
//! pack U: for blocks of three vectors of hidden units, a panel for each gate      all threads
//! for steps
//!   for blocks of units, for groups of sequences                                all threads
//!     for strips of 8 sequences
//!       for gates: one tile, U hₜ₋₁ of these units                               into the first level of cache
//!       the cell's formula: the next states of these units
//! ```
//!
//! What a strip will read and write beside it is fetched before its tiles. Fewer than 4 sequences leave too
//! few sums in a tile to hide the latency of an addition: they read U in place, forward as dot products along
//! its rows, backward row by row.
//!
//! The gradient walks the steps back in the same way: dhₜ₋₁ of a block of units is one product of
//! all gates' gradients with columns of U, and what the cell makes of it are gates' gradients again. Those
//! of U are one ordinary product for all steps afterwards.
//!
//! An element is one chain of multiply-adds over all hidden units, in order, whoever computes it.

mod cells;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::ptr::null_mut;

use self::cells::{Backward, Forward, MOST, sizes};
use super::even::Even;
use super::isa;
use super::lanes;
use super::matmul::kernel::{Tile, prefetch};
use super::matmul::pack::{Matrix, Operand, pack, scratch, times};
use super::matmul::table::{self, Kernels};
use super::memory::Memory;
use super::threads::parallel;
use super::view::{Out, View};
use super::work::Shared;
use crate::bail;
use crate::core::{DType, Result};
use crate::ir::kernel::Cell;

/// Vectors of units in a block.
const VECTORS: usize = 3;
/// Rows and elements of a row that a tile has at most.
const ROWS: usize = 8;
const WIDTH: usize = 48;
/// From so many sequences on tiles pay; and how many units fewer have in a block.
const TILED: usize = 4;
const FEW_WIDTH: usize = 64;
/// Bytes that a cache fetches at once.
const LINE: usize = 64;
/// Multiply-adds of a step that are worth a thread of their own, and those of a block beyond which its
/// sequences are shared out as well.
const LEAST: usize = 64 << 10;
const MUCH: usize = 1 << 20;

trait Float: lanes::Real + table::Real + Operand<Real = Self> + std::ops::Add<Output = Self> {}
impl Float for f32 {}
impl Float for f64 {}

/// Inputs: gi (L, N, gates·H), U (gates·H, H), h₀ (N, H), c₀ if the cell has one, and d (gates·H) if there is
/// one. Outputs: for each state, those before and after all steps (L + 1, N, H), and what the gradient
/// needs (L, N, kept·H), if it is asked for. Reversed, the steps are taken from the last to the first, and
/// the initial state is the last of the L + 1.
pub fn recurrent(cell: Cell, reverse: bool, inputs: &[View], outputs: &[Out]) -> Result<()> {
    match outputs[0].dtype {
        DType::F32 => forward::<f32>(cell, reverse, inputs, outputs),
        DType::F64 => forward::<f64>(cell, reverse, inputs, outputs),
        other => bail!(DType, "recurrent: computes in float32 or float64, not {other}"),
    }
}

/// Inputs: U, the states of [`recurrent`], what it kept if it keeps anything, the gradients of all steps' h
/// (L, N, H), and those of the last states (N, H). Outputs: the gradients of gi, those of U h + d if the cell
/// tells them apart, and those of the initial states.
pub fn recurrent_input(cell: Cell, reverse: bool, inputs: &[View], outputs: &[Out]) -> Result<()> {
    match outputs[0].dtype {
        DType::F32 => backward::<f32>(cell, reverse, inputs, outputs),
        DType::F64 => backward::<f64>(cell, reverse, inputs, outputs),
        other => bail!(DType, "recurrent: computes in float32 or float64, not {other}"),
    }
}

/// The sizes of a call, and how a step is shared out.
struct Sizes {
    steps: usize,
    batch: usize,
    hidden: usize,
    gates: usize,
    states: usize,
    kept: usize,
    reverse: bool,
    lanes: usize,
    /// Whether U is read in place.
    few: bool,
    /// Vectors in blocks; blocks and strips of sequences in groups; sequences in strips.
    blocks: Even,
    block_groups: Even,
    strips: Even,
    strip_groups: Even,
}

impl Sizes {
    fn new<T: Float>(
        cell: Cell,
        reverse: bool,
        [steps, batch, hidden]: [usize; 3],
        table: &Kernels<T>,
    ) -> Sizes {
        let (gates, states, kept) = sizes(cell);
        let few = batch < TILED;
        let vectors = if few {
            FEW_WIDTH / table.lanes
        } else {
            VECTORS.min(table.tiles[0].len()).min(WIDTH / table.lanes)
        };
        let blocks = Even::at_most(hidden.div_ceil(table.lanes), vectors);
        let strips = Even::at_most(batch, table.tiles.len().min(ROWS));
        let work = batch.saturating_mul(gates * hidden).saturating_mul(hidden);
        let block_groups = Even::new(blocks.parts, (work / LEAST).clamp(1, blocks.parts));
        let rows = Even::new(strips.parts, (work / block_groups.parts / MUCH).clamp(1, strips.parts));
        Sizes {
            steps,
            batch,
            hidden,
            gates,
            states,
            kept,
            reverse,
            lanes: table.lanes,
            few,
            blocks,
            block_groups,
            strips,
            strip_groups: rows,
        }
    }

    fn is_empty(&self) -> bool {
        self.steps * self.batch * self.hidden == 0
    }

    /// The units of a block, and how wide its panels are.
    fn block(&self, b: usize) -> (Range<usize>, usize) {
        let vectors = self.blocks.part(b);
        (times(vectors.clone(), self.lanes, self.hidden), vectors.len() * self.lanes)
    }

    /// When step `s` is, and where the states before and after it stand.
    fn time(&self, s: usize) -> (usize, usize, usize) {
        if self.reverse {
            let t = self.steps - 1 - s;
            (t, t + 1, t)
        } else {
            (s, s, s + 1)
        }
    }

    /// Elements of all sequences' states, and of their gates.
    fn state(&self) -> usize {
        self.batch * self.hidden
    }

    fn gate(&self) -> usize {
        self.gates * self.state()
    }

    /// The packed weights: the panels of a block begin where they would if all before were whole vectors.
    fn pack<T: Float>(&self, panels: impl Fn(Range<usize>, usize, *mut T) + Sync) -> Result<Option<Memory>> {
        if self.few {
            return Ok(None);
        }
        let (depth, padded) = (self.gates * self.hidden, self.hidden.next_multiple_of(self.lanes));
        let memory = scratch::<T>(depth.saturating_mul(padded))?;
        let to = Shared::<T>::new(memory.ptr().cast());
        parallel(self.blocks.parts, |b| {
            let (units, width) = self.block(b);
            panels(units.clone(), width, to.at(units.start * depth));
        });
        Ok(Some(memory))
    }

    /// Fetches these units of rows that are as far apart as there are hidden units.
    fn fetch<T>(&self, from: *const T, rows: usize, units: usize) {
        if self.few || from.is_null() {
            return;
        }
        for row in 0..rows {
            for unit in (0..units).step_by(LINE / size_of::<T>()) {
                prefetch(from.wrapping_add(row * self.hidden + unit));
            }
        }
    }

    /// Calls `f` with each block and strip of sequences, on all threads.
    fn each(&self, f: impl Fn(Range<usize>, usize, Range<usize>) + Sync) {
        parallel(self.block_groups.parts * self.strip_groups.parts, |task| {
            for b in self.block_groups.part(task % self.block_groups.parts) {
                let (units, width) = self.block(b);
                for s in self.strip_groups.part(task / self.block_groups.parts) {
                    f(units.clone(), width, self.strips.part(s));
                }
            }
        });
    }
}

fn at<T>(pointer: *const T, offset: usize) -> *const T {
    if pointer.is_null() { pointer } else { pointer.wrapping_add(offset) }
}

fn forward<T: Float>(cell: Cell, reverse: bool, inputs: &[View], outputs: &[Out]) -> Result<()> {
    let table = <T as table::Real>::kernels(isa::get());
    let &[steps, batch, _] = &inputs[0].layout.shape[..] else { unreachable!("checked by the graph") };
    let s = &Sizes::new(cell, reverse, [steps, batch, inputs[1].layout.shape[1]], table);
    if s.is_empty() {
        return Ok(());
    }
    let pointer = |i: usize| inputs.get(i).map_or(std::ptr::null(), |view| view.first().cast::<T>());
    let gi = Shared::new(pointer(0).cast_mut());
    let bias = Shared::new(pointer(2 + s.states).cast_mut());
    let weight = Matrix { at: pointer(1), rs: s.hidden as isize, cs: 1 };
    let all: [Shared<T>; 2] =
        [0, 1].map(|i| Shared::new(if i < s.states { outputs[i].ptr.cast() } else { null_mut() }));
    let kept = Shared::<T>::new(outputs.get(s.states).map_or(null_mut(), |out| out.ptr.cast()));
    for (i, all) in all.iter().enumerate().take(s.states) {
        // SAFETY: the initial state is as large as each of the states.
        unsafe {
            let first = all.at(s.time(0).1 * s.state());
            first.copy_from_nonoverlapping(pointer(2 + i), s.state());
        }
    }
    let memory = s.pack::<T>(|units, width, to| {
        for g in 0..s.gates {
            let from = weight.from(g * s.hidden + units.start, 0).transposed();
            // SAFETY: these are columns of Uᵀ, and the panel is this block's.
            unsafe {
                let to = to.add(g * s.hidden * width);
                pack(table, from, s.hidden, units.len(), to, width);
            }
        }
    })?;
    let panels = Shared::<T>::new(memory.as_ref().map_or(null_mut(), |memory| memory.ptr().cast()));
    for step in 0..s.steps {
        let (t, before, after) = s.time(step);
        s.each(|units, width, rows| {
            let mut products = [T::default(); ROWS * MOST * WIDTH];
            let h = all[0].at(before * s.state() + rows.start * s.hidden);
            let gate = |of: usize| (t * s.batch + rows.start) * of * s.hidden + units.start;
            s.fetch(at(gi.at(0), gate(s.gates)), rows.len() * s.gates, units.len());
            s.fetch(at(kept.at(0), gate(s.kept)), rows.len() * s.kept, units.len());
            for g in 0..s.gates {
                let b = panels.at(units.start * s.gates * s.hidden + g * s.hidden * width);
                let mut tile = Tile {
                    k: s.hidden,
                    n: width,
                    a: h.cast_const(),
                    lda: s.hidden as isize,
                    b: b.cast_const(),
                    ldb: width as isize,
                    c: products[g * width..].as_mut_ptr(),
                    ldc: s.gates * width,
                    add: false,
                };
                if !s.few {
                    // SAFETY: rows of h, a whole panel, and room for the tile.
                    unsafe { table.tiles[rows.len() - 1][width / s.lanes - 1][0][0](&tile) }
                    continue;
                }
                tile.ldb = s.hidden as isize;
                let together = table.row_dots.len();
                for unit in (0..units.len()).step_by(together) {
                    tile.n = together.min(units.len() - unit);
                    tile.b = weight.from(g * s.hidden + units.start + unit, 0).at;
                    for row in 0..rows.len() {
                        tile.a = h.wrapping_add(row * s.hidden);
                        tile.c = products[(row * s.gates + g) * width + unit..].as_mut_ptr();
                        // SAFETY: a row of h, rows of U, and room for as many sums.
                        unsafe { table.row_dots[tile.n - 1](&tile) }
                    }
                }
            }
            let state = |time: usize, i: usize| {
                at(all[i].at(0), time * s.state() + rows.start * s.hidden + units.start)
            };
            let work = Forward {
                cell,
                rows: rows.len(),
                units: units.len(),
                hidden: s.hidden,
                width,
                gi: gi.at(gate(s.gates)),
                gh: products.as_ptr(),
                bias: at(bias.at(0), units.start),
                before: [state(before, 0), state(before, 1)],
                after: [state(after, 0).cast_mut(), state(after, 1).cast_mut()],
                kept: at(kept.at(0), gate(s.kept)).cast_mut(),
            };
            // SAFETY: these units of these sequences at this time are this task's.
            unsafe { work.run() }
        });
    }
    Ok(())
}

fn backward<T: Float>(cell: Cell, reverse: bool, inputs: &[View], outputs: &[Out]) -> Result<()> {
    let table = <T as table::Real>::kernels(isa::get());
    let &[steps, batch, hidden] = &inputs[1].layout.shape[..] else { unreachable!("checked by the graph") };
    let s = &Sizes::new(cell, reverse, [steps - 1, batch, hidden], table);
    if s.is_empty() {
        return Ok(());
    }
    let pointer = |i: usize| inputs[i].first().cast::<T>().cast_mut();
    let null = Shared::new(null_mut());
    let weight = Matrix { at: pointer(0).cast_const(), rs: s.hidden as isize, cs: 1 };
    let all: [Shared<T>; 2] = [0, 1].map(|i| if i < s.states { Shared::new(pointer(1 + i)) } else { null });
    let rest = 1 + s.states;
    let kept: Shared<T> = if s.kept > 0 { Shared::new(pointer(rest)) } else { null };
    let rest = rest + (s.kept > 0) as usize;
    let (dy, dlast) = (Shared::new(pointer(rest)), Shared::new(pointer(rest + 1)));
    let apart = cell == Cell::Gru;
    let dgi = Shared::<T>::new(outputs[0].ptr.cast());
    let dgh: Shared<T> = if apart { Shared::new(outputs[1].ptr.cast()) } else { null };
    let through = if apart { dgh } else { dgi };
    let dfirst = Shared::<T>::new(outputs[1 + apart as usize].ptr.cast());
    // What steps leave to those before them beside the gates' gradients: that of c, or the part of h's that
    // goes past the gates. The first becomes c₀'s in place.
    let own = if apart { Some(scratch::<T>(s.state())?) } else { None };
    let carry: Shared<T> = match (&own, cell) {
        (Some(memory), _) => {
            // SAFETY: all of it; zero bytes are zeros.
            unsafe { memory.ptr().write_bytes(0, s.state() * size_of::<T>()) };
            Shared::new(memory.ptr().cast())
        }
        (None, Cell::Lstm) => {
            let carry = Shared::<T>::new(outputs[2].ptr.cast());
            // SAFETY: gradients of the last and of the first c are equally large.
            unsafe { carry.at(0).copy_from_nonoverlapping(pointer(rest + 2), s.state()) };
            carry
        }
        (None, _) => null,
    };
    let depth = s.gates * s.hidden;
    let memory = s.pack::<T>(|units, width, to| {
        // SAFETY: these columns of U, and this block's panel.
        unsafe { pack(table, weight.from(0, units.start), depth, units.len(), to, width) }
    })?;
    let panels = Shared::<T>::new(memory.as_ref().map_or(null_mut(), |memory| memory.ptr().cast()));
    for step in (0..=s.steps).rev() {
        s.each(|units, width, rows| {
            let mut dh = [T::default(); ROWS * WIDTH];
            let place = rows.start * s.hidden + units.start;
            if step > 0 {
                let (t, before, _) = s.time(step - 1);
                let gate = |of: usize| (t * s.batch + rows.start) * of * s.hidden + units.start;
                s.fetch(at(kept.at(0), gate(s.kept)), rows.len() * s.kept, units.len());
                s.fetch(at(dgi.at(0), gate(s.gates)), rows.len() * s.gates, units.len());
                s.fetch(at(dgh.at(0), gate(s.gates)), rows.len() * s.gates, units.len());
                s.fetch(dy.at(t * s.state() + place), rows.len(), units.len());
                s.fetch(at(all[s.states - 1].at(0), before * s.state() + place), rows.len(), units.len());
            }
            if step < s.steps {
                // Through the gates of the step that follows.
                let t = s.time(step).0;
                let mut tile = Tile {
                    k: depth,
                    n: width,
                    a: through.at(t * s.gate() + rows.start * depth).cast_const(),
                    lda: depth as isize,
                    b: panels.at(units.start * depth),
                    ldb: width as isize,
                    c: dh.as_mut_ptr(),
                    ldc: width,
                    add: false,
                };
                if !s.few {
                    // SAFETY: rows of the gates' gradients, a whole panel, and room for the tile.
                    unsafe { table.tiles[rows.len() - 1][width / s.lanes - 1][0][0](&tile) }
                } else {
                    (tile.n, tile.b, tile.ldb) =
                        (units.len(), weight.from(0, units.start).at, s.hidden as isize);
                    for row in 0..rows.len() {
                        tile.c = dh[row * width..].as_mut_ptr();
                        // SAFETY: a row of the gates' gradients, columns of U, and room for as many sums.
                        unsafe { (table.row)(&tile) }
                        tile.a = tile.a.wrapping_add(depth);
                    }
                }
            } else {
                for (row, dh) in dh.chunks_mut(width).take(rows.len()).enumerate() {
                    // SAFETY: the gradient of the last h has these units.
                    let last = unsafe { dlast.slice(place + row * s.hidden, units.len()) };
                    dh[..units.len()].copy_from_slice(last);
                }
            }
            if step == 0 {
                for (row, dh) in dh.chunks(width).take(rows.len()).enumerate() {
                    let at = place + row * s.hidden;
                    // SAFETY: these units of the first h's gradient are this task's.
                    let first = unsafe { dfirst.slice(at, units.len()) };
                    first.copy_from_slice(&dh[..units.len()]);
                    if apart {
                        // SAFETY: as above.
                        let past = unsafe { carry.slice(at, units.len()) };
                        first.iter_mut().zip(past).for_each(|(x, &mut past)| *x = *x + past);
                    }
                }
                return;
            }
            let (t, before, after) = s.time(step - 1);
            let state = |time: usize, i: usize| at(all[i].at(0), time * s.state() + place);
            let gate = |of: usize| (t * s.batch + rows.start) * of * s.hidden + units.start;
            let work = Backward {
                cell,
                rows: rows.len(),
                units: units.len(),
                hidden: s.hidden,
                width,
                dh: dh.as_ptr(),
                dy: dy.at(t * s.state() + place),
                kept: at(kept.at(0), gate(s.kept)),
                before: [state(before, 0), state(before, 1)],
                after: [state(after, 0), state(after, 1)],
                carry: at(carry.at(0), place).cast_mut(),
                dgi: dgi.at(gate(s.gates)),
                dgh: at(dgh.at(0), gate(s.gates)).cast_mut(),
            };
            // SAFETY: these units of these sequences at this time are this task's.
            unsafe { work.run() }
        });
    }
    Ok(())
}

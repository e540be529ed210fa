//! The loops behind reductions and moments: which elements meet in which order, on which thread.
//! What meeting means (sum, maximum, mean and variance) is a [`Fold`], and lives with its kernel.
//!
//! The iteration space is seen as axes that are reduced or kept, in turns; neighbours of one sort are
//! one axis. One reduced axis is folded by vector code straight from the map's values:
//!
//! - *rows*: the last axis, if it is reduced and long, or is all there is to reduce;
//! - *columns*: else the last reduced axis that has a kept one behind it; whole rows of the inner axes
//!   stream through and each column has its state.
//!
//! That leaves at most a few percent as many states as there were elements. They are merged along
//! what is left to reduce, pairwise. Long axes are cut into segments, which are one more axis to merge.
//! All cuts depend on the shape alone.

use super::pointwise::Evaluator;
use super::view;
use super::work::{GRAIN, Temp, try_parallel};
use crate::core::layout::Strides;
use crate::core::{Layout, Result, Shape};
use crate::ir::kernel::Axes;
use smallvec::SmallVec;

/// How elements of type `T` become states of type `W`, one for each result.
pub struct Fold<T, W> {
    /// The states of neighbouring rows of `length` elements each.
    pub rows: fn(values: &[T], length: usize, states: &mut [W]),
    /// Merges into each state its column of these rows.
    pub columns: fn(rows: &[&[T]], states: &mut [W]),
    pub merge: fn(W, W) -> W,
    /// The state of nothing.
    pub neutral: W,
}

const BLOCK: usize = Evaluator::BLOCK;
/// Rows shorter than this do not pay when other axes are reduced as well.
const LONG: usize = 256;
/// How many rows of a column fold are added in registers before they meet the states.
pub const BATCH: usize = 8;
/// Columns that one thread folds together: their states stay in its second level cache.
const TILE: usize = 8192;
/// How many lines (rows, or several short ones as one) make a segment of a column fold.
const LINES: usize = 128;

/// Size, and whether it is reduced.
type Axis = (usize, bool);

/// One state for each element of `shape` without `axes`, handed in row-major runs to
/// `emit(first, states)`. The shape must not be empty.
pub fn fold<T: Copy + Sync, W: Copy + Send + Sync>(
    fold: &Fold<T, W>,
    axes: Axes,
    map: &Evaluator,
    shape: &Shape,
    emit: &(dyn Fn(usize, &[W]) + Sync),
) -> Result<()> {
    let plan = Plan::new(shape, axes);
    if plan.left.iter().all(|&(_, reduced)| !reduced) {
        return plan.run(fold, map, emit);
    }
    let mut states = Temp::filled(plan.states(), fold.neutral)?;
    let shared = states.shared();
    plan.run(fold, map, &|at, part| {
        // SAFETY: parts do not overlap, and together they are `plan.states()` long.
        unsafe { shared.slice(at, part.len()) }.copy_from_slice(part)
    })?;
    merge_axes(fold, &states, &plan.left, emit)
}

struct Plan {
    /// The space as (outer, length, inner), of which `length` is folded first.
    outer: usize,
    length: usize,
    inner: usize,
    /// Rows or columns.
    rows: bool,
    /// `length` in segments of `step`.
    step: usize,
    segments: usize,
    /// How many rows of `inner` elements pass as one line of a column fold.
    packed: usize,
    /// The axes of the states.
    left: SmallVec<[Axis; 6]>,
}

impl Plan {
    fn new(shape: &Shape, axes: Axes) -> Plan {
        let mut all: SmallVec<[Axis; 6]> = SmallVec::new();
        for (axis, &size) in shape.iter().enumerate() {
            let reduced = axes.contains(axis);
            match all.last_mut() {
                _ if size == 1 => {}
                Some(last) if last.1 == reduced => last.0 *= size,
                _ => all.push((size, reduced)),
            }
        }
        if all.iter().all(|&(_, reduced)| !reduced) {
            all.insert(0, (1, true));
        }
        let n = all.len();
        let only = n < 3;
        let (at, rows) = match all[n - 1] {
            (length, true) if only || length >= LONG => (n - 1, true),
            (_, true) => (n - 3, false),
            _ => (n - 2, false),
        };
        let product = |axes: &[Axis]| axes.iter().map(|a| a.0).product();
        let (outer, length, inner): (usize, usize, usize) =
            (product(&all[..at]), all[at].0, product(&all[at + 1..]));
        let packed = if rows { 1 } else { (BLOCK / inner).max(1) };
        let step = if rows { GRAIN.next_multiple_of(BLOCK) } else { LINES * packed };
        let segments = length.div_ceil(step);
        let mut left = all;
        left[at] = (segments, segments > 1);
        Plan { outer, length, inner, rows, step, segments, packed, left }
    }

    fn states(&self) -> usize {
        self.left.iter().map(|a| a.0).product()
    }

    fn run<T: Copy + Sync, W: Copy + Send + Sync>(
        &self,
        fold: &Fold<T, W>,
        map: &Evaluator,
        emit: &(dyn Fn(usize, &[W]) + Sync),
    ) -> Result<()> {
        if self.rows {
            let pieces = self.outer * self.segments;
            let each = (GRAIN / self.length).max(1);
            try_parallel(pieces.div_ceil(each), |chunk| {
                let first = chunk * each;
                self.fold_rows(fold, map, first, each.min(pieces - first), emit)
            })
        } else {
            let tasks = self.outer * self.segments * self.inner.div_ceil(TILE);
            let each = (GRAIN / (self.length.min(self.step) * self.inner.min(TILE))).max(1);
            try_parallel(tasks.div_ceil(each), |chunk| {
                let first = chunk * each;
                self.fold_columns(fold, map, first, each.min(tasks - first), emit)
            })
        }
    }

    /// Folds pieces `first .. first + count`; a piece is a segment of a row.
    fn fold_rows<T: Copy, W: Copy>(
        &self,
        fold: &Fold<T, W>,
        map: &Evaluator,
        first: usize,
        count: usize,
        emit: &(dyn Fn(usize, &[W]) + Sync),
    ) -> Result<()> {
        let mut scratch = map.scratch()?;
        let length = self.length;
        if length <= BLOCK {
            let each = BLOCK / length;
            let mut states = Temp::filled(each.min(count), fold.neutral)?;
            for row in (first..first + count).step_by(each) {
                let n = each.min(first + count - row);
                // SAFETY: `values` gives as many values as asked for, of the map's type.
                let values = unsafe { slice(map.values(&mut scratch, row * length, n * length), n * length) };
                (fold.rows)(values, length, &mut states[..n]);
                emit(row, &states[..n]);
            }
            return Ok(());
        }
        for piece in first..first + count {
            let (row, segment) = (piece / self.segments, piece % self.segments);
            let begin = segment * self.step;
            let end = length.min(begin + self.step);
            let mut state = fold.neutral;
            for at in (begin..end).step_by(BLOCK) {
                let n = BLOCK.min(end - at);
                // SAFETY: as above.
                let values = unsafe { slice(map.values(&mut scratch, row * length + at, n), n) };
                let mut part = [fold.neutral];
                (fold.rows)(values, n, &mut part);
                state = (fold.merge)(state, part[0]);
            }
            emit(piece, &[state]);
        }
        Ok(())
    }

    /// Folds tasks `first .. first + count`; a task is a segment of a tile of columns.
    fn fold_columns<T: Copy, W: Copy>(
        &self,
        fold: &Fold<T, W>,
        map: &Evaluator,
        first: usize,
        count: usize,
        emit: &(dyn Fn(usize, &[W]) + Sync),
    ) -> Result<()> {
        let (inner, pitch) = (self.inner, self.inner * self.packed);
        let tiles = inner.div_ceil(TILE);
        let tile = if self.packed > 1 { pitch } else { inner.min(TILE) };
        let mut states = Temp::filled(tile, fold.neutral)?;
        let mut scratch: SmallVec<[_; BATCH]> = SmallVec::new();
        for _ in 0..BATCH.min(self.length.div_ceil(self.packed)) {
            scratch.push(map.scratch()?);
        }
        for task in first..first + count {
            let (part, tile) = (task / tiles, task % tiles);
            let (outer, segment) = (part / self.segments, part % self.segments);
            let begin = segment * self.step;
            let rows = self.step.min(self.length - begin);
            let (column, width) = (tile * TILE, tile_width(pitch, tile).min(rows * inner));
            let start = (outer * self.length + begin) * inner + column;
            let states = &mut states[..width];
            states.fill(fold.neutral);

            let mut fold_lines = |line: usize, lines: usize, width: usize, states: &mut [W]| {
                for at in (0..width).step_by(BLOCK) {
                    let n = BLOCK.min(width - at);
                    let mut rows: [&[T]; BATCH] = [&[]; BATCH];
                    for (i, row) in rows[..lines].iter_mut().enumerate() {
                        let values = map.values(&mut scratch[i], start + (line + i) * pitch + at, n);
                        // SAFETY: as above; each row has a scratch of its own.
                        *row = unsafe { slice(values, n) };
                    }
                    (fold.columns)(&rows[..lines], &mut states[at..at + n]);
                }
            };
            let (whole, rest) = (rows * inner / pitch, rows * inner % pitch);
            for line in (0..whole).step_by(BATCH) {
                fold_lines(line, BATCH.min(whole - line), width, states);
            }
            if rest > 0 {
                fold_lines(whole, 1, rest, states);
            }

            // Packed rows have a set of states each.
            let mut sets = if self.packed > 1 { width / inner } else { 1 };
            while sets > 1 {
                let half = sets.div_ceil(2);
                for i in 0..(sets - half) * inner {
                    states[i] = (fold.merge)(states[i], states[i + half * inner]);
                }
                sets = half;
            }
            emit(part * inner + column, &states[..width.min(inner)]);
        }
        Ok(())
    }
}

/// How wide the given tile of a line of `pitch` columns is.
fn tile_width(pitch: usize, tile: usize) -> usize {
    TILE.min(pitch - tile * TILE)
}

/// Merges states along the reduced ones of their axes.
fn merge_axes<T, W: Copy + Send + Sync>(
    fold: &Fold<T, W>,
    states: &[W],
    axes: &[Axis],
    emit: &(dyn Fn(usize, &[W]) + Sync),
) -> Result<()> {
    let strides = axes.iter().map(|a| a.0).collect::<Shape>().strides();
    let walk = |reduced: bool| {
        let mine = || axes.iter().zip(&strides).filter(move |(a, _)| a.1 == reduced);
        let shape: Shape = mine().map(|(a, _)| a.0).collect();
        let strides: Strides = mine().map(|(_, &s)| s).collect();
        (shape.count(), view::Axes::new(&Layout { shape, strides, offset: 0 }))
    };
    let (results, kept) = walk(false);
    let (count, reduced) = walk(true);
    let mut places = Temp::filled(count, 0usize)?;
    fill_places(&reduced, 0, &mut places);

    let each = (GRAIN / 16 / count).max(1);
    try_parallel(results.div_ceil(each), |chunk| {
        let first = chunk * each;
        let n = each.min(results - first);
        let mut bases = Temp::filled(n, 0usize)?;
        fill_places(&kept, first, &mut bases);
        let mut pile = Temp::filled(count, fold.neutral)?;
        let mut merged = Temp::filled(n, fold.neutral)?;
        for (&base, merged) in bases.iter().zip(&mut merged[..]) {
            for (state, place) in pile.iter_mut().zip(&places[..]) {
                *state = states[base + place];
            }
            let mut left = count;
            while left > 1 {
                let half = left.div_ceil(2);
                for i in 0..left - half {
                    pile[i] = (fold.merge)(pile[i], pile[i + half]);
                }
                left = half;
            }
            *merged = pile[0];
        }
        emit(first, &merged);
        Ok(())
    })
}

fn fill_places(axes: &view::Axes, start: usize, places: &mut [usize]) {
    let mut at = 0;
    axes.runs(start, places.len(), |place, n| {
        for i in 0..n {
            places[at + i] = (place + i as isize * axes.stride()) as usize;
        }
        at += n;
    });
}

/// # Safety
/// `ptr` must point at `len` values of type `T` that stay as they are while the slice is used.
unsafe fn slice<'a, T>(ptr: *const u8, len: usize) -> &'a [T] {
    // SAFETY: what the caller promises.
    unsafe { std::slice::from_raw_parts(ptr.cast(), len) }
}

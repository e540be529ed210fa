//! Products of two real matrices: C in register tiles, k in steps, operands packed where that pays.
//!
//! ```text
//! for columns of B, 4096 at a time
//!   for steps of k, 384 at a time                    fixes the order of summation
//!     pack these rows of B: panels of 48 columns     all threads
//!     for rows of A, 4096 at a time
//!       pack these columns of A: rows                all threads
//!       for groups of panels that fit the 2nd level of cache, groups of rows       all threads
//!         for strips of 8 rows (they stay in the 1st level)
//!           for panels: one tile
//! ```
//!
//! Only the steps of k have a say in what is computed; the rest only decides where data waits.

use std::ops::Range;

use super::kernel::Tile;
use super::pack::{Even, Matrix, Operand, pack as copy, scratch, times};
use super::table::Real;
use super::{Job, TASK, work};
use crate::core::Result;
use crate::cpu::Memory;
use crate::cpu::threads::parallel;
use crate::cpu::work::Shared;

/// Rows of A and columns of B that are packed at once.
const BLOCK: usize = 4096;

/// Bytes of B that a group of panels may take: they are to stay in the second level of cache.
const GROUP: usize = 512 << 10;

/// Rows of a panel that are packed before it is the next one's turn.
const TURN: usize = 16;

/// Elements that one thread packs before it looks for more work.
const PACK: usize = 32 << 10;

/// Elements of C that are worth telling of.
const FINISHED: usize = 4096;

/// # Safety
/// As for `matmul`; m, n and k are not zero.
pub unsafe fn tiled<S: Operand>(job: &Job<S>) -> Result<()> {
    let &Job { m, n, k, a, b, table, .. } = job;
    let steps = Even::at_most(k, S::Real::DEPTH);
    let lda = k.div_ceil(steps.parts).next_multiple_of(table.lanes);

    let a_in_place = S::in_place(a).filter(|a| a.cs == 1 && !packing_a_pays(job));
    let b_in_place = S::in_place(b).filter(|b| b.cs == 1 && !packing_b_pays(job));
    let a_len = if a_in_place.is_some() { 0 } else { m.min(BLOCK) * lda };
    let b_len = if b_in_place.is_some() { 0 } else { n.min(BLOCK).next_multiple_of(table.lanes) * lda };
    let len = a_len + b_len;
    let memory = if len > 0 { Some(scratch::<S::Real>(len)?) } else { None };
    let a_pack = Shared::new(memory.as_ref().map_or(std::ptr::null_mut(), Memory::ptr).cast());
    let b_pack = Shared::new(a_pack.at(a_len));
    let (sums, _sums) = job.sums()?;

    // Columns are cut between vectors, so that none but the last is partial.
    let col_blocks = Even::at_most(n.div_ceil(table.lanes), BLOCK / table.lanes);
    let row_blocks = Even::at_most(m, BLOCK);
    for vectors in col_blocks.iter() {
        let cols = times(vectors.clone(), table.lanes, n);
        let panels = Even::at_most(vectors.len(), table.tiles[0].len());
        for (i, depth) in steps.iter().enumerate() {
            for (j, rows) in row_blocks.iter().enumerate() {
                let strips = Even::at_most(rows.len(), table.tiles.len());
                let block = Block {
                    job,
                    a: a_in_place.ok_or(a_pack),
                    b: b_in_place.ok_or(b_pack),
                    lda,
                    sums,
                    rows,
                    cols: cols.clone(),
                    depth: depth.clone(),
                    strips,
                    panels,
                };
                // SAFETY: the caller's promises; the packs are as large as the blocks.
                unsafe {
                    if j == 0 {
                        block.pack_b();
                    }
                    block.pack_a();
                    block.multiply(i > 0, i + 1 == steps.parts);
                }
            }
        }
    }
    Ok(())
}

/// One block of rows of A, columns of B and depth of both.
struct Block<'a, S: Operand> {
    job: &'a Job<'a, S>,
    /// The whole operand where it is, or the place of this block's packed part.
    a: std::result::Result<Matrix<S::Real>, Shared<S::Real>>,
    b: std::result::Result<Matrix<S::Real>, Shared<S::Real>>,
    /// From a packed row of A to the next.
    lda: usize,
    /// C, or what will be rounded to it.
    sums: Shared<S::Real>,
    rows: Range<usize>,
    cols: Range<usize>,
    depth: Range<usize>,
    /// How the rows are cut into strips, and the columns, counted in vectors, into panels.
    strips: Even,
    panels: Even,
}

impl<S: Operand> Block<'_, S> {
    /// Whether both operands are packed, and in the order of the kernels' loop.
    fn packed(&self) -> bool {
        self.a.is_err() && self.b.is_err()
    }

    /// The columns of a panel, counted from the block's first, and how many vectors they fill.
    fn panel(&self, p: usize) -> (Range<usize>, usize) {
        let vectors = self.panels.part(p);
        (times(vectors.clone(), self.job.table.lanes, self.cols.len()), vectors.len())
    }

    /// Where a strip of A begins, and a panel of B. A packed panel has its rows behind each other, and
    /// begins where it would if all before it were as deep and had no gaps. A packed strip has its columns
    /// behind each other if B is packed too, else it is rows as they are in A.
    fn strip_of_a(&self, row: usize) -> Matrix<S::Real> {
        match self.a {
            Ok(a) => a.from(self.rows.start + row, self.depth.start),
            Err(pack) => Matrix { at: pack.at(row * self.lda), rs: self.lda as isize, cs: 1 },
        }
    }

    fn panel_of_b(&self, col: usize, vectors: usize) -> Matrix<S::Real> {
        match self.b {
            Ok(b) => b.from(self.depth.start, self.cols.start + col),
            Err(pack) => {
                let ld = vectors * self.job.table.lanes;
                Matrix { at: pack.at(col * self.depth.len()), rs: ld as isize, cs: 1 }
            }
        }
    }

    unsafe fn pack_a(&self) {
        let Err(pack) = self.a else { return };
        let (depth, table) = (self.depth.len(), self.job.table);
        let strips_at_once = (PACK / (depth * table.tiles.len())).max(1);
        let chunks = Even::at_most(self.strips.parts, strips_at_once);
        parallel(chunks.parts, |chunk| {
            let strips = chunks.part(chunk);
            let rows = self.strips.part(strips.start).start..self.strips.part(strips.end - 1).end;
            let from = |row: usize| self.job.a.from(self.rows.start + row, self.depth.start);
            let to = |row: usize| pack.at(row * self.lda);
            // SAFETY: these rows of A, and rows of the pack that nobody else writes.
            unsafe {
                if !self.packed() {
                    return copy(table, from(rows.start), rows.len(), depth, to(rows.start), self.lda);
                }
                for rows in strips.map(|s| self.strips.part(s)) {
                    copy(table, from(rows.start).transposed(), depth, rows.len(), to(rows.start), rows.len());
                }
            }
        });
    }

    unsafe fn pack_b(&self) {
        let Err(pack) = self.b else { return };
        let (depth, table) = (self.depth.len(), self.job.table);
        let chunks =
            Even::at_most(self.panels.parts, PACK / (depth * table.lanes * table.tiles[0].len()) + 1);
        // Neighbouring panels take turns, so that rows are read in long runs.
        let turns = if self.job.b.cs == 1 { Even::at_most(depth, TURN) } else { Even::new(depth, 1) };
        parallel(chunks.parts, |chunk| {
            for steps in turns.iter() {
                for p in chunks.part(chunk) {
                    let (cols, vectors) = self.panel(p);
                    let from = self.job.b.from(self.depth.start + steps.start, self.cols.start + cols.start);
                    let ldd = vectors * table.lanes;
                    let to = pack.at(cols.start * depth + steps.start * ldd);
                    // SAFETY: these columns of B, and a panel of the pack that nobody else writes.
                    unsafe { copy(table, from, steps.len(), cols.len(), to, ldd) }
                }
            }
        });
    }

    /// All tiles of this block of C. Tasks are groups of strips by groups of panels: so many groups of
    /// panels as the cache asks for, then so many groups of strips as the work is worth, and if there
    /// are too few strips, more groups of panels.
    unsafe fn multiply(&self, add: bool, finish: bool) {
        let (rows, cols, depth) = (self.rows.len(), self.cols.len(), self.depth.len());
        let tasks = (work(rows, cols, depth) / TASK).max(1);
        let by_cache = (cols * depth * size_of::<S::Real>()).div_ceil(GROUP).min(self.panels.parts);
        let strips = Even::new(self.strips.parts, (tasks / by_cache).clamp(1, self.strips.parts));
        let panels = Even::new(self.panels.parts, (tasks / strips.parts).clamp(by_cache, self.panels.parts));
        parallel(strips.parts * panels.parts, |task| {
            // Neighbouring tasks share their panels.
            let (strips, panels) = (strips.part(task % strips.parts), panels.part(task / strips.parts));
            // SAFETY: nobody else has these tiles.
            unsafe { self.tiles(strips, panels, add, finish) }
        });
    }

    unsafe fn tiles(&self, strips: Range<usize>, panels: Range<usize>, add: bool, finish: bool) {
        let Job { n, table, .. } = *self.job;
        let cols = self.panel(panels.start).0.start..self.panel(panels.end - 1).0.end;
        let mut unfinished = self.strips.part(strips.start).start;
        for s in strips.clone() {
            let strip = self.strips.part(s);
            let a = self.strip_of_a(strip.start);
            for p in panels.clone() {
                let (cols, vectors) = self.panel(p);
                let b = self.panel_of_b(cols.start, vectors);
                let partial = cols.len() < vectors * table.lanes;
                let kernels = &table.tiles[strip.len() - 1][vectors - 1];
                let tile = Tile {
                    k: self.depth.len(),
                    n: cols.len(),
                    a: a.at,
                    lda: a.rs,
                    b: b.at,
                    ldb: b.rs,
                    c: self.sums.at((self.rows.start + strip.start) * n + self.cols.start + cols.start),
                    ldc: n,
                    add,
                };
                // SAFETY: the tile lies within C and is the caller's; its operands are in place or packed
                // as the kernel wants them.
                unsafe { kernels[self.packed() as usize][partial as usize](&tile) }
            }
            if finish && ((strip.end - unfinished) * cols.len() >= FINISHED || s + 1 == strips.end) {
                let rows = self.rows.start + unfinished..self.rows.start + strip.end;
                let cols = self.cols.start + cols.start..self.cols.start + cols.end;
                // SAFETY: these sums are complete, and the caller's.
                unsafe { self.job.finish(self.sums, rows, cols) }
                unfinished = strip.end;
            }
        }
    }
}

/// Rows of A are read in place, unless so many columns of B use them that packing costs less than what
/// the kernels gain by it.
fn packing_a_pays<S: Operand>(job: &Job<S>) -> bool {
    job.m >= 128 && job.n >= 768
}

/// Rows of B are read in place while so few rows of A use them that packing would cost more.
fn packing_b_pays<S: Operand>(job: &Job<S>) -> bool {
    let partial = !job.table.masked && !job.n.is_multiple_of(job.table.lanes);
    partial || job.m >= 128 || job.m > 48 && job.k > 64 && apart_by_pages(job.b)
}

fn apart_by_pages<S>(operand: Matrix<S>) -> bool {
    (operand.rs.unsigned_abs() * size_of::<S>()).is_multiple_of(4096)
}

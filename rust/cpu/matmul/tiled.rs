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
use super::pack::{Matrix, Operand, pack as copy, scratch, times};
use super::table::Real;
use super::{Job, TASK, work};
use crate::core::Result;
use crate::cpu::Memory;
use crate::cpu::even::Even;
use crate::cpu::threads::{available, parallel};
use crate::cpu::work::{Shared, try_parallel};

/// Rows of A and columns of B that are packed at once.
const BLOCK: usize = 4096;

/// Bytes of B that a group of panels may take: they are to stay in the second level of cache.
const GROUP: usize = 512 << 10;

/// Rows of a panel that are packed before it is the next one's turn.
const TURN: usize = 16;

/// Elements that one thread packs before it looks for more work.
const PACK: usize = 4 << 10;

/// Parts of C to a thread, so that one that is held back costs little.
const PARTS: usize = 2;

/// Tasks of a block at most. More would only be smaller: the strips that a task reads from the first level of cache,
/// and the panels from the second, would serve fewer tiles (3 % of a product of 1024³).
const TASKS: usize = 512;

/// Columns to a thread that are worth packing A once more.
const WIDE: usize = 128;

/// Strips of rows to a part at least, if threads share out rows, and how many elements B may have then: they
/// are to stay in the second level of cache.
const STRIPS: usize = 4;
const SMALL: usize = 384 << 10;

/// Elements of B that few rows of A read in place, past what the first level holds, or that threads pack each its
/// columns of: on two threads a product of 128³ took 33 µs with B packed by all, for all waited for all and then for
/// the lines that the other core had written. It takes 15 in place, 18 with B transposed.
const IN_PLACE: usize = 96 << 10;

/// Elements of C that are worth telling of.
const FINISHED: usize = 4096;

/// How a product is shared between threads. It has no say in what is computed.
enum Share {
    /// Threads work on each block together, after they have packed its operands together.
    Together,
    /// Each has columns of B of its own, which no other core's cache has to hand over. What of A has to be
    /// packed, each packs for itself.
    Columns(Even),
    /// They pack all of B together; then each has strips of rows of its own, which it packs alone, and runs
    /// through all steps of k with them. That saves waiting for each other twice a step.
    Rows(Even),
}

/// # Safety
/// As for `matmul`; m, n and k are not zero.
pub unsafe fn tiled<S: Operand>(job: &Job<S>) -> Result<()> {
    let &Job { m, n, k, a, b, table, .. } = job;
    let (sums, _sums) = job.sums()?;
    let mut whole = Part {
        job,
        sums,
        rows: 0..m,
        vectors: 0..n.div_ceil(table.lanes),
        steps: Even::at_most(k, S::Real::DEPTH),
        a: S::in_place(a).filter(|a| a.cs == 1 && !packing_a_pays(job)),
        b: S::in_place(b).filter(|b| b.cs == 1 && !packing_b_pays(job)),
        packed_b: None,
    };
    // SAFETY (of all): the caller's promises; parts write different parts of C.
    match whole.share() {
        Share::Together => unsafe { whole.run() },
        Share::Columns(parts) => try_parallel(parts.parts, |i| unsafe {
            Part { vectors: parts.part(i), rows: 0..m, ..whole }.run()
        }),
        Share::Rows(parts) => {
            let packed = if whole.b.is_none() { Some(unsafe { whole.pack_b()? }) } else { None };
            whole.packed_b = packed.as_ref().map(|memory| Shared::new(memory.ptr().cast()));
            try_parallel(parts.parts, |i| {
                let strips = times(parts.part(i), table.tiles.len(), m);
                unsafe { Part { rows: strips, vectors: whole.vectors.clone(), ..whole }.run() }
            })
        }
    }
}

/// Some rows and some columns of C.
struct Part<'a, S: Operand> {
    job: &'a Job<'a, S>,
    /// C, or what will be rounded to it.
    sums: Shared<S::Real>,
    rows: Range<usize>,
    /// Columns, in vectors: they are cut between these, so that none but the last is partial.
    vectors: Range<usize>,
    /// How k is cut into steps.
    steps: Even,
    /// The whole operands, if they are read in place.
    a: Option<Matrix<S::Real>>,
    b: Option<Matrix<S::Real>>,
    /// All of B, packed step by step, if somebody has done that.
    packed_b: Option<Shared<S::Real>>,
}

impl<S: Operand> Part<'_, S> {
    fn share(&self) -> Share {
        let &Job { m, n, k, table, .. } = self.job;
        let (threads, strips) = (available(), m.div_ceil(table.tiles.len()));
        let tasks = work(m, n, k) / TASK;
        if threads == 1 || tasks < threads {
            return Share::Together;
        }
        // Packed together, a small B would have to be fetched from the core that packed it.
        let alone = self.a.is_some() && self.b.is_none() && work(n, k, 1) <= IN_PLACE;
        let own = if self.a.is_some() && !alone { PARTS * threads } else { threads };
        let columns = own.min(tasks).min(self.vectors.len() / table.tiles[0].len());
        let wide = 2 * m <= n || alone && m <= n;
        if wide && columns >= threads && (self.a.is_some() || n >= WIDE * threads) {
            return Share::Columns(Even::new(self.vectors.len(), columns));
        }
        let rows = tasks.min(strips / STRIPS);
        let apart = self.steps.parts > 1 || self.a.is_none();
        match apart && rows >= PARTS * threads && work(n, k, 1) <= SMALL {
            true => Share::Rows(Even::new(strips, rows)),
            false => Share::Together,
        }
    }

    fn block(&self, rows: Range<usize>, vectors: Range<usize>, step: usize) -> Block<'_, S> {
        let &Job { n, k, table, .. } = self.job;
        let depth = self.steps.part(step);
        Block {
            job: self.job,
            a: self.a.ok_or(Shared::new(std::ptr::null_mut())),
            b: self.b.ok_or(Shared::new(std::ptr::null_mut())),
            lda: k.div_ceil(self.steps.parts).next_multiple_of(table.lanes),
            sums: self.sums,
            strips: Even::at_most(rows.len(), table.tiles.len()),
            panels: Even::at_most(vectors.len(), table.tiles[0].len()),
            rows,
            cols: times(vectors, table.lanes, n),
            depth,
        }
    }

    /// All of B, packed by all threads: step after step, each as wide as B with its last vector full.
    unsafe fn pack_b(&self) -> Result<Memory> {
        let width = self.vectors.len() * self.job.table.lanes;
        let memory = scratch::<S::Real>(width * self.job.k)?;
        let pack = Shared::new(memory.ptr().cast());
        let block = |step: usize| {
            let block = self.block(0..0, self.vectors.clone(), step);
            Block { b: Err(Shared::new(pack.at(block.depth.start * width))), ..block }
        };
        let chunks = block(0).chunks_of_b().parts;
        parallel(self.steps.parts * chunks, |i| {
            let block = block(i / chunks);
            let of = block.chunks_of_b();
            // SAFETY: the caller's promises; the pack has room for all of B.
            (i % chunks < of.parts).then(|| unsafe { block.pack_panels(of.part(i % chunks)) });
        });
        Ok(memory)
    }

    /// Computes it, with all threads unless it is one thread's.
    unsafe fn run(&self) -> Result<()> {
        let table = self.job.table;
        let lda = self.job.k.div_ceil(self.steps.parts).next_multiple_of(table.lanes);
        let width = self.vectors.len().min(BLOCK / table.lanes) * table.lanes;
        let a_len = if self.a.is_some() { 0 } else { self.rows.len().min(BLOCK) * lda };
        let b_len = if self.b.is_some() || self.packed_b.is_some() { 0 } else { width * lda };
        let memory = if a_len + b_len > 0 { Some(scratch::<S::Real>(a_len + b_len)?) } else { None };
        let a_pack = Shared::new(memory.as_ref().map_or(std::ptr::null_mut(), Memory::ptr).cast());
        let b_pack = Shared::new(a_pack.at(a_len));

        let col_blocks = Even::at_most(self.vectors.len(), BLOCK / table.lanes);
        let row_blocks = Even::at_most(self.rows.len(), BLOCK);
        for vectors in col_blocks.iter() {
            let vectors = self.vectors.start + vectors.start..self.vectors.start + vectors.end;
            for step in 0..self.steps.parts {
                for (j, rows) in row_blocks.iter().enumerate() {
                    let rows = self.rows.start + rows.start..self.rows.start + rows.end;
                    let block = self.block(rows, vectors.clone(), step);
                    let ready = self.packed_b.map(|all| Shared::new(all.at(block.depth.start * width)));
                    let block =
                        Block { a: self.a.ok_or(a_pack), b: self.b.ok_or(ready.unwrap_or(b_pack)), ..block };
                    // SAFETY: the caller's promises; the packs are as large as the blocks.
                    unsafe {
                        if j == 0 && self.b.is_none() && ready.is_none() {
                            let chunks = block.chunks_of_b();
                            parallel(chunks.parts, |chunk| block.pack_panels(chunks.part(chunk)));
                        }
                        block.pack_a();
                        block.multiply(step > 0, step + 1 == self.steps.parts);
                    }
                }
            }
        }
        Ok(())
    }
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

    /// Panels of B that are packed at a time.
    fn chunks_of_b(&self) -> Even {
        let panel = self.depth.len() * self.job.table.lanes * self.job.table.tiles[0].len();
        Even::at_most(self.panels.parts, PACK / panel + 1)
    }

    unsafe fn pack_panels(&self, panels: Range<usize>) {
        let Err(pack) = self.b else { return };
        let (depth, table) = (self.depth.len(), self.job.table);
        // Neighbouring panels take turns, so that rows are read in long runs.
        let turns = if self.job.b.cs == 1 { Even::at_most(depth, TURN) } else { Even::new(depth, 1) };
        for steps in turns.iter() {
            for p in panels.clone() {
                let (cols, vectors) = self.panel(p);
                let from = self.job.b.from(self.depth.start + steps.start, self.cols.start + cols.start);
                let ldd = vectors * table.lanes;
                let to = pack.at(cols.start * depth + steps.start * ldd);
                // SAFETY: these columns of B, and a panel of the pack that nobody else writes.
                unsafe { copy(table, from, steps.len(), cols.len(), to, ldd) }
            }
        }
    }

    /// All tiles of this block of C. Tasks are groups of strips by groups of panels: so many groups of
    /// panels as the cache asks for, then so many groups of strips as the work is worth, and if there
    /// are too few strips, more groups of panels.
    unsafe fn multiply(&self, add: bool, finish: bool) {
        let (rows, cols, depth) = (self.rows.len(), self.cols.len(), self.depth.len());
        let tasks = (work(rows, cols, depth) / TASK).clamp(1, TASKS);
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
    let large = job.m >= 320 || job.m >= 128 && work(job.n, job.k, 1) > IN_PLACE;
    partial || large || job.m > 48 && job.k > 64 && apart_by_pages(job.b)
}

fn apart_by_pages<S>(operand: Matrix<S>) -> bool {
    (operand.rs.unsigned_abs() * size_of::<S>()).is_multiple_of(4096)
}

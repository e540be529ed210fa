//! Products of bfloat16 matrices where the processor has instructions for them: blocks of 32×32 (`cpu/bf16`), whose
//! sums stay float32 until the last step of k and are rounded once.
//!
//! ```text
//! pack B: panels of 32 columns                               all threads
//! for groups of 512 columns, groups of 256 rows              all threads
//!   for parts of k, 512 at a time
//!     for strips of 32 rows: packed unless they are read where they are
//!       for panels: one block
//! ```
//!
//! A strip of a part fills 32 KiB, so that it stays in the first level of cache while panels pass by from the second.

use half::bf16;

use super::pack::scratch;
use super::{Gemm, folded, for_each_product, work};
use crate::core::Result;
use crate::cpu::bf16::{BLOCK, EDGE, Left, STEP, Session, Source, UNIT, first, pack_left, pack_right, round};
use crate::cpu::even::Even;
use crate::cpu::isa::Bf16;
use crate::cpu::threads::{available, parallel};
use crate::cpu::work::{Shared, try_parallel};

/// Steps of 32 along k in a part at most.
const PART: usize = 16;
/// Panels and strips of a task at most.
const PANELS: usize = 16;
const STRIPS: usize = 8;
/// Steps that one thread packs before it looks for more work.
const PACK: usize = 32;
/// Rows of A that lie a multiple of so many bytes apart fall into the same sets of the cache.
const ALIASED: usize = 1024;

/// Whether a product has enough to do for blocks; vectors and small matrices have kernels of their own.
pub fn pays(g: &Gemm) -> bool {
    g.k > 1 && g.m.min(g.n) >= 4 && work(g.m, g.n, g.k) >= 8 << 10
}

/// # Safety
/// As for `matmul`; the processor has the instructions of `kind`, and m, n and k are not zero.
pub unsafe fn matmul(
    kind: Bf16,
    g: &Gemm,
    a: *const bf16,
    b: *const bf16,
    c: *mut bf16,
    done: &(dyn Fn(usize, usize) + Sync),
) -> Result<()> {
    if g.batch_a.is_empty() {
        return Ok(());
    }
    let g = &folded(g);
    let &Gemm { m, n, k, .. } = g;
    let (a, b) = (Shared::new(a.cast_mut()), Shared::new(b.cast_mut()));
    let c = Shared::new(c);
    for_each_product(g, |i, a_at, b_at| {
        let a = Source { at: a.at(0).wrapping_offset(a_at).cast(), along: g.csa, across: g.rsa };
        let b = Source { at: b.at(0).wrapping_offset(b_at).cast(), along: g.rsb, across: g.csb };
        let first = i * m * n;
        let c = Shared::new(c.at(first).cast());
        // SAFETY: the caller's promises, for this matrix of the batch.
        unsafe { Product { kind, m, n, k, a, b, c, first, done }.run() }
    })
}

struct Product<'a> {
    kind: Bf16,
    m: usize,
    n: usize,
    k: usize,
    /// A with its rows as what lies across, B with its columns.
    a: Source,
    b: Source,
    c: Shared<u16>,
    /// Where C begins in the batch.
    first: usize,
    done: &'a (dyn Fn(usize, usize) + Sync),
}

// SAFETY: operands are only read, and stay where they are meanwhile.
unsafe impl Sync for Product<'_> {}

impl Product<'_> {
    unsafe fn run(&self) -> Result<()> {
        let (strips, panels) = (self.m.div_ceil(EDGE), self.n.div_ceil(EDGE));
        let steps = self.k.div_ceil(STEP);
        let memory = scratch::<u16>(panels.saturating_mul(steps).saturating_mul(UNIT))?;
        let packed = Shared::new(memory.ptr().cast::<u16>());
        let chunks = Even::at_most(panels, (PACK / steps).max(1));
        parallel(chunks.parts, |chunk| {
            for panel in chunks.part(chunk) {
                let columns = EDGE.min(self.n - panel * EDGE);
                // SAFETY: these columns of B, and a panel that nobody else writes.
                unsafe {
                    let from = self.b.from(0, panel * EDGE);
                    pack_right(from, self.k, columns, packed.at(panel * steps * UNIT));
                }
            }
        });
        let groups = Even::at_most(panels, PANELS);
        let tasks = if available() == 1 { 1 } else { 2 * available() };
        let height = (strips * groups.parts / tasks).clamp(1, STRIPS);
        let bands = Even::at_most(strips, height);
        try_parallel(groups.parts * bands.parts, |task| {
            let (band, group) = (bands.part(task % bands.parts), groups.part(task / bands.parts));
            // SAFETY: the caller's promises; nobody else has these blocks of C.
            unsafe { self.task(band, group, steps, packed) }
        })
    }

    /// Whether blocks read strips of A where they are.
    fn in_place(&self, panels: usize) -> bool {
        let apart = 2 * self.a.across.unsigned_abs();
        self.a.along == 1 && self.k.is_multiple_of(STEP) && (!apart.is_multiple_of(ALIASED) || panels < 4)
    }

    /// Some strips by some panels.
    unsafe fn task(
        &self,
        strips: std::ops::Range<usize>,
        panels: std::ops::Range<usize>,
        steps: usize,
        packed: Shared<u16>,
    ) -> Result<()> {
        let parts = Even::at_most(steps, PART);
        let in_place = self.in_place(panels.len());
        // One strip of a part of A, and blocks: of all of C if sums wait for the next part.
        let strip_len = parts.part(0).len() * UNIT;
        let blocks = if parts.parts == 1 { 1 } else { strips.len() * panels.len() };
        let memory = scratch::<f32>(blocks * BLOCK + strip_len / 2)?;
        let sums = memory.ptr().cast::<f32>();
        let strip_at = sums.wrapping_add(blocks * BLOCK).cast::<u16>();
        let session = Session::new(self.kind);
        let (from, to) = (panels.start * EDGE, (panels.end * EDGE).min(self.n));
        for (p, part) in parts.iter().enumerate() {
            let last = p + 1 == parts.parts;
            let (k, depth) = (part.start * STEP, (part.end * STEP).min(self.k) - part.start * STEP);
            for (s, strip) in strips.clone().enumerate() {
                let rows = EDGE.min(self.m - strip * EDGE);
                let source = self.a.from(k, strip * EDGE);
                // SAFETY: these rows of A, packed panels, blocks of this task alone, and rows and columns of C.
                unsafe {
                    let left = if in_place && rows == EDGE {
                        Left { at: source.at, row: source.across, step: STEP as isize }
                    } else {
                        pack_left(source, depth, rows, strip_at);
                        Left::packed(strip_at)
                    };
                    for (j, panel) in panels.clone().enumerate() {
                        let block = sums.add(if blocks == 1 { 0 } else { s * panels.len() + j } * BLOCK);
                        let right = packed.at((panel * steps + part.start) * UNIT);
                        session.multiply(left, right, part.len(), block, p > 0);
                        if last {
                            let columns = EDGE.min(self.n - panel * EDGE);
                            let to = self.c.at(strip * EDGE * self.n + panel * EDGE);
                            round(block, rows, first(columns), to, self.n);
                        }
                    }
                }
                if last {
                    self.finish(strip * EDGE..strip * EDGE + rows, from..to);
                }
            }
        }
        Ok(())
    }

    /// Tells that these rows and columns of C are there.
    fn finish(&self, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>) {
        if columns.len() == self.n {
            return (self.done)(self.first + rows.start * self.n, rows.len() * self.n);
        }
        for row in rows {
            (self.done)(self.first + row * self.n + columns.start, columns.len());
        }
    }
}

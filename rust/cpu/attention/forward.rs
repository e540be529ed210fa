//! The forward pass, with an online softmax (Milakov and Gimelshein, 2018, https://arxiv.org/abs/1805.02867):
//!
//! ```text
//! for heads, for blocks of 256 queries                                      all threads
//!   scale the queries
//!   for blocks of 384 keys, of which some query sees one
//!     pack the keys, transposed: panels of 48
//!     for strips of 8 queries
//!       scores with those keys that one of them sees, in the first level of cache
//!       new maxima; weights relative to them; what was summed before, by the same measure
//!       weights times values, added to the result
//!   divide by the sums of weights
//! ```
//!
//! Fewer than 4 queries do not pay for packing; their scores are dot products along the keys where they are.

use std::ops::Range;

use super::rows::{Finish, Scaled, Weights};
use super::{Float, Heads};
use crate::core::Result;
use crate::cpu::conv::scratch;
use crate::cpu::even::Even;
use crate::cpu::matmul::kernel::Tile;
use crate::cpu::matmul::pack::{Matrix, times};
use crate::cpu::stored::MAX_WIDTH;
use crate::cpu::view::Out;
use crate::cpu::work::{Shared, try_parallel};

const QUERIES: usize = 256;
const KEYS: usize = 384;
/// Multiply-adds that are worth a task.
const TASK: usize = 512 << 10;
/// From so many queries on packing pays.
const PACKED: usize = 4;

pub(super) fn run<T: Float>(h: &Heads<T>, outputs: &[Out]) -> Result<()> {
    let (out, lse) = (Shared::<T>::new(outputs[0].ptr.cast()), Shared::<T>::new(outputs[1].ptr.cast()));
    if h.heads * h.queries == 0 {
        return Ok(());
    }
    let blocks = Even::at_most(h.queries, QUERIES);
    let items = h.heads * blocks.parts;
    let each = (TASK / (h.work() / blocks.parts).max(1)).clamp(1, items);
    try_parallel(items.div_ceil(each), |task| {
        for item in task * each..items.min((task + 1) * each) {
            let (head, rows) = (item / blocks.parts, blocks.part(item % blocks.parts));
            let first = head * h.queries + rows.start;
            let (count, values) = (rows.len(), rows.len() * h.value);
            // SAFETY: these rows of the results are this item's.
            let (out, lse) = unsafe { (out.slice(first * h.value, values), lse.slice(first, count)) };
            queries(h, head, rows, out, lse)?;
        }
        Ok(())
    })
}

/// Some queries of a head.
fn queries<T: Float>(
    h: &Heads<T>,
    head: usize,
    rows: Range<usize>,
    out: &mut [T],
    lse: &mut [T],
) -> Result<()> {
    let lanes = h.table.lanes;
    // Keys behind the last query are not seen by any.
    let keys = if h.causal { h.keys.min(rows.end) } else { h.keys };
    let blocks = Even::at_most(keys.div_ceil(lanes), (KEYS / lanes).max(1));
    let wide = blocks.part(0).len() * lanes;
    let packed = rows.len() >= PACKED;
    let strips = Even::at_most(rows.len(), h.table.tiles.len());
    let strip = strips.part(0).len();
    let (k, v) = (h.k.of(head), h.v.of(head));
    let sizes = [rows.len() * h.size, h.size * wide, wide * h.padded(h.value), strip * wide, rows.len()];
    let sums = rows.len() * MAX_WIDTH;
    scratch::with::<T, ()>(sizes.iter().sum::<usize>() + sums, |memory| {
        let mut next = memory;
        let mut take = |len: usize| {
            let at = next;
            next = next.wrapping_add(len);
            at
        };
        let sum = take(sums).cast::<[T; MAX_WIDTH]>();
        let [q, kt, vt, scores, max] = sizes.map(&mut take);
        // SAFETY: the operands have the rows and columns that their shapes say; parts of the memory are as
        // large as what is written to them, and the results this caller's.
        unsafe {
            let from = h.q.of(head).from(rows.start, 0);
            Scaled { from, rows: rows.len(), cols: h.size, by: h.scale, to: q }.run();
            for block in blocks.iter() {
                let block = times(block, lanes, keys);
                let panels = packed.then(|| h.panels(k.from(block.start, 0), block.len(), h.size, kt));
                let values = h.right(v.from(block.start, 0), block.len(), h.value, vt);
                for strip in strips.iter() {
                    let (row, count) = (rows.start + strip.start, strip.len());
                    let unlimited = block.len() as isize;
                    let seen = if h.causal { row as isize + 1 - block.start as isize } else { unlimited };
                    let last = if h.causal { seen + count as isize - 1 } else { unlimited };
                    if last <= 0 {
                        continue;
                    }
                    let near = block.len().min(last as usize);
                    let a =
                        Matrix { at: q.add(strip.start * h.size).cast_const(), rs: h.size as isize, cs: 1 };
                    match &panels {
                        Some(panels) => h.scores(a, count, panels, 0..near, scores, wide),
                        None => dots(h, a, count, k.from(block.start, 0), near, scores, wide),
                    }
                    let to = out.as_mut_ptr().add(strip.start * h.value);
                    Weights {
                        scores,
                        ld: wide,
                        rows: count,
                        seen,
                        more: h.causal as isize,
                        keys: near,
                        mask: h.mask.as_ref().map(|mask| mask.of(head).from(row, block.start)),
                        max: max.add(strip.start),
                        sum: sum.add(strip.start),
                        out: to,
                        value: h.value,
                        first: block.start == 0,
                    }
                    .run();
                    let weights = Matrix { at: scores.cast_const(), rs: wide as isize, cs: 1 };
                    h.multiply(weights, values, [count, h.value, near], to, block.start > 0);
                }
            }
            let (out, lse) = (out.as_mut_ptr(), lse.as_mut_ptr());
            Finish { rows: rows.len(), max, sum, out, value: h.value, lse }.run();
        }
    })
}

/// Scores with keys in place.
///
/// # Safety
/// There are so many rows of A and of the keys, and room for the scores.
unsafe fn dots<T: Float>(
    h: &Heads<T>,
    a: Matrix<T>,
    rows: usize,
    keys: Matrix<T>,
    count: usize,
    c: *mut T,
    ldc: usize,
) {
    let together = h.table.row_dots.len();
    for key in (0..count).step_by(together) {
        let n = together.min(count - key);
        for row in 0..rows {
            let tile = Tile {
                k: h.size,
                n,
                a: a.from(row, 0).at,
                lda: a.rs,
                b: keys.from(key, 0).at,
                ldb: keys.rs,
                c: c.wrapping_add(row * ldc + key),
                ldc,
                add: false,
            };
            // SAFETY: the caller's promises.
            unsafe { h.table.row_dots[n - 1](&tile) }
        }
    }
}

//! The gradients. With weights P = exp(scale Q Kᵀ + mask − lse), made again block by block, D = Σ dO ∘ O along
//! rows and dS = scale P ∘ (dO Vᵀ − D): dV = Pᵀ dO, dK = dSᵀ Q and dQ = dS K.
//!
//! ```text
//! for heads, for ranges of keys                                             all threads
//!   for blocks of 128 queries, of which some sees a key of the range
//!     pack the queries and dO, transposed: panels of 48
//!     for blocks of 128 keys
//!       for strips of 8 keys: a row to a key, so that nothing is summed along rows
//!         scores, and V dOᵀ, with those queries that see one of them
//!         the weights and the gradients of scores
//!         added to dV and dK
//!       the gradients of scores turned, times keys, added to dQ
//! ```
//!
//! A head is one range, unless there are so few heads that its keys are cut into ranges with a dQ of their
//! own each, which are added up in order.

use std::ops::Range;

use super::rows::{Dots, Slopes};
use super::{Each, Float, Heads};
use crate::core::Result;
use crate::cpu::conv::scratch;
use crate::cpu::even::Even;
use crate::cpu::lanes::Real;
use crate::cpu::matmul::pack::{Matrix, pack, times};
use crate::cpu::view::{Out, View};
use crate::cpu::work::{Shared, try_parallel};

const BLOCK: usize = 128;
/// So many tasks are enough for anybody; and the multiply-adds of a small one.
const TASKS: usize = 16;
const TASK: usize = 512 << 10;

/// What the forward pass gave, and the gradient of it.
struct Seen<T> {
    out: Each<T>,
    lse: *const T,
    dout: Each<T>,
}

// SAFETY: operands are only read.
unsafe impl<T> Sync for Seen<T> {}

pub(super) fn run<T: Float>(h: &Heads<T>, seen: &[View], outputs: &[Out]) -> Result<()> {
    let [dq, dk, dv] = [0, 1, 2].map(|i| Shared::<T>::new(outputs[i].ptr.cast()));
    let sizes = [h.queries * h.size, h.keys * h.size, h.keys * h.value];
    let seen = Seen { out: Each::new(&seen[0]), lse: seen[1].first().cast::<T>(), dout: Each::new(&seen[2]) };
    let blocks = Even::at_most(h.keys.div_ceil(h.table.lanes), (BLOCK / h.table.lanes).max(1));
    let ranges = Even::new(blocks.parts, TASKS.div_ceil(h.heads.max(1)).clamp(1, blocks.parts));
    let own = if ranges.parts > 1 { ranges.parts * h.heads * sizes[0] } else { 0 };
    let memory = scratch::memory::<T>(own)?;
    let parts = if own > 0 { Shared::new(memory.ptr().cast()) } else { dq };
    let items = h.heads * ranges.parts;
    let each = (TASK / (h.work() / ranges.parts).max(1)).clamp(1, items.max(1));
    try_parallel(items.div_ceil(each), |task| {
        for item in task * each..items.min((task + 1) * each) {
            let (head, range) = (item / ranges.parts, ranges.part(item % ranges.parts));
            let keys =
                times(blocks.part(range.start).start..blocks.part(range.end - 1).end, h.table.lanes, h.keys);
            // SAFETY: these parts of the results are this item's.
            let [dq, dk, dv] = unsafe {
                [
                    parts.slice(item * sizes[0], sizes[0]),
                    dk.slice(head * sizes[1] + keys.start * h.size, keys.len() * h.size),
                    dv.slice(head * sizes[2] + keys.start * h.value, keys.len() * h.value),
                ]
            };
            keys_of(h, &seen, head, keys, range.len(), [dq, dk, dv])?;
        }
        Ok(())
    })?;
    if own == 0 {
        return Ok(());
    }
    try_parallel(h.heads, |head| {
        // SAFETY: this head's results, which are complete.
        let (to, parts) = unsafe {
            let first = head * ranges.parts * sizes[0];
            (dq.slice(head * sizes[0], sizes[0]), parts.slice(first, ranges.parts * sizes[0]))
        };
        to.copy_from_slice(&parts[..sizes[0]]);
        for part in parts.chunks(sizes[0].max(1)).skip(1) {
            to.iter_mut().zip(part).for_each(|(to, &x)| *to = *to + x);
        }
        Ok(())
    })
}

/// A range of a head's keys, with all queries, in blocks of equal length.
fn keys_of<T: Float>(
    h: &Heads<T>,
    seen: &Seen<T>,
    head: usize,
    keys: Range<usize>,
    blocks: usize,
    [dq, dk, dv]: [&mut [T]; 3],
) -> Result<()> {
    let zero = T::default();
    dq.fill(zero);
    dk.fill(zero);
    dv.fill(zero);
    if h.queries == 0 {
        return Ok(());
    }
    let lanes = h.table.lanes;
    let most = h.table.tiles.len();
    let key_blocks = Even::new(keys.len().div_ceil(lanes), blocks);
    let query_blocks = Even::at_most(h.queries.div_ceil(lanes), (BLOCK / lanes).max(1));
    let wide = query_blocks.part(0).len() * lanes;
    let deep = key_blocks.part(0).len() * lanes;
    let longest = h.padded(h.size.max(h.value));
    let sizes = [
        h.size * wide,
        h.value * wide,
        wide * longest,
        wide * longest,
        deep * longest,
        most * wide,
        deep * wide,
        wide * deep,
        wide,
        wide,
    ];
    let (q, k, v) = (h.q.of(head), h.k.of(head), h.v.of(head));
    let (out, dout) = (seen.out.of(head), seen.dout.of(head));
    let [nothing, infinity] = [f64::NEG_INFINITY, f64::INFINITY].map(<T as Real>::of);
    scratch::with::<T, ()>(sizes.iter().sum(), |memory| {
        let mut next = memory;
        let [qt, dot, q_own, do_own, k_own, scores, slopes, turned, lse, delta] = sizes.map(|len| {
            let at = next;
            next = next.wrapping_add(len);
            at
        });
        // SAFETY: the operands have the rows and columns that their shapes say; parts of the memory are as
        // large as what is written to them, and the results this caller's.
        unsafe {
            for block in query_blocks.iter() {
                let block = times(block, lanes, h.queries);
                if h.causal && block.end <= keys.start {
                    continue;
                }
                let count = block.len();
                let (from, dfrom) = (q.from(block.start, 0), dout.from(block.start, 0));
                let queries = h.panels(from, count, h.size, qt);
                let grads = h.panels(dfrom, count, h.value, dot);
                let q_right = h.right(from, count, h.size, q_own);
                let do_right = h.right(dfrom, count, h.value, do_own);
                Dots { a: dfrom, b: out.from(block.start, 0), rows: count, cols: h.value, to: delta }.run();
                for i in 0..wide {
                    if i >= count {
                        *lse.add(i) = infinity;
                        *delta.add(i) = zero;
                        continue;
                    }
                    let x = *seen.lse.add(head * h.queries + block.start + i);
                    // A query without keys has weights of zero.
                    *lse.add(i) = if x == nothing { infinity } else { x };
                }
                for part in key_blocks.iter() {
                    let part = times(part, lanes, keys.len());
                    let first = keys.start + part.start;
                    if h.causal && block.end <= first {
                        break;
                    }
                    for strip in Even::at_most(part.len(), most).iter() {
                        let (key, rows) = (first + strip.start, strip.len());
                        let to = slopes.add(strip.start * wide);
                        // Queries before the strip's first key see none of it.
                        let unseen = if h.causal { key as isize - block.start as isize } else { 0 };
                        let skip = (unseen.clamp(0, count as isize) as usize) / lanes * lanes;
                        let (a, b) = (k.from(key, 0), v.from(key, 0));
                        if skip < count {
                            h.scores(a, rows, &queries, skip..count, scores, wide);
                            h.scores(b, rows, &grads, skip..count, to, wide);
                        }
                        let mask = h.mask.as_ref().map(|mask| mask.of(head).from(block.start, key));
                        let (more, scale) = (h.causal as isize, h.scale);
                        let (ld, first, queries) = (wide, skip, count);
                        let (slopes, rows) = (to, rows);
                        Slopes {
                            scores,
                            slopes,
                            ld,
                            rows,
                            first,
                            queries,
                            unseen,
                            more,
                            mask,
                            scale,
                            lse,
                            delta,
                        }
                        .run();
                        if skip == count {
                            continue;
                        }
                        let left =
                            |at: *mut T| Matrix { at: at.add(skip).cast_const(), rs: wide as isize, cs: 1 };
                        let at = part.start + strip.start;
                        let dv = dv.as_mut_ptr().add(at * h.value);
                        let depth = count - skip;
                        h.multiply(left(scores), do_right.from(skip, 0), [rows, h.value, depth], dv, true);
                        let dk = dk.as_mut_ptr().add(at * h.size);
                        h.multiply(left(to), q_right.from(skip, 0), [rows, h.size, depth], dk, true);
                    }
                    let from = Matrix { at: slopes.cast_const(), rs: 1, cs: wide as isize };
                    pack(h.table, from, count, part.len(), turned, deep);
                    let k_right = h.right(k.from(first, 0), part.len(), h.size, k_own);
                    for strip in Even::at_most(count, most).iter() {
                        let row = block.start + strip.start;
                        let last = row + strip.len();
                        let depth =
                            if h.causal { part.len().min(last.saturating_sub(first)) } else { part.len() };
                        if depth == 0 {
                            continue;
                        }
                        let at = turned.add(strip.start * deep).cast_const();
                        let left = Matrix { at, rs: deep as isize, cs: 1 };
                        let dq = dq.as_mut_ptr().add(row * h.size);
                        h.multiply(left, k_right, [strip.len(), h.size, depth], dq, true);
                    }
                }
            }
        }
    })
}

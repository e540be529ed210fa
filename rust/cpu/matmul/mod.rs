//! Matrix multiplication: `C = A B` for a batch of matrices of any strides and any dtype.
//!
//! This file says what is multiplied and chooses the way: `thin.rs` for matrices times vectors and the
//! like, `tiled.rs` for the rest of the floats, `integer.rs` for integers and booleans. `kernel.rs` has
//! `bf16.rs` has the products of bfloat16 where the processor has instructions for them. `kernel.rs` has
//! the inner loops over the vectors of `vector.rs`, `x86.rs` and `neon.rs`; `table.rs` lists their
//! instances; `pack.rs` brings operands into the order that they read.
//!
//! An element of C is summed up in an order that depends on m, n, k, strides and the instruction set,
//! never on the number of threads or the place in the batch.

#[cfg(target_arch = "x86_64")]
mod bf16;
mod integer;
pub(super) mod kernel;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
pub(super) mod pack;
#[cfg(test)]
mod reference;
pub(super) mod table;
#[cfg(test)]
mod tests;
mod thin;
mod tiled;
pub(super) mod vector;
#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

use std::ops::Range;

use half::f16;

use self::pack::{Matrix, Operand, scratch};
use self::table::{Kernels, Real};
use crate::core::{DType, Result};
use crate::cpu::Memory;
use crate::cpu::even::Even;
use crate::cpu::isa::{self, Isa};
use crate::cpu::work::{Shared, try_parallel};
use crate::for_width;

/// A batch of products of an m×k matrix by a k×n matrix. Strides are in elements and may be zero or
/// negative. C's matrices are row-major and follow each other.
pub struct Gemm<'a> {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// From a row of A to the next, and from a column of A to the next.
    pub rsa: isize,
    pub csa: isize,
    pub rsb: isize,
    pub csb: isize,
    /// Where each matrix of the batch begins in A and in B, in elements; both of the batch's length.
    pub batch_a: &'a [isize],
    pub batch_b: &'a [isize],
}

/// Multiply-adds that are worth a task of their own: some microseconds.
const TASK: usize = 256 << 10;

/// `C = A B` for every matrix of the batch. `done(start, len)` is called once for every finished range
/// of C's elements, in flat row-major order of the whole batch, by the thread that finished it and
/// while it is in that thread's cache: the place for an epilogue.
///
/// Floats accumulate in their dtype, halves in float32 and are rounded once; integers wrap; an element
/// of a product of booleans is true if any of its terms is.
///
/// # Safety
/// A, B and C have the elements that the sizes, strides and offsets name, of type `dtype`; C does not
/// overlap the others, and nobody else touches it meanwhile.
pub unsafe fn matmul(
    dtype: DType,
    g: &Gemm,
    a: *const u8,
    b: *const u8,
    c: *mut u8,
    done: &(dyn Fn(usize, usize) + Sync),
) -> Result<()> {
    // SAFETY: the caller's promises; the processor has what `isa` says.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if let (DType::BF16, Some(kind)) = (dtype, isa::bf16())
            && bf16::pays(g)
        {
            return bf16::matmul(kind, g, a.cast(), b.cast(), c.cast(), done);
        }
        matmul_on(isa::get(), dtype, g, a, b, c, done)
    }
}

/// The same on a given level of instructions, which the processor must have.
///
/// # Safety
/// As for `matmul`.
pub(in crate::cpu) unsafe fn matmul_on(
    isa: Isa,
    dtype: DType,
    g: &Gemm,
    a: *const u8,
    b: *const u8,
    c: *mut u8,
    done: &(dyn Fn(usize, usize) + Sync),
) -> Result<()> {
    let len = g.batch_a.len() * g.m * g.n;
    if len == 0 {
        return Ok(());
    }
    if g.k == 0 {
        // SAFETY: C is that long; zero bytes are the zero of every dtype.
        unsafe { c.write_bytes(0, len * dtype.size()) };
        done(0, len);
        return Ok(());
    }
    let g = &folded(g);
    // SAFETY: the caller's promises.
    unsafe {
        match dtype {
            DType::F32 => floats::<f32>(isa, g, a.cast(), b.cast(), c.cast(), done),
            DType::F64 => floats::<f64>(isa, g, a.cast(), b.cast(), c.cast(), done),
            DType::F16 => floats::<f16>(isa, g, a.cast(), b.cast(), c.cast(), done),
            DType::BF16 => floats::<half::bf16>(isa, g, a.cast(), b.cast(), c.cast(), done),
            DType::Bool => integer::matmul::<integer::Or>(isa, g, a.cast(), b.cast(), c.cast(), done),
            _ => for_width!(dtype, T => {
                integer::matmul::<integer::Wrapping<T>>(isa, g, a.cast(), b.cast(), c.cast(), done)
            }),
        }
    }
}

/// One product of the batch.
struct Job<'a, S: Operand> {
    m: usize,
    n: usize,
    k: usize,
    a: Matrix<S>,
    b: Matrix<S>,
    c: Shared<S>,
    table: &'static Kernels<S::Real>,
    done: &'a (dyn Fn(usize, usize) + Sync),
    /// Where C begins in the batch.
    first: usize,
}

unsafe fn floats<S: Operand>(
    isa: Isa,
    g: &Gemm,
    a: *const S,
    b: *const S,
    c: *mut S,
    done: &(dyn Fn(usize, usize) + Sync),
) -> Result<()> {
    let (a, b, c) =
        (Matrix { at: a, rs: g.rsa, cs: g.csa }, Matrix { at: b, rs: g.rsb, cs: g.csb }, Shared::new(c));
    let &Gemm { m, n, k, .. } = g;
    for_each_product(g, |i, a_at, b_at| {
        let (a, b) = (a.moved(a_at), b.moved(b_at));
        let first = i * m * n;
        let table = S::Real::kernels(isa);
        let mut job = Job { m, n, k, a, b, c: Shared::new(c.at(first)), table, done, first };
        // A column is multiplied as a row: the elements of C lie the same way.
        if n == 1 {
            (job.m, job.n, job.a, job.b) = (1, m, b.transposed(), a.transposed());
        }
        // The stride of an axis of length one is not used: let it be contiguous.
        if k == 1 {
            job.a.cs = 1;
        }
        if job.n == 1 {
            job.b.cs = 1;
        }
        // SAFETY: the caller's promises, for this matrix of the batch.
        unsafe { thin::thin(&job).unwrap_or_else(|| tiled::tiled(&job)) }
    })
}

impl<S: Operand> Job<'_, S> {
    /// Where the sums go: C itself, or for halves, which are rounded once, memory of their own.
    fn sums(&self) -> Result<(Shared<S::Real>, Option<Memory>)> {
        if S::in_place(self.a).is_some() {
            return Ok((Shared::new(self.c.at(0).cast()), None));
        }
        let memory = scratch::<S::Real>(self.m * self.n)?;
        Ok((Shared::new(memory.ptr().cast()), Some(memory)))
    }

    /// Tells that these elements of C are computed, after rounding them from `sums` if these are not C.
    ///
    /// # Safety
    /// They are computed, and the calling thread's.
    unsafe fn finish(&self, sums: Shared<S::Real>, rows: Range<usize>, cols: Range<usize>) {
        let runs = if cols.len() == self.n { 1 } else { rows.len() };
        let len = rows.len() * cols.len() / runs;
        for run in 0..runs {
            let start = (rows.start + run) * self.n + cols.start;
            if S::in_place(self.a).is_none() {
                // SAFETY: `len` elements from `start` on are among them.
                unsafe { S::narrow(sums.slice(start, len), self.c.slice(start, len)) };
            }
            (self.done)(self.first + start, len);
        }
    }
}

/// Multiply-adds of a product. Axes of stride zero make it larger than any memory.
fn work(m: usize, n: usize, k: usize) -> usize {
    m.saturating_mul(n).saturating_mul(k)
}

/// Calls `one` with the index and the offsets of each product, many at a time if they are small.
fn for_each_product(g: &Gemm, one: impl Fn(usize, isize, isize) -> Result<()> + Sync) -> Result<()> {
    let count = g.batch_a.len();
    let work = work(g.m, g.n, g.k);
    let run = |i: usize| one(i, g.batch_a[i], g.batch_b[i]);
    if count == 1 || work >= 32 * TASK || count < 8 && work >= 2 * TASK {
        return (0..count).try_for_each(run);
    }
    let chunks = Even::at_most(count, (TASK / work).max(1));
    try_parallel(chunks.parts, |chunk| chunks.part(chunk).try_for_each(run))
}

/// The product of all rows of all matrices of A at once, if they follow each other and share B: what a
/// layer does to a batch of sequences.
fn folded<'a>(g: &Gemm<'a>) -> Gemm<'a> {
    let step = g.m as isize * g.rsa;
    let shared = g.batch_b.iter().all(|&b| b == g.batch_b[0]);
    let stacked = g.batch_a.windows(2).all(|a| a[1] - a[0] == step);
    let fold = if shared && stacked { g.batch_a.len() } else { 1 };
    let count = g.batch_a.len() / fold;
    Gemm { m: g.m * fold, batch_a: &g.batch_a[..count], batch_b: &g.batch_b[..count], ..*g }
}

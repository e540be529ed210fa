//! Products of integer and boolean matrices, exact or wrapping, so that order does not matter: blocks
//! of B are copied side by side and the compiler vectorises the loop over their columns.

use super::pack::Matrix;
use super::{Gemm, TASK, for_each_product, work};
use crate::core::Result;
use crate::cpu::even::Even;
use crate::cpu::isa::Isa;
use crate::cpu::threads::parallel;
use crate::cpu::work::Shared;

/// What takes the place of `sum + a · b`.
pub trait Ring {
    type T: Copy + Default + Send + Sync;

    fn step(sum: Self::T, a: Self::T, b: Self::T) -> Self::T;
}

/// Integers modulo the size of their type, signed ones through the unsigned type of the same bits.
pub struct Wrapping<T>(T);

macro_rules! wrapping {
    ($($T:ty),*) => { $(
        impl Ring for Wrapping<$T> {
            type T = $T;

            #[inline(always)]
            fn step(sum: $T, a: $T, b: $T) -> $T {
                sum.wrapping_add(a.wrapping_mul(b))
            }
        }
    )* };
}

wrapping!(u8, u16, u32, u64);

/// Booleans, stored as bytes: whether any pair is true.
pub struct Or;

impl Ring for Or {
    type T = u8;

    #[inline(always)]
    fn step(sum: u8, a: u8, b: u8) -> u8 {
        sum | ((a != 0) & (b != 0)) as u8
    }
}

/// The block of B that is copied: this many rows, and columns.
const DEPTH: usize = 32;
const WIDTH: usize = 128;

/// # Safety
/// As for `super::matmul`.
pub unsafe fn matmul<R: Ring>(
    isa: Isa,
    g: &Gemm,
    a: *const R::T,
    b: *const R::T,
    c: *mut R::T,
    done: &(dyn Fn(usize, usize) + Sync),
) -> Result<()> {
    let &Gemm { m, n, k, .. } = g;
    let (a, b, c) =
        (Matrix { at: a, rs: g.rsa, cs: g.csa }, Matrix { at: b, rs: g.rsb, cs: g.csb }, Shared::new(c));
    let rows_of = match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => rows_avx512::<R>,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => rows_avx2::<R>,
        _ => rows::<R>,
    };
    for_each_product(g, |i, a_at, b_at| {
        let (a, b, first) = (a.moved(a_at), b.moved(b_at), i * m * n);
        let tasks = Even::new(m, (work(m, n, k) / TASK).clamp(1, m.div_ceil(8)));
        parallel(tasks.parts, |task| {
            let part = tasks.part(task);
            let start = first + part.start * n;
            let shape = Shape { m: part.len(), n, k };
            // SAFETY: these rows of A and C, C's being this task's; the processor has `isa`.
            unsafe { rows_of(shape, a.from(part.start, 0), b, c.at(start)) };
            done(start, part.len() * n);
        });
        Ok(())
    })
}

#[derive(Clone, Copy)]
struct Shape {
    m: usize,
    n: usize,
    k: usize,
}

/// `C = A B`, four rows of B at a time.
#[inline(always)]
unsafe fn rows<R: Ring>(Shape { m, n, k }: Shape, a: Matrix<R::T>, b: Matrix<R::T>, c: *mut R::T) {
    let zero = R::T::default();
    let mut block = [[zero; WIDTH]; DEPTH];
    // SAFETY: indices stay within the sizes.
    unsafe {
        std::slice::from_raw_parts_mut(c, m * n).fill(zero);
        for j in (0..n).step_by(WIDTH) {
            let width = WIDTH.min(n - j);
            for p in (0..k).step_by(DEPTH) {
                let depth = DEPTH.min(k - p);
                for (q, row) in block.iter_mut().enumerate().take(depth) {
                    (0..width).for_each(|w| row[w] = *b.from(p + q, j + w).at);
                }
                for i in 0..m {
                    let c = std::slice::from_raw_parts_mut(c.add(i * n + j), width);
                    for q in (0..depth).step_by(4) {
                        // Behind the last row lie stale ones; times zero they add nothing.
                        let a =
                            [0, 1, 2, 3].map(|r| if q + r < depth { *a.from(i, p + q + r).at } else { zero });
                        for (w, c) in c.iter_mut().enumerate() {
                            *c = (0..4).fold(*c, |sum, r| R::step(sum, a[r], block[q + r][w]));
                        }
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn rows_avx2<R: Ring>(shape: Shape, a: Matrix<R::T>, b: Matrix<R::T>, c: *mut R::T) {
    // SAFETY: the caller's promises.
    unsafe { rows::<R>(shape, a, b, c) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn rows_avx512<R: Ring>(shape: Shape, a: Matrix<R::T>, b: Matrix<R::T>, c: *mut R::T) {
    // SAFETY: the caller's promises.
    unsafe { rows::<R>(shape, a, b, c) }
}

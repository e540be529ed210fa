//! Pools over the last two axes: maxima with their places, averages, and the gradients of both, for
//! windows that slide and for the bins of adaptive pools. Shapes are checked in `ir::conv`. Planes are
//! independent of each other and shared out among threads.

mod average;
mod maximum;
#[cfg(test)]
mod tests;

use super::stored::StoredFloat;
use super::work::{GRAIN, Shared, try_parallel};
use crate::bail;
use crate::core::{Result, Shape};
use crate::ir::conv::Pool2d;

pub use average::{adaptive_avg_backward, adaptive_avg_forward, avg_backward, avg_forward};
pub use maximum::{adaptive_max_forward, max_backward, max_forward};

/// Runs an expression with `$T` bound to the Rust type of a float dtype.
macro_rules! for_float {
    ($op:literal, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::core::DType::F16 => {
                type $T = half::f16;
                $body
            }
            $crate::core::DType::BF16 => {
                type $T = half::bf16;
                $body
            }
            $crate::core::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::core::DType::F64 => {
                type $T = f64;
                $body
            }
            other => $crate::bail!(DType, "{}: {other} is not a floating-point dtype", $op),
        }
    };
}

use for_float;

/// A batch of planes: N·C of them, their sizes before and after the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planes {
    pub count: usize,
    pub size: [usize; 2],
    pub out: [usize; 2],
}

impl Planes {
    fn area(&self) -> usize {
        self.size[0] * self.size[1]
    }

    fn out_area(&self) -> usize {
        self.out[0] * self.out[1]
    }

    /// Runs `f(first plane, how many)` for blocks of planes, on all threads.
    fn each(&self, f: impl Fn(usize, usize) -> Result<()> + Sync) -> Result<()> {
        if self.count * self.out_area() == 0 {
            return Ok(());
        }
        if self.area() == 0 {
            bail!(Shape, "pool: planes {} have nothing to pool", Shape::new(&self.size));
        }
        let block = (GRAIN / self.area().max(self.out_area())).max(1);
        try_parallel(self.count.div_ceil(block), |i| f(i * block, block.min(self.count - i * block)))
    }
}

/// What one output sees of an axis, `first`, `first + step`, …, `count` elements, and by what an average
/// divides their sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    first: usize,
    count: usize,
    step: usize,
    divisor: usize,
}

/// The windows of a sliding pool along one axis, in order.
fn sliding(pool: &Pool2d, planes: &Planes, axis: usize) -> Vec<Window> {
    let (size, pad, step) = (planes.size[axis], pool.padding[axis], pool.dilation[axis]);
    (0..planes.out[axis])
        .map(|i| {
            let start = i * pool.stride[axis];
            let taps = |end: usize| end.saturating_sub(start).div_ceil(step).min(pool.kernel[axis]);
            let (before, within) = (taps(pad), taps(size + pad));
            let count = within - before;
            let divisor = if pool.count_include_pad { taps(size + 2 * pad) } else { count };
            Window { first: (start + before * step).saturating_sub(pad), count, step, divisor }
        })
        .collect()
}

/// The bins of an adaptive pool along one axis: output `i` of `n` sees `⌊i·size/n⌋ .. ⌈(i + 1)·size/n⌉`.
fn bins(size: usize, n: usize) -> Vec<Window> {
    let at = |i: usize| i as u128 * size as u128;
    (0..n)
        .map(|i| {
            let (first, end) = ((at(i) / n as u128) as usize, at(i + 1).div_ceil(n as u128) as usize);
            Window { first, count: end - first, step: 1, divisor: end - first }
        })
        .collect()
}

/// Whether the outputs of a row are so many that their windows are gone through tap by tap, neighbouring
/// outputs together, instead of one after another.
fn by_taps(pool: &Pool2d, planes: &Planes) -> bool {
    planes.out[1] >= 4 && planes.out[1] >= pool.kernel[1]
}

/// Calls `f(x, y)` for every `stride`-th element of `x` and each of `outputs`, which are as many.
#[inline(always)]
fn strided<X: Copy, Y>(
    x: &[X],
    stride: usize,
    mut outputs: impl ExactSizeIterator<Item = Y>,
    f: impl Fn(X, Y),
) {
    match stride {
        1 => x.iter().zip(outputs).for_each(|(&x, y)| f(x, y)),
        // A constant that the compiler turns into shuffles; the last element may have no neighbour.
        2 => {
            let pairs = outputs.len() - 1;
            x.chunks_exact(2).take(pairs).zip(&mut outputs).for_each(|(x, y)| f(x[0], y));
            outputs.for_each(|y| f(x[2 * pairs], y));
        }
        _ => x.iter().step_by(stride).zip(outputs).for_each(|(&x, y)| f(x, y)),
    }
}

/// Plane `i` of an operand.
///
/// # Safety
/// It is there, and nothing writes it meanwhile.
unsafe fn plane<'a, T>(x: Shared<T>, i: usize, area: usize) -> &'a [T] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(x.at(i * area), area) }
}

/// Writes sums, rounded, and makes them zero again.
#[inline(always)]
fn store_and_clear<T: StoredFloat>(sums: &mut [T::Real], to: &mut [T]) {
    for (to, sum) in to.iter_mut().zip(sums) {
        *to = T::store(*sum);
        *sum = T::Real::default();
    }
}

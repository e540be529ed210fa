//! Maxima with their places, and their gradient. An output row is computed tap by tap, so that neighbours
//! in the output are neighbours in a register.

use half::{bf16, f16};

use super::{Planes, Window, bins, for_float, plane, store_and_clear};
use crate::core::{DType, Result};
use crate::cpu::conv::inside;
use crate::cpu::stored::{Stored, StoredFloat};
use crate::cpu::work::{Shared, Temp, vectorized};
use crate::for_dtype;
use crate::ir::conv::Pool2d;

/// What a maximum needs of an element.
trait Ordered: Stored {
    /// Whether this takes the place of the best so far: it is larger, or NaN.
    fn beats(self, best: Self) -> bool;
}

macro_rules! ordered {
    ($($T:ty)+, |$x:ident, $best:ident| $beats:expr) => {$(
        impl Ordered for $T {
            #[inline(always)]
            fn beats(self, best: Self) -> bool {
                let ($x, $best) = (self, best);
                $beats
            }
        }
    )+};
}
ordered!(u8 u16 u32 u64 i8 i16 i32 i64, |x, best| x > best);
#[rustfmt::skip]
ordered!(f16 bf16 f32 f64, |x, best| { let x = x.load(); x > best.load() || x != x });

/// The largest element of every window, and its place `row·W + column` in the plane as int64: the first
/// if there are several, the last NaN if there is any. Padding is never chosen; a window of nothing else
/// gives the lowest value of the dtype and the place −1.
///
/// # Safety
/// The pointers lead to row-major elements for the sizes, which belong to the pool; nothing else writes
/// them, or reads the results, meanwhile.
pub unsafe fn max_forward(
    dtype: DType,
    pool: &Pool2d,
    planes: &Planes,
    x: *const u8,
    y: *mut u8,
    places: *mut i64,
) -> Result<()> {
    // SAFETY: the caller's promises, passed on.
    for_dtype!(dtype, T => unsafe {
        maxima::<T>(planes, x.cast(), y.cast(), places, |x, y, places| {
            slide::<T>(pool, planes, x, y, places)
        })
    })
}

/// The same over the bins of an adaptive pool.
///
/// # Safety
/// As for `max_forward`.
pub unsafe fn adaptive_max_forward(
    dtype: DType,
    planes: &Planes,
    x: *const u8,
    y: *mut u8,
    places: *mut i64,
) -> Result<()> {
    let [rows, columns] = [0, 1].map(|axis| bins(planes.size[axis], planes.out[axis]));
    // SAFETY: the caller's promises, passed on.
    for_dtype!(dtype, T => unsafe {
        maxima::<T>(planes, x.cast(), y.cast(), places, |x, y, places| {
            best_of_bins::<T>(planes.size[1], &rows, &columns, x, y, places)
        })
    })
}

/// Runs `pool(x, y, places)` for every plane.
unsafe fn maxima<T: Ordered>(
    planes: &Planes,
    x: *const T,
    y: *mut T,
    places: *mut i64,
    pool: impl Fn(&[T], &mut [T], &mut [i64]) + Sync,
) -> Result<()> {
    let (x, y, places) = (Shared::new(x.cast_mut()), Shared::new(y), Shared::new(places));
    let (area, out) = (planes.area(), planes.out_area());
    planes.each(|first, count| {
        for i in first..first + count {
            // SAFETY: plane `i` of operand and results, by the caller's promise; it is this chunk's alone.
            unsafe { pool(plane(x, i, area), y.slice(i * out, out), places.slice(i * out, out)) };
        }
        Ok(())
    })
}

fn slide<T: Ordered>(pool: &Pool2d, planes: &Planes, x: &[T], y: &mut [T], places: &mut [i64]) {
    let ([height, width], [_, out]) = (planes.size, planes.out);
    let Pool2d { kernel, stride, padding, dilation, .. } = *pool;
    let halves = kernel == [2, 2] && stride == [2, 2] && padding == [0, 0] && dilation == [1, 1];
    for (i, (y, places)) in y.chunks_exact_mut(out).zip(places.chunks_exact_mut(out)).enumerate() {
        if halves && 2 * i + 1 < height && 2 * out <= width {
            let at = 2 * i * width;
            vectorized(|| best_of_four(&x[at..at + width], &x[at + width..at + 2 * width], at, y, places));
            continue;
        }
        y.fill(T::LOWEST);
        places.fill(-1);
        for r in 0..kernel[0] {
            let row = (i * stride[0] + r * dilation[0]).wrapping_sub(padding[0]);
            if row >= height {
                continue;
            }
            for s in 0..kernel[1] {
                let at = s * dilation[1];
                let [from, to] = inside(at, padding[1] as isize, stride[1], width, out);
                if from < to {
                    let column = from * stride[1] + at - padding[1];
                    let start = row * width + column;
                    let x = &x[start..(row + 1) * width];
                    vectorized(|| better(x, stride[1], start, &mut y[from..to], &mut places[from..to]));
                }
            }
        }
    }
}

/// Lets every `stride`-th element of `x`, the first of which has place `start`, compete with the best
/// so far.
#[inline(always)]
fn better<T: Ordered>(x: &[T], stride: usize, start: usize, best: &mut [T], places: &mut [i64]) {
    #[inline(always)]
    fn with<T: Ordered>(
        x: impl Iterator<Item = T>,
        stride: usize,
        start: usize,
        best: &mut [T],
        places: &mut [i64],
    ) {
        for (j, ((x, best), place)) in x.zip(best).zip(places).enumerate() {
            let take = x.beats(*best) | (*place < 0);
            *best = if take { x } else { *best };
            *place = if take { (start + j * stride) as i64 } else { *place };
        }
    }
    match stride {
        1 => with(x.iter().copied(), 1, start, best, places),
        2 => with(x.chunks(2).map(|pair| pair[0]), 2, start, best, places),
        _ => with(x.iter().copied().step_by(stride), stride, start, best, places),
    }
}

/// The best of 2×2 elements for a whole row of outputs; `at` is the place of the upper left one.
#[inline(always)]
fn best_of_four<T: Ordered>(upper: &[T], lower: &[T], at: usize, y: &mut [T], places: &mut [i64]) {
    let width = upper.len();
    let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
    for (j, ((y, place), (upper, lower))) in y.iter_mut().zip(places).zip(pairs).enumerate() {
        let (mut best, mut offset) = (upper[0], 0);
        for (x, to) in [(upper[1], 1), (lower[0], width), (lower[1], width + 1)] {
            let take = x.beats(best);
            best = if take { x } else { best };
            offset = if take { to } else { offset };
        }
        *y = best;
        *place = (at + 2 * j + offset) as i64;
    }
}

fn best_of_bins<T: Ordered>(
    width: usize,
    rows: &[Window],
    columns: &[Window],
    x: &[T],
    y: &mut [T],
    places: &mut [i64],
) {
    let outputs = y.iter_mut().zip(places);
    let windows = rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)));
    for ((y, place), (row, column)) in outputs.zip(windows) {
        (*y, *place) = (T::LOWEST, -1);
        for start in (row.first..row.first + row.count).map(|r| r * width + column.first) {
            for (at, &x) in (start..).zip(&x[start..start + column.count]) {
                if x.beats(*y) || *place < 0 {
                    (*y, *place) = (x, at as i64);
                }
            }
        }
    }
}

/// The gradient of a maximum pool: `dy` added up at `places`, in row-major order of `dy`. Places outside
/// the plane are left out.
///
/// # Safety
/// As for `max_forward`.
pub unsafe fn max_backward(
    dtype: DType,
    planes: &Planes,
    dy: *const u8,
    places: *const i64,
    dx: *mut u8,
) -> Result<()> {
    unsafe fn run<T: StoredFloat>(
        planes: &Planes,
        dy: *const T,
        places: *const i64,
        dx: *mut T,
    ) -> Result<()> {
        let (dy, places) = (Shared::new(dy.cast_mut()), Shared::new(places.cast_mut()));
        let (area, out) = (planes.area(), planes.out_area());
        if out == 0 {
            // SAFETY: all of the result; its zero is all zeros.
            unsafe { dx.write_bytes(0, planes.count * area) };
        }
        let dx = Shared::new(dx);
        planes.each(|first, count| {
            let mut sums = Temp::filled(area, T::Real::default())?;
            for i in first..first + count {
                // SAFETY: plane `i` of operands and result, as in `maxima`.
                let (dy, places, dx) =
                    unsafe { (plane(dy, i, out), plane(places, i, out), dx.slice(i * area, area)) };
                for (dy, &place) in dy.iter().zip(places) {
                    if let Some(sum) = usize::try_from(place).ok().and_then(|place| sums.get_mut(place)) {
                        *sum = sum.plus(dy.load());
                    }
                }
                vectorized(|| store_and_clear(&mut sums, dx));
            }
            Ok(())
        })
    }
    // SAFETY: the caller's promises, passed on.
    for_float!("max_pool", dtype, T => unsafe { run::<T>(planes, dy.cast(), places, dx.cast()) })
}

//! Maxima with their places, and their gradient. An output row is computed tap by tap, so that neighbours
//! in the output are neighbours in a register.

use half::{bf16, f16};

use super::{Planes, Window, bins, by_taps, for_float, plane, sliding, store_and_clear, strided};
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
ordered!(f16 bf16 f32 f64, |x, best| { let x = x.load(); x > best.load() || x.is_nan() });

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
    let ([height, width], Pool2d { kernel, stride, padding, dilation, .. }) = (planes.size, *pool);
    let pairs = kernel == [2, 2] && stride == [2, 2] && padding == [0, 0] && dilation == [1, 1];
    let pairs = pairs && 2 * planes.out[0] <= height && 2 * planes.out[1] <= width;
    // How far apart the elements of a window lie.
    let reach = |axis: usize| (kernel[axis] - 1).saturating_mul(dilation[axis]);
    let reach = reach(0).saturating_mul(width).saturating_add(reach(1));
    let windows = [0, 1].map(|axis| sliding(pool, planes, axis));
    // SAFETY: the caller's promises, passed on.
    for_dtype!(dtype, T => unsafe {
        maxima::<T>(planes, x.cast(), y.cast(), places, |x, y, places, offsets| {
            let rows = y.chunks_exact_mut(planes.out[1]).zip(places.chunks_exact_mut(planes.out[1]));
            if pairs {
                for (i, (y, places)) in rows.enumerate() {
                    let at = 2 * i * width;
                    let (upper, lower) = x[at..at + 2 * width].split_at(width);
                    vectorized(#[inline(always)] || best_of_four(upper, lower, at, y, places));
                }
            } else if by_taps(pool, planes) && reach < i32::MAX as usize {
                for (i, (y, places)) in rows.enumerate() {
                    best_by_taps::<T>(pool, planes, i, x, y, offsets, places);
                }
            } else {
                best_of_windows::<T>(width, &windows, x, y, places);
            }
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
    let windows = [0, 1].map(|axis| bins(planes.size[axis], planes.out[axis]));
    // SAFETY: the caller's promises, passed on.
    for_dtype!(dtype, T => unsafe {
        maxima::<T>(planes, x.cast(), y.cast(), places, |x, y, places, _| {
            best_of_windows::<T>(planes.size[1], &windows, x, y, places)
        })
    })
}

/// Runs `pool(x, y, places, room for a number per column)` for every plane.
unsafe fn maxima<T: Ordered>(
    planes: &Planes,
    x: *const T,
    y: *mut T,
    places: *mut i64,
    pool: impl Fn(&[T], &mut [T], &mut [i64], &mut [i32]) + Sync,
) -> Result<()> {
    let (x, y, places) = (Shared::new(x.cast_mut()), Shared::new(y), Shared::new(places));
    let (area, out) = (planes.area(), planes.out_area());
    planes.each(|first, count| {
        let mut room = Temp::filled(planes.out[1], 0)?;
        for i in first..first + count {
            // SAFETY: plane `i` of operand and results, by the caller's promise; it is this chunk's alone.
            unsafe { pool(plane(x, i, area), y.slice(i * out, out), places.slice(i * out, out), &mut room) };
        }
        Ok(())
    })
}

/// Row `i` of the outputs, tap by tap. `offsets` holds how far the best element so far lies from the
/// upper left corner of its window, −1 before the first; it is narrower than a place, for more lanes.
fn best_by_taps<T: Ordered>(
    pool: &Pool2d,
    planes: &Planes,
    i: usize,
    x: &[T],
    y: &mut [T],
    offsets: &mut [i32],
    places: &mut [i64],
) {
    let [height, width] = planes.size;
    let Pool2d { kernel, stride, padding, dilation, .. } = *pool;
    y.fill(T::LOWEST);
    offsets.fill(-1);
    for down in (0..kernel[0]).map(|r| r * dilation[0]) {
        let row = (i * stride[0] + down).wrapping_sub(padding[0]);
        if row >= height {
            continue;
        }
        for right in (0..kernel[1]).map(|s| s * dilation[1]) {
            let [from, to] = inside(right, padding[1] as isize, stride[1], width, y.len());
            if from < to {
                let x = &x[row * width + from * stride[1] + right - padding[1]..(row + 1) * width];
                let offset = (down * width + right) as i32;
                vectorized(
                    #[inline(always)]
                    || better(x, stride[1], offset, &mut y[from..to], &mut offsets[from..to]),
                );
            }
        }
    }
    let corner = (i * stride[0] * width) as i64 - (padding[0] * width + padding[1]) as i64;
    vectorized(
        #[inline(always)]
        || locate(corner, stride[1], offsets, places),
    );
}

/// Lets every `stride`-th element of `x` compete with the best so far.
#[inline(always)]
fn better<T: Ordered>(x: &[T], stride: usize, offset: i32, best: &mut [T], offsets: &mut [i32]) {
    let outputs = best.iter_mut().zip(offsets);
    strided(x, stride, outputs, |x, (best, at)| {
        let take = x.beats(*best) | (*at < 0);
        *best = if take { x } else { *best };
        *at = if take { offset } else { *at };
    });
}

/// Places from offsets.
#[inline(always)]
fn locate(corner: i64, stride: usize, offsets: &[i32], places: &mut [i64]) {
    for (j, (&offset, place)) in offsets.iter().zip(places).enumerate() {
        let at = corner + (j * stride) as i64 + offset as i64;
        *place = if offset < 0 { -1 } else { at };
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

/// The best of windows of any kind, one after another.
fn best_of_windows<T: Ordered>(
    width: usize,
    [rows, columns]: &[Vec<Window>; 2],
    x: &[T],
    y: &mut [T],
    places: &mut [i64],
) {
    let outputs = y.iter_mut().zip(places);
    let windows = rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)));
    for ((y, place), (row, column)) in outputs.zip(windows) {
        let (mut best, mut at) = (T::LOWEST, -1);
        for r in 0..row.count {
            let start = (row.first + r * row.step) * width + column.first;
            for to in (start..).step_by(column.step).take(column.count) {
                if x[to].beats(best) || at < 0 {
                    (best, at) = (x[to], to as i64);
                }
            }
        }
        (*y, *place) = (best, at);
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
                vectorized(
                    #[inline(always)]
                    || store_and_clear(&mut sums, dx),
                );
            }
            Ok(())
        })
    }
    // SAFETY: the caller's promises, passed on.
    for_float!("max_pool", dtype, T => unsafe { run::<T>(planes, dy.cast(), places, dx.cast()) })
}

//! Averages and their gradient. They are separable: the rows of a window are added up whole, then columns
//! within the sum.

use super::{Planes, Window, bins, by_taps, for_float, plane, sliding, store_and_clear, strided};
use crate::core::{DType, Result};
use crate::cpu::conv::inside;
use crate::cpu::lanes::Lanes;
use crate::cpu::stored::{Stored, StoredFloat};
use crate::cpu::work::{Shared, Temp, vectorized};
use crate::ir::conv::Pool2d;

/// The average of every window.
///
/// # Safety
/// As for `max_forward`.
pub unsafe fn avg_forward(
    dtype: DType,
    pool: &Pool2d,
    planes: &Planes,
    x: *const u8,
    y: *mut u8,
) -> Result<()> {
    let windows = Windows::of(pool, planes);
    // SAFETY: the caller's promises, passed on.
    for_float!("avg_pool", dtype, T => unsafe { averages::<T>(planes, &windows, x.cast(), y.cast()) })
}

/// The average of every bin.
///
/// # Safety
/// As for `max_forward`.
pub unsafe fn adaptive_avg_forward(dtype: DType, planes: &Planes, x: *const u8, y: *mut u8) -> Result<()> {
    let windows = Windows::bins(planes);
    // SAFETY: the caller's promises, passed on.
    for_float!("adaptive_avg_pool", dtype, T => unsafe { averages::<T>(planes, &windows, x.cast(), y.cast()) })
}

/// The gradient of `avg_forward`.
///
/// # Safety
/// As for `max_forward`.
pub unsafe fn avg_backward(
    dtype: DType,
    pool: &Pool2d,
    planes: &Planes,
    dy: *const u8,
    dx: *mut u8,
) -> Result<()> {
    let windows = Windows::of(pool, planes);
    // SAFETY: the caller's promises, passed on.
    for_float!("avg_pool", dtype, T => unsafe { spread::<T>(planes, &windows, dy.cast(), dx.cast()) })
}

/// The gradient of `adaptive_avg_forward`.
///
/// # Safety
/// As for `max_forward`.
pub unsafe fn adaptive_avg_backward(dtype: DType, planes: &Planes, dy: *const u8, dx: *mut u8) -> Result<()> {
    let windows = Windows::bins(planes);
    // SAFETY: the caller's promises, passed on.
    for_float!("adaptive_avg_pool", dtype, T => unsafe { spread::<T>(planes, &windows, dy.cast(), dx.cast()) })
}

/// The windows of both axes. Columns that slide are gone through tap by tap if `taps` says how.
struct Windows {
    rows: Vec<Window>,
    columns: Vec<Window>,
    taps: Option<Taps>,
}

/// A sliding pool along its columns.
struct Taps {
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl Windows {
    fn of(pool: &Pool2d, planes: &Planes) -> Windows {
        let [rows, columns] = [0, 1].map(|axis| sliding(pool, planes, axis));
        let taps = Taps { kernel: pool.kernel[1], stride: pool.stride[1], padding: pool.padding[1] };
        Windows { rows, columns, taps: by_taps(pool, planes).then_some(taps) }
    }

    fn bins(planes: &Planes) -> Windows {
        let [rows, columns] = [0, 1].map(|axis| bins(planes.size[axis], planes.out[axis]));
        Windows { rows, columns, taps: None }
    }

    /// `y[j] = Σ x[c]` over the columns `c` of window `j`.
    #[inline(always)]
    fn gather<R: StoredFloat>(&self, x: &[R], y: &mut [R]) {
        let Some(Taps { kernel, stride, padding }) = self.taps else {
            for (y, column) in y.iter_mut().zip(&self.columns) {
                let seen = &x[column.first..column.first + column.count];
                *y = seen.iter().fold(R::default(), |sum, &x| sum.plus(x));
            }
            return;
        };
        y.fill(R::default());
        for tap in 0..kernel {
            let [from, to] = inside(tap, padding as isize, stride, x.len(), y.len());
            if from < to {
                let x = &x[from * stride + tap - padding..];
                strided(x, stride, y[from..to].iter_mut(), |x, y| *y = y.plus(x));
            }
        }
    }

    /// `x[c] += y[j]` for the columns `c` of every window `j`.
    #[inline(always)]
    fn scatter<R: StoredFloat>(&self, y: &[R], x: &mut [R]) {
        let Some(Taps { kernel, stride, padding }) = self.taps else {
            for (&y, column) in y.iter().zip(&self.columns) {
                for x in &mut x[column.first..column.first + column.count] {
                    *x = x.plus(y);
                }
            }
            return;
        };
        for tap in 0..kernel {
            let [from, to] = inside(tap, padding as isize, stride, x.len(), y.len());
            if from < to {
                let x = &mut x[from * stride + tap - padding..];
                let y = y[from..to].iter();
                match stride {
                    1 => x.iter_mut().zip(y).for_each(|(x, &y)| *x = x.plus(y)),
                    _ => x.iter_mut().step_by(stride).zip(y).for_each(|(x, &y)| *x = x.plus(y)),
                }
            }
        }
    }

    /// What the sums of a row of windows are divided by.
    #[inline(always)]
    fn divisors<R: StoredFloat>(&self, row: &Window, to: &mut [R]) {
        for (to, column) in to.iter_mut().zip(&self.columns) {
            *to = R::nearest(row.divisor as f64 * column.divisor as f64);
        }
    }
}

/// `y[i, j] = Σ x[window i, window j] / divisor`.
unsafe fn averages<T: StoredFloat>(planes: &Planes, windows: &Windows, x: *const T, y: *mut T) -> Result<()> {
    let (x, y, [_, width]) = (Shared::new(x.cast_mut()), Shared::new(y), planes.size);
    let (area, out) = (planes.area(), planes.out_area());
    planes.each(|first, count| {
        let zero = T::Real::default();
        let (mut sums, mut totals) = (Temp::filled(width, zero)?, Temp::filled(planes.out[1], zero)?);
        let mut divisors = Temp::filled(planes.out[1], zero)?;
        for i in first..first + count {
            // SAFETY: plane `i` of operand and result, as for maxima.
            let (x, y) = unsafe { (plane(x, i, area), y.slice(i * out, out)) };
            for (row, y) in windows.rows.iter().zip(y.chunks_exact_mut(planes.out[1])) {
                vectorized(
                    #[inline(always)]
                    || {
                        sums.fill(zero);
                        for x in x[row.first * width..].chunks_exact(width).take(row.count) {
                            for (sum, x) in sums.iter_mut().zip(x) {
                                *sum = sum.plus(x.load());
                            }
                        }
                        windows.gather(&sums, &mut totals);
                        windows.divisors(row, &mut divisors);
                        for ((y, total), &divisor) in y.iter_mut().zip(totals.iter()).zip(divisors.iter()) {
                            *y = T::store(total.div(divisor));
                        }
                    },
                );
            }
        }
        Ok(())
    })
}

/// `dx[r, c] = Σ dy[i, j] / divisor` over the windows `i`, `j` that see it.
unsafe fn spread<T: StoredFloat>(planes: &Planes, windows: &Windows, dy: *const T, dx: *mut T) -> Result<()> {
    let (area, out) = (planes.area(), planes.out_area());
    if out == 0 {
        // SAFETY: all of the result; its zero is all zeros.
        unsafe { dx.write_bytes(0, planes.count * area) };
    }
    let (dy, dx, [_, width]) = (Shared::new(dy.cast_mut()), Shared::new(dx), planes.size);
    planes.each(|first, count| {
        let zero = T::Real::default();
        let (mut sums, mut parts) = (Temp::filled(width, zero)?, Temp::filled(planes.out[1], zero)?);
        let mut divisors = Temp::filled(planes.out[1], zero)?;
        for i in first..first + count {
            // SAFETY: plane `i` of operand and result, as for maxima.
            let (dy, dx) = unsafe { (plane(dy, i, out), dx.slice(i * area, area)) };
            // Windows are in order, so those that see a row are neighbours.
            let mut seen = 0;
            for (r, dx) in dx.chunks_exact_mut(width).enumerate() {
                let over = |row: &&Window| row.first + row.count <= r;
                seen += windows.rows[seen..].iter().take_while(over).count();
                let rows = windows.rows[seen..].iter().take_while(|row| row.first <= r);
                let gradients = dy[seen * planes.out[1]..].chunks_exact(planes.out[1]);
                vectorized(
                    #[inline(always)]
                    || {
                        for (row, dy) in rows.zip(gradients) {
                            windows.divisors(row, &mut divisors);
                            for ((part, dy), &divisor) in parts.iter_mut().zip(dy).zip(divisors.iter()) {
                                *part = dy.load().div(divisor);
                            }
                            windows.scatter(&parts, &mut sums);
                        }
                        store_and_clear(&mut sums, dx);
                    },
                );
            }
        }
        Ok(())
    })
}

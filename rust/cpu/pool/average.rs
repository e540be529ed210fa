//! Averages and their gradient. They are separable: the rows of a window are added up whole, then columns
//! within the sum.

use super::{Planes, Window, bins, for_float, plane, sliding, store_and_clear};
use crate::core::{DType, Result};
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
    let windows = [0, 1].map(|axis| sliding(pool, planes, axis));
    // SAFETY: the caller's promises, passed on.
    for_float!("avg_pool", dtype, T => unsafe { averages::<T>(planes, &windows, x.cast(), y.cast()) })
}

/// The average of every bin.
///
/// # Safety
/// As for `max_forward`.
pub unsafe fn adaptive_avg_forward(dtype: DType, planes: &Planes, x: *const u8, y: *mut u8) -> Result<()> {
    let windows = [0, 1].map(|axis| bins(planes.size[axis], planes.out[axis]));
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
    let windows = [0, 1].map(|axis| sliding(pool, planes, axis));
    // SAFETY: the caller's promises, passed on.
    for_float!("avg_pool", dtype, T => unsafe { spread::<T>(planes, &windows, dy.cast(), dx.cast()) })
}

/// The gradient of `adaptive_avg_forward`.
///
/// # Safety
/// As for `max_forward`.
pub unsafe fn adaptive_avg_backward(dtype: DType, planes: &Planes, dy: *const u8, dx: *mut u8) -> Result<()> {
    let windows = [0, 1].map(|axis| bins(planes.size[axis], planes.out[axis]));
    // SAFETY: the caller's promises, passed on.
    for_float!("adaptive_avg_pool", dtype, T => unsafe { spread::<T>(planes, &windows, dy.cast(), dx.cast()) })
}

/// `y[i, j] = Σ x[window i, window j] / divisor`.
unsafe fn averages<T: StoredFloat>(
    planes: &Planes,
    [rows, columns]: &[Vec<Window>; 2],
    x: *const T,
    y: *mut T,
) -> Result<()> {
    let (x, y, width) = (Shared::new(x.cast_mut()), Shared::new(y), planes.size[1]);
    let (area, out) = (planes.area(), planes.out_area());
    planes.each(|first, count| {
        let mut sums = Temp::filled(width, T::Real::default())?;
        for i in first..first + count {
            // SAFETY: plane `i` of operand and result, as in `maxima`.
            let (x, y) = unsafe { (plane(x, i, area), y.slice(i * out, out)) };
            for (row, y) in rows.iter().zip(y.chunks_exact_mut(planes.out[1])) {
                vectorized(|| {
                    sums.fill(T::Real::default());
                    for x in x[row.first * width..].chunks_exact(width).take(row.count) {
                        for (sum, x) in sums.iter_mut().zip(x) {
                            *sum = sum.plus(x.load());
                        }
                    }
                    for (y, column) in y.iter_mut().zip(columns) {
                        let mut sum = T::Real::default();
                        for x in &sums[column.first..column.first + column.count] {
                            sum = sum.plus(*x);
                        }
                        *y = T::store(divide::<T>(sum, row, column));
                    }
                });
            }
        }
        Ok(())
    })
}

/// `dx[r, c] = Σ dy[i, j] / divisor` over the windows `i`, `j` that see it.
unsafe fn spread<T: StoredFloat>(
    planes: &Planes,
    [rows, columns]: &[Vec<Window>; 2],
    dy: *const T,
    dx: *mut T,
) -> Result<()> {
    let (area, out) = (planes.area(), planes.out_area());
    if out == 0 {
        // SAFETY: all of the result; its zero is all zeros.
        unsafe { dx.write_bytes(0, planes.count * area) };
    }
    let (dy, dx, width) = (Shared::new(dy.cast_mut()), Shared::new(dx), planes.size[1]);
    planes.each(|first, count| {
        let mut sums = Temp::filled(width, T::Real::default())?;
        for i in first..first + count {
            // SAFETY: plane `i` of operand and result, as in `maxima`.
            let (dy, dx) = unsafe { (plane(dy, i, out), dx.slice(i * area, area)) };
            // Windows are in order, so those that see a row are neighbours.
            let mut seen = 0;
            for (r, dx) in dx.chunks_exact_mut(width).enumerate() {
                while seen < rows.len() && rows[seen].first + rows[seen].count <= r {
                    seen += 1;
                }
                let rows = rows[seen..].iter().take_while(|row| row.first <= r);
                for (row, dy) in rows.zip(dy[seen * planes.out[1]..].chunks_exact(planes.out[1])) {
                    for (dy, column) in dy.iter().zip(columns) {
                        let part = divide::<T>(dy.load(), row, column);
                        for sum in &mut sums[column.first..column.first + column.count] {
                            *sum = sum.plus(part);
                        }
                    }
                }
                vectorized(|| store_and_clear(&mut sums, dx));
            }
        }
        Ok(())
    })
}

#[inline(always)]
fn divide<T: StoredFloat>(sum: T::Real, row: &Window, column: &Window) -> T::Real {
    T::Real::nearest(sum.widen().0 / (row.divisor as f64 * column.divisor as f64))
}

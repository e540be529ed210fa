//! Moving elements between strided places: copies of views, transposes, windows written. The kernels of
//! `index` are made of these loops; nothing here looks at a value.

use super::isa::{self, Isa};
#[cfg(target_arch = "aarch64")]
use super::matmul::neon::{F32x4, F64x2};
use super::matmul::vector::{Vector, transpose};
#[cfg(target_arch = "x86_64")]
use super::matmul::x86::{F32x8, F32x16, F64x4, F64x8};
use super::threads::parallel;
use super::view::{Out, View};
use super::work::{GRAIN, Shared, vectorized};
use crate::core::{DType, Result};
use crate::for_width;
use smallvec::SmallVec;

/// The elements of a view in row-major order.
pub fn copy(from: &View, out: &Out) -> Result<()> {
    let strides = out.shape.strides();
    // SAFETY: both cover the shape, and a fresh result overlaps nothing.
    unsafe {
        transfer(from.dtype, &from.layout.shape, from.first(), &from.layout.strides, out.ptr, &strides)
    };
    Ok(())
}

/// Copies the elements of `shape`, one by one from their place by `from_strides` to their place by
/// `to_strides`. Which goes first is left open.
///
/// # Safety
/// All places must be in memory of the dtype; no place of `to` may be met twice or be one of `from`.
pub unsafe fn transfer(
    dtype: DType,
    shape: &[usize],
    from: *const u8,
    from_strides: &[isize],
    to: *mut u8,
    to_strides: &[isize],
) {
    for_width!(dtype, T => {
        let walk = Walk::new(shape, from_strides, to_strides);
        let transpose = walk.transposes();
        walk.planes(from.cast::<T>(), to.cast::<T>(), |plane| {
            // SAFETY: planes are parts of what the caller vouches for.
            unsafe { if transpose { plane.transpose() } else { plane.copy() } }
        });
    });
}

/// Two strided walks over one shape, with axes merged and in the order that suits the places written.
pub struct Walk {
    /// Size, stride of the source, stride of the destination; at least two, slowest first. The last
    /// two are the planes that loops work on.
    axes: SmallVec<[(usize, isize, isize); 6]>,
}

/// `rows` lines of `columns` elements; strides are (row, column).
pub struct Plane<T> {
    rows: usize,
    columns: usize,
    from: *const T,
    from_strides: (isize, isize),
    to: *mut T,
    to_strides: (isize, isize),
}

impl Walk {
    pub fn new(shape: &[usize], from: &[isize], to: &[isize]) -> Walk {
        let mut axes: SmallVec<[(usize, isize, isize); 6]> =
            (0..shape.len()).map(|i| (shape[i], from[i], to[i])).filter(|a| a.0 != 1).collect();
        axes.sort_by_key(|a| std::cmp::Reverse(a.2.unsigned_abs()));
        let mut merged: SmallVec<[(usize, isize, isize); 6]> = SmallVec::new();
        for (size, from, to) in axes {
            match merged.last_mut() {
                Some(last) if last.1 == from * size as isize && last.2 == to * size as isize => {
                    *last = (last.0 * size, from, to)
                }
                _ => merged.push((size, from, to)),
            }
        }
        while merged.len() < 2 {
            merged.insert(0, (1, 0, 0));
        }
        let mut walk = Walk { axes: merged };
        // The axis along which the source is dense becomes the rows, if it is not the columns already.
        let last = walk.axes.len() - 1;
        let dense =
            (0..=last).filter(|&i| walk.axes[i].1 != 0).min_by_key(|&i| walk.axes[i].1.unsigned_abs());
        if let Some(dense) = dense.filter(|&i| i < last && walk.axes[last].1 != 0) {
            let axis = walk.axes.remove(dense);
            walk.axes.insert(last - 1, axis);
        }
        walk
    }

    /// Whether planes are read along rows and written along columns.
    fn transposes(&self) -> bool {
        let [rows, columns] = [self.axes[self.axes.len() - 2], self.axes[self.axes.len() - 1]];
        rows.1.unsigned_abs() < columns.1.unsigned_abs() && rows.1 != 0 && rows.0 >= SIDE && columns.0 >= SIDE
    }

    /// Calls `f` for planes that together are the shape, on all threads.
    pub fn planes<T: Send + Sync>(&self, from: *const T, to: *mut T, f: impl Fn(Plane<T>) + Sync) {
        let (outer, plane) = self.axes.split_at(self.axes.len() - 2);
        let (rows, columns) = (plane[0], plane[1]);
        let outer_count: usize = outer.iter().map(|a| a.0).product();
        if outer_count * rows.0 * columns.0 == 0 {
            return;
        }
        // Transposes go by squares, whose lines are few enough for the table of pages.
        let width = columns.0.min(if self.transposes() { 128 } else { GRAIN });
        let height = (GRAIN / width).next_multiple_of(16).min(rows.0);
        let (wide, high) = (columns.0.div_ceil(width), rows.0.div_ceil(height));
        let tasks = outer_count * high * wide;
        let each = (GRAIN / (width * height)).max(1);
        let (from, to) = (Shared::new(from.cast_mut()), Shared::new(to));
        parallel(tasks.div_ceil(each), |chunk| {
            for task in chunk * each..tasks.min((chunk + 1) * each) {
                let (column, row) = (task % wide * width, task / wide % high * height);
                let mut rest = task / wide / high;
                let mut places = (
                    row as isize * rows.1 + column as isize * columns.1,
                    row as isize * rows.2 + column as isize * columns.2,
                );
                for &(size, from, to) in outer.iter().rev() {
                    let index = (rest % size) as isize;
                    rest /= size;
                    places = (places.0 + index * from, places.1 + index * to);
                }
                f(Plane {
                    rows: height.min(rows.0 - row),
                    columns: width.min(columns.0 - column),
                    from: from.at(0).wrapping_offset(places.0),
                    from_strides: (rows.1, columns.1),
                    to: to.at(0).wrapping_offset(places.1),
                    to_strides: (rows.2, columns.2),
                });
            }
        });
    }
}

/// Side of the squares that are transposed in the first level cache.
const SIDE: usize = 8;

impl<T: Copy> Plane<T> {
    /// Calls `f(destination, source)` for each element, in order along a line.
    ///
    /// # Safety
    /// The plane must lie in memory, and its destination belong to this thread.
    #[inline(always)]
    pub unsafe fn each(&self, f: impl Fn(&mut T, T)) {
        for row in 0..self.rows as isize {
            let from = self.from.wrapping_offset(row * self.from_strides.0);
            let to = self.to.wrapping_offset(row * self.to_strides.0);
            let (step_from, step_to) = (self.from_strides.1, self.to_strides.1);
            // SAFETY: what the caller promises. Unit strides have a loop that vectorises.
            unsafe {
                if step_from == 1 && step_to == 1 {
                    for i in 0..self.columns {
                        f(&mut *to.add(i), *from.add(i));
                    }
                } else {
                    for i in 0..self.columns as isize {
                        f(&mut *to.offset(i * step_to), *from.offset(i * step_from));
                    }
                }
            }
        }
    }

    /// # Safety
    /// As for `each`.
    unsafe fn copy(&self) {
        if self.from_strides.1 == 1 && self.to_strides.1 == 1 {
            for row in 0..self.rows as isize {
                let from = self.from.wrapping_offset(row * self.from_strides.0);
                let to = self.to.wrapping_offset(row * self.to_strides.0);
                // SAFETY: what the caller promises.
                unsafe { std::ptr::copy_nonoverlapping(from, to, self.columns) };
            }
            return;
        }
        vectorized(
            #[inline(always)]
            // SAFETY: what the caller promises.
            || unsafe { self.each(|to, from| *to = from) },
        );
    }

    /// Copies square by square. On registers a square's side is a cache line, so that no line is met
    /// twice.
    ///
    /// # Safety
    /// As for `each`.
    unsafe fn transpose(&self) {
        let dense = self.from_strides.0 == 1 && self.to_strides.1 == 1;
        let choice = if dense { isa::get() } else { Isa::Portable };
        // SAFETY: what the caller promises, and the levels whose registers are used are those that
        // `vectorized` compiles for. Registers move bits of any kind.
        vectorized(
            #[inline(always)]
            || unsafe {
                match (size_of::<T>(), choice) {
                    #[cfg(target_arch = "x86_64")]
                    (4, Isa::Avx512) => self.squares::<F32x16>(),
                    #[cfg(target_arch = "x86_64")]
                    (8, Isa::Avx512) => self.squares::<F64x8>(),
                    #[cfg(target_arch = "x86_64")]
                    (4, Isa::Avx2) => self.squares::<F32x8>(),
                    #[cfg(target_arch = "x86_64")]
                    (8, Isa::Avx2) => self.squares::<F64x4>(),
                    #[cfg(target_arch = "aarch64")]
                    (4, Isa::Neon) => self.squares::<F32x4>(),
                    #[cfg(target_arch = "aarch64")]
                    (8, Isa::Neon) => self.squares::<F64x2>(),
                    _ => self.each_square(
                        SIDE,
                        #[inline(always)]
                        |square| square.each(|to, from| *to = from),
                    ),
                }
            },
        );
    }

    /// Transposes whole squares of registers, with unit strides, and copies what is left.
    ///
    /// # Safety
    /// As for `each`; elements have the size of V's, and the processor has V's instructions.
    #[inline(always)]
    unsafe fn squares<V: Vector>(&self) {
        // SAFETY: what the caller promises.
        self.each_square(
            V::LANES,
            #[inline(always)]
            |part| unsafe {
                if (part.rows, part.columns) != (V::LANES, V::LANES) {
                    return part.each(|to, from| *to = from);
                }
                let mut square = V::square();
                for (j, v) in square.as_mut().iter_mut().enumerate() {
                    *v = V::load(part.from.offset(j as isize * part.from_strides.1).cast());
                }
                transpose::<V>(&mut square);
                for (i, v) in square.as_mut().iter().enumerate() {
                    v.store(part.to.offset(i as isize * part.to_strides.0).cast());
                }
            },
        );
    }

    /// Calls `f` for squares of `side`, the last ones being what there is.
    #[inline(always)]
    fn each_square(&self, side: usize, f: impl Fn(&Plane<T>)) {
        for row in (0..self.rows).step_by(side) {
            for column in (0..self.columns).step_by(side) {
                let place = |s: (isize, isize)| row as isize * s.0 + column as isize * s.1;
                f(&Plane {
                    rows: side.min(self.rows - row),
                    columns: side.min(self.columns - column),
                    from: self.from.wrapping_offset(place(self.from_strides)),
                    to: self.to.wrapping_offset(place(self.to_strides)),
                    ..*self
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Layout;
    use crate::cpu::reference::{Data, on_all_threads};

    #[test]
    fn any_layout_is_copied_in_row_major_order() {
        let shapes: &[&[usize]] = &[
            &[],
            &[1],
            &[70_001],
            &[0, 3],
            &[3, 0],
            &[8, 8],
            &[37, 41],
            &[300, 700],
            &[2, 3, 4, 5],
            &[5, 16, 33],
            &[40, 1, 2, 50],
        ];
        for dtype in [DType::U8, DType::F16, DType::F32, DType::F64] {
            for shape in shapes {
                for x in Data::views(dtype, shape, 4) {
                    for axes in [[0, 1, 2, 3], [3, 1, 0, 2], [1, 0, 3, 2], [0, 2, 1, 3]] {
                        let axes: Vec<usize> = axes.into_iter().filter(|&a| a < shape.len()).collect();
                        let mut x = x.clone();
                        x.layout = x.layout.permute(&axes);
                        let got = on_all_threads(|| {
                            let mut y = Data::new(dtype, x.shape(), |_| 77.0);
                            copy(&x.view(), &y.out()).unwrap();
                            vec![y]
                        });
                        assert!(got[0].list() == x.list(), "{dtype} {:?}", x.layout);
                    }
                }
            }
        }
    }

    #[test]
    fn windows_of_any_layout_are_written() {
        for x in Data::views(DType::F32, &[12, 9, 10], 8) {
            let whole = Layout::contiguous([20, 20, 24].into());
            let window = whole.slice(0, 3, 12, 1).slice(1, 19, 9, -2).slice(2, 0, 10, 2);
            for window in [
                window.clone(),
                whole.permute(&[2, 0, 1]).slice(0, 1, 12, 1).slice(1, 2, 9, 2).slice(2, 9, 10, -1),
            ] {
                let mut y = Data::zeros(DType::F32, &[20, 20, 24]);
                let to = y.out().ptr.wrapping_add(4 * window.offset);
                // SAFETY: the window lies in y, and x is another tensor.
                unsafe {
                    transfer(DType::F32, x.shape(), x.view().first(), &x.layout.strides, to, &window.strides)
                };
                assert_eq!(y.list().iter().sum::<f64>(), x.list().iter().sum::<f64>());
                y.layout = window;
                assert!(y.list() == x.list());
            }
        }
    }
}

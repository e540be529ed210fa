//! Operands as the kernels see them: matrices with strides, their copies in the kernels' order, and the
//! widening of half floats.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::kernel::Move;
use super::table::{Kernels, Real};
use crate::core::{Element, Result};
use crate::cpu::Memory;

/// A matrix somewhere in memory; strides are in elements and may be zero or negative.
pub struct Matrix<S> {
    pub at: *const S,
    pub rs: isize,
    pub cs: isize,
}

impl<S> Clone for Matrix<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Matrix<S> {}

// SAFETY: operands are only read, and stay where they are while a multiplication runs.
unsafe impl<S> Send for Matrix<S> {}
unsafe impl<S> Sync for Matrix<S> {}

impl<S> Matrix<S> {
    pub fn transposed(self) -> Matrix<S> {
        Matrix { at: self.at, rs: self.cs, cs: self.rs }
    }

    /// The matrix that begins so many elements further on in memory.
    pub fn moved(self, by: isize) -> Matrix<S> {
        Matrix { at: self.at.wrapping_offset(by), ..self }
    }

    /// The matrix that begins at element (i, j). The pointer is followed only inside the matrix.
    pub fn from(self, i: usize, j: usize) -> Matrix<S> {
        Matrix { at: self.at.wrapping_offset(i as isize * self.rs + j as isize * self.cs), ..self }
    }
}

/// A dtype whose matrices are multiplied by the kernels of `Real`: itself, or float32 for halves.
pub trait Operand: Element {
    type Real: Real + Operand<Real = Self::Real>;

    /// The same matrix for kernels that read it where it is, if they can.
    fn in_place(matrix: Matrix<Self>) -> Option<Matrix<Self::Real>>;
    fn widen(from: &[Self], to: &mut [Self::Real]);
    fn narrow(from: &[Self::Real], to: &mut [Self]);
}

macro_rules! operands {
    (@real $($T:ty),*) => { $(
        impl Operand for $T {
            type Real = $T;

            fn in_place(matrix: Matrix<$T>) -> Option<Matrix<$T>> {
                Some(matrix)
            }
            fn widen(from: &[$T], to: &mut [$T]) {
                to.copy_from_slice(from);
            }
            fn narrow(from: &[$T], to: &mut [$T]) {
                to.copy_from_slice(from);
            }
        }
    )* };
    (@half $($T:ty),*) => { $(
        impl Operand for $T {
            type Real = f32;

            fn in_place(_: Matrix<$T>) -> Option<Matrix<f32>> {
                None
            }
            fn widen(from: &[$T], to: &mut [f32]) {
                from.convert_to_f32_slice(to);
            }
            fn narrow(from: &[f32], to: &mut [$T]) {
                to.convert_from_f32_slice(from);
            }
        }
    )* };
}

operands!(@real f32, f64);
operands!(@half f16, bf16);

/// `dst[i · ldd + j] = src[i, j]`, rows padded with zeros to whole vectors.
///
/// # Safety
/// `src` has `rows` × `cols` elements, `dst` has `rows` rows of `cols` rounded up to whole vectors, and
/// the processor has the table's instructions.
pub unsafe fn pack<S: Operand>(
    table: &Kernels<S::Real>,
    src: Matrix<S>,
    rows: usize,
    cols: usize,
    dst: *mut S::Real,
    ldd: usize,
) {
    // SAFETY: the caller's promises are those of the kernels.
    unsafe {
        match S::in_place(src) {
            Some(Matrix { at, rs, cs: 1 }) => (table.copy)(&Move { rows, cols, src: at, lds: rs, dst, ldd }),
            Some(Matrix { at, rs: 1, cs }) => {
                (table.transpose)(&Move { rows, cols, src: at, lds: cs, dst, ldd })
            }
            _ => gather(table, src, rows, cols, dst, ldd),
        }
    }
}

/// The length of the pieces in which elements are gathered.
const RUN: usize = 32;

/// The same for elements that no kernel can load: piece by piece, along the axis of `src` that has the
/// smaller stride, into a buffer that a kernel can.
///
/// # Safety
/// As for `pack`.
unsafe fn gather<S: Operand>(
    table: &Kernels<S::Real>,
    src: Matrix<S>,
    rows: usize,
    cols: usize,
    dst: *mut S::Real,
    ldd: usize,
) {
    let mut buffer = [[S::Real::default(); RUN]; RUN];
    let along_rows = src.cs.abs() <= src.rs.abs();
    for i in (0..rows).step_by(RUN) {
        for j in (0..cols).step_by(RUN) {
            let (rows, cols) = (RUN.min(rows - i), RUN.min(cols - j));
            let src = src.from(i, j);
            let (runs, len, apart, step, kernel) = if along_rows {
                (rows, cols, src.rs, src.cs, table.copy)
            } else {
                (cols, rows, src.cs, src.rs, table.transpose)
            };
            // SAFETY: the piece lies within `src`, and so does its copy within `dst`.
            unsafe {
                for (q, buffer) in buffer.iter_mut().enumerate().take(runs) {
                    run(src.at.offset(q as isize * apart), step, &mut buffer[..len]);
                }
                let (src, lds, dst) = (buffer.as_ptr().cast(), RUN as isize, dst.add(i * ldd + j));
                kernel(&Move { rows, cols, src, lds, dst, ldd });
            }
        }
    }
}

/// Widens elements that are `step` apart, at most `RUN`.
unsafe fn run<S: Operand>(at: *const S, step: isize, to: &mut [S::Real]) {
    let mut near = [S::default(); RUN];
    // SAFETY: the caller vouches for as many elements as `to` has.
    unsafe {
        if step == 1 {
            return S::widen(std::slice::from_raw_parts(at, to.len()), to);
        }
        for (q, near) in near.iter_mut().enumerate().take(to.len()) {
            *near = *at.offset(q as isize * step);
        }
    }
    S::widen(&near[..to.len()], to);
}

/// Uninitialised memory for so many elements.
pub fn scratch<T>(len: usize) -> Result<Memory> {
    Memory::alloc(len.saturating_mul(size_of::<T>()))
}

/// The items that a range of groups of `size` stands for, of `count` items.
pub fn times(groups: Range<usize>, size: usize, count: usize) -> Range<usize> {
    groups.start * size..(groups.end * size).min(count)
}

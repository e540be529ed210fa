//! Operands as the kernels see them: views with strides, their copies in the kernels' order, the
//! scratch memory that holds these, and the widening of half floats.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::kernel::Move;
use super::table::{Kernels, Real};
use crate::bail;
use crate::core::{Element, Result};

/// A matrix somewhere in memory; strides are in elements and may be zero or negative.
pub struct View<S> {
    pub at: *const S,
    pub rs: isize,
    pub cs: isize,
}

impl<S> Clone for View<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for View<S> {}

// SAFETY: operands are only read, and stay where they are while a multiplication runs.
unsafe impl<S> Send for View<S> {}
unsafe impl<S> Sync for View<S> {}

impl<S> View<S> {
    pub fn transposed(self) -> View<S> {
        View { at: self.at, rs: self.cs, cs: self.rs }
    }

    /// The view that begins so many elements further on in memory.
    pub fn moved(self, by: isize) -> View<S> {
        View { at: self.at.wrapping_offset(by), ..self }
    }

    /// The view that begins at element (i, j). The pointer is followed only inside the matrix.
    pub fn from(self, i: usize, j: usize) -> View<S> {
        View { at: self.at.wrapping_offset(i as isize * self.rs + j as isize * self.cs), ..self }
    }
}

/// Memory that threads write disjoint parts of, and read parts of that nobody writes.
pub struct Place<T>(pub *mut T);

impl<T> Clone for Place<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Place<T> {}

// SAFETY: that is the rule; those who follow the pointer keep it.
unsafe impl<T> Send for Place<T> {}
unsafe impl<T> Sync for Place<T> {}

impl<T> Place<T> {
    /// Element i, which is followed only where the memory has one.
    pub fn at(self, i: usize) -> *mut T {
        self.0.wrapping_add(i)
    }
}

/// A dtype whose matrices are multiplied by the kernels of `Real`: itself, or float32 for halves.
pub trait Operand: Element {
    type Real: Real + Operand<Real = Self::Real>;

    /// The same matrix for kernels that read it where it is, if they can.
    fn in_place(view: View<Self>) -> Option<View<Self::Real>>;
    fn widen(from: &[Self], to: &mut [Self::Real]);
    fn narrow(from: &[Self::Real], to: &mut [Self]);
}

macro_rules! operands {
    (@real $($T:ty),*) => { $(
        impl Operand for $T {
            type Real = $T;

            fn in_place(view: View<$T>) -> Option<View<$T>> {
                Some(view)
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

            fn in_place(_: View<$T>) -> Option<View<f32>> {
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
    src: View<S>,
    rows: usize,
    cols: usize,
    dst: *mut S::Real,
    ldd: usize,
) {
    // SAFETY: the caller's promises are those of the kernels.
    unsafe {
        match S::in_place(src) {
            Some(View { at, rs, cs: 1 }) => {
                (table.copy)(&Move { rows, cols, src: at, lds: rs, dst, ldd });
            }
            Some(View { at, rs: 1, cs }) => {
                (table.transpose)(&Move { rows, cols, src: at, lds: cs, dst, ldd });
            }
            _ if src.cs == 1 => {
                for i in 0..rows {
                    let row = std::slice::from_raw_parts_mut(dst.add(i * ldd), cols);
                    S::widen(std::slice::from_raw_parts(src.from(i, 0).at, cols), row);
                    pad(table, dst.add(i * ldd), cols);
                }
            }
            _ => gather(table, src, rows, cols, dst, ldd),
        }
    }
}

/// The same element by element, in runs along the axis of `src` that has the smaller stride.
///
/// # Safety
/// As for `pack`.
unsafe fn gather<S: Operand>(
    table: &Kernels<S::Real>,
    src: View<S>,
    rows: usize,
    cols: usize,
    dst: *mut S::Real,
    ldd: usize,
) {
    const RUN: usize = 64;
    let (mut narrow, mut wide) = ([S::default(); RUN], [S::Real::default(); RUN]);
    // SAFETY: the indices stay within rows and cols.
    unsafe {
        if src.rs.abs() < src.cs.abs() {
            for j in 0..cols {
                for i in (0..rows).step_by(RUN) {
                    let n = RUN.min(rows - i);
                    (0..n).for_each(|q| narrow[q] = *src.from(i + q, j).at);
                    S::widen(&narrow[..n], &mut wide[..n]);
                    (0..n).for_each(|q| *dst.add((i + q) * ldd + j) = wide[q]);
                }
            }
        } else {
            for i in 0..rows {
                for j in (0..cols).step_by(RUN) {
                    let n = RUN.min(cols - j);
                    (0..n).for_each(|q| narrow[q] = *src.from(i, j + q).at);
                    let row = std::slice::from_raw_parts_mut(dst.add(i * ldd + j), n);
                    S::widen(&narrow[..n], row);
                }
            }
        }
        (0..rows).for_each(|i| pad(table, dst.add(i * ldd), cols));
    }
}

/// Zeros from `cols` to the end of the row's last vector.
unsafe fn pad<T: Real>(table: &Kernels<T>, row: *mut T, cols: usize) {
    for j in cols..cols.next_multiple_of(table.lanes) {
        // SAFETY: the row has whole vectors.
        unsafe { *row.add(j) = T::default() }
    }
}

/// Memory of this thread for packed operands, kept from one multiplication to the next: fresh pages
/// cost more than the copy into them.
pub struct Scratch<T> {
    block: Block,
    of: std::marker::PhantomData<T>,
}

#[derive(Clone, Copy)]
struct Block {
    at: *mut u8,
    size: usize,
}

impl Block {
    const EMPTY: Block = Block { at: std::ptr::null_mut(), size: 0 };
    /// A cache line, which is also the widest vector.
    const ALIGN: usize = 64;
    /// What a thread may keep.
    const KEPT: usize = 32 << 20;

    fn new(size: usize) -> Option<Block> {
        let layout = Layout::from_size_align(size, Block::ALIGN).ok()?;
        // SAFETY: only called with `size > 0`.
        let at = unsafe { alloc(layout) };
        (!at.is_null()).then_some(Block { at, size })
    }

    fn free(self) {
        if self.size > 0 {
            // SAFETY: `new` made it with the same layout, and blocks are freed once: by the thread's
            // end, or by the `Scratch` that took it.
            unsafe { dealloc(self.at, Layout::from_size_align_unchecked(self.size, Block::ALIGN)) }
        }
    }
}

struct Kept(Cell<Block>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.get().free();
    }
}

thread_local! {
    static KEPT: Kept = const { Kept(Cell::new(Block::EMPTY)) };
}

impl<T> Scratch<T> {
    /// Memory for `len` elements, not initialised.
    pub fn take(len: usize) -> Result<Scratch<T>> {
        let kept = KEPT.try_with(|kept| kept.0.replace(Block::EMPTY)).unwrap_or(Block::EMPTY);
        let block = match len.checked_mul(size_of::<T>()) {
            Some(size) if size <= kept.size => Some(kept),
            Some(size) => {
                kept.free();
                Block::new(size)
            }
            None => None,
        };
        match block {
            Some(block) => Ok(Scratch { block, of: std::marker::PhantomData }),
            None => bail!(Memory, "matmul: no memory for {len} elements of scratch"),
        }
    }

    pub fn at(&self) -> *mut T {
        self.block.at.cast()
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        let unwanted = if self.block.size > Block::KEPT {
            self.block
        } else {
            KEPT.try_with(|kept| kept.0.replace(self.block)).unwrap_or(self.block)
        };
        unwanted.free();
    }
}

/// A total split into parts that differ by one at most.
#[derive(Clone, Copy)]
pub struct Even {
    pub parts: usize,
    base: usize,
    longer: usize,
}

impl Even {
    pub fn new(total: usize, parts: usize) -> Even {
        Even { parts, base: total / parts, longer: total % parts }
    }

    /// As few parts as are needed for none to be longer than `most`.
    pub fn at_most(total: usize, most: usize) -> Even {
        Even::new(total, total.div_ceil(most).max(1))
    }

    pub fn iter(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.parts).map(move |i| self.part(i))
    }

    pub fn part(&self, i: usize) -> Range<usize> {
        let start = i * self.base + i.min(self.longer);
        start..start + self.base + (i < self.longer) as usize
    }
}

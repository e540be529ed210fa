//! What a kernel needs of a vector register, and the portable version of it. The kernels are written
//! once over this trait; `x86.rs` and `neon.rs` give it the registers of each instruction set.

use std::ops::{Add, Mul};

/// A register of `LANES` floats. Every method is inlined into the kernel that calls it, and is sound
/// only where the processor has the instructions: the `#[target_feature]` entry points see to that.
pub trait Vector: Copy {
    type Elem: Copy + Default;
    const LANES: usize;
    /// Whether `load_first` is cheap enough for inner loops.
    const MASKED: bool;
    /// `LANES` registers, a square of elements.
    type Square: AsMut<[Self]>;

    unsafe fn zero() -> Self;
    unsafe fn splat(x: Self::Elem) -> Self;
    unsafe fn load(at: *const Self::Elem) -> Self;
    unsafe fn store(self, at: *mut Self::Elem);
    /// The first `n ≤ LANES` elements; the rest are zero and their memory is not touched.
    unsafe fn load_first(at: *const Self::Elem, n: usize) -> Self;
    unsafe fn store_first(self, at: *mut Self::Elem, n: usize);
    unsafe fn add(self, other: Self) -> Self;
    /// `self · b + c`, rounded once where there is such an instruction.
    unsafe fn fma(self, b: Self, c: Self) -> Self;

    /// Sees each register as blocks of `width` lanes, and the two as a 2×n matrix of blocks, and
    /// transposes each 2×2 square: `(a₀ a₁ a₂ a₃, b₀ b₁ b₂ b₃)` becomes `(a₀ b₀ a₂ b₂, a₁ b₁ a₃ b₃)`.
    unsafe fn swap(a: Self, b: Self, width: usize) -> (Self, Self);
    unsafe fn square() -> Self::Square;
}

/// Lane i of the result is the sum of the lanes of `v[i]`, for at most `LANES` registers. Each sum is
/// a tree: halves first, then quarters, …, so that it does not depend on how many are summed at once.
#[inline(always)]
pub unsafe fn sums<V: Vector>(v: &mut [V]) -> V {
    let (mut count, mut width) = (v.len(), V::LANES / 2);
    while width > 0 {
        for i in 0..count.min(width) {
            let other = if i + width < count { v[i + width] } else { v[i] };
            // SAFETY: the caller has the instructions.
            v[i] = unsafe {
                let (low, high) = V::swap(v[i], other, width);
                low.add(high)
            };
        }
        count = count.min(width);
        width /= 2;
    }
    v[0]
}

/// Transposes `LANES` registers: the blocks of half a register, then of a quarter, …, then lanes.
#[inline(always)]
pub unsafe fn transpose<V: Vector>(square: &mut V::Square) {
    let rows = square.as_mut();
    let mut width = V::LANES / 2;
    while width > 0 {
        for i in (0..V::LANES).filter(|i| i & width == 0) {
            // SAFETY: the caller has the instructions.
            (rows[i], rows[i + width]) = unsafe { V::swap(rows[i], rows[i + width], width) };
        }
        width /= 2;
    }
}

/// A register that the compiler makes of what its baseline has, by vectorising loops over an array.
#[derive(Clone, Copy)]
pub struct Portable<T, const L: usize>([T; L]);

impl<T: Copy + Default + Add<Output = T> + Mul<Output = T>, const L: usize> Vector for Portable<T, L> {
    type Elem = T;
    const LANES: usize = L;
    const MASKED: bool = false;
    type Square = [Self; L];

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([T::default(); L])
    }

    #[inline(always)]
    unsafe fn splat(x: T) -> Self {
        Self([x; L])
    }

    #[inline(always)]
    unsafe fn load(at: *const T) -> Self {
        // SAFETY: the caller vouches for L elements.
        Self(unsafe { at.cast::<[T; L]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut T) {
        // SAFETY: as above.
        unsafe { at.cast::<[T; L]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn load_first(at: *const T, n: usize) -> Self {
        // SAFETY: the caller vouches for n elements.
        Self(std::array::from_fn(|i| if i < n { unsafe { *at.add(i) } } else { T::default() }))
    }

    #[inline(always)]
    unsafe fn store_first(self, at: *mut T, n: usize) {
        for (i, &x) in self.0.iter().enumerate().take(n) {
            // SAFETY: as above.
            unsafe { *at.add(i) = x }
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * b.0[i] + c.0[i]))
    }

    #[inline(always)]
    unsafe fn swap(a: Self, b: Self, width: usize) -> (Self, Self) {
        let low = std::array::from_fn(|i| if i & width == 0 { a.0[i] } else { b.0[i - width] });
        let high = std::array::from_fn(|i| if i & width == 0 { a.0[i + width] } else { b.0[i] });
        (Self(low), Self(high))
    }

    #[inline(always)]
    unsafe fn square() -> Self::Square {
        [Self([T::default(); L]); L]
    }
}

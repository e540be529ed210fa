//! The registers of NEON as `Vector`s.
//!
//! SAFETY: the methods are `unsafe` because the processor must have the level, which holds where they are
//! inlined: in kernels compiled for it. Loads and stores are as valid as the pointers they are given.

use std::arch::aarch64::*;

use super::vector::Vector;

macro_rules! neon {
    ($V:ident, $T:ty, $L:literal, $reg:ty, $splat:ident $load:ident $store:ident $add:ident $fma:ident,
     |$a:ident, $b:ident, $width:ident| $swap:expr) => {
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub struct $V($reg);

        // SAFETY (all methods): the trait's contract gives the instructions and valid pointers.
        impl Vector for $V {
            type Elem = $T;
            const LANES: usize = $L;
            const MASKED: bool = false;
            type Square = [Self; $L];

            #[inline(always)]
            unsafe fn zero() -> Self {
                unsafe { Self($splat(0.0)) }
            }
            #[inline(always)]
            unsafe fn splat(x: $T) -> Self {
                unsafe { Self($splat(x)) }
            }
            #[inline(always)]
            unsafe fn load(at: *const $T) -> Self {
                unsafe { Self($load(at)) }
            }
            #[inline(always)]
            unsafe fn store(self, at: *mut $T) {
                unsafe { $store(at, self.0) }
            }
            #[inline(always)]
            unsafe fn load_first(at: *const $T, n: usize) -> Self {
                let mut whole = [0.0; $L];
                unsafe {
                    at.copy_to_nonoverlapping(whole.as_mut_ptr(), n);
                    Self::load(whole.as_ptr())
                }
            }
            #[inline(always)]
            unsafe fn store_first(self, at: *mut $T, n: usize) {
                let mut whole = [0.0; $L];
                unsafe {
                    self.store(whole.as_mut_ptr());
                    at.copy_from_nonoverlapping(whole.as_ptr(), n);
                }
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                unsafe { Self($add(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn fma(self, b: Self, c: Self) -> Self {
                unsafe { Self($fma(c.0, self.0, b.0)) }
            }
            #[inline(always)]
            unsafe fn swap(a: Self, b: Self, $width: usize) -> (Self, Self) {
                let ($a, $b) = (a.0, b.0);
                let (low, high) = unsafe { $swap };
                (Self(low), Self(high))
            }
            #[inline(always)]
            unsafe fn square() -> Self::Square {
                unsafe { [Self::zero(); $L] }
            }
        }
    };
}

neon!(F32x4, f32, 4, float32x4_t, vdupq_n_f32 vld1q_f32 vst1q_f32 vaddq_f32 vfmaq_f32,
|a, b, width| match width {
    2 => {
        let (a, b) = (vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b));
        (vreinterpretq_f32_f64(vtrn1q_f64(a, b)), vreinterpretq_f32_f64(vtrn2q_f64(a, b)))
    }
    _ => (vtrn1q_f32(a, b), vtrn2q_f32(a, b)),
});
neon!(F64x2, f64, 2, float64x2_t, vdupq_n_f64 vld1q_f64 vst1q_f64 vaddq_f64 vfmaq_f64,
    |a, b, _width| (vtrn1q_f64(a, b), vtrn2q_f64(a, b)));

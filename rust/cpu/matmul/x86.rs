//! The registers of AVX2 and AVX-512 as `Vector`s.
//!
//! SAFETY: the methods are `unsafe` because the processor must have the level, which holds where they are
//! inlined: in kernels compiled for it. Loads and stores are as valid as the pointers they are given.

use std::arch::x86_64::*;

use super::vector::Vector;

/// Lanes `0..n` as the bits of an AVX-512 mask.
#[inline(always)]
fn bits(n: usize) -> u32 {
    !(!0 << n)
}

macro_rules! avx512 {
    ($V:ident, $T:ty, $L:literal, $reg:ty, $mask:ty, $index:ty,
     $zero:ident $splat:ident $load:ident $store:ident $load_mask:ident $store_mask:ident
     $add:ident $fma:ident $permute:ident) => {
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub struct $V($reg);

        impl $V {
            /// Indices into the pair `(a, b)` for one half of `Vector::swap`.
            const fn indices(width: usize, high: bool) -> [$index; $L] {
                let mut index = [0; $L];
                let mut i = 0;
                while i < $L {
                    let from = if high { i | width } else { i & !width };
                    index[i] = if i & width == 0 { from } else { from + $L } as $index;
                    i += 1;
                }
                index
            }

            #[inline(always)]
            unsafe fn pick<const WIDTH: usize, const HIGH: bool>(a: Self, b: Self) -> Self {
                // SAFETY: integers of the register's size; the caller has AVX-512.
                unsafe {
                    let index =
                        const { std::mem::transmute::<[$index; $L], __m512i>(Self::indices(WIDTH, HIGH)) };
                    Self($permute(a.0, index, b.0))
                }
            }
        }

        // SAFETY (all methods): the trait's contract gives the instructions and valid pointers; masked
        // lanes are not accessed.
        impl Vector for $V {
            type Elem = $T;
            const LANES: usize = $L;
            const MASKED: bool = true;
            type Square = [Self; $L];

            #[inline(always)]
            unsafe fn zero() -> Self {
                unsafe { Self($zero()) }
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
                unsafe { Self($load_mask(bits(n) as $mask, at)) }
            }
            #[inline(always)]
            unsafe fn store_first(self, at: *mut $T, n: usize) {
                unsafe { $store_mask(at, bits(n) as $mask, self.0) }
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                unsafe { Self($add(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn fma(self, b: Self, c: Self) -> Self {
                unsafe { Self($fma(self.0, b.0, c.0)) }
            }
            #[inline(always)]
            unsafe fn swap(a: Self, b: Self, width: usize) -> (Self, Self) {
                unsafe {
                    match width {
                        1 => (Self::pick::<1, false>(a, b), Self::pick::<1, true>(a, b)),
                        2 => (Self::pick::<2, false>(a, b), Self::pick::<2, true>(a, b)),
                        4 => (Self::pick::<4, false>(a, b), Self::pick::<4, true>(a, b)),
                        _ => (Self::pick::<8, false>(a, b), Self::pick::<8, true>(a, b)),
                    }
                }
            }
            #[inline(always)]
            unsafe fn square() -> Self::Square {
                unsafe { [Self::zero(); $L] }
            }
        }
    };
}

avx512!(F32x16, f32, 16, __m512, __mmask16, u32,
    _mm512_setzero_ps _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_maskz_loadu_ps
    _mm512_mask_storeu_ps _mm512_add_ps _mm512_fmadd_ps _mm512_permutex2var_ps);
avx512!(F64x8, f64, 8, __m512d, __mmask8, u64,
    _mm512_setzero_pd _mm512_set1_pd _mm512_loadu_pd _mm512_storeu_pd _mm512_maskz_loadu_pd
    _mm512_mask_storeu_pd _mm512_add_pd _mm512_fmadd_pd _mm512_permutex2var_pd);

/// A table of which any window of 8 (f32) or 4 (f64) begins with the wanted number of set lanes.
static FIRST_32: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
static FIRST_64: [i64; 8] = [-1, -1, -1, -1, 0, 0, 0, 0];

macro_rules! avx2 {
    ($V:ident, $T:ty, $L:literal, $reg:ty, $first_table:ident,
     $zero:ident $splat:ident $load:ident $store:ident $load_mask:ident $store_mask:ident
     $add:ident $fma:ident, |$a:ident, $b:ident, $width:ident| $swap:expr) => {
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub struct $V($reg);

        impl $V {
            #[inline(always)]
            unsafe fn mask(n: usize) -> __m256i {
                // SAFETY: `n ≤ LANES`, so that the window lies within the table.
                unsafe { _mm256_loadu_si256($first_table.as_ptr().add($L - n).cast()) }
            }
        }

        // SAFETY (all methods): as for AVX-512.
        impl Vector for $V {
            type Elem = $T;
            const LANES: usize = $L;
            const MASKED: bool = true;
            type Square = [Self; $L];

            #[inline(always)]
            unsafe fn zero() -> Self {
                unsafe { Self($zero()) }
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
                unsafe { Self($load_mask(at, Self::mask(n))) }
            }
            #[inline(always)]
            unsafe fn store_first(self, at: *mut $T, n: usize) {
                unsafe { $store_mask(at, Self::mask(n), self.0) }
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                unsafe { Self($add(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn fma(self, b: Self, c: Self) -> Self {
                unsafe { Self($fma(self.0, b.0, c.0)) }
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

avx2!(F32x8, f32, 8, __m256, FIRST_32,
_mm256_setzero_ps _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_maskload_ps
_mm256_maskstore_ps _mm256_add_ps _mm256_fmadd_ps,
|a, b, width| match width {
    4 => (_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b)),
    2 => (_mm256_shuffle_ps::<0x44>(a, b), _mm256_shuffle_ps::<0xee>(a, b)),
    _ => {
        let up = _mm256_castsi256_ps(_mm256_slli_epi64::<32>(_mm256_castps_si256(b)));
        let down = _mm256_castsi256_ps(_mm256_srli_epi64::<32>(_mm256_castps_si256(a)));
        (_mm256_blend_ps::<0xaa>(a, up), _mm256_blend_ps::<0xaa>(down, b))
    }
});
avx2!(F64x4, f64, 4, __m256d, FIRST_64,
_mm256_setzero_pd _mm256_set1_pd _mm256_loadu_pd _mm256_storeu_pd _mm256_maskload_pd
_mm256_maskstore_pd _mm256_add_pd _mm256_fmadd_pd,
|a, b, width| match width {
    2 => (_mm256_permute2f128_pd::<0x20>(a, b), _mm256_permute2f128_pd::<0x31>(a, b)),
    _ => (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b)),
});

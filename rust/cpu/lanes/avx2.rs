//! Lanes of AVX2 with FMA: eight float32 or four float64; a truth value is a lane of all ones.

use super::{Arch, Lanes};
use std::arch::x86_64::*;

pub enum Avx2 {}

impl Arch for Avx2 {
    type F32 = __m256;
    type F64 = __m256d;

    #[inline(always)]
    unsafe fn load_f16(at: *const u16) -> __m256 {
        // SAFETY: `dispatch` comes here only on processors with F16C, and the caller vouches for `at`.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
    }
    #[inline(always)]
    unsafe fn store_f16(x: __m256, at: *mut u16) {
        // SAFETY: `dispatch` comes here only on processors with F16C, and the caller vouches for `at`.
        unsafe { _mm_storeu_si128(at.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x)) }
    }
}

macro_rules! lanes {
    ($vector:ty, $elem:ty, $width:literal; $(fn $name:ident($($args:tt)*) $(-> $result:ty)? { $body:expr })*;
     $(unsafe fn $unsafe_name:ident($($unsafe_args:tt)*) $(-> $unsafe_result:ty)? { $unsafe_body:expr })*) => {
        impl Lanes for $vector {
            type Elem = $elem;
            type Mask = $vector;
            type Double = __m256d;
            const WIDTH: usize = $width;

            $(#[inline(always)]
            fn $name($($args)*) $(-> $result)? {
                #[allow(unused_unsafe, reason = "doing nothing is safe")]
                // SAFETY: `dispatch` comes here only on processors with AVX2 and FMA.
                unsafe { $body }
            })*

            $(#[inline(always)]
            unsafe fn $unsafe_name($($unsafe_args)*) $(-> $unsafe_result)? {
                // SAFETY: as above, and the caller vouches for the memory.
                unsafe { $unsafe_body }
            })*
        }
    };
}

lanes! { __m256, f32, 8;
    fn splat(x: f32) -> Self { _mm256_set1_ps(x) }
    fn add(self, other: Self) -> Self { _mm256_add_ps(self, other) }
    fn sub(self, other: Self) -> Self { _mm256_sub_ps(self, other) }
    fn mul(self, other: Self) -> Self { _mm256_mul_ps(self, other) }
    fn div(self, other: Self) -> Self { _mm256_div_ps(self, other) }
    fn mul_add(self, b: Self, c: Self) -> Self { _mm256_fmadd_ps(self, b, c) }
    fn sqrt(self) -> Self { _mm256_sqrt_ps(self) }
    fn max(self, other: Self) -> Self { _mm256_max_ps(self, other) }
    fn min(self, other: Self) -> Self { _mm256_min_ps(self, other) }
    fn round(self) -> Self { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self) }
    fn floor(self) -> Self { _mm256_floor_ps(self) }
    fn ceil(self) -> Self { _mm256_ceil_ps(self) }
    fn trunc(self) -> Self { _mm256_round_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(self) }
    fn and(self, other: Self) -> Self { _mm256_and_ps(self, other) }
    fn or(self, other: Self) -> Self { _mm256_or_ps(self, other) }
    fn xor(self, other: Self) -> Self { _mm256_xor_ps(self, other) }
    fn add_bits(self, other: Self) -> Self {
        _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(self), _mm256_castps_si256(other)))
    }
    fn shl(self, by: i32) -> Self {
        _mm256_castsi256_ps(_mm256_sll_epi32(_mm256_castps_si256(self), _mm_cvtsi32_si128(by)))
    }
    fn shr(self, by: i32) -> Self {
        _mm256_castsi256_ps(_mm256_srl_epi32(_mm256_castps_si256(self), _mm_cvtsi32_si128(by)))
    }
    fn eq(self, other: Self) -> Self { _mm256_cmp_ps::<_CMP_EQ_OQ>(self, other) }
    fn lt(self, other: Self) -> Self { _mm256_cmp_ps::<_CMP_LT_OQ>(self, other) }
    fn le(self, other: Self) -> Self { _mm256_cmp_ps::<_CMP_LE_OQ>(self, other) }
    fn select(mask: Self, yes: Self, no: Self) -> Self { _mm256_blendv_ps(no, yes, mask) }
    fn both(a: Self, b: Self) -> Self { _mm256_and_ps(a, b) }
    fn either(a: Self, b: Self) -> Self { _mm256_or_ps(a, b) }
    fn not(a: Self) -> Self { _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-1))) }
    fn to_double(self) -> [__m256d; 2] {
        [_mm256_cvtps_pd(_mm256_castps256_ps128(self)), _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(self))]
    }
    fn of_double(halves: [__m256d; 2]) -> Self {
        _mm256_set_m128(_mm256_cvtpd_ps(halves[1]), _mm256_cvtpd_ps(halves[0]))
    }
    fn any(mask: Self) -> bool { _mm256_movemask_ps(mask) != 0 };
    unsafe fn load(at: *const f32) -> Self { _mm256_loadu_ps(at) }
    unsafe fn store(self, at: *mut f32) { _mm256_storeu_ps(at, self) }
    unsafe fn load_part(at: *const f32, count: usize) -> Self { _mm256_maskload_ps(at, first_i32(count)) }
    unsafe fn store_part(self, at: *mut f32, count: usize) { _mm256_maskstore_ps(at, first_i32(count), self) }
    unsafe fn store_mask(mask: Self, at: *mut u8) {{
        let mask = _mm256_castps_si256(mask);
        let words = _mm_packs_epi32(_mm256_castsi256_si128(mask), _mm256_extracti128_si256::<1>(mask));
        let bytes = _mm_and_si128(_mm_packs_epi16(words, words), _mm_set1_epi8(1));
        _mm_storel_epi64(at.cast(), bytes)
    }}
}

lanes! { __m256d, f64, 4;
    fn splat(x: f64) -> Self { _mm256_set1_pd(x) }
    fn add(self, other: Self) -> Self { _mm256_add_pd(self, other) }
    fn sub(self, other: Self) -> Self { _mm256_sub_pd(self, other) }
    fn mul(self, other: Self) -> Self { _mm256_mul_pd(self, other) }
    fn div(self, other: Self) -> Self { _mm256_div_pd(self, other) }
    fn mul_add(self, b: Self, c: Self) -> Self { _mm256_fmadd_pd(self, b, c) }
    fn sqrt(self) -> Self { _mm256_sqrt_pd(self) }
    fn max(self, other: Self) -> Self { _mm256_max_pd(self, other) }
    fn min(self, other: Self) -> Self { _mm256_min_pd(self, other) }
    fn round(self) -> Self { _mm256_round_pd::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self) }
    fn floor(self) -> Self { _mm256_floor_pd(self) }
    fn ceil(self) -> Self { _mm256_ceil_pd(self) }
    fn trunc(self) -> Self { _mm256_round_pd::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(self) }
    fn and(self, other: Self) -> Self { _mm256_and_pd(self, other) }
    fn or(self, other: Self) -> Self { _mm256_or_pd(self, other) }
    fn xor(self, other: Self) -> Self { _mm256_xor_pd(self, other) }
    fn add_bits(self, other: Self) -> Self {
        _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(self), _mm256_castpd_si256(other)))
    }
    fn shl(self, by: i32) -> Self {
        _mm256_castsi256_pd(_mm256_sll_epi64(_mm256_castpd_si256(self), _mm_cvtsi32_si128(by)))
    }
    fn shr(self, by: i32) -> Self {
        _mm256_castsi256_pd(_mm256_srl_epi64(_mm256_castpd_si256(self), _mm_cvtsi32_si128(by)))
    }
    fn eq(self, other: Self) -> Self { _mm256_cmp_pd::<_CMP_EQ_OQ>(self, other) }
    fn lt(self, other: Self) -> Self { _mm256_cmp_pd::<_CMP_LT_OQ>(self, other) }
    fn le(self, other: Self) -> Self { _mm256_cmp_pd::<_CMP_LE_OQ>(self, other) }
    fn select(mask: Self, yes: Self, no: Self) -> Self { _mm256_blendv_pd(no, yes, mask) }
    fn both(a: Self, b: Self) -> Self { _mm256_and_pd(a, b) }
    fn either(a: Self, b: Self) -> Self { _mm256_or_pd(a, b) }
    fn not(a: Self) -> Self { _mm256_xor_pd(a, _mm256_castsi256_pd(_mm256_set1_epi32(-1))) }
    fn to_double(self) -> [__m256d; 2] { [self; 2] }
    fn of_double([whole, _]: [__m256d; 2]) -> Self { whole }
    fn any(mask: Self) -> bool { _mm256_movemask_pd(mask) != 0 };
    unsafe fn load(at: *const f64) -> Self { _mm256_loadu_pd(at) }
    unsafe fn store(self, at: *mut f64) { _mm256_storeu_pd(at, self) }
    unsafe fn load_part(at: *const f64, count: usize) -> Self { _mm256_maskload_pd(at, first_i64(count)) }
    unsafe fn store_part(self, at: *mut f64, count: usize) { _mm256_maskstore_pd(at, first_i64(count), self) }
    unsafe fn store_mask(mask: Self, at: *mut u8) {{
        // Four bits to four bytes: the product puts bit i at place 8 i as well.
        let bits = _mm256_movemask_pd(mask) as u32;
        at.cast::<u32>().write_unaligned(bits.wrapping_mul(0x0020_4081) & 0x0101_0101)
    }}
}

/// All ones in the first `count` lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn first_i32(count: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

#[inline]
#[target_feature(enable = "avx2")]
fn first_i64(count: usize) -> __m256i {
    _mm256_cmpgt_epi64(_mm256_set1_epi64x(count as i64), _mm256_setr_epi64x(0, 1, 2, 3))
}

//! Lanes of AVX-512: sixteen float32 or eight float64, truth values in mask registers, and single
//! instructions for tails, for scaling by powers of two and for taking numbers apart.

use super::{Arch, Lanes};
use std::arch::x86_64::*;

pub enum Avx512 {}

impl Arch for Avx512 {
    type F32 = __m512;
    type F64 = __m512d;

    #[inline(always)]
    unsafe fn load_f16(at: *const u16) -> __m512 {
        // SAFETY: `dispatch` comes here only on processors with AVX-512, and the caller vouches for `at`.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }
    #[inline(always)]
    unsafe fn store_f16(x: __m512, at: *mut u16) {
        // SAFETY: `dispatch` comes here only on processors with AVX-512, and the caller vouches for `at`.
        unsafe { _mm256_storeu_si256(at.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x)) }
    }
}

macro_rules! lanes {
    ($vector:ty, $elem:ty, $mask:ty, $width:literal; $(fn $name:ident($($args:tt)*) $(-> $result:ty)? { $body:expr })*;
     $(unsafe fn $unsafe_name:ident($($unsafe_args:tt)*) $(-> $unsafe_result:ty)? { $unsafe_body:expr })*) => {
        impl Lanes for $vector {
            type Elem = $elem;
            type Mask = $mask;
            type Double = __m512d;
            const WIDTH: usize = $width;
            const SPLITS_ALL: bool = true;
            const SCALES: bool = true;

            $(#[inline(always)]
            fn $name($($args)*) $(-> $result)? {
                #[allow(unused_unsafe, reason = "additions to mask registers are safe")]
                // SAFETY: `dispatch` comes here only on processors with AVX-512 F, BW, VL and DQ.
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

lanes! { __m512, f32, __mmask16, 16;
    fn splat(x: f32) -> Self { _mm512_set1_ps(x) }
    fn add(self, other: Self) -> Self { _mm512_add_ps(self, other) }
    fn sub(self, other: Self) -> Self { _mm512_sub_ps(self, other) }
    fn mul(self, other: Self) -> Self { _mm512_mul_ps(self, other) }
    fn div(self, other: Self) -> Self { _mm512_div_ps(self, other) }
    fn mul_add(self, b: Self, c: Self) -> Self { _mm512_fmadd_ps(self, b, c) }
    // A division keeps its unit busy for sixteen cycles.
    fn reciprocal(self) -> Self { _mm512_rcp14_ps(self) }
    fn sqrt(self) -> Self { _mm512_sqrt_ps(self) }
    fn max(self, other: Self) -> Self { _mm512_max_ps(self, other) }
    fn min(self, other: Self) -> Self { _mm512_min_ps(self, other) }
    fn round(self) -> Self { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self) }
    fn floor(self) -> Self { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(self) }
    fn ceil(self) -> Self { _mm512_roundscale_ps::<{ _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC }>(self) }
    fn trunc(self) -> Self { _mm512_roundscale_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(self) }
    fn and(self, other: Self) -> Self { _mm512_and_ps(self, other) }
    fn or(self, other: Self) -> Self { _mm512_or_ps(self, other) }
    fn xor(self, other: Self) -> Self { _mm512_xor_ps(self, other) }
    fn add_bits(self, other: Self) -> Self {
        _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(self), _mm512_castps_si512(other)))
    }
    fn shl(self, by: i32) -> Self {
        _mm512_castsi512_ps(_mm512_sll_epi32(_mm512_castps_si512(self), _mm_cvtsi32_si128(by)))
    }
    fn shr(self, by: i32) -> Self {
        _mm512_castsi512_ps(_mm512_srl_epi32(_mm512_castps_si512(self), _mm_cvtsi32_si128(by)))
    }
    fn eq(self, other: Self) -> Self::Mask { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self, other) }
    fn lt(self, other: Self) -> Self::Mask { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self, other) }
    fn le(self, other: Self) -> Self::Mask { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(self, other) }
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self { _mm512_mask_blend_ps(mask, no, yes) }
    fn both(a: Self::Mask, b: Self::Mask) -> Self::Mask { a & b }
    fn either(a: Self::Mask, b: Self::Mask) -> Self::Mask { a | b }
    fn not(a: Self::Mask) -> Self::Mask { !a }
    fn to_double(self) -> [__m512d; 2] {
        [_mm512_cvtps_pd(_mm512_castps512_ps256(self)), _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(self))]
    }
    fn of_double(halves: [__m512d; 2]) -> Self {
        _mm512_insertf32x8::<1>(_mm512_castps256_ps512(_mm512_cvtpd_ps(halves[0])), _mm512_cvtpd_ps(halves[1]))
    }
    fn any(mask: Self::Mask) -> bool { mask != 0 }
    fn scale(self, n: Self) -> Self { _mm512_scalef_ps(self, n) }
    fn split(self) -> (Self, Self) {{
        let m = _mm512_getmant_ps::<_MM_MANT_NORM_P75_1P5, _MM_MANT_SIGN_NAN>(self);
        let e = _mm512_getexp_ps(self);
        (m, _mm512_mask_add_ps(e, m.lt(Self::splat(1.0)), e, Self::splat(1.0)))
    }};
    unsafe fn load(at: *const f32) -> Self { _mm512_loadu_ps(at) }
    unsafe fn store(self, at: *mut f32) { _mm512_storeu_ps(at, self) }
    unsafe fn load_part(at: *const f32, count: usize) -> Self { _mm512_maskz_loadu_ps((1 << count) - 1, at) }
    unsafe fn store_part(self, at: *mut f32, count: usize) { _mm512_mask_storeu_ps(at, (1 << count) - 1, self) }
    unsafe fn store_mask(mask: Self::Mask, at: *mut u8) { _mm_storeu_si128(at.cast(), _mm_maskz_set1_epi8(mask, 1)) }
}

lanes! { __m512d, f64, __mmask8, 8;
    fn splat(x: f64) -> Self { _mm512_set1_pd(x) }
    fn add(self, other: Self) -> Self { _mm512_add_pd(self, other) }
    fn sub(self, other: Self) -> Self { _mm512_sub_pd(self, other) }
    fn mul(self, other: Self) -> Self { _mm512_mul_pd(self, other) }
    fn div(self, other: Self) -> Self { _mm512_div_pd(self, other) }
    fn mul_add(self, b: Self, c: Self) -> Self { _mm512_fmadd_pd(self, b, c) }
    fn sqrt(self) -> Self { _mm512_sqrt_pd(self) }
    fn max(self, other: Self) -> Self { _mm512_max_pd(self, other) }
    fn min(self, other: Self) -> Self { _mm512_min_pd(self, other) }
    fn round(self) -> Self { _mm512_roundscale_pd::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self) }
    fn floor(self) -> Self { _mm512_roundscale_pd::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(self) }
    fn ceil(self) -> Self { _mm512_roundscale_pd::<{ _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC }>(self) }
    fn trunc(self) -> Self { _mm512_roundscale_pd::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(self) }
    fn and(self, other: Self) -> Self { _mm512_and_pd(self, other) }
    fn or(self, other: Self) -> Self { _mm512_or_pd(self, other) }
    fn xor(self, other: Self) -> Self { _mm512_xor_pd(self, other) }
    fn add_bits(self, other: Self) -> Self {
        _mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(self), _mm512_castpd_si512(other)))
    }
    fn shl(self, by: i32) -> Self {
        _mm512_castsi512_pd(_mm512_sll_epi64(_mm512_castpd_si512(self), _mm_cvtsi32_si128(by)))
    }
    fn shr(self, by: i32) -> Self {
        _mm512_castsi512_pd(_mm512_srl_epi64(_mm512_castpd_si512(self), _mm_cvtsi32_si128(by)))
    }
    fn eq(self, other: Self) -> Self::Mask { _mm512_cmp_pd_mask::<_CMP_EQ_OQ>(self, other) }
    fn lt(self, other: Self) -> Self::Mask { _mm512_cmp_pd_mask::<_CMP_LT_OQ>(self, other) }
    fn le(self, other: Self) -> Self::Mask { _mm512_cmp_pd_mask::<_CMP_LE_OQ>(self, other) }
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self { _mm512_mask_blend_pd(mask, no, yes) }
    fn both(a: Self::Mask, b: Self::Mask) -> Self::Mask { a & b }
    fn either(a: Self::Mask, b: Self::Mask) -> Self::Mask { a | b }
    fn not(a: Self::Mask) -> Self::Mask { !a }
    fn to_double(self) -> [__m512d; 2] { [self; 2] }
    fn of_double([whole, _]: [__m512d; 2]) -> Self { whole }
    fn any(mask: Self::Mask) -> bool { mask != 0 }
    fn scale(self, n: Self) -> Self { _mm512_scalef_pd(self, n) }
    fn split(self) -> (Self, Self) {{
        let m = _mm512_getmant_pd::<_MM_MANT_NORM_P75_1P5, _MM_MANT_SIGN_NAN>(self);
        let e = _mm512_getexp_pd(self);
        (m, _mm512_mask_add_pd(e, m.lt(Self::splat(1.0)), e, Self::splat(1.0)))
    }};
    unsafe fn load(at: *const f64) -> Self { _mm512_loadu_pd(at) }
    unsafe fn store(self, at: *mut f64) { _mm512_storeu_pd(at, self) }
    unsafe fn load_part(at: *const f64, count: usize) -> Self { _mm512_maskz_loadu_pd((1 << count) - 1, at) }
    unsafe fn store_part(self, at: *mut f64, count: usize) { _mm512_mask_storeu_pd(at, (1 << count) - 1, self) }
    unsafe fn store_mask(mask: Self::Mask, at: *mut u8) {
        _mm_storel_epi64(at.cast(), _mm_maskz_set1_epi8(mask as __mmask16, 1))
    }
}

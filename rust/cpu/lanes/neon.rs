//! Lanes of NEON: four float32 or two float64; a truth value is a lane of all ones. NEON belongs to
//! every AArch64 processor.

use super::portable::{f16_to_f32, f32_to_f16};
use super::{Arch, Lanes};
use std::arch::aarch64::*;

pub enum Neon {}

impl Arch for Neon {
    type F32 = float32x4_t;
    type F64 = float64x2_t;

    #[inline(always)]
    unsafe fn load_f16(at: *const u16) -> float32x4_t {
        // SAFETY: the caller vouches for `at`, and the array holds a vector.
        unsafe {
            let lanes: [f32; 4] = std::array::from_fn(|i| f16_to_f32(at.add(i).read_unaligned()));
            vld1q_f32(lanes.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_f16(x: float32x4_t, at: *mut u16) {
        let mut lanes = [0f32; 4];
        // SAFETY: the caller vouches for `at`, and the array holds a vector.
        unsafe {
            vst1q_f32(lanes.as_mut_ptr(), x);
            for (i, x) in lanes.into_iter().enumerate() {
                at.add(i).write_unaligned(f32_to_f16(x));
            }
        }
    }
}

macro_rules! lanes {
    ($vector:ty, $elem:ty, $mask:ty, $width:literal; $(fn $name:ident($($args:tt)*) $(-> $result:ty)? { $body:expr })*;
     $(unsafe fn $unsafe_name:ident($($unsafe_args:tt)*) $(-> $unsafe_result:ty)? { $unsafe_body:expr })*) => {
        impl Lanes for $vector {
            type Elem = $elem;
            type Mask = $mask;
            type Double = float64x2_t;
            const WIDTH: usize = $width;

            $(#[inline(always)]
            fn $name($($args)*) $(-> $result)? {
                // SAFETY: every AArch64 processor has NEON.
                #[allow(unused_unsafe, reason = "most of these are safe where NEON is the baseline")]
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

lanes! { float32x4_t, f32, uint32x4_t, 4;
    fn splat(x: f32) -> Self { vdupq_n_f32(x) }
    fn add(self, other: Self) -> Self { vaddq_f32(self, other) }
    fn sub(self, other: Self) -> Self { vsubq_f32(self, other) }
    fn mul(self, other: Self) -> Self { vmulq_f32(self, other) }
    fn div(self, other: Self) -> Self { vdivq_f32(self, other) }
    fn mul_add(self, b: Self, c: Self) -> Self { vfmaq_f32(c, self, b) }
    fn sqrt(self) -> Self { vsqrtq_f32(self) }
    fn max(self, other: Self) -> Self { vbslq_f32(vcgtq_f32(self, other), self, other) }
    fn min(self, other: Self) -> Self { vbslq_f32(vcltq_f32(self, other), self, other) }
    fn round(self) -> Self { vrndnq_f32(self) }
    fn floor(self) -> Self { vrndmq_f32(self) }
    fn ceil(self) -> Self { vrndpq_f32(self) }
    fn trunc(self) -> Self { vrndq_f32(self) }
    fn and(self, other: Self) -> Self {
        vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(self), vreinterpretq_u32_f32(other)))
    }
    fn or(self, other: Self) -> Self {
        vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(self), vreinterpretq_u32_f32(other)))
    }
    fn xor(self, other: Self) -> Self {
        vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(self), vreinterpretq_u32_f32(other)))
    }
    fn add_bits(self, other: Self) -> Self {
        vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(self), vreinterpretq_u32_f32(other)))
    }
    fn shl(self, by: i32) -> Self { vreinterpretq_f32_u32(vshlq_u32(vreinterpretq_u32_f32(self), vdupq_n_s32(by))) }
    fn shr(self, by: i32) -> Self { vreinterpretq_f32_u32(vshlq_u32(vreinterpretq_u32_f32(self), vdupq_n_s32(-by))) }
    fn eq(self, other: Self) -> Self::Mask { vceqq_f32(self, other) }
    fn lt(self, other: Self) -> Self::Mask { vcltq_f32(self, other) }
    fn le(self, other: Self) -> Self::Mask { vcleq_f32(self, other) }
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self { vbslq_f32(mask, yes, no) }
    fn both(a: Self::Mask, b: Self::Mask) -> Self::Mask { vandq_u32(a, b) }
    fn either(a: Self::Mask, b: Self::Mask) -> Self::Mask { vorrq_u32(a, b) }
    fn not(a: Self::Mask) -> Self::Mask { vmvnq_u32(a) }
    fn to_double(self) -> [float64x2_t; 2] { [vcvt_f64_f32(vget_low_f32(self)), vcvt_high_f64_f32(self)] }
    fn of_double(halves: [float64x2_t; 2]) -> Self { vcvt_high_f32_f64(vcvt_f32_f64(halves[0]), halves[1]) }
    fn any(mask: Self::Mask) -> bool { vmaxvq_u32(mask) != 0 };
    unsafe fn load(at: *const f32) -> Self { vld1q_f32(at) }
    unsafe fn store(self, at: *mut f32) { vst1q_f32(at, self) }
    unsafe fn store_mask(mask: Self::Mask, at: *mut u8) {{
        let words = vmovn_u32(vandq_u32(mask, vdupq_n_u32(1)));
        let bytes = vmovn_u16(vcombine_u16(words, words));
        at.cast::<u32>().write_unaligned(vget_lane_u32::<0>(vreinterpret_u32_u8(bytes)))
    }}
}

lanes! { float64x2_t, f64, uint64x2_t, 2;
    fn splat(x: f64) -> Self { vdupq_n_f64(x) }
    fn add(self, other: Self) -> Self { vaddq_f64(self, other) }
    fn sub(self, other: Self) -> Self { vsubq_f64(self, other) }
    fn mul(self, other: Self) -> Self { vmulq_f64(self, other) }
    fn div(self, other: Self) -> Self { vdivq_f64(self, other) }
    fn mul_add(self, b: Self, c: Self) -> Self { vfmaq_f64(c, self, b) }
    fn sqrt(self) -> Self { vsqrtq_f64(self) }
    fn max(self, other: Self) -> Self { vbslq_f64(vcgtq_f64(self, other), self, other) }
    fn min(self, other: Self) -> Self { vbslq_f64(vcltq_f64(self, other), self, other) }
    fn round(self) -> Self { vrndnq_f64(self) }
    fn floor(self) -> Self { vrndmq_f64(self) }
    fn ceil(self) -> Self { vrndpq_f64(self) }
    fn trunc(self) -> Self { vrndq_f64(self) }
    fn and(self, other: Self) -> Self {
        vreinterpretq_f64_u64(vandq_u64(vreinterpretq_u64_f64(self), vreinterpretq_u64_f64(other)))
    }
    fn or(self, other: Self) -> Self {
        vreinterpretq_f64_u64(vorrq_u64(vreinterpretq_u64_f64(self), vreinterpretq_u64_f64(other)))
    }
    fn xor(self, other: Self) -> Self {
        vreinterpretq_f64_u64(veorq_u64(vreinterpretq_u64_f64(self), vreinterpretq_u64_f64(other)))
    }
    fn add_bits(self, other: Self) -> Self {
        vreinterpretq_f64_u64(vaddq_u64(vreinterpretq_u64_f64(self), vreinterpretq_u64_f64(other)))
    }
    fn shl(self, by: i32) -> Self { vreinterpretq_f64_u64(vshlq_u64(vreinterpretq_u64_f64(self), vdupq_n_s64(by as i64))) }
    fn shr(self, by: i32) -> Self { vreinterpretq_f64_u64(vshlq_u64(vreinterpretq_u64_f64(self), vdupq_n_s64((-by) as i64))) }
    fn eq(self, other: Self) -> Self::Mask { vceqq_f64(self, other) }
    fn lt(self, other: Self) -> Self::Mask { vcltq_f64(self, other) }
    fn le(self, other: Self) -> Self::Mask { vcleq_f64(self, other) }
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self { vbslq_f64(mask, yes, no) }
    fn both(a: Self::Mask, b: Self::Mask) -> Self::Mask { vandq_u64(a, b) }
    fn either(a: Self::Mask, b: Self::Mask) -> Self::Mask { vorrq_u64(a, b) }
    fn not(a: Self::Mask) -> Self::Mask { veorq_u64(a, vdupq_n_u64(u64::MAX)) }
    fn to_double(self) -> [float64x2_t; 2] { [self; 2] }
    fn of_double([whole, _]: [float64x2_t; 2]) -> Self { whole }
    fn any(mask: Self::Mask) -> bool { vgetq_lane_u64::<0>(mask) | vgetq_lane_u64::<1>(mask) != 0 };
    unsafe fn load(at: *const f64) -> Self { vld1q_f64(at) }
    unsafe fn store(self, at: *mut f64) { vst1q_f64(at, self) }
    unsafe fn store_mask(mask: Self::Mask, at: *mut u8) {{
        at.write((vgetq_lane_u64::<0>(mask) & 1) as u8);
        at.add(1).write((vgetq_lane_u64::<1>(mask) & 1) as u8)
    }}
}

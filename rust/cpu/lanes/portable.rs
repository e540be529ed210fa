//! A vector of one lane in plain Rust: the instruction set of last resort. Loops over it are simple
//! enough for the compiler to vectorise. Rounding is spelled in additions, since the baseline of
//! x86-64 has no instruction for it and would call a function.

use super::{Arch, Lanes, Real};

/// Plain Rust, for the compiler's baseline.
pub enum Portable {}

impl Arch for Portable {
    type F32 = f32;
    type F64 = f64;

    #[inline(always)]
    unsafe fn load_f16(at: *const u16) -> f32 {
        // SAFETY: the caller vouches for `at`.
        f16_to_f32(unsafe { at.read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store_f16(x: f32, at: *mut u16) {
        // SAFETY: the caller vouches for `at`.
        unsafe { at.write_unaligned(f32_to_f16(x)) }
    }
}

/// Exponent and fraction are moved into place, and a product with 2¹¹² moves the bias and makes
/// subnormals normal.
#[inline(always)]
pub fn f16_to_f32(half: u16) -> f32 {
    let size = (half as u32 & 0x7fff) << 13;
    let finite = f32::from_bits(size) * f32::from_bits((127 + 112) << 23);
    let bits = if size >= 0x1f << 23 { size | 0xff << 23 } else { finite.to_bits() };
    f32::from_bits(bits | (half as u32 & 0x8000) << 16)
}

/// To nearest even. In the subnormal range the addition of ½ does the rounding, since its unit there is
/// the spacing of float16.
#[inline(always)]
pub fn f32_to_f16(x: f32) -> u16 {
    let size = x.to_bits() & !(1 << 31);
    let subnormal = (f32::from_bits(size) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let normal = size.wrapping_sub(112 << 23).wrapping_add(0xfff + (size >> 13 & 1)) >> 13;
    let nan = 0x7e00 | size >> 13 & 0x1ff;
    let finite = if size < 113 << 23 { subnormal } else { normal };
    let bits = if size >= 143 << 23 { 0x7c00 } else { finite };
    let bits = if size > 0xff << 23 { nan } else { bits };
    (bits | x.to_bits() >> 16 & 0x8000) as u16
}

macro_rules! scalar {
    ($elem:ident, $fraction:literal, $fused:expr) => {
        impl Lanes for $elem {
            type Elem = $elem;
            type Mask = bool;
            type Double = f64;
            const WIDTH: usize = 1;

            #[inline(always)]
            fn splat(x: $elem) -> $elem {
                x
            }
            #[inline(always)]
            unsafe fn load(at: *const $elem) -> $elem {
                // SAFETY: the caller vouches for `at`.
                unsafe { at.read_unaligned() }
            }
            #[inline(always)]
            unsafe fn store(self, at: *mut $elem) {
                // SAFETY: the caller vouches for `at`.
                unsafe { at.write_unaligned(self) }
            }

            #[inline(always)]
            fn add(self, other: $elem) -> $elem {
                self + other
            }
            #[inline(always)]
            fn sub(self, other: $elem) -> $elem {
                self - other
            }
            #[inline(always)]
            fn mul(self, other: $elem) -> $elem {
                self * other
            }
            #[inline(always)]
            fn div(self, other: $elem) -> $elem {
                self / other
            }
            #[inline(always)]
            fn mul_add(self, b: $elem, c: $elem) -> $elem {
                self * b + c
            }
            #[inline(always)]
            fn fused(self, b: $elem, c: $elem) -> $elem {
                $fused(self, b, c)
            }
            #[inline(always)]
            fn sqrt(self) -> $elem {
                <$elem>::sqrt(self)
            }
            #[inline(always)]
            fn max(self, other: $elem) -> $elem {
                if self > other { self } else { other }
            }
            #[inline(always)]
            fn min(self, other: $elem) -> $elem {
                if self < other { self } else { other }
            }
            #[inline(always)]
            fn round(self) -> $elem {
                // From here on every number is an integer, and adding it rounds smaller ones to integers.
                const WHOLE: $elem = (1u64 << $fraction) as $elem;
                let size = self.abs();
                let rounded = if size < WHOLE { (size + WHOLE) - WHOLE } else { size };
                rounded.copysign(self)
            }
            #[inline(always)]
            fn floor(self) -> $elem {
                let near = Lanes::round(self);
                (near - if near > self { 1.0 } else { 0.0 }).copysign(self)
            }
            #[inline(always)]
            fn ceil(self) -> $elem {
                -Lanes::floor(-self)
            }
            #[inline(always)]
            fn trunc(self) -> $elem {
                Lanes::floor(self.abs()).copysign(self)
            }

            #[inline(always)]
            fn and(self, other: $elem) -> $elem {
                <$elem>::from_bits(self.to_bits() & other.to_bits())
            }
            #[inline(always)]
            fn or(self, other: $elem) -> $elem {
                <$elem>::from_bits(self.to_bits() | other.to_bits())
            }
            #[inline(always)]
            fn xor(self, other: $elem) -> $elem {
                <$elem>::from_bits(self.to_bits() ^ other.to_bits())
            }
            #[inline(always)]
            fn add_bits(self, other: $elem) -> $elem {
                <$elem>::from_bits(self.to_bits().wrapping_add(other.to_bits()))
            }
            #[inline(always)]
            fn shl(self, by: i32) -> $elem {
                <$elem>::from_bits(self.to_bits() << by)
            }
            #[inline(always)]
            fn shr(self, by: i32) -> $elem {
                <$elem>::from_bits(self.to_bits() >> by)
            }

            #[inline(always)]
            fn eq(self, other: $elem) -> bool {
                self == other
            }
            #[inline(always)]
            fn lt(self, other: $elem) -> bool {
                self < other
            }
            #[inline(always)]
            fn le(self, other: $elem) -> bool {
                self <= other
            }
            #[inline(always)]
            fn select(mask: bool, yes: $elem, no: $elem) -> $elem {
                if mask { yes } else { no }
            }
            #[inline(always)]
            fn both(a: bool, b: bool) -> bool {
                a & b
            }
            #[inline(always)]
            fn either(a: bool, b: bool) -> bool {
                a | b
            }
            #[inline(always)]
            fn not(a: bool) -> bool {
                !a
            }
            #[inline(always)]
            fn any(mask: bool) -> bool {
                mask
            }
            #[inline(always)]
            unsafe fn store_mask(mask: bool, at: *mut u8) {
                // SAFETY: the caller vouches for `at`.
                unsafe { at.write(mask as u8) }
            }

            #[inline(always)]
            fn to_double(self) -> [f64; 2] {
                [self as f64; 2]
            }
            #[inline(always)]
            fn of_double(halves: [f64; 2]) -> $elem {
                halves[0] as $elem
            }
        }
    };
}

// The product of two float32 is exact in float64.
scalar!(f32, 23, |a: f32, b: f32, c: f32| Real::of(a as f64 * b as f64 + c as f64));
scalar!(f64, 52, f64::mul_add);

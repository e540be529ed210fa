//! Floating point as reductions, scans and softmax see it: how stored numbers become those that they
//! compute with (half floats compute in float32), and an exponential that compilers vectorise.

use half::{bf16, f16};

/// A float as tensors store it.
pub trait Stored: Copy + Send + Sync + 'static {
    type Real: Real;
    fn load(self) -> Self::Real;
    /// Rounds to nearest, ties to even.
    fn store(x: Self::Real) -> Self;
    /// The same from float64, rounding once.
    fn of(x: f64) -> Self;
}

/// A float that arithmetic is done in.
pub trait Real:
    Copy
    + Send
    + Sync
    + PartialOrd
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::AddAssign
    + 'static
{
    const ZERO: Self;
    const ONE: Self;
    const NEG_INFINITY: Self;
    fn from_f64(x: f64) -> Self;
    fn to_f64(self) -> f64;
    /// e to the power x, within 2 ulp.
    fn exp(self) -> Self;
    fn ln(self) -> Self;
}

impl Stored for f32 {
    type Real = f32;
    #[inline(always)]
    fn load(self) -> f32 {
        self
    }
    #[inline(always)]
    fn store(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn of(x: f64) -> f32 {
        x as f32
    }
}

impl Stored for f64 {
    type Real = f64;
    #[inline(always)]
    fn load(self) -> f64 {
        self
    }
    #[inline(always)]
    fn store(x: f64) -> f64 {
        x
    }
    #[inline(always)]
    fn of(x: f64) -> f64 {
        x
    }
}

impl Stored for f16 {
    type Real = f32;
    /// Without branches, so that it vectorises: the bits shifted into place are the value times 2⁻¹¹²,
    /// subnormals included.
    #[inline(always)]
    fn load(self) -> f32 {
        let bits = self.to_bits() as u32;
        let magnitude = bits & 0x7fff;
        let scaled = f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23);
        let special = if magnitude >= 0x7c00 { 0x7f80_0000 } else { 0 };
        f32::from_bits(scaled.to_bits() | special | (bits & 0x8000) << 16)
    }
    #[inline(always)]
    fn store(x: f32) -> f16 {
        f16::from_f32(x)
    }
    #[inline(always)]
    fn of(x: f64) -> f16 {
        f16::from_f64(x)
    }
}

impl Stored for bf16 {
    type Real = f32;
    #[inline(always)]
    fn load(self) -> f32 {
        f32::from_bits((self.to_bits() as u32) << 16)
    }
    #[inline(always)]
    fn store(x: f32) -> bf16 {
        let bits = x.to_bits();
        let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
        bf16::from_bits(if x.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded })
    }
    #[inline(always)]
    fn of(x: f64) -> bf16 {
        bf16::from_f64(x)
    }
}

/// `exp(x) = 2ⁿ exp(r)` with `n = ⌊x / ln 2⌉` and |r| ≤ ln 2 / 2, exp(r) by a polynomial. Adding
/// `1.5 · 2^mantissa` rounds to an integer and leaves it in the low bits; 2ⁿ is applied in two factors, so that
/// results may be subnormal.
macro_rules! exp {
    ($x:ident, $F:ident, $I:ident, $mantissa:literal, $bias:literal, [$low:literal, $high:literal], $ln2_high:literal,
     $ln2_low:literal, [$first:expr $(, $c:expr)*]) => {{
        const MAGIC: $F = (3 * (1 as $I) << ($mantissa - 1)) as $F;
        // Not `clamp`: NaN must pass.
        let x = if $x < $low { $low } else if $x > $high { $high } else { $x };
        let shifted = x * std::$F::consts::LOG2_E + MAGIC;
        let n = shifted - MAGIC;
        let r = (x - n * $ln2_high) - n * $ln2_low;
        let mut p: $F = $first;
        $(p = p * r + $c;)*
        let n = (shifted.to_bits() as $I).wrapping_sub(MAGIC.to_bits() as $I);
        let (a, b) = (n >> 1, n - (n >> 1));
        let power = |n: $I| $F::from_bits((n.wrapping_add($bias) << $mantissa) as _);
        p * power(a) * power(b)
    }};
}

impl Real for f32 {
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;
    const NEG_INFINITY: f32 = f32::NEG_INFINITY;
    #[inline(always)]
    fn from_f64(x: f64) -> f32 {
        x as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self as f64
    }
    #[inline(always)]
    fn exp(self) -> f32 {
        // Minimax coefficients are within a hair of Taylor's here.
        exp!(
            self,
            f32,
            i32,
            23,
            127,
            [-104.0, 89.0],
            0.693_359_4,
            -2.121_944_4e-4,
            [1.984_126_98e-4, 1.388_888_9e-3, 8.333_333_3e-3, 4.166_666_7e-2, 1.666_666_7e-1, 0.5, 1.0, 1.0]
        )
    }
    #[inline(always)]
    fn ln(self) -> f32 {
        f32::ln(self)
    }
}

impl Real for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    const NEG_INFINITY: f64 = f64::NEG_INFINITY;
    #[inline(always)]
    fn from_f64(x: f64) -> f64 {
        x
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn exp(self) -> f64 {
        exp!(
            self,
            f64,
            i64,
            52,
            1023,
            [-746.0, 710.0],
            0.693_147_180_369_123_8,
            1.908_214_929_270_587_7e-10,
            [
                1.0 / 6_227_020_800.0,
                1.0 / 479_001_600.0,
                1.0 / 39_916_800.0,
                1.0 / 3_628_800.0,
                1.0 / 362_880.0,
                1.0 / 40_320.0,
                1.0 / 5_040.0,
                1.0 / 720.0,
                1.0 / 120.0,
                1.0 / 24.0,
                1.0 / 6.0,
                0.5,
                1.0,
                1.0
            ]
        )
    }
    #[inline(always)]
    fn ln(self) -> f64 {
        f64::ln(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_floats_load_and_store_exactly() {
        for bits in 0..=u16::MAX {
            let (h, b) = (f16::from_bits(bits), bf16::from_bits(bits));
            assert!(h.load() == h.to_f32() || h.is_nan() && h.load().is_nan(), "{bits:#x}");
            assert!(b.load() == b.to_f32() || b.is_nan() && b.load().is_nan(), "{bits:#x}");
            assert!(bf16::store(b.load()) == b || b.is_nan());
        }
        for i in 0..2_000_000u32 {
            let x = f32::from_bits(i.wrapping_mul(2_654_435_761));
            let (got, want) = (bf16::store(x), bf16::from_f32(x));
            assert!(got == want || x.is_nan() && got.is_nan(), "{x:e}");
        }
    }

    #[test]
    fn exponentials_are_within_two_ulp() {
        let (mut worst32, mut worst64) = (0.0f64, 0.0f64);
        for i in 0..400_000 {
            let x = -103.0 + i as f32 * (191.5 / 400_000.0);
            let (got, want) = (Real::exp(x) as f64, (x as f64).exp());
            let ulp = (want as f32).to_bits().max(0x0080_0000) & 0x7f80_0000;
            let ulp = f32::from_bits(ulp) as f64 * f64::powi(2.0, -23);
            worst32 = worst32.max((got - want).abs() / ulp);
            let x = -707.0 + i as f64 * (1415.0 / 400_000.0);
            let (got, want) = (Real::exp(x), x.exp());
            worst64 = worst64.max((got - want).abs() / (want * f64::EPSILON));
        }
        assert!(worst32 < 2.0, "{worst32}");
        assert!(worst64 < 2.0, "{worst64}");
        for (x, y) in [(0.0, 1.0), (f32::INFINITY, f32::INFINITY), (f32::NEG_INFINITY, 0.0), (90.0, f32::INFINITY)] {
            assert_eq!(Real::exp(x), y);
            assert_eq!(Real::exp(x as f64) as f32, y);
        }
        assert_eq!(Real::exp(1000.0f64), f64::INFINITY);
        assert!(Real::exp(f32::NAN).is_nan() && Real::exp(f64::NAN).is_nan());
    }
}

//! Elements as tensors store them against the numbers that kernels compute with: integers as
//! themselves and wrapping, float32 and float64 as they are or in vectors, half floats as float32.
//! Order-preserving integer keys of all of them are here too.

use super::lanes::{Int, Lanes, Real, Vector, f16_to_f32, f32_to_f16};
use crate::ir::value::Number;
use half::{bf16, f16};

/// No vector has more lanes.
pub const MAX_WIDTH: usize = 16;

/// Any element; bool counts as `u8`.
pub trait Stored: Copy + Default + Send + Sync + 'static {
    /// One number in which long sums are kept: float64 for floats, wrapping integers.
    type Wide: Number + Send + Sync;
    /// An unsigned integer of the same width.
    type Key: Copy + Ord + Default + Send + Sync + Into<u64> + std::ops::Not<Output = Self::Key>;
    const LOWEST: Self;
    const HIGHEST: Self;
    const ONE: Self;
    /// The key of NaN, which no number has.
    #[cfg(test)]
    const LAST: Self::Key;

    fn widen(self) -> Self::Wide;
    /// Rounds once, to nearest and ties to even.
    fn narrow(x: Self::Wide) -> Self;
    /// `a + b`, as one operation of the dtype.
    fn plus(self, other: Self) -> Self;
    /// Keys are in the order of numbers; zeros of both signs are equal, and so are all NaN, last.
    fn key(self) -> Self::Key;
    /// Keys in the opposite order, but for NaN, which is last here too.
    fn reverse_key(self) -> Self::Key;
}

/// A float, and the type that it computes in.
pub trait StoredFloat: Stored<Wide = Vector<f64>> {
    type Real: Real + Lanes<Elem = Self::Real> + StoredFloat<Real = Self::Real>;
    /// 0, 1, 2, … for the lanes of a vector.
    const PLACES: [Self::Real; MAX_WIDTH];
    /// Where the exponential in `Real` is about to become subnormal.
    const LEAST_EXP: f64;
    fn load(self) -> Self::Real;
    /// Rounds to nearest, ties to even.
    fn store(x: Self::Real) -> Self;
    /// The elements as they are, if they are `Real`; nothing for half floats.
    fn reals(x: &[Self]) -> &[Self::Real];

    /// The numbers of `x`, which are converted into the buffer where that is needed.
    #[inline(always)]
    fn converted<'a>(x: &'a [Self], buffer: &'a mut [Self::Real]) -> &'a [Self::Real] {
        if size_of::<Self>() == size_of::<Self::Real>() {
            return Self::reals(x);
        }
        for (real, &x) in buffer.iter_mut().zip(x) {
            *real = x.load();
        }
        &buffer[..x.len()]
    }

    fn nearest(x: f64) -> Self {
        Self::narrow(Vector(x))
    }
}

macro_rules! integers {
    ($($T:ident $Key:ident $flip:expr;)*) => {$(
        impl Stored for $T {
            type Wide = Int<$T>;
            type Key = $Key;
            const LOWEST: $T = $T::MIN;
            const HIGHEST: $T = $T::MAX;
            const ONE: $T = 1;
            #[cfg(test)]
            const LAST: $Key = $Key::MAX;

            #[inline(always)]
            fn widen(self) -> Int<$T> {
                Int(self)
            }
            #[inline(always)]
            fn narrow(x: Int<$T>) -> $T {
                x.0
            }
            #[inline(always)]
            fn plus(self, other: $T) -> $T {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn key(self) -> $Key {
                self as $Key ^ $flip
            }
            #[inline(always)]
            fn reverse_key(self) -> $Key {
                !self.key()
            }
        }
    )*};
}

integers! {
    u8 u8 0; u16 u16 0; u32 u32 0; u64 u64 0;
    i8 u8 1 << 7; i16 u16 1 << 15; i32 u32 1 << 31; i64 u64 1 << 63;
}

macro_rules! floats {
    ($($T:ident $Key:ident $Real:ident, $infinity:literal, $round:expr, $load:expr, $store:expr,
     $reals:expr;)*) => {$(
        impl Stored for $T {
            type Wide = Vector<f64>;
            type Key = $Key;
            const LOWEST: $T = $T::NEG_INFINITY;
            const HIGHEST: $T = $T::INFINITY;
            const ONE: $T = $T::from_bits(ONE.$T);
            #[cfg(test)]
            const LAST: $Key = $Key::MAX;

            #[inline(always)]
            fn widen(self) -> Vector<f64> {
                Vector(self.load() as f64)
            }
            #[inline(always)]
            fn narrow(x: Vector<f64>) -> $T {
                ($round)(x.0)
            }
            #[inline(always)]
            fn plus(self, other: $T) -> $T {
                <$T as StoredFloat>::store(self.load() + other.load())
            }
            /// The bits as sign and magnitude, turned into one ascending scale.
            #[inline(always)]
            fn key(self) -> $Key {
                const SIGN: $Key = 1 << ($Key::BITS - 1);
                let bits = self.to_bits();
                let magnitude = bits & !SIGN;
                let key = if bits == magnitude { bits | SIGN } else { !bits };
                let key = if magnitude == 0 { SIGN } else { key };
                if magnitude > $infinity { $Key::MAX } else { key }
            }
            #[inline(always)]
            fn reverse_key(self) -> $Key {
                let key = self.key();
                if key == $Key::MAX { key } else { !key }
            }
        }

        impl StoredFloat for $T {
            type Real = $Real;
            const PLACES: [$Real; MAX_WIDTH] =
                [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
            const LEAST_EXP: f64 = if size_of::<$Real>() == 4 { -87.0 } else { -708.0 };
            #[inline(always)]
            fn load(self) -> $Real {
                ($load)(self)
            }
            #[inline(always)]
            fn store(x: $Real) -> $T {
                ($store)(x)
            }
            #[inline(always)]
            fn reals(x: &[$T]) -> &[$Real] {
                ($reals)(x)
            }
        }
    )*};
}

/// The bits of 1.
struct Ones {
    f16: u16,
    bf16: u16,
    f32: u32,
    f64: u64,
}

const ONE: Ones = Ones { f16: 0x3c00, bf16: 0x3f80, f32: 0x3f80_0000, f64: 0x3ff0_0000_0000_0000 };

floats! {
    f16 u16 f32, 0x7c00, f16::from_f64, |x: f16| f16_to_f32(x.to_bits()), |x| f16::from_bits(f32_to_f16(x)), |_| &[];
    bf16 u16 f32, 0x7f80, bf16::from_f64, load_bf16, store_bf16, |_| &[];
    f32 u32 f32, 0x7f80_0000, |x| x as f32, |x| x, |x| x, |x| x;
    f64 u64 f64, 0x7ff0_0000_0000_0000, |x| x, |x| x, |x| x, |x| x;
}

#[inline(always)]
fn load_bf16(x: bf16) -> f32 {
    f32::from_bits((x.to_bits() as u32) << 16)
}

#[inline(always)]
fn store_bf16(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    bf16::from_bits(if x.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded })
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
        }
        for i in 0..2_000_000u32 {
            let x = f32::from_bits(i.wrapping_mul(2_654_435_761));
            let (got, want) = (<bf16 as StoredFloat>::store(x), bf16::from_f32(x));
            assert!(got == want || x.is_nan() && got.is_nan(), "{x:e}");
        }
    }

    fn ascending<T: StoredFloat + PartialOrd>(numbers: &[T]) {
        for pair in numbers.windows(2) {
            assert_eq!(pair[0] < pair[1], pair[0].key() < pair[1].key());
            assert_eq!(pair[0] == pair[1], pair[0].key() == pair[1].key());
        }
        assert!(numbers.iter().all(|x| x.key() < T::LAST));
        assert!(T::nearest(f64::NAN).key() == T::LAST && T::nearest(-f64::NAN).key() == T::LAST);
    }

    #[test]
    fn keys_are_in_the_order_of_numbers() {
        let numbers = [f64::NEG_INFINITY, -7.5, -7.25, -1e-7, -0.0, 0.0, 1e-7, 1.0, 1.5, 3e4, f64::INFINITY];
        ascending(&numbers.map(f16::nearest));
        ascending(&numbers.map(bf16::nearest));
        ascending(&numbers.map(f32::nearest));
        ascending(&numbers);
        assert!([i8::MIN, -1, 0, 1, i8::MAX].is_sorted_by_key(|x| x.key()));
        assert!([i64::MIN, -1, 0, 1, i64::MAX].is_sorted_by_key(|x| x.key()));
        assert_eq!(
            (f16::ONE, bf16::ONE, f32::ONE, f64::ONE),
            (f16::nearest(1.0), bf16::nearest(1.0), 1.0, 1.0)
        );
    }
}

//! The arithmetic of the table on float vectors of every instruction set.

use super::{Lanes, Real, Vector};
use crate::cpu::math::{Elementary, composed, scalar};
use crate::ir::value::{Float, Number};
use std::ops::{Add, Div, Mul, Neg, Sub};

macro_rules! operators {
    ($($trait:ident $method:ident;)*) => {$(
        impl<S: Lanes> $trait for Vector<S> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Vector(S::$method(self.0, other.0))
            }
        }
        impl<S: Lanes> $trait<f64> for Vector<S> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: f64) -> Self {
                $trait::$method(self, Self::of(other))
            }
        }
        impl<S: Lanes> $trait<Vector<S>> for f64 {
            type Output = Vector<S>;
            #[inline(always)]
            fn $method(self, other: Vector<S>) -> Vector<S> {
                $trait::$method(Vector::<S>::of(self), other)
            }
        }
    )*};
}

operators! {
    Add add;
    Sub sub;
    Mul mul;
    Div div;
}

impl<S: Lanes> Neg for Vector<S> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Vector(self.0.xor(Self::sign_bit().0))
    }
}

/// What the elementary functions need beside the table's arithmetic.
impl<S: Lanes> Vector<S> {
    /// The number in every lane, rounded to the element type.
    #[inline(always)]
    pub fn of(x: f64) -> Self {
        Vector(S::splat(S::Elem::of(x)))
    }

    /// The bit pattern in every lane.
    #[inline(always)]
    pub fn of_bits(bits: u64) -> Self {
        Vector(S::splat(S::Elem::from_bits(bits)))
    }

    #[inline(always)]
    fn sign_bit() -> Self {
        Self::of_bits(1 << (S::Elem::BITS - 1))
    }

    /// `self · b + c`, rounded once where the instruction set can.
    #[inline(always)]
    pub fn mul_add(self, b: Self, c: Self) -> Self {
        Vector(self.0.mul_add(b.0, c.0))
    }

    /// `self · b + c`, the product unrounded on every instruction set.
    #[inline(always)]
    pub fn fused(self, b: Self, c: Self) -> Self {
        Vector(self.0.fused(b.0, c.0))
    }

    /// `self · 2ⁿ`, as [`Lanes::scale`] states it.
    #[inline(always)]
    pub fn scale(self, n: Self) -> Self {
        Vector(self.0.scale(n.0))
    }

    /// Restricts to `[low, high]`; NaN stays NaN.
    #[inline(always)]
    pub fn clamp(self, low: f64, high: f64) -> Self {
        Vector(Self::of(high).0.min(Self::of(low).0.max(self.0)))
    }

    /// At most `high`; NaN stays NaN.
    #[inline(always)]
    pub fn at_most(self, high: f64) -> Self {
        Vector(Self::of(high).0.min(self.0))
    }

    /// This with the sign bit of `other` flipped in.
    #[inline(always)]
    pub fn flip_sign(self, other: Self) -> Self {
        Vector(self.0.xor(other.0.and(Self::sign_bit().0)))
    }

    /// A non-negative number with the sign of `other`.
    #[inline(always)]
    pub fn with_sign(self, other: Self) -> Self {
        Vector(self.0.or(other.0.and(Self::sign_bit().0)))
    }

    /// Whether the lowest bit of the pattern but `bit` is set.
    #[inline(always)]
    pub fn bit(self, bit: i32) -> S::Mask {
        let sign = self.0.shl(S::Elem::BITS - 1 - bit).and(Self::sign_bit().0);
        sign.or(Self::of(1.0).0).lt(Self::of(0.0).0)
    }

    /// `f` of each lane in float64. Slow.
    #[inline(always)]
    pub fn map(self, f: fn(f64) -> f64) -> Self {
        Vector(self.0.map(f))
    }
}

impl<S: Lanes> Number for Vector<S> {
    type Mask = S::Mask;

    #[inline(always)]
    fn constant(x: f64) -> Self {
        Self::of(x)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Vector(self.0.and(Self::of_bits(!0 >> (65 - S::Elem::BITS)).0))
    }
    #[inline(always)]
    fn sign(self) -> Self {
        let one = Self::of(1.0).with_sign(self);
        // Adding 0 makes −0 a 0 and leaves NaN.
        let size = self.abs();
        Self::select(Self::of(0.0).lt(size), one, self + 0.0)
    }
    #[inline(always)]
    fn maximum(self, other: Self) -> Self {
        Self::select(self.eq(self), Vector(self.0.max(other.0)), self)
    }
    #[inline(always)]
    fn minimum(self, other: Self) -> Self {
        Self::select(self.eq(self), Vector(self.0.min(other.0)), self)
    }
    #[inline(always)]
    fn floor_divide(self, other: Self) -> Self {
        composed::floor_divide(self, other)
    }
    #[inline(always)]
    fn remainder(self, other: Self) -> Self {
        composed::remainder(self, other)
    }
    #[inline(always)]
    fn fmod(self, other: Self) -> Self {
        composed::fmod(self, other)
    }
    #[inline(always)]
    fn pow(self, other: Self) -> Self {
        S::Elem::pow(self, other)
    }

    #[inline(always)]
    fn eq(self, other: Self) -> S::Mask {
        self.0.eq(other.0)
    }
    #[inline(always)]
    fn ne(self, other: Self) -> S::Mask {
        S::not(self.0.eq(other.0))
    }
    #[inline(always)]
    fn lt(self, other: Self) -> S::Mask {
        self.0.lt(other.0)
    }
    #[inline(always)]
    fn le(self, other: Self) -> S::Mask {
        self.0.le(other.0)
    }
    #[inline(always)]
    fn gt(self, other: Self) -> S::Mask {
        other.0.lt(self.0)
    }
    #[inline(always)]
    fn ge(self, other: Self) -> S::Mask {
        other.0.le(self.0)
    }
    #[inline(always)]
    fn select(mask: S::Mask, yes: Self, no: Self) -> Self {
        Vector(S::select(mask, yes.0, no.0))
    }
    #[inline(always)]
    fn both(a: S::Mask, b: S::Mask) -> S::Mask {
        S::both(a, b)
    }
    #[inline(always)]
    fn either(a: S::Mask, b: S::Mask) -> S::Mask {
        S::either(a, b)
    }
    #[inline(always)]
    fn not(a: S::Mask) -> S::Mask {
        S::not(a)
    }
}

macro_rules! elementary {
    ($($name:ident)*) => {
        $(#[inline(always)] fn $name(self) -> Self { <S::Elem as Elementary>::$name(self) })*
    };
}

macro_rules! composed {
    ($($name:ident)*) => { $(#[inline(always)] fn $name(self) -> Self { composed::$name(self) })* };
}

macro_rules! instructions {
    ($($name:ident)*) => { $(#[inline(always)] fn $name(self) -> Self { Vector(self.0.$name()) })* };
}

macro_rules! lane_by_lane {
    ($($name:ident = $f:path;)*) => { $(#[inline(always)] fn $name(self) -> Self { self.map($f) })* };
}

impl<S: Lanes> Float for Vector<S> {
    elementary! { exp exp2 expm1 log log2 log10 log1p sin cos tan tanh erf }
    composed! { sinh cosh asin acos atan asinh acosh atanh }
    instructions! { sqrt floor ceil trunc round }
    lane_by_lane! {
        erfc = libm::erfc; erfinv = scalar::erfinv; lgamma = scalar::lgamma; digamma = scalar::digamma;
    }

    #[inline(always)]
    fn rsqrt(self) -> Self {
        1.0 / self.sqrt()
    }
    #[inline(always)]
    fn atan2(self, other: Self) -> Self {
        composed::atan2(self, other)
    }
    #[inline(always)]
    fn hypot(self, other: Self) -> Self {
        composed::hypot(self, other)
    }
    #[inline(always)]
    fn copysign(self, other: Self) -> Self {
        self.abs().with_sign(other)
    }
    #[inline(always)]
    fn nextafter(self, other: Self) -> Self {
        // One more or less in the pattern is one step away from zero or towards it; from zero the
        // step is to the smallest number of the other's sign.
        let away = Self::select(self.lt(other), Self::of(0.0), -Self::of(0.0)).flip_sign(self);
        let step = Self::select(away.bit(S::Elem::BITS - 1), Self::of_bits(!0), Self::of_bits(1));
        let next = Vector(self.0.add_bits(step.0));
        let next = Self::select(self.eq(Self::of(0.0)), Self::of_bits(1).with_sign(other), next);
        let next = Self::select(self.eq(other), other, next);
        Self::select(Self::both(self.eq(self), other.eq(other)), next, self + other)
    }
    #[inline(always)]
    fn is_nan(self) -> S::Mask {
        self.ne(self)
    }
    #[inline(always)]
    fn is_inf(self) -> S::Mask {
        self.abs().eq(Self::of(f64::INFINITY))
    }
    #[inline(always)]
    fn signbit(self) -> S::Mask {
        self.bit(S::Elem::BITS - 1)
    }
}

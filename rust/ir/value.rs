//! What a body in the table of elementwise operations may do with a value. A body is one generic
//! expression; it becomes SIMD loops when the value is a vector of lanes (`cpu::lanes`), and WGSL text
//! and gradients when the value is a symbol (`ir::sym`). Nothing here computes.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// Lets a float64 literal stand on the left: `1.0 - x`. Constants carry float64 digits and round to
/// the value's own type.
pub trait Literal<V>: Add<V, Output = V> + Sub<V, Output = V> + Mul<V, Output = V> {}

impl<V> Literal<V> for f64 where f64: Add<V, Output = V> + Sub<V, Output = V> + Mul<V, Output = V> {}

/// The same with division, for floats.
pub trait FloatLiteral<V>: Literal<V> + Div<V, Output = V> {}

impl<V> FloatLiteral<V> for f64 where f64: Literal<V> + Div<V, Output = V> {}

/// Arithmetic that floats and integers share. Integers wrap.
pub trait Number:
    Copy
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Neg<Output = Self>
    + Add<f64, Output = Self>
    + Sub<f64, Output = Self>
    + Mul<f64, Output = Self>
{
    /// The result of a comparison: one truth value per lane.
    type Mask: Copy;

    fn constant(x: f64) -> Self;
    fn abs(self) -> Self;
    /// −1, 0 or 1; keeps signed zeros and NaN.
    fn sign(self) -> Self;
    /// NaN if either is NaN.
    fn maximum(self, other: Self) -> Self;
    /// NaN if either is NaN.
    fn minimum(self, other: Self) -> Self;
    /// `⌊a / b⌋`, as the array API states it for floats; for integers division by zero gives 0 and
    /// `MIN / −1` wraps.
    fn floor_divide(self, other: Self) -> Self;
    /// `a − b ⌊a / b⌋`, with the sign of `b`; for integers 0 where `b` is 0.
    fn remainder(self, other: Self) -> Self;
    /// C's remainder, with the sign of `a`; for integers 0 where `b` is 0.
    fn fmod(self, other: Self) -> Self;
    /// `a` to the power `b`; integers wrap, a negative exponent gives the truncated reciprocal.
    fn pow(self, other: Self) -> Self;

    fn eq(self, other: Self) -> Self::Mask;
    fn ne(self, other: Self) -> Self::Mask;
    fn lt(self, other: Self) -> Self::Mask;
    fn le(self, other: Self) -> Self::Mask;
    fn gt(self, other: Self) -> Self::Mask;
    fn ge(self, other: Self) -> Self::Mask;
    /// `yes` where the mask holds, else `no`; both sides are evaluated.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
    fn both(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn either(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn not(a: Self::Mask) -> Self::Mask;
}

/// Functions of floating point only. float32 results are within 2 ulp for `exp log tanh erf sin cos`
/// and within 4 ulp elsewhere, special values as IEEE 754 and C99 Annex F state them.
pub trait Float: Number + Div<Output = Self> + Div<f64, Output = Self> {
    fn sqrt(self) -> Self;
    fn rsqrt(self) -> Self;
    fn exp(self) -> Self;
    fn exp2(self) -> Self;
    fn expm1(self) -> Self;
    fn log(self) -> Self;
    fn log2(self) -> Self;
    fn log10(self) -> Self;
    fn log1p(self) -> Self;
    fn sin(self) -> Self;
    fn cos(self) -> Self;
    fn tan(self) -> Self;
    fn asin(self) -> Self;
    fn acos(self) -> Self;
    fn atan(self) -> Self;
    fn sinh(self) -> Self;
    fn cosh(self) -> Self;
    fn tanh(self) -> Self;
    fn asinh(self) -> Self;
    fn acosh(self) -> Self;
    fn atanh(self) -> Self;
    fn erf(self) -> Self;
    fn erfc(self) -> Self;
    fn erfinv(self) -> Self;
    fn lgamma(self) -> Self;
    fn digamma(self) -> Self;
    fn floor(self) -> Self;
    fn ceil(self) -> Self;
    fn trunc(self) -> Self;
    /// Halves go to the even neighbour.
    fn round(self) -> Self;
    fn atan2(self, other: Self) -> Self;
    fn hypot(self, other: Self) -> Self;
    fn copysign(self, other: Self) -> Self;
    fn nextafter(self, other: Self) -> Self;
    fn is_nan(self) -> Self::Mask;
    fn is_inf(self) -> Self::Mask;
    fn signbit(self) -> Self::Mask;
}

/// Bit patterns of integers; on `bool` these are the logical operations.
pub trait Bits: Copy {
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn invert(self) -> Self;
    /// Shifting by the width or more gives 0; so does a negative count.
    fn shift_left(self, by: Self) -> Self;
    /// Arithmetic for signed integers; shifting by the width or more, or by a negative count, gives
    /// 0, or −1 for a negative value.
    fn shift_right(self, by: Self) -> Self;
}

/// The functions of [`Number`] and [`Float`] as bodies write them: `exp(-x)`.
pub mod prelude {
    use super::{Float, Number};

    macro_rules! functions {
        ($($bound:ident: $($name:ident($($arg:ident),+))+;)+) => {
            $($(#[inline(always)] pub fn $name<V: $bound>($($arg: V),+) -> V { functions!(@call $name $($arg),+) })+)+
        };
        (@call $name:ident $first:ident $(, $rest:ident)*) => { $first.$name($($rest),*) };
    }

    functions! {
        Number: abs(x) sign(x) maximum(a, b) minimum(a, b) floor_divide(a, b) remainder(a, b) fmod(a, b) pow(a, b);
        Float: sqrt(x) rsqrt(x) exp(x) exp2(x) expm1(x) log(x) log2(x) log10(x) log1p(x) sin(x) cos(x) tan(x)
            asin(x) acos(x) atan(x) sinh(x) cosh(x) tanh(x) asinh(x) acosh(x) atanh(x) erf(x) erfc(x) erfinv(x)
            lgamma(x) digamma(x) floor(x) ceil(x) trunc(x) round(x) atan2(a, b) hypot(a, b) copysign(a, b)
            nextafter(a, b);
    }

    macro_rules! comparisons {
        ($($name:ident)+) => {
            $(#[inline(always)] pub fn $name<V: Number>(a: V, b: V) -> V::Mask { a.$name(b) })+
        };
    }

    comparisons!(eq ne lt le gt ge);

    /// `yes` where `mask` holds, else `no`.
    #[inline(always)]
    pub fn select<V: Number>(mask: V::Mask, yes: V, no: V) -> V {
        V::select(mask, yes, no)
    }

    #[inline(always)]
    pub fn constant<V: Number>(x: f64) -> V {
        V::constant(x)
    }
}

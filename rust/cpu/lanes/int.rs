//! Integers and bool as values of the table, one at a time: the operations are simple enough for the
//! compiler to vectorise in a loop. Nothing panics: sums wrap, and division by zero gives 0.

use crate::ir::value::{Bits, Number};
use std::ops::{Add, Mul, Neg, Sub};

/// An integer that wraps.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Int<T>(pub T);

/// A bool, as a byte of 0 or 1.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Truth(pub u8);

macro_rules! operators {
    ($type:ident: $($trait:ident $method:ident $wrapping:ident;)*) => {$(
        impl $trait for Int<$type> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Int(self.0.$wrapping(other.0))
            }
        }
        impl $trait<f64> for Int<$type> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: f64) -> Self {
                Int(self.0.$wrapping(other as $type))
            }
        }
        impl $trait<Int<$type>> for f64 {
            type Output = Int<$type>;
            #[inline(always)]
            fn $method(self, other: Int<$type>) -> Int<$type> {
                Int((self as $type).$wrapping(other.0))
            }
        }
    )*};
}

macro_rules! integer {
    ($($type:ident $unsigned:ident;)*) => {$(
        operators! { $type: Add add wrapping_add; Sub sub wrapping_sub; Mul mul wrapping_mul; }

        impl Neg for Int<$type> {
            type Output = Self;
            #[inline(always)]
            fn neg(self) -> Self {
                Int(self.0.wrapping_neg())
            }
        }

        #[allow(unused_comparisons, reason = "the same text serves unsigned integers")]
        impl Number for Int<$type> {
            type Mask = bool;

            #[inline(always)]
            fn constant(x: f64) -> Self {
                Int(x as $type)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                if self.0 < 0 { -self } else { self }
            }
            #[inline(always)]
            fn sign(self) -> Self {
                Int(((self.0 > 0) as $type).wrapping_sub((self.0 < 0) as $type))
            }
            #[inline(always)]
            fn maximum(self, other: Self) -> Self {
                Int(if self.0 > other.0 { self.0 } else { other.0 })
            }
            #[inline(always)]
            fn minimum(self, other: Self) -> Self {
                Int(if self.0 < other.0 { self.0 } else { other.0 })
            }
            #[inline(always)]
            fn floor_divide(self, other: Self) -> Self {
                let (a, b) = (self.0, other.0);
                if b == 0 {
                    return Int(0);
                }
                let (q, r) = (a.wrapping_div(b), a.wrapping_rem(b));
                Int(q.wrapping_sub((r != 0 && (r < 0) != (b < 0)) as $type))
            }
            #[inline(always)]
            fn remainder(self, other: Self) -> Self {
                let (a, b) = (self.0, other.0);
                if b == 0 {
                    return Int(0);
                }
                let r = a.wrapping_rem(b);
                Int(if r != 0 && (r < 0) != (b < 0) { r.wrapping_add(b) } else { r })
            }
            #[inline(always)]
            fn fmod(self, other: Self) -> Self {
                Int(if other.0 == 0 { 0 } else { self.0.wrapping_rem(other.0) })
            }
            #[inline(always)]
            fn pow(self, other: Self) -> Self {
                let (mut base, mut exponent) = (self.0, other.0 as $unsigned);
                if other.0 < 0 {
                    let odd = exponent & 1 == 1;
                    return Int(match base {
                        1 => 1,
                        _ if base.wrapping_add(1) == 0 => if odd { base } else { 1 },
                        _ => 0,
                    });
                }
                let mut product: $type = 1;
                while exponent != 0 {
                    if exponent & 1 == 1 {
                        product = product.wrapping_mul(base);
                    }
                    base = base.wrapping_mul(base);
                    exponent >>= 1;
                }
                Int(product)
            }

            #[inline(always)]
            fn eq(self, other: Self) -> bool {
                self.0 == other.0
            }
            #[inline(always)]
            fn ne(self, other: Self) -> bool {
                self.0 != other.0
            }
            #[inline(always)]
            fn lt(self, other: Self) -> bool {
                self.0 < other.0
            }
            #[inline(always)]
            fn le(self, other: Self) -> bool {
                self.0 <= other.0
            }
            #[inline(always)]
            fn gt(self, other: Self) -> bool {
                self.0 > other.0
            }
            #[inline(always)]
            fn ge(self, other: Self) -> bool {
                self.0 >= other.0
            }
            #[inline(always)]
            fn select(mask: bool, yes: Self, no: Self) -> Self {
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
        }

        #[allow(unused_comparisons, reason = "the same text serves unsigned integers")]
        impl Bits for Int<$type> {
            #[inline(always)]
            fn and(self, other: Self) -> Self {
                Int(self.0 & other.0)
            }
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                Int(self.0 | other.0)
            }
            #[inline(always)]
            fn xor(self, other: Self) -> Self {
                Int(self.0 ^ other.0)
            }
            #[inline(always)]
            fn invert(self) -> Self {
                Int(!self.0)
            }
            #[inline(always)]
            fn shift_left(self, by: Self) -> Self {
                let fits = (by.0 as $unsigned) < $type::BITS as $unsigned;
                Int(if fits { self.0.wrapping_shl(by.0 as u32) } else { 0 })
            }
            #[inline(always)]
            fn shift_right(self, by: Self) -> Self {
                let fits = (by.0 as $unsigned) < $type::BITS as $unsigned;
                let all = if self.0 < 0 { !0 } else { 0 };
                Int(if fits { self.0.wrapping_shr(by.0 as u32) } else { all })
            }
        }
    )*};
}

integer! {
    u8 u8;
    u16 u16;
    u32 u32;
    u64 u64;
    i8 u8;
    i16 u16;
    i32 u32;
    i64 u64;
}

impl Bits for Truth {
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Truth(self.0 & other.0)
    }
    #[inline(always)]
    fn or(self, other: Self) -> Self {
        Truth(self.0 | other.0)
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Truth(self.0 ^ other.0)
    }
    #[inline(always)]
    fn invert(self) -> Self {
        Truth(self.0 ^ 1)
    }
    /// As for one-bit integers: only a shift by false keeps anything.
    #[inline(always)]
    fn shift_left(self, by: Self) -> Self {
        Truth(self.0 & (by.0 ^ 1))
    }
    #[inline(always)]
    fn shift_right(self, by: Self) -> Self {
        Truth(self.0 & (by.0 ^ 1))
    }
}

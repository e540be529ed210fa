//! The ways of combining two elements that reductions and scans share: an associative operation with a
//! neutral element, in a fast type for short runs and in a wide one for what they add up to.

use super::real::{Real, Stored};
use half::{bf16, f16};
use std::marker::PhantomData;

pub trait Monoid {
    /// What tensors store.
    type T: Copy + Send + Sync;
    /// What runs of some dozens of elements are combined in, many lanes at once.
    type Lane: Copy;
    /// What the results of runs are combined in.
    type Wide: Copy + Send + Sync;

    const NEUTRAL: Self::Lane;
    fn lane(x: Self::T) -> Self::Lane;
    fn join(a: Self::Lane, b: Self::Lane) -> Self::Lane;
    fn wide(x: Self::Lane) -> Self::Wide;
    fn merge(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    fn finish(x: Self::Wide) -> Self::T;
}

/// Enough lanes to hide the latency of an addition on the widest vectors.
pub const LANES: usize = 32;

/// All of `x` combined: element i in lane i mod 32, then the lanes pairwise.
#[inline(always)]
pub fn run<M: Monoid>(x: &[M::T]) -> M::Lane {
    let (groups, rest) = x.as_chunks::<LANES>();
    if groups.is_empty() {
        return rest.iter().fold(M::NEUTRAL, |sum, &x| M::join(sum, M::lane(x)));
    }
    let mut lanes = [M::NEUTRAL; LANES];
    for group in groups {
        for i in 0..LANES {
            lanes[i] = M::join(lanes[i], M::lane(group[i]));
        }
    }
    let rest = rest.iter().fold(M::NEUTRAL, |sum, &x| M::join(sum, M::lane(x)));
    M::join(tree::<M>(lanes), rest)
}

/// Lanes combined pairwise.
#[inline(always)]
pub fn tree<M: Monoid>(mut lanes: [M::Lane; LANES]) -> M::Lane {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = M::join(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Floats add in float32 or float64 and runs in float64; integers wrap.
pub struct Sum<T>(PhantomData<T>);
/// Floats multiply in float64; integers wrap.
pub struct Prod<T>(PhantomData<T>);
/// NaN if any is NaN.
pub struct Max<T>(PhantomData<T>);
/// NaN if any is NaN.
pub struct Min<T>(PhantomData<T>);
/// Of bools stored as 0 and 1.
pub struct Any;
/// Of bools stored as 0 and 1.
pub struct All;

/// A monoid in one line: `Name of T: lane (load), wide (widen), neutral, join, finish`.
macro_rules! monoid {
    ($Name:ty, $T:ty: $Lane:ty, $load:expr, $Wide:ty, $widen:expr, $neutral:expr, $join:expr, $merge:expr, $finish:expr) => {
        impl Monoid for $Name {
            type T = $T;
            type Lane = $Lane;
            type Wide = $Wide;
            const NEUTRAL: $Lane = $neutral;
            #[inline(always)]
            fn lane(x: $T) -> $Lane {
                ($load)(x)
            }
            #[inline(always)]
            fn join(a: $Lane, b: $Lane) -> $Lane {
                let join: fn($Lane, $Lane) -> $Lane = $join;
                join(a, b)
            }
            #[inline(always)]
            fn wide(x: $Lane) -> $Wide {
                ($widen)(x)
            }
            #[inline(always)]
            fn merge(a: $Wide, b: $Wide) -> $Wide {
                let merge: fn($Wide, $Wide) -> $Wide = $merge;
                merge(a, b)
            }
            #[inline(always)]
            fn finish(x: $Wide) -> $T {
                ($finish)(x)
            }
        }
    };
}

/// `b` if it is larger or NaN, else `a`.
#[inline(always)]
pub fn larger<T: Copy + PartialOrd>(a: T, b: T) -> T {
    #[allow(clippy::eq_op, reason = "the test for NaN that integers have too")]
    if b > a || b != b { b } else { a }
}

/// `b` if it is smaller or NaN, else `a`.
#[inline(always)]
pub fn smaller<T: Copy + PartialOrd>(a: T, b: T) -> T {
    #[allow(clippy::eq_op, reason = "the test for NaN that integers have too")]
    if b < a || b != b { b } else { a }
}

macro_rules! floats {
    ($($T:ty: $R:ty),*) => {$(
        // Only −0 leaves every number as it is, −0 included.
        monoid!(Sum<$T>, $T: $R, Stored::load, f64, Real::to_f64, -0.0, |a, b| a + b, |a, b| a + b, <$T>::of);
        monoid!(Prod<$T>, $T: f64, |x: $T| x.load().to_f64(), f64, |x| x, 1.0, |a, b| a * b, |a, b| a * b, <$T>::of);
        monoid!(Max<$T>, $T: $R, Stored::load, $R, |x| x, <$R>::NEG_INFINITY, larger, larger, Stored::store);
        monoid!(Min<$T>, $T: $R, Stored::load, $R, |x| x, <$R>::INFINITY, smaller, smaller, Stored::store);
    )*};
}

floats!(f16: f32, bf16: f32, f32: f32, f64: f64);

macro_rules! integers {
    ($($T:ty),*) => {$(
        monoid!(Sum<$T>, $T: $T, |x| x, $T, |x| x, 0, <$T>::wrapping_add, <$T>::wrapping_add, |x| x);
        monoid!(Prod<$T>, $T: $T, |x| x, $T, |x| x, 1, <$T>::wrapping_mul, <$T>::wrapping_mul, |x| x);
        monoid!(Max<$T>, $T: $T, |x| x, $T, |x| x, <$T>::MIN, larger, larger, |x| x);
        monoid!(Min<$T>, $T: $T, |x| x, $T, |x| x, <$T>::MAX, smaller, smaller, |x| x);
    )*};
}

integers!(u8, u16, u32, u64, i8, i16, i32, i64);

monoid!(Any, u8: u8, |x| x, u8, |x| x, 0, |a, b| a | b, |a, b| a | b, |x| x);
monoid!(All, u8: u8, |x| x, u8, |x| x, 1, |a, b| a & b, |a, b| a & b, |x| x);

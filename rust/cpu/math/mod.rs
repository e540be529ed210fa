//! The elementary functions, written once on [`Vector`] and so compiled for every instruction set:
//! `single` for float32, `double` for float64, `composed` for both at once out of these. What has no
//! vector form is in `scalar`, in float64, and is applied lane by lane. Polynomials are minimax fits of their own interval (Remez), in the relative
//! error of the function.
//!
//! Special values follow C99's Annex F. A result depends on its argument alone, not on its neighbours
//! in a vector: where a lane needs another way, both ways are computed or the lane is done alone.

pub mod composed;
pub mod scalar;

mod double;
mod single;
#[cfg(test)]
mod tests;

use super::lanes::{Lanes, Vector};
use crate::ir::value::Number;

/// The functions of an element type that have a vector form.
pub trait Elementary: Sized {
    fn exp<S: Lanes<Elem = Self>>(x: Vector<S>) -> Vector<S>;
    fn exp2<S: Lanes<Elem = Self>>(x: Vector<S>) -> Vector<S>;
    fn expm1<S: Lanes<Elem = Self>>(x: Vector<S>) -> Vector<S>;
    fn log<S: Lanes<Elem = Self>>(x: Vector<S>) -> Vector<S>;
    fn log2<S: Lanes<Elem = Self>>(x: Vector<S>) -> Vector<S>;
    fn log10<S: Lanes<Elem = Self>>(x: Vector<S>) -> Vector<S>;
    fn log1p<S: Lanes<Elem = Self>>(x: Vector<S>) -> Vector<S>;
    fn sin<S: Lanes<Elem = Self>>(x: Vector<S>) -> Vector<S>;
    fn cos<S: Lanes<Elem = Self>>(x: Vector<S>) -> Vector<S>;
    fn tan<S: Lanes<Elem = Self>>(x: Vector<S>) -> Vector<S>;
    fn tanh<S: Lanes<Elem = Self>>(x: Vector<S>) -> Vector<S>;
    fn erf<S: Lanes<Elem = Self>>(x: Vector<S>) -> Vector<S>;
    fn pow<S: Lanes<Elem = Self>>(x: Vector<S>, y: Vector<S>) -> Vector<S>;

    /// `(asin(s) − s) / s³` in `z = s²`, for `z ≤ ¼`.
    fn asin_series<S: Lanes<Elem = Self>>(z: Vector<S>) -> Vector<S>;
    /// `(atan(t) − t) / t³` in `z = t²`, for `|t| ≤ tan(π/8)`.
    fn atan_series<S: Lanes<Elem = Self>>(z: Vector<S>) -> Vector<S>;
    /// What π/2 has beyond its nearest number.
    const HALF_PI_LOW: f64;
}

/// `c₀ + x (c₁ + x (c₂ + …))`.
macro_rules! polynomial {
    ($x:expr; $last:expr) => { Vector::of($last) };
    ($x:expr; $first:expr, $($rest:expr),+) => { polynomial!($x; $($rest),+).mul_add($x, Vector::of($first)) };
}
use polynomial;

/// `log(x)` from its value at a positive finite x: NaN below 0, −∞ at 0, and x itself where it is ∞ or
/// NaN.
#[inline(always)]
fn log_of_special<S: Lanes>(x: Vector<S>, log: Vector<S>) -> Vector<S> {
    let log = Vector::select(x.lt(Vector::of(f64::INFINITY)), log, x);
    let log = Vector::select(x.lt(Vector::of(0.0)), Vector::of(f64::NAN), log);
    Vector::select(x.eq(Vector::of(0.0)), Vector::of(f64::NEG_INFINITY), log)
}

/// The same for a logarithm made of [`Lanes::split`]'s parts, which tell of these cases where they are whole.
#[inline(always)]
fn log_of_parts<S: Lanes>(x: Vector<S>, log: Vector<S>) -> Vector<S> {
    if S::SPLITS_ALL { log } else { log_of_special(x, log) }
}

/// Replaces the lanes of `result` whose argument is larger than `bound` in size by `f` of the argument.
#[inline(always)]
fn large<S: Lanes>(x: Vector<S>, bound: f64, result: Vector<S>, f: fn(f64) -> f64) -> Vector<S> {
    let beyond = Vector::of(bound).lt(x.abs());
    if S::any(beyond) { Vector::select(beyond, x.map(f), result) } else { result }
}

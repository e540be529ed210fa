//! Functions that are made of others in the same way for float32 and float64.

use super::{Elementary, scalar};
use crate::cpu::lanes::{Lanes, Real, Vector};
use crate::ir::value::{Float, Number};
use std::f64::consts::{FRAC_PI_2, LN_2, PI};

/// Beyond this `exp(−2 x)` is lost beside 1.
#[inline(always)]
const fn far<E: Real>() -> f64 {
    0.4 * E::FRACTION_BITS as f64
}

/// Beyond this 1 is lost beside `x²`.
#[inline(always)]
const fn huge<E: Real>() -> f64 {
    (1u64 << (E::FRACTION_BITS / 2 + 2)) as f64
}

/// `½ (t + t / (t + 1))` with `t = exp(|x|) − 1`; far out `½ exp(|x|)`, as a product of two roots since
/// `exp` overflows earlier.
#[inline(always)]
pub fn sinh<S: Lanes>(x: Vector<S>) -> Vector<S> {
    let size = x.abs();
    let t = size.expm1();
    let root = (size * 0.5).exp();
    let near = (t + t / (t + 1.0)) * 0.5;
    Vector::select(size.lt(Vector::of(far::<S::Elem>())), near, (root * 0.5) * root).with_sign(x)
}

/// `½ (e + 1/e)` with `e = exp(|x|)`; far out as [`sinh`].
#[inline(always)]
pub fn cosh<S: Lanes>(x: Vector<S>) -> Vector<S> {
    let size = x.abs();
    let e = size.exp();
    let root = (size * 0.5).exp();
    Vector::select(size.lt(Vector::of(far::<S::Elem>())), (e + 1.0 / e) * 0.5, (root * 0.5) * root)
}

/// `log(a + √(a² + 1))` as `log1p(a + a² / (1 + √(a² + 1)))`; far out `log(2 a)`.
#[inline(always)]
pub fn asinh<S: Lanes>(x: Vector<S>) -> Vector<S> {
    let size = x.abs();
    let square = size * size;
    let near = (size + square / ((square + 1.0).sqrt() + 1.0)).log1p();
    Vector::select(size.lt(Vector::of(huge::<S::Elem>())), near, size.log() + LN_2).with_sign(x)
}

/// `log(x + √(x² − 1))` as `log1p(t + √(t (t + 2)))` with `t = x − 1`; far out `log(2 x)`.
#[inline(always)]
pub fn acosh<S: Lanes>(x: Vector<S>) -> Vector<S> {
    let t = x - 1.0;
    let near = (t + (t * (t + 2.0)).sqrt()).log1p();
    let y = Vector::select(x.lt(Vector::of(huge::<S::Elem>())), near, x.log() + LN_2);
    Vector::select(t.lt(Vector::of(0.0)), Vector::of(f64::NAN), y)
}

/// `½ log((1 + a) / (1 − a)) = ½ log1p(2 a / (1 − a))`.
#[inline(always)]
pub fn atanh<S: Lanes>(x: Vector<S>) -> Vector<S> {
    let size = x.abs();
    (((size + size) / (1.0 - size)).log1p() * 0.5).with_sign(x)
}

/// `(s, asin(s) − s)` where s is |x| up to ½ and `√((1 − |x|) / 2)` beyond, so that
/// `asin(|x|) = π/2 − 2 asin(s)` there.
#[inline(always)]
fn asin_parts<S: Lanes>(size: Vector<S>, near: S::Mask) -> (Vector<S>, Vector<S>) {
    let z = Vector::select(near, size * size, (1.0 - size) * 0.5);
    let s = Vector::select(near, size, z.sqrt());
    (s, s * z * S::Elem::asin_series(z))
}

#[inline(always)]
pub fn asin<S: Lanes>(x: Vector<S>) -> Vector<S> {
    let size = x.abs();
    let near = size.le(Vector::of(0.5));
    let (s, p) = asin_parts(size, near);
    let far = FRAC_PI_2 - (s + s + (p + p - S::Elem::HALF_PI_LOW));
    Vector::select(near, s + p, far).with_sign(x)
}

#[inline(always)]
pub fn acos<S: Lanes>(x: Vector<S>) -> Vector<S> {
    let size = x.abs();
    let near = size.le(Vector::of(0.5));
    let (s, p) = asin_parts(size, near);
    let middle = FRAC_PI_2 - (s.flip_sign(x) + (p.flip_sign(x) - S::Elem::HALF_PI_LOW));
    let right = (s + p) * 2.0;
    let left = PI - (right - 2.0 * S::Elem::HALF_PI_LOW);
    Vector::select(near, middle, Vector::select(x.lt(Vector::of(0.0)), left, right))
}

/// `atan(y / x)` for non-negative numbers with `y ≤ x`. With `c = 1` from `tan(π/8)` on, else 0,
/// `atan(y/x) = c π/4 + atan((y − c x) / (x + c y))`.
#[inline(always)]
fn atan_of_ratio<S: Lanes>(y: Vector<S>, x: Vector<S>) -> Vector<S> {
    let turned = (x * (std::f64::consts::SQRT_2 - 1.0)).lt(y);
    let zero = Vector::of(0.0);
    let t = Vector::select(turned, y - x, y) / Vector::select(turned, x + y, x);
    let z = t * t;
    let p = t * z * S::Elem::atan_series(z);
    let base = Vector::select(turned, Vector::of(FRAC_PI_2 / 2.0), zero);
    let low = Vector::select(turned, Vector::of(S::Elem::HALF_PI_LOW / 2.0), zero);
    base + (t + (p + low))
}

/// Beyond 1 by `atan(x) = π/2 − atan(1/x)`.
#[inline(always)]
pub fn atan<S: Lanes>(x: Vector<S>) -> Vector<S> {
    let size = x.abs();
    let one = Vector::of(1.0);
    let beyond = one.lt(size);
    // 1/x is taken by exchanging numerator and denominator, and is 0 at infinity.
    let finite = size.lt(Vector::of(f64::INFINITY));
    let small = Vector::select(beyond, Vector::select(finite, one, Vector::of(0.0)), size);
    let large = Vector::select(S::both(beyond, finite), size, one);
    let angle = atan_of_ratio(small, large);
    let angle = Vector::select(beyond, FRAC_PI_2 - (angle - S::Elem::HALF_PI_LOW), angle);
    Vector::select(x.is_nan(), x, angle.with_sign(x))
}

#[inline(always)]
pub fn atan2<S: Lanes>(y: Vector<S>, x: Vector<S>) -> Vector<S> {
    let (zero, infinity) = (Vector::of(0.0), Vector::of(f64::INFINITY));
    let (rise, run) = (y.abs(), x.abs());
    let steep = run.lt(rise);
    let (small, large) = (Vector::select(steep, run, rise), Vector::select(steep, rise, run));
    // Two infinities are as two ones, two zeros as 0 and 1; sums of large numbers must not overflow.
    let both_infinite = small.eq(infinity);
    let factor =
        Vector::select(Vector::of(0.25 / S::Elem::TINY).lt(large), Vector::of(0.25), Vector::of(1.0));
    let small = Vector::select(both_infinite, Vector::of(1.0), small * factor);
    let large = Vector::select(S::either(large.eq(zero), both_infinite), Vector::of(1.0), large * factor);
    let angle = atan_of_ratio(small, large);
    let angle = Vector::select(steep, FRAC_PI_2 - (angle - S::Elem::HALF_PI_LOW), angle);
    let angle = Vector::select(x.signbit(), PI - (angle - 2.0 * S::Elem::HALF_PI_LOW), angle);
    Vector::select(S::either(x.is_nan(), y.is_nan()), x + y, angle.with_sign(y))
}

/// `m √(1 + (n/m)²)` with m the larger; an infinity wins over NaN.
#[inline(always)]
pub fn hypot<S: Lanes>(a: Vector<S>, b: Vector<S>) -> Vector<S> {
    let (a, b) = (a.abs(), b.abs());
    let infinity = Vector::of(f64::INFINITY);
    let (large, small) = (a.maximum(b), a.minimum(b));
    let ratio = small / large;
    let length = large * ratio.mul_add(ratio, Vector::of(1.0)).sqrt();
    let length = Vector::select(large.eq(Vector::of(0.0)), large, length);
    Vector::select(S::either(a.eq(infinity), b.eq(infinity)), infinity, length)
}

/// `(q, r)` with `a = q b + r`, q an integer and r of a's sign and smaller than b; and where this is so:
/// not where the quotient has more digits than fit, or is no number.
///
/// Rounding can make the quotient one too large, never too small; then r has the other sign. The
/// product is not rounded and r needs no more digits than b, so r is exact.
#[inline(always)]
fn divide<S: Lanes>(a: Vector<S>, b: Vector<S>) -> (Vector<S>, Vector<S>, S::Mask) {
    let zero = Vector::of(0.0);
    let ratio = a / b;
    let limit = Vector::of((1u64 << (S::Elem::FRACTION_BITS - 1)) as f64);
    let fits = S::both(ratio.abs().lt(limit), b.abs().lt(Vector::of(f64::INFINITY)));
    let q = ratio.trunc();
    let r = (-q).fused(b, a);
    let over = S::both(r.ne(zero), r.flip_sign(a).lt(zero));
    let r = Vector::select(over, r + b.copysign(a), r);
    let q = Vector::select(over, q - Vector::of(1.0).with_sign(ratio), q);
    (q, r, fits)
}

/// The lanes of `result` where the mask does not hold are done one by one.
#[inline(always)]
fn unless<S: Lanes>(
    fits: S::Mask,
    result: Vector<S>,
    a: Vector<S>,
    b: Vector<S>,
    f: fn(f64, f64) -> f64,
) -> Vector<S> {
    let other = S::not(fits);
    if S::any(other) { Vector::select(fits, result, Vector(a.0.map2(b.0, f))) } else { result }
}

#[inline(always)]
pub fn fmod<S: Lanes>(a: Vector<S>, b: Vector<S>) -> Vector<S> {
    let (_, r, fits) = divide(a, b);
    unless(fits, r.copysign(a), a, b, scalar::fmod)
}

#[inline(always)]
pub fn remainder<S: Lanes>(a: Vector<S>, b: Vector<S>) -> Vector<S> {
    let (_, r, fits) = divide(a, b);
    let zero = Vector::of(0.0);
    let other = S::both(r.ne(zero), r.flip_sign(b).lt(zero));
    let r = Vector::select(other, r + b, r);
    unless(fits, Vector::select(r.eq(zero), zero.with_sign(b), r), a, b, scalar::remainder)
}

#[inline(always)]
pub fn floor_divide<S: Lanes>(a: Vector<S>, b: Vector<S>) -> Vector<S> {
    let (q, r, fits) = divide(a, b);
    let zero = Vector::of(0.0);
    let other = S::both(r.ne(zero), r.flip_sign(b).lt(zero));
    let q = Vector::select(other, q - 1.0, q);
    unless(fits, Vector::select(q.eq(zero), zero.with_sign(a).flip_sign(b), q), a, b, scalar::floor_divide)
}

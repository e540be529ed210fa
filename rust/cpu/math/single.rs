//! The functions of float32.
//!
//! All are within 2 ulp; `tests` has the bounds.

use super::{Elementary, large, log_of_parts, log_of_special, polynomial};
use crate::cpu::lanes::{Lanes, Real, Vector};
use crate::ir::value::{Float, Number};
use std::f64::consts::{FRAC_2_PI, LN_2, LOG2_E, LOG10_E};

/// `log 2` and `log₁₀ 2` in two parts, the first with so few digits that its product with an exponent
/// is exact.
const LN_2_HIGH: f64 = 0.69287109375;
const LN_2_LOW: f64 = 0.00027608680994530943;
const LOG10_2_HIGH: f64 = 0.301025390625;
const LOG10_2_LOW: f64 = 4.605038981195214e-06;

/// `π/2` as a sum of float32 numbers.
const HALF_PI: [f64; 3] = [1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15];

/// Up to here the remainder of a division by π/2 is taken in float32.
const LARGE_ANGLE: f64 = 1e5;

/// `(n, exp(r) − 1)` with `x = n log 2 + r` and `|r| ≤ ½ log 2`:
/// `exp(r) − 1 = r + r² Q(r)`.
#[inline(always)]
fn exp_parts<S: Lanes<Elem = f32>>(x: Vector<S>) -> (Vector<S>, Vector<S>) {
    let n = (x * LOG2_E).round();
    let r = n.mul_add(Vector::of(-LN_2_HIGH), x);
    let r = n.mul_add(Vector::of(-LN_2_LOW), r);
    (n, exp_near_zero(r))
}

/// `exp(r) − 1` for `|r| ≤ ½ log 2`.
#[inline(always)]
fn exp_near_zero<S: Lanes<Elem = f32>>(r: Vector<S>) -> Vector<S> {
    let q = polynomial!(r; 0.50000000444, 0.166666663689, 0.0416663598204, 0.00833338958177, 0.00139407200863, 0.00019845874622);
    (r * r).mul_add(q, r)
}

/// `2ⁿ (exp(r) − 1) + (2ⁿ − 1)`, which is `exp(x) − 1`, for `|x| ≤ 20`: a shorter way where a last digit of x does not
/// count.
#[inline(always)]
fn expm1_shortly<S: Lanes<Elem = f32>>(x: Vector<S>) -> Vector<S> {
    let rounded = x.mul_add(Vector::of(LOG2_E), Vector::of(f32::MAGIC));
    let n = rounded - f32::MAGIC;
    let r = n.mul_add(Vector::of(-LN_2), x);
    let q =
        polynomial!(r; 0.499999981527, 0.166665435537, 0.0416672000804, 0.00836652967322, 0.00138825261919);
    let power = Vector(rounded.0.shl(23).add_bits(Vector::<S>::of(1.0).0));
    (r * r).mul_add(q, r).mul_add(power, power - 1.0)
}

/// `exp(x) − 1` for x that neither overflows nor is far below −1. With t = exp(r) − 1,
/// `2ⁿ (1 + t) − 1 = 2ⁿ (t + (1 − 2⁻ⁿ))`, where the inner difference is exact as long as it matters.
#[inline(always)]
fn expm1_parts<S: Lanes<Elem = f32>>(x: Vector<S>) -> Vector<S> {
    let (n, t) = exp_parts(x);
    let one_less = 1.0 - Vector((-n.at_most(64.0)).0.power_of_two());
    (t + one_less).scale(n)
}

/// `(2ⁿ as a pattern to be added, n, exp(x) / 2ⁿ)`, the pattern in the bits of the exponent.
#[inline(always)]
fn exp_apart<S: Lanes<Elem = f32>>(x: Vector<S>) -> (Vector<S>, Vector<S>, Vector<S>) {
    let q = x.mul_add(Vector::of(LOG2_E), Vector::of(f32::MAGIC));
    let n = q - f32::MAGIC;
    let r = n.mul_add(Vector::of(-LN_2_HIGH), x);
    let r = n.mul_add(Vector::of(-LN_2_LOW), r);
    (Vector(q.0.shl(23)), n, exp_near_zero(r) + 1.0)
}

/// `log(2ᵉ m)`.
#[inline(always)]
fn natural<S: Lanes<Elem = f32>>(m_and_e: (S, S)) -> Vector<S> {
    let (e, f, g) = log_parts(m_and_e);
    let low = e.mul_add(Vector::of(LN_2_LOW), g);
    e.mul_add(Vector::of(LN_2_HIGH), f + low)
}

/// `(e, f, g)` with `2ᵉ m = 2ᵉ (1 + f)`, `−¼ ≤ f < ½` and `log(1 + f) = f + g`:
/// `g = −½ f² + f³ P(f)`.
#[inline(always)]
fn log_parts<S: Lanes<Elem = f32>>((m, e): (S, S)) -> (Vector<S>, Vector<S>, Vector<S>) {
    let f = Vector(m) - 1.0;
    let p = polynomial!(f; 0.333333398542, -0.250001656374, 0.199996064458, -0.166552807453, 0.142761616107,
        -0.127278628923, 0.117015741363, -0.0911773566139, 0.0376807628574);
    let square = f * f;
    (Vector(e), f, (square * f).mul_add(p, square * -0.5))
}

/// `(q, sin r, cos r)` with `x = q π/2 + r` and `|r| ≤ π/4`; q is in the low bits of its pattern.
#[inline(always)]
fn angle<S: Lanes<Elem = f32>>(x: Vector<S>) -> (Vector<S>, Vector<S>, Vector<S>) {
    // Adding 1.5 · 2²³ rounds to an integer; taking it off again gives the integer as a number.
    let q = x.fused(Vector::of(FRAC_2_PI), Vector::of(12582912.0));
    let n = q - 12582912.0;
    let r = n.fused(Vector::of(-HALF_PI[0]), x);
    let r = n.fused(Vector::of(-HALF_PI[1]), r);
    let r = n.fused(Vector::of(-HALF_PI[2]), r);
    let z = r * r;
    let s = polynomial!(z; -0.166666666408, 0.00833332930164, -0.000198393112324, 2.71811169738e-6);
    let c = polynomial!(z; 0.0416666666194, -0.00138888834959, 2.47994590418e-5, -2.72056622514e-7);
    (q, (z * r).mul_add(s, r), (z * z).mul_add(c, z.mul_add(Vector::of(-0.5), Vector::of(1.0))))
}

/// `sin(x + quarters π/2)`.
#[inline(always)]
fn sin_shifted<S: Lanes<Elem = f32>>(x: Vector<S>, quarters: u64) -> Vector<S> {
    let (q, sin, cos) = angle(x);
    let q = Vector(q.0.add_bits(Vector::<S>::of_bits(quarters).0));
    Vector::select(q.bit(0), cos, sin).flip_sign(Vector(q.0.shl(30)))
}

/// `xʸ = 2^(y log₂ x)` for x ≥ 0 in float64, with as many digits as float32 needs: 2⁻³⁵ for the logarithm,
/// since y makes its error up to 2⁷ times as large, and 2⁻²⁹ for the power of 2.
#[inline(always)]
fn power<D: Lanes<Elem = f64>>(x: Vector<D>, y: Vector<D>) -> Vector<D> {
    let (m, e) = x.0.split();
    let f = Vector(m) - 1.0;
    let p = polynomial!(f; 1.44269504091070855, -0.721347520833900744, 0.480898332608037927, -0.360673652955864118,
        0.28854043007837614, -0.24045844861338624, 0.206056853524885864, -0.180002972999077676, 0.160501744059111144,
        -0.149211842113688908, 0.138809267259104545, -0.102060518304686347, 0.0379974367970296696);
    let exponent = (y * log_of_special(x, f.mul_add(p, Vector(e)))).clamp(-200.0, 200.0);
    let n = exponent.round();
    let r = exponent - n;
    let p = polynomial!(r; 1.00000000055509655, 0.693147205766568664, 0.240226468850608582, 0.055503287122889218,
        0.00961848935017148128, 0.00133999575825947018, 0.000153457630536068966);
    p * Vector(n.0.power_of_two())
}

impl Elementary for f32 {
    /// Where scaling is not an instruction and all results are normal numbers, exponents are added as patterns.
    #[inline(always)]
    fn exp<S: Lanes<Elem = f32>>(x: Vector<S>) -> Vector<S> {
        if S::WIDTH == 1 || S::SCALES {
            let (n, t) = exp_parts(x.clamp(-105.0, 90.0));
            return (t + 1.0).scale(n);
        }
        if !S::any(S::not(x.abs().le(Vector::of(87.0)))) {
            let (power, _, y) = exp_apart(x);
            return Vector(y.0.add_bits(power.0));
        }
        let (_, n, y) = exp_apart(x.clamp(-105.0, 90.0));
        y.scale(n)
    }

    #[inline(always)]
    fn exp2<S: Lanes<Elem = f32>>(x: Vector<S>) -> Vector<S> {
        let x = x.clamp(-152.0, 130.0);
        let n = x.round();
        (exp_near_zero((x - n) * LN_2) + 1.0).scale(n)
    }

    #[inline(always)]
    fn expm1<S: Lanes<Elem = f32>>(x: Vector<S>) -> Vector<S> {
        expm1_parts(x.clamp(-20.0, 90.0)).with_sign(x)
    }

    /// Where all lanes are normal numbers, which costs a look, nothing else is asked of them.
    #[inline(always)]
    fn log<S: Lanes<Elem = f32>>(x: Vector<S>) -> Vector<S> {
        let normal = S::both(Vector::of(f32::TINY).le(x), x.lt(Vector::of(f64::INFINITY)));
        if S::WIDTH > 1 && !S::SPLITS_ALL && !S::any(S::not(normal)) {
            return natural(x.0.split_normal());
        }
        log_of_parts(x, natural(x.0.split()))
    }

    #[inline(always)]
    fn log2<S: Lanes<Elem = f32>>(x: Vector<S>) -> Vector<S> {
        let (e, f, g) = log_parts(x.0.split());
        log_of_parts(x, (f + g).mul_add(Vector::of(LOG2_E), e))
    }

    #[inline(always)]
    fn log10<S: Lanes<Elem = f32>>(x: Vector<S>) -> Vector<S> {
        let (e, f, g) = log_parts(x.0.split());
        let low = (f + g).mul_add(Vector::of(LOG10_E), e * LOG10_2_LOW);
        log_of_parts(x, e.mul_add(Vector::of(LOG10_2_HIGH), low))
    }

    /// The logarithm of `u = 1 + x` as rounded, and what rounding lost: `log(u + c) ≈ log(u) + c/u`.
    #[inline(always)]
    fn log1p<S: Lanes<Elem = f32>>(x: Vector<S>) -> Vector<S> {
        let u = x + 1.0;
        let rounded = u - x;
        let lost = (x - (u - rounded)) + (1.0 - rounded);
        let (e, f, g) = log_parts(u.0.split());
        let low = e.mul_add(Vector::of(LN_2_LOW), g) + lost / u;
        let log = e.mul_add(Vector::of(LN_2_HIGH), f + low);
        log_of_special(u, log).with_sign(x)
    }

    #[inline(always)]
    fn sin<S: Lanes<Elem = f32>>(x: Vector<S>) -> Vector<S> {
        let y = large(x, LARGE_ANGLE, sin_shifted(x, 0), f64::sin);
        Vector::select(x.eq(Vector::of(0.0)), x, y)
    }

    #[inline(always)]
    fn cos<S: Lanes<Elem = f32>>(x: Vector<S>) -> Vector<S> {
        large(x, LARGE_ANGLE, sin_shifted(x, 1), f64::cos)
    }

    #[inline(always)]
    fn tan<S: Lanes<Elem = f32>>(x: Vector<S>) -> Vector<S> {
        let (q, sin, cos) = angle(x);
        let odd = q.bit(0);
        let ratio = Vector::select(odd, -cos, sin) / Vector::select(odd, sin, cos);
        let y = large(x, LARGE_ANGLE, ratio, f64::tan);
        Vector::select(x.eq(Vector::of(0.0)), x, y)
    }

    /// `t / (t + 2)` with `t = exp(2 |x|) − 1`. A first quotient q is corrected by its remainder `(t − 2 q) − q t`, in
    /// which the rounding of the divisor does not count; that doubles its digits. From 10 on it is 1.
    #[inline(always)]
    fn tanh<S: Lanes<Elem = f32>>(x: Vector<S>) -> Vector<S> {
        let size = x.abs().at_most(10.0);
        let t = expm1_shortly(size + size);
        let inverse = Vector((t + 2.0).0.reciprocal());
        let q = t * inverse;
        let rest = (-q).fused(t, q.fused(Vector::of(-2.0), t));
        rest.mul_add(inverse, q).with_sign(x)
    }

    /// `1 − exp(log(1 − erf))`, whose logarithm is `−a − a P(a)` for `a = |x|`; beyond 4 nothing is left of it.
    #[inline(always)]
    fn erf<S: Lanes<Elem = f32>>(x: Vector<S>) -> Vector<S> {
        let a = x.abs().at_most(4.0);
        let p = polynomial!(a; 0.128379172003549, 0.636619371503481, 0.102777909756904, -0.0191533254381962,
            -0.000159951937037420, 0.00166661198959, -0.00063262168050416, 0.000117583722858097,
            -9.25009042778174e-6);
        (0.0 - expm1_shortly(-a.mul_add(p, a))).with_sign(x)
    }

    /// `exp2(y log2 |x|)` in float64, whose digits suffice for any exponent; then the sign, and the
    /// cases that C99 sets apart.
    #[inline(always)]
    fn pow<S: Lanes<Elem = f32>>(x: Vector<S>, y: Vector<S>) -> Vector<S> {
        let ([x0, x1], [y0, y1]) = (x.abs().0.to_double(), y.0.to_double());
        let size = Vector(S::of_double([power(Vector(x0), Vector(y0)).0, power(Vector(x1), Vector(y1)).0]));

        let (zero, one, infinity) = (Vector::of(0.0), Vector::of(1.0), Vector::of(f64::INFINITY));
        let whole = y.floor().eq(y);
        let odd = S::both(whole, (y * 0.5).floor().ne(y * 0.5));
        let power = Vector::select(odd, size.with_sign(x), size);
        let negative = S::both(x.lt(zero), (-infinity).lt(x));
        let power = Vector::select(S::both(negative, S::not(whole)), Vector::of(f64::NAN), power);
        // 1 to any power and any number to the power 0, NaN included, and ±1 to the power ±∞.
        let unit = S::both(x.abs().eq(one), y.abs().eq(infinity));
        Vector::select(S::either(S::either(x.eq(one), y.eq(zero)), unit), one, power)
    }

    #[inline(always)]
    fn asin_series<S: Lanes<Elem = f32>>(z: Vector<S>) -> Vector<S> {
        polynomial!(z; 0.166667526726, 0.0749528901002, 0.0454715672527, 0.0241731349781, 0.0421779415604)
    }

    #[inline(always)]
    fn atan_series<S: Lanes<Elem = f32>>(z: Vector<S>) -> Vector<S> {
        polynomial!(z; -0.333333151726, 0.199984704425, -0.142435115648, 0.105936427551, -0.0607776527743)
    }

    const HALF_PI_LOW: f64 = HALF_PI[1];
}

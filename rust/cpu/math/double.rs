//! The functions of float64, within 2 ulp. `erf` goes lane by lane.

use super::{Elementary, large, log_of_special, polynomial};
use crate::cpu::lanes::{Lanes, Vector};
use crate::ir::value::{Float, Number};
use std::f64::consts::{FRAC_2_PI, LN_2, LOG2_E, LOG10_E};

/// `log 2` and `log₁₀ 2` in two parts, the first with so few digits that its product with an exponent
/// is exact.
const LN_2_HIGH: f64 = 0.6931471803691238;
const LN_2_LOW: f64 = 1.9082149292705877e-10;
const LOG10_2_HIGH: f64 = 0.3010299955494702;
const LOG10_2_LOW: f64 = 1.1451100898021838e-10;

/// `π/2` in parts: the first two have 33 digits, so that products with quadrants up to 2²⁰ are exact.
const HALF_PI: [f64; 3] = [1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21];

/// Up to here the remainder of a division by π/2 is taken in vectors.
const LARGE_ANGLE: f64 = 1e6;

/// `(n, exp(r) − 1)` with `x = n log 2 + r` and `|r| ≤ ½ log 2`.
#[inline(always)]
fn exp_parts<S: Lanes<Elem = f64>>(x: Vector<S>) -> (Vector<S>, Vector<S>) {
    let n = (x * LOG2_E).round();
    let r = n.mul_add(Vector::of(-LN_2_HIGH), x);
    let r = n.mul_add(Vector::of(-LN_2_LOW), r);
    (n, exp_near_zero(r))
}

/// `exp(r) − 1 = r + r² Q(r)` for `|r| ≤ ½ log 2`.
#[inline(always)]
fn exp_near_zero<S: Lanes<Elem = f64>>(r: Vector<S>) -> Vector<S> {
    let q = polynomial!(r; 0.5000000000000000008579, 0.1666666666666667659654, 0.04166666666666650729938,
        0.008333333333321607463438, 0.001388888888896292307862, 0.0001984126988620771398073,
        0.00002480158717180182414547, 0.000002755724410446930857739, 2.755740297452233059629e-7,
        2.510908129666490455201e-8, 2.087531816637599233414e-9);
    (r * r).mul_add(q, r)
}

/// `exp(x) − 1`, as in `single`.
#[inline(always)]
fn expm1_parts<S: Lanes<Elem = f64>>(x: Vector<S>) -> Vector<S> {
    let (n, t) = exp_parts(x);
    let one_less = 1.0 - Vector((-n.at_most(64.0)).0.power_of_two());
    (t + one_less).scale(n)
}

/// `(e, f, g)` with `x = 2ᵉ (1 + f)` and `log(1 + f) = f − g`. With `s = f / (2 + f)` the logarithm is
/// `2 s + s R(s²)`, and `2 s = f − ½ f² + ½ s f²`.
#[inline(always)]
fn log_parts<S: Lanes<Elem = f64>>(x: Vector<S>) -> (Vector<S>, Vector<S>, Vector<S>) {
    let (m, e) = x.0.split();
    let f = Vector(m) - 1.0;
    let s = f / (f + 2.0);
    let z = s * s;
    let r = polynomial!(z; 0.666666666666665968569, 0.4000000000005630105837, 0.2857142855591969213921,
        0.222222242861169958452, 0.1818166649498401770688, 0.1539109177972557959123, 0.13173937156683720031,
        0.1384076085318004023185);
    let half_square = f * f * 0.5;
    (Vector(e), f, half_square - s * z.mul_add(r, half_square))
}

/// `(q, sin r, cos r)` with `x = q π/2 + r` and `|r| ≤ π/4`; q is in the low bits of its pattern. The
/// remainder is held in two numbers, `r = high + low`, since it may be tiny beside x.
#[inline(always)]
fn angle<S: Lanes<Elem = f64>>(x: Vector<S>) -> (Vector<S>, Vector<S>, Vector<S>) {
    let q = x * FRAC_2_PI + 6755399441055744.0;
    let n = q - 6755399441055744.0;
    let first = x - n * HALF_PI[0];
    let step = n * HALF_PI[1];
    let second = first - step;
    let rest = n * HALF_PI[2] - ((first - second) - step);
    let r = second - rest;
    let low = (second - r) - rest;
    let z = r * r;
    let half = z * 0.5;
    let s = polynomial!(z; -0.1666666666666666664021, 0.008333333333333322488955, -0.0001984126984125478005524,
        0.000002755731921405455460964, -2.505210487912181080424e-8, 1.605836281117785892483e-10,
        -7.578522473565990472895e-13);
    let c = polynomial!(z; 0.04166666666666666660896, -0.001388888888888887297059, 0.00002480158730157053178819,
        -2.755731921499092406653e-7, 2.087675428507411613181e-9, -1.147028461437353353246e-11,
        4.737740406510437687883e-14);
    let sin = r + (z * r).mul_add(s, low - low * half);
    let one = 1.0 - half;
    let cos = one + (((1.0 - one) - half) + (z * z).mul_add(c, -(r * low)));
    (q, sin, cos)
}

/// `sin(x + quarters π/2)`.
#[inline(always)]
fn sin_shifted<S: Lanes<Elem = f64>>(x: Vector<S>, quarters: u64) -> Vector<S> {
    let (q, sin, cos) = angle(x);
    let q = Vector(q.0.add_bits(Vector::<S>::of_bits(quarters).0));
    Vector::select(q.bit(0), cos, sin).flip_sign(Vector(q.0.shl(62)))
}

impl Elementary for f64 {
    #[inline(always)]
    fn exp<S: Lanes<Elem = f64>>(x: Vector<S>) -> Vector<S> {
        let (n, t) = exp_parts(x.clamp(-750.0, 715.0));
        (t + 1.0).scale(n)
    }

    #[inline(always)]
    fn exp2<S: Lanes<Elem = f64>>(x: Vector<S>) -> Vector<S> {
        let x = x.clamp(-1080.0, 1030.0);
        let n = x.round();
        (exp_near_zero((x - n) * LN_2) + 1.0).scale(n)
    }

    #[inline(always)]
    fn expm1<S: Lanes<Elem = f64>>(x: Vector<S>) -> Vector<S> {
        expm1_parts(x.clamp(-40.0, 715.0)).with_sign(x)
    }

    #[inline(always)]
    fn log<S: Lanes<Elem = f64>>(x: Vector<S>) -> Vector<S> {
        let (e, f, g) = log_parts(x);
        let low = e.mul_add(Vector::of(LN_2_LOW), -g);
        log_of_special(x, e.mul_add(Vector::of(LN_2_HIGH), f + low))
    }

    #[inline(always)]
    fn log2<S: Lanes<Elem = f64>>(x: Vector<S>) -> Vector<S> {
        let (e, f, g) = log_parts(x);
        log_of_special(x, (f - g).mul_add(Vector::of(LOG2_E), e))
    }

    #[inline(always)]
    fn log10<S: Lanes<Elem = f64>>(x: Vector<S>) -> Vector<S> {
        let (e, f, g) = log_parts(x);
        let low = (f - g).mul_add(Vector::of(LOG10_E), e * LOG10_2_LOW);
        log_of_special(x, e.mul_add(Vector::of(LOG10_2_HIGH), low))
    }

    /// As in `single`.
    #[inline(always)]
    fn log1p<S: Lanes<Elem = f64>>(x: Vector<S>) -> Vector<S> {
        let u = x + 1.0;
        let rounded = u - x;
        let lost = (x - (u - rounded)) + (1.0 - rounded);
        let (e, f, g) = log_parts(u);
        let low = e.mul_add(Vector::of(LN_2_LOW), -g) + lost / u;
        let log = e.mul_add(Vector::of(LN_2_HIGH), f + low);
        log_of_special(u, log).with_sign(x)
    }

    #[inline(always)]
    fn sin<S: Lanes<Elem = f64>>(x: Vector<S>) -> Vector<S> {
        let y = large(x, LARGE_ANGLE, sin_shifted(x, 0), f64::sin);
        Vector::select(x.eq(Vector::of(0.0)), x, y)
    }

    #[inline(always)]
    fn cos<S: Lanes<Elem = f64>>(x: Vector<S>) -> Vector<S> {
        large(x, LARGE_ANGLE, sin_shifted(x, 1), f64::cos)
    }

    #[inline(always)]
    fn tan<S: Lanes<Elem = f64>>(x: Vector<S>) -> Vector<S> {
        let (q, sin, cos) = angle(x);
        let odd = q.bit(0);
        let ratio = Vector::select(odd, -cos, sin) / Vector::select(odd, sin, cos);
        let y = large(x, LARGE_ANGLE, ratio, f64::tan);
        Vector::select(x.eq(Vector::of(0.0)), x, y)
    }

    /// `x + x³ P(x²)` near zero, `1 − 2 / (exp(2 |x|) + 1)` elsewhere.
    #[inline(always)]
    fn tanh<S: Lanes<Elem = f64>>(x: Vector<S>) -> Vector<S> {
        let size = x.abs();
        let z = x * x;
        let p = polynomial!(z; -0.3333333333333331208028, 0.1333333333332962587336, -0.05396825396599449298165,
            0.0218694884669540072352, -0.008863234284701695640529, 0.003592113723392917354351,
            -0.001455724157054255970604, 0.0005894441041424204697241, -0.0002369899929251799713617,
            0.00009151961364061246028837, -0.00003014756197292484975278, 0.000006024779723467568315496);
        let near = (size * z).mul_add(p, size);
        let far = 1.0 - 2.0 / ((size * 2.0).at_most(45.0).exp() + 1.0);
        Vector::select(size.lt(Vector::of(0.625)), near, far).with_sign(x)
    }

    #[inline(always)]
    fn erf<S: Lanes<Elem = f64>>(x: Vector<S>) -> Vector<S> {
        x.map(libm::erf)
    }
    #[inline(always)]
    fn pow<S: Lanes<Elem = f64>>(x: Vector<S>, y: Vector<S>) -> Vector<S> {
        Vector(x.0.map2(y.0, f64::powf))
    }

    #[inline(always)]
    fn asin_series<S: Lanes<Elem = f64>>(z: Vector<S>) -> Vector<S> {
        polynomial!(z; 0.1666666666666676099686, 0.07499999999970638568637, 0.04464285717477501095626,
            0.03038194269954439408038, 0.02237221523056409022566, 0.01735160746890061782364,
            0.01398087708259697310518, 0.01139843361432839278856, 0.01078302190191187413742,
            0.003695632702809716449946, 0.02173441453426255440361, -0.0210382583758273284104,
            0.03265376710027180836978)
    }

    #[inline(always)]
    fn atan_series<S: Lanes<Elem = f64>>(z: Vector<S>) -> Vector<S> {
        polynomial!(z; -0.3333333333333319593189, 0.1999999999995317189924, -0.1428571428015835242614,
            0.111111107817195189175, -0.09090897712113111535353, 0.07692059474126640952728,
            -0.0666309634082300824088, 0.05847837800645196430857, -0.05039091026248822474518,
            0.03805955222950146895345, -0.01790214220729462589468)
    }

    const HALF_PI_LOW: f64 = 6.123233995736766e-17;
}

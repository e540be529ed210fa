//! Functions without a vector form, one float64 at a time. Vectors of float32 use them too and round
//! the result.

use std::f64::consts::PI;

/// `⌊a / b⌋`. The quotient is made from the exact remainder, as Python's is, so that it is right where
/// `a / b` rounds up to the next integer.
pub fn floor_divide(a: f64, b: f64) -> f64 {
    if b == 0.0 {
        return a / b;
    }
    let rest = a % b;
    let mut quotient = (a - rest) / b;
    if rest != 0.0 && (rest < 0.0) != (b < 0.0) {
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return 0f64.copysign(a / b);
    }
    // `quotient` is an integer but for rounding.
    quotient.round()
}

/// `a − b ⌊a / b⌋`, with the sign of b.
pub fn remainder(a: f64, b: f64) -> f64 {
    let rest = a % b;
    if rest == 0.0 {
        return 0f64.copysign(b);
    }
    if (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
}

/// What is left of a after taking b away as often as it goes, with the sign of a.
pub fn fmod(a: f64, b: f64) -> f64 {
    a % b
}

/// The logarithm of |Γ(x)|.
pub fn lgamma(x: f64) -> f64 {
    libm::lgamma(x)
}

/// `ψ(x) = Γ'(x) / Γ(x)`: the asymptotic series beyond 10, the recurrence `ψ(x) = ψ(x + 1) − 1/x`
/// below, and the reflection `ψ(x) = ψ(1 − x) − π / tan(π x)` for negative x.
pub fn digamma(x: f64) -> f64 {
    if x == 0.0 {
        return f64::NEG_INFINITY.copysign(-x);
    }
    if x < 0.0 {
        if x == x.floor() {
            return f64::NAN;
        }
        // The tangent has period 1 here, and the fraction is exact.
        return digamma(1.0 - x) - PI / (PI * (x - x.trunc())).tan();
    }
    let (mut x, mut sum) = (x, 0.0);
    while x < 10.0 {
        sum -= 1.0 / x;
        x += 1.0;
    }
    let z = 1.0 / (x * x);
    // B₂ₖ / 2k
    let series =
        [1.0 / 12.0, -1.0 / 120.0, 1.0 / 252.0, -1.0 / 240.0, 1.0 / 132.0, -691.0 / 32760.0, 1.0 / 12.0];
    let tail = series.iter().rev().fold(0.0, |tail, c| (tail + c) * z);
    sum + x.ln() - 0.5 / x - tail
}

/// The inverse of erf: a first guess from an approximation of its logarithm (Winitzki, 2008), then
/// Halley's iteration `y ← y − f / (f' + y f)` with `f = erf(y) − x`; near the ends f is taken from the
/// complement, which keeps its digits there.
pub fn erfinv(x: f64) -> f64 {
    let size = x.abs();
    if size.is_nan() || size > 1.0 {
        return f64::NAN;
    }
    if size == 1.0 {
        return f64::INFINITY.copysign(x);
    }
    if size < 1e-9 {
        return x * (PI.sqrt() / 2.0);
    }
    let log = ((1.0 - size) * (1.0 + size)).ln();
    let a = 0.147;
    let b = 2.0 / (PI * a) + 0.5 * log;
    let mut y = ((b * b - log / a).sqrt() - b).sqrt();
    for _ in 0..3 {
        let f = if size < 0.5 { libm::erf(y) - size } else { (1.0 - size) - libm::erfc(y) };
        let slope = 2.0 / PI.sqrt() * (-y * y).exp();
        y -= f / (slope + y * f);
    }
    y.copysign(x)
}

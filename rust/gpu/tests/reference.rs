//! The elementwise table in float64 and in wide integers, written apart from the shaders.

use super::Number;
use crate::core::DType;
use crate::ir::Elementwise as E;

/// `op` on reals. Comparisons give 0 or 1.
pub fn float(op: E, x: &[f64]) -> f64 {
    let (a, b) = (x[0], x.get(1).copied().unwrap_or(0.0));
    let truth = |t: bool| t as u8 as f64;
    match op {
        E::neg => -a,
        E::abs => a.abs(),
        E::sign if a == 0.0 || a.is_nan() => a,
        E::sign => a.signum(),
        E::square => a * a,
        E::relu if a.is_nan() => a,
        E::relu => a.max(0.0),
        E::sqrt => a.sqrt(),
        E::rsqrt => 1.0 / a.sqrt(),
        E::reciprocal => 1.0 / a,
        E::exp => a.exp(),
        E::exp2 => a.exp2(),
        E::expm1 => a.exp_m1(),
        E::log => a.ln(),
        E::log2 => a.log2(),
        E::log10 => a.log10(),
        E::log1p => a.ln_1p(),
        E::sin => a.sin(),
        E::cos => a.cos(),
        E::tan => a.tan(),
        E::asin => a.asin(),
        E::acos => a.acos(),
        E::atan => a.atan(),
        E::sinh => a.sinh(),
        E::cosh => a.cosh(),
        E::tanh => a.tanh(),
        E::asinh => libm::asinh(a),
        E::acosh if a < 1.0 => f64::NAN,
        E::acosh => libm::acosh(a),
        E::atanh => libm::atanh(a),
        E::erf => libm::erf(a),
        E::erfc => libm::erfc(a),
        E::erfinv => erfinv(a),
        E::lgamma if a == f64::NEG_INFINITY || a <= 0.0 && a.floor() == a => f64::INFINITY,
        E::lgamma => libm::lgamma(a),
        E::digamma => digamma(a),
        E::sigmoid => 1.0 / (1.0 + (-a).exp()),
        E::logsigmoid => -float(E::softplus, &[-a]),
        E::softplus if a > 700.0 => a,
        E::softplus => a.exp().ln_1p(),
        E::silu if a == f64::NEG_INFINITY => f64::NAN,
        E::silu => a / (1.0 + (-a).exp()),
        E::gelu => 0.5 * a * (1.0 + libm::erf(a * std::f64::consts::FRAC_1_SQRT_2)),
        E::gelu_tanh => {
            0.5 * a * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (a + 0.044715 * a * a * a)).tanh())
        }
        E::floor => a.floor(),
        E::ceil => a.ceil(),
        E::trunc => a.trunc(),
        E::round => a.round_ties_even(),
        E::isnan => truth(a.is_nan()),
        E::isinf => truth(a.is_infinite()),
        E::isfinite => truth(a.is_finite()),
        E::signbit => truth(a.is_sign_negative()),
        E::add => a + b,
        E::sub => a - b,
        E::mul => a * b,
        E::div => a / b,
        E::maximum | E::minimum if a.is_nan() || b.is_nan() => f64::NAN,
        E::maximum => a.max(b),
        E::minimum => a.min(b),
        E::floor_divide if b == 0.0 => a / b,
        E::floor_divide => {
            let r = a % b;
            let q = ((a - r) / b).round();
            if r != 0.0 && (r < 0.0) != (b < 0.0) { q - 1.0 } else { q }
        }
        E::remainder => {
            let r = a % b;
            if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
        }
        E::fmod => a % b,
        E::pow => a.powf(b),
        E::atan2 => a.atan2(b),
        E::hypot => a.hypot(b),
        E::copysign => a.copysign(b),
        E::nextafter if a.is_nan() || b.is_nan() => f64::NAN,
        E::nextafter => {
            let (a, b) = (a as f32, b as f32);
            f64::from(if b > a {
                a.next_up()
            } else if b < a {
                a.next_down()
            } else {
                b
            })
        }
        E::logaddexp if a == b => a + std::f64::consts::LN_2,
        E::logaddexp if a.is_nan() || b.is_nan() => f64::NAN,
        E::logaddexp => a.max(b) + (-(a - b).abs()).exp().ln_1p(),
        E::xlogy if a == 0.0 && !b.is_nan() => 0.0,
        E::xlogy => a * b.ln(),
        E::eq => truth(a == b),
        E::ne => truth(a != b),
        E::lt => truth(a < b),
        E::le => truth(a <= b),
        E::gt => truth(a > b),
        E::ge => truth(a >= b),
        E::r#where => {
            if a != 0.0 {
                b
            } else {
                x[2]
            }
        }
        E::bitwise_not
        | E::bitwise_and
        | E::bitwise_or
        | E::bitwise_xor
        | E::bitwise_left_shift
        | E::bitwise_right_shift => unreachable!("{} takes no floats", op.name()),
    }
}

/// `op` on elements of an integer dtype or bool, before wrapping; `None` where the table has no such row.
pub fn int(op: E, dtype: DType, x: &[i128]) -> Option<i128> {
    let (a, b) = (x[0], x.get(1).copied().unwrap_or(0));
    let bits = 8 * dtype.size() as i128;
    let floor =
        |a: i128, b: i128| if b == 0 { 0 } else { a.div_euclid(b) - (b < 0 && a.rem_euclid(b) != 0) as i128 };
    Some(match op {
        E::neg => -a,
        E::abs => a.abs(),
        E::sign => a.signum(),
        E::square => a.wrapping_mul(a),
        E::relu => a.max(0),
        E::add => a + b,
        E::sub => a - b,
        E::mul => a.wrapping_mul(b),
        E::maximum => a.max(b),
        E::minimum => a.min(b),
        E::floor_divide => floor(a, b),
        E::remainder if b == 0 => 0,
        E::remainder => a - b * floor(a, b),
        E::fmod if b == 0 => 0,
        E::fmod => a % b,
        E::pow if b < 0 => match a {
            1 => 1,
            -1 => {
                if b % 2 == 0 {
                    1
                } else {
                    -1
                }
            }
            _ => 0,
        },
        E::pow => {
            let (mut power, mut base, mut left) = (1i128, a, b);
            while left > 0 {
                if left & 1 == 1 {
                    power = power.wrapping_mul(base);
                }
                base = base.wrapping_mul(base);
                left >>= 1;
            }
            power
        }
        E::eq => (a == b) as i128,
        E::ne => (a != b) as i128,
        E::lt => (a < b) as i128,
        E::le => (a <= b) as i128,
        E::gt => (a > b) as i128,
        E::ge => (a >= b) as i128,
        E::bitwise_and => a & b,
        E::bitwise_or => a | b,
        E::bitwise_xor => a ^ b,
        E::bitwise_not if dtype == DType::Bool => 1 - a,
        E::bitwise_not => !a,
        E::bitwise_left_shift | E::bitwise_right_shift if dtype == DType::Bool => return None,
        E::bitwise_left_shift => {
            if (0..bits).contains(&b) {
                a << b
            } else {
                0
            }
        }
        E::bitwise_right_shift => {
            if (0..bits).contains(&b) {
                a >> b
            } else {
                -((a < 0) as i128)
            }
        }
        E::r#where => {
            if a != 0 {
                b
            } else {
                x[2]
            }
        }
        _ => return None,
    })
}

/// An element of an integer dtype that a wide integer wraps to.
pub fn wrap(dtype: DType, x: i128) -> Number {
    super::decode(dtype, &super::encode(dtype, &[Number::Int(x)]))[0]
}

/// By Newton's method on `erf`, or on `erfc` where that resolves more.
fn erfinv(y: f64) -> f64 {
    if y.is_nan() || y.abs() > 1.0 {
        return f64::NAN;
    }
    if y.abs() == 1.0 {
        return y * f64::INFINITY;
    }
    let (mut low, mut high) = (0.0, 7.0);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if libm::erfc(middle) > 1.0 - y.abs() { low = middle } else { high = middle }
    }
    let x = 0.5 * (low + high);
    // Near 0 the complement loses what erf resolves.
    let x = if y.abs() < 0.1 {
        x - (libm::erf(x) - y.abs()) / (std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp())
    } else {
        x
    };
    x.copysign(y)
}

fn digamma(x: f64) -> f64 {
    if x == 0.0 {
        return f64::INFINITY.copysign(-x);
    }
    if x.is_nan() || x < 0.0 && (x.floor() == x || x.is_infinite()) {
        return f64::NAN;
    }
    if x < 0.0 {
        return digamma(1.0 - x) - std::f64::consts::PI / (std::f64::consts::PI * (x - x.round())).tan();
    }
    let (mut y, mut shift) = (x, 0.0);
    while y < 15.0 {
        shift -= 1.0 / y;
        y += 1.0;
    }
    let z = 1.0 / (y * y);
    let series = z * (1.0 / 12.0 - z * (1.0 / 120.0 - z * (1.0 / 252.0 - z * (1.0 / 240.0 - z / 132.0))));
    shift + y.ln() - 0.5 / y - series
}

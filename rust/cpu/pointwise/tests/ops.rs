//! Every operation on every dtype that it takes, on every instruction set, against a reference in
//! float64 or in 128-bit integers.

use super::{Array, run, single};
use crate::core::{DType, Shape};
use crate::cpu::isa::Isa;
use crate::ir::elementwise::Class;
use crate::ir::{Elementwise, Elementwise as E};

pub const NAN: f64 = f64::NAN;
pub const INF: f64 = f64::INFINITY;

const FLOATS: [f64; 37] = [
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 2.0, 2.5, -2.5, 3.0, -3.0, 0.1, -0.1, 0.3, 7.0, -7.25, 10.0,
    -10.0, 0.999, 1e-3, 88.0, -88.0, 120.5, -120.5, 1e-7, 6e-8, 1e4, 65504.0, 1e-40, 3.4e38, -3.4e38, 1e308,
    INF, -INF, NAN,
];

/// The operation on reals. A new row of the table needs a line here.
fn real(op: Elementwise, a: f64, b: f64, c: f64) -> f64 {
    let truth = |t: bool| t as u8 as f64;
    let log1p_exp = |x: f64| if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() };
    match op {
        E::neg => -a,
        E::abs => a.abs(),
        E::sign => {
            if a == 0.0 || a.is_nan() {
                a + 0.0
            } else {
                a.signum()
            }
        }
        E::square => a * a,
        E::relu => {
            if a.is_nan() {
                a
            } else {
                a.max(0.0)
            }
        }
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
        E::acosh => {
            if a < 1.0 {
                NAN
            } else {
                libm::acosh(a)
            }
        }
        E::atanh => libm::atanh(a),
        E::erf => libm::erf(a),
        E::erfc => libm::erfc(a),
        // Its own test is in `math`.
        E::erfinv => crate::cpu::math::scalar::erfinv(a),
        E::lgamma => libm::lgamma(a),
        E::digamma => crate::cpu::math::scalar::digamma(a),
        E::sigmoid => 1.0 / (1.0 + (-a).exp()),
        E::logsigmoid => -log1p_exp(-a),
        E::softplus => log1p_exp(a),
        E::silu => a / (1.0 + (-a).exp()),
        E::gelu => a * 0.5 * libm::erfc(-a * 0.5f64.sqrt()),
        E::gelu_tanh => {
            a * 0.5 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (a + 0.044715 * a * a * a)).tanh())
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
        E::maximum => {
            if a.is_nan() || b.is_nan() {
                NAN
            } else {
                a.max(b)
            }
        }
        E::minimum => {
            if a.is_nan() || b.is_nan() {
                NAN
            } else {
                a.min(b)
            }
        }
        E::floor_divide => {
            if b == 0.0 || a.is_infinite() || b.is_infinite() {
                // Special values are spelled out in a test of their own.
                crate::cpu::math::scalar::floor_divide(a, b)
            } else {
                ((a - real(E::remainder, a, b, c)) / b).round()
            }
        }
        E::remainder => {
            if b.is_infinite() && a.is_finite() {
                if a == 0.0 {
                    0f64.copysign(b)
                } else if (a < 0.0) == (b < 0.0) {
                    a
                } else {
                    b
                }
            } else {
                // The Euclidean remainder is that of |b|.
                let r = a.rem_euclid(b);
                let r = if b < 0.0 && r > 0.0 { (a % b) + if a > 0.0 { b } else { 0.0 } } else { r };
                if r == 0.0 { 0f64.copysign(b) } else { r }
            }
        }
        E::fmod => libm::fmod(a, b),
        E::pow => libm::pow(a, b),
        E::atan2 => a.atan2(b),
        E::hypot => a.hypot(b),
        E::copysign => a.copysign(b),
        E::nextafter => unreachable!("its steps are those of the dtype"),
        E::logaddexp => {
            let (high, low) = (real(E::maximum, a, b, c), real(E::minimum, a, b, c));
            if high == low { high + std::f64::consts::LN_2 } else { high + (low - high).exp().ln_1p() }
        }
        E::xlogy => {
            if a == 0.0 && !b.is_nan() {
                0.0
            } else {
                a * b.ln()
            }
        }
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
                c
            }
        }
        E::bitwise_not
        | E::bitwise_and
        | E::bitwise_or
        | E::bitwise_xor
        | E::bitwise_left_shift
        | E::bitwise_right_shift => unreachable!("floats have no bits here"),
    }
}

/// The operation on integers of `bits` bits, before wrapping.
fn whole(op: Elementwise, a: i128, b: i128, c: i128, bits: u32) -> i128 {
    let truth = |t: bool| t as i128;
    match op {
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
        E::floor_divide => {
            if b == 0 {
                0
            } else {
                a.div_euclid(b) - truth(b < 0 && a.rem_euclid(b) != 0)
            }
        }
        E::remainder => {
            if b == 0 {
                0
            } else {
                ((a % b) + b) % b
            }
        }
        E::fmod => {
            if b == 0 {
                0
            } else {
                a % b
            }
        }
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
        E::pow if b == 0 => 1,
        E::pow => {
            let root = wrap(whole(op, a, b / 2, 0, bits), bits);
            wrap(root.wrapping_mul(root), bits).wrapping_mul(if b % 2 == 1 { a } else { 1 })
        }
        E::eq => truth(a == b),
        E::ne => truth(a != b),
        E::lt => truth(a < b),
        E::le => truth(a <= b),
        E::gt => truth(a > b),
        E::ge => truth(a >= b),
        E::bitwise_not => !a,
        E::bitwise_and => a & b,
        E::bitwise_or => a | b,
        E::bitwise_xor => a ^ b,
        E::bitwise_left_shift => {
            if (0..bits as i128).contains(&b) {
                a << b
            } else {
                0
            }
        }
        E::bitwise_right_shift => {
            if (0..bits as i128).contains(&b) {
                a >> b
            } else {
                a >> 127
            }
        }
        E::r#where => {
            if a != 0 {
                b
            } else {
                c
            }
        }
        _ => unreachable!("floats only"),
    }
}

pub fn wrap(x: i128, bits: u32) -> i128 {
    x & ((1 << bits) - 1)
}

/// All tuples of the values, as one column for each argument, and the length.
fn tuples(dtypes: &[DType], values: &[f64]) -> (Vec<Array>, usize) {
    let len = values.len().pow(dtypes.len() as u32);
    let column = |(i, &dtype): (usize, &DType)| {
        let step = values.len().pow(i as u32);
        let picked: Vec<f64> = (0..len).map(|n| values[n / step % values.len()]).collect();
        Array::of(dtype, &picked)
    };
    (dtypes.iter().enumerate().map(column).collect(), len)
}

/// A unit in the last place at x.
pub fn ulp(dtype: DType, x: f64) -> f64 {
    let (fraction, least) = match dtype {
        DType::F16 => (10, 2f64.powi(-14)),
        DType::BF16 => (7, f32::MIN_POSITIVE as f64),
        DType::F32 => (23, f32::MIN_POSITIVE as f64),
        _ => (52, f64::MIN_POSITIVE),
    };
    x.abs().max(least).log2().floor().exp2() * 2f64.powi(-fraction)
}

/// What a body of several roundings may be off by: in units at the result, and at its largest argument
/// where terms cancel.
fn slack(op: Elementwise) -> (f64, f64) {
    match op {
        E::gelu | E::gelu_tanh | E::logaddexp | E::digamma | E::lgamma => (8.0, 2.0),
        E::tan | E::log2 | E::log10 => (4.0, 0.0),
        E::sigmoid | E::silu | E::softplus | E::logsigmoid | E::xlogy => (4.0, 0.0),
        E::floor_divide | E::remainder => (1.0, 0.0),
        _ => (2.5, 0.0),
    }
}

/// Whose zeros have the sign that falls out.
fn unsigned_zero(op: Elementwise) -> bool {
    matches!(op, E::maximum | E::minimum | E::relu | E::logsigmoid | E::gelu | E::gelu_tanh | E::floor_divide)
}

#[test]
fn floats() {
    for &op in E::ALL {
        let bits = matches!(op.class(), Class::Bits);
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            if bits || op == E::nextafter {
                continue;
            }
            let program = single(op, dtype);
            let (columns, len) = tuples(&program.inputs, &FLOATS);
            let columns: Vec<&Array> = columns.iter().collect();
            for isa in Isa::supported() {
                let y = &run(&program, &[], &columns, &Shape::new(&[len]), isa)[0];
                for i in 0..len {
                    let x: Vec<f64> = (0..3).map(|n| columns.get(n).map_or(0.0, |c| c.get(i))).collect();
                    let want = real(op, x[0], x[1], x[2]);
                    let got = y.get(i);
                    let wrong =
                        || format!("{}({x:?}) = {got:e}, not {want:e}, in {dtype} on {isa:?}", op.name());
                    if y.dtype == DType::Bool {
                        assert!(got == want, "{}", wrong());
                        continue;
                    }
                    if op == E::erfinv && x[0].abs() < 1.0 && x[0].abs() > 0.99 {
                        continue;
                    }
                    let (units, cancelled) = slack(op);
                    let most = x.iter().fold(0f64, |m, x| m.max(x.abs())).min(1e300);
                    // The largest number that is not infinite may be passed by as much as it is off.
                    let rounded = Array::of(dtype, &[want]).get(0);
                    if rounded.is_nan() || got.is_nan() {
                        // In float16 and float32 an intermediate result may overflow where float64 goes on.
                        assert!(rounded.is_nan() == got.is_nan(), "{}", wrong());
                    } else if rounded != got {
                        let off = (got - want).abs();
                        let allowed = units * ulp(dtype, want) + cancelled * ulp(dtype, most);
                        let edge = Array::of(dtype, &[want * (1.0 + 1e-6)]).get(0).is_infinite()
                            || (matches!(op, E::sigmoid | E::silu) && x[0] < -88.0);
                        assert!(off <= allowed || edge, "{}", wrong());
                    } else if got == 0.0 && want == 0.0 && !unsigned_zero(op) {
                        assert!(got.is_sign_negative() == rounded.is_sign_negative(), "{}", wrong());
                    }
                }
            }
        }
    }
}

#[test]
fn integers_and_bool() {
    let most = |bits: u32| ((1u128 << (bits - 1)) as f64, (1u128 << bits) as f64);
    for &op in E::ALL {
        if matches!(op.class(), Class::Float | Class::Test) {
            continue;
        }
        for &dtype in DType::ALL {
            if dtype.is_float() || (op.class() == Class::Number && dtype == DType::Bool) {
                continue;
            }
            let bits = 8 * dtype.size() as u32;
            let (half, full) = most(bits);
            let values = [
                0.0,
                1.0,
                2.0,
                3.0,
                7.0,
                8.0,
                31.0,
                63.0,
                64.0,
                100.0,
                -1.0,
                -2.0,
                -3.0,
                -7.0,
                -8.0,
                half - 1.0,
                -half,
                full - 1.0,
            ];
            let program = single(op, dtype);
            let (columns, len) = tuples(&program.inputs, &values);
            let columns: Vec<&Array> = columns.iter().collect();
            for isa in Isa::supported() {
                let y = &run(&program, &[], &columns, &Shape::new(&[len]), isa)[0];
                for i in 0..len {
                    let x: Vec<i128> = (0..3).map(|n| columns.get(n).map_or(0, |c| c.int(i))).collect();
                    let logical = if dtype == DType::Bool { 1 } else { 8 * y.dtype.size() as u32 };
                    let want = wrap(
                        whole(op, x[0], x[1], x[2], if dtype == DType::Bool { 1 } else { bits }),
                        logical,
                    );
                    let got = wrap(y.int(i), 8 * y.dtype.size() as u32);
                    assert_eq!(got, want, "{}({x:?}) in {dtype} on {isa:?}", op.name());
                }
            }
        }
    }
}

#[test]
fn steps_to_the_next_number() {
    let cases = [
        (1.0f32, 2.0f32, 1.0 + f32::EPSILON),
        (1.0, 0.0, 1.0 - f32::EPSILON / 2.0),
        (-1.0, -2.0, -1.0 - f32::EPSILON),
        (-1.0, 5.0, -1.0 + f32::EPSILON / 2.0),
        (0.0, 1.0, 1e-45),
        (-0.0, 1.0, 1e-45),
        (0.0, -1.0, -1e-45),
        (1e-45, -1.0, 0.0),
        (f32::MAX, f32::INFINITY, f32::INFINITY),
        (f32::INFINITY, 0.0, f32::MAX),
        (f32::NEG_INFINITY, 0.0, f32::MIN),
        (3.0, 3.0, 3.0),
        (0.0, -0.0, -0.0),
        (f32::NAN, 1.0, f32::NAN),
        (1.0, f32::NAN, f32::NAN),
    ];
    let column = |f: fn(&(f32, f32, f32)) -> f32| {
        Array::of(DType::F32, &cases.iter().map(|c| f(c) as f64).collect::<Vec<_>>())
    };
    let (a, b) = (column(|c| c.0), column(|c| c.1));
    for isa in Isa::supported() {
        let y = &run(&single(E::nextafter, DType::F32), &[], &[&a, &b], &[cases.len()].into(), isa)[0];
        for (i, &(a, b, want)) in cases.iter().enumerate() {
            let got = y.get(i) as f32;
            assert!(
                got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
                "{a} {b}: {got} on {isa:?}"
            );
        }
    }
}

#[test]
fn steps_to_the_next_half_float() {
    let cases = [
        (1.0, 2.0, 1.0 + 2f64.powi(-10), 1.0 + 2f64.powi(-7)),
        (1.0, 0.0, 1.0 - 2f64.powi(-11), 1.0 - 2f64.powi(-8)),
        (-1.0, -2.0, -1.0 - 2f64.powi(-10), -1.0 - 2f64.powi(-7)),
        (0.0, 1.0, 2f64.powi(-24), 2f64.powi(-133)),
        (-0.0, -1.0, -2f64.powi(-24), -2f64.powi(-133)),
        (INF, 0.0, 65504.0, 255.0 * 2f64.powi(120)),
        (3.0, 3.0, 3.0, 3.0),
        (0.0, -0.0, -0.0, -0.0),
        (NAN, 1.0, NAN, NAN),
        (1.0, NAN, NAN, NAN),
    ];
    for (dtype, n) in [(DType::F16, 2), (DType::BF16, 3)] {
        let column = |i: usize| {
            let numbers: Vec<f64> = cases.iter().map(|c| [c.0, c.1, c.2, c.3][i]).collect();
            Array::of(dtype, &numbers)
        };
        let (a, b, want) = (column(0), column(1), column(n));
        for isa in Isa::supported() {
            let y = &run(&single(E::nextafter, dtype), &[], &[&a, &b], &[cases.len()].into(), isa)[0];
            for i in 0..cases.len() {
                let (got, want) = (y.get(i), want.get(i));
                assert!(
                    got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
                    "{:?} in {dtype}: {got} on {isa:?}",
                    cases[i]
                );
            }
        }
    }
}

#[test]
fn floor_division_of_special_values_is_pythons() {
    // a, b, a // b, a % b
    let cases = [
        (7.0, 2.0, 3.0, 1.0),
        (-7.0, 2.0, -4.0, 1.0),
        (7.0, -2.0, -4.0, -1.0),
        (-7.0, -2.0, 3.0, -1.0),
        (6.0, -2.0, -3.0, -0.0),
        (-6.0, 2.0, -3.0, 0.0),
        (1.0, INF, 0.0, 1.0),
        (-1.0, INF, -1.0, INF),
        (1.0, -INF, -1.0, -INF),
        (-1.0, -INF, 0.0, -1.0),
        (1.0, 0.0, INF, NAN),
        (-1.0, 0.0, -INF, NAN),
        (0.0, 0.0, NAN, NAN),
        (INF, 2.0, NAN, NAN),
        (NAN, 2.0, NAN, NAN),
        (1.0, 0.1, 9.0, 1.0 - 9.0 * 0.1f64),
        (0.0, 3.0, 0.0, 0.0),
        (-0.0, 3.0, -0.0, 0.0),
    ];
    let column =
        |f: fn(&(f64, f64, f64, f64)) -> f64| Array::of(DType::F64, &cases.iter().map(f).collect::<Vec<_>>());
    let (a, b) = (column(|c| c.0), column(|c| c.1));
    for isa in Isa::supported() {
        for (op, want) in [(E::floor_divide, column(|c| c.2)), (E::remainder, column(|c| c.3))] {
            let y = &run(&single(op, DType::F64), &[], &[&a, &b], &[cases.len()].into(), isa)[0];
            for (i, case) in cases.iter().enumerate() {
                let (got, want) = (y.get(i), want.get(i));
                let same = got.is_nan() && want.is_nan()
                    || (got - want).abs() < 1e-15 && got.is_sign_negative() == want.is_sign_negative()
                    || got == want && got.is_infinite();
                assert!(same, "{} of {case:?}: {got} on {isa:?}", op.name());
            }
        }
    }
}

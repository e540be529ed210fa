//! Every cast, on every instruction set, and the half floats that results are rounded to.

use super::ops::{INF, NAN, ulp, wrap};
use super::{Array, cast, run};
use crate::core::DType;
use crate::cpu::isa::Isa;

#[test]
fn casts() {
    let numbers = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        1.9,
        -1.9,
        2.5,
        127.0,
        128.0,
        255.0,
        256.0,
        -129.0,
        300.7,
        32768.0,
        65504.0,
        65519.0,
        65520.0,
        65536.0,
        1e-5,
        6e-8,
        2.9e-8,
        3e-8,
        2147483647.0,
        2147483648.0,
        -2147483649.0,
        4294967296.0,
        1e10,
        -1e10,
        1e19,
        -1e19,
        1e38,
        3.5e38,
        1e300,
        INF,
        -INF,
        NAN,
        1.0 + 1.0 / 2048.0,
        1.0 + 1.0 / 2048.0 + 1e-12,
        1.00390625,
        16777217.0,
    ];
    for &from in DType::ALL {
        let x = Array::of(from, &numbers);
        for &to in DType::ALL {
            for isa in Isa::supported() {
                let y = &run(&cast(from, to), &[], &[&x], &[numbers.len()].into(), isa)[0];
                for i in 0..numbers.len() {
                    let (have, got) = (x.get(i), y.get(i));
                    let wrong = || format!("{have:e} from {from} to {to} on {isa:?}: {got:e}");
                    match to {
                        _ if from == to => assert!(x.bits(i) == y.bits(i), "{}", wrong()),
                        DType::Bool => assert_eq!(got, (have != 0.0) as u8 as f64, "{}", wrong()),
                        _ if to.is_int() && !from.is_float() => {
                            let bits = 8 * to.size() as u32;
                            assert_eq!(wrap(y.int(i), bits), wrap(x.int(i), bits), "{}", wrong());
                        }
                        _ if to.is_int() => {
                            let (least, most) = bounds(to);
                            // Rust's own conversion truncates, saturates and takes NaN to 0.
                            assert_eq!(y.int(i), (have as i128).clamp(least, most), "{}", wrong());
                        }
                        DType::F32 => assert!(
                            got.to_bits() == (have as f32 as f64).to_bits() || have.is_nan() && got.is_nan(),
                            "{}",
                            wrong()
                        ),
                        DType::F64 => assert!(
                            got.to_bits() == have.to_bits() || have.is_nan() && got.is_nan(),
                            "{}",
                            wrong()
                        ),
                        _ => assert!(is_nearest(to, have, got), "{}", wrong()),
                    }
                }
            }
        }
    }
}

fn bounds(dtype: DType) -> (i128, i128) {
    let bits = 8 * dtype.size() as u32;
    match dtype.kind() {
        crate::core::dtype::Kind::Signed => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        _ => (0, (1 << bits) - 1),
    }
}

/// Whether `got` is the half float nearest to `x`, the even one of two.
fn is_nearest(dtype: DType, x: f64, got: f64) -> bool {
    if x.is_nan() || x.is_infinite() || x == 0.0 {
        return x.is_nan() && got.is_nan() || got.to_bits() == x.to_bits();
    }
    let unit = ulp(dtype, x);
    // Numbers up to half a unit beyond the largest still round to it.
    let largest = if dtype == DType::F16 { 65504.0 } else { half::bf16::MAX.to_f64() };
    let rounded = (x / unit).round_ties_even() * unit;
    let want = if rounded.abs() > largest { INF.copysign(x) } else { rounded };
    got == want
}

#[test]
fn half_floats_convert_like_the_half_crate() {
    for isa in Isa::supported() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let bytes: Vec<u8> = all.iter().flat_map(|h| h.to_le_bytes()).collect();
        let layout = crate::core::Layout::contiguous([all.len()].into());
        for (dtype, convert) in [
            (DType::F16, (|b| half::f16::from_bits(b).to_f32()) as fn(u16) -> f32),
            (DType::BF16, |b| half::bf16::from_bits(b).to_f32()),
        ] {
            let x = Array { bytes: bytes.clone(), dtype, layout: layout.clone() };
            let wide = &run(&cast(dtype, DType::F32), &[], &[&x], &[all.len()].into(), isa)[0];
            let back = &run(&cast(DType::F32, dtype), &[], &[wide], &[all.len()].into(), isa)[0];
            for &h in &all {
                let (want, got) = (convert(h), wide.get(h as usize) as f32);
                assert!(want.to_bits() == got.to_bits() || want.is_nan() && got.is_nan(), "{h:x} on {isa:?}");
                assert!(
                    back.bits(h as usize) == h as u64 || want.is_nan() && back.get(h as usize).is_nan(),
                    "{h:x} on {isa:?}"
                );
            }
        }
    }
}

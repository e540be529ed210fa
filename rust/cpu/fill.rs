//! Results that come from no operand: one value everywhere, and arithmetic sequences.

use super::stored::StoredFloat;
use super::threads::parallel;
use super::view::Out;
use super::work::{GRAIN, Shared};
use crate::core::{DType, Result, Scalar};
use crate::{for_dtype, for_width};
use half::{bf16, f16};

/// One value everywhere.
pub fn fill(value: Scalar, out: &Out) -> Result<()> {
    // The bits of the value in `out`'s dtype, in the low bytes.
    let bits = if out.dtype == DType::Bool {
        (value.as_f64() != 0.0) as u64
    } else {
        for_dtype!(out.dtype, T => {
            let x = T::convert(value);
            let mut bits = 0u64;
            // SAFETY: elements are at most eight bytes of plain data, and this one is stored in the low ones.
            unsafe { (&raw mut bits).cast::<T>().write(x) };
            u64::from_le(bits)
        })
    };
    for_width!(out.dtype, T => parts(out, |_, part: &mut [T]| part.fill(bits as T)));
    Ok(())
}

/// `start + i·step`: in wrapping int64 if both are integers, else in float64; then converted.
pub fn arange(start: Scalar, step: Scalar, out: &Out) -> Result<()> {
    let whole = !matches!(start, Scalar::Float(_)) && !matches!(step, Scalar::Float(_));
    for_dtype!(out.dtype, T => parts(out, |first, part: &mut [T]| {
        for (i, x) in part.iter_mut().enumerate() {
            let i = first + i;
            let value = if whole {
                Scalar::Int(start.as_i64().wrapping_add(step.as_i64().wrapping_mul(i as i64)))
            } else {
                Scalar::Float(start.as_f64() + step.as_f64() * i as f64)
            };
            *x = if out.dtype == DType::Bool { T::convert(Scalar::Bool(value.as_f64() != 0.0)) } else { T::convert(value) };
        }
    }));
    Ok(())
}

/// Calls `f(first, part)` for parts of the result, on all threads.
fn parts<T: Send>(out: &Out, f: impl Fn(usize, &mut [T]) + Sync) {
    let (count, to) = (out.shape.count(), Shared::new(out.ptr.cast::<T>()));
    parallel(count.div_ceil(GRAIN), |chunk| {
        let first = chunk * GRAIN;
        // SAFETY: the result has `count` elements, and chunks do not overlap.
        f(first, unsafe { to.slice(first, GRAIN.min(count - first)) });
    });
}

/// Numbers that a scalar becomes: integers wrap, floats to integers truncate and saturate.
trait Convert {
    fn convert(x: Scalar) -> Self;
}

macro_rules! integers {
    ($($T:ty)*) => {$(impl Convert for $T {
        fn convert(x: Scalar) -> $T {
            match x {
                Scalar::Float(x) => x as $T,
                other => other.as_i64() as $T,
            }
        }
    })*};
}

integers!(u8 u16 u32 u64 i8 i16 i32 i64);

macro_rules! floats {
    ($($T:ty)*) => {$(impl Convert for $T {
        fn convert(x: Scalar) -> $T {
            <$T as StoredFloat>::nearest(x.as_f64())
        }
    })*};
}

floats!(f16 bf16 f32 f64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::reference::{Data, arange as expected, on_all_threads};

    fn run(dtype: DType, shape: &[usize], f: impl Fn(&Out) -> Result<()>) -> Vec<f64> {
        on_all_threads(|| {
            let mut y = Data::new(dtype, shape, |_| 77.0);
            f(&y.out()).unwrap();
            vec![y]
        })[0]
            .list()
    }

    #[test]
    fn one_value_everywhere() {
        for &dtype in DType::ALL {
            for shape in [&[][..], &[0], &[3, 5], &[70_003]] {
                for value in [Scalar::Int(1), Scalar::Bool(true), Scalar::Float(1.0), Scalar::Uint(1)] {
                    assert!(run(dtype, shape, |out| fill(value, out)).iter().all(|&x| x == 1.0));
                }
            }
        }
        assert_eq!(run(DType::Bool, &[2], |out| fill(Scalar::Float(0.25), out)), [1.0, 1.0]);
        assert_eq!(run(DType::Bool, &[1], |out| fill(Scalar::Int(256), out)), [1.0]);
        assert_eq!(run(DType::I8, &[1], |out| fill(Scalar::Int(200), out)), [-56.0]);
        assert_eq!(run(DType::U8, &[1], |out| fill(Scalar::Float(-3.7), out)), [0.0]);
        assert_eq!(run(DType::I32, &[1], |out| fill(Scalar::Float(-3.7), out)), [-3.0]);
        assert_eq!(run(DType::F16, &[1], |out| fill(Scalar::Float(1.0 / 3.0), out)), [0.333251953125]);
        assert_eq!(run(DType::U64, &[1], |out| fill(Scalar::Uint(u64::MAX), out)), [u64::MAX as f64]);
        assert!(run(DType::F64, &[1], |out| fill(Scalar::Float(f64::NAN), out))[0].is_nan());
    }

    #[test]
    fn sequences() {
        for dtype in [DType::U8, DType::I16, DType::I64, DType::F16, DType::BF16, DType::F32, DType::F64] {
            for (start, step) in [(Scalar::Int(3), Scalar::Int(2)), (Scalar::Float(1.0), Scalar::Float(0.5))]
            {
                let want = Data::new(dtype, &[100], |i| expected(start, step, 100)[i]).list();
                assert_eq!(run(dtype, &[100], |out| arange(start, step, out)), want);
            }
        }
        let (start, step) = (Scalar::Float(-0.1), Scalar::Float(1e-3));
        assert_eq!(run(DType::F64, &[70_001], |out| arange(start, step, out)), expected(start, step, 70_001));
        let down = run(DType::I64, &[3], |out| arange(Scalar::Int(1), Scalar::Int(-1), out));
        assert_eq!(down, [1.0, 0.0, -1.0]);
        let wide = run(DType::I64, &[2], |out| arange(Scalar::Int(1 << 60), Scalar::Int(1 << 62), out));
        assert_eq!(wide, [(1i64 << 60) as f64, ((1i64 << 60) + (1 << 62)) as f64]);
        assert_eq!(
            run(DType::Bool, &[3], |out| arange(Scalar::Int(0), Scalar::Int(1), out)),
            [0.0, 1.0, 1.0]
        );
        let mixed = run(DType::I32, &[3], |out| arange(Scalar::Int(0), Scalar::Float(0.5), out));
        assert_eq!(mixed, [0.0, 0.0, 1.0]);
    }
}

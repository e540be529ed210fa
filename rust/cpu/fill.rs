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

//! Truth values made of several operations: the logical connectives on any dtype, and nearness.

use super::{cast, elementwise};
use crate::core::{DType, Result};
use crate::graph::{Device, Tensor};
use crate::ir::Elementwise as E;
use elementwise::{Arg, binary, unary};

/// Whether elements are 0.
pub fn logical_not(x: &Tensor) -> Result<Tensor> {
    unary(E::bitwise_not, &cast::cast(x, DType::Bool)?)
}

/// `op` (a bitwise one) of what is not 0.
pub fn logical(op: E, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    binary(op, &cast::cast(a, DType::Bool)?, &cast::cast(b, DType::Bool)?)
}

/// Whether `|a − b| ≤ atol + rtol |b|`, or both are the same infinity, or both are NaN where those count as
/// equal. Not differentiable.
pub fn isclose(a: &Tensor, b: &Arg, rtol: f64, atol: f64, equal_nan: bool) -> Result<Tensor> {
    let dtype = match elementwise::common_dtype(&[Arg::Tensor(a.clone()), b.clone()])? {
        float if float.is_float() => float.compute(),
        _ if a.device() == Device::Cpu => DType::F64,
        _ => DType::F32,
    };
    let a = cast::cast(&a.detach(), dtype)?;
    let b = match b {
        Arg::Tensor(b) => cast::cast(&b.detach(), dtype)?,
        Arg::Scalar(x) => super::create::full(&Default::default(), *x, dtype, a.device())?,
    };
    let size = unary(E::abs, &b)?;
    let gap = unary(E::abs, &binary(E::sub, &a, &b)?)?;
    let near = binary(E::le, &gap, &binary(E::add, &binary(E::mul, &size, rtol)?, atol)?)?;
    let near = binary(E::bitwise_and, &near, &unary(E::isfinite, &b)?)?;
    let mut close = binary(E::bitwise_or, &near, &binary(E::eq, &a, &b)?)?;
    if equal_nan {
        let both = binary(E::bitwise_and, &unary(E::isnan, &a)?, &unary(E::isnan, &b)?)?;
        close = binary(E::bitwise_or, &close, &both)?;
    }
    Ok(close)
}

//! Tensors from nothing: constants and ranges.

use super::{cast, elementwise, source, view};
use crate::bail;
use crate::core::{DType, Layout, Result, Scalar, Shape};
use crate::graph::node::Operands;
use crate::graph::{Device, Tensor};
use crate::ir::kernel::Scatter;
use crate::ir::{Elementwise, Kernel};

/// One value everywhere.
pub fn full(shape: &Shape, value: Scalar, dtype: DType, device: Device) -> Result<Tensor> {
    if dtype.is_int() && !value.fits(dtype) {
        bail!(Value, "full: the number {} does not fit {dtype}", value.as_f64());
    }
    source(device, Kernel::Fill(value), Operands::new(), shape.clone(), dtype)
}

pub fn zeros(shape: &Shape, dtype: DType, device: Device) -> Result<Tensor> {
    full(shape, Scalar::Int(0), dtype, device)
}

pub fn ones(shape: &Shape, dtype: DType, device: Device) -> Result<Tensor> {
    full(shape, Scalar::Int(1), dtype, device)
}

pub fn zeros_like(x: &Tensor) -> Result<Tensor> {
    zeros(x.shape(), x.dtype(), x.device())
}

pub fn ones_like(x: &Tensor) -> Result<Tensor> {
    ones(x.shape(), x.dtype(), x.device())
}

/// `start, start + step, …` up to but without `stop`.
pub fn arange(
    start: Scalar,
    stop: Scalar,
    step: Scalar,
    dtype: Option<DType>,
    device: Device,
) -> Result<Tensor> {
    let float = [start, stop, step].iter().any(|s| matches!(s, Scalar::Float(_)));
    let dtype = dtype.unwrap_or(if float { DType::F32 } else { DType::I64 });
    if step.as_f64() == 0.0 || step.as_f64().is_nan() {
        bail!(Value, "arange: step must not be {}", step.as_f64());
    }
    let count = if float {
        let count = ((stop.as_f64() - start.as_f64()) / step.as_f64()).ceil();
        if !count.is_finite() {
            bail!(Value, "arange: from {} to {} is not finite", start.as_f64(), stop.as_f64());
        }
        count.max(0.0) as usize
    } else {
        let (start, stop, step) = (start.as_i64() as i128, stop.as_i64() as i128, step.as_i64() as i128);
        let span = if step > 0 { stop - start } else { start - stop };
        usize::try_from(if span <= 0 { 0 } else { (span - 1) / step.abs() + 1 }).unwrap_or(usize::MAX)
    };
    let shape = Shape::checked("arange", &[count])?;
    source(device, Kernel::Arange { start, step }, Operands::new(), shape, dtype)
}

/// `count` values from `start` to `stop`, both included unless `endpoint` is false.
pub fn linspace(
    start: f64,
    stop: f64,
    count: usize,
    endpoint: bool,
    dtype: DType,
    device: Device,
) -> Result<Tensor> {
    let shape = Shape::checked("linspace", &[count])?;
    let gaps = if endpoint { count.saturating_sub(1) } else { count };
    let step = if gaps == 0 { 0.0 } else { (stop - start) / gaps as f64 };
    // Computed in float64 and rounded once.
    let kernel = Kernel::Arange { start: start.into(), step: step.into() };
    let values = source(device, kernel, Operands::new(), shape, dtype)?;
    if !endpoint || count < 2 {
        return Ok(values);
    }
    // Steps that are rounded need not arrive at the last value.
    let last = Layout::contiguous(values.shape().clone()).slice(0, count - 1, 1, 1);
    // GPUs have no float64, in which integers are rounded toward zero.
    let end = if dtype.is_float() { dtype } else { DType::F64 };
    view::assign(&values, &full(&Shape::default(), stop.into(), end, device)?, &last, Scatter::Set)
}

/// Ones on the k-th diagonal of a matrix.
pub fn eye(shape: &Shape, k: i64, dtype: DType, device: Device) -> Result<Tensor> {
    let places = |n: usize, from: i64| {
        arange(Scalar::Int(from), Scalar::Int(from + n as i64), Scalar::Int(1), Some(DType::I64), device)
    };
    let rows = view::reshape(&places(shape[0], k)?, &Shape::new(&[shape[0], 1]))?;
    let on = elementwise::binary(Elementwise::eq, &rows, &places(shape[1], 0)?)?;
    cast::cast(&on, dtype)
}

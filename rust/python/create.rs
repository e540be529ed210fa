//! Tensors from nothing: constants and ranges. Random ones live in `random`.

use super::tensor::{Out, PyTensor, as_leaf};
use super::{args, dtype};
use crate::core::{DType, Result, Scalar, Shape};
use crate::graph::Tensor;
use crate::ops::create;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// The value, as a leaf where gradients are wanted.
pub fn finish(tensor: Result<Tensor>, requires_grad: bool) -> Out {
    let tensor = tensor?;
    Ok(PyTensor::new(if requires_grad { as_leaf(&tensor)? } else { tensor }))
}

type Any<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident $like:ident $value:expr;)*) => {$(
        $(#[$doc])*
        #[pyfunction]
        #[pyo3(signature = (*size, dtype=None, device=None, requires_grad=false))]
        fn $name(size: &Bound<'_, PyTuple>, dtype: Any<'_, '_>, device: Any<'_, '_>, requires_grad: bool) -> Out {
            let shape = args::shape(stringify!($name), &args::spread(stringify!($name), size)?)?;
            let dtype = args::dtype_or(dtype, DType::F32)?;
            finish(create::full(&shape, $value, dtype, args::device(device)?), requires_grad)
        }

        /// The same in the shape, dtype and device of another tensor, unless given.
        #[pyfunction]
        #[pyo3(signature = (x, /, *, dtype=None, device=None, requires_grad=false))]
        fn $like(x: &Bound<'_, PyTensor>, dtype: Any<'_, '_>, device: Any<'_, '_>, requires_grad: bool) -> Out {
            let x = x.get().get();
            let device = if device.is_some() { args::device(device)? } else { x.device() };
            finish(create::full(x.shape(), $value, args::dtype_or(dtype, x.dtype())?, device), requires_grad)
        }
    )*};
}

constants! {
    /// Zeros of a shape, `zeros(2, 3)` or `zeros((2, 3))`; float32 unless `dtype` says otherwise.
    zeros zeros_like Scalar::Int(0);
    /// Ones of a shape, `ones(2, 3)` or `ones((2, 3))`; float32 unless `dtype` says otherwise.
    ones ones_like Scalar::Int(1);
    /// A tensor of a shape whose values do not matter; here they are zeros.
    empty empty_like Scalar::Int(0);
}

/// One value everywhere; the dtype is the value's unless given.
#[pyfunction]
#[pyo3(signature = (size, fill_value, *, dtype=None, device=None, requires_grad=false))]
fn full(
    size: &Bound<'_, PyAny>,
    fill_value: &Bound<'_, PyAny>,
    dtype: Any<'_, '_>,
    device: Any<'_, '_>,
    requires_grad: bool,
) -> Out {
    let shape = args::shape("full", &args::integers("full", size)?)?;
    let value = number("full", fill_value)?;
    let dtype = args::dtype_or(dtype, value.default_dtype())?;
    finish(create::full(&shape, value, dtype, args::device(device)?), requires_grad)
}

/// One value everywhere, in the shape, dtype and device of another tensor, unless given.
#[pyfunction]
#[pyo3(signature = (x, fill_value, /, *, dtype=None, device=None, requires_grad=false))]
fn full_like(
    x: &Bound<'_, PyTensor>,
    fill_value: &Bound<'_, PyAny>,
    dtype: Any<'_, '_>,
    device: Any<'_, '_>,
    requires_grad: bool,
) -> Out {
    let x = x.get().get();
    let device = if device.is_some() { args::device(device)? } else { x.device() };
    let value = number("full_like", fill_value)?;
    finish(create::full(x.shape(), value, args::dtype_or(dtype, x.dtype())?, device), requires_grad)
}

fn number(op: &str, value: &Bound<'_, PyAny>) -> PyResult<Scalar> {
    if let Ok(t) = value.cast::<PyTensor>() {
        let t = t.get().get();
        if t.count() == 1 {
            return super::tensor::element(value.py(), &t);
        }
    }
    args::scalar(value)?.ok_or_else(|| PyTypeError::new_err(format!("{op}: expected a number")))
}

/// `arange(stop)`, `arange(start, stop)` or `arange(start, stop, step)`: values from start by step up to
/// but without stop; int64 if all are integers, else float32.
#[pyfunction]
#[pyo3(signature = (start, stop=None, step=None, *, dtype=None, device=None, requires_grad=false))]
fn arange(
    start: &Bound<'_, PyAny>,
    stop: Any<'_, '_>,
    step: Any<'_, '_>,
    dtype: Any<'_, '_>,
    device: Any<'_, '_>,
    requires_grad: bool,
) -> Out {
    let first = number("arange", start)?;
    let (start, stop) = match stop {
        Some(stop) => (first, number("arange", stop)?),
        None => (Scalar::Int(0), first),
    };
    let step = step.map_or(Ok(Scalar::Int(1)), |s| number("arange", s))?;
    let dtype = dtype.map(dtype::extract).transpose()?;
    finish(create::arange(start, stop, step, dtype, args::device(device)?), requires_grad)
}

/// `num` values (PyTorch says `steps`) from start to stop, both included unless `endpoint` is false.
#[pyfunction]
#[pyo3(signature = (start, stop, num=None, *, steps=None, endpoint=true, dtype=None, device=None, requires_grad=false))]
#[allow(clippy::too_many_arguments, reason = "both spellings")]
fn linspace(
    start: f64,
    stop: f64,
    num: Option<i64>,
    steps: Option<i64>,
    endpoint: bool,
    dtype: Any<'_, '_>,
    device: Any<'_, '_>,
    requires_grad: bool,
) -> Out {
    let ((Some(num), None) | (None, Some(num))) = (num, steps) else {
        return Err(PyTypeError::new_err("linspace: give the number of values, as num or as steps"));
    };
    let num = super::select::count("linspace", num)?;
    let dtype = args::dtype_or(dtype, DType::F32)?;
    finish(create::linspace(start, stop, num, endpoint, dtype, args::device(device)?), requires_grad)
}

/// Ones on the k-th diagonal of an n × m matrix, zeros elsewhere.
#[pyfunction]
#[pyo3(signature = (n, m=None, /, *, k=0, dtype=None, device=None, requires_grad=false))]
fn eye(n: i64, m: Option<i64>, k: i64, dtype: Any<'_, '_>, device: Any<'_, '_>, requires_grad: bool) -> Out {
    let shape: Shape = args::shape("eye", &[n, m.unwrap_or(n)])?;
    let device = args::device(device)?;
    finish(create::eye(&shape, k, args::dtype_or(dtype, DType::F32)?, device), requires_grad)
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for function in [
        wrap_pyfunction!(zeros, m)?,
        wrap_pyfunction!(zeros_like, m)?,
        wrap_pyfunction!(ones, m)?,
        wrap_pyfunction!(ones_like, m)?,
        wrap_pyfunction!(empty, m)?,
        wrap_pyfunction!(empty_like, m)?,
        wrap_pyfunction!(full, m)?,
        wrap_pyfunction!(full_like, m)?,
        wrap_pyfunction!(arange, m)?,
        wrap_pyfunction!(linspace, m)?,
        wrap_pyfunction!(eye, m)?,
    ] {
        m.add_function(function)?;
    }
    Ok(())
}

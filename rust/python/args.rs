//! Arguments as users write them: numbers, sizes, axes, devices.

use super::tensor::PyTensor;
use super::{convert, dtype, numpy};
use crate::core::layout::{axes, axis};
use crate::core::{DType, Scalar, Shape};
use crate::graph::{Device, Tensor};
use crate::ops::Arg;
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyString, PyTuple};
use smallvec::SmallVec;

/// A Python or NumPy number, or `None` if it is something else.
pub fn scalar(value: &Bound<'_, PyAny>) -> PyResult<Option<Scalar>> {
    if let Ok(b) = value.cast::<PyBool>() {
        return Ok(Some(Scalar::Bool(b.is_true())));
    }
    if let Ok(f) = value.cast::<PyFloat>() {
        return Ok(Some(Scalar::Float(f.value())));
    }
    if value.cast::<PyInt>().is_ok() {
        return integer(value).map(Some);
    }
    // NumPy's scalars: 0-d, and neither sequences nor tensors.
    if value.hasattr("__array_interface__")? {
        let generic = !numpy::is_array(value)? && value.hasattr("item")?;
        let item = if generic { value.call_method0("item")? } else { return Ok(None) };
        // A long double's item is a long double again.
        return if item.hasattr("__array_interface__")? { Ok(None) } else { scalar(&item) };
    }
    if value.hasattr("__index__")? && !value.hasattr("__array__")? {
        return integer(&value.call_method0("__index__")?).map(Some);
    }
    Ok(None)
}

fn integer(value: &Bound<'_, PyAny>) -> PyResult<Scalar> {
    if let Ok(i) = value.extract::<i64>() {
        return Ok(Scalar::Int(i));
    }
    match value.extract::<u64>() {
        Ok(u) => Ok(Scalar::Uint(u)),
        Err(_) => Err(PyOverflowError::new_err(format!("the integer {value} does not fit 64 bits"))),
    }
}

/// A tensor or a number; anything that converts to a tensor (a NumPy array) does. `None` for the rest.
pub fn arg(value: &Bound<'_, PyAny>) -> PyResult<Option<Arg>> {
    if let Ok(t) = value.cast::<PyTensor>() {
        return Ok(Some(Arg::Tensor(t.get().get())));
    }
    if let Some(scalar) = scalar(value)? {
        return Ok(Some(Arg::Scalar(scalar)));
    }
    if value.hasattr("__array_interface__")? || value.hasattr("__dlpack__")? {
        return Ok(Some(Arg::Tensor(convert::tensor(value, None, Device::Cpu)?)));
    }
    Ok(None)
}

/// The same, or an error that names the call.
pub fn required(op: &str, value: &Bound<'_, PyAny>) -> PyResult<Arg> {
    arg(value)?.ok_or_else(|| {
        let kind = value.get_type().name().map_or_else(|_| "?".into(), |n| n.to_string());
        PyTypeError::new_err(format!("{op}: expected a tensor or a number, got {kind}"))
    })
}

/// A tensor; numbers, arrays and nested sequences become one.
pub fn tensor(op: &str, value: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    if let Ok(t) = value.cast::<PyTensor>() {
        return Ok(t.get().get());
    }
    match arg(value)? {
        Some(Arg::Tensor(t)) => Ok(t),
        Some(Arg::Scalar(s)) => {
            Ok(crate::ops::create::full(&Shape::default(), s, s.default_dtype(), Device::Cpu)?)
        }
        None => {
            let kind = value.get_type().name()?;
            Err(PyTypeError::new_err(format!("{op}: expected a tensor, got {kind}")))
        }
    }
}

/// Tensors in a sequence, which is gone through one by one: what it says of its length is not believed.
pub fn tensors(op: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<Tensor>> {
    tensors_or_none(op, value)?
        .into_iter()
        .map(|t| t.ok_or_else(|| PyTypeError::new_err(format!("{op}: expected tensors, got None"))))
        .collect()
}

/// [`tensors`] of which any may be `None`.
pub fn tensors_or_none(op: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<Option<Tensor>>> {
    let items = value.try_iter().map_err(|_| {
        PyTypeError::new_err(format!("{op}: expected a sequence of tensors, got {}", type_name(value)))
    })?;
    let mut out = vec![];
    for item in items {
        let item = item?;
        out.push(match item.cast::<PyTensor>() {
            Ok(t) => Some(t.get().get()),
            Err(_) if item.is_none() => None,
            Err(_) => {
                let kind = type_name(&item);
                return Err(PyTypeError::new_err(format!("{op}: expected tensors, got {kind}")));
            }
        });
    }
    Ok(out)
}

/// An integer, from anything with `__index__`.
pub fn index(op: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    if value.cast::<PyFloat>().is_ok() || value.cast::<PyString>().is_ok() {
        return Err(PyTypeError::new_err(format!("{op}: expected an integer, got {}", value.repr()?)));
    }
    if !value.hasattr("__index__")? {
        return Err(PyTypeError::new_err(format!("{op}: expected an integer, got {}", type_name(value))));
    }
    let number = value.call_method0("__index__")?;
    if number.cast::<PyInt>().is_err() {
        let (kind, got) = (type_name(value), type_name(&number));
        return Err(PyTypeError::new_err(format!("{op}: __index__ of {kind} gave {got}, not an integer")));
    }
    number
        .extract::<i64>()
        .map_err(|_| PyOverflowError::new_err(format!("{op}: the integer {number} does not fit 64 bits")))
}

fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".into(), |n| n.to_string())
}

/// Integers given as one integer or a sequence of them.
pub fn integers(op: &str, value: &Bound<'_, PyAny>) -> PyResult<SmallVec<[i64; 6]>> {
    if value.cast::<PyInt>().is_ok() {
        return Ok(SmallVec::from_elem(index(op, value)?, 1));
    }
    if value.cast::<PyString>().is_ok() {
        return Err(PyTypeError::new_err(format!("{op}: expected integers, got a string")));
    }
    match value.try_iter() {
        Ok(items) => {
            let mut out = SmallVec::new();
            for item in items {
                if out.len() > crate::core::layout::MAX_RANK {
                    return Err(PyValueError::new_err(format!(
                        "{op}: more than {} values",
                        crate::core::layout::MAX_RANK
                    )));
                }
                out.push(index(op, &item?)?);
            }
            Ok(out)
        }
        Err(_) => Ok(SmallVec::from_elem(index(op, value)?, 1)),
    }
}

/// Integers given as `f(2, 3)` or `f((2, 3))`.
pub fn spread(op: &str, values: &Bound<'_, PyTuple>) -> PyResult<SmallVec<[i64; 6]>> {
    match values.len() {
        1 => integers(op, &values.get_item(0)?),
        _ => integers(op, values.as_any()),
    }
}

/// Sizes, none negative, whose product is checked.
pub fn shape(op: &str, sizes: &[i64]) -> PyResult<Shape> {
    if let Some(size) = sizes.iter().find(|&&s| s < 0) {
        return Err(super::errors::ShapeError::new_err(format!("{op}: size {size} is negative")));
    }
    let sizes: SmallVec<[usize; 6]> = sizes.iter().map(|&s| s as usize).collect();
    Ok(Shape::checked(op, &sizes)?)
}

/// One axis of a tensor, counted from the end where negative.
pub fn one_axis(op: &str, value: i64, rank: usize) -> PyResult<usize> {
    Ok(axis(op, isize::try_from(value).unwrap_or(isize::MAX), rank)?)
}

/// Axes given as `None` (all), an integer or a sequence.
pub fn axes_or_all(
    op: &str,
    value: Option<&Bound<'_, PyAny>>,
    rank: usize,
) -> PyResult<SmallVec<[usize; 6]>> {
    match value {
        None => Ok((0..rank).collect()),
        Some(value) => {
            let list: SmallVec<[isize; 6]> =
                integers(op, value)?.iter().map(|&i| isize::try_from(i).unwrap_or(isize::MAX)).collect();
            Ok(axes(op, &list, rank)?)
        }
    }
}

pub fn dtype_or(value: Option<&Bound<'_, PyAny>>, default: DType) -> PyResult<DType> {
    value.map_or(Ok(default), dtype::extract)
}

/// A device by name, or the default one.
pub fn device(value: Option<&Bound<'_, PyAny>>) -> PyResult<Device> {
    match value {
        None => super::device::default_device(),
        Some(value) => match value.extract::<String>() {
            Ok(name) => super::device::parse(value.py(), &name),
            Err(_) => Err(PyTypeError::new_err(format!(
                "a device is a name such as \"cpu\", not {}",
                type_name(value)
            ))),
        },
    }
}

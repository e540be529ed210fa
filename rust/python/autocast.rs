//! Automatic mixed precision as Python sees it; the classes are in `oxon/amp.py`.

use super::dtype;
use super::tensor::PyTensor;
use crate::core::DType;
use crate::ops::autocast::{self, Kind, Policy};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

fn kind(device_type: &str) -> PyResult<Kind> {
    match device_type.split(':').next() {
        Some("cpu") => Ok(Kind::Cpu),
        Some("gpu") => Ok(Kind::Gpu),
        _ => Err(PyValueError::new_err(format!(
            "autocast: device type {device_type:?} is unknown; there are \"cpu\" and \"gpu\""
        ))),
    }
}

/// What a region computes in unless it says so: bfloat16 has float32's range and the CPU's instructions.
fn default_low(kind: Kind) -> DType {
    match kind {
        Kind::Cpu => DType::BF16,
        Kind::Gpu => DType::F16,
    }
}

fn low(kind: Kind, given: Option<&Bound<'_, PyAny>>) -> PyResult<DType> {
    let dtype = given.map_or(Ok(default_low(kind)), dtype::extract)?;
    if !matches!(dtype, DType::F16 | DType::BF16) {
        return Err(PyTypeError::new_err(format!("autocast: dtype is float16 or bfloat16, not {dtype}")));
    }
    Ok(dtype)
}

/// Begins a region on this thread; every one is to be ended by `_autocast_exit`.
#[pyfunction]
fn _autocast_enter(
    device_type: &str,
    dtype: Option<&Bound<'_, PyAny>>,
    enabled: bool,
    cache: bool,
) -> PyResult<()> {
    let kind = kind(device_type)?;
    let low = low(kind, dtype)?;
    autocast::enter(kind, enabled.then_some(low), cache);
    Ok(())
}

/// Ends the region that this thread began last.
#[pyfunction]
fn _autocast_exit() {
    autocast::exit();
}

/// Checks the arguments of a region, and tells its dtype.
#[pyfunction]
fn _autocast_dtype(
    py: Python<'_>,
    device_type: &str,
    dtype: Option<&Bound<'_, PyAny>>,
) -> PyResult<Py<dtype::PyDType>> {
    Ok(dtype::object(py, low(kind(device_type)?, dtype)?))
}

/// Tensors as a region asks for them for an operation of the table, which is composed of others; what is no
/// tensor as it is.
#[pyfunction]
#[pyo3(signature = (op, *tensors))]
fn _autocast<'py>(op: &str, tensors: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyTuple>> {
    if !autocast::is_active() {
        return Ok(tensors.clone());
    }
    let given: Vec<_> = tensors.iter().filter_map(|t| Some(t.cast::<PyTensor>().ok()?.get().get())).collect();
    let mut cast = autocast::all(op, &given.iter().collect::<Vec<_>>())?.into_iter().map(PyTensor::new);
    let taken = |t: Bound<'py, PyAny>| match t.cast::<PyTensor>() {
        Ok(_) => Ok(cast.next().expect("one for each tensor").into_pyobject(t.py())?.into_any()),
        Err(_) => Ok(t),
    };
    PyTuple::new(tensors.py(), tensors.iter().map(taken).collect::<PyResult<Vec<_>>>()?)
}

/// Whether this thread is in a region of `autocast` for devices of this type, or without it of any.
///
/// >>> with ox.autocast("cpu"):
/// ...     ox.is_autocast_enabled("cpu"), ox.is_autocast_enabled("gpu"), ox.is_autocast_enabled()
/// (True, False, True)
#[pyfunction]
#[pyo3(signature = (device_type=None))]
fn is_autocast_enabled(device_type: Option<&str>) -> PyResult<bool> {
    Ok(match device_type {
        Some(name) => autocast::low(kind(name)?).is_some(),
        None => autocast::is_active(),
    })
}

/// The dtype of this thread's region of `autocast` for devices of this type; outside of regions what one
/// takes unless it says so.
///
/// >>> ox.get_autocast_dtype("cpu"), ox.get_autocast_dtype("gpu")
/// (oxon.bfloat16, oxon.float16)
#[pyfunction]
fn get_autocast_dtype(py: Python<'_>, device_type: &str) -> PyResult<Py<dtype::PyDType>> {
    let kind = kind(device_type)?;
    Ok(dtype::object(py, autocast::low(kind).unwrap_or(default_low(kind))))
}

/// Whether this thread's region keeps casts of weights.
#[pyfunction]
fn is_autocast_cache_enabled() -> bool {
    autocast::caches()
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for function in [
        wrap_pyfunction!(_autocast, m)?,
        wrap_pyfunction!(_autocast_dtype, m)?,
        wrap_pyfunction!(_autocast_enter, m)?,
        wrap_pyfunction!(_autocast_exit, m)?,
        wrap_pyfunction!(get_autocast_dtype, m)?,
        wrap_pyfunction!(is_autocast_cache_enabled, m)?,
        wrap_pyfunction!(is_autocast_enabled, m)?,
    ] {
        m.add_function(function)?;
    }
    let table = PyDict::new(m.py());
    for (op, policy) in autocast::TABLE {
        table.set_item(op, if *policy == Policy::Low { "low" } else { "float32" })?;
    }
    m.add("AUTOCAST", table)
}

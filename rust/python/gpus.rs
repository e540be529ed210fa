//! What the GPUs are and hold, for `oxon.hardware` and `oxon.gpu`. The first look for them goes through
//! `oxon.probe`, which tries it in another process before.

use super::device::parse;
use crate::graph::Device;
use crate::graph::device::gpus;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Before the first look for GPUs: an error if it crashes another process.
pub fn try_elsewhere(py: Python<'_>) -> PyResult<()> {
    if !gpus::looked() {
        py.import("oxon.probe")?.call_method0("_try_elsewhere")?;
    }
    Ok(())
}

/// The adapters of the system, each as a dict.
#[pyfunction]
fn _adapters(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    try_elsewhere(py)?;
    py.detach(gpus::adapters)?
        .into_iter()
        .map(|listed| {
            let (out, adapter) = (PyDict::new(py), listed.adapter);
            out.set_item("device", format!("gpu{}", listed.suffix))?;
            out.set_item("name", adapter.name)?;
            out.set_item("vendor", adapter.vendor)?;
            out.set_item("backend", adapter.backend)?;
            out.set_item("type", adapter.kind.to_string())?;
            out.set_item("driver", adapter.driver)?;
            out.set_item("max_buffer", adapter.max_buffer)?;
            out.set_item("max_binding", adapter.max_binding)?;
            out.set_item("float16", adapter.float16)?;
            out.set_item("int64", adapter.int64)?;
            out.set_item("subgroups", adapter.subgroups)?;
            out.set_item("cooperative", adapter.cooperative)?;
            out.set_item("rejection", listed.rejection)?;
            Ok(out)
        })
        .collect()
}

/// Looks for adapters: the places and names of those that are used. What is tried in another process first.
#[pyfunction]
fn _look(py: Python<'_>) -> PyResult<Vec<(usize, String)>> {
    let found = py.detach(gpus::adapters)?.into_iter().enumerate();
    Ok(found
        .filter(|(_, listed)| listed.rejection.is_none())
        .map(|(at, listed)| (at, listed.adapter.name))
        .collect())
}

/// Opens the adapter at a place and runs a kernel there: what is tried next.
#[pyfunction]
fn _try_out(py: Python<'_>, at: usize) -> PyResult<()> {
    Ok(py.detach(|| gpus::try_out(at))?)
}

/// Called before the interpreter ends.
#[pyfunction]
fn _save_pipelines(py: Python<'_>) {
    py.detach(gpus::save_pipelines);
}

/// The GPU of a name; the functions below take no other device.
fn gpu(py: Python<'_>, name: &str) -> PyResult<Device> {
    match parse(py, name)? {
        Device::Cpu => Err(PyValueError::new_err(format!("ox.gpu: {name:?} is no GPU"))),
        device => Ok(device),
    }
}

/// What `ox.gpu.memory_summary` gives.
#[pyfunction]
fn _gpu_memory<'py>(py: Python<'py>, device: &str) -> PyResult<Bound<'py, PyDict>> {
    let device = gpu(py, device)?;
    let (usage, largest) = gpus::usage(device).unwrap_or_default();
    let out = PyDict::new(py);
    out.set_item("used", usage.in_use)?;
    out.set_item("cached", usage.kept)?;
    out.set_item("peak", usage.peak)?;
    out.set_item("limit", gpus::limit(device))?;
    out.set_item("largest", largest)?;
    Ok(out)
}

#[pyfunction]
fn _gpu_empty_cache(py: Python<'_>, device: &str) -> PyResult<()> {
    let device = gpu(py, device)?;
    Ok(py.detach(|| gpus::empty_cache(device))?)
}

#[pyfunction]
fn _gpu_set_limit(py: Python<'_>, device: &str, limit: Option<u64>) -> PyResult<()> {
    Ok(gpus::set_limit(gpu(py, device)?, limit)?)
}

/// What a GPU does at best: float32 operations a second, and bytes a second read and written by a copy.
#[pyfunction]
fn _gpu_speed(py: Python<'_>, device: &str) -> PyResult<(f64, f64)> {
    let device = gpu(py, device)?;
    let speed = py.detach(|| gpus::speed(device))?;
    Ok(speed.map_or((0.0, 0.0), |speed| (speed.multiply_adds, speed.copied)))
}

/// Begins or ends counting what recording costs: kernels, new bind groups, seconds of recording and of submitting.
#[pyfunction]
fn _gpu_watch(on: bool) -> (u64, u64, f64, f64) {
    let seen = gpus::watch(on);
    (seen.kernels, seen.bind_groups, seen.recording.as_secs_f64(), seen.submitting.as_secs_f64())
}

/// How many kernels were recorded for GPUs so far.
#[pyfunction]
fn _gpu_dispatches() -> u64 {
    gpus::dispatches()
}

/// Makes a GPU fail as if its driver had lost it, for tests.
#[pyfunction]
fn _gpu_lose(py: Python<'_>, device: &str) -> PyResult<()> {
    let device = gpu(py, device)?;
    py.detach(|| gpus::lose(device));
    Ok(())
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for function in [
        wrap_pyfunction!(_adapters, m)?,
        wrap_pyfunction!(_look, m)?,
        wrap_pyfunction!(_try_out, m)?,
        wrap_pyfunction!(_save_pipelines, m)?,
        wrap_pyfunction!(_gpu_memory, m)?,
        wrap_pyfunction!(_gpu_empty_cache, m)?,
        wrap_pyfunction!(_gpu_set_limit, m)?,
        wrap_pyfunction!(_gpu_lose, m)?,
        wrap_pyfunction!(_gpu_speed, m)?,
        wrap_pyfunction!(_gpu_dispatches, m)?,
        wrap_pyfunction!(_gpu_watch, m)?,
    ] {
        m.add_function(function)?;
    }
    let atexit = m.py().import("atexit")?;
    atexit.call_method1("register", (m.getattr("_save_pipelines")?,))?;
    Ok(())
}

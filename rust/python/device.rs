//! Devices by name: the default one of a thread, what the GPUs are and hold. The first look for a GPU goes
//! through `oxon.probe`, which tries it in another process before.

use crate::graph::Device;
#[cfg(feature = "gpu")]
use crate::graph::device::gpus;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::cell::Cell;
use std::sync::OnceLock;

/// Names the device on which a process makes new tensors.
const DEVICE_VARIABLE: &str = "OXON_DEVICE";

thread_local! {
    static DEVICE: Cell<Option<Device>> = const { Cell::new(None) };
}

/// A device by its name.
pub fn parse(py: Python<'_>, name: &str) -> PyResult<Device> {
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    if name == "auto" {
        let picked: String = py.import("oxon.probe")?.call_method0("_auto")?.extract()?;
        return Ok(Device::parse(&picked)?);
    }
    if name.starts_with("gpu") {
        try_elsewhere(py)?;
    }
    // The first look may take a while.
    Ok(py.detach(|| Device::parse(name))?)
}

/// Before the first look for GPUs: an error if it crashes another process.
fn try_elsewhere(py: Python<'_>) -> PyResult<()> {
    #[cfg(feature = "gpu")]
    if !gpus::looked() {
        py.import("oxon.probe")?.call_method0("_try_elsewhere")?;
    }
    let _ = py;
    Ok(())
}

/// Where new tensors are made unless a call says otherwise.
pub fn default_device() -> PyResult<Device> {
    static OF_PROCESS: OnceLock<Device> = OnceLock::new();
    match DEVICE.get().or(OF_PROCESS.get().copied()) {
        Some(device) => Ok(device),
        None => {
            let device = match std::env::var(DEVICE_VARIABLE) {
                Ok(name) if !name.is_empty() => Python::attach(|py| parse(py, &name))?,
                _ => Device::Cpu,
            };
            Ok(*OF_PROCESS.get_or_init(|| device))
        }
    }
}

/// Makes new tensors of this thread on `device` and tells where they were made before.
///
/// Names are ``"cpu"``, ``"gpu"``, ``"gpu:1"``, ``"gpu:"`` and a part of an adapter's name, and ``"auto"``. A
/// thread begins with the device that the environment variable OXON_DEVICE names, or with the CPU. Raises
/// DeviceError where there is no such device.
///
/// >>> ox.set_default_device("cpu")
/// 'cpu'
#[pyfunction]
fn set_default_device(py: Python<'_>, device: &str) -> PyResult<String> {
    let device = parse(py, device)?;
    let before = default_device()?;
    DEVICE.set(Some(device));
    Ok(before.to_string())
}

/// Where this thread makes new tensors.
#[pyfunction]
fn get_default_device() -> PyResult<String> {
    Ok(default_device()?.to_string())
}

/// The adapters of the system, each as a dict.
#[pyfunction]
fn _adapters(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    #[cfg(not(feature = "gpu"))]
    return Ok(vec![]);
    #[cfg(feature = "gpu")]
    {
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
                out.set_item("rejection", listed.rejection)?;
                Ok(out)
            })
            .collect()
    }
}

/// Looks for adapters and gives how many there are: what is tried in another process.
#[pyfunction]
fn _look(py: Python<'_>) -> PyResult<usize> {
    #[cfg(not(feature = "gpu"))]
    let _ = py;
    #[cfg(not(feature = "gpu"))]
    return Ok(0);
    #[cfg(feature = "gpu")]
    Ok(py.detach(gpus::adapters)?.len())
}

/// The GPU of a name; the functions below take no other device.
#[cfg(feature = "gpu")]
fn gpu(py: Python<'_>, name: &str) -> PyResult<Device> {
    match parse(py, name)? {
        Device::Cpu => Err(PyValueError::new_err(format!("ox.gpu: {name:?} is no GPU"))),
        device => Ok(device),
    }
}

/// What `ox.gpu.memory_summary` gives.
#[cfg(feature = "gpu")]
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

#[cfg(feature = "gpu")]
#[pyfunction]
fn _gpu_empty_cache(py: Python<'_>, device: &str) -> PyResult<()> {
    let device = gpu(py, device)?;
    Ok(py.detach(|| gpus::empty_cache(device))?)
}

#[cfg(feature = "gpu")]
#[pyfunction]
fn _gpu_set_limit(py: Python<'_>, device: &str, limit: Option<u64>) -> PyResult<()> {
    Ok(gpus::set_limit(gpu(py, device)?, limit)?)
}

/// Makes a GPU fail as if its driver had lost it.
#[cfg(feature = "gpu")]
#[pyfunction]
fn _gpu_lose(py: Python<'_>, device: &str) -> PyResult<()> {
    let device = gpu(py, device)?;
    py.detach(|| gpus::lose(device));
    Ok(())
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(set_default_device, m)?)?;
    m.add_function(wrap_pyfunction!(get_default_device, m)?)?;
    m.add_function(wrap_pyfunction!(_adapters, m)?)?;
    m.add_function(wrap_pyfunction!(_look, m)?)?;
    #[cfg(feature = "gpu")]
    {
        m.add_function(wrap_pyfunction!(_gpu_memory, m)?)?;
        m.add_function(wrap_pyfunction!(_gpu_empty_cache, m)?)?;
        m.add_function(wrap_pyfunction!(_gpu_set_limit, m)?)?;
        m.add_function(wrap_pyfunction!(_gpu_lose, m)?)?;
    }
    Ok(())
}

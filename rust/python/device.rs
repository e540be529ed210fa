//! Devices by name, and the default one of a thread. What the GPUs are and hold is in `gpus`.

use crate::graph::Device;
use pyo3::prelude::*;
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
    #[cfg(feature = "gpu")]
    if name.starts_with("gpu") {
        super::gpus::try_elsewhere(py)?;
    }
    // The first look may take a while.
    Ok(py.detach(|| Device::parse(name))?)
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

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(set_default_device, m)?)?;
    m.add_function(wrap_pyfunction!(get_default_device, m)?)
}

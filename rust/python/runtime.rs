//! Process-wide switches: threads, fusion, memory; and what the graph asks of Python.

use crate::graph::{profile, record, run};
use crate::{cpu, graph};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;

/// Waits until everything that was asked for has run; for measuring time only.
#[pyfunction]
fn synchronize(py: Python<'_>) -> PyResult<()> {
    Ok(py.detach(|| {
        graph::window::flush()?;
        graph::device::synchronize()
    })?)
}

/// How often bytes went to a GPU and came back, so far. For tests.
#[pyfunction]
fn _transfers() -> (u64, u64) {
    graph::device::transfers()
}

/// How many threads kernels use.
#[pyfunction]
fn get_num_threads() -> usize {
    cpu::threads::num_threads()
}

/// Sets how many threads kernels use; results do not depend on it.
#[pyfunction]
fn set_num_threads(n: usize) -> PyResult<()> {
    if n == 0 || n > 4096 {
        return Err(pyo3::exceptions::PyValueError::new_err(format!(
            "set_num_threads: {n} is not between 1 and 4096"
        )));
    }
    cpu::threads::set_num_threads(n);
    Ok(())
}

/// Turns the fusing of neighbouring operations on or off and tells what it was. Results are the same.
#[pyfunction]
fn set_fuse(on: bool) -> bool {
    run::set_fuse(on)
}

/// How exact float32 convolutions are: `"highest"` computes them by the definition, `"high"`, the default,
/// takes Winograd's minimal filtering where it is faster, with errors below 3e-5 of the result's largest
/// value.
#[pyfunction]
fn set_float32_conv_precision(precision: &str) -> PyResult<()> {
    let precise = match precision {
        "highest" => true,
        "high" => false,
        other => {
            return Err(pyo3::exceptions::PyValueError::new_err(format!(
                "set_float32_conv_precision: {other:?} is neither \"highest\" nor \"high\""
            )));
        }
    };
    cpu::conv::winograd::set_precise(precise);
    Ok(())
}

/// What `set_float32_conv_precision` has set.
#[pyfunction]
fn get_float32_conv_precision() -> &'static str {
    if cpu::conv::winograd::precise() { "highest" } else { "high" }
}

/// Bytes of host memory: `used` by tensors, `cached` for reuse, and the `peak` that tensors used.
#[pyfunction]
fn memory_summary(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let (used, cached, peak) = cpu::memory::summary();
    let out = PyDict::new(py);
    out.set_item("used", used)?;
    out.set_item("cached", cached)?;
    out.set_item("peak", peak)?;
    Ok(out)
}

/// Gives memory that is kept for reuse back to the system.
#[pyfunction]
fn empty_cache() {
    cpu::memory::empty_cache();
}

/// What this build is and what it found: version, instruction set, threads, bytes of memory that may be used.
#[pyfunction]
fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("version", env!("CARGO_PKG_VERSION"))?;
    out.set_item("profile", if cfg!(debug_assertions) { "dev" } else { "release" })?;
    out.set_item("isa", cpu::isa::get().name())?;
    out.set_item("threads", cpu::threads::num_threads())?;
    let memory = cpu::memory::limit();
    out.set_item("memory", (memory != isize::MAX as usize).then_some(memory))?;
    out.set_item("gpu", cfg!(feature = "gpu"))?;
    Ok(out)
}

/// Starts to count what kernels cost.
#[pyfunction]
fn _profile_start() {
    profile::start();
}

/// Stops; for each kernel and its shapes: device, name, inputs, outputs, and calls, seconds, bytes, operations.
#[pyfunction]
fn _profile_stop() -> Vec<ProfileRow> {
    let shapes = |shapes: Vec<crate::core::Shape>| shapes.iter().map(|shape| shape.to_vec()).collect();
    let row = |(place, cost): (profile::Place, profile::Cost)| {
        let (device, seconds) = (place.device.to_string(), cost.time.as_secs_f64());
        let (inputs, outputs) = (shapes(place.inputs), shapes(place.outputs));
        (device, place.kernel, inputs, outputs, (cost.calls, seconds, cost.bytes, cost.flops))
    };
    profile::stop().into_iter().map(row).collect()
}

type Sizes = Vec<Vec<usize>>;
type ProfileRow = (String, String, Sizes, Sizes, (u64, f64, u64, u64));

#[pyfunction]
fn _after_fork_in_child() {
    graph::window::after_fork_in_child();
    graph::device::after_fork_in_child();
}

/// The innermost frame outside the package, as `file.py:12`.
fn user_line() -> Option<Arc<str>> {
    Python::try_attach(|py| -> PyResult<Option<Arc<str>>> {
        let mut frame = py.import("sys")?.getattr("_getframe")?.call1((0,))?;
        while !frame.is_none() {
            let module = frame.getattr("f_globals")?.get_item("__name__").ok();
            let module: String = module.and_then(|name| name.extract().ok()).unwrap_or_default();
            if module != "oxon" && !module.starts_with("oxon.") {
                let file: String = frame.getattr("f_code")?.getattr("co_filename")?.extract()?;
                let line: usize = frame.getattr("f_lineno")?.extract()?;
                return Ok(Some(format!("{file}:{line}").into()));
            }
            frame = frame.getattr("f_back")?;
        }
        Ok(None)
    })?
    .ok()?
}

/// Lets other Python threads go on while this one waits for what one of them computes.
fn waiting(block: &mut (dyn FnMut() + Send)) {
    if Python::try_attach(|py| py.detach(&mut *block)).is_none() {
        block();
    }
}

/// Whether Ctrl-C has been pressed.
fn interrupted() -> bool {
    Python::try_attach(|py| py.check_signals().is_err()).unwrap_or(false)
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    record::set_locate(user_line);
    run::set_interrupted(interrupted);
    run::set_waiting(waiting);
    for function in [
        wrap_pyfunction!(synchronize, m)?,
        wrap_pyfunction!(get_num_threads, m)?,
        wrap_pyfunction!(set_num_threads, m)?,
        wrap_pyfunction!(set_fuse, m)?,
        wrap_pyfunction!(set_float32_conv_precision, m)?,
        wrap_pyfunction!(get_float32_conv_precision, m)?,
        wrap_pyfunction!(memory_summary, m)?,
        wrap_pyfunction!(empty_cache, m)?,
        wrap_pyfunction!(build_info, m)?,
        wrap_pyfunction!(_profile_start, m)?,
        wrap_pyfunction!(_profile_stop, m)?,
        wrap_pyfunction!(_after_fork_in_child, m)?,
        wrap_pyfunction!(_transfers, m)?,
    ] {
        m.add_function(function)?;
    }
    let py = m.py();
    let os = py.import("os")?;
    if os.hasattr("register_at_fork")? {
        let kwargs = PyDict::new(py);
        kwargs.set_item("after_in_child", m.getattr("_after_fork_in_child")?)?;
        os.call_method("register_at_fork", (), Some(&kwargs))?;
    }
    m.add("__version__", env!("CARGO_PKG_VERSION"))
}

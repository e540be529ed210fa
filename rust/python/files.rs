//! Saving and loading tensors by path; what is saved, and how nested, is the package's business.

use super::convert::host;
use super::tensor::PyTensor;
use crate::io;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::HashMap;
use std::path::PathBuf;

/// Writes a dict of tensors to a safetensors file, under a temporary name that is then renamed.
#[pyfunction]
#[pyo3(signature = (path, tensors, metadata=None))]
fn save_safetensors(
    py: Python<'_>,
    path: PathBuf,
    tensors: &Bound<'_, PyDict>,
    metadata: Option<HashMap<String, String>>,
) -> PyResult<()> {
    let mut all = vec![];
    for (name, tensor) in tensors {
        let name: String = name.extract()?;
        let tensor = tensor
            .cast::<PyTensor>()
            .map_err(|_| pyo3::exceptions::PyTypeError::new_err(format!("save: {name:?} is no tensor")))?;
        all.push((name, host(py, &tensor.get().get())?));
    }
    py.detach(|| io::save(&path, all, metadata.unwrap_or_default()))?;
    Ok(())
}

/// The tensors of a safetensors file by name, and its metadata.
#[pyfunction]
fn load_safetensors(py: Python<'_>, path: PathBuf) -> PyResult<(Bound<'_, PyDict>, HashMap<String, String>)> {
    let (tensors, metadata) = py.detach(|| io::load(&path))?;
    let out = PyDict::new(py);
    for (name, tensor) in tensors {
        out.set_item(name, PyTensor::new(tensor))?;
    }
    Ok((out, metadata))
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(save_safetensors, m)?)?;
    m.add_function(wrap_pyfunction!(load_safetensors, m)?)
}

//! The kernels behind recurrent layers; `nn/functional/recurrent.py` is their only caller.

use super::args;
use super::tensor::PyTensor;
use crate::graph::Tensor;
use crate::ir::kernel::Cell;
use crate::ops::recurrent;
use pyo3::prelude::*;

type T<'a, 'py> = &'a Bound<'py, PyTensor>;
type Opt<'a, 'py> = Option<&'a Bound<'py, PyTensor>>;

fn value(t: T<'_, '_>) -> Tensor {
    t.get().get()
}

fn list(tensors: Vec<Tensor>) -> Vec<PyTensor> {
    tensors.into_iter().map(PyTensor::new).collect()
}

/// All steps of a layer: its outputs, the states around all steps, and what else the gradient needs.
#[pyfunction]
fn _sequence(
    cell: &str,
    reverse: bool,
    gi: T<'_, '_>,
    weight: T<'_, '_>,
    bias: Opt<'_, '_>,
    states: &Bound<'_, PyAny>,
    keep: bool,
) -> PyResult<(Vec<PyTensor>, Vec<PyTensor>, Option<PyTensor>)> {
    let states = args::tensors("recurrent", states)?;
    let bias = bias.map(value);
    let cell = Cell::parse(cell)?;
    let found = recurrent::sequence(cell, reverse, &value(gi), &value(weight), bias.as_ref(), &states, keep)?;
    Ok((list(found.outputs), list(found.around), found.kept.map(PyTensor::new)))
}

/// The gradients of gi, of the hidden states' share of the gates, and of the initial states.
#[pyfunction]
fn _sequence_back(
    cell: &str,
    reverse: bool,
    weight: T<'_, '_>,
    around: &Bound<'_, PyAny>,
    kept: Opt<'_, '_>,
    grads: &Bound<'_, PyAny>,
) -> PyResult<(PyTensor, PyTensor, Vec<PyTensor>)> {
    let (around, grads) = (args::tensors("recurrent", around)?, args::tensors("recurrent", grads)?);
    let kept = kept.map(value);
    let (dgi, dgh, states) = recurrent::sequence_back(
        Cell::parse(cell)?,
        reverse,
        &value(weight),
        &around,
        kept.as_ref(),
        &grads,
    )?;
    Ok((dgi.into(), dgh.into(), list(states)))
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_sequence, m)?)?;
    m.add_function(wrap_pyfunction!(_sequence_back, m)?)
}

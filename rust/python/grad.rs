//! Differentiation as Python sees it: modes, backward passes, hooks, and gradients written in Python.

use super::args;
use super::errors::through;
use super::tensor::PyTensor;
use crate::autograd;
use crate::core::{DType, Shape};
use crate::graph::record::{self, Context, Edge, Grads, Hook, Rule};
use crate::graph::{Tensor, run};
use crate::ops;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use smallvec::SmallVec;

/// Whether operations on this thread are recorded.
#[pyfunction]
fn is_grad_enabled() -> bool {
    record::grad_enabled()
}

/// Turns recording on or off on this thread and tells what it was.
#[pyfunction]
fn _set_grad_enabled(on: bool) -> bool {
    record::set_grad_enabled(on)
}

/// Turns anomaly mode on or off on this thread and tells what it was.
#[pyfunction]
fn _set_anomaly_enabled(on: bool) -> bool {
    record::set_anomaly_enabled(on)
}

fn seeds(op: &str, given: Option<&Bound<'_, PyAny>>, count: usize) -> PyResult<Vec<Option<Tensor>>> {
    let Some(given) = given else { return Ok(vec![None; count]) };
    let given = args::tensors_or_none(op, given)?;
    if given.len() != count {
        return Err(PyTypeError::new_err(format!("{} gradients for {count} tensors", given.len())));
    }
    Ok(given)
}

/// Accumulates the gradients of several tensors into the leaves that they were computed from.
#[pyfunction]
#[pyo3(name = "_backward", signature = (tensors, gradients=None, retain_graph=false, create_graph=false))]
fn backward(
    py: Python<'_>,
    tensors: &Bound<'_, PyAny>,
    gradients: Option<&Bound<'_, PyAny>>,
    retain_graph: bool,
    create_graph: bool,
) -> PyResult<()> {
    let tensors = args::tensors("backward", tensors)?;
    let seeds = seeds("backward", gradients, tensors.len())?;
    py.detach(|| autograd::backward(&tensors, &seeds, retain_graph || create_graph, create_graph))?;
    Ok(())
}

/// The gradients of outputs with respect to inputs, `None` for inputs that play no part.
#[pyfunction]
#[pyo3(name = "_grad", signature = (outputs, inputs, grad_outputs=None, retain_graph=false, create_graph=false))]
fn grad(
    py: Python<'_>,
    outputs: &Bound<'_, PyAny>,
    inputs: &Bound<'_, PyAny>,
    grad_outputs: Option<&Bound<'_, PyAny>>,
    retain_graph: bool,
    create_graph: bool,
) -> PyResult<Vec<Option<PyTensor>>> {
    let (outputs, inputs) = (args::tensors("grad", outputs)?, args::tensors("grad", inputs)?);
    let seeds = seeds("grad", grad_outputs, outputs.len())?;
    let found =
        py.detach(|| autograd::grad(&outputs, &seeds, &inputs, retain_graph || create_graph, create_graph))?;
    Ok(found.into_iter().map(|g| g.map(PyTensor::new)).collect())
}

/// Has several tensors computed at once, so that equal work on them becomes few kernels.
#[pyfunction]
fn flush(py: Python<'_>, tensors: &Bound<'_, PyAny>) -> PyResult<()> {
    let values: Vec<_> = args::tensors("flush", tensors)?.iter().map(|t| t.value().clone()).collect();
    Ok(py.detach(|| run::realise_all(&values))?)
}

/// A gradient written in Python: called with the gradients of the outputs (`None` for zero), it gives
/// those of the inputs.
struct PythonRule {
    backward: Py<PyAny>,
    inputs: Vec<(Shape, DType)>,
}

impl Rule for PythonRule {
    fn backward(&self, context: &Context<'_>, grads: &[Option<Tensor>]) -> crate::core::Result<Grads> {
        Python::attach(|py| -> PyResult<Grads> {
            let given = PyTuple::new(py, grads.iter().map(|g| g.clone().map(PyTensor::new)))?;
            let found = self.backward.bind(py).call1(given)?;
            let found: Vec<Bound<'_, PyAny>> = match found.cast::<PyTuple>() {
                Ok(tuple) => tuple.iter().collect(),
                Err(_) => vec![found],
            };
            if found.len() != self.inputs.len() {
                return Err(PyTypeError::new_err(format!(
                    "{}: backward gave {} gradients for {} inputs",
                    context.record.name,
                    found.len(),
                    self.inputs.len()
                )));
            }
            found.iter().zip(&self.inputs).map(|(gradient, input)| given_gradient(gradient, input)).collect()
        })
        .map_err(through)
    }
}

/// What a Python function gave as the gradient of an input.
fn given_gradient(gradient: &Bound<'_, PyAny>, (shape, dtype): &(Shape, DType)) -> PyResult<Option<Tensor>> {
    if gradient.is_none() {
        return Ok(None);
    }
    let Ok(gradient) = gradient.cast::<PyTensor>() else {
        let kind = gradient.get_type().name()?;
        return Err(PyTypeError::new_err(format!("backward: a gradient is a tensor or None, not {kind}")));
    };
    let gradient = gradient.get().get();
    if gradient.shape() != shape {
        return Err(super::errors::ShapeError::new_err(format!(
            "backward: a gradient of {} for an input of {shape}",
            gradient.shape()
        )));
    }
    Ok(Some(ops::cast::cast(&gradient, *dtype)?))
}

/// Gives `outputs` the history of a call on `inputs` whose gradient is the function `backward`.
#[pyfunction]
fn _record(
    inputs: &Bound<'_, PyAny>,
    outputs: &Bound<'_, PyAny>,
    backward: Py<PyAny>,
) -> PyResult<Vec<PyTensor>> {
    let inputs = args::tensors("Function", inputs)?;
    let outputs = args::tensors("Function", outputs)?;
    let outputs: SmallVec<[Tensor; 1]> = outputs.iter().map(|t| t.detach().as_own()).collect();
    let specs = inputs.iter().map(|t| (t.shape().clone(), t.dtype())).collect();
    let recorded = record::record("Function", &inputs.iter().collect::<Vec<_>>(), outputs, || PythonRule {
        backward,
        inputs: specs,
    });
    Ok(recorded.into_iter().map(PyTensor::new).collect())
}

fn python_hook(function: Py<PyAny>) -> Hook {
    Box::new(move |grad: &Tensor| {
        Python::attach(|py| -> PyResult<Option<Tensor>> {
            let found = function.bind(py).call1((PyTensor::new(grad.clone()),))?;
            if found.is_none() {
                return Ok(None);
            }
            let found = found
                .cast::<PyTensor>()
                .map_err(|_| PyTypeError::new_err("register_hook: a hook gives a tensor or None"))?;
            let other = found.get().get();
            if other.shape() != grad.shape() {
                return Err(super::errors::ShapeError::new_err(format!(
                    "register_hook: the hook turned a gradient of {} into one of {}",
                    grad.shape(),
                    other.shape()
                )));
            }
            Ok(Some(other))
        })
        .map_err(through)
    })
}

/// A hook that can be taken away again.
#[pyclass(module = "oxon", frozen)]
struct HookHandle {
    edge: Edge,
    id: u64,
}

#[pymethods]
impl HookHandle {
    /// Takes the hook away; doing so twice is no error.
    fn remove(&self) {
        match &self.edge {
            Edge::Leaf(leaf) => {
                leaf.hooks.remove(self.id);
                leaf.after.remove(self.id);
            }
            Edge::Fn(call, output) => call.hooks[*output].remove(self.id),
            Edge::None => {}
        }
    }
}

#[pymethods]
impl PyTensor {
    /// Accumulates gradients into the leaves that this tensor was computed from. A tensor of one
    /// element needs no `gradient`; any other is weighted by it. Shapes must agree.
    #[pyo3(signature = (gradient=None, retain_graph=false, create_graph=false))]
    fn backward(
        &self,
        py: Python<'_>,
        gradient: Option<&Bound<'_, PyTensor>>,
        retain_graph: bool,
        create_graph: bool,
    ) -> PyResult<()> {
        let (tensor, seed) = ([self.get()], [gradient.map(|g| g.get().get())]);
        py.detach(|| autograd::backward(&tensor, &seed, retain_graph || create_graph, create_graph))?;
        Ok(())
    }

    /// Calls `hook(gradient)` when the gradient of this tensor has been computed; what it returns, if
    /// anything, takes the gradient's place. Gives a handle with `remove()`.
    fn register_hook(&self, hook: Py<PyAny>) -> PyResult<HookHandle> {
        let tensor = self.get();
        let id = match tensor.edge() {
            Edge::Leaf(leaf) => leaf.hooks.add(python_hook(hook)),
            Edge::Fn(call, output) => call.hooks[*output].add(python_hook(hook)),
            Edge::None => {
                return Err(super::errors::GradError::new_err(
                    "register_hook: the tensor does not require grad",
                ));
            }
        };
        Ok(HookHandle { edge: tensor.edge().clone(), id })
    }

    /// Calls `hook(gradient)` on a leaf each time a gradient has been added to `grad`.
    fn register_post_accumulate_grad_hook(&self, hook: Py<PyAny>) -> PyResult<HookHandle> {
        let tensor = self.get();
        match tensor.edge() {
            Edge::Leaf(leaf) => {
                let id = leaf.after.add(python_hook(hook));
                Ok(HookHandle { edge: tensor.edge().clone(), id })
            }
            _ => Err(super::errors::GradError::new_err(
                "register_post_accumulate_grad_hook: only leaves have one",
            )),
        }
    }
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<HookHandle>()?;
    for function in [
        wrap_pyfunction!(is_grad_enabled, m)?,
        wrap_pyfunction!(_set_grad_enabled, m)?,
        wrap_pyfunction!(_set_anomaly_enabled, m)?,
        wrap_pyfunction!(backward, m)?,
        wrap_pyfunction!(grad, m)?,
        wrap_pyfunction!(flush, m)?,
        wrap_pyfunction!(_record, m)?,
    ] {
        m.add_function(function)?;
    }
    Ok(())
}

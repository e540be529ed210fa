//! `fused`: a function of elementwise operations that is traced once and then recorded as one.

use super::tensor::PyTensor;
use crate::core::DType;
use crate::graph::trace::{Trace, stand_in};
use crate::graph::{Tensor, grad_enabled, run};
use parking_lot::Mutex;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyTuple};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::sync::Arc;

/// An argument, as far as what the function does may depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Given {
    Tensor(DType),
    /// A float, whose value is a parameter.
    Number,
    /// An integer or a truth, whose value is part of the function.
    Choice(i64),
    None,
}

type Key = SmallVec<[Given; 12]>;

/// What is known of a call: its trace, or that it is not one chain.
#[derive(Clone)]
struct Known {
    trace: Option<Arc<Trace>>,
    /// The function gives a tuple.
    tuple: bool,
}

/// What `fused` gives back.
#[pyclass(name = "Fused", module = "oxon._core", frozen)]
pub struct PyFused {
    function: Py<PyAny>,
    known: Mutex<FxHashMap<Key, Known>>,
}

/// Numbers to trace with, twice: what is the same in both is a constant of the function.
fn marks(round: usize, count: usize) -> SmallVec<[f64; 8]> {
    (0..count).map(|i| 0.5 + (1 + 2 * i + round) as f64 * 1.618_033_988_749_895e-4).collect()
}

#[pymethods]
impl PyFused {
    /// The function as it was given.
    #[getter]
    fn __wrapped__(&self, py: Python<'_>) -> Py<PyAny> {
        self.function.clone_ref(py)
    }

    #[pyo3(signature = (*args))]
    fn __call__<'py>(&self, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let py = args.py();
        let mut key = Key::new();
        let mut tensors: SmallVec<[Tensor; 6]> = SmallVec::new();
        let mut numbers: SmallVec<[f64; 8]> = SmallVec::new();
        for arg in args.iter() {
            key.push(if let Ok(t) = arg.cast::<PyTensor>() {
                tensors.push(t.get().get());
                Given::Tensor(tensors[tensors.len() - 1].dtype())
            } else if let Ok(number) = arg.cast::<PyFloat>() {
                numbers.push(number.value());
                Given::Number
            } else if arg.is_none() {
                Given::None
            } else if let (true, Ok(choice)) = (arg.cast::<PyInt>().is_ok(), arg.extract::<i64>()) {
                // `True` is no 1 to a function that looks at it.
                Given::Choice(choice.wrapping_mul(2) + i64::from(arg.cast::<PyBool>().is_ok()))
            } else {
                return self.function.bind(py).call1(args);
            });
        }
        let alike = tensors.first().is_some_and(|first| {
            tensors.iter().all(|t| t.shape() == first.shape() && t.device() == first.device())
        });
        let recorded = grad_enabled() && tensors.iter().any(Tensor::requires_grad);
        if !alike || recorded || !run::fuse() {
            return self.function.bind(py).call1(args);
        }
        let known = self.known.lock().get(&key).cloned();
        let known = match known {
            Some(known) => known,
            None => {
                let known = self.trace(args, &key)?;
                self.known.lock().entry(key).or_insert(known).clone()
            }
        };
        let Some(trace) = known.trace else { return self.function.bind(py).call1(args) };
        let outputs = trace.record(&tensors, &numbers)?;
        let mut outputs = outputs.into_iter().map(|t| Bound::new(py, PyTensor::new(t)));
        if known.tuple {
            let outputs: SmallVec<[Bound<'_, PyTensor>; 4]> = outputs.collect::<PyResult<_>>()?;
            return Ok(PyTuple::new(py, outputs)?.into_any());
        }
        Ok(outputs.next().expect("one output")?.into_any())
    }
}

impl PyFused {
    /// Calls the function on stand-ins, twice.
    fn trace(&self, args: &Bound<'_, PyTuple>, key: &Key) -> PyResult<Known> {
        let py = args.py();
        let mut found: SmallVec<[Known; 2]> = SmallVec::new();
        for round in 0..2 {
            let mut inputs: SmallVec<[Tensor; 6]> = SmallVec::new();
            let numbers = marks(round, key.iter().filter(|&&given| given == Given::Number).count());
            let mut left = numbers.iter();
            let mut call: Vec<Bound<'_, PyAny>> = vec![];
            for (arg, given) in args.iter().zip(key) {
                call.push(match given {
                    Given::Tensor(dtype) => {
                        inputs.push(stand_in(*dtype)?);
                        Bound::new(py, PyTensor::new(inputs[inputs.len() - 1].clone()))?.into_any()
                    }
                    Given::Number => PyFloat::new(py, *left.next().expect("one a float")).into_any(),
                    Given::Choice(_) | Given::None => arg,
                });
            }
            let result = self.function.bind(py).call1(PyTuple::new(py, call)?)?;
            let tensors = |items: Vec<Bound<'_, PyAny>>| {
                let tensor = |item: &Bound<'_, PyAny>| Some(item.cast::<PyTensor>().ok()?.get().get());
                items.iter().map(tensor).collect::<Option<SmallVec<[Tensor; 4]>>>()
            };
            let (outputs, tuple) = match result.cast::<PyTuple>() {
                Ok(items) => (tensors(items.iter().collect()), true),
                Err(_) => (tensors(vec![result]), false),
            };
            let trace = outputs.filter(|o| !o.is_empty()).and_then(|o| Trace::new(&o, &inputs, &numbers));
            found.push(Known { trace: trace.map(Arc::new), tuple });
        }
        match (&found[0].trace, &found[1].trace) {
            (Some(one), Some(two)) if !one.agrees(two) => Err(PyValueError::new_err(
                "fused: the function computes a number of its float arguments; compute it before the call and \
                 pass it",
            )),
            (Some(_), Some(_)) => Ok(found.swap_remove(0)),
            _ => Ok(Known { trace: None, tuple: false }),
        }
    }
}

/// A function of elementwise operations, recorded as one operation.
///
/// It is traced once for the dtypes of its arguments; from then on a call costs what one operation
/// costs, however many there are inside. Optimizers are made of it. No gradient is recorded through
/// it: where one would be, and where the function does other things than elementwise operations
/// on tensors of one shape, it is called as it stands, with the same result.
///
/// Args:
///     function: takes tensors, floats, which may differ from call to call, integers, truths
///         and None, by position; gives a tensor or a tuple of tensors. It must not compute with
///         the floats by themselves: `1 - beta` belongs outside.
///
/// Raises:
///     ValueError: at the call, when the function computes a number of its float arguments.
///
/// >>> @ox.fused
/// ... def momentum(p, g, b, rate, keep):
/// ...     b = keep * b + g
/// ...     return p - rate * b, b
/// >>> p, b = momentum(ox.ones(2), ox.ones(2), ox.zeros(2), 0.5, 0.9)
/// >>> p.tolist(), b.tolist()
/// ([0.5, 0.5], [1.0, 1.0])
#[pyfunction]
#[pyo3(signature = (function, /))]
fn fused(function: &Bound<'_, PyAny>) -> PyResult<PyFused> {
    if !function.is_callable() {
        let kind = function.get_type().name()?;
        return Err(PyTypeError::new_err(format!("fused: expected a function, got {kind}")));
    }
    Ok(PyFused { function: function.clone().unbind(), known: Mutex::default() })
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(fused, m)?)
}

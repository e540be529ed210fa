//! Names that stand beside others, where PyTorch and the array API have both; the logical connectives; and whether
//! whole tensors are alike.

use super::args;
use super::tensor::{Out, PyTensor, element, out};
use crate::core::Scalar;
use crate::graph::Tensor;
use crate::ir::Elementwise as E;
use crate::ops::{self, compare, reduce, search};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// Another name, and the one under which errors know it.
const ALIASES: &[(&str, &str)] = &[
    ("absolute", "abs"),
    ("arccos", "acos"),
    ("arccosh", "acosh"),
    ("arcsin", "asin"),
    ("arcsinh", "asinh"),
    ("arctan", "atan"),
    ("arctan2", "atan2"),
    ("arctanh", "atanh"),
    ("bitwise_invert", "bitwise_not"),
    ("bmm", "matmul"),
    ("clip", "clamp"),
    ("concat", "cat"),
    ("concatenate", "cat"),
    ("divide", "div"),
    ("fix", "trunc"),
    ("greater", "gt"),
    ("greater_equal", "ge"),
    ("less", "lt"),
    ("less_equal", "le"),
    ("mm", "matmul"),
    ("moveaxis", "movedim"),
    ("multiply", "mul"),
    ("mv", "matmul"),
    ("negative", "neg"),
    ("nelement", "numel"),
    ("not_equal", "ne"),
    ("permute_dims", "permute"),
    ("ravel", "flatten"),
    ("subtract", "sub"),
    ("swapaxes", "transpose"),
    ("swapdims", "transpose"),
    ("true_divide", "div"),
];

/// Methods below that are functions of the module as well.
const METHODS: &[&str] =
    &["allclose", "equal", "isclose", "logical_and", "logical_not", "logical_or", "logical_xor", "unique"];

#[pymethods]
impl PyTensor {
    /// This tensor expanded to the shape of another.
    fn expand_as(&self, other: &Bound<'_, PyTensor>) -> Out {
        out(ops::view::expand(&self.get(), other.get().get().shape()))
    }

    /// The same elements in the shape of another tensor.
    fn view_as(&self, other: &Bound<'_, PyTensor>) -> Out {
        out(ops::view::reshape(&self.get(), other.get().get().shape()))
    }

    /// Whether both are true, that is, not 0.
    fn logical_and(&self, other: &Bound<'_, PyAny>) -> Out {
        out(compare::logical(E::bitwise_and, &self.get(), &args::tensor("logical_and", other)?))
    }

    /// Whether either is true, that is, not 0.
    fn logical_or(&self, other: &Bound<'_, PyAny>) -> Out {
        out(compare::logical(E::bitwise_or, &self.get(), &args::tensor("logical_or", other)?))
    }

    /// Whether one alone is true, that is, not 0.
    fn logical_xor(&self, other: &Bound<'_, PyAny>) -> Out {
        out(compare::logical(E::bitwise_xor, &self.get(), &args::tensor("logical_xor", other)?))
    }

    /// Whether elements are false, that is, 0.
    fn logical_not(&self) -> Out {
        out(compare::logical_not(&self.get()))
    }

    /// Whether `|x - other| <= atol + rtol * |other|`, element by element; NaN is close to NaN with
    /// `equal_nan`.
    #[pyo3(signature = (other, rtol=1e-5, atol=1e-8, equal_nan=false))]
    fn isclose(&self, other: &Bound<'_, PyAny>, rtol: f64, atol: f64, equal_nan: bool) -> Out {
        out(compare::isclose(&self.get(), &args::required("isclose", other)?, rtol, atol, equal_nan))
    }

    /// Whether all elements are close, as `isclose` has it. Observes both.
    #[pyo3(signature = (other, rtol=1e-5, atol=1e-8, equal_nan=false))]
    fn allclose(
        &self,
        py: Python<'_>,
        other: &Bound<'_, PyAny>,
        rtol: f64,
        atol: f64,
        equal_nan: bool,
    ) -> PyResult<bool> {
        let other = args::required("allclose", other)?;
        all(py, &compare::isclose(&self.get(), &other, rtol, atol, equal_nan)?)
    }

    /// Whether both have the same shape and the same elements, as one bool. Observes both; `eq` compares
    /// element by element.
    fn equal(&self, py: Python<'_>, other: &Bound<'_, PyTensor>) -> PyResult<bool> {
        let (a, b) = (self.get(), other.get().get());
        if a.shape() != b.shape() {
            return Ok(false);
        }
        all(py, &ops::elementwise::binary(E::eq, &a, &b)?)
    }

    /// The distinct elements in order; with the arguments also where each element is among them, and how
    /// often each comes. Observes the tensor.
    #[pyo3(signature = (return_inverse=false, return_counts=false))]
    fn unique<'py>(
        &self,
        py: Python<'py>,
        return_inverse: bool,
        return_counts: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let found = search::unique(&self.get())?;
        let mut parts = vec![PyTensor::new(found.values)];
        if return_inverse {
            parts.push(found.inverse.into());
        }
        if return_counts {
            parts.push(found.counts.into());
        }
        match parts.len() {
            1 => Ok(parts.remove(0).into_pyobject(py)?.into_any()),
            _ => Ok(PyTuple::new(py, parts)?.into_any()),
        }
    }
}

/// Whether all elements are true.
fn all(py: Python<'_>, t: &Tensor) -> PyResult<bool> {
    let axes: Vec<usize> = (0..t.rank()).collect();
    Ok(element(py, &reduce::any_all(t, &axes, false, true)?)? == Scalar::Bool(true))
}

/// Call it when everything else is there.
pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let tensor = m.py().get_type::<PyTensor>();
    for name in METHODS {
        m.add(*name, tensor.getattr(*name)?)?;
    }
    let aliases = PyDict::new(m.py());
    for &(name, of) in ALIASES {
        m.add(name, m.getattr(of)?)?;
        if let Ok(method) = tensor.getattr(of) {
            tensor.setattr(name, method)?;
        }
        aliases.set_item(name, of)?;
    }
    m.add("ALIASES", aliases)
}

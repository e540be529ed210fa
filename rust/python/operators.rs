//! The operators of `Tensor`, and the in-place methods that are operators by another name.

use super::args;
use super::tensor::{Out, PyTensor, out};
use crate::core::{Error, Scalar};
use crate::ir::Elementwise as E;
use crate::ops::{self, Arg, elementwise};
use pyo3::basic::CompareOp;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

/// `op(self, other)` or `op(other, self)`; NotImplemented for what is no number and no array.
fn operator<'py>(
    op: E,
    x: &Bound<'py, PyTensor>,
    other: &Bound<'py, PyAny>,
    swapped: bool,
) -> PyResult<Py<PyAny>> {
    let py = x.py();
    let Some(other) = args::arg(other)? else { return Ok(py.NotImplemented()) };
    let x = Arg::Tensor(x.get().get());
    let args = if swapped { [other, x] } else { [x, other] };
    Ok(Py::new(py, PyTensor::new(ops::apply(op, &args)?))?.into_any())
}

/// The same, put into the slot of `self`.
fn operator_in_place(op: E, name: &str, x: &PyTensor, other: &Bound<'_, PyAny>) -> PyResult<()> {
    let other = args::required(name, other)?;
    let value = ops::apply(op, &[Arg::Tensor(x.get()), other])?;
    if value.dtype() != x.get().dtype() && value.dtype().kind() > x.get().dtype().kind() {
        return Err(Error::DType(format!(
            "{name}: the result is {} and does not fit a tensor of {} in place; write `x = x …`",
            value.dtype(),
            x.get().dtype()
        ))
        .into());
    }
    Ok(x.put(name, value)?)
}

macro_rules! operators {
    ($($forward:ident $reverse:ident $in_place:ident $op:ident $symbol:literal;)*) => {
        #[pymethods]
        impl PyTensor {$(
            fn $forward<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                operator(E::$op, slf, other, false)
            }
            fn $reverse<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
                operator(E::$op, slf, other, true)
            }
            fn $in_place(&self, other: &Bound<'_, PyAny>) -> PyResult<()> {
                operator_in_place(E::$op, $symbol, self, other)
            }
        )*}
    };
}

operators! {
    __add__ __radd__ __iadd__ add "+=";
    __sub__ __rsub__ __isub__ sub "-=";
    __mul__ __rmul__ __imul__ mul "*=";
    __truediv__ __rtruediv__ __itruediv__ div "/=";
    __floordiv__ __rfloordiv__ __ifloordiv__ floor_divide "//=";
    __mod__ __rmod__ __imod__ remainder "%=";
    __and__ __rand__ __iand__ bitwise_and "&=";
    __or__ __ror__ __ior__ bitwise_or "|=";
    __xor__ __rxor__ __ixor__ bitwise_xor "^=";
    __lshift__ __rlshift__ __ilshift__ bitwise_left_shift "<<=";
    __rshift__ __rrshift__ __irshift__ bitwise_right_shift ">>=";
}

macro_rules! in_place {
    ($($(#[$doc:meta])* $name:ident = $op:ident;)*) => {
        #[pymethods]
        impl PyTensor {$(
            $(#[$doc])*
            fn $name<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
                operator_in_place(E::$op, stringify!($name), slf.get(), other)?;
                Ok(slf.clone())
            }
        )*}
    };
}

in_place! {
    /// Puts `x + other` into this handle.
    add_ = add;
    /// Puts `x - other` into this handle.
    sub_ = sub;
    /// Puts `x * other` into this handle.
    mul_ = mul;
    /// Puts `x / other` into this handle.
    div_ = div;
    /// Puts `x ** other` into this handle.
    pow_ = pow;
}

#[pymethods]
impl PyTensor {
    fn __richcmp__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
        op: CompareOp,
    ) -> PyResult<Py<PyAny>> {
        let op = match op {
            CompareOp::Lt => E::lt,
            CompareOp::Le => E::le,
            CompareOp::Eq => E::eq,
            CompareOp::Ne => E::ne,
            CompareOp::Gt => E::gt,
            CompareOp::Ge => E::ge,
        };
        operator(op, slf, other, false)
    }

    fn __contains__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Some(other) = args::arg(other)? else { return Ok(false) };
        let equal = ops::apply(E::eq, &[Arg::Tensor(self.get()), other])?;
        let axes: Vec<usize> = (0..equal.rank()).collect();
        let found = ops::reduce::any_all(&equal, &axes, false, false)?;
        Ok(super::tensor::element(py, &found)? == Scalar::Bool(true))
    }

    fn __pow__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
        modulo: &Bound<'py, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        if !modulo.is_none() {
            return Err(PyTypeError::new_err("pow: tensors take no modulus"));
        }
        // The exponents that people write most are cheaper as what they mean.
        let x = slf.get().get();
        let short = match args::scalar(other)?.map(|s| (s, x.dtype().is_float())) {
            Some((Scalar::Int(2) | Scalar::Float(2.0), true)) => Some(E::square),
            Some((Scalar::Float(0.5), true)) => Some(E::sqrt),
            Some((Scalar::Int(-1) | Scalar::Float(-1.0), true)) => Some(E::reciprocal),
            _ => None,
        };
        match short {
            Some(op) => Ok(Py::new(slf.py(), PyTensor::new(elementwise::unary(op, &x)?))?.into_any()),
            None => operator(E::pow, slf, other, false),
        }
    }

    fn __rpow__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
        _modulo: &Bound<'py, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        operator(E::pow, slf, other, true)
    }

    fn __ipow__(&self, other: &Bound<'_, PyAny>, _modulo: &Bound<'_, PyAny>) -> PyResult<()> {
        operator_in_place(E::pow, "**=", self, other)
    }

    fn __matmul__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
        match args::arg(other)? {
            Some(Arg::Tensor(b)) => {
                Ok(Py::new(slf.py(), PyTensor::new(ops::matmul::matmul(&slf.get().get(), &b)?))?.into_any())
            }
            _ => Ok(slf.py().NotImplemented()),
        }
    }

    fn __rmatmul__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
        match args::arg(other)? {
            Some(Arg::Tensor(a)) => {
                Ok(Py::new(slf.py(), PyTensor::new(ops::matmul::matmul(&a, &slf.get().get())?))?.into_any())
            }
            _ => Ok(slf.py().NotImplemented()),
        }
    }

    fn __neg__(&self) -> Out {
        out(elementwise::unary(E::neg, &self.get()))
    }

    fn __pos__(&self) -> PyTensor {
        PyTensor::new(self.get())
    }

    fn __abs__(&self) -> Out {
        out(elementwise::unary(E::abs, &self.get()))
    }

    fn __invert__(&self) -> Out {
        out(elementwise::unary(E::bitwise_not, &self.get()))
    }
}

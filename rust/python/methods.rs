//! Methods that give new tensors: reductions, views, products, casts. As functions of the module they are
//! these methods, called on their first argument.

use super::args;
use super::tensor::{Out, PyTensor, out};
use crate::core::{DType, Shape};
use crate::graph::Tensor;
use crate::ir::kernel::Scan;
use crate::ops::{self, matmul, reduce, view};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use smallvec::SmallVec;

type Dim<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

/// The axes to go over, by PyTorch's name or the array API's.
fn axes(op: &str, dim: Dim<'_, '_>, axis: Dim<'_, '_>, x: &Tensor) -> PyResult<SmallVec<[usize; 6]>> {
    if dim.is_some() && axis.is_some() {
        return Err(PyTypeError::new_err(format!("{op}: dim and axis are two names of one argument")));
    }
    args::axes_or_all(op, dim.or(axis), x.rank())
}

macro_rules! reductions {
    ($($(#[$doc:meta])* $name:ident($x:ident, $axes:ident, $keepdim:ident) $body:expr;)*) => {
        #[pymethods]
        impl PyTensor {$(
            $(#[$doc])*
            #[pyo3(signature = (dim=None, keepdim=false, *, axis=None, keepdims=None))]
            fn $name(&self, dim: Dim<'_, '_>, keepdim: bool, axis: Dim<'_, '_>, keepdims: Option<bool>) -> Out {
                let $x = &self.get();
                let $axes = &axes(stringify!($name), dim, axis, $x)?[..];
                let $keepdim = keepdims.unwrap_or(keepdim);
                out($body)
            }
        )*}
    };
}

reductions! {
    /// The mean over axes (all without `dim`).
    mean(x, axes, keepdim) reduce::mean(x, axes, keepdim);
    /// The largest elements over axes (all without `dim`); ties share the gradient.
    amax(x, axes, keepdim) reduce::extreme(x, axes, keepdim, true);
    /// The smallest elements over axes (all without `dim`); ties share the gradient.
    amin(x, axes, keepdim) reduce::extreme(x, axes, keepdim, false);
    /// Whether any element is true, over axes (all without `dim`).
    any(x, axes, keepdim) reduce::any_all(x, axes, keepdim, false);
    /// Whether all elements are true, over axes (all without `dim`).
    all(x, axes, keepdim) reduce::any_all(x, axes, keepdim, true);
    /// `log Σ exp` over axes (all without `dim`), without overflow.
    logsumexp(x, axes, keepdim) reduce::logsumexp(x, axes, keepdim);
}

/// The dtype conversions that have a name of their own.
macro_rules! casts {
    ($($(#[$doc:meta])* $name:ident $dtype:ident;)*) => {
        #[pymethods]
        impl PyTensor {$(
            $(#[$doc])*
            fn $name(&self) -> Out {
                out(ops::cast::cast(&self.get(), DType::$dtype))
            }
        )*}
    };
}

casts! {
    /// This tensor in float16.
    half F16;
    /// This tensor in bfloat16.
    bfloat16 BF16;
    /// This tensor in float32.
    float F32;
    /// This tensor in float64.
    double F64;
    /// This tensor in int32.
    int I32;
    /// This tensor in int64.
    long I64;
    /// This tensor as truth values: `x != 0`.
    bool Bool;
}

#[pymethods]
impl PyTensor {
    /// The sum over axes (all without `dim`). Integers and bool sum to int64 unless `dtype` is given.
    #[pyo3(signature = (dim=None, keepdim=false, *, dtype=None, axis=None, keepdims=None))]
    fn sum(
        &self,
        dim: Dim<'_, '_>,
        keepdim: bool,
        dtype: Dim<'_, '_>,
        axis: Dim<'_, '_>,
        keepdims: Option<bool>,
    ) -> Out {
        let x = self.cast_to(dtype)?;
        out(reduce::sum(&x, &axes("sum", dim, axis, &x)?, keepdims.unwrap_or(keepdim)))
    }

    /// The product over axes (all without `dim`). Integers and bool give int64 unless `dtype` is given.
    #[pyo3(signature = (dim=None, keepdim=false, *, dtype=None, axis=None, keepdims=None))]
    fn prod(
        &self,
        dim: Dim<'_, '_>,
        keepdim: bool,
        dtype: Dim<'_, '_>,
        axis: Dim<'_, '_>,
        keepdims: Option<bool>,
    ) -> Out {
        let x = self.cast_to(dtype)?;
        out(reduce::prod(&x, &axes("prod", dim, axis, &x)?, keepdims.unwrap_or(keepdim)))
    }

    /// The variance over axes (all without `dim`), with `n - correction` in the denominator.
    #[pyo3(signature = (dim=None, *, correction=1.0, keepdim=false, axis=None, keepdims=None))]
    fn var(
        &self,
        dim: Dim<'_, '_>,
        correction: f64,
        keepdim: bool,
        axis: Dim<'_, '_>,
        keepdims: Option<bool>,
    ) -> Out {
        let x = self.get();
        out(reduce::var(&x, &axes("var", dim, axis, &x)?, correction, keepdims.unwrap_or(keepdim)))
    }

    /// The standard deviation over axes (all without `dim`), with `n - correction` in the denominator.
    #[pyo3(signature = (dim=None, *, correction=1.0, keepdim=false, axis=None, keepdims=None))]
    fn std(
        &self,
        dim: Dim<'_, '_>,
        correction: f64,
        keepdim: bool,
        axis: Dim<'_, '_>,
        keepdims: Option<bool>,
    ) -> Out {
        let x = self.get();
        out(reduce::std(&x, &axes("std", dim, axis, &x)?, correction, keepdims.unwrap_or(keepdim)))
    }

    /// The index of the first largest element along `dim`, or in row-major order of all.
    #[pyo3(signature = (dim=None, keepdim=false, *, axis=None, keepdims=None))]
    fn argmax(&self, dim: Option<i64>, keepdim: bool, axis: Option<i64>, keepdims: Option<bool>) -> Out {
        if dim.is_some() && axis.is_some() {
            return Err(PyTypeError::new_err("argmax: dim and axis are two names of one argument"));
        }
        self.arg_extreme("argmax", dim.or(axis), keepdims.unwrap_or(keepdim), true)
    }

    /// The index of the first smallest element along `dim`, or in row-major order of all.
    #[pyo3(signature = (dim=None, keepdim=false, *, axis=None, keepdims=None))]
    fn argmin(&self, dim: Option<i64>, keepdim: bool, axis: Option<i64>, keepdims: Option<bool>) -> Out {
        if dim.is_some() && axis.is_some() {
            return Err(PyTypeError::new_err("argmin: dim and axis are two names of one argument"));
        }
        self.arg_extreme("argmin", dim.or(axis), keepdims.unwrap_or(keepdim), false)
    }

    /// Running sums along `dim`.
    fn cumsum(&self, dim: i64) -> Out {
        self.scan("cumsum", Scan::Sum, dim)
    }

    /// Running products along `dim`.
    fn cumprod(&self, dim: i64) -> Out {
        self.scan("cumprod", Scan::Prod, dim)
    }

    /// Running maxima along `dim`.
    fn cummax(&self, dim: i64) -> Out {
        self.scan("cummax", Scan::Max, dim)
    }

    /// Running minima along `dim`.
    fn cummin(&self, dim: i64) -> Out {
        self.scan("cummin", Scan::Min, dim)
    }

    /// The same elements in row-major order under another shape; one size may be -1.
    #[pyo3(signature = (*shape))]
    fn reshape(&self, shape: &Bound<'_, PyTuple>) -> Out {
        let x = self.get();
        out(view::reshape(&x, &view::infer_shape("reshape", &args::spread("reshape", shape)?, x.count())?))
    }

    /// The same as `reshape`.
    #[pyo3(signature = (*shape))]
    fn view(&self, shape: &Bound<'_, PyTuple>) -> Out {
        self.reshape(shape)
    }

    /// Axes from `start_dim` to `end_dim` as one.
    #[pyo3(signature = (start_dim=0, end_dim=-1))]
    fn flatten(&self, start_dim: i64, end_dim: i64) -> Out {
        let x = self.get();
        if x.rank() == 0 {
            return out(view::reshape(&x, &Shape::new(&[1])));
        }
        let (a, b) =
            (args::one_axis("flatten", start_dim, x.rank())?, args::one_axis("flatten", end_dim, x.rank())?);
        if a > b {
            return Err(super::errors::ShapeError::new_err(format!(
                "flatten: axis {a} comes after axis {b}"
            )));
        }
        let one: usize = x.shape()[a..=b].iter().product();
        let shape = x.shape()[..a].iter().copied().chain([one]).chain(x.shape()[b + 1..].iter().copied());
        out(view::reshape(&x, &shape.collect()))
    }

    /// Axes in a new order, `permute(2, 0, 1)`.
    #[pyo3(signature = (*dims))]
    fn permute(&self, dims: &Bound<'_, PyTuple>) -> Out {
        let x = self.get();
        let dims = args::spread("permute", dims)?;
        let axes: Vec<usize> =
            dims.iter().map(|&d| args::one_axis("permute", d, x.rank())).collect::<PyResult<_>>()?;
        out(view::permute(&x, &axes))
    }

    /// Two axes exchanged.
    fn transpose(&self, dim0: i64, dim1: i64) -> Out {
        let x = self.get();
        let axes =
            (args::one_axis("transpose", dim0, x.rank())?, args::one_axis("transpose", dim1, x.rank())?);
        out(view::transpose(&x, axes.0, axes.1))
    }

    /// A matrix with its axes exchanged.
    fn t(&self) -> Out {
        let x = self.get();
        if x.rank() > 2 {
            return Err(super::errors::ShapeError::new_err(format!(
                "t: expected a matrix, got {}",
                x.shape()
            )));
        }
        self.t_property()
    }

    /// All axes in reverse order.
    #[getter(T)]
    fn t_property(&self) -> Out {
        let x = self.get();
        out(view::permute(&x, &(0..x.rank()).rev().collect::<Vec<_>>()))
    }

    /// The last two axes exchanged.
    #[getter(mT)]
    fn m_t(&self) -> Out {
        let x = self.get();
        if x.rank() < 2 {
            return Err(super::errors::ShapeError::new_err(format!(
                "mT: {} has fewer than two axes",
                x.shape()
            )));
        }
        out(matmul::transposed(&x))
    }

    /// Without axes of size 1, or without those among `dim` that have it.
    #[pyo3(signature = (dim=None))]
    fn squeeze(&self, dim: Dim<'_, '_>) -> Out {
        let x = self.get();
        out(view::squeeze(&x, &args::axes_or_all("squeeze", dim, x.rank())?))
    }

    /// A new axis of size 1 before `dim`.
    fn unsqueeze(&self, dim: i64) -> Out {
        let x = self.get();
        out(view::unsqueeze(&x, args::one_axis("unsqueeze", dim, x.rank() + 1)?))
    }

    /// Axes of size 1 repeated as a view; -1 keeps a size.
    #[pyo3(signature = (*size))]
    fn expand(&self, size: &Bound<'_, PyTuple>) -> Out {
        let x = self.get();
        let mut sizes = args::spread("expand", size)?;
        let lead = sizes.len().saturating_sub(x.rank());
        for (i, size) in sizes.iter_mut().enumerate() {
            if *size == -1 && i >= lead {
                *size = x.shape()[i - lead] as i64;
            }
        }
        out(view::expand(&x, &args::shape("expand", &sizes)?))
    }

    /// The same as `expand`.
    #[pyo3(signature = (*shape))]
    fn broadcast_to(&self, shape: &Bound<'_, PyTuple>) -> Out {
        self.expand(shape)
    }

    /// This tensor, or a row-major copy if it has gaps.
    fn contiguous(&self) -> Out {
        out(ops::elementwise::contiguous(&self.get()))
    }

    /// The matrix product; leading axes broadcast.
    fn matmul(&self, other: &Bound<'_, PyAny>) -> Out {
        out(matmul::matmul(&self.get(), &args::tensor("matmul", other)?))
    }

    /// Elements limited to `[min, max]`; either may be missing, a number or a tensor.
    #[pyo3(signature = (min=None, max=None))]
    fn clamp(&self, min: Dim<'_, '_>, max: Dim<'_, '_>) -> Out {
        use crate::ir::Elementwise as E;
        if min.is_none() && max.is_none() {
            return Err(PyTypeError::new_err("clamp: give min, max or both"));
        }
        let mut x = self.get();
        if let Some(min) = min {
            x = ops::apply(E::maximum, &[ops::Arg::Tensor(x), args::required("clamp", min)?])?;
        }
        if let Some(max) = max {
            x = ops::apply(E::minimum, &[ops::Arg::Tensor(x), args::required("clamp", max)?])?;
        }
        Ok(PyTensor::new(x))
    }

    /// This tensor where the condition holds, else `other`.
    fn r#where(&self, condition: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) -> Out {
        let condition = ops::Arg::Tensor(args::tensor("where", condition)?);
        let args = [condition, ops::Arg::Tensor(self.get()), args::required("where", other)?];
        out(ops::apply(crate::ir::Elementwise::r#where, &args))
    }

    /// This tensor in the dtype of another.
    fn type_as(&self, other: &Bound<'_, PyTensor>) -> Out {
        out(ops::cast::cast(&self.get(), other.get().get().dtype()))
    }
}

impl PyTensor {
    fn cast_to(&self, dtype: Dim<'_, '_>) -> PyResult<Tensor> {
        let x = self.get();
        Ok(ops::cast::cast(&x, args::dtype_or(dtype, x.dtype())?)?)
    }

    fn arg_extreme(&self, op: &str, dim: Option<i64>, keepdim: bool, largest: bool) -> Out {
        let x = self.get();
        let axis = dim.map(|d| args::one_axis(op, d, x.rank())).transpose()?;
        out(reduce::arg_extreme(&x, axis, keepdim, largest))
    }

    fn scan(&self, op: &str, scan: Scan, dim: i64) -> Out {
        let x = self.get();
        out(reduce::scan(scan, &x, args::one_axis(op, dim, x.rank())?))
    }
}

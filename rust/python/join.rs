//! Functions of several tensors: joining, contracting, choosing between two, looking up.

use super::args;
use super::tensor::{Out, PyTensor, out};
use crate::core::{DType, Scalar};
use crate::graph::Tensor;
use crate::ops::{self, advanced, join, rearrange, search, shapes};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::select::{count, many, value};

type T<'a, 'py> = &'a Bound<'py, PyTensor>;
type Any<'a, 'py> = Option<&'a Bound<'py, PyAny>>;
type Many = PyResult<Vec<PyTensor>>;

/// Tensors one after another along an axis.
#[pyfunction]
#[pyo3(signature = (tensors, dim=0))]
fn cat(tensors: &Bound<'_, PyAny>, dim: i64) -> Out {
    let tensors = args::tensors("cat", tensors)?;
    let rank = tensors.first().map_or(1, |t| t.rank());
    out(join::cat(&tensors.iter().collect::<Vec<_>>(), args::one_axis("cat", dim, rank)?))
}

/// Tensors of one shape along a new axis.
#[pyfunction]
#[pyo3(signature = (tensors, dim=0))]
fn stack(tensors: &Bound<'_, PyAny>, dim: i64) -> Out {
    let tensors = args::tensors("stack", tensors)?;
    let rank = tensors.first().map_or(0, |t| t.rank()) + 1;
    out(join::stack(&tensors.iter().collect::<Vec<_>>(), args::one_axis("stack", dim, rank)?))
}

/// `a` where the condition holds, else `b`; either may be a number. With the condition alone, the places
/// where it is true, one vector for each axis.
#[pyfunction]
#[pyo3(name = "where", signature = (condition, a=None, b=None, /))]
fn where_<'py>(
    condition: &Bound<'py, PyAny>,
    a: Any<'_, 'py>,
    b: Any<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = condition.py();
    let condition = args::tensor("where", condition)?;
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (args::required("where", a)?, args::required("where", b)?),
        (None, None) => {
            let places = many(advanced::where1(&condition)?);
            return Ok(PyTuple::new(py, places)?.into_any());
        }
        _ => return Err(PyTypeError::new_err("where: give both values, or neither")),
    };
    let found = ops::apply(crate::ir::Elementwise::r#where, &[ops::Arg::Tensor(condition), a, b])?;
    Ok(PyTensor::new(found).into_pyobject(py)?.into_any())
}

/// Sums of products named by letters, as in `einsum("bij,bjk->bik", a, b)`.
#[pyfunction]
#[pyo3(signature = (equation, *operands))]
fn einsum(equation: &str, operands: &Bound<'_, PyTuple>) -> Out {
    let operands: Vec<Tensor> = match operands.len() {
        1 if operands.get_item(0)?.cast::<PyTensor>().is_err() => {
            operands.get_item(0)?.try_iter()?.map(|t| args::tensor("einsum", &t?)).collect::<PyResult<_>>()?
        }
        _ => operands.iter().map(|t| args::tensor("einsum", &t)).collect::<PyResult<_>>()?,
    };
    out(ops::einsum::einsum(equation, &operands.iter().collect::<Vec<_>>()))
}

/// 1 at the place that each integer names along a new last axis, else 0.
#[pyfunction]
#[pyo3(signature = (x, num_classes=None))]
fn one_hot(x: T<'_, '_>, num_classes: Option<i64>) -> Out {
    let classes = num_classes.filter(|&n| n != -1).map(|n| count("one_hot", n)).transpose()?;
    out(search::one_hot(&value(x), classes))
}

/// Elements added before and after axes: `pad` holds pairs from the last axis backwards, as PyTorch's.
/// `mode` is "constant", "reflect", "replicate" or "circular".
#[pyfunction]
#[pyo3(signature = (x, pad, mode="constant", value=None))]
fn pad(x: T<'_, '_>, pad: &Bound<'_, PyAny>, mode: &str, value: Any<'_, '_>) -> Out {
    let x = x.get().get();
    let given = args::integers("pad", pad)?;
    if given.len() % 2 != 0 || given.len() / 2 > x.rank() {
        return Err(PyValueError::new_err(format!(
            "pad: {} numbers for {} axes; give two for each axis, the last axis first",
            given.len(),
            x.rank()
        )));
    }
    let mut amounts = vec![(0, 0); x.rank()];
    for (i, both) in given.chunks_exact(2).enumerate() {
        amounts[x.rank() - 1 - i] = (both[0], both[1]);
    }
    let mode = match mode {
        "constant" => {
            let number = value.map_or(Ok(Some(Scalar::Int(0))), args::scalar)?;
            rearrange::Pad::Constant(
                number.ok_or_else(|| PyTypeError::new_err("pad: value must be a number"))?,
            )
        }
        "reflect" => rearrange::Pad::Reflect,
        "replicate" => rearrange::Pad::Replicate,
        "circular" => rearrange::Pad::Circular,
        other => return Err(PyValueError::new_err(format!("pad: mode {other:?} is unknown"))),
    };
    out(rearrange::pad(&x, &amounts, mode))
}

/// Coordinate grids of vectors; `indexing` is "ij" or "xy".
#[pyfunction]
#[pyo3(signature = (*tensors, indexing="ij"))]
fn meshgrid(tensors: &Bound<'_, PyTuple>, indexing: &str) -> Many {
    let tensors: Vec<Tensor> =
        tensors.iter().map(|t| args::tensor("meshgrid", &t)).collect::<PyResult<_>>()?;
    let swap = match indexing {
        "ij" => false,
        "xy" => true,
        other => return Err(PyValueError::new_err(format!("meshgrid: indexing {other:?} is unknown"))),
    };
    Ok(many(rearrange::meshgrid(&tensors.iter().collect::<Vec<_>>(), swap)?))
}

/// The distinct elements in ascending order, with where each came first, which each element is, and how
/// often each comes. Observes the tensor.
#[pyfunction]
fn unique_all(x: T<'_, '_>) -> PyResult<(PyTensor, PyTensor, PyTensor, PyTensor)> {
    let found = search::unique(&value(x))?;
    Ok((found.values.into(), found.first.into(), found.inverse.into(), found.counts.into()))
}

/// Where values would go in sorted rows, left or right of equal ones.
#[pyfunction]
#[pyo3(signature = (sorted_sequence, values, *, right=false, side=None))]
fn searchsorted(
    sorted_sequence: T<'_, '_>,
    values: &Bound<'_, PyAny>,
    right: bool,
    side: Option<&str>,
) -> Out {
    let right = match side {
        None => right,
        Some("left") => false,
        Some("right") => true,
        Some(other) => return Err(PyValueError::new_err(format!("searchsorted: side {other:?} is unknown"))),
    };
    out(search::searchsorted(&value(sorted_sequence), &args::tensor("searchsorted", values)?, right))
}

/// Contraction over axes: the last `dims` of a with the first of b, or two lists of axes.
#[pyfunction]
#[pyo3(signature = (a, b, dims=None))]
fn tensordot(a: T<'_, '_>, b: T<'_, '_>, dims: Any<'_, '_>) -> Out {
    let (a, b) = (value(a), value(b));
    let lists = match dims.map_or(Ok(Some(Scalar::Int(2))), args::scalar)? {
        Some(Scalar::Int(n)) => {
            let n = count("tensordot", n)?;
            if n > a.rank() || n > b.rank() {
                return Err(PyValueError::new_err(format!(
                    "tensordot: {n} axes of {} and {}",
                    a.shape(),
                    b.shape()
                )));
            }
            ((a.rank() - n..a.rank()).collect::<Vec<_>>(), (0..n).collect::<Vec<_>>())
        }
        _ => {
            let (first, second): (Bound<'_, PyAny>, Bound<'_, PyAny>) = dims.expect("checked").extract()?;
            let axes = |v, rank| args::axes_or_all("tensordot", Some(v), rank).map(|a| a.to_vec());
            (axes(&first, a.rank())?, axes(&second, b.rank())?)
        }
    };
    out(shapes::tensordot(&a, &b, (&lists.0, &lists.1)))
}

/// Views of all tensors in the shape to which they broadcast.
#[pyfunction]
#[pyo3(signature = (*tensors))]
fn broadcast_tensors(tensors: &Bound<'_, PyTuple>) -> Many {
    let tensors: Vec<Tensor> =
        tensors.iter().map(|t| args::tensor("broadcast_tensors", &t)).collect::<PyResult<_>>()?;
    if tensors.is_empty() {
        return Ok(vec![]);
    }
    Ok(many(ops::elementwise::broadcast_tensors("broadcast_tensors", &tensors.iter().collect::<Vec<_>>())?))
}

/// The Kronecker product.
#[pyfunction]
fn kron(a: T<'_, '_>, b: T<'_, '_>) -> Out {
    out(shapes::kron(&value(a), &value(b)))
}

/// The cross product along an axis of size 3.
#[pyfunction]
#[pyo3(signature = (a, b, dim=-1))]
fn cross(a: T<'_, '_>, b: T<'_, '_>, dim: i64) -> Out {
    let a = value(a);
    out(shapes::cross(&a, &value(b), args::one_axis("cross", dim, a.rank())?))
}

/// The p-distances between the rows of a (…, M, D) and b (…, N, D), to (…, M, N).
#[pyfunction]
#[pyo3(signature = (a, b, p=2.0))]
fn cdist(a: T<'_, '_>, b: T<'_, '_>, p: f64) -> Out {
    out(shapes::cdist(&value(a), &value(b), p))
}

/// The dtype that dtypes and tensors promote to.
#[pyfunction]
#[pyo3(signature = (*args))]
fn result_type(py: Python<'_>, args: &Bound<'_, PyTuple>) -> PyResult<Py<super::dtype::PyDType>> {
    let mut found: Option<DType> = None;
    let mut weak = vec![];
    for arg in args {
        let dtype = if let Ok(t) = arg.cast::<PyTensor>() {
            t.get().get().dtype()
        } else if let Some(scalar) = super::args::scalar(&arg)? {
            weak.push(scalar);
            continue;
        } else {
            super::dtype::extract(&arg)?
        };
        found = Some(found.map_or(dtype, |d| d.promote(dtype)));
    }
    let Some(mut dtype) = found else {
        return Err(PyValueError::new_err("result_type: at least one tensor or dtype is needed"));
    };
    for scalar in weak {
        dtype = scalar.promote(dtype);
    }
    Ok(super::dtype::object(py, dtype))
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for function in [
        wrap_pyfunction!(cat, m)?,
        wrap_pyfunction!(stack, m)?,
        wrap_pyfunction!(where_, m)?,
        wrap_pyfunction!(einsum, m)?,
        wrap_pyfunction!(one_hot, m)?,
        wrap_pyfunction!(pad, m)?,
        wrap_pyfunction!(meshgrid, m)?,
        wrap_pyfunction!(unique_all, m)?,
        wrap_pyfunction!(searchsorted, m)?,
        wrap_pyfunction!(tensordot, m)?,
        wrap_pyfunction!(broadcast_tensors, m)?,
        wrap_pyfunction!(kron, m)?,
        wrap_pyfunction!(cross, m)?,
        wrap_pyfunction!(cdist, m)?,
        wrap_pyfunction!(result_type, m)?,
    ] {
        m.add_function(function)?;
    }
    Ok(())
}

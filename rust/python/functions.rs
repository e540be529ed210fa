//! Functions of the module that are no methods: joining, products with options, layers.

use super::args;
use super::tensor::{Out, PyTensor, out};
use crate::ops::{self, join, matmul};
use pyo3::prelude::*;

type Tensors<'py> = Vec<Bound<'py, PyTensor>>;
type Opt<'a, 'py> = Option<&'a Bound<'py, PyTensor>>;

/// Tensors one after another along an axis.
#[pyfunction]
#[pyo3(signature = (tensors, dim=0))]
fn cat(tensors: Tensors<'_>, dim: i64) -> Out {
    let tensors: Vec<_> = tensors.iter().map(|t| t.get().get()).collect();
    let rank = tensors.first().map_or(1, |t| t.rank());
    out(join::cat(&tensors.iter().collect::<Vec<_>>(), args::one_axis("cat", dim, rank)?))
}

/// Tensors of one shape along a new axis.
#[pyfunction]
#[pyo3(signature = (tensors, dim=0))]
fn stack(tensors: Tensors<'_>, dim: i64) -> Out {
    let tensors: Vec<_> = tensors.iter().map(|t| t.get().get()).collect();
    let rank = tensors.first().map_or(0, |t| t.rank()) + 1;
    out(join::stack(&tensors.iter().collect::<Vec<_>>(), args::one_axis("stack", dim, rank)?))
}

/// `a` where the condition holds, else `b`; either may be a number.
#[pyfunction]
#[pyo3(name = "where", signature = (condition, a, b, /))]
fn where_(condition: &Bound<'_, PyAny>, a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> Out {
    let condition = ops::Arg::Tensor(args::tensor("where", condition)?);
    let args = [condition, args::required("where", a)?, args::required("where", b)?];
    out(ops::apply(crate::ir::Elementwise::r#where, &args))
}

/// `x Wᵀ + b`: x (…, in), weight (out, in), bias (out,).
#[pyfunction]
#[pyo3(signature = (x, weight, bias=None))]
fn linear(x: &Bound<'_, PyTensor>, weight: &Bound<'_, PyTensor>, bias: Opt<'_, '_>) -> Out {
    let bias = bias.map(|b| b.get().get());
    out(matmul::linear(&x.get().get(), &weight.get().get(), bias.as_ref()))
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for function in [
        wrap_pyfunction!(cat, m)?,
        wrap_pyfunction!(stack, m)?,
        wrap_pyfunction!(where_, m)?,
        wrap_pyfunction!(linear, m)?,
    ] {
        m.add_function(function)?;
    }
    Ok(())
}

//! Losses as functions; `reduction` is "mean", "sum" or "none".

use super::tensor::{Out, PyTensor, out};
use crate::graph::Tensor;
use crate::ops::loss::{self, Reduction};
use pyo3::prelude::*;

type T<'a, 'py> = &'a Bound<'py, PyTensor>;
type Opt<'a, 'py> = Option<&'a Bound<'py, PyTensor>>;

fn value(t: T<'_, '_>) -> Tensor {
    t.get().get()
}

fn maybe(t: Opt<'_, '_>) -> Option<Tensor> {
    t.map(value)
}

/// Minus the logarithm of the probability that softmax gives the target. Logits (N, C, …); targets int
/// (N, …), or probabilities in the shape of the logits.
#[pyfunction]
#[pyo3(signature = (x, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0))]
fn cross_entropy(
    x: T<'_, '_>,
    target: T<'_, '_>,
    weight: Opt<'_, '_>,
    ignore_index: Option<i64>,
    reduction: &str,
    label_smoothing: f64,
) -> Out {
    let reduction = Reduction::parse("cross_entropy", reduction)?;
    let weight = maybe(weight);
    out(loss::cross_entropy(
        &value(x),
        &value(target),
        weight.as_ref(),
        ignore_index,
        label_smoothing,
        reduction,
    ))
}

/// Minus the log-probability of the target: log-probabilities (N, C, …), targets int (N, …).
#[pyfunction]
#[pyo3(signature = (x, target, weight=None, ignore_index=-100, reduction="mean"))]
fn nll_loss(
    x: T<'_, '_>,
    target: T<'_, '_>,
    weight: Opt<'_, '_>,
    ignore_index: Option<i64>,
    reduction: &str,
) -> Out {
    let reduction = Reduction::parse("nll_loss", reduction)?;
    out(loss::nll_loss(&value(x), &value(target), maybe(weight).as_ref(), ignore_index, reduction))
}

/// The squared difference.
#[pyfunction]
#[pyo3(signature = (x, target, reduction="mean"))]
fn mse_loss(x: T<'_, '_>, target: T<'_, '_>, reduction: &str) -> Out {
    out(loss::mse_loss(&value(x), &value(target), Reduction::parse("mse_loss", reduction)?))
}

/// The absolute difference.
#[pyfunction]
#[pyo3(signature = (x, target, reduction="mean"))]
fn l1_loss(x: T<'_, '_>, target: T<'_, '_>, reduction: &str) -> Out {
    out(loss::l1_loss(&value(x), &value(target), Reduction::parse("l1_loss", reduction)?))
}

/// Squared near zero, linear beyond `delta` (Huber, 1964).
#[pyfunction]
#[pyo3(signature = (x, target, delta=1.0, reduction="mean"))]
fn huber_loss(x: T<'_, '_>, target: T<'_, '_>, delta: f64, reduction: &str) -> Out {
    out(loss::huber_loss(&value(x), &value(target), delta, Reduction::parse("huber_loss", reduction)?))
}

/// Huber's loss divided by `beta` (Girshick, 2015).
#[pyfunction]
#[pyo3(signature = (x, target, beta=1.0, reduction="mean"))]
fn smooth_l1_loss(x: T<'_, '_>, target: T<'_, '_>, beta: f64, reduction: &str) -> Out {
    out(loss::smooth_l1_loss(&value(x), &value(target), beta, Reduction::parse("smooth_l1_loss", reduction)?))
}

/// `target (log target − x)` for log-probabilities x.
#[pyfunction]
#[pyo3(signature = (x, target, log_target=false, reduction="mean"))]
fn kl_div(x: T<'_, '_>, target: T<'_, '_>, log_target: bool, reduction: &str) -> Out {
    out(loss::kl_div(&value(x), &value(target), log_target, Reduction::parse("kl_div", reduction)?))
}

/// Minus the log-probability of targets in [0, 1] under probabilities; logarithms stop at −100.
#[pyfunction]
#[pyo3(signature = (p, target, weight=None, reduction="mean"))]
fn binary_cross_entropy(p: T<'_, '_>, target: T<'_, '_>, weight: Opt<'_, '_>, reduction: &str) -> Out {
    let reduction = Reduction::parse("binary_cross_entropy", reduction)?;
    out(loss::binary_cross_entropy(&value(p), &value(target), maybe(weight).as_ref(), reduction))
}

/// The same for logits, without overflow.
#[pyfunction]
#[pyo3(signature = (x, target, weight=None, pos_weight=None, reduction="mean"))]
fn binary_cross_entropy_with_logits(
    x: T<'_, '_>,
    target: T<'_, '_>,
    weight: Opt<'_, '_>,
    pos_weight: Opt<'_, '_>,
    reduction: &str,
) -> Out {
    let reduction = Reduction::parse("binary_cross_entropy_with_logits", reduction)?;
    let (weight, pos_weight) = (maybe(weight), maybe(pos_weight));
    out(loss::binary_cross_entropy_with_logits(
        &value(x),
        &value(target),
        weight.as_ref(),
        pos_weight.as_ref(),
        reduction,
    ))
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for function in [
        wrap_pyfunction!(cross_entropy, m)?,
        wrap_pyfunction!(nll_loss, m)?,
        wrap_pyfunction!(mse_loss, m)?,
        wrap_pyfunction!(l1_loss, m)?,
        wrap_pyfunction!(huber_loss, m)?,
        wrap_pyfunction!(smooth_l1_loss, m)?,
        wrap_pyfunction!(kl_div, m)?,
        wrap_pyfunction!(binary_cross_entropy, m)?,
        wrap_pyfunction!(binary_cross_entropy_with_logits, m)?,
    ] {
        m.add_function(function)?;
    }
    Ok(())
}

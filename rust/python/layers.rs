//! Layers as functions: products with weights, convolutions, pools, norms, dropout, embeddings.

use super::args;
use super::random::PyGenerator;
use super::tensor::{Out, PyTensor, out};
use crate::graph::Tensor;
use crate::ir::conv::{Conv2d, Pool2d};
use crate::ops::{self, attention, conv, index, matmul, norm, pool};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

type T<'a, 'py> = &'a Bound<'py, PyTensor>;
type Opt<'a, 'py> = Option<&'a Bound<'py, PyTensor>>;
type Any<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

fn value(t: T<'_, '_>) -> Tensor {
    t.get().get()
}

fn maybe(t: Opt<'_, '_>) -> Option<Tensor> {
    t.map(value)
}

/// One size for each of N axes: an integer for all, or a sequence of N.
fn sizes<const N: usize>(
    op: &str,
    name: &str,
    value: Any<'_, '_>,
    default: [usize; N],
) -> PyResult<[usize; N]> {
    let Some(value) = value.filter(|v| !v.is_none()) else { return Ok(default) };
    let list = args::integers(op, value)?;
    let list: Vec<usize> = list
        .iter()
        .map(|&i| {
            usize::try_from(i).map_err(|_| PyValueError::new_err(format!("{op}: {name} {i} is negative")))
        })
        .collect::<PyResult<_>>()?;
    match list[..] {
        [one] => Ok([one; N]),
        _ => list.try_into().map_err(|list: Vec<usize>| {
            PyValueError::new_err(format!("{op}: {name} has {} values, expected 1 or {N}", list.len()))
        }),
    }
}

/// `x Wᵀ + b`: x (…, in), weight (out, in), bias (out,), to (…, out).
#[pyfunction]
#[pyo3(signature = (x, weight, bias=None))]
fn linear(x: T<'_, '_>, weight: T<'_, '_>, bias: Opt<'_, '_>) -> Out {
    out(matmul::linear(&value(x), &value(weight), maybe(bias).as_ref()))
}

/// softmax(scale q kᵀ + mask) v without all scores in memory; `nn/functional/attention.py` is the caller.
#[pyfunction]
fn _attention(q: T<'_, '_>, k: T<'_, '_>, v: T<'_, '_>, mask: Opt<'_, '_>, causal: bool, scale: f64) -> Out {
    out(attention::attention(&value(q), &value(k), &value(v), maybe(mask).as_ref(), causal, scale))
}

/// Cross-correlation of x (N, C, L) with weight (K, C/groups, R), to (N, K, L').
#[pyfunction]
#[pyo3(signature = (x, weight, bias=None, stride=None, padding=None, dilation=None, groups=1))]
fn conv1d(
    x: T<'_, '_>,
    weight: T<'_, '_>,
    bias: Opt<'_, '_>,
    stride: Any<'_, '_>,
    padding: Any<'_, '_>,
    dilation: Any<'_, '_>,
    groups: usize,
) -> Out {
    let [stride] = sizes("conv1d", "stride", stride, [1])?;
    let [padding] = sizes("conv1d", "padding", padding, [0])?;
    let [dilation] = sizes("conv1d", "dilation", dilation, [1])?;
    out(conv::conv1d(&value(x), &value(weight), maybe(bias).as_ref(), [stride, padding, dilation], groups))
}

fn geometry(
    op: &str,
    stride: Any<'_, '_>,
    padding: Any<'_, '_>,
    dilation: Any<'_, '_>,
    groups: usize,
) -> PyResult<Conv2d> {
    Ok(Conv2d {
        stride: sizes(op, "stride", stride, [1, 1])?,
        padding: sizes(op, "padding", padding, [0, 0])?,
        dilation: sizes(op, "dilation", dilation, [1, 1])?,
        groups,
    })
}

/// Cross-correlation of x (N, C, H, W) with weight (K, C/groups, R, S), to (N, K, H', W').
#[pyfunction]
#[pyo3(signature = (x, weight, bias=None, stride=None, padding=None, dilation=None, groups=1))]
fn conv2d(
    x: T<'_, '_>,
    weight: T<'_, '_>,
    bias: Opt<'_, '_>,
    stride: Any<'_, '_>,
    padding: Any<'_, '_>,
    dilation: Any<'_, '_>,
    groups: usize,
) -> Out {
    let geometry = geometry("conv2d", stride, padding, dilation, groups)?;
    out(conv::conv2d(&value(x), &value(weight), maybe(bias).as_ref(), geometry))
}

/// The adjoint of `conv1d`: x (N, C, L) with weight (C, K/groups, R), to (N, K, L').
#[pyfunction]
#[pyo3(signature = (x, weight, bias=None, stride=None, padding=None, output_padding=None, groups=1, dilation=None))]
#[allow(clippy::too_many_arguments, reason = "PyTorch's signature")]
fn conv_transpose1d(
    x: T<'_, '_>,
    weight: T<'_, '_>,
    bias: Opt<'_, '_>,
    stride: Any<'_, '_>,
    padding: Any<'_, '_>,
    output_padding: Any<'_, '_>,
    groups: usize,
    dilation: Any<'_, '_>,
) -> Out {
    let op = "conv_transpose1d";
    let [stride] = sizes(op, "stride", stride, [1])?;
    let [padding] = sizes(op, "padding", padding, [0])?;
    let [dilation] = sizes(op, "dilation", dilation, [1])?;
    let [extra] = sizes(op, "output_padding", output_padding, [0])?;
    let geometry = [stride, padding, dilation];
    out(conv::conv_transpose1d(&value(x), &value(weight), maybe(bias).as_ref(), geometry, groups, extra))
}

/// The adjoint of `conv2d`: x (N, C, H, W) with weight (C, K/groups, R, S), to (N, K, H', W').
#[pyfunction]
#[pyo3(signature = (x, weight, bias=None, stride=None, padding=None, output_padding=None, groups=1, dilation=None))]
#[allow(clippy::too_many_arguments, reason = "PyTorch's signature")]
fn conv_transpose2d(
    x: T<'_, '_>,
    weight: T<'_, '_>,
    bias: Opt<'_, '_>,
    stride: Any<'_, '_>,
    padding: Any<'_, '_>,
    output_padding: Any<'_, '_>,
    groups: usize,
    dilation: Any<'_, '_>,
) -> Out {
    let op = "conv_transpose2d";
    let geometry = geometry(op, stride, padding, dilation, groups)?;
    let extra = sizes(op, "output_padding", output_padding, [0, 0])?;
    out(conv::conv_transpose2d(&value(x), &value(weight), maybe(bias).as_ref(), geometry, extra))
}

/// One tensor, or two where indices were asked for.
fn with_indices<'py>(py: Python<'py>, found: (Tensor, Tensor), both: bool) -> PyResult<Bound<'py, PyAny>> {
    let (values, places) = (PyTensor::new(found.0), PyTensor::new(found.1));
    if both {
        return Ok((values, places).into_pyobject(py)?.into_any());
    }
    Ok(values.into_pyobject(py)?.into_any())
}

/// The largest element of each window of x (N, C, L); with `return_indices` also where it is.
#[pyfunction]
#[pyo3(signature = (x, kernel_size, stride=None, padding=None, dilation=None, ceil_mode=false, return_indices=false))]
#[allow(clippy::too_many_arguments, reason = "PyTorch's signature")]
fn max_pool1d<'py>(
    x: T<'_, 'py>,
    kernel_size: &Bound<'py, PyAny>,
    stride: Any<'_, 'py>,
    padding: Any<'_, 'py>,
    dilation: Any<'_, 'py>,
    ceil_mode: bool,
    return_indices: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let op = "max_pool1d";
    let [kernel] = sizes(op, "kernel_size", Some(kernel_size), [1])?;
    let [stride] = sizes(op, "stride", stride, [kernel])?;
    let [padding] = sizes(op, "padding", padding, [0])?;
    let [dilation] = sizes(op, "dilation", dilation, [1])?;
    let found = pool::max_pool1d(&value(x), [kernel, stride, padding, dilation], ceil_mode)?;
    with_indices(x.py(), found, return_indices)
}

/// The largest element of each window of x (N, C, H, W); with `return_indices` also where it is in H·W.
#[pyfunction]
#[pyo3(signature = (x, kernel_size, stride=None, padding=None, dilation=None, ceil_mode=false, return_indices=false))]
#[allow(clippy::too_many_arguments, reason = "PyTorch's signature")]
fn max_pool2d<'py>(
    x: T<'_, 'py>,
    kernel_size: &Bound<'py, PyAny>,
    stride: Any<'_, 'py>,
    padding: Any<'_, 'py>,
    dilation: Any<'_, 'py>,
    ceil_mode: bool,
    return_indices: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let op = "max_pool2d";
    let kernel = sizes(op, "kernel_size", Some(kernel_size), [1, 1])?;
    let pool = Pool2d {
        kernel,
        stride: sizes(op, "stride", stride, kernel)?,
        padding: sizes(op, "padding", padding, [0, 0])?,
        dilation: sizes(op, "dilation", dilation, [1, 1])?,
        ceil_mode,
        count_include_pad: true,
    };
    with_indices(x.py(), pool::max_pool2d(&value(x), pool)?, return_indices)
}

/// The mean of each window of x (N, C, L).
#[pyfunction]
#[pyo3(signature = (x, kernel_size, stride=None, padding=None, ceil_mode=false, count_include_pad=true))]
fn avg_pool1d(
    x: T<'_, '_>,
    kernel_size: &Bound<'_, PyAny>,
    stride: Any<'_, '_>,
    padding: Any<'_, '_>,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Out {
    let op = "avg_pool1d";
    let [kernel] = sizes(op, "kernel_size", Some(kernel_size), [1])?;
    let [stride] = sizes(op, "stride", stride, [kernel])?;
    let [padding] = sizes(op, "padding", padding, [0])?;
    out(pool::avg_pool1d(&value(x), [kernel, stride, padding], ceil_mode, count_include_pad))
}

/// The mean of each window of x (N, C, H, W).
#[pyfunction]
#[pyo3(signature = (x, kernel_size, stride=None, padding=None, ceil_mode=false, count_include_pad=true))]
fn avg_pool2d(
    x: T<'_, '_>,
    kernel_size: &Bound<'_, PyAny>,
    stride: Any<'_, '_>,
    padding: Any<'_, '_>,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Out {
    let op = "avg_pool2d";
    let kernel = sizes(op, "kernel_size", Some(kernel_size), [1, 1])?;
    let pool = Pool2d {
        kernel,
        stride: sizes(op, "stride", stride, kernel)?,
        padding: sizes(op, "padding", padding, [0, 0])?,
        dilation: [1, 1],
        ceil_mode,
        count_include_pad,
    };
    out(pool::avg_pool2d(&value(x), pool))
}

/// Means over so many bins of x (N, C, L), whatever its length.
#[pyfunction]
fn adaptive_avg_pool1d(x: T<'_, '_>, output_size: &Bound<'_, PyAny>) -> Out {
    let [size] = sizes("adaptive_avg_pool1d", "output_size", Some(output_size), [1])?;
    out(pool::adaptive_avg_pool1d(&value(x), size))
}

/// Means over so many bins of x (N, C, H, W), whatever its size.
#[pyfunction]
fn adaptive_avg_pool2d(x: T<'_, '_>, output_size: &Bound<'_, PyAny>) -> Out {
    let size = sizes("adaptive_avg_pool2d", "output_size", Some(output_size), [1, 1])?;
    out(pool::adaptive_avg_pool2d(&value(x), size))
}

/// Maxima over so many bins of x (N, C, L), whatever its length.
#[pyfunction]
#[pyo3(signature = (x, output_size, return_indices=false))]
fn adaptive_max_pool1d<'py>(
    x: T<'_, 'py>,
    output_size: &Bound<'py, PyAny>,
    return_indices: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let [size] = sizes("adaptive_max_pool1d", "output_size", Some(output_size), [1])?;
    with_indices(x.py(), pool::adaptive_max_pool1d(&value(x), size)?, return_indices)
}

/// Maxima over so many bins of x (N, C, H, W), whatever its size.
#[pyfunction]
#[pyo3(signature = (x, output_size, return_indices=false))]
fn adaptive_max_pool2d<'py>(
    x: T<'_, 'py>,
    output_size: &Bound<'py, PyAny>,
    return_indices: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let size = sizes("adaptive_max_pool2d", "output_size", Some(output_size), [1, 1])?;
    with_indices(x.py(), pool::adaptive_max_pool2d(&value(x), size)?, return_indices)
}

#[pymethods]
impl PyTensor {
    /// `exp(x) / Σ exp(x)` along `dim`.
    #[pyo3(signature = (dim=-1, dtype=None))]
    fn softmax(&self, dim: i64, dtype: Any<'_, '_>) -> Out {
        let x = self.get();
        let x = ops::cast::cast(&x, args::dtype_or(dtype, x.dtype())?)?;
        out(norm::softmax(&x, args::one_axis("softmax", dim, x.rank())?))
    }

    /// The logarithm of `softmax` along `dim`, without loss of digits.
    #[pyo3(signature = (dim=-1, dtype=None))]
    fn log_softmax(&self, dim: i64, dtype: Any<'_, '_>) -> Out {
        let x = self.get();
        let x = ops::cast::cast(&x, args::dtype_or(dtype, x.dtype())?)?;
        out(norm::log_softmax(&x, args::one_axis("log_softmax", dim, x.rank())?))
    }
}

fn shape_list(op: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<usize>> {
    let list = args::integers(op, value)?;
    Ok(args::shape(op, &list)?.to_vec())
}

/// Each of the last axes, `normalized_shape`, to mean 0 and variance 1, then scaled and shifted
/// (Ba et al., 2016).
#[pyfunction]
#[pyo3(signature = (x, normalized_shape, weight=None, bias=None, eps=1e-5))]
fn layer_norm(
    x: T<'_, '_>,
    normalized_shape: &Bound<'_, PyAny>,
    weight: Opt<'_, '_>,
    bias: Opt<'_, '_>,
    eps: f64,
) -> Out {
    let shape = shape_list("layer_norm", normalized_shape)?;
    out(norm::layer_norm(&value(x), &shape, maybe(weight).as_ref(), maybe(bias).as_ref(), eps))
}

/// The last axes divided by their root mean square, then scaled (Zhang and Sennrich, 2019).
#[pyfunction]
#[pyo3(signature = (x, normalized_shape, weight=None, eps=None))]
fn rms_norm(x: T<'_, '_>, normalized_shape: &Bound<'_, PyAny>, weight: Opt<'_, '_>, eps: Option<f64>) -> Out {
    let shape = shape_list("rms_norm", normalized_shape)?;
    out(norm::rms_norm(&value(x), &shape, maybe(weight).as_ref(), eps))
}

/// Groups of channels of x (N, C, …) to mean 0 and variance 1, then scaled and shifted (Wu and He, 2018).
#[pyfunction]
#[pyo3(signature = (x, num_groups, weight=None, bias=None, eps=1e-5))]
fn group_norm(x: T<'_, '_>, num_groups: usize, weight: Opt<'_, '_>, bias: Opt<'_, '_>, eps: f64) -> Out {
    out(norm::group_norm(&value(x), num_groups, maybe(weight).as_ref(), maybe(bias).as_ref(), eps))
}

/// Channels of x (N, C, …) normalised with the mean and variance given, then scaled and shifted.
#[pyfunction]
#[pyo3(signature = (x, weight, bias, mean, var, eps=1e-5))]
fn batch_norm(
    x: T<'_, '_>,
    weight: Opt<'_, '_>,
    bias: Opt<'_, '_>,
    mean: T<'_, '_>,
    var: T<'_, '_>,
    eps: f64,
) -> Out {
    out(norm::batch_norm(
        &value(x),
        maybe(weight).as_ref(),
        maybe(bias).as_ref(),
        &value(mean),
        &value(var),
        eps,
    ))
}

/// Channels of x (N, C, …) normalised with the batch's own mean and variance (Ioffe and Szegedy, 2015);
/// gives the result, the mean and the biased variance.
#[pyfunction]
#[pyo3(signature = (x, weight=None, bias=None, eps=1e-5))]
fn batch_norm_train(
    x: T<'_, '_>,
    weight: Opt<'_, '_>,
    bias: Opt<'_, '_>,
    eps: f64,
) -> PyResult<(PyTensor, PyTensor, PyTensor)> {
    let (y, mean, var) =
        norm::batch_norm_train(&value(x), maybe(weight).as_ref(), maybe(bias).as_ref(), eps)?;
    Ok((y.into(), mean.into(), var.into()))
}

/// Zeros each element with probability p and scales the rest by 1/(1 − p) (Srivastava et al., 2014).
#[pyfunction]
#[pyo3(signature = (x, p=0.5, training=true, *, generator=None))]
fn dropout(x: T<'_, '_>, p: f64, training: bool, generator: Option<&Bound<'_, PyGenerator>>) -> Out {
    if !training {
        return Ok(PyTensor::new(value(x)));
    }
    out(super::random::with(generator, |from| ops::random::dropout(&value(x), p, from)))
}

/// The same for whole channels of x (N, C, …).
#[pyfunction]
#[pyo3(signature = (x, p=0.5, training=true, *, generator=None))]
fn dropout_channels(x: T<'_, '_>, p: f64, training: bool, generator: Option<&Bound<'_, PyGenerator>>) -> Out {
    if !training {
        return Ok(PyTensor::new(value(x)));
    }
    out(super::random::with(generator, |from| ops::random::dropout_channels(&value(x), p, from)))
}

/// Rows of weight (V, D) by indices of any shape, to (…, D). Rows at `padding_idx` get no gradient.
#[pyfunction]
#[pyo3(signature = (indices, weight, padding_idx=None))]
fn embedding(indices: T<'_, '_>, weight: T<'_, '_>, padding_idx: Option<i64>) -> Out {
    let (indices, weight) = (value(indices), value(weight));
    if weight.rank() != 2 {
        return Err(super::errors::ShapeError::new_err(format!(
            "embedding: weight {} is no matrix",
            weight.shape()
        )));
    }
    let rows = index::take(&weight, &indices, 0)?;
    let Some(padding) = padding_idx else { return Ok(rows.into()) };
    let count = weight.shape()[0] as i64;
    if !(-count..count).contains(&padding) {
        return Err(PyValueError::new_err(format!(
            "embedding: padding_idx {padding} is not among {count} rows"
        )));
    }
    let padding = padding.rem_euclid(count);
    let is_padding =
        ops::apply(crate::ir::Elementwise::eq, &[(&indices).into(), ops::Arg::Scalar(padding.into())])?;
    let is_padding = ops::view::unsqueeze(&is_padding, indices.rank())?;
    out(ops::elementwise::select(&is_padding, &rows.detach(), &rows))
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for function in [
        wrap_pyfunction!(linear, m)?,
        wrap_pyfunction!(_attention, m)?,
        wrap_pyfunction!(conv1d, m)?,
        wrap_pyfunction!(conv2d, m)?,
        wrap_pyfunction!(conv_transpose1d, m)?,
        wrap_pyfunction!(conv_transpose2d, m)?,
        wrap_pyfunction!(max_pool1d, m)?,
        wrap_pyfunction!(max_pool2d, m)?,
        wrap_pyfunction!(avg_pool1d, m)?,
        wrap_pyfunction!(avg_pool2d, m)?,
        wrap_pyfunction!(adaptive_avg_pool1d, m)?,
        wrap_pyfunction!(adaptive_avg_pool2d, m)?,
        wrap_pyfunction!(adaptive_max_pool1d, m)?,
        wrap_pyfunction!(adaptive_max_pool2d, m)?,
        wrap_pyfunction!(layer_norm, m)?,
        wrap_pyfunction!(rms_norm, m)?,
        wrap_pyfunction!(group_norm, m)?,
        wrap_pyfunction!(batch_norm, m)?,
        wrap_pyfunction!(batch_norm_train, m)?,
        wrap_pyfunction!(dropout, m)?,
        wrap_pyfunction!(dropout_channels, m)?,
        wrap_pyfunction!(embedding, m)?,
    ] {
        m.add_function(function)?;
    }
    Ok(())
}

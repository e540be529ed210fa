//! Softmax and the normalizations. The latter are moments and elementwise chains, which fuse, and whose
//! gradients come by themselves. Half floats are normalized in float32.

use super::{cast, elementwise, float, node, reduce, rule, view};
use crate::bail;
use crate::core::{Result, Shape};
use crate::graph::Tensor;
use crate::graph::record::record_one;
use crate::ir::Elementwise as E;
use crate::ir::Kernel;
use crate::ir::kernel::Fused;

/// `exp(x) / Σ exp(x)` along an axis; integers become float32.
pub fn softmax(x: &Tensor, axis: usize) -> Result<Tensor> {
    along_last(x, axis, |x, last| {
        let kernel = Kernel::Softmax { log: false, map: Fused::identity(x.dtype()) };
        let y = node(kernel, &[x], x.shape().clone(), x.dtype())?;
        let seen = y.clone();
        Ok(record_one("softmax", &[x], y, || {
            // dx = y (dy − Σ y dy)
            rule::one(move |context, g| {
                let y = context.output(&seen, 0);
                let mean = reduce::sum(&elementwise::binary(E::mul, g, &y)?, &[last], true)?;
                elementwise::binary(E::mul, &y, &elementwise::binary(E::sub, g, &mean)?)
            })
        }))
    })
}

/// `x − log Σ exp(x)` along an axis; integers become float32.
pub fn log_softmax(x: &Tensor, axis: usize) -> Result<Tensor> {
    along_last(x, axis, |x, last| {
        let kernel = Kernel::Softmax { log: true, map: Fused::identity(x.dtype()) };
        let y = node(kernel, &[x], x.shape().clone(), x.dtype())?;
        let seen = y.clone();
        Ok(record_one("log_softmax", &[x], y, || {
            // dx = dy − exp(y) Σ dy
            rule::one(move |context, g| {
                let p = elementwise::unary(E::exp, &context.output(&seen, 0))?;
                let total = reduce::sum(g, &[last], true)?;
                elementwise::binary(E::sub, g, &elementwise::binary(E::mul, &p, &total)?)
            })
        }))
    })
}

/// Runs `body` with the axis exchanged with the last.
fn along_last(
    x: &Tensor,
    axis: usize,
    body: impl FnOnce(&Tensor, usize) -> Result<Tensor>,
) -> Result<Tensor> {
    let last = x.rank() - 1;
    let x = cast::cast(x, float(x.dtype()))?;
    let y = body(&view::transpose(&x, axis, last)?, last)?;
    Ok(view::transpose(&y, axis, last)?.as_own())
}

/// Floats in the dtype in which they are normalized.
fn wide(op: &str, x: &Tensor) -> Result<Tensor> {
    if !x.dtype().is_float() {
        bail!(DType, "{op}: takes floats, not {}; cast them first, as in `x.float()`", x.dtype());
    }
    cast::cast(x, x.dtype().compute())
}

/// `(x − mean) / √(var + eps)`; all broadcast.
fn standardize(x: &Tensor, mean: &Tensor, var: &Tensor, eps: f64) -> Result<Tensor> {
    let scale = elementwise::unary(E::rsqrt, &elementwise::binary(E::add, var, eps)?)?;
    elementwise::binary(E::mul, &elementwise::binary(E::sub, x, mean)?, &scale)
}

/// `y · weight + bias` where these are given, both of the shape `own` seen as `spread`.
fn affine(
    op: &str,
    y: Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    own: &[usize],
    spread: &Shape,
) -> Result<Tensor> {
    let mut y = y;
    for (name, e, t) in [("weight", E::mul, weight), ("bias", E::add, bias)] {
        let Some(t) = t else { continue };
        if t.shape()[..] != *own {
            bail!(Shape, "{op}: {name} {} where {} is expected", t.shape(), Shape::new(own));
        }
        y = elementwise::binary(e, &y, &view::reshape(&cast::cast(t, y.dtype())?, spread)?)?;
    }
    Ok(y)
}

/// The last axes of `x`, if they have the sizes of `normalized`.
fn last_axes(op: &str, x: &Tensor, normalized: &[usize]) -> Result<Vec<usize>> {
    if normalized.is_empty() || !x.shape().ends_with(normalized) {
        bail!(
            Shape,
            "{op}: input {} does not end with the normalized shape {}",
            x.shape(),
            Shape::new(normalized)
        );
    }
    Ok((x.rank() - normalized.len()..x.rank()).collect())
}

/// Zero mean and unit variance over the last axes, of sizes `normalized` (Ba et al., 2016).
pub fn layer_norm(
    x: &Tensor,
    normalized: &[usize],
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let axes = last_axes("layer_norm", x, normalized)?;
    let full = wide("layer_norm", x)?;
    let (mean, var) = reduce::moments(&full, &axes)?;
    let y = standardize(&full, &mean, &var, eps)?;
    cast::cast(&affine("layer_norm", y, weight, bias, normalized, &Shape::new(normalized))?, x.dtype())
}

/// `x / √(mean(x²) + eps)` over the last axes, of sizes `normalized` (Zhang and Sennrich, 2019).
pub fn rms_norm(x: &Tensor, normalized: &[usize], weight: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let axes = last_axes("rms_norm", x, normalized)?;
    let full = wide("rms_norm", x)?;
    let power = reduce::mean(&elementwise::unary(E::square, &full)?, &axes, true)?;
    let scale = elementwise::unary(E::rsqrt, &elementwise::binary(E::add, &power, eps)?)?;
    let y = elementwise::binary(E::mul, &full, &scale)?;
    cast::cast(&affine("rms_norm", y, weight, None, normalized, &Shape::new(normalized))?, x.dtype())
}

/// Zero mean and unit variance over each of `groups` groups of channels of (N, C, …) (Wu and He, 2018).
/// One group a channel is instance norm.
pub fn group_norm(
    x: &Tensor,
    groups: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let (n, c) = channels("group_norm", x)?;
    if groups == 0 || c % groups != 0 {
        bail!(Value, "group_norm: {c} channels do not divide into {groups} groups");
    }
    let full = wide("group_norm", x)?;
    let each = x.count().checked_div(n * groups).unwrap_or(0);
    let rows = view::reshape(&full, &Shape::new(&[n, groups, each]))?;
    let (mean, var) = reduce::moments(&rows, &[2])?;
    let y = view::reshape(&standardize(&rows, &mean, &var, eps)?, x.shape())?;
    cast::cast(&affine("group_norm", y, weight, bias, &[c], &column(c, x.rank()))?, x.dtype())
}

/// Batch norm with given statistics, each (C,), over the channels of (N, C, …): what evaluation does.
pub fn batch_norm(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    mean: &Tensor,
    var: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let (_, c) = channels("batch_norm", x)?;
    let full = wide("batch_norm", x)?;
    let spread = column(c, x.rank());
    let statistic = |name: &str, t: &Tensor| {
        if t.shape()[..] != [c] {
            bail!(Shape, "batch_norm: {name} {} for {c} channels", t.shape());
        }
        view::reshape(&cast::cast(t, full.dtype())?, &spread)
    };
    let y = standardize(&full, &statistic("mean", mean)?, &statistic("variance", var)?, eps)?;
    cast::cast(&affine("batch_norm", y, weight, bias, &[c], &spread)?, x.dtype())
}

/// Batch norm with the batch's own statistics (Ioffe and Szegedy, 2015): the result, and for the running
/// averages the mean and the biased variance of each channel, (C,), without history.
pub fn batch_norm_train(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (_, c) = channels("batch_norm", x)?;
    if c > 0 && x.count() / c < 2 {
        bail!(
            Value,
            "batch_norm: {} has {} values a channel; training needs more than one",
            x.shape(),
            x.count() / c
        );
    }
    let full = wide("batch_norm", x)?;
    let axes: Vec<usize> = (0..x.rank()).filter(|&a| a != 1).collect();
    let (mean, var) = reduce::moments(&full, &axes)?;
    let y = standardize(&full, &mean, &var, eps)?;
    let y = cast::cast(&affine("batch_norm", y, weight, bias, &[c], &column(c, x.rank()))?, x.dtype())?;
    let line = |t: &Tensor| Ok(view::reshape(&t.detach(), &Shape::new(&[c]))?.as_own());
    Ok((y, line(&mean)?, line(&var)?))
}

/// N and C of (N, C, …).
fn channels(op: &str, x: &Tensor) -> Result<(usize, usize)> {
    match x.shape()[..] {
        [n, c, ..] => Ok((n, c)),
        _ => bail!(Shape, "{op}: expected (N, C, …), got {}", x.shape()),
    }
}

/// One value a channel, to be broadcast over (N, C, …).
fn column(c: usize, rank: usize) -> Shape {
    [c].into_iter().chain(std::iter::repeat_n(1, rank - 2)).collect()
}

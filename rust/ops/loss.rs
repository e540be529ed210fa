//! Losses: how far predictions are from targets, elementwise or as one number. They are compositions that
//! fuse; cross-entropy never writes the softmax down, forward or backward.

use super::{autocast, cast, elementwise, float, host, index, node, reduce, rule, view};
use crate::bail;
use crate::core::{DType, Result, Scalar, Shape};
use crate::graph::Tensor;
use crate::graph::record::record_one;
use crate::ir::Elementwise as E;
use crate::ir::Kernel;
use elementwise::{Arg, binary, unary};

/// What becomes of the losses of single elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    None,
    Mean,
    Sum,
    /// The sum over the size of the first axis; only the divergence has it.
    BatchMean,
}

impl Reduction {
    pub fn parse(op: &str, name: &str) -> Result<Reduction> {
        Ok(match name {
            "none" => Reduction::None,
            "mean" => Reduction::Mean,
            "sum" => Reduction::Sum,
            "batchmean" if op == "kl_div" => Reduction::BatchMean,
            _ => {
                let more = if op == "kl_div" { ", \"batchmean\"" } else { "" };
                bail!(
                    Value,
                    "{op}: reduction {name:?} is unknown; there are \"none\"{more}, \"mean\" and \"sum\""
                )
            }
        })
    }
}

fn total(x: &Tensor) -> Result<Tensor> {
    reduce::sum(x, &(0..x.rank()).collect::<Vec<_>>(), false)
}

fn reduced(loss: Tensor, reduction: Reduction) -> Result<Tensor> {
    let n = match reduction {
        Reduction::None => return Ok(loss),
        Reduction::Sum => return total(&loss),
        Reduction::Mean => loss.count(),
        Reduction::BatchMean => loss.shape().first().copied().unwrap_or(1),
    };
    binary(E::mul, &total(&loss)?, 1.0 / n as f64)
}

/// Predictions and targets of one shape, as floats of one dtype.
fn pair(op: &str, x: &Tensor, target: &Tensor) -> Result<(Tensor, Tensor)> {
    if x.shape() != target.shape() {
        bail!(Shape, "{op}: input {} and target {} must have one shape", x.shape(), target.shape());
    }
    if let Some([Some(x), Some(target)]) = autocast::cast(op, [Some(x), Some(target)])? {
        return pair(op, &x, &target);
    }
    let dtype = float(x.dtype().promote(target.dtype()));
    Ok((cast::cast(x, dtype)?, cast::cast(target, dtype)?))
}

/// `(x − target)²`.
pub fn mse_loss(x: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    let (x, target) = pair("mse_loss", x, target)?;
    reduced(unary(E::square, &binary(E::sub, &x, &target)?)?, reduction)
}

/// `|x − target|`.
pub fn l1_loss(x: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    let (x, target) = pair("l1_loss", x, target)?;
    reduced(unary(E::abs, &binary(E::sub, &x, &target)?)?, reduction)
}

/// With `d = |x − target|`: `d² / 2` up to `delta`, then `delta (d − delta / 2)` (Huber, 1964).
pub fn huber_loss(x: &Tensor, target: &Tensor, delta: f64, reduction: Reduction) -> Result<Tensor> {
    if delta.is_nan() || delta <= 0.0 {
        bail!(Value, "huber_loss: delta must be positive, got {delta}");
    }
    let (x, target) = pair("huber_loss", x, target)?;
    reduced(huber(&x, &target, delta)?, reduction)
}

fn huber(x: &Tensor, target: &Tensor, delta: f64) -> Result<Tensor> {
    let distance = unary(E::abs, &binary(E::sub, x, target)?)?;
    let near = binary(E::mul, &unary(E::square, &distance)?, 0.5)?;
    let far = binary(E::mul, &binary(E::sub, &distance, 0.5 * delta)?, delta)?;
    elementwise::select(&binary(E::le, &distance, delta)?, &near, &far)
}

/// The Huber loss over `beta`; the absolute difference where `beta` is 0 (Girshick, 2015).
pub fn smooth_l1_loss(x: &Tensor, target: &Tensor, beta: f64, reduction: Reduction) -> Result<Tensor> {
    if beta.is_nan() || beta < 0.0 {
        bail!(Value, "smooth_l1_loss: beta must not be negative, got {beta}");
    }
    let (x, target) = pair("smooth_l1_loss", x, target)?;
    let loss = match beta {
        0.0 => unary(E::abs, &binary(E::sub, &x, &target)?)?,
        _ => binary(E::mul, &huber(&x, &target, beta)?, 1.0 / beta)?,
    };
    reduced(loss, reduction)
}

/// `target (log target − x)` for log-probabilities `x`; `target` may be logarithms as well.
pub fn kl_div(x: &Tensor, target: &Tensor, log_target: bool, reduction: Reduction) -> Result<Tensor> {
    let (x, target) = pair("kl_div", x, target)?;
    let loss = if log_target {
        binary(E::mul, &unary(E::exp, &target)?, &binary(E::sub, &target, &x)?)?
    } else {
        binary(E::sub, &binary(E::xlogy, &target, &target)?, &binary(E::mul, &target, &x)?)?
    };
    reduced(loss, reduction)
}

/// A loss times weights that broadcast to it.
fn weighted(op: &str, loss: Tensor, weight: Option<&Tensor>) -> Result<Tensor> {
    let Some(weight) = weight else { return Ok(loss) };
    if weight.shape().broadcast(loss.shape()).as_ref() != Some(loss.shape()) {
        bail!(Shape, "{op}: weight {} does not broadcast to {}", weight.shape(), loss.shape());
    }
    binary(E::mul, &loss, &cast::cast(weight, loss.dtype())?)
}

/// Logarithms of probabilities are no smaller than this, so that a certain mistake costs a finite number.
const LEAST_LOG: f64 = -100.0;

/// `log p` and `log (1 − p)`, bounded.
fn bounded_logs(p: &Tensor) -> Result<(Tensor, Tensor)> {
    let yes = binary(E::maximum, &unary(E::log, p)?, LEAST_LOG)?;
    let no = binary(E::maximum, &unary(E::log1p, &unary(E::neg, p)?)?, LEAST_LOG)?;
    Ok((yes, no))
}

/// `−t log p − (1 − t) log (1 − p)` for probabilities p, with logarithms bounded by −100.
pub fn binary_cross_entropy(
    p: &Tensor,
    target: &Tensor,
    weight: Option<&Tensor>,
    reduction: Reduction,
) -> Result<Tensor> {
    let (p, t) = pair("binary_cross_entropy", p, target)?;
    let (yes, no) = bounded_logs(&p.detach())?;
    let gap = binary(E::sub, &no, &yes)?;
    let loss = binary(E::sub, &binary(E::mul, &t.detach(), &gap)?, &no)?;
    let (sp, st) = (p.clone(), t.clone());
    let loss = record_one("binary_cross_entropy", &[&p, &t], loss, || {
        let again = sp.clone();
        rule::two(
            // dp = dy (p − t) / (p (1 − p)), bounded where the logarithms are.
            move |g| {
                let spread = binary(E::mul, &sp, &binary(E::sub, 1.0, &sp)?)?;
                let slope = binary(E::div, &binary(E::sub, &sp, &st)?, &binary(E::maximum, &spread, 1e-12)?)?;
                binary(E::mul, g, &slope)
            },
            move |g| {
                let (yes, no) = bounded_logs(&again)?;
                binary(E::mul, g, &binary(E::sub, &no, &yes)?)
            },
        )
    });
    reduced(weighted("binary_cross_entropy", loss, weight)?, reduction)
}

/// Binary cross-entropy of `sigmoid(x)`, without overflow: `softplus(x) − t x`. With `pos_weight` the
/// terms of positive targets count that often.
pub fn binary_cross_entropy_with_logits(
    x: &Tensor,
    target: &Tensor,
    weight: Option<&Tensor>,
    pos_weight: Option<&Tensor>,
    reduction: Reduction,
) -> Result<Tensor> {
    const OP: &str = "binary_cross_entropy_with_logits";
    let (x, t) = pair(OP, x, target)?;
    let loss = match pos_weight {
        None => binary(E::sub, &unary(E::softplus, &x)?, &binary(E::mul, &t, &x)?)?,
        // (1 − t) x + (1 + (w − 1) t) softplus(−x)
        Some(w) => {
            let extra = weighted(OP, t.clone(), Some(&binary(E::sub, w, 1.0)?))?;
            let often =
                binary(E::mul, &binary(E::add, &extra, 1.0)?, &unary(E::softplus, &unary(E::neg, &x)?)?)?;
            binary(E::add, &binary(E::mul, &binary(E::sub, 1.0, &t)?, &x)?, &often)?
        }
    };
    reduced(weighted(OP, loss, weight)?, reduction)
}

/// Target classes, safe to index with.
struct Targets {
    /// int64 with size 1 at the class axis; 0 where the target is ignored.
    index: Tensor,
    /// Where the target is not ignored; `None` if that is everywhere.
    valid: Option<Tensor>,
    axis: usize,
    classes: usize,
}

impl Targets {
    /// Targets (N, …) for scores (N, C, …), or () for (C,). A target that is no class is an error: now if
    /// it can be read, otherwise by the kernel that uses it.
    fn new(op: &str, x: &Tensor, target: &Tensor, ignore: Option<i64>) -> Result<Targets> {
        let axis = class_axis(op, x)?;
        let classes = x.shape()[axis];
        let mut expected = x.shape().to_vec();
        expected.remove(axis);
        if !target.dtype().is_int() || target.shape()[..] != expected[..] {
            bail!(
                Shape,
                "{op}: for scores {} targets are integers {}, or probabilities of the scores' shape, not {} {}",
                x.shape(),
                Shape::new(&expected),
                target.dtype(),
                target.shape()
            );
        }
        let ready = host::is_ready(target);
        let int = |i: i64| Arg::Scalar(Scalar::Int(i));
        let target = view::unsqueeze(&cast::cast(&target.detach(), DType::I64)?, axis)?;
        let mut ignored = ignore.is_some();
        let mut index = target.clone();
        if ready {
            let mut wrong = None;
            ignored = false;
            host::for_each_i64(&target, |t| match t {
                t if Some(t) == ignore => ignored = true,
                t if t < 0 || t >= classes as i64 => wrong = Some(t),
                _ => {}
            })?;
            if let Some(wrong) = wrong {
                bail!(Index, "{op}: target {wrong} is not among the {classes} classes");
            }
        } else {
            // The kernel wraps negative indices; one past the end it refuses.
            index = elementwise::select(&binary(E::lt, &target, int(0))?, int(classes as i64), &target)?;
        }
        let valid = match ignore {
            Some(ignore) if ignored => Some(binary(E::ne, &target, int(ignore))?),
            _ => None,
        };
        if let Some(valid) = &valid {
            index = elementwise::select(valid, &index, int(0))?;
        }
        Ok(Targets { index, valid, axis, classes })
    }

    /// The weight of each target's class, if classes have weights.
    fn weights(&self, op: &str, weight: Option<&Tensor>, dtype: DType) -> Result<Option<Tensor>> {
        let Some(weight) = weight else { return Ok(None) };
        if weight.shape()[..] != [self.classes] {
            bail!(Shape, "{op}: weight {} for {} classes", weight.shape(), self.classes);
        }
        Ok(Some(index::take_checked(&cast::cast(weight, dtype)?, &self.index, 0)?))
    }

    /// The losses without those of ignored targets, reduced; the mean is over the targets' weights.
    fn finish(&self, loss: Tensor, weights: Option<&Tensor>, reduction: Reduction) -> Result<Tensor> {
        let keep = |t: &Tensor| match &self.valid {
            Some(valid) => elementwise::select(valid, t, 0.0),
            None => Ok(t.clone()),
        };
        let loss = keep(&loss)?;
        if reduction != Reduction::Mean {
            return reduced(view::squeeze(&loss, &[self.axis])?, reduction);
        }
        let count = match (weights, &self.valid) {
            (Some(weights), _) => total(&keep(weights)?)?,
            (None, Some(valid)) => total(&cast::cast(valid, loss.dtype())?)?,
            (None, None) => return reduced(loss, reduction),
        };
        binary(E::div, &total(&loss)?, &count)
    }
}

/// The axis of the classes in (N, C, …) or (C,).
fn class_axis(op: &str, x: &Tensor) -> Result<usize> {
    if !x.dtype().is_float() {
        bail!(DType, "{op}: scores are floats, not {}", x.dtype());
    }
    match x.rank() {
        0 => bail!(Shape, "{op}: scores have at least one axis: (C,) or (N, C, …)"),
        rank => Ok(rank.min(2) - 1),
    }
}

/// `x` at one place along `axis`, named by an index with size 1 there. Its gradient is an elementwise
/// mask, which fuses with what else reaches `x`.
fn pick(x: &Tensor, axis: usize, index: &Tensor) -> Result<Tensor> {
    let out = node(Kernel::Gather { axis }, &[x, index], index.shape().clone(), x.dtype())?;
    let (index, size) = (index.clone(), x.shape()[axis]);
    Ok(record_one("pick", &[x], out, || {
        rule::one(move |_, g| {
            let place = index::places(size, axis, index.rank(), index.device())?;
            elementwise::select(&binary(E::eq, &index, &place)?, g, 0.0)
        })
    }))
}

/// `−x[target]` for log-probabilities (N, C, …) and classes (N, …).
pub fn nll_loss(
    x: &Tensor,
    target: &Tensor,
    weight: Option<&Tensor>,
    ignore_index: Option<i64>,
    reduction: Reduction,
) -> Result<Tensor> {
    let x = &autocast::one("nll_loss", x)?;
    let targets = Targets::new("nll_loss", x, target, ignore_index)?;
    let weights = targets.weights("nll_loss", weight, x.dtype())?;
    let mut loss = unary(E::neg, &pick(x, targets.axis, &targets.index)?)?;
    if let Some(weights) = &weights {
        loss = binary(E::mul, &loss, weights)?;
    }
    targets.finish(loss, weights.as_ref(), reduction)
}

/// `log Σ exp(x) − x[target]` for scores (N, C, …) and targets that are classes (N, …) or probabilities
/// (N, C, …). `weight` (C,) weights classes, targets equal to `ignore_index` count for nothing, and
/// `label_smoothing` mixes in that much of the uniform distribution (Szegedy et al., 2016).
pub fn cross_entropy(
    x: &Tensor,
    target: &Tensor,
    weight: Option<&Tensor>,
    ignore_index: Option<i64>,
    label_smoothing: f64,
    reduction: Reduction,
) -> Result<Tensor> {
    const OP: &str = "cross_entropy";
    if !(0.0..=1.0).contains(&label_smoothing) {
        bail!(Value, "{OP}: label_smoothing must be between 0 and 1, got {label_smoothing}");
    }
    let x = &autocast::one(OP, x)?;
    let dtype = x.dtype();
    let axis = class_axis(OP, x)?;
    let x = cast::cast(x, dtype.compute())?;
    let scale = reduce::logsumexp(&x, &[axis], true)?;
    let loss = if target.dtype().is_float() && target.shape() == x.shape() {
        of_probabilities(&x, &scale, axis, target, weight, label_smoothing, reduction)?
    } else {
        let targets = Targets::new(OP, &x, target, ignore_index)?;
        let weights = targets.weights(OP, weight, x.dtype())?;
        let mut loss = binary(E::sub, &scale, &pick(&x, axis, &targets.index)?)?;
        if let Some(weights) = &weights {
            loss = binary(E::mul, &loss, weights)?;
        }
        if label_smoothing > 0.0 {
            let uniform = smoothed(&x, &scale, axis, weight)?;
            loss = binary(E::mul, &loss, 1.0 - label_smoothing)?;
            loss = binary(E::add, &loss, &binary(E::mul, &uniform, label_smoothing)?)?;
        }
        targets.finish(loss, weights.as_ref(), reduction)?
    };
    cast::cast(&loss, dtype)
}

/// One number a class, to be broadcast over scores.
fn per_class(x: &Tensor, axis: usize, weight: &Tensor) -> Result<Tensor> {
    if weight.shape()[..] != x.shape()[axis..=axis] {
        bail!(Shape, "cross_entropy: weight {} for {} classes", weight.shape(), x.shape()[axis]);
    }
    let shape: Shape = (0..x.rank()).map(|a| if a == axis { x.shape()[a] } else { 1 }).collect();
    view::reshape(&cast::cast(weight, x.dtype())?, &shape)
}

/// The mean over the classes of `w (log Σ exp(x) − x)`.
fn smoothed(x: &Tensor, scale: &Tensor, axis: usize, weight: Option<&Tensor>) -> Result<Tensor> {
    match weight {
        None => binary(E::sub, scale, &reduce::mean(x, &[axis], true)?),
        Some(weight) => {
            let each = binary(E::mul, &binary(E::sub, scale, x)?, &per_class(x, axis, weight)?)?;
            reduce::mean(&each, &[axis], true)
        }
    }
}

/// `Σ t w (log Σ exp(x) − x)` over the classes.
fn of_probabilities(
    x: &Tensor,
    scale: &Tensor,
    axis: usize,
    target: &Tensor,
    weight: Option<&Tensor>,
    smoothing: f64,
    reduction: Reduction,
) -> Result<Tensor> {
    let classes = x.shape()[axis];
    let mut t = cast::cast(target, x.dtype())?;
    if smoothing > 0.0 {
        t = binary(E::add, &binary(E::mul, &t, 1.0 - smoothing)?, smoothing / classes as f64)?;
    }
    if let Some(weight) = weight {
        t = binary(E::mul, &t, &per_class(x, axis, weight)?)?;
    }
    let loss = reduce::sum(&binary(E::mul, &t, &binary(E::sub, scale, x)?)?, &[axis], false)?;
    reduced(loss, reduction)
}

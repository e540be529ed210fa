//! Softmax and the normalizations. The latter are moments and elementwise chains, which fuse; they keep
//! their input and its statistics, not what lies between. Half floats are normalized in float32.

use super::{autocast, cast, elementwise, float, node, reduce, rule, view};
use crate::bail;
use crate::core::{Result, Shape};
use crate::graph::node::{Operands, Specs};
use crate::graph::record::{Context, Grads, record_one};
use crate::graph::{Device, Rule, Spec, Tensor, grad_enabled};
use crate::ir::Elementwise as E;
use crate::ir::Kernel;
use crate::ir::kernel::Fused;
use elementwise::{binary, unary};

/// `exp(x) / Σ exp(x)` along an axis; integers become float32.
pub fn softmax(x: &Tensor, axis: usize) -> Result<Tensor> {
    let x = &autocast::one("softmax", x)?;
    along_last(x, axis, |x, last| {
        let kernel = Kernel::Softmax { log: false, map: Fused::identity(x.dtype()) };
        let y = node(kernel, &[x], x.shape().clone(), x.dtype())?;
        let seen = y.clone();
        Ok(record_one("softmax", &[x], y, || {
            // dx = y (dy − Σ y dy)
            rule::one(move |context, g| {
                let y = context.output(&seen, 0);
                let mean = reduce::sum(&binary(E::mul, g, &y)?, &[last], true)?;
                binary(E::mul, &y, &binary(E::sub, g, &mean)?)
            })
        }))
    })
}

/// `x − log Σ exp(x)` along an axis; integers become float32.
pub fn log_softmax(x: &Tensor, axis: usize) -> Result<Tensor> {
    let x = &autocast::one("log_softmax", x)?;
    along_last(x, axis, |x, last| {
        let kernel = Kernel::Softmax { log: true, map: Fused::identity(x.dtype()) };
        let y = node(kernel, &[x], x.shape().clone(), x.dtype())?;
        let seen = y.clone();
        Ok(record_one("log_softmax", &[x], y, || {
            // dx = dy − exp(y) Σ dy
            rule::one(move |context, g| {
                let p = unary(E::exp, &context.output(&seen, 0))?;
                let total = reduce::sum(g, &[last], true)?;
                binary(E::sub, g, &binary(E::mul, &p, &total)?)
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

/// A normalization over `axes`: `x̂ = (x − μ) r` with `r = 1 / √(σ² + eps)`, or around 0 instead of the
/// mean μ, and `y = x̂ w + b` with weights that broadcast to x.
struct Normalize {
    x: Tensor,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    axes: Vec<usize>,
    eps: f64,
    centred: bool,
}

/// μ and σ², the latter around 0 where there is no mean; axes kept.
#[derive(Clone)]
struct Statistics {
    mean: Option<Tensor>,
    var: Tensor,
}

impl Normalize {
    /// Whether the rows' own kernel does it: whole last axes that a core's cache holds.
    fn by_rows(&self) -> bool {
        /// Elements of a row.
        const LONGEST: usize = 64 << 10;
        let lead = self.x.rank() - self.axes.len();
        let last = &self.x.shape()[lead..];
        let flat = |t: &Option<Tensor>| t.as_ref().is_none_or(|t| t.shape()[..] == *last);
        let trailing = self.axes.iter().copied().eq(lead..self.x.rank());
        trailing && (1..=LONGEST).contains(&last.iter().product()) && flat(&self.weight) && flat(&self.bias)
    }

    /// `y` in the dtype of `given`, of which x is a wider copy: half floats that the rows' kernel reads as they are do
    /// not need it.
    fn value(mut self, name: &'static str, given: &Tensor) -> Result<Tensor> {
        if !self.by_rows() {
            return cast::cast(&self.run(name)?.0, given.dtype());
        }
        if given.device() != Device::Cpu {
            self.x = given.clone();
        }
        cast::cast(&self.rows(name)?, given.dtype())
    }

    /// `y` by the rows' own kernel.
    fn rows(self, name: &'static str) -> Result<Tensor> {
        let n = self.axes.iter().map(|&a| self.x.shape()[a]).product();
        let shape = Shape::new(&[self.x.count() / n, n]);
        let mut operands = Operands::from_elem(side_by_side(&self.x, &shape)?.operand(), 1);
        for t in [&self.weight, &self.bias].into_iter().flatten() {
            operands.push(side_by_side(t, &Shape::new(&[n]))?.operand());
        }
        let kernel = Kernel::Normalize {
            centred: self.centred,
            eps: self.eps,
            weight: self.weight.is_some(),
            bias: self.bias.is_some(),
        };
        let dtype = self.x.dtype();
        let column = Spec { shape: Shape::new(&[shape[0], 1]), dtype: dtype.compute() };
        let specs = Specs::from_iter([Spec { shape: shape.clone(), dtype }, column.clone(), column]);
        let mut outs = Tensor::pending(self.x.device(), kernel, operands, specs)?;
        let (scale, mean) = (outs.pop().expect("three outputs"), outs.pop().expect("three outputs"));
        let y = view::reshape(&outs[0], self.x.shape())?.as_own();
        let (x, weight, bias) = (self.x.clone(), self.weight.clone(), self.bias.clone());
        let inputs: Vec<&Tensor> = [Some(&x), weight.as_ref(), bias.as_ref()].into_iter().flatten().collect();
        Ok(record_one(name, &inputs, y, || RowsRule { call: self, shape, mean, scale }))
    }

    /// `y` and the statistics, without history of their own.
    fn run(self, name: &'static str) -> Result<(Tensor, Statistics)> {
        let bare = Normalize {
            x: self.x.detach(),
            weight: self.weight.as_ref().map(Tensor::detach),
            bias: self.bias.as_ref().map(Tensor::detach),
            axes: self.axes.clone(),
            ..self
        };
        let seen = bare.statistics()?;
        let mut y = bare.hat(&seen)?;
        if let Some(weight) = &bare.weight {
            y = binary(E::mul, &y, weight)?;
        }
        if let Some(bias) = &bare.bias {
            y = binary(E::add, &y, bias)?;
        }
        let (x, weight, bias) = (self.x.clone(), self.weight.clone(), self.bias.clone());
        let inputs: Vec<&Tensor> = [Some(&x), weight.as_ref(), bias.as_ref()].into_iter().flatten().collect();
        let saved = seen.clone();
        Ok((record_one(name, &inputs, y, || NormalizeRule { call: self, saved }), seen))
    }

    fn statistics(&self) -> Result<Statistics> {
        if self.centred {
            let (mean, var) = reduce::moments(&self.x, &self.axes)?;
            return Ok(Statistics { mean: Some(mean), var });
        }
        Ok(Statistics { mean: None, var: reduce::mean(&unary(E::square, &self.x)?, &self.axes, true)? })
    }

    /// r.
    fn scale(&self, seen: &Statistics) -> Result<Tensor> {
        unary(E::rsqrt, &binary(E::add, &seen.var, self.eps)?)
    }

    /// x̂, made anew for each use, so that it is part of what reads it and never written.
    fn hat(&self, seen: &Statistics) -> Result<Tensor> {
        let centred = match &seen.mean {
            Some(mean) => binary(E::sub, &self.x, mean)?,
            None => self.x.clone(),
        };
        binary(E::mul, &centred, &self.scale(seen)?)
    }

    /// Whether a weight is the same for all that is normalized together.
    fn is_flat(&self, weight: &Tensor) -> bool {
        let lead = self.x.rank() - weight.rank();
        self.axes.iter().all(|&a| a < lead || weight.shape()[a - lead] == 1)
    }
}

/// `t` detached as a matrix or a vector whose neighbours along the last axis lie side by side.
fn side_by_side(t: &Tensor, shape: &Shape) -> Result<Tensor> {
    let t = view::reshape(&t.detach(), shape)?;
    let close = t.layout().strides.last() == Some(&1) || shape.last() == Some(&1);
    if close { Ok(t) } else { elementwise::copy(&t) }
}

/// The gradient by the rows' own kernel; composed of operations where it is to be differentiated again.
struct RowsRule {
    call: Normalize,
    shape: Shape,
    mean: Tensor,
    scale: Tensor,
}

impl Rule for RowsRule {
    fn backward(&self, context: &Context<'_>, grads: &[Option<Tensor>]) -> Result<Grads> {
        let Normalize { x, weight, bias, centred, .. } = &self.call;
        let Some(g) = &grads[0] else {
            return Ok(std::iter::repeat_n(None, context.record.edges.len()).collect());
        };
        if grad_enabled() {
            let wide = x.dtype().compute();
            let call = Normalize {
                x: cast::cast(x, wide)?,
                weight: weight.clone(),
                bias: bias.clone(),
                axes: self.call.axes.clone(),
                ..self.call
            };
            let mut found = call.gradients(context, &cast::cast(g, wide)?, &call.statistics()?)?;
            found[0] = found[0].take().map(|dx| cast::cast(&dx, x.dtype())).transpose()?;
            return Ok(found);
        }
        let mut operands = Operands::new();
        for t in [x, g] {
            operands.push(side_by_side(t, &self.shape)?.operand());
        }
        operands.extend([self.mean.operand(), self.scale.operand()]);
        let (dtype, row) = (x.dtype(), Shape::new(&self.shape[1..]));
        let mut specs = Specs::from_elem(Spec { shape: self.shape.clone(), dtype }, 1);
        if let Some(weight) = weight {
            operands.push(side_by_side(weight, &row)?.operand());
        }
        let parameters = [weight, bias].into_iter().flatten();
        specs.extend(parameters.map(|t| Spec { shape: row.clone(), dtype: t.dtype() }));
        let kernel =
            Kernel::NormalizeInput { centred: *centred, weight: weight.is_some(), bias: bias.is_some() };
        let found = Tensor::pending(x.device(), kernel, operands, specs)?;
        let of = [Some(x), weight.as_ref(), bias.as_ref()];
        let found = found.iter().zip(of.into_iter().flatten()).enumerate();
        found
            .map(|(i, (grad, of))| {
                context.needs(i).then(|| Ok(view::reshape(grad, of.shape())?.as_own())).transpose()
            })
            .collect()
    }
}

/// With `h = dy w` and means over the axes: `dx = r (h − mean(h) − x̂ mean(h x̂))`, without the first mean
/// where x is not centred; `dw = Σ dy x̂` and `db = Σ dy`. A flat weight leaves the means as a factor, and
/// the sums serve `dw` and `db` as well.
struct NormalizeRule {
    call: Normalize,
    saved: Statistics,
}

impl Rule for NormalizeRule {
    fn backward(&self, context: &Context<'_>, grads: &[Option<Tensor>]) -> Result<Grads> {
        let call = &self.call;
        let Some(g) = &grads[0] else {
            return Ok(std::iter::repeat_n(None, context.record.edges.len()).collect());
        };
        // For second derivatives the statistics are functions of x.
        let seen = if grad_enabled() { call.statistics()? } else { self.saved.clone() };
        call.gradients(context, g, &seen)
    }
}

impl Normalize {
    fn gradients(&self, context: &Context<'_>, g: &Tensor, seen: &Statistics) -> Result<Grads> {
        let call = self;
        let factor = call.weight.as_ref().filter(|w| call.is_flat(w));
        let inner = call.weight.as_ref().filter(|w| !call.is_flat(w));
        let h = || match inner {
            Some(weight) => binary(E::mul, g, weight),
            None => Ok(g.clone()),
        };
        let along = || reduce::sum(&binary(E::mul, &h()?, &call.hat(seen)?)?, &call.axes, true);
        let part = |full: &Tensor, of: &Tensor| match full.count() == of.count() {
            true => view::reshape(full, of.shape()),
            false => reduce::sum_to(full, of.shape()),
        };
        let along = (context.needs(0) || factor.is_some()).then(along).transpose()?;
        // Σ h, which is Σ dy as well where the weight is a factor or there is none.
        let flat_bias = call.bias.as_ref().is_some_and(|b| call.is_flat(b));
        let wanted = call.centred && context.needs(0) || flat_bias && inner.is_none();
        let total = wanted.then(|| reduce::sum(&h()?, &call.axes, true)).transpose()?;
        let mut out = Grads::new();
        out.push(if context.needs(0) {
            let n = call.axes.iter().map(|&a| call.x.shape()[a]).product::<usize>() as f64;
            let slope = binary(E::mul, along.as_ref().expect("asked for"), 1.0 / n)?;
            let mut dx = binary(E::sub, &h()?, &binary(E::mul, &call.hat(seen)?, &slope)?)?;
            if let Some(total) = total.as_ref().filter(|_| call.centred) {
                dx = binary(E::sub, &dx, &binary(E::mul, total, 1.0 / n)?)?;
            }
            let mut scale = call.scale(seen)?;
            if let Some(weight) = factor {
                scale = binary(E::mul, &scale, weight)?;
            }
            Some(binary(E::mul, &dx, &scale)?)
        } else {
            None
        });
        if let Some(weight) = &call.weight {
            out.push(match (context.needs(1), &along) {
                (false, _) => None,
                (true, Some(along)) if factor.is_some() => Some(part(along, weight)?),
                (true, _) => Some(part(&binary(E::mul, g, &call.hat(seen)?)?, weight)?),
            });
        }
        if let Some(bias) = &call.bias {
            let needed = context.needs(out.len());
            out.push(match needed {
                false => None,
                true if flat_bias => Some(match total.as_ref().filter(|_| inner.is_none()) {
                    Some(total) => part(total, bias)?,
                    None => part(&reduce::sum(g, &call.axes, true)?, bias)?,
                }),
                true => Some(part(g, bias)?),
            });
        }
        Ok(out)
    }
}

/// A weight or bias of shape `own` in the dtype of `x`, seen as `spread`.
fn parameter(
    op: &str,
    name: &str,
    t: Option<&Tensor>,
    x: &Tensor,
    own: &[usize],
    spread: &Shape,
) -> Result<Option<Tensor>> {
    let Some(t) = t else { return Ok(None) };
    if t.shape()[..] != *own {
        bail!(Shape, "{op}: {name} {} where {} is expected", t.shape(), Shape::new(own));
    }
    super::device(op, &[x, t])?;
    Ok(Some(view::reshape(&cast::cast(t, x.dtype())?, spread)?))
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
    const OP: &str = "layer_norm";
    let x = &autocast::one(OP, x)?;
    let axes = last_axes(OP, x, normalized)?;
    let full = wide(OP, x)?;
    let spread = Shape::new(normalized);
    let weight = parameter(OP, "weight", weight, &full, normalized, &spread)?;
    let bias = parameter(OP, "bias", bias, &full, normalized, &spread)?;
    Normalize { x: full, weight, bias, axes, eps, centred: true }.value(OP, x)
}

/// `x / √(mean(x²) + eps)` over the last axes, of sizes `normalized` (Zhang and Sennrich, 2019). Without `eps`: the
/// spacing of numbers at 1 in the dtype that it is computed in.
pub fn rms_norm(
    x: &Tensor,
    normalized: &[usize],
    weight: Option<&Tensor>,
    eps: Option<f64>,
) -> Result<Tensor> {
    const OP: &str = "rms_norm";
    let x = &autocast::one(OP, x)?;
    let eps = eps.unwrap_or_else(|| x.dtype().epsilon());
    let axes = last_axes(OP, x, normalized)?;
    let full = wide(OP, x)?;
    let weight = parameter(OP, "weight", weight, &full, normalized, &Shape::new(normalized))?;
    Normalize { x: full, weight, bias: None, axes, eps, centred: false }.value(OP, x)
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
    const OP: &str = "group_norm";
    let x = &autocast::one(OP, x)?;
    let (n, c) = channels(OP, x)?;
    if groups == 0 || c % groups != 0 {
        bail!(Value, "{OP}: {c} channels do not divide into {groups} groups");
    }
    let full = wide(OP, x)?;
    let each = x.shape()[2..].iter().product();
    let split = Shape::new(&[n, groups, c / groups, each]);
    let spread = Shape::new(&[groups, c / groups, 1]);
    let weight = parameter(OP, "weight", weight, &full, &[c], &spread)?;
    let bias = parameter(OP, "bias", bias, &full, &[c], &spread)?;
    let rows = view::reshape(&full, &split)?;
    let (y, _) = Normalize { x: rows, weight, bias, axes: vec![2, 3], eps, centred: true }.run(OP)?;
    cast::cast(&view::reshape(&y, x.shape())?.as_own(), x.dtype())
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
    const OP: &str = "batch_norm";
    let (_, c) = channels(OP, x)?;
    let full = wide(OP, x)?;
    let spread = column(c, x.rank());
    let own = |name: &str, t: Option<&Tensor>| parameter(OP, name, t, &full, &[c], &spread);
    let (mean, var) = (own("mean", Some(mean))?, own("variance", Some(var))?);
    let (mean, var) = (mean.expect("given"), var.expect("given"));
    // The factors of a channel are multiplied first: one product for each element.
    let mut scale = unary(E::rsqrt, &binary(E::add, &var, eps)?)?;
    if let Some(weight) = own("weight", weight)? {
        scale = binary(E::mul, &scale, &weight)?;
    }
    let mut y = binary(E::mul, &binary(E::sub, &full, &mean)?, &scale)?;
    if let Some(bias) = own("bias", bias)? {
        y = binary(E::add, &y, &bias)?;
    }
    cast::cast(&y, x.dtype())
}

/// Batch norm with the batch's own statistics (Ioffe and Szegedy, 2015): the result, and for the running
/// averages the mean and the biased variance of each channel, (C,), without history.
pub fn batch_norm_train(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    const OP: &str = "batch_norm";
    let (_, c) = channels(OP, x)?;
    if c > 0 && x.count() / c < 2 {
        let count = x.count() / c;
        bail!(Value, "{OP}: {} has {count} values a channel; training needs more than one", x.shape());
    }
    let full = wide(OP, x)?;
    let spread = column(c, x.rank());
    let weight = parameter(OP, "weight", weight, &full, &[c], &spread)?;
    let bias = parameter(OP, "bias", bias, &full, &[c], &spread)?;
    let axes: Vec<usize> = (0..x.rank()).filter(|&a| a != 1).collect();
    let (y, seen) = Normalize { x: full, weight, bias, axes, eps, centred: true }.run(OP)?;
    let line = |t: &Tensor| Ok(view::reshape(t, &Shape::new(&[c]))?.as_own());
    Ok((cast::cast(&y, x.dtype())?, line(&seen.mean.expect("centred"))?, line(&seen.var)?))
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

//! Convolutions (cross-correlations) over one and two axes, and transposed ones. The three kernels are
//! linear in each operand and are each other's gradients, so every derivative is again one of them.

use super::rearrange::{self, Pad};
use super::{autocast, cast, device, elementwise, node, rule, view};
use crate::bail;
use crate::core::{Result, Scalar, Shape};
use crate::graph::Tensor;
use crate::graph::record::record_one;
use crate::ir::Elementwise as E;
use crate::ir::Kernel;
pub use crate::ir::conv::Conv2d;

/// (N, C, H, W) and (K, C/groups, R, S), with a bias (K,), to (N, K, H', W') as [`Conv2d::output`] says;
/// (C, H, W) counts as a batch of one, which the result loses.
pub fn conv2d(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, conv: Conv2d) -> Result<Tensor> {
    if let Some([Some(x), Some(w), bias]) = autocast::cast("conv2d", [Some(x), Some(w), bias])? {
        return conv2d(&x, &w, bias.as_ref(), conv);
    }
    batched("conv2d", x, 3, |x| {
        let (x, w) = operands("conv2d", x, w)?;
        conv.output("conv2d", x.shape(), w.shape())?;
        add_bias("conv2d", forward(&x, &w, conv)?, bias)
    })
}

/// (N, C, L) and (K, C/groups, R), with a bias (K,), to (N, K, L'): a plane of height 1.
pub fn conv1d(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    [stride, padding, dilation]: [usize; 3],
    groups: usize,
) -> Result<Tensor> {
    if let Some([Some(x), Some(w), bias]) = autocast::cast("conv1d", [Some(x), Some(w), bias])? {
        return conv1d(&x, &w, bias.as_ref(), [stride, padding, dilation], groups);
    }
    let conv = Conv2d { stride: [1, stride], padding: [0, padding], dilation: [1, dilation], groups };
    batched("conv1d", x, 2, |x| {
        lines("conv1d", x, w, |x, w| {
            let (x, w) = operands("conv1d", x, w)?;
            conv.output("conv1d", x.shape(), w.shape())?;
            add_bias("conv1d", forward(&x, &w, conv)?, bias)
        })
    })
}

/// The transpose of a convolution, also called deconvolution: (N, C, H, W) and (C, K/groups, R, S) to
/// (N, K, H', W') with `H' = (H − 1)·stride − 2·padding + dilation·(R − 1) + 1 + output_padding`.
pub fn conv_transpose2d(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    conv: Conv2d,
    output_padding: [usize; 2],
) -> Result<Tensor> {
    if let Some([Some(x), Some(w), bias]) = autocast::cast("conv_transpose2d", [Some(x), Some(w), bias])? {
        return conv_transpose2d(&x, &w, bias.as_ref(), conv, output_padding);
    }
    batched("conv_transpose2d", x, 3, |x| transposed("conv_transpose2d", x, w, bias, conv, output_padding))
}

/// [`conv_transpose2d`] over one axis: (N, C, L) and (C, K/groups, R) to (N, K, L').
pub fn conv_transpose1d(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    [stride, padding, dilation]: [usize; 3],
    groups: usize,
    output_padding: usize,
) -> Result<Tensor> {
    if let Some([Some(x), Some(w), bias]) = autocast::cast("conv_transpose1d", [Some(x), Some(w), bias])? {
        return conv_transpose1d(&x, &w, bias.as_ref(), [stride, padding, dilation], groups, output_padding);
    }
    let conv = Conv2d { stride: [1, stride], padding: [0, padding], dilation: [1, dilation], groups };
    batched("conv_transpose1d", x, 2, |x| {
        lines("conv_transpose1d", x, w, |x, w| {
            transposed("conv_transpose1d", x, w, bias, conv, [0, output_padding])
        })
    })
}

/// Runs `body` on a batch: on one of a single example where `x` has only `rank` axes.
fn batched(
    op: &str,
    x: &Tensor,
    rank: usize,
    body: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    if x.rank() == rank {
        let y = body(&view::unsqueeze(x, 0)?)?;
        return Ok(view::squeeze(&y, &[0])?.as_own());
    }
    if x.rank() != rank + 1 {
        let axes = if rank == 3 { "C, H, W" } else { "C, L" };
        bail!(Shape, "{op}: expected an input (N, {axes}) or ({axes}), got {}", x.shape());
    }
    body(x)
}

/// Runs `body` on lines as planes of height 1.
fn lines(
    op: &str,
    x: &Tensor,
    w: &Tensor,
    body: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    if w.rank() != 3 {
        bail!(Shape, "{op}: expected a weight of three axes, got {}", w.shape());
    }
    let y = body(&view::unsqueeze(x, 2)?, &view::unsqueeze(w, 2)?)?;
    Ok(view::squeeze(&y, &[2])?.as_own())
}

/// Input and weight as the kernels take them: floats of one dtype, row-major.
fn operands(op: &str, x: &Tensor, w: &Tensor) -> Result<(Tensor, Tensor)> {
    device(op, &[x, w])?;
    let dtype = x.dtype().promote(w.dtype());
    if !x.dtype().is_float() || !w.dtype().is_float() {
        bail!(
            DType,
            "{op}: takes floats, not {} and {}; cast them first, as in `x.float()`",
            x.dtype(),
            w.dtype()
        );
    }
    let ready = |t: &Tensor| elementwise::contiguous(&cast::cast(t, dtype)?);
    Ok((ready(x)?, ready(w)?))
}

/// Adds one number a channel, as an operation that the planner puts into the product's epilogue.
fn add_bias(op: &str, y: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let Some(bias) = bias else { return Ok(y) };
    let channels = y.shape()[1];
    if bias.shape()[..] != [channels] {
        bail!(Shape, "{op}: bias {} for {channels} output channels", bias.shape());
    }
    let bias = cast::cast(bias, y.dtype())?;
    elementwise::binary(E::add, &y, &view::reshape(&bias, &Shape::new(&[channels, 1, 1]))?)
}

fn transposed(
    op: &str,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    conv: Conv2d,
    output_padding: [usize; 2],
) -> Result<Tensor> {
    let (&[n, c, h, width], &[wc, per_group, r, s]) = (&x.shape()[..], &w.shape()[..]) else {
        bail!(
            Shape,
            "{op}: expected an input (N, C, H, W) and a weight (C, K/groups, R, S), got {} and {}",
            x.shape(),
            w.shape()
        );
    };
    if wc != c {
        bail!(Shape, "{op}: input has {c} channels, weight {} expects {wc}", w.shape());
    }
    let (sizes, kernel) = ([h, width], [r, s]);
    let mut out = [n, per_group.saturating_mul(conv.groups), 0, 0];
    for i in 0..2 {
        if output_padding[i] != 0 && output_padding[i] >= conv.stride[i].max(conv.dilation[i]) {
            bail!(
                Value,
                "{op}: output_padding {} must be smaller than stride {} or dilation {}",
                output_padding[i],
                conv.stride[i],
                conv.dilation[i]
            );
        }
        if sizes[i] == 0 || kernel[i] == 0 {
            bail!(Shape, "{op}: input {} or weight {} has no elements", x.shape(), w.shape());
        }
        let wide = |a: usize, b: usize| a as i128 * b as i128;
        let size = wide(sizes[i] - 1, conv.stride[i]) - wide(2, conv.padding[i])
            + wide(conv.dilation[i], kernel[i] - 1)
            + 1
            + output_padding[i] as i128;
        if size <= 0 {
            bail!(
                Shape,
                "{op}: input {} with padding {} leaves nothing",
                x.shape(),
                Shape::new(&conv.padding)
            );
        }
        out[2 + i] = usize::try_from(size).unwrap_or(usize::MAX);
    }
    let out = Shape::checked(op, &out)?;
    let (mut x, w) = operands(op, x, w)?;
    // The convolution of which this is the transpose goes the other way; it may take steps over the
    // padding of the output that the input knows nothing of.
    let back = conv.output(op, &out, w.shape())?;
    if &back != x.shape() {
        let more: Vec<(i64, i64)> =
            back.iter().zip(&x.shape()[..]).map(|(&n, &have)| (0, n as i64 - have as i64)).collect();
        if more.iter().any(|&(_, n)| n < 0) {
            bail!(Shape, "{op}: input {} and weight {} do not fit", x.shape(), w.shape());
        }
        x = rearrange::pad(&x, &more, Pad::Constant(Scalar::Float(0.0)))?;
    }
    add_bias(op, input(&x, &w, conv, &out)?, bias)
}

/// y = x ∗ w; operands as [`operands`] gives them.
fn forward(x: &Tensor, w: &Tensor, conv: Conv2d) -> Result<Tensor> {
    let shape = conv.output("conv", x.shape(), w.shape())?;
    let out = node(Kernel::Conv { conv, epilogue: None }, &[x, w], shape, x.dtype())?;
    let (sx, sw) = (x.clone(), w.clone());
    Ok(record_one("conv", &[x, w], out, || {
        let (wx, ww) = (sx.clone(), sw.clone());
        rule::two(
            move |g| input(&elementwise::contiguous(g)?, &sw, conv, sx.shape()),
            move |g| weight(&wx, &elementwise::contiguous(g)?, conv, ww.shape()),
        )
    }))
}

/// The x of this shape for which `⟨x, a⟩ = ⟨dy, a ∗ w⟩` for all a: the gradient of the input.
fn input(dy: &Tensor, w: &Tensor, conv: Conv2d, shape: &Shape) -> Result<Tensor> {
    let out = node(Kernel::ConvInput { conv }, &[dy, w], shape.clone(), dy.dtype())?;
    let (sdy, sw) = (dy.clone(), w.clone());
    Ok(record_one("conv_input", &[dy, w], out, || {
        let shape = sw.shape().clone();
        rule::two(
            move |g| forward(&elementwise::contiguous(g)?, &sw, conv),
            move |g| weight(&elementwise::contiguous(g)?, &sdy, conv, &shape),
        )
    }))
}

/// The w of this shape for which `⟨w, a⟩ = ⟨dy, x ∗ a⟩` for all a: the gradient of the weight.
fn weight(x: &Tensor, dy: &Tensor, conv: Conv2d, shape: &Shape) -> Result<Tensor> {
    let out = node(Kernel::ConvWeight { conv }, &[x, dy], shape.clone(), x.dtype())?;
    let (sx, sdy) = (x.clone(), dy.clone());
    Ok(record_one("conv_weight", &[x, dy], out, || {
        let shape = sx.shape().clone();
        rule::two(
            move |g| input(&sdy, &elementwise::contiguous(g)?, conv, &shape),
            move |g| forward(&sx, &elementwise::contiguous(g)?, conv),
        )
    }))
}

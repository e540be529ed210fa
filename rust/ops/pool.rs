//! Pooling over one and two axes. Maxima remember where they stood, so that their gradient goes there;
//! averages are linear, so that their gradient's gradient is the average again.

use super::{elementwise, index, node, rule, view};
use crate::bail;
use crate::core::{DType, Result, Shape};
use crate::graph::node::{Operands, Specs};
use crate::graph::record::{record, record_one};
use crate::graph::{Spec, Tensor};
use crate::ir::Kernel;
pub use crate::ir::conv::Pool2d;

/// The largest element of each window of (N, C, H, W) or (C, H, W), and its int64 place within the plane
/// H·W.
pub fn max_pool2d(x: &Tensor, pool: Pool2d) -> Result<(Tensor, Tensor)> {
    let (x, back) = planes("max_pool2d", x, 2)?;
    let shape = pool.output("max_pool2d", x.shape())?;
    let (y, places) = maxima(&x, Kernel::MaxPool { pool }, shape)?;
    Ok((back(&y)?, back(&places)?))
}

/// [`max_pool2d`] over one axis: (N, C, L) or (C, L).
pub fn max_pool1d(
    x: &Tensor,
    [kernel, stride, padding, dilation]: [usize; 4],
    ceil_mode: bool,
) -> Result<(Tensor, Tensor)> {
    let (x, back) = planes("max_pool1d", x, 1)?;
    let pool = line([kernel, stride, padding, dilation], ceil_mode, true);
    let shape = pool.output("max_pool1d", x.shape())?;
    let (y, places) = maxima(&x, Kernel::MaxPool { pool }, shape)?;
    Ok((back(&y)?, back(&places)?))
}

/// The largest element of each of H'·W' bins, and its place within the plane.
pub fn adaptive_max_pool2d(x: &Tensor, size: [usize; 2]) -> Result<(Tensor, Tensor)> {
    let (x, back) = planes("adaptive_max_pool2d", x, 2)?;
    let shape = bins("adaptive_max_pool2d", &x, size)?;
    let (y, places) = maxima(&x, Kernel::AdaptiveMaxPool, shape)?;
    Ok((back(&y)?, back(&places)?))
}

/// [`adaptive_max_pool2d`] over one axis.
pub fn adaptive_max_pool1d(x: &Tensor, size: usize) -> Result<(Tensor, Tensor)> {
    let (x, back) = planes("adaptive_max_pool1d", x, 1)?;
    let shape = bins("adaptive_max_pool1d", &x, [1, size])?;
    let (y, places) = maxima(&x, Kernel::AdaptiveMaxPool, shape)?;
    Ok((back(&y)?, back(&places)?))
}

/// The mean of each window of (N, C, H, W) or (C, H, W).
pub fn avg_pool2d(x: &Tensor, pool: Pool2d) -> Result<Tensor> {
    let (x, back) = planes("avg_pool2d", x, 2)?;
    pool.output("avg_pool2d", x.shape())?;
    back(&average(&x, pool)?)
}

/// [`avg_pool2d`] over one axis: (N, C, L) or (C, L).
pub fn avg_pool1d(
    x: &Tensor,
    [kernel, stride, padding]: [usize; 3],
    ceil_mode: bool,
    count_include_pad: bool,
) -> Result<Tensor> {
    let (x, back) = planes("avg_pool1d", x, 1)?;
    let pool = line([kernel, stride, padding, 1], ceil_mode, count_include_pad);
    pool.output("avg_pool1d", x.shape())?;
    back(&average(&x, pool)?)
}

/// The mean of each of H'·W' bins; bin i of an axis of size H holds `[⌊i·H/H'⌋, ⌈(i+1)·H/H'⌉)`.
pub fn adaptive_avg_pool2d(x: &Tensor, size: [usize; 2]) -> Result<Tensor> {
    let (x, back) = planes("adaptive_avg_pool2d", x, 2)?;
    let shape = bins("adaptive_avg_pool2d", &x, size)?;
    back(&adaptive_average(&x, &shape)?)
}

/// [`adaptive_avg_pool2d`] over one axis.
pub fn adaptive_avg_pool1d(x: &Tensor, size: usize) -> Result<Tensor> {
    let (x, back) = planes("adaptive_avg_pool1d", x, 1)?;
    let shape = bins("adaptive_avg_pool1d", &x, [1, size])?;
    back(&adaptive_average(&x, &shape)?)
}

/// The pool of a plane of height 1.
fn line([kernel, stride, padding, dilation]: [usize; 4], ceil_mode: bool, count_include_pad: bool) -> Pool2d {
    Pool2d {
        kernel: [1, kernel],
        stride: [1, stride],
        padding: [0, padding],
        dilation: [1, dilation],
        ceil_mode,
        count_include_pad,
    }
}

/// The input as row-major planes (N, C, H, W) of floats, and the way back for what is made of it:
/// `spatial` axes, and no batch where there was none.
fn planes(
    op: &str,
    x: &Tensor,
    spatial: usize,
) -> Result<(Tensor, impl Fn(&Tensor) -> Result<Tensor> + use<>)> {
    if !x.dtype().is_float() {
        bail!(DType, "{op}: takes floats, not {}; cast them first, as in `x.float()`", x.dtype());
    }
    let rank = x.rank();
    if rank != spatial + 1 && rank != spatial + 2 {
        let axes = if spatial == 2 { "C, H, W" } else { "C, L" };
        bail!(Shape, "{op}: expected an input (N, {axes}) or ({axes}), got {}", x.shape());
    }
    let mut full = x.clone();
    if spatial == 1 {
        full = view::unsqueeze(&full, rank - 1)?;
    }
    if rank == spatial + 1 {
        full = view::unsqueeze(&full, 0)?;
    }
    let back = move |y: &Tensor| {
        let mut y = y.clone();
        if spatial == 1 {
            y = view::squeeze(&y, &[2])?;
        }
        if rank == spatial + 1 {
            y = view::squeeze(&y, &[0])?;
        }
        Ok(y.as_own())
    };
    Ok((elementwise::contiguous(&full)?, back))
}

fn bins(op: &str, x: &Tensor, size: [usize; 2]) -> Result<Shape> {
    let &[n, c, h, w] = &x.shape()[..] else { unreachable!("planes have four axes") };
    if size.contains(&0) || h == 0 || w == 0 {
        bail!(Shape, "{op}: {} cannot be pooled to {}", x.shape(), Shape::new(&size));
    }
    Shape::checked(op, &[n, c, size[0], size[1]])
}

fn maxima(x: &Tensor, kernel: Kernel, shape: Shape) -> Result<(Tensor, Tensor)> {
    let name = kernel.name();
    let pool = if let Kernel::MaxPool { pool } = kernel { Some(pool) } else { None };
    let spec = |dtype| Spec { shape: shape.clone(), dtype };
    let specs = Specs::from_iter([spec(x.dtype()), spec(DType::I64)]);
    let outs = Tensor::pending(x.device(), kernel, Operands::from_elem(x.operand(), 1), specs)?;
    let (places, size) = (outs[1].clone(), x.shape().clone());
    let mut outs = record(name, &[x], outs, || rule::one(move |_, g| spread(g, &places, pool, &size)));
    let places = outs.pop().expect("two outputs");
    Ok((outs.pop().expect("two outputs"), places))
}

/// Zeros of `shape` with `dy` added at `places` within each plane: the gradient of maxima.
fn spread(dy: &Tensor, places: &Tensor, pool: Option<Pool2d>, shape: &Shape) -> Result<Tensor> {
    let dy = &elementwise::contiguous(dy)?;
    let out = node(Kernel::MaxPoolInput { pool }, &[dy, places], shape.clone(), dy.dtype())?;
    let places = places.clone();
    Ok(record_one("max_pool_input", &[dy], out, || {
        rule::one(move |_, g| {
            let flat = |t: &Tensor| {
                let &[n, c, h, w] = &t.shape()[..] else { unreachable!("planes have four axes") };
                view::reshape(t, &Shape::new(&[n, c, h * w]))
            };
            view::reshape(&index::gather(&flat(g)?, 2, &flat(&places)?)?, places.shape())
        })
    }))
}

fn average(x: &Tensor, pool: Pool2d) -> Result<Tensor> {
    let x = &elementwise::contiguous(x)?;
    let shape = pool.output("avg_pool", x.shape())?;
    let out = node(Kernel::AvgPool { pool }, &[x], shape, x.dtype())?;
    let size = x.shape().clone();
    Ok(record_one("avg_pool", &[x], out, || rule::one(move |_, g| average_input(g, pool, &size))))
}

fn average_input(dy: &Tensor, pool: Pool2d, shape: &Shape) -> Result<Tensor> {
    let dy = &elementwise::contiguous(dy)?;
    let out = node(Kernel::AvgPoolInput { pool }, &[dy], shape.clone(), dy.dtype())?;
    Ok(record_one("avg_pool_input", &[dy], out, || rule::one(move |_, g| average(g, pool))))
}

fn adaptive_average(x: &Tensor, shape: &Shape) -> Result<Tensor> {
    let x = &elementwise::contiguous(x)?;
    let out = node(Kernel::AdaptiveAvgPool, &[x], shape.clone(), x.dtype())?;
    let size = x.shape().clone();
    Ok(record_one("adaptive_avg_pool", &[x], out, || rule::one(move |_, g| adaptive_average_input(g, &size))))
}

fn adaptive_average_input(dy: &Tensor, shape: &Shape) -> Result<Tensor> {
    let dy = &elementwise::contiguous(dy)?;
    let out = node(Kernel::AdaptiveAvgPoolInput, &[dy], shape.clone(), dy.dtype())?;
    let size = dy.shape().clone();
    Ok(record_one("adaptive_avg_pool_input", &[dy], out, || {
        rule::one(move |_, g| adaptive_average(g, &size))
    }))
}

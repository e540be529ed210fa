//! Reductions and running combinations, with their gradients.

use super::{autocast, cast, create, elementwise, float, node, view};
use crate::bail;
use crate::core::{DType, Result, Scalar, Shape};
use crate::graph::node::{Operands, Specs};
use crate::graph::record::{Context, Grads, record, record_one};
use crate::graph::{Spec, Tensor};
use crate::ir::Elementwise as E;
use crate::ir::Kernel;
use crate::ir::kernel::{Axes, Fused, Reduce, Scan};
use smallvec::SmallVec;

/// The shape with `axes` of size 1.
fn kept(shape: &Shape, axes: &[usize]) -> Shape {
    shape.iter().enumerate().map(|(i, &n)| if axes.contains(&i) { 1 } else { n }).collect()
}

/// Removes reduced axes unless they are to be kept.
fn finish(x: Tensor, axes: &[usize], keepdim: bool) -> Result<Tensor> {
    if keepdim || axes.is_empty() {
        return Ok(x);
    }
    let shape: Shape = (0..x.rank()).filter(|a| !axes.contains(a)).map(|a| x.shape()[a]).collect();
    Ok(view::reshape(&x, &shape)?.as_own())
}

/// The reduction itself, axes kept at size 1, without a gradient.
fn raw(op: Reduce, x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let kernel = Kernel::Reduce { op, axes: Axes::new(axes), map: Fused::identity(x.dtype()) };
    if matches!(op, Reduce::Max | Reduce::Min) && axes.iter().any(|&a| x.shape()[a] == 0) {
        bail!(
            Value,
            "{}: an axis of {} to reduce has size 0, and nothing has no extreme",
            kernel.name(),
            x.shape()
        );
    }
    node(kernel, &[x], kept(x.shape(), axes), x.dtype())
}

/// The number of elements that one result combines.
fn reduced_count(x: &Tensor, axes: &[usize]) -> usize {
    axes.iter().map(|&a| x.shape()[a]).product()
}

/// The sum; integers and bool sum to int64.
pub fn sum(x: &Tensor, axes: &[usize], keepdim: bool) -> Result<Tensor> {
    let x = &autocast::one("sum", x)?;
    let x = &counted(x)?;
    let old = x.shape().clone();
    let out = record_one("sum", &[x], raw(Reduce::Sum, x, axes)?, || {
        move |_: &Context<'_>, grads: &[Option<Tensor>]| {
            Ok(Grads::from_elem(grads[0].as_ref().map(|g| view::expand(g, &old)).transpose()?, 1))
        }
    });
    finish(out, axes, keepdim)
}

/// Narrow integers and bool as the dtype in which they are counted up.
fn counted(x: &Tensor) -> Result<Tensor> {
    match x.dtype() {
        d if d.is_float() || d == DType::U64 => Ok(x.clone()),
        _ => cast::cast(x, DType::I64),
    }
}

/// Sums a gradient over the axes along which its operand was broadcast.
pub fn sum_to(x: &Tensor, shape: &Shape) -> Result<Tensor> {
    if x.shape() == shape {
        return Ok(x.clone());
    }
    let lead = x.rank() - shape.rank();
    let axes: SmallVec<[usize; 6]> =
        (0..x.rank()).filter(|&a| a < lead || (shape[a - lead] == 1 && x.shape()[a] != 1)).collect();
    view::reshape(&sum(x, &axes, true)?, shape)
}

/// The product; integers and bool multiply to int64.
pub fn prod(x: &Tensor, axes: &[usize], keepdim: bool) -> Result<Tensor> {
    let x = &autocast::one("prod", x)?;
    let x = &counted(x)?;
    let y = raw(Reduce::Prod, x, axes)?;
    let saved = x.clone();
    let reduced: SmallVec<[usize; 6]> = SmallVec::from_slice(axes);
    let out = record_one("prod", &[x], y, || {
        move |_: &Context<'_>, grads: &[Option<Tensor>]| {
            let Some(g) = &grads[0] else { return Ok(Grads::from_elem(None, 1)) };
            let others = products_of_others(&saved, &reduced)?;
            Ok(Grads::from_elem(Some(elementwise::binary(E::mul, g, &others)?), 1))
        }
    });
    finish(out, axes, keepdim)
}

/// For each element the product of all others along `axes`, exact where elements are zero: the
/// product of those before times the product of those after.
fn products_of_others(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    if axes.is_empty() {
        return create::ones_like(x);
    }
    let mut order: SmallVec<[usize; 6]> = (0..x.rank()).filter(|a| !axes.contains(a)).collect();
    let lead: Shape = order.iter().map(|&a| x.shape()[a]).collect();
    order.extend_from_slice(axes);
    let moved = view::permute(x, &order)?;
    let moved_shape = moved.shape().clone();
    let n = reduced_count(x, axes);
    let rows: Shape = lead.iter().copied().chain([n]).collect();
    let rows = view::reshape(&moved, &rows)?;
    let last = rows.rank() - 1;
    if n == 0 {
        return Ok(x.clone());
    }
    let one = create::ones(&lead.iter().copied().chain([1]).collect(), x.dtype(), x.device())?;
    let before =
        super::join::cat(&[&one, &scan(Scan::Prod, &view::slice(&rows, last, 0, n - 1, 1)?, last)?], last)?;
    let reversed = view::slice(&rows, last, n - 1, n, -1)?;
    let after = super::join::cat(
        &[&one, &scan(Scan::Prod, &view::slice(&reversed, last, 0, n - 1, 1)?, last)?],
        last,
    )?;
    let after = view::slice(&after, last, n - 1, n, -1)?;
    let others = view::reshape(&elementwise::binary(E::mul, &before, &after)?, &moved_shape)?;
    let mut inverse: SmallVec<[usize; 6]> = SmallVec::from_elem(0, order.len());
    for (i, &a) in order.iter().enumerate() {
        inverse[a] = i;
    }
    view::permute(&others, &inverse)
}

/// The arithmetic mean, of floats; integers become float32.
pub fn mean(x: &Tensor, axes: &[usize], keepdim: bool) -> Result<Tensor> {
    let x = &autocast::one("mean", x)?;
    let x = cast::cast(x, float(x.dtype()))?;
    let total = sum(&x, axes, keepdim)?;
    elementwise::binary(E::mul, &total, 1.0 / reduced_count(&x, axes) as f64)
}

/// The largest (or smallest) elements; equal ones share the gradient.
pub fn extreme(x: &Tensor, axes: &[usize], keepdim: bool, largest: bool) -> Result<Tensor> {
    let op = if largest { Reduce::Max } else { Reduce::Min };
    let y = raw(op, x, axes)?;
    let (saved, seen) = (x.clone(), y.clone());
    let reduced: SmallVec<[usize; 6]> = SmallVec::from_slice(axes);
    let out = record_one(if largest { "amax" } else { "amin" }, &[x], y, || {
        move |_: &Context<'_>, grads: &[Option<Tensor>]| {
            let Some(g) = &grads[0] else { return Ok(Grads::from_elem(None, 1)) };
            let ties = cast::cast(&elementwise::binary(E::eq, &saved.detach(), &seen)?, saved.dtype())?;
            let share = elementwise::binary(E::div, g, &sum(&ties, &reduced, true)?)?;
            Ok(Grads::from_elem(Some(elementwise::binary(E::mul, &ties, &share)?), 1))
        }
    });
    finish(out, axes, keepdim)
}

/// Whether any (or all) elements are true. Not differentiable.
pub fn any_all(x: &Tensor, axes: &[usize], keepdim: bool, all: bool) -> Result<Tensor> {
    let x = cast::cast(x, DType::Bool)?;
    finish(raw(if all { Reduce::All } else { Reduce::Any }, &x, axes)?, axes, keepdim)
}

/// `log Σ exp`, without overflow.
pub fn logsumexp(x: &Tensor, axes: &[usize], keepdim: bool) -> Result<Tensor> {
    let x = &autocast::one("logsumexp", x)?;
    let x = &cast::cast(x, float(x.dtype()))?;
    let y = raw(Reduce::LogSumExp, x, axes)?;
    let (saved, seen) = (x.clone(), y.clone());
    let out = record_one("logsumexp", &[x], y, || {
        move |context: &Context<'_>, grads: &[Option<Tensor>]| {
            let Some(g) = &grads[0] else { return Ok(Grads::from_elem(None, 1)) };
            let y = context.output(&seen, 0);
            let weight = elementwise::unary(E::exp, &elementwise::binary(E::sub, &saved, &y)?)?;
            Ok(Grads::from_elem(Some(elementwise::binary(E::mul, g, &weight)?), 1))
        }
    });
    finish(out, axes, keepdim)
}

/// Mean and biased variance together, axes kept at size 1.
pub fn moments(x: &Tensor, axes: &[usize]) -> Result<(Tensor, Tensor)> {
    let x = &cast::cast(x, float(x.dtype()))?;
    let spec = Spec { shape: kept(x.shape(), axes), dtype: x.dtype() };
    let kernel = Kernel::Moments { axes: Axes::new(axes), map: Fused::identity(x.dtype()) };
    let operands = Operands::from_elem(x.operand(), 1);
    let outs = Tensor::pending(x.device(), kernel, operands, Specs::from_elem(spec, 2))?;
    let (saved, seen) = (x.clone(), outs[0].clone());
    let scale = 1.0 / reduced_count(x, axes) as f64;
    let mut outs = record("moments", &[x], outs, || {
        // dx = dmean / n + dvar · 2 (x − mean) / n
        move |context: &Context<'_>, grads: &[Option<Tensor>]| {
            let mut total: Option<Tensor> = None;
            if let Some(g) = &grads[1] {
                let mean = context.output(&seen, 0);
                let gap = elementwise::binary(E::sub, &saved, &mean)?;
                let weight = elementwise::binary(E::mul, g, 2.0 * scale)?;
                total = Some(elementwise::binary(E::mul, &gap, &weight)?);
            }
            if let Some(g) = &grads[0] {
                let share = elementwise::binary(E::mul, g, scale)?;
                total = Some(match total {
                    Some(t) => elementwise::binary(E::add, &t, &share)?,
                    None => view::expand(&share, saved.shape())?,
                });
            }
            Ok(Grads::from_elem(total, 1))
        }
    });
    let variance = outs.pop().expect("two outputs");
    Ok((outs.pop().expect("two outputs"), variance))
}

/// The variance, with `n − correction` in the denominator.
pub fn var(x: &Tensor, axes: &[usize], correction: f64, keepdim: bool) -> Result<Tensor> {
    let (_, biased) = moments(x, axes)?;
    let n = reduced_count(x, axes) as f64;
    let out = match correction {
        0.0 => biased,
        c => elementwise::binary(E::mul, &biased, n / (n - c).max(0.0))?,
    };
    finish(out, axes, keepdim)
}

/// The square root of [`var`]; its gradient where it is 0 is 0.
pub fn std(x: &Tensor, axes: &[usize], correction: f64, keepdim: bool) -> Result<Tensor> {
    let var = var(x, axes, correction, keepdim)?;
    let y = elementwise::unary(E::sqrt, &var.detach())?;
    let seen = y.clone();
    Ok(record_one("std", &[&var], y, || {
        super::rule::one(move |context, g| {
            let y = context.output(&seen, 0);
            let slope = elementwise::binary(E::div, &elementwise::binary(E::mul, g, 0.5)?, &y)?;
            elementwise::select(&elementwise::binary(E::eq, &seen, 0.0)?, 0.0, &slope)
        })
    }))
}

/// The int64 index of the first largest (or smallest) element along an axis, or of the first NaN;
/// over all elements, in row-major order, without one. Not differentiable.
pub fn arg_extreme(x: &Tensor, axis: Option<usize>, keepdim: bool, largest: bool) -> Result<Tensor> {
    let name = if largest { "argmax" } else { "argmin" };
    let (flat, along) = match axis {
        Some(axis) => (x.detach(), axis),
        None => (view::reshape(&x.detach(), &Shape::new(&[x.count()]))?, 0),
    };
    if flat.shape()[along] == 0 {
        bail!(Value, "{name}: axis {along} of {} has size 0", flat.shape());
    }
    let shape = kept(flat.shape(), &[along]);
    let out = node(Kernel::ArgReduce { largest, axis: along }, &[&flat], shape, DType::I64)?;
    match (axis, keepdim) {
        (None, true) => view::reshape(&out, &kept(x.shape(), &(0..x.rank()).collect::<Vec<_>>())),
        _ => finish(out, &[along], keepdim),
    }
}

/// Running sums, products or extremes along an axis.
pub fn scan(op: Scan, x: &Tensor, axis: usize) -> Result<Tensor> {
    let x = &match op {
        Scan::Sum | Scan::Prod => counted(x)?,
        _ => x.clone(),
    };
    let kernel = Kernel::Scan { op, axis };
    let name = kernel.name();
    let x = &autocast::one(name, x)?;
    let y = node(kernel, &[x], x.shape().clone(), x.dtype())?;
    let (saved, seen) = (x.clone(), y.clone());
    Ok(record_one(name, &[x], y, || {
        move |context: &Context<'_>, grads: &[Option<Tensor>]| {
            let Some(g) = &grads[0] else { return Ok(Grads::from_elem(None, 1)) };
            let dx = match op {
                Scan::Sum => reverse_sum(g, axis)?,
                Scan::Prod => scan_prod_gradient(&saved, &context.output(&seen, 0), g, axis)?,
                // The gradient of each running extreme goes to the element that set it last.
                Scan::Max | Scan::Min => {
                    let at = last_change(&saved.detach(), &seen, axis)?;
                    let zero = create::zeros(saved.shape(), g.dtype(), g.device())?;
                    super::index::scatter(&zero, axis, &at, g, crate::ir::kernel::Scatter::Add)?
                }
            };
            Ok(Grads::from_elem(Some(dx), 1))
        }
    }))
}

/// `Σ_{j ≥ i} g_j`.
fn reverse_sum(g: &Tensor, axis: usize) -> Result<Tensor> {
    let n = g.shape()[axis];
    if n == 0 {
        return Ok(g.clone());
    }
    let back = view::slice(g, axis, n - 1, n, -1)?;
    view::slice(&scan(Scan::Sum, &back, axis)?, axis, n - 1, n, -1)
}

/// `dx_k = Σ_{i ≥ k} g_i Π_{j ≤ i, j ≠ k} x_j`. Up to the first zero along the axis that is
/// `Σ g y / x_k`; the general form, exact at zeros, is a triangle of products.
fn scan_prod_gradient(x: &Tensor, y: &Tensor, g: &Tensor, axis: usize) -> Result<Tensor> {
    let n = x.shape()[axis];
    let zero = elementwise::binary(E::eq, &x.detach(), 0.0)?;
    if !any_true(&zero)? {
        let weighted = elementwise::binary(E::mul, g, y)?;
        return elementwise::binary(E::div, &reverse_sum(&weighted, axis)?, x);
    }
    let mut parts = Vec::with_capacity(n);
    for k in 0..n {
        let before = if k == 0 {
            create::ones(view::slice(x, axis, 0, 1, 1)?.shape(), x.dtype(), x.device())?
        } else {
            view::slice(y, axis, k - 1, 1, 1)?
        };
        let tail = view::slice(x, axis, k + 1, n - k - 1, 1)?;
        let one = create::ones(before.shape(), x.dtype(), x.device())?;
        let after = super::join::cat(&[&one, &scan(Scan::Prod, &tail, axis)?], axis)?;
        let products = elementwise::binary(E::mul, &before, &after)?;
        let weighted = elementwise::binary(E::mul, &products, &view::slice(g, axis, k, n - k, 1)?)?;
        parts.push(sum(&weighted, &[axis], true)?);
    }
    super::join::cat(&parts.iter().collect::<Vec<_>>(), axis)
}

/// Observes whether any element is true.
fn any_true(x: &Tensor) -> Result<bool> {
    let axes: Vec<usize> = (0..x.rank()).collect();
    Ok(any_all(x, &axes, false, false)?.element_bytes()?[0] != 0)
}

/// For running extremes `y` of `x`: the index of the element that each took its value from.
fn last_change(x: &Tensor, y: &Tensor, axis: usize) -> Result<Tensor> {
    let n = x.shape()[axis];
    let places = create::arange(Scalar::Int(0), Scalar::Int(n as i64), Scalar::Int(1), None, x.device())?;
    let mut shape = Shape::new(&vec![1; x.rank()]);
    shape[axis] = n;
    let places = view::reshape(&places, &shape)?;
    let hit = elementwise::binary(E::eq, x, y)?;
    let none = create::full(&Shape::default(), Scalar::Int(0), DType::I64, x.device())?;
    scan(Scan::Max, &elementwise::select(&hit, &places, &none)?, axis)
}

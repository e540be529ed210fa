//! Pieces and products made of simpler operations: splitting and joining axes, products of vectors, and
//! distances.

use super::{autocast, cast, elementwise, float, matmul, reduce, rule, view};
use crate::bail;
use crate::core::{Result, Shape};
use crate::graph::Tensor;
use crate::graph::record::record_one;
use crate::ir::Elementwise as E;
use elementwise::{binary, select, unary};

/// Views of neighbouring parts, of these sizes along an axis.
pub fn split(x: &Tensor, sizes: &[usize], axis: usize) -> Result<Vec<Tensor>> {
    let total = sizes.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
    if total != Some(x.shape()[axis]) {
        bail!(Shape, "split: parts of {sizes:?} do not make up axis {axis} of {}", x.shape());
    }
    let mut start = 0;
    sizes
        .iter()
        .map(|&size| {
            start += size;
            view::slice(x, axis, start - size, size, 1)
        })
        .collect()
}

/// Views of `size` elements each along an axis; the last may be smaller.
pub fn split_every(x: &Tensor, size: usize, axis: usize) -> Result<Vec<Tensor>> {
    if size == 0 {
        bail!(Value, "split: parts of size 0");
    }
    let n = x.shape()[axis];
    let sizes: Vec<usize> = (0..n.div_ceil(size).max(1)).map(|i| size.min(n - i * size)).collect();
    split(x, &sizes, axis)
}

/// At most `count` views of equal size along an axis, but for the last.
pub fn chunk(x: &Tensor, count: usize, axis: usize) -> Result<Vec<Tensor>> {
    if count == 0 {
        bail!(Value, "chunk: 0 parts");
    }
    split_every(x, x.shape()[axis].div_ceil(count).max(1), axis)
}

/// A view for each index of an axis.
pub fn unbind(x: &Tensor, axis: usize) -> Result<Vec<Tensor>> {
    (0..x.shape()[axis]).map(|i| view::select(x, axis, i)).collect()
}

/// Axes moved to other places; the others keep their order.
pub fn movedim(x: &Tensor, from: &[usize], to: &[usize]) -> Result<Tensor> {
    let once = |list: &[usize]| list.iter().enumerate().all(|(i, a)| *a < x.rank() && !list[..i].contains(a));
    if from.len() != to.len() || !once(from) || !once(to) {
        bail!(Value, "movedim: axes {from:?} of {} cannot go to {to:?}", x.shape());
    }
    let mut others = (0..x.rank()).filter(|a| !from.contains(a));
    let order: Vec<usize> = (0..x.rank())
        .map(|place| match to.iter().position(|&t| t == place) {
            Some(i) => from[i],
            None => others.next().expect("as many places as axes"),
        })
        .collect();
    view::permute(x, &order)
}

/// The axes `start` to `end`, both included, as one.
pub fn flatten(x: &Tensor, start: usize, end: usize) -> Result<Tensor> {
    if x.rank() == 0 {
        return view::reshape(x, &Shape::new(&[1]));
    }
    if start > end {
        bail!(Value, "flatten: axis {start} comes after axis {end}");
    }
    let (lead, rest) = x.shape().split_at(start);
    let (merged, tail) = rest.split_at(end + 1 - start);
    view::reshape(x, &Shape::new(&[lead, &[merged.iter().product()], tail].concat()))
}

/// One axis as several, of which one size may be −1.
pub fn unflatten(x: &Tensor, axis: usize, sizes: &[i64]) -> Result<Tensor> {
    let parts = view::infer_shape("unflatten", sizes, x.shape()[axis])?;
    if parts.count() != x.shape()[axis] {
        bail!(Shape, "unflatten: axis {axis} of {} is not made of {parts}", x.shape());
    }
    let sizes = [&x.shape()[..axis], &parts[..], &x.shape()[axis + 1..]].concat();
    view::reshape(x, &Shape::checked("unflatten", &sizes)?)
}

/// The differences of neighbours along an axis, `times` times.
pub fn diff(x: &Tensor, times: usize, axis: usize) -> Result<Tensor> {
    // When nothing is left, nothing changes any more.
    (0..times.min(x.shape()[axis])).try_fold(x.clone(), |x, _| {
        let n = x.shape()[axis].saturating_sub(1);
        let (low, high) =
            (view::slice(&x, axis, 0, n, 1)?, view::slice(&x, axis, 1.min(x.shape()[axis]), n, 1)?);
        let op = if x.dtype() == crate::core::DType::Bool { E::ne } else { E::sub };
        binary(op, &high, &low)
    })
}

fn vector(op: &str, x: &Tensor) -> Result<()> {
    if x.rank() != 1 {
        bail!(Shape, "{op}: takes vectors, not {}", x.shape());
    }
    Ok(())
}

/// `a_i b_j` of two vectors.
pub fn outer(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    vector("outer", a)?;
    vector("outer", b)?;
    binary(E::mul, &view::unsqueeze(a, 1)?, b)
}

/// `Σ a_i b_i` of two vectors.
pub fn dot(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    vector("dot", a)?;
    vector("dot", b)?;
    matmul::matmul(a, b)
}

/// `Σ a b` along an axis, after broadcasting: the array API's `vecdot`.
pub fn vecdot(a: &Tensor, b: &Tensor, axis_from_end: usize) -> Result<Tensor> {
    let product = binary(E::mul, a, b)?;
    if axis_from_end >= product.rank() {
        bail!(
            Shape,
            "vecdot: {} and {} have no axis {} from the end",
            a.shape(),
            b.shape(),
            axis_from_end + 1
        );
    }
    let sum = reduce::sum(&product, &[product.rank() - 1 - axis_from_end], false)?;
    cast::cast(&sum, product.dtype())
}

/// The sum of products over pairs of axes: the axes of `a` and of `b` in this order.
pub fn tensordot(a: &Tensor, b: &Tensor, axes: (&[usize], &[usize])) -> Result<Tensor> {
    let agree = axes.0.len() == axes.1.len()
        && axes
            .0
            .iter()
            .zip(axes.1)
            .all(|(&i, &j)| a.shape().get(i).is_some_and(|n| b.shape().get(j) == Some(n)));
    if !agree {
        bail!(
            Shape,
            "tensordot: axes {:?} of {} and {:?} of {} do not fit",
            axes.0,
            a.shape(),
            axes.1,
            b.shape()
        );
    }
    let free =
        |x: &Tensor, axes: &[usize]| -> Vec<usize> { (0..x.rank()).filter(|i| !axes.contains(i)).collect() };
    let (rows, columns) = (free(a, axes.0), free(b, axes.1));
    let sizes = |x: &Tensor, axes: &[usize]| -> Vec<usize> { axes.iter().map(|&i| x.shape()[i]).collect() };
    let (m, k, n) = (sizes(a, &rows), sizes(a, axes.0), sizes(b, &columns));
    let count = |sizes: &[usize]| sizes.iter().product::<usize>();
    let left = view::permute(a, &[&rows[..], axes.0].concat())?;
    let right = view::permute(b, &[axes.1, &columns[..]].concat())?;
    let product = matmul::matmul(
        &view::reshape(&left, &Shape::new(&[count(&m), count(&k)]))?,
        &view::reshape(&right, &Shape::new(&[count(&k), count(&n)]))?,
    )?;
    Ok(view::reshape(&product, &Shape::checked("tensordot", &[m, n].concat())?)?.as_own())
}

/// Kronecker's product: every element of `a` times the whole of `b`.
pub fn kron(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let rank = a.rank().max(b.rank());
    let (mut left, mut right, mut out) = (vec![], vec![], vec![]);
    let size =
        |x: &Tensor, axis: usize| if axis + x.rank() < rank { 1 } else { x.shape()[axis + x.rank() - rank] };
    for axis in 0..rank {
        let (m, n) = (size(a, axis), size(b, axis));
        left.extend([m, 1]);
        right.extend([1, n]);
        out.push(m.saturating_mul(n));
    }
    let left = view::reshape(a, &Shape::checked("kron", &left)?)?;
    let right = view::reshape(b, &Shape::checked("kron", &right)?)?;
    Ok(view::reshape(&binary(E::mul, &left, &right)?, &Shape::checked("kron", &out)?)?.as_own())
}

/// The cross product of vectors of three along an axis.
pub fn cross(a: &Tensor, b: &Tensor, axis: usize) -> Result<Tensor> {
    let both = elementwise::broadcast_tensors("cross", &[a, b])?;
    if both[0].shape().get(axis) != Some(&3) {
        bail!(Shape, "cross: axis {axis} of {} has not size 3", both[0].shape());
    }
    let turn = |x: &Tensor, by: i64| super::rearrange::roll(x, &[by], &[axis]);
    binary(
        E::sub,
        &binary(E::mul, &turn(&both[0], -1)?, &turn(&both[1], -2)?)?,
        &binary(E::mul, &turn(&both[0], -2)?, &turn(&both[1], -1)?)?,
    )
}

/// `(Σ |x|ᵖ)^(1/p)` over axes; the largest magnitude for infinite p, the number of non-zeros for 0. The
/// gradient where the norm is 0 is 0.
pub fn norm(x: &Tensor, p: f64, axes: &[usize], keepdim: bool) -> Result<Tensor> {
    let x = &autocast::one("norm", x)?;
    let x = &cast::cast(x, float(x.dtype()))?;
    if p.is_infinite() {
        return reduce::extreme(&unary(E::abs, x)?, axes, keepdim, p > 0.0);
    }
    if p == 0.0 {
        let there = cast::cast(&binary(E::ne, &x.detach(), 0.0)?, x.dtype())?;
        return reduce::sum(&there, axes, keepdim);
    }
    if p.is_nan() {
        bail!(Value, "norm: p is NaN");
    }
    if p == 1.0 {
        return reduce::sum(&unary(E::abs, x)?, axes, keepdim);
    }
    let bare = x.detach();
    let powers = if p == 2.0 { unary(E::square, &bare)? } else { binary(E::pow, &unary(E::abs, &bare)?, p)? };
    let sum = reduce::sum(&powers, axes, true)?;
    let y = if p == 2.0 { unary(E::sqrt, &sum)? } else { binary(E::pow, &sum, 1.0 / p)? };
    let (saved, seen) = (x.clone(), y.clone());
    let out = record_one("norm", &[x], y, || {
        // dx = dy sign(x) (|x| / y)ᵖ⁻¹
        rule::one(move |context, g| {
            let y = context.output(&seen, 0);
            let ratio = binary(E::div, &saved, &y)?;
            let slope = if p == 2.0 {
                ratio
            } else {
                binary(E::mul, &unary(E::sign, &saved)?, &binary(E::pow, &unary(E::abs, &ratio)?, p - 1.0)?)?
            };
            select(&binary(E::eq, &seen, 0.0)?, 0.0, &binary(E::mul, g, &slope)?)
        })
    });
    if keepdim { Ok(out) } else { drop_axes(&out, axes) }
}

fn drop_axes(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let kept: Shape = (0..x.rank()).filter(|a| !axes.contains(a)).map(|a| x.shape()[a]).collect();
    Ok(view::reshape(x, &kept)?.as_own())
}

/// The distances of all rows of `a` (…, P, M) from all rows of `b` (…, R, M): (…, P, R), as `p`-norms.
pub fn cdist(a: &Tensor, b: &Tensor, p: f64) -> Result<Tensor> {
    if let Some([Some(a), Some(b)]) = autocast::cast("cdist", [Some(a), Some(b)])? {
        return cdist(&a, &b, p);
    }
    let (Some(m), Some(n)) = (a.shape().last(), b.shape().last()) else {
        bail!(Shape, "cdist: {} and {} are no rows", a.shape(), b.shape());
    };
    if m != n || a.rank() < 2 || b.rank() < 2 {
        bail!(Shape, "cdist: rows of {} and {} differ in size", a.shape(), b.shape());
    }
    let gap = binary(E::sub, &view::unsqueeze(a, a.rank() - 1)?, &view::unsqueeze(b, b.rank() - 2)?)?;
    norm(&gap, p, &[gap.rank() - 1], false)
}

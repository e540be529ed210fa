//! Order along an axis: sorting, the largest elements, medians and quantiles.

use super::{device, elementwise, index, rule, view};
use crate::bail;
use crate::core::{DType, Result, Scalar, Shape};
use crate::graph::node::{Operands, Specs};
use crate::graph::record::record;
use crate::graph::{Spec, Tensor};
use crate::ir::Elementwise as E;
use crate::ir::Kernel;
use crate::ir::kernel::Scatter;
use elementwise::Arg;

/// Values in order along an axis, and the int64 indices that give it. Stable; NaN comes last when
/// ascending and first when descending. The indices are not differentiable.
pub fn sort(x: &Tensor, axis: usize, descending: bool) -> Result<(Tensor, Tensor)> {
    let last = x.rank() - 1;
    let rows = view::transpose(x, axis, last)?;
    let spec = |dtype| Spec { shape: rows.shape().clone(), dtype };
    let specs = Specs::from_iter([spec(rows.dtype()), spec(DType::I64)]);
    let operands = Operands::from_elem(rows.operand(), 1);
    let outs = Tensor::pending(device("sort", &[x])?, Kernel::Sort { descending }, operands, specs)?;
    let order = outs[1].clone();
    // A permutation: every place is written once, so that adding sets.
    let outs = record("sort", &[&rows], outs, || {
        rule::one(move |_, g| {
            let none = super::create::zeros_like(g)?;
            index::write(&none, last, &order, g, Scatter::Add)
        })
    });
    let back = |t: &Tensor| Ok(view::transpose(t, axis, last)?.as_own());
    Ok((back(&outs[0])?, back(&outs[1])?))
}

/// The indices that put an axis in order; equal elements keep theirs. Not differentiable.
pub fn argsort(x: &Tensor, axis: usize, descending: bool) -> Result<Tensor> {
    Ok(sort(&x.detach(), axis, descending)?.1)
}

/// The `k` largest (or smallest) elements along an axis and their indices, best first. NaN counts as the
/// largest.
pub fn topk(x: &Tensor, k: usize, axis: usize, largest: bool) -> Result<(Tensor, Tensor)> {
    if k > x.shape()[axis] {
        bail!(Value, "topk: k = {k} is more than axis {axis} of {} has", x.shape());
    }
    let (values, order) = sort(x, axis, largest)?;
    // Copies, so that the few do not keep all alive.
    let head = |t: &Tensor| elementwise::copy(&view::slice(t, axis, 0, k, 1)?);
    Ok((head(&values)?, head(&order)?))
}

/// The `k`-th smallest element along an axis, counted from 1, and its index; the axis keeps size 1.
pub fn kthvalue(x: &Tensor, k: usize, axis: usize) -> Result<(Tensor, Tensor)> {
    if k == 0 || k > x.shape()[axis] {
        bail!(Value, "kthvalue: k = {k} is not in 1 … {}, the size of axis {axis}", x.shape()[axis]);
    }
    let (values, order) = sort(x, axis, false)?;
    let at = |t: &Tensor| elementwise::copy(&view::slice(t, axis, k - 1, 1, 1)?);
    Ok((at(&values)?, at(&order)?))
}

/// The median along an axis and its index; of an even number the lower of the middle two, NaN if there
/// is one. The axis keeps size 1.
pub fn median(x: &Tensor, axis: usize) -> Result<(Tensor, Tensor)> {
    let n = x.shape()[axis];
    if n == 0 {
        bail!(Value, "median: axis {axis} of {} has size 0", x.shape());
    }
    let (values, order) = sort(x, axis, false)?;
    if !x.dtype().is_float() {
        let at = |t: &Tensor| elementwise::copy(&view::slice(t, axis, (n - 1) / 2, 1, 1)?);
        return Ok((at(&values)?, at(&order)?));
    }
    // The first NaN is the one after all numbers.
    let nans = elementwise::unary(E::isnan, &values.detach())?;
    let numbers = super::reduce::sum(&elementwise::unary(E::bitwise_not, &nans)?, &[axis], true)?;
    let int = |i: usize| Arg::Scalar(Scalar::Int(i as i64));
    let spoiled = elementwise::binary(E::lt, &numbers, int(n))?;
    let place = elementwise::select(&spoiled, &numbers, int((n - 1) / 2))?;
    Ok((index::gather(&values, axis, &place)?, index::gather(&order, axis, &place)?))
}

/// Quantiles along an axis, between neighbours by linear interpolation, stacked along a new first axis;
/// the axis itself goes. NaN where there is one.
pub fn quantile(x: &Tensor, q: &[f64], axis: usize) -> Result<Tensor> {
    let n = x.shape()[axis];
    if n == 0 {
        bail!(Value, "quantile: axis {axis} of {} has size 0", x.shape());
    }
    if let Some(wrong) = q.iter().find(|q| !(0.0..=1.0).contains(*q)) {
        bail!(Value, "quantile: {wrong} is not between 0 and 1");
    }
    if !x.dtype().is_float() {
        bail!(DType, "quantile: takes floats, not {}; cast them first", x.dtype());
    }
    let (values, _) = sort(x, axis, false)?;
    let at = |i: usize| view::select(&values, axis, i);
    let largest = at(n - 1)?;
    let spoiled = elementwise::unary(E::isnan, &largest.detach())?;
    let mut out = Vec::with_capacity(q.len());
    for q in q {
        let place = q * (n - 1) as f64;
        let (low, part) = (place.floor() as usize, place.fract());
        let low_value = at(low)?;
        let gap = elementwise::binary(E::sub, &at((low + 1).min(n - 1))?, &low_value)?;
        // Equal infinities have no gap.
        let same = elementwise::binary(E::eq, &at((low + 1).min(n - 1))?.detach(), &low_value.detach())?;
        let step = elementwise::select(&same, 0.0, &elementwise::binary(E::mul, &gap, part)?)?;
        let value = if part == 0.0 { low_value } else { elementwise::binary(E::add, &low_value, &step)? };
        out.push(elementwise::select(&spoiled, &largest, &value)?);
    }
    if out.is_empty() {
        let shape: Vec<usize> = [0].into_iter().chain(largest.shape().iter().copied()).collect();
        return super::create::zeros(&Shape::new(&shape), x.dtype(), x.device());
    }
    super::join::stack(&out.iter().collect::<Vec<_>>(), 0)
}

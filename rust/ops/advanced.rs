//! Indexing as NumPy does it, with integer tensors and masks along any axes: read, written, and the
//! selection of elements by a mask. Integers, slices and new axes are views and do not come here.

use super::index::{self, checked};
use super::{cast, elementwise, host, view};
use crate::bail;
use crate::core::{DType, Result, Scalar, Shape};
use crate::graph::Tensor;
use crate::ir::Elementwise as E;
use crate::ir::kernel::Scatter;
use elementwise::Arg;

/// Where a set of index tensors leads: one axis, made of all that are indexed, and places along it.
struct Places {
    /// The shape in which every index has one axis: those under a mask are merged.
    split: Shape,
    /// The order of those axes in which the indexed ones are neighbours.
    order: Vec<usize>,
    /// The first indexed axis in that order, and how many there are.
    at: usize,
    count: usize,
    /// int64, of the shape to which all indices broadcast.
    linear: Tensor,
}

/// `x[indices]`: each entry takes one axis (a mask as many as it has), `None` takes an axis whole. All
/// index tensors broadcast to one shape; its axes replace the indexed ones where these are neighbours and
/// come first otherwise, by NumPy's rule. A mask is observed, since the result's shape depends on it.
pub fn advanced(x: &Tensor, indices: &[Option<Tensor>]) -> Result<Tensor> {
    match Places::find(x, indices)? {
        Some(places) => index::take(&places.merge(x)?, &places.linear, places.at),
        None => Ok(x.clone()),
    }
}

/// `x` after `x[indices] = value`, or `+=` that counts every index however often it comes. The value
/// broadcasts to `x[indices]` and takes the dtype of `x`.
pub fn put(x: &Tensor, indices: &[Option<Tensor>], value: &Tensor, mode: Scatter) -> Result<Tensor> {
    let value = cast::cast(value, x.dtype())?;
    if let (Some((axis, mask)), 1, Scatter::Set) = (only_mask(indices), value.count(), mode) {
        // No need to know how many: the value stands wherever the mask does.
        fits_mask(x.shape(), axis, mask)?;
        let lead = vec![1; axis];
        let tail = vec![1; x.rank() - axis - mask.rank()];
        let mask = view::reshape(mask, &Shape::new(&[&lead, &mask.shape()[..], &tail].concat()))?;
        return elementwise::select(&mask, &view::reshape(&value, &Shape::default())?, x);
    }
    let Some(places) = Places::find(x, indices)? else {
        return if mode == Scatter::Set {
            view::expand(&value, x.shape())
        } else {
            elementwise::binary(E::add, x, &value)
        };
    };
    let merged = places.merge(x)?;
    let (lead, tail) = (&merged.shape()[..places.at], &merged.shape()[places.at + 1..]);
    let target = Shape::checked("index", &[lead, &places.linear.shape()[..], tail].concat())?;
    let n = places.linear.count();
    let flat = Shape::new(&[lead, &[n], tail].concat());
    let value = view::reshape(&expand_value(&value, &target)?, &flat)?;
    let column = Shape::new(&[&[n], &vec![1; tail.len()][..]].concat());
    let at = view::expand(&view::reshape(&places.linear, &column)?, &flat)?;
    places.unmerge(&index::write(&merged, places.at, &at, &value, mode)?, x.shape())
}

/// The mask, if it is all there is, and the axis at which it begins.
fn only_mask(indices: &[Option<Tensor>]) -> Option<(usize, &Tensor)> {
    let mut found = indices.iter().enumerate().filter_map(|(i, t)| Some((i, t.as_ref()?)));
    let first = found.next().filter(|(_, t)| t.dtype() == DType::Bool)?;
    found.next().is_none().then_some(first)
}

fn fits_mask(x: &Shape, axis: usize, mask: &Tensor) -> Result<()> {
    let rank = mask.rank();
    if axis + rank > x.rank() || x[axis..axis + rank] != mask.shape()[..] {
        bail!(Index, "index: a mask of {} does not fit {x} at axis {axis}", mask.shape());
    }
    Ok(())
}

/// The value of an assignment, which may have leading axes of size 1 too many.
fn expand_value(value: &Tensor, target: &Shape) -> Result<Tensor> {
    let extra = value.rank().saturating_sub(target.rank());
    if value.shape()[..extra].iter().any(|&n| n != 1)
        || Shape::new(&value.shape()[extra..]).broadcast(target).as_ref() != Some(target)
    {
        bail!(Shape, "index: a value of {} does not broadcast to the indexed {target}", value.shape());
    }
    view::expand(&view::reshape(value, &Shape::new(&value.shape()[extra..]))?, target)
}

impl Places {
    /// What the indices say, or `None` if they take everything whole.
    fn find(x: &Tensor, indices: &[Option<Tensor>]) -> Result<Option<Places>> {
        let mut split: Vec<usize> = vec![];
        // Index tensors as int64, the axis of `split` that each is for, and whether it has been checked.
        let mut found: Vec<(usize, Tensor, bool)> = vec![];
        let mut axis = 0;
        for entry in indices {
            let rank = match entry {
                Some(mask) if mask.dtype() == DType::Bool => mask.rank(),
                _ => 1,
            };
            if axis + rank > x.rank() {
                bail!(Index, "index: too many indices for a tensor of {} axes", x.rank());
            }
            let size = x.shape()[axis..axis + rank].iter().product();
            match entry {
                None => {}
                Some(mask) if mask.dtype() == DType::Bool => {
                    fits_mask(x.shape(), axis, mask)?;
                    let places = host::places_of_true(mask)?;
                    let places = host::tensor(&places, &Shape::new(&[places.len()]), x.device())?;
                    found.push((split.len(), places, true));
                }
                Some(tensor) => {
                    let (tensor, known) = checked("index", tensor, axis, size)?;
                    found.push((split.len(), tensor, known));
                }
            }
            split.push(size);
            axis += rank;
        }
        split.extend_from_slice(&x.shape()[axis..]);
        let (Some(first), Some(last)) = (found.first(), found.last()) else { return Ok(None) };
        let (first, count) = (first.0, found.len());
        let at = if last.0 - first + 1 == count { first } else { 0 };
        let indexed: Vec<usize> = found.iter().map(|f| f.0).collect();
        let mut order: Vec<usize> = (0..split.len()).filter(|a| !indexed.contains(a)).collect();
        order.splice(at..at, indexed);
        let split = Shape::new(&split);
        Ok(Some(Places { linear: linear(&split, &found)?, split, order, at, count }))
    }

    /// The tensor with all indexed axes as one.
    fn merge(&self, x: &Tensor) -> Result<Tensor> {
        let neighbours = view::permute(&view::reshape(x, &self.split)?, &self.order)?;
        if self.count == 1 {
            return Ok(neighbours);
        }
        let (lead, rest) = neighbours.shape().split_at(self.at);
        let (indexed, tail) = rest.split_at(self.count);
        view::reshape(&neighbours, &Shape::new(&[lead, &[indexed.iter().product()], tail].concat()))
    }

    /// What [`Places::merge`] made, back in the order and shape of the original.
    fn unmerge(&self, merged: &Tensor, shape: &Shape) -> Result<Tensor> {
        let neighbours: Shape = self.order.iter().map(|&a| self.split[a]).collect();
        let mut inverse = vec![0; self.order.len()];
        for (i, &a) in self.order.iter().enumerate() {
            inverse[a] = i;
        }
        let split = view::permute(&view::reshape(merged, &neighbours)?, &inverse)?;
        Ok(view::reshape(&split, shape)?.as_own())
    }
}

/// Places along the merged axis: `Σ indexᵢ · strideᵢ` with negative indices wrapped. Where an index that
/// could not be checked is out of its range, the place is one that the kernel refuses.
fn linear(split: &Shape, found: &[(usize, Tensor, bool)]) -> Result<Tensor> {
    if let [(_, only, _)] = found {
        return Ok(only.clone());
    }
    let tensors: Vec<&Tensor> = found.iter().map(|f| &f.1).collect();
    super::device("index", &tensors)?;
    let tensors = elementwise::broadcast_tensors("index", &tensors)?;
    let int = |i: usize| Arg::Scalar(Scalar::Int(i as i64));
    let mut stride = 1;
    let mut total: Option<Tensor> = None;
    let mut valid: Option<Tensor> = None;
    for ((axis, _, known), index) in found.iter().zip(&tensors).rev() {
        let size = split[*axis];
        let wrapped = elementwise::select(
            &elementwise::binary(E::lt, index, int(0))?,
            &elementwise::binary(E::add, index, int(size))?,
            index,
        )?;
        if !known {
            let low = elementwise::binary(E::ge, &wrapped, int(0))?;
            let inside =
                elementwise::binary(E::bitwise_and, &low, &elementwise::binary(E::lt, &wrapped, int(size))?)?;
            valid = Some(match valid {
                Some(valid) => elementwise::binary(E::bitwise_and, &valid, &inside)?,
                None => inside,
            });
        }
        let term = elementwise::binary(E::mul, &wrapped, int(stride))?;
        total = Some(match total {
            Some(total) => elementwise::binary(E::add, &total, &term)?,
            None => term,
        });
        stride *= size;
    }
    let total = total.expect("at least two indices");
    match valid {
        Some(valid) => elementwise::select(&valid, &total, int(stride)),
        None => Ok(total),
    }
}

/// The indices of the elements that are not zero, in row-major order: int64 (N, rank). Observes `x`. Not
/// differentiable.
pub fn nonzero(x: &Tensor) -> Result<Tensor> {
    let places = host::places_of_true(x)?;
    let strides = x.shape().strides();
    let mut out = Vec::with_capacity(places.len() * x.rank());
    for &place in &places {
        let mut rest = place;
        for (axis, &stride) in strides.iter().enumerate() {
            out.push(rest / stride as i64);
            rest -= out[out.len() - 1] * stride as i64;
            debug_assert!(out[out.len() - 1] < x.shape()[axis] as i64);
        }
    }
    host::tensor(&out, &Shape::new(&[places.len(), x.rank()]), x.device())
}

/// [`nonzero`] as one tensor an axis, as NumPy gives it. Not differentiable.
pub fn where1(x: &Tensor) -> Result<Vec<Tensor>> {
    let all = nonzero(x)?;
    (0..x.rank()).map(|axis| view::select(&all, 1, axis)).collect()
}

/// The elements at which the mask holds, in row-major order, after both have been broadcast. Observes
/// the mask.
pub fn masked_select(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    if mask.dtype() != DType::Bool {
        bail!(DType, "masked_select: the mask must be bool, not {}", mask.dtype());
    }
    let both = elementwise::broadcast_tensors("masked_select", &[x, mask])?;
    advanced(&both[0], &[Some(both[1].clone())])
}

/// `x` with a value wherever the mask holds; mask and value broadcast to `x`, the value takes its dtype.
pub fn masked_fill(x: &Tensor, mask: &Tensor, value: impl Into<Arg>) -> Result<Tensor> {
    if mask.dtype() != DType::Bool {
        bail!(DType, "masked_fill: the mask must be bool, not {}", mask.dtype());
    }
    let value = match value.into() {
        Arg::Tensor(t) => Arg::Tensor(cast::cast(&t, x.dtype())?),
        Arg::Scalar(s) if s.promote(x.dtype()) != x.dtype() => {
            bail!(DType, "masked_fill: the number {} does not fit {}", s.as_f64(), x.dtype())
        }
        scalar => scalar,
    };
    let out = elementwise::apply(E::r#where, &[mask.into(), value, x.into()])?;
    if out.shape() != x.shape() {
        bail!(Shape, "masked_fill: mask {} does not broadcast to {}", mask.shape(), x.shape());
    }
    Ok(out)
}

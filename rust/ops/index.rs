//! Reading and writing at places along one axis that a tensor of indices names. NumPy's indexing with
//! several index tensors and masks is in `advanced.rs`.

use super::{cast, create, elementwise, host, node, rule, view};
use crate::bail;
use crate::core::{DType, Layout, Result, Scalar, Shape};
use crate::graph::record::record_one;
use crate::graph::{Device, Tensor};
use crate::ir::Elementwise as E;
use crate::ir::Kernel;
use crate::ir::kernel::Scatter;

/// Indices as int64, and whether they have been checked: at the call if they are there to be read,
/// otherwise by the kernel.
pub(super) fn checked(op: &str, index: &Tensor, axis: usize, size: usize) -> Result<(Tensor, bool)> {
    if !index.dtype().is_int() {
        bail!(DType, "{op}: indices must be integers, not {}", index.dtype());
    }
    let ready = host::is_ready(index);
    let index = cast::cast(&index.detach(), DType::I64)?;
    if ready && let Some((low, high)) = host::range(&index)? {
        let wrong = if high >= size as i64 { high } else { low };
        if wrong >= size as i64 || wrong < -(size as i64) {
            bail!(Index, "{op}: index {wrong} is out of range for axis {axis} of size {size}");
        }
    }
    Ok((index, ready))
}

/// `0, 1, …` as int64, along `axis` of a tensor of `rank` axes whose others have size 1.
pub(super) fn places(count: usize, axis: usize, rank: usize, device: Device) -> Result<Tensor> {
    let count = count as i64;
    let line = create::arange(Scalar::Int(0), Scalar::Int(count), Scalar::Int(1), Some(DType::I64), device)?;
    let mut shape = Shape::new(&vec![1; rank]);
    shape[axis] = count as usize;
    view::reshape(&line, &shape)
}

/// The number 0 as a weak scalar that never changes a tensor's dtype.
pub(super) fn zero(dtype: DType) -> Scalar {
    match dtype {
        DType::Bool => Scalar::Bool(false),
        d if d.is_float() => Scalar::Float(0.0),
        _ => Scalar::Int(0),
    }
}

/// `x[…, index, …]`: the axis is replaced by all axes of the index.
pub fn take(x: &Tensor, index: &Tensor, axis: usize) -> Result<Tensor> {
    let (index, _) = checked("take", index, axis, x.shape()[axis])?;
    take_checked(x, &index, axis)
}

/// [`take`] with an index that has been checked, or that the kernel may refuse.
pub(super) fn take_checked(x: &Tensor, index: &Tensor, axis: usize) -> Result<Tensor> {
    let shape = [&x.shape()[..axis], &index.shape()[..], &x.shape()[axis + 1..]].concat();
    let shape = Shape::checked("take", &shape)?;
    let out = node(Kernel::Take { axis }, &[x, index], shape, x.dtype())?;
    let (index, size) = (index.clone(), x.shape()[axis]);
    Ok(record_one("take", &[x], out, || rule::one(move |_, g| take_input(g, &index, axis, size))))
}

/// The adjoint of `take`: zeros of `size` along `axis`, with the parts of `dy` added where the checked
/// index says.
fn take_input(dy: &Tensor, index: &Tensor, axis: usize, size: usize) -> Result<Tensor> {
    let shape = [&dy.shape()[..axis], &[size], &dy.shape()[axis + index.rank()..]].concat();
    let out = node(Kernel::TakeInput { axis }, &[dy, index], Shape::new(&shape), dy.dtype())?;
    let index = index.clone();
    Ok(record_one("take_input", &[dy], out, || rule::one(move |_, g| take_checked(g, &index, axis))))
}

/// `out[i][j] = x[index[i][j]][j]` along `axis`. Along the others the index may be smaller than `x`,
/// which is then cut to its size.
pub fn gather(x: &Tensor, axis: usize, index: &Tensor) -> Result<Tensor> {
    fits("gather", x.shape(), axis, index.shape())?;
    let (index, _) = checked("gather", index, axis, x.shape()[axis])?;
    read(&cut(x, Some(axis), index.shape())?, axis, &index)
}

/// `gather` of shapes that agree, with a checked index.
fn read(x: &Tensor, axis: usize, index: &Tensor) -> Result<Tensor> {
    let out = node(Kernel::Gather { axis }, &[x, index], index.shape().clone(), x.dtype())?;
    let (index, shape) = (index.clone(), x.shape().clone());
    Ok(record_one("gather", &[x], out, || {
        rule::one(move |_, g| {
            let base = create::zeros(&shape, g.dtype(), g.device())?;
            write(&base, axis, &index, g, Scatter::Add)
        })
    }))
}

/// NumPy's `take_along_axis`: `gather` after `x` and the index have been broadcast along the other axes.
pub fn take_along_axis(x: &Tensor, index: &Tensor, axis: usize) -> Result<Tensor> {
    let (mut a, mut b) = (x.shape().clone(), index.shape().clone());
    if a.rank() != b.rank() {
        bail!(Shape, "take_along_axis: input {a} and index {b} have different numbers of axes");
    }
    let (have, want) = (a[axis], b[axis]);
    (a[axis], b[axis]) = (1, 1);
    let Some(mut full) = a.broadcast(&b) else {
        bail!(
            Shape,
            "take_along_axis: input {} and index {} do not broadcast but along axis {axis}",
            x.shape(),
            index.shape()
        );
    };
    full[axis] = want;
    let (index, _) = checked("take_along_axis", index, axis, have)?;
    let index = view::expand(&index, &full)?;
    full[axis] = have;
    read(&view::expand(x, &full)?, axis, &index)
}

/// `base` with `out[index[i][j]][j]` set to, or increased by, `part[i][j]` along an axis. The part
/// broadcasts to the index; along the other axes the index may be smaller than `base`. Where `Set` meets
/// an index twice the last one in row-major order wins, and it alone has a gradient.
pub fn scatter(base: &Tensor, axis: usize, index: &Tensor, part: &Tensor, mode: Scatter) -> Result<Tensor> {
    fits("scatter", base.shape(), axis, index.shape())?;
    let (index, _) = checked("scatter", index, axis, base.shape()[axis])?;
    let part = cast::cast(part, base.dtype())?;
    let larger =
        part.rank() == index.rank() && part.shape().iter().zip(index.shape().iter()).all(|(p, i)| p >= i);
    let part = if larger { cut(&part, None, index.shape())? } else { part };
    if part.shape().broadcast(index.shape()).as_ref() != Some(index.shape()) {
        bail!(Shape, "scatter: a part of {} does not broadcast to the index {}", part.shape(), index.shape());
    }
    let inner = cut(base, Some(axis), index.shape())?;
    let out = write(&inner, axis, &index, &view::expand(&part, index.shape())?, mode)?;
    if inner.shape() == base.shape() {
        return Ok(out);
    }
    let whole = Layout::contiguous(base.shape().clone());
    let window = (0..base.rank()).fold(whole, |l, a| l.slice(a, 0, out.shape()[a], 1));
    view::assign(base, &out, &window, Scatter::Set)
}

/// `scatter` of shapes that agree, with a checked index and a part of the base's dtype.
pub(super) fn write(
    base: &Tensor,
    axis: usize,
    index: &Tensor,
    part: &Tensor,
    mode: Scatter,
) -> Result<Tensor> {
    if mode == Scatter::Add && base.dtype() == DType::Bool {
        bail!(DType, "scatter: bool tensors do not add up; cast them first, as in `x.long()`");
    }
    let kernel = Kernel::Scatter { axis, mode };
    let out = node(kernel, &[base, index, part], base.shape().clone(), base.dtype())?;
    let (index, shape) = (index.clone(), base.shape().clone());
    Ok(record_one("scatter", &[base, part], out, || {
        let again = index.clone();
        rule::two(
            move |g| match mode {
                Scatter::Add => Ok(g.clone()),
                Scatter::Set => {
                    let none = create::zeros(&Shape::default(), g.dtype(), g.device())?;
                    write(g, axis, &again, &view::expand(&none, again.shape())?, mode)
                }
            },
            move |g| {
                let part = read(g, axis, &index)?;
                match mode {
                    Scatter::Add => Ok(part),
                    Scatter::Set => elementwise::select(&winners(&index, axis, &shape)?, &part, 0.0),
                }
            },
        )
    }))
}

/// Which elements are still there after all have been written: the last at each place.
fn winners(index: &Tensor, axis: usize, base: &Shape) -> Result<Tensor> {
    let order = places(index.shape()[axis], axis, index.rank(), index.device())?;
    let order = view::expand(&order, index.shape())?;
    let none = create::zeros(base, DType::I64, index.device())?;
    let written = write(&none, axis, index, &order, Scatter::Set)?;
    elementwise::binary(E::eq, &read(&written, axis, index)?, &order)
}

/// Whether an index can go with a tensor: as many axes, and no larger but along `axis`.
fn fits(op: &str, x: &Shape, axis: usize, index: &Shape) -> Result<()> {
    if x.rank() != index.rank() {
        bail!(Shape, "{op}: input {x} and index {index} have different numbers of axes");
    }
    if let Some(a) = (0..x.rank()).find(|&a| a != axis && index[a] > x[a]) {
        bail!(Shape, "{op}: index {index} is larger than input {x} along axis {a}");
    }
    Ok(())
}

/// The first elements along every axis but `except`, as many as `shape` has.
fn cut(x: &Tensor, except: Option<usize>, shape: &Shape) -> Result<Tensor> {
    let mut out = x.clone();
    for axis in (0..x.rank()).filter(|&a| Some(a) != except) {
        out = view::slice(&out, axis, 0, shape[axis], 1)?;
    }
    Ok(out)
}

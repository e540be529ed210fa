//! Views: other layouts of the same elements, made without a kernel.

use super::{create, elementwise, reduce, source};
use crate::bail;
use crate::core::{Layout, Result, Shape};
use crate::graph::Tensor;
use crate::graph::node::Operands;
use crate::graph::record::{Context, Grads, record_one};
use crate::ir::Kernel;
use crate::ir::kernel::Scatter;
use smallvec::SmallVec;

/// A view whose gradient is what `back` makes of the view's gradient.
fn view<B>(name: &'static str, x: &Tensor, layout: Layout, back: B) -> Tensor
where
    B: Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
{
    record_one(name, &[x], x.with_layout(layout), || {
        move |_: &Context<'_>, grads: &[Option<Tensor>]| {
            Ok(Grads::from_elem(grads[0].as_ref().map(&back).transpose()?, 1))
        }
    })
}

/// The same elements in row-major order under another shape; a copy where strides cannot say it.
pub fn reshape(x: &Tensor, shape: &Shape) -> Result<Tensor> {
    if shape == x.shape() {
        return Ok(x.clone());
    }
    if shape.count() != x.count() {
        bail!(Shape, "reshape: {} has {} elements, {shape} takes {}", x.shape(), x.count(), shape.count());
    }
    let Some(layout) = x.layout().reshape(shape) else {
        return reshape(&elementwise::copy(x)?, shape);
    };
    let old = x.shape().clone();
    Ok(view("reshape", x, layout, move |g| reshape(g, &old)))
}

/// Sizes with at most one −1, which takes what is left.
pub fn infer_shape(op: &str, sizes: &[i64], count: usize) -> Result<Shape> {
    let mut known = 1usize;
    let mut free = None;
    let mut out: SmallVec<[usize; 6]> = SmallVec::new();
    for (axis, &size) in sizes.iter().enumerate() {
        match size {
            -1 if free.is_none() => free = Some(axis),
            -1 => bail!(Shape, "{op}: only one size may be −1, got {sizes:?}"),
            s if s < 0 => bail!(Shape, "{op}: size {s} is negative"),
            s => {
                known = match known.checked_mul(s as usize) {
                    Some(known) => known,
                    None => bail!(Shape, "{op}: {sizes:?} is larger than the address space"),
                }
            }
        }
        out.push(size.max(0) as usize);
    }
    if let Some(axis) = free {
        if known == 0 || !count.is_multiple_of(known) {
            bail!(Shape, "{op}: {count} elements do not divide into {sizes:?}");
        }
        out[axis] = count / known;
    }
    Shape::checked(op, &out)
}

/// Axes in a new order.
pub fn permute(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let mut seen = [false; crate::core::layout::MAX_RANK];
    if axes.len() != x.rank() || axes.iter().any(|&a| a >= x.rank() || std::mem::replace(&mut seen[a], true))
    {
        bail!(Value, "permute: {axes:?} is not an order of the {} axes of {}", x.rank(), x.shape());
    }
    if axes.iter().enumerate().all(|(i, &a)| i == a) {
        return Ok(x.clone());
    }
    let mut inverse: SmallVec<[usize; 6]> = SmallVec::from_elem(0, axes.len());
    for (i, &a) in axes.iter().enumerate() {
        inverse[a] = i;
    }
    Ok(view("permute", x, x.layout().permute(axes), move |g| permute(g, &inverse)))
}

/// Two axes exchanged.
pub fn transpose(x: &Tensor, a: usize, b: usize) -> Result<Tensor> {
    let mut axes: SmallVec<[usize; 6]> = (0..x.rank()).collect();
    axes.swap(a, b);
    permute(x, &axes)
}

/// Axes of size 1 repeated and new leading axes, by NumPy's rule.
pub fn expand(x: &Tensor, shape: &Shape) -> Result<Tensor> {
    if shape == x.shape() {
        return Ok(x.clone());
    }
    let Some(layout) = x.layout().broadcast_to(shape) else {
        bail!(Shape, "expand: {} does not broadcast to {shape}", x.shape());
    };
    let old = x.shape().clone();
    Ok(view("expand", x, layout, move |g| reduce::sum_to(g, &old)))
}

/// A new axis of size 1 before `axis`.
pub fn unsqueeze(x: &Tensor, axis: usize) -> Result<Tensor> {
    if x.rank() >= crate::core::layout::MAX_RANK {
        bail!(Shape, "unsqueeze: {} axes are the most that is supported", x.rank());
    }
    Ok(view("unsqueeze", x, x.layout().unsqueeze(axis), move |g| select(g, axis, 0)))
}

/// Without the axes of size 1 among `axes`.
pub fn squeeze(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let kept: Shape =
        (0..x.rank()).filter(|a| !(axes.contains(a) && x.shape()[*a] == 1)).map(|a| x.shape()[a]).collect();
    reshape(x, &kept)
}

/// Without `axis`, at one index.
pub fn select(x: &Tensor, axis: usize, index: usize) -> Result<Tensor> {
    Ok(window("select", x, move |layout| layout.select(axis, index)))
}

/// `x[start : start + count·step : step]` along `axis`.
pub fn slice(x: &Tensor, axis: usize, start: usize, count: usize, step: isize) -> Result<Tensor> {
    if start == 0 && step == 1 && count == x.shape()[axis] {
        return Ok(x.clone());
    }
    Ok(window("slice", x, move |layout| layout.slice(axis, start, count, step)))
}

/// A part of the elements, chosen by a function of layouts. Its gradient is written into zeros.
pub fn window(name: &'static str, x: &Tensor, choose: impl Fn(&Layout) -> Layout) -> Tensor {
    let window = choose(&Layout::contiguous(x.shape().clone()));
    let old = x.shape().clone();
    view(name, x, choose(x.layout()), move |g| {
        assign(&create::zeros(&old, g.dtype(), g.device())?, g, &window, Scatter::Set)
    })
}

/// `base` with `part` set or added in `window` of its row-major order; the window does not overlap
/// itself.
pub fn assign(base: &Tensor, part: &Tensor, window: &Layout, mode: Scatter) -> Result<Tensor> {
    let part = super::cast::cast(part, base.dtype())?;
    let part = expand(&part, &window.shape)?;
    super::device("assign", &[base, &part])?;
    let operands = Operands::from_iter([base.operand(), part.operand()]);
    let kernel = Kernel::Assign { window: window.clone(), mode };
    let out = source(base.device(), kernel, operands, base.shape().clone(), base.dtype())?;
    let window = window.clone();
    Ok(record_one("assign", &[base, &part], out, || {
        move |context: &Context<'_>, grads: &[Option<Tensor>]| {
            let Some(g) = &grads[0] else { return Ok(Grads::from_elem(None, 2)) };
            let rest = match (context.needs(0), mode) {
                (false, _) => None,
                (true, Scatter::Add) => Some(g.clone()),
                (true, Scatter::Set) => {
                    let zero = create::zeros(&Shape::default(), g.dtype(), g.device())?;
                    Some(assign(g, &zero, &window, Scatter::Set)?)
                }
            };
            let part = context.needs(1).then(|| {
                let g = elementwise::contiguous(g)?;
                let relative = window.clone();
                Ok(self::window("slice", &g, move |l| Layout {
                    offset: l.offset + relative.offset,
                    ..relative.clone()
                }))
            });
            Ok(Grads::from_iter([rest, part.transpose()?]))
        }
    }))
}

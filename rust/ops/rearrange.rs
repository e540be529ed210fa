//! The same elements in other places: repeated, rolled, flipped, padded, along diagonals and within
//! triangles. Indexing by tensors is in `index.rs` and `advanced.rs`.

use super::{create, elementwise, host, index, join, reduce, view};
use crate::bail;
use crate::core::{Layout, Result, Scalar, Shape};
use crate::graph::{Buffer, Device, Tensor};
use crate::ir::Elementwise as E;
use crate::ir::kernel::Scatter;
use elementwise::Arg;

/// Elements in reverse order along some axes, as a view.
pub fn flip(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    axes.iter().try_fold(x.clone(), |x, &axis| match x.shape()[axis] {
        0 => Ok(x),
        n => view::slice(&x, axis, n - 1, n, -1),
    })
}

/// Elements moved on by `shift` places along each axis; those that fall over the end come first.
pub fn roll(x: &Tensor, shifts: &[i64], axes: &[usize]) -> Result<Tensor> {
    if shifts.len() != axes.len() {
        bail!(Value, "roll: {} shifts for {} axes", shifts.len(), axes.len());
    }
    axes.iter().zip(shifts).try_fold(x.clone(), |x, (&axis, &shift)| {
        let n = x.shape()[axis];
        match shift.rem_euclid(n.max(1) as i64) as usize {
            0 => Ok(x),
            by => {
                let end = view::slice(&x, axis, n - by, by, 1)?;
                join::cat(&[&end, &view::slice(&x, axis, 0, n - by, 1)?], axis)
            }
        }
    })
}

/// The whole tensor `reps` times along each axis. Missing axes of `x`, or of `reps`, count as 1 in front.
pub fn tile(x: &Tensor, reps: &[usize]) -> Result<Tensor> {
    let rank = x.rank().max(reps.len());
    let front = |sizes: &[usize]| [&vec![1; rank - sizes.len()], sizes].concat();
    let (sizes, reps) = (front(x.shape()), front(reps));
    let mut result = sizes.clone();
    for (size, rep) in result.iter_mut().zip(&reps) {
        *size = size.saturating_mul(*rep);
    }
    let result = Shape::checked("tile", &result)?;
    // Axes that repeat gain one before them, along which the view has stride 0.
    let (mut raised, mut full) = (vec![], vec![]);
    for (&size, &rep) in sizes.iter().zip(&reps) {
        if rep != 1 {
            raised.push(1);
            full.push(rep);
        }
        raised.push(size);
        full.push(size);
    }
    let raised = view::reshape(x, &Shape::checked("tile", &raised)?)?;
    view::reshape(&view::expand(&raised, &Shape::checked("tile", &full)?)?, &result)
}

/// Each element `times` times in a row along an axis.
pub fn repeat_interleave(x: &Tensor, times: usize, axis: usize) -> Result<Tensor> {
    let mut result = x.shape().clone();
    result[axis] = result[axis].saturating_mul(times);
    let result = Shape::checked("repeat_interleave", &result)?;
    let raised = view::unsqueeze(x, axis + 1)?;
    let mut full = raised.shape().clone();
    full[axis + 1] = times;
    view::reshape(&view::expand(&raised, &full)?, &result)
}

/// Each element as often as `times` says: an integer tensor with one number for each place along the
/// axis, which is observed.
pub fn repeat_each(x: &Tensor, times: &Tensor, axis: usize) -> Result<Tensor> {
    const OP: &str = "repeat_interleave";
    if !times.dtype().is_int() || times.shape()[..] != x.shape()[axis..=axis] {
        let (shape, dtype) = (times.shape(), times.dtype());
        bail!(Shape, "{OP}: repeats must be {} integers, got {dtype} {shape}", x.shape()[axis]);
    }
    let times = host::integers(times)?;
    if let Some(wrong) = times.iter().find(|&&n| n < 0) {
        bail!(Value, "{OP}: {wrong} repeats");
    }
    let total = times.iter().try_fold(0usize, |sum, &n| sum.checked_add(n as usize)).unwrap_or(usize::MAX);
    Shape::checked(OP, &[total])?;
    // An error if there is no room for the places, which are gathered on the host.
    drop(Buffer::alloc(Device::Cpu, total.saturating_mul(size_of::<i64>()))?);
    let places: Vec<i64> = (0..).zip(times).flat_map(|(i, n)| std::iter::repeat_n(i, n as usize)).collect();
    index::take(x, &host::tensor(&places, &Shape::new(&[total]), x.device())?, axis)
}

/// Rows and columns whose distance `column − row` passes the comparison with `diagonal`; else 0.
fn triangle(op: &str, x: &Tensor, diagonal: i64, compare: E) -> Result<Tensor> {
    let [.., rows, columns] = x.shape()[..] else {
        bail!(Shape, "{op}: {} is no matrix; at least two axes are needed", x.shape())
    };
    let row = index::places(rows, 0, 2, x.device())?;
    let column = index::places(columns, 1, 2, x.device())?;
    let distance = elementwise::binary(E::sub, &column, &row)?;
    let inside = elementwise::binary(compare, &distance, Arg::Scalar(Scalar::Int(diagonal)))?;
    elementwise::select(&inside, x, Arg::Scalar(index::zero(x.dtype())))
}

/// The lower triangle of the last two axes, up to the diagonal that many columns to the right; 0 above.
pub fn tril(x: &Tensor, diagonal: i64) -> Result<Tensor> {
    triangle("tril", x, diagonal, E::le)
}

/// The upper triangle of the last two axes, from the diagonal that many columns to the right; 0 below.
pub fn triu(x: &Tensor, diagonal: i64) -> Result<Tensor> {
    triangle("triu", x, diagonal, E::ge)
}

/// The elements at `(i, i + offset)` of two axes, as a view with their axis last.
pub fn diagonal(x: &Tensor, offset: i64, first: usize, second: usize) -> Result<Tensor> {
    if first == second {
        bail!(Value, "diagonal: the two axes must differ, got {first} twice");
    }
    if first.max(second) >= x.rank() {
        bail!(Shape, "diagonal: {} is no matrix; at least two axes are needed", x.shape());
    }
    let (rows, columns) = (x.shape()[first], x.shape()[second]);
    let (down, right) = (offset.min(0).unsigned_abs() as usize, offset.max(0) as usize);
    let count = rows.saturating_sub(down).min(columns.saturating_sub(right));
    Ok(view::window("diagonal", x, |layout| {
        let mut out = layout.clone();
        if count > 0 {
            out = out.slice(first, down, rows - down, 1).slice(second, right, columns - right, 1);
        }
        let stride = out.strides[first] + out.strides[second];
        let kept: Vec<usize> = (0..layout.rank()).filter(|&a| a != first && a != second).collect();
        let mut out = Layout { offset: out.offset, ..layout.permute(&kept) };
        out = out.unsqueeze(kept.len());
        out.shape[kept.len()] = count;
        out.strides[kept.len()] = stride;
        out
    }))
}

/// Zeros with the last axis of `x` on the diagonal `offset` of two new axes.
pub fn diag_embed(x: &Tensor, offset: i64, first: usize, second: usize) -> Result<Tensor> {
    let rank = x.rank() + 1;
    if x.rank() == 0 || first == second || first.max(second) >= rank {
        bail!(Value, "diag_embed: {} cannot lie on a diagonal of axes {first} and {second}", x.shape());
    }
    let last = x.rank() - 1;
    let (down, right) = (offset.min(0).unsigned_abs() as usize, offset.max(0) as usize);
    let side = x.shape()[last].saturating_add(down.max(right));
    let mut rest = x.shape()[..last].iter().copied();
    let shape: Vec<usize> = (0..rank)
        .map(|a| if a == first || a == second { side } else { rest.next().expect("one each") })
        .collect();
    let base = create::zeros(&Shape::checked("diag_embed", &shape)?, x.dtype(), x.device())?;
    let window = diagonal(&base, offset, first, second)?.layout().clone();
    view::assign(&base, x, &window, Scatter::Set)
}

/// The diagonal of a matrix, or the matrix with a vector on its diagonal and 0 elsewhere.
pub fn diag(x: &Tensor, offset: i64) -> Result<Tensor> {
    match x.rank() {
        1 => diag_embed(x, offset, 0, 1),
        2 => diagonal(x, offset, 0, 1),
        _ => bail!(Shape, "diag: {} is neither a vector nor a matrix", x.shape()),
    }
}

/// The sum of a diagonal of two axes.
pub fn trace(x: &Tensor, offset: i64, first: usize, second: usize) -> Result<Tensor> {
    let line = diagonal(x, offset, first, second)?;
    reduce::sum(&line, &[line.rank() - 1], false)
}

/// Vectors as coordinates of a grid: views of one shape, in which each varies along its own axis. With
/// `swap`, the first two axes are exchanged (`indexing="xy"`).
pub fn meshgrid(tensors: &[&Tensor], swap: bool) -> Result<Vec<Tensor>> {
    if let Some(t) = tensors.iter().find(|t| t.rank() > 1) {
        bail!(Shape, "meshgrid: takes vectors, not {}", t.shape());
    }
    let full: Vec<usize> = tensors.iter().map(|t| t.count()).collect();
    let full = Shape::checked("meshgrid", &full)?;
    let mut out = Vec::with_capacity(tensors.len());
    for (axis, t) in tensors.iter().enumerate() {
        let mut own = Shape::new(&vec![1; tensors.len()]);
        own[axis] = t.count();
        let grid = view::expand(&view::reshape(t, &own)?, &full)?;
        out.push(if swap && full.rank() > 1 { view::transpose(&grid, 0, 1)? } else { grid });
    }
    Ok(out)
}

/// What stands in the new places of [`pad`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pad {
    Constant(Scalar),
    /// Mirrored at the edge element, which is not repeated.
    Reflect,
    /// The edge element.
    Replicate,
    /// The other end.
    Circular,
}

impl Pad {
    /// The name under which users know it.
    fn name(self) -> &'static str {
        match self {
            Pad::Constant(_) => "constant",
            Pad::Reflect => "reflect",
            Pad::Replicate => "replicate",
            Pad::Circular => "circular",
        }
    }
}

/// A tensor with elements added before and after each axis; negative numbers take away (constants only).
pub fn pad(x: &Tensor, amounts: &[(i64, i64)], mode: Pad) -> Result<Tensor> {
    if amounts.len() != x.rank() {
        bail!(Value, "pad: {} pairs for the {} axes of {}", amounts.len(), x.rank(), x.shape());
    }
    if let Pad::Constant(value) = mode {
        return pad_constant(x, amounts, value);
    }
    let mut out = x.clone();
    for (axis, &(before, after)) in amounts.iter().enumerate() {
        let n = out.shape()[axis];
        let most = match mode {
            Pad::Reflect => n.saturating_sub(1),
            Pad::Circular => n,
            _ if n == 0 => 0,
            _ => isize::MAX as usize,
        };
        let (Ok(before), Ok(after)) = (usize::try_from(before), usize::try_from(after)) else {
            bail!(
                Value,
                "pad: mode {:?} takes no negative amounts, got ({before}, {after}) for axis {axis}",
                mode.name()
            );
        };
        if before.max(after) > most {
            bail!(
                Value,
                "pad: ({before}, {after}) is more than mode {:?} has to give along axis {axis} of {}",
                mode.name(),
                x.shape()
            );
        }
        if before == 0 && after == 0 {
            continue;
        }
        let mut size = out.shape().clone();
        size[axis] = n.saturating_add(before).saturating_add(after);
        Shape::checked("pad", &size)?;
        let part = |start: usize, count: usize, step: isize| view::slice(&out, axis, start, count, step);
        let edge = |at: usize, count: usize| {
            let mut shape = out.shape().clone();
            shape[axis] = count;
            view::expand(&part(at, 1, 1)?, &shape)
        };
        let (head, tail) = match mode {
            Pad::Reflect => (part(before, before, -1)?, part(n.saturating_sub(2), after, -1)?),
            Pad::Circular => (part(n - before, before, 1)?, part(0, after, 1)?),
            _ => (edge(0, before)?, edge(n - 1, after)?),
        };
        out = join::cat(&[&head, &out, &tail], axis)?;
    }
    Ok(out)
}

fn pad_constant(x: &Tensor, amounts: &[(i64, i64)], value: Scalar) -> Result<Tensor> {
    if value.promote(x.dtype()) != x.dtype() {
        bail!(DType, "pad: the number {} does not fit {}", value.as_f64(), x.dtype());
    }
    let mut inner = x.clone();
    let mut sizes = x.shape().to_vec();
    for (axis, &(before, after)) in amounts.iter().enumerate() {
        let n = sizes[axis] as i128;
        let size = n + before as i128 + after as i128;
        if size < 0 {
            bail!(Value, "pad: ({before}, {after}) takes more than axis {axis} of {} has", x.shape());
        }
        sizes[axis] = usize::try_from(size).unwrap_or(usize::MAX);
        let n = n as i64;
        let (from, to) = (before.saturating_neg().clamp(0, n), n.saturating_add(after).clamp(0, n));
        inner = view::slice(&inner, axis, from as usize, (to - from).max(0) as usize, 1)?;
    }
    let shape = Shape::checked("pad", &sizes)?;
    if &shape == inner.shape() {
        return Ok(inner);
    }
    let base = create::full(&shape, value, x.dtype(), x.device())?;
    let whole = Layout::contiguous(shape);
    let window = amounts.iter().enumerate().fold(whole, |layout, (axis, &(before, _))| {
        layout.slice(axis, before.max(0) as usize, inner.shape()[axis], 1)
    });
    view::assign(&base, &inner, &window, Scatter::Set)
}

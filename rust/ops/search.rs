//! Counting and finding: one-hot codes, histograms of integers, distinct values, places in sorted rows.

use super::{cast, create, device, elementwise, host, index, join, node, reduce, sort, view};
use crate::bail;
use crate::core::{DType, Result, Scalar, Shape};
use crate::graph::Tensor;
use crate::ir::Elementwise as E;
use crate::ir::Kernel;
use crate::ir::kernel::{Scan, Scatter};
use elementwise::Arg;

fn int(i: i64) -> Arg {
    Arg::Scalar(Scalar::Int(i))
}

/// Non-negative integers below `bound` as int64: checked now if they can be read, otherwise made such
/// that the kernel refuses a negative one.
pub(super) fn classes(op: &str, x: &Tensor, bound: usize) -> Result<Tensor> {
    if !x.dtype().is_int() {
        bail!(DType, "{op}: classes must be integers, not {}", x.dtype());
    }
    let ready = host::is_ready(x);
    let x = cast::cast(&x.detach(), DType::I64)?;
    if !ready {
        return elementwise::select(&elementwise::binary(E::lt, &x, int(0))?, int(bound as i64), &x);
    }
    if let Some((low, high)) = host::range(&x)?
        && (low < 0 || high >= bound as i64)
    {
        bail!(Index, "{op}: class {} is not in 0 … {}", if low < 0 { low } else { high }, bound as i64 - 1);
    }
    Ok(x)
}

/// 1 at the place that each integer names along a new last axis, else 0: int64 (…, classes). Without a
/// number of classes, the largest integer is observed. Not differentiable.
pub fn one_hot(x: &Tensor, count: Option<usize>) -> Result<Tensor> {
    let count = match count {
        Some(count) => count,
        None => host::integers(x)?.into_iter().max().map_or(0, |most| most.saturating_add(1).max(0) as usize),
    };
    let x = classes("one_hot", x, count)?;
    let shape = Shape::checked("one_hot", &[&x.shape()[..], &[count]].concat())?;
    let column = view::unsqueeze(&x, x.rank())?;
    let base = create::zeros(&shape, DType::I64, x.device())?;
    index::scatter(&base, x.rank(), &column, &create::ones_like(&column)?, Scatter::Set)
}

/// How often each of 0, 1, … comes in a vector of non-negative integers, or the sum of its weights; at
/// least `minimum` numbers. Observes `x`. Differentiable in the weights.
pub fn bincount(x: &Tensor, weights: Option<&Tensor>, minimum: usize) -> Result<Tensor> {
    if x.rank() != 1 || !x.dtype().is_int() {
        bail!(Shape, "bincount: takes a vector of integers, got {} {}", x.dtype(), x.shape());
    }
    if let Some(w) = weights.filter(|w| w.shape() != x.shape()) {
        bail!(Shape, "bincount: weights {} for {}", w.shape(), x.shape());
    }
    let x = cast::cast(&x.detach(), DType::I64)?;
    let (low, high) = host::range(&x)?.unwrap_or((0, -1));
    if low < 0 {
        bail!(Value, "bincount: {low} is negative");
    }
    let shape = Shape::checked("bincount", &[(high.saturating_add(1) as usize).max(minimum)])?;
    let ones = create::ones_like(&x)?;
    let part = weights.unwrap_or(&ones);
    index::write(&create::zeros(&shape, part.dtype(), x.device())?, 0, &x, part, Scatter::Add)
}

/// What [`unique`] finds.
pub struct Unique {
    /// The distinct values in ascending order; each NaN counts as distinct.
    pub values: Tensor,
    /// Where each value comes first in the flattened input.
    pub first: Tensor,
    /// For each element of the input, in its shape, which value it is.
    pub inverse: Tensor,
    /// How often each value comes.
    pub counts: Tensor,
}

/// The distinct values of all elements. Observes `x`; only `values` is differentiable.
pub fn unique(x: &Tensor) -> Result<Unique> {
    let n = x.count();
    let (sorted, order) = sort::sort(&view::reshape(x, &Shape::new(&[n]))?, 0, false)?;
    let seen = sorted.detach();
    let device = x.device();
    let first = create::ones(&Shape::new(&[n.min(1)]), DType::Bool, device)?;
    let rest = n.saturating_sub(1);
    let changes = elementwise::binary(
        E::ne,
        &view::slice(&seen, 0, n - rest, rest, 1)?,
        &view::slice(&seen, 0, 0, rest, 1)?,
    )?;
    let new = join::cat(&[&first, &changes], 0)?;
    let starts = host::places_of_true(&new)?;
    let counts: Vec<i64> =
        (0..starts.len()).map(|i| starts.get(i + 1).copied().unwrap_or(n as i64) - starts[i]).collect();
    let shape = Shape::new(&[starts.len()]);
    let starts = host::tensor(&starts, &shape, device)?;
    let ranks = elementwise::binary(E::sub, &reduce::scan(Scan::Sum, &new, 0)?, int(1))?;
    let none = create::zeros(order.shape(), DType::I64, device)?;
    let inverse = index::write(&none, 0, &order, &ranks, Scatter::Set)?;
    Ok(Unique {
        values: index::take(&sorted, &starts, 0)?,
        first: index::take(&order, &starts, 0)?,
        inverse: view::reshape(&inverse, x.shape())?.as_own(),
        counts: host::tensor(&counts, &shape, device)?,
    })
}

/// For each value where it would go in sorted rows: `sorted` (…, N) and `values` (…, M) with equal leading
/// sizes, or one sorted row for values of any shape; left of equal elements or right of them. Not
/// differentiable.
pub fn searchsorted(sorted: &Tensor, values: &Tensor, right: bool) -> Result<Tensor> {
    device("searchsorted", &[sorted, values])?;
    let dtype = sorted.dtype().promote(values.dtype());
    let (rows, asked) = (cast::cast(&sorted.detach(), dtype)?, cast::cast(&values.detach(), dtype)?);
    let lead = |t: &Tensor| t.shape()[..t.rank().saturating_sub(1)].to_vec();
    let flat = match rows.rank() {
        1 => view::reshape(&asked, &Shape::new(&[asked.count()]))?,
        0 => bail!(Shape, "searchsorted: the sorted tensor has no axis"),
        _ if asked.rank() == rows.rank() && lead(&rows) == lead(&asked) => asked,
        _ => bail!(
            Shape,
            "searchsorted: rows {} and values {} differ in leading sizes",
            rows.shape(),
            asked.shape()
        ),
    };
    let out = node(Kernel::SearchSorted { right }, &[&rows, &flat], flat.shape().clone(), DType::I64)?;
    Ok(view::reshape(&out, values.shape())?.as_own())
}

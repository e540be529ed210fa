//! Reading and writing at places that a tensor of indices names.

use super::{cast, node};
use crate::bail;
use crate::core::{DType, Result};
use crate::graph::Tensor;
use crate::graph::record::{Context, Grads, record_one};
use crate::ir::Kernel;
use crate::ir::kernel::Scatter;

/// Indices as int64.
fn indices(op: &str, index: &Tensor) -> Result<Tensor> {
    if !index.dtype().is_int() {
        bail!(DType, "{op}: indices must be integers, not {}", index.dtype());
    }
    cast::cast(&index.detach(), DType::I64)
}

/// `base` with `part` set or added at `index` along an axis; index and part have one shape.
pub fn scatter(base: &Tensor, axis: usize, index: &Tensor, part: &Tensor, mode: Scatter) -> Result<Tensor> {
    let index = indices("scatter", index)?;
    let part = cast::cast(part, base.dtype())?;
    let out = node(Kernel::Scatter { axis, mode }, &[base, &index, &part], base.shape().clone(), base.dtype())?;
    Ok(record_one("scatter", &[base, &part], out, || {
        move |_: &Context<'_>, _: &[Option<Tensor>]| Ok(Grads::from_elem(None, 2))
    }))
}

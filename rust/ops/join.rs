//! Joining tensors and taking them apart.

use super::{cast, device, elementwise, source, view};
use crate::bail;
use crate::core::Result;
use crate::graph::Tensor;
use crate::graph::node::Operands;
use crate::graph::record::{Context, Grads, record_one};
use crate::ir::Kernel;

/// Tensors one after another along an axis; all other sizes agree.
pub fn cat(tensors: &[&Tensor], axis: usize) -> Result<Tensor> {
    let [first, rest @ ..] = tensors else { bail!(Value, "cat: at least one tensor is needed") };
    let device = device("cat", tensors)?;
    let args: Vec<elementwise::Arg> = tensors.iter().map(|&t| t.into()).collect();
    let dtype = elementwise::common_dtype(&args)?;
    let mut shape = first.shape().clone();
    for t in rest {
        let fits =
            t.rank() == shape.rank() && (0..shape.rank()).all(|a| a == axis || t.shape()[a] == shape[a]);
        if !fits {
            bail!(Shape, "cat: {} and {} differ in more than axis {axis}", first.shape(), t.shape());
        }
        shape[axis] += t.shape()[axis];
    }
    let tensors: Vec<Tensor> = tensors.iter().map(|t| cast::cast(t, dtype)).collect::<Result<_>>()?;
    let operands: Operands = tensors.iter().map(|t| t.operand()).collect();
    let out = source(device, Kernel::Concat { axis }, operands, shape, dtype)?;
    let inputs: Vec<&Tensor> = tensors.iter().collect();
    let sizes: Vec<usize> = tensors.iter().map(|t| t.shape()[axis]).collect();
    Ok(record_one("cat", &inputs, out, || {
        move |context: &Context<'_>, grads: &[Option<Tensor>]| {
            let mut start = 0;
            let mut out = Grads::new();
            for (i, &size) in sizes.iter().enumerate() {
                let part = match &grads[0] {
                    Some(g) if context.needs(i) => Some(view::slice(g, axis, start, size, 1)?),
                    _ => None,
                };
                out.push(part);
                start += size;
            }
            Ok(out)
        }
    }))
}

/// Tensors of one shape along a new axis.
pub fn stack(tensors: &[&Tensor], axis: usize) -> Result<Tensor> {
    let Some(first) = tensors.first() else { bail!(Value, "stack: at least one tensor is needed") };
    if let Some(other) = tensors.iter().find(|t| t.shape() != first.shape()) {
        bail!(Shape, "stack: shapes {} and {} differ", first.shape(), other.shape());
    }
    let raised: Vec<Tensor> = tensors.iter().map(|t| view::unsqueeze(t, axis)).collect::<Result<_>>()?;
    cat(&raised.iter().collect::<Vec<_>>(), axis)
}

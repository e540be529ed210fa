//! Changes of dtype.

use super::source;
use crate::core::{DType, Result};
use crate::graph::Tensor;
use crate::graph::node::Operands;
use crate::graph::record::{Context, Grads, record_one};
use crate::ir::Kernel;

/// The tensor with elements of `dtype`: floats to integers truncate, saturate and take NaN to 0;
/// integers wrap; anything to bool is `!= 0`.
pub fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
    let from = x.dtype();
    if from == dtype {
        return Ok(x.clone());
    }
    let out =
        source(x.device(), Kernel::Cast, Operands::from_elem(x.operand(), 1), x.shape().clone(), dtype)?;
    if !dtype.is_float() {
        return Ok(out);
    }
    Ok(record_one("cast", &[x], out, || {
        move |_: &Context<'_>, grads: &[Option<Tensor>]| {
            let grad = grads[0].as_ref().map(|g| cast(g, from)).transpose()?;
            Ok(Grads::from_elem(grad, 1))
        }
    }))
}

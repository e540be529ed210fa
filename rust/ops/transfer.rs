//! Copies between devices.

use super::elementwise;
use crate::core::Result;
use crate::graph::record::{Context, Grads, record_one};
use crate::graph::{Device, Tensor};

/// The tensor itself if it is on `device`, otherwise a copy there. Runs what the tensor needs.
pub fn to_device(x: &Tensor, device: Device) -> Result<Tensor> {
    let from = x.device();
    if from == device {
        return Ok(x.clone());
    }
    let whole = elementwise::contiguous(&x.detach())?;
    let whole = if whole.layout().is_whole(whole.value().spec().shape.count()) {
        whole
    } else {
        elementwise::copy(&whole)?
    };
    let buffer = whole.realise()?.transfer(device)?;
    let out = Tensor::from_buffer(device, x.shape().clone(), x.dtype(), buffer);
    Ok(record_one("to", &[x], out, || {
        move |_: &Context<'_>, grads: &[Option<Tensor>]| {
            Ok(Grads::from_elem(grads[0].as_ref().map(|g| to_device(g, from)).transpose()?, 1))
        }
    }))
}

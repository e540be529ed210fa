//! Operations on tensors, one file a family: check, make the node, and the gradient beside it. Checks
//! happen at the call, so that an error is raised at the user's line; nothing here computes.

pub mod advanced;
pub mod attention;
pub mod autocast;
pub mod cast;
pub mod compare;
pub mod conv;
pub mod create;
pub mod einsum;
pub mod elementwise;
mod host;
pub mod index;
pub mod join;
pub mod loss;
pub mod matmul;
pub mod norm;
pub mod pool;
pub mod random;
pub mod rearrange;
pub mod recurrent;
pub mod reduce;
mod rule;
pub mod search;
pub mod shapes;
pub mod sort;
pub mod transfer;
pub mod view;

pub use elementwise::{Arg, apply};

use crate::bail;
use crate::core::{DType, Result, Shape};
use crate::graph::node::Operands;
use crate::graph::{Device, Spec, Tensor};
use crate::ir::Kernel;

/// The device that all tensors of a call share.
fn device(op: &str, tensors: &[&Tensor]) -> Result<Device> {
    let device = tensors[0].device();
    if let Some(other) = tensors.iter().find(|t| t.device() != device) {
        bail!(
            Device,
            "{op}: tensors are on {device} and on {}; move one, as in `x.to({:?})`",
            other.device(),
            device.to_string()
        );
    }
    Ok(device)
}

/// A node with one output that reads tensors as they are seen.
fn node(kernel: Kernel, tensors: &[&Tensor], shape: Shape, dtype: DType) -> Result<Tensor> {
    let device = device(kernel.name(), tensors)?;
    let operands = tensors.iter().map(|t| t.operand()).collect();
    source(device, kernel, operands, shape, dtype)
}

/// A node with one output on a device.
fn source(device: Device, kernel: Kernel, operands: Operands, shape: Shape, dtype: DType) -> Result<Tensor> {
    Tensor::pending_one(device, kernel, operands, Spec { shape, dtype })
}

/// The float dtype in which a float operation takes a tensor of `dtype`.
fn float(dtype: DType) -> DType {
    if dtype.is_float() { dtype } else { DType::F32 }
}

#[cfg(test)]
mod tests;

//! The tensor handle, the nodes behind it and the scheduler that turns pending nodes into kernels.
//! A call appends a node and computes nothing; observing a value runs what that value needs.

pub mod device;
pub mod node;
pub mod plan;
pub mod profile;
pub mod record;
pub mod run;
pub mod tensor;
pub mod trace;
pub mod window;

pub use device::{Buffer, Device};
pub use node::{Node, Operand, Spec, Value};
pub use record::{Context, Edge, GradFn, Grads, Leaf, Rule, grad_enabled};
pub use tensor::Tensor;

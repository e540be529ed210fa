//! The CPU backend: how each kernel runs here. Dispatch over instruction sets, threads, memory, and one
//! file or folder a kernel. It knows neither the graph nor Python.

pub mod isa;
pub mod memory;
pub mod threads;
pub mod view;

pub use memory::Memory;
pub use view::{Out, View};

use crate::core::{Error, Result};
use crate::ir::Kernel;

/// Runs one kernel. Outputs are row-major and as large as their shapes say; the first may be the very
/// memory of a row-major input of the same size that nobody else reads.
pub fn run(kernel: &Kernel, _inputs: &[View<'_>], _outputs: &[Out<'_>]) -> Result<()> {
    Err(Error::Device(kernel.name().into()))
}

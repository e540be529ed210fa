//! The CPU backend: how each kernel runs here. Dispatch over instruction sets, threads, memory, and one
//! file or folder a kernel. It knows neither the graph nor Python.

mod combine;
pub mod conv;
mod copy;
mod fill;
mod fold;
mod index;
pub mod isa;
pub mod lanes;
pub mod math;
pub mod matmul;
pub mod memory;
mod moments;
pub mod pointwise;
mod product;
mod reduce;
mod stored;
pub mod threads;
pub mod view;
mod work;

pub use memory::Memory;
pub use view::{Out, View};

use crate::core::{Error, Result};
use crate::ir::Kernel;

/// Runs one kernel. Outputs are row-major and as large as their shapes say; the first may be the very
/// memory of a row-major input of the same size that nobody else reads.
pub fn run(kernel: &Kernel, inputs: &[View<'_>], outputs: &[Out<'_>]) -> Result<()> {
    let out = &outputs[0];
    match kernel {
        Kernel::Apply { .. } | Kernel::Cast => unreachable!("the planner makes programs of single operations"),
        Kernel::Copy => copy::copy(&inputs[0], out),
        Kernel::Pointwise(map) => pointwise::pointwise(map, inputs, outputs),
        Kernel::Fill(value) => fill::fill(*value, out),
        Kernel::Arange { start, step } => fill::arange(*start, *step, out),
        Kernel::Reduce { op, axes, map } => {
            reduce::reduce(*op, *axes, map, &inputs[0].layout.shape, inputs, out)
        }
        Kernel::Moments { axes, map } => {
            moments::moments(*axes, map, &inputs[0].layout.shape, inputs, out, &outputs[1])
        }
        Kernel::Matmul { epilogue } => product::matmul(inputs, epilogue.as_ref(), out),
        Kernel::Conv { conv, epilogue } => product::conv(*conv, inputs, epilogue.as_ref(), out),
        Kernel::Take { axis } => index::take(*axis, &inputs[0], &inputs[1], out),
        Kernel::TakeInput { axis } => index::take_input(*axis, &inputs[0], &inputs[1], out),
        Kernel::Gather { axis } => index::gather(*axis, &inputs[0], &inputs[1], out),
        Kernel::Scatter { axis, mode } => {
            index::scatter(*axis, *mode, &inputs[0], &inputs[1], &inputs[2], out)
        }
        Kernel::Assign { window, mode } => index::assign(window, *mode, &inputs[0], &inputs[1], out),
        Kernel::Concat { axis } => index::concat(*axis, inputs, out),
        other => Err(Error::Device(format!("{}: not on the CPU yet", other.name()))),
    }
}

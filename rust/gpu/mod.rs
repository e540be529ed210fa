//! The GPU backend: how kernels run through wgpu, on any vendor's card. [`run`] is the whole of it as the
//! graph sees it; the rest is memory and devices. It knows neither the graph nor Python.
//!
//! `adapter` finds cards, `device` opens them and moves bytes, `pool` keeps memory, `queue` records work in
//! order, `pipeline` compiles shaders; `wgsl` and `prelude` write them; one file a family of kernels.

mod adapter;
mod cache;
mod device;
mod generate;
mod matmul;
mod pipeline;
mod pointwise;
mod pool;
mod prelude;
mod queue;
mod shaders;
#[cfg(test)]
mod tests;
mod wgsl;

pub use adapter::{ADAPTER_VARIABLE, Adapter, Kind};
pub use device::{Device, adapters, after_fork_in_child, default, named, nth};
pub use pool::{Buffer, Usage};
pub use shaders::all as all_shaders;

use crate::bail;
use crate::core::{DType, Layout, Result, Shape};
use crate::ir::Kernel;
use crate::ir::kernel::Fused;

/// An operand: `layout` places its elements, counted from the start of the buffer.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub buffer: &'a Buffer,
    pub layout: &'a Layout,
    pub dtype: DType,
}

/// A result: a row-major buffer for `shape`.
#[derive(Clone, Copy)]
pub struct Out<'a> {
    pub buffer: &'a Buffer,
    pub shape: &'a Shape,
    pub dtype: DType,
}

/// Memory on the default device; what it holds is undefined.
pub fn alloc(bytes: usize) -> Result<Buffer> {
    default()?.alloc(bytes)
}

/// Bytes on the default device.
pub fn upload(bytes: &[u8]) -> Result<Buffer> {
    default()?.upload(bytes)
}

/// All bytes of a buffer, once the kernels that make them have run.
pub fn download(buffer: &Buffer) -> Result<Vec<u8>> {
    buffer.download(0..buffer.len())
}

/// Waits until every device that is open has done all its work; opens none.
pub fn synchronize() -> Result<()> {
    device::opened().iter().try_for_each(Device::synchronize)
}

/// Kernels that this backend lacks, by [`Kernel::name`]. The list only shrinks.
pub const NOT_YET: &[&str] = &[
    "sum",
    "prod",
    "amax",
    "amin",
    "any",
    "all",
    "logsumexp",
    "moments",
    "argmax",
    "argmin",
    "cumsum",
    "cumprod",
    "cummax",
    "cummin",
    "softmax",
    "log_softmax",
    "sort",
    "searchsorted",
    "conv",
    "conv_input",
    "conv_weight",
    "max_pool",
    "max_pool_input",
    "avg_pool",
    "avg_pool_input",
    "adaptive_avg_pool",
    "adaptive_avg_pool_input",
    "adaptive_max_pool",
    "take",
    "take_input",
    "gather",
    "scatter",
    "assign",
    "concat",
];

/// Kernels that operations compose of others on this backend and never record here, by [`Kernel::name`].
/// Each may leave the list with a shader of its own.
pub const COMPOSED: &[&str] = &["attention", "attention_input", "recurrent", "recurrent_input"];

/// Records one kernel. Outputs are row-major and as large as their shapes say; the first may be the very
/// buffer of a row-major input of the same size that nobody else reads.
pub fn run(kernel: &Kernel, inputs: &[View<'_>], outputs: &[Out<'_>]) -> Result<()> {
    let Some(out) = outputs.first() else { return Ok(()) };
    let device = out.buffer.device();
    device.shared().check()?;
    let name = kernel.name();
    match kernel {
        Kernel::Apply { op, dtype, args } => {
            pointwise::run(name, &Fused::apply(*op, *dtype, args), inputs, outputs)
        }
        Kernel::Cast => pointwise::run(name, &Fused::cast(inputs[0].dtype, out.dtype), inputs, outputs),
        Kernel::Copy => pointwise::run(name, &Fused::identity(out.dtype), inputs, outputs),
        Kernel::Pointwise(fused) => pointwise::run(name, fused, inputs, outputs),
        Kernel::Fill(value) => generate::fill(*value, out),
        Kernel::Arange { start, step } => generate::arange(*start, *step, out),
        Kernel::Random { distribution, key, offset } => generate::random(*distribution, *key, *offset, out),
        Kernel::Matmul { epilogue } => matmul::run(epilogue.as_ref(), inputs, out),

        Kernel::Reduce { .. }
        | Kernel::Moments { .. }
        | Kernel::ArgReduce { .. }
        | Kernel::Scan { .. }
        | Kernel::Softmax { .. }
        | Kernel::Sort { .. }
        | Kernel::SearchSorted { .. }
        | Kernel::Conv { .. }
        | Kernel::ConvInput { .. }
        | Kernel::ConvWeight { .. }
        | Kernel::MaxPool { .. }
        | Kernel::MaxPoolInput
        | Kernel::AvgPool { .. }
        | Kernel::AvgPoolInput { .. }
        | Kernel::AdaptiveAvgPool
        | Kernel::AdaptiveAvgPoolInput
        | Kernel::AdaptiveMaxPool
        | Kernel::Attention { .. }
        | Kernel::AttentionInput { .. }
        | Kernel::Recurrent { .. }
        | Kernel::RecurrentInput { .. }
        | Kernel::Take { .. }
        | Kernel::TakeInput { .. }
        | Kernel::Gather { .. }
        | Kernel::Scatter { .. }
        | Kernel::Assign { .. }
        | Kernel::Concat { .. } => {
            bail!(Device, "{name}: not yet on the GPU; move its operands with `.to(\"cpu\")`")
        }
    }
}

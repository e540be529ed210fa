//! The GPU backend: how kernels run through wgpu, on any vendor's card. [`run`] is the whole of it as the
//! graph sees it; the rest is memory and devices. It knows neither the graph nor Python.
//!
//! `adapter` finds cards, `device` opens them, `read` brings bytes back, `memory` keeps them, `queue` records work in
//! order, `pipeline` compiles shaders; `wgsl` and `prelude` write them; one file a family of kernels.

mod adapter;
mod assign;
mod attention;
mod bounds;
mod cache;
mod conv;
mod cooperative;
mod device;
mod ending;
mod fold;
mod generate;
mod index;
mod items;
mod matmul;
mod memory;
mod neighbours;
mod normalize;
mod order;
mod pipeline;
mod pointwise;
mod pool;
mod prelude;
mod products;
mod queue;
mod read;
mod recurrent;
mod reduce;
mod rows;
mod scan;
mod scatter;
mod shaders;
mod softmax;
mod sort;
mod speed;
mod stored;
mod strided;
#[cfg(test)]
mod tests;
mod together;
mod wgsl;

pub use adapter::{ADAPTER_VARIABLE, Adapter, Kind};
pub use bounds::asked_for_at;
pub use device::{
    Device, Listed, adapters, after_fork_in_child, limit, looked, open, opened_at, place, save_pipelines,
    set_limit, suffix, transfers,
};
pub use memory::{Buffer, Usage};
pub use queue::dispatches;
pub use shaders::all as all_shaders;
pub use speed::{Recording, Speed, speed, watch};

use crate::bail;
use crate::core::{DType, Layout, Result, Scalar, Shape};
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

/// Memory on the adapter at a place; what it holds is undefined.
pub fn alloc(at: usize, bytes: usize) -> Result<Buffer> {
    open(at)?.alloc(bytes)
}

/// Bytes on the adapter at a place.
pub fn upload(at: usize, bytes: &[u8]) -> Result<Buffer> {
    open(at)?.upload(bytes)
}

/// All bytes of a buffer, once the kernels that make them have run.
pub fn download(buffer: &Buffer) -> Result<Vec<u8>> {
    buffer.download(0..buffer.len())
}

/// Waits until every device that is open has done all its work; opens none.
pub fn synchronize() -> Result<()> {
    device::opened().iter().try_for_each(Device::synchronize)
}

/// Opens the adapter at a place, runs a kernel there and looks at what it wrote: for a process in which a driver may
/// crash.
pub fn try_out(at: usize) -> Result<()> {
    let device = open(at)?;
    let (buffer, shape) = (device.alloc(4 * 1000)?, Shape::new(&[1000]));
    let out = Out { buffer: &buffer, shape: &shape, dtype: DType::F32 };
    run(&Kernel::Fill(Scalar::Float(2.0)), &[], &[out])?;
    match download(&buffer)?.chunks_exact(4).all(|word| word == 2f32.to_ne_bytes()) {
        true => Ok(()),
        false => bail!(Device, "{}: a kernel did not write what it should", device.adapter()),
    }
}

/// Records one kernel, which may take several dispatches. Outputs are row-major and as large as their shapes say.
/// The first may be the very buffer of a row-major input of the same size that nobody else reads, and each output
/// of a fused chain that of another such input: an invocation reads all its elements before it writes them.
pub fn run(kernel: &Kernel, inputs: &[View<'_>], outputs: &[Out<'_>]) -> Result<()> {
    let start = speed::clock();
    let result = record(kernel, inputs, outputs);
    speed::note(speed::Noted::Run, start);
    result
}

fn record(kernel: &Kernel, inputs: &[View<'_>], outputs: &[Out<'_>]) -> Result<()> {
    let Some(out) = outputs.first() else { return Ok(()) };
    let device = out.buffer.device();
    device.shared().check()?;
    // What a lost device held is gone, though the result is on the one that was opened since.
    for lost in inputs.iter().map(|input| input.buffer.device()).filter(|other| other.is_lost()) {
        lost.shared().check()?;
    }
    let name = kernel.name();
    match kernel {
        Kernel::Apply { op, dtype, args } => {
            pointwise::run(name, &Fused::apply(*op, *dtype, args), inputs, outputs)
        }
        Kernel::Cast => pointwise::run(name, &Fused::cast(inputs[0].dtype, out.dtype), inputs, outputs),
        Kernel::Copy => assign::copy(name, &inputs[0], out),
        Kernel::Pointwise(fused) => pointwise::run(name, fused, inputs, outputs),
        Kernel::Fill(value) => generate::fill(*value, out),
        Kernel::Arange { start, step } => generate::arange(*start, *step, out),
        Kernel::Random { distribution, key, offset } => generate::random(*distribution, *key, *offset, out),
        Kernel::Matmul { epilogue } => matmul::run(epilogue.as_ref(), inputs, out),
        Kernel::Reduce { op, axes, map } => reduce::reduce(name, *op, *axes, map, inputs, out),
        Kernel::Moments { axes, map } => reduce::moments(*axes, map, inputs, outputs),
        Kernel::Normalize { centred, eps, weight, bias } => {
            normalize::normalize([*centred, *weight, *bias], *eps, inputs, outputs)
        }
        Kernel::NormalizeInput { centred, weight, bias } => {
            normalize::normalize_input([*centred, *weight, *bias], inputs, outputs)
        }
        Kernel::ArgReduce { largest, axis } => reduce::arg_reduce(name, *largest, *axis, &inputs[0], out),
        Kernel::Scan { op, axis } => scan::scan(name, *op, *axis, &inputs[0], out),
        Kernel::Softmax { log, map } => softmax::softmax(name, *log, map, inputs, out),
        Kernel::Sort { descending } => sort::sort(*descending, &inputs[0], outputs),
        Kernel::SearchSorted { right } => sort::search_sorted(*right, &inputs[0], &inputs[1], out),
        Kernel::Take { axis } => index::take(*axis, &inputs[0], &inputs[1], out),
        Kernel::Gather { axis } => index::gather(*axis, &inputs[0], &inputs[1], out),
        Kernel::TakeInput { axis } => scatter::take_input(*axis, &inputs[0], &inputs[1], out),
        Kernel::Scatter { axis, mode } => {
            scatter::scatter(*axis, *mode, &inputs[0], &inputs[1], &inputs[2], out)
        }
        Kernel::Conv { conv, epilogue } => conv::conv(conv, epilogue.as_ref(), inputs, out),
        Kernel::ConvInput { conv } => conv::conv_input(conv, &inputs[0], &inputs[1], out),
        Kernel::ConvWeight { conv } => conv::conv_weight(conv, &inputs[0], &inputs[1], out),
        Kernel::MaxPool { pool } => pool::max(name, Some(pool), &inputs[0], out, outputs.get(1)),
        Kernel::AdaptiveMaxPool => pool::max(name, None, &inputs[0], out, outputs.get(1)),
        Kernel::AvgPool { pool } => pool::avg(name, Some(pool), &inputs[0], out),
        Kernel::AdaptiveAvgPool => pool::avg(name, None, &inputs[0], out),
        Kernel::AvgPoolInput { pool } => pool::avg_input(name, Some(pool), &inputs[0], out),
        Kernel::AdaptiveAvgPoolInput => pool::avg_input(name, None, &inputs[0], out),
        Kernel::MaxPoolInput { pool } => pool::max_input(name, pool.as_ref(), &inputs[0], &inputs[1], out),
        Kernel::Assign { window, mode } => assign::assign(window, *mode, &inputs[0], &inputs[1], out),
        Kernel::Concat { axis } => assign::concat(*axis, inputs, out),

        Kernel::Attention { causal, scale } => attention::attention(*causal, *scale, inputs, outputs),
        Kernel::AttentionInput { causal, scale } => {
            attention::attention_input(*causal, *scale, inputs, outputs)
        }
        Kernel::Recurrent { cell, reverse } => recurrent::recurrent(*cell, *reverse, inputs, outputs),
        Kernel::RecurrentInput { cell, reverse } => {
            recurrent::recurrent_input(*cell, *reverse, inputs, outputs)
        }
    }
}

//! The CPU backend: how each kernel runs here. Dispatch over instruction sets, threads, memory, and one
//! file or folder a kernel. It knows neither the graph nor Python.

mod arg;
mod attention;
#[cfg(target_arch = "x86_64")]
mod bf16;
mod combine;
pub mod conv;
mod copy;
mod even;
mod fill;
mod fold;
mod index;
pub mod isa;
pub mod lanes;
pub mod math;
pub mod matmul;
pub mod memory;
mod moments;
mod normalize;
pub mod pointwise;
mod pool;
mod pools;
mod product;
mod random;
mod recurrent;
mod reduce;
#[cfg(test)]
mod reference;
mod region;
mod scan;
mod softmax;
mod sort;
mod stored;
pub mod threads;
pub mod view;
mod work;

pub use memory::Memory;
pub use view::{Out, View};

use crate::core::Result;
use crate::ir::Kernel;
use crate::ir::kernel::Fused;

/// Runs one kernel. Outputs are row-major and as large as their shapes say; the first may be the very
/// memory of a row-major input of the same size that nobody else reads.
pub fn run(kernel: &Kernel, inputs: &[View<'_>], outputs: &[Out<'_>]) -> Result<()> {
    let out = &outputs[0];
    match kernel {
        Kernel::Apply { op, dtype, args } => pointwise::apply(*op, *dtype, args, inputs, out),
        Kernel::Cast => {
            let cast = Fused::cast(inputs[0].dtype, out.dtype);
            pointwise::pointwise(&cast, inputs, outputs)
        }
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
        Kernel::Normalize { centred, eps, weight, bias } => {
            normalize::normalize(*centred, *eps, *weight, *bias, inputs, outputs)
        }
        Kernel::NormalizeInput { centred, weight, bias } => {
            normalize::normalize_input(*centred, *weight, *bias, inputs, outputs)
        }
        Kernel::ArgReduce { largest, axis } => arg::arg_reduce(*largest, *axis, &inputs[0], out),
        Kernel::Scan { op, axis } => scan::scan(*op, *axis, &inputs[0], out),
        Kernel::Softmax { log, map } => softmax::softmax(*log, map, &inputs[0].layout.shape, inputs, out),
        Kernel::Sort { descending } => sort::sort(*descending, &inputs[0], out, &outputs[1]),
        Kernel::SearchSorted { right } => sort::search_sorted(*right, &inputs[0], &inputs[1], out),
        Kernel::Random { distribution, key, offset } => random::random(*distribution, *key, *offset, out),
        Kernel::Matmul { epilogue } => product::matmul(inputs, epilogue.as_ref(), out),
        Kernel::Conv { conv, epilogue } => product::conv(*conv, inputs, epilogue.as_ref(), out),
        Kernel::ConvInput { conv } => product::conv_input(*conv, &inputs[0], &inputs[1], out),
        Kernel::ConvWeight { conv } => product::conv_weight(*conv, &inputs[0], &inputs[1], out),
        Kernel::MaxPool { pool } => pools::max(pool, &inputs[0], out, &outputs[1]),
        Kernel::MaxPoolInput { .. } => pools::max_input(&inputs[0], &inputs[1], out),
        Kernel::AvgPool { pool } => pools::avg(pool, &inputs[0], out),
        Kernel::AvgPoolInput { pool } => pools::avg_input(pool, &inputs[0], out),
        Kernel::AdaptiveAvgPool => pools::adaptive_avg(&inputs[0], out),
        Kernel::AdaptiveAvgPoolInput => pools::adaptive_avg_input(&inputs[0], out),
        Kernel::AdaptiveMaxPool => pools::adaptive_max(&inputs[0], out, &outputs[1]),
        Kernel::Attention { causal, scale } => attention::attention(*causal, *scale, inputs, outputs),
        Kernel::AttentionInput { causal, scale } => {
            attention::attention_input(*causal, *scale, inputs, outputs)
        }
        Kernel::Recurrent { cell, reverse } => recurrent::recurrent(*cell, *reverse, inputs, outputs),
        Kernel::RecurrentInput { cell, reverse } => {
            recurrent::recurrent_input(*cell, *reverse, inputs, outputs)
        }
        Kernel::Take { axis } => index::take(*axis, &inputs[0], &inputs[1], out),
        Kernel::TakeInput { axis } => index::take_input(*axis, &inputs[0], &inputs[1], out),
        Kernel::Gather { axis } => index::gather(*axis, &inputs[0], &inputs[1], out),
        Kernel::Scatter { axis, mode } => {
            index::scatter(*axis, *mode, &inputs[0], &inputs[1], &inputs[2], out)
        }
        Kernel::Assign { window, mode } => index::assign(window, *mode, &inputs[0], &inputs[1], out),
        Kernel::Concat { axis } => index::concat(*axis, inputs, out),
    }
}

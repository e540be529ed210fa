//! What kernels cost while somebody asks: how often each ran on which shapes, for how long, and what it moved.

use super::device::{self, Device};
use super::node::{Operands, Specs};
use crate::core::{Layout, Shape};
use crate::ir::{Kernel, Program, Step};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A kernel with the shapes that it ran on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub device: Device,
    /// The kernel's name; of chains, those of the operations.
    pub kernel: String,
    pub inputs: Vec<Shape>,
    pub outputs: Vec<Shape>,
}

/// What came together at one place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub calls: u64,
    pub time: Duration,
    /// Bytes read and written, each element once.
    pub bytes: u64,
    /// Multiplications and additions of products, convolutions, attention and recurrent layers.
    pub flops: u64,
}

static ON: AtomicBool = AtomicBool::new(false);
static COSTS: Mutex<Option<FxHashMap<Place, Cost>>> = Mutex::new(None);

/// Starts to count afresh.
pub fn start() {
    *COSTS.lock() = Some(FxHashMap::default());
    ON.store(true, Ordering::Relaxed);
}

/// Stops, and gives what was counted.
pub fn stop() -> Vec<(Place, Cost)> {
    ON.store(false, Ordering::Relaxed);
    COSTS.lock().take().into_iter().flatten().collect()
}

/// The time, if somebody counts. Devices that run behind the host are waited for.
pub fn clock() -> Option<Instant> {
    if !ON.load(Ordering::Relaxed) {
        return None;
    }
    let _ = device::synchronize();
    Some(Instant::now())
}

/// Counts a kernel that ran from `start` until now.
pub fn note(start: Instant, device: Device, kernel: &Kernel, operands: &Operands, specs: &Specs) {
    let _ = device::synchronize();
    let time = start.elapsed();
    let inputs: Vec<Shape> = operands.iter().map(|operand| operand.layout.shape.clone()).collect();
    let outputs: Vec<Shape> = specs.iter().map(|spec| spec.shape.clone()).collect();
    let read: usize = operands.iter().map(|operand| stored(&operand.layout) * operand.dtype().size()).sum();
    let written: usize = specs.iter().map(|spec| spec.bytes()).sum();
    let flops = flops(kernel, &inputs, &outputs);
    let place = Place { device, kernel: title(kernel), inputs, outputs };
    if let Some(costs) = COSTS.lock().as_mut() {
        let cost = costs.entry(place).or_default();
        cost.calls += 1;
        cost.time += time;
        cost.bytes += (read + written) as u64;
        cost.flops += flops;
    }
}

/// The elements that a view shows, each counted once however often a broadcast repeats it.
fn stored(layout: &Layout) -> usize {
    layout
        .shape
        .iter()
        .zip(&layout.strides)
        .map(|(&size, &stride)| if stride == 0 { 1 } else { size })
        .product()
}

fn title(kernel: &Kernel) -> String {
    let name = kernel.name();
    match kernel {
        Kernel::Pointwise(fused) => chain(&fused.program),
        Kernel::Reduce { map, .. } | Kernel::Moments { map, .. } | Kernel::Softmax { map, .. }
            if !map.program.steps.is_empty() =>
        {
            format!("{name}({})", chain(&map.program))
        }
        Kernel::Matmul { epilogue: Some(fused) } | Kernel::Conv { epilogue: Some(fused), .. } => {
            format!("{name} | {}", chain(&fused.program))
        }
        _ => name.into(),
    }
}

/// The names of a chain's operations.
fn chain(program: &Program) -> String {
    let names: Vec<&str> = program
        .steps
        .iter()
        .map(|step| match step {
            Step::Apply { op, .. } => op.name(),
            Step::Cast { .. } => "cast",
        })
        .collect();
    if names.is_empty() { "copy".into() } else { names.join(" ") }
}

fn flops(kernel: &Kernel, inputs: &[Shape], outputs: &[Shape]) -> u64 {
    let count = |shape: &Shape| shape.count() as u64;
    match (kernel, inputs, outputs) {
        (Kernel::Matmul { .. }, [a, ..], [out, ..]) => 2 * count(out) * a.last().map_or(0, |&k| k as u64),
        // Each output takes one filter's weights.
        (Kernel::Conv { .. }, [_, w, ..], [out, ..]) => 2 * count(out) * (count(w) / w[0].max(1) as u64),
        (Kernel::ConvInput { .. }, [dy, w, ..], _) => 2 * count(dy) * (count(w) / w[0].max(1) as u64),
        (Kernel::ConvWeight { .. }, [_, dy, ..], [w, ..]) => 2 * count(dy) * (count(w) / w[0].max(1) as u64),
        // Two products forward, five on the way back.
        (&Kernel::Attention { causal, .. }, [q, k, v, ..], _) => {
            2 * pairs(q, k, causal) * (last(q) + last(v))
        }
        (&Kernel::AttentionInput { causal, .. }, [_, _, _, q, k, v, ..], _) => {
            2 * pairs(q, k, causal) * (3 * last(q) + 2 * last(v))
        }
        (Kernel::Recurrent { .. }, [gates, w, ..], _) => 2 * count(gates) * last(w),
        (Kernel::RecurrentInput { .. }, [w, ..], [gates, ..]) => 2 * count(gates) * last(w),
        _ => 0,
    }
}

fn last(shape: &Shape) -> u64 {
    shape.last().map_or(0, |&n| n as u64)
}

/// How many pairs of a query and a key that it sees there are; q and k are (…, L, E) and (…, S, E).
fn pairs(q: &Shape, k: &Shape, causal: bool) -> u64 {
    let [queries, keys] = [q, k].map(|x| x.len().checked_sub(2).map_or(0, |axis| x[axis] as u64));
    let blind = if causal { queries.min(keys) } else { 0 };
    // Query i sees i + 1 keys, and all from the last key's on.
    let each = blind * (blind + 1) / 2 + (queries - blind) * keys;
    (q.count() as u64).checked_div(queries * last(q)).map_or(0, |heads| heads * each)
}

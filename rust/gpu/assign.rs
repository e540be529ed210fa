//! Elements written into windows of the output: assignment, joining, and copies of any dtype.

use super::device::Shared;
use super::pipeline::{Key, Parameters, Source};
use super::pointwise::{self, Axes, LANES, Window, grid};
use super::shaders::ASSIGN;
use super::{Buffer, Out, View, strided, wgsl};
use crate::bail;
use crate::core::{DType, Layout, Result, Shape};
use crate::ir::kernel::{Fused, Scatter};
use smallvec::SmallVec;

/// `x` with `source`, of the window's shape, set or added into a window of it.
pub(super) fn assign(
    window: &Layout,
    mode: Scatter,
    x: &View<'_>,
    source: &View<'_>,
    out: &Out<'_>,
) -> Result<()> {
    if window.shape.iter().zip(&window.strides).any(|(&size, &stride)| size > 1 && stride == 0) {
        bail!(
            Value,
            "assign: the window is a broadcast, so that elements of it share a place; copy it first"
        );
    }
    start_from("assign", x, out)?;
    write("assign", mode, source, out, window)
}

/// Inputs joined along `axis`.
pub(super) fn concat(axis: usize, inputs: &[View<'_>], out: &Out<'_>) -> Result<()> {
    let whole = Layout::contiguous(out.shape.clone());
    let mut start = 0;
    for input in inputs {
        let size = input.layout.shape[axis];
        if size > 0 {
            write("concat", Scatter::Set, input, out, &whole.slice(axis, start, size, 1))?;
        }
        start += size;
    }
    Ok(())
}

/// The elements of a view in row-major order.
pub(super) fn copy(op: &'static str, x: &View<'_>, out: &Out<'_>) -> Result<()> {
    if wgsl::check(op, out.dtype, out.buffer.device().adapter()).is_ok() {
        return pointwise::run(op, &Fused::identity(out.dtype), &[*x], &[*out]);
    }
    write(op, Scatter::Set, x, out, &Layout::contiguous(out.shape.clone()))
}

/// Results of which `shape` begins at element `start`, made entry by entry of the outermost axis in memory of their
/// own and then moved to their place: for entries that do not begin at whole quads, which [`halves`] has no cut for.
/// `make` gets the axis, the entry, its shape, and where to write. An error where there are no entries.
///
/// [`halves`]: super::pointwise::halves
pub(super) fn by_entries(
    op: &str,
    shape: &Shape,
    start: usize,
    outs: &[Out<'_>],
    make: impl Fn(usize, usize, &Shape, &[Out<'_>]) -> Result<()>,
) -> Result<()> {
    let Some(axis) = shape.iter().position(|&size| size != 1) else {
        let shared = outs[0].buffer.device().shared();
        bail!(Device, "{op}: what one element needs does not fit what {} binds at once", shared.adapter);
    };
    let mut part = shape.clone();
    part[axis] = 1;
    let count = part.count();
    let layout = Layout::contiguous(part.clone());
    for entry in 0..shape[axis] {
        let window = Layout { offset: start + entry * count, ..layout.clone() };
        let mut buffers: SmallVec<[Buffer; 2]> = SmallVec::new();
        for out in outs {
            buffers.push(out.buffer.device().alloc(count * out.dtype.size())?);
        }
        let own: SmallVec<[Out<'_>; 2]> = outs
            .iter()
            .zip(&buffers)
            .map(|(out, buffer)| Out { buffer, shape: &part, dtype: out.dtype })
            .collect();
        make(axis, entry, &part, &own)?;
        for (made, out) in own.iter().zip(outs) {
            let made = View { buffer: made.buffer, layout: &layout, dtype: made.dtype };
            write(op, Scatter::Set, &made, out, &window)?;
        }
    }
    Ok(())
}

/// An error if elements of the output cannot be added up on its device.
pub(super) fn adds(op: &str, out: &Out<'_>) -> Result<()> {
    if out.dtype == DType::Bool {
        bail!(DType, "{op}: bool tensors do not add up; cast them first, as in `x.long()`");
    }
    wgsl::check(op, out.dtype, out.buffer.device().adapter())
}

/// Lets the result begin as a copy of `x`, unless it is `x` already.
pub(super) fn start_from(op: &'static str, x: &View<'_>, out: &Out<'_>) -> Result<()> {
    let same = x.buffer.raw().id == out.buffer.raw().id;
    if same && x.layout.is_whole(out.shape.count()) { Ok(()) } else { copy(op, x, out) }
}

/// Writes `source` into a window of the output, which counts from its start.
fn write(op: &str, mode: Scatter, source: &View<'_>, out: &Out<'_>, window: &Layout) -> Result<()> {
    if mode == Scatter::Add {
        adds(op, out)?;
    }
    let Some(layout) = source.layout.broadcast_to(&window.shape) else {
        bail!(Shape, "{op}: {} does not broadcast to {}", source.layout.shape, window.shape);
    };
    let call = Call { op, mode, source, out };
    call.run(&[layout, window.clone()])
}

struct Call<'a> {
    op: &'a str,
    mode: Scatter,
    source: &'a View<'a>,
    out: &'a Out<'a>,
}

impl Call<'_> {
    /// `layouts` are those of the source and of the window; what is too large is done in two halves.
    fn run(&self, layouts: &[Layout; 2]) -> Result<()> {
        let Call { op, mode, source, out } = *self;
        let shared = out.buffer.device().shared();
        let shape = &layouts[0].shape;
        let count = shape.count();
        if count == 0 {
            return Ok(());
        }
        let Some(windows) = self.windows(shared, layouts).filter(|_| count <= 1 << 31) else {
            let Some(axis) = shape.iter().position(|&size| size > 1) else {
                bail!(Device, "{op}: an element does not fit what {} binds at once", shared.adapter);
            };
            let half = shape[axis] / 2;
            return [(0, half), (half, shape[axis] - half)].into_iter().try_for_each(|(first, size)| {
                self.run(&[0, 1].map(|i: usize| layouts[i].slice(axis, first, size, 1)))
            });
        };
        let axes = Axes::of(shape, layouts);
        let groups = grid((count as u64).div_ceil(LANES));
        let mut words = vec![count as u32, groups[0] * LANES as u32];
        strided::words(&axes, layouts, &[windows[0].first, windows[1].first], &mut words);
        let (parameters, rank) = (shared.parameters(words.len()), strided::rank(&axes));
        let dtype = if mode == Scatter::Set { wgsl::bits_of(out.dtype) } else { out.dtype };
        debug_assert_eq!(source.dtype.size(), out.dtype.size());
        let key = Key::Shader(ASSIGN.name, vec![dtype as u32, mode as u32, rank as u32]);
        let pipeline = shared
            .pipelines
            .get(shared, &key, || Ok(ASSIGN.source(&constants(dtype, mode, rank), parameters)))?;
        shared.recorder().dispatch(shared, &pipeline, &windows.map(|window| window.binding), &words, groups)
    }

    /// The parts of the buffers that are read and written, or `None` if one is too large to be bound.
    fn windows(&self, shared: &Shared, layouts: &[Layout; 2]) -> Option<[Window<'_>; 2]> {
        let size = self.out.dtype.size();
        let buffers = [self.source.buffer, self.out.buffer];
        let windows: Option<SmallVec<[Window<'_>; 2]>> = buffers
            .into_iter()
            .zip(layouts)
            .map(|(buffer, layout)| {
                let (low, high) = layout.span()?;
                Window::new(shared, buffer, low, high, size)
            })
            .collect();
        windows?.into_inner().ok()
    }
}

fn constants(dtype: DType, mode: Scatter, rank: usize) -> String {
    let (value, from) = (wgsl::value(dtype), wgsl::load(dtype, "x", "at"));
    let sum = match mode {
        Scatter::Set => "value".into(),
        Scatter::Add => wgsl::sum(dtype, &wgsl::load_shared(dtype, "out", "at"), "value"),
    };
    format!(
        "{}@group(0) @binding(0) var<storage, read_write> x: array<{}>;
@group(0) @binding(1) var<storage, read_write> out: array<{}>;
fn load_x(at: u32) -> {value} {{ return {from}; }}
fn store(at: u32, value: {value}) {{\n    let y = {sum};\n{}}}\n",
        strided::text(rank, &["x", "out"]),
        wgsl::storage(dtype, false),
        wgsl::shared_storage(dtype),
        wgsl::store_shared(dtype, "out", "at", "y"),
    )
}

/// All variants of the shaders of this file.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    let mut all = vec![];
    for &dtype in DType::ALL {
        for (mode, rank) in [(Scatter::Set, 1), (Scatter::Set, 4), (Scatter::Add, 2)] {
            let set = mode == Scatter::Set && wgsl::bits_of(dtype) == dtype;
            if set || mode == Scatter::Add && !matches!(dtype, DType::Bool | DType::F64) {
                let source = ASSIGN.source(&constants(dtype, mode, rank), parameters);
                all.push((format!("assign {dtype} {mode:?} {rank}"), source));
            }
        }
    }
    all
}

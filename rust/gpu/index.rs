//! Elements chosen by index: `take` and `gather`, which are one shader. Writing by index is in `scatter`.

use super::assign::{by_entries, copy};
use super::bounds::Check;
use super::device::Shared;
use super::pipeline::{Key, Parameters, Source};
use super::pointwise::{Axes, Half, LANES, Window, grid, halves};
use super::queue::Binding;
use super::shaders::GATHER;
use super::{Out, View, generate, strided, wgsl};
use crate::core::layout::Strides;
use crate::core::{DType, Layout, Result, Shape};

/// `x[…, index, …]` along `axis`, which gives way to all axes of the index.
pub(super) fn take(axis: usize, x: &View<'_>, index: &View<'_>, out: &Out<'_>) -> Result<()> {
    let (of_x, of_index) = (x.layout, index.layout);
    let picks = of_index.rank();
    let behind = of_x.rank() - axis - 1;
    let mut from = Strides::from_slice(&of_x.strides[..axis]);
    from.extend(std::iter::repeat_n(0, picks));
    from.extend_from_slice(&of_x.strides[axis + 1..]);
    let mut by = Strides::from_elem(0, axis);
    by.extend_from_slice(&of_index.strides);
    by.extend(std::iter::repeat_n(0, behind));
    let layout = |strides, offset| Layout { shape: out.shape.clone(), strides, offset };
    let layouts = [layout(from, of_x.offset), layout(by, of_index.offset)];
    Call::new("take", axis, x, index, out).run(Part::all(layouts, of_x.shape[axis]))
}

/// `out[i][j] = x[index[i][j]][j]` along `axis`.
pub(super) fn gather(axis: usize, x: &View<'_>, index: &View<'_>, out: &Out<'_>) -> Result<()> {
    let layouts = [beside(axis, out.shape, x.layout), index.layout.clone()];
    Call::new("gather", axis, x, index, out).run(Part::all(layouts, x.layout.shape[axis]))
}

/// The places of elements of `shape` beside `axis`: as if its stride were 0.
pub(super) fn beside(axis: usize, shape: &Shape, layout: &Layout) -> Layout {
    let mut strides = layout.strides.clone();
    strides[axis] = 0;
    Layout { shape: shape.clone(), strides, offset: layout.offset }
}

/// The whole buffer that bad indices are reported in.
pub(super) fn bounds_binding(shared: &Shared) -> Binding<'_> {
    Binding { raw: &shared.bounds, offset: 0, size: shared.bounds.wgpu.size() }
}

struct Call<'a> {
    x: &'a View<'a>,
    index: &'a View<'a>,
    out: &'a Out<'a>,
    check: Check,
    /// From one entry of the axis to the next.
    step: isize,
}

/// A part of the output, and of the axis that the indices count along.
struct Part {
    /// Of x, at entry 0 of the axis, and of the index, over the part's shape.
    layouts: [Layout; 2],
    /// The part's first element in the output, a multiple of 4.
    start: usize,
    first: usize,
    held: usize,
}

impl Part {
    fn all(layouts: [Layout; 2], size: usize) -> Part {
        Part { layouts, start: 0, first: 0, held: size }
    }
}

impl<'a> Call<'a> {
    fn new(
        op: &'static str,
        axis: usize,
        x: &'a View<'a>,
        index: &'a View<'a>,
        out: &'a Out<'a>,
    ) -> Call<'a> {
        let (size, step) = (x.layout.shape[axis], x.layout.strides[axis]);
        Call { x, index, out, check: Check { op, axis, size }, step }
    }

    /// Does a part, in two halves where it is too large to be bound.
    fn run(&self, part: Part) -> Result<()> {
        let shared = self.out.buffer.device().shared();
        let shape = &part.layouts[0].shape;
        let count = shape.count();
        if count == 0 {
            return Ok(());
        }
        let windows = self.windows(shared, &part).filter(|_| count <= 1 << 31);
        let Some([x, index, out]) = windows else { return self.halves(part) };
        let axes = Axes::of(shape, &part.layouts);
        let groups = grid((count as u64).div_ceil(4 * LANES));
        let mut recorder = shared.recorder();
        let mut words = vec![
            count as u32,
            groups[0] * LANES as u32,
            ((part.start - out.first) / 4) as u32,
            self.step as u32,
            self.check.size as u32,
            recorder.checks.slot(self.check),
            part.first as u32,
            part.held as u32,
        ];
        let mut layouts = part.layouts.clone();
        layouts[0].offset = layouts[0].offset.wrapping_add_signed(part.first as isize * self.step);
        strided::words(&axes, &layouts, &[x.first, index.first], &mut words);
        let variant = Variant {
            dtype: wgsl::bits_of(self.out.dtype),
            partial: part.held < self.check.size,
            rank: strided::rank(&axes),
        };
        let parameters = shared.parameters(words.len());
        let pipeline = shared.pipelines.get(shared, &variant.key(), || Ok(variant.source(parameters)))?;
        let bindings = [x.binding, index.binding, out.binding, bounds_binding(shared)];
        recorder.dispatch(shared, &pipeline, &bindings, &words, groups)
    }

    fn windows(&self, shared: &Shared, part: &Part) -> Option<[Window<'a>; 3]> {
        let [of_x, of_index] = &part.layouts;
        let (low, high) = of_x.span()?;
        let ends = [part.first, (part.first + part.held).max(1) - 1].map(|at| at as isize * self.step);
        let (low, high) = (low as isize + ends[0].min(ends[1]), high as isize + ends[0].max(ends[1]));
        let size = self.out.dtype.size();
        let x = Window::new(shared, self.x.buffer, low as usize, high as usize, size)?;
        let (low, high) = of_index.span()?;
        let index = Window::new(shared, self.index.buffer, low, high, 8)?;
        let last = part.start + of_x.count() - 1;
        Some([x, index, Window::new(shared, self.out.buffer, part.start, last, size)?])
    }

    /// Halves the axis where it reaches further than all others together, else the output.
    fn halves(&self, part: Part) -> Result<()> {
        let shape = &part.layouts[0].shape;
        let reach = part.layouts[0].span().map_or(0, |(low, high)| high - low);
        let along = part.held.saturating_sub(1) * self.step.unsigned_abs();
        if along > reach.max(shape.count()) {
            let half = part.held / 2;
            for (first, held) in [(part.first, half), (part.first + half, part.held - half)] {
                self.run(Part { layouts: part.layouts.clone(), start: part.start, first, held })?;
            }
            return Ok(());
        }
        let Some(halves) = halves(shape) else {
            let outs = std::slice::from_ref(self.out);
            return by_entries(self.check.op, shape, part.start, outs, |axis, entry, shape, outs| {
                let layouts = [0, 1].map(|i: usize| part.layouts[i].slice(axis, entry, 1, 1));
                if part.held < self.check.size {
                    // What other parts of the axis have given stays.
                    let place = part.start + entry * shape.count();
                    let before = Layout { offset: place, ..Layout::contiguous(shape.clone()) };
                    copy("take", &generate::whole(self.out, &before), &outs[0])?;
                }
                let part = Part { layouts, start: 0, first: part.first, held: part.held };
                Call { out: &outs[0], check: self.check, ..*self }.run(part)
            });
        };
        for Half { axis, first, size, place } in halves {
            let layouts = [0, 1].map(|i: usize| part.layouts[i].slice(axis, first, size, 1));
            self.run(Part { layouts, start: part.start + place, first: part.first, held: part.held })?;
        }
        Ok(())
    }
}

/// What specialises the shader.
struct Variant {
    /// A dtype of words.
    dtype: DType,
    partial: bool,
    rank: usize,
}

impl Variant {
    fn key(&self) -> Key {
        Key::Shader(GATHER.name, vec![self.dtype as u32, u32::from(self.partial), self.rank as u32])
    }

    fn source(&self, parameters: Parameters) -> Source {
        let Variant { dtype, partial, rank } = *self;
        let value = wgsl::value(dtype);
        let values = ["a", "b", "c", "d"].map(String::from);
        let before = match dtype.size() {
            1 => "(out[quad] >> (lane * 8u)) & 0xffu",
            2 => "(out[quad][lane / 2u] >> (lane % 2u * 16u)) & 0xffffu",
            4 => "out[quad][lane]",
            _ => "out[quad * 4u + lane]",
        };
        let constants = format!(
            "alias Value = {value};
const PARTIAL: bool = {partial};
@group(0) @binding(0) var<storage, read_write> x: array<{}>;
@group(0) @binding(1) var<storage, read_write> index: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> out: array<{}>;
@group(0) @binding(3) var<storage, read_write> bounds: array<atomic<u32>>;
{}fn load_x(at: u32) -> Value {{ return {}; }}
fn before(quad: u32, lane: u32) -> Value {{ return {before}; }}
fn store_quad(quad: u32, a: Value, b: Value, c: Value, d: Value) {{\n{}}}\n",
            wgsl::storage(dtype, false),
            wgsl::storage(dtype, true),
            strided::text(rank, &["x", "index"]),
            wgsl::load(dtype, "x", "at"),
            wgsl::store_quad(dtype, "out", "quad", values),
        );
        GATHER.source(&constants, parameters)
    }
}

/// All variants of the shader.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    let mut all = vec![];
    for dtype in [DType::U8, DType::U16, DType::U32, DType::F64] {
        for (partial, rank) in [(false, 1), (true, 2), (false, 5)] {
            let source = Variant { dtype, partial, rank }.source(parameters);
            all.push((format!("gather {dtype} {partial} {rank}"), source));
        }
    }
    all
}

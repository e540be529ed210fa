//! Elements written by index: `scatter`, and `take_input`, which adds up what one place is sent. There are no float atomics: elements are sorted by where they go, stably, and every place has
//! one writer, which comes upon its elements in row-major order. Where an index is short along its axis,
//! each place looks for its elements instead.

use super::assign::{adds, by_entries, copy, start_from};
use super::bounds::Check;
use super::device::Shared;
use super::index::{beside, bounds_binding};
use super::memory::Buffer;
use super::pipeline::{Parameters, Source};
use super::pointwise::{Axes, Half, LANES, Window, grid, halves};
use super::queue::Binding;
use super::shaders::{Launch, SCATTER, SCATTER_FEW, SCATTER_KEYS};
use super::{Out, View, generate, order, strided, wgsl};
use crate::bail;
use crate::core::layout::Strides;
use crate::core::{DType, Layout, Result, Scalar, Shape};
use crate::ir::kernel::Scatter;

/// Entries of an index along its axis up to which each place looks through all of them.
const FEW: usize = 32;
/// Elements that are sorted at once, and of those the ones that are written at once, which bounds what one
/// invocation has to add up.
const SORTED: usize = 1 << 22;
const WRITTEN: usize = 1 << 16;

/// `x` with `out[index[i][j]][j]` set or added from `source`, along `axis`.
pub(super) fn scatter(
    axis: usize,
    mode: Scatter,
    x: &View<'_>,
    index: &View<'_>,
    source: &View<'_>,
    out: &Out<'_>,
) -> Result<()> {
    if mode == Scatter::Add {
        adds("scatter", out)?;
    }
    let shape = &index.layout.shape;
    let check = Check { op: "scatter", axis, size: out.shape[axis] };
    let beside_axis = |a: usize| a == axis || shape[a] == out.shape[a];
    if shape[axis] <= FEW && out.shape.count() > 0 && (0..shape.rank()).all(beside_axis) {
        return Few::new(axis, mode, x, index, source, out).run();
    }
    start_from("scatter", x, out)?;
    let strides = out.shape.strides();
    // Lines along a last axis lie one after another: sorting by the place in the line is enough.
    let lines = axis + 1 == shape.rank() && (0..axis).all(|a| shape[a] == out.shape[a]);
    let (target, step, per, size) = match lines {
        true => (Strides::from_elem(0, shape.rank()), 1, shape[axis], out.shape[axis]),
        false => (strides.clone(), strides[axis] as usize, shape.count(), out.shape.count()),
    };
    let target = beside(axis, shape, &Layout { shape: shape.clone(), strides: target, offset: 0 });
    let rows = Rows { leads: 1, total: shape.count(), per, size, width: 1 };
    Call { mode, check, index, source, out, report: true, step, rows }.run(target)
}

/// The gradient of `take`: zeros, with row i of `dy` added into row `index[i]`.
pub(super) fn take_input(axis: usize, dy: &View<'_>, index: &View<'_>, out: &Out<'_>) -> Result<()> {
    adds("take_input", out)?;
    generate::fill(Scalar::Int(0), out)?;
    let (size, total) = (out.shape[axis], index.layout.count());
    let rows = Rows {
        leads: out.shape[..axis].iter().product(),
        total,
        per: total,
        size,
        width: out.shape[axis + 1..].iter().product(),
    };
    let check = Check { op: "take_input", axis, size };
    let call = Call { mode: Scatter::Add, check, index, source: dy, out, report: true, step: 1, rows };
    call.run(nowhere(&index.layout.shape))
}

/// Place 0 for every element of a shape.
fn nowhere(shape: &Shape) -> Layout {
    Layout { shape: shape.clone(), strides: Strides::from_elem(0, shape.rank()), offset: 0 }
}

/// How elements of the index, rows of the source and rows of the output belong together; the shader's
/// header has the formula.
#[derive(Clone, Copy)]
struct Rows {
    leads: usize,
    /// Elements of the index.
    total: usize,
    /// Neighbouring elements that write to one group of rows, and how many rows a group has.
    per: usize,
    size: usize,
    /// Elements of a row.
    width: usize,
}

struct Call<'a> {
    mode: Scatter,
    check: Check,
    index: &'a View<'a>,
    source: &'a View<'a>,
    out: &'a Out<'a>,
    /// Whether bad indices are errors, or places that nothing is written to.
    report: bool,
    /// From one entry of the axis to the next, in rows.
    step: usize,
    rows: Rows,
}

impl Call<'_> {
    /// `target` is where an element goes whose index is 0, in rows of its group.
    fn run(&self, target: Layout) -> Result<()> {
        let Call { source, out, rows, .. } = self;
        let device = out.buffer.device();
        if rows.total == 0 {
            return Ok(());
        }
        if out.shape.count() >= u32::MAX as usize || source.layout.count() >= u32::MAX as usize {
            bail!(Device, "{}: {} has more than 2³² elements", self.check.op, out.shape);
        }
        if source.layout.is_contiguous() {
            return self.parts([self.index.layout.clone(), target], 0, source);
        }
        let dense = device.alloc(source.layout.count() * source.dtype.size())?;
        let layout = Layout::contiguous(source.layout.shape.clone());
        copy(self.check.op, source, &Out { buffer: &dense, shape: &layout.shape, dtype: source.dtype })?;
        self.parts(
            [self.index.layout.clone(), target],
            0,
            &View { buffer: &dense, layout: &layout, ..**source },
        )
    }

    /// Sorts and writes elements of the index from number `start` on, in parts one after the other.
    fn parts(&self, layouts: [Layout; 2], start: usize, source: &View<'_>) -> Result<()> {
        let shared = self.out.buffer.device().shared();
        let count = layouts[0].count();
        let row = self.rows.width.max(1) * self.out.dtype.size();
        let most = shared.limits.max_storage_buffer_binding_size as usize / 2 / row;
        if count <= SORTED.min(most) {
            return self.part(shared, &layouts, start, source);
        }
        let shape = layouts[0].shape.clone();
        let Some(axis) = shape.iter().position(|&size| size > 1) else {
            bail!(Device, "{}: a row does not fit what {} binds at once", self.check.op, shared.adapter);
        };
        let (half, inner) = (shape[axis] / 2, shape[axis + 1..].iter().product::<usize>());
        for (first, size) in [(0, half), (half, shape[axis] - half)] {
            let part = [0, 1].map(|i: usize| layouts[i].slice(axis, first, size, 1));
            self.parts(part, start + first * inner, source)?;
        }
        Ok(())
    }

    fn part(&self, shared: &Shared, layouts: &[Layout; 2], start: usize, source: &View<'_>) -> Result<()> {
        let device = self.out.buffer.device();
        let count = layouts[0].count();
        let pairs = device.alloc(8 * count)?;
        self.keys(shared, layouts, start, &pairs)?;
        if self.out.shape.count() == 0 {
            return Ok(());
        }
        let sorted = order::by_key(device, pairs, count, self.rows.size)?;
        for begin in (0..count).step_by(WRITTEN) {
            let range = [begin, count.min(begin + WRITTEN)];
            self.write(shared, &sorted, range, [0, self.rows.leads], start, count, source)?;
        }
        Ok(())
    }

    /// What is to be sorted.
    fn keys(&self, shared: &Shared, layouts: &[Layout; 2], start: usize, pairs: &Buffer) -> Result<()> {
        let count = layouts[0].count();
        let (low, high) = layouts[0].span().unwrap_or((0, 0));
        let Some(index) = Window::new(shared, self.index.buffer, low, high, 8) else {
            let (op, shape) = (self.check.op, &layouts[0].shape);
            bail!(Device, "{op}: the index {shape} does not fit what {} binds at once", shared.adapter);
        };
        let axes = Axes::of(&layouts[0].shape, layouts);
        let groups = grid((count as u64).div_ceil(LANES));
        let mut recorder = shared.recorder();
        // Without reports the slot is not used.
        let slot = if self.report { recorder.checks.slot(self.check) } else { 0 };
        let mut words = vec![
            count as u32,
            groups[0] * LANES as u32,
            start as u32,
            self.step as u32,
            self.check.size as u32,
            slot,
        ];
        strided::words(&axes, layouts, &[index.first, 0], &mut words);
        let rank = strided::rank(&axes);
        let launch = Launch {
            variant: &[u32::from(self.report), rank as u32],
            bindings: &[index.binding, whole(pairs), bounds_binding(shared)],
            words: &words,
            groups,
        };
        SCATTER_KEYS.launch(shared, &mut recorder, &launch, || keys_constants(self.report, rank))
    }

    /// Writes the sorted pairs `begin..end`, for some of the leads, whose elements are `count` from
    /// number `start` on.
    #[allow(clippy::too_many_arguments, reason = "one more than clippy likes, all of them numbers")]
    fn write(
        &self,
        shared: &Shared,
        sorted: &Buffer,
        [begin, end]: [usize; 2],
        [lead, leads]: [usize; 2],
        start: usize,
        count: usize,
        source: &View<'_>,
    ) -> Result<()> {
        let Call { mode, out, rows: Rows { total, per, size, width, .. }, .. } = *self;
        let dtype = if mode == Scatter::Set { wgsl::bits_of(out.dtype) } else { out.dtype };
        let invocations = (leads - lead) * (end - begin) * width;
        if invocations == 0 {
            return Ok(());
        }
        // Rows of the source between the first and the last that are read.
        let low = source.layout.offset + (lead * total + start) * width;
        let high = source.layout.offset + ((leads - 1) * total + start + count) * width - 1;
        let from = Window::new(shared, source.buffer, low, high, dtype.size());
        let Some(from) = from.filter(|_| invocations <= 1 << 31) else {
            let (half, sorted_half) = ((lead + leads) / 2, (begin + end) / 2);
            let parts = match leads - lead > 1 {
                true => [([begin, end], [lead, half]), ([begin, end], [half, leads])],
                false => [([begin, sorted_half], [lead, leads]), ([sorted_half, end], [lead, leads])],
            };
            return parts.into_iter().try_for_each(|(range, leads)| {
                self.write(shared, sorted, range, leads, start, count, source)
            });
        };
        // All rows of the output, as many at a time as can be bound.
        let groups_of_rows = total.div_ceil(per);
        let all = self.rows.leads * groups_of_rows * size;
        let most = shared.limits.max_storage_buffer_binding_size as usize - 64;
        let held = match Window::new(shared, out.buffer, 0, out.shape.count() - 1, dtype.size()) {
            Some(_) => all,
            None => most / (width * dtype.size()),
        };
        if held == 0 {
            bail!(Device, "{}: a row does not fit what {} binds at once", self.check.op, shared.adapter);
        }
        let groups = grid((invocations as u64).div_ceil(LANES));
        for first in (0..all).step_by(held) {
            let held = held.min(all - first);
            let (low, high) = (first * width, (first + held) * width - 1);
            let Some(to) = Window::new(shared, out.buffer, low, high, dtype.size()) else {
                bail!(Device, "{}: {} does not fit {}", self.check.op, out.shape, shared.adapter);
            };
            let words = [
                invocations,
                groups[0] as usize * LANES as usize,
                begin,
                end,
                lead,
                width,
                total,
                groups_of_rows,
                per,
                size,
                first,
                held,
                source.layout.offset.wrapping_sub(from.first),
                low - to.first,
            ]
            .map(|word| word as u32);
            let launch = Launch {
                variant: &[dtype as u32, mode as u32],
                bindings: &[whole(sorted), from.binding, to.binding],
                words: &words,
                groups,
            };
            SCATTER.launch(shared, &mut shared.recorder(), &launch, || constants(dtype, mode))?;
        }
        Ok(())
    }
}

/// A buffer of our own, from end to end.
pub(super) fn whole(buffer: &Buffer) -> Binding<'_> {
    Binding { raw: buffer.raw(), offset: 0, size: buffer.raw().wgpu.size() }
}

fn keys_constants(report: bool, rank: usize) -> String {
    format!(
        "const REPORT: bool = {report};
@group(0) @binding(0) var<storage, read_write> index: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> pairs: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> bounds: array<atomic<u32>>;
{}",
        strided::text(rank, &["index", "target"])
    )
}

fn constants(dtype: DType, mode: Scatter) -> String {
    let (value, add) = (wgsl::value(dtype), mode == Scatter::Add);
    format!(
        "alias Value = {value};
const ADD: bool = {add};
@group(0) @binding(1) var<storage, read_write> source: array<{}>;
@group(0) @binding(2) var<storage, read_write> out: array<{}>;
fn load_source(at: u32) -> Value {{ return {}; }}
fn load_out(at: u32) -> Value {{ return {}; }}
fn plus(a: Value, b: Value) -> Value {{ return {}; }}
fn store(at: u32, value: Value) {{\n{}}}\n",
        wgsl::storage(dtype, false),
        wgsl::shared_storage(dtype),
        wgsl::load(dtype, "source", "at"),
        wgsl::load_shared(dtype, "out", "at"),
        if add { wgsl::sum(dtype, "a", "b") } else { "b".into() },
        wgsl::store_shared(dtype, "out", "at", "value"),
    )
}

/// A scatter along an axis on which the index is short.
struct Few<'a> {
    axis: usize,
    mode: Scatter,
    x: &'a View<'a>,
    index: &'a View<'a>,
    source: &'a View<'a>,
    out: &'a Out<'a>,
}

/// A box of the output that is contiguous in it.
struct Part {
    /// Of x, of the index and of the source, the latter two at entry 0 of the axis.
    layouts: [Layout; 3],
    start: usize,
    /// The first entry of the axis.
    first: usize,
}

impl<'a> Few<'a> {
    fn new(
        axis: usize,
        mode: Scatter,
        x: &'a View<'a>,
        index: &'a View<'a>,
        source: &'a View<'a>,
        out: &'a Out<'a>,
    ) -> Few<'a> {
        Few { axis, mode, x, index, source, out }
    }

    fn run(&self) -> Result<()> {
        let [index, source] =
            [self.index, self.source].map(|view| beside(self.axis, self.out.shape, view.layout));
        self.part(Part { layouts: [self.x.layout.clone(), index, source], start: 0, first: 0 })
    }

    fn part(&self, part: Part) -> Result<()> {
        let Few { axis, mode, out, .. } = *self;
        let shared = out.buffer.device().shared();
        let Part { layouts, start, first } = part;
        let shape = &layouts[0].shape;
        let count = shape.count();
        if count == 0 {
            return Ok(());
        }
        let windows = self.windows(shared, &layouts, start).filter(|_| count <= 1 << 31);
        let Some([x, index, source, to]) = windows else {
            let Some(halves) = halves(shape) else {
                let outs = std::slice::from_ref(out);
                return by_entries("scatter", shape, start, outs, |cut, entry, _, outs| {
                    let layouts = [0, 1, 2].map(|i: usize| layouts[i].slice(cut, entry, 1, 1));
                    let first = if cut == axis { first + entry } else { first };
                    Few { out: &outs[0], ..*self }.part(Part { layouts, start: 0, first })
                });
            };
            for Half { axis: cut, first: from, size, place } in halves {
                let layouts = [0, 1, 2].map(|i: usize| layouts[i].slice(cut, from, size, 1));
                let first = if cut == axis { first + from } else { first };
                self.part(Part { layouts, start: start + place, first })?;
            }
            return Ok(());
        };
        let few = self.index.layout.shape[axis];
        let check = Check { op: "scatter", axis, size: self.x.layout.shape[axis] };
        let dtype = if mode == Scatter::Set { wgsl::bits_of(out.dtype) } else { out.dtype };
        let axes = Axes::of(shape, &layouts);
        let groups = grid((count as u64).div_ceil(4 * LANES));
        let mut recorder = shared.recorder();
        let mut words = vec![
            count as u32,
            groups[0] * LANES as u32,
            ((start - to.first) / 4) as u32,
            check.size as u32,
            shape[axis + 1..].iter().product::<usize>() as u32,
            few as u32,
            self.index.layout.strides[axis] as u32,
            self.source.layout.strides[axis] as u32,
            recorder.checks.slot(check),
            first as u32,
            shape[axis] as u32,
        ];
        strided::words(&axes, &layouts, &[x.first, index.first, source.first], &mut words);
        let rank = strided::rank(&axes);
        let launch = Launch {
            variant: &[dtype as u32, mode as u32, rank as u32],
            bindings: &[x.binding, index.binding, source.binding, to.binding, bounds_binding(shared)],
            words: &words,
            groups,
        };
        SCATTER_FEW.launch(shared, &mut recorder, &launch, || few_constants(dtype, mode, rank))
    }

    fn windows(&self, shared: &Shared, layouts: &[Layout; 3], start: usize) -> Option<[Window<'a>; 4]> {
        let size = self.out.dtype.size();
        let along = |view: &View<'a>, layout: &Layout, size| {
            let (low, high) = layout.span()?;
            let reach = (view.layout.shape[self.axis].max(1) as isize - 1) * view.layout.strides[self.axis];
            let (low, high) = (low as isize + reach.min(0), high as isize + reach.max(0));
            Window::new(shared, view.buffer, low as usize, high as usize, size)
        };
        let (low, high) = layouts[0].span()?;
        let x = Window::new(shared, self.x.buffer, low, high, size)?;
        let last = start + layouts[0].count() - 1;
        let to = Window::new(shared, self.out.buffer, start, last, size)?;
        Some([x, along(self.index, &layouts[1], 8)?, along(self.source, &layouts[2], size)?, to])
    }
}

fn few_constants(dtype: DType, mode: Scatter, rank: usize) -> String {
    let (value, add) = (wgsl::value(dtype), mode == Scatter::Add);
    let values = ["a", "b", "c", "d"].map(String::from);
    format!(
        "alias Value = {value};
@group(0) @binding(0) var<storage, read_write> x: array<{element}>;
@group(0) @binding(1) var<storage, read_write> index: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> source: array<{element}>;
@group(0) @binding(3) var<storage, read_write> out: array<{}>;
@group(0) @binding(4) var<storage, read_write> bounds: array<atomic<u32>>;
{}fn load_x(at: u32) -> Value {{ return {}; }}
fn load_source(at: u32) -> Value {{ return {}; }}
fn plus(a: Value, b: Value) -> Value {{ return {}; }}
fn store_quad(quad: u32, a: Value, b: Value, c: Value, d: Value) {{\n{}}}\n",
        wgsl::storage(dtype, true),
        strided::text(rank, &["x", "index", "source"]),
        wgsl::load(dtype, "x", "at"),
        wgsl::load(dtype, "source", "at"),
        if add { wgsl::sum(dtype, "a", "b") } else { "b".into() },
        wgsl::store_quad(dtype, "out", "quad", values),
        element = wgsl::storage(dtype, false),
    )
}

/// All variants of the shaders of this file.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    let mut all = order::variants(parameters);
    for report in [false, true] {
        let source = SCATTER_KEYS.source(&keys_constants(report, 3), parameters);
        all.push((format!("scatter_keys {report}"), source));
    }
    for &dtype in DType::ALL {
        for mode in [Scatter::Set, Scatter::Add] {
            let set = mode == Scatter::Set && wgsl::bits_of(dtype) == dtype;
            if set || mode == Scatter::Add && !matches!(dtype, DType::Bool | DType::F64) {
                let source = SCATTER.source(&constants(dtype, mode), parameters);
                all.push((format!("scatter {dtype} {mode:?}"), source));
                let source = SCATTER_FEW.source(&few_constants(dtype, mode, 2), parameters);
                all.push((format!("scatter_few {dtype} {mode:?}"), source));
            }
        }
    }
    all
}

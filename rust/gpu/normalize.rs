//! Rows normalized, and the gradients. The shaders' headers have the formulas. The weight's and the bias's gradients
//! are first summed by workgroups, for rows of up to 8,192 elements in the pass that makes dx, and then over all of
//! them; of longer rows they are reductions of their own. The order depends on shapes alone.

use super::device::Shared;
use super::fold::Fold;
use super::items;
use super::pipeline::{Parameters, Source};
use super::pointwise::{Window, grid};
use super::reduce::{self, LANES};
use super::rows::{self, Launch};
use super::shaders::{NORMALIZE, NORMALIZE_INPUT, Shader};
use super::wgsl::{self, Type};
use super::{Out, View};
use crate::bail;
use crate::core::{DType, Layout, Result, Shape};
use crate::ir::kernel::{Axes, Fused, Reduce, Scalars};
use crate::ir::{Elementwise, Program, Reg};
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;

/// Items of a row whose sums a lane keeps in registers.
const HELD: usize = 8;
/// Workgroups that keep a large device busy.
const BUSY: usize = 512;
/// Elements that one dispatch visits.
const MOST: usize = 1 << 25;

/// How many lanes share a row: few enough that a subgroup exchanges their sums, where that is possible, and so many that
/// the sums of a workgroup's rows are soon added up.
fn lanes(items: usize) -> usize {
    match items {
        0..=16 => 8,
        17..=256 => 32,
        _ => LANES,
    }
}

/// What specialises the shaders.
#[derive(Clone)]
struct Variant {
    centred: bool,
    weight: bool,
    bias: bool,
    along: usize,
    /// Of the gradients; 0 if they have no sums.
    held: usize,
    quads: bool,
    subgroup: u32,
    /// Of the operands that have any dtype, and of the first result.
    dtypes: SmallVec<[DType; 5]>,
}

impl Variant {
    fn key(&self) -> Vec<u32> {
        let flags = [self.centred, self.weight, self.bias, self.quads];
        let flags = flags.iter().enumerate().map(|(i, &flag)| u32::from(flag) << i).sum();
        let mut key = vec![flags, self.along as u32, self.held as u32, self.subgroup];
        key.extend(self.dtypes.iter().map(|&dtype| dtype as u32));
        key
    }

    fn constants(&self, fields: &[&str]) -> String {
        let Variant { centred, weight, along, .. } = *self;
        let across = LANES / along;
        rows::parameters(fields, "", &[])
            + items::declarations(self.quads)
            + &format!(
                "const CENTRED: bool = {centred};\nconst WEIGHT: bool = {weight};\nconst ALONG: u32 = {along}u;\n\
                 const ACROSS: u32 = {across}u;\nconst STRIDE: u32 = 1u;\n"
            )
    }

    /// The operands by name, each with the next dtype, and a function that loads nothing for those that are not there.
    fn operands(&self, names: &[(&str, bool)], next: &mut usize) -> String {
        let mut dtypes = self.dtypes.iter();
        let mut text = String::new();
        for &(name, on) in names {
            if !on {
                text += &format!("fn load_{name}(at: u32) -> Item {{ return Item(); }}\n");
                continue;
            }
            let dtype = dtypes.next().copied().unwrap_or(DType::F32);
            text += &items::operand(name, *next, dtype, self.quads);
            *next += 1;
        }
        text
    }

    fn result(&self) -> DType {
        self.dtypes.last().copied().unwrap_or(DType::F32)
    }

    fn forward(&self) -> String {
        let mut next = 0;
        let operands = [("x", true), ("weight", self.weight), ("bias", self.bias)];
        let mut text = self.constants(&FIELDS) + &format!("const BIAS: bool = {};\n", self.bias);
        text += &Fold::Moments.text(Type::F32, self.subgroup);
        text += &self.operands(&operands, &mut next);
        text += &items::result("y", next, self.result(), self.quads);
        text + &rows::binding("mean", next + 1, "f32") + &rows::binding("scale", next + 2, "f32")
    }

    fn backward(&self) -> String {
        let mut next = 0;
        let (dw, db) = (self.weight && self.held > 0, self.bias && self.held > 0);
        let mut text = self.constants(&INPUT_FIELDS);
        let (held, slots, subgroup) = (self.held, self.held.max(1), self.subgroup);
        let exchanged = match subgroup {
            1 => "state",
            _ => "State(subgroupShuffleXor(state.total, mask), subgroupShuffleXor(state.along, mask))",
        };
        text += &format!(
            "const DW: bool = {dw};\nconst DB: bool = {db};\nconst HELD: u32 = {held}u;\n\
             const SLOTS: u32 = {slots}u;\nconst SUBGROUP: u32 = {subgroup}u;\n\
             fn exchange(state: State, mask: u32) -> State {{ return {exchanged}; }}\n"
        );
        text += &self.operands(&[("x", true), ("dy", true), ("weight", self.weight)], &mut next);
        text += &items::result("dx", next, self.result(), self.quads);
        text += &rows::binding("mean", next + 1, "f32");
        text += &rows::binding("scale", next + 2, "f32");
        next += 3;
        for (name, on) in [("dw", dw), ("db", db)] {
            if on {
                text += &items::result(name, next, DType::F32, self.quads);
                next += 1;
            } else {
                text += &format!("fn store_{name}(at: u32, item: Item) {{}}\n");
            }
        }
        text
    }
}

const FIELDS: [&str; 10] = [
    "row",
    "rows",
    "items",
    "x_offset",
    "x_step",
    "weight_offset",
    "bias_offset",
    "y_offset",
    "first",
    "eps",
];

const INPUT_FIELDS: [&str; 15] = [
    "row",
    "rows",
    "items",
    "each",
    "x_offset",
    "x_step",
    "dy_offset",
    "dy_step",
    "weight_offset",
    "dx_offset",
    "mean_offset",
    "mean_step",
    "scale_offset",
    "scale_step",
    "part",
];

/// A matrix, or a vector, some rows of it, or a column of statistics.
struct Rows<'a> {
    window: Window<'a>,
    offset: usize,
    step: isize,
}

impl<'a> Rows<'a> {
    /// Some rows of a view, or all of a vector.
    fn of(op: &str, shared: &Shared, view: &View<'a>, rows: &Range<usize>) -> Result<Rows<'a>> {
        let part = match view.layout.rank() {
            2 => view.layout.slice(0, rows.start, rows.len(), 1),
            _ => view.layout.clone(),
        };
        let (low, high) = part.span().unwrap_or((0, 0));
        let window = Window::new(shared, view.buffer, low, high, view.dtype.size())
            .ok_or_else(|| rows::too_large(op, shared))?;
        Ok(Rows { offset: part.offset - window.first, step: part.strides[0], window })
    }

    /// Some rows of a result of `n` columns.
    fn result(op: &str, shared: &Shared, out: &Out<'a>, n: usize, rows: &Range<usize>) -> Result<Rows<'a>> {
        let (first, last) = (rows.start * n, (rows.end * n).max(1) - 1);
        let window = Window::new(shared, out.buffer, first, last, out.dtype.size())
            .ok_or_else(|| rows::too_large(op, shared))?;
        Ok(Rows { offset: first - window.first, step: n as isize, window })
    }
}

/// Which rows a dispatch takes, so that all it sees can be bound and it ends in time.
fn parts(shared: &Shared, rows: usize, n: usize, views: &[View<'_>]) -> impl Iterator<Item = Range<usize>> {
    let most = shared.limits.max_storage_buffer_binding_size as usize - 512;
    let step = |view: &View<'_>| match view.layout.rank() {
        2 => view.layout.strides[0].unsigned_abs(),
        _ => 0,
    };
    let widest = views.iter().map(step).max().unwrap_or(0).max(n).max(1);
    let each = (MOST / n.max(1)).min(most / 4 / widest).max(1);
    (0..rows).step_by(each).map(move |first| first..rows.min(first + each))
}

/// `x` (rows, n), maybe a weight (n) and a bias (n), to y (rows, n), and μ and r (rows, 1) in float32.
pub(super) fn normalize(
    [centred, weight, bias]: [bool; 3],
    eps: f64,
    inputs: &[View<'_>],
    outputs: &[Out<'_>],
) -> Result<()> {
    const OP: &str = "normalize";
    let [y, mean, scale] = outputs else { bail!(Device, "{OP}: has three results") };
    let shared = y.buffer.device().shared();
    let n = check(OP, shared, inputs, 1 + usize::from(weight) + usize::from(bias), y)?;
    let quads = inputs.iter().all(items::in_quads);
    if !quads && y.dtype != DType::F32 {
        return rows::widened(OP, y, DType::F32, |y| {
            normalize([centred, weight, bias], eps, inputs, &[*y, *mean, *scale])
        });
    }
    let width = if quads { 4 } else { 1 };
    let items = n / width;
    let mut dtypes: SmallVec<[DType; 5]> = inputs.iter().map(|view| view.dtype).collect();
    dtypes.push(y.dtype);
    let subgroup = Fold::Moments.subgroup(Type::F32, shared.subgroup);
    let variant = Variant { centred, weight, bias, along: lanes(items), held: 0, quads, subgroup, dtypes };
    for part in parts(shared, y.shape[0], n, inputs) {
        let operands =
            inputs.iter().map(|view| Rows::of(OP, shared, view, &part)).collect::<Result<Vec<_>>>()?;
        let results = [
            Rows::result(OP, shared, y, n, &part)?,
            Rows::result(OP, shared, mean, 1, &part)?,
            Rows::result(OP, shared, scale, 1, &part)?,
        ];
        let vector = |on: bool, at: usize| if on { operands[at].offset / width } else { 0 };
        let groups = grid(part.len().div_ceil(LANES / variant.along) as u64);
        let words = [
            groups[0] as usize,
            part.len(),
            items,
            operands[0].offset / width,
            (operands[0].step / width as isize) as usize,
            vector(weight, 1),
            vector(bias, 1 + usize::from(weight)),
            results[0].offset / width,
            results[1].offset,
            (eps as f32).to_bits() as usize,
        ];
        launch(&NORMALIZE, shared, &variant, &words, operands.iter().chain(&results), groups, || {
            variant.forward()
        })?;
    }
    Ok(())
}

fn launch<'a>(
    shader: &'static Shader,
    shared: &Shared,
    variant: &Variant,
    words: &[usize],
    bindings: impl Iterator<Item = &'a Rows<'a>>,
    groups: [u32; 2],
    constants: impl FnOnce() -> String,
) -> Result<()> {
    let words = words.iter().map(|&word| word as u32).collect();
    let bindings = bindings.map(|rows| rows.window.binding).collect();
    let launch = Launch { shader, variant: variant.key(), program: None, words, bindings, groups };
    launch.run(shared, || Ok(constants()))
}

/// n, if the operands are as many floats as are wanted.
fn check(op: &str, shared: &Shared, inputs: &[View<'_>], wanted: usize, out: &Out<'_>) -> Result<usize> {
    if inputs.len() != wanted || inputs[0].layout.rank() != 2 {
        bail!(Device, "{op}: {} operands where {wanted} are wanted, the first a matrix", inputs.len());
    }
    for view in inputs {
        wgsl::check(op, view.dtype, &shared.adapter)?;
        if !view.dtype.is_float() {
            bail!(DType, "{op}: takes floats, not {}", view.dtype);
        }
    }
    Ok(out.shape[1])
}

/// x and dy (rows, n), μ and r (rows, 1), maybe the weight (n), to dx (rows, n), dw (n) if there is a weight, and
/// db (n) if that is asked for.
pub(super) fn normalize_input(
    [centred, weight, bias]: [bool; 3],
    inputs: &[View<'_>],
    outputs: &[Out<'_>],
) -> Result<()> {
    const OP: &str = "normalize_input";
    let Some((dx, sums)) = outputs.split_first() else { bail!(Device, "{OP}: has a result") };
    let shared = dx.buffer.device().shared();
    let n = check(OP, shared, inputs, 4 + usize::from(weight), dx)?;
    let of_items: SmallVec<[View<'_>; 3]> = inputs[..2].iter().chain(&inputs[4..]).copied().collect();
    let quads = of_items.iter().all(items::in_quads);
    if !quads && dx.dtype != DType::F32 {
        return rows::widened(OP, dx, DType::F32, |dx| {
            let outputs: SmallVec<[Out<'_>; 3]> = [*dx].into_iter().chain(sums.iter().copied()).collect();
            normalize_input([centred, weight, bias], inputs, &outputs)
        });
    }
    let width = if quads { 4 } else { 1 };
    let items = n / width;
    let along = lanes(items);
    let held = items.div_ceil(along);
    let held = if held <= HELD && (weight || bias) { held } else { 0 };
    let mut dtypes: SmallVec<[DType; 5]> = of_items.iter().map(|view| view.dtype).collect();
    dtypes.push(dx.dtype);
    let variant = Variant { centred, weight, bias, along, held, quads, subgroup: shared.subgroup, dtypes };
    let rows = dx.shape[0];
    let each = rows.div_ceil(LANES / along * BUSY).max(1);
    let of_group = each * (LANES / along);
    // Parts of rows leave whole workgroups, but the last.
    let pieces: Vec<Range<usize>> = parts(shared, rows, n, inputs).collect();
    let groups_of = |part: &Range<usize>| part.len().div_ceil(of_group);
    let count: usize = pieces.iter().map(groups_of).sum();
    let device = dx.buffer.device();
    let alloc = |on: bool| (on && held > 0).then(|| device.alloc(count * n * 4)).transpose();
    let (dw, db) = (alloc(weight)?, alloc(bias)?);
    let part_shape = Shape::new(&[count, n]);
    let mut first = 0;
    for part in pieces {
        let operands = inputs
            .iter()
            .map(|view| Rows::of(OP, shared, view, &part))
            .collect::<Result<SmallVec<[Rows<'_>; 5]>>>()?;
        let result = Rows::result(OP, shared, dx, n, &part)?;
        let outs: SmallVec<[Out<'_>; 2]> = [&dw, &db]
            .into_iter()
            .flatten()
            .map(|buffer| Out { buffer, shape: &part_shape, dtype: DType::F32 })
            .collect();
        let sums = outs.iter().map(|out| Rows::result(OP, shared, out, n, &(0..count)));
        let sums = sums.collect::<Result<SmallVec<[Rows<'_>; 2]>>>()?;
        let groups = grid(groups_of(&part) as u64);
        let step = |at: usize, by: usize| (operands[at].step / by as isize) as usize;
        let words = [
            groups[0] as usize,
            part.len(),
            items,
            each,
            operands[0].offset / width,
            step(0, width),
            operands[1].offset / width,
            step(1, width),
            operands.get(4).map_or(0, |weight| weight.offset / width),
            result.offset / width,
            operands[2].offset,
            step(2, 1),
            operands[3].offset,
            step(3, 1),
            first,
        ];
        let (matrices, rest) = operands.split_at(2);
        let (statistics, weights) = rest.split_at(2);
        let all = matrices.iter().chain(weights).chain([&result]).chain(statistics).chain(&sums);
        launch(&NORMALIZE_INPUT, shared, &variant, &words, all, groups, || variant.backward())?;
        first += groups_of(&part);
    }
    let mut sums = sums.iter();
    for (on, along, parts) in [(weight, true, &dw), (bias, false, &db)] {
        let Some(out) = (if on { sums.next() } else { None }) else { continue };
        let shape = Shape::new(&[1, n]);
        let out = Out { shape: &shape, ..*out };
        let layout = Layout::contiguous(part_shape.clone());
        match parts {
            Some(buffer) => {
                let view = View { buffer, layout: &layout, dtype: DType::F32 };
                let map = Fused::identity(DType::F32);
                reduce::reduce(OP, Reduce::Sum, Axes::new(&[0]), &map, &[view], &out)?;
            }
            None => sum_of_rows(OP, along, inputs, &out)?,
        }
    }
    Ok(())
}

/// Σ dy over rows, or Σ dy x̂.
fn sum_of_rows(op: &str, along: bool, inputs: &[View<'_>], out: &Out<'_>) -> Result<()> {
    let mut program = Program::default();
    let shape = &inputs[0].layout.shape;
    let mut layouts: SmallVec<[Layout; 4]> = SmallVec::new();
    let order: &[usize] = if along { &[1, 0, 2, 3] } else { &[1] };
    let mut regs: SmallVec<[Reg; 4]> = SmallVec::new();
    for &at in order {
        let Some(layout) = inputs[at].layout.broadcast_to(shape) else {
            bail!(Shape, "{op}: {} does not fit {shape}", inputs[at].layout.shape)
        };
        layouts.push(layout);
        regs.push(items::input(&mut program, inputs[at].dtype));
    }
    let mut value = regs[0];
    if let [dy, x, mean, scale] = regs[..] {
        let centred = items::apply(&mut program, Elementwise::sub, x, mean);
        let hat = items::apply(&mut program, Elementwise::mul, centred, scale);
        value = items::apply(&mut program, Elementwise::mul, dy, hat);
    }
    program.outputs.push(value);
    let map = Fused { program: Arc::new(program), scalars: Scalars::new() };
    let views: SmallVec<[View<'_>; 4]> =
        order.iter().zip(&layouts).map(|(&at, layout)| View { layout, ..inputs[at] }).collect();
    reduce::reduce(op, Reduce::Sum, Axes::new(&[0]), &map, &views, out)
}

/// Variants of the shaders: dtypes, items, with and without parameters.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    let mut all = vec![];
    for dtype in [DType::F16, DType::BF16, DType::F32] {
        for flags in 0..8 {
            let [centred, weight, bias] = [0, 1, 2].map(|bit| flags >> bit & 1 == 1);
            for (quads, along, held, subgroup) in
                [(true, 32, 8, 8), (true, LANES, 3, 1), (false, 8, 1, 1), (false, LANES, 0, 4)]
            {
                if dtype != DType::F32 && !quads {
                    continue;
                }
                let dtypes = SmallVec::from_elem(dtype, 3 + usize::from(bias));
                let variant = Variant { centred, weight, bias, along, held, quads, subgroup, dtypes };
                let name = format!("{dtype} {flags} {quads} {along}");
                let count = 4 + usize::from(weight) + usize::from(bias);
                let source = rows::source(&NORMALIZE, &variant.forward(), count, parameters);
                all.push((format!("normalize {name}"), source));
                let source = rows::source(&NORMALIZE_INPUT, &variant.backward(), count + 3, parameters);
                all.push((format!("normalize_input {name}"), source));
            }
        }
    }
    all
}

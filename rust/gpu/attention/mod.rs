//! Attention and its gradients, whose scores are never all in memory; the shaders' headers tell how. The gradient of
//! the queries is one pass, those of keys and values another, both from the logarithms that the forward pass kept, so
//! that nothing is added up in an order that a device chooses. Heads, and then queries or keys, are taken in parts that
//! can be bound and end in time; columns of results beyond those that lanes keep in registers, in passes of their own.
//! `parts` divides the many keys of few queries.

mod parts;

use crate::bail;
use crate::core::{DType, Layout, Result, Shape};
use crate::gpu::device::Shared;
use crate::gpu::pipeline::{Parameters, Source};
use crate::gpu::pointwise::{Window, grid};
use crate::gpu::rows::{self, Launch, Space};
use crate::gpu::shaders::{ATTENTION, ATTENTION_KEY, ATTENTION_QUERY, Shader};
use crate::gpu::{Buffer, Out, View, items, products, reduce, wgsl};
use crate::ir::kernel::{Axes, Reduce};
use smallvec::SmallVec;
use std::ops::Range;

/// Rows and columns of a tile.
const TILE: usize = 32;
/// Tiles that lanes keep in registers.
const CHUNKS: usize = 4;
const OP: &str = "attention";
/// Multiply-adds of one dispatch.
const MOST: usize = 1 << 33;

/// Which axis of an operand is that of the part's rows.
#[derive(Clone, Copy, PartialEq)]
enum Of {
    Queries,
    Keys,
    /// A mask, which has both.
    Both,
}

/// A matrix for each head: (…, rows, columns).
#[derive(Clone)]
struct Operand<'a> {
    name: &'static str,
    buffer: &'a Buffer,
    dtype: DType,
    layout: Layout,
    of: Of,
}

impl Operand<'_> {
    fn axes(&self, of: Of) -> Option<usize> {
        let rank = self.layout.rank();
        match (self.of, of) {
            (Of::Both, Of::Keys) => Some(rank - 1),
            (mine, of) if mine == of || mine == Of::Both => Some(rank - 2),
            _ => None,
        }
    }

    /// Without the rows and columns.
    fn heads(&self) -> Layout {
        let lead = self.layout.rank() - 2;
        Layout {
            shape: Shape::new(&self.layout.shape[..lead]),
            strides: self.layout.strides[..lead].iter().copied().collect(),
            offset: self.layout.offset,
        }
    }
}

fn operand<'a>(name: &'static str, view: &View<'a>, of: Of) -> Operand<'a> {
    Operand { name, buffer: view.buffer, dtype: view.dtype, layout: view.layout.clone(), of }
}

fn result<'a>(name: &'static str, out: &Out<'a>, of: Of) -> Operand<'a> {
    let layout = Layout::contiguous(out.shape.clone());
    Operand { name, buffer: out.buffer, dtype: out.dtype, layout, of }
}

/// A number for each query as a matrix of one column.
fn column(mut each: Operand<'_>) -> Operand<'_> {
    each.layout = each.layout.unsqueeze(each.layout.rank());
    each
}

/// What a call computes, and what specialises its shader.
#[derive(Clone)]
struct Pass {
    shader: &'static Shader,
    rows: Of,
    causal: bool,
    mask: bool,
    /// Of the first result and of the second, if it has one.
    chunks: [usize; 2],
    subgroup: u32,
}

#[derive(Clone, Copy)]
struct Sizes {
    queries: usize,
    keys: usize,
    size: usize,
    value: usize,
    scale: f32,
}

impl Sizes {
    fn of(scale: f64, q: &View<'_>, k: &View<'_>, v: &View<'_>) -> Sizes {
        let last = |view: &View<'_>| {
            let rank = view.layout.rank();
            (view.layout.shape[rank - 2], view.layout.shape[rank - 1])
        };
        let ((queries, size), (keys, value)) = (last(q), last(v));
        debug_assert_eq!(last(k), (keys, size));
        Sizes { queries, keys, size, value, scale: scale as f32 }
    }
}

fn check(op: &str, shared: &Shared, inputs: &[View<'_>], wanted: usize) -> Result<()> {
    if inputs.len() != wanted && inputs.len() != wanted + 1 {
        bail!(Device, "{op}: {} operands where {wanted} are wanted, and maybe a mask", inputs.len());
    }
    for view in inputs {
        wgsl::check(op, view.dtype, &shared.adapter)?;
        if !view.dtype.is_float() {
            bail!(DType, "{op}: takes floats, not {}", view.dtype);
        }
    }
    Ok(())
}

/// q (…, L, E), k (…, S, E), v (…, S, V) and maybe what is added to the scores, (…, L, S), to (…, L, V) and the
/// logarithms of the sums of exponentials, (…, L), in float32.
pub(super) fn attention(causal: bool, scale: f64, inputs: &[View<'_>], outputs: &[Out<'_>]) -> Result<()> {
    let [out, lse] = outputs else { bail!(Device, "{OP}: has two results") };
    let shared = out.buffer.device().shared();
    check(OP, shared, inputs, 3)?;
    let sizes = Sizes::of(scale, &inputs[0], &inputs[1], &inputs[2]);
    if out.dtype != DType::F32 && !sizes.value.is_multiple_of(4) {
        return rows::widened(OP, out, DType::F32, |out| attention(causal, scale, inputs, &[*out, *lse]));
    }
    let mut operands: SmallVec<[_; 9]> = SmallVec::from_iter([
        operand("q", &inputs[0], Of::Queries),
        operand("k", &inputs[1], Of::Keys),
        operand("v", &inputs[2], Of::Keys),
    ]);
    let heads = operands[0].heads().shape.count();
    let parts = parts::count(shared.adapter.kind, causal, heads, sizes);
    if parts > 1 {
        return parts::run(parts, sizes, inputs, [out, lse]);
    }
    operands.extend(inputs.get(3).map(|mask| operand("mask", mask, Of::Both)));
    operands.push(result("out", out, Of::Queries));
    operands.push(column(result("lse", lse, Of::Queries)));
    forward(shared, causal, sizes, operands)
}

/// The same for operands in the order in which the shader binds them.
fn forward(shared: &Shared, causal: bool, sizes: Sizes, operands: SmallVec<[Operand<'_>; 9]>) -> Result<()> {
    let mask = operands.iter().any(|operand| operand.name == "mask");
    for columns in slices(sizes.value, true) {
        let chunks = [columns.len().div_ceil(TILE).max(1), 0];
        let subgroup = shared.subgroup;
        let pass = Pass { shader: &ATTENTION, rows: Of::Queries, causal, mask, chunks, subgroup };
        let call = Call { op: OP, shared, pass, sizes, columns: [columns.start, 0] };
        call.run(Part { operands: operands.clone(), rows: 0..sizes.queries })?;
    }
    Ok(())
}

/// Columns in passes; one of none if there are none and that matters.
fn slices(columns: usize, even_none: bool) -> impl Iterator<Item = Range<usize>> {
    let wide = CHUNKS * TILE;
    let count = columns.div_ceil(wide).max(usize::from(even_none));
    (0..count).map(move |i| i * wide..columns.min((i + 1) * wide))
}

/// Both outputs of [`attention`], the first one's gradient, and its inputs, to the gradients of q, k and v.
pub(super) fn attention_input(
    causal: bool,
    scale: f64,
    inputs: &[View<'_>],
    outputs: &[Out<'_>],
) -> Result<()> {
    const OP: &str = "attention_input";
    let ([dq, dk, dv], [out, lse, dout, q, k, v, ..]) = (outputs, inputs) else {
        bail!(Device, "{OP}: has three results")
    };
    let device = dq.buffer.device();
    let shared = device.shared();
    check(OP, shared, inputs, 6)?;
    let sizes = Sizes::of(scale, q, k, v);
    let quads = sizes.size.is_multiple_of(4) && sizes.value.is_multiple_of(4);
    if dq.dtype != DType::F32 && !quads {
        return rows::widened(OP, dq, DType::F32, |dq| {
            rows::widened(OP, dk, DType::F32, |dk| {
                rows::widened(OP, dv, DType::F32, |dv| {
                    attention_input(causal, scale, inputs, &[*dq, *dk, *dv])
                })
            })
        });
    }
    // D = Σ dO ∘ O.
    let mut shape = lse.layout.shape.to_vec();
    shape.push(1);
    let shape = Shape::new(&shape);
    let delta = device.alloc(shape.count() * 4)?;
    let delta = Out { buffer: &delta, shape: &shape, dtype: DType::F32 };
    let product = items::product([dout.dtype, out.dtype]);
    let last = Axes::new(&[shape.rank() - 1]);
    reduce::reduce(OP, Reduce::Sum, last, &product, &[*dout, *out], &delta)?;

    let mut operands = SmallVec::from_iter([
        operand("q", q, Of::Queries),
        operand("k", k, Of::Keys),
        operand("v", v, Of::Keys),
    ]);
    operands.extend(inputs.get(6).map(|mask| operand("mask", mask, Of::Both)));
    operands.push(operand("dout", dout, Of::Queries));
    operands.push(column(operand("lse", lse, Of::Queries)));
    operands.push(result("delta", &delta, Of::Queries));

    let (mask, subgroup) = (inputs.len() > 6, shared.subgroup);
    let run = |shader, rows: Of, chunks, columns, results: &[_]| {
        let pass = Pass { shader, rows, causal, mask, chunks, subgroup };
        let mut operands: SmallVec<[_; 9]> = operands.clone();
        operands.extend(results.iter().map(Operand::clone));
        let count = if rows == Of::Queries { sizes.queries } else { sizes.keys };
        Call { op: OP, shared, pass, sizes, columns }.run(Part { operands, rows: 0..count })
    };
    let count = |columns: &Range<usize>| columns.len().div_ceil(TILE);
    let to_queries = [result("out", dq, Of::Queries)];
    for columns in slices(sizes.size, false) {
        run(&ATTENTION_QUERY, Of::Queries, [count(&columns), 0], [columns.start, 0], &to_queries)?;
    }
    let to_keys = [result("dk", dk, Of::Keys), result("dv", dv, Of::Keys)];
    // dK and dV together, if registers and bindings suffice.
    let (of_keys, of_values) = (sizes.size.div_ceil(TILE), sizes.value.div_ceil(TILE));
    let bindings = shared.limits.max_storage_buffers_per_shader_stage as usize;
    if of_keys + of_values <= CHUNKS && operands.len() + 2 <= bindings {
        return run(&ATTENTION_KEY, Of::Keys, [of_keys, of_values], [0, 0], &to_keys);
    }
    for columns in slices(sizes.size, false) {
        run(&ATTENTION_KEY, Of::Keys, [count(&columns), 0], [columns.start, 0], &to_keys[..1])?;
    }
    for columns in slices(sizes.value, false) {
        run(&ATTENTION_KEY, Of::Keys, [0, count(&columns)], [0, columns.start], &to_keys[1..])?;
    }
    Ok(())
}

struct Call<'a> {
    op: &'static str,
    shared: &'a Shared,
    pass: Pass,
    sizes: Sizes,
    /// The first columns of both results.
    columns: [usize; 2],
}

/// Some heads, and some of their queries or keys.
#[derive(Clone)]
struct Part<'a> {
    operands: SmallVec<[Operand<'a>; 9]>,
    rows: Range<usize>,
}

impl Call<'_> {
    fn run(&self, part: Part<'_>) -> Result<()> {
        let heads: usize = part.operands[0].heads().shape.count();
        if heads * part.rows.len() == 0 {
            return Ok(());
        }
        let others = if self.pass.rows == Of::Queries { self.sizes.keys } else { self.sizes.queries };
        let work = (heads * part.rows.len()).saturating_mul(others * (self.sizes.size + self.sizes.value));
        match self.windows(&part) {
            Some(windows) if work <= MOST || heads * part.rows.len() <= TILE => {
                self.dispatch(&part, windows, heads, others)
            }
            _ => self.halves(part)?.into_iter().try_for_each(|half| self.run(half)),
        }
    }

    fn windows<'a>(&self, part: &Part<'a>) -> Option<SmallVec<[Window<'a>; 9]>> {
        let window = |operand: &Operand<'a>| {
            let (low, high) = operand.layout.span().unwrap_or((0, 0));
            Window::new(self.shared, operand.buffer, low, high, operand.dtype.size())
        };
        part.operands.iter().map(window).collect()
    }

    /// Half the heads, or half the rows of one head.
    fn halves<'a>(&self, part: Part<'a>) -> Result<[Part<'a>; 2]> {
        let lead = part.operands[0].heads().shape;
        let axis = (0..lead.rank()).find(|&axis| lead[axis] > 1);
        let (size, unit) = axis.map_or((part.rows.len(), TILE), |axis| (lead[axis], 1));
        if size <= unit {
            return Err(rows::too_large(self.op, self.shared));
        }
        let half = (size / 2).next_multiple_of(unit).min(size - 1);
        Ok([(0, half), (half, size - half)].map(|(first, count)| {
            let mut piece = part.clone();
            for operand in &mut piece.operands {
                if let Some(axis) = axis.or_else(|| operand.axes(self.pass.rows)) {
                    operand.layout = operand.layout.slice(axis, first, count, 1);
                }
            }
            if axis.is_none() {
                piece.rows = part.rows.start + first..part.rows.start + first + count;
            }
            piece
        }))
    }

    fn dispatch(
        &self,
        part: &Part<'_>,
        windows: SmallVec<[Window<'_>; 9]>,
        heads: usize,
        others: usize,
    ) -> Result<()> {
        let Call { shared, sizes, pass, .. } = self;
        let blocks = part.rows.len().div_ceil(TILE);
        let groups = grid((heads * blocks) as u64);
        let numbers = [
            groups[0] as usize,
            heads,
            blocks,
            part.rows.len(),
            part.rows.start,
            others,
            sizes.size,
            sizes.value,
            self.columns[0],
            self.columns[1],
            sizes.scale.to_bits() as usize,
        ];
        let mut words: Vec<u32> = numbers.iter().map(|&n| n as u32).collect();
        // Of an axis of one element the stride says nothing, and quads must not be missed by it.
        let step = |operand: &Operand<'_>, axis: usize| match operand.layout.shape[axis] {
            1 => 0,
            _ => operand.layout.strides[axis] as u32,
        };
        for name in ["q", "k", "v", "dout", "mask"] {
            let operand = part.operands.iter().find(|operand| operand.name == name);
            words.push(operand.map_or(0, |operand| step(operand, operand.layout.rank() - 2)));
        }
        let mask = part.operands.iter().find(|operand| operand.name == "mask");
        words.push(mask.map_or(0, |mask| step(mask, mask.layout.rank() - 1)));
        let layouts: SmallVec<[Layout; 9]> = part.operands.iter().map(Operand::heads).collect();
        let space = Space::new(&layouts[0].shape.clone(), Axes::new(&[]), layouts);
        space.words(&windows, &mut words);
        let bindings = windows.iter().map(|window| window.binding).collect();
        let variant = Variant {
            pass: pass.clone(),
            ranks: space.ranks(),
            operands: part
                .operands
                .iter()
                .map(|operand| (operand.name, operand.dtype, products::in_quads(&operand.layout)))
                .collect(),
        };
        let launch =
            Launch { shader: pass.shader, variant: variant.key(), program: None, words, bindings, groups };
        launch.run(shared, || Ok(variant.constants()))
    }
}

const FIELDS: [&str; 17] = [
    "row",
    "heads",
    "blocks",
    "rows",
    "first",
    "others",
    "size",
    "value",
    "column",
    "value_column",
    "scale",
    "q_step",
    "k_step",
    "v_step",
    "dout_step",
    "mask_step",
    "mask_along",
];

/// What specialises the shaders.
struct Variant {
    pass: Pass,
    ranks: [usize; 2],
    /// Their names, dtypes, and whether they lie in quads.
    operands: SmallVec<[(&'static str, DType, bool); 9]>,
}

impl Variant {
    fn key(&self) -> Vec<u32> {
        let Pass { causal, mask, chunks, subgroup, .. } = self.pass;
        let flags = u32::from(causal) | u32::from(mask) << 1;
        let mut key = vec![flags, chunks[0] as u32, chunks[1] as u32, subgroup, self.ranks[0] as u32];
        key.extend(self.operands.iter().map(|&(_, dtype, quads)| dtype as u32 * 2 + u32::from(quads)));
        key
    }

    fn constants(&self) -> String {
        let Pass { causal, mask, chunks: [first, second], .. } = self.pass;
        let names: Vec<String> = self.operands.iter().map(|(name, ..)| name.to_string()).collect();
        let (fields, places) = rows::places(&names, self.ranks);
        let mut text = rows::parameters(&FIELDS, &fields, &[]) + &places;
        text += &format!(
            "const CAUSAL: bool = {causal};\nconst MASK: bool = {mask};\nconst CHUNKS: u32 = {first}u;\n\
             const KEY_CHUNKS: u32 = {first}u;\nconst VALUE_CHUNKS: u32 = {second}u;\n"
        );
        text += &products::exchange(self.pass.subgroup);
        for (i, &(name, dtype, quads)) in self.operands.iter().enumerate() {
            text += &match name {
                "q" | "k" | "v" | "dout" => products::operand(name, i, dtype, quads),
                "out" | "dk" | "dv" => products::result(name, i, dtype, quads),
                "mask" => {
                    let value = wgsl::load(dtype, name, "at");
                    rows::binding(name, i, &wgsl::storage(dtype, false))
                        + &format!("fn load_mask(at: u32) -> f32 {{ return {value}; }}\n")
                        + "fn mask_of(base: Base) -> u32 { return base.mask; }\n"
                }
                _ => rows::binding(name, i, "f32"),
            };
        }
        for name in ["dk", "dv"] {
            text += &match names.iter().any(|have| have == name) {
                true => format!("fn {name}_of(base: Base) -> u32 {{ return base.{name}; }}\n"),
                false => format!(
                    "fn {name}_of(base: Base) -> u32 {{ return 0u; }}\n\
                     fn rows_of_{name}(t: Tile, base: u32, width: u32, row: u32, rows: u32, column: u32, lane: u32) {{}}\n"
                ),
            };
        }
        if !mask {
            text += "fn load_mask(at: u32) -> f32 { return 0.0; }\n\
                     fn mask_of(base: Base) -> u32 { return 0u; }\n";
        }
        text
    }
}

/// Variants of the shaders: dtypes, ways to lie in memory, sizes of results.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    let mut all = vec![];
    for dtype in [DType::F16, DType::BF16, DType::F32] {
        for flags in 0..4 {
            let (causal, mask) = (flags & 1 == 1, flags & 2 == 2);
            for (quads, subgroup, rank, chunks) in [(true, 1, 0, 4), (true, 8, 2, 2), (false, 4, 1, 1)] {
                for (shader, rows, chunks) in [
                    (&ATTENTION, Of::Queries, [chunks, 0]),
                    (&ATTENTION_QUERY, Of::Queries, [chunks, 0]),
                    (&ATTENTION_KEY, Of::Keys, [chunks / 2, chunks - chunks / 2]),
                ] {
                    let operands: &[&str] = match shader.name {
                        "attention" => &["q", "k", "v", "mask", "out", "lse"],
                        "attention_query" => &["q", "k", "v", "mask", "dout", "lse", "delta", "out"],
                        _ => &["q", "k", "v", "mask", "dout", "lse", "delta", "dk", "dv"],
                    };
                    let of = |name: &&'static str| match *name {
                        "lse" | "delta" => (*name, DType::F32, false),
                        "out" | "dk" | "dv" if !quads => (*name, DType::F32, false),
                        _ => (*name, dtype, quads),
                    };
                    let operands: SmallVec<_> =
                        operands.iter().filter(|name| mask || **name != "mask").map(of).collect();
                    let count = operands.len();
                    let pass = Pass { shader, rows, causal, mask, chunks, subgroup };
                    let variant = Variant { pass, ranks: [rank, 0], operands };
                    let name = format!("{} {dtype} {flags} {quads} {chunks:?}", shader.name);
                    all.push((name, rows::source(shader, &variant.constants(), count, parameters)));
                }
            }
        }
    }
    all
}

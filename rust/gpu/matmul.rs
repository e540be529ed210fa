//! Matrix products: batches of strided matrices, by a tiled kernel, or by a plain one where tiles would be
//! mostly empty. Half floats multiply and add in float32. The shaders' headers tell how.

use super::device::{Device, Shared};
use super::generate::whole;
use super::pipeline::{Parameters, Source};
use super::pointwise::{self, Window, grid};
use super::rows::{self, Launch, Space};
use super::shaders::{MATMUL, MATMUL_SMALL};
use super::wgsl::{self, Type};
use super::{Out, View};
use crate::bail;
use crate::core::{DType, Layout, Result, Shape};
use crate::ir::kernel::{Axes, Fused};
use crate::ir::{Elementwise, Program, Reg, Step};
use smallvec::{SmallVec, smallvec};

/// Rows and columns of a tile of the large kernel.
const TILE: usize = 64;
/// Fewer rows or columns than this leave its tiles too empty.
const NARROW: usize = 16;
/// Elements to a workgroup of the small kernel.
const SMALL_LANES: u64 = 64;

/// `inputs` are the matrices, then the other operands of the epilogue.
pub(super) fn run(epilogue: Option<&Fused>, inputs: &[View<'_>], out: &Out<'_>) -> Result<()> {
    let [a, b, rest @ ..] = inputs else { bail!(Device, "matmul: needs two matrices") };
    let device = out.buffer.device();
    let dtype = epilogue.map_or(out.dtype, |fused| fused.program.inputs[0]);
    let sums = accumulator("matmul", dtype, device)?;
    // An epilogue runs on the sums in registers where no two invocations share a word of the result.
    let bindings = device.shared().limits.max_storage_buffers_per_shader_stage as usize;
    if sums == dtype && out.dtype == rows::wide(out.dtype) && 3 + rest.len() <= bindings {
        return product(a, b, epilogue, rest, out);
    }
    with_epilogue("matmul", epilogue, rest, out, |out| product(a, b, None, &[], out))
}

/// Calls `product` with an output of the accumulator's dtype, then runs the epilogue, whose further operands
/// are `rest`.
pub(super) fn with_epilogue(
    op: &'static str,
    epilogue: Option<&Fused>,
    rest: &[View<'_>],
    out: &Out<'_>,
    product: impl FnOnce(&Out<'_>) -> Result<()>,
) -> Result<()> {
    let device = out.buffer.device();
    let dtype = epilogue.map_or(out.dtype, |fused| fused.program.inputs[0]);
    let sums = accumulator(op, dtype, device)?;
    if epilogue.is_none() && sums == dtype {
        return product(out);
    }
    // Otherwise sums, and what the epilogue takes, are written once in between.
    let between = device.alloc(out.shape.count() * sums.size())?;
    let sum = Out { buffer: &between, shape: out.shape, dtype: sums };
    product(&sum)?;
    let layout = Layout::contiguous(out.shape.clone());
    let Some(fused) = epilogue else {
        return pointwise::run(op, &Fused::cast(sums, dtype), &[whole(&sum, &layout)], &[*out]);
    };
    let rounded = match sums == dtype {
        true => None,
        false => Some(device.alloc(out.shape.count() * dtype.size())?),
    };
    let mut product = sum;
    if let Some(buffer) = &rounded {
        product = Out { buffer, shape: out.shape, dtype };
        pointwise::run(op, &Fused::cast(sums, dtype), &[whole(&sum, &layout)], &[product])?;
    }
    let mut operands: SmallVec<[View<'_>; 4]> = SmallVec::new();
    operands.push(whole(&product, &layout));
    operands.extend_from_slice(rest);
    pointwise::run(op, fused, &operands, &[*out])
}

/// The dtype in which products of `dtype` are summed.
fn accumulator(op: &str, dtype: DType, device: &Device) -> Result<DType> {
    wgsl::check(op, dtype, device.adapter())?;
    Ok(match Type::of(dtype) {
        Some(Type::F32) => DType::F32,
        Some(Type::I32) => DType::I32,
        Some(Type::U32) => DType::U32,
        Some(Type::I64) => DType::I64,
        Some(Type::U64) => DType::U64,
        Some(Type::Bool) | None => bail!(DType, "{op}: takes numbers, not {dtype}"),
    })
}

/// The product into an output of the accumulator's dtype, or what an epilogue makes of it and of its other operands.
fn product(
    a: &View<'_>,
    b: &View<'_>,
    epilogue: Option<&Fused>,
    rest: &[View<'_>],
    out: &Out<'_>,
) -> Result<()> {
    let steps = epilogue.iter().flat_map(|fused| fused.program.steps.iter().map(|step| step.result()));
    for dtype in rest.iter().map(|view| view.dtype).chain(steps) {
        wgsl::check("matmul", dtype, out.buffer.device().adapter())?;
    }
    let rank = out.shape.rank();
    if out.shape.count() == 0 {
        return Ok(());
    }
    let (batch, matrix) = out.shape.split_at(rank - 2);
    let batch = Shape::new(batch);
    let (a_layout, b_layout) = (a.layout, b.layout);
    let (m, n, k) = (matrix[0], matrix[1], a_layout.shape[rank - 1]);
    let expand = |layout: &Layout, rows: usize, columns: usize| {
        let mut shape: Vec<usize> = batch.to_vec();
        shape.extend([rows, columns]);
        layout.broadcast_to(&Shape::new(&shape))
    };
    let (Some(a_layout), Some(b_layout)) = (expand(a_layout, m, k), expand(b_layout, k, n)) else {
        bail!(Shape, "matmul: {} @ {} does not give {}", a_layout.shape, b_layout.shape, out.shape);
    };
    let mut operands: SmallVec<[Layout; 4]> = SmallVec::new();
    for view in rest {
        let Some(layout) = view.layout.broadcast_to(out.shape) else {
            bail!(Shape, "matmul: {} does not broadcast to {}", view.layout.shape, out.shape)
        };
        operands.push(layout);
    }
    let call = Call { a, b, epilogue, rest, out };
    call.run(Part { batch, a: a_layout, b: b_layout, operands, start: 0 })
}

struct Call<'a> {
    a: &'a View<'a>,
    b: &'a View<'a>,
    epilogue: Option<&'a Fused>,
    /// The epilogue's operands besides the product.
    rest: &'a [View<'a>],
    out: &'a Out<'a>,
}

/// A part of the batch, or some rows of one of its matrices.
#[derive(Clone)]
struct Part {
    batch: Shape,
    /// Both with the axes of the batch first.
    a: Layout,
    b: Layout,
    /// Of the epilogue's other operands, over the output.
    operands: SmallVec<[Layout; 4]>,
    /// The part's first element in the output.
    start: usize,
}

impl Call<'_> {
    fn run(&self, part: Part) -> Result<()> {
        let shared = self.out.buffer.device().shared();
        let axes = BatchAxes::of(&part);
        if axes.sizes.len() > 2 {
            return self.halves(part, axes.outermost);
        }
        let Some(windows) = self.windows(shared, &part) else {
            return self.halves(part, axes.outermost);
        };
        let rank = part.batch.rank();
        let (m, k, n) = (part.a.shape[rank], part.a.shape[rank + 1], part.b.shape[rank + 1]);
        let batches = part.batch.count();
        // Tiles hold vectors, which 64-bit integers may not be elements of.
        let small = m.min(n) < NARROW || self.a.dtype.size() == 8;
        let groups = grid(match small {
            true => ((batches * m * n) as u64).div_ceil(SMALL_LANES),
            false => (batches * m.div_ceil(TILE) * n.div_ceil(TILE)) as u64,
        });
        let [inner, outer] = axes.innermost();
        let place = |layout: &Layout, window: &Window<'_>| (layout.offset - window.first) as u32;
        let mut words = vec![
            groups[0],
            batches as u32,
            inner.size as u32,
            m as u32,
            n as u32,
            k as u32,
            place(&part.a, &windows[0]),
            outer.a as u32,
            inner.a as u32,
            part.a.strides[rank] as u32,
            part.a.strides[rank + 1] as u32,
            place(&part.b, &windows[1]),
            outer.b as u32,
            inner.b as u32,
            part.b.strides[rank] as u32,
            part.b.strides[rank + 1] as u32,
            (part.start - windows[2].first) as u32,
        ];
        let mut shape = part.batch.to_vec();
        shape.extend([m, n]);
        let space = Space::new(&Shape::new(&shape), Axes::new(&[rank + 1]), part.operands.iter().cloned());
        // The shader has no places of an epilogue that reads nothing but the product.
        if !self.rest.is_empty() {
            space.words(&windows[3..], &mut words);
        }
        if let Some(fused) = self.epilogue {
            rows::scalar_words(fused, &mut words);
        }
        let variant = Variant {
            a: self.a.dtype,
            b: self.b.dtype,
            sum: self.epilogue.map_or(self.out.dtype, |fused| fused.program.inputs[0]),
            a_along_k: part.a.strides[rank + 1] == 1,
            b_along_k: part.b.strides[rank] == 1,
            ranks: if self.epilogue.is_some() { space.ranks() } else { [0, 0] },
        };
        let program = self.epilogue.map(|fused| fused.program.clone());
        let shader = if small { &MATMUL_SMALL } else { &MATMUL };
        let bindings = windows.iter().map(|window| window.binding).collect();
        let launch =
            Launch { shader, variant: variant.key(), program: program.clone(), words, bindings, groups };
        launch.run(shared, || variant.constants(program.as_deref()))
    }

    /// The parts of the buffers that a part needs, or `None` if one is too large to be bound.
    fn windows<'a>(&'a self, shared: &Shared, part: &Part) -> Option<SmallVec<[Window<'a>; 4]>> {
        let of = |view: &View<'a>, layout: &Layout| {
            let (low, high) = layout.span().unwrap_or((0, 0));
            Window::new(shared, view.buffer, low, high, view.dtype.size())
        };
        let (rows, columns) = (part.a.shape[part.batch.rank()], part.b.shape[part.batch.rank() + 1]);
        let count = part.batch.count() * rows * columns;
        let last = part.start + count - 1;
        let out = Window::new(shared, self.out.buffer, part.start, last, self.out.dtype.size())?;
        let mut windows = smallvec![of(self.a, &part.a)?, of(self.b, &part.b)?, out];
        for (view, layout) in self.rest.iter().zip(&part.operands) {
            windows.push(of(view, layout)?);
        }
        (count <= 1 << 31).then_some(windows)
    }

    /// Does a part in two halves: of an axis of the batch, or of the rows.
    fn halves(&self, part: Part, axis: Option<usize>) -> Result<()> {
        let rank = part.batch.rank();
        let of_rows = part.a.shape[rank];
        let (axis, size) = axis.map_or((rank, of_rows), |axis| (axis, part.batch[axis]));
        if size < 2 {
            let device = self.out.buffer.device().adapter();
            let (a, b) = (&part.a.shape, &part.b.shape);
            bail!(Device, "matmul: {a} @ {b} does not fit what {device} binds at once");
        }
        let inner: usize = part.batch[(axis + 1).min(rank)..].iter().product();
        let step = match axis == rank {
            true => part.b.shape[rank + 1],
            false => inner * of_rows * part.b.shape[rank + 1],
        };
        for (first, count) in [(0, size / 2), (size / 2, size - size / 2)] {
            let mut half = part.clone();
            half.a = half.a.slice(axis, first, count, 1);
            for operand in &mut half.operands {
                *operand = operand.slice(axis, first, count, 1);
            }
            if axis < rank {
                half.batch[axis] = count;
                half.b = half.b.slice(axis, first, count, 1);
            }
            half.start += first * step;
            self.run(half)?;
        }
        Ok(())
    }
}

/// One axis of a batch, with the strides of both operands.
#[derive(Clone, Copy)]
struct BatchAxis {
    size: usize,
    a: isize,
    b: isize,
}

/// A batch's axes without those of size 1, neighbours merged.
struct BatchAxes {
    sizes: SmallVec<[BatchAxis; 4]>,
    /// The first axis of the batch that has more than one entry.
    outermost: Option<usize>,
}

impl BatchAxes {
    fn of(part: &Part) -> BatchAxes {
        let mut sizes: SmallVec<[BatchAxis; 4]> = SmallVec::new();
        let mut outermost = None;
        for axis in (0..part.batch.rank()).filter(|&axis| part.batch[axis] != 1) {
            outermost = outermost.or(Some(axis));
            let next = BatchAxis { size: part.batch[axis], a: part.a.strides[axis], b: part.b.strides[axis] };
            let whole = |step: isize| step * next.size as isize;
            match sizes.last_mut() {
                Some(outer) if outer.a == whole(next.a) && outer.b == whole(next.b) => {
                    *outer = BatchAxis { size: outer.size * next.size, ..next };
                }
                _ => sizes.push(next),
            }
        }
        BatchAxes { sizes, outermost }
    }

    /// The innermost axis and the one around it.
    fn innermost(&self) -> [BatchAxis; 2] {
        let none = BatchAxis { size: 1, a: 0, b: 0 };
        let mut axes = self.sizes.iter().rev().copied();
        [axes.next().unwrap_or(none), axes.next().unwrap_or(none)]
    }
}

const FIELDS: [&str; 17] = [
    "row",
    "batches",
    "batch1",
    "m",
    "n",
    "k",
    "a_offset",
    "a_batch0",
    "a_batch1",
    "a_m",
    "a_k",
    "b_offset",
    "b_batch0",
    "b_batch1",
    "b_k",
    "b_n",
    "out_offset",
];

/// What specialises the shaders.
struct Variant {
    a: DType,
    b: DType,
    /// What products are summed in.
    sum: DType,
    a_along_k: bool,
    b_along_k: bool,
    /// Of the epilogue's operands, as `rows` counts them.
    ranks: [usize; 2],
}

impl Variant {
    fn key(&self) -> Vec<u32> {
        let flags = u32::from(self.a_along_k) | u32::from(self.b_along_k) << 1;
        let [kept, walked] = self.ranks.map(|rank| rank as u32);
        vec![self.a as u32, self.b as u32, self.sum as u32, flags, kept, walked]
    }

    fn constants(&self, epilogue: Option<&Program>) -> Result<String> {
        let sum = Type::of(self.sum).unwrap_or(Type::F32);
        let value = sum.name();
        let mut constants = format!(
            "alias Value = {value};\nconst A_ALONG_K: bool = {};\nconst B_ALONG_K: bool = {};\n\
             fn add_product(sum: Value, a: Value, b: Value) -> Value {{ return {}; }}\n",
            self.a_along_k,
            self.b_along_k,
            sum.sum("sum", &sum.product("a", "b")),
        );
        let mut operand = |name: &str, index: usize, dtype: DType| {
            let (storage, load) = (wgsl::storage(dtype, false), wgsl::load(dtype, name, "at"));
            let value = Type::of(dtype).unwrap_or(Type::F32).name();
            constants += &rows::binding(name, index, &storage);
            constants += &format!("fn load_{name}(at: u32) -> {value} {{ return {load}; }}\n");
        };
        operand("a", 0, self.a);
        operand("b", 1, self.b);
        let Some(program) = epilogue else {
            constants += &rows::binding("out", 2, value);
            let store = "fn store(at: u32, o: u32, column: u32, sum: Value) { out[at] = sum; }\n";
            return Ok(rows::parameters(&FIELDS, "", &[]) + &constants + store);
        };
        let names: Vec<String> = (1..program.inputs.len()).map(|i| format!("in{i}")).collect();
        let mut arguments = vec!["sum".to_string()];
        for (i, (name, &dtype)) in names.iter().zip(&program.inputs[1..]).enumerate() {
            operand(name, 3 + i, dtype);
            arguments.push(format!("load_{name}(at_{name}(base, column))"));
        }
        let out = Type::of(program.dtype(program.outputs[0])).unwrap_or(Type::F32).name();
        constants += &rows::binding("out", 2, out);
        let (mut fields, mut places) = rows::places(&names, self.ranks);
        let mut base = "    let base = base_of(o);\n";
        if names.is_empty() {
            (fields, places, base) = (String::new(), String::new(), "");
        }
        let store = format!(
            "fn store(at: u32, o: u32, column: u32, sum: Value) {{\n{base}    out[at] = body({}).y0;\n}}\n",
            arguments.join(", ")
        );
        let head = rows::parameters(&FIELDS, &fields, &program.scalars);
        Ok([head, constants, wgsl::body(program)?, places, store].concat())
    }
}

/// All variants of the shaders of this file.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    let mut all = vec![];
    for shader in [&MATMUL, &MATMUL_SMALL] {
        for &dtype in DType::ALL.iter().filter(|dtype| !matches!(dtype, DType::Bool | DType::F64)) {
            if dtype.size() == 8 && shader.name == MATMUL.name {
                continue;
            }
            let sum = rows::wide(dtype);
            // A product plus a bias, times a scalar.
            let mut bias = Program::default();
            bias.inputs.extend([sum, dtype]);
            bias.scalars.push(sum);
            bias.steps.push(Step::Cast { from: dtype, to: sum, arg: Reg::Input(1) });
            let apply = |op, a, b| Step::Apply { op, dtype: sum, args: [a, b, a] };
            bias.steps.push(apply(Elementwise::add, Reg::Input(0), Reg::Step(0)));
            bias.steps.push(apply(Elementwise::mul, Reg::Step(1), Reg::Scalar(0)));
            bias.outputs.push(Reg::Step(2));
            for (epilogue, ranks) in [(None, [0, 0]), (Some(&bias), [1, 1]), (Some(&bias), [2, 0])] {
                for flags in 0..4 {
                    let (a_along_k, b_along_k) = (flags & 1 == 1, flags & 2 == 2);
                    let variant = Variant { a: dtype, b: dtype, sum, a_along_k, b_along_k, ranks };
                    if let Ok(constants) = variant.constants(epilogue) {
                        let name =
                            format!("{} {dtype} {flags} {ranks:?} {}", shader.name, epilogue.is_some());
                        all.push((name, rows::source(shader, &constants, 4, parameters)));
                    }
                }
            }
        }
    }
    all
}

//! Matrix products: batches of strided matrices, by a tiled kernel, or by a plain one where tiles would be
//! mostly empty. Half floats multiply and add in float32. The shaders' headers tell how.

use super::device::{Device, Shared};
use super::generate::whole;
use super::pipeline::{Key, Parameters, Source};
use super::pointwise::{self, Window, grid};
use super::shaders::{MATMUL, MATMUL_SMALL, Shader};
use super::wgsl::{self, Type};
use super::{Out, View};
use crate::bail;
use crate::core::{DType, Layout, Result, Shape};
use crate::ir::kernel::Fused;
use smallvec::SmallVec;

/// Rows and columns of a tile of the large kernel.
const TILE: usize = 64;
/// Fewer rows or columns than this leave its tiles too empty.
const NARROW: usize = 16;
/// Elements to a workgroup of the small kernel.
const SMALL_LANES: u64 = 64;

/// `inputs` are the matrices, then the other operands of the epilogue.
pub(super) fn run(epilogue: Option<&Fused>, inputs: &[View<'_>], out: &Out<'_>) -> Result<()> {
    let [a, b, rest @ ..] = inputs else { bail!(Device, "matmul: needs two matrices") };
    with_epilogue("matmul", epilogue, rest, out, |out| product(a, b, out))
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
    // Sums of another dtype and what the epilogue takes are written once in between.
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

/// The product into an output of the accumulator's dtype.
fn product(a: &View<'_>, b: &View<'_>, out: &Out<'_>) -> Result<()> {
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
    let call = Call { a, b, out };
    call.run(Part { batch, a: a_layout, b: b_layout, start: 0 })
}

struct Call<'a> {
    a: &'a View<'a>,
    b: &'a View<'a>,
    out: &'a Out<'a>,
}

/// A part of the batch, or some rows of one of its matrices.
#[derive(Clone)]
struct Part {
    batch: Shape,
    /// Both with the axes of the batch first.
    a: Layout,
    b: Layout,
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
        let small = m.min(n) < NARROW;
        let groups = grid(match small {
            true => ((batches * m * n) as u64).div_ceil(SMALL_LANES),
            false => (batches * m.div_ceil(TILE) * n.div_ceil(TILE)) as u64,
        });
        let [inner, outer] = axes.innermost();
        let place = |layout: &Layout, window: &Window<'_>| (layout.offset - window.first) as u32;
        let words = [
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
        let variant = Variant {
            a: self.a.dtype,
            b: self.b.dtype,
            out: self.out.dtype,
            a_along_k: part.a.strides[rank + 1] == 1,
            b_along_k: part.b.strides[rank] == 1,
        };
        let shader = if small { &MATMUL_SMALL } else { &MATMUL };
        let parameters = shared.parameters(words.len());
        let key = Key::Shader(shader.name, variant.key());
        let pipeline = shared.pipelines.get(shared, &key, || Ok(variant.source(shader, parameters)))?;
        let bindings = windows.map(|window| window.binding);
        shared.recorder().dispatch(shared, &pipeline, &bindings, &words, groups)
    }

    /// The parts of the buffers that a part needs, or `None` if one is too large to be bound.
    fn windows<'a>(&'a self, shared: &Shared, part: &Part) -> Option<[Window<'a>; 3]> {
        let of = |view: &View<'a>, layout: &Layout| {
            let (low, high) = layout.span().unwrap_or((0, 0));
            Window::new(shared, view.buffer, low, high, view.dtype.size())
        };
        let (rows, columns) = (part.a.shape[part.batch.rank()], part.b.shape[part.batch.rank() + 1]);
        let count = part.batch.count() * rows * columns;
        let last = part.start + count - 1;
        let out = Window::new(shared, self.out.buffer, part.start, last, self.out.dtype.size())?;
        (count <= 1 << 31).then_some([of(self.a, &part.a)?, of(self.b, &part.b)?, out])
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

/// What specialises the shaders.
struct Variant {
    a: DType,
    b: DType,
    out: DType,
    a_along_k: bool,
    b_along_k: bool,
}

impl Variant {
    fn key(&self) -> Vec<u32> {
        let flags = u32::from(self.a_along_k) | u32::from(self.b_along_k) << 1;
        vec![self.a as u32, self.b as u32, self.out as u32, flags]
    }

    fn source(&self, shader: &Shader, parameters: Parameters) -> Source {
        let value = Type::of(self.out).unwrap_or(Type::F32).name();
        let mut constants = format!(
            "alias Value = {value};\nconst A_ALONG_K: bool = {};\nconst B_ALONG_K: bool = {};\n",
            self.a_along_k, self.b_along_k
        );
        for (i, (name, dtype)) in [("a", self.a), ("b", self.b)].into_iter().enumerate() {
            let storage = wgsl::storage(dtype, false);
            let load = wgsl::load(dtype, name, "at");
            constants += &format!(
                "@group(0) @binding({i}) var<storage, read_write> {name}: array<{storage}>;\n\
                 fn load_{name}(at: u32) -> Value {{ return {load}; }}\n"
            );
        }
        constants += &format!("@group(0) @binding(2) var<storage, read_write> out: array<{value}>;\n");
        shader.source(&constants, parameters)
    }
}

/// All variants of the shaders of this file.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    let mut all = vec![];
    for shader in [&MATMUL, &MATMUL_SMALL] {
        for &dtype in DType::ALL.iter().filter(|dtype| !matches!(dtype, DType::Bool | DType::F64)) {
            let out = match Type::of(dtype) {
                Some(Type::F32) => DType::F32,
                Some(Type::I32) => DType::I32,
                Some(Type::U32) => DType::U32,
                _ => dtype,
            };
            for flags in 0..4 {
                let (a_along_k, b_along_k) = (flags & 1 == 1, flags & 2 == 2);
                let variant = Variant { a: dtype, b: dtype, out, a_along_k, b_along_k };
                all.push((format!("{} {dtype} {flags}", shader.name), variant.source(shader, parameters)));
            }
        }
    }
    all
}

//! Matrix products: batches of strided matrices, on a ladder of kernels that [`choice`] picks from by shape and
//! card. Half floats multiply and add in float32. The shaders' headers tell how; `parameters` writes what
//! specialises them.

pub(super) mod choice;
pub(super) mod parameters;

use self::choice::{Card, Choice, Rung, Sizes, Sums, TILES, Tile, choose, units};
use self::parameters::{Operands, Reads, Thin};
use super::cooperative::Matrices;
use super::device::{Device, Shared};
use super::ending::{Ending, Tail, summed};
use super::pipeline::{Parameters, Source};
use super::pointwise::{Window, grid};
use super::rows::{self, Launch, Space};
use super::shaders::{
    MATMUL_4X4, MATMUL_8X8, MATMUL_COOPERATIVE, MATMUL_ONE, MATMUL_SUM, MATMUL_THIN, Shader,
};
use super::wgsl::{self, Type};
use super::{Out, View};
use crate::bail;
use crate::core::{DType, Layout, Result, Shape};
use crate::ir::kernel::{Axes, Fused};
use crate::ir::{Elementwise, Program, Reg, Step};
use smallvec::{SmallVec, smallvec};

/// Multiply-adds of one dispatch on a unit of a card, which bounds its time.
pub(super) const WORK: u64 = 1 << 32;
/// Bytes that the parts of a split sum may take.
pub(super) const PARTS: usize = 64 << 20;

/// `inputs` are the matrices, then the other operands of the epilogue.
pub(super) fn run(epilogue: Option<&Fused>, inputs: &[View<'_>], out: &Out<'_>) -> Result<()> {
    run_as(None, epilogue, inputs, out)
}

/// The same by a kernel of the caller's choice; for tests.
pub(super) fn run_as(
    forced: Option<Choice>,
    epilogue: Option<&Fused>,
    inputs: &[View<'_>],
    out: &Out<'_>,
) -> Result<()> {
    let [a, b, rest @ ..] = inputs else { bail!(Device, "matmul: needs two matrices") };
    let device = out.buffer.device();
    let dtype = epilogue.map_or(out.dtype, |fused| fused.program.inputs[0]);
    let sum = accumulator("matmul", dtype, device)?;
    let bindings = device.shared().limits.max_storage_buffers_per_shader_stage as usize;
    if 3 + rest.len() <= bindings {
        return product(forced, sum, a, b, epilogue, rest, out);
    }
    // The epilogue in a kernel of its own, where the product is one operand fewer.
    let Some(fused) = epilogue else { bail!(Device, "matmul: its operands cannot be bound") };
    let between = device.alloc(out.shape.count() * dtype.size())?;
    let whole = Out { buffer: &between, shape: out.shape, dtype };
    product(forced, sum, a, b, None, &[], &whole)?;
    let layout = Layout::contiguous(out.shape.clone());
    let mut operands: SmallVec<[View<'_>; 4]> = smallvec![super::generate::whole(&whole, &layout)];
    operands.extend_from_slice(rest);
    super::pointwise::run("matmul", fused, &operands, &[*out])
}

/// What [`choose`] may know of a device for operands of two dtypes.
pub(super) fn card(shared: &Shared, dtypes: [DType; 2]) -> Card {
    Card {
        kind: shared.adapter.kind,
        lanes: shared.limits.max_compute_invocations_per_workgroup,
        shared: shared.limits.max_compute_workgroup_storage_size,
        cooperative: shared.cooperative.filter(|_| dtypes == [DType::F16; 2]),
    }
}

/// The dtype in which products of `dtype` are summed.
pub(super) fn accumulator(op: &str, dtype: DType, device: &Device) -> Result<DType> {
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

/// The product, or what an epilogue makes of it and of its other operands, summed in dtype `sum`.
fn product(
    forced: Option<Choice>,
    sum: DType,
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
    let call = Call { forced, sum, a, b, epilogue, rest, out };
    call.run(Part { batch, a: a_layout, b: b_layout, operands, start: 0 })
}

struct Call<'a> {
    forced: Option<Choice>,
    sum: DType,
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

impl Part {
    fn sizes(&self) -> Sizes {
        let rank = self.batch.rank();
        let (m, k, n) = (self.a.shape[rank], self.a.shape[rank + 1], self.b.shape[rank + 1]);
        Sizes { m, n, k, batches: self.batch.count() }
    }
}

impl Call<'_> {
    fn run(&self, part: Part) -> Result<()> {
        let shared = self.out.buffer.device().shared();
        let axes = BatchAxes::of(&part);
        if axes.sizes.len() > 2 {
            return self.halves(part, axes.outermost);
        }
        let sizes = part.sizes();
        let Sizes { m, n, k, batches } = sizes;
        let work = [m, n, k, batches].iter().map(|&size| size as u64).fold(1, u64::saturating_mul);
        let long = work > WORK * units(shared.adapter.kind) as u64 && batches * m > 1;
        let windows = if long { None } else { self.windows(shared, &part) };
        let Some(windows) = windows else {
            return self.halves(part, axes.outermost);
        };
        let mut choice = self
            .forced
            .unwrap_or_else(|| choose(sizes, self.sum.size(), card(shared, [self.a.dtype, self.b.dtype])));
        let of_part = batches * m * n * self.sum.size();
        let room = PARTS.min(shared.limits.max_storage_buffer_binding_size as usize);
        choice.parts = choice.parts.min(room / of_part).min(k.div_ceil(16)).max(1);
        // Every part begins at a whole strip, and none is empty.
        let each = k.div_ceil(choice.parts).next_multiple_of(16);
        let parts = k.div_ceil(each.max(1)).max(1);
        let [a, b, out, ..] = &windows[..] else { bail!(Device, "matmul: needs two matrices") };
        let tail = self.tail(&part, out, &windows[3..]);
        if parts == 1 {
            return self.kernel(shared, &part, [a, b], choice.rung, [1, each], &tail);
        }
        let sums = self.out.buffer.device().alloc(parts * of_part)?;
        let Some(window) = Window::new(shared, &sums, 0, parts * batches * m * n - 1, self.sum.size()) else {
            return Err(rows::too_large("matmul", shared));
        };
        let of_parts = Tail::parts(self.sum, window.clone(), 0);
        self.kernel(shared, &part, [a, b], choice.rung, [parts, each], &of_parts)?;
        tail.add_up(shared, &window, parts, [batches * m, n])
    }

    fn tail<'a>(&'a self, part: &Part, out: &Window<'a>, operands: &[Window<'a>]) -> Tail<'a> {
        let rank = part.batch.rank();
        let Sizes { m, n, .. } = part.sizes();
        let mut shape = part.batch.to_vec();
        shape.extend([m, n]);
        let space = Space::new(&Shape::new(&shape), Axes::new(&[rank + 1]), part.operands.iter().cloned());
        Tail {
            sum: self.sum,
            epilogue: self.epilogue,
            space,
            operands: operands.iter().cloned().collect(),
            dtype: self.out.dtype,
            out: out.clone(),
            offset: part.start - out.first,
        }
    }

    /// One dispatch of a kernel of the ladder.
    fn kernel(
        &self,
        shared: &Shared,
        part: &Part,
        [of_a, of_b]: [&Window<'_>; 2],
        rung: Rung,
        [parts, each]: [usize; 2],
        tail: &Tail<'_>,
    ) -> Result<()> {
        let rank = part.batch.rank();
        let Sizes { m, n, k, batches } = part.sizes();
        let operands = Operands {
            dtypes: [self.a.dtype, self.b.dtype],
            reads: [
                Reads::of(&part.a, rank + 1, rank, of_a.first),
                Reads::of(&part.b, rank, rank + 1, of_b.first),
            ],
        };
        let thin = Thin::of(m, n, k, &operands);
        let groups = grid(match rung {
            Rung::One => ((batches * m * n) as u64).div_ceil(64),
            Rung::Thin => (parts * batches * m.max(n).div_ceil(256 / thin.slices)) as u64,
            Rung::Tile(tile) => (parts * batches * m.div_ceil(tile.size) * n.div_ceil(tile.size)) as u64,
        });
        let [inner, outer] = BatchAxes::of(part).innermost();
        let place = |layout: &Layout, window: &Window<'_>| (layout.offset - window.first) as u32;
        let mut words = vec![
            groups[0],
            parts as u32,
            each as u32,
            batches as u32,
            inner.size as u32,
            m as u32,
            n as u32,
            k as u32,
            place(&part.a, of_a),
            outer.a as u32,
            inner.a as u32,
            part.a.strides[rank] as u32,
            part.a.strides[rank + 1] as u32,
            place(&part.b, of_b),
            outer.b as u32,
            inner.b as u32,
            part.b.strides[rank] as u32,
            part.b.strides[rank + 1] as u32,
            tail.offset as u32,
        ];
        tail.words(&mut words);
        let ending = tail.ending(matches!(rung, Rung::Tile(_)) && tail.quads(n), "p.n", 2);
        let (shader, rung_key) = match rung {
            Rung::One => (&MATMUL_ONE, 0),
            Rung::Thin => (&MATMUL_THIN, thin.key()),
            Rung::Tile(tile) => (tile_shader(tile), tile.number()),
        };
        let mut variant = vec![operands.key(), rung_key];
        variant.extend(ending.key());
        let bindings = [of_a.binding, of_b.binding].into_iter().chain(tail.bindings()).collect();
        let program = tail.epilogue.map(|fused| fused.program.clone());
        Launch { shader, variant, program, words, bindings, groups }.run(shared, || match rung {
            Rung::One => parameters::one(&operands, &ending),
            Rung::Thin => parameters::thin(thin, &operands, &ending),
            Rung::Tile(tile) => parameters::tiled(tile, &operands, &ending),
        })
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

impl Thin {
    fn of(m: usize, n: usize, k: usize, operands: &Operands) -> Thin {
        let a = m <= n;
        let along = operands.reads[usize::from(a)].along();
        // Few columns share the invocations among them; neighbours across k want to be 32 at least.
        let slices = match k {
            0..=64 => 4,
            _ if !along => 8,
            65..=256 => 8,
            _ if m.max(n) <= 64 => 256,
            _ => 32,
        };
        Thin { a, rows: m.min(n), slices }
    }

    fn key(&self) -> u32 {
        u32::from(self.a) | (self.rows as u32) << 1 | (self.slices as u32) << 4
    }
}

fn tile_shader(tile: Tile) -> &'static Shader {
    match tile.sums {
        Sums::Four => &MATMUL_4X4,
        Sums::Eight => &MATMUL_8X8,
        Sums::Matrices(_) => &MATMUL_COOPERATIVE,
    }
}

/// All variants of the shaders of this file that differ in more than a dtype, and each dtype once.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    let mut all = vec![];
    let mut add = |name: String, shader: &Shader, bindings: usize, text: Result<String>| {
        if let Ok(text) = text {
            all.push((name, rows::source(shader, &text, bindings, parameters)));
        }
    };
    let along = Reads::Singles { along: true };
    let ways = [Reads::QuadsAlong, Reads::QuadsAcross, Reads::Singles { along: false }, along];
    for &dtype in DType::ALL.iter().filter(|dtype| !matches!(dtype, DType::Bool | DType::F64)) {
        let sum = rows::wide(dtype);
        let biased = biased(sum, dtype);
        for (epilogue, ranks) in [(None, [0, 0]), (Some(&biased), [1, 1]), (Some(&biased), [2, 0])] {
            for quads in [false, true] {
                let out = |bound: usize| Ending {
                    sum,
                    product: dtype,
                    out: dtype,
                    epilogue,
                    ranks,
                    quads,
                    length: "p.n",
                    bound,
                };
                let name = |what: &str| format!("{what} {dtype} {ranks:?} {} {quads}", epilogue.is_some());
                let bindings = 3 + usize::from(epilogue.is_some());
                if sum.size() == 8 {
                    let operands = Operands { dtypes: [dtype; 2], reads: [along; 2] };
                    if !quads {
                        add(name("matmul_one"), &MATMUL_ONE, bindings, parameters::one(&operands, &out(2)));
                    }
                    continue;
                }
                add(name("matmul_sum"), &MATMUL_SUM, bindings - 1, summed(&out(1)));
                for (n, reads) in ways.into_iter().enumerate() {
                    // Each way once for a, and once for b.
                    let operands = Operands { dtypes: [dtype; 2], reads: [reads, ways[(n + 1) % 4]] };
                    let tiles = TILES.into_iter().filter(|tile| tile.size != 64 || n == 0);
                    let matrices = Matrices::SAMPLES.into_iter().filter(|_| dtype == DType::F16);
                    for tile in tiles.chain(matrices.map(Tile::of_matrices)) {
                        let text = parameters::tiled(tile, &operands, &out(2));
                        let shader = tile_shader(tile);
                        add(name(&format!("{} {tile:?} {reads:?}", shader.name)), shader, bindings, text);
                    }
                    if quads {
                        continue;
                    }
                    for (a, rows) in [(true, 1), (false, 1), (true, 3), (false, 4)] {
                        let thin = Thin { a, rows, slices: 32 };
                        let text = parameters::thin(thin, &operands, &out(2));
                        add(name(&format!("matmul_thin {a} {rows} {reads:?}")), &MATMUL_THIN, bindings, text);
                    }
                }
            }
        }
    }
    all
}

/// A product plus a bias of `dtype`, times a scalar, as `dtype`.
fn biased(sum: DType, dtype: DType) -> Program {
    let mut program = Program::default();
    program.inputs.extend([sum, dtype]);
    program.scalars.push(sum);
    program.steps.push(Step::Cast { from: dtype, to: sum, arg: Reg::Input(1) });
    let apply = |op, a, b| Step::Apply { op, dtype: sum, args: [a, b, a] };
    program.steps.push(apply(Elementwise::add, Reg::Input(0), Reg::Step(0)));
    program.steps.push(apply(Elementwise::mul, Reg::Step(1), Reg::Scalar(0)));
    program.steps.push(Step::Cast { from: sum, to: dtype, arg: Reg::Step(2) });
    program.outputs.push(Reg::Step(3));
    program
}

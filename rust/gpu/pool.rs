//! Pools over the last two axes: maxima with their places, averages and the gradient of these, for windows
//! that slide and for the bins of adaptive pools. In gradients each element of the input looks for its windows.

use super::assign::by_entries;
use super::conv::dense;
use super::device::Shared;
use super::pipeline::{Parameters, Source};
use super::pointwise::{Axes, Half, LANES, Window, grid, halves};
use super::queue::Binding;
use super::shaders::{AVG_POOL, AVG_POOL_INPUT, Launch, MAX_POOL, MAX_POOL_INPUT, Shader};
use super::wgsl::{self, Type};
use super::{Out, View, strided};
use crate::bail;
use crate::core::layout::Strides;
use crate::core::{DType, Layout, Result, Shape};
use crate::ir::conv::Pool2d;
use smallvec::SmallVec;

/// The largest element of every window, or of every bin, and its place.
pub(super) fn max(
    op: &'static str,
    pool: Option<&Pool2d>,
    x: &View<'_>,
    out: &Out<'_>,
    places: Option<&Out<'_>>,
) -> Result<()> {
    let Some(places) = places else { bail!(Device, "{op}: needs room for places") };
    Call::new(op, &MAX_POOL, pool, x, out, Some(places), None)?.run()
}

/// The gradient of [`max`], from dy and the places that it found.
pub(super) fn max_input(
    op: &'static str,
    pool: Option<&Pool2d>,
    dy: &View<'_>,
    places: &View<'_>,
    out: &Out<'_>,
) -> Result<()> {
    if places.layout.shape != dy.layout.shape || places.dtype != DType::I64 {
        bail!(Shape, "{op}: places {} do not fit {}", places.layout.shape, dy.layout.shape);
    }
    dense(op, places, |places| Call::new(op, &MAX_POOL_INPUT, pool, dy, out, None, Some(places))?.run())
}

/// The average of every window, or of every bin.
pub(super) fn avg(op: &'static str, pool: Option<&Pool2d>, x: &View<'_>, out: &Out<'_>) -> Result<()> {
    Call::new(op, &AVG_POOL, pool, x, out, None, None)?.run()
}

/// The gradient of [`avg`].
pub(super) fn avg_input(op: &'static str, pool: Option<&Pool2d>, dy: &View<'_>, out: &Out<'_>) -> Result<()> {
    Call::new(op, &AVG_POOL_INPUT, pool, dy, out, None, None)?.run()
}

/// Sizes and steps that the shaders count with.
const MOST: usize = 1 << 30;

struct Call<'a> {
    op: &'static str,
    shader: &'static Shader,
    pool: Option<&'a Pool2d>,
    x: &'a View<'a>,
    out: &'a Out<'a>,
    places: Option<&'a Out<'a>>,
    /// The places that were found, row-major.
    found: Option<&'a View<'a>>,
}

impl<'a> Call<'a> {
    fn new(
        op: &'static str,
        shader: &'static Shader,
        pool: Option<&'a Pool2d>,
        x: &'a View<'a>,
        out: &'a Out<'a>,
        places: Option<&'a Out<'a>>,
        found: Option<&'a View<'a>>,
    ) -> Result<Call<'a>> {
        let (from, to) = (&x.layout.shape, out.shape);
        if from.rank() != 4 || to.rank() != 4 || from[..2] != to[..2] {
            bail!(Shape, "{op}: {from} and {to} are not (N, C, H, W)");
        }
        if places.is_none() && !out.dtype.is_float() {
            bail!(DType, "{op}: {} is not a floating-point dtype", out.dtype);
        }
        wgsl::check(op, out.dtype, out.buffer.device().adapter())?;
        let sizes = |axis: usize| from[axis] < MOST && to[axis] < MOST;
        let bins = |axis: usize| (from[axis] as u64 + 1) * (to[axis] as u64 + 1) <= u64::from(u32::MAX);
        if !sizes(2) || !sizes(3) || pool.is_none() && !(bins(2) && bins(3)) {
            bail!(Device, "{op}: planes of {from} and {to} are too large for the GPU; use the CPU");
        }
        if to.count() > 0 && from.count() == 0 && !shader.is_gradient() {
            bail!(Shape, "{op}: input {from} has nothing to pool");
        }
        Ok(Call { op, shader, pool, x, out, places, found })
    }

    fn run(&self) -> Result<()> {
        self.part(self.x.layout.clone(), self.out.shape.clone(), 0)
    }

    /// Does a part of the planes, in two halves where it is too large to be bound.
    fn part(&self, layout: Layout, shape: Shape, start: usize) -> Result<()> {
        let shared = self.out.buffer.device().shared();
        if shape.count() == 0 {
            return Ok(());
        }
        let windows = self.windows(shared, &layout, start, shape.count());
        let Some(windows) = windows.filter(|_| shape.count() <= 1 << 31) else {
            if shape[..2].iter().all(|&size| size == 1) {
                bail!(Device, "{}: a plane of {shape} does not fit what {} binds", self.op, shared.adapter);
            }
            let Some(halves) = halves(&shape) else {
                let outs: SmallVec<[Out<'_>; 2]> =
                    [Some(self.out), self.places].into_iter().flatten().copied().collect();
                return by_entries(self.op, &shape, start, &outs, |axis, entry, shape, outs| {
                    let call = Call { out: &outs[0], places: outs.get(1), ..*self };
                    call.part(layout.slice(axis, entry, 1, 1), shape.clone(), 0)
                });
            };
            for Half { axis, first, size, place } in halves {
                let mut part = shape.clone();
                part[axis] = size;
                self.part(layout.slice(axis, first, size, 1), part, start + place)?;
            }
            return Ok(());
        };
        let count = shape.count();
        let groups = grid((count as u64).div_ceil(4 * LANES));
        let quad = |window: Option<&Window<'_>>| window.map_or(0, |w| ((start - w.first) / 4) as u32);
        let places = match (self.found, windows.get(2)) {
            (Some(found), Some(window)) => (self.first_place(found, start) - window.first) as u32,
            (_, window) => quad(window),
        };
        let mut words = vec![count as u32, groups[0] * LANES as u32, quad(windows.get(1)), places];
        // Of the input and of the output of the pool, whichever way the kernel goes.
        let (mut input, mut output) = (&layout.shape, &shape);
        if self.shader.is_gradient() {
            std::mem::swap(&mut input, &mut output);
        }
        let mut pair = |pair: [usize; 2]| words.extend(pair.map(|x| x.min(MOST) as u32));
        pair([input[2], input[3]]);
        pair([output[2], output[3]]);
        let one = Pool2d {
            kernel: [1; 2],
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
            ceil_mode: false,
            count_include_pad: false,
        };
        let pool = self.pool.unwrap_or(&one);
        [pool.kernel, pool.stride, pool.padding, pool.dilation].into_iter().for_each(&mut pair);
        words.extend([layout.strides[2] as u32, layout.strides[3] as u32, u32::from(pool.count_include_pad)]);
        let planes = Layout {
            shape: Shape::new(&layout.shape[..2]),
            strides: Strides::from_slice(&layout.strides[..2]),
            offset: layout.offset,
        };
        let planes = [planes];
        let axes = Axes::of(&planes[0].shape, &planes);
        strided::words(&axes, &planes, &[windows[0].first], &mut words);
        let (dtype, rank, adaptive) =
            (word_for_bool(self.out.dtype), strided::rank(&axes), self.pool.is_none());
        let bindings: SmallVec<[Binding<'_>; 3]> = windows.iter().map(|window| window.binding).collect();
        let launch = Launch {
            variant: &[dtype as u32, rank as u32, u32::from(adaptive)],
            bindings: &bindings,
            words: &words,
            groups,
        };
        let mut recorder = shared.recorder();
        self.shader.launch(shared, &mut recorder, &launch, || constants(self.shader, dtype, rank, adaptive))
    }

    /// The parts of the operand, the result and the places that are needed, or `None` if one is too large.
    fn windows(
        &self,
        shared: &Shared,
        layout: &Layout,
        start: usize,
        count: usize,
    ) -> Option<SmallVec<[Window<'a>; 3]>> {
        let size = self.out.dtype.size();
        let (low, high) = layout.span().unwrap_or((0, 0));
        let mut windows = SmallVec::new();
        windows.push(Window::new(shared, self.x.buffer, low, high, size)?);
        for out in [Some(self.out), self.places].into_iter().flatten() {
            windows.push(Window::new(shared, out.buffer, start, start + count - 1, out.dtype.size())?);
        }
        if let Some(found) = self.found {
            let (low, planes) = (self.first_place(found, start), count / self.area_of_out().max(1));
            let high = low + (planes * self.area_of_x()).max(1) - 1;
            windows.push(Window::new(shared, found.buffer, low, high, found.dtype.size())?);
        }
        Some(windows)
    }

    fn area_of_out(&self) -> usize {
        self.out.shape[2] * self.out.shape[3]
    }

    fn area_of_x(&self) -> usize {
        self.x.layout.shape[2] * self.x.layout.shape[3]
    }

    /// The place of the first window of the plane at which element `start` of the output begins.
    fn first_place(&self, found: &View<'_>, start: usize) -> usize {
        found.layout.offset + start / self.area_of_out().max(1) * self.area_of_x()
    }
}

impl Shader {
    /// Whether it goes from outputs to inputs.
    fn is_gradient(&self) -> bool {
        self.name == AVG_POOL_INPUT.name || self.name == MAX_POOL_INPUT.name
    }
}

/// Bytes stand for bool, which has no order.
fn word_for_bool(dtype: DType) -> DType {
    if dtype == DType::Bool { DType::U8 } else { dtype }
}

fn constants(shader: &Shader, dtype: DType, rank: usize, adaptive: bool) -> String {
    let value = wgsl::value(dtype);
    let values = ["a", "b", "c", "d"].map(String::from);
    let largest = match Type::of(dtype) {
        _ if shader.name != MAX_POOL.name => String::new(),
        Some(Type::F32) => "fn beats(x: f32, best: f32) -> bool { return x > best || isnan_f32(x); }\n\
                            fn lowest() -> f32 { return -inf_f32(); }\n"
            .into(),
        Some(ty) => {
            let lowest = match dtype {
                DType::I8 => "-128".into(),
                DType::I16 => "-32768".into(),
                _ => ty.lowest(),
            };
            format!(
                "fn beats(x: {value}, best: {value}) -> bool {{ return {}; }}\n\
                 fn lowest() -> {value} {{ return {lowest}; }}\n",
                ty.less("best", "x")
            )
        }
        None => String::new(),
    };
    format!(
        "alias Value = {value};
const ADAPTIVE: bool = {adaptive};
@group(0) @binding(0) var<storage, read_write> x: array<{}>;
@group(0) @binding(1) var<storage, read_write> y: array<{}>;
{}{largest}fn load_x(at: u32) -> Value {{ return {}; }}
fn store_quad(quad: u32, a: Value, b: Value, c: Value, d: Value) {{\n{}}}\n",
        wgsl::storage(dtype, false),
        wgsl::storage(dtype, true),
        strided::text(rank, &["x"]),
        wgsl::load(dtype, "x", "at"),
        wgsl::store_quad(dtype, "y", "quad", values),
    )
}

/// All variants of the shaders of this file.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    let mut all = vec![];
    for &dtype in DType::ALL.iter().filter(|dtype| !matches!(dtype, DType::Bool | DType::F64)) {
        for shader in [&MAX_POOL, &AVG_POOL, &AVG_POOL_INPUT, &MAX_POOL_INPUT] {
            for (rank, adaptive) in [(1, false), (2, true)] {
                if dtype.is_float() || shader.name == MAX_POOL.name {
                    let text = constants(shader, dtype, rank, adaptive);
                    let name = format!("{} {dtype} {rank} {adaptive}", shader.name);
                    all.push((name, shader.source(&text, parameters)));
                }
            }
        }
    }
    all
}

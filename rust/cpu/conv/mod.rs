//! Convolution over (N, C, H, W) in row-major buffers: forward and both gradients. Shapes are checked
//! where the node is made (`ir::conv`); what arrives here fits.
//!
//! All three are sums of products over a pattern of offsets, so all three are made of one register tile
//! (`tile`) that reads its factors through tables of offsets; the geometry, any stride, dilation,
//! padding and groups, is in the tables alone. `planes` lays out the input so that such tables exist,
//! `correlate` drives the tile for the forward pass and the gradient of the input, `weight` for the
//! gradient of the weights. Three shapes have ways of their own: `winograd` for 3×3 of stride 1, `pointwise` for
//! 1×1, `depthwise`.

#[cfg(target_arch = "x86_64")]
mod blocks;
mod channels;
mod correlate;
mod depthwise;
mod planes;
mod pointwise;
#[cfg(test)]
pub mod reference;
pub(super) mod scratch;
mod simd;
#[cfg(test)]
mod tests;
mod tile;
mod weight;
pub mod winograd;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use self::channels::Channels;
use self::correlate::{Correlation, Phase};
use self::depthwise::Depthwise;
pub use self::planes::inside;
use self::planes::{Frame, Tap};
use self::scratch::memory;
use self::simd::{Float, with_simd};
use self::weight::WeightGrad;
use self::winograd::{Winograd, WinogradWeight};
use crate::bail;
use crate::core::{DType, Result, Shape};
use crate::cpu::Memory;
use crate::cpu::isa::{self, Isa};
use crate::cpu::threads::parallel;
use crate::cpu::work::Shared;
use crate::ir::conv::Conv2d;

/// The sizes of a convolution: x (N, C, H, W), w (K, C/groups, R, S), y (N, K, OH, OW).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub k: usize,
    pub r: usize,
    pub s: usize,
    pub oh: usize,
    pub ow: usize,
    pub conv: Conv2d,
}

impl Dims {
    /// From the shapes of input and weight; an error if they do not fit.
    pub fn new(conv: Conv2d, x: &Shape, w: &Shape) -> Result<Dims> {
        let y = conv.output("conv2d", x, w)?;
        Ok(Dims { n: x[0], c: x[1], h: x[2], w: x[3], k: w[0], r: w[2], s: w[3], oh: y[2], ow: y[3], conv })
    }

    fn x_count(&self) -> usize {
        self.n * self.c * self.h * self.w
    }

    fn w_count(&self) -> usize {
        self.k * (self.c / self.conv.groups) * self.r * self.s
    }

    fn y_count(&self) -> usize {
        self.n * self.k * self.oh * self.ow
    }

    /// Whether each plane of the input makes one plane of the result, of about its size.
    fn is_depthwise(&self) -> bool {
        let Conv2d { stride, padding, dilation, groups } = self.conv;
        let reach = [(self.r - 1).saturating_mul(dilation[0]), (self.s - 1).saturating_mul(dilation[1])];
        let one_each = self.c == groups && self.k == groups && stride == [1, 1];
        one_each
            && padding.iter().zip(reach).all(|(&p, reach)| p <= reach)
            && (self.h + reach[0]).saturating_mul(self.w + reach[1]) <= depthwise::PLANE
    }

    /// The planes of `x` as they are within their padding, and the taps of the kernel in them.
    fn whole_frame(&self) -> (Frame, Vec<Tap>) {
        let Conv2d { stride, padding, dilation, .. } = self.conv;
        let grid = [self.oh, self.ow];
        let frame = Frame {
            size: [self.h, self.w],
            pad: [padding[0] as isize, padding[1] as isize],
            stride: [1, 1],
            parts: vec![[0, 0]],
            grid: std::array::from_fn(|a| grid[a].saturating_sub(1).saturating_mul(stride[a]) + 1),
            reach: [(self.r - 1) * dilation[0], (self.s - 1) * dilation[1]],
            pitch: 0,
        };
        let tap = |t: usize| {
            let at = [t / self.s * dilation[0], t % self.s * dilation[1]];
            Tap { weight: t, part: 0, at }
        };
        (frame.close_up(), (0..self.r * self.s).map(tap).collect())
    }

    /// The planes of `x` split by stride, and the taps of the kernel in them.
    fn frame(&self) -> (Frame, Vec<Tap>) {
        let Conv2d { stride, padding, dilation, .. } = self.conv;
        let mut frame = Frame {
            size: [self.h, self.w],
            pad: [padding[0] as isize, padding[1] as isize],
            stride,
            parts: vec![],
            grid: [self.oh, self.ow],
            reach: [(self.r - 1) * dilation[0] / stride[0], (self.s - 1) * dilation[1] / stride[1]],
            pitch: 0,
        };
        let mut taps = Vec::with_capacity(self.r * self.s);
        for (r, s) in (0..self.r).flat_map(|r| (0..self.s).map(move |s| (r, s))) {
            let (y, x) = (r * dilation[0], s * dilation[1]);
            let part = part(&mut frame.parts, [y % stride[0], x % stride[1]]);
            taps.push(Tap { weight: r * self.s + s, part, at: [y / stride[0], x / stride[1]] });
        }
        (frame.close_up(), taps)
    }

    /// The planes of `dy`, and the taps that reach each phase of `x`: row `σ·i + a` of `x` takes part in
    /// output row `i + q` through tap `r` where `σ·q = a + padding − dilation·r`, if that divides.
    fn turned_frame(&self) -> (Frame, Vec<Phase>) {
        let Conv2d { stride, padding, dilation, .. } = self.conv;
        let size = [self.h, self.w];
        // Residue and `q` of a tap along either axis, or nothing if the residue is past the input.
        let meet = |axis: usize, tap: usize| {
            let (stride, shift) =
                (stride[axis] as i128, (tap * dilation[axis]) as i128 - padding[axis] as i128);
            let residue = shift.rem_euclid(stride);
            let q = (residue - shift) / stride;
            (residue < size[axis] as i128).then_some((residue as usize, q as isize))
        };
        let axis = |axis: usize, taps: usize| -> Vec<_> { (0..taps).map(|t| meet(axis, t)).collect() };
        let (rows, columns) = (axis(0, self.r), axis(1, self.s));
        let least =
            |axis: &[Option<(usize, isize)>]| axis.iter().flatten().map(|&(_, q)| q).min().unwrap_or(0);
        let low = [least(&rows), least(&columns)];

        let mut frame = Frame {
            size: [self.oh, self.ow],
            pad: [-low[0], -low[1]],
            stride: [1, 1],
            parts: vec![[0, 0]],
            grid: [0, 0],
            reach: [0, 0],
            pitch: 0,
        };
        let mut phases: Vec<([usize; 2], Phase)> = vec![];
        for (r, row) in rows.iter().enumerate() {
            for (s, column) in columns.iter().enumerate() {
                let (&Some((a, y)), &Some((b, x))) = (row, column) else { continue };
                let at = [(y - low[0]) as usize, (x - low[1]) as usize];
                let tap = Tap { weight: r * self.s + s, part: 0, at };
                frame.reach = [frame.reach[0].max(at[0]), frame.reach[1].max(at[1])];
                if let Some((_, phase)) = phases.iter_mut().find(|(residues, _)| *residues == [a, b]) {
                    phase.taps.push(tap);
                    continue;
                }
                let grid = [(self.h - 1 - a) / stride[0] + 1, (self.w - 1 - b) / stride[1] + 1];
                frame.grid = [frame.grid[0].max(grid[0]), frame.grid[1].max(grid[1])];
                let step = [stride[0].saturating_mul(self.w), stride[1]];
                phases.push(([a, b], Phase { grid, taps: vec![tap], origin: a * self.w + b, step }));
            }
        }
        (frame.close_up(), phases.into_iter().map(|(_, phase)| phase).collect())
    }
}

/// The number of a part, which is added if it is new.
fn part(parts: &mut Vec<[usize; 2]>, residues: [usize; 2]) -> usize {
    parts.iter().position(|p| *p == residues).unwrap_or_else(|| {
        parts.push(residues);
        parts.len() - 1
    })
}

/// `y = x ⋆ w`. `done(start, len)` is called once for every finished range of `y`, from the thread that
/// wrote it and while it is in that thread's cache; the ranges make up all of `y`.
///
/// # Safety
/// The pointers lead to row-major elements of `dtype` for the sizes; nothing else writes them, or reads
/// `y`, meanwhile.
pub unsafe fn forward(
    dtype: DType,
    dims: &Dims,
    x: *const u8,
    w: *const u8,
    y: *mut u8,
    done: &(dyn Fn(usize, usize) + Sync),
) -> Result<()> {
    // SAFETY: `isa` gives what runs here; the rest is the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if let (DType::BF16, Some(kind)) = (dtype, isa::bf16())
            && blocks::fits(dims)
        {
            return blocks::forward(kind, dims, x.cast(), w.cast(), y.cast(), done);
        }
        forward_at(isa::get(), dtype, dims, x, w, y, done)
    }
}

/// `dx[n, c, q] = Σ dy[n, k, p] · w[k, c, t]` over all `k`, `p`, `t` where position `p` reads `q` by tap `t`.
///
/// # Safety
/// As for `forward`.
pub unsafe fn backward_input(
    dtype: DType,
    dims: &Dims,
    dy: *const u8,
    w: *const u8,
    dx: *mut u8,
) -> Result<()> {
    // SAFETY: as above.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if let (DType::BF16, Some(kind)) = (dtype, isa::bf16())
            && blocks::fits(dims)
        {
            return blocks::backward_input(kind, dims, dy.cast(), w.cast(), dx.cast());
        }
        backward_input_at(isa::get(), dtype, dims, dy, w, dx)
    }
}

/// `dw[k, c, t] = Σ dy[n, k, p] · x[n, c, q]` over all `n`, `p` where position `p` reads `q` by tap `t`.
///
/// # Safety
/// As for `forward`.
pub unsafe fn backward_weight(
    dtype: DType,
    dims: &Dims,
    x: *const u8,
    dy: *const u8,
    dw: *mut u8,
) -> Result<()> {
    // SAFETY: as above.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if let (DType::BF16, Some(kind)) = (dtype, isa::bf16())
            && blocks::fits(dims)
        {
            return blocks::backward_weight(kind, dims, x.cast(), dy.cast(), dw.cast());
        }
        backward_weight_at(isa::get(), dtype, dims, x, dy, dw)
    }
}

unsafe fn forward_at(
    isa: Isa,
    dtype: DType,
    d: &Dims,
    x: *const u8,
    w: *const u8,
    y: *mut u8,
    done: &(dyn Fn(usize, usize) + Sync),
) -> Result<()> {
    if pointwise::fits(d) && dtype.is_float() {
        // SAFETY: the caller's promises, passed on.
        return unsafe { pointwise::run(isa, dtype, d, false, x, w, y, Some(done)) };
    }
    if dtype == DType::F32 && winograd::pays(d) && d.y_count() > 0 {
        let job = Winograd::forward(d, x.cast(), w.cast(), y.cast(), Some(done));
        // SAFETY: the caller's promises, passed on.
        return with_simd!(isa, f32, V => unsafe { job.run::<V<f32>>(isa) });
    }
    let sizes = Sizes { a: d.x_count(), b: d.w_count(), out: d.y_count() };
    // SAFETY: the caller's promises; buffers have the counts above.
    unsafe { compute(dtype, &sizes, x, w, y, Some(done), &Forward { isa, dims: d }) }
}

unsafe fn backward_input_at(
    isa: Isa,
    dtype: DType,
    d: &Dims,
    dy: *const u8,
    w: *const u8,
    dx: *mut u8,
) -> Result<()> {
    if pointwise::fits(d) && dtype.is_float() {
        // SAFETY: the caller's promises, passed on.
        return unsafe { pointwise::run(isa, dtype, d, true, dy, w, dx, None) };
    }
    if dtype == DType::F32 && winograd::pays(d) && d.x_count() > 0 {
        let job = Winograd::backward_input(d, dy.cast(), w.cast(), dx.cast());
        // SAFETY: the caller's promises, passed on.
        return with_simd!(isa, f32, V => unsafe { job.run::<V<f32>>(isa) });
    }
    let sizes = Sizes { a: d.y_count(), b: d.w_count(), out: d.x_count() };
    // SAFETY: as above.
    unsafe { compute(dtype, &sizes, dy, w, dx, None, &BackwardInput { isa, dims: d }) }
}

unsafe fn backward_weight_at(
    isa: Isa,
    dtype: DType,
    d: &Dims,
    x: *const u8,
    dy: *const u8,
    dw: *mut u8,
) -> Result<()> {
    if pointwise::weight_fits(d, dtype) && d.w_count() > 0 {
        // SAFETY: the caller's promises, passed on.
        return unsafe {
            match dtype {
                DType::F64 => pointwise::weight::<f64>(isa, dtype, d, x.cast(), dy.cast(), dw.cast()),
                _ => pointwise::weight::<f32>(isa, dtype, d, x.cast(), dy.cast(), dw.cast()),
            }
        };
    }
    if dtype == DType::F32 && winograd::weight_pays(d) {
        let (x, dy, dw) = (x.cast(), dy.cast(), dw.cast());
        let job = WinogradWeight { dims: d, x, dy, dw, elements: winograd::ELEMENTS };
        // SAFETY: the caller's promises, passed on.
        return with_simd!(isa, f32, V => unsafe { job.run::<V<f32>>() });
    }
    let sizes = Sizes { a: d.x_count(), b: d.y_count(), out: d.w_count() };
    // SAFETY: as above.
    unsafe { compute(dtype, &sizes, x, dy, dw, None, &BackwardWeight { isa, dims: d }) }
}

/// Whom to tell of finished ranges of the result, if anybody listens.
type Done<'a> = Option<&'a (dyn Fn(usize, usize) + Sync)>;

/// Elements of the two operands and of the result.
struct Sizes {
    a: usize,
    b: usize,
    out: usize,
}

/// One of the three operations, for any type that convolutions compute in.
trait Operation: Sync {
    unsafe fn run<T: Float>(&self, a: *const T, b: *const T, out: *mut T, done: Done) -> Result<()>;
}

struct Forward<'a> {
    isa: Isa,
    dims: &'a Dims,
}

struct BackwardInput<'a> {
    isa: Isa,
    dims: &'a Dims,
}

struct BackwardWeight<'a> {
    isa: Isa,
    dims: &'a Dims,
}

impl Operation for Forward<'_> {
    unsafe fn run<T: Float>(&self, x: *const T, w: *const T, y: *mut T, done: Done) -> Result<()> {
        let d = self.dims;
        if d.is_depthwise() {
            let job = Depthwise {
                planes: d.n * d.c,
                channels: d.c,
                size: [d.h, d.w],
                grid: [d.oh, d.ow],
                pad: d.conv.padding,
                kernel: [d.r, d.s],
                dilation: d.conv.dilation,
                src: x,
                weight: w,
                turned: false,
                dst: y,
            };
            // SAFETY: the caller's promises, passed on.
            return with_simd!(self.isa, T, V => unsafe { job.run::<V<T>>(done) });
        }
        let (depth, rows, area) = (d.c / d.conv.groups, d.k / d.conv.groups, d.r * d.s);
        let (terms, positions) = (depth * area, d.n * d.oh * d.ow);
        let by_channels = with_simd!(self.isa, T, V => Channels::pay::<V<T>>(rows, terms, positions));
        let (frame, taps) = if by_channels { d.whole_frame() } else { d.frame() };
        let job = Correlation {
            images: d.n,
            groups: d.conv.groups,
            depth,
            rows,
            src: x,
            weight: w,
            weight_row: depth * area,
            weight_channel: area,
            weight_group: rows * depth * area,
            dst: y,
            area: d.oh * d.ow,
            phases: vec![Phase { grid: [d.oh, d.ow], taps, origin: 0, step: [d.ow, 1] }],
            frame,
            apart: if by_channels { d.conv.stride } else { [1, 1] },
        };
        // SAFETY: the caller's promises, passed on.
        with_simd!(self.isa, T, V => unsafe { job.run_either::<V<T>>(by_channels, done) })
    }
}

impl Operation for BackwardInput<'_> {
    unsafe fn run<T: Float>(&self, dy: *const T, w: *const T, dx: *mut T, done: Done) -> Result<()> {
        let d = self.dims;
        if d.is_depthwise() {
            let reach = [(d.r - 1) * d.conv.dilation[0], (d.s - 1) * d.conv.dilation[1]];
            let job = Depthwise {
                planes: d.n * d.c,
                channels: d.c,
                size: [d.oh, d.ow],
                grid: [d.h, d.w],
                pad: std::array::from_fn(|a| reach[a] - d.conv.padding[a]),
                kernel: [d.r, d.s],
                dilation: d.conv.dilation,
                src: dy,
                weight: w,
                turned: true,
                dst: dx,
            };
            // SAFETY: the caller's promises, passed on.
            return with_simd!(self.isa, T, V => unsafe { job.run::<V<T>>(done) });
        }
        let (frame, phases) = d.turned_frame();
        let (depth, rows, area) = (d.k / d.conv.groups, d.c / d.conv.groups, d.r * d.s);
        let job = Correlation {
            images: d.n,
            groups: d.conv.groups,
            depth,
            rows,
            src: dy,
            weight: w,
            weight_row: area,
            weight_channel: rows * area,
            weight_group: depth * rows * area,
            dst: dx,
            area: d.h * d.w,
            frame,
            apart: [1, 1],
            phases,
        };
        let most = job.phases.iter().map(|p| p.taps.len()).max().unwrap_or(0) * depth;
        let positions = d.n * d.h * d.w / job.phases.len().max(1);
        let by_channels = with_simd!(self.isa, T, V => Channels::pay::<V<T>>(rows, most, positions));
        // SAFETY: the caller's promises, passed on.
        with_simd!(self.isa, T, V => unsafe { job.run_either::<V<T>>(by_channels, done) })
    }
}

impl Operation for BackwardWeight<'_> {
    unsafe fn run<T: Float>(&self, x: *const T, dy: *const T, dw: *mut T, _: Done) -> Result<()> {
        let d = self.dims;
        if d.x_count() == 0 || d.y_count() == 0 {
            // SAFETY: the caller's promises, passed on.
            unsafe { correlate::clear(dw, d.w_count()) };
            return Ok(());
        }
        let (frame, taps) = d.frame();
        let job = WeightGrad {
            images: d.n,
            groups: d.conv.groups,
            depth: d.c / d.conv.groups,
            rows: d.k / d.conv.groups,
            x,
            dy,
            dw,
            frame,
            taps,
        };
        // SAFETY: as above.
        with_simd!(self.isa, T, V => unsafe { job.run::<V<T>>() })
    }
}

/// Runs an operation in the type that `dtype` computes in; half floats go through float32 copies.
unsafe fn compute(
    dtype: DType,
    sizes: &Sizes,
    a: *const u8,
    b: *const u8,
    out: *mut u8,
    done: Done,
    operation: &impl Operation,
) -> Result<()> {
    if sizes.out == 0 {
        return Ok(());
    }
    // SAFETY: the caller's promises, passed on.
    unsafe {
        match dtype {
            DType::F32 => operation.run::<f32>(a.cast(), b.cast(), out.cast(), done),
            DType::F64 => operation.run::<f64>(a.cast(), b.cast(), out.cast(), done),
            DType::F16 => widened::<f16>(sizes, a, b, out, done, operation),
            DType::BF16 => widened::<bf16>(sizes, a, b, out, done, operation),
            _ => bail!(DType, "convolution: {dtype} is not a floating-point dtype"),
        }
    }
}

/// A half float, which converts to and from float32 a slice at a time.
trait Half: Copy + Send + 'static {
    fn widen(from: &[Self], to: &mut [f32]);
    fn round(from: &[f32], to: &mut [Self]);
}

macro_rules! half {
    ($($T:ty)+) => {$(
        impl Half for $T {
            fn widen(from: &[Self], to: &mut [f32]) {
                from.convert_to_f32_slice(to);
            }
            fn round(from: &[f32], to: &mut [Self]) {
                to.convert_from_f32_slice(from);
            }
        }
    )+};
}
half!(f16 bf16);

unsafe fn widened<H: Half>(
    sizes: &Sizes,
    a: *const u8,
    b: *const u8,
    out: *mut u8,
    done: Done,
    operation: &impl Operation,
) -> Result<()> {
    /// Elements that are converted at a time.
    const PART: usize = 1 << 16;
    let widen = |from: *const u8, count: usize| -> Result<Memory> {
        let wide = memory::<f32>(count)?;
        let (from, to) = (Shared::new(from.cast::<H>().cast_mut()), Shared::new(wide.ptr().cast::<f32>()));
        parallel(count.div_ceil(PART), |i| {
            let len = PART.min(count - i * PART);
            // SAFETY: a part of the operand and of its copy, which is only written.
            unsafe {
                H::widen(from.slice(i * PART, len), to.slice(i * PART, len));
            }
        });
        Ok(wide)
    };
    let (a, b, wide) = (widen(a, sizes.a)?, widen(b, sizes.b)?, memory::<f32>(sizes.out)?);
    let (from, to) = (Shared::new(wide.ptr().cast::<f32>()), Shared::new(out.cast::<H>()));
    let round = |start: usize, len: usize| {
        // SAFETY: the range is written, and is this thread's alone.
        unsafe {
            H::round(from.slice(start, len), to.slice(start, len));
        }
    };
    // SAFETY: the copies are as large as what they copy.
    unsafe {
        match done {
            Some(done) => operation.run::<f32>(
                a.ptr().cast(),
                b.ptr().cast(),
                wide.ptr().cast(),
                Some(&|start, len| {
                    round(start, len);
                    done(start, len);
                }),
            ),
            None => {
                operation.run::<f32>(a.ptr().cast(), b.ptr().cast(), wide.ptr().cast(), None)?;
                parallel(sizes.out.div_ceil(PART), |i| round(i * PART, PART.min(sizes.out - i * PART)));
                Ok(())
            }
        }
    }
}

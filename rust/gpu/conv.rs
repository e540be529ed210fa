//! Convolutions and their gradients as products of matrices that are never formed, by a tiled kernel, or
//! element by element where tiles would be mostly empty. Sums are float32. The shaders' headers tell how.

use super::assign::copy;
use super::device::Shared;
use super::generate::whole;
use super::matmul::accumulator;
use super::memory::Buffer;
use super::pipeline::{Parameters, Source};
use super::pointwise::{LANES, Window, grid};
use super::queue::Binding;
use super::shaders::{
    CONV, CONV_DIRECT, CONV_INPUT, CONV_INPUT_DIRECT, CONV_SUM, CONV_WEIGHT, CONV_WEIGHT_DIRECT, Launch,
    Shader,
};
use super::{Out, View, pointwise, wgsl};
use crate::bail;
use crate::core::{DType, Layout, Result, Shape};
use crate::ir::conv::Conv2d;
use crate::ir::kernel::Fused;
use smallvec::SmallVec;

/// Rows and columns of a tile of the large kernels; fewer than `NARROW` leave it too empty.
const TILE: usize = 64;
const NARROW: usize = 16;
/// Elements to a workgroup of the small kernels.
const DIRECT_LANES: usize = 64;
/// Multiply-adds of one dispatch, which bounds its time.
const WORK: u64 = 1 << 39;
/// Workgroups and elements of the sum that the gradient of the weight is cut into parts for.
const BUSY: usize = 512;
const SUMMED: usize = 512;
/// Sizes and steps that the shaders count with.
const MOST: usize = 1 << 28;

/// (N, C, H, W) by (K, C/groups, R, S), then the epilogue, whose further operands follow in `inputs`.
pub(super) fn conv(
    conv: &Conv2d,
    epilogue: Option<&Fused>,
    inputs: &[View<'_>],
    out: &Out<'_>,
) -> Result<()> {
    let [x, w, rest @ ..] = inputs else { bail!(Device, "conv: needs an input and a weight") };
    let sizes = Sizes::new("conv", conv, &x.layout.shape, &w.layout.shape, out.shape)?;
    sizes.takes(x.dtype)?;
    with_epilogue("conv", epilogue, rest, out, |y| sizes.over_images(Way::Forward, w, x, y))
}

/// dy (N, K, H', W') and w to the gradient of the input.
pub(super) fn conv_input(conv: &Conv2d, dy: &View<'_>, w: &View<'_>, out: &Out<'_>) -> Result<()> {
    let sizes = Sizes::new("conv_input", conv, out.shape, &w.layout.shape, &dy.layout.shape)?;
    sizes.takes(out.dtype)?;
    with_epilogue("conv_input", None, &[], out, |dx| sizes.over_images(Way::Input, w, dy, dx))
}

/// x and dy to the gradient of the weight.
pub(super) fn conv_weight(conv: &Conv2d, x: &View<'_>, dy: &View<'_>, out: &Out<'_>) -> Result<()> {
    let sizes = Sizes::new("conv_weight", conv, &x.layout.shape, out.shape, &dy.layout.shape)?;
    sizes.takes(out.dtype)?;
    with_epilogue("conv_weight", None, &[], out, |dw| sizes.weight(dy, x, dw))
}

/// Which of the three products.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Forward,
    Input,
    Weight,
}

impl Way {
    fn shader(self, direct: bool) -> &'static Shader {
        match (self, direct) {
            (Way::Forward, false) => &CONV,
            (Way::Forward, true) => &CONV_DIRECT,
            (Way::Input, false) => &CONV_INPUT,
            (Way::Input, true) => &CONV_INPUT_DIRECT,
            (Way::Weight, false) => &CONV_WEIGHT,
            (Way::Weight, true) => &CONV_WEIGHT_DIRECT,
        }
    }
}

/// The sizes of a convolution.
struct Sizes<'a> {
    op: &'static str,
    conv: &'a Conv2d,
    images: usize,
    /// Of a group.
    channels: usize,
    filters: usize,
    size: [usize; 2],
    window: [usize; 2],
    out: [usize; 2],
}

/// Some images of a product, and where its results begin in `y`.
struct Part<'a> {
    first: usize,
    images: usize,
    /// Of the sum over k.
    parts: usize,
    y: &'a Buffer,
    start: usize,
}

impl<'a> Sizes<'a> {
    fn new(op: &'static str, conv: &'a Conv2d, x: &Shape, w: &Shape, y: &Shape) -> Result<Sizes<'a>> {
        if conv.output(op, x, w)? != *y {
            bail!(Shape, "{op}: {x} by {w} does not give {y}");
        }
        let all = [x, w, y].into_iter().flat_map(|shape| shape.iter().copied());
        let steps = conv.padding.into_iter().chain(std::iter::once(conv.groups));
        if all.chain(steps).any(|size| size > MOST) {
            bail!(Device, "{op}: {x} by {w} is too large for the GPU; use the CPU");
        }
        Ok(Sizes {
            op,
            conv,
            images: x[0],
            channels: w[1],
            filters: w[0] / conv.groups,
            size: [x[2], x[3]],
            window: [w[2], w[3]],
            out: [y[2], y[3]],
        })
    }

    fn takes(&self, dtype: DType) -> Result<()> {
        if !dtype.is_float() {
            bail!(DType, "{}: {dtype} is not a floating-point dtype", self.op);
        }
        Ok(())
    }

    /// Rows, columns and length of the sum of one group's product.
    fn product(&self, way: Way, images: usize) -> [usize; 3] {
        let area = |pair: [usize; 2]| pair[0] * pair[1];
        let (window, size, out) = (area(self.window), area(self.size), area(self.out));
        match way {
            Way::Forward => [self.filters, images * out, self.channels * window],
            Way::Input => [self.channels, images * size, self.filters * window],
            Way::Weight => [self.filters, self.channels * window, images * out],
        }
    }

    /// The output or the gradient of the input, where each image is for itself.
    fn over_images(&self, way: Way, w: &View<'_>, b: &View<'_>, y: &Out<'_>) -> Result<()> {
        if y.shape.count() == 0 {
            return Ok(());
        }
        let of_image = y.shape.count() / self.images;
        dense(self.op, w, |w| {
            dense(self.op, b, |b| {
                let at_once = self.images_at_once(y.buffer.device().shared(), way, b.dtype)?;
                for first in (0..self.images).step_by(at_once) {
                    let images = at_once.min(self.images - first);
                    let part = Part { first, images, parts: 1, y: y.buffer, start: first * of_image };
                    self.part(way, w, b, &part)?;
                }
                Ok(())
            })
        })
    }

    /// The gradient of the weight, a sum over all images in parts that are added up in order.
    fn weight(&self, dy: &View<'_>, x: &View<'_>, dw: &Out<'_>) -> Result<()> {
        let (count, device) = (dw.shape.count(), dw.buffer.device());
        let [m, n, k] = self.product(Way::Weight, self.images);
        if count == 0 {
            return Ok(());
        }
        let shared = device.shared();
        let at_once = self.images_at_once(shared, Way::Weight, x.dtype)?;
        let pieces = if k == 0 { 0 } else { self.images.div_ceil(at_once) };
        let (tiles, least) = match m.min(n) < NARROW {
            true => (count.div_ceil(DIRECT_LANES), SUMMED / 2),
            false => (self.conv.groups * m.div_ceil(TILE) * n.div_ceil(TILE), SUMMED),
        };
        let room = shared.limits.max_storage_buffer_binding_size as usize / 2 / (4 * count);
        let parts = BUSY.div_ceil(tiles).min(k.div_ceil(least)).min(room).div_ceil(pieces.max(1)).max(1);
        let sums = device.alloc(4 * count * parts * pieces)?;
        dense(self.op, dy, |dy| {
            dense(self.op, x, |x| {
                for piece in 0..pieces {
                    let first = piece * at_once;
                    let images = at_once.min(self.images - first);
                    let part = Part { first, images, parts, y: &sums, start: piece * parts * count };
                    self.part(Way::Weight, dy, x, &part)?;
                }
                Ok(())
            })
        })?;
        let of = |buffer, count| match Window::new(shared, buffer, 0, count, 4) {
            Some(window) => Ok(window.binding),
            None => bail!(Device, "conv_weight: {} does not fit {}", dw.shape, shared.adapter),
        };
        let groups = grid((count as u64).div_ceil(LANES));
        let words = [count as u32, groups[0] * LANES as u32, (parts * pieces) as u32];
        let bindings = [of(&sums, count * parts * pieces)?, of(dw.buffer, count)?];
        let launch = Launch { variant: &[], bindings: &bindings, words: &words, groups };
        CONV_SUM.launch(shared, &mut shared.recorder(), &launch, String::new)
    }

    /// How many images one dispatch takes, so that all that it sees can be bound and it ends in time.
    fn images_at_once(&self, shared: &Shared, way: Way, dtype: DType) -> Result<usize> {
        let most = shared.limits.max_storage_buffer_binding_size as usize - 512;
        let plane =
            |channels: usize, [height, width]: [usize; 2]| self.conv.groups * channels * height * width;
        let (x, y) = (plane(self.channels, self.size), plane(self.filters, self.out));
        let bytes = match way {
            Way::Forward => (dtype.size() * x).max(4 * y),
            Way::Input => (dtype.size() * y).max(4 * x),
            Way::Weight => dtype.size() * x.max(y),
        };
        let work: u64 = self.product(way, 1).iter().map(|&size| size as u64).product();
        let work = work.saturating_mul(self.conv.groups as u64);
        let images = (most / bytes.max(1)).min((WORK / work.max(1)).max(1) as usize).min(self.images.max(1));
        if images == 0 {
            bail!(Device, "{}: an image of {bytes} bytes does not fit {}", self.op, shared.adapter);
        }
        Ok(images)
    }

    /// One dispatch. `a` is the weight, or dy where that is sought; `b` has the images, as has dy.
    fn part(&self, way: Way, a: &View<'_>, b: &View<'_>, part: &Part<'_>) -> Result<()> {
        let Part { images, parts, y, start, .. } = *part;
        let shared = y.device().shared();
        let groups = self.conv.groups;
        let [m, n, k] = self.product(way, images);
        let batches = parts * groups;
        let results = m * n * if way == Way::Weight { batches } else { groups };
        let of_a = match way {
            Way::Weight => self.window(shared, a, part),
            _ => Window::new(
                shared,
                a.buffer,
                a.layout.offset,
                a.layout.offset + a.layout.count(),
                a.dtype.size(),
            )
            .map(|window| (window.binding, a.layout.offset - window.first)),
        };
        let of_b = self.window(shared, b, part);
        let of_y = Window::new(shared, y, start, start + results - 1, 4);
        let (Some(of_a), Some(of_b), Some(of_y)) = (of_a, of_b, of_y) else {
            bail!(Device, "{}: operands do not fit what {} binds at once", self.op, shared.adapter);
        };
        let direct = m.min(n) < NARROW;
        let grid = grid(match direct {
            true => ((batches * m * n) as u64).div_ceil(DIRECT_LANES as u64),
            false => (batches * m.div_ceil(TILE) * n.div_ceil(TILE)) as u64,
        });
        let mut words: Vec<u32> = vec![grid[0]];
        let mut push = |sizes: &[usize]| words.extend(sizes.iter().map(|&size| size.min(MOST * 4) as u32));
        push(&[batches, groups, m, n, k, k.div_ceil(parts), images, self.channels, self.filters]);
        for pair in
            [self.size, self.out, self.window, self.conv.stride, self.conv.padding, self.conv.dilation]
        {
            push(&pair);
        }
        push(&[of_a.1, of_b.1, start - of_y.first]);
        let shader = way.shader(direct);
        let dtypes = [a.dtype, b.dtype];
        let launch = Launch {
            variant: &dtypes.map(|dtype| dtype as u32),
            bindings: &[of_a.0, of_b.0, of_y.binding],
            words: &words,
            groups: grid,
        };
        shader.launch(shared, &mut shared.recorder(), &launch, || constants(way, dtypes))
    }

    /// The part of a dense operand that holds some images, and its first element there.
    fn window<'b>(&self, shared: &Shared, view: &View<'b>, part: &Part<'_>) -> Option<(Binding<'b>, usize)> {
        let of_image = view.layout.count() / self.images;
        let low = view.layout.offset + part.first * of_image;
        let high = low + (part.images * of_image).max(1) - 1;
        let window = Window::new(shared, view.buffer, low, high, view.dtype.size())?;
        Some((window.binding, low - window.first))
    }
}

/// Calls `product` with an output of the accumulator's dtype, then runs the epilogue, whose further operands
/// are `rest`.
fn with_epilogue(
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

/// Calls `f` with the operand in row-major order.
fn dense(op: &'static str, x: &View<'_>, f: impl FnOnce(&View<'_>) -> Result<()>) -> Result<()> {
    if x.layout.is_contiguous() {
        return f(x);
    }
    let layout = Layout::contiguous(x.layout.shape.clone());
    let buffer = x.buffer.device().alloc(layout.count() * x.dtype.size())?;
    copy(op, x, &Out { buffer: &buffer, shape: &layout.shape, dtype: x.dtype })?;
    f(&View { buffer: &buffer, layout: &layout, dtype: x.dtype })
}

fn constants(way: Way, [a, b]: [DType; 2]) -> String {
    let (of_a, of_b) = (wgsl::storage(a, false), wgsl::storage(b, false));
    let (load_a, load_b) = (wgsl::load(a, "a", "at"), wgsl::load(b, "b", "at"));
    format!(
        "alias Value = f32;
const B_ALONG_K: bool = {};
@group(0) @binding(0) var<storage, read_write> a: array<{of_a}>;
@group(0) @binding(1) var<storage, read_write> b: array<{of_b}>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
fn load_a(at: u32) -> Value {{ return {load_a}; }}
fn load_b(at: u32) -> Value {{ return {load_b}; }}
",
        way == Way::Weight
    )
}

/// All variants of the shaders of this file.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    let mut all = vec![("conv_sum".into(), CONV_SUM.source("", parameters))];
    for dtype in [DType::F16, DType::BF16, DType::F32] {
        for way in [Way::Forward, Way::Input, Way::Weight] {
            for direct in [false, true] {
                let shader = way.shader(direct);
                let source = shader.source(&constants(way, [dtype; 2]), parameters);
                all.push((format!("{} {dtype} {direct}", shader.name), source));
            }
        }
    }
    all
}

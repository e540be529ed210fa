//! Convolutions and their gradients as products of matrices that are never formed: in tiles, element by element
//! or workgroup by workgroup where tiles would be mostly empty, and windows of 1 × 1 as plain products. Sums are
//! float32. The shaders' headers tell how; `parameters` writes what specialises them.

mod parameters;
mod pointwise;

use self::parameters::{Shape2, Way, Work};
use super::assign::copy;
use super::device::Shared;
use super::ending::Tail;
use super::matmul::choice::{Rung, Sizes as Extent, choose, units};
use super::matmul::{PARTS, WORK, card};
use super::pipeline::{Parameters, Source};
use super::pointwise::Window;
use super::rows::{self, Space};
use super::{Out, View};
use crate::bail;
use crate::core::{DType, Layout, Result, Shape};
use crate::ir::conv::Conv2d;
use crate::ir::kernel::{Axes, Fused};
use smallvec::{SmallVec, smallvec};

/// Fewer rows or columns than this leave tiles too empty.
const NARROW: usize = 8;
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
    let most = out.buffer.device().shared().limits.max_storage_buffers_per_shader_stage as usize;
    if 3 + rest.len() <= most {
        return sizes.by_images(Way::Forward, w, x, epilogue, rest, out);
    }
    // The epilogue in a kernel of its own, where the product is one operand fewer.
    let Some(fused) = epilogue else { bail!(Device, "conv: its operands cannot be bound") };
    let dtype = fused.program.inputs[0];
    let between = out.buffer.device().alloc(out.shape.count() * dtype.size())?;
    let whole = Out { buffer: &between, shape: out.shape, dtype };
    sizes.by_images(Way::Forward, w, x, None, &[], &whole)?;
    let layout = Layout::contiguous(out.shape.clone());
    let mut operands: SmallVec<[View<'_>; 4]> = smallvec![super::generate::whole(&whole, &layout)];
    operands.extend_from_slice(rest);
    super::pointwise::run("conv", fused, &operands, &[*out])
}

/// dy (N, K, H', W') and w to the gradient of the input.
pub(super) fn conv_input(conv: &Conv2d, dy: &View<'_>, w: &View<'_>, out: &Out<'_>) -> Result<()> {
    let sizes = Sizes::new("conv_input", conv, out.shape, &w.layout.shape, &dy.layout.shape)?;
    sizes.takes(out.dtype)?;
    sizes.by_images(Way::Input, w, dy, None, &[], out)
}

/// x and dy to the gradient of the weight.
pub(super) fn conv_weight(conv: &Conv2d, x: &View<'_>, dy: &View<'_>, out: &Out<'_>) -> Result<()> {
    let sizes = Sizes::new("conv_weight", conv, &x.layout.shape, out.shape, &dy.layout.shape)?;
    sizes.takes(out.dtype)?;
    sizes.weight(dy, x, out)
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

/// Some images of a product: the first, how many, and which they are.
type Images = std::ops::Range<usize>;

fn area(pair: [usize; 2]) -> usize {
    pair[0] * pair[1]
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

    /// Into how many classes of pixels a product falls, and how many of an image are in the largest.
    fn classes(&self, way: Way) -> [usize; 2] {
        let [height, width] = [0, 1].map(|axis| self.size[axis].div_ceil(self.conv.stride[axis]));
        match way {
            Way::Forward => [1, area(self.out)],
            Way::Input => [area(self.conv.stride), height * width],
            Way::Weight => [1, self.channels * area(self.window)],
        }
    }

    /// Rows, columns and length of the sum of one product, and how many products there are.
    fn product(&self, way: Way, images: usize) -> Extent {
        let [classes, columns] = self.classes(way);
        let (window, groups) = (area(self.window), self.conv.groups);
        let (m, n, k) = match way {
            Way::Forward => (self.filters, images * columns, self.channels * window),
            // The largest class has the most taps.
            Way::Input => {
                let taps = [0, 1].map(|axis| self.window[axis].div_ceil(self.period(axis)));
                (self.channels, images * columns, self.filters * area(taps))
            }
            Way::Weight => (self.filters, columns, images * area(self.out)),
        };
        Extent { m, n, k, batches: groups * classes }
    }

    /// From one tap of a class to the next.
    fn period(&self, axis: usize) -> usize {
        self.conv.stride[axis] / gcd(self.conv.stride[axis], self.conv.dilation[axis])
    }

    /// The output or the gradient of the input, where each image is for itself. `w` is the weight, `b` has the
    /// images.
    fn by_images(
        &self,
        way: Way,
        w: &View<'_>,
        b: &View<'_>,
        epilogue: Option<&Fused>,
        rest: &[View<'_>],
        y: &Out<'_>,
    ) -> Result<()> {
        if y.shape.count() == 0 {
            return Ok(());
        }
        if self.is_product() && pointwise::product(self, way, w, b, epilogue, rest, y)? {
            return Ok(());
        }
        let shared = y.buffer.device().shared();
        let of_image = y.shape.count() / self.images;
        dense(self.op, w, |w| {
            dense(self.op, b, |b| {
                let mut at_once = self.images_at_once(shared, way, b.dtype, y.dtype)?;
                let mut first = 0;
                while first < self.images {
                    let images = first..self.images.min(first + at_once);
                    let windows = self.operands(shared, rest, y, &images);
                    let out = Window::new(
                        shared,
                        y.buffer,
                        first * of_image,
                        images.end * of_image - 1,
                        y.dtype.size(),
                    );
                    let (Some((space, operands)), Some(out)) = (windows, out) else {
                        if at_once == 1 {
                            return Err(rows::too_large(self.op, shared));
                        }
                        at_once = at_once.div_ceil(2);
                        continue;
                    };
                    let offset = first * of_image - out.first;
                    let dtype = y.dtype;
                    let tail = Tail { sum: DType::F32, epilogue, space, operands, dtype, out, offset };
                    first = images.end;
                    self.piece(way, w, b, images, &tail)?;
                }
                Ok(())
            })
        })
    }

    /// The epilogue's other operands for some images, over the output, whose planes are walked.
    fn operands<'b>(
        &self,
        shared: &Shared,
        rest: &[View<'b>],
        y: &Out<'_>,
        images: &Images,
    ) -> Option<(Space, SmallVec<[Window<'b>; 2]>)> {
        let (mut layouts, mut windows) = (vec![], SmallVec::new());
        for view in rest {
            let layout = view.layout.broadcast_to(y.shape)?.slice(0, images.start, images.len(), 1);
            let (low, high) = layout.span().unwrap_or((0, 0));
            windows.push(Window::new(shared, view.buffer, low, high, view.dtype.size())?);
            layouts.push(layout);
        }
        let mut shape = y.shape.clone();
        shape[0] = images.len();
        Some((Space::new(&shape, Axes::new(&[2, 3]), layouts), windows))
    }

    /// One product, whose sum is split if the choice says so.
    fn piece(&self, way: Way, a: &View<'_>, b: &View<'_>, images: Images, tail: &Tail<'_>) -> Result<()> {
        let device = a.buffer.device();
        let shared = device.shared();
        let extent = self.product(way, images.len());
        let groups = self.conv.groups;
        let length = if way == Way::Input { area(self.size) } else { area(self.out) };
        let rows = images.len() * groups * extent.m;
        let (work, parts, each) = self.choose(shared, way, &extent, rows * length, [a.dtype, b.dtype]);
        let call = |parts: usize, tail: &Tail<'_>| {
            let call =
                parameters::Call { sizes: self, way, work, extent: &extent, a, b, images: images.clone() };
            call.run(shared, [parts, each], rows * length, tail)
        };
        if parts == 1 {
            return call(1, tail);
        }
        let sums = device.alloc(4 * parts * rows * length)?;
        let Some(window) = Window::new(shared, &sums, 0, parts * rows * length - 1, 4) else {
            return Err(rows::too_large(self.op, shared));
        };
        call(parts, &Tail::parts(DType::F32, window.clone(), 0))?;
        tail.add_up(shared, &window, parts, [rows, length])
    }

    /// How a product is made, and into how many parts of how many steps its sum is split, `results` being what
    /// each part leaves.
    fn choose(
        &self,
        shared: &Shared,
        way: Way,
        extent: &Extent,
        results: usize,
        dtypes: [DType; 2],
    ) -> (Work, usize, usize) {
        let narrow = extent.m.min(extent.n) < NARROW;
        let window = self.window.iter().all(|&size| size <= 9);
        let turned = self.conv.stride == [1, 1] && self.filters == 1;
        let choice = choose(*extent, 4, card(shared, dtypes));
        let (tile, mut parts) = match choice.rung {
            Rung::Tile(tile) => (tile, choice.parts),
            _ => (super::matmul::choice::TILES[2], choice.parts),
        };
        let work = match way {
            Way::Forward if self.channels == 1 && window => Work::Depthwise,
            Way::Input if self.channels == 1 && window && turned => Work::Depthwise,
            Way::Weight if narrow => Work::Reduce,
            _ if narrow => Work::Direct,
            _ => Work::Tile(tile),
        };
        match work {
            Work::Tile(_) => {}
            // A workgroup an element: parts until all units are busy.
            Work::Reduce => {
                parts =
                    (8 * units(shared.adapter.kind)).div_ceil(results.max(1)).min(extent.k.div_ceil(4096));
            }
            Work::Direct | Work::Depthwise => parts = 1,
        }
        let room = PARTS.min(shared.limits.max_storage_buffer_binding_size as usize) / (4 * results.max(1));
        let each = extent.k.div_ceil(parts.min(room).max(1)).next_multiple_of(16).max(16);
        (work, extent.k.div_ceil(each).max(1), each)
    }

    /// The gradient of the weight, a sum over all images in parts that are added up in order.
    fn weight(&self, dy: &View<'_>, x: &View<'_>, dw: &Out<'_>) -> Result<()> {
        let (count, device) = (dw.shape.count(), dw.buffer.device());
        if count == 0 {
            return Ok(());
        }
        let shared = device.shared();
        let way = Way::Weight;
        let at_once = self.images_at_once(shared, way, x.dtype, dw.dtype)?;
        let pieces: Vec<Images> =
            (0..self.images).step_by(at_once).map(|first| first..self.images.min(first + at_once)).collect();
        let Extent { m, n, .. } = self.product(way, self.images);
        let rows = self.conv.groups * m;
        let Some(out) = Window::new(shared, dw.buffer, 0, count - 1, dw.dtype.size()) else {
            return Err(rows::too_large(self.op, shared));
        };
        let none = Tail::parts(DType::F32, out.clone(), 0);
        let tail = Tail { dtype: dw.dtype, ..none };
        let choices: Vec<(Work, usize, usize)> = pieces
            .iter()
            .map(|images| {
                let extent = self.product(way, images.len());
                self.choose(shared, way, &extent, count, [dy.dtype, x.dtype])
            })
            .collect();
        let parts: usize = choices.iter().map(|(_, parts, _)| parts).sum();
        if parts == 0 {
            return super::generate::fill(crate::core::Scalar::Int(0), dw);
        }
        dense(self.op, dy, |dy| {
            dense(self.op, x, |x| {
                let call = |at: usize, tail: &Tail<'_>| {
                    let (work, parts, each) = choices[at];
                    let extent = self.product(way, pieces[at].len());
                    let images = pieces[at].clone();
                    let call =
                        parameters::Call { sizes: self, way, work, extent: &extent, a: dy, b: x, images };
                    call.run(shared, [parts, each], count, tail)
                };
                if parts == 1 {
                    return call(0, &tail);
                }
                let sums = device.alloc(4 * count * parts)?;
                let Some(all) = Window::new(shared, &sums, 0, count * parts - 1, 4) else {
                    return Err(rows::too_large(self.op, shared));
                };
                let mut done = 0;
                for at in 0..pieces.len() {
                    call(at, &Tail::parts(DType::F32, all.clone(), done * count))?;
                    done += choices[at].1;
                }
                tail.add_up(shared, &all, parts, [rows, n])
            })
        })
    }

    /// How many images one dispatch takes, so that all that it sees can be bound and it ends in time.
    fn images_at_once(&self, shared: &Shared, way: Way, from: DType, to: DType) -> Result<usize> {
        let most = shared.limits.max_storage_buffer_binding_size as usize - 512;
        let plane = |channels: usize, size: [usize; 2]| self.conv.groups * channels * area(size);
        let (x, y) = (plane(self.channels, self.size), plane(self.filters, self.out));
        let bytes = match way {
            Way::Forward => (from.size() * x).max(to.size() * y),
            Way::Input => (from.size() * y).max(to.size() * x),
            Way::Weight => from.size() * x.max(y),
        };
        let Extent { m, n, k, batches } = self.product(way, 1);
        let work = [m, n, k, batches].iter().map(|&size| size as u64).fold(1, u64::saturating_mul);
        let limit = WORK * units(shared.adapter.kind) as u64;
        let images = (most / bytes.max(1)).min((limit / work.max(1)).max(1) as usize).min(self.images.max(1));
        if images == 0 {
            bail!(Device, "{}: an image of {bytes} bytes does not fit {}", self.op, shared.adapter);
        }
        Ok(images)
    }

    /// The part of a dense operand that holds some images, and its first element there.
    fn window<'b>(&self, shared: &Shared, view: &View<'b>, images: &Images) -> Option<(Window<'b>, usize)> {
        let of_image = view.layout.count() / self.images;
        let low = view.layout.offset + images.start * of_image;
        let high = low + (images.len() * of_image).max(1) - 1;
        let window = Window::new(shared, view.buffer, low, high, view.dtype.size())?;
        let first = low - window.first;
        Some((window, first))
    }

    /// Whether each image's output is a product of its planes and the weight.
    fn is_product(&self) -> bool {
        let Conv2d { stride, padding, .. } = *self.conv;
        self.window == [1, 1] && stride == [1, 1] && padding == [0, 0]
    }

    fn pairs(&self) -> Shape2 {
        let Conv2d { stride, padding, dilation, .. } = *self.conv;
        Shape2 { x: self.size, out: self.out, window: self.window, stride, padding, dilation }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Calls `f` with the operand in row-major order.
pub(super) fn dense<T>(op: &'static str, x: &View<'_>, f: impl FnOnce(&View<'_>) -> Result<T>) -> Result<T> {
    if x.layout.is_contiguous() {
        return f(x);
    }
    let layout = Layout::contiguous(x.layout.shape.clone());
    let buffer = x.buffer.device().alloc(layout.count() * x.dtype.size())?;
    copy(op, x, &Out { buffer: &buffer, shape: &layout.shape, dtype: x.dtype })?;
    f(&View { buffer: &buffer, layout: &layout, dtype: x.dtype })
}

/// All variants of the shaders of this file.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    parameters::variants(parameters)
}

//! Convolutions of bfloat16 planes by blocks of 32×32 (`cpu/bf16`), without groups. Panels are gathered from the
//! planes where they are: 32 positions of the result, in order through rows and images, read 32 elements by any tap,
//! and all that lie in one row of the source are one masked load. Padding is what the masks leave out.
//!
//! ```text
//! forward   Y (K, positions)   = W (K, C·R·S) · patches (C·R·S, positions)
//! input     dX (C, positions)  = W turned (C, R·S·K) · patches of dY, with zeros between for strides
//! weight    dW (K, C·R·S)      = dY (K, positions) · patchesᵀ (positions, C·R·S)
//! ```
//!
//! Tasks are groups of panels, which a thread gathers for itself; the left factor is packed once. Along the inner
//! axis parts of 512 follow each other, whose sums stay float32; the order of summation depends on shapes only.

use super::Dims;
use crate::core::Result;
use crate::cpu::bf16::{self, BLOCK, EDGE, Left, STEP, Session, Source, UNIT};
use crate::cpu::isa::Bf16;
use crate::cpu::matmul::pack::{Even, scratch};
use crate::cpu::threads::{available, parallel};
use crate::cpu::work::{Shared, try_parallel};
use smallvec::SmallVec;
use std::arch::x86_64::*;

/// Steps along the inner axis in a part at most.
const PART: usize = 16;
/// Panels of a task at most, and elements that they may have together: they are to stay in a core's cache.
const PANELS: usize = 16;
const GATHERED: usize = 384 << 10;

/// Whether a convolution of these sizes is done here.
pub fn fits(d: &Dims) -> bool {
    let conv = &d.conv;
    let inner = d.c * d.r * d.s;
    conv.groups == 1
        && conv.stride[1] <= 2
        && inner >= 16
        && d.k >= 8
        && d.n * d.oh * d.ow >= 32
        && d.n.saturating_mul(d.c).saturating_mul(d.h).saturating_mul(d.w) > 0
        && inner * d.k * d.n * d.oh * d.ow >= 1 << 20
}

/// Whether its gradient of the input is.
pub fn input_fits(d: &Dims) -> bool {
    let reach = |axis: usize, taps: usize| (taps - 1) * d.conv.dilation[axis] >= d.conv.padding[axis];
    // Where strides leave gaps, most products of a single tap would be with zeros.
    let dense = d.conv.stride == [1, 1] || d.r * d.s > 1;
    fits(d) && dense && reach(0, d.r) && reach(1, d.s) && d.c >= 8
}

/// Elements that 32 positions read by a tap, as far as they lie in one row: where lane 0 would read, and which
/// lanes do, at twice their number where neighbours are two apart.
#[derive(Clone, Copy)]
struct Run {
    at: isize,
    mask: u64,
}

type Runs = SmallVec<[Run; 8]>;

/// Source planes, and the positions that read them.
struct Planes {
    at: *const u16,
    channels: usize,
    size: [usize; 2],
    images: usize,
    grid: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    taps: [usize; 2],
}

// SAFETY: planes are only read, and stay where they are meanwhile.
unsafe impl Sync for Planes {}

impl Planes {
    fn positions(&self) -> usize {
        self.images * self.grid[0] * self.grid[1]
    }

    fn plane(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// The rows of images that 32 positions from `first` on lie in: (image, row, column, lane, count).
    fn rows(&self, first: usize) -> impl Iterator<Item = (usize, usize, usize, usize, usize)> {
        let [height, width] = self.grid;
        let last = (first + EDGE).min(self.positions());
        let mut at = first;
        std::iter::from_fn(move || {
            (at < last).then(|| {
                let (lane, column) = (at - first, at % width);
                let count = (width - column).min(last - at);
                let row = at / width;
                at += count;
                (row / height, row % height, column, lane, count)
            })
        })
    }

    /// What 32 positions read by a tap, counted from a channel's plane in the first image.
    fn runs(&self, first: usize, tap: usize) -> Runs {
        let (step, image) = (self.stride[1], self.channels * self.plane());
        let shift =
            |axis: usize, tap: usize| (tap * self.dilation[axis]) as isize - self.padding[axis] as isize;
        let (down, right) = (shift(0, tap / self.taps[1]), shift(1, tap % self.taps[1]));
        let mut runs = Runs::new();
        for (n, row, column, lane, count) in self.rows(first) {
            let y = (row * self.stride[0]) as isize + down;
            let x = (column * step) as isize + right;
            if y < 0 || y >= self.size[0] as isize {
                continue;
            }
            // Positions whose elements are in the row: step·i + x from 0 to the width.
            let from = (-x).max(0) as usize;
            let skipped = from.div_ceil(step).min(count);
            let inside = (self.size[1] as isize - x).max(0) as usize;
            let ends = inside.div_ceil(step).min(count);
            let bits = |lanes: usize| if step * lanes >= 64 { !0 } else { (1u64 << (step * lanes)) - 1 };
            let mut mask = bits(lane + ends) & !bits(lane + skipped);
            if step == 2 {
                mask &= 0x5555_5555_5555_5555;
            }
            if mask != 0 {
                let at = (n * image) as isize + y * self.size[1] as isize + x - (step * lane) as isize;
                runs.push(Run { at, mask });
            }
        }
        runs
    }

    /// 32 elements of a channel.
    ///
    /// # Safety
    /// The runs are of these planes, and the processor has AVX-512 BW.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn take(&self, channel: usize, runs: &[Run]) -> __m512i {
        let plane = self.at.wrapping_add(channel * self.plane());
        let mut out = _mm512_setzero_si512();
        // SAFETY: masked lanes are not read; the others lie within the planes.
        unsafe {
            if self.stride[1] == 1 {
                for run in runs {
                    out = _mm512_mask_loadu_epi16(out, run.mask as u32, plane.wrapping_offset(run.at).cast());
                }
                return out;
            }
            for run in runs {
                let at = plane.wrapping_offset(run.at);
                let low = _mm512_maskz_loadu_epi16(run.mask as u32, at.cast());
                let high = _mm512_maskz_loadu_epi16((run.mask >> 32) as u32, at.wrapping_add(32).cast());
                // An even element in each pair, and zeros beside it.
                let (low, high) = (_mm512_cvtepi32_epi16(low), _mm512_cvtepi32_epi16(high));
                let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
                out = _mm512_or_si512(out, both);
            }
        }
        out
    }

    /// A panel of patches: 32 positions from `first` on, along `inner`, a channel and a tap for each row.
    ///
    /// # Safety
    /// As for `take`; `dst` has `UNIT` elements for each step.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn patches(&self, first: usize, inner: &[Option<(u32, u32)>], dst: *mut u16) {
        let taps: Vec<Runs> = (0..self.taps[0] * self.taps[1]).map(|tap| self.runs(first, tap)).collect();
        for (i, pair) in inner.chunks_exact(2).enumerate() {
            // SAFETY: the caller's promises.
            unsafe {
                let row = |of: Option<(u32, u32)>| match of {
                    Some((channel, tap)) => self.take(channel as usize, &taps[tap as usize]),
                    None => _mm512_setzero_si512(),
                };
                let to = dst.add(i / (STEP / 2) * UNIT + i % (STEP / 2) * 32);
                bf16::pairs(row(pair[0]), row(pair[1]), to);
            }
        }
    }
}

/// `out (rows, positions) = left · patches`, over all images.
struct Correlate<'a> {
    kind: Bf16,
    planes: Planes,
    /// Channel and tap along the inner axis, up to a whole step; nothing for zeros.
    inner: Vec<Option<(u32, u32)>>,
    rows: usize,
    /// Strips of `rows`, packed.
    left: Shared<u16>,
    out: Shared<u16>,
    done: &'a (dyn Fn(usize, usize) + Sync),
}

impl Correlate<'_> {
    unsafe fn run(&self) -> Result<()> {
        let (steps, positions) = (self.inner.len() / STEP, self.planes.positions());
        let panels = positions.div_ceil(EDGE);
        let strips = self.rows.div_ceil(EDGE);
        let most = (GATHERED / (steps * UNIT)).clamp(1, PANELS).min(panels.div_ceil(2 * available()).max(1));
        let groups = Even::at_most(panels, most);
        let parts = Even::at_most(steps, PART);
        try_parallel(groups.parts, |group| {
            let group = groups.part(group);
            let blocks = if parts.parts == 1 { 1 } else { strips * group.len() };
            let memory = scratch::<f32>(blocks * BLOCK + group.len() * steps * UNIT / 2)?;
            let sums = memory.ptr().cast::<f32>();
            let panel =
                |j: usize| sums.wrapping_add(blocks * BLOCK).cast::<u16>().wrapping_add(j * steps * UNIT);
            let session = Session::new(self.kind);
            for (j, p) in group.clone().enumerate() {
                // SAFETY: the caller's promises; the panel is this task's.
                unsafe { self.planes.patches(p * EDGE, &self.inner, panel(j)) };
            }
            for (p, part) in parts.iter().enumerate() {
                for strip in 0..strips {
                    let left = Left::packed(self.left.at((strip * steps + part.start) * UNIT));
                    for (j, of) in group.clone().enumerate() {
                        // SAFETY: packed operands, a block of this task, and positions of it alone.
                        unsafe {
                            let block =
                                sums.add(if blocks == 1 { 0 } else { strip * group.len() + j } * BLOCK);
                            let right = panel(j).add(part.start * UNIT);
                            session.multiply(left, right, part.len(), block, p > 0);
                            if p + 1 == parts.parts {
                                self.store(block, strip, of);
                            }
                        }
                    }
                }
            }
            self.finish(group.start * EDGE, (group.end * EDGE).min(positions));
            Ok(())
        })
    }

    /// The positions from `first` to `last`, image by image: (image, place in it, count).
    fn images(&self, first: usize, last: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let plane = self.planes.grid[0] * self.planes.grid[1];
        let mut at = first;
        std::iter::from_fn(move || {
            (at < last).then(|| {
                let (image, place) = (at / plane, at % plane);
                let count = (plane - place).min(last - at);
                at += count;
                (image, place, count)
            })
        })
    }

    unsafe fn store(&self, block: *const f32, strip: usize, panel: usize) {
        let plane = self.planes.grid[0] * self.planes.grid[1];
        let first = panel * EDGE;
        let rows = EDGE.min(self.rows - strip * EDGE);
        for (image, place, count) in self.images(first, (first + EDGE).min(self.planes.positions())) {
            let lane = image * plane + place - first;
            let mask = (((1u64 << count) - 1) << lane) as u32;
            let to = self.out.at((image * self.rows + strip * EDGE) * plane + place).wrapping_sub(lane);
            // SAFETY: the mask keeps to these positions of these rows.
            unsafe { bf16::round(block, rows, mask, to, plane) };
        }
    }

    fn finish(&self, first: usize, last: usize) {
        let plane = self.planes.grid[0] * self.planes.grid[1];
        for (image, place, count) in self.images(first, last) {
            let start = image * self.rows * plane;
            if count == plane {
                (self.done)(start, self.rows * plane);
                continue;
            }
            for row in 0..self.rows {
                (self.done)(start + row * plane + place, count);
            }
        }
    }
}

/// Calls `f` for each of the packed strips of 32 of `count` rows, by all threads.
fn for_each_strip(count: usize, f: impl Fn(usize, usize) + Sync) {
    parallel(count.div_ceil(EDGE), |strip| f(strip, EDGE.min(count - strip * EDGE)));
}

/// # Safety
/// As for `conv::forward`; `fits` has agreed, and the processor has the instructions of `kind`.
pub unsafe fn forward(
    kind: Bf16,
    d: &Dims,
    x: *const u16,
    w: *const u16,
    y: *mut u16,
    done: &(dyn Fn(usize, usize) + Sync),
) -> Result<()> {
    let depth = d.c * d.r * d.s;
    let steps = depth.div_ceil(STEP);
    let memory = scratch::<u16>(d.k.div_ceil(EDGE) * steps * UNIT)?;
    let (left, w) = (Shared::new(memory.ptr().cast::<u16>()), Shared::new(w.cast_mut()));
    for_each_strip(d.k, |strip, rows| {
        let source = Source { at: w.at(strip * EDGE * depth), along: 1, across: depth as isize };
        // SAFETY: these rows of W, and a strip that nobody else writes.
        unsafe { bf16::pack_left(source, depth, rows, left.at(strip * steps * UNIT)) };
    });
    let area = d.r * d.s;
    let inner =
        (0..steps * STEP).map(|i| (i < depth).then_some(((i / area) as u32, (i % area) as u32))).collect();
    let planes = of_input(d, x);
    // SAFETY: the caller's promises.
    unsafe { Correlate { kind, planes, inner, rows: d.k, left, out: Shared::new(y), done }.run() }
}

/// The input's planes, as positions of the result read them.
fn of_input(d: &Dims, x: *const u16) -> Planes {
    Planes {
        at: x,
        channels: d.c,
        size: [d.h, d.w],
        images: d.n,
        grid: [d.oh, d.ow],
        stride: d.conv.stride,
        padding: d.conv.padding,
        dilation: d.conv.dilation,
        taps: [d.r, d.s],
    }
}

/// # Safety
/// As for `conv::backward_input`; `input_fits` has agreed, and the processor has the instructions of `kind`.
pub unsafe fn backward_input(
    kind: Bf16,
    d: &Dims,
    dy: *const u16,
    w: *const u16,
    dx: *mut u16,
) -> Result<()> {
    let area = d.r * d.s;
    let deep = d.k.div_ceil(STEP);
    let (steps, strips) = (area * deep, d.c.div_ceil(EDGE));
    let memory = scratch::<u16>(strips * steps * UNIT)?;
    let (left, w) = (Shared::new(memory.ptr().cast::<u16>()), Shared::new(w.cast_mut()));
    if !d.c.is_multiple_of(EDGE) {
        // SAFETY: the last strip has rows that are no channels.
        unsafe { left.slice((strips - 1) * steps * UNIT, steps * UNIT).fill(0) };
    }
    // Rows of W as a matrix of K columns, (channel, tap) by (channel, tap), go to their channel's row, tap by tap
    // in reverse.
    let turn = scratch::<u16>((d.c * area).div_ceil(EDGE) * deep * UNIT)?;
    let turned = Shared::new(turn.ptr().cast::<u16>());
    for_each_strip(d.c * area, |strip, rows| {
        let own = turned.at(strip * deep * UNIT);
        let across = (d.c * area) as isize;
        // SAFETY: these columns of W, a strip of this thread's, and rows that nobody else writes.
        unsafe {
            let source = Source { at: w.at(strip * EDGE), along: across, across: 1 };
            bf16::pack_left(source, d.k, rows, own);
            for (row, step) in (0..rows).flat_map(|row| (0..deep).map(move |step| (row, step))) {
                let (channel, tap) = ((strip * EDGE + row) / area, (strip * EDGE + row) % area);
                let place = (channel / EDGE * steps + (area - 1 - tap) * deep + step) * UNIT;
                let to = left.at(place + channel % EDGE * STEP);
                std::ptr::copy_nonoverlapping(own.add(step * UNIT + row * STEP), to, STEP);
            }
        }
    });
    let inner = (0..steps * STEP).map(|i| {
        let (tap, k) = (i / (deep * STEP), i % (deep * STEP));
        (k < d.k).then_some((k as u32, tap as u32))
    });
    let [gap, gap_x] = d.conv.stride;
    let size = [(d.oh - 1) * gap + 1, (d.ow - 1) * gap_x + 1];
    let spread = if d.conv.stride == [1, 1] { None } else { Some(spread(d, dy, size)?) };
    let reach = |axis: usize, taps: usize| (taps - 1) * d.conv.dilation[axis] - d.conv.padding[axis];
    let planes = Planes {
        at: spread.as_ref().map_or(dy, |memory| memory.ptr().cast()),
        channels: d.k,
        size,
        images: d.n,
        grid: [d.h, d.w],
        stride: [1, 1],
        padding: [reach(0, d.r), reach(1, d.s)],
        dilation: d.conv.dilation,
        taps: [d.r, d.s],
    };
    let job = Correlate {
        kind,
        planes,
        inner: inner.collect(),
        rows: d.c,
        left,
        out: Shared::new(dx),
        done: &|_, _| {},
    };
    // SAFETY: the caller's promises.
    unsafe { job.run() }
}

/// Planes of dY with zeros between what strides keep apart.
fn spread(d: &Dims, dy: *const u16, size: [usize; 2]) -> Result<crate::cpu::Memory> {
    let (from, to) = (d.oh * d.ow, size[0] * size[1]);
    let memory = scratch::<u16>(d.n * d.k * to)?;
    let (out, dy) = (Shared::new(memory.ptr().cast::<u16>()), Shared::new(dy.cast_mut()));
    let chunks = Even::at_most(d.n * d.k, (32 << 10) / to + 1);
    parallel(chunks.parts, |chunk| {
        for plane in chunks.part(chunk) {
            // SAFETY: a plane of dY, which is only read, and one that nobody else writes.
            let (dy, out) = unsafe { (&*dy.slice(plane * from, from), out.slice(plane * to, to)) };
            out.fill(0);
            for (row, values) in dy.chunks_exact(d.ow).enumerate() {
                let out = &mut out[row * d.conv.stride[0] * size[1]..];
                for (out, &value) in out.iter_mut().step_by(d.conv.stride[1]).zip(values) {
                    *out = value;
                }
            }
        }
    });
    Ok(memory)
}

/// # Safety
/// As for `conv::backward_weight`; `fits` has agreed, and the processor has the instructions of `kind`.
pub unsafe fn backward_weight(
    kind: Bf16,
    d: &Dims,
    x: *const u16,
    dy: *const u16,
    dw: *mut u16,
) -> Result<()> {
    let planes = of_input(d, x);
    let (area, depth) = (d.r * d.s, d.c * d.r * d.s);
    let steps = planes.positions().div_ceil(STEP);
    let strips = d.k.div_ceil(EDGE);
    // dY as its own positions read it.
    let own = Planes {
        at: dy,
        channels: d.k,
        size: [1, d.oh * d.ow],
        images: d.n,
        grid: [1, d.oh * d.ow],
        stride: [1, 1],
        padding: [0, 0],
        dilation: [1, 1],
        taps: [1, 1],
    };
    // In parts of steps, strip by strip.
    let parts = Even::at_most(steps, PART);
    let memory = scratch::<u16>(strips * steps * UNIT)?;
    let left = Shared::new(memory.ptr().cast::<u16>());
    parallel(steps, |step| {
        let runs = own.runs(step * STEP, 0);
        for k in 0..strips * EDGE {
            // SAFETY: elements of dY, and a row that nobody else writes.
            unsafe {
                let row = if k < d.k { own.take(k, &runs) } else { zeros() };
                let to = left.at((step * strips + k / EDGE) * UNIT + k % EDGE * STEP);
                bf16::store_row(row, to);
            }
        }
    });
    let panels = depth.div_ceil(EDGE);
    let groups = Even::at_most(panels, panels.div_ceil(2 * available()).clamp(1, PANELS / 2));
    let dw = Shared::new(dw);
    try_parallel(groups.parts, |group| {
        let group = groups.part(group);
        let len = parts.part(0).len() * UNIT;
        let memory = scratch::<f32>(strips * group.len() * BLOCK + group.len() * len / 2)?;
        let sums = memory.ptr().cast::<f32>();
        let gathered = sums.wrapping_add(strips * group.len() * BLOCK).cast::<u16>();
        let session = Session::new(kind);
        for (p, part) in parts.iter().enumerate() {
            for (at, step) in part.clone().enumerate() {
                let taps: Vec<Runs> = (0..area).map(|tap| planes.runs(step * STEP, tap)).collect();
                for (j, panel) in group.clone().enumerate() {
                    for half in 0..2 {
                        let first = panel * EDGE + 16 * half;
                        let to = gathered.wrapping_add(j * len + at * UNIT + half * (UNIT / 2));
                        // SAFETY: columns of patches, and a tile of this task's.
                        unsafe { columns(&planes, &taps, first..(first + 16).min(depth), to) };
                    }
                }
            }
            for strip in 0..strips {
                // Steps of a strip lie `strips` units apart.
                let at = left.at((part.start * strips + strip) * UNIT);
                let left = Left { at, row: STEP as isize, step: (strips * UNIT) as isize };
                for j in 0..group.len() {
                    // SAFETY: packed operands, and a block of this task.
                    unsafe {
                        let block = sums.add((strip * group.len() + j) * BLOCK);
                        session.multiply(left, gathered.add(j * len), part.len(), block, p > 0);
                    }
                }
            }
        }
        for strip in 0..strips {
            for (j, panel) in group.clone().enumerate() {
                let (rows, columns) = (EDGE.min(d.k - strip * EDGE), EDGE.min(depth - panel * EDGE));
                let to = dw.at(strip * EDGE * depth + panel * EDGE);
                let mask = ((1u64 << columns) - 1) as u32;
                // SAFETY: elements of dW that are this task's.
                unsafe {
                    bf16::round(sums.add((strip * group.len() + j) * BLOCK), rows, mask, to, depth);
                }
            }
        }
        Ok(())
    })
}

#[target_feature(enable = "avx512f")]
fn zeros() -> __m512i {
    _mm512_setzero_si512()
}

/// A tile of patches turned: positions along the inner axis, a channel and a tap a column.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn columns(planes: &Planes, taps: &[Runs], of: std::ops::Range<usize>, dst: *mut u16) {
    let mut square = [_mm512_setzero_si512(); 16];
    for (column, i) in square.iter_mut().zip(of) {
        // SAFETY: the caller's promises.
        *column = unsafe { planes.take(i / taps.len(), &taps[i % taps.len()]) };
    }
    // SAFETY: the caller vouches for a tile at `dst`.
    unsafe { bf16::turned(square, dst) };
}

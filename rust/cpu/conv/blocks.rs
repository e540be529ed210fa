//! Convolutions of bfloat16 planes by blocks of 32×32 (`cpu/bf16`), without groups. Panels are gathered from the
//! planes where they are: 32 positions of the result, in order through rows and images, read 32 elements by any tap,
//! and all that lie in one row of the source are one masked load. Padding is what the masks leave out.
//!
//! ```text
//! forward   Y (K, positions)   = W (K, C·R·S) · patches (C·R·S, positions)
//! input     dX (C, positions)  = W turned (C, R·S·K) · patches of dY, for each phase of a stride
//! weight    dWᵀ (C·R·S, K)     = patches (C·R·S, positions) · dYᵀ (positions, K)
//! ```
//!
//! Tasks are groups of panels or strips of patches, which a thread gathers for itself; the other factor is packed
//! once. Along the inner
//! axis parts of 512 follow each other, whose sums stay float32; the order of summation depends on shapes only.

use super::Dims;
use crate::core::Result;
use crate::cpu::bf16::{self, BLOCK, EDGE, Left, STEP, Session, Source, UNIT};
use crate::cpu::even::Even;
use crate::cpu::isa::Bf16;
use crate::cpu::matmul::pack::scratch;
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
        && (inner * d.k).saturating_mul(d.n * d.oh * d.ow) >= 1 << 20
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
    /// How far down and to the right each tap reads.
    taps: Vec<[isize; 2]>,
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

    /// What 32 positions read by each tap, counted from a channel's plane in the first image.
    fn runs(&self, first: usize, taps: &mut Vec<Runs>) {
        let (step, image) = (self.stride[1], self.channels * self.plane());
        let bits = |lanes: usize| if step * lanes >= 64 { !0 } else { (1u64 << (step * lanes)) - 1 };
        let read = if step == 2 { 0x5555_5555_5555_5555 } else { !0 };
        taps.iter_mut().for_each(SmallVec::clear);
        taps.resize_with(self.taps.len(), Runs::new);
        for (n, row, column, lane, count) in self.rows(first) {
            for (runs, [down, right]) in taps.iter_mut().zip(&self.taps) {
                let y = (row * self.stride[0]) as isize + down;
                let x = (column * step) as isize + right;
                if y < 0 || y >= self.size[0] as isize {
                    continue;
                }
                // Positions whose elements are in the row: step·i + x from 0 to the width.
                let skipped = ((-x).max(0) as usize).div_ceil(step).min(count);
                let ends = ((self.size[1] as isize - x).max(0) as usize).div_ceil(step).min(count);
                let mask = bits(lane + ends) & !bits(lane + skipped) & read;
                if mask != 0 {
                    let at = (n * image) as isize + y * self.size[1] as isize + x - (step * lane) as isize;
                    runs.push(Run { at, mask });
                }
            }
        }
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
        let mut taps = vec![];
        self.runs(first, &mut taps);
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
    /// Strips of `rows`, packed; the next begins `all` steps further on.
    left: Shared<u16>,
    all: usize,
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
                    let left = Left::packed(self.left.at((strip * self.all + part.start) * UNIT));
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
    unsafe { Correlate { kind, planes, inner, rows: d.k, left, all: steps, out: Shared::new(y), done }.run() }
}

/// The input's planes, as positions of the result read them.
fn of_input(d: &Dims, x: *const u16) -> Planes {
    let shift =
        |axis: usize, tap: usize| (tap * d.conv.dilation[axis]) as isize - d.conv.padding[axis] as isize;
    let tap = |tap: usize| [shift(0, tap / d.s), shift(1, tap % d.s)];
    Planes {
        at: x,
        channels: d.c,
        size: [d.h, d.w],
        images: d.n,
        grid: [d.oh, d.ow],
        stride: d.conv.stride,
        taps: (0..d.r * d.s).map(tap).collect(),
    }
}

/// Positions of the input that are equal modulo the strides, and the taps by which they take part: tap `r` reaches
/// row `σ·i + a` from output row `i + q`, where `σ·q = a + padding − dilation·r`, if that divides.
struct Phase {
    residue: [usize; 2],
    grid: [usize; 2],
    /// The tap's number, and the shift in dY.
    taps: Vec<(usize, [isize; 2])>,
}

fn phases(d: &Dims) -> Vec<Phase> {
    let [down, right] = d.conv.stride;
    let residues = (0..down.min(d.h)).flat_map(|a| (0..right.min(d.w)).map(move |b| [a, b]));
    let shift = |axis: usize, residue: usize, tap: usize| {
        let (from, stride) = (residue + d.conv.padding[axis], d.conv.stride[axis] as isize);
        let distance = from as isize - (tap * d.conv.dilation[axis]) as isize;
        (distance % stride == 0).then_some(distance / stride)
    };
    let phase = |residue: [usize; 2]| {
        let reached =
            |tap: usize| Some((tap, [shift(0, residue[0], tap / d.s)?, shift(1, residue[1], tap % d.s)?]));
        let grid = [(d.h - residue[0]).div_ceil(down), (d.w - residue[1]).div_ceil(right)];
        Phase { residue, grid, taps: (0..d.r * d.s).filter_map(reached).collect() }
    };
    residues.map(phase).collect()
}

/// # Safety
/// As for `conv::backward_input`; `fits` has agreed, and the processor has the instructions of `kind`.
pub unsafe fn backward_input(
    kind: Bf16,
    d: &Dims,
    dy: *const u16,
    w: *const u16,
    dx: *mut u16,
) -> Result<()> {
    let phases = phases(d);
    let deep = d.k.div_ceil(STEP);
    let steps = d.r * d.s * deep;
    // The taps' places along the inner axis: phase by phase. A tap is in one phase at most.
    let mut order = vec![None; d.r * d.s];
    phases.iter().flat_map(|phase| &phase.taps).enumerate().for_each(|(i, &(tap, _))| order[tap] = Some(i));
    let memory = scratch::<u16>(d.c.div_ceil(EDGE) * steps * UNIT)?;
    let left = Shared::new(memory.ptr().cast::<u16>());
    // SAFETY: the caller's promises, and memory for all strips.
    unsafe { turn(d, w, &order, left)? };
    let alone = phases.len() == 1;
    let most = phases[0].grid[0] * phases[0].grid[1] * d.n * d.c;
    let part = if alone { None } else { Some(scratch::<u16>(most)?) };
    let mut first = 0;
    for phase in &phases {
        let own = phase.taps.len() * deep;
        let out = Shared::new(part.as_ref().map_or(dx, |memory| memory.ptr().cast()));
        let planes = Planes {
            at: dy,
            channels: d.k,
            size: [d.oh, d.ow],
            images: d.n,
            grid: phase.grid,
            stride: [1, 1],
            taps: phase.taps.iter().map(|&(_, shift)| shift).collect(),
        };
        if own == 0 {
            // SAFETY: the phase's elements, which no tap reaches.
            unsafe { out.slice(0, planes.positions() * d.c).fill(0) };
        } else {
            let inner = (0..own * STEP).map(|i| {
                let (tap, k) = (i / (deep * STEP), i % (deep * STEP));
                (k < d.k).then_some((k as u32, tap as u32))
            });
            let (inner, done) = (inner.collect(), &|_, _| {});
            let left = Shared::new(left.at(first * UNIT));
            let job = Correlate { kind, planes, inner, rows: d.c, left, all: steps, out, done };
            // SAFETY: the caller's promises.
            unsafe { job.run()? };
        }
        first += own;
        if !alone {
            // SAFETY: what has just been computed, and the elements of dX that it is.
            unsafe { scatter(d, phase, out, dx) };
        }
    }
    Ok(())
}

/// Packs W as the gradient of the input reads it: channels as rows, and along the inner axis taps in their order,
/// with all k for each.
unsafe fn turn(d: &Dims, w: *const u16, order: &[Option<usize>], left: Shared<u16>) -> Result<()> {
    let area = d.r * d.s;
    let deep = d.k.div_ceil(STEP);
    let (steps, strips) = (area * deep, d.c.div_ceil(EDGE));
    if !d.c.is_multiple_of(EDGE) {
        // SAFETY: the last strip, which has rows that are no channels.
        unsafe { left.slice((strips - 1) * steps * UNIT, steps * UNIT).fill(0) };
    }
    let memory = scratch::<u16>((d.c * area).div_ceil(EDGE) * deep * UNIT)?;
    let (turned, w) = (Shared::new(memory.ptr().cast::<u16>()), Shared::new(w.cast_mut()));
    // Columns of W as a matrix of K rows, channel by channel and tap by tap, become rows, which go to their places.
    for_each_strip(d.c * area, |strip, rows| {
        let own = turned.at(strip * deep * UNIT);
        // SAFETY: these columns of W, a strip of this task's, and rows that nobody else writes.
        unsafe {
            let source = Source { at: w.at(strip * EDGE), along: (d.c * area) as isize, across: 1 };
            bf16::pack_left(source, d.k, rows, own);
            for (row, step) in (0..rows).flat_map(|row| (0..deep).map(move |step| (row, step))) {
                let (channel, tap) = ((strip * EDGE + row) / area, (strip * EDGE + row) % area);
                let Some(place) = order[tap] else { continue };
                let to =
                    left.at((channel / EDGE * steps + place * deep + step) * UNIT + channel % EDGE * STEP);
                std::ptr::copy_nonoverlapping(own.add(step * UNIT + row * STEP), to, STEP);
            }
        }
    });
    Ok(())
}

/// Puts the elements of a phase, which lie close together, to their places in dX.
unsafe fn scatter(d: &Dims, phase: &Phase, from: Shared<u16>, dx: *mut u16) {
    let ([height, width], [a, b]) = (phase.grid, phase.residue);
    let [down, right] = d.conv.stride;
    let dx = Shared::new(dx);
    let chunks = Even::at_most(d.n * d.c, (32 << 10) / (height * width) + 1);
    parallel(chunks.parts, |chunk| {
        for plane in chunks.part(chunk) {
            for row in 0..height {
                let to = plane * d.h * d.w + (a + row * down) * d.w + b;
                // SAFETY: a row of the phase, and elements of dX that are this task's.
                unsafe {
                    let values = from.slice((plane * height + row) * width, width);
                    for (column, value) in values.iter().enumerate() {
                        *dx.at(to + column * right) = *value;
                    }
                }
            }
        }
    });
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
    let depth = d.c * d.r * d.s;
    let steps = planes.positions().div_ceil(STEP);
    let panels = d.k.div_ceil(EDGE);
    // dY as its own positions read it.
    let plane = d.oh * d.ow;
    let (size, grid, stride) = ([1, plane], [1, plane], [1, 1]);
    let own = Planes { at: dy, channels: d.k, size, images: d.n, grid, stride, taps: vec![[0, 0]] };
    // Panels of dY turned, step by step.
    let memory = scratch::<u16>(panels * steps * UNIT)?;
    let right = Shared::new(memory.ptr().cast::<u16>());
    parallel(steps, |step| {
        let mut mine = vec![];
        own.runs(step * STEP, &mut mine);
        for half in 0..2 * panels {
            let to = right.at((half / 2 * steps + step) * UNIT + half % 2 * (UNIT / 2));
            // SAFETY: channels of dY, and a tile that nobody else writes.
            unsafe { columns(&own, &mine, half * 16..(half * 16 + 16).min(d.k), to) };
        }
    });
    let parts = Even::at_most(steps, PART);
    let strips = depth.div_ceil(EDGE);
    let groups = Even::at_most(strips, strips.div_ceil(available()).clamp(1, PANELS));
    let dw = Shared::new(dw);
    try_parallel(groups.parts, |group| {
        let group = groups.part(group);
        let len = parts.part(0).len() * UNIT;
        let memory = scratch::<f32>(panels * group.len() * BLOCK + len / 2)?;
        let sums = memory.ptr().cast::<f32>();
        let gathered = sums.wrapping_add(panels * group.len() * BLOCK).cast::<u16>();
        let block = |i: usize, panel: usize| sums.wrapping_add((i * panels + panel) * BLOCK);
        let session = Session::new(kind);
        let mut runs: Vec<Vec<Runs>> = vec![vec![]; PART];
        for (p, part) in parts.iter().enumerate() {
            part.clone().zip(&mut runs).for_each(|(step, taps)| planes.runs(step * STEP, taps));
            for (i, strip) in group.clone().enumerate() {
                for (at, taps) in runs[..part.len()].iter().enumerate() {
                    let of = strip * EDGE..(strip * EDGE + EDGE).min(depth);
                    // SAFETY: rows of patches, and a step of this task's strip.
                    unsafe { rows(&planes, taps, of, gathered.wrapping_add(at * UNIT)) };
                }
                for panel in 0..panels {
                    let right = right.at((panel * steps + part.start) * UNIT);
                    // SAFETY: packed operands, and a block of this task.
                    unsafe {
                        session.multiply(Left::packed(gathered), right, part.len(), block(i, panel), p > 0);
                    }
                }
            }
        }
        for (i, strip) in group.enumerate() {
            for panel in 0..panels {
                let (height, width) = (EDGE.min(d.k - panel * EDGE), EDGE.min(depth - strip * EDGE));
                let to = dw.at(panel * EDGE * depth + strip * EDGE);
                // SAFETY: a block of this task, and elements of dW that are its own.
                unsafe {
                    let turned = turned(block(i, panel));
                    bf16::round(turned.as_ptr(), height, bf16::first(width), to, depth);
                }
            }
        }
        Ok(())
    })
}

/// A block with rows and columns exchanged.
///
/// # Safety
/// It is a block.
unsafe fn turned(block: *const f32) -> [f32; BLOCK] {
    // SAFETY: what the caller promises.
    let block = unsafe { std::slice::from_raw_parts(block, BLOCK) };
    std::array::from_fn(|i| block[i % EDGE * EDGE + i / EDGE])
}

/// A step of a strip of patches: a channel and a tap a row, 32 positions along the inner axis.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn rows(planes: &Planes, taps: &[Runs], of: std::ops::Range<usize>, dst: *mut u16) {
    let (mut channel, mut tap) = (of.start / taps.len(), of.start % taps.len());
    for row in 0..EDGE {
        // SAFETY: the caller's promises.
        unsafe {
            let inside = row < of.len();
            let values = if inside { planes.take(channel, &taps[tap]) } else { _mm512_setzero_si512() };
            bf16::store_row(values, dst.add(row * STEP));
        }
        tap += 1;
        if tap == taps.len() {
            (channel, tap) = (channel + 1, 0);
        }
    }
}

/// A tile of a panel of planes turned: positions along the inner axis, a channel and a tap a column.
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

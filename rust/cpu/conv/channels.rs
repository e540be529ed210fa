//! Correlations with the channels of the result along the lanes, for results of many channels.
//!
//! `dst[k, p] = Σ_(c, t) w[k, c, t] · src[c, p + tap t]`: the rows of a tile are any positions `p`, whose elements
//! are broadcast from where they lie in the planes, so that no lane is lost at the ends of lines, whatever
//! the stride and the size of a plane; the lanes are channels `k`. For that the weights are packed, once a call:
//! `[panel][phase][c, t][k]`, a panel being as wide as a tile. Sums wait as `[panel][position][k]` and are turned
//! around into planes at the end of a chunk.
//!
//! Blocking: a chunk is a block of positions (whole images, or lines of one) and of panels. It takes channels in
//! blocks of ~`DEPTH` terms: so much of a panel stays in L2 while strips of positions, whose elements are in L1,
//! run along it.

use std::ops::Range;

use super::Done;
use super::correlate::{CHUNKS, Chunk, Correlation, DEPTH, WORK, even, share};
use super::scratch::{self, memory};
use super::simd::{Float, Kernel, Simd};
use super::tile::{MAX_ROWS, Step, Tile, Transpose, copy, tile};
use crate::core::Result;
use crate::cpu::even::Even;
use crate::cpu::matmul::vector::transpose;
use crate::cpu::work::{Shared, try_parallel};

/// Sums of a chunk, and its positions at least and at most, unless a line has more.
const SUMS: usize = 64 << 10;
const POSITIONS: [usize; 2] = [256, 1024];
/// Elements of planes that a thread pads at a time.
const PART: usize = 16 << 10;
/// Elements between the sums of two panels, besides the sums: else all would share the lines of a cache.
const APART: usize = 16;

/// Where the tiles read planes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Planes {
    /// Where they are: nothing is to be padded.
    Input,
    /// Padded beforehand, since several chunks need them.
    Shared,
    /// Padded by the chunk, line by line.
    Own,
}

/// A correlation and how it is cut up.
pub struct Channels<'a, T> {
    job: &'a Correlation<T>,
    /// Output lines of the phase that has most.
    lines: usize,
    /// Images and output lines in a chunk, and how many chunks there are: of images, lines, groups, panels.
    block: [usize; 2],
    chunks: [usize; 4],
    /// Channels that are taken at a time.
    depth: usize,
    /// Positions in a strip, and vectors of `k`, panel by panel.
    strip: usize,
    panels: Even,
    /// Where planes are, how many rows they have, and elements between channels and images.
    planes: Planes,
    rows: usize,
    channel: usize,
    image: usize,
    /// For each phase, the terms of a sum over a block of channels, for wide and for narrow panels; and which term of
    /// all is its first.
    steps: Vec<[Vec<Step>; 2]>,
    first: Vec<usize>,
}

/// The positions of a chunk: where each reads, phase by phase; and in which order they lie in a part of the result's
/// planes. What no phase reaches has the number behind the last position, where there are zeros.
struct Positions {
    from: Vec<usize>,
    phases: Vec<Range<usize>>,
    order: Vec<usize>,
    part: Range<usize>,
}

impl<T: Float> Correlation<T> {
    /// Computes it with channels or with positions along the lanes.
    ///
    /// # Safety
    /// As for `run`.
    pub unsafe fn run_either<V: Simd<Elem = T>>(&self, by_channels: bool, done: Done) -> Result<()> {
        // SAFETY: the caller's promises, passed on.
        unsafe { if by_channels { Channels::new::<V>(self)?.run::<V>(done) } else { self.run::<V>(done) } }
    }

    /// Terms of a sum over all phases.
    fn terms(&self) -> usize {
        self.depth * self.phases.iter().map(|p| p.taps.len()).sum::<usize>()
    }

    /// Elements of the kernel of a pair of channels.
    fn kernel(&self) -> usize {
        self.weight_row.min(self.weight_channel)
    }
}

impl<'a, T: Float> Channels<'a, T> {
    /// Whether there are channels `rows` enough to fill lanes, terms enough to outweigh turning the sums around, and
    /// positions enough to outweigh packing the weights.
    pub fn pay<V: Simd<Elem = T>>(rows: usize, terms: usize, positions: usize) -> bool {
        const TERMS: usize = 64;
        const POSITIONS: usize = 128;
        let full = rows > V::LANES && rows * 4 >= rows.next_multiple_of(V::LANES) * 3;
        full && terms >= TERMS && positions >= POSITIONS
    }

    /// The job's frame is of stride 1, and not empty.
    pub fn new<V: Simd<Elem = T>>(job: &'a Correlation<T>) -> Result<Self> {
        let frame = &job.frame;
        let taps = job.phases.iter().map(|p| p.taps.len()).max().unwrap_or(1).max(1);
        let depth = even(job.depth, DEPTH / taps);
        let lines = job.phases.iter().map(|p| p.grid[0]).max().unwrap_or(1).max(1);
        let positions = job.phases.iter().map(|p| p.grid[0] * p.grid[1]).sum::<usize>().max(1);
        let per_line = job.phases.iter().map(|p| p.grid[1]).sum::<usize>().max(1);

        let target = (SUMS / job.rows).clamp(POSITIONS[0], POSITIONS[1]);
        let block = match positions > target {
            true => [1, even(lines, target / per_line)],
            false => [even(job.images, target / positions), lines],
        };
        // The tile that wastes least of its width.
        let vectors = job.rows.div_ceil(V::LANES);
        let width = |rows: usize| V::WIDTHS[rows - 1];
        let wasted = |&rows: &usize| vectors.next_multiple_of(width(rows)) - vectors;
        let strip = [V::ROWS, V::ROWS * 3 / 4].into_iter().min_by_key(wasted).unwrap_or(V::ROWS);
        let panels = Even::at_most(vectors, width(strip));
        // Fewer panels in a chunk until chunks are many enough and worth it.
        let work = [job.groups, job.rows, job.terms(), positions / job.phases.len().max(1)];
        let work = work.iter().fold(job.images, |a, &b| a.saturating_mul(b));
        let blocks = job.images.div_ceil(block[0]) * lines.div_ceil(block[1]);
        let want = (work / WORK).clamp(1, CHUNKS).div_ceil(blocks.saturating_mul(job.groups).max(1));
        let chunks =
            [job.images.div_ceil(block[0]), lines.div_ceil(block[1]), job.groups, want.min(panels.parts)];

        let planes = match () {
            _ if (0..2).all(|a| frame.pad[a] == 0 && frame.grid[a] + frame.reach[a] <= frame.size[a]) => {
                Planes::Input
            }
            _ if chunks[3] > 1 => Planes::Shared,
            _ => Planes::Own,
        };
        let all = frame.grid[0] + frame.reach[0];
        let (rows, channel) = match planes {
            Planes::Input => (all, frame.size[0] * frame.size[1]),
            Planes::Shared => (all, frame.channel(all)? + frame.tail()),
            Planes::Own => {
                let rows = (block[1] - 1) * job.apart[0] + 1 + frame.reach[0];
                (rows, frame.channel(rows)? + frame.tail())
            }
        };
        let pitch = if planes == Planes::Input { frame.size[1] } else { frame.pitch };
        let steps = |taps: &[super::planes::Tap], panel: usize| -> Vec<Step> {
            let width = panels.part(panel).len() * V::LANES;
            let terms = (0..depth)
                .flat_map(|c| taps.iter().map(move |tap| c * channel + tap.at[0] * pitch + tap.at[1]));
            terms.enumerate().map(|(d, a)| Step { a, b: d * width }).collect()
        };
        let mut first = vec![0];
        first.extend(job.phases.iter().scan(0, |at, phase| {
            *at += job.depth * phase.taps.len();
            Some(*at)
        }));
        Ok(Channels {
            job,
            lines,
            block,
            chunks,
            depth,
            strip,
            panels,
            planes,
            rows,
            channel,
            image: channel * if planes == Planes::Own { depth } else { job.groups * job.depth },
            steps: job
                .phases
                .iter()
                .map(|p| [0, panels.parts - 1].map(|panel| steps(&p.taps, panel)))
                .collect(),
            first,
        })
    }

    /// # Safety
    /// As for `Correlation::run`.
    pub unsafe fn run<V: Simd<Elem = T>>(&self, done: Done) -> Result<()> {
        let (job, vectors) = (self.job, self.job.rows.div_ceil(V::LANES));
        let group = vectors * V::LANES * job.terms();
        let packed = memory::<T>(group.saturating_mul(job.groups))?;
        let weights = Shared::new(packed.ptr().cast::<T>());
        let shared = self.planes == Planes::Shared;
        let count = job.images * job.groups * job.depth;
        let padded = memory::<T>(if shared { count.saturating_mul(self.channel) } else { 0 })?;
        let padded = Shared::new(padded.ptr().cast::<T>());
        let fills = Even::at_most(if shared { count } else { 0 }, (PART / self.channel).max(1));
        try_parallel(job.groups * vectors + fills.parts, |i| {
            // SAFETY: the caller's promises; each part packs its own vector, or pads its own planes.
            unsafe {
                if i >= job.groups * vectors {
                    let planes = fills.part(i - job.groups * vectors);
                    self.pad::<V>(planes.clone(), 0, padded.at(planes.start * self.channel));
                    return Ok(());
                }
                let (g, v) = (i / vectors, i % vectors);
                scratch::with(job.kernel() * V::LANES, |staged| {
                    V::run(Pack::<V> { all: self, g, v, staged, to: weights.at(g * group) })
                })
            }
        })?;
        let [_, lines, groups, panels] = self.chunks;
        try_parallel(self.chunks.iter().product(), |index| {
            let cut = |count: usize, block: usize, i: usize| i * block..count.min((i + 1) * block);
            let (rest, panels) = (index / panels, share(self.panels.parts, panels, index % panels));
            let g = rest % groups;
            let last = self.panels.part(panels.end - 1);
            let chunk = Chunk {
                rows: self.panels.part(panels.start).start * V::LANES..job.rows.min(last.end * V::LANES),
                groups: g..g + 1,
                lines: cut(self.lines, self.block[1], rest / groups % lines),
                images: cut(job.images, self.block[0], rest / groups / lines),
            };
            // SAFETY: the caller's promises; chunks write disjoint parts of `dst`.
            unsafe { self.chunk::<V>(&chunk, panels, weights.at(g * group), padded.at(0))? };
            if let Some(done) = done {
                job.report(&chunk, done);
            }
            Ok(())
        })
    }

    fn pitch(&self) -> usize {
        if self.planes == Planes::Input { self.job.frame.size[1] } else { self.job.frame.pitch }
    }

    fn positions(&self, chunk: &Chunk) -> Positions {
        let job = self.job;
        let [line, step] = job.phases[0].step;
        let place = |at: usize| at.saturating_mul(line).min(job.area);
        let end = if chunk.lines.end == self.lines { job.area } else { place(chunk.lines.end) };
        let part = place(chunk.lines.start)..end;
        let (mut from, mut phases) = (vec![], vec![]);
        let mut order = vec![usize::MAX; chunk.images.len() * part.len()];
        for phase in &job.phases {
            let first = from.len();
            for n in 0..chunk.images.len() {
                for i in 0..chunk.lines.end.min(phase.grid[0]).saturating_sub(chunk.lines.start) {
                    let at = n * self.image + i * job.apart[0] * self.pitch();
                    let to = n * part.len() + phase.origin + i * line;
                    for j in 0..phase.grid[1] {
                        order[to + j * step] = from.len();
                        from.push(at + j * job.apart[1]);
                    }
                }
            }
            phases.push(first..from.len());
        }
        order.iter_mut().for_each(|slot| *slot = (*slot).min(from.len()));
        Positions { from, phases, order, part }
    }

    unsafe fn chunk<V: Simd<Elem = T>>(
        &self,
        chunk: &Chunk,
        panels: Range<usize>,
        weights: *const T,
        padded: *const T,
    ) -> Result<()> {
        let job = self.job;
        let at = self.positions(chunk);
        let slots = at.from.len() + 1;
        let first = self.panels.part(panels.start).start;
        // Where the sums of a panel begin.
        let sums_of = |panel: usize| {
            (self.panels.part(panel).start - first) * V::LANES * slots + (panel - panels.start) * APART
        };
        let room = if self.planes == Planes::Own { chunk.images.len() * self.image } else { 0 };
        let room = room.next_multiple_of(16);
        let sums = sums_of(panels.end - 1) + self.panels.part(panels.end - 1).len() * V::LANES * slots;
        let plane = job.frame.size[0] * job.frame.size[1];
        let image = |n: usize| (n * job.groups + chunk.groups.start) * job.depth;
        scratch::with(room.saturating_add(sums), |memory: *mut T| {
            // SAFETY: the offsets are within what was asked for; the rest is the caller's promise.
            unsafe {
                let sums = memory.add(room);
                for c in (0..job.depth).step_by(self.depth) {
                    let channels = c..job.depth.min(c + self.depth);
                    let line = chunk.lines.start * job.apart[0];
                    let planes = match self.planes {
                        Planes::Input => {
                            job.src.add((image(chunk.images.start) + c) * plane + line * self.pitch())
                        }
                        Planes::Shared => {
                            padded.add((image(chunk.images.start) + c) * self.channel + line * self.pitch())
                        }
                        Planes::Own => {
                            for n in chunk.images.clone() {
                                let planes = image(n) + channels.start..image(n) + channels.end;
                                self.pad::<V>(
                                    planes,
                                    line,
                                    memory.add((n - chunk.images.start) * self.image),
                                );
                            }
                            memory
                        }
                    };
                    for p in panels.clone() {
                        let panel = self.panels.part(p);
                        let (lanes, narrow) =
                            (panel.len() * V::LANES, panel.len() < self.panels.part(0).len());
                        let weights = weights.add(panel.start * V::LANES * job.terms());
                        let sums = sums.add(sums_of(p));
                        sums.add(at.from.len() * lanes).write_bytes(0, lanes);
                        for (i, slots) in at.phases.iter().enumerate() {
                            let taps = job.phases[i].taps.len();
                            let steps = &self.steps[i][usize::from(narrow)][..channels.len() * taps];
                            let b = weights.add((self.first[i] + c * taps) * lanes);
                            for strip in slots.clone().step_by(self.strip) {
                                let from = &at.from[strip..slots.end.min(strip + self.strip)];
                                let mut a = [planes; MAX_ROWS];
                                a.iter_mut().zip(from).for_each(|(a, from)| *a = planes.add(*from));
                                let c_at = sums.add(strip * lanes);
                                let init = if c > 0 { c_at.cast_const() } else { std::ptr::null() };
                                let job = Tile { steps, a, b, init, init_row: lanes, c: c_at, c_row: lanes };
                                tile::<V>(from.len(), panel.len(), &job);
                            }
                        }
                    }
                }
                for p in panels.clone() {
                    let panel = self.panels.part(p);
                    for (v, n) in panel.clone().flat_map(|v| (0..chunk.images.len()).map(move |n| (v, n))) {
                        let k = v * V::LANES;
                        let plane =
                            ((chunk.images.start + n) * job.groups + chunk.groups.start) * job.rows + k;
                        V::run(Turn::<V> {
                            from: sums.add(sums_of(p) + (v - panel.start) * V::LANES),
                            from_row: panel.len() * V::LANES,
                            order: &at.order[n * at.part.len()..(n + 1) * at.part.len()],
                            rows: V::LANES.min(job.rows - k),
                            to: job.dst.add(plane * job.area + at.part.start),
                            to_row: job.area,
                        });
                    }
                }
            }
        })
    }

    /// Pads some of the input's planes, from a line on.
    unsafe fn pad<V: Simd<Elem = T>>(&self, planes: Range<usize>, line: usize, to: *mut T) {
        // SAFETY: the caller's promises, passed on.
        unsafe { V::run(Pad::<V> { all: self, planes, line, to }) }
    }
}

/// Writes planes within their padding.
struct Pad<'a, V: Simd> {
    all: &'a Channels<'a, V::Elem>,
    planes: Range<usize>,
    /// Which of their rows is the first.
    line: usize,
    to: *mut V::Elem,
}

impl<V: Simd> Kernel for Pad<'_, V> {
    #[inline(always)]
    unsafe fn call(self) {
        let Pad { all, planes, line, to } = self;
        let frame = &all.job.frame;
        let [height, width] = frame.size;
        // Columns of the input that are there, and where they begin.
        let (left, skip) = (frame.pad[1].max(0) as usize, (-frame.pad[1]).max(0) as usize);
        let len = width.saturating_sub(skip).min(frame.pitch.saturating_sub(left));
        for (i, plane) in planes.enumerate() {
            // SAFETY: within the planes and the memory for them, by the sizes.
            unsafe {
                let to = to.add(i * all.channel);
                zero::<V>(to, all.channel);
                for row in 0..all.rows {
                    let y = (line + row) as isize - frame.pad[0];
                    if (0..height as isize).contains(&y) && len > 0 {
                        let from = all.job.src.add((plane * height + y as usize) * width + skip);
                        copy::<V>(from, to.add(row * frame.pitch + left), len);
                    }
                }
            }
        }
    }
}

/// Writes zeros, and touches nothing else.
#[inline(always)]
unsafe fn zero<V: Simd>(to: *mut V::Elem, len: usize) {
    let whole = len - len % V::LANES;
    // SAFETY: the caller vouches for the elements.
    unsafe {
        for x in (0..whole).step_by(V::LANES) {
            V::zero().store(to.add(x));
        }
        if whole < len {
            V::zero().store_first(to.add(whole), len - whole);
        }
    }
}

/// Packs the weights of a vector of `k`.
struct Pack<'a, V: Simd> {
    all: &'a Channels<'a, V::Elem>,
    g: usize,
    v: usize,
    /// For a vector of each element of a kernel.
    staged: *mut V::Elem,
    /// The group's packed weights.
    to: *mut V::Elem,
}

impl<V: Simd> Kernel for Pack<'_, V> {
    #[inline(always)]
    unsafe fn call(self) {
        let Pack { all: Channels { job, panels, first, .. }, g, v, staged, to } = self;
        let panel = panels.iter().find(|p| p.contains(&v)).expect("panels have all vectors");
        let (lanes, k, kernel) = (panel.len() * V::LANES, v * V::LANES, job.kernel());
        let turn = |from, len, to, to_row| Transpose::<V> {
            from,
            from_row: job.weight_row,
            rows: V::LANES.min(job.rows - k),
            len,
            parts: 1,
            part: 0,
            to,
            to_row,
            pad: true,
        };
        // SAFETY: within the weights and the memory for them, by the sizes.
        unsafe {
            let from = job.weight.add(g * job.weight_group + k * job.weight_row);
            let to = to.add(panel.start * V::LANES * job.terms() + (v - panel.start) * V::LANES);
            let all = (0..kernel).eq(job.phases[0].taps.iter().map(|tap| tap.weight));
            if all && job.weight_channel == kernel {
                return turn(from, job.depth * kernel, to, lanes).call();
            }
            for c in 0..job.depth {
                turn(from.add(c * job.weight_channel), kernel, staged, V::LANES).call();
                for (phase, first) in job.phases.iter().zip(first) {
                    let term = first + c * phase.taps.len();
                    for (t, tap) in phase.taps.iter().enumerate() {
                        V::load(staged.add(tap.weight * V::LANES)).store(to.add((term + t) * lanes));
                    }
                }
            }
        }
    }
}

/// Turns the sums of a vector of `k` into rows of planes: element `x` of each is at position `order[x]`.
struct Turn<'a, V: Simd> {
    from: *const V::Elem,
    from_row: usize,
    order: &'a [usize],
    rows: usize,
    to: *mut V::Elem,
    to_row: usize,
}

impl<V: Simd> Kernel for Turn<'_, V> {
    #[inline(always)]
    unsafe fn call(self) {
        for (i, order) in self.order.chunks(V::LANES).enumerate() {
            // SAFETY: whoever made the job vouches for the places.
            unsafe {
                let mut square = V::square();
                for (row, slot) in square.as_mut().iter_mut().zip(order) {
                    *row = V::load(self.from.add(slot * self.from_row));
                }
                transpose::<V>(&mut square);
                for (k, row) in square.as_mut().iter().enumerate().take(self.rows) {
                    let to = self.to.add(k * self.to_row + i * V::LANES);
                    if order.len() == V::LANES { row.store(to) } else { row.store_first(to, order.len()) }
                }
            }
        }
    }
}

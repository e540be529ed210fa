//! Correlations with the channels of the result along the lanes, for results of many channels.
//!
//! `dst[k, p] = Σ_(c, t) w[k, c, t] · src[c, p + tap t]`: the rows of a tile are any positions `p`, whose elements
//! are broadcast from where they lie in the planes, so that no lane is lost at the ends of lines, whatever
//! the stride and the size of a plane; the lanes are channels `k`. For that the weights are packed, once a call:
//! `[k block][phase][c, t][k]`, a block of `k` being as wide as a tile. Sums wait as `[k block][position][k]` and
//! are turned around into planes at the end of a chunk.
//!
//! Blocking: a chunk is a block of positions (whole images, or lines of one) and of `k`. It takes channels in blocks
//! of ~`DEPTH` terms: so much of a block of `k` stays in L2 while strips of positions, whose elements are in L1,
//! run along it.

use std::ops::Range;

use super::Done;
use super::correlate::{CHUNKS, Chunk, Correlation, DEPTH, Phase, WORK, even, share};
use super::planes::{Fill, slack};
use super::scratch::{self, memory};
use super::simd::{Float, Kernel, Simd};
use super::tile::{MAX_ROWS, Step, Tile, Transpose, tile};
use crate::core::Result;
use crate::cpu::matmul::pack::Even;
use crate::cpu::matmul::vector::transpose;
use crate::cpu::work::{Shared, try_parallel};

/// Sums of a chunk, and its positions at least and at most, unless a line has more.
const SUMS: usize = 64 << 10;
const POSITIONS: [usize; 2] = [256, 1024];

/// Elements between the sums of two blocks of `k`, besides the sums: else all would share the lines of a cache.
const APART: usize = 16;

/// A correlation and how it is cut up.
pub struct Channels<'a, T> {
    job: &'a Correlation<T>,
    /// Images and output lines in a chunk, and how many chunks there are: of images, lines, groups, `k`.
    images: usize,
    lines: usize,
    chunks: [usize; 4],
    /// Channels that are taken at a time.
    depth: usize,
    /// Vectors of `k`, in blocks.
    panels: Even,
    /// Rows of a part, and elements between channels and images, in planes as the tiles read them.
    part_rows: usize,
    channel: usize,
    image: usize,
    /// For each phase, the terms of a sum over a block of channels, for wide and for narrow panels; and which term of
    /// all is its first.
    steps: Vec<[Vec<Step>; 2]>,
    first: Vec<usize>,
}

/// The positions of a chunk: where each reads, phase by phase, and in which order they lie in the result.
struct Positions {
    from: Vec<usize>,
    phases: Vec<Range<usize>>,
    order: Vec<usize>,
}

impl<T: Float> Correlation<T> {
    /// Terms of a sum over all phases.
    fn terms(&self) -> usize {
        self.depth * self.phases.iter().map(|p| p.taps.len()).sum::<usize>()
    }

    /// Elements of the kernel of a pair of channels.
    fn kernel(&self) -> usize {
        self.weight_row.min(self.weight_channel)
    }

    /// Whether it has channels enough to fill lanes, terms enough to outweigh turning the sums around, and
    /// positions enough to outweigh packing the weights.
    pub fn channels_pay<V: Simd<Elem = T>>(&self) -> bool {
        const TERMS: usize = 64;
        const POSITIONS: usize = 16;
        let positions: usize = self.phases.iter().map(|p| p.grid[0] * p.grid[1]).sum();
        let taps = self.phases.iter().map(|p| p.taps.len()).max().unwrap_or(0);
        let full = self.rows * 4 >= self.rows.next_multiple_of(V::LANES) * 3;
        self.rows > 0
            && full
            && self.depth * taps >= TERMS
            && self.images * positions >= POSITIONS * self.phases.len()
    }
}

impl<'a, T: Float> Channels<'a, T> {
    pub fn new<V: Simd<Elem = T>>(job: &'a Correlation<T>) -> Result<Self> {
        let frame = &job.frame;
        let taps = job.phases.iter().map(|p| p.taps.len()).max().unwrap_or(1).max(1);
        let depth = even(job.depth, DEPTH / taps);
        let positions = job.phases.iter().map(|p| p.grid[0] * p.grid[1]).sum::<usize>().max(1);
        let per_line = job.phases.iter().map(|p| p.grid[1]).sum::<usize>().max(1);

        let target = (SUMS / job.rows.max(1)).clamp(POSITIONS[0], POSITIONS[1]);
        let (mut images, mut lines) = (1, frame.grid[0].max(1));
        if positions > target {
            lines = even(lines, target / per_line);
        } else {
            images = even(job.images, target / positions);
        }
        let line_blocks = frame.grid[0].div_ceil(lines);
        let panels = Even::at_most(job.rows.div_ceil(V::LANES), V::WIDTHS[V::ROWS - 1]);
        // Fewer `k` in a chunk until chunks are many enough and worth it.
        let work = [job.groups, job.rows, job.terms(), positions / job.phases.len().max(1)];
        let work = work.iter().fold(job.images, |a, &b| a.saturating_mul(b));
        let blocks = (job.images.div_ceil(images) * line_blocks).saturating_mul(job.groups).max(1);
        let row_blocks = (work / WORK).clamp(1, CHUNKS).div_ceil(blocks).min(panels.parts);

        let direct = frame.is_input();
        let part_rows = if direct { frame.size[0] } else { lines + frame.reach[0] };
        let channel = frame.channel(part_rows)?;
        let steps = |phase: &Phase, panel: usize| -> Vec<Step> {
            let width = panels.part(panel).len() * V::LANES;
            let taps = (0..depth).flat_map(|c| phase.taps.iter().map(move |tap| (c, tap)));
            taps.enumerate()
                .map(|(d, (c, tap))| Step { a: c * channel + frame.offset(tap, part_rows), b: d * width })
                .collect()
        };
        Ok(Channels {
            job,
            images,
            lines,
            chunks: [job.images.div_ceil(images), line_blocks, job.groups, row_blocks],
            depth,
            panels,
            part_rows,
            channel,
            image: if direct { job.groups * job.depth * channel } else { depth * channel },
            steps: job.phases.iter().map(|p| [steps(p, 0), steps(p, panels.parts - 1)]).collect(),
            first: job
                .phases
                .iter()
                .scan(0, |at, p| Some(std::mem::replace(at, *at + job.depth * p.taps.len())))
                .collect(),
        })
    }

    /// # Safety
    /// As for `Correlation::run`.
    pub unsafe fn run<V: Simd<Elem = T>>(&self, done: Done) -> Result<()> {
        let (job, vectors) = (self.job, self.job.rows.div_ceil(V::LANES));
        let group = vectors * V::LANES * job.terms();
        let packed = memory::<T>(group.saturating_mul(job.groups))?;
        let weights = Shared::new(packed.ptr().cast::<T>());
        try_parallel(job.groups * vectors, |i| {
            let (g, v) = (i / vectors, i % vectors);
            scratch::with(job.kernel() * V::LANES, |staged| {
                // SAFETY: the caller's promises; each part packs its own vector.
                unsafe { V::run(Pack::<V> { all: self, g, v, staged, to: weights.at(g * group) }) }
            })
        })?;
        let [_, lines, groups, rows] = self.chunks;
        try_parallel(self.chunks.iter().product(), |index| {
            let cut = |count: usize, block: usize, i: usize| i * block..count.min((i + 1) * block);
            let (rest, panels) = (index / rows, share(self.panels.parts, rows, index % rows));
            let g = rest % groups;
            let last = self.panels.part(panels.end - 1);
            let chunk = Chunk {
                rows: self.panels.part(panels.start).start * V::LANES..job.rows.min(last.end * V::LANES),
                groups: g..g + 1,
                lines: cut(job.frame.grid[0], self.lines, rest / groups % lines),
                images: cut(job.images, self.images, rest / groups / lines),
            };
            // SAFETY: the caller's promises; chunks write disjoint parts of `dst`.
            unsafe { self.chunk::<V>(&chunk, panels, weights.at(g * group))? };
            if let Some(done) = done {
                job.report(&chunk, done);
            }
            Ok(())
        })
    }

    /// The positions of a chunk, and the part of each result plane that they make up.
    fn positions(&self, chunk: &Chunk) -> (Positions, Range<usize>) {
        let job = self.job;
        let [line, step] = job.phases[0].step;
        let start = chunk.lines.start.saturating_mul(line).min(job.area);
        let end = match chunk.lines.end == job.frame.grid[0] {
            true => job.area,
            false => chunk.lines.end.saturating_mul(line).min(job.area),
        };
        let mut at = Positions { from: vec![], phases: vec![], order: vec![] };
        // What no phase reaches has the number behind the last position, where there are zeros.
        at.order.resize(chunk.images.len() * (end - start), usize::MAX);
        for phase in &job.phases {
            let first = at.from.len();
            for n in 0..chunk.images.len() {
                for i in 0..chunk.lines.end.min(phase.grid[0]).saturating_sub(chunk.lines.start) {
                    for j in 0..phase.grid[1] {
                        at.order[n * (end - start) + phase.origin + i * line + j * step] = at.from.len();
                        at.from.push(n * self.image + i * job.frame.pitch + j);
                    }
                }
            }
            at.phases.push(first..at.from.len());
        }
        at.order.iter_mut().for_each(|slot| *slot = (*slot).min(at.from.len()));
        (at, start..end)
    }

    unsafe fn chunk<V: Simd<Elem = T>>(
        &self,
        chunk: &Chunk,
        panels: Range<usize>,
        weights: *const T,
    ) -> Result<()> {
        let job = self.job;
        let (positions, part) = self.positions(chunk);
        let slots = positions.from.len() + 1;
        let first = self.panels.part(panels.start).start;
        // Where the sums of a panel begin.
        let sums_of = |panel: usize| {
            let start = self.panels.part(panel).start - first;
            start * V::LANES * slots + (panel - panels.start) * APART
        };
        let direct = job.frame.is_input();
        let room = if direct { 0 } else { chunk.images.len() * self.image + slack::<V>(&job.frame) };
        let room = room.next_multiple_of(16);
        let sums = sums_of(panels.end - 1) + self.panels.part(panels.end - 1).len() * V::LANES * slots;
        scratch::with(room.saturating_add(sums), |memory: *mut T| {
            // SAFETY: the offsets are within what was asked for; the rest is the caller's promise.
            unsafe {
                let sums = memory.add(room);
                for c in (0..job.depth).step_by(self.depth) {
                    let channels = c..job.depth.min(c + self.depth);
                    let planes = self.planes::<V>(chunk, &channels, memory);
                    for p in panels.clone() {
                        let panel = self.panels.part(p);
                        let (lanes, narrow) =
                            (panel.len() * V::LANES, panel.len() < self.panels.part(0).len());
                        let weights = weights.add(panel.start * V::LANES * job.terms());
                        let sums = sums.add(sums_of(p));
                        sums.add(positions.from.len() * lanes).write_bytes(0, lanes);
                        for (i, slots) in positions.phases.iter().enumerate() {
                            let taps = job.phases[i].taps.len();
                            let steps = &self.steps[i][usize::from(narrow)][..channels.len() * taps];
                            let b = weights.add((self.first[i] + c * taps) * lanes);
                            for strip in Even::at_most(slots.len(), V::ROWS).iter() {
                                let strip = slots.start + strip.start..slots.start + strip.end;
                                let mut a = [planes; MAX_ROWS];
                                for (a, from) in a.iter_mut().zip(&positions.from[strip.clone()]) {
                                    *a = planes.add(*from);
                                }
                                let c_at = sums.add(strip.start * lanes);
                                let init = if c > 0 { c_at.cast_const() } else { std::ptr::null() };
                                let sums = Tile { steps, a, b, init, init_row: lanes, c: c_at, c_row: lanes };
                                if !strip.is_empty() {
                                    tile::<V>(strip.len(), panel.len(), &sums);
                                }
                            }
                        }
                    }
                }
                for p in panels.clone() {
                    let panel = self.panels.part(p);
                    for v in panel.clone() {
                        for n in 0..chunk.images.len() {
                            let k = v * V::LANES;
                            let plane =
                                ((chunk.images.start + n) * job.groups + chunk.groups.start) * job.rows + k;
                            V::run(Turn::<V> {
                                from: sums.add(sums_of(p) + (v - panel.start) * V::LANES),
                                from_row: panel.len() * V::LANES,
                                order: &positions.order[n * part.len()..(n + 1) * part.len()],
                                rows: V::LANES.min(job.rows - k),
                                to: job.dst.add(plane * job.area + part.start),
                                to_row: job.area,
                            });
                        }
                    }
                }
            }
        })
    }

    /// The planes of some channels, from the chunk's first line on: in place, or made in `memory`.
    unsafe fn planes<V: Simd<Elem = T>>(
        &self,
        chunk: &Chunk,
        channels: &Range<usize>,
        memory: *mut T,
    ) -> *const T {
        let job = self.job;
        let plane = job.frame.size[0] * job.frame.size[1];
        let first = (chunk.images.start * job.groups + chunk.groups.start) * job.depth + channels.start;
        // SAFETY: within the input and within the memory for planes, by the sizes.
        unsafe {
            let src = job.src.add(first * plane);
            if job.frame.is_input() {
                return src.add(chunk.lines.start * job.frame.pitch);
            }
            for n in 0..chunk.images.len() {
                V::run(Fill::<V> {
                    frame: &job.frame,
                    from: src.add(n * job.groups * job.depth * plane),
                    channels: channels.len(),
                    first: chunk.lines.start,
                    rows: self.part_rows,
                    to: memory.add(n * self.image),
                });
            }
        }
        memory
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

//! The engine behind the forward pass and the gradient of the input: both are correlations, of `x` with
//! the weights and of `dy` with the weights turned around.
//!
//! For every group, row `k` and position `p`: `dst[k, p] = Σ_(c, t) w[k, c, t] · src[c, p + tap t]`, a
//! matrix product whose right factor, (c, t) by p, is never written out. Its columns are taken in panels
//! of a few registers; a panel's rows are read
//!
//! - *in place* from the planes, each at its tap's offset, positions running on over the ends of rows
//!   (what the lanes in between compute is dropped); or
//! - *packed*, without such gaps and across images, which costs a copy for each row of the panel and
//!   pays when planes are small or many output channels share the copy.
//!
//! Blocking: a chunk is a block of positions (whole images, or rows of one), of groups and of rows `k`.
//! It takes channels in blocks of ~`DEPTH` terms, so that the panels stay in L2 while the weights of one
//! tile's rows, in L1, run along them. Sums wait in `partial` between blocks of channels.

use std::ops::Range;

use super::Done;
use super::planes::{Fill, Frame, Tap, slack};
use super::scratch;
use super::simd::{Float, Simd};
use super::tile::{Emit, MAX_ROWS, MAX_TILE, Move, Pack, Piece, Step, Tile, tile};
use crate::core::Result;
use crate::cpu::work::{Shared, try_parallel};

/// Terms of a sum that are taken at a time.
pub const DEPTH: usize = 384;
/// Elements of the panels of a chunk: most of a small L2.
const PANELS: usize = 96 << 10;
/// Elements that a chunk writes.
const OUTPUT: usize = 64 << 10;
/// Multiplications that are worth a chunk of their own.
pub const WORK: usize = 256 << 10;
/// Chunks are made smaller while there are fewer than this.
pub const CHUNKS: usize = 32;

/// Positions of the result that share their taps, and where they lie in a result plane:
/// `origin + i·step[0] + j·step[1]`.
#[derive(Clone, Debug)]
pub struct Phase {
    pub grid: [usize; 2],
    pub taps: Vec<Tap>,
    pub origin: usize,
    pub step: [usize; 2],
}

pub struct Correlation<T> {
    pub images: usize,
    pub groups: usize,
    /// Channels of `src` and of `dst` in a group.
    pub depth: usize,
    pub rows: usize,
    pub src: *const T,
    /// Weights: elements between rows, between channels, between groups.
    pub weight: *const T,
    pub weight_row: usize,
    pub weight_channel: usize,
    pub weight_group: usize,
    pub dst: *mut T,
    /// Elements of a result plane.
    pub area: usize,
    pub frame: Frame,
    /// How far apart the frame's planes have neighbouring positions.
    pub apart: [usize; 2],
    pub phases: Vec<Phase>,
}

// SAFETY: the pointers are inputs, which are only read, and the result, of which chunks write disjoint
// parts.
unsafe impl<T: Float> Sync for Correlation<T> {}

/// How a correlation is cut up.
struct Plan {
    /// Images, output lines and groups in a chunk, and how many chunks there are, with those that divide
    /// the rows.
    images: usize,
    lines: usize,
    groups: usize,
    chunks: [usize; 4],
    /// Channels that are taken at a time.
    channels: usize,
    packed: bool,
    /// Registers across a panel.
    width: usize,
    /// Rows of a part, and elements between channels, in planes as the tiles read them.
    part_rows: usize,
    channel: usize,
    /// For each phase, the terms of a sum over one block of channels, with offsets into the planes; and
    /// the same for packed panels.
    steps: Vec<Vec<Step>>,
    packed_steps: Vec<Vec<Step>>,
}

/// One chunk, in elements of the whole.
pub struct Chunk {
    pub images: Range<usize>,
    pub lines: Range<usize>,
    pub groups: Range<usize>,
    pub rows: Range<usize>,
}

/// Columns of the product that a tile takes together.
struct Panel {
    width: usize,
    /// Offset of its first position in the planes, when it is read in place.
    from: usize,
    moves: Range<usize>,
    pieces: Range<usize>,
    /// Whether its lanes are neighbours in the result, all of them.
    whole: bool,
}

/// Cuts `count` into the fewest equal blocks of at most `limit`; the length of a block.
pub fn even(count: usize, limit: usize) -> usize {
    let limit = limit.clamp(1, count.max(1));
    count.div_ceil(count.div_ceil(limit).max(1)).max(1)
}

/// The i-th of `blocks` nearly equal parts of `0..count`.
pub fn share(count: usize, blocks: usize, i: usize) -> Range<usize> {
    let (each, more) = (count / blocks, count % blocks);
    let start = i * each + i.min(more);
    start..start + each + usize::from(i < more)
}

impl<T: Float> Correlation<T> {
    /// Computes it with `V`'s instructions; positions lie side by side in the frame's planes. `done` is told of finished ranges of `dst`.
    ///
    /// # Safety
    /// The processor has the instructions, the pointers have what the sizes say, and nothing else
    /// reads or writes `dst` meanwhile.
    pub unsafe fn run<V: Simd<Elem = T>>(&self, done: Done) -> Result<()> {
        if self.phases.iter().map(|p| p.grid[0] * p.grid[1]).sum::<usize>() < self.area {
            // SAFETY: the caller's promises, passed on.
            unsafe { clear(self.dst, self.images * self.groups * self.rows * self.area) };
        }
        if self.phases.is_empty() {
            return Ok(());
        }
        let plan = self.plan::<V>()?;
        try_parallel(plan.chunks.iter().product(), |index| {
            let [images, lines, groups, rows] = plan.chunks;
            let cut = |count: usize, block: usize, i: usize| i * block..count.min((i + 1) * block);
            let (rest, i) = (index / rows, index % rows);
            let row_range = share(self.rows, rows, i);
            let chunk = Chunk {
                rows: row_range,
                groups: cut(self.groups, plan.groups, rest % groups),
                lines: cut(self.frame.grid[0], plan.lines, rest / groups % lines),
                images: cut(self.images, plan.images, rest / groups / lines % images.max(1)),
            };
            // SAFETY: the caller's promises; chunks write disjoint parts of `dst`.
            unsafe { self.chunk::<V>(&plan, &chunk)? };
            if let Some(done) = done {
                self.report(&chunk, done);
            }
            Ok(())
        })
    }

    fn plan<V: Simd<Elem = T>>(&self) -> Result<Plan> {
        let frame = &self.frame;
        let taps = self.phases.iter().map(|p| p.taps.len()).max().unwrap_or(0);
        let channels = even(self.depth, DEPTH / taps.max(1));
        let terms = (channels * taps).max(1);
        let positions: usize = self.phases.iter().map(|p| p.grid[0] * p.grid[1]).sum();
        let per_line = self.phases.iter().map(|p| p.grid[1]).sum::<usize>().max(1);

        // Positions: a whole image or several if they fit, else lines of one.
        let target = (PANELS / terms).clamp(240, 4096).min((OUTPUT / self.rows.max(1)).max(96));
        let (mut images, mut lines) = (1, frame.grid[0]);
        if positions > target {
            lines = even(lines, target / per_line);
        } else {
            images = even(self.images, target / positions.max(1));
        }
        let line_blocks = frame.grid[0].div_ceil(lines);

        // Fewer rows, then fewer images and more groups in a chunk, until chunks are many enough and worth
        // it. A chunk with fewer rows makes its panels for fewer; one with fewer images goes through the
        // weights for fewer.
        let work = |count: usize| {
            [self.groups, self.rows, self.depth, taps, positions]
                .iter()
                .fold(count, |a, &b| a.saturating_mul(b))
        };
        let want = (work(self.images) / WORK).clamp(1, CHUNKS);
        let blocks = (self.images.div_ceil(images) * line_blocks).saturating_mul(self.groups).max(1);
        let row_blocks = want.div_ceil(blocks).min(self.rows / (4 * V::ROWS)).max(1);
        if images > 1 {
            let each = self.images.saturating_mul(self.groups).saturating_mul(row_blocks) / want;
            images = even(self.images, images.min(each.max(1)));
        }
        let blocks = self.images.div_ceil(images) * line_blocks * row_blocks;
        let chunk_work = work(images) / self.groups.max(1) / line_blocks.max(1) / row_blocks;
        let together = (WORK / chunk_work.max(1)).min(blocks.saturating_mul(self.groups) / want);
        let groups = even(self.groups, together);

        let rows = self.rows.div_ceil(row_blocks);
        let width = V::WIDTHS[even(rows, V::ROWS) - 1];
        let packed = self.packing_pays(V::LANES, images, lines, rows);

        let part_rows = if frame.is_input() { frame.size[0] } else { lines + frame.reach[0] };
        let channel = frame.channel(part_rows)?;
        let mut plan = Plan {
            images,
            lines,
            groups,
            chunks: [self.images.div_ceil(images), line_blocks, self.groups.div_ceil(groups), row_blocks],
            channels,
            packed,
            width,
            part_rows,
            channel,
            steps: vec![],
            packed_steps: vec![],
        };
        if self.area == 0 || self.rows == 0 {
            plan.chunks[0] = 0;
        }
        for phase in &self.phases {
            let mut steps = Vec::with_capacity(channels * phase.taps.len());
            for c in 0..channels.min(self.depth) {
                steps.extend(phase.taps.iter().map(|tap| Step {
                    a: c * self.weight_channel + tap.weight,
                    b: c * channel + frame.offset(tap, part_rows),
                }));
            }
            if packed {
                let lanes = width * V::LANES;
                plan.packed_steps
                    .push(steps.iter().enumerate().map(|(d, s)| Step { a: s.a, b: d * lanes }).collect());
            }
            plan.steps.push(steps);
        }
        Ok(plan)
    }

    /// Whether packed panels cost less than panels in place. Counts half cycles per output position of
    /// the largest phase: a multiplication takes 1 per register, a copy 8, a piece of a tile's row 12.
    fn packing_pays(&self, lanes: usize, images: usize, lines: usize, rows: usize) -> bool {
        let Some(phase) = self.phases.iter().max_by_key(|p| p.taps.len()) else { return false };
        let (pitch, [height, width]) = (self.frame.pitch, phase.grid);
        let terms = (self.depth * phase.taps.len()) as f64;
        let (rows, lanes_f) = (rows as f64, lanes as f64);
        let lines = lines.min(height).max(1);
        let used = (lines * width) as f64;
        let in_place = (((lines - 1) * pitch + width).div_ceil(lanes) * lanes) as f64;
        let dense = if images > 1 { used } else { ((lines * width).div_ceil(lanes) * lanes) as f64 };
        let multiply = rows * terms / lanes_f;
        let scatter = rows * (12.0 / width as f64 + 3.0 / lanes_f);
        let copy = terms * 8.0 * (1.0 / width as f64 + 1.0 / lanes_f);
        // In place, each channel of a large input is a page of its own, and more than the processor's
        // table of pages holds.
        let pages = self.frame.is_input() && self.depth > 64 && self.frame.size[0] * self.frame.size[1] > 512;
        let in_place = if pages { 1.5 * in_place } else { in_place };
        let contiguous = phase.step == [width, 1];
        let in_place = multiply * in_place / used + if contiguous && pitch == width { 0.0 } else { scatter };
        let dense = multiply * dense / used + copy + if contiguous { 0.0 } else { scatter };
        dense < in_place
    }

    /// Tells `done` what a chunk has written, if there is one phase and so lines are lines of `dst`.
    pub fn report(&self, chunk: &Chunk, done: &(dyn Fn(usize, usize) + Sync)) {
        let [height, width] = self.phases[0].grid;
        let all_lines = chunk.lines.len() == height;
        for n in chunk.images.clone() {
            for g in chunk.groups.clone() {
                let first = ((n * self.groups + g) * self.rows + chunk.rows.start) * self.area;
                if all_lines {
                    done(first, chunk.rows.len() * self.area);
                } else {
                    for k in 0..chunk.rows.len() {
                        done(first + k * self.area + chunk.lines.start * width, chunk.lines.len() * width);
                    }
                }
            }
        }
    }

    unsafe fn chunk<V: Simd<Elem = T>>(&self, plan: &Plan, chunk: &Chunk) -> Result<()> {
        let Frame { size, reach, .. } = self.frame;
        let (plane, pitch) = (size[0] * size[1], self.frame.pitch);
        let per_image = self.groups * self.depth * plane;
        // The input's own planes will do, unless a register would read past the last of them.
        let last = (chunk.images.end - 1) * per_image
            + (chunk.groups.end * self.depth).saturating_sub(1) * plane
            + (chunk.lines.end + reach[0]) * pitch;
        let slack = slack::<V>(&self.frame);
        let direct = self.frame.is_input() && last + V::LANES <= self.images * per_image;
        let image = if direct { per_image } else { plan.channels * plan.channel };

        let lanes = plan.width * V::LANES;
        let mut lists = Lists::default();
        let panels: Vec<Range<usize>> = self
            .phases
            .iter()
            .map(|phase| {
                let first = lists.panels.len();
                lists.add::<V>(self, plan, phase, chunk, image);
                first..lists.panels.len()
            })
            .collect();
        let blocks = self.depth.div_ceil(plan.channels).max(1);
        let most = panels.iter().map(|p| p.len()).max().unwrap_or(0);
        let terms = plan.steps.iter().map(|s| s.len()).max().unwrap_or(0);
        let room = [
            if direct { 0 } else { chunk.images.len().saturating_mul(image) + slack },
            if plan.packed { most.saturating_mul(terms * lanes) + slack } else { 0 },
            if blocks > 1 { lists.panels.len() * chunk.rows.len() * lanes } else { 0 },
        ];
        let room = room.map(|n| n.next_multiple_of(16));
        scratch::with(room.iter().fold(0, |a: usize, &b| a.saturating_add(b)), |memory: *mut T| {
            // SAFETY: the offsets are within what was asked for; the rest is the caller's promise.
            unsafe {
                let (packed, partial) = (memory.add(room[0]), memory.add(room[0] + room[1]));
                for g in chunk.groups.clone() {
                    for block in 0..blocks {
                        let channels = block * plan.channels..self.depth.min((block + 1) * plan.channels);
                        let first = (chunk.images.start * self.groups + g) * self.depth + channels.start;
                        let src = self.src.add(first * plane);
                        let planes = if direct {
                            src.add(chunk.lines.start * pitch)
                        } else {
                            self.fill::<V>(plan, chunk, src, channels.len(), memory)
                        };
                        for (phase, panels) in panels.iter().enumerate() {
                            let work = Block {
                                phase: &self.phases[phase],
                                steps: &plan.steps[phase][..channels.len() * self.phases[phase].taps.len()],
                                packed_steps: plan.packed_steps.get(phase).map_or(&[][..], |s| s),
                                panels: panels.clone(),
                                planes,
                                packed,
                                partial,
                                group: g,
                                channel: channels.start,
                                first: block == 0,
                                last: block + 1 == blocks,
                            };
                            self.block::<V>(plan, chunk, &lists, &work);
                        }
                    }
                }
            }
        })
    }

    /// Makes the planes of a block of channels, and returns where line `chunk.lines.start` begins.
    unsafe fn fill<V: Simd<Elem = T>>(
        &self,
        plan: &Plan,
        chunk: &Chunk,
        src: *const T,
        channels: usize,
        to: *mut T,
    ) -> *const T {
        let whole = self.frame.is_input();
        let plane = self.frame.size[0] * self.frame.size[1];
        let first = if whole { 0 } else { chunk.lines.start };
        for n in 0..chunk.images.len() {
            // SAFETY: the caller's promise.
            unsafe {
                V::run(Fill::<V> {
                    frame: &self.frame,
                    from: src.add(n * self.groups * self.depth * plane),
                    channels,
                    first,
                    rows: plan.part_rows,
                    to: to.add(n * plan.channels * plan.channel),
                });
            }
        }
        // SAFETY: within the planes just made.
        unsafe { to.add((chunk.lines.start - first) * self.frame.pitch) }
    }

    /// All tiles of a chunk over one block of channels and one phase.
    unsafe fn block<V: Simd<Elem = T>>(&self, plan: &Plan, chunk: &Chunk, lists: &Lists, work: &Block<T>) {
        let lanes = plan.width * V::LANES;
        let panels = &lists.panels[work.panels.clone()];
        let size = work.steps.len() * lanes;
        // SAFETY: the lists and steps were made for these planes.
        unsafe {
            if plan.packed {
                for (i, panel) in panels.iter().enumerate() {
                    V::run(Pack::<V> {
                        from: work.planes,
                        steps: work.steps,
                        moves: &lists.moves[panel.moves.clone()],
                        panel: work.packed.add(i * size),
                        lanes,
                    });
                }
            }
            let steps = if plan.packed { &work.packed_steps[..work.steps.len()] } else { work.steps };
            let weight = self.weight.add(work.group * self.weight_group + work.channel * self.weight_channel);
            let dst = self.dst.add((chunk.images.start * self.groups + work.group) * self.rows * self.area);
            let mut corner = [const { std::mem::MaybeUninit::<T>::uninit() }; MAX_TILE];
            let corner = corner.as_mut_ptr().cast::<T>();

            let blocks = chunk.rows.len().div_ceil(V::ROWS);
            for i in 0..blocks {
                let rows = share(chunk.rows.len(), blocks, i);
                let k = chunk.rows.start + rows.start;
                let mut a = [weight; MAX_ROWS];
                for (r, a) in a.iter_mut().enumerate().take(rows.len()) {
                    *a = weight.add((k + r) * self.weight_row);
                }
                for (p, panel) in panels.iter().enumerate().filter(|(_, panel)| !panel.pieces.is_empty()) {
                    let waiting =
                        work.partial.add(((work.panels.start + p) * chunk.rows.len() + rows.start) * lanes);
                    let out = dst.add(k * self.area);
                    let (c, c_row) = match (work.last, panel.whole) {
                        (false, _) => (waiting, lanes),
                        (true, true) => (out.add(lists.pieces[panel.pieces.start].to), self.area),
                        (true, false) => (corner, lanes),
                    };
                    let sums = Tile {
                        steps,
                        a,
                        b: if plan.packed { work.packed.add(p * size) } else { work.planes.add(panel.from) },
                        init: if work.first { std::ptr::null() } else { waiting },
                        init_row: lanes,
                        c,
                        c_row,
                    };
                    tile::<V>(rows.len(), panel.width, &sums);
                    if work.last && !panel.whole {
                        V::run(Emit::<V> {
                            from: corner,
                            from_row: lanes,
                            to: out,
                            to_row: self.area,
                            rows: rows.len(),
                            pieces: &lists.pieces[panel.pieces.clone()],
                            stride: work.phase.step[1],
                        });
                    }
                }
            }
        }
    }
}

/// One phase of one block of channels, within a chunk.
struct Block<'a, T> {
    phase: &'a Phase,
    steps: &'a [Step],
    packed_steps: &'a [Step],
    panels: Range<usize>,
    planes: *const T,
    packed: *mut T,
    partial: *mut T,
    group: usize,
    channel: usize,
    first: bool,
    last: bool,
}

/// The panels of a chunk, with their moves and pieces.
#[derive(Default)]
struct Lists {
    panels: Vec<Panel>,
    moves: Vec<Move>,
    pieces: Vec<Piece>,
}

impl Lists {
    /// Adds the panels of a phase; `image` is the distance of images in the planes.
    fn add<V: Simd>(
        &mut self,
        job: &Correlation<V::Elem>,
        plan: &Plan,
        phase: &Phase,
        chunk: &Chunk,
        image: usize,
    ) where
        V::Elem: Float,
    {
        let (pitch, width) = (job.frame.pitch, phase.grid[1]);
        let lines = chunk.lines.end.min(phase.grid[0]).saturating_sub(chunk.lines.start);
        if lines == 0 || width == 0 {
            return;
        }
        let per_image = job.groups * job.rows * job.area;
        let origin = phase.origin + chunk.lines.start * phase.step[0];
        let to =
            |n: usize, i: usize, j: usize| n * per_image + origin + i * phase.step[0] + j * phase.step[1];
        if plan.packed {
            let total = chunk.images.len() * lines * width;
            let (mut n, mut i, mut j) = (0, 0, 0);
            self.cut::<V>(plan.width, total, phase.step[1], |lists, lane, left| {
                let len = left.min(width - j);
                let from = n * image + i * pitch + j;
                lists
                    .moves
                    .extend((0..len).step_by(V::LANES).map(|x| Move { from: from + x, lane: lane + x }));
                let piece = Piece { lane, len, to: to(n, i, j) };
                j += len;
                if j == width {
                    (i, j) = (i + 1, 0);
                }
                if i == lines {
                    (n, i) = (n + 1, 0);
                }
                (len, Some(piece))
            });
        } else {
            for n in 0..chunk.images.len() {
                let total = (lines - 1) * pitch + width;
                let first = self.panels.len();
                let mut q = 0;
                self.cut::<V>(plan.width, total, phase.step[1], |_, lane, left| {
                    let (i, j) = (q / pitch, q % pitch);
                    let (len, piece) = if j < width {
                        let len = left.min(width - j);
                        (len, Some(Piece { lane, len, to: to(n, i, j) }))
                    } else {
                        (left.min(pitch - j), None)
                    };
                    q += len;
                    (len, piece)
                });
                let mut q = n * image;
                for panel in &mut self.panels[first..] {
                    panel.from = q;
                    q += panel.width * V::LANES;
                }
            }
        }
    }

    /// Cuts `total` positions into panels of at most `width` registers. `next(lists, lane, left)` tells of
    /// the positions from `lane` on how many are in one piece, at most `left`, and the piece, if any.
    fn cut<V: Simd>(
        &mut self,
        width: usize,
        total: usize,
        stride: usize,
        mut next: impl FnMut(&mut Lists, usize, usize) -> (usize, Option<Piece>),
    ) {
        let registers = total.div_ceil(V::LANES);
        let panels = registers.div_ceil(width);
        let mut rest = total;
        for p in 0..panels {
            let width = share(registers, panels, p).len();
            let lanes = width * V::LANES;
            let (moves, pieces) = (self.moves.len(), self.pieces.len());
            let mut lane = 0;
            while lane < lanes.min(rest) {
                let (len, piece) = next(self, lane, lanes.min(rest) - lane);
                if let Some(piece) = piece {
                    let within = self.pieces.len() > pieces;
                    match self.pieces.last_mut().filter(|_| within) {
                        Some(last)
                            if last.lane + last.len == piece.lane
                                && last.to + last.len * stride == piece.to =>
                        {
                            last.len += piece.len;
                        }
                        _ => self.pieces.push(piece),
                    }
                }
                lane += len;
            }
            rest -= lane;
            let whole = stride == 1 && self.pieces.len() == pieces + 1 && self.pieces[pieces].len == lanes;
            self.panels.push(Panel {
                width,
                from: 0,
                moves: moves..self.moves.len(),
                pieces: pieces..self.pieces.len(),
                whole,
            });
        }
    }
}

/// Zeros for results that no phase reaches.
///
/// # Safety
/// `count` elements are there, and nothing else uses them meanwhile.
pub unsafe fn clear<T: Float>(to: *mut T, count: usize) {
    const PART: usize = 1 << 18;
    let to = Shared::new(to);
    crate::cpu::threads::parallel(count.div_ceil(PART), |i| {
        let len = PART.min(count - i * PART);
        // SAFETY: all zeros is a float; the parts are disjoint.
        unsafe { to.at(i * PART).write_bytes(0, len) };
    });
}

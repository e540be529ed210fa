//! The gradient of the weights, a sum over images and positions:
//! `dw[k, c, t] = Σ_(n, p) dy[n, k, p] · x[n, c, p + tap t]`.
//!
//! - *Products*: tiles of `dw` turned around, taps (c, t) as rows and output channels along the lanes.
//!   `x` is broadcast in place from its planes; `dy` is transposed, a block of positions at a time.
//! - *Dots*: positions along the lanes, a tile of dot products. For a few output channels, which
//!   would leave lanes empty, and for a few taps, which would not pay for transposing `dy`; depthwise
//!   convolutions are both.
//!
//! A chunk is a block of groups, or of channels and output channels of one, and a share of the images.
//! Shares are summed at the end in their order; how many there are depends on shapes alone.

use std::ops::Range;

use super::correlate::{even, share};
use super::planes::{Fill, Frame, Tap, slack};
use super::scratch::{self, memory};
use super::simd::{Float, Simd};
use super::tile::{Dot, MAX_DOT, MAX_ROWS, Step, Tile, Transpose, dot, tile};
use crate::core::Result;
use crate::cpu::threads;
use crate::cpu::work::{Shared, try_parallel};

/// Positions that are taken at a time by products.
const POSITIONS: usize = 256;
/// Rows of a block of products, and lanes.
const ROWS: usize = 288;
const LANES: usize = 192;
/// Elements of `x` and `dy` that dots go over at a time.
const PART: usize = 48 << 10;
/// Multiplications that are worth a chunk of their own, and how many chunks are wanted.
const WORK: usize = 256 << 10;
const CHUNKS: usize = 32;

pub struct WeightGrad<T> {
    pub images: usize,
    pub groups: usize,
    /// Channels of `x` and of `dy` in a group.
    pub depth: usize,
    pub rows: usize,
    pub x: *const T,
    pub dy: *const T,
    pub dw: *mut T,
    pub frame: Frame,
    pub taps: Vec<Tap>,
}

// SAFETY: the pointers are inputs, which are only read, and the result, of which chunks write disjoint
// parts.
unsafe impl<T: Float> Sync for WeightGrad<T> {}

/// A part of the sum: images, and lines of them.
#[derive(Clone)]
struct Item {
    images: Range<usize>,
    lines: Range<usize>,
}

/// A block of the result: some channels and output channels of a group.
struct Block {
    group: usize,
    channels: Range<usize>,
    ks: Range<usize>,
}

/// How the sum is cut into items: images or lines in each, and how many shares of items there are.
struct Cut {
    images: usize,
    lines: usize,
    line_blocks: usize,
    count: usize,
    shares: usize,
    /// Rows of a part, and elements between channels and images, in the planes.
    part_rows: usize,
    channel: usize,
    image: usize,
    direct: bool,
}

impl Cut {
    fn item(&self, job: &WeightGrad<impl Float>, i: usize) -> Item {
        let cut = |count: usize, block: usize, i: usize| i * block..count.min((i + 1) * block);
        Item {
            images: cut(job.images, self.images, i / self.line_blocks),
            lines: cut(job.frame.grid[0], self.lines, i % self.line_blocks),
        }
    }
}

impl<T: Float> WeightGrad<T> {
    /// Computes it with `V`'s instructions.
    ///
    /// # Safety
    /// The processor has the instructions, the pointers have what the sizes say, and nothing else
    /// reads or writes `dw` meanwhile.
    pub unsafe fn run<V: Simd<Elem = T>>(&self) -> Result<()> {
        // SAFETY: the caller's promises, passed on.
        unsafe {
            if self.rows < V::LANES || self.depth * self.taps.len() < 16 {
                self.dots::<V>()
            } else {
                self.products::<V>()
            }
        }
    }

    fn positions(&self) -> usize {
        self.frame.grid[0] * self.frame.grid[1]
    }

    /// Cuts the sum into items of about `target` positions; `blocks` is into how many chunks the
    /// result alone is cut, and planes hold `channels` at a time.
    fn cut(&self, target: usize, blocks: usize, channels: usize) -> Result<Cut> {
        let grid = self.frame.grid;
        let positions = self.positions();
        let (mut images, mut lines) = (1, grid[0]);
        if positions > target {
            lines = even(lines, target / grid[1]);
        } else {
            images = even(self.images, target / positions.max(1));
        }
        let terms = [self.groups, self.rows, self.depth, self.taps.len(), positions];
        let work = terms.iter().fold(self.images, |a, &b| a.saturating_mul(b));
        let want = (work / WORK).clamp(1, CHUNKS).div_ceil(blocks.max(1));
        if images > 1 {
            images = even(self.images, images.min((self.images / want).max(1)));
        }
        let line_blocks = grid[0].div_ceil(lines);
        let count = self.images.div_ceil(images) * line_blocks;
        let direct = self.frame.is_input();
        let part_rows = if direct { self.frame.size[0] } else { lines + self.frame.reach[0] };
        let channel = self.frame.channel(part_rows)?;
        let image = if direct { self.groups * self.depth * channel } else { channels * channel };
        Ok(Cut {
            images,
            lines,
            line_blocks,
            count,
            shares: want.min(count).max(1),
            part_rows,
            channel,
            image,
            direct,
        })
    }

    /// The planes of some channels for an item: in place, or made in `memory`.
    unsafe fn planes<V: Simd<Elem = T>>(
        &self,
        cut: &Cut,
        item: &Item,
        g: usize,
        channels: &Range<usize>,
        memory: *mut T,
    ) -> *const T {
        let plane = self.frame.size[0] * self.frame.size[1];
        let first = (item.images.start * self.groups + g) * self.depth + channels.start;
        // SAFETY: within `x` and within the memory for planes, by the sizes.
        unsafe {
            let x = self.x.add(first * plane);
            if cut.direct {
                return x.add(item.lines.start * self.frame.pitch);
            }
            for n in 0..item.images.len() {
                V::run(Fill::<V> {
                    frame: &self.frame,
                    from: x.add(n * self.groups * self.depth * plane),
                    channels: channels.len(),
                    first: item.lines.start,
                    rows: cut.part_rows,
                    to: memory.add(n * cut.image),
                });
            }
        }
        memory
    }

    /// Elements that the planes of an item need.
    fn room<V: Simd>(&self, cut: &Cut) -> usize {
        let slack = slack::<V>(&self.frame);
        if cut.direct { 0 } else { (cut.images.saturating_mul(cut.image) + slack).next_multiple_of(16) }
    }

    unsafe fn products<V: Simd<Elem = T>>(&self) -> Result<()> {
        let taps = self.taps.len();
        let channels = even(self.depth, ROWS / taps);
        let columns = even(self.rows.div_ceil(V::LANES), LANES / V::LANES) * V::LANES;
        let [c_blocks, k_blocks] = [self.depth.div_ceil(channels), self.rows.div_ceil(columns)];
        let cut = self.cut(POSITIONS, self.groups * c_blocks * k_blocks, channels)?;
        // The result turned around, block by block: (c, t) by k. A single share waits in the thread's own
        // memory, several next to each other.
        let blocks = self.groups * c_blocks * k_blocks;
        let block_size = (channels * taps).saturating_mul(columns);
        let waiting =
            if cut.shares > 1 { blocks.saturating_mul(block_size).saturating_mul(cut.shares) } else { 0 };
        let waiting_memory = memory::<T>(waiting)?;
        let waiting = Shared::new(waiting_memory.ptr().cast::<T>());
        let block_at = |index: usize| {
            let (rest, k_block) = (index / k_blocks, index % k_blocks);
            let (group, c_block) = (rest / c_blocks, rest % c_blocks);
            let channels = c_block * channels..self.depth.min((c_block + 1) * channels);
            let ks = k_block * columns..self.rows.min((k_block + 1) * columns);
            Block { group, channels, ks }
        };

        // Panels of `dy`, at most so wide, equally wide but for one register.
        let width = V::WIDTHS[V::ROWS - 1];
        let lanes = width * V::LANES;
        let per_item = cut.images * cut.lines * self.frame.grid[1];
        let pitch = self.frame.pitch;
        let mut steps = Vec::with_capacity(per_item);
        for n in 0..cut.images {
            for i in 0..cut.lines {
                for j in 0..self.frame.grid[1] {
                    steps.push(Step { a: n * cut.image + i * pitch + j, b: steps.len() * lanes });
                }
            }
        }
        let offsets: Vec<usize> = (0..channels)
            .flat_map(|c| self.taps.iter().map(move |tap| (c, tap)))
            .map(|(c, tap)| c * cut.channel + self.frame.offset(tap, cut.part_rows))
            .collect();

        try_parallel(blocks * cut.shares, |index| {
            let (s, index) = (index / blocks, index % blocks);
            let block = block_at(index);
            let registers = block.ks.len().div_ceil(V::LANES);
            let panels = registers.div_ceil(width);
            let size = per_item * lanes;
            let room = self.room::<V>(&cut);
            let own = if cut.shares > 1 { 0 } else { block_size };
            scratch::with(room.saturating_add(panels * size).saturating_add(own), |memory: *mut T| {
                // SAFETY: offsets are within what was asked for; `waiting` is divided among the chunks.
                unsafe {
                    let turned = memory.add(room);
                    let sums = match cut.shares {
                        1 => turned.add(panels * size),
                        _ => waiting.at((s * blocks + index) * block_size),
                    };
                    let mut first = true;
                    for item in share(cut.count, cut.shares, s) {
                        let item = cut.item(self, item);
                        let planes = self.planes::<V>(&cut, &item, block.group, &block.channels, memory);
                        self.turn::<V>(&item, &block, panels, lanes, size, turned);
                        let steps = &steps[..item.images.len() * item.lines.len() * self.frame.grid[1]];
                        let count = block.channels.len() * taps;
                        let blocks = count.div_ceil(V::ROWS);
                        for b in 0..blocks {
                            let rows = share(count, blocks, b);
                            let mut a = [planes; MAX_ROWS];
                            for (a, offset) in a.iter_mut().zip(&offsets[rows.clone()]) {
                                *a = planes.add(*offset);
                            }
                            for p in 0..panels {
                                let part = share(registers, panels, p);
                                let c = sums.add(rows.start * columns + part.start * V::LANES);
                                let sums = Tile {
                                    steps,
                                    a,
                                    b: turned.add(p * size),
                                    init: if first { std::ptr::null() } else { c },
                                    init_row: columns,
                                    c,
                                    c_row: columns,
                                };
                                tile::<V>(rows.len(), part.len(), &sums);
                            }
                        }
                        first = false;
                    }
                    if cut.shares == 1 {
                        self.turn_back::<V>(&block, 0..registers, sums, columns, 1, 0);
                    }
                }
            })
        })?;
        if cut.shares > 1 {
            let registers = columns / V::LANES;
            threads::parallel(blocks * registers, |index| {
                let (index, register) = (index / registers, index % registers);
                let block = block_at(index);
                if register * V::LANES < block.ks.len() {
                    let (one, from) = (register..register + 1, waiting.at(index * block_size));
                    // SAFETY: rows of the result that are this chunk's alone.
                    unsafe {
                        self.turn_back::<V>(&block, one, from, columns, cut.shares, blocks * block_size);
                    }
                }
            });
        }
        Ok(())
    }

    /// Adds up the shares of a block, `part` elements apart, and turns some of its registers of output
    /// channels back into rows of the result.
    unsafe fn turn_back<V: Simd<Elem = T>>(
        &self,
        block: &Block,
        registers: Range<usize>,
        from: *const T,
        columns: usize,
        parts: usize,
        part: usize,
    ) {
        let (Block { group, channels, ks }, taps) = (block, self.taps.len());
        let (count, terms) = (channels.len() * taps, self.depth * taps);
        for lane in registers.map(|r| r * V::LANES) {
            let row = group * self.rows + ks.start + lane;
            for t in (0..count).step_by(V::LANES) {
                // SAFETY: within the block and the result, by the sizes.
                unsafe {
                    V::run(Transpose::<V> {
                        from: from.add(t * columns + lane),
                        from_row: columns,
                        rows: V::LANES.min(count - t),
                        len: V::LANES.min(ks.len() - lane),
                        parts,
                        part,
                        to: self.dw.add(row * terms + channels.start * taps + t),
                        to_row: terms,
                        pad: false,
                    });
                }
            }
        }
    }

    /// Transposes an item's `dy` into panels of `[position][k]`.
    unsafe fn turn<V: Simd<Elem = T>>(
        &self,
        item: &Item,
        Block { group, ks, .. }: &Block,
        panels: usize,
        lanes: usize,
        size: usize,
        to: *mut T,
    ) {
        let positions = self.positions();
        let len = item.lines.len() * self.frame.grid[1];
        let registers = ks.len().div_ceil(V::LANES);
        for p in 0..panels {
            for (lane, register) in share(registers, panels, p).enumerate() {
                let k = ks.start + register * V::LANES;
                for n in 0..item.images.len() {
                    let plane = ((item.images.start + n) * self.groups + group) * self.rows + k;
                    // SAFETY: within `dy` and the panels, by the sizes.
                    unsafe {
                        V::run(Transpose::<V> {
                            from: self.dy.add(plane * positions + item.lines.start * self.frame.grid[1]),
                            from_row: positions,
                            rows: V::LANES.min(ks.end - k),
                            len,
                            parts: 1,
                            part: 0,
                            pad: true,
                            to: to.add(p * size + n * len * lanes + lane * V::LANES),
                            to_row: lanes,
                        });
                    }
                }
            }
        }
    }

    unsafe fn dots<V: Simd<Elem = T>>(&self) -> Result<()> {
        let (taps, terms) = (self.taps.len(), self.depth * self.taps.len());
        let positions = self.positions();
        let channels = even(self.depth, ROWS / taps.max(1));
        let target = (PART / (self.rows + channels).max(1)).max(POSITIONS);
        let weights = self.groups * self.rows * terms;
        let per_group = [self.rows, terms, positions].iter().fold(self.images, |a, &b| a.saturating_mul(b));
        let groups = even(self.groups, WORK / per_group.max(1));
        let blocks = self.groups.div_ceil(groups);
        let cut = self.cut(target, blocks, channels)?;
        let shares =
            if cut.shares > 1 { Some(memory::<T>(weights.saturating_mul(cut.shares))?) } else { None };
        let sums = Shared::new(shares.as_ref().map_or(self.dw, |m| m.ptr().cast()));
        let pitch = self.frame.pitch;
        let width = self.frame.grid[1];
        let [dot_rows, dot_columns] = V::DOT;

        try_parallel(blocks * cut.shares, |index| {
            let (s, block) = (index / blocks, index % blocks);
            let groups = block * groups..self.groups.min((block + 1) * groups);
            scratch::with(self.room::<V>(&cut), |memory: *mut T| {
                for g in groups.clone() {
                    // SAFETY: offsets are within what was asked for; `sums` is divided among the chunks.
                    unsafe {
                        let sums = sums.at(s * weights + g * self.rows * terms);
                        sums.write_bytes(0, self.rows * terms);
                        for first in (0..self.depth).step_by(channels) {
                            let channels = first..self.depth.min(first + channels);
                            for item in share(cut.count, cut.shares, s) {
                                let item = cut.item(self, item);
                                let planes = self.planes::<V>(&cut, &item, g, &channels, memory);
                                let plane = (item.images.start * self.groups + g) * self.rows;
                                let dy = self.dy.add(plane * positions + item.lines.start * width);
                                let at = |column: usize| {
                                    let tap = &self.taps[column % taps];
                                    let offset = self.frame.offset(tap, cut.part_rows);
                                    planes.add(column / taps * cut.channel + offset)
                                };
                                // Lines without gaps between them are one line.
                                let (rows, len) = match pitch == width {
                                    true => (1, item.lines.len() * width),
                                    false => (item.lines.len(), width),
                                };
                                let columns = channels.len() * taps;
                                let across = columns.div_ceil(dot_columns);
                                let down = self.rows.div_ceil(dot_rows);
                                for down_i in 0..down {
                                    let ks = share(self.rows, down, down_i);
                                    for across_i in 0..across {
                                        let cs = share(columns, across, across_i);
                                        let job = Dot {
                                            a: std::array::from_fn::<_, { MAX_DOT[0] }, _>(|i| {
                                                dy.add((ks.start + i.min(ks.len() - 1)) * positions)
                                            }),
                                            b: std::array::from_fn::<_, { MAX_DOT[1] }, _>(|j| {
                                                at(cs.start + j.min(cs.len() - 1))
                                            }),
                                            images: item.images.len(),
                                            a_image: self.groups * self.rows * positions,
                                            b_image: cut.image,
                                            rows,
                                            a_row: width,
                                            b_row: pitch,
                                            len,
                                            c: sums.add(ks.start * terms + channels.start * taps + cs.start),
                                            c_row: terms,
                                        };
                                        dot::<V>(ks.len(), cs.len(), &job);
                                    }
                                }
                            }
                        }
                    }
                }
            })
        })?;

        if cut.shares > 1 {
            let dw = Shared::new(self.dw);
            threads::parallel(weights.div_ceil(PART), |i| {
                for w in i * PART..weights.min((i + 1) * PART) {
                    // SAFETY: within the shares and the result; each element is one chunk's.
                    unsafe {
                        let mut sum = *sums.at(w);
                        for s in 1..cut.shares {
                            sum += *sums.at(s * weights + w);
                        }
                        *dw.at(w) = sum;
                    }
                }
            });
        }
        Ok(())
    }
}

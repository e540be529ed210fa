//! What becomes of a block of tiles: its transform V, the 36 products row by row of the 6×6, each row's half of the
//! result's transform, and the result. A block that is all there is has its steps shared out among the threads.

use std::marker::PhantomData;
use std::ops::Range;

use super::super::scratch::{memory, with};
use super::super::simd::Simd;
use super::transform::{Half, OfInput, Output, Planes, Spread, Taps, Weights};
use super::{APART, IN, OUT, TAPS, Winograd};
use crate::core::Result;
use crate::cpu::even::Even;
use crate::cpu::matmul::kernel::Tile;
use crate::cpu::matmul::table::Kernels;
use crate::cpu::work::{Shared, try_parallel};

/// Rows of the 6×6 that a thread multiplies by a panel when the block is shared out: fewer would read the weights
/// more often, more would leave threads without work.
const ROWS: usize = 2;

/// Lines of tiles that are worked on together, and where their numbers lie in a thread's memory.
pub struct Block<'a, V> {
    pub job: &'a Winograd<'a>,
    pub table: &'static Kernels<f32>,
    /// Vectors of channels of the result.
    pub panels: Even,
    /// The input, and where its transform goes.
    pub input: Planes,
    /// Lines at most.
    pub lines: usize,
    /// Channels of the result, rounded up to whole vectors.
    pub rows: usize,
    pub lanes: PhantomData<fn() -> V>,
}

impl<V: Simd<Elem = f32>> Block<'_, V> {
    /// Tiles at most.
    fn tiles(&self) -> usize {
        self.lines * self.input.tiles[1]
    }

    /// Elements of V, of the halves `M A`, and of a row of M for a panel.
    fn parts(&self) -> [usize; 3] {
        let width = self.panels.part(0).len() * V::LANES;
        [
            IN * IN * self.input.plane,
            IN * OUT * self.tiles() * self.rows + APART,
            IN * (self.tiles() * width + APART),
        ]
    }

    /// Elements of the input while it is transformed; a line of the result needs less.
    fn staged(&self) -> usize {
        self.input.staged::<V, OfInput>(self.lines)
    }

    /// Elements that a thread needs for a block.
    pub fn room(&self) -> usize {
        self.parts().iter().sum::<usize>() + self.staged()
    }

    /// Elements of the nine taps of a vector of channels of the result with each channel that is summed over.
    pub fn taps(&self) -> usize {
        self.job.depth * TAPS * TAPS * V::LANES
    }

    /// The panel that has a vector of channels of the result.
    fn panel(&self, v: usize) -> Range<usize> {
        self.panels.iter().find(|p| p.contains(&v)).expect("panels have all vectors")
    }

    /// Where a vector of channels of the result begins in the halves `[panel][tile][row][column][channel]`, and how
    /// far apart these are.
    pub fn half(&self, v: usize) -> (usize, usize) {
        let panel = self.panel(v);
        (
            panel.start * V::LANES * IN * OUT * self.tiles() + (v - panel.start) * V::LANES,
            panel.len() * V::LANES,
        )
    }

    /// Some rows of the transform of the weights for a vector of channels of the result, `[panel][channel][vector]`;
    /// matrices begin at `to` and lie `plane` apart.
    ///
    /// # Safety
    /// As for `Winograd::run`; `taps` are the vector's.
    pub unsafe fn transform(
        &self,
        rows: Range<usize>,
        v: usize,
        taps: *const f32,
        to: *mut f32,
        plane: usize,
    ) {
        let panel = self.panel(v);
        // SAFETY: the caller's promises, passed on.
        unsafe {
            V::run(Weights::<V> {
                depth: self.job.depth,
                turned: self.job.turned,
                rows,
                taps,
                plane,
                to: to.wrapping_add(panel.start * V::LANES * self.job.depth + (v - panel.start) * V::LANES),
                to_row: panel.len() * V::LANES,
            });
        }
    }

    /// The transform of some lines, and of some channels.
    fn spread(
        &self,
        lines: Range<usize>,
        channels: Range<usize>,
        staged: *mut f32,
        to: *mut f32,
    ) -> Spread<'_, OfInput, V> {
        Spread { planes: &self.input, lines, channels, staged, to, side: PhantomData }
    }

    /// A block from its input to its result.
    ///
    /// # Safety
    /// As for `Winograd::run`; `memory` is for `room`, `u` has the weights, `plane` apart.
    pub unsafe fn run(&self, lines: Range<usize>, u: Shared<f32>, plane: usize, memory: *mut f32) {
        let [v_size, half_size, m_size] = self.parts();
        let v = Shared::new(memory);
        let half = Shared::new(v.at(v_size));
        let (m, staged) = (half.at(half_size), half.at(half_size + m_size));
        let count = lines.len() * self.input.tiles[1];
        // SAFETY: the caller's promises, passed on.
        unsafe {
            V::run(self.spread(lines.clone(), 0..self.job.depth, staged, v.at(0)));
            for row in 0..IN {
                for panel in self.panels.iter() {
                    let u = u.at(row * IN * plane + panel.start * V::LANES * self.job.depth);
                    self.multiply(row, panel, u, plane, count, v, m, half);
                }
            }
            let channels = 0..self.job.rows;
            V::run(Output { block: self, lines: lines.clone(), channels, tile: 0, staged, half: half.at(0) });
        }
        self.tell(lines, 0..self.job.rows);
    }

    /// The same with threads that share the channels of either transform, and the products, of which each takes
    /// some rows of the 6×6 and a panel, and makes what it needs of the weights.
    ///
    /// # Safety
    /// As for `Winograd::run`.
    pub unsafe fn run_together(&self, lines: Range<usize>) -> Result<()> {
        let (vectors, depth, across) = (self.rows / V::LANES, self.job.depth, self.input.tiles[1]);
        let [v_size, half_size, m_size] = self.parts();
        let memory = memory::<f32>(v_size + half_size + vectors * self.taps())?;
        let v = Shared::new(memory.ptr().cast::<f32>());
        let half = Shared::new(v.at(v_size));
        let taps = Shared::new(half.at(half_size));
        // SAFETY: the caller's promises; each thread has its own channels, products or images.
        unsafe {
            try_parallel(vectors + self.input.pitch / V::LANES, |i| {
                if i < vectors {
                    V::run(Taps::<V> { job: self.job, v: i, to: taps.at(i * self.taps()) });
                    return Ok(());
                }
                let first = (i - vectors) * V::LANES;
                let channels = first..depth.min(first + V::LANES);
                with(self.staged(), |staged| V::run(self.spread(lines.clone(), channels, staged, v.at(0))))
            })?;
            let parts = IN / ROWS;
            try_parallel(parts * self.panels.parts, |i| {
                let (panel, first) = (self.panels.part(i / parts), i % parts * ROWS);
                let plane = depth * panel.len() * V::LANES + APART;
                with(IN * plane + m_size, |u: *mut f32| {
                    // The panel is alone in this memory.
                    let origin = u.wrapping_sub(panel.start * V::LANES * depth);
                    for row in first..first + ROWS {
                        for v in panel.clone() {
                            self.transform(row..row + 1, v, taps.at(v * self.taps()), origin, plane);
                        }
                        let (count, m) = (lines.len() * across, u.add(IN * plane));
                        self.multiply(row, panel.clone(), u, plane, count, v, m, half);
                    }
                })
            })?;
            let (images, tall) = (self.job.images, self.input.tiles[0]);
            try_parallel(self.panels.parts * images, |i| {
                let (panel, image) = (self.panels.part(i / images), i % images);
                let lines = image * tall..(image + 1) * tall;
                let channels = panel.start * V::LANES..self.job.rows.min(panel.end * V::LANES);
                with(self.staged(), |staged| {
                    V::run(Output {
                        block: self,
                        lines: lines.clone(),
                        channels: channels.clone(),
                        tile: lines.start * across,
                        staged,
                        half: half.at(0),
                    });
                    self.tell(lines, channels);
                })
            })
        }
    }

    /// `M_f = V_f U_f` for a row of the 6×6 and a panel of U, whose matrices begin at `u` and lie `plane` apart; and
    /// from that the row's part of `M A`.
    unsafe fn multiply(
        &self,
        row: usize,
        panel: Range<usize>,
        u: *const f32,
        plane: usize,
        count: usize,
        v: Shared<f32>,
        m: *mut f32,
        half: Shared<f32>,
    ) {
        let width = panel.len() * V::LANES;
        let m_plane = count * width + APART;
        // SAFETY: V, U and M are as large as the tiles say, which are whole and in place.
        unsafe {
            for j in 0..IN {
                for strip in Even::at_most(count, self.table.tiles.len()).iter() {
                    let tile = Tile {
                        k: self.job.depth,
                        n: width,
                        a: v.at((row * IN + j) * self.input.plane + strip.start * self.input.pitch),
                        lda: self.input.pitch as isize,
                        b: u.add(j * plane),
                        ldb: width as isize,
                        c: m.add(j * m_plane + strip.start * width),
                        ldc: width,
                        add: false,
                    };
                    self.table.tiles[strip.len() - 1][panel.len() - 1][0][0](&tile)
                }
            }
            let to = half.at(self.half(panel.start).0 + row * OUT * width);
            V::run(Half::<V> { m, plane: m_plane, width, count, to });
        }
    }

    /// Tells of finished channels of finished lines.
    fn tell(&self, mut lines: Range<usize>, channels: Range<usize>) {
        let Some(done) = self.job.done else { return };
        let [height, width] = self.job.grid;
        while !lines.is_empty() {
            let (image, run) = self.input.run_of(&lines);
            let rows = run.start * OUT..height.min(run.end * OUT);
            for k in channels.clone() {
                done(((image * self.job.rows + k) * height + rows.start) * width, rows.len() * width);
            }
            lines.start += run.len();
        }
    }
}

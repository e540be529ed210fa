//! Which positions the panels of a chunk hold, where they are read and where their sums go: the tables that
//! `correlate` drives its tiles by.

use std::ops::Range;

use super::correlate::{Chunk, Correlation, Phase, Plan, share};
use super::simd::{Float, Simd};
use super::tile::{Move, Piece};

/// Columns of the product that a tile takes together.
pub struct Panel {
    pub width: usize,
    /// Offset of its first position in the planes, when it is read in place.
    pub from: usize,
    pub moves: Range<usize>,
    pub pieces: Range<usize>,
    /// Whether its lanes are neighbours in the result, all of them.
    pub whole: bool,
}

/// The panels of a chunk, with their moves and pieces.
#[derive(Default)]
pub struct Lists {
    pub panels: Vec<Panel>,
    pub moves: Vec<Move>,
    pub pieces: Vec<Piece>,
}

impl Lists {
    /// Adds the panels of a phase; `image` is the distance of images in the planes.
    pub fn add<V: Simd>(
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

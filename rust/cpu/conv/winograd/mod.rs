//! 3×3 convolutions of stride 1 by Winograd's minimal filtering F(4×4, 3×3): a 4×4 tile of the result
//! takes 36 multiplications for each pair of channels where the definition takes 144.
//!
//! ```text
//! y = Aᵀ [ Σ_c (G g Gᵀ) ⊙ (Bᵀ d B) ] A        d: 6×6 of the input, tiles overlap by 2
//! ```
//!
//! The sum over channels is 36 products of matrices, one for each place `f` of the 6×6:
//! `M_f[tile, k] = Σ_c V_f[tile, c] · U_f[c, k]`, done by the tiles of `matmul`. Channels lie along the
//! lanes throughout: the transforms of tiles and weights are plain vector arithmetic, and planes are turned
//! into vectors of channels and back by squares of registers. Lavin and Gray, arXiv:1509.09308.
//!
//! The transforms add numbers of mixed sizes, so errors are some ten times those of the definition: in the
//! order of 1e-5 of the largest value, below `BOUND`. What is infinite spoils its whole tile.
//! `set_precise` turns this way off.

mod block;
mod transform;
mod weight;

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Dims;
use super::Done;
use super::scratch::{memory, with};
use super::simd::Simd;
use crate::core::Result;
use crate::cpu::even::Even;
use crate::cpu::isa::Isa;
use crate::cpu::matmul::table::Real;
use crate::cpu::work::{Shared, try_parallel};

use self::block::Block;
use self::transform::{Planes, Taps};
pub use self::weight::{ELEMENTS, WinogradWeight, pays as weight_pays};

/// Rows and columns of a tile of the result, of the tile of the input that it needs, and of the kernel.
const OUT: usize = 4;
const IN: usize = 6;
const TAPS: usize = 3;

/// Errors are smaller than this share of the result's largest value.
#[cfg(test)]
pub const BOUND: f64 = 3e-5;

/// Tiles that go through the 36 products together: so many that the weights, which all of them share, are
/// read seldom, and so few that what the products read and write stays near.
const BLOCK: usize = 96;

/// Tiles up to which a convolution is one block, whose steps are shared out instead: the transform of the weights
/// would cost as much as the products if it went through memory, so whoever multiplies makes what it needs of it.
const FEW: usize = 2 * BLOCK;

/// Elements between the 36 planes of a block, besides the planes: else all would share the lines of a cache.
const APART: usize = 16;

static PRECISE: AtomicBool = AtomicBool::new(false);

/// Whether convolutions go by the definition only.
pub fn precise() -> bool {
    PRECISE.load(Ordering::Relaxed)
}

pub fn set_precise(on: bool) {
    PRECISE.store(on, Ordering::Relaxed);
}

/// `y = x ⋆ w` for a 3×3 kernel, or the gradient of x, which is the same with the kernel turned round.
pub struct Winograd<'a> {
    pub images: usize,
    /// Channels summed over, and channels of the result.
    pub depth: usize,
    pub rows: usize,
    /// Of `src` and of `dst`.
    pub size: [usize; 2],
    pub grid: [usize; 2],
    pub pad: [usize; 2],
    pub src: *const f32,
    pub weight: *const f32,
    /// From a summed channel to the next in the weights, and from a channel of the result.
    pub weight_depth: usize,
    pub weight_row: usize,
    pub turned: bool,
    pub dst: *mut f32,
    pub done: Done<'a>,
}

// SAFETY: operands are only read, and each thread writes its own part of the result.
unsafe impl Sync for Winograd<'_> {}

/// Whether a convolution has the shape for it, and nobody wants the definition.
fn fits(d: &Dims) -> bool {
    let c = &d.conv;
    let shape = [d.r, d.s] == [TAPS; 2] && c.stride == [1; 2] && c.dilation == [1; 2] && c.groups == 1;
    shape && c.padding.iter().all(|&p| p < TAPS) && !precise()
}

/// Whether a convolution has the shape for it, and is large enough to win by it.
pub fn pays(d: &Dims) -> bool {
    /// Lanes that channels are rounded up to, and products that the transform of a place of the 6×6 costs,
    /// about.
    const LANES: usize = 16;
    const TRANSFORM: usize = 24;
    /// Tiles whose products cost as much as the transform of the weights.
    const WEIGHTS: usize = 10;
    if !fits(d) {
        return false;
    }
    let (depth, rows) = (d.c.next_multiple_of(LANES), d.k.next_multiple_of(LANES));
    let tiles = (d.n * d.oh.div_ceil(OUT) * d.ow.div_ceil(OUT) + WEIGHTS) as f64;
    let products = (depth * rows + TRANSFORM * (depth + rows)) as f64;
    let definition = (d.n * d.oh * d.ow) as f64 * (TAPS * TAPS) as f64 * d.c as f64 * d.k as f64;
    tiles * (IN * IN) as f64 * products < 0.9 * definition
}

impl<'a> Winograd<'a> {
    pub fn forward(d: &Dims, x: *const f32, w: *const f32, y: *mut f32, done: Done<'a>) -> Self {
        let area = TAPS * TAPS;
        Winograd {
            images: d.n,
            depth: d.c,
            rows: d.k,
            size: [d.h, d.w],
            grid: [d.oh, d.ow],
            pad: d.conv.padding,
            src: x,
            weight: w,
            weight_depth: area,
            weight_row: d.c * area,
            turned: false,
            dst: y,
            done,
        }
    }

    pub fn backward_input(d: &Dims, dy: *const f32, w: *const f32, dx: *mut f32) -> Self {
        let area = TAPS * TAPS;
        Winograd {
            images: d.n,
            depth: d.k,
            rows: d.c,
            size: [d.oh, d.ow],
            grid: [d.h, d.w],
            pad: d.conv.padding.map(|p| TAPS - 1 - p),
            src: dy,
            weight: w,
            weight_depth: d.c * area,
            weight_row: area,
            turned: true,
            dst: dx,
            done: None,
        }
    }

    /// # Safety
    /// The processor has `V`'s instructions, which are those of `isa`; the pointers lead to all elements
    /// that the sizes name.
    pub unsafe fn run<V: Simd<Elem = f32>>(&self, isa: Isa) -> Result<()> {
        let tiles = self.grid.map(|n| n.div_ceil(OUT));
        let lines = self.images * tiles[0];
        let few = lines * tiles[1] <= FEW;
        let lines = Even::at_most(lines, if few { lines } else { (BLOCK / tiles[1]).max(1) });
        let longest = lines.part(0).len();
        let (table, pitch) = (f32::kernels(isa), self.depth.next_multiple_of(V::LANES));
        let vectors = self.rows.div_ceil(V::LANES);
        let block = Block::<V> {
            job: self,
            table,
            panels: Even::at_most(vectors, table.tiles[0].len()),
            input: Planes {
                src: self.src,
                channels: self.depth,
                size: self.size,
                pad: self.pad,
                tiles,
                pitch,
                plane: longest * tiles[1] * pitch + APART,
            },
            lines: longest,
            rows: vectors * V::LANES,
            lanes: PhantomData,
        };
        // SAFETY: as above; each part writes its own vectors of the weights, or its own lines of the result.
        unsafe {
            if few {
                return block.run_together(lines.part(0));
            }
            let plane = self.depth * block.rows + APART;
            let weights = memory::<f32>(IN * IN * plane)?;
            let u = Shared::new(weights.ptr().cast::<f32>());
            try_parallel(vectors, |v| {
                with(block.taps(), |taps| {
                    V::run(Taps::<V> { job: self, v, to: taps });
                    block.transform(0..IN, v, taps, u.at(0), plane);
                })
            })?;
            try_parallel(lines.parts, |i| {
                with(block.room(), |memory| block.run(lines.part(i), u, plane, memory))
            })
        }
    }
}

//! The gradient of a 3×3 kernel's weights by the same filtering: the sum over tiles takes 36 multiplications for
//! each pair of channels where the definition takes 144.
//!
//! ```text
//! dw = Gᵀ [ Σ_tiles (A e Aᵀ) ⊙ (Bᵀ d B) ] G        e: 4×4 of dy, d: 6×6 of x
//! ```
//!
//! The sum over tiles is 36 products of matrices `P_f[k, c] = Σ_t E_f[t, k] · V_f[t, c]`.
//!
//! - Where P is so small that it stays near, tiles are cut into shares, of which each adds to a P of its own, block
//!   after block of tiles whose E and V stay near too. How many shares there are depends on shapes alone.
//! - Else E and V are written to memory, for as many images at a time as `ELEMENTS` lets, and `matmul` multiplies.

use std::marker::PhantomData;

use super::super::Dims;
use super::super::scratch::{memory, with};
use super::super::simd::Simd;
use super::super::tile::{MAX_ROWS, Step, Tile, tile};
use super::transform::{OfGradient, OfInput, Planes, Products, Side, Spread};
use super::{APART, IN, OUT};
use crate::core::{DType, Result};
use crate::cpu::even::Even;
use crate::cpu::matmul::{Gemm, matmul};
use crate::cpu::threads::parallel;
use crate::cpu::work::{Shared, try_parallel};

/// Elements of E and V at most, unless one image alone has more.
pub const ELEMENTS: usize = 8 << 20;

/// Elements of a P that stays near.
pub const NEAR: usize = 256 << 10;

/// Tiles of a block, and shares at most.
const BLOCK: usize = 48;
const SHARES: usize = 16;

/// Elements of planes that a thread transforms at a time, about, and channels of the result.
const PART: usize = 16 << 10;
const CHANNELS: usize = 8;

/// Whether the sum is long enough for the transforms to pay.
pub fn pays(d: &Dims) -> bool {
    /// Products that the transform of an element of E or V costs, about, and of P.
    const OPERAND: usize = 48;
    const RESULT: usize = 32;
    if !super::fits(d) {
        return false;
    }
    let tiles = d.n * d.oh.div_ceil(OUT) * d.ow.div_ceil(OUT);
    let products = tiles * (d.c * d.k + OPERAND * (d.c + d.k)) + RESULT * d.c * d.k;
    let definition = (d.n * d.oh * d.ow) as f64 * 9.0 * d.c as f64 * d.k as f64;
    (IN * IN * products) as f64 * 1.1 < definition
}

/// The gradient of the weights from x and dy.
pub struct WinogradWeight<'a> {
    pub dims: &'a Dims,
    pub x: *const f32,
    pub dy: *const f32,
    pub dw: *mut f32,
    /// How many elements of E and V to make room for, if that is enough for an image.
    pub elements: usize,
    /// The largest P that is added up share by share.
    pub near: usize,
}

// SAFETY: operands are only read, and each thread writes its own part of the result.
unsafe impl Sync for WinogradWeight<'_> {}

impl WinogradWeight<'_> {
    /// # Safety
    /// The processor has `V`'s instructions; the pointers lead to all elements that the sizes name.
    pub unsafe fn run<V: Simd<Elem = f32>>(&self) -> Result<()> {
        let d = self.dims;
        if IN * IN * d.k * d.c.next_multiple_of(V::LANES) <= self.near {
            // SAFETY: the caller's promises, passed on.
            return unsafe { self.by_shares::<V>() };
        }
        let tiles = [d.oh.div_ceil(OUT), d.ow.div_ceil(OUT)];
        let each = tiles[0] * tiles[1];
        let (v_pitch, e_pitch) = (d.c.next_multiple_of(V::LANES), d.k.next_multiple_of(V::LANES));
        let images = Even::at_most(d.n, (self.elements / (IN * IN * each * (v_pitch + e_pitch))).max(1));
        let most = images.part(0).len() * each;
        let planes = |src, channels, size, pad, pitch| Planes {
            src,
            channels,
            size,
            pad,
            tiles,
            pitch,
            plane: most * pitch + APART,
        };
        let x = planes(self.x, d.c, [d.h, d.w], d.conv.padding, v_pitch);
        let dy = planes(self.dy, d.k, [d.oh, d.ow], [0, 0], e_pitch);
        let spread = memory::<f32>(IN * IN * (x.plane + dy.plane))?;
        let v = Shared::new(spread.ptr().cast::<f32>());
        let e = Shared::new(v.at(IN * IN * x.plane));

        // A vector may be read behind the last row.
        let plane = d.k * d.c;
        let sum = memory::<f32>(IN * IN * plane + V::LANES)?;
        let more = if images.parts > 1 { Some(memory::<f32>(IN * IN * plane)?) } else { None };
        let sum = Shared::new(sum.ptr().cast::<f32>());
        let matrices = |plane: usize| -> Vec<isize> { (0..IN * IN).map(|f| (f * plane) as isize).collect() };
        let (of_e, of_v) = (matrices(dy.plane), matrices(x.plane));
        for (i, images) in images.iter().enumerate() {
            let lines = images.start * tiles[0]..images.end * tiles[0];
            // SAFETY: the caller's promises; E, V and P are as large as their planes say.
            unsafe {
                transform::<OfInput, V>(&x, lines.clone(), v)?;
                transform::<OfGradient, V>(&dy, lines, e)?;
                let product = Gemm {
                    m: d.k,
                    n: d.c,
                    k: images.len() * each,
                    rsa: 1,
                    csa: e_pitch as isize,
                    rsb: v_pitch as isize,
                    csb: 1,
                    batch_a: &of_e,
                    batch_b: &of_v,
                };
                let to = if i == 0 {
                    sum
                } else {
                    Shared::new(more.as_ref().map_or(sum.at(0), |m| m.ptr().cast()))
                };
                matmul(DType::F32, &product, e.at(0).cast(), v.at(0).cast(), to.at(0).cast(), &|_, _| ())?;
                if i > 0 {
                    parallel(IN * IN, |f| {
                        let (sum, more) = (sum.slice(f * plane, plane), to.slice(f * plane, plane));
                        sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += *more);
                    });
                }
            }
        }
        // SAFETY: as above.
        unsafe { self.finish::<V>(sum.at(0), d.c, plane, 1) };
        Ok(())
    }

    /// # Safety
    /// As for `run`.
    unsafe fn by_shares<V: Simd<Elem = f32>>(&self) -> Result<()> {
        let d = self.dims;
        let tiles = [d.oh.div_ceil(OUT), d.ow.div_ceil(OUT)];
        let lines = Even::at_most(d.n * tiles[0], (BLOCK / tiles[1]).max(1));
        let shares = Even::new(lines.parts, lines.parts.clamp(1, SHARES));
        let longest = lines.part(0).len();
        let planes = |src, channels: usize, size, pad| {
            let pitch = channels.next_multiple_of(V::LANES);
            Planes { src, channels, size, pad, tiles, pitch, plane: longest * tiles[1] * pitch + APART }
        };
        let x = planes(self.x, d.c, [d.h, d.w], d.conv.padding);
        let dy = planes(self.dy, d.k, [d.oh, d.ow], [0, 0]);
        let staged = x.staged::<V, OfInput>(longest).max(dy.staged::<V, OfGradient>(longest));
        let steps: Vec<Step> =
            (0..longest * tiles[1]).map(|t| Step { a: t * dy.pitch, b: t * x.pitch }).collect();
        let (strips, panels) =
            (Even::at_most(d.k, V::ROWS), Even::at_most(x.pitch / V::LANES, V::WIDTHS[V::ROWS - 1]));
        let plane = d.k * x.pitch + APART;
        let sums = memory::<f32>(shares.parts * IN * IN * plane)?;
        let p = Shared::new(sums.ptr().cast::<f32>());
        try_parallel(shares.parts, |share| {
            with(IN * IN * (x.plane + dy.plane) + staged, |memory: *mut f32| {
                let (p, v) = (p.at(share * IN * IN * plane), Shared::new(memory));
                let e = Shared::new(v.at(IN * IN * x.plane));
                let staged = e.at(IN * IN * dy.plane);
                for (i, block) in shares.part(share).enumerate() {
                    let lines = lines.part(block);
                    let steps = &steps[..lines.len() * tiles[1]];
                    // SAFETY: the caller's promises; V, E and the share's P are as large as their planes say.
                    unsafe {
                        spread::<OfInput, V>(&x, lines.clone(), staged, v.at(0));
                        spread::<OfGradient, V>(&dy, lines, staged, e.at(0));
                        for f in 0..IN * IN {
                            for (panel, strip) in
                                panels.iter().flat_map(|panel| strips.iter().map(move |k| (panel.clone(), k)))
                            {
                                let mut a = [e.at(f * dy.plane + strip.start).cast_const(); MAX_ROWS];
                                a.iter_mut().enumerate().take(strip.len()).for_each(|(k, a)| *a = a.add(k));
                                let c = p.add(f * plane + strip.start * x.pitch + panel.start * V::LANES);
                                let sums = Tile {
                                    steps,
                                    a,
                                    b: v.at(f * x.plane + panel.start * V::LANES),
                                    init: if i == 0 { std::ptr::null() } else { c },
                                    init_row: x.pitch,
                                    c,
                                    c_row: x.pitch,
                                };
                                tile::<V>(strip.len(), panel.len(), &sums);
                            }
                        }
                    }
                }
            })
        })?;
        // SAFETY: as above.
        unsafe { self.finish::<V>(p.at(0), x.pitch, plane, shares.parts) };
        Ok(())
    }

    /// The gradient from so many shares of P, whose rows are `pitch` apart and whose matrices `plane`.
    unsafe fn finish<V: Simd<Elem = f32>>(&self, p: *const f32, pitch: usize, plane: usize, shares: usize) {
        let (parts, dw) = (Even::at_most(self.dims.k, CHANNELS), Shared::new(self.dw));
        let p = Shared::new(p.cast_mut());
        parallel(parts.parts, |i| {
            let (dims, ks, p) = (self.dims, parts.part(i), p.at(0));
            // SAFETY: the caller's promises; each part writes its own channels.
            unsafe { V::run(Products::<V> { dims, ks, pitch, plane, shares, p, dw: dw.at(0) }) }
        });
    }
}

/// The transforms of some lines.
unsafe fn spread<S: Side, V: Simd<Elem = f32>>(
    planes: &Planes,
    lines: std::ops::Range<usize>,
    staged: *mut f32,
    to: *mut f32,
) {
    let (channels, side) = (0..planes.channels, PhantomData::<S>);
    // SAFETY: the caller's promises.
    unsafe { V::run(Spread::<S, V> { planes, lines, channels, staged, to, side }) }
}

/// All lines' transforms, the first line's tiles first.
unsafe fn transform<S: Side, V: Simd<Elem = f32>>(
    planes: &Planes,
    lines: std::ops::Range<usize>,
    to: Shared<f32>,
) -> Result<()> {
    let line = planes.width::<S>() * OUT * planes.pitch;
    let parts = Even::at_most(lines.len(), (PART / line).max(1));
    try_parallel(parts.parts, |i| {
        let part = parts.part(i);
        with(planes.staged::<V, S>(part.len()), |staged| {
            let to = to.at(part.start * planes.tiles[1] * planes.pitch);
            let lines = lines.start + part.start..lines.start + part.end;
            // SAFETY: the caller's promises; each part writes its own tiles.
            unsafe { spread::<S, V>(planes, lines, staged, to) }
        })
    })
}

//! The gradient of a 3×3 kernel's weights by the same filtering: the sum over tiles takes 36 multiplications for
//! each pair of channels where the definition takes 144.
//!
//! ```text
//! dw = Gᵀ [ Σ_tiles (A e Aᵀ) ⊙ (Bᵀ d B) ] G        e: 4×4 of dy, d: 6×6 of x
//! ```
//!
//! The sum over tiles is 36 products of matrices `P_f[k, c] = Σ_t E_f[t, k] · V_f[t, c]`, which `matmul` does.
//! E and V are written to memory for as many images at a time as `ELEMENTS` lets.

use std::marker::PhantomData;

use super::super::Dims;
use super::super::scratch::{memory, with};
use super::super::simd::Simd;
use super::transform::{OfGradient, OfInput, Planes, Products, Side, Spread};
use super::{APART, IN, OUT};
use crate::core::{DType, Result};
use crate::cpu::even::Even;
use crate::cpu::matmul::{Gemm, matmul};
use crate::cpu::threads::parallel;
use crate::cpu::work::{Shared, try_parallel};

/// Elements of E and V at most, unless one image alone has more.
pub const ELEMENTS: usize = 8 << 20;

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
}

impl WinogradWeight<'_> {
    /// # Safety
    /// The processor has `V`'s instructions; the pointers lead to all elements that the sizes name.
    pub unsafe fn run<V: Simd<Elem = f32>>(&self) -> Result<()> {
        let d = self.dims;
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
        let (parts, dw) = (Even::at_most(d.k, CHANNELS), Shared::new(self.dw));
        parallel(parts.parts, |i| {
            let (ks, p) = (parts.part(i), sum.at(0));
            // SAFETY: as above; each part writes its own channels.
            unsafe { V::run(Products::<V> { dims: d, ks, plane, p, dw: dw.at(0) }) }
        });
        Ok(())
    }
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
            unsafe {
                let side = PhantomData::<S>;
                V::run(Spread::<S, V> { planes, lines, channels: 0..planes.channels, staged, to, side })
            }
        })
    })
}

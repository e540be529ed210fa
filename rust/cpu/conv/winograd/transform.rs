//! The transforms between planes and the 36 matrices: weights to U, the input to V, M to the result. What
//! is transformed when, and by which thread, is said in `mod.rs`.

use std::ops::Range;

use super::{Block, IN, OUT, TAPS, Winograd};
use crate::cpu::conv::simd::{Kernel, Simd};
use crate::cpu::conv::tile::Transpose;
use crate::cpu::matmul::pack::Even;

/// `a x + y`.
#[inline(always)]
unsafe fn plus<V: Simd<Elem = f32>>(y: V, a: f32, x: V) -> V {
    // SAFETY: the caller has the instructions.
    unsafe { V::splat(a).fma(x, y) }
}

/// `G g`.
#[inline(always)]
unsafe fn of_weights<V: Simd<Elem = f32>>(g: [V; TAPS]) -> [V; IN] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let scaled = |a: f32, x: V| plus(V::zero(), a, x);
        let ends = scaled(-1.0 / 6.0, g[0].add(g[2]));
        let wide = plus(scaled(1.0 / 24.0, g[0]), 1.0 / 6.0, g[2]);
        [
            scaled(0.25, g[0]),
            plus(ends, -1.0 / 6.0, g[1]),
            plus(ends, 1.0 / 6.0, g[1]),
            plus(wide, 1.0 / 12.0, g[1]),
            plus(wide, -1.0 / 12.0, g[1]),
            g[2],
        ]
    }
}

/// `Bᵀ d`.
#[inline(always)]
unsafe fn of_input<V: Simd<Elem = f32>>(d: [V; IN]) -> [V; IN] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let (even, odd) = (plus(d[4], -4.0, d[2]), plus(d[3], -4.0, d[1]));
        let (far, twice) = (plus(d[4], -1.0, d[2]), plus(d[3], -1.0, d[1]));
        [
            plus(plus(d[4], -5.0, d[2]), 4.0, d[0]),
            even.add(odd),
            plus(even, -1.0, odd),
            plus(far, 2.0, twice),
            plus(far, -2.0, twice),
            plus(plus(d[5], -5.0, d[3]), 4.0, d[1]),
        ]
    }
}

/// `Aᵀ m`.
#[inline(always)]
unsafe fn of_output<V: Simd<Elem = f32>>(m: [V; IN]) -> [V; OUT] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let (near, near_odd) = (m[1].add(m[2]), plus(m[1], -1.0, m[2]));
        let (far, far_odd) = (m[3].add(m[4]), plus(m[3], -1.0, m[4]));
        [
            m[0].add(near).add(far),
            plus(near_odd, 2.0, far_odd),
            plus(near, 4.0, far),
            plus(near_odd, 8.0, far_odd).add(m[5]),
        ]
    }
}

/// `U_f[c, k]` for the channels `k` of one vector, in the order of the panels that tiles read.
pub struct Weights<'a, V: Simd> {
    pub job: &'a Winograd<'a>,
    pub v: usize,
    pub panels: Even,
    pub plane: usize,
    pub staged: *mut V::Elem,
    pub to: *mut V::Elem,
}

impl<V: Simd<Elem = f32>> Kernel for Weights<'_, V> {
    #[inline(always)]
    unsafe fn call(self) {
        let Weights { job, v, panels, plane, staged, to } = self;
        let first = v * V::LANES;
        let rows = (job.rows - first).min(V::LANES);
        // The panel that has this vector.
        let panel = panels.iter().find(|p| p.contains(&v)).expect("panels have all vectors");
        // SAFETY: the weights have nine taps for each pair of channels; `staged` and `to` have room.
        unsafe {
            for c in 0..job.depth {
                let taps = staged.add(c * TAPS * TAPS * V::LANES);
                let from = job.weight.add(first * job.weight_row + c * job.weight_depth);
                Transpose::<V> {
                    from,
                    from_row: job.weight_row,
                    rows,
                    len: TAPS * TAPS,
                    parts: 1,
                    part: 0,
                    to: taps,
                    to_row: V::LANES,
                    pad: true,
                }
                .call();
                let tap = |r: usize, s: usize| {
                    let at = r * TAPS + s;
                    V::load(taps.add(if job.turned { TAPS * TAPS - 1 - at } else { at } * V::LANES))
                };
                let mut half = [[V::zero(); TAPS]; IN];
                for s in 0..TAPS {
                    let column = of_weights([tap(0, s), tap(1, s), tap(2, s)]);
                    for (half, x) in half.iter_mut().zip(column) {
                        half[s] = x;
                    }
                }
                let width = panel.len() * V::LANES;
                let at = panel.start * V::LANES * job.depth + c * width + (v - panel.start) * V::LANES;
                for (i, half) in half.into_iter().enumerate() {
                    for (j, x) in of_weights(half).into_iter().enumerate() {
                        x.store(to.add((i * IN + j) * plane + at));
                    }
                }
            }
        }
    }
}

/// `V_f[tile, c]` of all lines.
pub struct Input<'a, V: Simd> {
    pub block: &'a Block<'a, V>,
    pub lines: Range<usize>,
    pub channels: Range<usize>,
    pub staged: *mut f32,
    pub v: *mut f32,
}

impl<V: Simd<Elem = f32>> Kernel for Input<'_, V> {
    #[inline(always)]
    unsafe fn call(self) {
        let Input { block, mut lines, channels, staged, v } = self;
        let (width, plane) = (block.width, block.plane(block.depth));
        let half = staged.wrapping_add((block.lines * OUT + IN) * width * V::LANES);
        let mut tile = 0;
        while !lines.is_empty() {
            let (image, run) = block.run_of(&lines);
            for c in channels.clone().step_by(V::LANES) {
                // SAFETY: the caller's promises; places are within the parts as `Block` has sized them.
                unsafe {
                    stage::<V>(block, image, &run, c, staged);
                    for line in 0..run.len() {
                        let rows = staged.add(line * OUT * width * V::LANES);
                        for x in 0..width {
                            let mut d = [V::zero(); IN];
                            for (i, d) in d.iter_mut().enumerate() {
                                *d = V::load(rows.add((i * width + x) * V::LANES));
                            }
                            for (i, d) in of_input(d).into_iter().enumerate() {
                                d.store(half.add((i * width + x) * V::LANES));
                            }
                        }
                        for across in 0..block.tiles[1] {
                            let at = (tile + line * block.tiles[1] + across) * block.depth + c;
                            for i in 0..IN {
                                let mut d = [V::zero(); IN];
                                for (j, d) in d.iter_mut().enumerate() {
                                    *d = V::load(half.add((i * width + across * OUT + j) * V::LANES));
                                }
                                for (j, d) in of_input(d).into_iter().enumerate() {
                                    d.store(v.add((i * IN + j) * plane + at));
                                }
                            }
                        }
                    }
                }
            }
            tile += run.len() * block.tiles[1];
            lines.start += run.len();
        }
    }
}

/// The rows of the input that a run of lines needs, with their padding, as vectors of channels from `c` on.
#[inline(always)]
unsafe fn stage<V: Simd<Elem = f32>>(
    block: &Block<V>,
    image: usize,
    run: &Range<usize>,
    c: usize,
    to: *mut f32,
) {
    let job = block.job;
    let ([height, width], lanes) = (job.size, V::LANES);
    for row in 0..run.len() * OUT + IN - OUT {
        let to = to.wrapping_add(row * block.width * lanes);
        let y = (run.start * OUT + row).wrapping_sub(job.pad[0]);
        let inside = if y < height { job.pad[1]..job.pad[1] + width } else { 0..0 };
        // SAFETY: as for `Input`.
        unsafe {
            for x in (0..block.width).filter(|x| !inside.contains(x)) {
                V::zero().store(to.add(x * lanes));
            }
            if y < height {
                Transpose::<V> {
                    from: job.src.add(((image * job.depth + c) * height + y) * width),
                    from_row: height * width,
                    rows: (job.depth - c).min(lanes),
                    len: width,
                    parts: 1,
                    part: 0,
                    to: to.add(job.pad[1] * lanes),
                    to_row: lanes,
                    pad: true,
                }
                .call();
            }
        }
    }
}

/// The result from `M_f[tile, k]`.
pub struct Output<'a, V: Simd> {
    pub block: &'a Block<'a, V>,
    pub lines: Range<usize>,
    pub channels: Range<usize>,
    pub staged: *mut f32,
    pub m: *mut f32,
}

impl<V: Simd<Elem = f32>> Kernel for Output<'_, V> {
    #[inline(always)]
    unsafe fn call(self) {
        let Output { block, mut lines, channels, staged, m } = self;
        let (job, plane, lanes) = (block.job, block.plane(block.rows), V::LANES);
        let ([height, width], across) = (job.grid, block.tiles[1]);
        let mut tile = 0;
        while !lines.is_empty() {
            let (image, run) = block.run_of(&lines);
            for line in run.clone() {
                for k in channels.clone().step_by(lanes) {
                    // SAFETY: as for `Input`.
                    unsafe {
                        for t in 0..across {
                            let at = m.add((tile + t) * block.rows + k);
                            let mut half = [[V::zero(); IN]; OUT];
                            for j in 0..IN {
                                let mut column = [V::zero(); IN];
                                for (i, m) in column.iter_mut().enumerate() {
                                    *m = V::load(at.add((i * IN + j) * plane));
                                }
                                for (half, m) in half.iter_mut().zip(of_output(column)) {
                                    half[j] = m;
                                }
                            }
                            for (i, half) in half.into_iter().enumerate() {
                                for (j, y) in of_output(half).into_iter().enumerate() {
                                    y.store(staged.add(((i * across + t) * OUT + j) * lanes));
                                }
                            }
                        }
                        for i in 0..OUT.min(height - line * OUT) {
                            let row = ((image * job.rows + k) * height + line * OUT + i) * width;
                            for x in (0..width).step_by(lanes) {
                                Transpose::<V> {
                                    from: staged.add((i * across * OUT + x) * lanes),
                                    from_row: lanes,
                                    rows: (width - x).min(lanes),
                                    len: (job.rows - k).min(lanes),
                                    parts: 1,
                                    part: 0,
                                    to: job.dst.add(row + x),
                                    to_row: height * width,
                                    pad: false,
                                }
                                .call();
                            }
                        }
                    }
                }
                tile += across;
            }
            lines.start += run.len();
        }
    }
}

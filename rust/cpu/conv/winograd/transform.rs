//! The transforms between planes and the 36 matrices: weights to U, the input to V, M to the result; and for
//! the gradient of the weights dy to E, P to dw. What is transformed when, and by which thread, is said in
//! `mod.rs` and `weight.rs`.

use std::marker::PhantomData;
use std::ops::Range;

use super::block::Block;
use super::{IN, OUT, TAPS, Winograd};
use crate::cpu::conv::Dims;
use crate::cpu::conv::simd::{Kernel, Simd};
use crate::cpu::conv::tile::Transpose;

/// `a x + y`.
#[inline(always)]
unsafe fn plus<V: Simd<Elem = f32>>(y: V, a: f32, x: V) -> V {
    // SAFETY: the caller has the instructions.
    unsafe { V::splat(a).fma(x, y) }
}

/// The matrix of the weights' transform.
const G: [[f32; TAPS]; IN] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

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

/// `A e` of four values.
#[inline(always)]
unsafe fn of_gradient<V: Simd<Elem = f32>>(e: [V; OUT]) -> [V; IN] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let (even, odd) = (e[0].add(e[2]), e[1].add(e[3]));
        let (far, far_odd) = (plus(e[0], 4.0, e[2]), plus(e[1], 4.0, e[3]));
        [e[0], even.add(odd), plus(even, -1.0, odd), plus(far, 2.0, far_odd), plus(far, -2.0, far_odd), e[3]]
    }
}

/// `Gᵀ p`.
#[inline(always)]
unsafe fn of_products<V: Simd<Elem = f32>>(p: [V; IN]) -> [V; TAPS] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let scaled = |a: f32, x: V| plus(V::zero(), a, x);
        let (near, near_odd) = (p[1].add(p[2]), plus(p[2], -1.0, p[1]));
        let (far, far_odd) = (p[3].add(p[4]), plus(p[3], -1.0, p[4]));
        [
            plus(plus(scaled(0.25, p[0]), -1.0 / 6.0, near), 1.0 / 24.0, far),
            plus(scaled(1.0 / 6.0, near_odd), 1.0 / 12.0, far_odd),
            plus(scaled(1.0 / 6.0, plus(far, -1.0, near)), 1.0, p[5]),
        ]
    }
}

/// The nine taps of each channel that is summed over, as vectors of the channels of the result: those of vector `v`.
pub struct Taps<'a, V: Simd> {
    pub job: &'a Winograd<'a>,
    pub v: usize,
    pub to: *mut V::Elem,
}

impl<V: Simd<Elem = f32>> Kernel for Taps<'_, V> {
    #[inline(always)]
    unsafe fn call(self) {
        let Taps { job, v, to } = self;
        let (area, first) = (TAPS * TAPS, v * V::LANES);
        // Channels whose taps follow each other are one long row.
        let (count, len) = if job.weight_depth == area { (1, job.depth * area) } else { (job.depth, area) };
        for c in 0..count {
            // SAFETY: the weights have nine taps for each pair of channels, and `to` has room.
            unsafe {
                Transpose::<V> {
                    from: job.weight.add(first * job.weight_row + c * job.weight_depth),
                    from_row: job.weight_row,
                    rows: (job.rows - first).min(V::LANES),
                    len,
                    parts: 1,
                    part: 0,
                    to: to.add(c * area * V::LANES),
                    to_row: V::LANES,
                    pad: true,
                }
                .call();
            }
        }
    }
}

/// Some rows of the 6×6 of `U_f[c, k]` for the channels `k` of one vector, from their taps.
pub struct Weights<V: Simd> {
    pub depth: usize,
    pub turned: bool,
    pub rows: Range<usize>,
    pub taps: *const V::Elem,
    /// The first of the matrices, which lie `plane` apart, with channels `to_row` apart.
    pub to: *mut V::Elem,
    pub to_row: usize,
    pub plane: usize,
}

impl<V: Simd<Elem = f32>> Kernel for Weights<V> {
    #[inline(always)]
    unsafe fn call(self) {
        let Weights { depth, turned, rows, taps, to, to_row, plane } = self;
        for (i, g) in rows.map(|row| G[row]).enumerate() {
            // SAFETY: taps and matrices are as large as the sizes say.
            unsafe {
                let g = g.map(|g| V::splat(g));
                for c in 0..depth {
                    let from = taps.add(c * TAPS * TAPS * V::LANES);
                    let mut half = [V::zero(); TAPS];
                    for (s, half) in half.iter_mut().enumerate() {
                        for (r, g) in g.into_iter().enumerate() {
                            let at = r * TAPS + s;
                            let at = if turned { TAPS * TAPS - 1 - at } else { at };
                            *half = g.fma(V::load(from.add(at * V::LANES)), *half);
                        }
                    }
                    for (j, x) in of_weights(half).into_iter().enumerate() {
                        x.store(to.add((i * IN + j) * plane + c * to_row));
                    }
                }
            }
        }
    }
}

/// What a tile takes of a plane, and what becomes of a row or column of it.
pub trait Side {
    /// Rows and columns of the window.
    const SIZE: usize;

    /// The transform of the first `SIZE` values.
    unsafe fn transform<V: Simd<Elem = f32>>(d: [V; IN]) -> [V; IN];
}

/// Windows of the input, which overlap.
pub struct OfInput;

impl Side for OfInput {
    const SIZE: usize = IN;

    #[inline(always)]
    unsafe fn transform<V: Simd<Elem = f32>>(d: [V; IN]) -> [V; IN] {
        // SAFETY: the caller has the instructions.
        unsafe { of_input(d) }
    }
}

/// Tiles of the gradient of the result, side by side.
pub struct OfGradient;

impl Side for OfGradient {
    const SIZE: usize = OUT;

    #[inline(always)]
    unsafe fn transform<V: Simd<Elem = f32>>(d: [V; IN]) -> [V; IN] {
        // SAFETY: the caller has the instructions.
        unsafe { of_gradient([d[0], d[1], d[2], d[3]]) }
    }
}

/// Planes that are cut into tiles, line by line, and where their transforms go.
pub struct Planes {
    pub src: *const f32,
    pub channels: usize,
    /// Of a plane, and how much of its first window lies before it.
    pub size: [usize; 2],
    pub pad: [usize; 2],
    /// Tiles of a plane, down and across.
    pub tiles: [usize; 2],
    /// Elements between tiles in each of the 36 matrices, and between these.
    pub pitch: usize,
    pub plane: usize,
}

// SAFETY: the planes are only read.
unsafe impl Sync for Planes {}

impl Planes {
    /// Columns that a line of tiles reads.
    pub fn width<S: Side>(&self) -> usize {
        self.tiles[1] * OUT + S::SIZE - OUT
    }

    /// Elements of the rows of so many lines as vectors of channels, and of one line's after half the
    /// transform.
    pub fn staged<V: Simd, S: Side>(&self, lines: usize) -> usize {
        (lines * OUT + S::SIZE - OUT + IN) * self.width::<S>() * V::LANES
    }

    /// The part of the lines that lies in one image, beginning with the first: the image, its lines.
    pub fn run_of(&self, lines: &Range<usize>) -> (usize, Range<usize>) {
        let image = lines.start / self.tiles[0];
        let first = lines.start % self.tiles[0];
        (image, first..self.tiles[0].min(first + lines.len()))
    }
}

/// The 36 matrices `[tile, channel]` of some lines.
pub struct Spread<'a, S, V: Simd> {
    pub planes: &'a Planes,
    pub lines: Range<usize>,
    pub channels: Range<usize>,
    /// For as many elements as `Planes::staged` says.
    pub staged: *mut V::Elem,
    /// Where the first line's tiles go.
    pub to: *mut V::Elem,
    pub side: PhantomData<S>,
}

impl<S: Side, V: Simd<Elem = f32>> Kernel for Spread<'_, S, V> {
    #[inline(always)]
    unsafe fn call(self) {
        let Spread { planes, mut lines, channels, staged, to, .. } = self;
        let (width, across) = (planes.width::<S>(), planes.tiles[1]);
        let half = staged.wrapping_add((lines.len() * OUT + S::SIZE - OUT) * width * V::LANES);
        let mut tile = 0;
        while !lines.is_empty() {
            let (image, run) = planes.run_of(&lines);
            for c in channels.clone().step_by(V::LANES) {
                // SAFETY: the caller's promises; places are within what `Planes` says.
                unsafe {
                    stage::<S, V>(planes, image, &run, c, staged);
                    for line in 0..run.len() {
                        let rows = staged.add(line * OUT * width * V::LANES);
                        for x in 0..width {
                            let mut d = [V::zero(); IN];
                            for (i, d) in d.iter_mut().enumerate().take(S::SIZE) {
                                *d = V::load(rows.add((i * width + x) * V::LANES));
                            }
                            for (i, d) in S::transform(d).into_iter().enumerate() {
                                d.store(half.add((i * width + x) * V::LANES));
                            }
                        }
                        for t in 0..across {
                            let at = (tile + line * across + t) * planes.pitch + c;
                            for i in 0..IN {
                                let mut d = [V::zero(); IN];
                                for (j, d) in d.iter_mut().enumerate().take(S::SIZE) {
                                    *d = V::load(half.add((i * width + t * OUT + j) * V::LANES));
                                }
                                for (j, d) in S::transform(d).into_iter().enumerate() {
                                    d.store(to.add((i * IN + j) * planes.plane + at));
                                }
                            }
                        }
                    }
                }
            }
            tile += run.len() * across;
            lines.start += run.len();
        }
    }
}

/// The rows that a run of lines needs, with their padding, as vectors of channels from `c` on.
#[inline(always)]
unsafe fn stage<S: Side, V: Simd<Elem = f32>>(
    planes: &Planes,
    image: usize,
    run: &Range<usize>,
    c: usize,
    to: *mut f32,
) {
    let ([height, width], lanes, columns) = (planes.size, V::LANES, planes.width::<S>());
    for row in 0..run.len() * OUT + S::SIZE - OUT {
        let to = to.wrapping_add(row * columns * lanes);
        let y = (run.start * OUT + row).wrapping_sub(planes.pad[0]);
        let inside = if y < height { planes.pad[1]..planes.pad[1] + width } else { 0..0 };
        // SAFETY: as for `Spread`.
        unsafe {
            for x in (0..columns).filter(|x| !inside.contains(x)) {
                V::zero().store(to.add(x * lanes));
            }
            if y < height {
                Transpose::<V> {
                    from: planes.src.add(((image * planes.channels + c) * height + y) * width),
                    from_row: height * width,
                    rows: (planes.channels - c).min(lanes),
                    len: width,
                    parts: 1,
                    part: 0,
                    to: to.add(planes.pad[1] * lanes),
                    to_row: lanes,
                    pad: true,
                }
                .call();
            }
        }
    }
}

/// The part of `M A` that a row of the 6×6 has, for a panel of `M_f[tile, k]`.
pub struct Half<V: Simd> {
    pub m: *const V::Elem,
    /// Elements between matrices, and between tiles.
    pub plane: usize,
    pub width: usize,
    pub count: usize,
    /// The first tile's: four vectors, a panel apart; tiles have room for all rows.
    pub to: *mut V::Elem,
}

impl<V: Simd<Elem = f32>> Kernel for Half<V> {
    #[inline(always)]
    unsafe fn call(self) {
        let Half { m, plane, width, count, to } = self;
        for tile in 0..count {
            for x in (0..width).step_by(V::LANES) {
                // SAFETY: matrices and halves are as large as the sizes say.
                unsafe {
                    let mut row = [V::zero(); IN];
                    for (j, row) in row.iter_mut().enumerate() {
                        *row = V::load(m.add(j * plane + tile * width + x));
                    }
                    for (j, half) in of_output(row).into_iter().enumerate() {
                        half.store(to.add((tile * IN * OUT + j) * width + x));
                    }
                }
            }
        }
    }
}

/// The result from `M A`.
pub struct Output<'a, V: Simd> {
    pub block: &'a Block<'a, V>,
    pub lines: Range<usize>,
    pub channels: Range<usize>,
    /// The number of the first tile.
    pub tile: usize,
    pub staged: *mut f32,
    pub half: *const f32,
}

impl<V: Simd<Elem = f32>> Kernel for Output<'_, V> {
    #[inline(always)]
    unsafe fn call(self) {
        let Output { block, mut lines, channels, mut tile, staged, half } = self;
        let (job, lanes) = (block.job, V::LANES);
        let ([height, width], across) = (job.grid, block.input.tiles[1]);
        while !lines.is_empty() {
            let (image, run) = block.input.run_of(&lines);
            for k in channels.clone().step_by(lanes) {
                let (at, apart) = block.half(k / lanes);
                for line in run.clone() {
                    // SAFETY: as for `Spread`.
                    unsafe {
                        for t in 0..across {
                            let tile = tile + (line - run.start) * across + t;
                            let at = half.add(at + tile * IN * OUT * apart);
                            for j in 0..OUT {
                                let mut column = [V::zero(); IN];
                                for (i, half) in column.iter_mut().enumerate() {
                                    *half = V::load(at.add((i * OUT + j) * apart));
                                }
                                for (i, y) in of_output(column).into_iter().enumerate() {
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
            }
            tile += run.len() * across;
            lines.start += run.len();
        }
    }
}

/// The gradient of the weights from `P_f[k, c]`, for some channels `k` of the result.
pub struct Products<'a, V: Simd> {
    pub dims: &'a Dims,
    pub ks: Range<usize>,
    /// Elements between the 36 matrices; a vector more than they hold can be read.
    pub plane: usize,
    pub p: *const V::Elem,
    pub dw: *mut V::Elem,
}

impl<V: Simd<Elem = f32>> Kernel for Products<'_, V> {
    #[inline(always)]
    unsafe fn call(self) {
        let Products { dims, ks, plane, p, dw } = self;
        let (lanes, area) = (V::LANES, TAPS * TAPS);
        // Nine taps of a vector of channels; no vector has more lanes.
        let mut taps = [0f32; 16 * TAPS * TAPS];
        for k in ks {
            for c in (0..dims.c).step_by(lanes) {
                // SAFETY: P and dw are as large as the sizes say.
                unsafe {
                    let at = p.add(k * dims.c + c);
                    let mut half = [[V::zero(); IN]; TAPS];
                    for j in 0..IN {
                        let mut column = [V::zero(); IN];
                        for (i, p) in column.iter_mut().enumerate() {
                            *p = V::load(at.add((i * IN + j) * plane));
                        }
                        for (half, p) in half.iter_mut().zip(of_products(column)) {
                            half[j] = p;
                        }
                    }
                    for (r, half) in half.into_iter().enumerate() {
                        for (s, w) in of_products(half).into_iter().enumerate() {
                            w.store(taps.as_mut_ptr().add((r * TAPS + s) * lanes));
                        }
                    }
                    for tap in (0..area).step_by(lanes) {
                        Transpose::<V> {
                            from: taps.as_ptr().add(tap * lanes),
                            from_row: lanes,
                            rows: (area - tap).min(lanes),
                            len: (dims.c - c).min(lanes),
                            parts: 1,
                            part: 0,
                            to: dw.add((k * dims.c + c) * area + tap),
                            to_row: area,
                            pad: false,
                        }
                        .call();
                    }
                }
            }
        }
    }
}

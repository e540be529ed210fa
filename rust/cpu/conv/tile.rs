//! The register tiles that all convolutions are made of, and the copies around them. Geometry reaches
//! them as tables of offsets; they know nothing of channels, images or strides.

use super::simd::{Kernel, Simd};
use crate::cpu::matmul::vector::{sums as sum_lanes, transpose};

/// The largest tile, in rows.
pub const MAX_ROWS: usize = 8;

/// The most elements that a tile of any instruction set has.
pub const MAX_TILE: usize = 4 * 6 * 16;

/// Where the two factors of one term of a sum lie, counted in elements from the tile's `a` and `b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub a: usize,
    pub b: usize,
}

/// A tile of sums, held in registers from the first term to the last:
///
/// `c[i][v] = init[i][v] + Σ_d a[i][steps[d].a] · b[steps[d].b + v]`
///
/// Rows `i` are single values that are broadcast, columns `v` are lanes. Without `init` sums begin at 0.
pub struct Tile<'a, T> {
    pub steps: &'a [Step],
    pub a: [*const T; MAX_ROWS],
    pub b: *const T,
    pub init: *const T,
    pub init_row: usize,
    pub c: *mut T,
    pub c_row: usize,
}

/// Computes a tile of `rows` rows and `width` registers across.
///
/// # Safety
/// The processor has `V`'s instructions, `rows ≤ V::ROWS`, `width ≤ V::WIDTHS[rows - 1]`, and all elements
/// that the tile names are there.
pub unsafe fn tile<V: Simd>(rows: usize, width: usize, tile: &Tile<V::Elem>) {
    struct Run<'a, V: Simd, const M: usize, const N: usize>(&'a Tile<'a, V::Elem>);

    impl<V: Simd, const M: usize, const N: usize> Kernel for Run<'_, V, M, N> {
        #[inline(always)]
        unsafe fn call(self) {
            let tile = self.0;
            // SAFETY: by the contract of `tile`.
            unsafe {
                let mut sums = [[V::zero(); N]; M];
                if !tile.init.is_null() {
                    for (i, row) in sums.iter_mut().enumerate() {
                        for (v, sum) in row.iter_mut().enumerate() {
                            *sum = V::load(tile.init.add(i * tile.init_row + v * V::LANES));
                        }
                    }
                }
                let (a, b): ([_; MAX_ROWS], _) = (tile.a, tile.b);
                for step in tile.steps {
                    let shared: [V; N] = std::array::from_fn(|v| V::load(b.add(step.b + v * V::LANES)));
                    for (row, a) in sums.iter_mut().zip(a) {
                        let x = V::splat(*a.add(step.a));
                        for (sum, b) in row.iter_mut().zip(shared) {
                            *sum = x.fma(b, *sum);
                        }
                    }
                }
                for (i, row) in sums.iter().enumerate() {
                    for (v, sum) in row.iter().enumerate() {
                        sum.store(tile.c.add(i * tile.c_row + v * V::LANES));
                    }
                }
            }
        }
    }

    macro_rules! widths {
        ($rows:literal: $($width:literal)+) => {
            match width {
                // Only tiles that the instruction set has are compiled for it.
                $($width if const { $width <= V::WIDTHS[$rows - 1] } => {
                    // SAFETY: the caller's promises, passed on.
                    unsafe { V::run(Run::<V, $rows, $width>(tile)) }
                })+
                _ => unreachable!("no tile of {} rows is {width} registers wide", $rows),
            }
        };
    }
    match rows {
        1 => widths!(1: 1 2 3 4 5 6),
        2 => widths!(2: 1 2 3 4 5 6),
        3 => widths!(3: 1 2 3 4 5 6),
        4 => widths!(4: 1 2 3 4 5 6),
        5 => widths!(5: 1 2 3 4),
        6 => widths!(6: 1 2 3 4),
        7 => widths!(7: 1 2 3),
        8 => widths!(8: 1 2 3),
        _ => unreachable!("tiles have 1 to {MAX_ROWS} rows"),
    }
}

/// The most rows and columns of a tile of dot products.
pub const MAX_DOT: [usize; 2] = [4, 6];

/// A tile of dot products over positions, which lie along the lanes:
///
/// `c[i][j] += Σ_(image, row, x) a[i][image, row, x] · b[j][image, row, x]`
pub struct Dot<T> {
    pub a: [*const T; MAX_DOT[0]],
    pub b: [*const T; MAX_DOT[1]],
    pub images: usize,
    pub a_image: usize,
    pub b_image: usize,
    pub rows: usize,
    pub a_row: usize,
    pub b_row: usize,
    pub len: usize,
    pub c: *mut T,
    pub c_row: usize,
}

/// Computes `rows` × `columns` dot products.
///
/// # Safety
/// As for `tile`, with `[rows, columns] ≤ V::DOT`.
pub unsafe fn dot<V: Simd>(rows: usize, columns: usize, dot: &Dot<V::Elem>) {
    struct Run<'a, V: Simd, const M: usize, const N: usize>(&'a Dot<V::Elem>);

    impl<V: Simd, const M: usize, const N: usize> Kernel for Run<'_, V, M, N> {
        #[inline(always)]
        unsafe fn call(self) {
            let dot = self.0;
            // SAFETY: by the contract of `dot`.
            unsafe {
                let mut sums = [[V::zero(); N]; M];
                for image in 0..dot.images {
                    for row in 0..dot.rows {
                        let (from_a, from_b) =
                            (image * dot.a_image + row * dot.a_row, image * dot.b_image + row * dot.b_row);
                        let mut x = 0;
                        while x + V::LANES <= dot.len {
                            let b: [V; N] = std::array::from_fn(|j| V::load(dot.b[j].add(from_b + x)));
                            for (row, a) in sums.iter_mut().zip(dot.a) {
                                let a = V::load(a.add(from_a + x));
                                for (sum, b) in row.iter_mut().zip(b) {
                                    *sum = a.fma(b, *sum);
                                }
                            }
                            x += V::LANES;
                        }
                        let rest = dot.len - x;
                        if rest > 0 {
                            let b: [V; N] =
                                std::array::from_fn(|j| V::load_first(dot.b[j].add(from_b + x), rest));
                            for (row, a) in sums.iter_mut().zip(dot.a) {
                                let a = V::load_first(a.add(from_a + x), rest);
                                for (sum, b) in row.iter_mut().zip(b) {
                                    *sum = a.fma(b, *sum);
                                }
                            }
                        }
                    }
                }
                for (i, row) in sums.iter_mut().enumerate() {
                    let c = dot.c.add(i * dot.c_row);
                    V::load_first(c, N).add(sum_lanes(row)).store_first(c, N);
                }
            }
        }
    }

    macro_rules! columns {
        ($rows:literal: $($columns:literal)+) => {
            match columns {
                $($columns if const { $rows <= V::DOT[0] && $columns <= V::DOT[1] } => {
                    // SAFETY: the caller's promises, passed on.
                    unsafe { V::run(Run::<V, $rows, $columns>(dot)) }
                })+
                _ => unreachable!("no tile of dot products is {} by {columns}", $rows),
            }
        };
    }
    match rows {
        1 => columns!(1: 1 2 3 4 5 6),
        2 => columns!(2: 1 2 3 4 5 6),
        3 => columns!(3: 1 2 3 4 5 6),
        4 => columns!(4: 1 2 3 4 5 6),
        _ => unreachable!("tiles of dot products have 1 to {} rows", MAX_DOT[0]),
    }
}

/// One register's worth of a panel's row: from where it is read, and at which lane it goes.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    pub from: usize,
    pub lane: usize,
}

/// Fills a panel: its row `d` is what `moves` gather around `from + steps[d].b`. Moves go up the lanes
/// and each writes a whole register: what it writes too far, the next one or the next row overwrites,
/// and a register's worth of memory behind the panel takes the last.
pub struct Pack<'a, V: Simd> {
    pub from: *const V::Elem,
    pub steps: &'a [Step],
    pub moves: &'a [Move],
    pub panel: *mut V::Elem,
    /// Lanes in a row of the panel.
    pub lanes: usize,
}

impl<V: Simd> Kernel for Pack<'_, V> {
    #[inline(always)]
    unsafe fn call(self) {
        for (d, step) in self.steps.iter().enumerate() {
            // SAFETY: whoever made the tables vouches for the places.
            unsafe {
                let (from, to) = (self.from.add(step.b), self.panel.add(d * self.lanes));
                for m in self.moves {
                    V::load(from.add(m.from)).store(to.add(m.lane));
                }
            }
        }
    }
}

/// Lanes of a tile that are neighbours in the result.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub lane: usize,
    pub len: usize,
    pub to: usize,
}

/// Writes a tile's rows to the result, piece by piece; neighbours lie `stride` apart.
pub struct Emit<'a, V: Simd> {
    pub from: *const V::Elem,
    pub from_row: usize,
    pub to: *mut V::Elem,
    pub to_row: usize,
    pub rows: usize,
    pub pieces: &'a [Piece],
    pub stride: usize,
}

impl<V: Simd> Kernel for Emit<'_, V> {
    #[inline(always)]
    unsafe fn call(self) {
        for row in 0..self.rows {
            for piece in self.pieces {
                // SAFETY: whoever made the pieces vouches for the places.
                unsafe {
                    let from = self.from.add(row * self.from_row + piece.lane);
                    let to = self.to.add(row * self.to_row + piece.to);
                    if self.stride == 1 {
                        copy::<V>(from, to, piece.len);
                    } else {
                        for x in 0..piece.len {
                            *to.add(x * self.stride) = *from.add(x);
                        }
                    }
                }
            }
        }
    }
}

/// Copies `len` elements, and touches no others.
#[inline(always)]
pub unsafe fn copy<V: Simd>(from: *const V::Elem, to: *mut V::Elem, len: usize) {
    // SAFETY: the caller vouches for the elements.
    unsafe {
        let mut x = 0;
        while x + V::LANES <= len {
            V::load(from.add(x)).store(to.add(x));
            x += V::LANES;
        }
        if x < len {
            V::load_first(from.add(x), len - x).store_first(to.add(x), len - x);
        }
    }
}

/// Transposes rows into columns: `to[x][r] = Σ_p from[r][p·part + x]` for `r < rows ≤ LANES`, with zeros
/// up to the last lane if `pad`, else without touching what lies there.
pub struct Transpose<V: Simd> {
    pub from: *const V::Elem,
    pub from_row: usize,
    pub rows: usize,
    pub len: usize,
    pub parts: usize,
    pub part: usize,
    pub to: *mut V::Elem,
    pub to_row: usize,
    pub pad: bool,
}

impl<V: Simd> Kernel for Transpose<V> {
    #[inline(always)]
    unsafe fn call(self) {
        let mut x = 0;
        while x < self.len {
            let n = (self.len - x).min(V::LANES);
            // SAFETY: whoever made the job vouches for the places.
            unsafe {
                let mut square = V::square();
                for (r, row) in square.as_mut().iter_mut().enumerate().take(self.rows) {
                    let from = self.from.add(r * self.from_row + x);
                    let load = |from| if n == V::LANES { V::load(from) } else { V::load_first(from, n) };
                    *row = load(from);
                    for part in 1..self.parts {
                        *row = row.add(load(from.add(part * self.part)));
                    }
                }
                transpose::<V>(&mut square);
                for (i, column) in square.as_mut().iter().enumerate().take(n) {
                    let to = self.to.add((x + i) * self.to_row);
                    if self.pad || self.rows == V::LANES {
                        column.store(to);
                    } else {
                        column.store_first(to, self.rows);
                    }
                }
            }
            x += V::LANES;
        }
    }
}

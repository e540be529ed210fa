//! Depthwise convolutions of stride 1, where each plane of the input makes one plane of the result, and
//! their gradient to the input, which is the same with the kernel turned round.
//!
//! `y[p] = Σ_t w[t] · x[p + tap t]`: there is no sum over channels to amortise a copy, so a plane is read once
//! into a border of zeros in the first level of cache, where its columns are aligned, while the next plane is
//! fetched. Every output vector is one chain over the taps, column by column of the kernel, `ROWS` rows at a time:
//! several chains run side by side, and of kernels of a usual height each row of the input is loaded once for all
//! rows of the result that it belongs to.

use super::Done;
use super::scratch::with;
use super::simd::{Float, Kernel, Simd};
use super::tile::copy;
use crate::core::Result;
use crate::cpu::matmul::kernel::prefetch;
use crate::cpu::work::try_parallel;

/// Rows of the result that are computed side by side.
const ROWS: usize = 4;
/// Multiplications that are worth a chunk of their own.
const WORK: usize = 128 << 10;
/// Elements of a plane with its border: more would leave the first two levels of cache.
pub const PLANE: usize = 64 << 10;

pub struct Depthwise<T> {
    /// Planes in all, and in an image.
    pub planes: usize,
    pub channels: usize,
    pub size: [usize; 2],
    pub grid: [usize; 2],
    pub pad: [usize; 2],
    pub kernel: [usize; 2],
    pub dilation: [usize; 2],
    pub src: *const T,
    /// A kernel for each channel.
    pub weight: *const T,
    pub turned: bool,
    pub dst: *mut T,
}

// SAFETY: operands are only read, and each thread writes its own planes.
unsafe impl<T: Float> Sync for Depthwise<T> {}

impl<T: Float> Depthwise<T> {
    /// Rows and elements of a row of a plane with its border, for vectors and tiles that run over the end; and the
    /// column of the input's first, which is aligned.
    fn framed<V: Simd<Elem = T>>(&self) -> [usize; 3] {
        let before = self.pad[1].next_multiple_of(V::LANES);
        let [rows, columns] = std::array::from_fn(|a| {
            (self.grid[a] + (self.kernel[a] - 1) * self.dilation[a]).max(self.size[a] + self.pad[a])
        });
        [rows + ROWS, (before + columns).next_multiple_of(V::LANES) + 2 * V::LANES, before]
    }

    /// # Safety
    /// The processor has `V`'s instructions, and the pointers lead to all elements that the sizes name.
    pub unsafe fn run<V: Simd<Elem = T>>(&self, done: Done) -> Result<()> {
        let [height, width, before] = self.framed::<V>();
        let area = self.grid[0] * self.grid[1];
        let [rows, columns] = self.kernel;
        let each = (WORK / (area * rows * columns)).max(1);
        try_parallel(self.planes.div_ceil(each), |chunk| {
            with(height * width, |frame: *mut T| {
                // SAFETY: the caller's promises; the frame is this thread's, and the planes its own.
                unsafe {
                    // All planes of the chunk have the same border.
                    frame.write_bytes(0, height * width);
                    for plane in chunk * each..self.planes.min((chunk + 1) * each) {
                        V::run(Plane::<V> { job: self, plane, frame, width, before });
                        if let Some(done) = done {
                            done(plane * area, area);
                        }
                    }
                }
            })
        })
    }
}

struct Plane<'a, V: Simd> {
    job: &'a Depthwise<V::Elem>,
    plane: usize,
    frame: *mut V::Elem,
    width: usize,
    before: usize,
}

impl<V: Simd> Kernel for Plane<'_, V> {
    #[inline(always)]
    unsafe fn call(self) {
        let Plane { job, plane, frame, width, before } = self;
        let [rows, columns] = job.size;
        // SAFETY: the caller's promises, passed on.
        unsafe {
            let src = job.src.add(plane * rows * columns);
            for y in 0..rows {
                copy::<V>(src.add(y * columns), frame.add((y + job.pad[0]) * width + before), columns);
            }
            match (job.kernel[0], job.dilation[0]) {
                (3, 1) => self.tiles::<3>(),
                (5, 1) => self.tiles::<5>(),
                (7, 1) => self.tiles::<7>(),
                _ => self.tiles::<1>(),
            }
        }
    }
}

impl<V: Simd> Plane<'_, V> {
    /// The result in tiles of `ROWS` rows and one or two vectors, by kernels of R rows, or of any number if R is 1.
    ///
    /// # Safety
    /// As for `Depthwise::run`; the frame is filled.
    #[inline(always)]
    unsafe fn tiles<const R: usize>(&self) {
        let [rows, columns] = self.job.grid;
        let next = self.job.size[0] * self.job.size[1];
        let ahead = self.job.src.wrapping_add((self.plane + 1) * next);
        let line = 64 / size_of::<V::Elem>();
        for y in (0..rows).step_by(ROWS) {
            let lines = next * y / rows..next * (y + ROWS) / rows;
            lines.step_by(line).for_each(|at| prefetch(ahead.wrapping_add(at)));
            let mut x = 0;
            while x < columns {
                // SAFETY: the caller's promises, passed on.
                unsafe {
                    if columns - x > V::LANES {
                        self.tile::<R, 2>(y, x);
                    } else {
                        self.tile::<R, 1>(y, x);
                    }
                }
                x += 2 * V::LANES;
            }
        }
    }

    /// # Safety
    /// As for `tiles`.
    #[inline(always)]
    unsafe fn tile<const R: usize, const N: usize>(&self, y: usize, x: usize) {
        let &Plane { job, plane, frame, width, before } = self;
        let ([rows, columns], [height, across]) = (job.grid, job.kernel);
        // SAFETY: the frame has room for the plane within its border, and for vectors and rows that run over
        // its end.
        unsafe {
            let weight = job.weight.add(plane % job.channels * height * across);
            let tap = |r: usize, s: usize| {
                let t = r * across + s;
                V::splat(*weight.add(if job.turned { height * across - 1 - t } else { t }))
            };
            let mut sums = [[V::zero(); N]; ROWS];
            for s in 0..across {
                let from = frame.add(y * width + x + before - job.pad[1] + s * job.dilation[1]);
                for first in (0..height).step_by(R) {
                    let from = from.add(first * job.dilation[0] * width);
                    let w: [V; R] = std::array::from_fn(|r| tap(first + r, s));
                    // Row `i + r` of the input belongs to row `i` of the result.
                    for row in 0..ROWS + R - 1 {
                        let at = from.add(row * width);
                        let x: [V; N] = std::array::from_fn(|v| V::load(at.add(v * V::LANES)));
                        for r in 0..R {
                            if let Some(sums) = row.checked_sub(r).and_then(|i| sums.get_mut(i)) {
                                for (sum, x) in sums.iter_mut().zip(x) {
                                    *sum = w[r].fma(x, *sum);
                                }
                            }
                        }
                    }
                }
            }
            let dst = job.dst.add(plane * rows * columns);
            for (i, row) in sums.iter().enumerate().take(rows - y) {
                for (v, sum) in row.iter().enumerate() {
                    let x = x + v * V::LANES;
                    let to = dst.wrapping_add((y + i) * columns + x);
                    if columns >= x + V::LANES {
                        sum.store(to);
                    } else if columns > x {
                        sum.store_first(to, columns - x);
                    }
                }
            }
        }
    }
}

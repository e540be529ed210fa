//! Depthwise convolutions of stride 1, where each plane of the input makes one plane of the result, and
//! their gradient to the input, which is the same with the kernel turned round.
//!
//! `y[p] = Σ_t w[t] · x[p + tap t]`: there is no sum over channels to amortise a copy, so a plane is read once
//! into a border of zeros in the first level of cache and every output vector is one chain over the taps,
//! `ROWS` rows at a time so that several chains run side by side.

use super::Done;
use super::scratch::with;
use super::simd::{Float, Kernel, Simd};
use crate::core::Result;
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
    /// Rows and elements of a row of a plane with its border, for vectors that run over the end.
    fn framed<V: Simd<Elem = T>>(&self) -> [usize; 2] {
        let [rows, columns] = std::array::from_fn(|a| {
            (self.grid[a] + (self.kernel[a] - 1) * self.dilation[a]).max(self.size[a] + self.pad[a])
        });
        [rows + ROWS, columns.next_multiple_of(V::LANES) + 2 * V::LANES]
    }

    /// # Safety
    /// The processor has `V`'s instructions, and the pointers lead to all elements that the sizes name.
    pub unsafe fn run<V: Simd<Elem = T>>(&self, done: Done) -> Result<()> {
        let [height, width] = self.framed::<V>();
        let area = self.grid[0] * self.grid[1];
        let [rows, columns] = self.kernel;
        let taps: Vec<usize> = (0..rows * columns)
            .map(|t| t / columns * self.dilation[0] * width + t % columns * self.dilation[1])
            .collect();
        let each = (WORK / (area * self.kernel[0] * self.kernel[1])).max(1);
        try_parallel(self.planes.div_ceil(each), |chunk| {
            with(height * width, |frame| {
                for plane in chunk * each..self.planes.min((chunk + 1) * each) {
                    // SAFETY: the caller's promises; the frame is this thread's, and the plane its own.
                    unsafe { V::run(Plane::<V> { job: self, plane, frame, width, height, taps: &taps }) };
                    if let Some(done) = done {
                        done(plane * area, area);
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
    height: usize,
    /// Where each tap is from a position.
    taps: &'a [usize],
}

impl<V: Simd> Kernel for Plane<'_, V> {
    #[inline(always)]
    unsafe fn call(self) {
        // SAFETY: the caller's promises, passed on.
        unsafe {
            fill::<V>(self.job, self.plane, self.frame, self.width, self.height);
            if self.job.grid[1] > V::LANES { self.tiles::<2>() } else { self.tiles::<1>() }
        }
    }
}

impl<V: Simd> Plane<'_, V> {
    /// The result in tiles of `ROWS` rows and N vectors.
    ///
    /// # Safety
    /// As for `Depthwise::run`; the frame is filled.
    #[inline(always)]
    unsafe fn tiles<const N: usize>(&self) {
        let &Plane { job, plane, frame, width, taps, .. } = self;
        let [rows, columns] = job.grid;
        // SAFETY: the frame has room for the plane within its border, and for vectors and rows that run over
        // its end.
        unsafe {
            let weight = job.weight.add(plane % job.channels * taps.len());
            let dst = job.dst.add(plane * rows * columns);
            for y in (0..rows).step_by(ROWS) {
                for x in (0..columns).step_by(N * V::LANES) {
                    let mut sums = [[V::zero(); N]; ROWS];
                    for (t, tap) in taps.iter().enumerate() {
                        let w = V::splat(*weight.add(if job.turned { taps.len() - 1 - t } else { t }));
                        let from = frame.add(y * width + x + tap);
                        for (i, row) in sums.iter_mut().enumerate() {
                            for (v, sum) in row.iter_mut().enumerate() {
                                *sum = w.fma(V::load(from.add(i * width + v * V::LANES)), *sum);
                            }
                        }
                    }
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
    }
}

/// The plane within its border of zeros.
#[inline(always)]
unsafe fn fill<V: Simd>(
    job: &Depthwise<V::Elem>,
    plane: usize,
    frame: *mut V::Elem,
    width: usize,
    height: usize,
) {
    let [rows, columns] = job.size;
    // SAFETY: as for `Plane`.
    unsafe {
        let src = job.src.add(plane * rows * columns);
        for y in 0..height {
            let to = frame.add(y * width);
            for x in (0..width).step_by(V::LANES) {
                V::zero().store(to.add(x));
            }
            let from = y.wrapping_sub(job.pad[0]);
            if from < rows {
                std::ptr::copy_nonoverlapping(src.add(from * columns), to.add(job.pad[1]), columns);
            }
        }
    }
}

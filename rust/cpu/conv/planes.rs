//! Input planes as the tiles want them: padded, and split by stride, so that every tap of the kernel
//! is one constant offset from every output position.
//!
//! With stride `σ` and dilation `δ`, tap `s` of output column `j` reads the padded column `σ·j + δ·s`.
//! Of columns that are equal modulo `σ` a *part* is made, in which that column is number
//! `j + ⌊δ·s / σ⌋` of part `δ·s mod σ`: neighbours in the output are neighbours in the part, whatever
//! the stride. The same holds for rows. Parts that no tap reads are left out.
//!
//! The zeros before a row also serve as the zeros after the row before it, so that rows lie as close
//! together as their elements and the output positions allow, and few lanes are wasted between them.

use super::simd::{Kernel, Simd};
use crate::core::{Error, Result};

/// One tap of the kernel: where its weight lies within a channel's weights, and where in which part it
/// reads for output position (0, 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    pub weight: usize,
    pub part: usize,
    pub at: [usize; 2],
}

/// How planes are cut from an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Sizes of an input plane.
    pub size: [usize; 2],
    /// Zeros before the first row and column; negative to begin further inside.
    pub pad: [isize; 2],
    pub stride: [usize; 2],
    /// The residues modulo `stride` that are read, part by part.
    pub parts: Vec<[usize; 2]>,
    /// Output positions.
    pub grid: [usize; 2],
    /// Rows and columns that taps read beyond an output position's own.
    pub reach: [usize; 2],
    /// Elements between rows of a part.
    pub pitch: usize,
}

impl Frame {
    /// The same frame with rows as close together as they may be. Taps read columns up to `all`; those
    /// from `pitch` on are the first of the next row, which must be padding in every part.
    pub fn close_up(self) -> Frame {
        let all = self.grid[1] + self.reach[1];
        let mut pitch = self.grid[1];
        for part in &self.parts {
            let [left, right] = inside(part[1], self.pad[1], self.stride[1], self.size[1], all);
            let blank = if left == right { all } else { left };
            pitch = pitch.max(all - blank).max(right);
        }
        Frame { pitch, ..self }
    }

    /// Elements that must be zero behind the last row.
    pub fn tail(&self) -> usize {
        self.grid[1] + self.reach[1] - self.pitch
    }

    /// Whether the input's own planes are what the frame would make of them.
    pub fn is_input(&self) -> bool {
        self.pad == [0, 0]
            && self.stride == [1, 1]
            && self.pitch == self.size[1]
            && self.grid[0] + self.reach[0] == self.size[0]
    }

    /// Offset of a tap, from a channel whose parts have `rows` rows.
    pub fn offset(&self, tap: &Tap, rows: usize) -> usize {
        (tap.part * rows + tap.at[0]) * self.pitch + tap.at[1]
    }

    /// Elements of a channel whose parts have `rows` rows, if they can be counted.
    pub fn channel(&self, rows: usize) -> Result<usize> {
        let count = self.pitch.checked_mul(rows).and_then(|n| n.checked_mul(self.parts.len()));
        // Far below the largest, so that sums of a few offsets cannot overflow.
        count.filter(|&n| n <= isize::MAX as usize >> 8).ok_or_else(|| {
            Error::Memory("convolution: the padded input is larger than the address space".into())
        })
    }
}

/// Writes the parts of `channels` planes, `rows` rows each from row `first` on.
pub struct Fill<'a, V: Simd> {
    pub frame: &'a Frame,
    pub from: *const V::Elem,
    pub channels: usize,
    pub first: usize,
    pub rows: usize,
    /// Room for all of it, for `Frame::tail`, and for two registers more.
    pub to: *mut V::Elem,
}

/// Elements that `Fill` needs behind the planes.
pub fn slack<V: Simd>(frame: &Frame) -> usize {
    frame.tail() + 2 * V::LANES
}

impl<V: Simd> Kernel for Fill<'_, V> {
    #[inline(always)]
    unsafe fn call(self) {
        let Frame { size: [height, width], pad, stride, pitch, .. } = *self.frame;
        let mut to = self.to;
        // Everything is written in whole registers from left to right: what one writes too far, the next
        // one overwrites.
        for channel in 0..self.channels {
            // SAFETY: whoever made the job vouches for the planes and for the room.
            unsafe {
                let plane = self.from.add(channel * height * width);
                for part in &self.frame.parts {
                    // Columns `left .. right` of the part lie within the input.
                    let [left, right] = inside(part[1], pad[1], stride[1], width, pitch);
                    for row in self.first..self.first + self.rows {
                        let y = ((row * stride[0] + part[0]) as isize).wrapping_sub(pad[0]);
                        if y < 0 || y >= height as isize || left == right {
                            zero::<V>(to, 0, pitch);
                        } else {
                            zero::<V>(to, 0, left);
                            let x = (left * stride[1] + part[1]) as isize - pad[1];
                            let from = plane.add(y as usize * width + x as usize);
                            let end = gather::<V>(from, to.add(left), right - left, stride[1]);
                            zero::<V>(to, left + end, pitch);
                        }
                        to = to.add(pitch);
                    }
                }
            }
        }
        // SAFETY: as above.
        unsafe { zero::<V>(to, 0, self.frame.tail()) }
    }
}

/// The `x` in `0..count` for which `0 ≤ x·stride + residue − pad < size`, as a range.
pub fn inside(residue: usize, pad: isize, stride: usize, size: usize, count: usize) -> [usize; 2] {
    let from = residue as isize - pad;
    let first = if from >= 0 { 0 } else { from.unsigned_abs().div_ceil(stride) };
    let end = size as isize - from;
    let end = if end <= 0 { 0 } else { (end as usize).div_ceil(stride) };
    let first = first.min(count);
    [first, end.clamp(first, count)]
}

/// Zeros from `start` to `end`, and up to a register further.
#[inline(always)]
unsafe fn zero<V: Simd>(to: *mut V::Elem, start: usize, end: usize) {
    let mut x = start;
    while x < end {
        // SAFETY: the caller vouches for the room.
        unsafe { V::zero().store(to.add(x)) };
        x += V::LANES;
    }
}

/// Every `stride`-th element, `count` of them; returns up to where it has written, zeros after the last.
#[inline(always)]
unsafe fn gather<V: Simd>(from: *const V::Elem, to: *mut V::Elem, count: usize, stride: usize) -> usize {
    // SAFETY: the caller vouches for the elements.
    unsafe {
        match stride {
            1 => {
                let mut x = 0;
                while x + V::LANES <= count {
                    V::load(from.add(x)).store(to.add(x));
                    x += V::LANES;
                }
                if x < count {
                    V::load_first(from.add(x), count - x).store(to.add(x));
                    x += V::LANES;
                }
                x
            }
            // A constant that the compiler turns into shuffles.
            2 => {
                (0..count).for_each(|x| *to.add(x) = *from.add(2 * x));
                count
            }
            _ => {
                (0..count).for_each(|x| *to.add(x) = *from.add(stride * x));
                count
            }
        }
    }
}

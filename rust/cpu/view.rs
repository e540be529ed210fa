//! What kernels are given: operands in memory as strided views, results as fresh row-major buffers, and
//! the walk over a strided operand in row-major order. Nothing here computes.

use crate::core::layout::MAX_RANK;
use crate::core::{DType, Layout, Shape};
use smallvec::SmallVec;

/// An operand: `layout` places its elements, counted from `ptr`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub ptr: *const u8,
    pub layout: &'a Layout,
    pub dtype: DType,
}

/// A result: a row-major buffer for `shape` that starts at `ptr`.
#[derive(Clone, Copy, Debug)]
pub struct Out<'a> {
    pub ptr: *mut u8,
    pub shape: &'a Shape,
    pub dtype: DType,
}

// SAFETY: a view is an address and a description of it; the graph keeps the buffer alive and unwritten
// while a kernel runs, whichever thread reads it.
unsafe impl Send for View<'_> {}
// SAFETY: as above.
unsafe impl Sync for View<'_> {}

// SAFETY: a result is an address and a description of it; kernels give each thread a part of its own.
unsafe impl Send for Out<'_> {}
// SAFETY: as above.
unsafe impl Sync for Out<'_> {}

impl View<'_> {
    /// The address of the element at index 0, which need not exist.
    pub fn first(&self) -> *const u8 {
        self.ptr.wrapping_add(self.layout.offset * self.dtype.size())
    }
}

/// The axes of a layout as a walk sees them: without those of size 1, and neighbours that one stride
/// covers merged into one. Rows along the last axis are the runs that kernels loop over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axes {
    /// Size and stride in elements, outermost first; never empty.
    axes: SmallVec<[(usize, isize); 6]>,
}

impl Axes {
    pub fn new(layout: &Layout) -> Axes {
        let mut axes: SmallVec<[(usize, isize); 6]> = SmallVec::new();
        for (&size, &stride) in layout.shape.iter().zip(&layout.strides) {
            match axes.last_mut() {
                _ if size == 1 => {}
                Some(outer) if outer.1 == stride * size as isize => *outer = (outer.0 * size, stride),
                _ => axes.push((size, stride)),
            }
        }
        if axes.is_empty() {
            axes.push((1, 1));
        }
        Axes { axes }
    }

    /// The stride between neighbours of a run, in elements.
    pub fn stride(&self) -> isize {
        self.axes[self.axes.len() - 1].1
    }

    /// Length of a whole run.
    pub fn run(&self) -> usize {
        self.axes[self.axes.len() - 1].0
    }

    /// After how many elements they come again, if the view is a row of neighbours that only repeats.
    pub fn period(&self) -> Option<usize> {
        match self.axes[..] {
            [(_, 0), (size, 1)] => Some(size),
            _ => None,
        }
    }

    /// Whether neighbours of a run lie farther apart than the runs themselves, as in a transpose: then a
    /// whole run is far more memory than its elements.
    pub fn is_crosswise(&self) -> bool {
        match self.axes[..] {
            [.., outer, inner] => outer.1 != 0 && outer.1.abs() < inner.1.abs(),
            _ => false,
        }
    }

    /// Calls `f(place, count)` for the runs that make up the row-major elements `start .. start + len`:
    /// `place` is the first element's distance from the element at index 0, in elements.
    #[inline]
    pub fn runs(&self, start: usize, len: usize, mut f: impl FnMut(isize, usize)) {
        if len == 0 {
            return;
        }
        let (inner, outer) = self.axes.split_last().expect("never empty");
        if outer.is_empty() {
            return f(start as isize * inner.1, len);
        }
        // Not a small vector: those are moved by wide loads, which wait for all stores before them.
        let mut index = [0; MAX_RANK];
        let (mut rest, mut within) = (start / inner.0, start % inner.0);
        let mut base = 0;
        for (axis, &(size, stride)) in outer.iter().enumerate().rev() {
            index[axis] = rest % size;
            rest /= size;
            base += index[axis] as isize * stride;
        }
        let mut left = len;
        while left > 0 {
            let count = left.min(inner.0 - within);
            f(base + within as isize * inner.1, count);
            left -= count;
            within = 0;
            for (axis, &(size, stride)) in outer.iter().enumerate().rev() {
                index[axis] += 1;
                base += stride;
                if index[axis] < size {
                    break;
                }
                base -= stride * size as isize;
                index[axis] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(layout: &Layout, start: usize, len: usize) -> Vec<isize> {
        let axes = Axes::new(layout);
        let mut out = vec![];
        axes.runs(start, len, |place, n| out.extend((0..n as isize).map(|i| place + i * axes.stride())));
        out
    }

    #[test]
    fn runs_visit_elements_in_row_major_order() {
        let base = Layout::contiguous([4, 6, 5].into());
        let views = [
            base.clone(),
            base.permute(&[2, 0, 1]),
            base.slice(1, 5, 3, -2),
            base.slice(0, 1, 2, 2).unsqueeze(1),
            base.slice(2, 0, 1, 1).broadcast_to(&[4, 6, 7].into()).unwrap(),
            base.slice(0, 0, 1, 1).broadcast_to(&[3, 6, 5].into()).unwrap(),
        ];
        for view in &views {
            let mut want = vec![];
            for i in 0..view.count() {
                let (mut rest, mut at) = (i, 0);
                for axis in (0..view.rank()).rev() {
                    at += (rest % view.shape[axis]) as isize * view.strides[axis];
                    rest /= view.shape[axis];
                }
                want.push(at);
            }
            for start in 0..want.len() {
                for len in [1, 2, 7, want.len()] {
                    let end = (start + len).min(want.len());
                    assert_eq!(places(view, start, end - start), want[start..end], "{view:?}");
                }
            }
        }
    }

    #[test]
    fn neighbours_merge() {
        let base = Layout::contiguous([4, 6, 5].into());
        assert_eq!(Axes::new(&base).run(), 120);
        assert_eq!(Axes::new(&base.slice(0, 1, 2, 2)).run(), 30);
        assert_eq!(Axes::new(&Layout::contiguous([].into())).run(), 1);
        let row = Layout::contiguous([1, 5].into()).broadcast_to(&[3, 5].into()).unwrap();
        assert_eq!((Axes::new(&row).run(), Axes::new(&row).stride()), (5, 1));
    }
}

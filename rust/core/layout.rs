//! Where the elements of a tensor lie in its buffer: shape, strides and offset, all in elements.
//! Views are made here without touching data; nothing here reads memory.

use super::error::{Error, Result};
use crate::bail;
use smallvec::SmallVec;
use std::fmt;

/// More axes than this are refused, so that kernels may keep counters on the stack.
pub const MAX_RANK: usize = 32;

/// Sizes per axis; inline up to six axes.
#[derive(PartialEq, Eq, Hash, Default)]
pub struct Shape(SmallVec<[usize; 6]>);

/// As one copy of memory, which a vector's own clone is not.
impl Clone for Shape {
    #[inline]
    fn clone(&self) -> Shape {
        Shape(SmallVec::from_slice(&self.0))
    }
}

impl Shape {
    pub fn new(sizes: &[usize]) -> Shape {
        Shape(SmallVec::from_slice(sizes))
    }

    /// A shape whose element count is known to fit memory, or an error that names `op`.
    pub fn checked(op: &str, sizes: &[usize]) -> Result<Shape> {
        if sizes.len() > MAX_RANK {
            bail!(Shape, "{op}: {} axes; at most {MAX_RANK} are supported", sizes.len());
        }
        let mut count = 1usize;
        for &size in sizes.iter().filter(|&&s| s != 0) {
            count = match count.checked_mul(size) {
                Some(n) if n <= isize::MAX as usize / 16 => n,
                _ => bail!(Memory, "{op}: shape {} is larger than the address space", Shape::new(sizes)),
            };
        }
        Ok(Shape::new(sizes))
    }

    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The number of elements; 1 for a 0-d shape.
    pub fn count(&self) -> usize {
        self.0.iter().product()
    }

    /// Strides of the row-major layout, in elements.
    pub fn strides(&self) -> Strides {
        let mut strides = Strides::from_elem(1, self.rank());
        let mut step = 1isize;
        for axis in (0..self.rank()).rev() {
            strides[axis] = step;
            step *= self[axis].max(1) as isize;
        }
        strides
    }

    /// The shape that both broadcast to, by NumPy's rule, or `None`.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let mut out = SmallVec::from_elem(0, rank);
        for i in 0..rank {
            let a = if i < self.rank() { self[self.rank() - 1 - i] } else { 1 };
            let b = if i < other.rank() { other[other.rank() - 1 - i] } else { 1 };
            out[rank - 1 - i] = match (a, b) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return None,
            };
        }
        Some(Shape(out))
    }
}

impl std::ops::Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl std::ops::DerefMut for Shape {
    fn deref_mut(&mut self) -> &mut [usize] {
        &mut self.0
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(sizes: I) -> Self {
        Shape(sizes.into_iter().collect())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(sizes: [usize; N]) -> Self {
        Shape::new(&sizes)
    }
}

/// As users see it: `()`, `(3,)`, `(64, 128)`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self[..] {
            [one] => write!(f, "({one},)"),
            sizes => {
                let text: Vec<String> = sizes.iter().map(ToString::to_string).collect();
                write!(f, "({})", text.join(", "))
            }
        }
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub type Strides = SmallVec<[isize; 6]>;

/// A strided window onto a buffer. `offset + Σ index[i] · strides[i]` is an element's place.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    pub shape: Shape,
    pub strides: Strides,
    pub offset: usize,
}

impl Clone for Layout {
    #[inline]
    fn clone(&self) -> Layout {
        let strides = Strides::from_slice(&self.strides);
        Layout { shape: self.shape.clone(), strides, offset: self.offset }
    }
}

impl Layout {
    pub fn contiguous(shape: Shape) -> Layout {
        Layout { strides: shape.strides(), shape, offset: 0 }
    }

    pub fn rank(&self) -> usize {
        self.shape.rank()
    }

    pub fn count(&self) -> usize {
        self.shape.count()
    }

    /// Row-major without gaps; axes of size 1 and empty shapes put no condition on strides.
    pub fn is_contiguous(&self) -> bool {
        let mut step = 1isize;
        for axis in (0..self.rank()).rev() {
            let size = self.shape[axis];
            if size == 0 {
                return true;
            }
            if size != 1 {
                if self.strides[axis] != step {
                    return false;
                }
                step *= size as isize;
            }
        }
        true
    }

    /// Whether this is the layout of a whole fresh buffer.
    pub fn is_whole(&self, buffer_len: usize) -> bool {
        self.offset == 0 && self.count() == buffer_len && self.is_contiguous()
    }

    /// Whether every element is one and the same place.
    pub fn is_single(&self) -> bool {
        self.shape.iter().zip(&self.strides).all(|(&size, &stride)| size == 1 || stride == 0)
    }

    /// The smallest and the largest place touched, or `None` when there is no element.
    pub fn span(&self) -> Option<(usize, usize)> {
        let (mut low, mut high) = (self.offset as isize, self.offset as isize);
        for (&size, &stride) in self.shape.iter().zip(&self.strides) {
            if size == 0 {
                return None;
            }
            let reach = (size as isize - 1) * stride;
            if reach < 0 { low += reach } else { high += reach }
        }
        Some((low as usize, high as usize))
    }

    /// Repeats axes of size 1 and prepends axes with stride 0, or `None` if the shapes do not fit.
    pub fn broadcast_to(&self, shape: &Shape) -> Option<Layout> {
        if shape.rank() < self.rank() {
            return None;
        }
        let lead = shape.rank() - self.rank();
        let mut strides = Strides::from_elem(0, shape.rank());
        for axis in 0..self.rank() {
            let (have, want) = (self.shape[axis], shape[lead + axis]);
            if have == want {
                strides[lead + axis] = self.strides[axis];
            } else if have != 1 {
                return None;
            }
        }
        Some(Layout { shape: shape.clone(), strides, offset: self.offset })
    }

    /// Axes in a new order; `axes` is a permutation.
    pub fn permute(&self, axes: &[usize]) -> Layout {
        Layout {
            shape: axes.iter().map(|&a| self.shape[a]).collect(),
            strides: axes.iter().map(|&a| self.strides[a]).collect(),
            offset: self.offset,
        }
    }

    /// `self[start : start + count·step : step]` along `axis`; `start` must be a valid index when
    /// `count > 0`.
    pub fn slice(&self, axis: usize, start: usize, count: usize, step: isize) -> Layout {
        let mut out = self.clone();
        if count > 0 {
            out.offset = (out.offset as isize + start as isize * self.strides[axis]) as usize;
        }
        out.shape[axis] = count;
        // The step along a single element says nothing, and may be anything.
        if count > 1 {
            out.strides[axis] *= step;
        }
        out
    }

    /// Drops `axis` at one index.
    pub fn select(&self, axis: usize, index: usize) -> Layout {
        let mut out = self.slice(axis, index, 1, 1);
        out.shape.0.remove(axis);
        out.strides.remove(axis);
        out
    }

    /// A new axis of size 1 before `axis`.
    pub fn unsqueeze(&self, axis: usize) -> Layout {
        let mut out = self.clone();
        let stride = if axis < self.rank() { self.strides[axis] * self.shape[axis] as isize } else { 1 };
        out.shape.0.insert(axis, 1);
        out.strides.insert(axis, stride);
        out
    }

    /// The same elements in row-major order under another shape of the same count, or `None` when
    /// that needs a copy.
    pub fn reshape(&self, shape: &Shape) -> Option<Layout> {
        if self.is_contiguous() || self.count() == 0 {
            return Some(Layout { strides: shape.strides(), shape: shape.clone(), offset: self.offset });
        }
        // Old axes of size 1 say nothing; walk both shapes in runs of equal element count, each run
        // of old axes must be mergeable into one.
        let old: SmallVec<[(usize, isize); 6]> =
            self.shape.iter().copied().zip(self.strides.iter().copied()).filter(|a| a.0 != 1).collect();
        let mut strides = Strides::from_elem(0, shape.rank());
        let (mut i, mut j) = (0, 0);
        while i < old.len() {
            let (mut have, mut want) = (old[i].0, 1);
            let first_new = j;
            let mut last_old = i;
            loop {
                if have == want && want > 1 {
                    break;
                }
                if want < have {
                    want *= shape[j];
                    j += 1;
                } else {
                    last_old += 1;
                    have *= old[last_old].0;
                }
            }
            for k in i..last_old {
                if old[k].1 != old[k + 1].1 * old[k + 1].0 as isize {
                    return None;
                }
            }
            let mut step = old[last_old].1;
            for axis in (first_new..j).rev() {
                strides[axis] = step;
                step *= shape[axis] as isize;
            }
            i = last_old + 1;
        }
        for axis in j..shape.rank() {
            strides[axis] = 1;
        }
        Some(Layout { shape: shape.clone(), strides, offset: self.offset })
    }
}

/// Turns Python's axis, which may be negative, into an index, or an error that names `op`.
pub fn axis(op: &str, axis: isize, rank: usize) -> Result<usize> {
    let shifted = if axis < 0 { axis + rank as isize } else { axis };
    if shifted < 0 || shifted >= rank as isize {
        return Err(Error::Index(format!("{op}: axis {axis} is out of range for a tensor of {rank} axes")));
    }
    Ok(shifted as usize)
}

/// The same for a list of axes, which must not repeat; the result keeps the order given.
pub fn axes(op: &str, list: &[isize], rank: usize) -> Result<SmallVec<[usize; 6]>> {
    let mut out = SmallVec::new();
    for &a in list {
        let a = axis(op, a, rank)?;
        if out.contains(&a) {
            bail!(Value, "{op}: axis {a} is named twice");
        }
        out.push(a);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(l: &Layout) -> Vec<usize> {
        let mut out = vec![];
        let mut index = vec![0usize; l.rank()];
        for _ in 0..l.count() {
            let at: isize = index.iter().zip(&l.strides).map(|(&i, &s)| i as isize * s).sum();
            out.push((l.offset as isize + at) as usize);
            for axis in (0..l.rank()).rev() {
                index[axis] += 1;
                if index[axis] < l.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        out
    }

    #[test]
    fn reshape_of_views_keeps_the_order_of_elements() {
        let base = Layout::contiguous([4, 6, 5].into());
        let views = [
            base.clone(),
            base.slice(0, 1, 2, 2),
            base.slice(1, 5, 3, -2),
            base.slice(2, 0, 1, 1),
            base.permute(&[2, 0, 1]),
            base.permute(&[1, 0, 2]).unsqueeze(1),
        ];
        for view in &views {
            let n = view.count();
            for shape in
                [vec![n], vec![1, n, 1], vec![n / 2, 2], vec![2, n / 2], vec![4, n / 4], vec![n / 6, 3, 2]]
            {
                let shape = Shape::new(&shape);
                if shape.count() != n {
                    continue;
                }
                if let Some(r) = view.reshape(&shape) {
                    assert_eq!(places(&r), places(view), "{view:?} as {shape}");
                    assert_eq!(r.shape, shape);
                }
            }
            assert!(view.reshape(&view.shape).is_some());
        }
        assert!(base.permute(&[2, 0, 1]).reshape(&[120].into()).is_none());
        assert!(base.slice(0, 1, 2, 2).reshape(&[2, 30].into()).is_some());
    }

    #[test]
    fn broadcasting_follows_numpy() {
        let b = |a: &[usize], b: &[usize]| Shape::new(a).broadcast(&Shape::new(b)).map(|s| s.to_vec());
        assert_eq!(b(&[3, 1], &[4]), Some(vec![3, 4]));
        assert_eq!(b(&[], &[2, 0]), Some(vec![2, 0]));
        assert_eq!(b(&[1], &[0]), Some(vec![0]));
        assert_eq!(b(&[2], &[3]), None);
    }
}

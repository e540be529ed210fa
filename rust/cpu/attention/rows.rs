//! The arithmetic between the products of attention: rows of scores to weights, and to their gradients.

use super::Float;
use crate::cpu::combine::{Max, Sum, across, decay, load_part};
use crate::cpu::isa;
use crate::cpu::lanes::{Arch, Lanes, OnLanes, Real, Vector, dispatch};
use crate::cpu::matmul::pack::Matrix;
use crate::cpu::stored::MAX_WIDTH;
use crate::ir::value::Number;

/// Scores of a strip of queries with a block of keys, to weights relative to the largest score so far. What
/// queries have seen before is brought to the new measure.
pub struct Weights<T> {
    pub scores: *mut T,
    /// From a row of scores to the next.
    pub ld: usize,
    pub rows: usize,
    /// How many keys the first query sees, and how many more each next one does, of how many.
    pub seen: isize,
    pub more: isize,
    pub keys: usize,
    /// What is added to the scores, at the first query and key.
    pub mask: Option<Matrix<T>>,
    /// For each query its largest score, the sum of its weights lane by lane, and what has come of values.
    pub max: *mut T,
    pub sum: *mut [T; MAX_WIDTH],
    pub out: *mut T,
    pub value: usize,
    /// Whether these are the first keys.
    pub first: bool,
}

impl<T: Float> Weights<T> {
    /// # Safety
    /// The pointers have what is said of them, and rows of scores whole vectors.
    pub unsafe fn run(self) {
        dispatch(isa::get(), self);
    }

    #[inline(always)]
    fn each<S: Lanes<Elem = T>>(self) {
        let low = <T as Real>::of(f64::NEG_INFINITY);
        for row in 0..self.rows {
            let seen = (self.seen + row as isize * self.more).clamp(0, self.keys as isize) as usize;
            // SAFETY: what `run` promises; rows are padded to whole vectors.
            unsafe {
                let scores = self.scores.add(row * self.ld);
                let mut most = S::splat(low);
                let mut at = 0;
                if self.mask.is_none() {
                    while at + S::WIDTH <= seen {
                        // NaN is left out here; its weight is NaN, and so is the row.
                        most = S::load(scores.add(at)).max(most);
                        at += S::WIDTH;
                    }
                }
                while at < seen {
                    let count = S::WIDTH.min(seen - at);
                    let mut x = if count == S::WIDTH {
                        Vector(S::load(scores.add(at)))
                    } else {
                        load_part(scores.add(at), count, S::splat(low))
                    };
                    if let Some(mask) = self.mask {
                        x = x + added::<S>(mask.from(row, at).at, mask.cs, count);
                        x.0.store(scores.add(at));
                    }
                    most = x.0.max(most);
                    at += S::WIDTH;
                }
                let most = Vector::<S>(most);
                let before = if self.first { low } else { *self.max.add(row) };
                let max = Vector(across::<Max, S>(most)).maximum(Vector(before)).0;
                *self.max.add(row) = max;
                // Nothing seen so far: any finite number will do.
                let base = if max == low { <T as Real>::of(0.0) } else { max };
                let sums = (*self.sum.add(row)).as_mut_ptr();
                let mut sum = Vector::<S>::of(0.0);
                if !self.first {
                    let fade = decay(Vector(before) - Vector(base)).0;
                    sum = Vector(S::load(sums)) * Vector(S::splat(fade));
                    if before != max {
                        scale::<S>(self.out.add(row * self.value), self.value, fade);
                    }
                }
                let base = Vector(S::splat(base));
                let mut at = 0;
                while at + S::WIDTH <= seen {
                    let w = decay(Vector(S::load(scores.add(at))) - base);
                    sum = sum + w;
                    w.0.store(scores.add(at));
                    at += S::WIDTH;
                }
                if at < seen {
                    let w = decay(load_part(scores.add(at), seen - at, S::splat(low)) - base);
                    // Infinities leave NaN where nothing is.
                    let count = S::splat(<T as Real>::of((seen - at) as f64));
                    let w = Vector::select(S::load(T::PLACES.as_ptr()).lt(count), w, Vector::of(0.0));
                    sum = sum + w;
                    w.0.store(scores.add(at));
                    at += S::WIDTH;
                }
                while at < self.keys {
                    S::splat(<T as Real>::of(0.0)).store(scores.add(at));
                    at += S::WIDTH;
                }
                sum.0.store(sums);
            }
        }
    }
}

impl<T: Float> OnLanes for Weights<T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        self.each::<<T as Real>::In<A>>();
    }
}

/// `count` elements of the mask, `step` apart.
#[inline(always)]
unsafe fn added<S: Lanes>(at: *const S::Elem, step: isize, count: usize) -> Vector<S> {
    // SAFETY: the caller vouches for the elements.
    unsafe {
        if step == 0 {
            return Vector(S::splat(*at));
        }
        if step == 1 && count == S::WIDTH {
            return Vector(S::load(at));
        }
        let mut lanes = [S::Elem::default(); MAX_WIDTH];
        for (i, lane) in lanes.iter_mut().enumerate().take(count) {
            *lane = *at.offset(i as isize * step);
        }
        Vector(S::load(lanes.as_ptr()))
    }
}

/// A row times a number.
#[inline(always)]
unsafe fn scale<S: Lanes>(row: *mut S::Elem, len: usize, by: S::Elem) {
    let by = Vector(S::splat(by));
    for at in (0..len).step_by(S::WIDTH) {
        // SAFETY: the caller vouches for the row.
        unsafe {
            let here = row.add(at);
            if len - at >= S::WIDTH {
                (Vector(S::load(here)) * by).0.store(here);
            } else {
                (Vector(S::load_part(here, len - at)) * by).0.store_part(here, len - at);
            }
        }
    }
}

/// The end of the forward pass: values divided by the sums of weights, and the logarithms of sums.
pub struct Finish<T> {
    pub rows: usize,
    pub max: *const T,
    pub sum: *const [T; MAX_WIDTH],
    pub out: *mut T,
    pub value: usize,
    pub lse: *mut T,
}

impl<T: Float> Finish<T> {
    /// # Safety
    /// As for [`Weights::run`].
    pub unsafe fn run(self) {
        dispatch(isa::get(), self);
    }

    #[inline(always)]
    fn each<S: Lanes<Elem = T>>(self) {
        for row in 0..self.rows {
            // SAFETY: what `run` promises.
            unsafe {
                let sum = across::<Sum, S>(Vector(S::load((*self.sum.add(row)).as_ptr()))).to_f64();
                let max = (*self.max.add(row)).to_f64();
                *self.lse.add(row) = <T as Real>::of(max + sum.ln());
                let out = self.out.add(row * self.value);
                if sum == 0.0 {
                    // No key was seen; values count for nothing, NaN included.
                    std::slice::from_raw_parts_mut(out, self.value).fill(<T as Real>::of(0.0));
                } else {
                    scale::<S>(out, self.value, <T as Real>::of(1.0 / sum));
                }
            }
        }
    }
}

impl<T: Float> OnLanes for Finish<T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        self.each::<<T as Real>::In<A>>();
    }
}

/// Scores of a strip of keys with a block of queries, and the gradients of weights, to the weights and the
/// gradients of scores, in their places: a row to a key, a lane to a query.
pub struct Slopes<T> {
    pub scores: *mut T,
    pub slopes: *mut T,
    /// From a row to the next, of both.
    pub ld: usize,
    pub rows: usize,
    /// Columns that count, whole vectors from the first on; those before are set to zero.
    pub first: usize,
    pub queries: usize,
    /// How many queries of the block do not see the first key; each next one is unseen by one more.
    pub unseen: isize,
    pub more: isize,
    pub mask: Option<Matrix<T>>,
    pub scale: T,
    /// For each query the logarithm of its sum, +∞ if it sees no key, and dO · O; whole vectors.
    pub lse: *const T,
    pub delta: *const T,
}

impl<T: Float> Slopes<T> {
    /// # Safety
    /// As for [`Weights::run`].
    pub unsafe fn run(self) {
        dispatch(isa::get(), self);
    }

    #[inline(always)]
    fn each<S: Lanes<Elem = T>>(self) {
        let scale = Vector(S::splat(self.scale));
        for row in 0..self.rows {
            let unseen = self.unseen + row as isize * self.more;
            // SAFETY: what `run` promises; `first` is a multiple of any vector.
            unsafe {
                let (scores, slopes) = (self.scores.add(row * self.ld), self.slopes.add(row * self.ld));
                let mut at = 0;
                while at < self.first {
                    S::splat(<T as Real>::of(0.0)).store(slopes.add(at));
                    at += S::WIDTH;
                }
                while at < self.queries {
                    let mut x = Vector(S::load(scores.add(at))) * scale;
                    if let Some(mask) = self.mask {
                        let count = S::WIDTH.min(self.queries - at);
                        x = x + added::<S>(mask.from(at, row).at, mask.rs, count);
                    }
                    let mut w = decay(x - Vector(S::load(self.lse.add(at))));
                    if (at as isize) < unseen {
                        let places = S::load(T::PLACES.as_ptr());
                        let blind = S::splat(<T as Real>::of((unseen - at as isize) as f64));
                        w = Vector::select(places.lt(blind), Vector::of(0.0), w);
                    }
                    let d = Vector(S::load(slopes.add(at))) - Vector(S::load(self.delta.add(at)));
                    (w * d * scale).0.store(slopes.add(at));
                    w.0.store(scores.add(at));
                    at += S::WIDTH;
                }
            }
        }
    }
}

impl<T: Float> OnLanes for Slopes<T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        self.each::<<T as Real>::In<A>>();
    }
}

/// Rows times a number, to rows that follow each other.
pub struct Scaled<T> {
    pub from: Matrix<T>,
    pub rows: usize,
    pub cols: usize,
    pub by: T,
    pub to: *mut T,
}

impl<T: Float> Scaled<T> {
    /// # Safety
    /// As for [`Weights::run`].
    pub unsafe fn run(self) {
        dispatch(isa::get(), self);
    }

    #[inline(always)]
    fn each<S: Lanes<Elem = T>>(self) {
        let by = Vector(S::splat(self.by));
        for row in 0..self.rows {
            let (from, to) = (self.from.from(row, 0).at, self.to.wrapping_add(row * self.cols));
            for at in (0..self.cols).step_by(S::WIDTH) {
                // SAFETY: what `run` promises.
                unsafe {
                    let (from, to, left) = (from.add(at), to.add(at), self.cols - at);
                    if left >= S::WIDTH {
                        (Vector(S::load(from)) * by).0.store(to);
                    } else {
                        (Vector(S::load_part(from, left)) * by).0.store_part(to, left);
                    }
                }
            }
        }
    }
}

impl<T: Float> OnLanes for Scaled<T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        self.each::<<T as Real>::In<A>>();
    }
}

/// Products of rows, `a · b`.
pub struct Dots<T> {
    pub a: Matrix<T>,
    pub b: Matrix<T>,
    pub rows: usize,
    pub cols: usize,
    pub to: *mut T,
}

impl<T: Float> Dots<T> {
    /// # Safety
    /// As for [`Weights::run`].
    pub unsafe fn run(self) {
        dispatch(isa::get(), self);
    }

    #[inline(always)]
    fn each<S: Lanes<Elem = T>>(self) {
        for row in 0..self.rows {
            let mut sum = Vector::<S>::of(0.0);
            for at in (0..self.cols).step_by(S::WIDTH) {
                // SAFETY: what `run` promises.
                unsafe {
                    let (a, b) = (self.a.from(row, at).at, self.b.from(row, at).at);
                    let [a, b] = if self.cols - at >= S::WIDTH {
                        [S::load(a), S::load(b)]
                    } else {
                        [S::load_part(a, self.cols - at), S::load_part(b, self.cols - at)]
                    };
                    sum = Vector(a).mul_add(Vector(b), sum);
                }
            }
            // SAFETY: as above.
            unsafe { *self.to.add(row) = across::<Sum, S>(sum) };
        }
    }
}

impl<T: Float> OnLanes for Dots<T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        self.each::<<T as Real>::In<A>>();
    }
}

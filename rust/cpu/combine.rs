//! The ways of combining two numbers that reductions and scans share, and loops that combine a run of
//! floats in vectors. Which elements make a run is the business of `fold`, `scan` and `softmax`.

use super::fold::BATCH;
use super::lanes::{Lanes, Real, Vector};
use super::stored::{MAX_WIDTH, Stored, StoredFloat};
use crate::ir::value::{Float, Number};

/// An associative way to combine two numbers.
pub trait Combine: 'static {
    fn join<V: Number>(a: V, b: V) -> V;
    /// Leaves every number as it is.
    fn neutral<T: Stored>() -> T;
}

pub enum Sum {}
pub enum Prod {}
/// NaN if any is NaN.
pub enum Max {}
/// NaN if any is NaN.
pub enum Min {}

impl Combine for Sum {
    #[inline(always)]
    fn join<V: Number>(a: V, b: V) -> V {
        a + b
    }
    #[inline(always)]
    fn neutral<T: Stored>() -> T {
        T::default()
    }
}

impl Combine for Prod {
    #[inline(always)]
    fn join<V: Number>(a: V, b: V) -> V {
        a * b
    }
    #[inline(always)]
    fn neutral<T: Stored>() -> T {
        T::ONE
    }
}

impl Combine for Max {
    #[inline(always)]
    fn join<V: Number>(a: V, b: V) -> V {
        a.maximum(b)
    }
    #[inline(always)]
    fn neutral<T: Stored>() -> T {
        T::LOWEST
    }
}

impl Combine for Min {
    #[inline(always)]
    fn join<V: Number>(a: V, b: V) -> V {
        a.minimum(b)
    }
    #[inline(always)]
    fn neutral<T: Stored>() -> T {
        T::HIGHEST
    }
}

/// Columns that a loop over rows takes at once.
pub const STRIP: usize = 64;
/// Vectors that a row is combined in side by side, to hide the latency of an addition.
pub const DEPTH: usize = 4;

/// Vector `at ..` of a slice; lanes past its end hold `fill`.
#[inline(always)]
pub fn load_or<S: Lanes>(x: &[S::Elem], at: usize, fill: S) -> Vector<S>
where
    S::Elem: StoredFloat<Real = S::Elem>,
{
    let left = x.len() - at;
    // SAFETY: not more than what is left is read.
    unsafe {
        if left >= S::WIDTH {
            return Vector(S::load(x.as_ptr().add(at)));
        }
        let inside = S::load(S::Elem::PLACES.as_ptr()).lt(S::splat(<S::Elem as Real>::of(left as f64)));
        Vector(S::select(inside, S::load_part(x.as_ptr().add(at), left), fill))
    }
}

/// Lanes combined pairwise.
#[inline(always)]
pub fn across<C: Combine, S: Lanes>(x: Vector<S>) -> S::Elem
where
    S::Elem: StoredFloat<Real = S::Elem> + Lanes<Elem = S::Elem>,
{
    let mut lanes = [S::Elem::default(); MAX_WIDTH];
    // SAFETY: the array holds a whole vector.
    unsafe { x.0.store(lanes.as_mut_ptr()) };
    let mut half = S::WIDTH / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = C::join(Vector(lanes[i]), Vector(lanes[i + half])).0;
        }
        half /= 2;
    }
    lanes[0]
}

/// All of `x` combined.
#[inline(always)]
pub fn run<C: Combine, S: Lanes>(x: &[S::Elem]) -> S::Elem
where
    S::Elem: StoredFloat<Real = S::Elem> + Lanes<Elem = S::Elem>,
{
    let neutral = S::splat(C::neutral());
    let mut sums = [Vector(neutral); DEPTH];
    let mut at = 0;
    while at + DEPTH * S::WIDTH <= x.len() {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = C::join(*sum, load_or(x, at + i * S::WIDTH, neutral));
        }
        at += DEPTH * S::WIDTH;
    }
    while at < x.len() {
        sums[0] = C::join(sums[0], load_or(x, at, neutral));
        at += S::WIDTH;
    }
    across::<C, S>(C::join(C::join(sums[0], sums[1]), C::join(sums[2], sums[3])))
}

/// Strip `c` of rows, `width` columns of it, in the type that computes.
#[inline(always)]
pub fn strip<'a, T: StoredFloat>(
    rows: &[&'a [T]],
    c: usize,
    width: usize,
    buffers: &'a mut [[T::Real; STRIP]; BATCH],
) -> [&'a [T::Real]; BATCH] {
    let mut strip: [&[T::Real]; BATCH] = [&[]; BATCH];
    for ((place, row), buffer) in strip.iter_mut().zip(rows).zip(buffers) {
        *place = T::reals(&row[c * STRIP..][..width], buffer);
    }
    strip
}

/// `exp(x)` for `x ≤ 0`. What would be less than the smallest normal number is 0: subnormal results cost
/// a hundred times as much on many processors.
#[inline(always)]
pub fn decay<S: Lanes>(x: Vector<S>) -> Vector<S>
where
    S::Elem: StoredFloat<Real = S::Elem>,
{
    let least = Vector::of(S::Elem::LEAST_EXP);
    let far = x.lt(least);
    Vector::select(far, Vector::of(0.0), Vector::select(far, least, x).exp())
}

/// `exp(x − max)` for `x ≤ max`, and 1 where both are one infinity.
#[inline(always)]
pub fn relative<S: Lanes>(x: Vector<S>, max: Vector<S>) -> Vector<S>
where
    S::Elem: StoredFloat<Real = S::Elem>,
{
    Vector::select(x.eq(max), Vector::of(1.0), decay(x - max))
}

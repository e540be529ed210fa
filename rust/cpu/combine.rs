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

/// The first `count` lanes of the vector at an address, fewer than it has; the others hold `fill`.
///
/// # Safety
/// `count` elements must be readable.
#[inline(always)]
pub unsafe fn load_part<S: Lanes>(at: *const S::Elem, count: usize, fill: S) -> Vector<S>
where
    S::Elem: StoredFloat<Real = S::Elem>,
{
    // SAFETY: what the caller promises.
    unsafe {
        let inside = S::load(S::Elem::PLACES.as_ptr()).lt(S::splat(<S::Elem as Real>::of(count as f64)));
        Vector(S::select(inside, S::load_part(at, count), fill))
    }
}

/// Lanes combined pairwise. The steps are written out, so that the compiler sees shuffles of one register
/// and not traffic through memory.
#[inline(always)]
pub fn across<C: Combine, S: Lanes>(x: Vector<S>) -> S::Elem
where
    S::Elem: StoredFloat<Real = S::Elem> + Lanes<Elem = S::Elem>,
{
    let mut lanes = [S::Elem::default(); MAX_WIDTH];
    // SAFETY: the array holds a whole vector.
    unsafe { x.0.store(lanes.as_mut_ptr()) };
    macro_rules! halve {
        ($half:literal: $($i:literal)*) => {
            if S::WIDTH > $half {
                $(lanes[$i] = C::join(Vector(lanes[$i]), Vector(lanes[$i + $half])).0;)*
            }
        };
    }
    halve!(8: 0 1 2 3 4 5 6 7);
    halve!(4: 0 1 2 3);
    halve!(2: 0 1);
    halve!(1: 0);
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
    let (mut at, n) = (x.as_ptr(), x.len());
    let mut left = n;
    // SAFETY: never more than what is left is read.
    unsafe {
        while left >= DEPTH * S::WIDTH {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = C::join(*sum, Vector(S::load(at.add(i * S::WIDTH))));
            }
            (at, left) = (at.add(DEPTH * S::WIDTH), left - DEPTH * S::WIDTH);
        }
        while left >= S::WIDTH {
            sums[0] = C::join(sums[0], Vector(S::load(at)));
            (at, left) = (at.add(S::WIDTH), left - S::WIDTH);
        }
        if left > 0 {
            sums[1] = C::join(sums[1], load_part(at, left, neutral));
        }
    }
    across::<C, S>(C::join(C::join(sums[0], sums[1]), C::join(sums[2], sums[3])))
}

/// Strip `c` of rows in the type that computes. If it is less than `STRIP` columns wide, the rest holds
/// anything.
#[inline(always)]
pub fn strip<'a, T: StoredFloat>(
    rows: &[&'a [T]],
    c: usize,
    buffers: &'a mut [[T::Real; STRIP]; BATCH],
) -> [&'a [T::Real; STRIP]; BATCH] {
    let mut rows = rows.iter();
    buffers.each_mut().map(|buffer| {
        let row = rows.next().map_or(&[][..], |row| &row[c * STRIP..]);
        match T::reals(row).first_chunk::<STRIP>() {
            Some(whole) => whole,
            None => {
                for (real, &x) in buffer.iter_mut().zip(row) {
                    *real = x.load();
                }
                buffer
            }
        }
    })
}

/// Vector `at ..` of a strip.
#[inline(always)]
pub fn get<S: Lanes>(strip: &[S::Elem; STRIP], at: usize) -> Vector<S> {
    assert!(at + S::WIDTH <= STRIP);
    // SAFETY: the vector lies in the strip.
    Vector(unsafe { S::load(strip.as_ptr().add(at)) })
}

/// Writes vector `at ..` of a strip.
#[inline(always)]
pub fn set<S: Lanes>(strip: &mut [S::Elem; STRIP], at: usize, x: Vector<S>) {
    assert!(at + S::WIDTH <= STRIP);
    // SAFETY: the vector lies in the strip.
    unsafe { x.0.store(strip.as_mut_ptr().add(at)) }
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

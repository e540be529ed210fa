//! Mean and variance in one reduction. A run of elements gets its mean and then its squared deviations
//! from it, both while it lies in registers or the first level cache; runs are merged by the formula of
//! Chan, Golub and LeVeque (1979), which does not cancel. The order and the threads are `fold`'s.

use super::combine::{DEPTH, STRIP, Sum, across, get, load_part, run, set, strip};
use super::fold::{BATCH, Fold, fold};
use super::isa;
use super::lanes::{Arch, Lanes, OnLanes, Real, Vector, dispatch};
use super::pointwise::Evaluator;
use super::stored::StoredFloat;
use super::view::{Out, View};
use super::work::Shared;
use crate::bail;
use crate::core::{DType, Result, Shape};
use crate::ir::kernel::{Axes, Fused};
use half::{bf16, f16};

/// Mean and biased variance of the map's values over `axes`; NaN where there is nothing.
pub fn moments(
    axes: Axes,
    map: &Fused,
    shape: &Shape,
    inputs: &[View],
    mean: &Out,
    variance: &Out,
) -> Result<()> {
    let map = Evaluator::new(map, inputs, shape)?;
    match mean.dtype {
        DType::F16 => typed::<f16>(axes, &map, shape, mean, variance),
        DType::BF16 => typed::<bf16>(axes, &map, shape, mean, variance),
        DType::F32 => typed::<f32>(axes, &map, shape, mean, variance),
        DType::F64 => typed::<f64>(axes, &map, shape, mean, variance),
        other => bail!(DType, "moments: takes floats, not {other}"),
    }
}

fn typed<T: StoredFloat>(
    axes: Axes,
    map: &Evaluator,
    shape: &Shape,
    mean: &Out,
    variance: &Out,
) -> Result<()> {
    let outs = [Shared::new(mean.ptr.cast::<T>()), Shared::new(variance.ptr.cast::<T>())];
    if shape.count() == 0 {
        for out in outs {
            // SAFETY: the results are ours, with room for their shape.
            unsafe { out.slice(0, mean.shape.count()) }.fill(T::nearest(f64::NAN));
        }
        return Ok(());
    }
    let how = Fold::<T, State> {
        rows: |values, length, states| dispatch(isa::get(), Rows(values, length, states)),
        columns: |rows, states| dispatch(isa::get(), Columns(rows, states)),
        merge,
        neutral: State::default(),
    };
    fold(&how, axes, map, shape, &|first, states| {
        for (i, state) in states.iter().enumerate() {
            // SAFETY: `fold` gives each result once, to one thread.
            unsafe {
                *outs[0].at(first + i) = T::nearest(state.mean);
                *outs[1].at(first + i) = T::nearest(state.squares / state.count);
            }
        }
    })
}

/// Of `count` elements: their mean, and the sum of squared deviations from it.
#[derive(Clone, Copy, Default)]
pub(super) struct State {
    pub count: f64,
    pub mean: f64,
    pub squares: f64,
}

#[inline(always)]
pub(super) fn merge(a: State, b: State) -> State {
    let count = a.count + b.count;
    let delta = b.mean - a.mean;
    let share = if count > 0.0 { b.count / count } else { 0.0 };
    State {
        count,
        // Infinities have no difference, but a mean.
        mean: if delta.is_finite() { a.mean + delta * share } else { a.mean + b.mean },
        squares: a.squares + b.squares + delta * delta * (a.count * share),
    }
}

/// The state of `count` elements whose deviations from `shift`, which is close to their mean, sum up to
/// `sum`, and their squares to `squares`.
#[inline(always)]
fn shifted(count: f64, shift: f64, sum: f64, squares: f64) -> State {
    // An infinite element is the mean, and deviates by NaN.
    let mean = if sum.is_nan() { shift } else { shift + sum / count };
    State { count, mean, squares: squares - sum * (sum / count) }
}

/// Vectors that are added up one upon the other before their sum goes to float64.
const PIECE: usize = 32;

struct Rows<'a, T>(&'a [T], usize, &'a mut [State]);

impl<T: StoredFloat> OnLanes for Rows<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let Rows(values, length, states) = self;
        let mut buffer = [T::Real::of(0.0); Evaluator::BLOCK];
        for (row, state) in values.chunks_exact(length).zip(states) {
            *state = row_state::<<T::Real as Real>::In<A>>(T::converted(row, &mut buffer));
        }
    }
}

#[inline(always)]
pub(super) fn row_state<S: Lanes>(row: &[S::Elem]) -> State
where
    S::Elem: StoredFloat<Real = S::Elem> + Lanes<Elem = S::Elem>,
{
    let count = row.len() as f64;
    let mean = <S::Elem as Real>::of(run::<Sum, S>(row).to_f64() / count);
    let shift = S::splat(mean);
    let (mut sum, mut square) = (0.0, 0.0);
    // In pieces, so that narrow vectors do not add up more numbers than wide ones.
    for piece in row.chunks(PIECE * DEPTH * S::WIDTH) {
        // Several side by side, which hides the latency of an addition.
        let [mut sums, mut squares] = [[Vector::<S>::of(0.0); DEPTH]; 2];
        let (mut at, mut left) = (piece.as_ptr(), piece.len());
        // SAFETY: never more than what is left is read.
        unsafe {
            while left >= DEPTH * S::WIDTH {
                for (i, (sum, square)) in sums.iter_mut().zip(&mut squares).enumerate() {
                    let d = Vector(S::load(at.add(i * S::WIDTH))) - Vector(shift);
                    (*sum, *square) = (*sum + d, d.mul_add(d, *square));
                }
                (at, left) = (at.add(DEPTH * S::WIDTH), left - DEPTH * S::WIDTH);
            }
            while left > 0 {
                let n = left.min(S::WIDTH);
                let x = if n == S::WIDTH { Vector(S::load(at)) } else { load_part(at, n, shift) };
                let d = x - Vector(shift);
                (sums[0], squares[0]) = (sums[0] + d, d.mul_add(d, squares[0]));
                (at, left) = (at.add(n), left - n);
            }
        }
        sum += across::<Sum, S>((sums[0] + sums[1]) + (sums[2] + sums[3])).to_f64();
        square += across::<Sum, S>((squares[0] + squares[1]) + (squares[2] + squares[3])).to_f64();
    }
    shifted(count, mean.to_f64(), sum, square)
}

struct Columns<'a, T>(&'a [&'a [T]], &'a mut [State]);

impl<T: StoredFloat> OnLanes for Columns<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let Columns(rows, states) = self;
        let count = rows.len() as f64;
        let mut buffers = [[T::Real::of(0.0); STRIP]; BATCH];
        let [mut shifts, mut sums, mut squares] = [[T::Real::of(0.0); STRIP]; 3];
        for (c, states) in states.chunks_mut(STRIP).enumerate() {
            let strip = strip(rows, c, &mut buffers);
            for at in (0..states.len()).step_by(<T::Real as Real>::In::<A>::WIDTH) {
                let mut total = Vector::<<T::Real as Real>::In<A>>::of(0.0);
                for row in &strip[..rows.len()] {
                    total = total + get(row, at);
                }
                let shift = total * (1.0 / count);
                let [mut sum, mut square] = [Vector::of(0.0); 2];
                for row in &strip[..rows.len()] {
                    let d = get(row, at) - shift;
                    (sum, square) = (sum + d, d.mul_add(d, square));
                }
                set(&mut shifts, at, shift);
                set(&mut sums, at, sum);
                set(&mut squares, at, square);
            }
            for (i, state) in states.iter_mut().enumerate() {
                let part = shifted(count, shifts[i].to_f64(), sums[i].to_f64(), squares[i].to_f64());
                *state = merge(*state, part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::reference::{self, Data, assert_close, on_all_threads, tolerance};

    fn run_on(axes: &[usize], x: &Data) -> (Vec<f64>, Vec<f64>) {
        let shape = Shape::new(x.shape());
        let kept: Vec<usize> =
            shape.iter().enumerate().map(|(i, &s)| if axes.contains(&i) { 1 } else { s }).collect();
        let done = on_all_threads(|| {
            let (mut mean, mut variance) = (Data::zeros(x.dtype, &kept), Data::zeros(x.dtype, &kept));
            let map = Fused::identity(x.dtype);
            moments(Axes::new(axes), &map, &shape, &[x.view()], &mean.out(), &variance.out()).unwrap();
            vec![mean, variance]
        });
        (done[0].list(), done[1].list())
    }

    fn check(axes: &[usize], x: &Data, tolerance: f64) {
        let (mean, variance) = run_on(axes, x);
        let want = reference::moments(Axes::new(axes), x.shape(), &x.list());
        let what = (axes, &x.layout, x.dtype);
        assert_close(&mean, &want.0, tolerance, &what);
        assert_close(&variance, &want.1, tolerance, &what);
    }

    #[test]
    fn all_patterns_and_layouts() {
        let patterns: &[(&[usize], &[&[usize]])] = &[
            (&[], &[&[]]),
            (&[1], &[&[0]]),
            (&[70_003], &[&[0]]),
            (&[300, 10], &[&[0], &[1], &[0, 1], &[]]),
            (&[50, 1500], &[&[0], &[1]]),
            (&[9, 9000], &[&[0], &[1]]),
            (&[6, 5, 4, 3], &[&[0, 2, 3], &[0, 2], &[1, 3]]),
            (&[4, 3, 17, 16], &[&[0, 2, 3], &[1]]),
        ];
        for &(shape, patterns) in patterns {
            for x in Data::views(DType::F32, shape, 5) {
                for &axes in patterns {
                    check(axes, &x, 2e-6);
                }
            }
        }
    }

    #[test]
    fn all_dtypes() {
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            for axes in [&[0][..], &[1], &[0, 1, 2]] {
                check(axes, &Data::mixed(dtype, &[37, 3, 70], 6), 2.0 * tolerance(dtype));
            }
        }
    }

    #[test]
    fn a_large_mean_does_not_hide_the_variance() {
        for shape in [[1, 100_000], [100_000, 1], [300, 400], [3, 3000]] {
            // The twelve-fold sum of uniforms minus 6 is nearly normal.
            let x = Data::new(DType::F32, &shape, |i| {
                1e4 - 6.0
                    + (0..12).map(|k| (reference::mixed(DType::F64, i as u64, k) + 3.0) / 6.0).sum::<f64>()
            });
            for axes in [&[0][..], &[1], &[0, 1]] {
                let (_, variance) = run_on(axes, &x);
                let want = reference::moments(Axes::new(axes), &shape, &x.list()).1;
                assert_close(&variance, &want, 2e-5, &(shape, axes));
            }
        }
        let outlier = Data::new(DType::F32, &[4000, 3], |i| if i < 3 { 1e5 } else { (i % 7) as f64 });
        check(&[0], &outlier, 1e-6);
    }

    #[test]
    fn nothing_has_no_mean() {
        let (mean, variance) = run_on(&[1], &Data::zeros(DType::F32, &[2, 0]));
        assert!(mean.len() == 2 && mean.iter().chain(&variance).all(|x| x.is_nan()));
        assert!(run_on(&[0], &Data::zeros(DType::F32, &[2, 0])).0.is_empty());
    }

    #[test]
    fn infinity_is_the_mean_and_nan_the_variance() {
        for (shape, axes) in [([3000, 2], [0]), ([2, 3000], [1])] {
            let (mean, variance) = run_on(
                &axes,
                &Data::new(DType::F32, &shape, |i| if i == 4321 { f64::INFINITY } else { 1.0 }),
            );
            let with: Vec<bool> = mean.iter().map(|x| x.is_infinite()).collect();
            assert_eq!(with, [false, true]);
            assert_eq!((mean[0], variance[0]), (1.0, 0.0));
            assert!(variance[1].is_nan());
        }
    }
}

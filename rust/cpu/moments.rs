//! Mean and variance in one reduction. A run of elements gets its mean and then its squared deviations
//! from it, both while it lies in registers or the first level cache; runs are merged by the formula of
//! Chan, Golub and LeVeque (1979), which does not cancel. The order and the threads are `fold`'s.

use super::fold::{Fold, fold};
use super::monoid::{LANES, Monoid, Sum, run};
use super::pointwise::Evaluator;
use super::real::{Real, Stored};
use super::view::{Out, View};
use super::work::{Shared, vectorized};
use crate::bail;
use crate::core::{DType, Result, Shape};
use crate::ir::kernel::{Axes, Fused};
use half::{bf16, f16};

/// Mean and biased variance of the map's values over `axes`; NaN where there is nothing.
pub fn moments(axes: Axes, map: &Fused, shape: &Shape, inputs: &[View], mean: &Out, variance: &Out) -> Result<()> {
    let map = Evaluator::new(map, inputs, shape)?;
    match mean.dtype {
        DType::F16 => typed::<f16>(axes, &map, shape, mean, variance),
        DType::BF16 => typed::<bf16>(axes, &map, shape, mean, variance),
        DType::F32 => typed::<f32>(axes, &map, shape, mean, variance),
        DType::F64 => typed::<f64>(axes, &map, shape, mean, variance),
        other => bail!(DType, "moments: takes floats, not {other}"),
    }
}

fn typed<T: Stored>(axes: Axes, map: &Evaluator, shape: &Shape, mean: &Out, variance: &Out) -> Result<()>
where
    Sum<T>: Monoid<T = T, Lane = T::Real, Wide = f64>,
{
    let outs = [Shared::new(mean.ptr.cast::<T>()), Shared::new(variance.ptr.cast::<T>())];
    if shape.count() == 0 {
        for out in outs {
            // SAFETY: the results are ours, with room for their shape.
            unsafe { out.slice(0, mean.shape.count()) }.fill(T::of(f64::NAN));
        }
        return Ok(());
    }
    let how = Fold::<T, State> { rows: rows::<T>, columns: columns::<T>, merge, neutral: State::default() };
    fold(&how, axes, map, shape, &|first, states| {
        for (i, state) in states.iter().enumerate() {
            // SAFETY: `fold` gives each result once, to one thread.
            unsafe {
                *outs[0].at(first + i) = T::of(state.mean);
                *outs[1].at(first + i) = T::of(state.squares / state.count);
            }
        }
    })
}

/// Of `count` elements: their mean, and the sum of squared deviations from it.
#[derive(Clone, Copy, Default)]
struct State {
    count: f64,
    mean: f64,
    squares: f64,
}

#[inline(always)]
fn merge(a: State, b: State) -> State {
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

fn rows<T: Stored>(values: &[T], length: usize, states: &mut [State])
where
    Sum<T>: Monoid<T = T, Lane = T::Real, Wide = f64>,
{
    vectorized(
        #[inline(always)]
        || {
            for (row, state) in values.chunks_exact(length).zip(states) {
                let shift = T::Real::from_f64(run::<Sum<T>>(row).to_f64() / length as f64);
                let mut sum = [T::Real::ZERO; LANES];
                let mut squares = [T::Real::ZERO; LANES];
                let (groups, rest) = row.as_chunks::<LANES>();
                for group in groups {
                    for i in 0..LANES {
                        let d = group[i].load() - shift;
                        sum[i] += d;
                        squares[i] += d * d;
                    }
                }
                for (i, x) in rest.iter().enumerate() {
                    let d = x.load() - shift;
                    sum[i] += d;
                    squares[i] += d * d;
                }
                let total = |lanes: [T::Real; LANES]| lanes.iter().map(|x| x.to_f64()).sum();
                *state = shifted(length as f64, shift.to_f64(), total(sum), total(squares));
            }
        },
    )
}

fn columns<T: Stored>(rows: &[&[T]], states: &mut [State]) {
    vectorized(
        #[inline(always)]
        || {
            let count = rows.len() as f64;
            for (c, states) in states.chunks_mut(LANES).enumerate() {
                let n = states.len();
                let mut shift = [T::Real::ZERO; LANES];
                let mut sum = [T::Real::ZERO; LANES];
                let mut squares = [T::Real::ZERO; LANES];
                for row in rows {
                    for (shift, x) in shift.iter_mut().zip(&row[c * LANES..][..n]) {
                        *shift += x.load();
                    }
                }
                for shift in &mut shift {
                    *shift = *shift * T::Real::from_f64(1.0 / count);
                }
                for row in rows {
                    for (i, x) in row[c * LANES..][..n].iter().enumerate() {
                        let d = x.load() - shift[i];
                        sum[i] += d;
                        squares[i] += d * d;
                    }
                }
                for (i, state) in states.iter_mut().enumerate() {
                    let part = shifted(count, shift[i].to_f64(), sum[i].to_f64(), squares[i].to_f64());
                    *state = merge(*state, part);
                }
            }
        },
    )
}

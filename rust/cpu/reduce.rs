//! Reductions of some axes: sum, product, extremes, any, all and log-sum-exp. The order of elements and
//! the threads are `fold`'s; here is what a run of elements comes to.

use super::fold::{Fold, fold};
use super::monoid::{All, Any, LANES, Max, Min, Monoid, Prod, Sum, run};
use super::pointwise::Evaluator;
use super::real::{Real, Stored};
use super::view::{Out, View};
use super::work::{Shared, vectorized};
use crate::core::{DType, Result, Shape};
use crate::ir::kernel::{Axes, Fused, Reduce};
use crate::{bail, for_dtype};
use half::{bf16, f16};

/// Reduces `axes` of the map's values over `shape`; `out` has size 1 there, or no such axes.
pub fn reduce(op: Reduce, axes: Axes, map: &Fused, shape: &Shape, inputs: &[View], out: &Out) -> Result<()> {
    let map = Evaluator::new(map, inputs, shape)?;
    let job = Job { axes, map: &map, shape, out };
    if op == Reduce::LogSumExp {
        return match out.dtype {
            DType::F16 => job.log_sum_exp::<f16>(),
            DType::BF16 => job.log_sum_exp::<bf16>(),
            DType::F32 => job.log_sum_exp::<f32>(),
            DType::F64 => job.log_sum_exp::<f64>(),
            other => bail!(DType, "logsumexp: takes floats, not {other}"),
        };
    }
    match op {
        Reduce::Any => job.combine::<Any>(0),
        Reduce::All => job.combine::<All>(1),
        Reduce::Sum => for_dtype!(out.dtype, T => job.combine::<Sum<T>>(T::default())),
        Reduce::Prod => for_dtype!(out.dtype, T => job.combine::<Prod<T>>(Prod::<T>::finish(Prod::<T>::wide(Prod::<T>::NEUTRAL)))),
        Reduce::Max => for_dtype!(out.dtype, T => job.combine::<Max<T>>(T::default())),
        Reduce::Min => for_dtype!(out.dtype, T => job.combine::<Min<T>>(T::default())),
        Reduce::LogSumExp => unreachable!("returned above"),
    }
}

struct Job<'a> {
    axes: Axes,
    map: &'a Evaluator<'a>,
    shape: &'a Shape,
    out: &'a Out<'a>,
}

impl Job<'_> {
    /// `nothing` is what an empty sum comes to.
    fn combine<M: Monoid>(&self, nothing: M::T) -> Result<()> {
        let how = Fold::<M::T, M::Wide> {
            rows: rows::<M>,
            columns: columns::<M>,
            merge: M::merge,
            neutral: M::wide(M::NEUTRAL),
        };
        self.run(&how, M::finish, nothing)
    }

    fn log_sum_exp<T: Stored>(&self) -> Result<()> {
        let how = Fold::<T, LogSum<T::Real>> {
            rows: log_sum_rows::<T>,
            columns: log_sum_columns::<T>,
            merge: LogSum::merge,
            neutral: LogSum::NOTHING,
        };
        self.run(&how, |s| T::of(s.max.to_f64() + s.sum.ln()), T::of(f64::NEG_INFINITY))
    }

    fn run<T: Copy + Send + Sync, W: Copy + Send + Sync>(
        &self,
        how: &Fold<T, W>,
        finish: fn(W) -> T,
        nothing: T,
    ) -> Result<()> {
        let out = Shared::new(self.out.ptr.cast::<T>());
        if self.shape.count() == 0 {
            // SAFETY: the result is ours, with room for its shape.
            unsafe { out.slice(0, self.out.shape.count()) }.fill(nothing);
            return Ok(());
        }
        fold(how, self.axes, self.map, self.shape, &|first, states| {
            // SAFETY: `fold` gives each result once, to one thread.
            let part = unsafe { out.slice(first, states.len()) };
            for (out, &state) in part.iter_mut().zip(states) {
                *out = finish(state);
            }
        })
    }
}

fn rows<M: Monoid>(values: &[M::T], length: usize, states: &mut [M::Wide]) {
    vectorized(
        #[inline(always)]
        || {
            for (row, state) in values.chunks_exact(length).zip(states) {
                *state = M::wide(run::<M>(row));
            }
        },
    )
}

fn columns<M: Monoid>(rows: &[&[M::T]], states: &mut [M::Wide]) {
    vectorized(
        #[inline(always)]
        || {
            let (groups, rest) = states.as_chunks_mut::<LANES>();
            let done = groups.len() * LANES;
            for (g, states) in groups.iter_mut().enumerate() {
                let mut lanes = [M::NEUTRAL; LANES];
                for row in rows {
                    let values = &row[g * LANES..][..LANES];
                    for i in 0..LANES {
                        lanes[i] = M::join(lanes[i], M::lane(values[i]));
                    }
                }
                for i in 0..LANES {
                    states[i] = M::merge(states[i], M::wide(lanes[i]));
                }
            }
            for (i, state) in rest.iter_mut().enumerate() {
                let sum = rows.iter().fold(M::NEUTRAL, |sum, row| M::join(sum, M::lane(row[done + i])));
                *state = M::merge(*state, M::wide(sum));
            }
        },
    )
}

/// `Σ exp(x)` as `sum · exp(max)`, which neither overflows nor vanishes.
#[derive(Clone, Copy)]
struct LogSum<R> {
    max: R,
    sum: f64,
}

/// `exp(x − max)`, and 1 where they are equal infinities.
#[inline(always)]
fn relative<R: Real>(x: R, max: R) -> R {
    let e = (x - max).exp();
    if x == max { R::ONE } else { e }
}

impl<R: Real> LogSum<R> {
    const NOTHING: Self = LogSum { max: R::NEG_INFINITY, sum: 0.0 };

    #[inline(always)]
    fn merge(a: Self, b: Self) -> Self {
        let max = super::monoid::larger(a.max, b.max);
        let sum = a.sum * relative(a.max, max).to_f64() + b.sum * relative(b.max, max).to_f64();
        LogSum { max, sum }
    }
}

/// Sums the values that a closure makes of elements; the monoid keeps its lanes.
fn log_sum_rows<T: Stored>(values: &[T], length: usize, states: &mut [LogSum<T::Real>]) {
    vectorized(
        #[inline(always)]
        || {
            for (row, state) in values.chunks_exact(length).zip(states) {
                *state = log_sum(row);
            }
        },
    )
}

#[inline(always)]
fn log_sum<T: Stored>(row: &[T]) -> LogSum<T::Real> {
    let (groups, rest) = row.as_chunks::<LANES>();
    let mut max = rest.iter().fold(T::Real::NEG_INFINITY, |max, x| super::monoid::larger(max, x.load()));
    let mut lanes = [T::Real::NEG_INFINITY; LANES];
    for group in groups {
        for i in 0..LANES {
            lanes[i] = super::monoid::larger(lanes[i], group[i].load());
        }
    }
    for x in lanes {
        max = super::monoid::larger(max, x);
    }
    let mut lanes = [T::Real::ZERO; LANES];
    for group in groups {
        for i in 0..LANES {
            lanes[i] += relative(group[i].load(), max);
        }
    }
    for (i, x) in rest.iter().enumerate() {
        lanes[i] += relative(x.load(), max);
    }
    LogSum { max, sum: lanes.iter().map(|x| x.to_f64()).sum() }
}

fn log_sum_columns<T: Stored>(rows: &[&[T]], states: &mut [LogSum<T::Real>]) {
    vectorized(
        #[inline(always)]
        || {
            for (c, states) in states.chunks_mut(LANES).enumerate() {
                let n = states.len();
                let mut max = [T::Real::NEG_INFINITY; LANES];
                let mut sum = [T::Real::ZERO; LANES];
                for row in rows {
                    for (max, x) in max.iter_mut().zip(&row[c * LANES..][..n]) {
                        *max = super::monoid::larger(*max, x.load());
                    }
                }
                for row in rows {
                    for (i, x) in row[c * LANES..][..n].iter().enumerate() {
                        sum[i] += relative(x.load(), max[i]);
                    }
                }
                for (i, state) in states.iter_mut().enumerate() {
                    *state = LogSum::merge(*state, LogSum { max: max[i], sum: sum[i].to_f64() });
                }
            }
        },
    )
}

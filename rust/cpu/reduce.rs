//! Reductions of some axes: sum, product, extremes, any, all and log-sum-exp. The order of elements and
//! the threads are `fold`'s; here is what a run of elements comes to.
//!
//! Floats are combined in vectors of float32 or float64, some dozens of elements deep, and what those
//! runs come to in float64, so errors do not grow with the length of an axis. Integers wrap.

use super::combine::{
    Combine, Max, Min, Prod, STRIP, Sum, across, get, load_part, relative, run, set, strip,
};
use super::fold::{BATCH, Fold, fold};
use super::isa;
use super::lanes::{Arch, Int, Lanes, OnLanes, Real, Vector, dispatch};
use super::pointwise::Evaluator;
use super::stored::{Stored, StoredFloat};
use super::view::{Out, View};
use super::work::{Shared, vectorized};
use crate::bail;
use crate::core::{DType, Result, Shape};
use crate::ir::kernel::{Axes, Fused, Reduce};
use crate::ir::value::Number;
use half::{bf16, f16};
use std::marker::PhantomData;

/// Reduces `axes` of the map's values over `shape`; `out` has size 1 there, or no such axes.
pub fn reduce(op: Reduce, axes: Axes, map: &Fused, shape: &Shape, inputs: &[View], out: &Out) -> Result<()> {
    let map = Evaluator::new(map, inputs, shape)?;
    let job = Job { axes, map: &map, shape, out };
    match op {
        Reduce::Sum => job.combine::<Sum>(out.dtype),
        Reduce::Prod => job.combine::<Prod>(out.dtype),
        Reduce::Max => job.combine::<Max>(out.dtype),
        Reduce::Min => job.combine::<Min>(out.dtype),
        // Of bytes that are 0 or 1.
        Reduce::Any => job.integers::<Max, u8>(),
        Reduce::All => job.run(&integers::<Min, u8>(), |x| x, 1),
        Reduce::LogSumExp => match out.dtype {
            DType::F16 => job.log_sum_exp::<f16>(),
            DType::BF16 => job.log_sum_exp::<bf16>(),
            DType::F32 => job.log_sum_exp::<f32>(),
            DType::F64 => job.log_sum_exp::<f64>(),
            other => bail!(DType, "logsumexp: takes floats, not {other}"),
        },
    }
}

struct Job<'a, 'm> {
    axes: Axes,
    map: &'a Evaluator<'m>,
    shape: &'a Shape,
    out: &'a Out<'a>,
}

impl Job<'_, '_> {
    fn combine<C: Combine>(&self, dtype: DType) -> Result<()> {
        match dtype {
            DType::Bool | DType::U8 => self.integers::<C, u8>(),
            DType::U16 => self.integers::<C, u16>(),
            DType::U32 => self.integers::<C, u32>(),
            DType::U64 => self.integers::<C, u64>(),
            DType::I8 => self.integers::<C, i8>(),
            DType::I16 => self.integers::<C, i16>(),
            DType::I32 => self.integers::<C, i32>(),
            DType::I64 => self.integers::<C, i64>(),
            DType::F16 => self.floats::<C, f16>(),
            DType::BF16 => self.floats::<C, bf16>(),
            DType::F32 => self.floats::<C, f32>(),
            DType::F64 => self.floats::<C, f64>(),
        }
    }

    fn integers<C: Combine, T: Stored<Wide = Int<T>>>(&self) -> Result<()> {
        self.run(&integers::<C, T>(), |x| x, C::neutral())
    }

    fn floats<C: Combine, T: StoredFloat>(&self) -> Result<()> {
        let how = Fold::<T, f64> {
            rows: |values, length, states| {
                dispatch(isa::get(), Rows::<C, T>(values, length, states, PhantomData))
            },
            columns: |rows, states| dispatch(isa::get(), Columns::<C, T>(rows, states, PhantomData)),
            merge: |a, b| C::join(Vector(a), Vector(b)).0,
            neutral: C::neutral(),
        };
        self.run(&how, T::nearest, C::neutral())
    }

    fn log_sum_exp<T: StoredFloat>(&self) -> Result<()> {
        let how = Fold::<T, LogSum> {
            rows: |values, length, states| dispatch(isa::get(), LogSumRows(values, length, states)),
            columns: |rows, states| dispatch(isa::get(), LogSumColumns(rows, states)),
            merge: LogSum::merge,
            neutral: LogSum { max: f64::NEG_INFINITY, sum: 0.0 },
        };
        self.run(&how, |s| T::nearest(s.max + s.sum.ln()), T::LOWEST)
    }

    /// `nothing` is the result over no elements.
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

// Integers: loops that the compiler vectorises.

fn integers<C: Combine, T: Stored<Wide = Int<T>>>() -> Fold<T, T> {
    Fold {
        rows: |values, length, states| {
            vectorized(
                #[inline(always)]
                || {
                    for (row, state) in values.chunks_exact(length).zip(states) {
                        *state = row.iter().fold(C::neutral(), |sum, &x| join::<C, T>(sum, x));
                    }
                },
            )
        },
        columns: |rows, states| {
            vectorized(
                #[inline(always)]
                || {
                    for row in rows {
                        for (state, &x) in states.iter_mut().zip(*row) {
                            *state = join::<C, T>(*state, x);
                        }
                    }
                },
            )
        },
        merge: join::<C, T>,
        neutral: C::neutral(),
    }
}

#[inline(always)]
fn join<C: Combine, T: Stored>(a: T, b: T) -> T {
    T::narrow(C::join(a.widen(), b.widen()))
}

// Floats: vectors.

struct Rows<'a, C, T>(&'a [T], usize, &'a mut [f64], PhantomData<C>);

impl<C: Combine, T: StoredFloat> OnLanes for Rows<'_, C, T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let mut buffer = [T::Real::of(0.0); Evaluator::BLOCK];
        for (row, state) in self.0.chunks_exact(self.1).zip(self.2) {
            *state = run::<C, <T::Real as Real>::In<A>>(T::converted(row, &mut buffer)).to_f64();
        }
    }
}

struct Columns<'a, C, T>(&'a [&'a [T]], &'a mut [f64], PhantomData<C>);

impl<C: Combine, T: StoredFloat> OnLanes for Columns<'_, C, T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let Columns(rows, states, _) = self;
        let mut buffers = [[T::Real::of(0.0); STRIP]; BATCH];
        let mut sums = [T::Real::of(0.0); STRIP];
        for (c, states) in states.chunks_mut(STRIP).enumerate() {
            let strip = strip(rows, c, &mut buffers);
            for at in (0..states.len()).step_by(<T::Real as Real>::In::<A>::WIDTH) {
                let mut sum = get::<<T::Real as Real>::In<A>>(strip[0], at);
                for row in &strip[1..rows.len()] {
                    sum = C::join(sum, get(row, at));
                }
                set(&mut sums, at, sum);
            }
            for (state, sum) in states.iter_mut().zip(&sums) {
                *state = C::join(Vector(*state), Vector(sum.to_f64())).0;
            }
        }
    }
}

/// `Σ exp(x)` as `sum · exp(max)`, which neither overflows nor vanishes.
#[derive(Clone, Copy)]
struct LogSum {
    max: f64,
    sum: f64,
}

impl LogSum {
    fn merge(a: LogSum, b: LogSum) -> LogSum {
        let max = Vector(a.max).maximum(Vector(b.max)).0;
        let share = |s: LogSum| if s.max == max { s.sum } else { s.sum * (s.max - max).exp() };
        LogSum { max, sum: share(a) + share(b) }
    }
}

struct LogSumRows<'a, T>(&'a [T], usize, &'a mut [LogSum]);

impl<T: StoredFloat> OnLanes for LogSumRows<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let mut buffer = [T::Real::of(0.0); Evaluator::BLOCK];
        for (row, state) in self.0.chunks_exact(self.1).zip(self.2) {
            let row = T::converted(row, &mut buffer);
            let max = run::<Max, <T::Real as Real>::In<A>>(row);
            *state = LogSum { max: max.to_f64(), sum: sum_exp::<<T::Real as Real>::In<A>>(row, max) };
        }
    }
}

/// `Σ exp(x − max)`.
#[inline(always)]
fn sum_exp<S: Lanes>(x: &[S::Elem], max: S::Elem) -> f64
where
    S::Elem: StoredFloat<Real = S::Elem> + Lanes<Elem = S::Elem>,
{
    let max = Vector(S::splat(max));
    let mut sum = Vector::<S>::of(0.0);
    let (mut at, mut left) = (x.as_ptr(), x.len());
    // SAFETY: never more than what is left is read.
    unsafe {
        while left >= S::WIDTH {
            sum = sum + relative(Vector(S::load(at)), max);
            (at, left) = (at.add(S::WIDTH), left - S::WIDTH);
        }
        if left > 0 {
            let low = S::splat(<S::Elem as Real>::of(f64::NEG_INFINITY));
            sum = sum + relative(load_part(at, left, low), max);
        }
    }
    across::<Sum, S>(sum).to_f64()
}

struct LogSumColumns<'a, T>(&'a [&'a [T]], &'a mut [LogSum]);

impl<T: StoredFloat> OnLanes for LogSumColumns<'_, T> {
    type Output = ();
    /// The rows and what came before them share a maximum, which all are taken relative to.
    #[inline(always)]
    fn run<A: Arch>(self) {
        let LogSumColumns(rows, states) = self;
        let mut buffers = [[T::Real::of(0.0); STRIP]; BATCH];
        let [mut before, mut maxima, mut shares, mut sums] = [[T::Real::of(0.0); STRIP]; 4];
        for (c, states) in states.chunks_mut(STRIP).enumerate() {
            let strip = strip(rows, c, &mut buffers);
            for (before, state) in before.iter_mut().zip(&*states) {
                *before = T::Real::of(state.max);
            }
            for at in (0..states.len()).step_by(<T::Real as Real>::In::<A>::WIDTH) {
                let before = get::<<T::Real as Real>::In<A>>(&before, at);
                let mut max = before;
                for row in &strip[..rows.len()] {
                    max = max.maximum(get(row, at));
                }
                let mut sum = Vector::of(0.0);
                for row in &strip[..rows.len()] {
                    sum = sum + relative(get(row, at), max);
                }
                set(&mut maxima, at, max);
                set(&mut shares, at, relative(before, max));
                set(&mut sums, at, sum);
            }
            for (i, state) in states.iter_mut().enumerate() {
                let sum = state.sum * shares[i].to_f64() + sums[i].to_f64();
                *state = LogSum { max: maxima[i].to_f64(), sum };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::reference;
    use crate::cpu::reference::{Data, assert_close, on_all_threads, tolerance};
    use crate::ir::{Elementwise, Program, Reg, Step};
    use std::sync::Arc;

    fn reduced(shape: &[usize], axes: &[usize]) -> Vec<usize> {
        shape.iter().enumerate().map(|(i, &s)| if axes.contains(&i) { 1 } else { s }).collect()
    }

    fn run_map(op: Reduce, axes: &[usize], map: &Fused, x: &Data, dtype: DType) -> Vec<f64> {
        let shape = Shape::new(x.shape());
        on_all_threads(|| {
            let mut y = Data::zeros(dtype, &reduced(&shape, axes));
            reduce(op, Axes::new(axes), map, &shape, &[x.view()], &y.out()).unwrap();
            vec![y]
        })[0]
            .list()
    }

    fn check(op: Reduce, axes: &[usize], x: &Data) {
        let got = run_map(op, axes, &Fused::identity(x.dtype), x, x.dtype);
        let want = reference::reduce(op, Axes::new(axes), x.shape(), &x.list(), x.dtype);
        let what = (op, axes, &x.layout, x.dtype);
        assert_close(&got, &want, tolerance(x.dtype) * 4.0, &what);
    }

    const PATTERNS: &[(&[usize], &[&[usize]])] = &[
        (&[], &[&[]]),
        (&[1], &[&[0], &[]]),
        (&[7], &[&[0], &[]]),
        (&[70_003], &[&[0]]),
        (&[2, 70_000], &[&[1], &[0], &[0, 1]]),
        (&[300, 10], &[&[0], &[1], &[0, 1], &[]]),
        (&[3, 1, 40], &[&[0], &[1], &[2], &[0, 2], &[0, 1, 2]]),
        (&[1000, 37], &[&[0], &[1]]),
        (&[50, 1500], &[&[0], &[1]]),
        (&[9, 9000], &[&[0], &[1]]),
        (&[6, 5, 300], &[&[0, 2], &[1], &[0], &[2], &[1, 2]]),
        (&[6, 5, 4, 3], &[&[0, 2, 3], &[0, 2], &[1, 3], &[0, 1, 2], &[1, 2]]),
        (&[4, 3, 17, 16], &[&[0, 2, 3], &[1], &[0, 3]]),
    ];

    #[test]
    fn all_patterns_and_layouts() {
        for &(shape, patterns) in PATTERNS {
            for x in Data::views(DType::F32, shape, 1) {
                for &axes in patterns {
                    check(Reduce::Sum, axes, &x);
                    check(Reduce::Max, axes, &x);
                    check(Reduce::LogSumExp, axes, &x);
                }
            }
        }
    }

    #[test]
    fn all_dtypes() {
        for &dtype in DType::ALL {
            for shape in [&[37, 3, 41][..], &[600, 3]] {
                let x = Data::mixed(dtype, shape, 2);
                for axes in [&[0][..], &[1], &[0, 1]] {
                    if dtype == DType::Bool {
                        check(Reduce::Any, axes, &x);
                        check(Reduce::All, axes, &x);
                    } else {
                        // 97 numbers, added up in any order without rounding but for the last.
                        check(Reduce::Sum, axes, &x);
                        check(Reduce::Min, axes, &x);
                    }
                    check(Reduce::Max, axes, &x);
                    if dtype.is_float() {
                        check(Reduce::LogSumExp, axes, &x);
                    }
                }
            }
            if dtype != DType::Bool {
                let x =
                    Data::new(dtype, &[40, 5, 40], |i| if i % 3 == 0 { 1.0 } else { (i % 2) as f64 + 1.0 });
                check(Reduce::Prod, &[1], &x);
                check(Reduce::Prod, &[0], &Data::new(dtype, &[6, 50], |i| (i % 3) as f64 + 1.0));
            }
        }
    }

    #[test]
    fn integers_wrap() {
        check(Reduce::Sum, &[0], &Data::new(DType::I8, &[1000, 3], |i| (i % 100) as f64));
        check(Reduce::Sum, &[1], &Data::new(DType::U16, &[3, 1000], |i| (i * 37 % 60_000) as f64));
        check(Reduce::Prod, &[1], &Data::new(DType::U8, &[3, 40], |i| (i % 5 + 1) as f64));
    }

    #[test]
    fn bools_need_one_or_all() {
        for n in [1, 40, 5000] {
            for hit in [None, Some(0), Some(n / 2), Some(n - 1)] {
                let any = Data::new(DType::Bool, &[n], |i| (Some(i) == hit) as u8 as f64);
                check(Reduce::Any, &[0], &any);
                let all = Data::new(DType::Bool, &[n], |i| (Some(i) != hit) as u8 as f64);
                check(Reduce::All, &[0], &all);
            }
        }
    }

    #[test]
    fn nothing_gives_the_neutral_element() {
        for (op, want) in [
            (Reduce::Sum, 0.0),
            (Reduce::Prod, 1.0),
            (Reduce::LogSumExp, f64::NEG_INFINITY),
            (Reduce::Any, 0.0),
            (Reduce::All, 1.0),
        ] {
            let dtype = if matches!(op, Reduce::Any | Reduce::All) { DType::Bool } else { DType::F32 };
            let got = run_map(op, &[1], &Fused::identity(dtype), &Data::zeros(dtype, &[3, 0, 2]), dtype);
            assert_eq!(got, vec![want; 6]);
            let got = run_map(op, &[0], &Fused::identity(dtype), &Data::zeros(dtype, &[3, 0, 2]), dtype);
            assert!(got.is_empty());
        }
    }

    #[test]
    fn nan_and_infinity_go_where_they_should() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            for n in [3, 20, 1500] {
                for odd in [&[nan][..], &[inf], &[-inf], &[inf, -inf], &[nan, inf]] {
                    for place in [0, n / 2, n - odd.len()] {
                        let x =
                            |i: usize| if i / 2 >= place { odd.get(i / 2 - place).copied() } else { None };
                        let columns = Data::new(dtype, &[n, 2], |i| x(i).unwrap_or((i % 5) as f64));
                        for op in [Reduce::Max, Reduce::Min, Reduce::LogSumExp, Reduce::Sum] {
                            check(op, &[0], &columns);
                            let mut rows = columns.clone();
                            rows.layout = rows.layout.permute(&[1, 0]);
                            check(op, &[1], &rows);
                        }
                    }
                }
                let low = Data::new(dtype, &[2, n, 2], |_| -inf);
                check(Reduce::LogSumExp, &[1], &low);
                check(Reduce::LogSumExp, &[0, 1, 2], &low);
            }
        }
        check(Reduce::LogSumExp, &[0], &Data::new(DType::F32, &[3000], |i| 1e4 + (i % 7) as f64));
        check(Reduce::LogSumExp, &[0], &Data::new(DType::F32, &[3000, 2], |i| -1e4 - (i % 7) as f64));
    }

    #[test]
    fn sums_are_accurate() {
        let n = 3_000_000;
        let x = Data::new(DType::F32, &[n], |i| 1.0 + reference::mixed(DType::F64, i as u64, 0) * 0.1);
        let exact: f64 = x.list().iter().sum();
        let got = run_map(Reduce::Sum, &[0], &Fused::identity(DType::F32), &x, DType::F32)[0];
        assert!((got - exact).abs() <= exact * f32::EPSILON as f64 / 2.0, "{got} for {exact}");
        let x = Data::new(DType::F64, &[n], |i| reference::mixed(DType::F64, i as u64, 0) * 0.1);
        let got = run_map(Reduce::Sum, &[0], &Fused::identity(DType::F64), &x, DType::F64)[0];
        // Against sums of halves of halves.
        fn pairwise(x: &[f64]) -> f64 {
            if x.len() < 8 {
                x.iter().sum()
            } else {
                pairwise(&x[..x.len() / 2]) + pairwise(&x[x.len() / 2..])
            }
        }
        let size: f64 = x.list().iter().map(|x| x.abs()).sum();
        assert!((got - pairwise(&x.list())).abs() <= size * 4.0 * f64::EPSILON);
    }

    #[test]
    fn maps_are_evaluated_on_the_way() {
        let mut program = Program::default();
        program.inputs.push(DType::F32);
        program.steps.push(Step::Apply {
            op: Elementwise::square,
            dtype: DType::F32,
            args: [Reg::Input(0); 3],
        });
        program.steps.push(Step::Cast { from: DType::F32, to: DType::F64, arg: Reg::Step(0) });
        program.outputs.push(Reg::Step(1));
        let map = Fused { program: Arc::new(program), scalars: Default::default() };
        for shape in [[5, 7], [40, 3000], [3000, 40]] {
            for x in Data::views(DType::F32, &shape, 3) {
                let squares: Vec<f64> = x.list().iter().map(|x| x * x).collect();
                for axes in [&[0][..], &[1], &[0, 1]] {
                    let want = reference::reduce(Reduce::Sum, Axes::new(axes), &shape, &squares, DType::F64);
                    assert_close(
                        &run_map(Reduce::Sum, axes, &map, &x, DType::F64),
                        &want,
                        1e-14,
                        &(shape, axes),
                    );
                }
            }
        }
    }

    #[test]
    fn log_sum_exp_is_for_floats() {
        let (x, mut y) = (Data::zeros(DType::I32, &[3]), Data::zeros(DType::I32, &[1]));
        let result = reduce(
            Reduce::LogSumExp,
            Axes::new(&[0]),
            &Fused::identity(DType::I32),
            &Shape::new(&[3]),
            &[x.view()],
            &y.out(),
        );
        assert_eq!(result.unwrap_err().to_string(), "logsumexp: takes floats, not int32");
    }
}

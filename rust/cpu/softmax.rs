//! Softmax and its logarithm along the last axis. A row is brought to where the result goes and then
//! passed three times while it lies in cache: its maximum, the exponentials and their sum, the scale.
//! Sums are taken in vectors over blocks, and over the blocks of a long row in float64.

use super::combine::{DEPTH, Max, Sum, across, decay, load_or, run};
use super::isa;
use super::lanes::{Arch, Lanes, OnLanes, Real, Vector, dispatch};
use super::pointwise::Evaluator;
use super::stored::StoredFloat;
use super::view::{Out, View};
use super::work::{GRAIN, Shared, Temp, try_parallel};
use crate::bail;
use crate::core::{DType, Result, Shape};
use crate::ir::kernel::Fused;
use half::{bf16, f16};

/// `exp(x) / Σ exp(x)` along the last axis of the map's values, or its logarithm. A row that is −∞
/// throughout, or has a NaN or +∞, gives NaN.
pub fn softmax(log: bool, map: &Fused, shape: &Shape, inputs: &[View], out: &Out) -> Result<()> {
    let map = Evaluator::new(map, inputs, shape)?;
    match out.dtype {
        DType::F16 => typed::<f16>(log, &map, shape, out),
        DType::BF16 => typed::<bf16>(log, &map, shape, out),
        DType::F32 => typed::<f32>(log, &map, shape, out),
        DType::F64 => typed::<f64>(log, &map, shape, out),
        other => bail!(DType, "softmax: takes floats, not {other}"),
    }
}

const BLOCK: usize = Evaluator::BLOCK;

fn typed<T: StoredFloat>(log: bool, map: &Evaluator, shape: &Shape, out: &Out) -> Result<()> {
    let Some(rows) = shape.count().checked_div(*shape.last().unwrap_or(&1)) else { return Ok(()) };
    let length = *shape.last().unwrap_or(&1);
    let to = Shared::new(out.ptr.cast::<T>());
    let each = (GRAIN / 4 / length).max(1);
    // Several short rows are one evaluation.
    let together = (BLOCK / length).max(1);
    try_parallel(rows.div_ceil(each), |chunk| {
        let mut scratch = map.scratch()?;
        let mut buffer = Temp::filled(together * length, <T::Real as Real>::of(0.0))?;
        let (first, end) = (chunk * each, rows.min((chunk + 1) * each));
        for row in (first..end).step_by(together) {
            let (start, count) = (row * length, together.min(end - row) * length);
            // SAFETY: rows of the result belong to one chunk.
            let to = unsafe { to.slice(start, count) };
            for at in (0..count).step_by(BLOCK) {
                let n = BLOCK.min(count - at);
                let values = map.values(&mut scratch, start + at, n).cast::<T>();
                // SAFETY: `values` gives n values; they may be the very ones of the result.
                unsafe { std::ptr::copy(values, to[at..].as_mut_ptr(), n) };
            }
            dispatch(isa::get(), Rows { to, length, buffer: &mut buffer[..count], log });
        }
        Ok(())
    })
}

struct Rows<'a, T: StoredFloat> {
    to: &'a mut [T],
    length: usize,
    buffer: &'a mut [T::Real],
    log: bool,
}

impl<T: StoredFloat> OnLanes for Rows<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let Rows { to, length, buffer, log } = self;
        for (to, buffer) in to.chunks_exact_mut(length).zip(buffer.chunks_exact_mut(length)) {
            // Half floats are read into the buffer first; for others this is the result itself.
            if size_of::<T>() < size_of::<T::Real>() {
                T::reals(to, buffer);
            }
            row::<<T::Real as Real>::In<A>>(T::target(to, buffer), log);
            T::settle(to, buffer);
        }
    }
}

#[inline(always)]
fn row<S: Lanes>(x: &mut [S::Elem], log: bool)
where
    S::Elem: StoredFloat<Real = S::Elem> + Lanes<Elem = S::Elem>,
{
    let max = Vector(S::splat(run::<Max, S>(x)));
    let mut sum = 0.0;
    for x in x.chunks_mut(BLOCK) {
        let mut sums = [Vector::<S>::of(0.0); DEPTH];
        for at in (0..x.len()).step_by(DEPTH * S::WIDTH) {
            for (i, sum) in sums.iter_mut().enumerate() {
                let at = at + i * S::WIDTH;
                if at < x.len() {
                    let d = load_or(x, at, S::splat(<S::Elem as Real>::of(f64::NEG_INFINITY))) - max;
                    let e = decay(d);
                    *sum = *sum + e;
                    store(x, at, if log { d } else { e });
                }
            }
        }
        sum += across::<Sum, S>((sums[0] + sums[1]) + (sums[2] + sums[3])).to_f64();
    }
    let change = Vector::<S>::of(if log { sum.ln() } else { 1.0 / sum });
    for at in (0..x.len()).step_by(S::WIDTH) {
        let y = load_or(x, at, S::splat(<S::Elem as Real>::of(0.0)));
        store(x, at, if log { y - change } else { y * change });
    }
}

/// Writes vector `at ..` of a slice, as far as the slice goes.
#[inline(always)]
fn store<S: Lanes>(x: &mut [S::Elem], at: usize, y: Vector<S>) {
    let left = x.len() - at;
    // SAFETY: not more than what is left is written.
    unsafe {
        let at = x.as_mut_ptr().add(at);
        if left >= S::WIDTH { y.0.store(at) } else { y.0.store_part(at, left) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::reference::{self, Data, assert_close, on_all_threads, tolerance};

    fn check(log: bool, x: &Data) {
        let shape = Shape::new(x.shape());
        let got = on_all_threads(|| {
            let mut y = Data::zeros(x.dtype, &shape);
            softmax(log, &Fused::identity(x.dtype), &shape, &[x.view()], &y.out()).unwrap();
            vec![y]
        });
        let want = reference::softmax(log, *shape.last().unwrap_or(&1), &x.list());
        let what = (log, x.dtype, &x.layout);
        let tolerance = tolerance(x.dtype);
        assert_close(&got[0].list(), &want, tolerance, &what);
        if !log && x.dtype == DType::F32 {
            // Small probabilities count as well.
            for (got, want) in got[0].list().iter().zip(&want) {
                assert!(want.is_nan() || (got - want).abs() <= 2e-6 * want + 2e-38, "{what:?} {got} {want}");
            }
        }
    }

    #[test]
    fn rows_of_any_length_and_layout() {
        let shapes: &[&[usize]] = &[
            &[],
            &[1],
            &[5],
            &[0, 4],
            &[4, 0],
            &[1000, 10],
            &[30, 16],
            &[30, 100],
            &[3, 2, 1024],
            &[5, 1025],
            &[2, 70_001],
        ];
        for shape in shapes {
            for x in Data::views(DType::F32, shape, 9) {
                check(false, &x);
                check(true, &x);
            }
        }
    }

    #[test]
    fn all_dtypes() {
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            for shape in [[70, 10], [7, 300], [3, 2500]] {
                check(false, &Data::mixed(dtype, &shape, 3));
                check(true, &Data::mixed(dtype, &shape, 3));
            }
        }
    }

    #[test]
    fn extremes() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        for dtype in [DType::F16, DType::F32, DType::F64] {
            for n in [3, 20, 3000] {
                for (special, other) in
                    [(-inf, 1.0), (-inf, -inf), (nan, 1.0), (1.0, -inf), (60_000.0, 0.0), (-100.0, 0.0)]
                {
                    let x = Data::new(dtype, &[2, n], |i| if i == n / 2 { special } else { other });
                    check(false, &x);
                    check(true, &x);
                }
                let x = Data::new(dtype, &[n], |i| if i == 1 { inf } else { 1.0 });
                let mut y = Data::zeros(dtype, &[n]);
                softmax(false, &Fused::identity(dtype), &[n].into(), &[x.view()], &y.out()).unwrap();
                assert!(y.list().iter().all(|x| x.is_nan()));
            }
        }
    }

    #[test]
    fn the_result_may_take_the_place_of_the_operand() {
        let x = Data::mixed(DType::F32, &[40, 300], 1);
        let (mut apart, mut within) = (Data::zeros(DType::F32, &[40, 300]), x.clone());
        let map = Fused::identity(DType::F32);
        softmax(false, &map, &[40, 300].into(), &[x.view()], &apart.out()).unwrap();
        let layout = x.layout.clone();
        let out = within.out();
        let view = View { ptr: out.ptr, layout: &layout, dtype: DType::F32 };
        softmax(false, &map, &[40, 300].into(), &[view], &out).unwrap();
        assert!(apart.bytes() == within.bytes());
    }
}

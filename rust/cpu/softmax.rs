//! Softmax and its logarithm along the last axis. A row is passed three times while it lies in cache: its
//! maximum, the exponentials and their sum, the scale. Sums are taken in vectors over pieces of a row, and over
//! the pieces in float64.

use super::combine::{Max, Sum, across, decay, load_part, run};
use super::isa;
use super::lanes::{Arch, Lanes, OnLanes, Real, Vector, dispatch};
use super::pointwise::Evaluator;
use super::stored::{MAX_WIDTH, StoredFloat};
use super::view::{Out, View};
use super::work::{GRAIN, Shared, Temp, try_parallel};
use crate::bail;
use crate::core::{DType, Result, Shape};
use crate::ir::kernel::Fused;
use crate::ir::value::{Float, Number};
use half::{bf16, f16};

/// `exp(x) / Σ exp(x)` along the last axis of the map's values, or its logarithm. A row that is −∞
/// throughout, or has a NaN or +∞, gives NaN.
pub fn softmax(log: bool, map: &Fused, shape: &Shape, inputs: &[View], out: &Out) -> Result<()> {
    let map = Evaluator::new(map, inputs, shape)?;
    match (out.dtype, log) {
        (DType::F16, false) => typed::<f16, false>(&map, shape, out),
        (DType::F16, true) => typed::<f16, true>(&map, shape, out),
        (DType::BF16, false) => typed::<bf16, false>(&map, shape, out),
        (DType::BF16, true) => typed::<bf16, true>(&map, shape, out),
        (DType::F32, false) => typed::<f32, false>(&map, shape, out),
        (DType::F32, true) => typed::<f32, true>(&map, shape, out),
        (DType::F64, false) => typed::<f64, false>(&map, shape, out),
        (DType::F64, true) => typed::<f64, true>(&map, shape, out),
        (other, _) => bail!(DType, "softmax: takes floats, not {other}"),
    }
}

const BLOCK: usize = Evaluator::BLOCK;
/// Vectors that are added up before their sum goes to float64.
const PIECE: usize = 64;
/// Rows up to this length are turned: a row to a lane.
const SHORT: usize = 16;

fn typed<T: StoredFloat, const LOG: bool>(map: &Evaluator, shape: &Shape, out: &Out) -> Result<()> {
    let length = *shape.last().unwrap_or(&1);
    let Some(rows) = shape.count().checked_div(length) else { return Ok(()) };
    let to = Shared::new(out.ptr.cast::<T>());
    let each = (GRAIN / 4 / length).max(1);
    // Several short rows are one evaluation.
    let together = (BLOCK / length).max(1);
    let room = match length {
        0..=SHORT => length * together.next_multiple_of(MAX_WIDTH),
        _ if size_of::<T>() < size_of::<T::Real>() => length,
        _ => 0,
    };
    try_parallel(rows.div_ceil(each), |chunk| {
        let mut scratch = map.scratch()?;
        let mut buffer = Temp::filled(room, <T::Real as Real>::of(0.0))?;
        let (first, end) = (chunk * each, rows.min((chunk + 1) * each));
        for row in (first..end).step_by(together) {
            let rows = together.min(end - row);
            let (start, count) = (row * length, rows * length);
            let to = to.at(start);
            let from = if count <= BLOCK {
                map.values(&mut scratch, start, count).cast::<T>()
            } else {
                // A long row is brought to its place first.
                for at in (0..count).step_by(BLOCK) {
                    let n = BLOCK.min(count - at);
                    let from = map.values(&mut scratch, start + at, n).cast::<T>();
                    // SAFETY: `values` gives n values, and rows of the result belong to one chunk. Both
                    // may be the same place.
                    unsafe { std::ptr::copy(from, to.add(at), n) };
                }
                to.cast_const()
            };
            dispatch(isa::get(), Rows::<T, LOG> { from, to, rows, length, buffer: &mut buffer });
        }
        Ok(())
    })
}

/// Rows of `length` from one place to another, or within one. Both have `rows` of them, and the buffer
/// has room as `typed` says.
struct Rows<'a, T: StoredFloat, const LOG: bool> {
    from: *const T,
    to: *mut T,
    rows: usize,
    length: usize,
    buffer: &'a mut [T::Real],
}

impl<T: StoredFloat, const LOG: bool> OnLanes for Rows<'_, T, LOG> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let length = self.length;
        if length <= SHORT {
            return self.turned::<<T::Real as Real>::In<A>>();
        }
        for i in 0..self.rows {
            let (from, to) = (self.from.wrapping_add(i * length), self.to.wrapping_add(i * length));
            // SAFETY: the rows are there, says `Rows`; the buffer has room for one of half floats.
            unsafe {
                if size_of::<T>() == size_of::<T::Real>() {
                    row::<<T::Real as Real>::In<A>, LOG>(from.cast(), to.cast(), length);
                } else {
                    let buffer = self.buffer.as_mut_ptr();
                    for i in 0..length {
                        *buffer.add(i) = (*from.add(i)).load();
                    }
                    row::<<T::Real as Real>::In<A>, LOG>(buffer, buffer, length);
                    for i in 0..length {
                        *to.add(i) = T::store(*buffer.add(i));
                    }
                }
            }
        }
    }
}

/// One row, from and to places that are apart or the same.
///
/// # Safety
/// Both must have `n` elements.
#[inline(always)]
unsafe fn row<S: Lanes, const LOG: bool>(from: *const S::Elem, to: *mut S::Elem, n: usize)
where
    S::Elem: StoredFloat<Real = S::Elem> + Lanes<Elem = S::Elem>,
{
    // SAFETY (all): the caller's. Vectors end before n, or are part ones; the slice is gone before
    // anything is written.
    let max = Vector(S::splat(run::<Max, S>(unsafe { std::slice::from_raw_parts(from, n) })));
    let low = S::splat(<S::Elem as Real>::of(f64::NEG_INFINITY));
    let mut total = 0.0;
    for begin in (0..n).step_by(PIECE * S::WIDTH) {
        let end = n.min(begin + PIECE * S::WIDTH);
        let mut sum = Vector::<S>::of(0.0);
        let mut at = begin;
        unsafe {
            while at + S::WIDTH <= end {
                let d = Vector(S::load(from.add(at))) - max;
                let e = decay(d);
                sum = sum + e;
                (if LOG { d } else { e }).0.store(to.add(at));
                at += S::WIDTH;
            }
            if at < end {
                let d = load_part(from.add(at), end - at, low) - max;
                let e = decay(d);
                sum = sum + e;
                (if LOG { d } else { e }).0.store_part(to.add(at), end - at);
            }
        }
        total += across::<Sum, S>(sum).to_f64();
    }
    let change = Vector::<S>::of(if LOG { total.ln() } else { 1.0 / total });
    let mut at = 0;
    // SAFETY: as above, the row has `n` elements, all written by now.
    unsafe {
        while at + S::WIDTH <= n {
            let y = Vector(S::load(to.add(at)));
            (if LOG { y - change } else { y * change }).0.store(to.add(at));
            at += S::WIDTH;
        }
        if at < n {
            let y = load_part(to.add(at), n - at, low);
            (if LOG { y - change } else { y * change }).0.store_part(to.add(at), n - at);
        }
    }
}

impl<T: StoredFloat, const LOG: bool> Rows<'_, T, LOG> {
    /// Short rows: element j of row i stands at `buffer[j][i]`, so that no lane waits for another.
    #[inline(always)]
    fn turned<S: Lanes<Elem = T::Real>>(self) {
        let Rows { from, to, rows, length, buffer } = self;
        let pitch = rows.next_multiple_of(MAX_WIDTH);
        for i in 0..rows {
            for j in 0..length {
                // SAFETY: the rows are there, says `Rows`.
                buffer[j * pitch + i] = unsafe { *from.add(i * length + j) }.load();
            }
        }
        let at = buffer.as_mut_ptr();
        for i in (0..rows).step_by(S::WIDTH) {
            let mut max = Vector::<S>::of(f64::NEG_INFINITY);
            let mut sum = Vector::<S>::of(0.0);
            // SAFETY: the pitch is a multiple of any vector, and there are `length` times as many.
            unsafe {
                for j in 0..length {
                    max = max.maximum(Vector(S::load(at.add(j * pitch + i))));
                }
                for j in 0..length {
                    let d = Vector(S::load(at.add(j * pitch + i))) - max;
                    let e = decay(d);
                    sum = sum + e;
                    (if LOG { d } else { e }).0.store(at.add(j * pitch + i));
                }
                let change = if LOG { sum.log() } else { 1.0 / sum };
                for j in 0..length {
                    let y = Vector(S::load(at.add(j * pitch + i)));
                    (if LOG { y - change } else { y * change }).0.store(at.add(j * pitch + i));
                }
            }
        }
        for i in 0..rows {
            for j in 0..length {
                // SAFETY: as above.
                unsafe { *to.add(i * length + j) = T::store(buffer[j * pitch + i]) };
            }
        }
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

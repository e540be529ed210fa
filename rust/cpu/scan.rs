//! Running sums, products and extremes. Floats run in float64 and round for each element written.
//! Lines along the last axis are cut into segments: each comes to a total first, the totals before it
//! are its start, and then all segments run side by side. Other axes run over whole rows at once.

use super::combine::{Combine, Max, Min, Prod, Sum};
use super::pointwise::Evaluator;
use super::stored::Stored;
use super::view::{Out, View};
use super::work::{GRAIN, Shared, Temp, try_parallel, vectorized};
use crate::core::Result;
use crate::for_dtype;
use crate::ir::kernel::{Fused, Scan};

/// The running combination along `axis`.
pub fn scan(op: Scan, axis: usize, x: &View, out: &Out) -> Result<()> {
    let identity = Fused::identity(x.dtype);
    let inputs = [*x];
    let shape = out.shape;
    let map = &Evaluator::new(&identity, &inputs, shape)?;
    if shape.count() == 0 {
        return Ok(());
    }
    let outer = shape[..axis].iter().product();
    let inner = shape[axis + 1..].iter().product();
    let line = Line { map, outer, length: shape[axis], inner, out };
    for_dtype!(x.dtype, T => match op {
        Scan::Sum => line.scan::<Sum, T>(),
        Scan::Prod => line.scan::<Prod, T>(),
        Scan::Max => line.scan::<Max, T>(),
        Scan::Min => line.scan::<Min, T>(),
    })
}

const BLOCK: usize = Evaluator::BLOCK;

struct Line<'a, 'm> {
    map: &'a Evaluator<'m>,
    outer: usize,
    length: usize,
    inner: usize,
    out: &'a Out<'a>,
}

impl Line<'_, '_> {
    fn scan<C: Combine, T: Stored>(&self) -> Result<()> {
        if self.inner == 1 { self.along::<C, T>() } else { self.across::<C, T>() }
    }

    /// Lines whose elements are neighbours.
    fn along<C: Combine, T: Stored>(&self) -> Result<()> {
        let Line { map, outer, length, .. } = *self;
        let out = Shared::new(self.out.ptr.cast::<T>());
        let segments = length.div_ceil(GRAIN);
        let pieces = outer * segments;
        let mut starts = Temp::filled(pieces, C::neutral::<T>().widen())?;
        let each = (GRAIN / length).max(1);
        // Elements of a piece, in blocks.
        let blocks = |piece: usize| {
            let (line, begin) = (piece / segments, piece % segments * GRAIN);
            let end = length.min(begin + GRAIN);
            (begin..end).step_by(BLOCK).map(move |at| (line * length + at, BLOCK.min(end - at)))
        };
        if segments > 1 {
            let totals = starts.shared();
            try_parallel(pieces, |piece| {
                let mut scratch = map.scratch()?;
                let mut total = C::neutral::<T>().widen();
                for (start, n) in blocks(piece) {
                    // SAFETY: `values` gives n values of the operand's type.
                    let x = unsafe {
                        std::slice::from_raw_parts(map.values(&mut scratch, start, n).cast::<T>(), n)
                    };
                    total = C::join(total, total_of::<C, T>(x));
                }
                // SAFETY: each piece has its place.
                unsafe { *totals.at(piece) = total };
                Ok(())
            })?;
            for line in starts.chunks_exact_mut(segments) {
                let mut sum = C::neutral::<T>().widen();
                for start in line {
                    sum = C::join(std::mem::replace(start, sum), sum);
                }
            }
        }
        try_parallel(pieces.div_ceil(each), |chunk| {
            let mut scratch = map.scratch()?;
            for piece in chunk * each..pieces.min((chunk + 1) * each) {
                let mut sum = starts[piece];
                for (start, n) in blocks(piece) {
                    let x = map.values(&mut scratch, start, n).cast::<T>();
                    for i in 0..n {
                        // SAFETY: `values` gives n values, and pieces of the result do not overlap. An
                        // element may be read and written in one place.
                        unsafe {
                            sum = C::join(sum, (*x.add(i)).widen());
                            *out.at(start + i) = T::narrow(sum);
                        }
                    }
                }
            }
            Ok(())
        })
    }

    /// Lines side by side: a row of running values meets row after row.
    fn across<C: Combine, T: Stored>(&self) -> Result<()> {
        let Line { map, outer, length, inner, .. } = *self;
        let out = Shared::new(self.out.ptr.cast::<T>());
        let width = inner.min(BLOCK);
        let tiles = inner.div_ceil(width);
        let tasks = outer * tiles;
        let each = (GRAIN / (length * width)).max(1);
        // Narrow rows come several at a time.
        let rows = BLOCK / width;
        try_parallel(tasks.div_ceil(each), |chunk| {
            let mut scratch = map.scratch()?;
            let mut sums = Temp::filled(width, C::neutral::<T>().widen())?;
            for task in chunk * each..tasks.min((chunk + 1) * each) {
                let (first, column) = (task / tiles * length, task % tiles * width);
                let n = width.min(inner - column);
                sums.fill(C::neutral::<T>().widen());
                let step = if tiles == 1 { rows } else { 1 };
                for row in (0..length).step_by(step) {
                    let count = step.min(length - row) * n;
                    let start = (first + row) * inner + column;
                    let x = map.values(&mut scratch, start, count).cast::<T>();
                    vectorized(
                        #[inline(always)]
                        || {
                            for at in (0..count).step_by(n) {
                                for (i, sum) in sums[..n].iter_mut().enumerate() {
                                    // SAFETY: as in `along`.
                                    unsafe {
                                        *sum = C::join(*sum, (*x.add(at + i)).widen());
                                        *out.at(start + at + i) = T::narrow(*sum);
                                    }
                                }
                            }
                        },
                    );
                }
            }
            Ok(())
        })
    }
}

/// All of a block combined, in several lanes that do not wait for each other.
fn total_of<C: Combine, T: Stored>(x: &[T]) -> T::Wide {
    vectorized(
        #[inline(always)]
        || {
            let mut sums = [C::neutral::<T>().widen(); 16];
            for x in x.chunks(sums.len()) {
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = C::join(*sum, x.widen());
                }
            }
            sums.into_iter().fold(C::neutral::<T>().widen(), C::join)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::DType;
    use crate::cpu::reference::{self, Data, assert_close, on_all_threads, tolerance};

    fn check(op: Scan, axis: usize, x: &Data) {
        let got = on_all_threads(|| {
            let mut y = Data::zeros(x.dtype, x.shape());
            scan(op, axis, &x.view(), &y.out()).unwrap();
            vec![y]
        });
        let want = reference::scan(op, axis, x.shape(), &x.list(), x.dtype);
        assert_close(&got[0].list(), &want, tolerance(x.dtype), &(op, axis, &x.layout, x.dtype));
    }

    #[test]
    fn all_axes_and_layouts() {
        let shapes: &[&[usize]] =
            &[&[1], &[0, 3], &[3, 0], &[5], &[150_001], &[2, 70_000], &[300, 7], &[4, 5, 6], &[20, 3000]];
        for shape in shapes {
            for x in Data::views(DType::F32, shape, 7) {
                for axis in 0..shape.len() {
                    check(Scan::Sum, axis, &x);
                    check(Scan::Max, axis, &x);
                    check(Scan::Min, axis, &x);
                }
            }
        }
    }

    #[test]
    fn all_dtypes() {
        for &dtype in DType::ALL.iter().filter(|&&d| d != DType::Bool) {
            for axis in 0..2 {
                check(Scan::Sum, axis, &Data::mixed(dtype, &[30, 40], 2));
                check(Scan::Max, axis, &Data::mixed(dtype, &[30, 40], 2));
                check(Scan::Prod, axis, &Data::new(dtype, &[9, 9], |i| (i % 2 + 1) as f64));
            }
        }
    }

    #[test]
    fn nan_stays() {
        for n in [5, 100_000] {
            for op in [Scan::Sum, Scan::Max, Scan::Min] {
                let x = Data::new(DType::F32, &[n], |i| if i == n / 2 { f64::NAN } else { (i % 9) as f64 });
                check(op, 0, &x);
            }
        }
    }
}

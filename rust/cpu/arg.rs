//! Where the largest or smallest element along an axis is. Elements are compared by their keys
//! (`stored`), unsigned integers in which NaN is the largest in either direction, so that the first
//! greatest key is the answer.

use super::pointwise::Evaluator;
use super::stored::Stored;
use super::view::{Out, View};
use super::work::{GRAIN, Shared, Temp, try_parallel, vectorized};
use crate::core::Result;
use crate::ir::kernel::Fused;
use crate::{bail, for_dtype};

/// The int64 index along `axis` of the first largest (or smallest) element, or of the first NaN.
pub fn arg_reduce(largest: bool, axis: usize, x: &View, out: &Out) -> Result<()> {
    let shape = &x.layout.shape;
    if out.shape.count() == 0 {
        return Ok(());
    }
    if shape[axis] == 0 {
        bail!(Shape, "{}: axis {axis} of shape {shape} is empty", if largest { "argmax" } else { "argmin" });
    }
    let identity = Fused::identity(x.dtype);
    let inputs = [*x];
    let map = &Evaluator::new(&identity, &inputs, shape)?;
    let outer = shape[..axis].iter().product();
    let inner = shape[axis + 1..].iter().product();
    let line = Line { map, outer, length: shape[axis], inner, out: Shared::new(out.ptr.cast()) };
    for_dtype!(x.dtype, T => match (largest, inner) {
        (true, 1) => line.along::<T>(T::key),
        (false, 1) => line.along::<T>(T::reverse_key),
        (true, _) => line.across::<T>(T::key),
        (false, _) => line.across::<T>(T::reverse_key),
    })
}

const BLOCK: usize = Evaluator::BLOCK;

struct Line<'a, 'm> {
    map: &'a Evaluator<'m>,
    outer: usize,
    length: usize,
    inner: usize,
    out: Shared<i64>,
}

impl Line<'_, '_> {
    /// Lines whose elements are neighbours: the greatest key of each block, then its place in the first
    /// block that has it.
    fn along<T: Stored>(&self, key: impl Fn(T) -> T::Key + Copy + Sync) -> Result<()> {
        let Line { map, outer, length, out, .. } = *self;
        let together = (BLOCK / length).max(1);
        let each = (GRAIN / length).max(1).next_multiple_of(together);
        try_parallel(outer.div_ceil(each), |chunk| {
            let mut scratch = map.scratch()?;
            let (first, end) = (chunk * each, outer.min((chunk + 1) * each));
            for line in (first..end).step_by(together) {
                let mut values = |start: usize, n: usize| {
                    // SAFETY: `values` gives n values of the operand's type.
                    unsafe { std::slice::from_raw_parts(map.values(&mut scratch, start, n).cast::<T>(), n) }
                };
                if length <= BLOCK {
                    let n = together.min(end - line);
                    let x = values(line * length, n * length);
                    // SAFETY: lines belong to one chunk.
                    let to = unsafe { out.slice(line, n) };
                    vectorized(
                        #[inline(always)]
                        || {
                            for (x, to) in x.chunks_exact(length).zip(to) {
                                *to = place(x, greatest(x, key), key) as i64;
                            }
                        },
                    );
                    continue;
                }
                let block = |at: usize| (line * length + at, BLOCK.min(length - at));
                let (mut best, mut where_best) = (T::Key::default(), 0);
                for at in (0..length).step_by(BLOCK) {
                    let (start, n) = block(at);
                    let x = values(start, n);
                    let here = vectorized(
                        #[inline(always)]
                        || greatest(x, key),
                    );
                    if here > best {
                        (best, where_best) = (here, at);
                    }
                }
                let (start, n) = block(where_best);
                // SAFETY: lines belong to one chunk.
                unsafe { *out.at(line) = (where_best + place(values(start, n), best, key)) as i64 };
            }
            Ok(())
        })
    }

    /// Lines side by side: a row of best keys and their places meets row after row.
    fn across<T: Stored>(&self, key: impl Fn(T) -> T::Key + Copy + Sync) -> Result<()> {
        let Line { map, outer, length, inner, out } = *self;
        let width = inner.min(BLOCK);
        let tiles = inner.div_ceil(width);
        let tasks = outer * tiles;
        let each = (GRAIN / (length * width)).max(1);
        // Narrow rows come several at a time.
        let rows = if tiles == 1 { BLOCK / width } else { 1 };
        try_parallel(tasks.div_ceil(each), |chunk| {
            let mut scratch = map.scratch()?;
            let mut best = Temp::filled(width, T::Key::default())?;
            for task in chunk * each..tasks.min((chunk + 1) * each) {
                let (first, column) = (task / tiles, task % tiles * width);
                let n = width.min(inner - column);
                // SAFETY: tiles belong to one chunk.
                let places = unsafe { out.slice(first * inner + column, n) };
                places.fill(0);
                best.fill(T::Key::default());
                for row in (0..length).step_by(rows) {
                    let count = rows.min(length - row) * n;
                    let start = (first * length + row) * inner + column;
                    // SAFETY: as above.
                    let x = unsafe {
                        std::slice::from_raw_parts(map.values(&mut scratch, start, count).cast::<T>(), count)
                    };
                    vectorized(
                        #[inline(always)]
                        || {
                            for (i, x) in x.chunks_exact(n).enumerate() {
                                let row = (row + i) as i64;
                                for ((best, place), &x) in best.iter_mut().zip(&mut *places).zip(x) {
                                    let key = key(x);
                                    *place = if key > *best { row } else { *place };
                                    *best = key.max(*best);
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

#[inline(always)]
fn greatest<T: Stored>(x: &[T], key: impl Fn(T) -> T::Key) -> T::Key {
    x.iter().fold(T::Key::default(), |best, &x| best.max(key(x)))
}

/// Where the first element with key `best` is.
#[inline(always)]
fn place<T: Stored>(x: &[T], best: T::Key, key: impl Fn(T) -> T::Key) -> usize {
    // Group by group without leaving early, so that it vectorises, and then within the group.
    const GROUP: usize = 32;
    let (groups, rest) = x.as_chunks::<GROUP>();
    let has = |group: &[T]| group.iter().fold(false, |any, &x| any | (key(x) == best));
    let group = groups.iter().position(|group| has(group)).unwrap_or(groups.len());
    let group = (group * GROUP, groups.get(group).map_or(rest, |group| &group[..]));
    group.0 + group.1.iter().position(|&x| key(x) == best).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::DType;
    use crate::cpu::reference::{self, Data, on_all_threads};

    fn run(largest: bool, axis: usize, x: &Data) -> Result<Vec<f64>> {
        let mut shape = x.shape().to_vec();
        shape[axis] = 1;
        arg_reduce(largest, axis, &x.view(), &Data::zeros(DType::I64, &shape).out())?;
        let done = on_all_threads(|| {
            let mut y = Data::new(DType::I64, &shape, |_| -1.0);
            arg_reduce(largest, axis, &x.view(), &y.out()).unwrap();
            vec![y]
        });
        Ok(done[0].list())
    }

    fn check(axis: usize, x: &Data) {
        for largest in [true, false] {
            let want = reference::arg_reduce(largest, axis, x.shape(), &x.list());
            assert!(run(largest, axis, x).unwrap() == want, "{largest} {axis} {:?} {}", x.layout, x.dtype);
        }
    }

    #[test]
    fn all_axes_layouts_and_dtypes() {
        for &dtype in DType::ALL {
            for x in Data::views(dtype, &[7, 33, 20], 4) {
                (0..3).for_each(|axis| check(axis, &x));
            }
        }
        for shape in [&[1][..], &[5], &[5000], &[100_000], &[700, 10], &[3, 3000], &[2, 40, 1500], &[0, 3]] {
            for x in Data::views(DType::F32, shape, 4) {
                (0..shape.len()).filter(|&axis| shape[axis] > 0).for_each(|axis| check(axis, &x));
            }
        }
    }

    #[test]
    fn nan_comes_first_and_zeros_are_equal() {
        for n in [4, 50, 3000] {
            for shape in [[1, n], [n, 1], [n, 2], [2, n]] {
                for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
                    let x = Data::new(dtype, &shape, |i| {
                        if i % n == n / 2 || i == n - 1 { f64::NAN } else { i as f64 }
                    });
                    (0..2).for_each(|axis| check(axis, &x));
                    let x = Data::new(dtype, &shape, |i| if i % 3 == 0 { -0.0 } else { 0.0 });
                    (0..2).for_each(|axis| check(axis, &x));
                    let x = Data::new(dtype, &shape, |i| [f64::INFINITY, f64::NEG_INFINITY][i % 2]);
                    (0..2).for_each(|axis| check(axis, &x));
                }
            }
        }
    }

    #[test]
    fn the_first_of_the_worst_is_found_too() {
        // Their keys are those that the search begins with.
        let limits = [
            (DType::Bool, 0.0, 1.0),
            (DType::U8, 0.0, 255.0),
            (DType::I8, -128.0, 127.0),
            (DType::I32, i32::MIN as f64, i32::MAX as f64),
        ];
        for (dtype, least, most) in limits {
            for shape in [[2, 4], [2, 3000], [3000, 2]] {
                for number in [least, most] {
                    (0..2).for_each(|axis| check(axis, &Data::new(dtype, &shape, |_| number)));
                }
            }
        }
    }

    #[test]
    fn nothing_has_no_largest() {
        let error = run(true, 0, &Data::zeros(DType::F32, &[0, 3])).unwrap_err();
        assert_eq!(error.to_string(), "argmax: axis 0 of shape (0, 3) is empty");
        assert_eq!(run(false, 1, &Data::zeros(DType::F32, &[0, 3])), Ok(vec![]));
    }
}

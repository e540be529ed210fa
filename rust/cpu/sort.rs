//! Sorting along the last axis, and searching in what is sorted. Elements are sorted by key (`stored`)
//! together with their index, so equal elements keep their order: short rows by comparison, long ones
//! by radix, byte by byte from the lowest. Rows are shared out to threads.

use super::stored::Stored;
use super::view::{Axes, Out, View};
use super::work::{GRAIN, Shared, Temp, try_parallel};
use crate::core::layout::Strides;
use crate::core::{Layout, Result, Shape};
use crate::for_dtype;

/// Values in order along the last axis, and the int64 indices that give it. Stable; NaN last when
/// ascending and first when descending.
pub fn sort(descending: bool, x: &View, values: &Out, indices: &Out) -> Result<()> {
    let shape = &x.layout.shape;
    if shape.count() == 0 {
        return Ok(());
    }
    let length = *shape.last().unwrap_or(&1);
    for_dtype!(x.dtype, T => {
        let job = Job { x, axes: Axes::new(x.layout), length, descending, values: Shared::new(values.ptr.cast::<T>()), indices: Shared::new(indices.ptr.cast()) };
        // A narrow key and the index fit one word.
        if size_of::<T>() <= 4 && length <= 1 << 32 { job.run::<u64>() } else { job.run::<(u64, u64)>() }
    })
}

/// What is sorted: a key over an index. No two are equal.
trait Item: Copy + Ord + Send + Sync {
    fn new(key: u64, index: u64) -> Self;
    fn index(self) -> usize;
    /// Byte `n` of the key.
    fn byte(self, n: usize) -> usize;
}

impl Item for u64 {
    #[inline(always)]
    fn new(key: u64, index: u64) -> u64 {
        key << 32 | index
    }
    #[inline(always)]
    fn index(self) -> usize {
        self as u32 as usize
    }
    #[inline(always)]
    fn byte(self, n: usize) -> usize {
        (self >> (32 + 8 * n)) as u8 as usize
    }
}

impl Item for (u64, u64) {
    #[inline(always)]
    fn new(key: u64, index: u64) -> (u64, u64) {
        (key, index)
    }
    #[inline(always)]
    fn index(self) -> usize {
        self.1 as usize
    }
    #[inline(always)]
    fn byte(self, n: usize) -> usize {
        (self.0 >> (8 * n)) as u8 as usize
    }
}

/// Rows from here on are sorted by radix.
const LONG: usize = 512;

struct Job<'a, T> {
    x: &'a View<'a>,
    axes: Axes,
    length: usize,
    descending: bool,
    values: Shared<T>,
    indices: Shared<i64>,
}

impl<T: Stored> Job<'_, T> {
    fn run<I: Item>(&self) -> Result<()> {
        let length = self.length;
        let rows = self.x.layout.count() / length;
        let each = (GRAIN / 16 / length).max(1);
        try_parallel(rows.div_ceil(each), |chunk| {
            let mut row = Temp::filled(length, T::default())?;
            let mut items = Temp::filled(length, I::new(0, 0))?;
            let mut other = Temp::filled(if length < LONG { 0 } else { length }, I::new(0, 0))?;
            for at in chunk * each..rows.min((chunk + 1) * each) {
                self.read(at, &mut row);
                for (i, (item, x)) in items.iter_mut().zip(&row[..]).enumerate() {
                    let key = if self.descending { !x.key() } else { x.key() };
                    *item = I::new(key.into(), i as u64);
                }
                let sorted = if length < LONG {
                    items.sort_unstable();
                    &items[..]
                } else {
                    radix_sort(&mut items, &mut other, size_of::<T>())
                };
                // SAFETY: rows belong to one chunk.
                let (values, indices) = unsafe {
                    (self.values.slice(at * length, length), self.indices.slice(at * length, length))
                };
                for ((value, index), item) in values.iter_mut().zip(indices).zip(sorted) {
                    *value = row[item.index()];
                    *index = item.index() as i64;
                }
            }
            Ok(())
        })
    }

    fn read(&self, row: usize, to: &mut [T]) {
        let (from, stride, mut done) = (self.x.first().cast::<T>(), self.axes.stride(), 0);
        self.axes.runs(row * self.length, self.length, |place, n| {
            for i in 0..n {
                // SAFETY: the walk stays within the view.
                to[done + i] = unsafe { *from.offset(place + i as isize * stride) };
            }
            done += n;
        });
    }
}

/// Sorts by the lowest `bytes` of the key, keeping the order of equal keys. Gives the one of the two
/// buffers that the result is in.
fn radix_sort<'a, I: Item>(mut items: &'a mut [I], mut other: &'a mut [I], bytes: usize) -> &'a [I] {
    let mut counts = [[0usize; 256]; 8];
    for item in items.iter() {
        for (byte, counts) in counts[..bytes].iter_mut().enumerate() {
            counts[item.byte(byte)] += 1;
        }
    }
    for (byte, counts) in counts[..bytes].iter_mut().enumerate() {
        if counts.contains(&items.len()) {
            continue;
        }
        let mut sum = 0;
        for count in counts.iter_mut() {
            sum += std::mem::replace(count, sum);
        }
        for item in items.iter() {
            let place = &mut counts[item.byte(byte)];
            other[*place] = *item;
            *place += 1;
        }
        std::mem::swap(&mut items, &mut other);
    }
    items
}

/// For each value (…, M), where it goes in the ascending rows (…, N): left of equal elements or right
/// of them. NaN counts as larger than all numbers.
pub fn search_sorted(right: bool, sorted: &View, values: &View, out: &Out) -> Result<()> {
    let shape = &values.layout.shape;
    let (count, width) = (shape.count(), *shape.last().unwrap_or(&1));
    // A row of `sorted` for each row of values; one for all of them if it has no other axes.
    let rank = sorted.layout.rank();
    let length = sorted.layout.shape[rank - 1];
    let stride = sorted.layout.strides[rank - 1];
    let lead = Axes::new(&Layout {
        shape: Shape::new(&sorted.layout.shape[..rank - 1]),
        strides: Strides::from_slice(&sorted.layout.strides[..rank - 1]),
        offset: 0,
    });
    let single = rank == 1;
    let walk = Axes::new(values.layout);
    let each = (GRAIN / 16).max(1);
    for_dtype!(values.dtype, T => {
        let (rows, from) = (Shared::new(sorted.first().cast::<T>().cast_mut()), Shared::new(values.first().cast::<T>().cast_mut()));
        let to = Shared::new(out.ptr.cast::<i64>());
        try_parallel(count.div_ceil(each), |chunk| {
            let (mut at, mut row, mut base) = (chunk * each, usize::MAX, 0);
            walk.runs(at, each.min(count - at), |place, n| {
                for i in 0..n {
                    if !single && at / width != row {
                        row = at / width;
                        lead.runs(row, 1, |place, _| base = place);
                    }
                    // SAFETY: both walks stay within their views, and chunks of the result do not overlap.
                    unsafe {
                        let key = (*from.at(0).offset(place + i as isize * walk.stride())).key();
                        let key_at = |i: usize| (*rows.at(0).offset(base + i as isize * stride)).key();
                        let goes_before = |i: usize| if right { key_at(i) <= key } else { key_at(i) < key };
                        *to.at(at) = partition_point(length, goes_before) as i64;
                    }
                    at += 1;
                }
            });
            Ok(())
        })
    })
}

/// The first of `0 .. length` that does not go before, all that do being first.
fn partition_point(length: usize, goes_before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, length);
    while low < high {
        let middle = low + (high - low) / 2;
        if goes_before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::DType;
    use crate::cpu::reference::{self, Data, assert_close, on_all_threads};

    fn check(x: &Data) {
        for descending in [false, true] {
            let done = on_all_threads(|| {
                let (mut values, mut places) =
                    (Data::zeros(x.dtype, x.shape()), Data::zeros(DType::I64, x.shape()));
                sort(descending, &x.view(), &values.out(), &places.out()).unwrap();
                vec![values, places]
            });
            let want = reference::sort(descending, *x.shape().last().unwrap_or(&1), &x.list());
            let what = (descending, x.dtype, &x.layout);
            assert_close(&done[0].list(), &want.0, 0.0, &what);
            assert_close(&done[1].list(), &want.1, 0.0, &what);
        }
    }

    #[test]
    fn all_dtypes_and_layouts() {
        for &dtype in DType::ALL {
            for shape in [&[][..], &[1], &[0], &[3, 0], &[200, 7], &[5, 600], &[2, 30_000]] {
                Data::views(dtype, shape, 5).iter().for_each(check);
            }
        }
    }

    #[test]
    fn every_byte_counts() {
        // The 52 bits of a mixed-up number.
        let wide = |i: usize| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12;
        check(&Data::new(DType::F64, &[3000], |i| wide(i) as f64 - 2e15));
        check(&Data::new(DType::F32, &[3000], |i| (wide(i) >> 28) as f64 - 1e6));
        check(&Data::new(DType::I64, &[3000], |i| wide(i) as f64 - 2e15));
        check(&Data::new(DType::U16, &[3000], |i| (wide(i) >> 20 & 0xffff) as f64));
        check(&Data::new(DType::I32, &[300], |i| (wide(i) >> 20) as i32 as f64));
    }

    #[test]
    fn nan_is_last_and_zeros_are_equal() {
        let odd = [f64::NAN, -0.0, f64::INFINITY, 1.0, f64::NEG_INFINITY, 0.0, -1.0, -f64::NAN];
        for n in [20, 2000] {
            for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
                check(&Data::new(dtype, &[n], |i| odd[i * i % 8]));
            }
        }
    }

    #[test]
    fn places_in_sorted_rows() {
        for dtype in [DType::U8, DType::I32, DType::F16, DType::F64] {
            for x in Data::views(dtype, &[6, 5, 9], 1) {
                for n in [0, 1, 30] {
                    let sorted = reference::sort(false, n, &Data::mixed(dtype, &[6, 5, n], 2).list()).0;
                    let mut rows = vec![
                        Data::new(dtype, &[6, 5, n], |i| sorted[i]),
                        Data::new(dtype, &[n], |i| sorted[i]),
                    ];
                    let mut shared = rows[1].clone();
                    shared.layout = shared.layout.broadcast_to(&[6, 5, n].into()).unwrap();
                    rows.push(shared);
                    for rows in rows {
                        for right in [false, true] {
                            let got = on_all_threads(|| {
                                let mut y = Data::zeros(DType::I64, x.shape());
                                search_sorted(right, &rows.view(), &x.view(), &y.out()).unwrap();
                                vec![y]
                            });
                            let list = rows.list();
                            let row = |i: usize| {
                                if rows.shape().len() == 1 { &list[..] } else { &list[i / 9 * n..][..n] }
                            };
                            let before = |i: usize, x: f64| {
                                row(i).iter().filter(|&&r| if right { r <= x } else { r < x }).count()
                            };
                            let want: Vec<f64> =
                                x.list().iter().enumerate().map(|(i, &x)| before(i, x) as f64).collect();
                            assert_eq!(got[0].list(), want);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn nan_goes_behind_numbers() {
        let rows = Data::new(DType::F32, &[4], |i| [1.0, 2.0, f64::NAN, f64::NAN][i]);
        let x = Data::new(DType::F32, &[3], |i| [f64::NAN, f64::INFINITY, 2.0][i]);
        for (right, want) in [(false, [2.0, 2.0, 1.0]), (true, [4.0, 2.0, 2.0])] {
            let mut y = Data::zeros(DType::I64, &[3]);
            search_sorted(right, &rows.view(), &x.view(), &y.out()).unwrap();
            assert_eq!(y.list(), want);
        }
    }
}

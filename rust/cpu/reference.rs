//! The oracle of the tests: every kernel once more, slow and obvious, in float64 on lists of numbers;
//! and the operands that tests run kernels on.

use super::threads::set_num_threads;
use super::view::{Out, View};
use crate::core::layout::Strides;
use crate::core::{DType, Layout, Scalar, Shape};
use crate::for_dtype;
use crate::ir::kernel::{Axes, Reduce, Scan, Scatter};

/// A tensor in memory, seen through any layout.
#[derive(Clone)]
pub struct Data {
    /// Bytes, aligned for any dtype.
    memory: Vec<u64>,
    pub layout: Layout,
    pub dtype: DType,
}

impl Data {
    /// Element i of the row-major order is `f(i)`, as `dtype` rounds or wraps it.
    pub fn new(dtype: DType, shape: &[usize], f: impl Fn(usize) -> f64) -> Data {
        let layout = Layout::contiguous(Shape::new(shape));
        let mut memory = vec![0u64; (layout.count() * dtype.size()).div_ceil(8)];
        for_dtype!(dtype, T => {
            for i in 0..layout.count() {
                let x = if dtype == DType::Bool { (f(i) != 0.0) as u8 as f64 } else { f(i) };
                // SAFETY: the vector has room for all elements.
                unsafe { memory.as_mut_ptr().cast::<T>().add(i).write(T::from_f64(x)) };
            }
        });
        Data { memory, layout, dtype }
    }

    pub fn zeros(dtype: DType, shape: &[usize]) -> Data {
        Data::new(dtype, shape, |_| 0.0)
    }

    /// Numbers that every dtype holds exactly, in no order, many of them twice.
    pub fn mixed(dtype: DType, shape: &[usize], seed: u64) -> Data {
        Data::new(dtype, shape, |i| mixed(dtype, i as u64, seed))
    }

    /// The same numbers as `mixed` in other layouts: transposed, with gaps, backwards, repeated.
    pub fn views(dtype: DType, shape: &[usize], seed: u64) -> Vec<Data> {
        let mut out = vec![Data::mixed(dtype, shape, seed)];
        let rank = shape.len();
        if rank == 0 {
            return out;
        }
        let backwards: Vec<usize> = (0..rank).rev().collect();
        let turned: Vec<usize> = backwards.iter().map(|&a| shape[a]).collect();
        let mut data = Data::mixed(dtype, &turned, seed);
        data.layout = data.layout.permute(&backwards);
        out.push(data);
        let wide: Vec<usize> = shape.iter().map(|&s| 2 * s + 1).collect();
        let mut data = Data::mixed(dtype, &wide, seed);
        for (axis, &size) in shape.iter().enumerate() {
            data.layout = if axis % 2 == 0 && size > 0 {
                data.layout.slice(axis, 2 * size, size, -2)
            } else {
                data.layout.slice(axis, 1, size, 2)
            };
        }
        out.push(data);
        let mut data = Data::mixed(dtype, &shape[1..], seed);
        data.layout = data.layout.broadcast_to(&Shape::new(shape)).expect("a leading axis");
        out.push(data);
        out
    }

    pub fn view(&self) -> View<'_> {
        View { ptr: self.memory.as_ptr().cast(), layout: &self.layout, dtype: self.dtype }
    }

    pub fn out(&mut self) -> Out<'_> {
        Out { ptr: self.memory.as_mut_ptr().cast(), shape: &self.layout.shape, dtype: self.dtype }
    }

    pub fn shape(&self) -> &[usize] {
        &self.layout.shape
    }

    /// The elements in row-major order.
    pub fn list(&self) -> Vec<f64> {
        let first = self.view().first();
        let place =
            |index: &[usize]| index.iter().zip(&self.layout.strides).map(|(&i, &s)| i as isize * s).sum();
        for_dtype!(self.dtype, T => {
            // SAFETY: layouts of tests stay within their memory.
            indices(self.shape()).map(|i| unsafe { *first.cast::<T>().offset(place(&i)) }.to_f64()).collect()
        })
    }

    pub fn bytes(&self) -> &[u64] {
        &self.memory
    }
}

/// A number of `dtype` that depends on `i` and `seed`.
pub fn mixed(dtype: DType, i: u64, seed: u64) -> f64 {
    let mut x = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (seed + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
    x ^= x >> 29;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (x >> 40) % 97;
    match dtype {
        DType::Bool => n.is_multiple_of(3) as u8 as f64,
        d if d.is_float() => (n as f64 - 48.0) / 16.0,
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => n as f64 - 48.0,
        _ => n as f64,
    }
}

/// Elements as float64 and back.
pub trait Number: Copy {
    fn from_f64(x: f64) -> Self;
    fn to_f64(self) -> f64;
}

macro_rules! numbers {
    ($($T:ty)*) => {$(impl Number for $T {
        fn from_f64(x: f64) -> $T { x as i64 as $T }
        fn to_f64(self) -> f64 { self as f64 }
    })*};
}

numbers!(u8 u16 u32 u64 i8 i16 i32 i64);

macro_rules! float_numbers {
    ($($T:ty, $from:expr, $to:expr;)*) => {$(impl Number for $T {
        fn from_f64(x: f64) -> $T { ($from)(x) }
        fn to_f64(self) -> f64 { ($to)(self) }
    })*};
}

float_numbers! {
    half::f16, half::f16::from_f64, half::f16::to_f64;
    half::bf16, half::bf16::from_f64, half::bf16::to_f64;
    f32, |x| x as f32, |x| x as f64;
    f64, |x| x, |x| x;
}

/// All indices of a shape, in row-major order.
pub fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    (0..shape.iter().product()).map(|mut i| {
        let mut index = vec![0; shape.len()];
        for axis in (0..shape.len()).rev() {
            index[axis] = i % shape[axis];
            i /= shape[axis];
        }
        index
    })
}

fn at(shape: &[usize], index: &[usize]) -> usize {
    index.iter().zip(shape).fold(0, |at, (&i, &n)| at * n + i)
}

/// Runs with one, two and four threads, which must give the same bits.
pub fn on_all_threads(run: impl Fn() -> Vec<Data>) -> Vec<Data> {
    set_num_threads(1);
    let first = run();
    for threads in [2, 4] {
        set_num_threads(threads);
        for (a, b) in first.iter().zip(run()) {
            assert!(a.bytes() == b.bytes(), "another result with {threads} threads");
        }
    }
    first
}

/// Equal up to `relative` of the larger, or `relative` itself below 1; NaN equals NaN.
pub fn assert_close(got: &[f64], want: &[f64], relative: f64, what: &dyn std::fmt::Debug) {
    assert_eq!(got.len(), want.len(), "{what:?}");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let near = (got - want).abs() <= relative * want.abs().max(1.0);
        let same = got == want || got.is_nan() && want.is_nan();
        assert!(near || same, "{what:?}: {got} for {want} at {i}");
    }
}

/// How far float results may be from the oracle's.
pub fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 1e-3,
        DType::BF16 => 8e-3,
        DType::F32 => 1e-6,
        DType::F64 => 1e-14,
        _ => 0.0,
    }
}

/// The result in the numbers of `dtype`: integers wrap.
fn wrap(dtype: DType, x: f64) -> f64 {
    if dtype.is_float() { x } else { for_dtype!(dtype, T => T::from_f64(x).to_f64()) }
}

fn nan_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The lists that meet in each element of the result of reducing `axes`.
fn groups(shape: &[usize], axes: Axes, x: &[f64]) -> Vec<Vec<f64>> {
    let reduced = |axis: usize| axes.contains(axis);
    let kept: Vec<usize> = (0..shape.len()).map(|a| if reduced(a) { 1 } else { shape[a] }).collect();
    let mut out = vec![vec![]; kept.iter().product()];
    for (index, &x) in indices(shape).zip(x) {
        let index: Vec<usize> =
            index.iter().enumerate().map(|(a, &i)| if reduced(a) { 0 } else { i }).collect();
        out[at(&kept, &index)].push(x);
    }
    out
}

pub fn reduce(op: Reduce, axes: Axes, shape: &[usize], x: &[f64], dtype: DType) -> Vec<f64> {
    let one = |list: Vec<f64>| {
        let all = list.iter().copied();
        match op {
            Reduce::Sum => wrap(dtype, all.sum()),
            Reduce::Prod => all.fold(1.0, |p, x| wrap(dtype, p * x)),
            Reduce::Max => all.reduce(nan_max).unwrap_or(0.0),
            Reduce::Min => -all.map(|x| -x).reduce(nan_max).unwrap_or(0.0),
            Reduce::Any => all.fold(0.0, f64::max),
            Reduce::All => all.fold(1.0, f64::min),
            Reduce::LogSumExp => {
                let max = all.clone().fold(f64::NEG_INFINITY, nan_max);
                if max.is_infinite() { max } else { max + all.map(|x| (x - max).exp()).sum::<f64>().ln() }
            }
        }
    };
    groups(shape, axes, x).into_iter().map(one).collect()
}

/// Means, and variances around them.
pub fn moments(axes: Axes, shape: &[usize], x: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let one = |list: Vec<f64>| {
        let n = list.len() as f64;
        let mean = list.iter().sum::<f64>() / n;
        (mean, list.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n)
    };
    groups(shape, axes, x).into_iter().map(one).unzip()
}

pub fn arg_reduce(largest: bool, axis: usize, shape: &[usize], x: &[f64]) -> Vec<f64> {
    let one = |list: Vec<f64>| {
        let better = |a: f64, b: f64| !b.is_nan() && (a.is_nan() || if largest { a > b } else { a < b });
        (0..list.len()).fold(0, |best, i| if better(list[i], list[best]) { i } else { best }) as f64
    };
    groups(shape, Axes::new(&[axis]), x).into_iter().map(one).collect()
}

pub fn scan(op: Scan, axis: usize, shape: &[usize], x: &[f64], dtype: DType) -> Vec<f64> {
    let mut out = x.to_vec();
    for index in indices(shape).filter(|index| index[axis] > 0) {
        let mut before = index.clone();
        before[axis] -= 1;
        let (a, b) = (out[at(shape, &before)], out[at(shape, &index)]);
        out[at(shape, &index)] = match op {
            Scan::Sum => wrap(dtype, a + b),
            Scan::Prod => wrap(dtype, a * b),
            Scan::Max => nan_max(a, b),
            Scan::Min => -nan_max(-a, -b),
        };
    }
    out
}

pub fn softmax(log: bool, length: usize, x: &[f64]) -> Vec<f64> {
    let row = |row: &[f64]| {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, nan_max);
        let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
        row.iter().map(|x| if log { x - max - sum.ln() } else { (x - max).exp() / sum }).collect::<Vec<_>>()
    };
    x.chunks(length.max(1)).flat_map(row).collect()
}

/// Sorted rows and where their elements come from.
pub fn sort(descending: bool, length: usize, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut out = (vec![], vec![]);
    for row in x.chunks(length.max(1)) {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&i, &j| {
            let by_number = row[i].partial_cmp(&row[j]).unwrap_or(row[i].is_nan().cmp(&row[j].is_nan()));
            if descending { by_number.reverse() } else { by_number }
        });
        out.0.extend(order.iter().map(|&i| row[i]));
        out.1.extend(order.iter().map(|&i| i as f64));
    }
    out
}

fn wrapped(index: f64, size: usize) -> usize {
    if index < 0.0 { (index + size as f64) as usize } else { index as usize }
}

/// `x` and its shape, the index and its shape.
pub fn take(axis: usize, (shape, x): (&[usize], &[f64]), (picks, index): (&[usize], &[f64])) -> Vec<f64> {
    let out = [&shape[..axis], picks, &shape[axis + 1..]].concat();
    let element = |place: Vec<usize>| {
        let (lead, rest) = place.split_at(axis);
        let (pick, trail) = rest.split_at(picks.len());
        let row = wrapped(index[at(picks, pick)], shape[axis]);
        x[at(shape, &[lead, &[row], trail].concat())]
    };
    indices(&out).map(element).collect()
}

/// `take` backwards, into zeros of `shape`.
pub fn take_input(axis: usize, dy: &[f64], (picks, index): (&[usize], &[f64]), shape: &[usize]) -> Vec<f64> {
    let taken = [&shape[..axis], picks, &shape[axis + 1..]].concat();
    let mut out = vec![0.0; shape.iter().product()];
    for (place, dy) in indices(&taken).zip(dy) {
        let (lead, rest) = place.split_at(axis);
        let (pick, trail) = rest.split_at(picks.len());
        let row = wrapped(index[at(picks, pick)], shape[axis]);
        out[at(shape, &[lead, &[row], trail].concat())] += dy;
    }
    out
}

/// Where `index` leads from each of its places.
fn led(axis: usize, picks: &[usize], index: &[f64], shape: &[usize]) -> Vec<usize> {
    let go = |mut place: Vec<usize>| {
        place[axis] = wrapped(index[at(picks, &place)], shape[axis]);
        at(shape, &place)
    };
    indices(picks).map(go).collect()
}

pub fn gather(axis: usize, (shape, x): (&[usize], &[f64]), (picks, index): (&[usize], &[f64])) -> Vec<f64> {
    led(axis, picks, index, shape).into_iter().map(|place| x[place]).collect()
}

pub fn scatter(
    axis: usize,
    mode: Scatter,
    (shape, x): (&[usize], &[f64]),
    (picks, index): (&[usize], &[f64]),
    source: &[f64],
) -> Vec<f64> {
    let mut out = x.to_vec();
    for (place, &source) in led(axis, picks, index, shape).into_iter().zip(source) {
        out[place] = if mode == Scatter::Add { out[place] + source } else { source };
    }
    out
}

pub fn assign(window: &Layout, mode: Scatter, x: &[f64], source: &[f64]) -> Vec<f64> {
    let mut out = x.to_vec();
    let strides: &Strides = &window.strides;
    for (index, &source) in indices(&window.shape).zip(source) {
        let place: isize = index.iter().zip(strides).map(|(&i, &s)| i as isize * s).sum();
        let place = (window.offset as isize + place) as usize;
        out[place] = if mode == Scatter::Add { out[place] + source } else { source };
    }
    out
}

pub fn concat(axis: usize, parts: &[(&[usize], Vec<f64>)]) -> Vec<f64> {
    let mut shape = parts[0].0.to_vec();
    shape[axis] = parts.iter().map(|p| p.0[axis]).sum();
    let element = |mut index: Vec<usize>| {
        for (shape, x) in parts {
            if index[axis] < shape[axis] {
                return x[at(shape, &index)];
            }
            index[axis] -= shape[axis];
        }
        f64::NAN
    };
    indices(&shape).map(element).collect()
}

pub fn arange(start: Scalar, step: Scalar, count: usize) -> Vec<f64> {
    (0..count).map(|i| start.as_f64() + step.as_f64() * i as f64).collect()
}

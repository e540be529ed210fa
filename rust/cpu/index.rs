//! Elements chosen or written by index, windows of a tensor, and joining tensors. Indices are checked
//! before anything is written. Where writers can meet, all who write one place are on one thread and
//! come in the row-major order of their indices, so results do not depend on threads.

use super::copy::{Walk, copy, transfer};
use super::stored::Stored;
use super::threads::parallel;
use super::view::{Axes, Out, View};
use super::work::{GRAIN, Shared, Temp, vectorized};
use crate::core::layout::Strides;
use crate::core::{Layout, Result, Shape};
use crate::ir::kernel::Scatter;
use crate::{bail, for_dtype, for_width};

/// `x[…, index, …]` along `axis`, which gives way to all axes of the index.
pub fn take(axis: usize, x: &View, index: &View, out: &Out) -> Result<()> {
    let size = x.layout.shape[axis];
    let index = &Indices::new("take", index, axis, size)?;
    let (lead, step, trail) = split(x.layout, axis);
    let (picks, row) = (index.len(), trail.count());
    let rows = lead.count() * picks;
    if rows * row == 0 {
        return Ok(());
    }
    let (lead, trail) = (Axes::new(&lead), Axes::new(&trail));
    let each = (GRAIN / row).max(1);
    for_width!(x.dtype, T => {
        let (from, to) = (Shared::new(x.first().cast::<T>().cast_mut()), Shared::new(out.ptr.cast::<T>()));
        parallel(rows.div_ceil(each), |chunk| {
            let mut base = 0;
            let first = chunk * each;
            for at in first..rows.min(first + each) {
                let pick = at % picks;
                if pick == 0 || at == first {
                    lead.runs(at / picks, 1, |place, _| base = place);
                }
                let place = base + index.get(pick) as isize * step;
                // SAFETY: indices are within the axis; chunks write different rows.
                unsafe {
                    let to = to.at(at * row);
                    if row == 1 {
                        *to = *from.at(0).offset(place);
                    } else {
                        gather_row(from.at(0).offset(place), &trail, to, row);
                    }
                }
            }
        });
    });
    Ok(())
}

/// # Safety
/// `from` and the walk's places from it must lie in memory, and `to` have room for `count` elements.
unsafe fn gather_row<T: Copy>(from: *const T, walk: &Axes, to: *mut T, count: usize) {
    let (mut done, stride) = (0, walk.stride());
    walk.runs(0, count, |place, n| {
        // SAFETY: what the caller promises.
        unsafe {
            let (from, to) = (from.offset(place), to.add(done));
            if stride == 1 {
                std::ptr::copy_nonoverlapping(from, to, n);
            } else {
                for i in 0..n {
                    *to.add(i) = *from.offset(i as isize * stride);
                }
            }
        }
        done += n;
    });
}

/// The gradient of `take`: row i of dy is added into row `index[i]` of zeros. The indices are sorted by
/// the row they name (by counting, which keeps their order), so each row has one writer.
pub fn take_input(axis: usize, dy: &View, index: &View, out: &Out) -> Result<()> {
    let size = out.shape[axis];
    let index = Indices::new("take_input", index, axis, size)?;
    let picks = index.len();
    let lead: usize = out.shape[..axis].iter().product();
    let row: usize = out.shape[axis + 1..].iter().product();
    let dy = Dense::new(dy)?;

    let mut begins = Temp::filled(size + 1, 0usize)?;
    for i in 0..picks {
        begins[index.get(i) + 1] += 1;
    }
    for i in 0..size {
        begins[i + 1] += begins[i];
    }
    let mut order = Temp::filled(picks, 0usize)?;
    for i in 0..picks {
        let target = index.get(i);
        order[begins[target]] = i;
        begins[target] += 1;
    }
    // Each begin has moved to its end, which is the next one's begin.
    let sources = |target: usize| if target == 0 { 0..begins[0] } else { begins[target - 1]..begins[target] };

    let rows = lead * size;
    let each = (GRAIN / row.max(1)).max(1);
    for_dtype!(out.dtype, T => {
        let (from, to) = (Shared::new(dy.ptr().cast::<T>().cast_mut()), Shared::new(out.ptr.cast::<T>()));
        parallel(rows.div_ceil(each), |chunk| {
            for at in chunk * each..rows.min((chunk + 1) * each) {
                let (outer, target) = (at / size, at % size);
                // SAFETY: each row has one writer; `picks` rows of dy belong to each outer index.
                let to = unsafe { to.slice(at * row, row) };
                to.fill(T::default());
                for &source in &order[sources(target)] {
                    // SAFETY: as above, and dy is not written.
                    let from: &[T] = unsafe { from.slice((outer * picks + source) * row, row) };
                    vectorized(
                        #[inline(always)]
                        || to.iter_mut().zip(from).for_each(|(to, &from)| *to = to.plus(from)),
                    );
                }
            }
        });
    });
    Ok(())
}

/// `out[i][j] = x[index[i][j]][j]` along `axis`.
pub fn gather(axis: usize, x: &View, index: &View, out: &Out) -> Result<()> {
    let shape = &index.layout.shape;
    let index = &Indices::new("gather", index, axis, x.layout.shape[axis])?;
    let step = x.layout.strides[axis];
    let walk = &beside(axis, shape, &x.layout.strides);
    for_width!(x.dtype, T => {
        let (from, to) = (Shared::new(x.first().cast::<T>().cast_mut()), Shared::new(out.ptr.cast::<T>()));
        let count = shape.count();
        parallel(count.div_ceil(GRAIN), |chunk| {
            let mut at = chunk * GRAIN;
            walk.runs(at, GRAIN.min(count - at), |place, n| {
                for i in 0..n {
                    let place = place + i as isize * walk.stride() + index.get(at + i) as isize * step;
                    // SAFETY: indices are within the axis, and the other axes of x are no shorter.
                    unsafe { *to.at(at + i) = *from.at(0).offset(place) };
                }
                at += n;
            });
        });
    });
    Ok(())
}

/// The places of elements of `shape` beside `axis`: as if its stride were 0.
fn beside(axis: usize, shape: &Shape, strides: &[isize]) -> Axes {
    let mut strides = Strides::from_slice(strides);
    strides[axis] = 0;
    Axes::new(&Layout { shape: shape.clone(), strides, offset: 0 })
}

/// `x` with `out[index[i][j]][j]` set or added from `source`, along `axis`. Lines along the axis are
/// independent; threads share them out.
pub fn scatter(axis: usize, mode: Scatter, x: &View, index: &View, source: &View, out: &Out) -> Result<()> {
    let shape = &index.layout.shape;
    let index = &Indices::new("scatter", index, axis, out.shape[axis])?;
    let source = &Dense::new(source)?;
    start_from(x, out)?;
    let strides = out.shape.strides();
    let places = |axes: std::ops::Range<usize>| {
        let layout = Layout {
            shape: Shape::new(&shape[axes.clone()]),
            strides: Strides::from_slice(&strides[axes]),
            offset: 0,
        };
        let mut places = Temp::filled(layout.count(), 0isize)?;
        let (walk, mut done) = (Axes::new(&layout), 0);
        walk.runs(0, layout.count(), |place, n| {
            (0..n).for_each(|i| places[done + i] = place + i as isize * walk.stride());
            done += n;
        });
        Ok(places)
    };
    let (lead, trail) = (&places(0..axis)?, &places(axis + 1..shape.rank())?);
    let (length, row, step) = (shape[axis], trail.len(), strides[axis]);
    if shape.count() == 0 {
        return Ok(());
    }
    let width = (GRAIN / length).clamp(16, GRAIN).min(row);
    let tiles = row.div_ceil(width);
    let tasks = lead.len() * tiles;
    let each = (GRAIN / (length * width)).max(1);
    // Calls `f(place in out, place in source)` for all elements of a chunk, in order along each line.
    let visit = |chunk: usize, f: &mut dyn FnMut(usize, usize)| {
        for task in chunk * each..tasks.min((chunk + 1) * each) {
            let (outer, column) = (task / tiles, task % tiles * width);
            for i in 0..length {
                for j in column..row.min(column + width) {
                    let at = (outer * length + i) * row + j;
                    f((lead[outer] + index.get(at) as isize * step + trail[j]) as usize, at);
                }
            }
        }
    };
    let chunks = tasks.div_ceil(each);
    // SAFETY (both): indices are within the axis, the other axes of the index are no longer than those
    // of the result, and each line along the axis belongs to one chunk.
    match mode {
        Scatter::Set => for_width!(out.dtype, T => {
            let (from, to) = (Shared::new(source.ptr().cast::<T>().cast_mut()), Shared::new(out.ptr.cast::<T>()));
            parallel(chunks, |chunk| visit(chunk, &mut |place, at| unsafe { *to.at(place) = *from.at(at) }))
        }),
        Scatter::Add => for_dtype!(out.dtype, T => {
            let (from, to) = (Shared::new(source.ptr().cast::<T>().cast_mut()), Shared::new(out.ptr.cast::<T>()));
            parallel(chunks, |chunk| visit(chunk, &mut |place, at| unsafe { *to.at(place) = (*to.at(place)).plus(*from.at(at)) }))
        }),
    }
    Ok(())
}

/// `x` with `source`, of the window's shape, set or added into a window of it. `window` counts from the
/// start of the result.
pub fn assign(window: &Layout, mode: Scatter, x: &View, source: &View, out: &Out) -> Result<()> {
    if window.shape.iter().zip(&window.strides).any(|(&size, &stride)| size > 1 && stride == 0) {
        bail!(
            Value,
            "assign: the window is a broadcast, so that elements of it share a place; copy it first"
        );
    }
    start_from(x, out)?;
    let to = out.ptr.wrapping_add(window.offset * out.dtype.size());
    // SAFETY (both): the window lies in the result and meets no place twice.
    match mode {
        Scatter::Set => unsafe {
            transfer(out.dtype, &window.shape, source.first(), &source.layout.strides, to, &window.strides)
        },
        Scatter::Add => for_dtype!(out.dtype, T => {
            let walk = Walk::new(&window.shape, &source.layout.strides, &window.strides);
            walk.planes(source.first().cast::<T>(), to.cast::<T>(), |plane| vectorized(
                #[inline(always)]
                || unsafe { plane.each(|to, from| *to = to.plus(from)) },
            ));
        }),
    }
    Ok(())
}

/// Inputs joined along `axis`.
pub fn concat(axis: usize, inputs: &[View], out: &Out) -> Result<()> {
    let strides = out.shape.strides();
    let mut start = 0;
    for input in inputs {
        let shape = &input.layout.shape;
        let to = out.ptr.wrapping_add(start * strides[axis] as usize * out.dtype.size());
        // SAFETY: the parts lie side by side in the result.
        unsafe { transfer(out.dtype, shape, input.first(), &input.layout.strides, to, &strides) };
        start += shape[axis];
    }
    Ok(())
}

/// Lets the result begin as a copy of `x`, unless it is `x` already.
fn start_from(x: &View, out: &Out) -> Result<()> {
    if x.first() == out.ptr && x.layout.is_whole(out.shape.count()) { Ok(()) } else { copy(x, out) }
}

/// A layout's axes before `axis`, its stride, and the axes behind it.
fn split(layout: &Layout, axis: usize) -> (Layout, isize, Layout) {
    let part = |range: std::ops::Range<usize>| Layout {
        shape: Shape::new(&layout.shape[range.clone()]),
        strides: Strides::from_slice(&layout.strides[range]),
        offset: 0,
    };
    (part(0..axis), layout.strides[axis], part(axis + 1..layout.rank()))
}

/// An operand in row-major order: itself if it is so already, else a copy.
struct Dense {
    ptr: *const u8,
    _copy: Option<Temp<u64>>,
}

impl Dense {
    fn new(view: &View) -> Result<Dense> {
        if view.layout.is_contiguous() {
            return Ok(Dense { ptr: view.first(), _copy: None });
        }
        let mut buffer = Temp::filled((view.layout.count() * view.dtype.size()).div_ceil(8), 0u64)?;
        let ptr = buffer.as_mut_ptr().cast::<u8>();
        copy(view, &Out { ptr, shape: &view.layout.shape, dtype: view.dtype })?;
        Ok(Dense { ptr, _copy: Some(buffer) })
    }

    fn ptr(&self) -> *const u8 {
        self.ptr
    }
}

/// Indices in row-major order, known to lie in −size…size−1.
struct Indices {
    values: Dense,
    count: usize,
    size: usize,
}

// SAFETY: the values are not written as long as this lives.
unsafe impl Sync for Indices {}

impl Indices {
    fn new(op: &str, index: &View, axis: usize, size: usize) -> Result<Indices> {
        let indices = Indices { values: Dense::new(index)?, count: index.layout.count(), size };
        // SAFETY: int64 values in row-major order, as many as the view has.
        let values = unsafe { std::slice::from_raw_parts(indices.values.ptr().cast::<i64>(), indices.count) };
        let good = |i: i64| if i < 0 { i.unsigned_abs() as usize <= size } else { (i as usize) < size };
        if let Some(bad) = values.iter().find(|&&i| !good(i)) {
            bail!(Index, "{op}: index {bad} is out of range for axis {axis} of size {size}");
        }
        Ok(indices)
    }

    fn len(&self) -> usize {
        self.count
    }

    #[inline(always)]
    fn get(&self, at: usize) -> usize {
        debug_assert!(at < self.count);
        // SAFETY: callers stay below `count`.
        let index = unsafe { *self.values.ptr().cast::<i64>().add(at) };
        if index < 0 { (index + self.size as i64) as usize } else { index as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::DType;
    use crate::cpu::reference::{self, Data, on_all_threads, tolerance};

    /// Indices from −size to size − 1, with duplicates, in several layouts.
    fn picks(shape: &[usize], size: usize) -> Vec<Data> {
        let values = |shape: &[usize]| {
            Data::new(DType::I64, shape, |i| {
                (reference::mixed(DType::I64, i as u64, 3) as i64).rem_euclid(2 * size as i64) as f64
                    - size as f64
            })
        };
        let mut turned = values(&shape.iter().rev().copied().collect::<Vec<_>>());
        turned.layout = turned.layout.permute(&(0..shape.len()).rev().collect::<Vec<_>>());
        vec![values(shape), turned]
    }

    fn check(
        shape: &[usize],
        dtype: DType,
        want: Vec<f64>,
        run: impl Fn(&Out) -> Result<()>,
        what: &dyn std::fmt::Debug,
    ) {
        let got = on_all_threads(|| {
            let mut y = Data::new(dtype, shape, |_| 77.0);
            run(&y.out()).unwrap();
            vec![y]
        });
        reference::assert_close(&got[0].list(), &want, tolerance(dtype), what);
    }

    #[test]
    fn take_and_its_gradient() {
        let shapes: &[(&[usize], usize)] = &[
            (&[9], 0),
            (&[40, 3000], 0),
            (&[6, 5, 7], 1),
            (&[6, 5, 7], 2),
            (&[6, 5, 7], 0),
            (&[300, 2, 4], 0),
        ];
        for &(shape, axis) in shapes {
            for index_shape in [&[][..], &[0], &[11], &[3, 50]] {
                for index in picks(index_shape, shape[axis]) {
                    let out = [&shape[..axis], index_shape, &shape[axis + 1..]].concat();
                    let with = (index_shape, &index.list()[..]);
                    for x in Data::views(DType::F32, shape, 2) {
                        let want = reference::take(axis, (shape, &x.list()), with);
                        check(
                            &out,
                            x.dtype,
                            want,
                            |y| take(axis, &x.view(), &index.view(), y),
                            &(&x.layout, axis),
                        );
                    }
                    for dy in Data::views(DType::F32, &out, 2) {
                        let want = reference::take_input(axis, &dy.list(), with, shape);
                        check(
                            shape,
                            dy.dtype,
                            want,
                            |y| take_input(axis, &dy.view(), &index.view(), y),
                            &(&dy.layout, axis),
                        );
                    }
                }
            }
        }
        for &dtype in DType::ALL {
            let (x, index) = (Data::mixed(dtype, &[7, 4], 1), &picks(&[5], 7)[0]);
            let want = reference::take(0, (&[7, 4], &x.list()), (&[5], &index.list()));
            check(&[5, 4], dtype, want, |y| take(0, &x.view(), &index.view(), y), &dtype);
        }
    }

    #[test]
    fn half_floats_add_in_float32_and_round_each_time() {
        // 2048 + 1 is 2048 in float16, so ones that come one by one are lost.
        let (dy, index) = (
            Data::new(DType::F16, &[5], |i| if i == 0 { 2048.0 } else { 1.0 }),
            Data::zeros(DType::I64, &[5]),
        );
        check(&[2], DType::F16, vec![2048.0, 0.0], |y| take_input(0, &dy.view(), &index.view(), y), &"f16");
    }

    #[test]
    fn gather_and_scatter() {
        let shapes: &[(&[usize], &[usize], usize)] = &[
            (&[9], &[40], 0),
            (&[6, 5, 7], &[6, 9, 7], 1),
            (&[6, 5, 7], &[4, 9, 3], 1),
            (&[6, 5, 7], &[6, 5, 20], 2),
            (&[6, 5, 7], &[2, 5, 7], 0),
            (&[300, 300], &[500, 300], 0),
            (&[300, 300], &[300, 500], 1),
            (&[6, 5], &[6, 0], 1),
        ];
        for &(shape, index_shape, axis) in shapes {
            for index in picks(index_shape, shape[axis]) {
                let with = (index_shape, &index.list()[..]);
                for x in Data::views(DType::F32, shape, 2) {
                    let want = reference::gather(axis, (shape, &x.list()), with);
                    check(
                        index_shape,
                        x.dtype,
                        want,
                        |y| gather(axis, &x.view(), &index.view(), y),
                        &(&x.layout, axis),
                    );
                    for source in Data::views(DType::F32, index_shape, 5).iter().take(3) {
                        for mode in [Scatter::Set, Scatter::Add] {
                            let want =
                                reference::scatter(axis, mode, (shape, &x.list()), with, &source.list());
                            let run =
                                |y: &Out| scatter(axis, mode, &x.view(), &index.view(), &source.view(), y);
                            check(shape, x.dtype, want, run, &(mode, &x.layout, axis));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn all_dtypes_add() {
        for &dtype in DType::ALL.iter().filter(|&&d| d != DType::Bool) {
            let (x, source) = (Data::mixed(dtype, &[4, 3], 1), Data::mixed(dtype, &[6, 3], 2));
            let index = &picks(&[6, 3], 4)[0];
            let want = reference::scatter(
                0,
                Scatter::Add,
                (&[4, 3], &x.list()),
                (&[6, 3], &index.list()),
                &source.list(),
            );
            let want = Data::new(dtype, &[4, 3], |i| want[i]).list();
            let run = |y: &Out| scatter(0, Scatter::Add, &x.view(), &index.view(), &source.view(), y);
            check(&[4, 3], dtype, want, run, &dtype);
            let rows = Data::mixed(dtype, &[6, 3], 3);
            let index = &picks(&[6], 4)[0];
            let want = reference::take_input(0, &rows.list(), (&[6], &index.list()), &[4, 3]);
            let want = Data::new(dtype, &[4, 3], |i| want[i]).list();
            check(&[4, 3], dtype, want, |y| take_input(0, &rows.view(), &index.view(), y), &dtype);
        }
    }

    #[test]
    fn windows() {
        let whole = Layout::contiguous([8, 9, 10].into());
        let windows = [
            whole.clone(),
            whole.slice(0, 2, 3, 1),
            whole.slice(2, 9, 5, -2).slice(0, 7, 8, -1),
            whole.permute(&[2, 0, 1]).slice(1, 1, 4, 2),
            whole.select(1, 3),
            whole.slice(1, 0, 0, 1),
        ];
        for window in &windows {
            for x in Data::views(DType::F32, &[8, 9, 10], 1) {
                for source in Data::views(DType::F32, &window.shape, 2) {
                    for mode in [Scatter::Set, Scatter::Add] {
                        let want = reference::assign(window, mode, &x.list(), &source.list());
                        check(
                            &[8, 9, 10],
                            x.dtype,
                            want,
                            |y| assign(window, mode, &x.view(), &source.view(), y),
                            &(window, mode),
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_result_in_place_keeps_what_is_there() {
        let (mut y, source) = (Data::mixed(DType::F32, &[4, 5], 1), Data::mixed(DType::F32, &[4, 2], 2));
        let window = y.layout.slice(1, 1, 2, 2);
        let want = reference::assign(&window, Scatter::Add, &y.list(), &source.list());
        let layout = y.layout.clone();
        let out = y.out();
        let x = View { ptr: out.ptr, layout: &layout, dtype: DType::F32 };
        assign(&window, Scatter::Add, &x, &source.view(), &out).unwrap();
        assert_eq!(y.list(), want);
    }

    #[test]
    fn parts_are_joined() {
        for axis in 0..3 {
            for kind in 0..4 {
                let parts: Vec<Data> = [3, 0, 1, 6]
                    .iter()
                    .map(|&n| {
                        let mut shape = [4, 5, 6];
                        shape[axis] = n;
                        Data::views(DType::F32, &shape, n as u64).remove(kind)
                    })
                    .collect();
                let lists: Vec<_> = parts.iter().map(|p| (p.shape(), p.list())).collect();
                let mut shape = [4, 5, 6];
                shape[axis] = 10;
                let views: Vec<View> = parts.iter().map(Data::view).collect();
                check(
                    &shape,
                    DType::F32,
                    reference::concat(axis, &lists),
                    |y| concat(axis, &views, y),
                    &(axis, kind),
                );
            }
        }
    }

    #[test]
    fn bad_indices_are_told_before_anything_is_written() {
        let x = Data::mixed(DType::F32, &[4, 5], 1);
        let told = |run: &dyn Fn(&View, &Out) -> Result<()>, index: [f64; 3]| {
            let index = Data::new(DType::I64, &[1, 3], |i| index[i]);
            let mut y = Data::new(DType::F32, &[4, 5], |_| 77.0);
            let error = run(&index.view(), &y.out()).unwrap_err();
            assert!(y.list().iter().all(|&x| x == 77.0));
            error
        };
        let source = Data::zeros(DType::F32, &[1, 3]);
        let error = |text: &str| crate::core::Error::Index(text.into());
        assert_eq!(
            told(&|i, y| take(1, &x.view(), i, y), [0.0, 7.0, 9.0]),
            error("take: index 7 is out of range for axis 1 of size 5")
        );
        assert_eq!(
            told(&|i, y| take_input(0, &x.view(), i, y), [-5.0, 0.0, 0.0]),
            error("take_input: index -5 is out of range for axis 0 of size 4")
        );
        assert_eq!(
            told(&|i, y| gather(1, &x.view(), i, y), [0.0, 4.0, 5.0]),
            error("gather: index 5 is out of range for axis 1 of size 5")
        );
        assert_eq!(
            told(&|i, y| scatter(0, Scatter::Set, &x.view(), i, &source.view(), y), [0.0, 3.0, 4.0]),
            error("scatter: index 4 is out of range for axis 0 of size 4")
        );
    }

    #[test]
    fn a_repeated_window_is_refused() {
        let x = Data::mixed(DType::F32, &[4, 5], 1);
        let window = x.layout.slice(0, 0, 1, 1).broadcast_to(&[4, 5].into()).unwrap();
        let error = assign(&window, Scatter::Set, &x.view(), &x.view(), &x.clone().out()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "assign: the window is a broadcast, so that elements of it share a place; copy it first"
        );
    }
}

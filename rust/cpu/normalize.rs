//! Rows normalized, and the gradient: each row is passed several times while it lies in cache. With the row's
//! mean μ (or 0, where it is not centred) and `r = 1 / √(σ² + eps)`:
//!
//! ```text
//! x̂ = (x − μ) r        y = x̂ w + b
//! h = dy w             dx = r (h − mean(h) − x̂ mean(h x̂))        dw = Σ_rows dy x̂        db = Σ_rows dy
//! ```
//!
//! (without the mean of h where the row is not centred). A chunk of rows keeps sums of its own for dw and db,
//! which are added up in the chunks' order.

use super::combine::{Sum, across, load_part};
use super::isa;
use super::lanes::{Arch, Lanes, OnLanes, Real, Vector, dispatch};
use super::moments::{merge, row_state};
use super::pointwise::Evaluator;
use super::stored::StoredFloat;
use super::view::{Out, View};
use super::work::{GRAIN, Shared, Temp, try_parallel, vectorized};
use crate::bail;
use crate::core::{DType, Result};

/// Chunks of rows at most, since each has sums of its own.
const CHUNKS: usize = 64;

/// `x` (rows, n) with neighbours along rows, maybe a weight (n) and a bias (n), to y (rows, n), μ and r (rows, 1).
pub fn normalize(
    centred: bool,
    eps: f64,
    weight: bool,
    bias: bool,
    inputs: &[View],
    outputs: &[Out],
) -> Result<()> {
    match inputs[0].dtype {
        DType::F32 => forward::<f32>(centred, eps, weight, bias, inputs, outputs),
        DType::F64 => forward::<f64>(centred, eps, weight, bias, inputs, outputs),
        other => bail!(DType, "normalize: takes float32 or float64, not {other}"),
    }
}

/// x and dy (rows, n), μ and r (rows, 1), maybe the weight (n), to dx (rows, n), dw (n) if there is a weight,
/// and db (n) if that is asked for.
pub fn normalize_input(
    centred: bool,
    weight: bool,
    bias: bool,
    inputs: &[View],
    outputs: &[Out],
) -> Result<()> {
    match inputs[0].dtype {
        DType::F32 => backward::<f32>(centred, weight, bias, inputs, outputs),
        DType::F64 => backward::<f64>(centred, weight, bias, inputs, outputs),
        other => bail!(DType, "normalize: takes float32 or float64, not {other}"),
    }
}

/// What rows are normalized in: float32 or float64.
trait Element: StoredFloat<Real = Self> + Real + Lanes<Elem = Self> {}
impl Element for f32 {}
impl Element for f64 {}

/// Rows of a matrix in memory.
#[derive(Clone, Copy)]
struct Rows<T> {
    first: *const T,
    pitch: isize,
}

// SAFETY: as `View`.
unsafe impl<T> Send for Rows<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Rows<T> {}

impl<T> Rows<T> {
    fn of(view: &View) -> Rows<T> {
        Rows { first: view.first().cast(), pitch: view.layout.strides[0] }
    }

    fn row(self, i: usize) -> *const T {
        self.first.wrapping_offset(i as isize * self.pitch)
    }
}

/// How many rows a chunk has.
fn chunk(rows: usize, n: usize) -> usize {
    (GRAIN / 4 / n.max(1)).max(rows.div_ceil(CHUNKS)).max(1)
}

fn forward<T: Element>(
    centred: bool,
    eps: f64,
    weight: bool,
    bias: bool,
    inputs: &[View],
    outputs: &[Out],
) -> Result<()> {
    let (rows, n) = (outputs[0].shape[0], outputs[0].shape[1]);
    let [y, mean, scale] = [0, 1, 2].map(|i| Shared::new(outputs[i].ptr.cast::<T>()));
    let x = Rows::<T>::of(&inputs[0]);
    // SAFETY: weight and bias are (n) and lie side by side.
    let flat = |i: usize| unsafe { std::slice::from_raw_parts(inputs[i].first().cast::<T>(), n) };
    let w = if weight { flat(1) } else { &[] };
    let b = if bias { flat(1 + weight as usize) } else { &[] };
    let each = chunk(rows, n);
    try_parallel(rows.div_ceil(each), |i| {
        for row in i * each..rows.min((i + 1) * each) {
            // SAFETY: rows of x and of the results, which are this chunk's alone.
            let (x, y) = unsafe { (std::slice::from_raw_parts(x.row(row), n), y.slice(row * n, n)) };
            let (mut mu, mut r) = (0.0, 0.0);
            dispatch(isa::get(), Forward { x, w, b, y, centred, eps, mean: &mut mu, scale: &mut r });
            // SAFETY: as above.
            unsafe {
                *mean.at(row) = <T as Real>::of(mu);
                *scale.at(row) = <T as Real>::of(r);
            }
        }
        Ok(())
    })
}

struct Forward<'a, T> {
    x: &'a [T],
    /// As long as x, or empty.
    w: &'a [T],
    b: &'a [T],
    y: &'a mut [T],
    centred: bool,
    eps: f64,
    mean: &'a mut f64,
    scale: &'a mut f64,
}

impl<T: Element> OnLanes for Forward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let Forward { x, w, b, y, centred, eps, mean, scale } = self;
        let var = match centred {
            true => {
                let (first, rest) = x.split_at(x.len().min(Evaluator::BLOCK));
                let mut state = row_state::<T::In<A>>(first);
                for block in rest.chunks(Evaluator::BLOCK) {
                    state = merge(state, row_state::<T::In<A>>(block));
                }
                *mean = state.mean;
                state.squares / state.count
            }
            false => {
                let mut sum = 0.0;
                for block in x.chunks(Evaluator::BLOCK) {
                    sum += squares::<T::In<A>>(block);
                }
                sum / x.len() as f64
            }
        };
        *scale = 1.0 / (var + eps).sqrt();
        let (mu, r) = (*mean, *scale);
        match (w.is_empty(), b.is_empty()) {
            (true, true) => write::<T::In<A>, false, false>(x, w, b, y, mu, r),
            (true, false) => write::<T::In<A>, false, true>(x, w, b, y, mu, r),
            (false, true) => write::<T::In<A>, true, false>(x, w, b, y, mu, r),
            (false, false) => write::<T::In<A>, true, true>(x, w, b, y, mu, r),
        }
    }
}

/// The sum of squares.
#[inline(always)]
fn squares<S: Lanes>(x: &[S::Elem]) -> f64
where
    S::Elem: Element,
{
    let mut sum = Vector::<S>::of(0.0);
    for (at, count) in vectors::<S>(x.len()) {
        // SAFETY: within the slice.
        let x = unsafe { part::<S>(x.as_ptr(), at, count) };
        sum = x.mul_add(x, sum);
    }
    across::<Sum, S>(sum).to_f64()
}

/// `y = (x − μ) r w + b`.
#[inline(always)]
fn write<S: Lanes, const W: bool, const B: bool>(
    x: &[S::Elem],
    w: &[S::Elem],
    b: &[S::Elem],
    y: &mut [S::Elem],
    mu: f64,
    r: f64,
) where
    S::Elem: Element,
{
    let (mu, r) = (Vector::<S>::of(mu), Vector::<S>::of(r));
    let to = y.as_mut_ptr();
    for (at, count) in vectors::<S>(x.len()) {
        // SAFETY: all slices that are read are as long as x, and so is y.
        unsafe {
            let mut y = (part::<S>(x.as_ptr(), at, count) - mu) * r;
            if W {
                y = y * part::<S>(w.as_ptr(), at, count);
            }
            if B {
                y = y + part::<S>(b.as_ptr(), at, count);
            }
            put(y, to.add(at), count);
        }
    }
}

fn backward<T: Element>(
    centred: bool,
    weight: bool,
    bias: bool,
    inputs: &[View],
    outputs: &[Out],
) -> Result<()> {
    let (rows, n) = (outputs[0].shape[0], outputs[0].shape[1]);
    let (x, dy) = (Rows::<T>::of(&inputs[0]), Rows::<T>::of(&inputs[1]));
    let (mean, scale) = (Rows::<T>::of(&inputs[2]), Rows::<T>::of(&inputs[3]));
    // SAFETY: the weight is (n) and lies side by side.
    let w =
        if weight { unsafe { std::slice::from_raw_parts(inputs[4].first().cast::<T>(), n) } } else { &[] };
    let dx = Shared::new(outputs[0].ptr.cast::<T>());
    let each = chunk(rows, n);
    let chunks = rows.div_ceil(each);
    // Of dw and of db, a chunk after the other.
    let mut sums = Temp::filled((weight as usize + bias as usize) * chunks * n, <T as Real>::of(0.0))?;
    let sums = sums.shared();
    let db_first = weight as usize * chunks;
    try_parallel(chunks, |i| {
        // SAFETY: each chunk has its own sums.
        let (dw, db) = unsafe {
            let dw = sums.slice(i * n, if weight { n } else { 0 });
            (dw, sums.slice((db_first + i) * n, if bias { n } else { 0 }))
        };
        for row in i * each..rows.min((i + 1) * each) {
            // SAFETY: rows of the operands, and of dx, which are this chunk's alone.
            let job = unsafe {
                Backward {
                    x: std::slice::from_raw_parts(x.row(row), n),
                    dy: std::slice::from_raw_parts(dy.row(row), n),
                    w,
                    dx: dx.slice(row * n, n),
                    dw: &mut *dw,
                    db: &mut *db,
                    centred,
                    mean: (*mean.row(row)).to_f64(),
                    scale: (*scale.row(row)).to_f64(),
                }
            };
            dispatch(isa::get(), job);
        }
        Ok(())
    })?;
    for (on, first, out) in [(weight, 0, 1), (bias, db_first, 1 + weight as usize)] {
        if on {
            // SAFETY: the sums are complete, and the result is ours.
            let out = unsafe { Shared::new(outputs[out].ptr.cast::<T>()).slice(0, n) };
            out.fill(<T as Real>::of(0.0));
            for i in first..first + chunks {
                // SAFETY: as above.
                let sum = unsafe { sums.slice(i * n, n) };
                vectorized(|| out.iter_mut().zip(sum).for_each(|(out, sum)| *out = Lanes::add(*out, *sum)));
            }
        }
    }
    Ok(())
}

struct Backward<'a, T> {
    x: &'a [T],
    dy: &'a [T],
    /// As long as x, or empty, as are dw and db.
    w: &'a [T],
    dx: &'a mut [T],
    dw: &'a mut [T],
    db: &'a mut [T],
    centred: bool,
    mean: f64,
    scale: f64,
}

impl<T: Element> OnLanes for Backward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        match (self.w.is_empty(), self.db.is_empty()) {
            (true, true) => self.row::<T::In<A>, false, false>(),
            (true, false) => self.row::<T::In<A>, false, true>(),
            (false, true) => self.row::<T::In<A>, true, false>(),
            (false, false) => self.row::<T::In<A>, true, true>(),
        }
    }
}

impl<T: Element> Backward<'_, T> {
    #[inline(always)]
    fn row<S: Lanes<Elem = T>, const W: bool, const B: bool>(self) {
        let n = self.x.len();
        let (x, dy, w, dx) = (self.x.as_ptr(), self.dy.as_ptr(), self.w.as_ptr(), self.dx.as_mut_ptr());
        let (dw, db) = (self.dw.as_mut_ptr(), self.db.as_mut_ptr());
        let (mu, r) = (Vector::<S>::of(self.mean), Vector::<S>::of(self.scale));
        // Lanes that a part vector lacks count as zeros of h.
        let [mut total, mut along] = [Vector::<S>::of(0.0); 2];
        for (at, count) in vectors::<S>(n) {
            // SAFETY: all slices that are used are as long as x.
            unsafe {
                let (g, hat) = (part::<S>(dy, at, count), (part::<S>(x, at, count) - mu) * r);
                let mut h = g;
                if W {
                    h = g * part::<S>(w, at, count);
                    put(g.mul_add(hat, part::<S>(dw, at, count)), dw.add(at), count);
                }
                if B {
                    put(part::<S>(db, at, count) + g, db.add(at), count);
                }
                (total, along) = (total + h, h.mul_add(hat, along));
            }
        }
        let mean = |sum: Vector<S>| Vector::<S>::of(across::<Sum, S>(sum).to_f64() / n as f64);
        let total = if self.centred { mean(total) } else { Vector::<S>::of(0.0) };
        let along = mean(along);
        for (at, count) in vectors::<S>(n) {
            // SAFETY: as above.
            unsafe {
                let hat = (part::<S>(x, at, count) - mu) * r;
                let mut h = part::<S>(dy, at, count);
                if W {
                    h = h * part::<S>(w, at, count);
                }
                put((h - total - hat * along) * r, dx.add(at), count);
            }
        }
    }
}

/// Where the vectors of n elements begin, and how many elements each has.
#[inline(always)]
fn vectors<S: Lanes>(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).step_by(S::WIDTH).map(move |at| (at, S::WIDTH.min(n - at)))
}

/// # Safety
/// `count` elements are readable at `from + at`, and no more than a vector has are asked for.
#[inline(always)]
unsafe fn part<S: Lanes>(from: *const S::Elem, at: usize, count: usize) -> Vector<S>
where
    S::Elem: Element,
{
    // SAFETY: the caller's.
    unsafe {
        match count == S::WIDTH {
            true => Vector(S::load(from.add(at))),
            false => load_part(from.add(at), count, S::splat(S::Elem::default())),
        }
    }
}

/// # Safety
/// `count` elements are writable at `to`, no more than a vector has.
#[inline(always)]
unsafe fn put<S: Lanes>(x: Vector<S>, to: *mut S::Elem, count: usize) {
    // SAFETY: the caller's.
    unsafe { if count == S::WIDTH { x.0.store(to) } else { x.0.store_part(to, count) } }
}

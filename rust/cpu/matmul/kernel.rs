//! The inner loops, written once over `Vector`. Their instances are listed in `table.rs`; what to
//! multiply in which order is decided by `tiled.rs` and `thin.rs`.

use std::hint::black_box;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::compiler_fence;

use super::vector::{Vector, sums, transpose};

/// What a kernel multiplies: `C = A B`, or `C += A B` if `add`, with A's elements contiguous along k.
/// Rows may lie anywhere, so that operands are read in place and packed ones need no other kernel.
pub struct Tile<T> {
    pub k: usize,
    pub n: usize,
    pub a: *const T,
    /// From a row of A to the next.
    pub lda: isize,
    pub b: *const T,
    /// From a row of B to the next; for `dot`, from a column to the next.
    pub ldb: isize,
    pub c: *mut T,
    pub ldc: usize,
    pub add: bool,
}

/// What a packing kernel moves: `dst[i][j] = src[i][j]` or `src[j][i]`, for `i < rows`, `j < cols`.
/// Rows of `dst` are padded with zeros to whole vectors, unless they are closer together than that.
pub struct Move<T> {
    pub rows: usize,
    pub cols: usize,
    pub src: *const T,
    pub lds: isize,
    pub dst: *mut T,
    pub ldd: usize,
}

/// A tile of C held in registers while k runs: `MR` rows by `NV` vectors, of which the last is
/// partial if `EDGE`.
///
/// Each step of k loads NV vectors of B, broadcasts MR elements of A and does MR·NV multiply-adds.
/// Processors load about as many vectors per cycle as they multiply, hence tiles with far fewer loads
/// than products that still fit into the registers: 8×48 f32 into AVX-512's 32, 6×16 into AVX2's 16.
///
/// If `PACKED`, both operands lie in the order of the loop, `a[p·MR + i]` and `b[p·NV·LANES + j]`: four
/// steps at a time need no arithmetic on addresses, and what comes next is fetched without being asked
/// for, which together is worth 5 %.
///
/// Each element of C is one chain of multiply-adds in the order of k, whatever the tile's size and the
/// operands' place, so neighbours never change a result.
#[inline(always)]
pub unsafe fn tile<V: Vector, const MR: usize, const NV: usize, const EDGE: bool, const PACKED: bool>(
    t: &Tile<V::Elem>,
) {
    let last = t.n.wrapping_sub((NV - 1) * V::LANES);
    // SAFETY: the caller has the instructions and vouches for MR rows of k elements of A, and k rows
    // of B and MR rows of C of n elements.
    unsafe {
        let mut sum = [[V::zero(); NV]; MR];
        for i in 0..MR {
            for j in 0..NV {
                prefetch(t.c.add(i * t.ldc + j * V::LANES));
            }
        }
        let (mut a, mut b) = (t.a, t.b);
        if PACKED {
            let width = NV * V::LANES;
            for _ in 0..t.k / 4 {
                for p in 0..4 {
                    step::<V, MR, NV>(a.add(p * MR), row_of_b(b.add(p * width), None), &mut sum);
                }
                (a, b) = (a.add(4 * MR), b.add(4 * width));
            }
            for p in 0..t.k % 4 {
                step::<V, MR, NV>(a.add(p * MR), row_of_b(b.add(p * width), None), &mut sum);
            }
        } else {
            let partial = if EDGE && V::MASKED { Some(last) } else { None };
            let mut rows = Rows::new::<MR>(t.a, t.lda);
            for _ in 0..t.k / 4 {
                for p in 0..4 {
                    rows.step::<V, MR, NV>(p, row_of_b(b, partial), &mut sum);
                    b = b.wrapping_offset(t.ldb);
                }
                rows.advance(4);
            }
            for p in 0..t.k % 4 {
                rows.step::<V, MR, NV>(p, row_of_b(b, partial), &mut sum);
                b = b.wrapping_offset(t.ldb);
            }
        }
        for (i, row) in sum.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                let at = t.c.add(i * t.ldc + j * V::LANES);
                if EDGE && j == NV - 1 {
                    let sum = if t.add { V::load_first(at, last).add(sum) } else { sum };
                    sum.store_first(at, last);
                } else {
                    let sum = if t.add { V::load(at).add(sum) } else { sum };
                    sum.store(at);
                }
            }
        }
    }
}

/// A row of B as NV vectors, of which the last may be partial.
#[inline(always)]
unsafe fn row_of_b<V: Vector, const NV: usize>(at: *const V::Elem, partial: Option<usize>) -> [V; NV] {
    // SAFETY: as for `tile`.
    unsafe {
        let mut b = [V::zero(); NV];
        for (j, b) in b.iter_mut().enumerate() {
            let at = at.add(j * V::LANES);
            *b = match partial {
                Some(n) if j == NV - 1 => V::load_first(at, n),
                _ => V::load(at),
            };
        }
        b
    }
}

/// At most nine rows of A in place. An addition of integers takes the turn of a multiply-add, so every third row has
/// a pointer, from which its neighbours are reached by an index, and pointers move once in four steps. The compiler,
/// which would derive all from one, does not know that they are related. 5–9 % of a product that fits the caches.
struct Rows<T> {
    thirds: [*const T; 3],
    lda: isize,
}

impl<T: Copy> Rows<T> {
    #[inline(always)]
    fn new<const MR: usize>(a: *const T, lda: isize) -> Rows<T> {
        let mut thirds = [a; 3];
        for (i, third) in thirds.iter_mut().enumerate().take(MR.div_ceil(3)) {
            *third = black_box(a.wrapping_offset(3 * i as isize * lda));
        }
        Rows { thirds, lda }
    }

    #[inline(always)]
    fn advance(&mut self, steps: usize) {
        for third in &mut self.thirds {
            *third = third.wrapping_add(steps);
        }
    }

    /// Adds the products of column `p` with a row of B, and keeps the steps apart: in one heap, their loads would
    /// come first and wait in memory for want of registers.
    #[inline(always)]
    unsafe fn step<V: Vector<Elem = T>, const MR: usize, const NV: usize>(
        &self,
        p: usize,
        b: [V; NV],
        sum: &mut [[V; NV]; MR],
    ) {
        for (i, row) in sum.iter_mut().enumerate() {
            let at = self.thirds[i / 3].wrapping_offset((i % 3) as isize * self.lda).wrapping_add(p);
            // SAFETY: as for `tile`.
            unsafe {
                let a = V::splat(*at);
                for (sum, &b) in row.iter_mut().zip(&b) {
                    *sum = a.fma(b, *sum);
                }
            }
        }
        compiler_fence(SeqCst);
    }
}

/// Adds the products of MR elements of A, one behind the other, with a row of B.
#[inline(always)]
unsafe fn step<V: Vector, const MR: usize, const NV: usize>(
    a: *const V::Elem,
    b: [V; NV],
    sum: &mut [[V; NV]; MR],
) {
    for (i, row) in sum.iter_mut().enumerate() {
        // SAFETY: as for `tile`.
        unsafe {
            let a = V::splat(*a.add(i));
            for (sum, &b) in row.iter_mut().zip(&b) {
                *sum = a.fma(b, *sum);
            }
        }
    }
}

/// `MR` rows by `NC` columns where both operands are contiguous along k: vectors run along k, and the
/// lanes of each sum are added up at the end. Nothing needs packing, and B is read once however few
/// the rows.
#[inline(always)]
pub unsafe fn dot<V: Vector, const MR: usize, const NC: usize>(t: &Tile<V::Elem>) {
    // SAFETY: the caller has the instructions and vouches for MR rows of A and NC columns of B of k
    // elements, and MR rows of NC elements of C.
    unsafe {
        let mut sum = [[V::zero(); NC]; MR];
        let whole = t.k - t.k % V::LANES;
        for p in (0..whole).step_by(V::LANES) {
            dot_step::<V, MR, NC, true>(t, p, &mut sum);
        }
        if whole < t.k {
            dot_step::<V, MR, NC, false>(t, whole, &mut sum);
        }
        for (i, row) in sum.iter_mut().enumerate() {
            for (j, part) in row.chunks_mut(V::LANES).enumerate() {
                sums(part).store_first(t.c.add(i * t.ldc + j * V::LANES), part.len());
            }
        }
    }
}

/// The products of lanes `p..` of k, a whole vector or the rest.
#[inline(always)]
unsafe fn dot_step<V: Vector, const MR: usize, const NC: usize, const WHOLE: bool>(
    t: &Tile<V::Elem>,
    p: usize,
    sum: &mut [[V; NC]; MR],
) {
    // SAFETY: as for `dot`.
    unsafe {
        let mut b = [V::zero(); NC];
        for (j, b) in b.iter_mut().enumerate() {
            let at = t.b.offset(j as isize * t.ldb).add(p);
            *b = if WHOLE { V::load(at) } else { V::load_first(at, t.k - p) };
        }
        for (i, row) in sum.iter_mut().enumerate() {
            let at = t.a.offset(i as isize * t.lda).add(p);
            let a = if WHOLE { V::load(at) } else { V::load_first(at, t.k - p) };
            for (sum, &b) in row.iter_mut().zip(&b) {
                *sum = a.fma(b, *sum);
            }
        }
    }
}

/// One row times a matrix whose rows are contiguous: C is passed over once for each 8 rows of B, which
/// are read in long runs as memory likes it.
#[inline(always)]
pub unsafe fn row<V: Vector>(t: &Tile<V::Elem>) {
    let eights = t.k - t.k % 8;
    // SAFETY: the caller has the instructions and vouches for k elements of A, and k rows of B and one
    // row of C of n elements.
    unsafe {
        for p in (0..eights).step_by(8) {
            row_step::<V, 8>(t, p);
        }
        for p in eights..t.k {
            row_step::<V, 1>(t, p);
        }
    }
}

#[inline(always)]
unsafe fn row_step<V: Vector, const P: usize>(t: &Tile<V::Elem>, p: usize) {
    // SAFETY: as for `row`.
    unsafe {
        let mut a = [V::zero(); P];
        for (q, a) in a.iter_mut().enumerate() {
            *a = V::splat(*t.a.add(p + q));
        }
        let b = t.b.offset(p as isize * t.ldb);
        let add = t.add || p > 0;
        let whole = t.n - t.n % V::LANES;
        for j in (0..whole).step_by(V::LANES) {
            let mut sum = if add { V::load(t.c.add(j)) } else { V::zero() };
            for (q, a) in a.iter().enumerate() {
                sum = a.fma(V::load(b.offset(q as isize * t.ldb).add(j)), sum);
            }
            sum.store(t.c.add(j));
        }
        let rest = t.n - whole;
        if rest > 0 {
            let mut sum = if add { V::load_first(t.c.add(whole), rest) } else { V::zero() };
            for (q, a) in a.iter().enumerate() {
                sum = a.fma(V::load_first(b.offset(q as isize * t.ldb).add(whole), rest), sum);
            }
            sum.store_first(t.c.add(whole), rest);
        }
    }
}

/// `dst[i][j] = src[i][j]`.
#[inline(always)]
pub unsafe fn copy<V: Vector>(m: &Move<V::Elem>) {
    let whole = m.cols - m.cols % V::LANES;
    let rest = if m.ldd < m.cols.next_multiple_of(V::LANES) { m.cols - whole } else { V::LANES };
    for i in 0..m.rows {
        // SAFETY: the caller has the instructions and vouches for `rows` rows of `cols` elements in
        // `src`, and in `dst` of as many, rounded up to whole vectors.
        unsafe {
            let (src, dst) = (m.src.offset(i as isize * m.lds), m.dst.add(i * m.ldd));
            for j in (0..whole).step_by(V::LANES) {
                V::load(src.add(j)).store(dst.add(j));
            }
            if whole < m.cols {
                V::load_first(src.add(whole), m.cols - whole).store_first(dst.add(whole), rest);
            }
        }
    }
}

/// `dst[i][j] = src[j][i]`, a square of registers at a time.
#[inline(always)]
pub unsafe fn transposed<V: Vector>(m: &Move<V::Elem>) {
    let l = V::LANES;
    let room = if m.ldd < m.cols.next_multiple_of(l) { m.cols } else { m.cols.next_multiple_of(l) };
    for j in (0..m.cols).step_by(l) {
        for i in (0..m.rows).step_by(l) {
            let (rows, cols) = (l.min(m.rows - i), l.min(m.cols - j));
            // SAFETY: the caller has the instructions and vouches for `cols` rows of `rows` elements
            // in `src`, and for `dst` as in `copy`.
            unsafe {
                let (src, dst) = (m.src.offset(j as isize * m.lds).add(i), m.dst.add(i * m.ldd + j));
                if rows == l && cols == l {
                    square::<V, true>(src, m.lds, dst, m.ldd, l, l, l);
                } else {
                    square::<V, false>(src, m.lds, dst, m.ldd, rows, cols, l.min(room - j));
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn square<V: Vector, const WHOLE: bool>(
    src: *const V::Elem,
    lds: isize,
    dst: *mut V::Elem,
    ldd: usize,
    rows: usize,
    cols: usize,
    width: usize,
) {
    // SAFETY: as for `transposed`.
    unsafe {
        let mut square = V::square();
        for (j, v) in square.as_mut().iter_mut().enumerate() {
            let at = src.wrapping_offset(j as isize * lds);
            if WHOLE {
                *v = V::load(at);
            } else if j < cols {
                *v = V::load_first(at, rows);
            }
        }
        transpose::<V>(&mut square);
        for (i, v) in square.as_mut().iter().enumerate() {
            if WHOLE {
                v.store(dst.add(i * ldd));
            } else if i < rows {
                v.store_first(dst.add(i * ldd), width);
            }
        }
    }
}

/// Fetches a line into the first level of cache; a hint.
#[inline(always)]
pub fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; any address will do.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

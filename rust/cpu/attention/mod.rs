//! Attention, softmax(scale Q Kᵀ + mask) V, without the scores of all queries and keys in memory, and its
//! gradients (Dao et al., 2022, https://arxiv.org/abs/2205.14135). `forward.rs` and `backward.rs` say how
//! each is blocked, `rows.rs` has the arithmetic between the products, which are tiles of `matmul`.
//!
//! Work is shared out by heads and blocks of queries or keys. These depend on sizes alone, and each sum is
//! taken by one thread in one order.

mod backward;
mod forward;
mod rows;
#[cfg(test)]
mod tests;

use std::ops::{Add, Mul};

use smallvec::SmallVec;

use super::even::Even;
use super::isa;
use super::lanes::{Lanes, Real};
use super::matmul::kernel::Tile;
use super::matmul::pack::{Matrix, Operand as Packable, pack, times};
use super::matmul::table::{self, Kernels};
use super::product::offsets;
use super::stored::StoredFloat;
use super::view::{Out, View};
use crate::bail;
use crate::core::{DType, Result};

trait Float:
    StoredFloat<Real = Self>
    + table::Real
    + Packable<Real = Self>
    + Lanes<Elem = Self>
    + Real
    + Add<Output = Self>
    + Mul<Output = Self>
{
}
impl Float for f32 {}
impl Float for f64 {}

/// Inputs: q (…, L, E), k (…, S, E) and v (…, S, V) with equal leading sizes and neighbours along the last
/// axis, and maybe what is added to the scores, (…, L, S) with any strides. Outputs: (…, L, V), and (…, L)
/// logarithms of the sums of exponentials. A query that sees no key gives zeros and −∞.
pub fn attention(causal: bool, scale: f64, inputs: &[View], outputs: &[Out]) -> Result<()> {
    match outputs[0].dtype {
        DType::F32 => forward::run(&Heads::<f32>::new(causal, scale, inputs), outputs),
        DType::F64 => forward::run(&Heads::<f64>::new(causal, scale, inputs), outputs),
        other => bail!(DType, "attention: computes in float32 or float64, not {other}"),
    }
}

/// Inputs: the two outputs of [`attention`], row-major, and the first one's gradient, whose rows have
/// neighbours; then its inputs. Outputs: the gradients of q, k and v.
pub fn attention_input(causal: bool, scale: f64, inputs: &[View], outputs: &[Out]) -> Result<()> {
    let (seen, inputs) = inputs.split_at(3);
    match outputs[0].dtype {
        DType::F32 => backward::run(&Heads::<f32>::new(causal, scale, inputs), seen, outputs),
        DType::F64 => backward::run(&Heads::<f64>::new(causal, scale, inputs), seen, outputs),
        other => bail!(DType, "attention: computes in float32 or float64, not {other}"),
    }
}

/// A matrix for each head.
struct Each<T> {
    first: Matrix<T>,
    offsets: SmallVec<[isize; 8]>,
}

impl<T> Each<T> {
    fn new(view: &View) -> Each<T> {
        let lead = view.layout.rank() - 2;
        let [rs, cs] = [view.layout.strides[lead], view.layout.strides[lead + 1]];
        Each { first: Matrix { at: view.first().cast(), rs, cs }, offsets: offsets(view.layout, lead) }
    }

    fn of(&self, head: usize) -> Matrix<T> {
        self.first.moved(self.offsets[head])
    }
}

/// The operands of a call.
struct Heads<T: Float> {
    heads: usize,
    queries: usize,
    keys: usize,
    /// Elements of a query and of a key, and of a value.
    size: usize,
    value: usize,
    q: Each<T>,
    k: Each<T>,
    v: Each<T>,
    mask: Option<Each<T>>,
    causal: bool,
    scale: T,
    table: &'static Kernels<T>,
}

impl<T: Float> Heads<T> {
    fn new(causal: bool, scale: f64, inputs: &[View]) -> Heads<T> {
        let [q, k, v, mask @ ..] = inputs else { unreachable!("attention has three operands") };
        let last = |view: &View| {
            let shape = &view.layout.shape;
            (shape[shape.rank() - 2], shape[shape.rank() - 1])
        };
        let ((queries, size), (keys, value)) = (last(q), last(v));
        let q = Each::new(q);
        Heads {
            heads: q.offsets.len(),
            queries,
            keys,
            size,
            value,
            q,
            k: Each::new(k),
            v: Each::new(v),
            mask: mask.first().map(Each::new),
            causal,
            scale: <T as Real>::of(scale),
            table: <T as table::Real>::kernels(isa::get()),
        }
    }

    /// Columns as the kernels count them.
    fn padded(&self, columns: usize) -> usize {
        columns.next_multiple_of(self.table.lanes)
    }

    /// Multiply-adds of a head's two products.
    fn work(&self) -> usize {
        self.queries.saturating_mul(self.keys).saturating_mul(self.size + self.value)
    }

    /// Writes rows of `from`, transposed, as panels of packed columns; gives the panels.
    ///
    /// # Safety
    /// There are `rows` rows of `depth` elements, and room for `depth` times as many, padded.
    unsafe fn panels(&self, from: Matrix<T>, rows: usize, depth: usize, to: *mut T) -> Panels<T> {
        let vectors = Even::at_most(rows.div_ceil(self.table.lanes), self.table.tiles[0].len());
        let panels = Panels { at: to, depth, vectors, lanes: self.table.lanes };
        for p in 0..vectors.parts {
            let cols = times(vectors.part(p), self.table.lanes, rows);
            let (at, width) = panels.panel(p);
            // SAFETY: the caller's promises; panels follow each other.
            unsafe {
                pack(self.table, from.from(cols.start, 0).transposed(), depth, cols.len(), at, width);
            }
        }
        panels
    }

    /// The matrix as tiles read their right side: in place where they can, else copied to `to`.
    ///
    /// # Safety
    /// There are `rows` rows of `cols` elements, and room for as many, padded.
    unsafe fn right(&self, from: Matrix<T>, rows: usize, cols: usize, to: *mut T) -> Matrix<T> {
        if self.table.masked || cols.is_multiple_of(self.table.lanes) {
            return from;
        }
        let ld = self.padded(cols);
        // SAFETY: the caller's promises.
        unsafe { pack(self.table, Matrix { cs: 1, ..from }, rows, cols, to, ld) };
        Matrix { at: to, rs: ld as isize, cs: 1 }
    }

    /// Adds A B to C, or sets C to it: `rows` rows, as few as a tile has, of A with k neighbours, by k rows of B,
    /// a matrix from [`Heads::right`].
    ///
    /// # Safety
    /// They are there.
    unsafe fn multiply(&self, a: Matrix<T>, b: Matrix<T>, [rows, cols, k]: [usize; 3], c: *mut T, add: bool) {
        let table = self.table;
        if cols == 0 {
            return;
        }
        let mut tile = Tile { k, n: cols, a: a.at, lda: a.rs, b: b.at, ldb: b.rs, c, ldc: cols, add };
        if rows == 1 {
            // SAFETY: the caller's promises.
            return unsafe { (table.row)(&tile) };
        }
        let panels = Even::at_most(cols.div_ceil(table.lanes), table.tiles[0].len());
        for vectors in panels.iter() {
            let part = times(vectors.clone(), table.lanes, cols);
            (tile.n, tile.b, tile.c) = (part.len(), b.from(0, part.start).at, c.wrapping_add(part.start));
            let partial = part.len() < vectors.len() * table.lanes;
            // SAFETY: as above; B has whole vectors where the kernels want them.
            unsafe { table.tiles[rows - 1][vectors.len() - 1][0][partial as usize](&tile) }
        }
    }

    /// C = A B for B from [`Heads::panels`], in whole vectors, of which those outside `cols` are left out.
    ///
    /// # Safety
    /// There are `rows` rows of A, as few as a tile has, and of C, `ldc` apart and of whole vectors.
    unsafe fn scores(
        &self,
        a: Matrix<T>,
        rows: usize,
        b: &Panels<T>,
        cols: std::ops::Range<usize>,
        c: *mut T,
        ldc: usize,
    ) {
        let lanes = self.table.lanes;
        let (first, end) = (cols.start / lanes, cols.end.div_ceil(lanes));
        for p in 0..b.vectors.parts {
            let panel = b.vectors.part(p);
            let (from, to) = (panel.start.max(first), panel.end.min(end));
            if from >= to {
                continue;
            }
            let (at, width) = b.panel(p);
            let tile = Tile {
                k: b.depth,
                n: (to - from) * lanes,
                a: a.at,
                lda: a.rs,
                b: at.wrapping_add((from - panel.start) * lanes).cast_const(),
                ldb: width as isize,
                c: c.wrapping_add(from * lanes),
                ldc,
                add: false,
            };
            // SAFETY: the caller's promises.
            unsafe { self.table.tiles[rows - 1][to - from - 1][0][0](&tile) }
        }
    }
}

/// Packed columns: panels of a few vectors, each row by row.
struct Panels<T> {
    at: *mut T,
    depth: usize,
    vectors: Even,
    lanes: usize,
}

impl<T> Panels<T> {
    fn panel(&self, p: usize) -> (*mut T, usize) {
        let vectors = self.vectors.part(p);
        (self.at.wrapping_add(vectors.start * self.lanes * self.depth), vectors.len() * self.lanes)
    }
}

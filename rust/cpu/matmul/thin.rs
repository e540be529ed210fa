//! Products of few rows or few columns, where each element of the large operand is used so seldom that
//! copying it first would cost as much as the product: matrix times vector, and `A Bᵀ` with few rows.
//! Only halves are copied, widened, a piece at a time that stays in the cache.

use super::kernel::Tile;
use super::pack::{Matrix, Operand, pack, scratch, times};
use super::table::Multiply;
use super::{Job, TASK, work};
use crate::core::Result;
use crate::cpu::Memory;
use crate::cpu::even::Even;
use crate::cpu::work::try_parallel;

/// Elements of a matrix that one thread multiplies by a vector before it looks for more work: the
/// time is that of reading them.
const READ: usize = 16 << 10;

/// Rows of a matrix of halves that are widened at once.
const WIDENED: usize = 64;

/// Does the product if it is thin; `None` if it is not.
///
/// # Safety
/// As for `matmul`; m, n and k are not zero.
pub unsafe fn thin<S: Operand>(job: &Job<S>) -> Option<Result<()>> {
    let &Job { m, n, k, b, table, .. } = job;
    // Adding up the lanes at the end costs less the longer the sums are. Against many rows stands that
    // they leave the first level of cache, against many columns that tiles use more of their lanes.
    let long = k >= 16 * table.lanes;
    let few_rows = b.rs == 1 && m <= if long { 32 } else { 16 };
    let few_cols = n <= if long { table.lanes * 3 / 4 } else { table.lanes / 4 };
    let rows_in_place = S::in_place(job.a).is_some_and(|a| a.cs == 1);
    // SAFETY: the caller's promises.
    unsafe {
        if m == 1 && b.cs == 1 {
            Some(row(job))
        } else if (few_rows || few_cols && rows_in_place) && k >= 2 * table.lanes {
            Some(dots(job))
        } else {
            None
        }
    }
}

/// A vector times a matrix whose rows are contiguous. Tasks are runs of columns.
unsafe fn row<S: Operand>(job: &Job<S>) -> Result<()> {
    let &Job { n, k, b, table, .. } = job;
    // SAFETY: the caller's promises.
    let (a, _a) = unsafe { rows_of_a(job)? };
    let (sums, _sums) = job.sums()?;
    // Long enough runs for memory, short enough ones for C to stay in the first level of cache.
    let cols = Even::at_most(n, (READ / k).clamp(1024, 4096));
    let steps = if S::in_place(b).is_some() { Even::new(k, 1) } else { Even::at_most(k, WIDENED) };
    try_parallel(cols.parts, |i| {
        let cols = cols.part(i);
        let mut widened = None;
        for depth in steps.iter() {
            let b = b.from(depth.start, cols.start);
            // SAFETY: these columns of B and C; nobody else writes the latter.
            unsafe {
                let b = piece(job, b, depth.len(), cols.len(), &mut widened)?;
                (table.row)(&Tile {
                    k: depth.len(),
                    n: cols.len(),
                    a: a.from(0, depth.start).at,
                    lda: 0,
                    b: b.at,
                    ldb: b.rs,
                    c: sums.at(cols.start),
                    ldc: n,
                    add: depth.start > 0,
                });
            }
        }
        // SAFETY: these elements are finished, and this task's.
        unsafe { job.finish(sums, 0..1, cols) };
        Ok(())
    })
}

/// Dot products of rows of A with columns of B, both contiguous. Tasks are runs of columns, or of rows
/// if there are more of these.
unsafe fn dots<S: Operand>(job: &Job<S>) -> Result<()> {
    let &Job { m, n, k, table, .. } = job;
    // SAFETY: the caller's promises.
    let (a, _a) = unsafe { rows_of_a(job)? };
    let (sums, _sums) = job.sums()?;
    let tasks = (work(m, n, k) / TASK).max((m + n).saturating_mul(k) / READ).max(1);
    let (strips, groups) = (m.div_ceil(table.dot_rows), n.div_ceil(table.dots.len()));
    let (strips, groups) = if m > n {
        (Even::new(strips, tasks.min(strips)), Even::new(groups, 1))
    } else {
        (Even::new(strips, 1), Even::new(groups, tasks.min(groups)))
    };
    try_parallel(strips.parts * groups.parts, |i| {
        let rows = times(strips.part(i % strips.parts), table.dot_rows, m);
        let cols = times(groups.part(i / strips.parts), table.dots.len(), n);
        // The rows come in strips; what is left over, or all if there are few, one by one.
        let left = rows.end - rows.len() % table.dot_rows;
        let wide = if left > rows.start { table.dots.len() } else { table.row_dots.len() };
        let mut packed = None;
        for group in Even::at_most(cols.len(), wide).iter() {
            let (col, width) = (cols.start + group.start, group.len());
            // SAFETY: these columns of B.
            let b = unsafe { piece(job, job.b.transposed().from(col, 0), width, k, &mut packed)? };
            let multiply = |row: usize, kernels: &[Multiply<S::Real>]| {
                let a = a.from(row, 0);
                let c = sums.at(row * n + col);
                let tile =
                    Tile { k, n: width, a: a.at, lda: a.rs, b: b.at, ldb: b.rs, c, ldc: n, add: false };
                // SAFETY: these rows and columns, whose part of C is this task's.
                unsafe { kernels[width - 1](&tile) }
            };
            (rows.start..left).step_by(table.dot_rows).for_each(|row| multiply(row, table.dots));
            (left..rows.end).for_each(|row| multiply(row, table.row_dots));
        }
        // SAFETY: these elements are finished, and this task's.
        unsafe { job.finish(sums, rows, cols) };
        Ok(())
    })
}

/// A with contiguous rows, and what holds them if that is a copy.
unsafe fn rows_of_a<S: Operand>(job: &Job<S>) -> Result<(Matrix<S::Real>, Option<Memory>)> {
    let mut memory = None;
    // SAFETY: the whole of A.
    let a = unsafe { piece(job, job.a, job.m, job.k, &mut memory)? };
    Ok((a, memory))
}

/// The matrix with contiguous rows of real numbers: where it is, or copied to `memory`, which is to be
/// large enough from its first use on.
unsafe fn piece<S: Operand>(
    job: &Job<S>,
    matrix: Matrix<S>,
    rows: usize,
    cols: usize,
    memory: &mut Option<Memory>,
) -> Result<Matrix<S::Real>> {
    if let Some(matrix) = S::in_place(matrix)
        && matrix.cs == 1
    {
        return Ok(matrix);
    }
    let ld = cols.next_multiple_of(job.table.lanes);
    let to = match memory {
        Some(memory) => memory,
        None => memory.insert(scratch::<S::Real>(rows * ld)?),
    };
    let to = to.ptr().cast();
    // SAFETY: the matrix is as large as the caller says, and so is the memory.
    unsafe { pack(job.table, matrix, rows, cols, to, ld) }
    Ok(Matrix { at: to, rs: ld as isize, cs: 1 })
}

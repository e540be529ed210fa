//! Products of few rows or few columns, where each element of the large operand is used so seldom that
//! copying it first would cost as much as the product: matrix times vector, and `A Bᵀ` with few rows.

use super::kernel::Tile;
use super::pack::{Even, Matrix, Operand, pack, scratch};
use super::{Job, TASK};
use crate::core::Result;
use crate::cpu::Memory;
use crate::cpu::threads::parallel;
use crate::cpu::work::Shared;

/// Elements of a matrix that one thread multiplies by a vector before it looks for more work: the
/// time is that of reading them.
const READ: usize = 128 << 10;

/// Does the product if it is thin; `None` if it is not, or its dtype a half.
///
/// # Safety
/// As for `matmul`; m, n and k are not zero.
pub unsafe fn thin<S: Operand>(job: &Job<S>) -> Option<Result<()>> {
    let &Job { m, n, k, c, table, done, first, .. } = job;
    let (a, b) = (S::in_place(job.a)?, S::in_place(job.b)?);
    let job = Job::<S::Real> { m, n, k, a, b, c: Shared::new(c.at(0).cast()), table, done, first };
    // Adding up the lanes at the end costs less the longer the sums are. Against many rows stands that
    // they leave the first level of cache, against many columns that tiles use more of their lanes.
    let long = k >= 16 * table.lanes;
    let few_rows = b.rs == 1 && m <= if long { 32 } else { 16 };
    let few_cols = a.cs == 1 && n <= if long { table.lanes * 3 / 4 } else { table.lanes / 4 };
    // SAFETY: the caller's promises.
    unsafe {
        if m == 1 && b.cs == 1 {
            Some(row(&job))
        } else if (few_rows || few_cols) && k >= 2 * table.lanes {
            Some(dots(&job))
        } else {
            None
        }
    }
}

/// A vector times a matrix whose rows are contiguous. Tasks are runs of columns.
unsafe fn row<T: Operand<Real = T>>(job: &Job<T>) -> Result<()> {
    let &Job { n, k, b, c, table, .. } = job;
    // SAFETY: the caller's promises.
    let (a, _memory) = unsafe { contiguous(job, job.a, 1)? };
    // Long enough runs for memory, short enough ones for C to stay in the first level of cache.
    let cols = Even::at_most(n, (READ / k).clamp(1024, 4096));
    parallel(cols.parts, |i| {
        let cols = cols.part(i);
        let b = b.from(0, cols.start);
        let at = c.at(cols.start);
        // SAFETY: these columns of B and C; nobody else has them.
        unsafe {
            (table.row)(&Tile {
                k,
                n: cols.len(),
                a: a.from(0, 0).at,
                lda: 0,
                b: b.at,
                ldb: b.rs,
                c: at,
                ldc: n,
                add: false,
            });
            job.finish(c.at(0), 0..1, cols);
        }
    });
    Ok(())
}

/// Dot products of rows of A with columns of B, both contiguous. Tasks are runs of columns, or of rows
/// if there are more of these.
unsafe fn dots<T: Operand<Real = T>>(job: &Job<T>) -> Result<()> {
    let &Job { m, n, k, c, table, .. } = job;
    // SAFETY: the caller's promises. At most one of the two is packed: `thin` wants the other as it is.
    let ((a, _memory), (bt, _other)) =
        unsafe { (contiguous(job, job.a, m)?, contiguous(job, job.b.transposed(), n)?) };
    let tasks = (m * n * k / TASK).max((m + n) * k / READ).max(1);
    let (rows, cols) = if m > n {
        (Even::new(m, tasks.min(m.div_ceil(table.dot_rows))), Even::new(n, 1))
    } else {
        (Even::new(m, 1), Even::new(n, tasks.min(n.div_ceil(table.dots.len()))))
    };
    parallel(rows.parts * cols.parts, |i| {
        let (rows, cols) = (rows.part(i % rows.parts), cols.part(i / rows.parts));
        // The rows come in strips; what is left over, or all if there are few, one by one.
        let strips = rows.len() / table.dot_rows;
        let wide = if strips > 0 { table.dots.len() } else { table.row_dots.len() };
        let groups = Even::at_most(cols.len(), wide);
        for group in (0..groups.parts).map(|g| groups.part(g)) {
            let width = group.len();
            let col = cols.start + group.start;
            let b = bt.from(col, 0);
            let multiply = |row: usize, kernel: super::table::Multiply<T>| {
                let a = a.from(row, 0);
                let at = c.at(row * n + col);
                let tile =
                    Tile { k, n: width, a: a.at, lda: a.rs, b: b.at, ldb: b.rs, c: at, ldc: n, add: false };
                // SAFETY: these rows and columns, whose part of C is this task's.
                unsafe { kernel(&tile) }
            };
            let left = rows.start + strips * table.dot_rows;
            (rows.start..left).step_by(table.dot_rows).for_each(|row| multiply(row, table.dots[width - 1]));
            (left..rows.end).for_each(|row| multiply(row, table.row_dots[width - 1]));
        }
        // SAFETY: these elements are finished, and this task's.
        unsafe { job.finish(c.at(0), rows, cols) }
    });
    Ok(())
}

/// The matrix of `rows` rows if each is contiguous, else such a copy and what holds it.
unsafe fn contiguous<T: Operand<Real = T>>(
    job: &Job<T>,
    matrix: Matrix<T>,
    rows: usize,
) -> Result<(Matrix<T>, Option<Memory>)> {
    if matrix.cs == 1 {
        return Ok((matrix, None));
    }
    let ld = job.k.next_multiple_of(job.table.lanes);
    let memory = scratch::<T>(rows * ld)?;
    let to = memory.ptr().cast();
    // SAFETY: the matrix is as large as the caller says, and so is the memory.
    unsafe { pack(job.table, matrix, rows, job.k, to, ld) }
    Ok((Matrix { at: to, rs: ld as isize, cs: 1 }, Some(memory)))
}

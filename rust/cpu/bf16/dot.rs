//! Blocks of C by AVX-512 BF16: a vector holds pairs of 16 columns of B, a pair of A is repeated for all of them, and
//! one instruction adds both products to 16 sums. 8 rows by 32 columns at a time, so that 16 sums are in flight.

use super::{EDGE, Left, STEP, UNIT};
use std::arch::x86_64::*;

const ROWS: usize = 8;

/// # Safety
/// As for `Session::multiply`; the processor has AVX-512 BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub unsafe fn multiply(a: Left, b: *const u16, steps: usize, c: *mut f32, add: bool) {
    for first in (0..EDGE).step_by(ROWS) {
        // SAFETY: rows `first .. first + ROWS` of the strip and of the block, which the caller vouches for.
        unsafe {
            let at = a.at.offset(first as isize * a.row);
            rows(Left { at, ..a }, b, steps, c.add(first * EDGE), add);
        }
    }
}

/// # Safety
/// The same for `ROWS` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn rows(a: Left, b: *const u16, steps: usize, c: *mut f32, add: bool) {
    // SAFETY: the caller's promises; a pair is read as the four bytes that it is.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        if add {
            for (i, row) in sums.iter_mut().enumerate() {
                *row = [_mm512_loadu_ps(c.add(i * EDGE)), _mm512_loadu_ps(c.add(i * EDGE + 16))];
            }
        }
        for step in 0..steps {
            let (from, b) = (a.at.offset(step as isize * a.step), b.add(step * UNIT));
            for pair in 0..STEP / 2 {
                let load = |at: *const u16| bits(_mm512_loadu_si512(at.cast()));
                let columns = [load(b.add(32 * pair)), load(b.add(UNIT / 2 + 32 * pair))];
                for (i, row) in sums.iter_mut().enumerate() {
                    let at = from.offset(i as isize * a.row).add(2 * pair);
                    let both = bits(_mm512_set1_epi32(at.cast::<i32>().read_unaligned()));
                    for (sum, &columns) in row.iter_mut().zip(&columns) {
                        *sum = _mm512_dpbf16_ps(*sum, both, columns);
                    }
                }
            }
        }
        for (i, row) in sums.iter().enumerate() {
            _mm512_storeu_ps(c.add(i * EDGE), row[0]);
            _mm512_storeu_ps(c.add(i * EDGE + 16), row[1]);
        }
    }
}

#[inline(always)]
unsafe fn bits(x: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits of any kind.
    unsafe { std::mem::transmute(x) }
}

//! Operands in the order that the blocks read, and blocks rounded to bfloat16. Everything moves through squares of
//! 16 pairs by 16: a source whose neighbours lie along k is turned around where its pairs should lie side by side.

use super::{EDGE, STEP, UNIT};
use std::arch::x86_64::*;

/// Rows or columns of an operand, with the elements of k: from one along k to the next, and from a row or a column
/// to the next, in elements. Strides may be zero or negative.
#[derive(Clone, Copy)]
pub struct Source {
    pub at: *const u16,
    pub along: isize,
    pub across: isize,
}

impl Source {
    pub fn from(self, k: usize, i: usize) -> Source {
        let at = self.at.wrapping_offset(k as isize * self.along + i as isize * self.across);
        Source { at, ..self }
    }
}

/// 16 pairs by 16: `[p][j]` holds elements 2p and 2p + 1 of k of row or column j.
type Square = [__m512i; 16];

/// A panel of B, of at most 32 columns, in steps of 32 along k; what is missing is zeros.
///
/// # Safety
/// The source has `depth` × `columns` elements, `dst` has `UNIT` for each step begun, the processor AVX-512 BW.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub unsafe fn pack_right(src: Source, depth: usize, columns: usize, dst: *mut u16) {
    for (step, k) in (0..depth).step_by(STEP).enumerate() {
        for (half, j) in [0, 16].into_iter().enumerate() {
            // SAFETY: the caller's promises: a tile of the source, and its place.
            unsafe {
                let to = dst.add(step * UNIT + half * (UNIT / 2));
                let width = columns.saturating_sub(j).min(16);
                let (mut square, turned) = square(src.from(k, j), STEP.min(depth - k), width);
                if turned {
                    transpose(&mut square);
                }
                store(&square, to);
            }
        }
    }
}

/// A strip of A, of at most 32 rows, in steps of 32 along k; what is missing is zeros.
///
/// # Safety
/// As for `pack_right`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub unsafe fn pack_left(src: Source, depth: usize, rows: usize, dst: *mut u16) {
    for (step, k) in (0..depth).step_by(STEP).enumerate() {
        for (half, i) in [0, 16].into_iter().enumerate() {
            // SAFETY: the caller's promises.
            unsafe {
                let to = dst.add(step * UNIT + half * (UNIT / 2));
                let height = rows.saturating_sub(i).min(16);
                let (mut square, turned) = square(src.from(k, i), STEP.min(depth - k), height);
                if !turned {
                    transpose(&mut square);
                }
                store(&square, to);
            }
        }
    }
}

/// A square of `ks` elements along k of `count` rows or columns, as it comes, and whether that is turned around:
/// `[j][p]`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn square(src: Source, ks: usize, count: usize) -> (Square, bool) {
    let mut out = [_mm512_setzero_si512(); 16];
    // SAFETY: the caller's promises; masked elements are not read.
    unsafe {
        if src.along == 1 {
            for (j, row) in out.iter_mut().enumerate().take(count) {
                let at = src.at.offset(j as isize * src.across);
                *row = _mm512_maskz_loadu_epi16(first(ks), at.cast());
            }
            return (out, true);
        }
        if src.across == 1 {
            for (p, row) in out.iter_mut().enumerate().take(ks.div_ceil(2)) {
                let at = src.at.offset(2 * p as isize * src.along);
                let next = at.wrapping_offset(src.along);
                let mask = first(count) as u16;
                let low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, at.cast()));
                let mask = if 2 * p + 1 < ks { mask } else { 0 };
                let high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, next.cast()));
                *row = _mm512_or_si512(low, _mm512_slli_epi32::<16>(high));
            }
            return (out, false);
        }
        for (j, row) in out.iter_mut().enumerate().take(count) {
            let mut near = [0u16; STEP];
            for (k, near) in near.iter_mut().enumerate().take(ks) {
                *near = *src.from(k, j).at;
            }
            *row = _mm512_loadu_si512(near.as_ptr().cast());
        }
        (out, true)
    }
}

/// The first n of 32.
pub fn first(n: usize) -> u32 {
    ((1u64 << n) - 1) as u32
}

#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn store(square: &Square, to: *mut u16) {
    for (i, row) in square.iter().enumerate() {
        // SAFETY: the caller vouches for 16 rows of 32 elements.
        unsafe { _mm512_storeu_si512(to.add(32 * i).cast(), *row) }
    }
}

/// Indices into the pair `(a, b)` that exchange blocks of `width` of them.
const fn indices(width: usize, high: bool) -> [u32; 16] {
    let mut index = [0; 16];
    let mut i = 0;
    while i < 16 {
        let from = if high { i | width } else { i & !width };
        index[i] = if i & width == 0 { from } else { from + 16 } as u32;
        i += 1;
    }
    index
}

/// Rows and columns of pairs exchanged.
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose(square: &mut Square) {
    exchange::<8>(square);
    exchange::<4>(square);
    exchange::<2>(square);
    exchange::<1>(square);
}

/// One round: quarters of the squares of 2·WIDTH off the diagonal change places.
#[target_feature(enable = "avx512f")]
#[inline]
fn exchange<const WIDTH: usize>(square: &mut Square) {
    // SAFETY: sixteen indices are as large as a vector.
    let index = |high: bool| unsafe {
        std::mem::transmute::<[u32; 16], __m512i>(if high {
            const { indices(WIDTH, true) }
        } else {
            const { indices(WIDTH, false) }
        })
    };
    let (low, high) = (index(false), index(true));
    for i in (0..16).filter(|i| i & WIDTH == 0) {
        let (a, b) = (square[i], square[i + WIDTH]);
        square[i] = _mm512_permutex2var_epi32(a, low, b);
        square[i + WIDTH] = _mm512_permutex2var_epi32(a, high, b);
    }
}

/// Two rows of 32 columns as one row of pairs of a panel's step: columns 0 to 15 at `dst`, the others half a step on.
///
/// # Safety
/// The processor has AVX-512 BW; 32 elements are there at `dst` and as many `UNIT / 2` further on.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
pub unsafe fn pairs(even: __m512i, odd: __m512i, dst: *mut u16) {
    let wide = |x: __m256i| _mm512_cvtepu16_epi32(x);
    let both = |low: __m512i, high: __m512i| _mm512_or_si512(low, _mm512_slli_epi32::<16>(high));
    let first = both(wide(_mm512_castsi512_si256(even)), wide(_mm512_castsi512_si256(odd)));
    let second = both(wide(_mm512_extracti64x4_epi64::<1>(even)), wide(_mm512_extracti64x4_epi64::<1>(odd)));
    // SAFETY: the caller's promises.
    unsafe {
        _mm512_storeu_si512(dst.cast(), first);
        _mm512_storeu_si512(dst.add(UNIT / 2).cast(), second);
    }
}

/// 16 columns of 32 elements along k as a tile of a panel.
///
/// # Safety
/// The processor has AVX-512, and `dst` room for `UNIT / 2` elements.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
pub unsafe fn turned(mut columns: [__m512i; 16], dst: *mut u16) {
    transpose(&mut columns);
    // SAFETY: the caller's promises.
    unsafe { store(&columns, dst) };
}

/// 32 elements of a packed strip's row.
///
/// # Safety
/// The processor has AVX-512, and `dst` room for them.
#[target_feature(enable = "avx512f")]
#[inline]
pub unsafe fn store_row(row: __m512i, dst: *mut u16) {
    // SAFETY: the caller's promises.
    unsafe { _mm512_storeu_si512(dst.cast(), row) }
}

/// The first rows of a block and the columns of a mask, rounded to nearest even, to rows `ld` apart; column 0 goes to
/// `dst`.
///
/// # Safety
/// The processor has AVX-512 BW; `c` is a block, and elements of the mask are there in `rows` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub unsafe fn round(c: *const f32, rows: usize, mask: u32, dst: *mut u16, ld: usize) {
    // SAFETY: the caller's promises; masked elements are not written.
    unsafe {
        for i in 0..rows {
            let row = c.add(i * EDGE);
            let low = rounded(_mm512_loadu_ps(row));
            let high = rounded(_mm512_loadu_ps(row.add(16)));
            let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
            _mm512_mask_storeu_epi16(dst.wrapping_add(i * ld).cast(), mask, both);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
fn rounded(x: __m512) -> __m256i {
    let bits = _mm512_castps_si512(x);
    // Just under half a unit, or half a unit if the last bit kept is odd.
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let near = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    // A NaN keeps its sign and gets a bit that survives.
    let nan = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
    let near = _mm512_mask_mov_epi32(near, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x), nan);
    _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(near))
}

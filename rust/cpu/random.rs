//! Random numbers: words of Philox (`core::rng`) at their positions in the stream, many counters at once,
//! and the distributions made of them. Element i depends on key and `offset + i` alone, so neither
//! threads nor chunks show.
//!
//! Position p takes word p, or words 2p and 2p + 1 where 64 bits are needed; two normals are made of the
//! two words of the even position.

use super::stored::StoredFloat;
use super::threads::parallel;
use super::view::Out;
use super::work::{GRAIN, Shared, vectorized};
use crate::bail;
use crate::core::rng::{self, normal_pair, uniform_f32, uniform_f64};
use crate::core::{DType, Result};
use crate::ir::kernel::Distribution;
use half::{bf16, f16};

/// Draws `distribution` into `out`; its element 0 is at position `offset` of the stream of `key`.
pub fn random(distribution: Distribution, key: u64, offset: u64, out: &Out) -> Result<()> {
    use Distribution::*;
    let draw = Draw { key, offset, out };
    match (distribution, out.dtype) {
        (Bits, DType::Bool) => draw.each(1, |w, i| (w[i] & 1) as u8),
        (Bits, DType::U8 | DType::I8) => draw.each(1, |w, i| w[i] as u8),
        (Bits, DType::U16 | DType::I16) => draw.each(1, |w, i| w[i] as u16),
        (Bits, DType::U32 | DType::I32) => draw.each(1, |w, i| w[i]),
        (Bits, DType::U64 | DType::I64) => draw.each(2, |w, i| word_pair(w, i)),
        (Uniform, DType::F16) => draw.each(1, |w, i| uniform_f16(w[i])),
        (Uniform, DType::BF16) => {
            draw.each(1, |w, i| bf16::from_bits((uniform_f32(w[i]).to_bits() >> 16) as u16))
        }
        (Uniform, DType::F32) => draw.each(1, |w, i| uniform_f32(w[i])),
        (Uniform, DType::F64) => draw.each(2, |w, i| uniform_f64(w[2 * i], w[2 * i + 1])),
        (Normal, DType::F16) => draw.normals::<f16>(),
        (Normal, DType::BF16) => draw.normals::<bf16>(),
        (Normal, DType::F32) => draw.normals::<f32>(),
        (Normal, DType::F64) => draw.normals::<f64>(),
        (Integer { low, span }, dtype) if dtype.is_int() => match dtype.size() {
            1 => draw.each(2, |w, i| within(w, i, low, span) as u8),
            2 => draw.each(2, |w, i| within(w, i, low, span) as u16),
            4 => draw.each(2, |w, i| within(w, i, low, span) as u32),
            _ => draw.each(2, |w, i| within(w, i, low, span) as u64),
        },
        (Bits, dtype) => bail!(DType, "random: bits are for integers and bool, not {dtype}"),
        (Integer { .. }, dtype) => bail!(DType, "random: integers are for integer dtypes, not {dtype}"),
        (Uniform | Normal, dtype) => bail!(DType, "random: takes a float dtype, not {dtype}"),
    }
    Ok(())
}

/// Words made at a time: they stay in the first level cache.
const WORDS: usize = 2048;
/// Counters that run side by side.
const SIDE: usize = 16;

#[inline(always)]
fn word_pair(words: &[u32], i: usize) -> u64 {
    (words[2 * i] as u64) << 32 | words[2 * i + 1] as u64
}

/// `low + ⌊draw · span / 2⁶⁴⌋`.
#[inline(always)]
fn within(words: &[u32], i: usize, low: i64, span: u64) -> i64 {
    let scaled = (word_pair(words, i) as u128 * span as u128) >> 64;
    low.wrapping_add(scaled as i64)
}

/// Rounded towards 0, so that it stays below 1.
#[inline(always)]
fn uniform_f16(word: u32) -> f16 {
    // In units of 2⁻²⁴, which is also float16's smallest number.
    let units = word >> 8;
    let bits = uniform_f32(word).to_bits() >> 13;
    f16::from_bits(if units < 1 << 10 { units as u16 } else { (bits.wrapping_sub((127 - 15) << 10)) as u16 })
}

struct Draw<'a> {
    key: u64,
    offset: u64,
    out: &'a Out<'a>,
}

impl Draw<'_> {
    /// Element i of the result is `f(words, i)` of words of which each element has `per`.
    fn each<T: Copy + Send>(&self, per: usize, f: impl Fn(&[u32], usize) -> T + Sync) {
        self.parts(|position, part: &mut [T]| {
            let mut words = [0; WORDS + 4 * SIDE];
            for (b, part) in part.chunks_mut(WORDS / per).enumerate() {
                let first = position.wrapping_add((b * (WORDS / per)) as u64).wrapping_mul(per as u64);
                vectorized(
                    #[inline(always)]
                    || {
                        let words = stream(self.key, first, part.len() * per, &mut words);
                        for (i, x) in part.iter_mut().enumerate() {
                            *x = f(words, i);
                        }
                    },
                );
            }
        });
    }

    fn normals<T: StoredFloat>(&self) {
        self.parts(|position, part: &mut [T]| {
            let mut words = [0; WORDS + 4 * SIDE];
            let mut at = 0;
            while at < part.len() {
                // From an even position on; the first normal of the first pair may not be asked for.
                let odd = (position.wrapping_add(at as u64) & 1) as usize;
                let n = (WORDS - odd).min(part.len() - at);
                let first = position.wrapping_add(at as u64) & !1;
                let words = stream(self.key, first, (n + odd).next_multiple_of(2), &mut words);
                let mut skip = odd;
                let mut to = part[at..at + n].iter_mut();
                for pair in words.chunks_exact(2) {
                    let (a, b) = normal_pair(pair[0], pair[1]);
                    for x in [a, b].into_iter().skip(std::mem::take(&mut skip)) {
                        if let Some(to) = to.next() {
                            *to = T::nearest(x);
                        }
                    }
                }
                at += n;
            }
        });
    }

    /// Calls `f(position of its first element, part)` for parts of the result, on all threads.
    fn parts<T: Copy + Send>(&self, f: impl Fn(u64, &mut [T]) + Sync) {
        let (count, to) = (self.out.shape.count(), Shared::new(self.out.ptr.cast::<T>()));
        parallel(count.div_ceil(GRAIN / 2), |chunk| {
            let first = chunk * (GRAIN / 2);
            // SAFETY: the result has `count` elements, and chunks do not overlap.
            let part = unsafe { to.slice(first, (GRAIN / 2).min(count - first)) };
            f(self.offset.wrapping_add(first as u64), part);
        });
    }
}

/// Words `first .. first + count` of the stream of `key`.
#[inline(always)]
fn stream(key: u64, first: u64, count: usize, words: &mut [u32; WORDS + 4 * SIDE]) -> &[u32] {
    let skip = (first % 4) as usize;
    let blocks = (skip + count).div_ceil(4);
    let (groups, _) = words.as_chunks_mut::<{ 4 * SIDE }>();
    for (g, group) in groups.iter_mut().take(blocks.div_ceil(SIDE)).enumerate() {
        philox_blocks(key, (first / 4).wrapping_add((g * SIDE) as u64), group);
    }
    &words[skip..skip + count]
}

/// `rng::block` of the counters from `first` on. Nothing crosses from one counter to the next, so the
/// compiler runs them side by side.
#[inline(always)]
fn philox_blocks(key: u64, first: u64, words: &mut [u32; 4 * SIDE]) {
    let (blocks, _) = words.as_chunks_mut::<4>();
    for (i, words) in blocks.iter_mut().enumerate() {
        *words = rng::block(key, first.wrapping_add(i as u64));
    }
}

//! Random numbers: words of Philox (`core::rng`) at their positions in the stream, many counters at once,
//! and the distributions made of them. Element i depends on key and `offset + i` alone, so neither
//! threads nor chunks show.
//!
//! Position p takes word p, or words 2p and 2p + 1 where 64 bits are needed; two normals are made of the
//! two words of an even position and the next. Normals may differ in the last bit of float64 between
//! instruction sets; all else is the same everywhere.

use super::isa;
use super::lanes::{Arch, Lanes, OnLanes, Vector, dispatch};
use super::stored::StoredFloat;
use super::threads::parallel;
use super::view::Out;
use super::work::{GRAIN, Shared, vectorized};
use crate::bail;
use crate::core::rng::{self, uniform_f32, uniform_f64};
use crate::core::{DType, Result};
use crate::ir::kernel::Distribution;
use crate::ir::value::Float;
use half::{bf16, f16};
use std::f64::consts::TAU;

/// Draws `distribution` into `out`; its element 0 is at position `offset` of the stream of `key`.
pub fn random(distribution: Distribution, key: u64, offset: u64, out: &Out) -> Result<()> {
    use Distribution::*;
    let draw = Draw { key, offset, out };
    match (distribution, out.dtype) {
        (Bits, DType::Bool) => draw.each(1, |w, i| (w[i] & 1) as u8),
        (Bits, DType::U8 | DType::I8) => draw.each(1, |w, i| w[i] as u8),
        (Bits, DType::U16 | DType::I16) => draw.each(1, |w, i| w[i] as u16),
        (Bits, DType::U32 | DType::I32) => draw.each(1, |w, i| w[i]),
        (Bits, DType::U64 | DType::I64) => draw.each(2, word_pair),
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
                let mut normals = [0.0; WORDS];
                dispatch(isa::get(), Pairs { words, normals: &mut normals });
                for (x, &normal) in part[at..at + n].iter_mut().zip(&normals[odd..]) {
                    *x = T::nearest(normal);
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

/// Two normals of each two words: `rng::normal_pair` in vectors of float64.
struct Pairs<'a> {
    words: &'a [u32],
    normals: &'a mut [f64; WORDS],
}

impl OnLanes for Pairs<'_> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        const STRIP: usize = 64;
        let [mut radius, mut angle] = [[0.0; STRIP]; 2];
        for (words, normals) in self.words.chunks(2 * STRIP).zip(self.normals.chunks_mut(2 * STRIP)) {
            for (i, pair) in words.chunks_exact(2).enumerate() {
                // 1 − u lies in (0, 1], so the logarithm is finite.
                radius[i] = 1.0 - uniform_f32(pair[0]) as f64;
                angle[i] = TAU * uniform_f32(pair[1]) as f64;
            }
            let [mut even, mut odd] = [[0.0; STRIP]; 2];
            for at in (0..STRIP).step_by(A::F64::WIDTH) {
                // SAFETY: a strip is a multiple of any vector.
                unsafe {
                    let size = (Vector(A::F64::load(radius.as_ptr().add(at))).log() * -2.0).sqrt();
                    let angle = Vector(A::F64::load(angle.as_ptr().add(at)));
                    (size * angle.cos()).0.store(even.as_mut_ptr().add(at));
                    (size * angle.sin()).0.store(odd.as_mut_ptr().add(at));
                }
            }
            for (pair, (&a, &b)) in normals.chunks_exact_mut(2).zip(even.iter().zip(&odd)) {
                pair.copy_from_slice(&[a, b]);
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Scalar;
    use crate::core::rng::normal_pair;
    use crate::cpu::reference::{Data, on_all_threads};

    const KEY: u64 = 0x0123_4567_89ab_cdef;

    fn draw(distribution: Distribution, dtype: DType, offset: u64, count: usize) -> Vec<f64> {
        on_all_threads(|| {
            let mut y = Data::zeros(dtype, &[count]);
            random(distribution, KEY, offset, &y.out()).unwrap();
            vec![y]
        })[0]
            .list()
    }

    fn word(j: u64) -> u32 {
        rng::block(KEY, j / 4)[(j % 4) as usize]
    }

    fn pair(p: u64) -> u64 {
        (word(2 * p) as u64) << 32 | word(2 * p + 1) as u64
    }

    /// Element at position p, from the definition.
    fn expected(distribution: Distribution, dtype: DType, p: u64) -> f64 {
        let number = |x: f64| Data::new(dtype, &[1], |_| x).list()[0];
        match (distribution, dtype) {
            (Distribution::Bits, DType::Bool) => (word(p) & 1) as f64,
            (Distribution::Bits, DType::U64) => pair(p) as f64,
            (Distribution::Bits, DType::I64) => pair(p) as i64 as f64,
            (Distribution::Bits, _) => number(word(p) as f64),
            (Distribution::Uniform, DType::F32) => (word(p) >> 8) as f64 / (1 << 24) as f64,
            (Distribution::Uniform, DType::F64) => (pair(p) >> 11) as f64 / (1u64 << 53) as f64,
            (Distribution::Uniform, half) => {
                // The nearest number of the dtype that is not above the uniform one.
                let x = (word(p) >> 8) as f64 / (1 << 24) as f64;
                let y = number(x);
                if y <= x {
                    y
                } else if half == DType::F16 {
                    f16::from_bits(f16::from_f64(y).to_bits() - 1).to_f64()
                } else {
                    bf16::from_bits(bf16::from_f64(y).to_bits() - 1).to_f64()
                }
            }
            (Distribution::Normal, _) => {
                let (a, b) = normal_pair(word(p / 2 * 2), word(p / 2 * 2 + 1));
                number(if p.is_multiple_of(2) { a } else { b })
            }
            (Distribution::Integer { low, span }, _) => {
                let x = low + ((pair(p) as u128 * span as u128) >> 64) as i64;
                let mut y = Data::zeros(dtype, &[1]);
                crate::cpu::fill::fill(Scalar::Int(x), &y.out()).unwrap();
                y.list()[0]
            }
        }
    }

    fn slack(dtype: DType) -> f64 {
        match dtype {
            DType::F16 => 1e-3,
            DType::BF16 => 8e-3,
            DType::F32 => 1.2e-7,
            _ => 1e-14,
        }
    }

    #[test]
    fn elements_are_what_their_position_says() {
        let cases = |distribution, dtypes: &[DType]| {
            for &dtype in dtypes {
                for (offset, count) in
                    [(0, 1), (0, 100), (1, 3), (7, 5000), (1 << 33, 70), ((1 << 35) + 3, 35_001)]
                {
                    let got = draw(distribution, dtype, offset, count);
                    for (i, got) in got.into_iter().enumerate() {
                        let want = expected(distribution, dtype, offset + i as u64);
                        // Normals may be rounded from a float64 that is not the very same.
                        let slack = if distribution == Distribution::Normal { slack(dtype) } else { 0.0 };
                        assert!(
                            (got - want).abs() <= slack * want.abs(),
                            "{distribution:?} {dtype} {offset} {i}"
                        );
                    }
                }
            }
        };
        let floats = [DType::F16, DType::BF16, DType::F32, DType::F64];
        let integers =
            [DType::U8, DType::I8, DType::U16, DType::I16, DType::U32, DType::I32, DType::U64, DType::I64];
        cases(Distribution::Bits, &[DType::Bool]);
        cases(Distribution::Bits, &integers);
        cases(Distribution::Uniform, &floats);
        cases(Distribution::Normal, &floats);
        cases(Distribution::Integer { low: -5, span: 11 }, &integers);
        cases(Distribution::Integer { low: 1 << 40, span: 1 << 50 }, &[DType::I64, DType::U64]);
    }

    #[test]
    fn draws_do_not_overlap_and_do_not_wrap_badly() {
        let whole = draw(Distribution::Uniform, DType::F32, 0, 3000);
        let parts = [
            draw(Distribution::Uniform, DType::F32, 0, 1001),
            draw(Distribution::Uniform, DType::F32, 1001, 1999),
        ];
        assert_eq!(whole, parts.concat());
        assert_eq!(draw(Distribution::Uniform, DType::F32, u64::MAX, 3).len(), 3);
    }

    #[test]
    fn the_numbers_are_distributed_as_said() {
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            let x = draw(Distribution::Uniform, dtype, 11, 100_000);
            assert!(x.iter().all(|x| (0.0..1.0).contains(x)), "{dtype}");
            let mean = x.iter().sum::<f64>() / 1e5;
            assert!((mean - 0.5).abs() < 0.005, "{dtype} {mean}");
            let x = draw(Distribution::Normal, dtype, 11, 100_000);
            let (mean, square) = (x.iter().sum::<f64>() / 1e5, x.iter().map(|x| x * x).sum::<f64>() / 1e5);
            assert!(mean.abs() < 0.02 && (square - 1.0).abs() < 0.03, "{dtype} {mean} {square}");
            let inside = x.iter().filter(|x| x.abs() < 1.0).count() as f64 / 1e5;
            assert!((inside - 0.6827).abs() < 0.01, "{inside}");
        }
        let x = draw(Distribution::Integer { low: -2, span: 5 }, DType::I32, 0, 100_000);
        for value in -2..3 {
            let share = x.iter().filter(|&&x| x == value as f64).count() as f64 / 1e5;
            assert!((share - 0.2).abs() < 0.01, "{value}: {share}");
        }
        assert!(x.iter().all(|x| (-2.0..3.0).contains(x)));
    }

    #[test]
    fn other_dtypes_are_refused() {
        let refuse = |distribution, dtype| {
            random(distribution, 0, 0, &Data::zeros(dtype, &[1]).out()).unwrap_err().to_string()
        };
        assert_eq!(refuse(Distribution::Normal, DType::I32), "random: takes a float dtype, not int32");
        assert_eq!(refuse(Distribution::Uniform, DType::Bool), "random: takes a float dtype, not bool");
        assert_eq!(
            refuse(Distribution::Bits, DType::F32),
            "random: bits are for integers and bool, not float32"
        );
        assert_eq!(
            refuse(Distribution::Integer { low: 0, span: 2 }, DType::F32),
            "random: integers are for integer dtypes, not float32"
        );
    }
}

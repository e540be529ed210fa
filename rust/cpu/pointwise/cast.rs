//! Conversions between dtypes as loops, and scalars as bytes. Half floats are reached through float32
//! only: `wide` and `narrow` are exact and rounding to nearest even.

use super::loops::{Body, Loop, compile};
use crate::core::{DType, Scalar};
use crate::cpu::isa::Isa;
use crate::cpu::lanes::{Arch, Lanes, f32_to_f16};
use std::marker::PhantomData;

/// The loop from one dtype to another, neither of them a half float: floats to integers truncate,
/// saturate and take NaN to 0; integers wrap; anything to bool is `!= 0`.
pub fn cast(from: DType, to: DType, isa: Isa) -> Option<Loop> {
    macro_rules! to {
        ($from:ty) => {
            Some(match to {
                DType::Bool => compile::<NonZero<$from>>(isa),
                DType::U8 => compile::<Cast<$from, u8>>(isa),
                DType::U16 => compile::<Cast<$from, u16>>(isa),
                DType::U32 => compile::<Cast<$from, u32>>(isa),
                DType::U64 => compile::<Cast<$from, u64>>(isa),
                DType::I8 => compile::<Cast<$from, i8>>(isa),
                DType::I16 => compile::<Cast<$from, i16>>(isa),
                DType::I32 => compile::<Cast<$from, i32>>(isa),
                DType::I64 => compile::<Cast<$from, i64>>(isa),
                DType::F32 => compile::<Cast<$from, f32>>(isa),
                DType::F64 => compile::<Cast<$from, f64>>(isa),
                DType::F16 | DType::BF16 => return None,
            })
        };
    }
    match from {
        DType::Bool | DType::U8 => to!(u8),
        DType::U16 => to!(u16),
        DType::U32 => to!(u32),
        DType::U64 => to!(u64),
        DType::I8 => to!(i8),
        DType::I16 => to!(i16),
        DType::I32 => to!(i32),
        DType::I64 => to!(i64),
        DType::F32 => to!(f32),
        DType::F64 => to!(f64),
        DType::F16 | DType::BF16 => None,
    }
}

/// The loop from a half float to float32.
pub fn widen(from: DType, isa: Isa) -> Loop {
    if from == DType::F16 { compile::<WidenF16>(isa) } else { compile::<WidenBf16>(isa) }
}

/// The loop from float32 to a half float, to nearest even.
pub fn narrow(to: DType, isa: Isa) -> Loop {
    if to == DType::F16 { compile::<NarrowF16>(isa) } else { compile::<NarrowBf16>(isa) }
}

/// The loop from float32 to the float32 numbers that a half float has, as narrowing and widening would make them.
pub fn round(to: DType, isa: Isa) -> Loop {
    if to == DType::F16 { compile::<RoundF16>(isa) } else { compile::<RoundBf16>(isa) }
}

/// The loop from float64 to float32 that rounds to odd: an inexact result gets its last bit set.
/// Narrowing it further then rounds as the float64 itself would.
pub fn to_odd(isa: Isa) -> Loop {
    compile::<ToOdd>(isa)
}

trait To<Y> {
    fn to(self) -> Y;
}

macro_rules! conversions {
    ($($from:ident)* ; $to:tt) => { $(conversions!(@ $from $to);)* };
    (@ $from:ident ($($to:ident)*)) => {$(
        impl To<$to> for $from {
            #[inline(always)]
            fn to(self) -> $to { self as $to }
        }
    )*};
}

conversions!(u8 u16 u32 u64 i8 i16 i32 i64; (u8 u16 u32 u64 i8 i16 i32 i64 f32 f64));
conversions!(f32 f64; (f32 f64));

/// What `as` does, in steps for which there are vector instructions: the number is brought into the
/// range of `$through` first, and what lay above it is put right afterwards.
macro_rules! float_to_integer {
    ($($from:ident => $($to:ident through $through:ident)+;)*) => {$($(
        impl To<$to> for $from {
            #[inline(always)]
            fn to(self) -> $to {
                const LEAST: $from = $to::MIN as $from;
                // Rounds up to a power of two where `$from` has fewer digits than the largest integer.
                const MOST: $from = $to::MAX as $from;
                // Comparisons with NaN are false: it becomes 0.
                let x = if self > LEAST { self } else { LEAST };
                let x = if self == self { x } else { 0.0 };
                let inside = if x < MOST { x } else { 0.0 };
                // SAFETY: `inside` is a number of the range.
                let whole = unsafe { inside.to_int_unchecked::<$through>() } as $to;
                if x < MOST { whole } else { $to::MAX }
            }
        }
    )+)*};
}

float_to_integer! {
    f32 => u8 through i32 u16 through i32 u32 through u32 u64 through u64
        i8 through i32 i16 through i32 i32 through i32 i64 through i64;
    f64 => u8 through i32 u16 through i32 u32 through u32 u64 through u64
        i8 through i32 i16 through i32 i32 through i32 i64 through i64;
}

/// A loop of one simple function, which the compiler vectorises.
macro_rules! simple {
    ($([$($generics:tt)*] $name:ty: $from:ty => $to:ty, $x:ident => $result:expr;)*) => {$(
        impl<$($generics)*> Body for $name {
            #[inline(always)]
            unsafe fn run<A: Arch>(args: &[*const u8; 3], out: *mut u8, len: usize) {
                let (from, to) = (args[0].cast::<$from>(), out.cast::<$to>());
                for i in 0..len {
                    // SAFETY: the caller vouches for `len` elements of both.
                    unsafe {
                        let $x = from.add(i).read_unaligned();
                        to.add(i).write_unaligned($result);
                    }
                }
            }
        }
    )*};
}

struct Cast<X, Y>(PhantomData<(X, Y)>);
struct NonZero<X>(PhantomData<X>);
struct WidenBf16;
struct NarrowBf16;
struct RoundBf16;
struct ToOdd;

simple! {
    [X: Copy + To<Y>, Y] Cast<X, Y>: X => Y, x => x.to();
    [X: Copy + Default + PartialEq] NonZero<X>: X => u8, x => (x != X::default()) as u8;
    [] WidenBf16: u16 => f32, x => f32::from_bits((x as u32) << 16);
    [] NarrowBf16: f32 => u16, x => narrow_bf16(x);
    [] RoundBf16: f32 => f32, x => f32::from_bits((narrow_bf16(x) as u32) << 16);
    [] ToOdd: f64 => f32, x => round_to_odd(x);
}

#[inline(always)]
fn narrow_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    // Just under half a unit, or half a unit if the last bit kept is odd.
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    // A NaN keeps its sign and gets a bit that survives.
    let nan = bits >> 16 | 0x40;
    (if x.is_nan() { nan } else { rounded }) as u16
}

#[inline(always)]
fn round_to_odd(x: f64) -> f32 {
    let near = x as f32;
    let back = near as f64;
    let beyond = (back.abs() > x.abs()) as u32;
    let inexact = (back != x && !x.is_nan()) as u32;
    f32::from_bits(near.to_bits().wrapping_sub(beyond) | inexact)
}

struct WidenF16;

impl Body for WidenF16 {
    #[inline(always)]
    unsafe fn run<A: Arch>(args: &[*const u8; 3], out: *mut u8, len: usize) {
        let (from, to) = (args[0].cast::<u16>(), out.cast::<f32>());
        let width = A::F32::WIDTH;
        let mut i = 0;
        // SAFETY: the caller vouches for `len` elements of both, and the arrays hold a vector.
        unsafe {
            while i + width <= len {
                A::load_f16(from.add(i)).store(to.add(i));
                i += width;
            }
            if i < len {
                let mut rest = [0u16; 16];
                std::ptr::copy_nonoverlapping(from.add(i), rest.as_mut_ptr(), len - i);
                A::load_f16(rest.as_ptr()).store_part(to.add(i), len - i);
            }
        }
    }
}

struct NarrowF16;

impl Body for NarrowF16 {
    #[inline(always)]
    unsafe fn run<A: Arch>(args: &[*const u8; 3], out: *mut u8, len: usize) {
        let (from, to) = (args[0].cast::<f32>(), out.cast::<u16>());
        let width = A::F32::WIDTH;
        let mut i = 0;
        // SAFETY: the caller vouches for `len` elements of both, and the arrays hold a vector.
        unsafe {
            while i + width <= len {
                A::store_f16(A::F32::load(from.add(i)), to.add(i));
                i += width;
            }
            if i < len {
                let mut rest = [0u16; 16];
                A::store_f16(A::F32::load_part(from.add(i), len - i), rest.as_mut_ptr());
                std::ptr::copy_nonoverlapping(rest.as_ptr(), to.add(i), len - i);
            }
        }
    }
}

struct RoundF16;

impl Body for RoundF16 {
    #[inline(always)]
    unsafe fn run<A: Arch>(args: &[*const u8; 3], out: *mut u8, len: usize) {
        let (from, to) = (args[0].cast::<f32>(), out.cast::<f32>());
        let width = A::F32::WIDTH;
        let mut near = [0u16; 16];
        let mut i = 0;
        // SAFETY: the caller vouches for `len` elements of both, and the array holds a vector.
        unsafe {
            while i + width <= len {
                A::store_f16(A::F32::load(from.add(i)), near.as_mut_ptr());
                A::load_f16(near.as_ptr()).store(to.add(i));
                i += width;
            }
            if i < len {
                A::store_f16(A::F32::load_part(from.add(i), len - i), near.as_mut_ptr());
                A::load_f16(near.as_ptr()).store_part(to.add(i), len - i);
            }
        }
    }
}

/// The bytes of a scalar in `dtype`, by the rules of a cast; the low ones count.
pub fn scalar_bits(scalar: Scalar, dtype: DType) -> u64 {
    match dtype {
        DType::Bool => (scalar.as_f64() != 0.0) as u64,
        DType::F16 | DType::BF16 => {
            let single = match scalar {
                Scalar::Float(x) => round_to_odd(x),
                whole => single(whole),
            };
            if dtype == DType::F16 { f32_to_f16(single) as u64 } else { narrow_bf16(single) as u64 }
        }
        DType::F32 => single(scalar).to_bits() as u64,
        DType::F64 => scalar.as_f64().to_bits(),
        _ => match scalar {
            Scalar::Float(x) => match dtype {
                DType::U8 => x as u8 as u64,
                DType::U16 => x as u16 as u64,
                DType::U32 => x as u32 as u64,
                DType::U64 => x as u64,
                DType::I8 => x as i8 as u64,
                DType::I16 => x as i16 as u64,
                DType::I32 => x as i32 as u64,
                _ => x as i64 as u64,
            },
            other => other.as_i64() as u64,
        },
    }
}

fn single(scalar: Scalar) -> f32 {
    match scalar {
        Scalar::Int(i) => i as f32,
        Scalar::Uint(u) => u as f32,
        other => other.as_f64() as f32,
    }
}

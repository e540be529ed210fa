//! Vectors of numbers. [`Lanes`] is the small set of instructions that every instruction set offers for
//! floats; [`Vector`] gives them operators and the arithmetic of the table (`ir::value`), once for all
//! sets; [`Int`] and [`Truth`] do the same for integers and bool, which the compiler vectorises itself.
//! The elementary functions are `cpu::math`, the loops over memory `cpu::pointwise`.
//!
//! Nothing here may end up as a call of its own: vectors travel through memory between functions that
//! are compiled for different levels. So everything is `#[inline(always)]` and takes no closures, and
//! the roots of all loops are the `#[target_feature]` functions behind [`dispatch`].

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod float;
mod int;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use int::{Int, Truth};
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use portable::{Portable, f16_to_f32, f32_to_f16};

use super::isa::Isa;
use super::math::Elementary;

/// The element type of a float vector.
pub trait Real: Elementary + Copy + PartialOrd + Default + 'static {
    /// The vector of such elements on an instruction set.
    type In<A: Arch>: Lanes<Elem = Self>;

    /// Adding 1.5 · 2ᵐ, where m is the number of mantissa bits, leaves a small integer in the low bits.
    const MAGIC: f64;
    /// The exponent of 1.0 as stored.
    const BIAS: f64;
    /// The smallest normal number.
    const TINY: f64;

    fn of(x: f64) -> Self;
    fn to_f64(self) -> f64;
    /// The number with this bit pattern; a 32-bit type takes the low half.
    fn from_bits(bits: u64) -> Self;
    const BITS: i32;
    /// Bits of the fraction, which are the lowest.
    const FRACTION_BITS: i32;
}

impl Real for f32 {
    type In<A: Arch> = A::F32;
    const MAGIC: f64 = 12582912.0;
    const BIAS: f64 = 127.0;
    const TINY: f64 = f32::MIN_POSITIVE as f64;
    const BITS: i32 = 32;
    const FRACTION_BITS: i32 = 23;

    #[inline(always)]
    fn of(x: f64) -> f32 {
        x as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self as f64
    }
    #[inline(always)]
    fn from_bits(bits: u64) -> f32 {
        f32::from_bits(bits as u32)
    }
}

impl Real for f64 {
    type In<A: Arch> = A::F64;
    const MAGIC: f64 = 6755399441055744.0;
    const BIAS: f64 = 1023.0;
    const TINY: f64 = f64::MIN_POSITIVE;
    const BITS: i32 = 64;
    const FRACTION_BITS: i32 = 52;

    #[inline(always)]
    fn of(x: f64) -> f64 {
        x
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn from_bits(bits: u64) -> f64 {
        f64::from_bits(bits)
    }
}

/// One vector of floats, as its instruction set sees it. The functions that are given a body here are
/// the general way; a set overrides them where it has an instruction.
///
/// Calling anything needs a processor that has the instructions, which [`dispatch`] sees to.
pub trait Lanes: Copy {
    type Elem: Real;
    /// One truth value a lane.
    type Mask: Copy;
    /// Two of these hold the lanes as float64.
    type Double: Lanes<Elem = f64>;
    const WIDTH: usize;
    /// Whether `split` takes all numbers: exponents of 0 and ∞ are −∞ and ∞, and parts of what is NaN or below 0 are NaN.
    const SPLITS_ALL: bool = false;
    /// Whether `scale` is one instruction.
    const SCALES: bool = false;

    fn splat(x: Self::Elem) -> Self;
    /// # Safety
    /// `WIDTH` elements are readable at `at`.
    unsafe fn load(at: *const Self::Elem) -> Self;
    /// # Safety
    /// `WIDTH` elements are writable at `at`.
    unsafe fn store(self, at: *mut Self::Elem);
    /// The first `count < WIDTH` lanes, the others 0.
    /// # Safety
    /// `count` elements are readable at `at`.
    #[inline(always)]
    unsafe fn load_part(at: *const Self::Elem, count: usize) -> Self {
        let mut lanes = [Self::Elem::default(); MAX_WIDTH];
        // SAFETY: the caller vouches for `at`, and `count < WIDTH <= MAX_WIDTH`.
        unsafe {
            std::ptr::copy_nonoverlapping(at, lanes.as_mut_ptr(), count);
            Self::load(lanes.as_ptr())
        }
    }
    /// # Safety
    /// `count < WIDTH` elements are writable at `at`.
    #[inline(always)]
    unsafe fn store_part(self, at: *mut Self::Elem, count: usize) {
        let mut lanes = [Self::Elem::default(); MAX_WIDTH];
        // SAFETY: the caller vouches for `at`, and `count < WIDTH <= MAX_WIDTH`.
        unsafe {
            self.store(lanes.as_mut_ptr());
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), at, count);
        }
    }

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self · b + c`, rounded once where the instruction set can.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// `self · b + c` where the product must not be rounded.
    #[inline(always)]
    fn fused(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }
    /// `1 / self` to half its digits at least, for numbers between 2⁻¹⁰⁰ and 2¹⁰⁰.
    #[inline(always)]
    fn reciprocal(self) -> Self {
        Vector::<Self>::of(1.0).0.div(self)
    }
    fn sqrt(self) -> Self;
    /// The larger; `other` if `other` is NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller; `other` if `other` is NaN.
    fn min(self, other: Self) -> Self;
    /// The nearest integer; halves go to the even one.
    fn round(self) -> Self;
    fn floor(self) -> Self;
    fn ceil(self) -> Self;
    fn trunc(self) -> Self;

    // On bit patterns.
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn add_bits(self, other: Self) -> Self;
    fn shl(self, by: i32) -> Self;
    /// Fills with zeros.
    fn shr(self, by: i32) -> Self;

    fn eq(self, other: Self) -> Self::Mask;
    fn lt(self, other: Self) -> Self::Mask;
    fn le(self, other: Self) -> Self::Mask;
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
    fn both(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn either(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn not(a: Self::Mask) -> Self::Mask;
    fn any(mask: Self::Mask) -> bool;
    /// Writes a byte of 0 or 1 for each lane.
    /// # Safety
    /// `WIDTH` bytes are writable at `at`.
    unsafe fn store_mask(mask: Self::Mask, at: *mut u8);

    fn to_double(self) -> [Self::Double; 2];
    /// Rounds to the element type.
    fn of_double(halves: [Self::Double; 2]) -> Self;

    /// `self · 2ⁿ` for integers n that at most double the range of exponents. In two steps, so that
    /// neither factor leaves the range and a subnormal result is rounded once.
    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        let half = n.mul(Vector::<Self>::of(0.5).0).floor();
        self.mul(half.power_of_two()).mul(n.sub(half).power_of_two())
    }

    /// `2ⁿ` for integers n whose power is a normal number.
    #[inline(always)]
    fn power_of_two(self) -> Self {
        let low = self.add(Vector::<Self>::of(Self::Elem::MAGIC).0);
        low.shl(Self::Elem::FRACTION_BITS).add_bits(Vector::<Self>::of(1.0).0)
    }

    /// Mantissa m in [¾, 3/2) and exponent e of a positive finite number `m · 2ᵉ`.
    #[inline(always)]
    fn split(self) -> (Self, Self) {
        // Subnormals become normal by a factor that is taken off the exponent again.
        let small = self.lt(Vector::<Self>::of(Self::Elem::TINY).0);
        let x = Self::select(small, self.mul(Vector::<Self>::of(1.0 / Self::Elem::TINY).0), self);
        let (m, e) = x.split_normal();
        let excess = Vector::<Self>::of(Self::Elem::BIAS - 1.0).0;
        (m, e.sub(Self::select(small, excess, Vector::<Self>::of(0.0).0)))
    }

    /// `split` of a normal number.
    #[inline(always)]
    fn split_normal(self) -> (Self, Self) {
        let bits = Self::Elem::FRACTION_BITS;
        // Half a fraction lies between the patterns of ¾ and 1: adding it moves the step between two
        // exponents from 1 to ¾.
        let moved = self.add_bits(Vector::<Self>::of_bits(1 << (bits - 1)).0);
        let magic = Vector::<Self>::of(Self::Elem::MAGIC).0;
        let biased = Vector::<Self>::of(Self::Elem::MAGIC + Self::Elem::BIAS).0;
        let e = moved.shr(bits).add_bits(magic).sub(biased);
        let m = moved.and(Vector::<Self>::of_bits((1 << bits) - 1).0).add_bits(Vector::<Self>::of(0.75).0);
        (m, e)
    }

    /// `f` of each lane, for functions that have no vector form. Slow.
    #[inline(always)]
    fn map(self, f: fn(f64) -> f64) -> Self {
        let mut lanes = [Self::Elem::default(); MAX_WIDTH];
        // SAFETY: the array holds a whole vector.
        unsafe {
            self.store(lanes.as_mut_ptr());
            for x in &mut lanes[..Self::WIDTH] {
                *x = Self::Elem::of(f(x.to_f64()));
            }
            Self::load(lanes.as_ptr())
        }
    }

    /// `f` of each pair of lanes. Slow.
    #[inline(always)]
    fn map2(self, other: Self, f: fn(f64, f64) -> f64) -> Self {
        let (mut a, mut b) = ([Self::Elem::default(); MAX_WIDTH], [Self::Elem::default(); MAX_WIDTH]);
        // SAFETY: the arrays hold a whole vector each.
        unsafe {
            self.store(a.as_mut_ptr());
            other.store(b.as_mut_ptr());
            for (x, y) in a.iter_mut().zip(&b).take(Self::WIDTH) {
                *x = Self::Elem::of(f(x.to_f64(), y.to_f64()));
            }
            Self::load(a.as_ptr())
        }
    }
}

/// The widest vector of all sets has this many lanes.
const MAX_WIDTH: usize = 16;

/// A vector with the operators and functions of the table.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Vector<S>(pub S);

/// An instruction set as a type: which vectors a loop is made of.
pub trait Arch: 'static {
    type F32: Lanes<Elem = f32>;
    type F64: Lanes<Elem = f64>;

    /// A vector of float16 as float32.
    /// # Safety
    /// A vector's number of elements is readable at `at`.
    unsafe fn load_f16(at: *const u16) -> Self::F32;
    /// Rounds to float16, to nearest even.
    /// # Safety
    /// A vector's number of elements is writable at `at`.
    unsafe fn store_f16(x: Self::F32, at: *mut u16);
}

/// A loop that is compiled once for each instruction set.
pub trait OnLanes {
    type Output;
    /// The loop on the vectors of `A`. Must be `#[inline(always)]`, and so must what it calls with
    /// vectors.
    fn run<A: Arch>(self) -> Self::Output;
}

/// Runs the version of `work` for `isa`, which must be supported here.
#[inline]
pub fn dispatch<W: OnLanes>(isa: Isa, work: W) -> W::Output {
    // SAFETY: `isa` is supported, so the processor has the instructions that are enabled.
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { on_avx512(work) },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { on_avx2(work) },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => work.run::<Neon>(),
        _ => work.run::<Portable>(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
fn on_avx512<W: OnLanes>(work: W) -> W::Output {
    work.run::<Avx512>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn on_avx2<W: OnLanes>(work: W) -> W::Output {
    work.run::<Avx2>()
}

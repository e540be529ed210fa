//! One loop over memory for each operation, dtype and instruction set: the table of `ir::elementwise`
//! expanded into functions. Half floats have none but `nextafter`'s; they pass through float32 (`cast`).

use crate::core::DType;
use crate::cpu::isa::Isa;
use crate::cpu::lanes::{Arch, Int, Lanes, Portable, Real, Truth, Vector};
use crate::ir::Elementwise;
use crate::ir::elementwise::*;
use crate::ir::value::{Bits, Literal, Number};
use std::marker::PhantomData;

/// Applies one operation to `len` elements: `out[i] = f(args[0][i], …)`. An argument may be the output.
///
/// # Safety
/// The processor has the loop's instruction set; as many arguments as the operation has are readable
/// and the output is writable for `len` elements; an argument that overlaps the output is the output.
pub type Loop = unsafe fn(args: &[*const u8; 3], out: *mut u8, len: usize);

/// A loop that is yet to be compiled for an instruction set.
pub(super) trait Body {
    /// # Safety
    /// As [`Loop`].
    unsafe fn run<A: Arch>(args: &[*const u8; 3], out: *mut u8, len: usize);
}

/// The version of a loop for `isa`.
pub(super) fn compile<B: Body>(isa: Isa) -> Loop {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
    unsafe fn avx512<B: Body>(args: &[*const u8; 3], out: *mut u8, len: usize) {
        // SAFETY: the caller's.
        unsafe { B::run::<crate::cpu::lanes::Avx512>(args, out, len) }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn avx2<B: Body>(args: &[*const u8; 3], out: *mut u8, len: usize) {
        // SAFETY: the caller's.
        unsafe { B::run::<crate::cpu::lanes::Avx2>(args, out, len) }
    }
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => avx512::<B>,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::<B>,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => B::run::<crate::cpu::lanes::Neon>,
        _ => B::run::<Portable>,
    }
}

/// What a body on float vectors gives: numbers, or truth values.
trait Stored {
    /// Bytes an element takes in memory.
    const SIZE: usize;
    /// # Safety
    /// A whole vector is writable at `at`.
    unsafe fn store(self, at: *mut u8);
    /// # Safety
    /// `count` elements are writable at `at`.
    unsafe fn store_part(self, at: *mut u8, count: usize);
}

impl<S: Lanes> Stored for Vector<S> {
    const SIZE: usize = size_of::<S::Elem>();
    #[inline(always)]
    unsafe fn store(self, at: *mut u8) {
        // SAFETY: the caller's.
        unsafe { self.0.store(at.cast()) }
    }
    #[inline(always)]
    unsafe fn store_part(self, at: *mut u8, count: usize) {
        // SAFETY: the caller's.
        unsafe { self.0.store_part(at.cast(), count) }
    }
}

struct Truths<S: Lanes>(S::Mask);

impl<S: Lanes> Stored for Truths<S> {
    const SIZE: usize = 1;
    #[inline(always)]
    unsafe fn store(self, at: *mut u8) {
        // SAFETY: the caller's.
        unsafe { S::store_mask(self.0, at) }
    }
    #[inline(always)]
    unsafe fn store_part(self, at: *mut u8, count: usize) {
        let mut bytes = [0u8; 16];
        // SAFETY: no vector has more than 16 lanes, and the caller vouches for `at`.
        unsafe {
            S::store_mask(self.0, bytes.as_mut_ptr());
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, count);
        }
    }
}

/// Loops over float vectors. `short` bodies stand in the loop over whole vectors and once more for the
/// rest; `long` ones stand once, and the loop asks each time which it is.
macro_rules! on_vectors {
    ($($name:ident: $length:ident $bound:ident($($arg:ident $place:literal),+) => $result:expr;)*) => {$(
        struct $name<O, E>(PhantomData<(O, E)>);

        impl<O: $bound, E: Real> Body for $name<O, E> {
            #[inline(always)]
            unsafe fn run<A: Arch>(args: &[*const u8; 3], out: *mut u8, len: usize) {
                $(let $arg = args[$place].cast::<E>();)+
                let width = <E::In<A> as Lanes>::WIDTH;
                // SAFETY: `i + width <= len`, or `count` elements are left.
                unsafe { on_vectors!(@$length len width out i ($($arg)+) $result) }
            }
        }
    )*};
    (@short $len:ident $width:ident $out:ident $i:ident ($($arg:ident)+) $result:expr) => {{
        let mut $i = 0;
        while $i + $width <= $len {
            $(let $arg = Vector(<E::In<A> as Lanes>::load($arg.add($i)));)+
            let y = $result;
            let to = $out.add($i * size_of_stored(&y));
            y.store(to);
            $i += $width;
        }
        if $i < $len {
            let count = $len - $i;
            $(let $arg = Vector(<E::In<A> as Lanes>::load_part($arg.add($i), count));)+
            let y = $result;
            let to = $out.add($i * size_of_stored(&y));
            y.store_part(to, count);
        }
    }};
    (@long $len:ident $width:ident $out:ident $i:ident ($($arg:ident)+) $result:expr) => {{
        let mut $i = 0;
        while $i < $len {
            let count = $len - $i;
            let whole = count >= $width;
            $(let $arg = Vector(if whole {
                <E::In<A> as Lanes>::load($arg.add($i))
            } else {
                <E::In<A> as Lanes>::load_part($arg.add($i), count)
            });)+
            let y = $result;
            let to = $out.add($i * size_of_stored(&y));
            if whole { y.store(to) } else { y.store_part(to, count) }
            $i += $width;
        }
    }};
}

#[inline(always)]
const fn size_of_stored<T: Stored>(_: &T) -> usize {
    T::SIZE
}

on_vectors! {
    VectorUnaryNumber: short UnaryNumber(x 0) => O::apply(x);
    VectorUnaryFloat: long UnaryFloat(x 0) => O::apply(x);
    VectorUnaryTest: short UnaryTest(x 0) => Truths::<E::In<A>>(O::apply(x));
    VectorBinaryNumber: short BinaryNumber(a 0, b 1) => O::apply(a, b);
    VectorBinaryFloat: long BinaryFloat(a 0, b 1) => O::apply(a, b);
    VectorBinaryCompare: short BinaryCompare(a 0, b 1) => Truths::<E::In<A>>(O::apply(a, b));
}

/// Loops over single integers, which the compiler vectorises.
macro_rules! on_integers {
    ($($name:ident: $bound:ident($($arg:ident $place:literal),+) $apply:expr, [$($condition:tt)*];)*) => {$(
        struct $name<O, T>(PhantomData<(O, T)>);

        impl<O: $bound, T: Copy> Body for $name<O, T>
        where
            $($condition)*
        {
            #[inline(always)]
            unsafe fn run<A: Arch>(args: &[*const u8; 3], out: *mut u8, len: usize) {
                $(let $arg = args[$place].cast::<T>();)+
                for i in 0..len {
                    // SAFETY: the caller's.
                    unsafe {
                        $(let $arg = $arg.add(i).read_unaligned();)+
                        put(out, i, $apply);
                    }
                }
            }
        }
    )*};
}

/// # Safety
/// `out` is writable for `i + 1` elements.
#[inline(always)]
unsafe fn put<T>(out: *mut u8, i: usize, value: T) {
    // SAFETY: the caller's.
    unsafe { out.cast::<T>().add(i).write_unaligned(value) }
}

on_integers! {
    IntUnaryNumber: UnaryNumber(x 0) O::apply(Int(x)).0, [Int<T>: Number, f64: Literal<Int<T>>];
    IntUnaryBits: UnaryBits(x 0) O::apply(Int(x)).0, [Int<T>: Bits];
    IntBinaryNumber: BinaryNumber(a 0, b 1) O::apply(Int(a), Int(b)).0, [Int<T>: Number, f64: Literal<Int<T>>];
    IntBinaryBits: BinaryBits(a 0, b 1) O::apply(Int(a), Int(b)).0, [Int<T>: Bits];
    IntBinaryCompare: BinaryCompare(a 0, b 1) O::apply(Int(a), Int(b)) as u8,
        [Int<T>: Number<Mask = bool>, f64: Literal<Int<T>>];
}

struct TruthUnary<O>(PhantomData<O>);

impl<O: UnaryBits> Body for TruthUnary<O> {
    #[inline(always)]
    unsafe fn run<A: Arch>(args: &[*const u8; 3], out: *mut u8, len: usize) {
        let x = args[0];
        for i in 0..len {
            // SAFETY: the caller's.
            unsafe { put(out, i, O::apply(Truth(*x.add(i))).0) }
        }
    }
}

struct TruthBinary<O>(PhantomData<O>);

impl<O: BinaryBits> Body for TruthBinary<O> {
    #[inline(always)]
    unsafe fn run<A: Arch>(args: &[*const u8; 3], out: *mut u8, len: usize) {
        let (a, b) = (args[0], args[1]);
        for i in 0..len {
            // SAFETY: the caller's.
            unsafe { put(out, i, O::apply(Truth(*a.add(i)), Truth(*b.add(i))).0) }
        }
    }
}

/// `where`: only bits move, so it goes by width.
struct Select<T>(PhantomData<T>);

impl<T: Copy> Body for Select<T> {
    #[inline(always)]
    unsafe fn run<A: Arch>(args: &[*const u8; 3], out: *mut u8, len: usize) {
        let (condition, yes, no) = (args[0], args[1].cast::<T>(), args[2].cast::<T>());
        for i in 0..len {
            // SAFETY: the caller's.
            unsafe {
                let (yes, no) = (yes.add(i).read_unaligned(), no.add(i).read_unaligned());
                put(out, i, if *condition.add(i) != 0 { yes } else { no });
            }
        }
    }
}

/// `nextafter` on half floats, whose largest finite number is one pattern below `INF`.
struct NextHalf<const INF: u16>;

impl<const INF: u16> Body for NextHalf<INF> {
    #[inline(always)]
    unsafe fn run<A: Arch>(args: &[*const u8; 3], out: *mut u8, len: usize) {
        let (a, b) = (args[0].cast::<u16>(), args[1].cast::<u16>());
        for i in 0..len {
            // SAFETY: the caller's.
            unsafe { put(out, i, next_half::<INF>(a.add(i).read_unaligned(), b.add(i).read_unaligned())) }
        }
    }
}

/// One more or less in the pattern is one step away from zero or towards it.
#[inline(always)]
fn next_half<const INF: u16>(a: u16, b: u16) -> u16 {
    let (size, other) = (a & 0x7fff, b & 0x7fff);
    // In the order of the numbers, and both zeros as 0.
    let place = |bits: u16, size: u16| if bits >> 15 == 1 { -(size as i32) } else { size as i32 };
    let (here, there) = (place(a, size), place(b, other));
    if size > INF || other > INF {
        // The quiet bit is the first of the fraction.
        let nan = if size > INF { a } else { b };
        nan | (INF & INF.wrapping_neg()) >> 1
    } else if here == there {
        b
    } else if here == 0 {
        b & 0x8000 | 1
    } else if (here < there) == (here > 0) {
        a + 1
    } else {
        a - 1
    }
}

/// `compile::<$body<op, T>>` for the integer type of `$dtype`.
macro_rules! integers {
    ($dtype:ident $isa:ident $body:ident $op:ty) => {
        match $dtype {
            DType::U8 => compile::<$body<$op, u8>>($isa),
            DType::U16 => compile::<$body<$op, u16>>($isa),
            DType::U32 => compile::<$body<$op, u32>>($isa),
            DType::U64 => compile::<$body<$op, u64>>($isa),
            DType::I8 => compile::<$body<$op, i8>>($isa),
            DType::I16 => compile::<$body<$op, i16>>($isa),
            DType::I32 => compile::<$body<$op, i32>>($isa),
            DType::I64 => compile::<$body<$op, i64>>($isa),
            _ => return None,
        }
    };
}

macro_rules! floats {
    ($dtype:ident $isa:ident $body:ident $op:ty, $other:expr) => {
        match $dtype {
            DType::F32 => compile::<$body<$op, f32>>($isa),
            DType::F64 => compile::<$body<$op, f64>>($isa),
            _ => $other,
        }
    };
}

macro_rules! table {
    ($($arity:ident $class:ident { $(
        $(#[doc = $doc:literal])*
        $name:ident($($arg:ident),+) { $body:expr }
        $(grad($($g:ident),+) { $($grad:expr),+ })? $(not $flat:ident)?;
    )* })*) => {
        /// The loop of `op` on arguments of `dtype`, unless there is none: half floats have to be
        /// converted first, and not every operation takes every dtype.
        pub fn of(op: Elementwise, dtype: DType, isa: Isa) -> Option<Loop> {
            Some(match op {
                Elementwise::nextafter if dtype == DType::F16 => compile::<NextHalf<0x7c00>>(isa),
                Elementwise::nextafter if dtype == DType::BF16 => compile::<NextHalf<0x7f80>>(isa),
                $($(Elementwise::$name => table!(@$arity $class dtype isa op::$name),)*)*
                Elementwise::r#where => match dtype.size() {
                    1 => compile::<Select<u8>>(isa),
                    2 => compile::<Select<u16>>(isa),
                    4 => compile::<Select<u32>>(isa),
                    _ => compile::<Select<u64>>(isa),
                },
            })
        }
    };

    (@unary Number $dtype:ident $isa:ident $op:ty) => {
        floats!($dtype $isa VectorUnaryNumber $op, integers!($dtype $isa IntUnaryNumber $op))
    };
    (@unary Float $dtype:ident $isa:ident $op:ty) => { floats!($dtype $isa VectorUnaryFloat $op, return None) };
    (@unary Test $dtype:ident $isa:ident $op:ty) => { floats!($dtype $isa VectorUnaryTest $op, return None) };
    (@unary Bits $dtype:ident $isa:ident $op:ty) => {
        match $dtype {
            DType::Bool => compile::<TruthUnary<$op>>($isa),
            _ => integers!($dtype $isa IntUnaryBits $op),
        }
    };
    (@binary Number $dtype:ident $isa:ident $op:ty) => {
        floats!($dtype $isa VectorBinaryNumber $op, integers!($dtype $isa IntBinaryNumber $op))
    };
    (@binary Float $dtype:ident $isa:ident $op:ty) => { floats!($dtype $isa VectorBinaryFloat $op, return None) };
    (@binary Compare $dtype:ident $isa:ident $op:ty) => {
        match $dtype {
            DType::Bool => compile::<IntBinaryCompare<$op, u8>>($isa),
            _ => floats!($dtype $isa VectorBinaryCompare $op, integers!($dtype $isa IntBinaryCompare $op)),
        }
    };
    (@binary Bits $dtype:ident $isa:ident $op:ty) => {
        match $dtype {
            DType::Bool => compile::<TruthBinary<$op>>($isa),
            _ => integers!($dtype $isa IntBinaryBits $op),
        }
    };
}

crate::elementwise_table!(table);

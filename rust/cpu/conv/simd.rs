//! How the kernels of this folder meet an instruction set: the register tile that suits it, and the
//! entry that compiles a kernel for it. The registers themselves are `matmul`'s.

use std::ops::{Add, AddAssign, Mul};

use super::tile::MAX_ROWS;
use crate::core::Element;
#[cfg(target_arch = "aarch64")]
use crate::cpu::matmul::neon::{F32x4, F64x2};
use crate::cpu::matmul::vector::{Portable, Vector};
#[cfg(target_arch = "x86_64")]
use crate::cpu::matmul::x86::{F32x8, F32x16, F64x4, F64x8};

/// What convolutions compute in.
pub trait Float: Element + Add<Output = Self> + Mul<Output = Self> + AddAssign {
    type Portable: Simd<Elem = Self>;
    #[cfg(target_arch = "aarch64")]
    type Neon: Simd<Elem = Self>;
    #[cfg(target_arch = "x86_64")]
    type Avx2: Simd<Elem = Self>;
    #[cfg(target_arch = "x86_64")]
    type Avx512: Simd<Elem = Self>;
}

impl Float for f32 {
    type Portable = Portable<f32, 4>;
    #[cfg(target_arch = "aarch64")]
    type Neon = F32x4;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = F32x8;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = F32x16;
}

impl Float for f64 {
    type Portable = Portable<f64, 2>;
    #[cfg(target_arch = "aarch64")]
    type Neon = F64x2;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = F64x4;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = F64x8;
}

/// A piece of work that is compiled once for each instruction set. `call` is `#[inline(always)]`.
pub trait Kernel {
    unsafe fn call(self);
}

/// A register of an instruction set with the tiles that fit its register file.
pub trait Simd: Vector<Elem: Float> + 'static {
    /// Rows of the largest tile.
    const ROWS: usize;
    /// Rows and columns of the tile of dot products; no more columns than lanes.
    const DOT: [usize; 2];

    /// Registers across a tile of 1, 2, … rows.
    const WIDTHS: [usize; MAX_ROWS];

    /// Runs the kernel in code that is compiled for the instruction set.
    ///
    /// # Safety
    /// The processor has it, and the kernel's pointers are as it says.
    unsafe fn run<K: Kernel>(kernel: K);
}

macro_rules! simd {
    ($($V:ty)+, features $features:literal, rows $rows:literal, widths $widths:expr, dot $dot:expr) => {$(
        impl Simd for $V {
            const ROWS: usize = $rows;
            const WIDTHS: [usize; MAX_ROWS] = $widths;
            const DOT: [usize; 2] = $dot;

            #[inline(always)]
            unsafe fn run<K: Kernel>(kernel: K) {
                #[target_feature(enable = $features)]
                unsafe fn enter<K: Kernel>(kernel: K) {
                    // SAFETY: the caller's promise, passed on.
                    unsafe { kernel.call() }
                }
                // SAFETY: as above.
                unsafe { enter(kernel) }
            }
        }
    )+};
}

// 32 registers: 24 sums, the 3 to 6 vectors that they share, one broadcast value.
#[cfg(target_arch = "x86_64")]
simd!(F32x16 F64x8, features "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma", rows 8,
    widths [6, 6, 6, 6, 4, 4, 3, 3], dot [4, 6]);
#[cfg(target_arch = "aarch64")]
simd!(F32x4, features "neon", rows 8, widths [6, 6, 6, 6, 4, 4, 3, 3], dot [4, 4]);
#[cfg(target_arch = "aarch64")]
simd!(F64x2, features "neon", rows 8, widths [6, 6, 6, 6, 4, 4, 3, 3], dot [4, 2]);
// 16 registers: 12 sums, 2 vectors, one broadcast value. A tile that needs all 16 runs at half speed.
#[cfg(target_arch = "x86_64")]
simd!(F32x8 F64x4, features "avx2,fma", rows 6,
    widths [4, 4, 3, 2, 2, 2, 0, 0], dot [3, 3]);

/// The baseline has no entry to compile for, and a product needs a register of its own.
impl<T: Float, const L: usize> Simd for Portable<T, L> {
    const ROWS: usize = 4;
    const WIDTHS: [usize; MAX_ROWS] = [4, 4, 2, 2, 0, 0, 0, 0];
    const DOT: [usize; 2] = [3, 2];

    #[inline(never)]
    unsafe fn run<K: Kernel>(kernel: K) {
        // SAFETY: the caller's promise, passed on.
        unsafe { kernel.call() }
    }
}

/// Runs an expression with `$V` bound to the register of `$isa` for elements of `$T`.
macro_rules! with_simd {
    ($isa:expr, $T:ty, $V:ident => $body:expr) => {
        match $isa {
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::isa::Isa::Avx512 => {
                type $V<T> = <T as $crate::cpu::conv::simd::Float>::Avx512;
                $body
            }
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::isa::Isa::Avx2 => {
                type $V<T> = <T as $crate::cpu::conv::simd::Float>::Avx2;
                $body
            }
            #[cfg(target_arch = "aarch64")]
            $crate::cpu::isa::Isa::Neon => {
                type $V<T> = <T as $crate::cpu::conv::simd::Float>::Neon;
                $body
            }
            _ => {
                type $V<T> = <T as $crate::cpu::conv::simd::Float>::Portable;
                $body
            }
        }
    };
}
pub(crate) use with_simd;

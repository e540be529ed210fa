//! The instances of the kernels: one table for each element type and instruction set, and the choice
//! among them, which is the only place where an instruction set meets the code that needs it.

use super::kernel::{self, Move, Tile};
use super::vector::{Portable, Vector};
use crate::cpu::isa::Isa;

pub type Multiply<T> = unsafe fn(&Tile<T>);
pub type Pack<T> = unsafe fn(&Move<T>);

/// One size of tile: whole and partial, in place, and the same of packed operands.
pub type Tiles<T> = [[Multiply<T>; 2]; 2];

/// The kernels of one element type on one instruction set.
pub struct Kernels<T: 'static> {
    pub lanes: usize,
    /// Whether tiles read the last, partial vector of a row of B without touching what lies behind.
    pub masked: bool,
    /// `tiles[r - 1][v - 1]` multiplies r rows by v vectors.
    pub tiles: &'static [&'static [Tiles<T>]],
    /// `dots[c - 1]` multiplies `dot_rows` rows by c columns, B's elements contiguous along k.
    pub dots: &'static [Multiply<T>],
    pub dot_rows: usize,
    /// The same for one row.
    pub row_dots: &'static [Multiply<T>],
    /// One row by any number of columns.
    pub row: Multiply<T>,
    pub copy: Pack<T>,
    pub transpose: Pack<T>,
}

/// An element type that the kernels multiply.
pub trait Real: Copy + Default + 'static {
    /// How much of k a tile runs through before it visits C. 8 rows of A this long stay in the first
    /// level of cache. It fixes the order of summation, so it is the same everywhere.
    const DEPTH: usize;

    fn kernels(isa: Isa) -> &'static Kernels<Self>;
}

/// A module with the table of one vector type: how many rows and vectors tiles have, rows and columns
/// of `dot`, columns of `row_dot`, and the features that the instances are compiled for.
macro_rules! kernels {
    ($name:ident: $T:ty, $V:ty, tile [$($r:literal)*] $v:tt, dot $dr:literal [$($d:literal)*],
     row_dot [$($rd:literal)*] $(, $feature:literal)?) => {
        pub mod $name {
            use super::*;

            // SAFETY (of all): those of the functions that they instantiate; `Real::kernels` hands the
            // table out only where the features are there.
            $(#[target_feature(enable = $feature)])?
            unsafe fn tile<const R: usize, const V: usize, const E: bool, const P: bool>(t: &Tile<$T>) {
                unsafe { kernel::tile::<$V, R, V, E, P>(t) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn dot<const R: usize, const C: usize>(t: &Tile<$T>) {
                unsafe { kernel::dot::<$V, R, C>(t) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn row(t: &Tile<$T>) {
                unsafe { kernel::row::<$V>(t) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn copy(m: &Move<$T>) {
                // SAFETY: the caller's promises about the move, and the level this is compiled for.
                unsafe { kernel::copy::<$V>(m) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn transpose(m: &Move<$T>) {
                // SAFETY: as above.
                unsafe { kernel::transposed::<$V>(m) }
            }

            pub static TABLE: Kernels<$T> = Kernels {
                lanes: <$V as Vector>::LANES,
                masked: <$V as Vector>::MASKED,
                tiles: &[$(kernels!(@tiles $r $v)),*],
                dots: &[$(dot::<$dr, $d>),*],
                dot_rows: $dr,
                row_dots: &[$(dot::<1, $rd>),*],
                row,
                copy,
                transpose,
            };
        }
    };
    (@tiles $r:literal [$($v:literal)*]) => {
        &[$([
            [tile::<$r, $v, false, false>, tile::<$r, $v, true, false>],
            [tile::<$r, $v, false, true>, tile::<$r, $v, true, true>],
        ]),*]
    };
}

kernels!(portable_f32: f32, Portable<f32, 4>, tile [1 2 3 4] [1 2 3], dot 2 [1 2 3], row_dot [1 2 3 4]);
kernels!(portable_f64: f64, Portable<f64, 2>, tile [1 2 3 4] [1 2 3], dot 2 [1 2 3], row_dot [1 2 3 4]);

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use super::super::x86::{F32x8, F32x16, F64x4, F64x8};
    use super::*;

    kernels!(avx2_f32: f32, F32x8, tile [1 2 3 4 5 6] [1 2], dot 3 [1 2 3],
        row_dot [1 2 3 4 5 6 7 8], "avx2,fma");
    kernels!(avx2_f64: f64, F64x4, tile [1 2 3 4 5 6] [1 2], dot 3 [1 2 3],
        row_dot [1 2 3 4 5 6 7 8], "avx2,fma");
    kernels!(avx512_f32: f32, F32x16, tile [1 2 3 4 5 6 7 8] [1 2 3], dot 4 [1 2 3 4 5 6],
        row_dot [1 2 3 4 5 6 7 8], "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma");
    kernels!(avx512_f64: f64, F64x8, tile [1 2 3 4 5 6 7 8] [1 2 3], dot 4 [1 2 3 4 5 6],
        row_dot [1 2 3 4 5 6 7 8], "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma");
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::super::neon::{F32x4, F64x2};
    use super::*;

    kernels!(neon_f32: f32, F32x4, tile [1 2 3 4 5 6 7 8] [1 2 3], dot 4 [1 2 3 4],
        row_dot [1 2 3 4 5 6 7 8], "neon");
    kernels!(neon_f64: f64, F64x2, tile [1 2 3 4 5 6 7 8] [1 2 3], dot 4 [1 2 3 4],
        row_dot [1 2 3 4 5 6 7 8], "neon");
}

macro_rules! real {
    ($T:ty, $depth:literal, $portable:ident $avx2:ident $avx512:ident $neon:ident) => {
        impl Real for $T {
            const DEPTH: usize = $depth;

            fn kernels(isa: Isa) -> &'static Kernels<$T> {
                debug_assert!(isa.is_supported());
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => &x86_64::$avx512::TABLE,
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => &x86_64::$avx2::TABLE,
                    #[cfg(target_arch = "aarch64")]
                    Isa::Neon => &aarch64::$neon::TABLE,
                    _ => &$portable::TABLE,
                }
            }
        }
    };
}

real!(f32, 384, portable_f32 avx2_f32 avx512_f32 neon_f32);
real!(f64, 256, portable_f64 avx2_f64 avx512_f64 neon_f64);

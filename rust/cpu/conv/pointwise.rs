//! 1×1 convolutions of stride 1: a product of matrices for each image, `y = W x` with a row for each channel and a
//! column for each place; the gradient of the input, `dx = Wᵀ dy`; and that of the weights, `dw = Σ_n dy xᵀ`, whose
//! products are added up in the order of the images. `matmul` does the work.

use super::scratch::memory;
use super::simd::Float;
use super::{Dims, Done};
use crate::core::{DType, Result};
use crate::cpu::isa::Isa;
use crate::cpu::matmul::{Gemm, matmul_on};
use crate::cpu::threads::parallel;
use crate::cpu::work::{Shared, vectorized};

/// Places of an image from which on its product is worth a call.
const PLACES: usize = 16;

/// Elements of the images' shares of dw at most, and of dw that a thread adds up at a time.
const SHARES: usize = 16 << 20;
const PART: usize = 16 << 10;

/// Whether a convolution is such products.
pub fn fits(d: &Dims) -> bool {
    let c = &d.conv;
    [d.r, d.s] == [1; 2] && c.stride == [1; 2] && c.padding == [0; 2] && c.groups == 1 && d.h * d.w >= PLACES
}

/// The convolution of `src`, or if `turned` the gradient of the input from `src` = dy.
///
/// # Safety
/// As for `conv::forward` and `conv::backward_input`; the processor has what `isa` says.
pub unsafe fn run(
    isa: Isa,
    dtype: DType,
    d: &Dims,
    turned: bool,
    src: *const u8,
    weight: *const u8,
    dst: *mut u8,
    done: Done<'_>,
) -> Result<()> {
    let places = d.h * d.w;
    let (m, k) = if turned { (d.c, d.k) } else { (d.k, d.c) };
    let (rsa, csa) = if turned { (1, d.c) } else { (d.c, 1) };
    let images: Vec<isize> = (0..d.n).map(|n| (n * k * places) as isize).collect();
    let product = Gemm {
        m,
        n: places,
        k,
        rsa: rsa as isize,
        csa: csa as isize,
        rsb: places as isize,
        csb: 1,
        batch_a: &vec![0; d.n],
        batch_b: &images,
    };
    // SAFETY: the caller's promises; the matrices are those of the sizes.
    unsafe { matmul_on(isa, dtype, &product, weight, src, dst, done.unwrap_or(&|_, _| ())) }
}

/// Whether the gradient of the weights is such products: no half floats, whose shares would be rounded.
pub fn weight_fits(d: &Dims, dtype: DType) -> bool {
    fits(d) && matches!(dtype, DType::F32 | DType::F64) && d.n * d.k * d.c <= SHARES && d.n > 0
}

/// The gradient of the weights.
///
/// # Safety
/// As for `conv::backward_weight`, of elements `T` = `dtype`; the processor has what `isa` says.
pub unsafe fn weight<T: Float>(
    isa: Isa,
    dtype: DType,
    d: &Dims,
    x: *const T,
    dy: *const T,
    dw: *mut T,
) -> Result<()> {
    let (places, size) = (d.h * d.w, d.k * d.c);
    let images =
        |channels: usize| -> Vec<isize> { (0..d.n).map(|n| (n * channels * places) as isize).collect() };
    let product = Gemm {
        m: d.k,
        n: d.c,
        k: places,
        rsa: places as isize,
        csa: 1,
        rsb: 1,
        csb: places as isize,
        batch_a: &images(d.k),
        batch_b: &images(d.c),
    };
    let shares = memory::<T>(d.n * size)?;
    // SAFETY: the caller's promises; the shares have room for a product an image.
    unsafe { matmul_on(isa, dtype, &product, dy.cast(), x.cast(), shares.ptr(), &|_, _| ())? };
    let (shares, dw) = (Shared::new(shares.ptr().cast::<T>()), Shared::new(dw));
    parallel(size.div_ceil(PART), |i| {
        let len = PART.min(size - i * PART);
        // SAFETY: this part of the shares, which are complete, and of the result.
        unsafe {
            let sum = dw.slice(i * PART, len);
            sum.copy_from_slice(shares.slice(i * PART, len));
            for n in 1..d.n {
                let share = shares.slice(n * size + i * PART, len);
                vectorized(|| sum.iter_mut().zip(share).for_each(|(sum, share)| *sum += *share));
            }
        }
    });
    Ok(())
}

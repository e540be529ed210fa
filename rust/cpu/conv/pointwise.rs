//! 1×1 convolutions of stride 1: a product of matrices for each image, `y = W x` with a row for each channel and a
//! column for each place; and the gradient of the input, `dx = Wᵀ dy`. `matmul` does the work.

use super::{Dims, Done};
use crate::core::{DType, Result};
use crate::cpu::isa::Isa;
use crate::cpu::matmul::{Gemm, matmul_on};

/// Places of an image from which on its product is worth a call.
const PLACES: usize = 16;

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

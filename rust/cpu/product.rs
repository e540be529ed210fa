//! Products with their epilogues: what joins the matrix and convolution kernels, which know nothing of
//! programs, to the pointwise interpreter. The epilogue runs on each range of the product as soon as it
//! is finished, while it is in the cache of the thread that made it.

use super::conv::{self, Dims};
use super::matmul::{self, Gemm};
use super::pointwise::{Evaluator, pointwise_range};
use super::{Memory, Out, View};
use crate::core::{DType, Layout, Result, Shape};
use crate::ir::conv::Conv2d;
use crate::ir::kernel::Fused;
use parking_lot::Mutex;
use smallvec::SmallVec;

/// (…, M, K) by (…, K, N), leading sizes equal; then the epilogue, whose further operands are `rest`.
pub fn matmul(inputs: &[View], epilogue: Option<&Fused>, out: &Out) -> Result<()> {
    let [a, b, rest @ ..] = inputs else { unreachable!("a product has two operands") };
    let lead = a.layout.rank() - 2;
    let (m, k) = (a.layout.shape[lead], a.layout.shape[lead + 1]);
    let n = b.layout.shape[lead + 1];
    let (batch_a, batch_b) = (offsets(a.layout, lead), offsets(b.layout, lead));
    let gemm = Gemm {
        m,
        n,
        k,
        rsa: a.layout.strides[lead],
        csa: a.layout.strides[lead + 1],
        rsb: b.layout.strides[lead],
        csb: b.layout.strides[lead + 1],
        batch_a: &batch_a,
        batch_b: &batch_b,
    };
    with_epilogue(a.dtype, epilogue, rest, out, |c, done| {
        // SAFETY: the operands have the elements that their layouts name, and C is as large as its
        // shape, which the graph has checked.
        unsafe { matmul::matmul(a.dtype, &gemm, a.first(), b.first(), c, done) }
    })
}

/// Where each matrix of a batch begins, in row-major order of the leading axes.
pub fn offsets(layout: &Layout, lead: usize) -> SmallVec<[isize; 8]> {
    let mut out: SmallVec<[isize; 8]> = SmallVec::from_elem(0, 1);
    for (&size, &stride) in layout.shape[..lead].iter().zip(&layout.strides) {
        let outer = std::mem::take(&mut out);
        out.reserve(outer.len() * size);
        for from in outer {
            out.extend((0..size as isize).map(|i| from + i * stride));
        }
    }
    out
}

/// (N, C, H, W) by (K, C/groups, R, S), both row-major; then the epilogue.
pub fn conv(conv: Conv2d, inputs: &[View], epilogue: Option<&Fused>, out: &Out) -> Result<()> {
    let [x, w, rest @ ..] = inputs else { unreachable!("a convolution has two operands") };
    let dims = Dims::new(conv, &x.layout.shape, &w.layout.shape)?;
    with_epilogue(x.dtype, epilogue, rest, out, |y, done| {
        // SAFETY: the graph gives row-major operands of the shapes that `dims` was made from.
        unsafe { conv::forward(x.dtype, &dims, x.first(), w.first(), y, done) }
    })
}

/// dy (N, K, H', W') and w to the gradient of the input, whose shape is the output's.
pub fn conv_input(conv: Conv2d, dy: &View, w: &View, out: &Out) -> Result<()> {
    let dims = Dims::new(conv, out.shape, &w.layout.shape)?;
    // SAFETY: as for `conv`.
    unsafe { conv::backward_input(out.dtype, &dims, dy.first(), w.first(), out.ptr) }
}

/// x and dy to the gradient of the weight, whose shape is the output's.
pub fn conv_weight(conv: Conv2d, x: &View, dy: &View, out: &Out) -> Result<()> {
    let dims = Dims::new(conv, &x.layout.shape, out.shape)?;
    // SAFETY: as for `conv`.
    unsafe { conv::backward_weight(out.dtype, &dims, x.first(), dy.first(), out.ptr) }
}

/// Runs a product into `out`, or, where the epilogue changes the size of elements, into memory of its
/// own, and the epilogue behind it.
fn with_epilogue(
    dtype: DType,
    epilogue: Option<&Fused>,
    rest: &[View],
    out: &Out,
    product: impl FnOnce(*mut u8, &(dyn Fn(usize, usize) + Sync)) -> Result<()>,
) -> Result<()> {
    let Some(fused) = epilogue else { return product(out.ptr, &|_, _| {}) };
    let own = if dtype.size() == out.dtype.size() {
        None
    } else {
        Some(Memory::alloc(out.shape.count() * dtype.size())?)
    };
    let place = own.as_ref().map_or(out.ptr, Memory::ptr);
    let layout = Layout::contiguous(Shape::clone(out.shape));
    let mut inputs: SmallVec<[View; 8]> = SmallVec::new();
    inputs.push(View { ptr: place, layout: &layout, dtype });
    inputs.extend_from_slice(rest);
    let evaluator = Evaluator::new(fused, &inputs, out.shape)?;
    let failed = Mutex::new(None);
    product(place, &|start, len| match evaluator.scratch() {
        Ok(mut scratch) => pointwise_range(&evaluator, &mut scratch, std::slice::from_ref(out), start, len),
        Err(error) => *failed.lock() = Some(error),
    })?;
    failed.into_inner().map_or(Ok(()), Err)
}

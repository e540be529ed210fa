//! What joins the pool kernels, which see batches of planes, to views of (N, C, H, W).

use super::pool::{self, Planes};
use super::{Out, View};
use crate::core::{Result, Shape};
use crate::ir::conv::Pool2d;

/// The planes that a pool takes from one shape to the other.
fn planes(from: &Shape, to: &Shape) -> Planes {
    Planes { count: from[0] * from[1], size: [from[2], from[3]], out: [to[2], to[3]] }
}

pub fn max(pool: &Pool2d, x: &View, out: &Out, places: &Out) -> Result<()> {
    let planes = planes(&x.layout.shape, out.shape);
    // SAFETY: the graph gives a row-major operand and outputs of the shapes that `planes` was made from.
    unsafe { pool::max_forward(x.dtype, pool, &planes, x.first(), out.ptr, places.ptr.cast()) }
}

pub fn adaptive_max(x: &View, out: &Out, places: &Out) -> Result<()> {
    let planes = planes(&x.layout.shape, out.shape);
    // SAFETY: as above.
    unsafe { pool::adaptive_max_forward(x.dtype, &planes, x.first(), out.ptr, places.ptr.cast()) }
}

pub fn max_input(dy: &View, places: &View, out: &Out) -> Result<()> {
    let planes = planes(out.shape, &dy.layout.shape);
    // SAFETY: as above; places are those that the forward kernel found.
    unsafe { pool::max_backward(dy.dtype, &planes, dy.first(), places.first().cast(), out.ptr) }
}

pub fn avg(pool: &Pool2d, x: &View, out: &Out) -> Result<()> {
    let planes = planes(&x.layout.shape, out.shape);
    // SAFETY: as above.
    unsafe { pool::avg_forward(x.dtype, pool, &planes, x.first(), out.ptr) }
}

pub fn avg_input(pool: &Pool2d, dy: &View, out: &Out) -> Result<()> {
    let planes = planes(out.shape, &dy.layout.shape);
    // SAFETY: as above.
    unsafe { pool::avg_backward(dy.dtype, pool, &planes, dy.first(), out.ptr) }
}

pub fn adaptive_avg(x: &View, out: &Out) -> Result<()> {
    let planes = planes(&x.layout.shape, out.shape);
    // SAFETY: as above.
    unsafe { pool::adaptive_avg_forward(x.dtype, &planes, x.first(), out.ptr) }
}

pub fn adaptive_avg_input(dy: &View, out: &Out) -> Result<()> {
    let planes = planes(out.shape, &dy.layout.shape);
    // SAFETY: as above.
    unsafe { pool::adaptive_avg_backward(dy.dtype, &planes, dy.first(), out.ptr) }
}

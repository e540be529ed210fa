//! Windows of 1 × 1 that move by one: plain products, one for each image and group.

use super::{Sizes, Way, area, dense};
use crate::core::{Layout, Result, Shape};
use crate::gpu::{Out, View, matmul};
use crate::ir::kernel::Fused;
use smallvec::{SmallVec, smallvec};

/// Pixels of an image from which tiles of a product for each image are full.
const PIXELS: usize = 64;

/// Does a convolution, or its gradient of the input, as a product; tells whether it did.
pub(super) fn product(
    sizes: &Sizes<'_>,
    way: Way,
    w: &View<'_>,
    b: &View<'_>,
    epilogue: Option<&Fused>,
    rest: &[View<'_>],
    y: &Out<'_>,
) -> Result<bool> {
    let (images, groups, pixels) = (sizes.images, sizes.conv.groups, area(sizes.out));
    let (channels, filters) = (sizes.channels, sizes.filters);
    if pixels < PIXELS || channels.min(filters) < 8 {
        return Ok(false);
    }
    let (rows, depth) = if way == Way::Input { (channels, filters) } else { (filters, channels) };
    let shape = Shape::new(&[images, groups, rows, pixels]);
    let mut layouts: SmallVec<[Layout; 4]> = SmallVec::new();
    for view in rest {
        let Some(layout) = view.layout.broadcast_to(y.shape).and_then(|layout| layout.reshape(&shape)) else {
            return Ok(false);
        };
        layouts.push(layout);
    }
    dense(sizes.op, w, |w| {
        dense(sizes.op, b, |b| {
            let mut of_w = Layout { shape: Shape::new(&[1, groups, filters, channels]), ..w.layout.clone() };
            of_w.strides = of_w.shape.strides();
            if way == Way::Input {
                of_w = of_w.permute(&[0, 1, 3, 2]);
            }
            let Some(of_w) = of_w.broadcast_to(&Shape::new(&[images, groups, rows, depth])) else {
                return Ok(false);
            };
            let of_b = Layout { shape: Shape::new(&[images, groups, depth, pixels]), ..b.layout.clone() };
            let of_b = Layout { strides: of_b.shape.strides(), ..of_b };
            let mut inputs: SmallVec<[View<'_>; 4]> =
                smallvec![View { layout: &of_w, ..*w }, View { layout: &of_b, ..*b }];
            inputs.extend(rest.iter().zip(&layouts).map(|(view, layout)| View { layout, ..*view }));
            matmul::run(epilogue, &inputs, &Out { shape: &shape, ..*y })?;
            Ok(true)
        })
    })
}

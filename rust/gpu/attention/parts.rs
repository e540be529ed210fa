//! Attention of few queries to many keys, as a model that writes word by word asks for it: keys in parts, each of which
//! is as if it were all, and then their results, weighted by their sums of exponentials. Without it a head would be
//! one workgroup's work, on a card that has room for hundreds.

use super::{Of, Operand, Sizes, TILE, column, forward, operand, result};
use crate::core::{DType, Layout, Result, Scalar, Shape};
use crate::gpu::adapter::Kind;
use crate::gpu::matmul::choice::units;
use crate::gpu::{Out, View, generate, items, reduce};
use crate::ir::kernel::{Axes, Fused, Reduce};
use crate::ir::{Elementwise, Program, Reg};
use smallvec::SmallVec;
use std::sync::Arc;

/// Keys that are worth a part.
const LEAST: usize = 256;

/// Into how many parts keys are divided: as many as keep all units busy. A causal query sees as many keys as
/// its own number says, and is left alone.
pub(super) fn count(kind: Kind, causal: bool, heads: usize, sizes: Sizes) -> usize {
    let groups = heads * sizes.queries.div_ceil(TILE);
    if causal || groups == 0 { 1 } else { (2 * units(kind) / groups).min(sizes.keys / LEAST).max(1) }
}

/// What [`super::attention`] does, its keys divided into about so many parts.
pub(super) fn run(parts: usize, sizes: Sizes, inputs: &[View<'_>], [out, lse]: [&Out<'_>; 2]) -> Result<()> {
    let device = out.buffer.device();
    let each = sizes.keys.div_ceil(parts).next_multiple_of(TILE);
    let (whole, rest) = (sizes.keys / each, sizes.keys % each);
    let stacked = |shape: &Shape| {
        let mut sizes = vec![whole + usize::from(rest > 0)];
        sizes.extend(shape.iter());
        Shape::new(&sizes)
    };
    let (of_outs, of_lses) = (stacked(out.shape), stacked(lse.shape));
    let (outs, lses) = (device.alloc(4 * of_outs.count())?, device.alloc(4 * of_lses.count())?);
    let outs = Out { buffer: &outs, shape: &of_outs, dtype: DType::F32 };
    let lses = Out { buffer: &lses, shape: &of_lses, dtype: DType::F32 };
    for (first, count, keys) in [(0, whole, each), (whole, 1, rest)] {
        if count * keys == 0 {
            continue;
        }
        let part = Divided { first: first * each, count, keys };
        let mut operands = SmallVec::from_iter([
            part.repeated(operand("q", &inputs[0], Of::Queries)),
            part.of_keys(operand("k", &inputs[1], Of::Keys)),
            part.of_keys(operand("v", &inputs[2], Of::Keys)),
        ]);
        operands.extend(inputs.get(3).map(|mask| part.of_keys(operand("mask", mask, Of::Both))));
        for (name, of) in [("out", &outs), ("lse", &lses)] {
            let mut result = result(name, of, Of::Queries);
            result.layout = result.layout.slice(0, first, count, 1);
            operands.push(if name == "lse" { column(result) } else { result });
        }
        forward(device.shared(), false, Sizes { keys, ..sizes }, operands)?;
    }
    let first = Axes::new(&[0]);
    let (of_lses, of_outs) = (Layout::contiguous(of_lses.clone()), Layout::contiguous(of_outs.clone()));
    let lses = generate::whole(&lses, &of_lses);
    let alone = Fused::identity(DType::F32);
    reduce::reduce("attention", Reduce::LogSumExp, first, &alone, &[lses], lse)?;
    // Over the values, in all parts.
    let spread = |layout: &Layout| layout.unsqueeze(layout.rank()).broadcast_to(&of_outs.shape);
    let of_lse = Layout::contiguous(lse.shape.clone()).unsqueeze(0);
    let (Some(of_lses), Some(of_lse)) = (spread(&of_lses), spread(&of_lse)) else {
        crate::bail!(Shape, "attention: {} and {} do not belong together", lse.shape, out.shape)
    };
    let views = [
        View { layout: &of_lses, ..lses },
        View { buffer: lse.buffer, layout: &of_lse, dtype: DType::F32 },
        generate::whole(&outs, &of_outs),
    ];
    reduce::reduce("attention", Reduce::Sum, first, &weighted(), &views, out)
}

/// Some parts of equally many keys: the first key, how many parts, and how many keys each has.
struct Divided {
    first: usize,
    count: usize,
    keys: usize,
}

impl Divided {
    /// The operand with parts as its first axis.
    fn of_keys<'a>(&self, mut operand: Operand<'a>) -> Operand<'a> {
        let Some(axis) = operand.axes(Of::Keys) else { return operand };
        let layout = operand.layout.slice(axis, self.first, self.count * self.keys, 1);
        let mut shape = layout.shape.to_vec();
        shape[axis] = self.keys;
        shape.insert(0, self.count);
        let mut strides = layout.strides.clone();
        strides.insert(0, layout.strides[axis] * self.keys as isize);
        operand.layout = Layout { shape: Shape::new(&shape), strides, offset: layout.offset };
        operand
    }

    /// The operand that all parts see.
    fn repeated<'a>(&self, mut operand: Operand<'a>) -> Operand<'a> {
        let mut shape = vec![self.count];
        shape.extend(operand.layout.shape.iter());
        let layout = operand.layout.unsqueeze(0);
        operand.layout = layout.broadcast_to(&Shape::new(&shape)).unwrap_or(layout);
        operand
    }
}

/// exp(lse of the part − lse) · out of the part; a part that sees no key counts for nothing, be it one of many or all.
fn weighted() -> Fused {
    let mut program = Program::default();
    let [of_part, of_all, out] = [DType::F32; 3].map(|dtype| items::input(&mut program, dtype));
    program.scalars.push(DType::F32);
    let finite = items::apply(&mut program, Elementwise::maximum, of_all, Reg::Scalar(0));
    let less = items::apply(&mut program, Elementwise::sub, of_part, finite);
    let weight = items::apply(&mut program, Elementwise::exp, less, less);
    let result = items::apply(&mut program, Elementwise::mul, weight, out);
    program.outputs.push(result);
    Fused { program: Arc::new(program), scalars: [Scalar::Float(f64::from(f32::MIN))].into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fill_the_card() {
        let sizes = |queries, keys| Sizes { queries, keys, size: 64, value: 64, scale: 1.0 };
        let discrete =
            |causal, heads, queries, keys| count(Kind::Discrete, causal, heads, sizes(queries, keys));
        assert_eq!(discrete(false, 12, 1, 4096), 16);
        assert_eq!(discrete(false, 12, 1, 1 << 20), 21);
        assert_eq!(discrete(false, 12, 1, 300), 1);
        assert_eq!(discrete(false, 96, 1024, 1024), 1);
        assert_eq!(discrete(true, 12, 1, 4096), 1);
        assert_eq!(discrete(false, 0, 1, 4096), 1);
        assert_eq!(count(Kind::Integrated, false, 12, sizes(1, 4096)), 2);
    }
}

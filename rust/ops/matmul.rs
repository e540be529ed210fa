//! Matrix products and what is made of them.

use super::{autocast, cast, device, elementwise, reduce, source, view};
use crate::bail;
use crate::core::{Result, Shape};
use crate::graph::Tensor;
use crate::graph::node::Operands;
use crate::graph::record::{Context, Grads, record_one};
use crate::ir::Elementwise as E;
use crate::ir::Kernel;

/// `a @ b` by the array API's rules: vectors gain an axis that the result loses, leading axes
/// broadcast.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if let Some([Some(a), Some(b)]) = autocast::cast("matmul", [Some(a), Some(b)])? {
        return matmul(&a, &b);
    }
    let (sa, sb) = (a.shape(), b.shape());
    device("matmul", &[a, b])?;
    if a.rank() == 0 || b.rank() == 0 {
        bail!(Shape, "matmul: {sa} @ {sb}: a 0-d tensor is no matrix; use `*`");
    }
    let inner = (sa[sa.rank() - 1], sb[sb.rank().saturating_sub(2)]);
    if inner.0 != inner.1 {
        bail!(Shape, "matmul: {sa} @ {sb}: inner sizes differ ({} vs {})", inner.0, inner.1);
    }
    match (a.rank(), b.rank()) {
        (1, 1) => squeeze_last(&squeeze_last(&matmul(&view::unsqueeze(a, 0)?, &view::unsqueeze(b, 1)?)?)?),
        (1, _) => {
            let out = matmul(&view::unsqueeze(a, 0)?, b)?;
            let axis = out.rank() - 2;
            Ok(view::squeeze(&out, &[axis])?.as_own())
        }
        (_, 1) => squeeze_last(&matmul(a, &view::unsqueeze(b, 1)?)?),
        _ => matrices(a, b),
    }
}

fn squeeze_last(x: &Tensor) -> Result<Tensor> {
    Ok(view::squeeze(x, &[x.rank() - 1])?.as_own())
}

/// The product of (…, M, K) and (…, K, N).
fn matrices(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let dtype = a.dtype().promote(b.dtype());
    let (a, b) = (&cast::cast(a, dtype)?, &cast::cast(b, dtype)?);
    let (sa, sb) = (a.shape(), b.shape());
    let (m, k, n) = (sa[sa.rank() - 2], sa[sa.rank() - 1], sb[sb.rank() - 1]);
    // A stack of rows times one matrix is one product.
    if b.rank() == 2 && a.rank() > 2 && a.is_contiguous() {
        let rows = view::reshape(a, &Shape::new(&[sa[..sa.rank() - 1].iter().product(), k]))?;
        let out: Shape = sa[..sa.rank() - 1].iter().copied().chain([n]).collect();
        return Ok(view::reshape(&matrices(&rows, b)?, &out)?.as_own());
    }
    let lead = |s: &Shape| Shape::new(&s[..s.rank() - 2]);
    let Some(batch) = lead(sa).broadcast(&lead(sb)) else {
        bail!(Shape, "matmul: {sa} @ {sb}: leading sizes do not broadcast");
    };
    let full =
        |rows: usize, columns: usize| -> Shape { batch.iter().copied().chain([rows, columns]).collect() };
    let shape = Shape::checked("matmul", &full(m, n))?;
    let operands = Operands::from_iter([
        view::expand(&a.detach(), &full(m, k))?.operand(),
        view::expand(&b.detach(), &full(k, n))?.operand(),
    ]);
    let out = source(a.device(), Kernel::Matmul { epilogue: None }, operands, shape, dtype)?;
    let (sa, sb) = (a.clone(), b.clone());
    Ok(record_one("matmul", &[a, b], out, || {
        // dA = dY Bᵀ and dB = Aᵀ dY, summed over the axes that were broadcast.
        move |context: &Context<'_>, grads: &[Option<Tensor>]| {
            let Some(g) = &grads[0] else { return Ok(Grads::from_elem(None, 2)) };
            let da = context
                .needs(0)
                .then(|| reduce::sum_to(&product_like(&sa, g, &transposed(&sb)?)?, sa.shape()))
                .transpose()?;
            let db = context
                .needs(1)
                .then(|| reduce::sum_to(&product_like(&sb, &transposed(&sa)?, g)?, sb.shape()))
                .transpose()?;
            Ok(Grads::from_iter([da, db]))
        }
    }))
}

/// `a b` in the memory order of `like`: the gradient of a transposed weight is read beside the weight.
fn product_like(like: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match like.layout().strides[..] {
        [.., 1, step] if step != 1 => transposed(&matmul(&transposed(b)?, &transposed(a)?)?),
        _ => matmul(a, b),
    }
}

/// The last two axes exchanged.
pub fn transposed(x: &Tensor) -> Result<Tensor> {
    view::transpose(x, x.rank() - 2, x.rank() - 1)
}

/// `x Wᵀ + b` with the weight (out, in).
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if let Some([Some(x), Some(weight), bias]) = autocast::cast("linear", [Some(x), Some(weight), bias])? {
        return linear(&x, &weight, bias.as_ref());
    }
    if weight.rank() != 2 || x.rank() == 0 || x.shape()[x.rank() - 1] != weight.shape()[1] {
        bail!(
            Shape,
            "linear: input {} and weight {}: the last size of the input must be the weight's second",
            x.shape(),
            weight.shape()
        );
    }
    let rows = elementwise::contiguous(x)?;
    let y = matmul(&rows, &transposed(weight)?)?;
    match bias {
        Some(bias) if bias.shape()[..] != weight.shape()[..1] => {
            bail!(
                Shape,
                "linear: bias {} for weight {}: expected one value an output",
                bias.shape(),
                weight.shape()
            )
        }
        Some(bias) => elementwise::binary(E::add, &y, bias),
        None => Ok(y),
    }
}

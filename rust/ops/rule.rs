//! The outlines that many gradients share, so that an operation states only its own mathematics.

use crate::core::Result;
use crate::graph::Tensor;
use crate::graph::record::{Context, Grads};

/// One input and one output: `back` makes the input's gradient from the output's.
pub fn one<B>(back: B) -> impl Fn(&Context<'_>, &[Option<Tensor>]) -> Result<Grads> + Send + Sync
where
    B: Fn(&Context<'_>, &Tensor) -> Result<Tensor> + Send + Sync,
{
    move |context: &Context<'_>, grads: &[Option<Tensor>]| {
        Ok(Grads::from_elem(grads[0].as_ref().map(|g| back(context, g)).transpose()?, 1))
    }
}

/// Two inputs and one output; each side is asked only if somebody wants its gradient.
pub fn two<A, B>(
    first: A,
    second: B,
) -> impl Fn(&Context<'_>, &[Option<Tensor>]) -> Result<Grads> + Send + Sync
where
    A: Fn(&Tensor) -> Result<Tensor> + Send + Sync,
    B: Fn(&Tensor) -> Result<Tensor> + Send + Sync,
{
    move |context: &Context<'_>, grads: &[Option<Tensor>]| {
        let Some(g) = &grads[0] else { return Ok(Grads::from_elem(None, 2)) };
        let a = context.needs(0).then(|| first(g)).transpose()?;
        let b = context.needs(1).then(|| second(g)).transpose()?;
        Ok(Grads::from_iter([a, b]))
    }
}

//! Attention as one kernel that never has all scores in memory; its gradient is another, and is composed of
//! other operations where it is to be differentiated again. Dropout of weights and gradients of the mask are the
//! business of `nn/functional/attention.py`, which composes them.

use super::{autocast, cast, create, device, elementwise, matmul, norm, reduce, view};
use crate::bail;
use crate::core::{DType, Result, Scalar, Shape};
use crate::graph::node::{Operands, Specs};
use crate::graph::record::{Context, Grads, record_one};
use crate::graph::{Device, Spec, Tensor, grad_enabled};
use crate::ir::Elementwise as E;
use crate::ir::Kernel;
use elementwise::binary;

const OP: &str = "scaled_dot_product_attention";

/// Attention of queries (…, L, E), keys (…, S, E) and values (…, S, V), which broadcast and have one float
/// dtype, to (…, L, V). The mask broadcasts to (…, L, S): true where a query may look, or what is added. A
/// query that may look at no key gives zeros. Half floats are computed in float32.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    causal: bool,
    scale: f64,
) -> Result<Tensor> {
    if let Some([Some(q), Some(k), Some(v)]) = autocast::cast("attention", [Some(q), Some(k), Some(v)])? {
        return attention(&q, &k, &v, mask, causal, scale);
    }
    let given = q.dtype();
    if !given.is_float() || k.dtype() != given || v.dtype() != given {
        bail!(DType, "{OP}: takes floats of one dtype, not {given}, {} and {}", k.dtype(), v.dtype());
    }
    let on = device(OP, &[q, k, v])?;
    // The GPU's kernel reads half floats as they are, and computes in float32 as well.
    let dtype = if on == Device::Cpu { given.compute() } else { given };
    let (q, k, v) = (cast::cast(q, dtype)?, cast::cast(k, dtype)?, cast::cast(v, dtype)?);
    let shapes = || format!("{}, {} and {}", q.shape(), k.shape(), v.shape());
    if q.rank() < 2 || k.rank() < 2 || v.rank() < 2 {
        bail!(Shape, "{OP}: {}: each needs two axes at least", shapes());
    }
    let last = |t: &Tensor| (t.shape()[t.rank() - 2], t.shape()[t.rank() - 1]);
    let ((queries, size), (keys, width), (values, value)) = (last(&q), last(&k), last(&v));
    if size != width || keys != values || keys == 0 || size == 0 {
        bail!(Shape, "{OP}: {} do not fit each other", shapes());
    }
    let lead = |t: &Tensor| Shape::new(&t.shape()[..t.rank() - 2]);
    let batch = lead(&q).broadcast(&lead(&k)).and_then(|batch| batch.broadcast(&lead(&v)));
    let Some(batch) = batch else { bail!(Shape, "{OP}: {}: leading sizes do not broadcast", shapes()) };
    let mask = mask.map(|mask| added(mask, given.compute())).transpose()?;
    let mut call = Call { q, k, v, mask: None, causal, scale, batch, value };
    let full = Shape::checked(OP, &call.full(queries, value))?;
    if let Some(mask) = mask {
        device(OP, &[&call.q, &mask])?;
        let scores = call.full(queries, keys);
        if mask.layout().broadcast_to(&scores).is_none() {
            bail!(Shape, "{OP}: the mask {} does not fit the scores {scores}", mask.shape());
        }
        call.mask = Some(mask);
    }
    let operands = call.operands()?;
    let lse: Shape = call.batch.iter().copied().chain([queries]).collect();
    let specs = Specs::from_iter([Spec { shape: full, dtype }, Spec { shape: lse, dtype: dtype.compute() }]);
    let mut outs = Tensor::pending(on, Kernel::Attention { causal, scale }, operands, specs)?;
    let lse = outs.pop().expect("two outputs");
    let out = outs.pop().expect("two outputs");
    let seen = out.clone();
    let inputs = [call.q.clone(), call.k.clone(), call.v.clone()];
    let out = record_one("attention", &inputs.each_ref(), out, || {
        move |context: &Context<'_>, grads: &[Option<Tensor>]| {
            let Some(g) = &grads[0] else { return Ok(Grads::from_elem(None, 3)) };
            let found = if grad_enabled() { call.composed(g)? } else { call.gradients(&seen, &lse, g)? };
            let wanted = found.into_iter().zip([&call.q, &call.k, &call.v]).enumerate();
            wanted
                .map(|(i, (grad, of))| {
                    context.needs(i).then(|| reduce::sum_to(&grad, of.shape())).transpose()
                })
                .collect()
        }
    });
    cast::cast(&out, given)
}

/// A mask as what is added to scores.
fn added(mask: &Tensor, dtype: DType) -> Result<Tensor> {
    let mask = mask.detach();
    if mask.dtype() == DType::Bool {
        return cast::cast(&elementwise::select(&mask, 0.0, f64::NEG_INFINITY)?, dtype);
    }
    if !mask.dtype().is_float() {
        bail!(DType, "{OP}: a mask is bool or float, not {}", mask.dtype());
    }
    cast::cast(&mask, dtype)
}

/// A call whose operands fit.
struct Call {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Option<Tensor>,
    causal: bool,
    scale: f64,
    /// The leading sizes of the result.
    batch: Shape,
    value: usize,
}

impl Call {
    fn full(&self, rows: usize, columns: usize) -> Shape {
        self.batch.iter().copied().chain([rows, columns]).collect()
    }

    fn sizes(&self) -> (usize, usize, usize) {
        let rank = |t: &Tensor| t.rank();
        let (q, k) = (self.q.shape(), self.k.shape());
        (q[rank(&self.q) - 2], k[rank(&self.k) - 2], q[rank(&self.q) - 1])
    }

    /// What the kernel reads: leading sizes broadcast, neighbours along the last axis.
    fn operands(&self) -> Result<Operands> {
        let (queries, keys, size) = self.sizes();
        let rows = |t: &Tensor, shape: &Shape| Ok(view::expand(&close(&t.detach())?, shape)?.operand());
        let mut operands = Operands::from_iter([
            rows(&self.q, &self.full(queries, size))?,
            rows(&self.k, &self.full(keys, size))?,
            rows(&self.v, &self.full(keys, self.value))?,
        ]);
        if let Some(mask) = &self.mask {
            operands.push(view::expand(mask, &self.full(queries, keys))?.operand());
        }
        Ok(operands)
    }

    /// The gradients by the kernel, of the broadcast operands.
    fn gradients(&self, out: &Tensor, lse: &Tensor, g: &Tensor) -> Result<Vec<Tensor>> {
        let (queries, keys, size) = self.sizes();
        let mut operands = Operands::from_iter([out.operand(), lse.operand(), close(g)?.operand()]);
        operands.extend(self.operands()?);
        let shapes = [(queries, size), (keys, size), (keys, self.value)];
        let dtype = self.q.dtype();
        let spec =
            |(rows, columns)| Ok(Spec { shape: Shape::checked(OP, &self.full(rows, columns))?, dtype });
        let specs = shapes.into_iter().map(spec).collect::<Result<Specs>>()?;
        let kernel = Kernel::AttentionInput { causal: self.causal, scale: self.scale };
        Ok(Tensor::pending(self.q.device(), kernel, operands, specs)?.into_vec())
    }

    /// The same of operations that are recorded. With P = softmax(scores) and dP = g Vᵀ:
    /// dS = scale P ∘ (dP − Σ P ∘ dP), dQ = dS K, dK = dSᵀ Q, dV = Pᵀ g.
    fn composed(&self, g: &Tensor) -> Result<Vec<Tensor>> {
        let t = matmul::transposed;
        let wide = |x: &Tensor| cast::cast(x, x.dtype().compute());
        let (q, k, v, g) = (wide(&self.q)?, wide(&self.k)?, wide(&self.v)?, wide(g)?);
        let mut scores = binary(E::mul, &matmul::matmul(&q, &t(&k)?)?, self.scale)?;
        if let Some(mask) = &self.mask {
            scores = binary(E::add, &scores, mask)?;
        }
        let (queries, keys, _) = self.sizes();
        if self.causal {
            let places = |count: usize| {
                let (start, step) = (Scalar::Int(0), Scalar::Int(1));
                create::arange(start, Scalar::Int(count as i64), step, None, self.q.device())
            };
            let sees = binary(E::ge, &view::unsqueeze(&places(queries)?, 1)?, &places(keys)?)?;
            scores = elementwise::select(&sees, &scores, f64::NEG_INFINITY)?;
        }
        let axis = scores.rank() - 1;
        // A query that sees no key has weights of zero, and no gradient.
        let unseen =
            binary(E::eq, &reduce::extreme(&scores.detach(), &[axis], true, true)?, f64::NEG_INFINITY)?;
        let scores = elementwise::select(&unseen, 0.0, &scores)?;
        let p = elementwise::select(&unseen, 0.0, &norm::softmax(&scores, axis)?)?;
        let dp = matmul::matmul(&g, &t(&v)?)?;
        let mean = reduce::sum(&binary(E::mul, &p, &dp)?, &[axis], true)?;
        let ds = binary(E::mul, &binary(E::mul, &p, &binary(E::sub, &dp, &mean)?)?, self.scale)?;
        let found = [matmul::matmul(&ds, &k)?, matmul::matmul(&t(&ds)?, &q)?, matmul::matmul(&t(&p)?, &g)?];
        found.iter().map(|grad| cast::cast(grad, self.q.dtype())).collect()
    }
}

/// The tensor, or a copy, with neighbours along the last axis.
fn close(x: &Tensor) -> Result<Tensor> {
    let last = x.rank() - 1;
    if x.layout().strides[last] == 1 || x.shape()[last] == 1 { Ok(x.clone()) } else { elementwise::copy(x) }
}

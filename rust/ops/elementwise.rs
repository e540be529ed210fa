//! Operations of the table on tensors: promotion, broadcasting, the node, and the gradient that the
//! row gives, evaluated with these same operations so that it can be differentiated again.

use super::{autocast, cast, create, device, reduce, source, view};
use crate::bail;
use crate::core::{DType, Error, Result, Scalar, Shape};
use crate::graph::node::Operands;
use crate::graph::record::{Context, Grads, grad_enabled, record_one};
use crate::graph::{Device, Tensor};
use crate::ir::kernel::{self, Kernel};
use crate::ir::sym::{Expr, Term};
use crate::ir::{Class, Elementwise};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

/// An argument: a tensor, or a Python number, which is weak.
#[derive(Clone, Debug)]
pub enum Arg {
    Tensor(Tensor),
    Scalar(Scalar),
}

impl From<&Tensor> for Arg {
    fn from(t: &Tensor) -> Arg {
        Arg::Tensor(t.clone())
    }
}

impl From<&Arg> for Arg {
    fn from(arg: &Arg) -> Arg {
        arg.clone()
    }
}

impl From<f64> for Arg {
    fn from(x: f64) -> Arg {
        Arg::Scalar(Scalar::Float(x))
    }
}

type Args = SmallVec<[Arg; 3]>;

/// `op` of one tensor.
pub fn unary(op: Elementwise, x: &Tensor) -> Result<Tensor> {
    apply(op, &[x.into()])
}

/// `op` of two tensors or numbers.
pub fn binary(op: Elementwise, a: impl Into<Arg>, b: impl Into<Arg>) -> Result<Tensor> {
    apply(op, &[a.into(), b.into()])
}

/// `yes` where `mask` holds, else `no`.
pub fn select(mask: &Tensor, yes: impl Into<Arg>, no: impl Into<Arg>) -> Result<Tensor> {
    apply(Elementwise::r#where, &[mask.into(), yes.into(), no.into()])
}

/// Applies an operation of the table with promotion and broadcasting.
pub fn apply(op: Elementwise, args: &[Arg]) -> Result<Tensor> {
    let tensors: SmallVec<[&Tensor; 3]> =
        args.iter().filter_map(|a| if let Arg::Tensor(t) = a { Some(t) } else { None }).collect();
    if tensors.is_empty() {
        bail!(DType, "{}: at least one argument must be a tensor", op.name());
    }
    if autocast::is_active()
        && let Some(args) = casted(op, args, &tensors)?
    {
        return apply(op, &args);
    }
    let device = device(op.name(), &tensors)?;
    let values = if op.class() == Class::Where { &args[1..] } else { args };
    let found = common_dtype(values)?;
    let (op, found) = on_bool(op, found);
    let dtype = op.argument(found)?;
    let mut shape = Cow::Borrowed(tensors[0].shape());
    for t in &tensors[1..] {
        if *t.shape() == *shape {
            continue;
        }
        shape = match shape.broadcast(t.shape()) {
            Some(shape) => Cow::Owned(shape),
            None => bail!(Shape, "{}: shapes {} do not broadcast", op.name(), shapes(&tensors)),
        };
    }
    let ready = |arg: &Arg| matches!(arg, Arg::Tensor(t) if t.dtype() == dtype);
    let mut taken = Args::new();
    let taken = if args.iter().all(ready) {
        args
    } else {
        for (n, arg) in args.iter().enumerate() {
            taken.push(match arg {
                Arg::Scalar(scalar) => Arg::Scalar(weak(op, *scalar, dtype)?),
                Arg::Tensor(t) if op.class() == Class::Where && n == 0 => Arg::Tensor(condition(t)?),
                Arg::Tensor(t) => Arg::Tensor(cast::cast(t, dtype)?),
            });
        }
        &taken[..]
    };
    let out = make(device, op, dtype, taken, shape.into_owned())?;
    if !op.differentiable() || !grad_enabled() || !tensors.iter().any(|t| t.requires_grad()) {
        return Ok(out);
    }
    let inputs: SmallVec<[&Tensor; 3]> =
        taken.iter().filter_map(|a| if let Arg::Tensor(t) = a { Some(t) } else { None }).collect();
    Ok(record_one(op.name(), &inputs, out.clone(), || Gradient::new(op, taken, &out)))
}

/// The arguments as autocast asks for them, if they are not so.
fn casted(op: Elementwise, args: &[Arg], tensors: &[&Tensor]) -> Result<Option<Args>> {
    let cast = autocast::all(op.name(), tensors)?;
    if cast.iter().zip(tensors).all(|(cast, t)| cast.dtype() == t.dtype()) {
        return Ok(None);
    }
    let mut cast = cast.into_iter().map(Arg::Tensor);
    let arg = |arg: &Arg| if let Arg::Tensor(_) = arg { cast.next() } else { Some(arg.clone()) };
    Ok(Some(args.iter().filter_map(arg).collect()))
}

/// The node itself; everything has been checked.
fn make(device: Device, op: Elementwise, dtype: DType, args: &[Arg], shape: Shape) -> Result<Tensor> {
    let mut operands = Operands::new();
    let mut places = SmallVec::new();
    for arg in args {
        places.push(match arg {
            Arg::Scalar(scalar) => kernel::Arg::Scalar(*scalar),
            Arg::Tensor(t) => {
                let mut operand = t.operand();
                if *t.shape() != shape {
                    let layout = operand.layout.broadcast_to(&shape).expect("broadcast shapes");
                    operand.layout = Arc::new(layout);
                }
                operands.push(operand);
                kernel::Arg::Input(operands.len() as u8 - 1)
            }
        });
    }
    let kernel = Kernel::Apply { op, dtype, args: places };
    source(device, kernel, operands, shape, op.result(dtype))
}

fn shapes(tensors: &[&Tensor]) -> String {
    let names: Vec<String> = tensors.iter().map(|t| t.shape().to_string()).collect();
    names.join(" and ")
}

/// The dtype that tensors and numbers promote to.
pub fn common_dtype(args: &[Arg]) -> Result<DType> {
    let mut found: Option<DType> = None;
    for arg in args {
        if let Arg::Tensor(t) = arg {
            found = Some(found.map_or(t.dtype(), |d| d.promote(t.dtype())));
        }
    }
    let mut dtype = match (found, args) {
        (Some(dtype), _) => dtype,
        (None, [Arg::Scalar(first), ..]) => first.default_dtype(),
        (None, _) => bail!(DType, "no argument to take a dtype from"),
    };
    for arg in args {
        if let Arg::Scalar(scalar) = arg {
            dtype = scalar.promote(dtype);
        }
    }
    Ok(dtype)
}

/// On bools, `+ · max min` are the logical operations, as in NumPy and PyTorch.
fn on_bool(op: Elementwise, dtype: DType) -> (Elementwise, DType) {
    use Elementwise::*;
    match (op, dtype) {
        (add | maximum, DType::Bool) => (bitwise_or, dtype),
        (mul | minimum, DType::Bool) => (bitwise_and, dtype),
        _ => (op, dtype),
    }
}

/// A number as an argument of `dtype`; integers must fit.
fn weak(op: Elementwise, scalar: Scalar, dtype: DType) -> Result<Scalar> {
    if dtype.is_int() && !scalar.fits(dtype) {
        bail!(Value, "{}: the number {} does not fit {dtype}", op.name(), scalar.as_f64());
    }
    Ok(if dtype.is_float() { Scalar::Float(scalar.as_f64()) } else { scalar })
}

/// A mask: bool as it is, anything else by `!= 0`.
fn condition(t: &Tensor) -> Result<Tensor> {
    cast::cast(t, DType::Bool)
}

/// What the gradient of one call needs: the row, and those arguments that its gradient names.
struct Gradient {
    op: Elementwise,
    /// Arguments and the result; `None` where the gradient does not name them.
    saved: SmallVec<[Option<Arg>; 4]>,
    /// Shapes of the tensor arguments, to which gradients are summed; `None` for numbers.
    shapes: SmallVec<[Option<Shape>; 3]>,
}

impl Gradient {
    fn new(op: Elementwise, args: &[Arg], out: &Tensor) -> Gradient {
        let expr = gradient_of(op);
        let wanted: SmallVec<[bool; 3]> =
            args.iter().map(|a| matches!(a, Arg::Tensor(t) if t.requires_grad())).collect();
        let mut named = [false; 5];
        for (root, wanted) in expr.roots().iter().zip(wanted) {
            if wanted {
                mark(expr, *root, &mut named);
            }
        }
        let mut saved: SmallVec<[Option<Arg>; 4]> =
            args.iter().enumerate().map(|(i, a)| named[i].then(|| a.clone())).collect();
        saved.push(named[args.len()].then(|| Arg::Tensor(out.clone())));
        let shapes = args
            .iter()
            .map(|a| if let Arg::Tensor(t) = a { Some(t.shape().clone()) } else { None })
            .collect();
        Gradient { op, saved, shapes }
    }
}

impl crate::graph::Rule for Gradient {
    fn backward(&self, context: &Context<'_>, grads: &[Option<Tensor>]) -> Result<Grads> {
        let Some(dy) = &grads[0] else { return Ok(self.shapes.iter().flatten().map(|_| None).collect()) };
        let expr = gradient_of(self.op);
        let arity = self.op.arity();
        let mut inputs: SmallVec<[Option<Arg>; 5]> = self.saved.iter().cloned().collect();
        if let Some(Some(Arg::Tensor(y))) = self.saved.get(arity) {
            inputs[arity] = Some(Arg::Tensor(context.output(y, 0)));
        }
        inputs.push(Some(Arg::Tensor(dy.clone())));
        let mut memo: SmallVec<[Option<Arg>; 16]> = SmallVec::from_elem(None, expr.terms().len());
        let mut out = Grads::new();
        let mut input = 0;
        for (root, shape) in expr.roots().iter().zip(&self.shapes) {
            let Some(shape) = shape else { continue };
            out.push(if context.needs(input) {
                Some(match evaluate(expr, *root, &inputs, &mut memo)? {
                    Arg::Tensor(g) => reduce::sum_to(&g, shape)?,
                    Arg::Scalar(x) => create::full(shape, x, dy.dtype(), dy.device())?,
                })
            } else {
                None
            });
            input += 1;
        }
        Ok(out)
    }
}

/// The row's gradient, made once.
fn gradient_of(op: Elementwise) -> &'static Expr {
    static ALL: [OnceLock<Expr>; Elementwise::ALL.len()] =
        [const { OnceLock::new() }; Elementwise::ALL.len()];
    ALL[op as usize].get_or_init(|| op.gradient())
}

/// Marks the inputs that `term` depends on.
fn mark(expr: &Expr, term: usize, named: &mut [bool]) {
    match expr.terms()[term] {
        Term::Input(i) => named[i] = true,
        Term::Constant(_) => {}
        Term::Apply(op, args) => args[..op.arity()].iter().for_each(|&a| mark(expr, a, named)),
    }
}

/// The value of a term as tensor operations; shared terms are made once.
fn evaluate(expr: &Expr, term: usize, inputs: &[Option<Arg>], memo: &mut [Option<Arg>]) -> Result<Arg> {
    if let Some(known) = &memo[term] {
        return Ok(known.clone());
    }
    let value = match expr.terms()[term] {
        Term::Input(i) => {
            inputs[i].clone().ok_or_else(|| Error::Grad("a gradient names what was not saved".into()))?
        }
        Term::Constant(x) => Arg::Scalar(Scalar::Float(x)),
        Term::Apply(op, args) => {
            let mut values = Args::new();
            for &arg in &args[..op.arity()] {
                values.push(evaluate(expr, arg, inputs, memo)?);
            }
            let all_scalars = values.iter().all(|v| matches!(v, Arg::Scalar(_)));
            if all_scalars {
                // Only where every argument of the call was a number but the one differentiated.
                values = values
                    .into_iter()
                    .map(|v| match (v, inputs.last()) {
                        (Arg::Scalar(x), Some(Some(Arg::Tensor(dy)))) => {
                            Ok(Arg::Tensor(create::full(&Shape::default(), x, dy.dtype(), dy.device())?))
                        }
                        (v, _) => Ok(v),
                    })
                    .collect::<Result<Args>>()?;
            }
            Arg::Tensor(apply(op, &values)?)
        }
    };
    memo[term] = Some(value.clone());
    Ok(value)
}

/// The same elements in a fresh row-major buffer.
pub fn copy(x: &Tensor) -> Result<Tensor> {
    let out =
        source(x.device(), Kernel::Copy, Operands::from_elem(x.operand(), 1), x.shape().clone(), x.dtype())?;
    Ok(record_one("copy", &[x], out, || {
        |_: &Context<'_>, grads: &[Option<Tensor>]| Ok(Grads::from_elem(grads[0].clone(), 1))
    }))
}

/// The tensor itself if it is row-major without gaps, otherwise a copy that is.
pub fn contiguous(x: &Tensor) -> Result<Tensor> {
    if x.is_contiguous() { Ok(x.clone()) } else { copy(x) }
}

/// All tensors, broadcast to one shape as views.
pub fn broadcast_tensors(op: &str, tensors: &[&Tensor]) -> Result<Vec<Tensor>> {
    let mut shape = Shape::default();
    for t in tensors {
        shape = match shape.broadcast(t.shape()) {
            Some(shape) => shape,
            None => bail!(Shape, "{op}: shapes {} do not broadcast", shapes(tensors)),
        };
    }
    tensors.iter().map(|t| view::expand(t, &shape)).collect()
}

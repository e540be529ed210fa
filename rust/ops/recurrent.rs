//! Whole sequences of recurrent layers as one kernel each, forward and backward. They have no place in the
//! record: the `Function` of `nn/functional/recurrent.py` ties them together, and composes sequences of other
//! operations where gradients are differentiated again.

use super::{cast, device, elementwise, view};
use crate::bail;
use crate::core::{DType, Result, Shape};
use crate::graph::node::{Operands, Specs};
use crate::graph::{Spec, Tensor};
use crate::ir::Kernel;
use crate::ir::kernel::Cell;

const OP: &str = "recurrent";

impl Cell {
    pub fn parse(name: &str) -> Result<Cell> {
        Ok(match name {
            "tanh" => Cell::Tanh,
            "relu" => Cell::Relu,
            "lstm" => Cell::Lstm,
            "gru" => Cell::Gru,
            _ => bail!(Value, "{OP}: cell {name:?} is unknown; there are tanh, relu, lstm and gru"),
        })
    }

    pub fn gates(self) -> usize {
        match self {
            Cell::Tanh | Cell::Relu => 1,
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }

    pub fn states(self) -> usize {
        1 + (self == Cell::Lstm) as usize
    }

    /// Values that a unit keeps of a step for the gradient.
    fn kept(self) -> usize {
        match self {
            Cell::Tanh | Cell::Relu => 0,
            Cell::Lstm | Cell::Gru => 4,
        }
    }
}

/// What a sequence gives: `outputs` are the hidden states of all steps (L, N, H) and the last states (N, H),
/// `around` the states before and after all steps (L + 1, N, H), in the dtype that computes, and `kept` what
/// the gradient needs beside them.
pub struct Sequence {
    pub outputs: Vec<Tensor>,
    pub around: Vec<Tensor>,
    pub kept: Option<Tensor>,
}

/// A row-major tensor of this shape in the dtype that computes.
fn operand(what: &str, t: &Tensor, shape: &[usize], dtype: DType) -> Result<Tensor> {
    if t.shape()[..] != *shape {
        bail!(Shape, "{OP}: {what} {} where {} is expected", t.shape(), Shape::new(shape));
    }
    if !t.dtype().is_float() {
        bail!(DType, "{OP}: {what} must be of a floating-point dtype, not {}", t.dtype());
    }
    elementwise::contiguous(&cast::cast(&t.detach(), dtype)?)
}

fn nodes(kernel: Kernel, operands: &[Tensor], shapes: &[Shape], dtype: DType) -> Result<Vec<Tensor>> {
    let refs: Vec<&Tensor> = operands.iter().collect();
    let device = device(OP, &refs)?;
    let operands: Operands = operands.iter().map(Tensor::operand).collect();
    let specs: Specs = shapes.iter().map(|shape| Spec { shape: shape.clone(), dtype }).collect();
    Ok(Tensor::pending(device, kernel, operands, specs)?.into_vec())
}

/// All steps of a layer: the inputs' share of the gates gi (L, N, gates·H), the recurrent weight
/// (gates·H, H) and bias (gates·H), the initial states (N, H). Half floats are computed in float32. Gives no
/// history.
pub fn sequence(
    cell: Cell,
    reverse: bool,
    gi: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    states: &[Tensor],
    keep: bool,
) -> Result<Sequence> {
    let (&[steps, batch, _], &[rows, hidden]) = (&gi.shape()[..], &weight.shape()[..]) else {
        bail!(Shape, "{OP}: gates {} and weight {} must have three axes and two", gi.shape(), weight.shape());
    };
    let gates = hidden.checked_mul(cell.gates()).filter(|&gates| gates == rows && gates > 0);
    let Some(gates) = gates else {
        bail!(Shape, "{OP}: weight {} must have {} rows for each column", weight.shape(), cell.gates());
    };
    if states.len() != cell.states() {
        bail!(Value, "{OP}: {} states where {} are expected", states.len(), cell.states());
    }
    if steps == 0 {
        bail!(Shape, "{OP}: the sequence has no steps");
    }
    let given = gi.dtype();
    let dtype = given.compute();
    let mut operands = vec![
        operand("gates", gi, &[steps, batch, gates], dtype)?,
        operand("weight", weight, &[gates, hidden], dtype)?,
    ];
    for state in states {
        operands.push(operand("state", state, &[batch, hidden], dtype)?);
    }
    if let Some(bias) = bias {
        operands.push(operand("bias", bias, &[gates], dtype)?);
    }
    let mut shapes = vec![Shape::checked(OP, &[steps + 1, batch, hidden])?; states.len()];
    if keep && cell.kept() > 0 {
        shapes.push(Shape::checked(OP, &[steps, batch, cell.kept() * hidden])?);
    }
    let mut around = nodes(Kernel::Recurrent { cell, reverse }, &operands, &shapes, dtype)?;
    let kept = if shapes.len() > states.len() { around.pop() } else { None };
    let part = |t: Tensor| Ok(cast::cast(&t, given)?.as_own());
    let mut outputs = vec![part(view::slice(&around[0], 0, !reverse as usize, steps, 1)?)?];
    for state in &around {
        outputs.push(part(view::select(state, 0, if reverse { 0 } else { steps })?)?);
    }
    Ok(Sequence { outputs, around, kept })
}

/// The gradients of gi, of the hidden states' share of the gates (the same tensor but for a GRU), and of the
/// initial states, from those of the outputs of [`sequence`].
pub fn sequence_back(
    cell: Cell,
    reverse: bool,
    weight: &Tensor,
    around: &[Tensor],
    kept: Option<&Tensor>,
    grads: &[Tensor],
) -> Result<(Tensor, Tensor, Vec<Tensor>)> {
    let fits = around.len() == cell.states() && grads.len() == 1 + cell.states();
    let Some(&[after, batch, hidden]) = around.first().filter(|_| fits).map(|h| &h.shape()[..]) else {
        bail!(Value, "{OP}: a gradient needs all states and the gradients of all outputs");
    };
    if after < 2 || hidden == 0 || kept.is_some() != (cell.kept() > 0) {
        bail!(Value, "{OP}: what was kept is not that of the forward pass");
    }
    let (steps, gates, dtype) = (after - 1, cell.gates() * hidden, around[0].dtype());
    if !dtype.is_float() || dtype.compute() != dtype {
        bail!(DType, "{OP}: states are float32 or float64, not {dtype}");
    }
    let mut operands = vec![operand("weight", weight, &[gates, hidden], dtype)?];
    for state in around {
        operands.push(operand("states", state, &[after, batch, hidden], dtype)?);
    }
    if let Some(kept) = kept {
        operands.push(operand("what was kept", kept, &[steps, batch, cell.kept() * hidden], dtype)?);
    }
    operands.push(operand("gradient", &grads[0], &[steps, batch, hidden], dtype)?);
    for grad in &grads[1..] {
        operands.push(operand("gradient", grad, &[batch, hidden], dtype)?);
    }
    let mut shapes = vec![Shape::checked(OP, &[steps, batch, gates])?; 1 + (cell == Cell::Gru) as usize];
    shapes.extend(std::iter::repeat_n(Shape::new(&[batch, hidden]), cell.states()));
    let mut found = nodes(Kernel::RecurrentInput { cell, reverse }, &operands, &shapes, dtype)?;
    let states = found.split_off(found.len() - cell.states());
    let shares = found[found.len() - 1].clone();
    Ok((found.swap_remove(0), shares, states))
}

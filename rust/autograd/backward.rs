//! The walk: calls in reverse program order, so that each has all of its outputs' gradients before its
//! rule runs. A heap, not recursion: a million calls do not overflow the stack.

use crate::bail;
use crate::core::{Error, Result};
use crate::graph::Tensor;
use crate::graph::record::{Context, Edge, GradFn, Grads, Leaf, Slot, anomaly_enabled, with_grad};
use crate::ir::Elementwise as E;
use crate::ops::{autocast, create, elementwise, reduce};
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

/// Whose gradients `grad` is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Wanted {
    Leaf(*const Leaf),
    Output(u64, usize),
}

impl Wanted {
    fn of(edge: &Edge) -> Option<Wanted> {
        match edge {
            Edge::None => None,
            Edge::Leaf(leaf) => Some(Wanted::Leaf(Arc::as_ptr(leaf))),
            Edge::Fn(call, output) => Some(Wanted::Output(call.id, *output)),
        }
    }
}

/// A call in the heap, latest first.
struct Next(Arc<GradFn>);

impl PartialEq for Next {
    fn eq(&self, other: &Next) -> bool {
        self.0.id == other.0.id
    }
}
impl Eq for Next {}
impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Next) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Next {
    fn cmp(&self, other: &Next) -> std::cmp::Ordering {
        self.0.id.cmp(&other.0.id)
    }
}

/// One walk.
struct Walk {
    heap: BinaryHeap<Next>,
    /// Gradients of the outputs of calls in the heap.
    grads: HashMap<u64, Grads>,
    keep: bool,
    /// Where gradients stop, for `grad`; `None` lets them run into leaves.
    wanted: Option<HashMap<Wanted, Option<Tensor>>>,
    /// Leaves in the order in which the walk met them, with what they got.
    leaves: Vec<(Arc<Leaf>, Tensor)>,
    leaf_places: HashMap<*const Leaf, usize>,
}

/// Accumulates into the leaves the gradients of `tensors`, each weighted by its `seed`.
pub fn backward(tensors: &[Tensor], seeds: &[Option<Tensor>], keep: bool, create_graph: bool) -> Result<()> {
    let mut walk = Walk::new(keep, None);
    walk.start("backward", tensors, seeds)?;
    autocast::off(|| with_grad(create_graph, || walk.run()))?;
    for (leaf, grad) in std::mem::take(&mut walk.leaves) {
        accumulate(&leaf, grad, create_graph)?;
    }
    Ok(())
}

/// The gradients of `outputs` with respect to `inputs`, `None` for those that play no part.
pub fn grad(
    outputs: &[Tensor],
    seeds: &[Option<Tensor>],
    inputs: &[Tensor],
    keep: bool,
    create_graph: bool,
) -> Result<Vec<Option<Tensor>>> {
    let mut wanted = HashMap::new();
    for (i, input) in inputs.iter().enumerate() {
        match Wanted::of(input.edge()) {
            Some(key) => wanted.insert(key, None),
            None => bail!(Grad, "grad: input {i} does not require grad"),
        };
    }
    let mut walk = Walk::new(keep, Some(wanted));
    walk.start("grad", outputs, seeds)?;
    autocast::off(|| with_grad(create_graph, || walk.run()))?;
    let found = walk.wanted.take().unwrap_or_default();
    Ok(inputs.iter().map(|t| Wanted::of(t.edge()).and_then(|key| found[&key].clone())).collect())
}

/// Adds a gradient to a leaf and runs its hooks.
fn accumulate(leaf: &Leaf, grad: Tensor, create_graph: bool) -> Result<()> {
    let grad = leaf.hooks.apply(grad)?;
    let grad = if create_graph { grad } else { grad.detach() };
    let held = leaf.grad.lock().clone();
    let total = match held {
        Some(slot) => {
            let total = with_grad(create_graph, || elementwise::binary(E::add, &slot.get(), &grad))?;
            slot.set(total.clone());
            total
        }
        None => {
            *leaf.grad.lock() = Some(Slot::new(grad.as_own()));
            grad
        }
    };
    leaf.after.apply(total)?;
    Ok(())
}

fn sum_of(a: Option<Tensor>, b: Tensor) -> Result<Tensor> {
    match a {
        Some(a) => elementwise::binary(E::add, &a, &b),
        None => Ok(b),
    }
}

impl Walk {
    fn new(keep: bool, wanted: Option<HashMap<Wanted, Option<Tensor>>>) -> Walk {
        Walk {
            heap: BinaryHeap::new(),
            grads: HashMap::new(),
            keep,
            wanted,
            leaves: vec![],
            leaf_places: HashMap::new(),
        }
    }

    fn start(&mut self, op: &str, tensors: &[Tensor], seeds: &[Option<Tensor>]) -> Result<()> {
        for (tensor, seed) in tensors.iter().zip(seeds) {
            if !tensor.requires_grad() {
                bail!(Grad, "{op}: the tensor does not require grad and was made from none that does");
            }
            let seed = match seed {
                Some(seed) if seed.shape() != tensor.shape() => {
                    bail!(Shape, "{op}: a gradient of {} for a tensor of {}", seed.shape(), tensor.shape())
                }
                Some(seed) => crate::ops::cast::cast(seed, tensor.dtype())?,
                None if tensor.count() == 1 => create::ones_like(tensor)?,
                None => bail!(
                    Grad,
                    "{op}: a tensor of shape {} has many gradients; reduce it first, as in `x.sum()`, \
                     or pass the gradient to weight them by",
                    tensor.shape()
                ),
            };
            self.give(tensor.edge(), seed)?;
        }
        Ok(())
    }

    /// Hands a gradient to where an edge leads.
    fn give(&mut self, edge: &Edge, grad: Tensor) -> Result<()> {
        match edge {
            Edge::None => {}
            Edge::Leaf(leaf) => {
                if let Some(wanted) = &mut self.wanted {
                    if let Some(place) = wanted.get_mut(&Wanted::Leaf(Arc::as_ptr(leaf))) {
                        *place = Some(sum_of(place.take(), grad)?);
                    }
                } else if let Some(&at) = self.leaf_places.get(&Arc::as_ptr(leaf)) {
                    let total = elementwise::binary(E::add, &self.leaves[at].1, &grad)?;
                    self.leaves[at].1 = total;
                } else {
                    self.leaf_places.insert(Arc::as_ptr(leaf), self.leaves.len());
                    self.leaves.push((leaf.clone(), grad));
                }
            }
            Edge::Fn(call, output) => {
                let grads = self.grads.entry(call.id).or_insert_with(|| {
                    self.heap.push(Next(call.clone()));
                    Grads::from_elem(None, call.outputs.len())
                });
                grads[*output] = Some(sum_of(grads[*output].take(), grad)?);
            }
        }
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        while let Some(Next(call)) = self.heap.pop() {
            let mut grads = self.grads.remove(&call.id).expect("calls in the heap have gradients");
            for (output, grad) in grads.iter_mut().enumerate() {
                if let Some(g) = grad.take() {
                    let g = call.hooks[output].apply(g)?;
                    if let Some(place) =
                        self.wanted.as_mut().and_then(|w| w.get_mut(&Wanted::Output(call.id, output)))
                    {
                        *place = Some(sum_of(place.take(), g.clone())?);
                    }
                    *grad = Some(g);
                }
            }
            let rule = call.take_rule(self.keep)?;
            let found = rule.backward(&Context { record: &call }, &grads)?;
            drop(rule);
            for (input, grad) in found.into_iter().enumerate() {
                let Some(grad) = grad else { continue };
                if anomaly_enabled() {
                    search_nan(&call, input, &grad)?;
                }
                self.give(&call.edges[input], grad)?;
            }
        }
        Ok(())
    }
}

/// In anomaly mode: raises at the first gradient that holds a NaN, with the call that made it.
fn search_nan(call: &GradFn, input: usize, grad: &Tensor) -> Result<()> {
    if has_nan(grad)? {
        let line = call.line.as_deref().unwrap_or("an unknown line (made outside anomaly mode)");
        return Err(Error::Grad(format!(
            "backward: {} gave NaN as the gradient of its input {input}; the call was made at {line}",
            call.name
        )));
    }
    Ok(())
}

/// Observes whether a float tensor holds a NaN.
pub fn has_nan(x: &Tensor) -> Result<bool> {
    if !x.dtype().is_float() {
        return Ok(false);
    }
    let axes: Vec<usize> = (0..x.rank()).collect();
    let found = with_grad(false, || reduce::any_all(&elementwise::unary(E::isnan, x)?, &axes, false, false))?;
    Ok(found.element_bytes()?[0] != 0)
}

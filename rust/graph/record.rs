//! The autograd record: what operations leave behind in grad mode so that `autograd` can walk back.
//! It is separate from the window, holds values and leaves, and saves only what a gradient names.

use super::device::Device;
use super::node::Spec;
use super::tensor::Tensor;
use crate::core::{Error, Result};
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    static ENABLED: Cell<bool> = const { Cell::new(true) };
    static ANOMALY: Cell<bool> = const { Cell::new(false) };
}

/// Whether operations on this thread are recorded.
pub fn grad_enabled() -> bool {
    ENABLED.get()
}

/// Turns recording on or off on this thread and tells what it was.
pub fn set_grad_enabled(on: bool) -> bool {
    ENABLED.replace(on)
}

/// Whether operations remember the line that made them and are searched for the first NaN.
pub fn anomaly_enabled() -> bool {
    ANOMALY.get()
}

pub fn set_anomaly_enabled(on: bool) -> bool {
    ANOMALY.replace(on)
}

/// Runs `body` with recording on or off.
pub fn with_grad<T>(on: bool, body: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ENABLED.set(self.0);
        }
    }
    let _restore = Restore(set_grad_enabled(on));
    body()
}

pub type Grads = SmallVec<[Option<Tensor>; 2]>;

/// The derivative of one recorded call: gradients of the inputs from those of the outputs (`None` is
/// zero), written in operations so that it fuses and can be differentiated again.
pub trait Rule: Send + Sync {
    fn backward(&self, context: &Context<'_>, grads: &[Option<Tensor>]) -> Result<Grads>;
}

impl<F> Rule for F
where
    F: Fn(&Context<'_>, &[Option<Tensor>]) -> Result<Grads> + Send + Sync,
{
    fn backward(&self, context: &Context<'_>, grads: &[Option<Tensor>]) -> Result<Grads> {
        self(context, grads)
    }
}

/// What a rule may ask while it runs.
pub struct Context<'a> {
    pub record: &'a Arc<GradFn>,
}

impl Context<'_> {
    /// Whether anybody wants the gradient of this input.
    pub fn needs(&self, input: usize) -> bool {
        !matches!(self.record.edges[input], Edge::None)
    }

    /// A saved output with its history, which the rule could not hold without a cycle.
    pub fn output(&self, saved: &Tensor, index: usize) -> Tensor {
        saved.with_edge(Edge::Fn(self.record.clone(), index))
    }
}

/// What a hook does with a gradient: look at it, or put another in its place.
pub type Hook = Box<dyn Fn(&Tensor) -> Result<Option<Tensor>> + Send + Sync>;

/// Hooks with the numbers by which they are removed.
#[derive(Default)]
pub struct Hooks(Mutex<Vec<(u64, Arc<Hook>)>>);

impl Hooks {
    pub fn add(&self, hook: Hook) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        self.0.lock().push((id, Arc::new(hook)));
        id
    }

    pub fn remove(&self, id: u64) {
        self.0.lock().retain(|(other, _)| *other != id);
    }

    /// The gradient after all hooks, in the order in which they were added.
    pub fn apply(&self, mut grad: Tensor) -> Result<Tensor> {
        let hooks: Vec<_> = self.0.lock().iter().map(|(_, hook)| hook.clone()).collect();
        for hook in hooks {
            if let Some(other) = hook(&grad)? {
                grad = other;
            }
        }
        Ok(grad)
    }
}

/// A place whose tensor can be replaced: what a Python handle points to. Tensors are values; only
/// slots change.
pub struct Slot(Mutex<Tensor>);

impl Slot {
    pub fn new(tensor: Tensor) -> Arc<Slot> {
        Arc::new(Slot(Mutex::new(tensor)))
    }

    pub fn get(&self) -> Tensor {
        self.0.lock().clone()
    }

    /// Puts another value here; the old one is dropped after the lock is released.
    pub fn set(&self, tensor: Tensor) {
        let _old = std::mem::replace(&mut *self.0.lock(), tensor);
    }
}

/// Where gradients of a leaf accumulate. The leaf's own value lives in its handle, so that an optimizer
/// can replace it while records keep the values they saw.
#[derive(Default)]
pub struct Leaf {
    pub grad: Mutex<Option<Arc<Slot>>>,
    pub hooks: Hooks,
    /// Run after a gradient has been added.
    pub after: Hooks,
}

/// Where the gradient of a tensor goes.
#[derive(Clone, Default)]
pub enum Edge {
    /// Nowhere: the tensor needs no gradient.
    #[default]
    None,
    Leaf(Arc<Leaf>),
    /// To the call that made it, as the n-th output.
    Fn(Arc<GradFn>, usize),
}

impl Edge {
    pub fn is_some(&self) -> bool {
        !matches!(self, Edge::None)
    }
}

/// One recorded call.
pub struct GradFn {
    /// Program order; inputs have smaller numbers.
    pub id: u64,
    pub name: &'static str,
    pub edges: SmallVec<[Edge; 2]>,
    /// What each output is, so that a missing gradient can be zeros of the right kind.
    pub outputs: SmallVec<[(Spec, Device); 1]>,
    /// Gone once a backward pass without `retain_graph` has used it.
    pub rule: Mutex<Option<Arc<dyn Rule>>>,
    /// One for each output.
    pub hooks: SmallVec<[Hooks; 1]>,
    /// Where the user made the call, in anomaly mode.
    pub line: Option<Arc<str>>,
}

impl fmt::Debug for GradFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.id)
    }
}

impl GradFn {
    /// The rule, or an error for a graph that has been freed.
    pub fn take_rule(&self, keep: bool) -> Result<Arc<dyn Rule>> {
        let mut rule = self.rule.lock();
        let found = if keep { rule.clone() } else { rule.take() };
        found.ok_or_else(|| {
            Error::Grad(format!(
                "backward: the graph through {} has been freed by an earlier backward pass; \
                 pass retain_graph=True to the first one",
                self.name
            ))
        })
    }
}

/// Long histories are taken apart in a loop, so that dropping one never recurses.
impl Drop for GradFn {
    fn drop(&mut self) {
        let mut rest: Vec<Edge> = self.edges.drain(..).collect();
        // Saved tensors hold edges to the same calls; those calls are in `rest` as well, so dropping
        // the rule here only lowers counts.
        self.rule.get_mut().take();
        while let Some(edge) = rest.pop() {
            if let Edge::Fn(call, _) = edge
                && let Some(mut call) = Arc::into_inner(call)
            {
                rest.extend(call.edges.drain(..));
            }
        }
    }
}

/// Finds the user's line; set by the Python layer.
pub type Locate = fn() -> Option<Arc<str>>;

static LOCATE: std::sync::OnceLock<Locate> = std::sync::OnceLock::new();

pub fn set_locate(locate: Locate) {
    let _ = LOCATE.set(locate);
}

/// The user's line, where a host language is there to ask.
pub fn user_line() -> Option<Arc<str>> {
    LOCATE.get().and_then(|locate| locate())
}

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Records a call whose inputs are `inputs`, and gives its outputs their history. `outputs` come
/// without one. `rule` is only made when somebody will want it.
pub fn record<R: Rule + 'static>(
    name: &'static str,
    inputs: &[&Tensor],
    outputs: SmallVec<[Tensor; 1]>,
    rule: impl FnOnce() -> R,
) -> SmallVec<[Tensor; 1]> {
    if !grad_enabled() || !inputs.iter().any(|t| t.requires_grad()) {
        return outputs;
    }
    let call = Arc::new(GradFn {
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        name,
        edges: inputs.iter().map(|t| t.edge().clone()).collect(),
        outputs: outputs
            .iter()
            .map(|t| (Spec { shape: t.shape().clone(), dtype: t.dtype() }, t.device()))
            .collect(),
        rule: Mutex::new(Some(Arc::new(rule()))),
        hooks: outputs.iter().map(|_| Hooks::default()).collect(),
        line: if anomaly_enabled() { user_line() } else { None },
    });
    outputs
        .iter()
        .enumerate()
        .map(
            |(i, out)| {
                if out.dtype().is_float() { out.with_edge(Edge::Fn(call.clone(), i)) } else { out.clone() }
            },
        )
        .collect()
}

/// [`record`] for calls of one output.
pub fn record_one<R: Rule + 'static>(
    name: &'static str,
    inputs: &[&Tensor],
    output: Tensor,
    rule: impl FnOnce() -> R,
) -> Tensor {
    if !grad_enabled() || !inputs.iter().any(|t| t.requires_grad()) {
        return output;
    }
    record(name, inputs, SmallVec::from_elem(output, 1), rule).remove(0)
}

//! The tensor: an immutable value, seen through a layout, with its place in the autograd record.

use super::device::{Buffer, Device};
use super::node::{Node, Operand, Operands, Spec, Specs, Value, Work};
use super::record::{Edge, user_line};
use super::{run, window};
use crate::core::{DType, Error, Layout, Result, Shape};
use crate::cpu;
use crate::ir::Kernel;
use smallvec::SmallVec;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A handle on a value; cloning it is cheap and shares everything.
#[derive(Clone)]
pub struct Tensor(Arc<Inner>);

struct Inner {
    value: Value,
    layout: Arc<Layout>,
    edge: Edge,
    /// Made by indexing or reshaping: in-place methods refuse it while others of its family are there.
    view: bool,
    /// Held by a tensor and the views of it, and of them; there once the first view is made.
    family: OnceLock<Arc<()>>,
}

/// A tensor as long as somebody else holds it. It keeps the tensor's [`Tensor::address`] from being used again.
pub struct WeakTensor(std::sync::Weak<Inner>);

impl WeakTensor {
    /// Whether nobody holds the tensor any more.
    pub fn is_dead(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}, {}, {})", self.shape(), self.dtype(), self.device())
    }
}

/// The row-major layout of a fresh result. Most have that of an operand, which is shared.
fn layout_for(shape: &Shape, operands: &Operands) -> Arc<Layout> {
    let same = |o: &&Operand| o.layout.shape == *shape && o.layout.offset == 0 && o.layout.is_contiguous();
    match operands.iter().find(same) {
        Some(operand) => operand.layout.clone(),
        None => Arc::new(Layout::contiguous(shape.clone())),
    }
}

impl Tensor {
    fn new(value: Value, layout: Arc<Layout>) -> Tensor {
        Tensor(Arc::new(Inner { value, layout, edge: Edge::None, view: false, family: OnceLock::new() }))
    }

    /// A tensor that holds `buffer`, row-major.
    pub fn from_buffer(device: Device, shape: Shape, dtype: DType, buffer: Buffer) -> Tensor {
        let layout = Arc::new(Layout::contiguous(shape.clone()));
        Tensor::new(Value { node: Node::ready(device, Spec { shape, dtype }, buffer), output: 0 }, layout)
    }

    /// A tensor on the CPU that sees `memory` through `layout`, in a buffer of `len` elements.
    pub fn from_memory(memory: cpu::Memory, len: usize, layout: Layout, dtype: DType) -> Tensor {
        let spec = Spec { shape: Shape::new(&[len]), dtype };
        Tensor::new(
            Value { node: Node::ready(Device::Cpu, spec, Buffer::Cpu(memory)), output: 0 },
            Arc::new(layout),
        )
    }

    /// Appends a node for `kernel` and gives its outputs; nothing runs yet.
    pub fn pending(
        device: Device,
        kernel: Kernel,
        operands: Operands,
        outputs: Specs,
    ) -> Result<SmallVec<[Tensor; 1]>> {
        let layouts: SmallVec<[Arc<Layout>; 1]> =
            outputs.iter().map(|spec| layout_for(&spec.shape, &operands)).collect();
        let line = if kernel.fails_late() { user_line() } else { None };
        let node = window::push(device, outputs, Work { kernel, operands, line })?;
        let outputs = layouts.into_iter().enumerate();
        Ok(outputs
            .map(|(output, layout)| Tensor::new(Value { node: node.clone(), output }, layout))
            .collect())
    }

    /// The same for kernels of one output.
    pub fn pending_one(device: Device, kernel: Kernel, operands: Operands, spec: Spec) -> Result<Tensor> {
        let layout = layout_for(&spec.shape, &operands);
        let line = if kernel.fails_late() { user_line() } else { None };
        let node = window::push(device, Specs::from_buf([spec]), Work { kernel, operands, line })?;
        Ok(Tensor::new(Value { node, output: 0 }, layout))
    }

    pub fn shape(&self) -> &Shape {
        &self.0.layout.shape
    }

    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    pub fn rank(&self) -> usize {
        self.0.layout.rank()
    }

    pub fn count(&self) -> usize {
        self.0.layout.count()
    }

    pub fn dtype(&self) -> DType {
        self.0.value.spec().dtype
    }

    pub fn device(&self) -> Device {
        self.0.value.node.device
    }

    pub fn value(&self) -> &Value {
        &self.0.value
    }

    pub fn edge(&self) -> &Edge {
        &self.0.edge
    }

    /// Tells this tensor from all others that are there.
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    pub fn downgrade(&self) -> WeakTensor {
        WeakTensor(Arc::downgrade(&self.0))
    }

    pub fn requires_grad(&self) -> bool {
        self.0.edge.is_some()
    }

    /// Whether this shows elements of another tensor that somebody still holds.
    pub fn is_view(&self) -> bool {
        self.0.view && self.0.family.get().is_some_and(|family| Arc::strong_count(family) > 1)
    }

    pub fn operand(&self) -> Operand {
        Operand { value: self.0.value.clone(), layout: self.0.layout.clone() }
    }

    /// The same elements seen through another layout, without history.
    pub fn with_layout(&self, layout: Layout) -> Tensor {
        let layout = Arc::new(layout);
        let family = OnceLock::from(self.0.family.get_or_init(Arc::default).clone());
        Tensor(Arc::new(Inner { value: self.0.value.clone(), layout, edge: Edge::None, view: true, family }))
    }

    /// The same value with another place in the record.
    pub fn with_edge(&self, edge: Edge) -> Tensor {
        Tensor(Arc::new(Inner {
            value: self.0.value.clone(),
            layout: self.0.layout.clone(),
            edge,
            view: self.0.view,
            family: self.0.family.clone(),
        }))
    }

    /// The same value as a tensor of its own, not a view of another.
    pub fn as_own(&self) -> Tensor {
        Tensor(Arc::new(Inner {
            value: self.0.value.clone(),
            layout: self.0.layout.clone(),
            edge: self.0.edge.clone(),
            view: false,
            family: OnceLock::new(),
        }))
    }

    /// The same value without history.
    pub fn detach(&self) -> Tensor {
        if self.requires_grad() { self.with_edge(Edge::None) } else { self.clone() }
    }

    pub fn is_contiguous(&self) -> bool {
        self.0.layout.is_contiguous()
    }

    /// Runs this tensor if that takes no longer than asking for it; tells whether it did.
    pub fn realise_small(&self) -> bool {
        run::realise_small(&self.0.value)
    }

    /// Runs what this tensor needs.
    pub fn realise(&self) -> Result<&Arc<Buffer>> {
        if self.0.value.ready().is_none() {
            run::realise(&self.0.value)?;
        }
        self.0.value.ready().expect("realised")
    }

    /// The host memory behind a CPU tensor, run first if need be.
    pub fn host(&self) -> Result<&cpu::Memory> {
        self.realise()?.host().ok_or_else(|| {
            Error::Device(format!("the tensor is on {}; copy it first: `x.cpu()`", self.device()))
        })
    }

    /// Reads one element of a tensor that has exactly one, as stored bytes.
    pub fn element_bytes(&self) -> Result<[u8; 8]> {
        let size = self.dtype().size();
        let mut out = [0; 8];
        self.realise()?.read(self.0.layout.offset * size, &mut out[..size])?;
        Ok(out)
    }
}

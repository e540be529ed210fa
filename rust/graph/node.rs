//! A node: one kernel that has been asked for, until it has run; then its buffers.

use super::device::{Buffer, Device};
use crate::core::{DType, Error, Layout, Result, Shape};
use crate::ir::Kernel;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Shape and dtype of one output; outputs are row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub shape: Shape,
    pub dtype: DType,
}

impl Spec {
    pub fn bytes(&self) -> usize {
        self.shape.count() * self.dtype.size()
    }
}

pub type Specs = SmallVec<[Spec; 1]>;
pub type Buffers = SmallVec<[Arc<Buffer>; 1]>;

/// One output of a node.
#[derive(Clone, Debug)]
pub struct Value {
    pub node: Arc<Node>,
    pub output: usize,
}

impl Value {
    pub fn spec(&self) -> &Spec {
        &self.node.outputs[self.output]
    }

    /// The buffer, if the node has run; the error it ran into, if it did.
    pub fn ready(&self) -> Option<Result<&Arc<Buffer>>> {
        Some(match self.node.done.get()? {
            Ok(buffers) => Ok(&buffers[self.output]),
            Err(error) => Err(error.clone()),
        })
    }
}

/// A strided view of a value, as a kernel reads it.
#[derive(Clone, Debug)]
pub struct Operand {
    pub value: Value,
    /// Shared with the tensor, and by all that are seen in the same way.
    pub layout: Arc<Layout>,
}

impl Operand {
    pub fn dtype(&self) -> DType {
        self.value.spec().dtype
    }

    /// Whether this reads the whole buffer in order.
    pub fn is_whole(&self) -> bool {
        self.layout.is_whole(self.value.spec().shape.count())
    }
}

pub type Operands = SmallVec<[Operand; 3]>;

/// What a pending node still has to do. Dropping it releases the operands: a node that has run, or
/// that nobody can see any more, holds nothing.
#[derive(Debug)]
pub struct Work {
    pub kernel: Kernel,
    pub operands: Operands,
    /// Where the user asked for it (`file.py:12`), known for kernels that can fail late.
    pub line: Option<Arc<str>>,
}

#[derive(Debug)]
pub struct Node {
    /// Program order: operands have smaller numbers.
    pub id: u64,
    pub device: Device,
    pub outputs: Specs,
    /// Taken by the thread that runs the node.
    pub(super) work: Mutex<Option<Work>>,
    pub(super) done: OnceLock<Result<Buffers>>,
    /// The scheduler's place for this node's index in the batch it is collecting (`batch << 32 | index`).
    pub(super) mark: AtomicU64,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Node {
    pub fn pending(device: Device, outputs: Specs, work: Work) -> Arc<Node> {
        Arc::new(Node {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            device,
            outputs,
            work: Mutex::new(Some(work)),
            done: OnceLock::new(),
            mark: AtomicU64::new(0),
        })
    }

    /// A node that holds data from outside.
    pub fn ready(device: Device, spec: Spec, buffer: Buffer) -> Arc<Node> {
        let done = OnceLock::from(Ok(Buffers::from_elem(Arc::new(buffer), 1)));
        Arc::new(Node {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            device,
            outputs: Specs::from_elem(spec, 1),
            work: Mutex::new(None),
            done,
            mark: AtomicU64::new(0),
        })
    }

    pub fn is_done(&self) -> bool {
        self.done.get().is_some()
    }

    pub(super) fn finish(&self, result: Result<Buffers, Error>) {
        let _ = self.done.set(result);
    }
}

/// Chains of pending nodes may be as long as the window; they are taken apart in a loop, so that
/// dropping one never recurses.
impl Drop for Node {
    fn drop(&mut self) {
        let Some(work) = self.work.get_mut().take() else { return };
        let mut rest: Vec<Operand> = work.operands.into_vec();
        while let Some(operand) = rest.pop() {
            if let Some(mut node) = Arc::into_inner(operand.value.node)
                && let Some(work) = node.work.get_mut().take()
            {
                rest.extend(work.operands);
            }
        }
    }
}

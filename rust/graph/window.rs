//! The window: what this thread has asked for and nobody has run yet. It only bounds how much may be
//! pending; what runs, and in which order, is found from the nodes themselves.

use super::node::Node;
use super::run;
use crate::core::Result;
use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Arc, Weak};

/// Pending nodes at which everything visible is run.
const MAX_NODES: usize = 512;
/// Bytes of pending outputs, and of operands that they keep alive, at which everything is run.
const MAX_BYTES: usize = 1 << 30;
/// Operands smaller than this are not worth counting.
const LARGE: usize = 1 << 20;

#[derive(Default)]
struct Window {
    nodes: Vec<Weak<Node>>,
    bytes: usize,
    /// Large operands that have run, each counted once.
    held: HashSet<u64>,
}

impl Window {
    /// Bytes that running a node would let go, if nobody else holds its operands by then.
    fn held_by(&mut self, node: &Node) -> usize {
        let work = node.work.lock();
        let operands = work.iter().flat_map(|work| &work.operands).map(|operand| &operand.value);
        operands
            .filter(|value| value.spec().bytes() >= LARGE && value.node.is_done())
            .filter(|value| self.held.insert(value.node.id))
            .map(|value| value.spec().bytes())
            .sum()
    }
}

thread_local! {
    static WINDOW: RefCell<Window> = RefCell::default();
}

/// Adds a pending node, and runs the window if that fills it.
pub fn push(node: &Arc<Node>) -> Result<()> {
    let bytes: usize = node.outputs.iter().map(|spec| spec.bytes()).sum();
    let full = WINDOW.with_borrow_mut(|window| {
        window.nodes.push(Arc::downgrade(node));
        let held = window.held_by(node);
        window.bytes += bytes + held;
        window.nodes.len() >= MAX_NODES || window.bytes >= MAX_BYTES
    });
    if full { flush() } else { Ok(()) }
}

/// Runs all of this thread's pending nodes that somebody can still see. Errors stay with the values
/// that they spoil; only an interrupt is returned.
pub fn flush() -> Result<()> {
    let nodes = WINDOW.with_borrow_mut(std::mem::take).nodes;
    run::run_roots(nodes.iter().filter_map(Weak::upgrade).collect())
}

/// Forgets the window of the parent's thread in a forked child.
pub fn after_fork_in_child() {
    WINDOW.with_borrow_mut(|window| *window = Window::default());
}

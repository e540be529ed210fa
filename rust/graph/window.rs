//! The window: what this thread has asked for and nobody has run yet. It only bounds how much may be
//! pending; what runs, and in which order, is found from the nodes themselves.

use super::device::Device;
use super::node::{Node, Operands, Specs, Work};
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
    /// Forgets nodes that have run or that nobody holds any more, and counts what is left: a program that observes
    /// some values again and again is then cut where it does that, not wherever so many nodes have passed by.
    /// Gives what it looked at, to be dropped once the window is let go: a last reference may run code of another
    /// library.
    fn trim(&mut self) -> Vec<Arc<Node>> {
        let seen: Vec<Arc<Node>> = self.nodes.iter().filter_map(Weak::upgrade).collect();
        *self = Window::default();
        for node in seen.iter().filter(|node| !node.is_done()) {
            self.nodes.push(Arc::downgrade(node));
            self.bytes += node.outputs.iter().map(|spec| spec.bytes()).sum::<usize>();
            let held = node.work.lock().as_ref().map_or(0, |work| self.held_by(&work.operands));
            self.bytes += held;
        }
        seen
    }

    fn is_full(&self) -> bool {
        self.nodes.len() >= MAX_NODES || self.bytes >= MAX_BYTES
    }

    /// Bytes that running a node with these operands would let go, if nobody else holds them by then.
    fn held_by(&mut self, operands: &Operands) -> usize {
        operands
            .iter()
            .map(|operand| &operand.value)
            .filter(|value| value.spec().bytes() >= LARGE && value.node.is_done())
            .filter(|value| self.held.insert(value.node.id))
            .map(|value| value.spec().bytes())
            .sum()
    }
}

thread_local! {
    static WINDOW: RefCell<Window> = RefCell::default();
}

/// Makes a pending node, and runs the window if that fills it.
pub fn push(device: Device, outputs: Specs, work: Work) -> Result<Arc<Node>> {
    let bytes: usize = outputs.iter().map(|spec| spec.bytes()).sum();
    let (node, full, seen) = WINDOW.with_borrow_mut(|window| {
        window.bytes += bytes + window.held_by(&work.operands);
        let node = Node::pending(device, outputs, work);
        window.nodes.push(Arc::downgrade(&node));
        if !window.is_full() {
            return (node, false, vec![]);
        }
        let seen = window.trim();
        // Where little has gone, the next look would come too soon.
        let full = window.nodes.len() > MAX_NODES / 2 || window.bytes > MAX_BYTES / 2;
        (node, full, seen)
    });
    drop(seen);
    if full {
        flush()?;
    }
    Ok(node)
}

/// A node has run: if it is the latest of this thread, it leaves the window, whose memory is then used
/// again at once.
pub fn forget(node: &Arc<Node>) {
    WINDOW.with_borrow_mut(|window| {
        if window.nodes.last().is_some_and(|last| std::ptr::eq(last.as_ptr(), Arc::as_ptr(node))) {
            window.nodes.pop();
            window.bytes -= node.outputs.iter().map(|spec| spec.bytes()).sum::<usize>();
        }
    });
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

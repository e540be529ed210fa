//! Working memory that a thread keeps, so that it stays in that core's cache from chunk to chunk.

use std::cell::Cell;

use crate::core::Result;
use crate::cpu::Memory;

/// A thread gives back larger blocks than this when it is done with them.
const KEEP: usize = 16 << 20;

thread_local! {
    static KEPT: Cell<Option<Memory>> = const { Cell::new(None) };
}

/// Uninitialised memory for `count` elements.
pub fn memory<T>(count: usize) -> Result<Memory> {
    Memory::alloc(count.saturating_mul(size_of::<T>()))
}

/// Calls `f` with uninitialised memory for `count` elements, aligned to cache lines.
pub fn with<T, R>(count: usize, f: impl FnOnce(*mut T) -> R) -> Result<R> {
    // Taken out of its place, so that a call within `f` gets a block of its own.
    let block = match KEPT.take() {
        Some(block) if block.len() / size_of::<T>() >= count => block,
        _ => memory::<T>(count)?,
    };
    let result = f(block.ptr().cast());
    if block.len() <= KEEP {
        KEPT.set(Some(block));
    }
    Ok(result)
}

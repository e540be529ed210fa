//! Working memory: a block that each thread keeps and reuses, and parallel loops whose chunks may fail
//! to get theirs.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::core::{Error, Result};
use crate::cpu::threads;

/// Cache lines, and the widest registers.
const ALIGN: usize = 64;

/// A thread gives back larger blocks than this when it is done with them.
const KEEP: usize = 16 << 20;

thread_local! {
    static KEPT: Cell<Option<Block>> = const { Cell::new(None) };
}

/// Uninitialised memory.
struct Block {
    ptr: NonNull<u8>,
    layout: Layout,
}

impl Block {
    fn new(bytes: usize) -> Result<Block> {
        let memory =
            || Error::Memory(format!("convolution: cannot allocate {bytes} bytes of working memory"));
        let layout = Layout::from_size_align(bytes.max(ALIGN), ALIGN).map_err(|_| memory())?;
        // SAFETY: the size is not 0.
        let ptr = unsafe { alloc(layout) };
        Ok(Block { ptr: NonNull::new(ptr).ok_or_else(memory)?, layout })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.ptr.as_ptr(), self.layout) }
    }
}

/// Calls `f` with uninitialised memory for `count` elements, on a cache line's boundary.
pub fn with<T, R>(count: usize, f: impl FnOnce(*mut T) -> R) -> Result<R> {
    let bytes = count.saturating_mul(size_of::<T>());
    // Taken out of its place, so that a region within this one gets a block of its own.
    let block = match KEPT.take() {
        Some(block) if block.layout.size() >= bytes => block,
        _ => Block::new(bytes)?,
    };
    let result = f(block.ptr.as_ptr().cast());
    if block.layout.size() <= KEEP {
        KEPT.set(Some(block));
    }
    Ok(result)
}

/// A buffer that threads share: uninitialised, and written through pointers.
pub struct Buffer<T> {
    block: Block,
    element: std::marker::PhantomData<T>,
}

impl<T> Buffer<T> {
    pub fn new(count: usize) -> Result<Buffer<T>> {
        let block = Block::new(count.saturating_mul(size_of::<T>()))?;
        Ok(Buffer { block, element: std::marker::PhantomData })
    }

    pub fn ptr(&self) -> *mut T {
        self.block.ptr.as_ptr().cast()
    }
}

/// `parallel` for chunks that may fail; if any does, so does the whole.
pub fn try_parallel(chunks: usize, f: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let failed = AtomicBool::new(false);
    threads::parallel(chunks, |chunk| {
        if !failed.load(Relaxed) && f(chunk).is_err() {
            failed.store(true, Relaxed);
        }
    });
    match failed.into_inner() {
        false => Ok(()),
        true => Err(Error::Memory("convolution: not enough memory to work in".into())),
    }
}

/// A pointer that threads may share; whoever shares it sees to it that they write disjoint elements.
#[derive(Clone, Copy)]
pub struct Shared<T>(pub *mut T);

// SAFETY: an address; the kernels divide what it points to among the threads.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn get(self) -> *mut T {
        self.0
    }
}

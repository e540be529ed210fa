//! Host memory of tensors: a caching allocator, and memory borrowed from NumPy or another library.
//! Fresh pages cost more than most kernels (≈ 1–2 µs for 4 KiB), so blocks are kept and handed out again: small
//! ones by classes of sizes, large ones from a [`Region`], where the system has such.

use super::region::Region;
use super::threads;
use crate::bail;
use crate::core::Result;
use parking_lot::Mutex;
use std::alloc::{Layout, alloc, dealloc};
use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, OnceLock};

/// Vectors are at most this wide, and a cache line is.
const ALIGN: usize = 64;
/// Blocks from this size on come from the region, smaller ones from the classes below `OWN_BELOW`.
const LARGE: usize = 256 << 10;
/// The smallest block.
const MIN: usize = 64;
/// Size classes: four a power of two, from 64 bytes up.
const CLASSES: usize = 4 * 42;
/// A block of host memory; its contents are written through `ptr` by kernels that the scheduler has
/// given exclusive use of it, and are read-only once its node is done.
pub struct Memory {
    ptr: NonNull<u8>,
    len: usize,
    owner: Owner,
}

enum Owner {
    /// From the pool's classes, to which it returns.
    Pool { class: usize },
    /// From the pool's region.
    Region { size: usize },
    /// Kept alive by somebody else's object and never written.
    Borrowed { _keeper: Box<dyn Any + Send + Sync> },
}

// SAFETY: a Memory is plain bytes; the scheduler lets one kernel write a block before anybody reads
// it, and `OnceLock` in the node publishes the writes.
unsafe impl Send for Memory {}
// SAFETY: see above.
unsafe impl Sync for Memory {}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} bytes)", self.len)
    }
}

/// The class whose blocks hold `bytes`, and how large they are.
fn class_of(bytes: usize) -> (usize, usize) {
    let bytes = bytes.max(MIN);
    let power = (usize::BITS - 1 - bytes.leading_zeros()) as usize;
    let quarter = 1usize << (power - 2);
    let steps = (bytes - (1 << power)).div_ceil(quarter);
    ((power - 6) * 4 + steps, (1 << power) + steps * quarter)
}

/// How large the blocks of a class are.
fn size_of_class(class: usize) -> usize {
    (1 << (class / 4 + 6)) + (class % 4) * (1 << (class / 4 + 4))
}

/// How a block of this size is asked from the system.
fn request(size: usize) -> Layout {
    // SAFETY: the alignment is a power of two, and sizes are far below the address space.
    unsafe { Layout::from_size_align_unchecked(size, ALIGN) }
}

struct Pool {
    free: [Mutex<Vec<NonNull<u8>>>; CLASSES],
    region: LazyLock<Mutex<Option<Region>>>,
    /// Bytes in all blocks, in those that tensors hold, and the most that these ever were.
    held: AtomicUsize,
    used: AtomicUsize,
    peak: AtomicUsize,
}

// SAFETY: the pointers are owned blocks that nobody else refers to.
unsafe impl Send for Pool {}
// SAFETY: see above; the lists are behind mutexes.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool {
    free: [const { Mutex::new(Vec::new()) }; CLASSES],
    // Twice what there may be, so that gaps between blocks leave room.
    region: LazyLock::new(|| Mutex::new(limit().checked_mul(2).and_then(Region::reserve))),
    held: AtomicUsize::new(0),
    used: AtomicUsize::new(0),
    peak: AtomicUsize::new(0),
};

/// Blocks that a thread of a parallel region has given back and will take first: a kernel's temporaries, which its
/// own caches still hold. From another core's they would have to be fetched line by line, which for a product of 128³
/// costs as much as the product.
struct Own([Cell<Option<(usize, NonNull<u8>)>>; 4]);

/// Blocks of classes below this one (256 KiB, as `LARGE`) are kept.
const OWN_BELOW: usize = 4 * 12;

thread_local! {
    static OWN: Own = const { Own([const { Cell::new(None) }; 4]) };
}

impl Own {
    fn take(class: usize) -> Option<NonNull<u8>> {
        let find = |own: &Own| {
            let kept = own.0.iter().find(|block| block.get().is_some_and(|(of, _)| of == class))?;
            kept.take().map(|(_, block)| block)
        };
        if class < OWN_BELOW && threads::inside() { OWN.try_with(find).ok()? } else { None }
    }

    /// Keeps the block, or says that it does not.
    fn keep(class: usize, block: NonNull<u8>) -> bool {
        let store = |own: &Own| {
            let room = own.0.iter().find(|kept| kept.get().is_none());
            room.map(|kept| kept.set(Some((class, block)))).is_some()
        };
        class < OWN_BELOW && threads::inside() && OWN.try_with(store).unwrap_or(false)
    }

    fn give_back(&self) {
        for (class, block) in self.0.iter().filter_map(Cell::take) {
            POOL.free[class].lock().push(block);
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// What this process may use: the machine's memory, or the control group's limit where that is lower.
pub fn limit() -> usize {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<usize>().ok();
        let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
            Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? * 1024)
        });
        [machine, number("/sys/fs/cgroup/memory.max"), number("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(isize::MAX as usize)
    })
}

impl Memory {
    /// Uninitialised memory of `len` bytes, or an error that says how much is in use.
    pub fn alloc(len: usize) -> Result<Memory> {
        let (class, size) = match len {
            0..=0x3fff_ffff_ffff => class_of(len),
            _ => bail!(Memory, "{} do not fit any address space", Bytes(len)),
        };
        if len >= LARGE && Memory::fits(len) {
            let size = Region::size(len);
            let taken = POOL.region.lock().as_mut().and_then(|region| region.take(size));
            if let Some((ptr, cold)) = taken {
                POOL.held.fetch_add(cold, Ordering::Relaxed);
                Memory::count(size);
                return Ok(Memory { ptr, len, owner: Owner::Region { size } });
            }
        }
        if let Some(ptr) = Own::take(class).or_else(|| POOL.free[class].lock().pop()) {
            Memory::count(size);
            return Ok(Memory { ptr, len, owner: Owner::Pool { class } });
        }
        if !Memory::fits(size) {
            let used = POOL.used.load(Ordering::Relaxed);
            bail!(
                Memory,
                "{} wanted, {} in use by tensors, limit {}",
                Bytes(size),
                Bytes(used),
                Bytes(limit())
            );
        }
        // SAFETY: the size is at least 64.
        let block = unsafe { alloc(request(size)) };
        let Some(ptr) = NonNull::new(block) else {
            bail!(Memory, "{} wanted, and the system has none to give", Bytes(size));
        };
        POOL.held.fetch_add(size, Ordering::Relaxed);
        Memory::count(size);
        Ok(Memory { ptr, len, owner: Owner::Pool { class } })
    }

    /// Whether so much more stays within the limit, if need be after what is kept for reuse was given back.
    fn fits(size: usize) -> bool {
        if POOL.held.load(Ordering::Relaxed) + size > limit() {
            if POOL.used.load(Ordering::Relaxed) + size > limit() {
                return false;
            }
            empty_cache();
        }
        true
    }

    fn count(size: usize) {
        let used = POOL.used.fetch_add(size, Ordering::Relaxed) + size;
        if used > POOL.peak.load(Ordering::Relaxed) {
            POOL.peak.fetch_max(used, Ordering::Relaxed);
        }
    }

    pub fn copy_of(bytes: &[u8]) -> Result<Memory> {
        let memory = Memory::alloc(bytes.len())?;
        // SAFETY: the block is fresh and at least as long.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.ptr.as_ptr(), bytes.len()) };
        Ok(memory)
    }

    /// Memory that `keeper` keeps alive and that nobody writes while it does.
    ///
    /// # Safety
    /// `ptr` must be valid for reads of `len` bytes as long as `keeper` lives, and must not be written.
    pub unsafe fn borrow(ptr: NonNull<u8>, len: usize, keeper: Box<dyn Any + Send + Sync>) -> Memory {
        Memory { ptr, len, owner: Owner::Borrowed { _keeper: keeper } }
    }

    pub fn ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn is_ours(&self) -> bool {
        !matches!(self.owner, Owner::Borrowed { .. })
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the block is `len` long and no kernel writes it once its node is done.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let (size, kept) = match self.owner {
            Owner::Pool { class } => {
                let kept = Own::keep(class, self.ptr);
                if !kept {
                    POOL.free[class].lock().push(self.ptr);
                }
                (size_of_class(class), kept)
            }
            Owner::Region { size } => {
                if let Some(region) = &mut *POOL.region.lock() {
                    region.give(self.ptr, size);
                }
                (size, false)
            }
            Owner::Borrowed { .. } => return,
        };
        let used = POOL.used.fetch_sub(size, Ordering::Relaxed) - size;
        if !kept && POOL.held.load(Ordering::Relaxed).saturating_sub(used) > limit() / 4 {
            empty_cache();
        }
    }
}

/// Gives all waiting blocks back to the system, but for the few that other threads keep for themselves.
pub fn empty_cache() {
    let _ = OWN.try_with(Own::give_back);
    for class in 0..CLASSES {
        let blocks = std::mem::take(&mut *POOL.free[class].lock());
        let size = size_of_class(class);
        POOL.held.fetch_sub(size * blocks.len(), Ordering::Relaxed);
        for block in blocks {
            // SAFETY: the block came from `alloc` with this layout and nobody refers to it.
            unsafe { dealloc(block.as_ptr(), request(size)) };
        }
    }
    let given = POOL.region.lock().as_mut().map_or(0, Region::purge);
    POOL.held.fetch_sub(given, Ordering::Relaxed);
}

/// Bytes that tensors hold, bytes kept for reuse, and the most that tensors ever held.
pub fn summary() -> (usize, usize, usize) {
    let load = |n: &AtomicUsize| n.load(Ordering::Relaxed);
    let used = load(&POOL.used);
    (used, load(&POOL.held).saturating_sub(used), load(&POOL.peak))
}

/// A byte count as people read it.
struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n @ 0..=0xfffff => write!(f, "{n} bytes"),
            n @ 0x100000..=0x3fff_ffff => write!(f, "{:.1} MiB", n as f64 / (1u64 << 20) as f64),
            n => write!(f, "{:.1} GiB", n as f64 / (1u64 << 30) as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_they_promise() {
        for bytes in (0..5000).chain([1 << 20, (1 << 20) + 1, 3 << 30]) {
            let (class, size) = class_of(bytes);
            assert!(size >= bytes && size <= (bytes.max(MIN) * 5).div_ceil(4), "{bytes} -> {size}");
            assert_eq!(size_of_class(class), size, "{bytes}");
        }
    }

    #[test]
    fn blocks_come_back() {
        let first = Memory::alloc(1 << 22).unwrap();
        let ptr = first.ptr();
        drop(first);
        // Other tests may come between.
        let again = (0..1000).any(|_| Memory::alloc((1 << 22) - 5).unwrap().ptr() == ptr);
        assert!(again);
    }

    #[test]
    fn absurd_sizes_are_errors() {
        assert!(Memory::alloc(usize::MAX).is_err());
        assert!(Memory::alloc(1 << 45).is_err());
    }
}

//! Large blocks of host memory, side by side in one reserved stretch of addresses. A block takes the lowest gap that
//! holds it, and neighbouring gaps are one: a step's many sizes share their memory, and what is resident hardly
//! exceeds what was in use at once. The pages are huge ones where the system gives them, since a page of 4 KiB needs
//! an entry of the translation cache of its own, which strided walks over large matrices run out of.

use std::collections::BTreeMap;
use std::ptr::NonNull;

/// Blocks are multiples of this.
const PAGE: usize = 4096;

pub struct Region {
    base: NonNull<u8>,
    /// From where a gap begins to how long it is, and how much of it is resident, as far as is known.
    gaps: BTreeMap<usize, Gap>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Gap {
    len: usize,
    warm: usize,
}

// SAFETY: the addresses belong to the region alone.
unsafe impl Send for Region {}

impl Region {
    /// Addresses for so many bytes; no memory is behind them before it is written. `None` where the system
    /// does not do that.
    #[cfg(target_os = "linux")]
    pub fn reserve(bytes: usize) -> Option<Region> {
        let len = bytes.next_multiple_of(PAGE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, which nobody else knows.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if at == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the mapping above; the advice changes nothing that can be seen in it.
        unsafe { libc::madvise(at, len, libc::MADV_HUGEPAGE) };
        Some(Region { base: NonNull::new(at.cast())?, gaps: BTreeMap::from([(0, Gap { len, warm: 0 })]) })
    }

    #[cfg(not(target_os = "linux"))]
    pub fn reserve(_: usize) -> Option<Region> {
        None
    }

    /// How large a block of so many bytes is.
    pub fn size(bytes: usize) -> usize {
        bytes.next_multiple_of(PAGE)
    }

    /// A block, and how much of it was not resident; `None` if no gap holds it.
    pub fn take(&mut self, size: usize) -> Option<(NonNull<u8>, usize)> {
        let (&start, &gap) = self.gaps.iter().find(|(_, gap)| gap.len >= size)?;
        self.gaps.remove(&start);
        let warm = gap.warm.min(size);
        if gap.len > size {
            self.gaps.insert(start + size, Gap { len: gap.len - size, warm: gap.warm - warm });
        }
        // SAFETY: `start` lies within the mapping.
        Some((unsafe { self.base.add(start) }, size - warm))
    }

    /// Takes a block of `size` back that `take` gave.
    pub fn give(&mut self, block: NonNull<u8>, size: usize) {
        let mut start = block.as_ptr() as usize - self.base.as_ptr() as usize;
        let mut gap = Gap { len: size, warm: size };
        if let Some(next) = self.gaps.remove(&(start + size)) {
            gap = Gap { len: gap.len + next.len, warm: gap.warm + next.warm };
        }
        let before = self.gaps.range(..start).next_back().map(|(&at, &before)| (at, before));
        if let Some((at, before)) = before.filter(|(at, before)| at + before.len == start) {
            gap = Gap { len: gap.len + before.len, warm: gap.warm + before.warm };
            start = at;
        }
        self.gaps.insert(start, gap);
    }

    /// Gives the memory behind the gaps back to the system; tells how much that was.
    pub fn purge(&mut self) -> usize {
        let mut given = 0;
        for (&start, gap) in &mut self.gaps {
            if gap.warm > 0 {
                #[cfg(target_os = "linux")]
                // SAFETY: the gap lies within the mapping, and nobody has a block in it.
                unsafe {
                    libc::madvise(self.base.add(start).as_ptr().cast(), gap.len, libc::MADV_DONTNEED)
                };
                #[cfg(not(target_os = "linux"))]
                let _ = start;
                given += std::mem::take(&mut gap.warm);
            }
        }
        given
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_gap_serves_and_neighbours_join() {
        let mut region = Region::reserve(64 * PAGE).unwrap();
        let base = region.base.as_ptr() as usize;
        let page = |block: NonNull<u8>| (block.as_ptr() as usize - base) / PAGE;
        let mut take = |pages: usize| region.take(pages * PAGE).map(|(block, cold)| (block, cold / PAGE));
        let blocks: Vec<_> = [4, 3, 2, 1].map(|pages| take(pages).unwrap()).to_vec();
        assert_eq!(
            blocks.iter().map(|&(b, cold)| (page(b), cold)).collect::<Vec<_>>(),
            [(0, 4), (4, 3), (7, 2), (9, 1)]
        );
        assert!(take(55).is_none());
        region.give(blocks[0].0, 4 * PAGE);
        region.give(blocks[2].0, 2 * PAGE);
        assert_eq!(region.gaps.len(), 3);
        // Between the two gaps and into both.
        region.give(blocks[1].0, 3 * PAGE);
        assert_eq!(region.gaps[&0], Gap { len: 9 * PAGE, warm: 9 * PAGE });
        let (again, cold) = region.take(6 * PAGE).unwrap();
        assert_eq!((page(again), cold), (0, 0));
        assert_eq!(region.purge(), 3 * PAGE);
        assert_eq!(region.take(3 * PAGE).map(|(b, cold)| (page(b), cold)), Some((6, 3 * PAGE)));
        region.give(blocks[3].0, PAGE);
        // What comes back joins what was never taken.
        assert_eq!(region.gaps[&(9 * PAGE)], Gap { len: 55 * PAGE, warm: PAGE });
    }

    #[test]
    fn purged_memory_reads_as_zeros_and_blocks_keep_theirs() {
        let mut region = Region::reserve(8 << 20).unwrap();
        let (kept, gone) = (region.take(PAGE).unwrap().0, region.take(PAGE).unwrap().0);
        // SAFETY: blocks of the region.
        unsafe {
            kept.write_bytes(7, PAGE);
            gone.write_bytes(7, PAGE);
            region.give(gone, PAGE);
            region.purge();
            assert_eq!((kept.read(), gone.read()), (7, 0));
        }
    }
}

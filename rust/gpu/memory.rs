//! Memory on the device: buffers, and the pool that keeps freed ones for the next request of their size.
//! A buffer may be handed out again while recorded kernels still use it, because everything that a
//! device does goes through one ordered queue.

use super::device::{self, Device};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is kept for reuse never exceeds the larger of this and the most that was ever in use.
const KEPT_AT_LEAST: u64 = 256 << 20;
/// Sizes are multiples of this, so that kernels may read and write whole vectors at the end.
pub(super) const GRAIN: u64 = 256;

/// Memory on a device. Dropping it returns it to the pool.
pub struct Buffer {
    /// Taken on drop alone.
    raw: Option<Raw>,
    len: usize,
    device: Device,
}

/// A buffer of the device, as large as its size class.
pub(super) struct Raw {
    pub wgpu: wgpu::Buffer,
    /// Unique in the process: the name under which bind groups remember it.
    pub id: u64,
    /// The last batch of the queue that uses it.
    pub batch: Arc<AtomicU64>,
    /// In which of the queue's epochs a kernel that waits uses it.
    pub waits: AtomicU64,
}

impl Raw {
    pub fn new(wgpu: wgpu::Buffer) -> Raw {
        static IDS: AtomicU64 = AtomicU64::new(0);
        Raw { wgpu, id: IDS.fetch_add(1, Ordering::Relaxed), batch: Arc::default(), waits: AtomicU64::new(0) }
    }
}

impl Buffer {
    pub(super) fn new(device: Device, raw: Raw, len: usize) -> Buffer {
        Buffer { raw: Some(raw), len, device }
    }

    /// Bytes that were asked for.
    #[allow(clippy::len_without_is_empty, reason = "emptiness is a matter of shapes, not of buffers")]
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    pub(super) fn raw(&self) -> &Raw {
        self.raw.as_ref().expect("taken on drop alone")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let raw = self.raw.take().expect("dropped once");
        match device::forked() {
            // The driver of a forked child hangs when it is called.
            true => std::mem::forget(raw),
            false => self.device.give_back(raw),
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes on {})", self.len, self.device.adapter())
    }
}

/// The size of the class that serves `len` bytes: eight classes between powers of two, so that at most
/// an eighth is wasted.
pub(super) fn class(len: usize) -> u64 {
    let len = (len as u64).max(GRAIN);
    let step = (1u64 << len.ilog2()) / 8;
    len.next_multiple_of(step.max(GRAIN))
}

/// What a device's memory is used for, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub in_use: u64,
    pub peak: u64,
    /// Freed and kept for reuse.
    pub kept: u64,
}

#[derive(Default)]
pub(super) struct Pool {
    /// Freed buffers by size and name, each with the moment of its release. The first name is handed out first:
    /// so what repeats itself comes upon the same buffers again, and their bind groups serve again.
    free: BTreeMap<u64, BTreeMap<u64, (u64, Raw)>>,
    releases: u64,
    usage: Usage,
    /// How many buffers of each size are handed out.
    held: BTreeMap<u64, usize>,
    /// What `in_use` and `kept` may come to together.
    pub limit: Option<u64>,
}

/// How many sizes an error or a summary names.
const LARGEST: usize = 5;

impl Pool {
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// A freed buffer of this size, of those that neither the batch `not_in` uses nor a kernel that waits in this
    /// epoch, which another could not run beside if it wrote there.
    pub fn take(&mut self, size: u64, not_in: Option<u64>, epoch: u64) -> Option<Raw> {
        let free = self.free.get_mut(&size)?;
        let free_now = |raw: &Raw| {
            not_in.is_none_or(|batch| raw.batch.load(Ordering::Relaxed) != batch)
                && raw.waits.load(Ordering::Relaxed) != epoch
        };
        let id = *free.iter().find(|(_, (_, raw))| free_now(raw))?.0;
        let (_, raw) = free.remove(&id)?;
        self.usage.kept -= size;
        Some(raw)
    }

    /// Counts a buffer as handed out.
    pub fn handed_out(&mut self, size: u64) {
        self.usage.in_use += size;
        *self.held.entry(size).or_default() += 1;
        self.usage.peak = self.usage.peak.max(self.usage.in_use);
    }

    /// Keeps a buffer that nobody uses any more, and returns the oldest ones that no longer fit.
    pub fn give_back(&mut self, raw: Raw) -> Vec<Raw> {
        let size = raw.wgpu.size();
        self.usage.in_use -= size;
        self.usage.kept += size;
        if let Entry::Occupied(mut held) = self.held.entry(size) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
        self.releases += 1;
        self.free.entry(size).or_default().insert(raw.id, (self.releases, raw));
        self.evict(self.usage.peak.max(KEPT_AT_LEAST))
    }

    /// Removes kept buffers, oldest first, until at most `limit` bytes are kept.
    pub fn evict(&mut self, limit: u64) -> Vec<Raw> {
        let mut evicted = vec![];
        while self.usage.kept > limit {
            let all = self.free.iter();
            let all =
                all.flat_map(|(&size, free)| free.iter().map(move |(&id, (freed, _))| (freed, size, id)));
            let Some((_, size, id)) = all.min() else { break };
            if let Some((_, raw)) = self.free.get_mut(&size).and_then(|free| free.remove(&id)) {
                self.usage.kept -= size;
                evicted.push(raw);
            }
        }
        evicted
    }

    /// Prepares for a new buffer: returns the kept ones that go so that the limit holds, or says why it
    /// cannot.
    pub fn make_room(&mut self, size: u64) -> Result<Vec<Raw>, String> {
        match self.limit {
            None => Ok(vec![]),
            Some(limit) => match limit.checked_sub(self.usage.in_use.saturating_add(size)) {
                Some(left) => Ok(self.evict(left)),
                None => Err(self.spent(size)),
            },
        }
    }

    /// The sizes that take most, and how many buffers of each are in use; the largest share first.
    pub fn largest(&self) -> Vec<(u64, usize)> {
        let mut sizes: Vec<(u64, usize)> = self.held.iter().map(|(&size, &count)| (size, count)).collect();
        sizes.sort_by_key(|&(size, count)| Reverse((size * count as u64, size)));
        sizes.truncate(LARGEST);
        sizes
    }

    /// Says that there is no memory for `size` bytes, and who has it.
    pub fn spent(&self, size: u64) -> String {
        let mut text = format!("out of memory for {}: ", human(size));
        if let Some(limit) = self.limit {
            text += &format!("the limit is {} and ", human(limit));
        }
        text += &format!("{} are in use", human(self.usage.in_use));
        let held: Vec<String> =
            self.largest().iter().map(|&(size, count)| format!("{count} × {}", human(size))).collect();
        if !held.is_empty() {
            text += &format!(", most of it by buffers of these sizes: {}", held.join(", "));
        }
        text
    }
}

/// A number of bytes for people.
fn human(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let unit = (bytes.max(1).ilog2() as usize / 10).clamp(1, units.len());
    format!("{:.1} {}", bytes as f64 / 1024f64.powi(unit as i32), units[unit - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_waste_at_most_an_eighth_and_hold_whole_vectors() {
        assert_eq!(class(0), GRAIN);
        for len in (1..100_000).step_by(37).chain([1 << 20, (1 << 20) + 1, 3_000_000_000]) {
            let size = class(len);
            assert!(size >= len as u64 && size.is_multiple_of(GRAIN));
            assert!(size <= (len as u64 + GRAIN).max(len as u64 + len as u64 / 8), "{len}: {size}");
            assert_eq!(class(size as usize), size, "a class serves its own size");
        }
    }
}

//! Read-back: bytes of buffers on their way to the host, in the submission of the kernels that make them, together
//! with what kernels report of bad indices.

use super::device::{DOWNLOADS, Shared};
use super::memory::{Buffer, Raw};
use crate::bail;
use crate::core::Result;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};

/// The most that one read-back moves at a time.
const READ_CHUNK: usize = 64 << 20;
/// Read-back buffers that are kept.
const STAGING_KEPT: usize = 4;

impl Buffer {
    /// The bytes of `range`, after all that was recorded before.
    pub fn download(&self, range: Range<usize>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(range.len()).is_err() {
            bail!(Memory, "out of memory for {} bytes from {}", range.len(), self.device().adapter());
        }
        bytes.resize(range.len(), 0);
        self.download_into(range.start, &mut bytes)?;
        Ok(bytes)
    }

    /// The same into memory of the caller, from byte `start` on.
    pub fn download_into(&self, start: usize, bytes: &mut [u8]) -> Result<()> {
        if start.checked_add(bytes.len()).is_none_or(|end| end > self.len()) {
            bail!(Index, "bytes {start}.. of a buffer of {} were asked for", self.len());
        }
        let shared = self.device().shared();
        shared.check()?;
        DOWNLOADS.fetch_add(1, Ordering::Relaxed);
        let mut at = start;
        for chunk in bytes.chunks_mut(READ_CHUNK) {
            shared.read(self.raw(), at, chunk)?;
            at += chunk.len();
        }
        Ok(())
    }

    /// Copies `bytes` bytes to another buffer of the same device; offsets and length are multiples of 4.
    pub fn copy_to(&self, from: usize, to: &Buffer, at: usize, bytes: usize) -> Result<()> {
        let aligned = [from, at, bytes].iter().all(|n| n % 4 == 0);
        let fits = from + bytes <= self.len() && at + bytes <= to.len();
        if !aligned || !fits || self.raw().id == to.raw().id {
            bail!(
                Device,
                "copy: {bytes} bytes from {from} to {at} of another buffer do not fit or are not aligned"
            );
        }
        let shared = self.device().shared();
        shared.check()?;
        let (from, to) = ((self.raw(), from as u64), (to.raw(), at as u64));
        shared.recorder.lock().copy(shared, from, to, bytes as u64)
    }
}

impl Shared {
    /// Reads at most [`READ_CHUNK`] bytes: the copy is the last command of the submission that makes them.
    fn read(&self, raw: &Raw, at: usize, bytes: &mut [u8]) -> Result<()> {
        let start = at / 4 * 4;
        let length = (at + bytes.len()).next_multiple_of(4) - start;
        let words = self.observe(Some((raw, start as u64, length as u64)))?;
        if let Some(staging) = words {
            self.look(staging, length as u64, |view| {
                bytes.copy_from_slice(&view[at - start..][..bytes.len()])
            })?;
        }
        Ok(())
    }

    /// Waits for all that was recorded, with a copy of a part of a buffer at its end, which is returned
    /// mapped. An error if a kernel has met a bad index.
    pub fn observe(&self, part: Option<(&Raw, u64, u64)>) -> Result<Option<wgpu::Buffer>> {
        let part = part.map(|(raw, start, length)| (raw, start, length, self.staging(length)));
        let mut recorder = self.recorder.lock();
        let checks = std::mem::take(&mut recorder.checks);
        let reported = 4 * checks.len() as u64;
        let reports = (reported > 0).then(|| self.staging(reported));
        let index = recorder.submit(self, |encoder| {
            if let Some((raw, start, length, staging)) = &part {
                encoder.copy_buffer_to_buffer(&raw.wgpu, *start, staging, 0, *length);
            }
            if let Some(reports) = &reports {
                encoder.copy_buffer_to_buffer(&self.bounds.wgpu, 0, reports, 0, reported);
                encoder.clear_buffer(&self.bounds.wgpu, 0, Some(reported));
            }
        })?;
        drop(recorder);
        let of_part = part.as_ref().map(|(_, _, length, staging)| map(staging, *length));
        let of_reports = reports.as_ref().map(|staging| map(staging, reported));
        self.wait(Some(index))?;
        self.check()?;
        // Another thread that waits may have taken the callbacks along and be about to call them.
        for mapped in [of_part, of_reports].into_iter().flatten() {
            if !matches!(mapped.recv(), Ok(Ok(()))) {
                bail!(Device, "{}: its memory could not be read", self.adapter);
            }
        }
        let mut verdict = Ok(());
        if let Some(staging) = reports {
            self.look(staging, reported, |words| verdict = checks.verdict(words))?;
        }
        verdict.map(|()| part.map(|(.., staging)| staging))
    }

    /// Shows the bytes of a mapped buffer and keeps it for the next read-back.
    fn look(&self, staging: wgpu::Buffer, length: u64, see: impl FnOnce(&[u8])) -> Result<()> {
        match staging.get_mapped_range(0..length) {
            Ok(view) => see(&view),
            Err(error) => bail!(Device, "{}: its memory could not be read: {error}", self.adapter),
        }
        staging.unmap();
        let mut kept = self.staging.lock();
        kept.push(staging);
        if kept.len() > STAGING_KEPT {
            kept.remove(0);
        }
        Ok(())
    }

    /// A buffer that the host can read, of at least `bytes`.
    fn staging(&self, bytes: u64) -> wgpu::Buffer {
        let size = bytes.next_power_of_two().max(4096);
        let mut kept = self.staging.lock();
        if let Some(at) = kept.iter().position(|buffer| buffer.size() == size) {
            return kept.remove(at);
        }
        self.wgpu.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read-back"),
            size,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }
}

/// Asks for the first bytes of a buffer; the answer comes while somebody waits for the device.
fn map(staging: &wgpu::Buffer, length: u64) -> Receiver<Result<(), wgpu::BufferAsyncError>> {
    let (send, mapped) = channel();
    staging.map_async(wgpu::MapMode::Read, 0..length, move |result| {
        let _ = send.send(result);
    });
    mapped
}

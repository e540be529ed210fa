//! The one ordered queue of a device. Kernels are recorded into an open compute pass, which is submitted
//! when a result is read, when enough has been recorded, or when its parameters fill the arena. Uploads
//! and read-backs keep their place in the order.

use super::bounds::Checks;
use super::cache::Cache;
use super::device::Shared;
use super::memory::Raw;
use super::pipeline::{Key, Pipeline};
use super::pointwise::{self, Structure};
use super::speed::{self, Noted};
use super::together::{self, Bound, Waiting};
use crate::bail;
use crate::core::Result;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

/// Kernels a submission holds. Fewer leave the device idle while the next ones are recorded, more delay
/// its start.
const KERNELS_PER_BATCH: usize = 48;
/// Submissions that may wait for the device before recording waits for them.
const BATCHES_IN_FLIGHT: usize = 3;
/// Uploads hold staging memory until their batch is submitted.
const UPLOAD_PER_BATCH: u64 = 64 << 20;
/// The size of the uniform arena and of the window that one kernel sees of it.
pub(super) const ARENA: u64 = 256 << 10;
pub(super) const ARENA_WINDOW: u64 = 8 << 10;
const BIND_GROUPS_KEPT: usize = 4096;

/// How many kernels were recorded, in the life of the process.
static DISPATCHES: AtomicU64 = AtomicU64::new(0);

/// Kernels recorded so far.
pub fn dispatches() -> u64 {
    DISPATCHES.load(Ordering::Relaxed)
}

/// A part of a buffer that a kernel sees.
#[derive(Clone, Copy)]
pub(super) struct Binding<'a> {
    pub raw: &'a Raw,
    /// In bytes, aligned as the device demands.
    pub offset: u64,
    pub size: u64,
}

/// The same while it is recorded, be it of a kernel that has waited or of one that has not.
#[derive(Clone, Copy)]
pub(super) struct Recorded<'a> {
    pub wgpu: &'a wgpu::Buffer,
    pub id: u64,
    pub batch: &'a AtomicU64,
    pub offset: u64,
    pub size: u64,
}

impl<'a> Binding<'a> {
    fn recorded(&self) -> Recorded<'a> {
        let Binding { raw, offset, size } = *self;
        Recorded { wgpu: &raw.wgpu, id: raw.id, batch: &raw.batch, offset, size }
    }
}

type BindGroupKey = SmallVec<[(u64, u64, u64); 6]>;

/// What is being recorded.
struct Open {
    encoder: wgpu::CommandEncoder,
    /// `None` between kernels and copies.
    pass: Option<wgpu::ComputePass<'static>>,
}

pub(super) struct Queue {
    open: Option<Open>,
    kernels: usize,
    /// Dispatches so far.
    #[cfg(test)]
    pub dispatches: usize,
    /// The number of the batch being recorded; buffers remember the last batch that used them.
    batch: u64,
    uploaded: u64,
    /// Of indices, by kernels that were recorded since the last read-back.
    pub checks: Checks,
    /// Kernels that the next ones may run beside.
    waiting: Option<Waiting>,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    bind_groups: Cache<BindGroupKey, wgpu::BindGroup>,
    arena: wgpu::Buffer,
    arena_group: wgpu::BindGroup,
    /// Parameters of this batch, written to the arena just before it is submitted.
    arena_bytes: Vec<u8>,
}

impl Queue {
    pub fn new(device: &wgpu::Device, arena_layout: &wgpu::BindGroupLayout) -> Queue {
        let arena = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters"),
            size: ARENA,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let window =
            wgpu::BufferBinding { buffer: &arena, offset: 0, size: wgpu::BufferSize::new(ARENA_WINDOW) };
        let arena_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("parameters"),
            layout: arena_layout,
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(window) }],
        });
        Queue {
            open: None,
            kernels: 0,
            #[cfg(test)]
            dispatches: 0,
            batch: 1,
            uploaded: 0,
            checks: Checks::default(),
            waiting: None,
            in_flight: VecDeque::new(),
            bind_groups: Cache::new(BIND_GROUPS_KEPT),
            arena,
            arena_group,
            arena_bytes: vec![],
        }
    }

    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// Records one kernel: `groups` workgroups over `bindings`, with `parameters` as 32-bit words.
    pub fn dispatch(
        &mut self,
        shared: &Shared,
        pipeline: &Pipeline,
        bindings: &[Binding<'_>],
        parameters: &[u32],
        groups: [u32; 2],
    ) -> Result<()> {
        self.end_waiting(shared)?;
        let bindings: SmallVec<[Recorded<'_>; 8]> = bindings.iter().map(Binding::recorded).collect();
        self.record(shared, pipeline, &bindings, parameters, groups)
    }

    /// Records an elementwise kernel of a structure without strided operands, whose pipeline is there: elements, places and
    /// scalars are its parameters. It may run later, together with others; before anything else does.
    pub fn wait(
        &mut self,
        shared: &Shared,
        op: &str,
        structure: Structure,
        (count, places, scalars): (u32, &[u32], &[u32]),
        bindings: &[Binding<'_>],
    ) -> Result<()> {
        if !self.waiting.as_ref().is_some_and(|waiting| waiting.takes(&structure, scalars, bindings)) {
            self.end_waiting(shared)?;
        }
        for binding in bindings {
            binding.raw.batch.store(self.batch, Ordering::Relaxed);
        }
        let most = shared.limits.max_storage_buffers_per_shader_stage;
        let waiting = self.waiting.get_or_insert_with(|| Waiting::new(op, structure, scalars, most));
        waiting.add(count, places, bindings, shared.epoch.load(Ordering::Relaxed));
        Ok(())
    }

    /// Records the kernels that wait.
    fn end_waiting(&mut self, shared: &Shared) -> Result<()> {
        let Some(waiting) = self.waiting.take() else { return Ok(()) };
        shared.epoch.fetch_add(1, Ordering::Relaxed);
        let Waiting { op, structure, scalars, segments, most } = &waiting;
        let mut rest = &segments[..];
        while !rest.is_empty() {
            let (some, more) = rest.split_at(together::taken(rest.len(), *most));
            rest = more;
            let (words, groups) = together::words(some, scalars);
            let mut structure = structure.clone();
            structure.parameters = shared.parameters(words.len());
            let pipeline = match some.len() {
                1 => shared
                    .pipelines
                    .get(shared, &Key::Pointwise(structure.clone()), || pointwise::source(op, &structure))?,
                n => shared.pipelines.get(shared, &Key::Together(structure.clone(), n), || {
                    together::source(op, &structure, n)
                })?,
            };
            let bound: SmallVec<[Recorded<'_>; 8]> =
                some.iter().flat_map(|one| one.bound.iter().map(Bound::recorded)).collect();
            self.record(shared, &pipeline, &bound, &words, groups)?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        shared: &Shared,
        pipeline: &Pipeline,
        bindings: &[Recorded<'_>],
        parameters: &[u32],
        groups: [u32; 2],
    ) -> Result<()> {
        // SAFETY: words are bytes without gaps, and any byte is a byte.
        let bytes =
            unsafe { std::slice::from_raw_parts(parameters.as_ptr().cast::<u8>(), 4 * parameters.len()) };
        let mut place = 0;
        if pipeline.uniform {
            if bytes.len() as u64 > ARENA_WINDOW {
                bail!(Device, "a kernel's {} bytes of parameters exceed {ARENA_WINDOW}", bytes.len());
            }
            let align = shared.limits.min_uniform_buffer_offset_alignment as usize;
            place = self.arena_bytes.len().next_multiple_of(align);
            if place as u64 + ARENA_WINDOW > ARENA {
                self.submit(shared, |_| ())?;
                place = 0;
            }
            self.arena_bytes.resize(place, 0);
            self.arena_bytes.extend_from_slice(bytes);
        }
        for binding in bindings {
            binding.batch.store(self.batch, Ordering::Relaxed);
        }
        let key: BindGroupKey = bindings.iter().map(|b| (b.id, b.offset, b.size)).collect();
        let watch = speed::clock();
        speed::note(Noted::Kernel, watch);
        let group = match self.bind_groups.get(&key) {
            Some(group) => group,
            None => self.bind(shared, pipeline, bindings, key)?,
        };
        let open = self.open.get_or_insert_with(|| Open::new(shared));
        let pass = open.pass.get_or_insert_with(|| {
            open.encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()).forget_lifetime()
        });
        pass.set_pipeline(&pipeline.wgpu);
        pass.set_bind_group(0, &group, &[]);
        if pipeline.uniform {
            pass.set_bind_group(1, &self.arena_group, &[place as u32]);
        } else if !bytes.is_empty() {
            pass.set_immediates(0, bytes);
        }
        pass.dispatch_workgroups(groups[0], groups[1], 1);
        self.kernels += 1;
        #[cfg(test)]
        {
            self.dispatches += 1;
        }
        DISPATCHES.fetch_add(1, Ordering::Relaxed);
        if self.kernels >= KERNELS_PER_BATCH {
            let watch = speed::clock();
            self.submit(shared, |_| ())?;
            speed::note(Noted::Submit, watch);
        }
        Ok(())
    }

    /// A new bind group, which is kept for kernels on the same buffers.
    fn bind(
        &mut self,
        shared: &Shared,
        pipeline: &Pipeline,
        bindings: &[Recorded<'_>],
        key: BindGroupKey,
    ) -> Result<wgpu::BindGroup> {
        let entries: SmallVec<[wgpu::BindGroupEntry<'_>; 8]> = bindings
            .iter()
            .zip(0..)
            .map(|(b, binding)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: b.wgpu,
                    offset: b.offset,
                    size: wgpu::BufferSize::new(b.size),
                }),
            })
            .collect();
        // An invalid group would spoil the whole batch, with what other threads recorded.
        let scope = shared.wgpu.push_error_scope(wgpu::ErrorFilter::Validation);
        let group = shared.wgpu.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.bindings,
            entries: &entries,
        });
        if let Some(error) = pollster::block_on(scope.pop()) {
            bail!(Device, "{}: buffers cannot be bound: {error}", shared.adapter);
        }
        speed::note(Noted::BindGroup, speed::clock());
        self.bind_groups.insert(key, group.clone());
        Ok(group)
    }

    /// Records a copy between two buffers, in the order of the kernels around it; everything in bytes and
    /// multiples of 4.
    pub fn copy(&mut self, shared: &Shared, from: (&Raw, u64), to: (&Raw, u64), bytes: u64) -> Result<()> {
        self.end_waiting(shared)?;
        for raw in [from.0, to.0] {
            raw.batch.store(self.batch, Ordering::Relaxed);
        }
        let open = self.open.get_or_insert_with(|| Open::new(shared));
        open.pass = None;
        open.encoder.copy_buffer_to_buffer(&from.0.wgpu, from.1, &to.0.wgpu, to.1, bytes);
        Ok(())
    }

    /// Writes `bytes` to the start of a buffer, after all that was recorded before.
    pub fn upload(&mut self, shared: &Shared, raw: &Raw, bytes: &[u8]) -> Result<()> {
        // Writes run before the kernels of the batch that follows them, so a buffer that the open batch
        // uses must wait until that batch is on its way.
        if raw.batch.load(Ordering::Relaxed) == self.batch {
            self.submit(shared, |_| ())?;
        }
        let whole = bytes.len() / 4 * 4;
        if whole > 0 {
            shared.queue.write_buffer(&raw.wgpu, 0, &bytes[..whole]);
        }
        if whole < bytes.len() {
            let mut last = [0; 4];
            last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            shared.queue.write_buffer(&raw.wgpu, whole as u64, &last);
        }
        self.uploaded += bytes.len() as u64;
        if self.uploaded > UPLOAD_PER_BATCH {
            self.submit(shared, |_| ())?;
        }
        Ok(())
    }

    /// Submits what was recorded, with what `last` adds to it, and waits while too much is in flight.
    pub fn submit(
        &mut self,
        shared: &Shared,
        last: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> Result<wgpu::SubmissionIndex> {
        self.end_waiting(shared)?;
        let mut open = self.open.take().unwrap_or_else(|| Open::new(shared));
        open.pass = None;
        last(&mut open.encoder);
        if !self.arena_bytes.is_empty() {
            self.arena_bytes.resize(self.arena_bytes.len().next_multiple_of(4), 0);
            shared.queue.write_buffer(&self.arena, 0, &self.arena_bytes);
            self.arena_bytes.clear();
        }
        let index = shared.queue.submit([open.encoder.finish()]);
        self.kernels = 0;
        self.uploaded = 0;
        self.batch += 1;
        shared.check()?;
        self.in_flight.push_back(index.clone());
        if self.in_flight.len() > BATCHES_IN_FLIGHT {
            let oldest = self.in_flight.pop_front();
            shared.wait(oldest)?;
        }
        Ok(index)
    }

    /// Forgets the bind groups, which keep their buffers alive.
    pub fn forget_bind_groups(&mut self) {
        self.bind_groups.clear();
    }
}

impl Open {
    fn new(shared: &Shared) -> Open {
        let encoder = shared.wgpu.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        Open { encoder, pass: None }
    }
}

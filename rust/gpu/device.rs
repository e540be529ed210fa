//! An open device: how it comes to be, moving bytes to and from it, and what becomes of it when it fails.
//! The order of its work is the queue's business, its memory the pool's.

use super::adapter::{self, ADAPTER_VARIABLE, Adapter};
use super::bounds::SLOTS;
use super::cooperative::{self, Matrices};
use super::memory::{Buffer, GRAIN, Pool, Raw, Usage, class};
use super::neighbours;
use super::pipeline::{Parameters, Pipelines};
use super::queue::Queue;
use super::stored::Stored;
use crate::bail;
use crate::core::Result;
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Names features, separated by commas, that are not used even where the adapter has them: `immediates`,
/// `float16`, `int64`, `subgroups`; `bindings` leaves those of at most 1 MiB. For tests.
const WITHOUT_VARIABLE: &str = "OXON_GPU_WITHOUT";
/// Bytes of parameters that every backend takes with a command.
const IMMEDIATES: u32 = 128;

/// Set before the first look for adapters.
static TOUCHED: AtomicBool = AtomicBool::new(false);
/// Set in a forked child whose parent had looked for its GPUs.
static FORKED: AtomicBool = AtomicBool::new(false);

/// Keeps what was compiled for the next process, where the backend can: to be called before this one ends.
pub fn save_pipelines() {
    if !forked() {
        opened().iter().for_each(|device| device.shared().pipelines.save());
    }
}

/// How often bytes went to a device and came from one, in the life of the process.
static UPLOADS: AtomicU64 = AtomicU64::new(0);
pub(super) static DOWNLOADS: AtomicU64 = AtomicU64::new(0);

/// Uploads and downloads so far.
pub fn transfers() -> (u64, u64) {
    (UPLOADS.load(Ordering::Relaxed), DOWNLOADS.load(Ordering::Relaxed))
}

pub(super) fn forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// To be called in the child after a fork. If the parent had used its GPU, every use in the child becomes
/// an error, since drivers hang there.
pub fn after_fork_in_child() {
    if TOUCHED.load(Ordering::Relaxed) {
        FORKED.store(true, Ordering::Relaxed);
    }
}

/// A handle on an open device; cloning it is cheap.
#[derive(Clone)]
pub struct Device(Arc<Shared>);

pub(super) struct Shared {
    pub wgpu: wgpu::Device,
    pub queue: wgpu::Queue,
    pub adapter: Adapter,
    pub limits: wgpu::Limits,
    /// Bytes of parameters that go with a command; 0 where only the uniform arena serves.
    pub immediates: u32,
    /// How many neighbouring invocations can always exchange registers; 1 where subgroups are not used.
    pub subgroup: u32,
    /// What subgroups multiply together, where that is allowed and was tried.
    pub cooperative: Option<Matrices>,
    pub pipelines: Pipelines,
    /// Where kernels report bad indices; all zero but between such a kernel and the next read-back.
    pub bounds: Raw,
    /// Counts how often kernels that waited for others were recorded.
    pub epoch: AtomicU64,
    pub recorder: Mutex<Queue>,
    pool: Mutex<Pool>,
    pub staging: Mutex<Vec<wgpu::Buffer>>,
    faults: Arc<Faults>,
}

/// What the driver reported outside any call.
#[derive(Default)]
struct Faults {
    lost: OnceLock<String>,
    /// An error that belongs to a call made before.
    late: Mutex<Option<String>>,
}

struct Found {
    /// In the order of `described`.
    adapters: Vec<wgpu::Adapter>,
    described: Vec<Adapter>,
}

static FOUND: OnceLock<Found> = OnceLock::new();
/// Open devices by adapter.
static OPEN: Mutex<Vec<(usize, Device)>> = Mutex::new(vec![]);
/// What their memory is limited to; a device that is opened after one was lost keeps to it.
static LIMITS: Mutex<Vec<(usize, u64)>> = Mutex::new(vec![]);

/// The devices that are open and not lost.
pub(super) fn opened() -> Vec<Device> {
    OPEN.lock().iter().map(|(_, device)| device.clone()).filter(|device| !device.is_lost()).collect()
}

/// Looks for adapters, once in the life of the process.
fn found() -> Result<&'static Found> {
    if forked() {
        bail!(
            Device,
            "the GPU cannot be used in a forked process after its parent used it; start workers with \
             `multiprocessing.set_start_method(\"spawn\")`"
        );
    }
    TOUCHED.store(true, Ordering::Relaxed);
    Ok(FOUND.get_or_init(|| {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12,
            flags: wgpu::InstanceFlags::empty(),
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
        Found { described: adapters.iter().map(Adapter::of).collect(), adapters }
    }))
}

/// An adapter and what it is to the user.
pub struct Listed {
    pub adapter: Adapter,
    /// What follows `gpu` in its device's name.
    pub suffix: String,
    /// Why it is used only when it is named, if so.
    pub rejection: Option<String>,
}

/// Whether adapters have been looked for.
pub fn looked() -> bool {
    FOUND.get().is_some() || forked()
}

/// All adapters; the place of one in this list stands for it in other calls.
pub fn adapters() -> Result<Vec<Listed>> {
    let (all, wanted) = (&found()?.described, wanted());
    let listed = |at: usize| Listed {
        suffix: adapter::suffix(all, at, wanted.as_deref()),
        rejection: all[at].rejection(all, wanted.as_deref()),
        adapter: all[at].clone(),
    };
    Ok((0..all.len()).map(listed).collect())
}

fn wanted() -> Option<String> {
    std::env::var(ADAPTER_VARIABLE).ok().filter(|name| !name.is_empty())
}

/// The place of the adapter that `"gpu:name"` means; see [`adapter::place`].
pub fn place(name: &str) -> Result<usize> {
    adapter::place(&found()?.described, name, wanted().as_deref())
}

/// What follows `gpu` in the name of the adapter at a place.
pub fn suffix(at: usize) -> String {
    FOUND.get().map_or_else(String::new, |found| adapter::suffix(&found.described, at, wanted().as_deref()))
}

/// The open device of an adapter, or a new one if there is none or it was lost.
pub fn open(at: usize) -> Result<Device> {
    if forked() {
        found()?;
    }
    let mut open = OPEN.lock();
    open.retain(|(_, device)| !device.is_lost());
    if let Some((_, device)) = open.iter().find(|(of, _)| *of == at) {
        return Ok(device.clone());
    }
    let without = std::env::var(WITHOUT_VARIABLE).unwrap_or_default();
    let device = Device::create(at, &without, cooperative::allowed())?;
    device.set_limit(limit(at));
    open.push((at, device.clone()));
    Ok(device)
}

/// The device of an adapter if it is open; opens none.
pub fn opened_at(at: usize) -> Option<Device> {
    OPEN.lock().iter().find(|(of, device)| *of == at && !device.is_lost()).map(|(_, device)| device.clone())
}

/// The place among all adapters of an open device.
#[cfg(test)]
pub(super) fn place_of(device: &Device) -> Option<usize> {
    OPEN.lock().iter().find(|(_, open)| Arc::ptr_eq(&open.0, &device.0)).map(|(at, _)| *at)
}

/// Limits how much memory the device of an adapter holds, or no longer, be it open or not.
pub fn set_limit(at: usize, limit: Option<u64>) -> Result<()> {
    found()?;
    // Whoever opens the adapter meanwhile waits, and sees the limit.
    let open = OPEN.lock();
    let mut limits = LIMITS.lock();
    limits.retain(|(of, _)| *of != at);
    limits.extend(limit.map(|limit| (at, limit)));
    open.iter().filter(|(of, _)| *of == at).for_each(|(_, device)| device.set_limit(limit));
    Ok(())
}

/// What [`set_limit`] has set.
pub fn limit(at: usize) -> Option<u64> {
    LIMITS.lock().iter().find(|(of, _)| *of == at).map(|(_, limit)| *limit)
}

impl Device {
    /// Opens an adapter anew, without the named optional features, and with cooperative matrices if they are allowed.
    pub(super) fn create(at: usize, without: &str, cooperative: bool) -> Result<Device> {
        let found = found()?;
        let (Some(handle), Some(adapter)) = (found.adapters.get(at), found.described.get(at)) else {
            bail!(Device, "there is no adapter {at}: the system lists {}", found.adapters.len());
        };
        let mut adapter = adapter.clone();
        let mut features = handle.features()
            & (wgpu::Features::IMMEDIATES
                | wgpu::Features::SHADER_F16
                | wgpu::Features::SHADER_INT64
                | wgpu::Features::SUBGROUP
                | wgpu::Features::PIPELINE_CACHE);
        if cooperative && adapter.cooperative > 0 {
            features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        }
        let mut limits = handle.limits();
        for name in without.split(',').filter(|name| !name.is_empty()) {
            features.remove(match name.trim() {
                "bindings" => {
                    limits.max_storage_buffer_binding_size =
                        limits.max_storage_buffer_binding_size.min(1 << 20);
                    continue;
                }
                "immediates" => wgpu::Features::IMMEDIATES,
                "float16" => wgpu::Features::SHADER_F16,
                "int64" => wgpu::Features::SHADER_INT64,
                "subgroups" => wgpu::Features::SUBGROUP,
                _ => bail!(Device, "{WITHOUT_VARIABLE}: {name:?} is no optional feature"),
            });
        }
        adapter.set_features(features);
        if !features.contains(wgpu::Features::IMMEDIATES) {
            limits.max_immediate_size = 0;
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("oxon"),
            required_features: features,
            required_limits: limits.clone(),
            experimental_features: experimental(features),
            ..Default::default()
        };
        let (device, queue) = match pollster::block_on(handle.request_device(&descriptor)) {
            Ok(opened) => opened,
            Err(error) => bail!(Device, "{adapter} cannot be opened: {error}"),
        };
        let faults = Arc::new(Faults::default());
        let seen = faults.clone();
        device.set_device_lost_callback(move |_, message| {
            let _ = seen.lost.set(message);
        });
        let seen = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            seen.late.lock().get_or_insert_with(|| error.to_string());
        }));
        let stored = match features.contains(wgpu::Features::PIPELINE_CACHE) {
            true => Stored::open(&device, &handle.get_info()),
            false => None,
        };
        let pipelines = Pipelines::new(&device, stored);
        let recorder = Mutex::new(Queue::new(&device, pipelines.arena_layout()));
        let bounds = Raw::new(device.create_buffer(&storage(4 * SLOTS as u64)));
        let mut device = Device(Arc::new(Shared {
            immediates: limits.max_immediate_size.min(IMMEDIATES),
            subgroup: 1,
            cooperative: None,
            wgpu: device,
            queue,
            adapter,
            limits,
            pipelines,
            bounds,
            epoch: AtomicU64::new(1),
            recorder,
            pool: Mutex::default(),
            staging: Mutex::default(),
            faults,
        }));
        if features.contains(wgpu::Features::SUBGROUP) {
            let subgroup = neighbours::subgroup(&device, handle.get_info().subgroup_min_size)?;
            let matrices = cooperative::matrices(&device, device.adapter())?;
            if let Some(shared) = Arc::get_mut(&mut device.0) {
                shared.subgroup = subgroup;
                shared.cooperative = matrices;
                // What the trial left behind is not the user's.
                shared.recorder.get_mut().forget_bind_groups();
                *shared.pool.get_mut() = Pool::default();
            }
        }
        Ok(device)
    }

    pub fn adapter(&self) -> &Adapter {
        &self.0.adapter
    }

    /// What its memory is used for.
    pub fn usage(&self) -> Usage {
        self.0.pool.lock().usage()
    }

    /// Gives the device up as if its driver had: what becomes of the program then can be tested.
    pub fn lose(&self) {
        self.0.wgpu.destroy();
        let _ = catch_unwind(AssertUnwindSafe(|| self.0.wgpu.poll(wgpu::PollType::Poll)));
        let _ = self.0.faults.lost.set("it was given up".into());
    }

    /// The sizes of which most memory is in use, and how many buffers of each; the largest share first.
    pub fn largest(&self) -> Vec<(u64, usize)> {
        self.0.pool.lock().largest()
    }

    /// Limits what tensors and kept memory may take together; what is there already stays.
    pub(super) fn set_limit(&self, limit: Option<u64>) {
        self.0.pool.lock().limit = limit;
    }

    pub fn is_lost(&self) -> bool {
        self.0.faults.lost.get().is_some()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Fresh memory; what it holds is undefined.
    pub fn alloc(&self, bytes: usize) -> Result<Buffer> {
        self.alloc_not_in(bytes, None)
    }

    /// The same, but not memory that the batch `not_in` of the queue uses.
    fn alloc_not_in(&self, bytes: usize, not_in: Option<u64>) -> Result<Buffer> {
        let shared = &self.0;
        shared.check()?;
        let most = shared.limits.max_buffer_size / GRAIN * GRAIN;
        if bytes as u64 > most {
            bail!(Memory, "{}: {bytes} bytes asked for; its largest buffer has {most}", shared.adapter);
        }
        let size = class(bytes).min(most);
        let epoch = shared.epoch.load(Ordering::Relaxed);
        let kept = shared.pool.lock().take(size, not_in, epoch);
        let raw = match kept {
            Some(raw) => raw,
            None => {
                let room = shared.pool.lock().make_room(size);
                match room {
                    Err(why) => bail!(Memory, "{}: {why}", shared.adapter),
                    Ok(evicted) if !evicted.is_empty() => self.0.recorder.lock().forget_bind_groups(),
                    Ok(_) => {}
                }
                Raw::new(match shared.create_buffer(size) {
                    Some(wgpu) => wgpu,
                    None => {
                        self.empty_cache()?;
                        match shared.create_buffer(size) {
                            Some(wgpu) => wgpu,
                            None => bail!(Memory, "{}: {}", shared.adapter, shared.pool.lock().spent(size)),
                        }
                    }
                })
            }
        };
        shared.pool.lock().handed_out(size);
        Ok(Buffer::new(self.clone(), raw, bytes))
    }

    pub(super) fn give_back(&self, raw: Raw) {
        let evicted = self.0.pool.lock().give_back(raw);
        if !evicted.is_empty() {
            self.0.recorder.lock().forget_bind_groups();
        }
    }

    /// Gives the memory that the pool keeps back to the system, once the device has done its work.
    pub fn empty_cache(&self) -> Result<()> {
        let evicted = self.0.pool.lock().evict(0);
        self.0.recorder.lock().forget_bind_groups();
        drop(evicted);
        self.synchronize()
    }

    pub fn upload(&self, bytes: &[u8]) -> Result<Buffer> {
        UPLOADS.fetch_add(1, Ordering::Relaxed);
        let batch = self.0.recorder.lock().batch();
        let buffer = self.alloc_not_in(bytes.len(), Some(batch))?;
        self.0.recorder.lock().upload(&self.0, buffer.raw(), bytes)?;
        self.0.check()?;
        Ok(buffer)
    }

    /// Submits what was recorded, without waiting for it.
    pub fn flush(&self) -> Result<()> {
        self.0.check()?;
        self.0.recorder.lock().submit(&self.0, |_| ())?;
        self.0.check()
    }

    /// Waits until the device has done all its work.
    pub fn synchronize(&self) -> Result<()> {
        self.0.check()?;
        self.0.observe(None).map(drop)
    }
}

impl Shared {
    pub fn recorder(&self) -> parking_lot::MutexGuard<'_, Queue> {
        self.recorder.lock()
    }

    /// How a kernel with this many 32-bit words of parameters gets them.
    pub fn parameters(&self, words: usize) -> Parameters {
        if 4 * words <= self.immediates as usize { Parameters::Immediates } else { Parameters::Uniform }
    }

    /// An error if the device cannot be used any more or failed since the last call.
    pub fn check(&self) -> Result<()> {
        if forked() {
            found()?;
        }
        let late = self.faults.late.lock().take();
        if let Some(message) = self.faults.lost.get() {
            bail!(
                Device,
                "{} was lost: {message}; its tensors are gone, and the next `.to(\"gpu\")` opens it anew",
                self.adapter
            );
        }
        match late {
            Some(message) => bail!(Device, "{} failed: {message}", self.adapter),
            None => Ok(()),
        }
    }

    /// Waits for a submission, or for the last one.
    pub fn wait(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let poll = wgpu::PollType::Wait { submission_index, timeout: None };
        // wgpu panics when the device is lost while it waits.
        match catch_unwind(AssertUnwindSafe(|| self.wgpu.poll(poll))) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                // A lost device refuses submissions before the callback that tells of it has run.
                let _ = catch_unwind(AssertUnwindSafe(|| self.wgpu.poll(wgpu::PollType::Poll)));
                self.check()?;
                bail!(Device, "{}: waiting failed: {error}", self.adapter)
            }
            Err(_) => {
                let _ = self.faults.lost.set("the driver stopped answering".into());
                self.check()
            }
        }
    }

    /// A new buffer, or `None` if there is no memory for it.
    fn create_buffer(&self, size: u64) -> Option<wgpu::Buffer> {
        let scope = self.wgpu.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.wgpu.create_buffer(&storage(size));
        match pollster::block_on(scope.pop()) {
            None => Some(buffer),
            Some(_) => None,
        }
    }
}

/// Consent to those of the features that wgpu calls experimental.
fn experimental(features: wgpu::Features) -> wgpu::ExperimentalFeatures {
    match features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        // SAFETY: the user has allowed it, only shaders of ours use it, and a trial comes before their first use.
        true => unsafe { wgpu::ExperimentalFeatures::enabled() },
        false => wgpu::ExperimentalFeatures::disabled(),
    }
}

/// A buffer for kernels.
fn storage(size: u64) -> wgpu::BufferDescriptor<'static> {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false }
}

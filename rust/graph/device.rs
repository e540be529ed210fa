//! Where data lies and where kernels run: the one file that names both backends.

use super::node::{Operand, Spec};
use crate::core::{DType, Layout, Result};
use crate::cpu;
#[cfg(feature = "gpu")]
use crate::gpu;
use crate::ir::Kernel;
use crate::{bail, core::Error};
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    Cpu,
    /// A GPU by the place of its adapter in the system's list, which stands still once it has been read.
    Gpu(u8),
}

impl Device {
    /// `"cpu"`, `"gpu"` for the preferred GPU, `"gpu:1"`, or `"gpu:"` and a part of an adapter's name. The first
    /// look for a GPU may take a while; none is opened before something is to lie there.
    pub fn parse(name: &str) -> Result<Device> {
        let gpu = match name.strip_prefix("gpu") {
            _ if name == "cpu" => return Ok(Device::Cpu),
            Some("") => "",
            Some(rest) if rest.len() > 1 && rest.starts_with(':') => &rest[1..],
            _ => bail!(
                Device,
                "device {name:?} is unknown; there are \"cpu\", \"gpu\", \"gpu:1\", \"gpu:\" and a part of an \
                 adapter's name, and \"auto\""
            ),
        };
        #[cfg(feature = "gpu")]
        match gpu::place(gpu) {
            Ok(at) => match u8::try_from(at) {
                Ok(at) => Ok(Device::Gpu(at)),
                Err(_) => bail!(Device, "device {name:?} is number {at}; the first 256 are supported"),
            },
            Err(Error::Device(why)) => bail!(Device, "device {name:?}: {why}"),
            Err(error) => Err(error),
        }
        #[cfg(not(feature = "gpu"))]
        bail!(Device, "device {name:?}: this build of oxon has no GPU support{}", &gpu[..0])
    }
}

impl fmt::Display for Device {
    /// The name that [`Device::parse`] understands as this very device.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            #[cfg(feature = "gpu")]
            Device::Gpu(at) => write!(f, "gpu{}", gpu::suffix(*at as usize)),
            #[cfg(not(feature = "gpu"))]
            Device::Gpu(_) => f.write_str("gpu"),
        }
    }
}

/// What the GPUs of the system are and hold, for whoever asks about them.
#[cfg(feature = "gpu")]
pub mod gpus {
    use super::{Device, Result, gpu};
    pub use gpu::{Listed, Recording, Speed, Usage, adapters, dispatches, looked, watch};

    /// The memory in use on a device and its largest holders; none where it is not open.
    pub fn usage(device: Device) -> Option<(Usage, Vec<(u64, usize)>)> {
        open(device).map(|open| (open.usage(), open.largest()))
    }

    /// Limits what a device holds, or no longer.
    pub fn set_limit(device: Device, limit: Option<u64>) -> Result<()> {
        match device {
            Device::Cpu => Ok(()),
            Device::Gpu(at) => gpu::set_limit(at as usize, limit),
        }
    }

    /// What that was set to.
    pub fn limit(device: Device) -> Option<u64> {
        match device {
            Device::Cpu => None,
            Device::Gpu(at) => gpu::limit(at as usize),
        }
    }

    /// Opens the GPU at a place of the system's list and runs a kernel on it, in a process in which that may crash.
    pub fn try_out(at: usize) -> Result<()> {
        gpu::try_out(at)
    }

    /// Keeps compiled kernels for the next process; this one is about to end.
    pub fn save_pipelines() {
        gpu::save_pipelines();
    }

    /// What a GPU does at best; opens it.
    pub fn speed(device: Device) -> Result<Option<Speed>> {
        match device {
            Device::Cpu => Ok(None),
            Device::Gpu(at) => gpu::speed(at as usize).map(Some),
        }
    }

    /// Gives memory that is kept for reuse back to the system.
    pub fn empty_cache(device: Device) -> Result<()> {
        open(device).map_or(Ok(()), |open| open.empty_cache())
    }

    /// Makes an open device fail as if it had been lost, for tests.
    pub fn lose(device: Device) {
        if let Some(open) = open(device) {
            open.lose();
        }
    }

    fn open(device: Device) -> Option<gpu::Device> {
        match device {
            Device::Cpu => None,
            Device::Gpu(at) => gpu::opened_at(at as usize),
        }
    }
}

/// The bytes of one node's output.
#[derive(Debug)]
pub enum Buffer {
    Cpu(cpu::Memory),
    #[cfg(feature = "gpu")]
    Gpu(gpu::Buffer),
}

impl Buffer {
    pub fn alloc(device: Device, bytes: usize) -> Result<Buffer> {
        match device {
            Device::Cpu => Ok(Buffer::Cpu(cpu::Memory::alloc(bytes)?)),
            #[cfg(feature = "gpu")]
            Device::Gpu(at) => Ok(Buffer::Gpu(gpu::alloc(at as usize, bytes)?)),
            #[cfg(not(feature = "gpu"))]
            Device::Gpu(_) => Err(no_gpu()),
        }
    }

    /// Whether a kernel may write its result here once nobody else holds it: memory that Python or
    /// another library owns is never written.
    pub fn is_ours(&self) -> bool {
        match self {
            Buffer::Cpu(memory) => memory.is_ours(),
            #[cfg(feature = "gpu")]
            Buffer::Gpu(_) => true,
        }
    }

    /// The host memory, of a CPU buffer.
    pub fn host(&self) -> Option<&cpu::Memory> {
        match self {
            Buffer::Cpu(memory) => Some(memory),
            #[cfg(feature = "gpu")]
            Buffer::Gpu(_) => None,
        }
    }

    /// Bytes from `start` on, brought to the host.
    pub fn read(&self, start: usize, bytes: &mut [u8]) -> Result<()> {
        match self {
            Buffer::Cpu(memory) => bytes.copy_from_slice(&memory.bytes()[start..start + bytes.len()]),
            #[cfg(feature = "gpu")]
            Buffer::Gpu(buffer) => buffer.download_into(start, bytes)?,
        }
        Ok(())
    }

    /// A copy on another device.
    pub fn transfer(&self, to: Device) -> Result<Buffer> {
        match (self, to) {
            (Buffer::Cpu(memory), Device::Cpu) => Ok(Buffer::Cpu(cpu::Memory::copy_of(memory.bytes())?)),
            #[cfg(feature = "gpu")]
            (Buffer::Cpu(memory), Device::Gpu(at)) => {
                Ok(Buffer::Gpu(gpu::upload(at as usize, memory.bytes())?))
            }
            #[cfg(feature = "gpu")]
            (Buffer::Gpu(buffer), Device::Cpu) => {
                Ok(Buffer::Cpu(cpu::Memory::copy_of(&gpu::download(buffer)?)?))
            }
            #[cfg(feature = "gpu")]
            // No interface of the driver reaches from one card to another: through the host.
            (Buffer::Gpu(buffer), Device::Gpu(at)) => {
                Ok(Buffer::Gpu(gpu::upload(at as usize, &gpu::download(buffer)?)?))
            }
            #[cfg(not(feature = "gpu"))]
            (_, Device::Gpu(_)) => Err(no_gpu()),
        }
    }
}

#[allow(dead_code, reason = "only builds without the gpu feature need it")]
fn no_gpu() -> Error {
    Error::Device("this build of oxon has no GPU support".into())
}

/// What a kernel reads: a buffer that is ready, as a strided view.
pub struct Input<'a> {
    pub buffer: &'a Buffer,
    pub layout: &'a Layout,
    pub dtype: DType,
}

impl<'a> Input<'a> {
    pub fn of(operand: &'a Operand) -> Result<Input<'a>> {
        let buffer = operand.value.ready().expect("operands run before the kernels that read them")?;
        Ok(Input { buffer, layout: &operand.layout, dtype: operand.dtype() })
    }
}

/// Runs one planned kernel. `outputs` are as large as `specs` say; one may be the very memory of an
/// input that nobody else holds. Where kernels run behind the host, their errors name `line`.
pub fn run(
    device: Device,
    kernel: &Kernel,
    inputs: &[Input<'_>],
    specs: &[Spec],
    outputs: &[Arc<Buffer>],
    line: Option<&Arc<str>>,
) -> Result<()> {
    match device {
        Device::Cpu => {
            let views: SmallVec<[cpu::View<'_>; 4]> = inputs
                .iter()
                .map(|input| match input.buffer.host() {
                    Some(memory) => cpu::View { ptr: memory.ptr(), layout: input.layout, dtype: input.dtype },
                    None => unreachable!("the graph never mixes devices"),
                })
                .collect();
            let outs: SmallVec<[cpu::Out<'_>; 2]> = specs
                .iter()
                .zip(outputs)
                .map(|(spec, buffer)| match buffer.host() {
                    Some(memory) => cpu::Out { ptr: memory.ptr(), shape: &spec.shape, dtype: spec.dtype },
                    None => unreachable!("the graph never mixes devices"),
                })
                .collect();
            cpu::run(kernel, &views, &outs)
        }
        #[cfg(feature = "gpu")]
        Device::Gpu(_) => {
            let views: SmallVec<[gpu::View<'_>; 4]> = inputs
                .iter()
                .map(|input| match input.buffer {
                    Buffer::Gpu(buffer) => gpu::View { buffer, layout: input.layout, dtype: input.dtype },
                    Buffer::Cpu(_) => unreachable!("the graph never mixes devices"),
                })
                .collect();
            let outs: SmallVec<[gpu::Out<'_>; 2]> = specs
                .iter()
                .zip(outputs)
                .map(|(spec, buffer)| match &**buffer {
                    Buffer::Gpu(buffer) => gpu::Out { buffer, shape: &spec.shape, dtype: spec.dtype },
                    Buffer::Cpu(_) => unreachable!("the graph never mixes devices"),
                })
                .collect();
            gpu::asked_for_at(line, || gpu::run(kernel, &views, &outs))
        }
        #[cfg(not(feature = "gpu"))]
        Device::Gpu(_) => Err(line.map_or_else(no_gpu, |_| no_gpu())),
    }
}

/// Waits for devices that run behind the host.
pub fn synchronize() -> Result<()> {
    #[cfg(feature = "gpu")]
    gpu::synchronize()?;
    Ok(())
}

/// How often bytes went to a device other than the host, and came back.
pub fn transfers() -> (u64, u64) {
    #[cfg(feature = "gpu")]
    return gpu::transfers();
    #[cfg(not(feature = "gpu"))]
    (0, 0)
}

/// Tells backends that they are in a forked child.
pub fn after_fork_in_child() {
    #[cfg(feature = "gpu")]
    gpu::after_fork_in_child();
}

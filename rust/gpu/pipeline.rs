//! From WGSL text to something that the queue can run: bind group layouts, shader modules and compute
//! pipelines, cached by what they are made from.

use super::cache::Cache;
use super::device::Shared;
use super::queue::ARENA_WINDOW;
use super::stored::Stored;
use super::{pointwise, prelude};
use crate::bail;
use crate::core::{Error, Result};
use crate::ir::Program;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Compiled kernels that a device keeps.
const KEPT: usize = 2048;

/// How a kernel gets its parameters; it decides one line of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parameters {
    /// With the command itself; fast, but small.
    Immediates,
    /// From the uniform arena.
    Uniform,
}

impl Parameters {
    /// The declaration of the variable `p` of type `Parameters`.
    pub fn declaration(self) -> &'static str {
        match self {
            Parameters::Immediates => "var<immediate> p: Parameters;\n",
            Parameters::Uniform => "@group(1) @binding(0) var<uniform> p: Parameters;\n",
        }
    }
}

/// What a pipeline is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Pointwise(pointwise::Structure),
    /// Several segments of one structure.
    Together(pointwise::Structure, usize),
    /// A hand-written shader: its name and the constants that specialise it.
    Shader(&'static str, Vec<u32>),
    /// The same with a fused prologue.
    Mapped(&'static str, Vec<u32>, Arc<Program>),
}

pub(super) struct Pipeline {
    pub wgpu: wgpu::ComputePipeline,
    pub bindings: wgpu::BindGroupLayout,
    pub uniform: bool,
}

/// The text of a kernel and what it takes.
pub(super) struct Source {
    pub label: String,
    /// But for what 64-bit integers are made of, which depends on the device.
    pub wgsl: String,
    /// Storage buffers in group 0.
    pub bindings: usize,
    pub parameters: Parameters,
}

pub(super) struct Pipelines {
    made: Mutex<Cache<Key, Arc<Pipeline>>>,
    /// Bind group layouts by number of storage buffers.
    layouts: Mutex<HashMap<usize, wgpu::BindGroupLayout>>,
    arena_layout: wgpu::BindGroupLayout,
    stored: Option<Stored>,
}

impl Pipelines {
    pub fn new(device: &wgpu::Device, stored: Option<Stored>) -> Pipelines {
        let entry = entry(0, wgpu::BufferBindingType::Uniform, wgpu::BufferSize::new(ARENA_WINDOW));
        let arena_layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("parameters"),
            entries: &[entry],
        });
        Pipelines { made: Mutex::new(Cache::new(KEPT)), layouts: Mutex::default(), arena_layout, stored }
    }

    pub fn arena_layout(&self) -> &wgpu::BindGroupLayout {
        &self.arena_layout
    }

    /// Of the hand-written shaders that were compiled.
    #[cfg(test)]
    pub fn names(&self) -> Vec<&'static str> {
        let name = |key: &Key| match key {
            Key::Shader(name, _) | Key::Mapped(name, ..) => Some(*name),
            _ => None,
        };
        self.made.lock().keys().filter_map(name).collect()
    }

    /// Writes to disk what was compiled since.
    pub fn save(&self) {
        self.stored.iter().for_each(Stored::save);
    }

    /// The pipeline of `key`, compiled from `source` at its first use.
    pub fn get(
        &self,
        shared: &Shared,
        key: &Key,
        source: impl FnOnce() -> Result<Source>,
    ) -> Result<Arc<Pipeline>> {
        if let Some(pipeline) = self.made.lock().get(key) {
            return Ok(pipeline);
        }
        let pipeline = Arc::new(self.compile(shared, &source()?)?);
        self.made.lock().insert(key.clone(), pipeline.clone());
        Ok(pipeline)
    }

    fn compile(&self, shared: &Shared, source: &Source) -> Result<Pipeline> {
        let Source { label, wgsl, bindings, parameters } = source;
        let most = shared.limits.max_storage_buffers_per_shader_stage as usize;
        if *bindings > most {
            bail!(
                Device,
                "{label}: {bindings} operands; {} takes at most {most} in one kernel",
                shared.adapter
            );
        }
        let device = &shared.wgpu;
        let uniform = *parameters == Parameters::Uniform;
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let group =
            self.layouts.lock().entry(*bindings).or_insert_with(|| storage_layout(device, *bindings)).clone();
        let groups = [Some(&group), Some(&self.arena_layout)];
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(label),
            bind_group_layouts: &groups[..if uniform { 2 } else { 1 }],
            immediate_size: if uniform { 0 } else { shared.immediates },
        });
        let checks = match cfg!(debug_assertions) {
            true => wgpu::ShaderRuntimeChecks::checked(),
            false => wgpu::ShaderRuntimeChecks::unchecked(),
        };
        let text = wgsl.clone() + &prelude::wide(wgsl, shared.adapter.int64);
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(label),
            source: wgpu::ShaderSource::Wgsl(text.into()),
        };
        // SAFETY: the text is ours alone. Kernels check every index against the sizes they are given, their
        // loops are bounded and their divisors are not zero; the tests run them with all checks on.
        let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(label),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                zero_initialize_workgroup_memory: false,
            },
            cache: self.stored.as_ref().map(|stored| &stored.cache),
        });
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(Error::Device(format!(
                "{label}: the shader does not compile on {}: {error}",
                shared.adapter
            )));
        }
        self.stored.iter().for_each(Stored::grew);
        Ok(Pipeline { wgpu: pipeline, bindings: group, uniform })
    }
}

/// Storage buffers 0..count. All are `read_write`, since one buffer may be bound twice in a kernel and
/// its uses must then agree.
fn storage_layout(device: &wgpu::Device, count: usize) -> wgpu::BindGroupLayout {
    let entries: Vec<_> = (0..count as u32)
        .map(|i| entry(i, wgpu::BufferBindingType::Storage { read_only: false }, None))
        .collect();
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
}

fn entry(
    binding: u32,
    ty: wgpu::BufferBindingType,
    min_binding_size: Option<wgpu::BufferSize>,
) -> wgpu::BindGroupLayoutEntry {
    let has_dynamic_offset = ty == wgpu::BufferBindingType::Uniform;
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size },
        count: None,
    }
}

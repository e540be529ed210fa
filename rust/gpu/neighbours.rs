//! How many neighbouring lanes of a workgroup exchange registers, found out once for each device that is opened:
//! WGSL does not say which lanes share a subgroup, so a shader tries.

use super::device::Device;
use super::pipeline::{Parameters, Source};
use super::queue::Binding;
use super::shaders::{Launch, NEIGHBOURS};
use crate::core::Result;

const GROUPS: usize = 4;
const LANES: usize = 256;

/// The size of subgroups on `device`, whose driver says that it is at least `least`; 1 if its neighbours are not in
/// one subgroup after all.
pub(super) fn subgroup(device: &Device, least: u32) -> Result<u32> {
    // Kernels know powers of 2, and nobody gains from more.
    let size = if least.is_power_of_two() { least.min(64) } else { 1 };
    if size == 1 {
        return Ok(1);
    }
    let shared = device.shared();
    let good = device.alloc(4 * GROUPS * LANES)?;
    let whole = Binding { raw: good.raw(), offset: 0, size: good.raw().wgpu.size() };
    let launch =
        Launch { variant: &[size], bindings: &[whole], words: &[LANES as u32], groups: [GROUPS as u32, 1] };
    let tried = NEIGHBOURS.launch(shared, &mut shared.recorder(), &launch, || constants(size));
    // What the driver does not compile it does not have either.
    if tried.is_err() {
        return Ok(1);
    }
    let words = good.download(0..4 * GROUPS * LANES)?;
    let all = words.chunks_exact(4).all(|word| word == 1u32.to_ne_bytes());
    Ok(if all { size } else { 1 })
}

fn constants(size: u32) -> String {
    format!("const SUBGROUP: u32 = {size}u;\n")
}

/// Variants of the shader, for validation.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    let of = |size| (format!("neighbours {size}"), NEIGHBOURS.source(&constants(size), parameters));
    [4, 32].map(of).into()
}

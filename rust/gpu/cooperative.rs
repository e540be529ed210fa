//! Cooperative matrices: small products that a subgroup computes together, on what vendors call tensor cores or matrix
//! units. They are used for products of half floats, which are summed in float32 as everywhere, where the user allows it
//! and the device passes a trial when it is opened. The shader is `shaders/tile_cooperative.wgsl`.

use super::adapter::Adapter;
use super::device::Device;
use super::matmul::choice::{Choice, Rung, Tile};
use super::pipeline::{Parameters, Source};
use super::queue::Binding;
use super::shaders::{Launch, SUBGROUPS};
use super::{Out, View, matmul};
use crate::core::{DType, Layout, Result};

/// Set to 1, it allows them. Not by default: wgpu calls its feature experimental, and drivers differ.
pub(super) const VARIABLE: &str = "OXON_GPU_COOPERATIVE";
/// Invocations of a workgroup of the shader.
const LANES: usize = 256;

/// The matrices that subgroups of a device multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::gpu) struct Matrices {
    /// Rows and columns of one.
    pub size: usize,
    /// Into how many patches a tile is cut: as many as a workgroup has subgroups, a power of 2.
    pub patches: usize,
}

impl Matrices {
    /// For validation: those of NVIDIA and AMD, of Apple, of software with subgroups of 8.
    pub const SAMPLES: [Matrices; 3] = [
        Matrices { size: 16, patches: 8 },
        Matrices { size: 8, patches: 8 },
        Matrices { size: 8, patches: 32 },
    ];
    pub const HEAD: &str = "enable f16;\nenable wgpu_cooperative_matrix;\n";

    /// Patches below each other, and beside each other.
    fn grid(self) -> [usize; 2] {
        let down = 1 << (self.patches.ilog2() / 2);
        [down, self.patches / down]
    }

    /// Floats of workgroup memory by way of which results leave.
    pub fn results(self) -> usize {
        self.patches * self.size * self.size
    }

    /// Its place in kernels' keys.
    pub fn number(self) -> u32 {
        (self.size | self.patches << 8) as u32
    }

    /// What the shader wants to know for tiles of `tile` × `tile`.
    pub fn constants(self, tile: usize) -> String {
        let Matrices { size, patches } = self;
        let [down, across] = self.grid();
        let (patch_m, patch_n) = (tile / down, tile / across);
        let of = |dtype: &str, role: &str| format!("coop_mat{size}x{size}<{dtype}, {role}>");
        format!(
            "alias Left = {};\nalias Right = {};\nalias Sum = {};\nconst MATRIX: u32 = {size}u;\n\
             const PATCHES: u32 = {patches}u;\nconst PATCHES_N: u32 = {across}u;\n\
             const PATCH_M: u32 = {patch_m}u;\nconst PATCH_N: u32 = {patch_n}u;\n",
            of("f16", "A"),
            of("f16", "B"),
            of("f32", "C")
        )
    }
}

/// Rows and columns of the square matrices of half floats, summed in float32, that an adapter multiplies; 0 if it has
/// none.
pub(super) fn size(adapter: &wgpu::Adapter) -> usize {
    use wgpu::CooperativeScalarType::{F16, F32};
    let fits = |p: &wgpu::CooperativeMatrixProperties| {
        [p.n_size, p.k_size] == [p.m_size; 2] && p.ab_type == F16 && p.cr_type == F32
    };
    match adapter.features().contains(features()) {
        true => adapter
            .cooperative_matrix_properties()
            .iter()
            .filter(|p| fits(p))
            .map(|p| p.m_size as usize)
            .max(),
        false => None,
    }
    .unwrap_or(0)
}

/// What a device must be opened with.
pub(super) fn features() -> wgpu::Features {
    wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP
}

/// Whether the user allows them.
pub(super) fn allowed() -> bool {
    std::env::var(VARIABLE).is_ok_and(|value| value == "1")
}

/// The matrices of a device whose adapter has those of a [`size`], if they multiply as they should.
pub(super) fn matrices(device: &Device, adapter: &Adapter) -> Result<Option<Matrices>> {
    let shared = device.shared();
    let limits = &shared.limits;
    if adapter.cooperative == 0 || (limits.max_compute_invocations_per_workgroup as usize) < LANES {
        return Ok(None);
    }
    let count = device.alloc(4)?;
    let whole = Binding { raw: count.raw(), offset: 0, size: count.raw().wgpu.size() };
    let launch = Launch { variant: &[], bindings: &[whole], words: &[0], groups: [1, 1] };
    SUBGROUPS.launch(shared, &mut shared.recorder(), &launch, String::new)?;
    let word = count.download(0..4)?;
    let patches = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]) as usize;
    let matrices = Matrices { size: adapter.cooperative, patches };
    let room = limits.max_compute_workgroup_storage_size as usize;
    let possible = patches.is_power_of_two()
        && (2..=64).contains(&patches)
        && Tile::of_matrices(matrices).shared(4) <= room;
    Ok(if possible && multiply(device, matrices) { Some(matrices) } else { None })
}

/// Whether products of small integers, which rounding cannot touch, come out right, however operands lie.
fn multiply(device: &Device, matrices: Matrices) -> bool {
    let (m, n, k) = (150, 140, 70);
    let number = |i: usize| (i * 37 % 11) as i32 - 5;
    let half = |count: usize| -> Vec<u8> {
        (0..count).flat_map(|i| half::f16::from_f32(number(i) as f32).to_ne_bytes()).collect()
    };
    let (rung, parts) = (Rung::Tile(Tile::of_matrices(matrices)), 1);
    let product = |turned: bool| -> Result<bool> {
        let (a, b) = (device.upload(&half(m * k))?, device.upload(&half(k * n))?);
        let of = |rows: usize, columns: usize| match turned {
            true => Layout::contiguous([columns, rows].into()).permute(&[1, 0]),
            false => Layout::contiguous([rows, columns].into()),
        };
        let (of_a, of_b) = (of(m, k), of(k, n));
        let out = device.alloc(2 * m * n)?;
        let shape = [m, n].into();
        let views = [
            View { buffer: &a, layout: &of_a, dtype: DType::F16 },
            View { buffer: &b, layout: &of_b, dtype: DType::F16 },
        ];
        let to = Out { buffer: &out, shape: &shape, dtype: DType::F16 };
        matmul::run_as(Some(Choice { rung, parts }), None, &views, &to)?;
        let at = |layout: &Layout, row: usize, column: usize| {
            number(row * layout.strides[0] as usize + column * layout.strides[1] as usize)
        };
        let got = out.download(0..2 * m * n)?;
        Ok(got.chunks_exact(2).enumerate().all(|(i, bytes)| {
            let sum: i32 = (0..k).map(|j| at(&of_a, i / n, j) * at(&of_b, j, i % n)).sum();
            half::f16::from_ne_bytes([bytes[0], bytes[1]]).to_f32() == sum as f32
        }))
    };
    // What the driver does not compile it does not have either.
    [false, true].into_iter().all(|turned| product(turned).unwrap_or(false))
}

/// The shader that counts subgroups, for validation.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    vec![("subgroups".into(), SUBGROUPS.source("", parameters))]
}

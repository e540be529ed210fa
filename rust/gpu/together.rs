//! Elementwise kernels of one structure on operands of their own, such as an optimizer's steps over all parameters, as few
//! dispatches: what is recorded waits until something else is, or something that it must not run beside, and then runs
//! together, a segment of the workgroups for each. Between two dispatches a device is idle; segments have no between.

use super::pipeline::{Parameters, Source};
use super::pointwise::{self, LANES, Structure, grid};
use super::queue::{Binding, Recorded};
use super::{prelude, wgsl};
use crate::core::Result;
use smallvec::SmallVec;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Elements beyond which a kernel is large enough for a dispatch of its own.
pub(super) const MOST: usize = 1 << 20;
/// Buffers that one dispatch binds, if the device binds as many.
const BINDINGS: usize = 64;
/// Segments of one dispatch.
const SEGMENTS: usize = 16;

/// What is bound, kept alive until it is recorded.
#[derive(Clone)]
pub(super) struct Bound {
    pub wgpu: wgpu::Buffer,
    pub id: u64,
    pub batch: Arc<AtomicU64>,
    pub offset: u64,
    pub size: u64,
}

impl Bound {
    pub fn of(binding: &Binding<'_>) -> Bound {
        let Binding { raw, offset, size } = *binding;
        Bound { wgpu: raw.wgpu.clone(), id: raw.id, batch: raw.batch.clone(), offset, size }
    }

    pub fn recorded(&self) -> Recorded<'_> {
        Recorded { wgpu: &self.wgpu, id: self.id, batch: &self.batch, offset: self.offset, size: self.size }
    }
}

/// One kernel.
pub(super) struct Segment {
    pub count: u32,
    /// Where its operands and results begin.
    pub places: SmallVec<[u32; 8]>,
    pub bound: SmallVec<[Bound; 8]>,
}

/// Kernels of one structure with the same scalars.
pub(super) struct Waiting {
    pub op: String,
    pub structure: Structure,
    /// Their words.
    pub scalars: SmallVec<[u32; 8]>,
    pub segments: Vec<Segment>,
    /// So many run in one dispatch.
    pub most: usize,
}

impl Waiting {
    pub fn new(op: &str, structure: Structure, scalars: &[u32], bindings: u32) -> Waiting {
        let each = structure.program.inputs.len() + structure.program.outputs.len();
        let most = (BINDINGS.min(bindings as usize) / each.max(1)).clamp(1, SEGMENTS);
        Waiting { op: op.into(), structure, scalars: scalars.into(), segments: vec![], most }
    }

    /// Whether another kernel may run beside those that wait: it reads and writes nothing that they write, and writes
    /// nothing that they read.
    pub fn takes(&self, structure: &Structure, scalars: &[u32], bindings: &[Binding<'_>]) -> bool {
        if self.segments.len() >= self.most || self.structure != *structure || self.scalars[..] != *scalars {
            return false;
        }
        let inputs = self.structure.program.inputs.len();
        let apart = |segment: &Segment| {
            bindings.iter().enumerate().all(|(i, new)| {
                let mut bound = segment.bound.iter().enumerate();
                bound.all(|(j, old)| new.raw.id != old.id || (i < inputs && j < inputs))
            })
        };
        self.segments.iter().all(apart)
    }

    pub fn add(&mut self, count: u32, places: &[u32], bindings: &[Binding<'_>], epoch: u64) {
        for binding in bindings {
            binding.raw.waits.store(epoch, Ordering::Relaxed);
        }
        let bound = bindings.iter().map(Bound::of).collect();
        self.segments.push(Segment { count, places: places.into(), bound });
    }
}

/// How many of `left` segments one dispatch takes: all that fit, or a power of two, so that few kernels are compiled.
pub(super) fn taken(left: usize, most: usize) -> usize {
    if left == most { most } else { 1 << left.ilog2() }
}

/// The words of some segments, one after the other, and the grid.
pub(super) fn words(segments: &[Segment], scalars: &[u32]) -> (SmallVec<[u32; 32]>, [u32; 2]) {
    let groups = |segment: &Segment| u64::from(segment.count).div_ceil(4 * LANES);
    let grid = grid(segments.iter().map(groups).sum());
    if let [segment] = segments {
        // As the kernel of one has them.
        let mut words = SmallVec::from_slice(&[segment.count, grid[0] * LANES as u32]);
        words.extend_from_slice(&segment.places);
        words.extend_from_slice(scalars);
        return (words, grid);
    }
    let mut words = SmallVec::from_slice(&[grid[0]]);
    let mut end = 0;
    for segment in segments {
        end += groups(segment) as u32;
        words.extend([segment.count, end]);
        words.extend_from_slice(&segment.places);
    }
    words.extend_from_slice(scalars);
    (words, grid)
}

/// The kernel of several segments of a structure whose operands are not strided.
pub(super) fn source(op: &str, structure: &Structure, segments: usize) -> Result<Source> {
    let Structure { program, parameters, .. } = structure;
    let each = program.inputs.len() + program.outputs.len();
    let (mut fields, mut bindings) = (String::from("    row: u32,\n"), String::new());
    let mut functions = wgsl::body(program)?;
    let mut main = String::new();
    for i in 0..segments {
        let prefix = format!("s{i}_");
        let (own_bindings, own_fields) = pointwise::operands(structure, &prefix, i * each);
        let _ = write!(fields, "    {prefix}count: u32,\n    {prefix}end: u32,\n{own_fields}");
        bindings += &own_bindings;
        let _ = write!(
            functions,
            "fn segment{i}(quad: u32) {{\n    if (quad >= (p.{prefix}count + 3u) / 4u) {{ return; }}\n{}}}\n",
            pointwise::statements(structure, &prefix)
        );
        let start = if i == 0 { "0u".into() } else { format!("p.s{}_end", i - 1) };
        let _ = writeln!(
            main,
            "    if (at < p.{prefix}end) {{ segment{i}((at - {start}) * {LANES}u + lane); return; }}"
        );
    }
    for (i, &dtype) in program.scalars.iter().enumerate() {
        fields += &wgsl::scalar_fields(dtype, i);
    }
    let text = format!(
        "{functions}\n@compute @workgroup_size({LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {{
    let at = group.y * p.row + group.x;\n{main}}}\n"
    );
    let (needed, declaration) = (prelude::needed(&text), parameters.declaration());
    Ok(Source {
        label: pointwise::label(op, program),
        wgsl: format!("struct Parameters {{\n{fields}}}\n{declaration}{bindings}\n{needed}\n{text}"),
        bindings: segments * each,
        parameters: *parameters,
    })
}

/// Kernels of several segments: an optimizer's step in each dtype.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    use super::pointwise::Class;
    use crate::core::DType;
    use crate::ir::{Elementwise, Program, Reg, Step};
    let mut all = vec![];
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::I32, DType::U8] {
        let mut program = Program::default();
        program.inputs.extend([dtype; 3]);
        program.scalars.push(dtype);
        let apply = |op, a, b| Step::Apply { op, dtype, args: [a, b, a] };
        program.steps.push(apply(Elementwise::mul, Reg::Input(1), Reg::Scalar(0)));
        program.steps.push(apply(Elementwise::add, Reg::Step(0), Reg::Input(2)));
        program.steps.push(apply(Elementwise::sub, Reg::Input(0), Reg::Step(1)));
        program.outputs.extend([Reg::Step(2), Reg::Step(1)]);
        for classes in [[Class::Quads; 3], [Class::Quads, Class::Single, Class::Quads]] {
            let program = std::sync::Arc::new(program.clone());
            let structure = Structure { program, classes: classes.as_slice().into(), rank: 0, parameters };
            for segments in [2, 4] {
                if let Ok(source) = source("together", &structure, segments) {
                    all.push((format!("together {dtype} {classes:?} {segments}"), source));
                }
            }
        }
    }
    all
}

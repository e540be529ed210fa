//! Fused elementwise chains: one generated kernel for each structure, that is program, rank and class of
//! the operands. Sizes, strides and scalars are its parameters.
//!
//! One invocation makes four neighbouring elements of every output, in row-major order. So 8 and 16-bit
//! elements, which lie packed in words, never share a word between invocations, and 32-bit ones are
//! read and written as vectors where they lie in that order.

use super::assign::by_entries;
use super::device::Shared;
use super::memory::Buffer;
use super::pipeline::{Key, Parameters, Source};
use super::queue::Binding;
use super::{Out, View, prelude, together, wgsl};
use crate::bail;
use crate::core::{DType, Layout, Result, Shape};
use crate::ir::kernel::Fused;
use crate::ir::{Program, Reg};
use smallvec::SmallVec;
use std::fmt::Write;
use std::sync::Arc;

/// Invocations of a workgroup.
pub(super) const LANES: u64 = 256;

/// How the elements of an operand lie, seen from the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// In the order of the output and aligned to quads.
    Quads,
    /// One element for all.
    Single,
    /// Anywhere.
    Strided,
}

/// What decides the text of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Structure {
    pub program: Arc<Program>,
    pub classes: SmallVec<[Class; 8]>,
    /// Axes that strided operands distinguish; 0 if there are none.
    pub rank: usize,
    pub parameters: Parameters,
}

/// Runs a program; the outputs have one shape, to which the inputs broadcast. `op` names it in errors.
pub(super) fn run(op: &str, fused: &Fused, inputs: &[View<'_>], outputs: &[Out<'_>]) -> Result<()> {
    let Some(first) = outputs.first() else { return Ok(()) };
    let program = &fused.program;
    if (inputs.len(), outputs.len()) != (program.inputs.len(), program.outputs.len()) {
        bail!(Device, "{op}: {} operands and {} results do not fit its program", inputs.len(), outputs.len());
    }
    let shared = first.buffer.device().shared();
    let dtypes = inputs.iter().map(|view| view.dtype).chain(outputs.iter().map(|out| out.dtype));
    let dtypes = dtypes.chain(program.scalars.iter().copied());
    for dtype in dtypes.chain(program.steps.iter().map(|step| step.result())) {
        wgsl::check(op, dtype, &shared.adapter)?;
    }
    let mut layouts: SmallVec<[Layout; 8]> = SmallVec::new();
    for view in inputs {
        match view.layout.broadcast_to(first.shape) {
            Some(layout) => layouts.push(layout),
            None => bail!(Shape, "{op}: {} does not broadcast to {}", view.layout.shape, first.shape),
        }
    }
    let call = Call { op, shared, fused, inputs, outputs };
    call.run(first.shape, &layouts, 0)
}

#[derive(Clone, Copy)]
struct Call<'a> {
    op: &'a str,
    shared: &'a Shared,
    fused: &'a Fused,
    inputs: &'a [View<'a>],
    outputs: &'a [Out<'a>],
}

impl Call<'_> {
    /// Computes the elements of `shape`, which begin at element `start` of the outputs, a multiple of 4. What
    /// a binding cannot hold or an index cannot count is done in two halves.
    fn run(&self, shape: &Shape, layouts: &[Layout], start: usize) -> Result<()> {
        let count = shape.count();
        if count == 0 {
            return Ok(());
        }
        let windows = self.windows(count, layouts, start);
        let Some(windows) = windows.filter(|_| count <= 1 << 31) else {
            return self.halves(shape, layouts, start);
        };
        let axes = Axes::of(shape, layouts);
        let mut classes: SmallVec<[Class; 8]> = SmallVec::new();
        for layout in layouts {
            classes.push(match layout {
                _ if layout.is_single() => Class::Single,
                _ if layout.is_contiguous() && layout.offset % 4 == 0 => Class::Quads,
                _ => Class::Strided,
            });
        }
        let rank = if classes.contains(&Class::Strided) { axes.sizes.len() } else { 0 };

        let mut places: SmallVec<[u32; 32]> = axes.sizes[..rank].iter().map(|&size| size as u32).collect();
        let (of_inputs, of_outputs) = windows.split_at(layouts.len());
        for (i, (layout, window)) in layouts.iter().zip(of_inputs).enumerate() {
            let offset = layout.offset - window.first;
            match classes[i] {
                Class::Quads => places.push((offset / 4) as u32),
                Class::Single => places.push(offset as u32),
                Class::Strided => {
                    places.push(offset as u32);
                    places.extend(axes.strides.iter().map(|strides| strides[i] as u32));
                }
            }
        }
        places.extend(of_outputs.iter().map(|window| ((start - window.first) / 4) as u32));
        let mut scalars: SmallVec<[u32; 8]> = SmallVec::new();
        for (&dtype, &value) in self.fused.program.scalars.iter().zip(&self.fused.scalars) {
            wgsl::scalar_words(dtype, value, &mut scalars);
        }

        let parameters = self.shared.parameters(2 + places.len() + scalars.len());
        let structure = Structure { program: self.fused.program.clone(), classes, rank, parameters };
        let bindings: SmallVec<[Binding<'_>; 8]> = windows.iter().map(|window| window.binding).collect();
        let key = Key::Pointwise(structure.clone());
        let pipeline = self.shared.pipelines.get(self.shared, &key, || source(self.op, &structure))?;
        if rank == 0 && count <= together::MOST {
            let count = count as u32;
            let mut recorder = self.shared.recorder();
            return recorder.wait(self.shared, self.op, structure, (count, &places, &scalars), &bindings);
        }
        let groups = grid((count as u64).div_ceil(4 * LANES));
        let mut words: SmallVec<[u32; 32]> = SmallVec::from_slice(&[count as u32, groups[0] * LANES as u32]);
        words.extend(places);
        words.extend(scalars);
        self.shared.recorder().dispatch(self.shared, &pipeline, &bindings, &words, groups)
    }

    /// The parts of the buffers that inputs and outputs need, or `None` if one is too large to be bound.
    fn windows(&self, count: usize, layouts: &[Layout], start: usize) -> Option<SmallVec<[Window<'_>; 8]>> {
        let mut windows = SmallVec::new();
        for (view, layout) in self.inputs.iter().zip(layouts) {
            let (low, high) = layout.span()?;
            windows.push(Window::new(self.shared, view.buffer, low, high, view.dtype.size())?);
        }
        for out in self.outputs {
            windows.push(Window::new(self.shared, out.buffer, start, start + count - 1, out.dtype.size())?);
        }
        Some(windows)
    }

    /// Splits the outermost axis that can be, so that both halves begin at a whole quad.
    fn halves(&self, shape: &Shape, layouts: &[Layout], start: usize) -> Result<()> {
        let Some(halves) = halves(shape) else {
            return by_entries(self.op, shape, start, self.outputs, |axis, entry, part, outputs| {
                let parts: SmallVec<[Layout; 8]> =
                    layouts.iter().map(|layout| layout.slice(axis, entry, 1, 1)).collect();
                Call { outputs, ..*self }.run(part, &parts, 0)
            });
        };
        for Half { axis, first, size, place } in halves {
            let parts: SmallVec<[Layout; 8]> =
                layouts.iter().map(|layout| layout.slice(axis, first, size, 1)).collect();
            let mut part = shape.clone();
            part[axis] = size;
            self.run(&part, &parts, start + place)?;
        }
        Ok(())
    }
}

/// A part of a buffer, counted in elements.
#[derive(Clone)]
pub(super) struct Window<'a> {
    pub binding: Binding<'a>,
    /// The element at which the part begins.
    pub first: usize,
}

impl<'a> Window<'a> {
    /// The part that holds the elements `low..=high` and what vectors read beyond them, or `None` if it is
    /// too large to be bound. Whole buffers are bound where that is possible, so that bind groups serve
    /// again.
    pub fn new(
        shared: &Shared,
        buffer: &'a Buffer,
        low: usize,
        high: usize,
        size: usize,
    ) -> Option<Window<'a>> {
        let raw = buffer.raw();
        let most = shared.limits.max_storage_buffer_binding_size / 4 * 4;
        if raw.wgpu.size() <= most {
            return Some(Window { binding: Binding { raw, offset: 0, size: raw.wgpu.size() }, first: 0 });
        }
        let align = u64::from(shared.limits.min_storage_buffer_offset_alignment).max(32);
        let offset = (low * size) as u64 / align * align;
        let end = (((high + 1) * size) as u64).next_multiple_of(32).min(raw.wgpu.size());
        let first = offset as usize / size;
        (end - offset <= most)
            .then_some(Window { binding: Binding { raw, offset, size: end - offset }, first })
    }
}

/// Workgroups as a grid of two dimensions, since a device counts at most 65,535 in one.
pub(super) fn grid(groups: u64) -> [u32; 2] {
    const MOST: u64 = 65_535;
    let rows = groups.div_ceil(MOST).max(1);
    [groups.div_ceil(rows) as u32, rows as u32]
}

/// A part of a row-major iteration space: `size` entries of `axis` from `first` on, and the number of
/// elements before them.
pub(super) struct Half {
    pub axis: usize,
    pub first: usize,
    pub size: usize,
    pub place: usize,
}

/// Two halves of the outermost axis that begin at whole quads, or `None` where that axis is too short.
pub(super) fn halves(shape: &Shape) -> Option<[Half; 2]> {
    let axis = shape.iter().position(|&size| size != 1)?;
    let inner: usize = shape[axis + 1..].iter().product();
    // The smallest number of steps along the axis that makes whole quads.
    let unit = [1, 2, 4].into_iter().find(|unit| (unit * inner).is_multiple_of(4)).unwrap_or(4);
    let half = shape[axis] / 2 / unit * unit;
    let part = |first: usize, size| Half { axis, first, size, place: first * inner };
    (half > 0).then(|| [part(0, half), part(half, shape[axis] - half)])
}

/// The iteration space without axes of size 1, and with neighbours merged that every operand walks in
/// one step.
pub(super) struct Axes {
    pub sizes: SmallVec<[usize; 6]>,
    /// For each axis the strides of all operands.
    pub strides: SmallVec<[SmallVec<[isize; 8]>; 6]>,
}

impl Axes {
    pub fn of(shape: &Shape, layouts: &[Layout]) -> Axes {
        let mut axes = Axes { sizes: SmallVec::new(), strides: SmallVec::new() };
        for axis in (0..shape.rank()).filter(|&axis| shape[axis] != 1) {
            let size = shape[axis];
            let strides: SmallVec<[isize; 8]> = layouts.iter().map(|layout| layout.strides[axis]).collect();
            match (axes.sizes.last_mut(), axes.strides.last_mut()) {
                (Some(outer), Some(steps))
                    if steps.iter().zip(&strides).all(|(&step, &stride)| step == stride * size as isize) =>
                {
                    *outer *= size;
                    *steps = strides;
                }
                _ => {
                    axes.sizes.push(size);
                    axes.strides.push(strides);
                }
            }
        }
        axes
    }
}

/// The bindings of operands and results from `first` on, and the parameters that say where they lie; all their names
/// begin with `prefix`.
pub(super) fn operands(structure: &Structure, prefix: &str, first: usize) -> (String, String) {
    let Structure { program, classes, rank, .. } = structure;
    let (mut bindings, mut fields) = (String::new(), String::new());
    let mut bind = |name: &str, index: usize, element: &str| {
        bindings += &super::rows::binding(&format!("{prefix}{name}"), first + index, element);
    };
    for (i, (&dtype, &class)) in program.inputs.iter().zip(classes).enumerate() {
        bind(&format!("in{i}"), i, &wgsl::storage(dtype, class == Class::Quads));
        let _ = writeln!(fields, "    {prefix}in{i}_offset: u32,");
        for axis in (0..*rank).filter(|_| class == Class::Strided) {
            let _ = writeln!(fields, "    {prefix}in{i}_stride{axis}: u32,");
        }
    }
    for (i, &reg) in program.outputs.iter().enumerate() {
        bind(&format!("out{i}"), program.inputs.len() + i, &wgsl::storage(program.dtype(reg), true));
        let _ = writeln!(fields, "    {prefix}out{i}_offset: u32,");
    }
    (bindings, fields)
}

/// The kernel of a structure.
pub(super) fn source(op: &str, structure: &Structure) -> Result<Source> {
    let Structure { program, rank, parameters, .. } = structure;
    let mut fields = String::from("    count: u32,\n    row: u32,\n");
    for axis in 0..*rank {
        let _ = writeln!(fields, "    size{axis}: u32,");
    }
    let (bindings, places) = operands(structure, "", 0);
    fields += &places;
    for (i, &dtype) in program.scalars.iter().enumerate() {
        fields += &wgsl::scalar_fields(dtype, i);
    }
    let text = format!(
        "{}\n@compute @workgroup_size({LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {{
    let quad = group.y * p.row + group.x * {LANES}u + lane;
    if (quad >= (p.count + 3u) / 4u) {{ return; }}
{}}}\n",
        wgsl::body(program)?,
        statements(structure, "")
    );
    let functions = prelude::needed(&text);
    let declaration = parameters.declaration();
    Ok(Source {
        label: label(op, program),
        wgsl: format!("struct Parameters {{\n{fields}}}\n{declaration}{bindings}\n{functions}\n{text}"),
        bindings: program.inputs.len() + program.outputs.len(),
        parameters: *parameters,
    })
}

/// The names of a program's first operations, for errors and debuggers.
pub(super) fn label(op: &str, program: &Program) -> String {
    let mut steps = program.steps.iter().map(|step| match step {
        crate::ir::Step::Apply { op, .. } => op.name(),
        crate::ir::Step::Cast { to, .. } => to.name(),
    });
    let first: Vec<&str> = steps.by_ref().take(6).collect();
    match (first.is_empty(), steps.next()) {
        (true, _) => op.into(),
        (_, None) => first.join("-"),
        _ => first.join("-") + "-…",
    }
}

/// What an invocation does with the quad `quad`: where its elements lie, four calls of `body`, and the stores. Names of
/// operands begin with `prefix`.
pub(super) fn statements(structure: &Structure, prefix: &str) -> String {
    let Structure { program, classes, rank, .. } = structure;
    let mut text = String::new();
    if *rank > 0 {
        text += "    var rest = quad * 4u;\n";
        for axis in (1..*rank).rev() {
            let _ = writeln!(text, "    var c{axis} = rest % p.size{axis};\n    rest /= p.size{axis};");
        }
        text += "    var c0 = rest;\n";
    }
    for (i, (&dtype, &class)) in program.inputs.iter().zip(classes).enumerate() {
        let _ = match class {
            Class::Quads if dtype.size() <= 4 => {
                writeln!(
                    text,
                    "    let at{i} = p.{prefix}in{i}_offset + quad;\n    let quad{i} = {prefix}in{i}[at{i}];"
                )
            }
            Class::Quads => writeln!(text, "    let at{i} = p.{prefix}in{i}_offset + quad;"),
            Class::Single => {
                let offset = format!("p.{prefix}in{i}_offset");
                writeln!(text, "    let one{i} = {};", wgsl::load(dtype, &format!("{prefix}in{i}"), &offset))
            }
            Class::Strided => Ok(()),
        };
    }
    for lane in 0..4 {
        let mut arguments = vec![];
        for (i, (&dtype, &class)) in program.inputs.iter().zip(classes).enumerate() {
            let name = format!("{prefix}in{i}");
            arguments.push(match class {
                Class::Quads => wgsl::load_lane(dtype, &name, &format!("at{i}"), &format!("quad{i}"), lane),
                Class::Single => format!("one{i}"),
                Class::Strided => {
                    let place: String =
                        (0..*rank).map(|a| format!(" + c{a} * p.{prefix}in{i}_stride{a}")).collect();
                    let _ = writeln!(text, "    let at{i}_{lane} = p.{prefix}in{i}_offset{place};");
                    wgsl::load(dtype, &name, &format!("at{i}_{lane}"))
                }
            });
        }
        let _ = writeln!(text, "    let y_{lane} = body({});", arguments.join(", "));
        if *rank > 0 && lane < 3 {
            text += &step(*rank);
        }
    }
    for (i, &reg) in program.outputs.iter().enumerate() {
        let values = [0, 1, 2, 3].map(|lane| format!("y_{lane}.y{i}"));
        let at = format!("(p.{prefix}out{i}_offset + quad)");
        text += &wgsl::store_quad(program.dtype(reg), &format!("{prefix}out{i}"), &at, values);
    }
    text
}

/// Moves the coordinates on by one element; past the end they begin anew, so that no place is outside.
fn step(rank: usize) -> String {
    let mut text = String::new();
    for axis in (0..rank).rev() {
        let _ = write!(text, "    c{axis} += 1u; if (c{axis} == p.size{axis}) {{ c{axis} = 0u;");
    }
    text + &" }".repeat(rank) + "\n"
}

/// Kernels of every operation on every dtype that it takes, of every cast, and of every class of operands.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    use crate::ir::{Elementwise, Step};
    let dtypes = || DType::ALL.iter().copied().filter(|&dtype| dtype != DType::F64);
    let mut all = vec![];
    let mut add = |name: String, program: Program, classes: &[Class], rank: usize| {
        let structure = Structure { program: Arc::new(program), classes: classes.into(), rank, parameters };
        // What the table leaves out for a dtype, such as shifts of bool, has no kernel.
        if let Ok(source) = source(&name, &structure) {
            all.push((name, source));
        }
    };
    for &op in Elementwise::ALL {
        for dtype in dtypes().filter(|&dtype| op.argument(dtype).is_ok_and(|taken| taken == dtype)) {
            let mut program = Program::default();
            let mut args = [Reg::Input(0); 3];
            for (i, arg) in args.iter_mut().enumerate().take(op.arity()) {
                let condition = op == Elementwise::r#where && i == 0;
                program.inputs.push(if condition { DType::Bool } else { dtype });
                *arg = Reg::Input(i as u16);
            }
            program.steps.push(Step::Apply { op, dtype, args });
            program.outputs.push(Reg::Step(0));
            add(format!("{} {dtype}", op.name()), program, &[Class::Quads; 3][..op.arity()], 0);
        }
    }
    for from in dtypes() {
        for to in dtypes() {
            for (class, rank) in
                [(Class::Quads, 0), (Class::Single, 0), (Class::Strided, 1), (Class::Strided, 3)]
            {
                let mut program = Program::identity(from);
                program.scalars.push(to);
                program.steps.push(Step::Cast { from, to, arg: Reg::Input(0) });
                program.outputs.extend([Reg::Step(0), Reg::Scalar(0)]);
                add(format!("cast {from} {to} {class:?} {rank}"), program, &[class], rank);
            }
        }
    }
    all
}

//! Iteration spaces of which some axes are kept and others are walked: what reductions, softmax and scans have
//! in common. An element of the space has an index `o` over the kept axes and `r` over the walked ones, both in
//! row-major order. Here are the operands' places and the fused prologue as WGSL, and how a space is halved
//! until a device can bind and count it.

use super::device::Shared;
use super::pipeline::{Key, Parameters, Pipeline, Source};
use super::pointwise::Window;
use super::queue::Binding;
use super::shaders::Shader;
use super::wgsl::{self, Type};
use super::{Buffer, Out, View};
use crate::bail;
use crate::core::{DType, Error, Layout, Result, Scalar, Shape};
use crate::ir::Program;
use crate::ir::kernel::{Axes, Fused};
use smallvec::SmallVec;
use std::fmt::Write;
use std::sync::Arc;

/// Elements that one dispatch visits: a slow device does them in less than a second, and a fast one is busy
/// for much longer than a dispatch costs.
const MOST: usize = 1 << 25;

/// A space, or a part of one.
#[derive(Clone)]
pub(super) struct Space {
    shape: Shape,
    walked: Axes,
    /// Of each operand, over `shape`.
    layouts: SmallVec<[Layout; 4]>,
    /// Which `o` and which `r` of the whole space are the part's first.
    pub first: usize,
    pub walked_first: usize,
}

impl Space {
    pub fn new(shape: &Shape, walked: Axes, operands: impl IntoIterator<Item = Layout>) -> Space {
        let layouts = operands.into_iter().collect();
        Space { shape: shape.clone(), walked, layouts, first: 0, walked_first: 0 }
    }

    /// The space of a prologue over its operands.
    pub fn of_map(
        op: &str,
        map: &Fused,
        inputs: &[View<'_>],
        walked: Axes,
        shared: &Shared,
    ) -> Result<Space> {
        let program = &map.program;
        if inputs.is_empty() || inputs.len() != program.inputs.len() || program.outputs.len() != 1 {
            bail!(Device, "{op}: {} operands do not fit its program", inputs.len());
        }
        let steps = program.steps.iter().map(|step| step.result());
        for dtype in inputs.iter().map(|view| view.dtype).chain(steps) {
            wgsl::check(op, dtype, &shared.adapter)?;
        }
        Ok(Space::new(&inputs[0].layout.shape, walked, inputs.iter().map(|view| view.layout.clone())))
    }

    /// With one more operand.
    pub fn with(mut self, layout: Layout) -> Space {
        self.layouts.push(layout);
        self
    }

    /// Without its last operand.
    pub fn without_last(mut self) -> Space {
        self.layouts.pop();
        self
    }

    /// The axes that are walked, or those that are kept, without those of size 1.
    fn axes(&self, walked: bool) -> impl Iterator<Item = usize> + '_ {
        (0..self.shape.rank()).filter(move |&a| self.walked.contains(a) == walked && self.shape[a] != 1)
    }

    /// How many `o`.
    pub fn kept(&self) -> usize {
        self.axes(false).map(|axis| self.shape[axis]).product()
    }

    /// How many `r`.
    pub fn length(&self) -> usize {
        self.axes(true).map(|axis| self.shape[axis]).product()
    }

    /// Whether neighbours along the walked axes lie closer to each other than neighbours along the kept ones,
    /// for most operands.
    pub fn along_rows(&self) -> bool {
        let step =
            |layout: &Layout, walked| self.axes(walked).last().map(|a| layout.strides[a].unsigned_abs());
        let votes = self.layouts.iter().map(|layout| match (step(layout, true), step(layout, false)) {
            (Some(walked), Some(kept)) if walked == kept => 0,
            (Some(0), Some(_)) => -1,
            (Some(walked), Some(kept)) if kept != 0 && kept < walked => -1,
            (Some(_), Some(_)) => 1,
            _ => 0,
        });
        votes.sum::<i32>() >= 0
    }

    /// What a dispatch binds of `buffers`, one for each operand with the size of an element, or `None` if that
    /// is too much at once.
    pub fn windows<'a>(
        &self,
        shared: &Shared,
        buffers: &[(&'a Buffer, usize)],
    ) -> Option<SmallVec<[Window<'a>; 4]>> {
        let mut windows = SmallVec::new();
        for (layout, (buffer, size)) in self.layouts.iter().zip(buffers) {
            let (low, high) = layout.span().unwrap_or((0, 0));
            windows.push(Window::new(shared, buffer, low, high, *size)?);
        }
        (self.kept().saturating_mul(self.length()) <= MOST).then_some(windows)
    }

    /// The first and the last place of an operand's elements.
    pub fn span(&self, operand: usize) -> Option<(usize, usize)> {
        self.layouts[operand].span()
    }

    /// Two halves along the outermost axis of the kept or of the walked ones, if there is one.
    pub fn halves(&self, walked: bool) -> Option<[Space; 2]> {
        let axis = self.axes(walked).find(|&axis| self.shape[axis] > 1)?;
        let inner: usize = self.axes(walked).filter(|&a| a > axis).map(|a| self.shape[a]).product();
        let size = self.shape[axis];
        Some([(0, size / 2), (size / 2, size - size / 2)].map(|(first, count)| {
            let mut half = self.clone();
            half.shape[axis] = count;
            for layout in &mut half.layouts {
                *layout = layout.slice(axis, first, count, 1);
            }
            *(if walked { &mut half.walked_first } else { &mut half.first }) += first * inner;
            half
        }))
    }

    /// `count` entries of the only walked axis, from `first` on.
    pub fn walked(&self, first: usize, count: usize) -> Space {
        let mut part = self.clone();
        if let Some(axis) = self.axes(true).next() {
            part.shape[axis] = count;
            for layout in &mut part.layouts {
                *layout = layout.slice(axis, first, count, 1);
            }
            part.walked_first += first;
        }
        part
    }

    /// Halves of halves along the walked axes that fit, in order; `None` if even one `r` does not.
    pub fn pieces(self, fits: &dyn Fn(&Space) -> bool) -> Option<Vec<Space>> {
        if fits(&self) {
            return Some(vec![self]);
        }
        let [mut all, rest] = match self.halves(true)?.map(|half| half.pieces(fits)) {
            [Some(a), Some(b)] => [a, b],
            _ => return None,
        };
        all.extend(rest);
        Some(all)
    }

    /// Neighbouring axes merged where every operand walks them in one step: sizes, and strides of all operands.
    fn merged(&self, walked: bool) -> SmallVec<[(usize, SmallVec<[isize; 4]>); 4]> {
        let mut axes: SmallVec<[(usize, SmallVec<[isize; 4]>); 4]> = SmallVec::new();
        for axis in self.axes(walked) {
            let size = self.shape[axis];
            let strides: SmallVec<[isize; 4]> = self.layouts.iter().map(|l| l.strides[axis]).collect();
            match axes.last_mut() {
                Some((outer, steps))
                    if steps.iter().zip(&strides).all(|(&step, &stride)| step == stride * size as isize) =>
                {
                    *outer *= size;
                    *steps = strides;
                }
                _ => axes.push((size, strides)),
            }
        }
        axes
    }

    /// How many axes are left of the kept and the walked ones.
    pub fn ranks(&self) -> [usize; 2] {
        [self.merged(false).len(), self.merged(true).len()]
    }

    /// The parameters that [`places`] names.
    pub fn words(&self, windows: &[Window<'_>], words: &mut Vec<u32>) {
        let (kept, walked) = (self.merged(false), self.merged(true));
        words.extend(kept.iter().chain(&walked).map(|(size, _)| *size as u32));
        for (i, (layout, window)) in self.layouts.iter().zip(windows).enumerate() {
            words.push((layout.offset as isize - window.first as isize) as u32);
            words.extend(kept.iter().chain(&walked).map(|(_, strides)| strides[i] as u32));
        }
    }
}

/// Where the elements of operands lie: the fields of `Parameters`, and the functions
/// `base_of(o) -> Base`, `at_NAME(base, r) -> u32` for each name.
pub(super) fn places(names: &[String], [kept, walked]: [usize; 2]) -> (String, String) {
    let mut fields = String::new();
    for (kind, rank) in [("kept", kept), ("walked", walked)] {
        for axis in 0..rank {
            let _ = writeln!(fields, "    {kind}{axis}: u32,");
        }
    }
    let coordinates = |kind: &str, index: &str, rank: usize| {
        let mut text = format!("    var rest = {index};\n");
        for axis in (1..rank).rev() {
            let _ = writeln!(text, "    let c{axis} = rest % p.{kind}{axis};\n    rest /= p.{kind}{axis};");
        }
        text + "    let c0 = rest;\n"
    };
    let sum = |name: &str, kind: &str, rank: usize| -> String {
        (0..rank).map(|axis| format!(" + c{axis} * p.{name}_{kind}{axis}")).collect()
    };
    let (mut members, mut bases, mut functions) = (vec![], vec![], String::new());
    for name in names {
        let _ = writeln!(fields, "    {name}_offset: u32,");
        for (kind, rank) in [("kept", kept), ("walked", walked)] {
            for axis in 0..rank {
                let _ = writeln!(fields, "    {name}_{kind}{axis}: u32,");
            }
        }
        members.push(format!("{name}: u32"));
        bases.push(format!("p.{name}_offset{}", sum(name, "kept", kept)));
        let _ = write!(
            functions,
            "fn at_{name}(base: Base, r: u32) -> u32 {{\n{}    return base.{name}{};\n}}\n",
            coordinates("walked", "r", walked),
            sum(name, "walked", walked)
        );
    }
    let (members, bases) = (members.join(", "), bases.join(", "));
    let head = coordinates("kept", "o", kept);
    let text = format!(
        "struct Base {{ {members} }}\nfn base_of(o: u32) -> Base {{\n{head}    return Base({bases});\n}}\n{functions}"
    );
    (fields, text)
}

/// How many of a workgroup's 256 lanes share a row.
pub(super) fn lanes(rows: usize, length: usize) -> usize {
    match length {
        0..=8 => 1,
        9..=128 => 8,
        129..=1024 if rows >= 256 => 32,
        _ => 256,
    }
}

/// The error of operands that cannot be bound.
pub(super) fn too_large(op: &str, shared: &Shared) -> Error {
    Error::Device(format!("{op}: its operands do not fit what {} binds at once", shared.adapter))
}

/// A storage buffer in group 0.
pub(super) fn binding(name: &str, index: usize, element: &str) -> String {
    format!("@group(0) @binding({index}) var<storage, read_write> {name}: array<{element}>;\n")
}

/// The operands' names, bindings from 0 on, and `item(base, r)` of type `Item`: the value of a program.
pub(super) fn items(program: &Program) -> Result<(Vec<String>, String)> {
    let names: Vec<String> = (0..program.inputs.len()).map(|i| format!("in{i}")).collect();
    let mut text = String::new();
    let mut arguments = vec![];
    for (i, (&dtype, name)) in program.inputs.iter().zip(&names).enumerate() {
        text += &binding(name, i, &wgsl::storage(dtype, false));
        let _ = writeln!(
            text,
            "fn load_{name}(at: u32) -> {} {{ return {}; }}",
            value(dtype)?,
            wgsl::load(dtype, name, "at")
        );
        arguments.push(format!("load_{name}(at_{name}(base, r))"));
    }
    let item = value(program.dtype(program.outputs[0]))?;
    let _ = write!(
        text,
        "{}alias Item = {item};\nfn item(base: Base, r: u32) -> Item {{ return body({}).y0; }}\n",
        wgsl::body(program)?,
        arguments.join(", ")
    );
    Ok((names, text))
}

fn value(dtype: DType) -> Result<&'static str> {
    match Type::of(dtype) {
        Some(ty) => Ok(ty.name()),
        None => bail!(Device, "{dtype} on the GPU"),
    }
}

/// `struct Parameters`: the fields of the shader, of the places, of the scalars.
pub(super) fn parameters(fixed: &[&str], places: &str, scalars: &[DType]) -> String {
    let fixed: String = fixed.iter().map(|name| format!("    {name}: u32,\n")).collect();
    let scalars: String =
        scalars.iter().enumerate().map(|(i, &dtype)| wgsl::scalar_fields(dtype, i)).collect();
    format!("struct Parameters {{\n{fixed}{places}{scalars}}}\n")
}

/// The words of a program's scalars.
pub(super) fn scalar_words(map: &Fused, words: &mut Vec<u32>) {
    for (&dtype, &value) in map.program.scalars.iter().zip(&map.scalars) {
        let value: Scalar = value;
        wgsl::scalar_words(dtype, value, words);
    }
}

/// Compiles a shader with a program in it, unless that is done, and records it.
pub(super) struct Launch<'a> {
    pub shader: &'static Shader,
    /// What specialises it besides its program.
    pub variant: Vec<u32>,
    pub program: Option<Arc<Program>>,
    pub words: Vec<u32>,
    pub bindings: SmallVec<[Binding<'a>; 6]>,
    pub groups: [u32; 2],
}

impl Launch<'_> {
    pub fn run(self, shared: &Shared, constants: impl FnOnce() -> Result<String>) -> Result<()> {
        let parameters: Parameters = shared.parameters(self.words.len());
        let key = match self.program {
            Some(program) => Key::Mapped(self.shader.name, self.variant, program),
            None => Key::Shader(self.shader.name, self.variant),
        };
        let pipeline: Arc<Pipeline> = shared
            .pipelines
            .get(shared, &key, || Ok(source(self.shader, &constants()?, self.bindings.len(), parameters)))?;
        shared.recorder().dispatch(shared, &pipeline, &self.bindings, &self.words, self.groups)
    }
}

/// A shader whose number of operands depends on its program.
pub(super) fn source(shader: &Shader, constants: &str, bindings: usize, parameters: Parameters) -> Source {
    Source { bindings, ..shader.source(constants, parameters) }
}

/// The dtype in which a kernel of these files writes values that are computed in the type of `dtype`, so that no
/// two invocations share a word; a cast brings them to their own.
pub(super) fn wide(dtype: DType) -> DType {
    match Type::of(dtype) {
        Some(Type::I32) => DType::I32,
        Some(Type::Bool | Type::U32) => DType::U32,
        Some(Type::I64) => DType::I64,
        Some(Type::U64) => DType::U64,
        Some(Type::F32) | None => DType::F32,
    }
}

/// Runs a kernel whose first output must be of a wide dtype: straight into `out`, or into memory that is then
/// cast.
pub(super) fn widened(
    op: &str,
    out: &Out<'_>,
    wide: DType,
    run: impl FnOnce(&Out<'_>) -> Result<()>,
) -> Result<()> {
    if out.dtype == wide {
        return run(out);
    }
    let buffer = out.buffer.device().alloc(out.shape.count() * wide.size())?;
    let between = Out { buffer: &buffer, shape: out.shape, dtype: wide };
    run(&between)?;
    let layout = Layout::contiguous(out.shape.clone());
    let cast = Fused::cast(wide, out.dtype);
    super::pointwise::run(op, &cast, &[super::generate::whole(&between, &layout)], &[*out])
}

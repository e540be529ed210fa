//! Whole sequences of recurrent layers, and their gradients. Workgroups cannot wait for each other, so layers of few units
//! give whole sequences to a workgroup, which takes many steps in one dispatch; of larger ones each step is a dispatch, a
//! product with the cell at its end. Which it is depends on shapes alone, and so does the order of all sums.

use super::device::Shared;
use super::generate::fill;
use super::pipeline::{Parameters, Source};
use super::pointwise::{self, Window, grid};
use super::queue::Binding;
use super::rows::{self, Launch};
use super::shaders::{RECURRENT_INPUT_STEP, RECURRENT_INPUT_STEPS, RECURRENT_STEP, RECURRENT_STEPS, Shader};
use super::wgsl;
use super::{Buffer, Out, View, products};
use crate::bail;
use crate::core::{DType, Layout, Result, Scalar, Shape};
use crate::ir::kernel::{Cell, Fused};
use smallvec::SmallVec;
use std::ops::Range;

/// Units of a layer whose sequences a workgroup has to itself.
const FEW: usize = 128;
/// Invocations of such a workgroup.
const LANES: usize = 256;
/// Workgroups from which on lanes take several sequences.
const BUSY: usize = 128;
/// Rows and columns of a tile.
const TILE: usize = 32;
/// Multiply-adds, and steps, of one dispatch.
const MOST: usize = 1 << 33;
const STEPS: usize = 4096;

/// Gates, states, and values that a unit keeps of a step.
fn sizes(cell: Cell) -> [usize; 3] {
    match cell {
        Cell::Tanh | Cell::Relu => [1, 1, 0],
        Cell::Lstm => [4, 2, 4],
        Cell::Gru => [3, 1, 4],
    }
}

/// A sequence of arrays of one size, in time's order.
#[derive(Clone, Copy)]
struct Frames<'a> {
    name: &'static str,
    buffer: &'a Buffer,
    offset: usize,
    /// Elements of each.
    each: usize,
    count: usize,
}

impl<'a> Frames<'a> {
    fn of(name: &'static str, view: &View<'a>, count: usize) -> Frames<'a> {
        let each = view.layout.count() / count.max(1);
        Frames { name, buffer: view.buffer, offset: view.layout.offset, each, count }
    }

    fn result(name: &'static str, out: &Out<'a>, count: usize) -> Frames<'a> {
        Frames { name, buffer: out.buffer, offset: 0, each: out.shape.count() / count.max(1), count }
    }

    /// Those of `range`, or the only one: what to bind, and the place of number 0 in it, which may lie before it.
    fn bound(&self, op: &str, shared: &Shared, range: &Range<usize>) -> Result<(Binding<'a>, u32)> {
        let range = if self.count == 1 { 0..1 } else { range.start..range.end.min(self.count) };
        let (low, high) = (self.offset + range.start * self.each, self.offset + range.end * self.each - 1);
        let window =
            Window::new(shared, self.buffer, low, high, 4).ok_or_else(|| rows::too_large(op, shared))?;
        Ok((window.binding, (self.offset as isize - window.first as isize) as u32))
    }

    fn in_quads(&self) -> bool {
        self.offset.is_multiple_of(4) && self.each.is_multiple_of(4)
    }
}

/// What all dispatches of a call have in common.
struct Layer<'a> {
    op: &'static str,
    shared: &'a Shared,
    cell: Cell,
    reverse: bool,
    steps: usize,
    batch: usize,
    hidden: usize,
    /// In the order of the bindings.
    frames: SmallVec<[Frames<'a>; 10]>,
}

const FIELDS: [&str; 9] =
    ["row", "batch", "hidden", "time", "steps", "blocks", "later_time", "product", "flag"];
const PLACES: [&str; 14] = [
    "gi_offset",
    "h_offset",
    "c_offset",
    "bias_offset",
    "kept_offset",
    "w_offset",
    "last_offset",
    "dy_offset",
    "dgi_offset",
    "dgh_offset",
    "dh_offset",
    "carry_offset",
    "u_offset",
    "later_offset",
];

/// The numbers of a dispatch that are not the layer's.
struct Turn {
    groups: usize,
    time: usize,
    steps: usize,
    blocks: usize,
    later_time: usize,
    product: bool,
    flag: bool,
    /// Which frames it sees of steps; of states one more.
    seen: Range<usize>,
}

impl Layer<'_> {
    /// The time of the i-th step that is taken.
    fn time(&self, i: usize) -> usize {
        if self.reverse { self.steps - 1 - i } else { i }
    }

    /// The times of the steps from the i-th to the j-th taken.
    fn times(&self, taken: Range<usize>) -> Range<usize> {
        match self.reverse {
            true => self.steps - taken.end..self.steps - taken.start,
            false => taken,
        }
    }

    /// Whether a workgroup has whole sequences; then its pitch, and how many sequences a lane takes.
    fn together(&self) -> Option<(usize, usize)> {
        let pitch = self.hidden.next_power_of_two();
        let each = self.batch / (LANES / pitch.min(LANES) * BUSY);
        (self.hidden <= FEW).then_some((
            pitch,
            if each < 2 {
                1
            } else if each < 4 {
                2
            } else {
                4
            },
        ))
    }

    /// How many steps one dispatch takes.
    fn at_once(&self) -> usize {
        let [gates, ..] = sizes(self.cell);
        (MOST / (self.batch * gates * self.hidden * self.hidden).max(1)).clamp(1, STEPS)
    }

    fn launch(&self, shader: &'static Shader, turn: &Turn) -> Result<()> {
        let groups = grid(turn.groups as u64);
        let numbers = [
            groups[0] as usize,
            self.batch,
            self.hidden,
            turn.time,
            turn.steps,
            turn.blocks,
            turn.later_time,
            usize::from(turn.product),
            usize::from(turn.flag),
        ];
        let mut words: Vec<u32> = numbers.iter().map(|&n| n as u32).collect();
        let mut places = [0; PLACES.len()];
        let mut bindings: SmallVec<[Binding<'_>; 6]> = SmallVec::new();
        for frames in &self.frames {
            let more = usize::from(matches!(frames.name, "h" | "c" | "last"));
            let seen = turn.seen.start..turn.seen.end + more;
            let (binding, place) = frames.bound(self.op, self.shared, &seen)?;
            bindings.push(binding);
            for (at, name) in places.iter_mut().zip(PLACES) {
                if name.strip_suffix("_offset") == Some(frames.name) {
                    *at = place;
                }
            }
        }
        words.extend(places);
        let has = |name| self.frames.iter().any(|frames| frames.name == name);
        let quads = |name| self.frames.iter().any(|frames| frames.name == name && frames.in_quads());
        let (pitch, each) = self.together().unwrap_or((0, 0));
        let variant = Variant {
            shader,
            cell: self.cell,
            reverse: self.reverse,
            bias: has("bias"),
            keep: has("kept"),
            pitch,
            each,
            quads: quads("u") && self.hidden.is_multiple_of(4) && (quads("last") || quads("later")),
            aliased: !has("later"),
        };
        let launch = Launch { shader, variant: variant.key(), program: None, words, bindings, groups };
        launch.run(self.shared, || Ok(variant.constants()))
    }
}

/// gi (L, N, gates · H), the recurrent weight (gates · H, H), the initial states (N, H) and maybe the recurrent bias
/// (gates · H), all row-major, to the states (L + 1, N, H) and what the gradient needs, if that is asked for.
pub(super) fn recurrent(cell: Cell, reverse: bool, inputs: &[View<'_>], outputs: &[Out<'_>]) -> Result<()> {
    const OP: &str = "recurrent";
    let [gates, states, _] = sizes(cell);
    let shared = check(OP, inputs, 2 + states, outputs, states)?;
    let device = outputs[0].buffer.device();
    let (&[steps, batch, _], &[_, hidden]) = (&inputs[0].layout.shape[..], &inputs[1].layout.shape[..])
    else {
        bail!(Shape, "{OP}: takes (L, N, gates · H) and (gates · H, H)")
    };
    if steps * batch * hidden == 0 {
        return Ok(());
    }
    let first = if reverse { steps } else { 0 };
    for (state, all) in inputs[2..].iter().zip(&outputs[..states]) {
        let bytes = batch * hidden * 4;
        state.buffer.copy_to(state.layout.offset * 4, all.buffer, first * bytes, bytes)?;
    }
    let mut frames = SmallVec::from_iter([
        Frames::of("gi", &inputs[0], steps),
        Frames::result("h", &outputs[0], steps + 1),
    ]);
    if states > 1 {
        frames.push(Frames::result("c", &outputs[1], steps + 1));
    }
    frames.extend(inputs.get(2 + states).map(|bias| Frames::of("bias", bias, 1)));
    frames.extend(outputs.get(states).map(|kept| Frames::result("kept", kept, steps)));
    let shape = Shape::new(&[hidden, hidden, gates]);
    let packed;
    let mut layer = Layer { op: OP, shared, cell, reverse, steps, batch, hidden, frames };
    let Some((pitch, each)) = layer.together() else {
        layer.frames.push(Frames::of("u", &inputs[1], 1));
        layer.frames.push(Frames::result("last", &outputs[0], steps + 1));
        let blocks = hidden.div_ceil(if gates == 1 { TILE } else { TILE / 4 });
        let mut turn = Turn::new(blocks * batch.div_ceil(TILE), blocks);
        for i in 0..steps {
            (turn.time, turn.seen) = (layer.time(i), layer.times(i..i + 1));
            layer.launch(&RECURRENT_STEP, &turn)?;
        }
        return Ok(());
    };
    // (gates, H, H) to (H of the last state, H, gates).
    packed = device.alloc(shape.count() * 4)?;
    let packed = Out { buffer: &packed, shape: &shape, dtype: DType::F32 };
    let mut layout = Layout::contiguous(Shape::new(&[gates, hidden, hidden]));
    layout.offset = inputs[1].layout.offset;
    let layout = layout.permute(&[2, 1, 0]);
    let weight = View { layout: &layout, ..inputs[1] };
    pointwise::run(OP, &Fused::identity(DType::F32), &[weight], &[packed])?;
    layer.frames.push(Frames::result("w", &packed, 1));
    let mut turn = Turn::new(batch.div_ceil(LANES / pitch * each), 0);
    for i in (0..steps).step_by(layer.at_once()) {
        let end = steps.min(i + layer.at_once());
        (turn.time, turn.steps, turn.seen) = (layer.time(i), end - i, layer.times(i..end));
        layer.launch(&RECURRENT_STEPS, &turn)?;
    }
    Ok(())
}

impl Turn {
    fn new(groups: usize, blocks: usize) -> Turn {
        Turn { groups, time: 0, steps: 1, blocks, later_time: 0, product: false, flag: false, seen: 0..1 }
    }
}

fn check<'a>(
    op: &str,
    inputs: &[View<'_>],
    wanted: usize,
    outputs: &[Out<'a>],
    results: usize,
) -> Result<&'a Shared> {
    if inputs.len() < wanted || outputs.len() < results {
        bail!(Device, "{op}: {} operands where {wanted} are wanted", inputs.len());
    }
    let shared = outputs[0].buffer.device().shared();
    for view in inputs {
        wgsl::check(op, view.dtype, &shared.adapter)?;
        if view.dtype != DType::F32 || !view.layout.is_contiguous() {
            bail!(DType, "{op}: takes row-major float32, not {}", view.dtype);
        }
    }
    Ok(shared)
}

/// The recurrent weight, the states of [`recurrent`], what it kept if the cell keeps anything, the gradients of all steps' h
/// (L, N, H), and those of the last states (N, H), to the gradients of gi, those of U h + d if the cell tells them apart,
/// and those of the initial states.
pub(super) fn recurrent_input(
    cell: Cell,
    reverse: bool,
    inputs: &[View<'_>],
    outputs: &[Out<'_>],
) -> Result<()> {
    const OP: &str = "recurrent_input";
    let [gates, states, kept] = sizes(cell);
    let (keeps, apart) = (usize::from(kept > 0), usize::from(cell == Cell::Gru));
    let shared = check(OP, inputs, 2 + 2 * states + keeps, outputs, 1 + apart + states)?;
    let device = outputs[0].buffer.device();
    let &[after, batch, hidden] = &inputs[1].layout.shape[..] else {
        bail!(Shape, "{OP}: takes states (L + 1, N, H)")
    };
    let steps = after - 1;
    if steps * batch * hidden == 0 {
        return Ok(());
    }
    let (seen, grads) = inputs.split_at(1 + states + keeps);
    // What is passed on from step to step becomes the gradients of the initial states in place.
    let dfirst = &outputs[1 + apart..];
    for (last, first) in grads[1..].iter().zip(dfirst) {
        last.buffer.copy_to(last.layout.offset * 4, first.buffer, 0, batch * hidden * 4)?;
    }
    let own = if apart > 0 { Some(device.alloc(batch * hidden * 4)?) } else { None };
    let carry = own.as_ref().map(|buffer| Out { buffer, shape: dfirst[0].shape, dtype: DType::F32 });
    carry.as_ref().map(|carry| fill(Scalar::Float(0.0), carry)).transpose()?;

    let mut frames = SmallVec::from_iter([Frames::of("h", &seen[1], steps + 1)]);
    if states > 1 {
        frames.push(Frames::of("c", &seen[2], steps + 1));
    }
    if kept > 0 {
        frames.push(Frames::of("kept", &seen[1 + states], steps));
    }
    frames.push(Frames::of("dy", &grads[0], steps));
    frames.push(Frames::result("dgi", &outputs[0], steps));
    if apart > 0 {
        frames.push(Frames::result("dgh", &outputs[1], steps));
    }
    frames.push(Frames::result("dh", &dfirst[0], 1));
    frames.extend(carry.as_ref().or(dfirst.get(1)).map(|carry| Frames::result("carry", carry, 1)));
    frames.push(Frames::of("u", &seen[0], 1));
    let mut layer = Layer { op: OP, shared, cell, reverse, steps, batch, hidden, frames };
    // Steps by how many are left when they have been taken back.
    if let Some((pitch, each)) = layer.together() {
        let mut turn = Turn::new(batch.div_ceil(LANES / pitch * each), 0);
        let mut left = steps;
        while left > 0 {
            let next = left.saturating_sub(layer.at_once());
            (turn.time, turn.steps) = (layer.time(left - 1), left - next);
            (turn.flag, turn.seen) = (next == 0, layer.times(next..left));
            layer.launch(&RECURRENT_INPUT_STEPS, &turn)?;
            left = next;
        }
        return Ok(());
    }
    if layer.frames.len() < shared.limits.max_storage_buffers_per_shader_stage as usize {
        layer.frames.push(Frames::result("later", &outputs[apart], steps));
    }
    debug_assert_eq!(outputs[apart].shape.count(), steps * batch * gates * hidden);
    let blocks = hidden.div_ceil(TILE);
    let mut turn = Turn::new(blocks * batch.div_ceil(TILE), blocks);
    for left in (0..=steps).rev() {
        turn.flag = left > 0;
        turn.product = left < steps;
        turn.time = layer.time(left.max(1) - 1);
        turn.later_time = layer.time(left.min(steps - 1));
        turn.seen = layer.times(left.max(1) - 1..(left + 1).min(steps));
        layer.launch(&RECURRENT_INPUT_STEP, &turn)?;
    }
    Ok(())
}

/// What specialises the shaders.
struct Variant {
    shader: &'static Shader,
    cell: Cell,
    reverse: bool,
    bias: bool,
    keep: bool,
    /// Of the shaders of many steps.
    pitch: usize,
    each: usize,
    /// Whether the operands of products lie in quads, and whether one of them has no binding of its own.
    quads: bool,
    aliased: bool,
}

impl Variant {
    fn key(&self) -> Vec<u32> {
        let flags = [self.reverse, self.bias, self.keep, self.quads, self.aliased];
        let flags = flags.iter().enumerate().map(|(i, &flag)| u32::from(flag) << i).sum();
        vec![self.cell as u32, flags, self.pitch as u32, self.each as u32]
    }

    /// The names of the bindings.
    fn names(&self) -> Vec<&'static str> {
        let (lstm, gru) = (self.cell == Cell::Lstm, self.cell == Cell::Gru);
        let together = self.pitch > 0;
        let all = match self.shader.name {
            "recurrent_steps" | "recurrent_step" => [
                ("gi", true),
                ("h", true),
                ("c", lstm),
                ("bias", self.bias),
                ("kept", self.keep),
                ("w", together),
                ("u", !together),
                ("last", !together),
                ("", false),
                ("", false),
            ],
            _ => [
                ("h", true),
                ("c", lstm),
                ("kept", self.keep),
                ("dy", true),
                ("dgi", true),
                ("dgh", gru),
                ("dh", true),
                ("carry", lstm || gru),
                ("u", true),
                ("later", !together && !self.aliased),
            ],
        };
        all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
    }

    fn constants(&self) -> String {
        let [gates, _, kept] = sizes(self.cell);
        let together = self.pitch > 0;
        let fields: Vec<&str> = FIELDS.iter().chain(&PLACES).copied().collect();
        let mut text = rows::parameters(&fields, "", &[]);
        text += &format!(
            "const CELL: u32 = {}u;\nconst GATES: u32 = {gates}u;\nconst KEPT: u32 = {kept}u;\n\
             const REVERSE: bool = {};\nconst BIAS: bool = {};\nconst KEEP: bool = {};\n",
            self.cell as u32, self.reverse, self.bias, self.keep
        );
        if together {
            let (ty, wide, narrow, join) = match gates {
                1 => ("f32", "vec4<f32>(x, 0.0, 0.0, 0.0)", "x.x", "a * b"),
                3 => ("vec3<f32>", "vec4<f32>(x, 0.0)", "x.xyz", "dot(a, b)"),
                _ => ("vec4<f32>", "x", "x", "dot(a, b)"),
            };
            text += &format!(
                "const PITCH: u32 = {}u;\nconst EACH: u32 = {}u;\nconst SLOTS: u32 = {}u;\nalias Gates = {ty};\n\
                 fn wide(x: Gates) -> vec4<f32> {{ return {wide}; }}\n\
                 fn narrow(x: vec4<f32>) -> Gates {{ return {narrow}; }}\n\
                 fn join(a: Gates, b: Gates) -> f32 {{ return {join}; }}\n",
                self.pitch,
                self.each,
                LANES * self.each
            );
        }
        let names = self.names();
        for (i, &name) in names.iter().enumerate() {
            text += &match name {
                "w" => {
                    let value = match gates {
                        1 => "w[first + at]",
                        3 => {
                            "vec3<f32>(w[first + at * 3u], w[first + at * 3u + 1u], w[first + at * 3u + 2u])"
                        }
                        _ => "w[first / 4u + at]",
                    };
                    let element = if gates == 4 { "vec4<f32>" } else { "f32" };
                    rows::binding(name, i, element)
                        + &format!("fn load_w(first: u32, at: u32) -> Gates {{ return {value}; }}\n")
                }
                "u" | "last" | "later" if !together => products::operand(name, i, DType::F32, self.quads),
                _ => rows::binding(name, i, "f32"),
            };
        }
        if self.aliased && self.shader.name == "recurrent_input_step" {
            let of = if self.cell == Cell::Gru { "dgh" } else { "dgi" };
            text += &products::staged("later", DType::F32, false, of);
        }
        // What a cell does not have is zero, and written nowhere.
        for name in ["c", "bias", "kept", "carry", "dgh"] {
            let (value, store) = match names.contains(&name) {
                true => (format!("{name}[at]"), format!("{name}[at] = x;")),
                false => ("0.0".into(), String::new()),
            };
            text += &format!(
                "fn load_{name}(at: u32) -> f32 {{ return {value}; }}\nfn store_{name}(at: u32, x: f32) {{ {store} }}\n"
            );
        }
        text
    }
}

/// Variants of the shaders: every cell both ways, with all that is optional and with nothing of it.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    let mut all = vec![];
    for cell in [Cell::Tanh, Cell::Relu, Cell::Lstm, Cell::Gru] {
        for (reverse, bias, quads, each) in [(false, true, true, 4), (true, false, false, 1)] {
            for shader in [&RECURRENT_STEPS, &RECURRENT_STEP, &RECURRENT_INPUT_STEPS, &RECURRENT_INPUT_STEP] {
                let pitch = if shader.name.ends_with("steps") { 64 } else { 0 };
                let keep = sizes(cell)[2] > 0 && (bias || shader.name.contains("input"));
                let variant =
                    Variant { shader, cell, reverse, bias, keep, pitch, each, quads, aliased: !quads };
                let name = format!("{} {cell:?} {reverse}", shader.name);
                let count = variant.names().len();
                all.push((name, rows::source(shader, &variant.constants(), count, parameters)));
            }
        }
    }
    all
}

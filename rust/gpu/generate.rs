//! Results that come from no operand: one value everywhere, arithmetic sequences, random numbers.

use super::pipeline::{Key, Parameters, Source};
use super::pointwise::{self, LANES, Window, grid};
use super::shaders::{ARANGE, RANDOM, Shader};
use super::wgsl::{self, Type};
use super::{Out, View};
use crate::bail;
use crate::core::{DType, Layout, Result, Scalar};
use crate::ir::kernel::{Distribution, Fused};
use crate::ir::program::{Program, Reg};
use std::sync::Arc;

/// One value everywhere: a program whose output is its scalar.
pub(super) fn fill(value: Scalar, out: &Out<'_>) -> Result<()> {
    let mut program = Program::default();
    program.scalars.push(out.dtype);
    program.outputs.push(Reg::Scalar(0));
    let fused = Fused { program: Arc::new(program), scalars: [value].into_iter().collect() };
    pointwise::run("fill", &fused, &[], &[*out])
}

/// `start + i·step`.
pub(super) fn arange(start: Scalar, step: Scalar, out: &Out<'_>) -> Result<()> {
    let whole = [start, step].iter().all(|x| !matches!(x, Scalar::Float(_))) && !out.dtype.is_float();
    wgsl::check("arange", out.dtype, out.buffer.device().adapter())?;
    if !whole && !out.dtype.is_float() && !wgsl::truncates(out.dtype) {
        bail!(Device, "arange: fractional steps to {} are not supported on the GPU; use int32", out.dtype);
    }
    let integer = |x: i64| [x as u32, (x >> 32) as u32];
    let real = |x: f64| [(x as f32).to_bits(), ((x - x as f32 as f64) as f32).to_bits()];
    let words = |first: usize| match whole {
        true => [
            integer(start.as_i64().wrapping_add(step.as_i64().wrapping_mul(first as i64))),
            integer(step.as_i64()),
        ],
        false => [real(start.as_f64() + step.as_f64() * first as f64), real(step.as_f64())],
    };
    run(
        &ARANGE,
        &[out.dtype as u32, u32::from(whole)],
        |first| words(first).concat(),
        out,
        || arange_constants(out.dtype, whole),
    )
}

fn arange_constants(dtype: DType, whole: bool) -> String {
    let ty = Type::of(dtype).unwrap_or(Type::F32);
    let value = ty.name();
    let wide = |field: &str| ty.of_words(&format!("p.{field}.x"), &format!("p.{field}.y"));
    let word = "p.start.x + i * p.step.x";
    let wrapping = match ty {
        Type::I64 | Type::U64 => ty.sum(&wide("start"), &ty.product(&ty.of_words("i", "0u"), &wide("step"))),
        Type::Bool => format!("({word}) != 0u"),
        _ => wgsl::narrow_word(dtype, word),
    };
    let (whole_body, real_body) = match whole {
        true => (wrapping, ty.literal(0.0)),
        false => (ty.literal(0.0), wgsl::from_pair(dtype)),
    };
    let store = store_quad(dtype);
    format!(
        "alias Value = {value};\nconst WHOLE: bool = {whole};\n\
         fn whole(i: u32) -> Value {{ return {whole_body}; }}\n\
         fn real(x: Pair) -> Value {{ return {real_body}; }}\n{store}"
    )
}

/// Draws from the stream of `key`, from position `offset` on.
pub(super) fn random(distribution: Distribution, key: u64, offset: u64, out: &Out<'_>) -> Result<()> {
    wgsl::check("random", out.dtype, out.buffer.device().adapter())?;
    let (draw, low, span) = match distribution {
        Distribution::Uniform if out.dtype.is_float() => (Draw::Uniform, 0, 0),
        Distribution::Normal if out.dtype.is_float() => (Draw::Normal, 0, 0),
        Distribution::Bits if !out.dtype.is_float() => (Draw::Bits, 0, 0),
        Distribution::Integer { low, span } if out.dtype.is_int() => (Draw::Within, low as u64, span),
        _ => bail!(DType, "random: {distribution:?} is not for {}", out.dtype),
    };
    let words = |first: usize| {
        let offset = offset.wrapping_add(first as u64);
        [key, offset, low, span].map(|x| [x as u32, (x >> 32) as u32]).concat()
    };
    run(&RANDOM, &[out.dtype as u32, draw as u32], words, out, || random_constants(out.dtype, draw))
}

/// Parts of an output that is too large to be bound have a multiple of so many elements.
const PART: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Draw {
    Bits,
    Within,
    Uniform,
    Normal,
}

fn random_constants(dtype: DType, draw: Draw) -> String {
    let ty = Type::of(dtype).unwrap_or(Type::F32);
    let (value, long) = (ty.name(), ty.is_wide());
    let words = if draw == Draw::Within || draw == Draw::Bits && long { 2 } else { 1 };
    let text = match draw {
        Draw::Bits if dtype == DType::Bool => "(a & 1u) == 1u".into(),
        Draw::Bits if long => ty.of_words("b", "a"),
        Draw::Bits => wgsl::narrow_word(dtype, "a"),
        Draw::Within if long => ty.of_words("within(a, b).x", "within(a, b).y"),
        Draw::Within => wgsl::narrow_word(dtype, "within(a, b).x"),
        // Half floats round towards 0, so that they stay below 1.
        Draw::Uniform if dtype == DType::F16 => {
            "bitcast<f32>(bitcast<u32>(uniform_f32(a)) & 0xffffe000u)".into()
        }
        Draw::Uniform if dtype == DType::BF16 => {
            "bitcast<f32>(bitcast<u32>(uniform_f32(a)) & 0xffff0000u)".into()
        }
        Draw::Uniform => "uniform_f32(a)".into(),
        Draw::Normal => ty.literal(0.0),
    };
    let (normal, store) = (draw == Draw::Normal, store_quad(dtype));
    let of_normal = if normal { "x".into() } else { ty.literal(0.0) };
    format!(
        "alias Value = {value};\nconst WORDS: u32 = {words}u;\nconst NORMAL: bool = {normal};\n\
         fn draw(a: u32, b: u32) -> Value {{ return {text}; }}\n\
         fn normal(x: f32) -> Value {{ return {of_normal}; }}\n{store}"
    )
}

/// The output's binding and the function that stores four elements of it.
fn store_quad(dtype: DType) -> String {
    let storage = wgsl::storage(dtype, true);
    let statement =
        wgsl::store_quad(dtype, "out0", "(p.first + quad)", ["a", "b", "c", "d"].map(String::from));
    format!(
        "@group(0) @binding(0) var<storage, read_write> out0: array<{storage}>;\n\
         fn store_quad(quad: u32, a: Value, b: Value, c: Value, d: Value) {{\n{statement}}}\n"
    )
}

/// Dispatches a shader that fills one output, in parts where it is too large to be bound; what `words` gives for
/// the first element of a part follows the count and the row length.
fn run(
    shader: &'static Shader,
    variant: &[u32],
    words: impl Fn(usize) -> Vec<u32>,
    out: &Out<'_>,
    constants: impl Fn() -> String,
) -> Result<()> {
    let (shared, count) = (out.buffer.device().shared(), out.shape.count());
    let bound = (shared.limits.max_storage_buffer_binding_size as usize / out.dtype.size()).min(1 << 31);
    // Parts begin where a binding may.
    let part = bound / PART * PART;
    for first in (0..count).step_by(part) {
        let here = part.min(count - first);
        let Some(window) = Window::new(shared, out.buffer, first, first + here - 1, out.dtype.size()) else {
            bail!(Device, "{}: {} does not fit what {} binds", shader.name, out.shape, shared.adapter);
        };
        let quad = (first - window.first) / 4;
        let groups = grid((here as u64).div_ceil(4 * LANES));
        let mut all = vec![here as u32, groups[0] * LANES as u32, quad as u32, 0];
        all.extend(words(first));
        let parameters = shared.parameters(all.len());
        let key = Key::Shader(shader.name, variant.to_vec());
        let pipeline = shared.pipelines.get(shared, &key, || Ok(shader.source(&constants(), parameters)))?;
        shared.recorder().dispatch(shared, &pipeline, &[window.binding], &all, groups)?;
    }
    Ok(())
}

/// All variants of the shaders of this file.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    let mut all = vec![];
    for &dtype in DType::ALL.iter().filter(|&&dtype| dtype != DType::F64) {
        for whole in [true, false] {
            let possible = if dtype.is_float() { !whole } else { whole || wgsl::truncates(dtype) };
            if possible {
                let source = ARANGE.source(&arange_constants(dtype, whole), parameters);
                all.push((format!("arange {dtype} {whole}"), source));
            }
        }
        let draws: &[Draw] = match dtype.is_float() {
            true => &[Draw::Uniform, Draw::Normal],
            false if dtype == DType::Bool => &[Draw::Bits],
            false => &[Draw::Bits, Draw::Within],
        };
        for &draw in draws {
            let source = RANDOM.source(&random_constants(dtype, draw), parameters);
            all.push((format!("random {dtype} {draw:?}"), source));
        }
    }
    all
}

/// A view of everything that an output holds.
pub(super) fn whole<'a>(out: &Out<'a>, layout: &'a Layout) -> View<'a> {
    View { buffer: out.buffer, layout, dtype: out.dtype }
}

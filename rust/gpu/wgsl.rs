//! Operations, conversions and elements as WGSL text: how a row of the elementwise table, a cast and a
//! stored element are written. Where a kernel's elements lie is `pointwise`'s business.

use super::adapter::Adapter;
use crate::bail;
use crate::core::{DType, Result, Scalar};
use crate::ir::sym::Term;
use crate::ir::{Class, Elementwise, Program, Reg, Step};
use std::fmt::Write;

/// A type that WGSL computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    I32,
    U32,
    F32,
    I64,
    U64,
}

impl Type {
    /// In what type elements of `dtype` are computed; `None` for float64, which WGSL lacks.
    pub fn of(dtype: DType) -> Option<Type> {
        Some(match dtype {
            DType::Bool => Type::Bool,
            DType::U8 | DType::U16 | DType::U32 => Type::U32,
            DType::I8 | DType::I16 | DType::I32 => Type::I32,
            DType::U64 => Type::U64,
            DType::I64 => Type::I64,
            DType::F16 | DType::BF16 | DType::F32 => Type::F32,
            DType::F64 => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Type::Bool => "bool",
            Type::I32 => "i32",
            Type::U32 => "u32",
            Type::F32 => "f32",
            Type::I64 => "i64",
            Type::U64 => "u64",
        }
    }

    /// Whether its values may be structures, on devices without 64-bit integers: functions of the prelude do
    /// what operators do elsewhere.
    pub fn is_wide(self) -> bool {
        matches!(self, Type::I64 | Type::U64)
    }

    /// The smallest value.
    pub fn lowest(self) -> String {
        match self {
            Type::F32 => "-inf_f32()".into(),
            Type::I32 => "(-2147483647 - 1)".into(),
            Type::I64 => long("i64", 1 << 63),
            Type::U64 => long("u64", 0),
            Type::U32 | Type::Bool => "0u".into(),
        }
    }

    /// The largest value.
    pub fn highest(self) -> String {
        match self {
            Type::F32 => "inf_f32()".into(),
            Type::I32 => "2147483647".into(),
            Type::I64 => long("i64", u64::MAX >> 1),
            Type::U64 => long("u64", u64::MAX),
            Type::U32 | Type::Bool => "4294967295u".into(),
        }
    }

    pub fn sum(self, a: &str, b: &str) -> String {
        if self.is_wide() { format!("add_{}({a}, {b})", self.name()) } else { format!("({a} + {b})") }
    }

    pub fn product(self, a: &str, b: &str) -> String {
        if self.is_wide() { format!("mul_{}({a}, {b})", self.name()) } else { format!("({a} * {b})") }
    }

    pub fn less(self, a: &str, b: &str) -> String {
        if self.is_wide() { format!("lt_{}({a}, {b})", self.name()) } else { format!("({a} < {b})") }
    }

    /// The number of the words `low` and `high`, of a type that [`Type::is_wide`].
    pub fn of_words(self, low: &str, high: &str) -> String {
        format!("make_{}({low}, {high})", self.name())
    }

    /// A number as a literal.
    pub fn literal(self, x: f64) -> String {
        match self {
            Type::Bool => (x != 0.0).to_string(),
            Type::I32 if x == i32::MIN as f64 => "(-2147483647 - 1)".into(),
            Type::I32 => format!("{}", x as i32),
            Type::U32 => format!("{}u", x as u32),
            Type::I64 => long("i64", x as i64 as u64),
            Type::U64 => long("u64", x as u64),
            Type::F32 => {
                let x = x as f32;
                let plain = x.is_normal() || x.to_bits() == 0;
                if plain { format!("{x:?}f") } else { format!("bits_f32({}u)", x.to_bits()) }
            }
        }
    }
}

/// A 64-bit integer as a literal.
fn long(name: &str, bits: u64) -> String {
    format!("make_{name}({:#x}u, {:#x}u)", bits as u32, bits >> 32)
}

/// An error if the device cannot compute `op` on `dtype`.
pub(super) fn check(op: &str, dtype: DType, adapter: &Adapter) -> Result<()> {
    match dtype {
        DType::F64 => bail!(Device, "{op}: float64 is not supported on {adapter}; use float32, or the CPU"),
        _ => Ok(()),
    }
}

/// A text that grows by named values.
#[derive(Default)]
struct Body {
    text: String,
    values: usize,
}

impl Body {
    /// Names a value.
    fn value(&mut self, ty: Type, expression: &str) -> String {
        let name = format!("v{}", self.values);
        self.values += 1;
        let _ = writeln!(self.text, "    let {name}: {} = {expression};", ty.name());
        name
    }

    /// The name and the type of `op(args)` on values of `ty`.
    fn apply(&mut self, op: Elementwise, ty: Type, args: &[(String, Type)]) -> Result<(String, Type)> {
        let result = match op.class() {
            Class::Test | Class::Compare => Type::Bool,
            Class::Where => args[1].1,
            _ => ty,
        };
        let names: Vec<&str> = args.iter().map(|(name, _)| name.as_str()).collect();
        if let Some(expression) = primitive(op, ty, &names) {
            return Ok((self.value(result, &expression), result));
        }
        let forward = op.forward();
        if forward.is_application_of(op) {
            bail!(Device, "{}: not supported for {} on the GPU", op.name(), ty.name());
        }
        let mut terms: Vec<(String, Type)> = vec![];
        for term in forward.terms() {
            let term = match *term {
                Term::Input(i) => args[i].clone(),
                Term::Constant(x) => (ty.literal(x), ty),
                Term::Apply(op, places) => {
                    let args: Vec<_> = places[..op.arity()].iter().map(|&at| terms[at].clone()).collect();
                    // The operands of a mask's connectives are masks, everything else is of one type.
                    let ty = if op.class() == Class::Bits { args[0].1 } else { ty };
                    self.apply(op, ty, &args)?
                }
            };
            terms.push(term);
        }
        Ok(terms[forward.roots()[0]].clone())
    }
}

/// The expression of an operation that WGSL or the prelude has; `None` for composites, and for types
/// that the operation does not take.
fn primitive(op: Elementwise, ty: Type, args: &[&str]) -> Option<String> {
    use Elementwise as E;
    let (name, a) = (ty.name(), args[0]);
    let infix = |sign: &str| Some(format!("({a} {sign} {})", args[1]));
    let function = |name: &str| Some(format!("{name}({})", args.join(", ")));
    let ours = || function(&format!("{}_{name}", op.name()));
    let (float, truth) = (ty == Type::F32, ty == Type::Bool);
    let unsigned = ty == Type::U32;
    if ty.is_wide()
        && let Some(text) = wide(op, ty, args)
    {
        return Some(text);
    }
    match op {
        E::neg if unsigned => Some(format!("({} - {a})", ty.literal(0.0))),
        E::neg => Some(format!("(-{a})")),
        E::abs if matches!(ty, Type::U32 | Type::U64) => Some(a.into()),
        E::abs if float => function("abs"),
        E::add => infix("+"),
        E::sub => infix("-"),
        E::mul => infix("*"),
        E::div if float => infix("/"),
        E::maximum if !float && !ty.is_wide() => function("max"),
        E::minimum if !float && !ty.is_wide() => function("min"),
        E::abs | E::sign | E::maximum | E::minimum if !truth => ours(),
        E::floor_divide | E::remainder | E::fmod | E::pow if !truth => ours(),
        E::eq => infix("=="),
        E::ne if float => ours(),
        E::ne => infix("!="),
        E::lt | E::le | E::gt | E::ge => {
            let sign = match op {
                E::lt => "<",
                E::le => "<=",
                E::gt => ">",
                _ => ">=",
            };
            if truth { Some(format!("(u32({a}) {sign} u32({}))", args[1])) } else { infix(sign) }
        }
        E::bitwise_and => infix("&"),
        E::bitwise_or => infix("|"),
        E::bitwise_xor if truth => infix("!="),
        E::bitwise_xor => infix("^"),
        E::bitwise_not if truth => Some(format!("(!{a})")),
        E::bitwise_not => Some(format!("(~{a})")),
        E::bitwise_left_shift | E::bitwise_right_shift if !truth => ours(),
        E::r#where => Some(format!("select({}, {}, {a})", args[2], args[1])),
        E::sqrt | E::floor | E::ceil | E::trunc | E::round if float => function(op.name()),
        E::rsqrt if float => function("inverseSqrt"),
        E::exp | E::exp2 | E::expm1 | E::log | E::log2 | E::log10 | E::log1p if float => ours(),
        E::sin | E::cos | E::tan | E::asin | E::acos | E::atan | E::atan2 if float => ours(),
        E::sinh | E::cosh | E::tanh | E::asinh | E::acosh | E::atanh if float => ours(),
        E::erf | E::erfc | E::erfinv | E::lgamma | E::digamma if float => ours(),
        E::hypot | E::copysign | E::nextafter | E::isnan | E::isinf | E::signbit if float => ours(),
        _ => None,
    }
}

/// What is an operator for other types: [`primitive`] of 64-bit integers. `None` where it is a function anyway.
fn wide(op: Elementwise, ty: Type, args: &[&str]) -> Option<String> {
    use Elementwise as E;
    let (name, a, b) = (ty.name(), args[0], args.get(1).copied().unwrap_or_default());
    Some(match op {
        E::neg
        | E::add
        | E::sub
        | E::mul
        | E::bitwise_and
        | E::bitwise_or
        | E::bitwise_xor
        | E::bitwise_not => {
            format!("{}_{name}({})", op.name(), args.join(", "))
        }
        E::eq => format!("eq_{name}({a}, {b})"),
        E::ne => format!("(!eq_{name}({a}, {b}))"),
        E::lt => format!("lt_{name}({a}, {b})"),
        E::ge => format!("(!lt_{name}({a}, {b}))"),
        E::gt => format!("lt_{name}({b}, {a})"),
        E::le => format!("(!lt_{name}({b}, {a}))"),
        E::r#where => format!("select_{name}({}, {b}, {a})", args[2]),
        _ => return None,
    })
}

/// A value of `dtype`'s computing type brought into the range that its elements have.
pub(super) fn narrow(dtype: DType, value: String) -> String {
    match dtype {
        DType::I8 => format!("(({value} << 24u) >> 24u)"),
        DType::I16 => format!("(({value} << 16u) >> 16u)"),
        DType::U8 => format!("({value} & 0xffu)"),
        DType::U16 => format!("({value} & 0xffffu)"),
        DType::F16 => format!("round_f16({value})"),
        DType::BF16 => format!("round_bf16({value})"),
        _ => value,
    }
}

/// The conversion of [`Step::Cast`].
fn cast(from: DType, to: DType, a: &str) -> Option<String> {
    let (source, target) = (Type::of(from)?, Type::of(to)?);
    let value = match (source, target) {
        _ if source == target => a.to_string(),
        (Type::F32, Type::Bool) => format!("ne_f32({a}, 0.0)"),
        (Type::I64 | Type::U64, Type::Bool) => format!("ne_zero_{}({a})", source.name()),
        (_, Type::Bool) => format!("({a} != {})", source.literal(0.0)),
        (Type::Bool, Type::I64 | Type::U64) => target.of_words(&format!("select(0u, 1u, {a})"), "0u"),
        (Type::Bool, _) => format!("select({}, {}, {a})", target.literal(0.0), target.literal(1.0)),
        (Type::F32, _) => match to {
            DType::I8 => return Some(format!("clamp(i32_from_f32({a}), -128, 127)")),
            DType::I16 => return Some(format!("clamp(i32_from_f32({a}), -32768, 32767)")),
            DType::U8 => return Some(format!("min(u32_from_f32({a}), 255u)")),
            DType::U16 => return Some(format!("min(u32_from_f32({a}), 65535u)")),
            _ => format!("{}_from_f32({a})", target.name()),
        },
        (Type::I64, Type::U64) | (Type::U64, Type::I64) | (Type::I64 | Type::U64, Type::F32) => {
            format!("{}_from_{}({a})", target.name(), source.name())
        }
        // Integers widen by their own sign, whatever the sign of what they become.
        (Type::U32, Type::I64 | Type::U64) => target.of_words(a, "0u"),
        (_, Type::I64 | Type::U64) => {
            target.of_words(&format!("bitcast<u32>({a})"), &format!("bitcast<u32>({a} >> 31u)"))
        }
        (Type::I64 | Type::U64, Type::U32) => format!("low_{}({a})", source.name()),
        (Type::I64 | Type::U64, _) => format!("bitcast<i32>(low_{}({a}))", source.name()),
        _ => format!("{}({a})", target.name()),
    };
    Some(narrow(to, value))
}

/// The function `body` that computes the elements of all outputs from those of the inputs `x0`, `x1`, ….
/// It returns a structure `Outputs` with the fields `y0`, `y1`, …; scalars are read by [`scalar`].
pub(super) fn body(program: &Program) -> Result<String> {
    let ty = |dtype: DType| {
        Type::of(dtype).ok_or_else(|| crate::core::Error::Device(format!("{dtype} on the GPU")))
    };
    let mut body = Body::default();
    for (i, &dtype) in program.scalars.iter().enumerate() {
        let _ = writeln!(body.text, "    let s{i}: {} = {};", ty(dtype)?.name(), scalar(dtype, i));
    }
    let mut steps: Vec<(String, Type)> = vec![];
    for step in &program.steps {
        let value = |reg: &Reg| -> Result<(String, Type)> {
            Ok(match *reg {
                Reg::Input(i) => (format!("x{i}"), ty(program.inputs[i as usize])?),
                Reg::Scalar(i) => (format!("s{i}"), ty(program.scalars[i as usize])?),
                Reg::Step(i) => steps[i as usize].clone(),
            })
        };
        let args = step.args().iter().map(value).collect::<Result<Vec<_>>>()?;
        let (name, result) = match *step {
            Step::Apply { op: Elementwise::nextafter, dtype: dtype @ (DType::F16 | DType::BF16), .. } => {
                let kind = if dtype == DType::F16 { "f16" } else { "bf16" };
                let text = format!("nextafter_{kind}({}, {})", args[0].0, args[1].0);
                (body.value(Type::F32, &text), Type::F32)
            }
            Step::Apply { op, dtype, .. } => body.apply(op, ty(dtype)?, &args)?,
            Step::Cast { from, to, .. } => match cast(from, to, &args[0].0) {
                Some(text) => (body.value(ty(to)?, &text), ty(to)?),
                None => bail!(Device, "cast: {from} to {to} is not supported on the GPU"),
            },
        };
        let narrowed = match *step {
            Step::Apply { op, dtype, .. } => narrow(op.result(dtype), name.clone()),
            Step::Cast { .. } => name.clone(),
        };
        let name = if narrowed == name { name } else { body.value(result, &narrowed) };
        steps.push((name, result));
    }
    let mut head = String::from("struct Outputs {\n");
    let mut results = vec![];
    for (i, &reg) in program.outputs.iter().enumerate() {
        let _ = writeln!(head, "    y{i}: {},", ty(program.dtype(reg))?.name());
        results.push(match reg {
            Reg::Input(i) => format!("x{i}"),
            Reg::Scalar(i) => format!("s{i}"),
            Reg::Step(i) => steps[i as usize].0.clone(),
        });
    }
    let mut arguments = vec![];
    for (i, &dtype) in program.inputs.iter().enumerate() {
        arguments.push(format!("x{i}: {}", ty(dtype)?.name()));
    }
    let (arguments, results) = (arguments.join(", "), results.join(", "));
    let text = body.text;
    Ok(format!("{head}}}\n\nfn body({arguments}) -> Outputs {{\n{text}    return Outputs({results});\n}}\n"))
}

/// The fields of `Parameters` that hold the n-th scalar.
pub(super) fn scalar_fields(dtype: DType, n: usize) -> String {
    match Type::of(dtype) {
        Some(ty) if ty.is_wide() => format!("    scalar{n}: u32,\n    scalar{n}_high: u32,\n"),
        _ => format!("    scalar{n}: u32,\n"),
    }
}

/// The n-th scalar parameter as a value.
fn scalar(dtype: DType, n: usize) -> String {
    let word = format!("p.scalar{n}");
    match Type::of(dtype) {
        Some(Type::Bool) => format!("({word} != 0u)"),
        Some(Type::I32) => format!("bitcast<i32>({word})"),
        Some(Type::F32) => format!("bitcast<f32>({word})"),
        Some(ty) if ty.is_wide() => ty.of_words(&word, &format!("{word}_high")),
        _ => word,
    }
}

/// The words of a scalar that is converted to `dtype`.
pub(super) fn scalar_words(dtype: DType, value: Scalar, words: &mut impl Extend<u32>) {
    // Floats saturate when they become integers; integers wrap.
    let integer = |low: f64, high: f64| match value {
        Scalar::Float(x) => x.clamp(low, high) as i64,
        other => other.as_i64(),
    };
    let float = value.as_f64() as f32;
    match dtype {
        DType::Bool => words.extend([u32::from(value.as_f64() != 0.0)]),
        DType::U8 => words.extend([integer(0.0, 255.0) as u8 as u32]),
        DType::U16 => words.extend([integer(0.0, 65535.0) as u16 as u32]),
        DType::U32 => words.extend([integer(0.0, u32::MAX as f64) as u32]),
        DType::I8 => words.extend([integer(-128.0, 127.0) as i8 as i32 as u32]),
        DType::I16 => words.extend([integer(-32768.0, 32767.0) as i16 as i32 as u32]),
        DType::I32 => words.extend([integer(i32::MIN as f64, i32::MAX as f64) as u32]),
        DType::U64 | DType::I64 => {
            let bits = match value {
                Scalar::Float(x) if dtype == DType::U64 => x as u64,
                other => other.as_i64() as u64,
            };
            words.extend([bits as u32, (bits >> 32) as u32]);
        }
        DType::F16 => words.extend([half::f16::from_f64(value.as_f64()).to_f32().to_bits()]),
        DType::BF16 => words.extend([half::bf16::from_f64(value.as_f64()).to_f32().to_bits()]),
        DType::F32 | DType::F64 => words.extend([float.to_bits()]),
    }
}

/// The type of a storage buffer of `dtype`: 8 and 16-bit elements lie packed in words. With `quads`, an
/// element of the array holds four of the tensor's, where they fill words of their own.
pub(super) fn storage(dtype: DType, quads: bool) -> String {
    match (dtype.size(), quads) {
        (1, _) | (2, false) => "u32".into(),
        (2, true) => "vec2<u32>".into(),
        (4, false) => Type::of(dtype).map_or("u32", Type::name).into(),
        (4, true) => format!("vec4<{}>", Type::of(dtype).map_or("u32", Type::name)),
        _ => Type::of(dtype).map_or("vec2<u32>", Type::name).into(),
    }
}

/// The value of `dtype` that the low bits of `word` hold.
fn unpack(dtype: DType, word: &str) -> String {
    match dtype {
        DType::Bool => format!("(({word} & 0xffu) != 0u)"),
        DType::U8 | DType::U16 => narrow(dtype, word.into()),
        DType::I8 | DType::I16 => narrow(dtype, format!("bitcast<i32>({word})")),
        DType::F16 => format!("f32_from_f16({word} & 0xffffu)"),
        DType::BF16 => format!("f32_from_bf16({word} & 0xffffu)"),
        _ => word.into(),
    }
}

/// Element `at` of the buffer `name`.
pub(super) fn load(dtype: DType, name: &str, at: &str) -> String {
    match dtype.size() {
        1 => unpack(dtype, &format!("({name}[{at} >> 2u] >> (({at} & 3u) * 8u))")),
        2 => unpack(dtype, &format!("({name}[{at} >> 1u] >> (({at} & 1u) * 16u))")),
        _ => format!("{name}[{at}]"),
    }
}

/// Lane `lane` of the quad `at` of the buffer `name`, of which `loaded` is the element `at` where quads
/// are elements.
pub(super) fn load_lane(dtype: DType, name: &str, at: &str, loaded: &str, lane: usize) -> String {
    match dtype.size() {
        1 => unpack(dtype, &format!("({loaded} >> {}u)", 8 * lane)),
        2 => unpack(dtype, &format!("({loaded}.{} >> {}u)", ["x", "y"][lane / 2], 16 * (lane % 2))),
        4 => format!("{loaded}.{}", ["x", "y", "z", "w"][lane]),
        _ => format!("{name}[{at} * 4u + {lane}u]"),
    }
}

/// The bits of a value of an 8 or 16-bit dtype.
fn bits(dtype: DType, value: &str) -> String {
    match dtype {
        DType::Bool => format!("select(0u, 1u, {value})"),
        DType::I8 => format!("(bitcast<u32>({value}) & 0xffu)"),
        DType::I16 => format!("(bitcast<u32>({value}) & 0xffffu)"),
        DType::F16 => format!("f16_from_f32({value})"),
        DType::BF16 => format!("bf16_from_f32({value})"),
        _ => value.into(),
    }
}

/// Statements that store four values as the quad `at` of the buffer `name`.
pub(super) fn store_quad(dtype: DType, name: &str, at: &str, values: [String; 4]) -> String {
    let [a, b, c, d] = &values;
    match dtype.size() {
        1 => {
            let [a, b, c, d] = [a, b, c, d].map(|value| bits(dtype, value));
            format!("    {name}[{at}] = {a} | ({b} << 8u) | ({c} << 16u) | ({d} << 24u);\n")
        }
        2 => {
            let [a, b, c, d] = [a, b, c, d].map(|value| bits(dtype, value));
            format!("    {name}[{at}] = vec2<u32>({a} | ({b} << 16u), {c} | ({d} << 16u));\n")
        }
        4 => format!("    {name}[{at}] = {}({a}, {b}, {c}, {d});\n", storage(dtype, true)),
        _ => (0..4).map(|i| format!("    {name}[{at} * 4u + {i}u] = {};\n", values[i])).collect(),
    }
}

/// The type of a storage buffer of `dtype` that is written element by element: words that hold several
/// may be shared by invocations and are atomic.
pub(super) fn shared_storage(dtype: DType) -> String {
    if dtype.size() < 4 { "atomic<u32>".into() } else { storage(dtype, false) }
}

/// [`load`] from such a buffer.
pub(super) fn load_shared(dtype: DType, name: &str, at: &str) -> String {
    match dtype.size() {
        1 => unpack(dtype, &format!("(atomicLoad(&{name}[{at} >> 2u]) >> (({at} & 3u) * 8u))")),
        2 => unpack(dtype, &format!("(atomicLoad(&{name}[{at} >> 1u]) >> (({at} & 1u) * 16u))")),
        _ => load(dtype, name, at),
    }
}

/// Statements that store an element into such a buffer. Each element has one writer, so what it turns over
/// in a word with `xor` nobody else touches.
pub(super) fn store_shared(dtype: DType, name: &str, at: &str, value: &str) -> String {
    let (per_word, mask, width) = match dtype.size() {
        1 => (2, "0xffu", 8),
        2 => (1, "0xffffu", 16),
        _ => return format!("    {name}[{at}] = {value};\n"),
    };
    let (bits, lanes) = (bits(dtype, value), (1 << per_word) - 1);
    format!(
        "    let shift = ({at} & {lanes}u) * {width}u;
    let old = atomicLoad(&{name}[{at} >> {per_word}u]);
    atomicXor(&{name}[{at} >> {per_word}u], (((old >> shift) ^ {bits}) & {mask}) << shift);\n"
    )
}

/// The sum of two elements; integers wrap, floats are rounded when they are stored.
pub(super) fn sum(dtype: DType, a: &str, b: &str) -> String {
    let sum = Type::of(dtype).unwrap_or(Type::F32).sum(a, b);
    if dtype.is_float() { sum } else { narrow(dtype, sum) }
}

/// A dtype that has the size of elements that are moved as bits, and a type on every device: words, for
/// 64 bits two of them.
pub(super) fn bits_of(dtype: DType) -> DType {
    match dtype.size() {
        1 => DType::U8,
        2 => DType::U16,
        4 => DType::U32,
        _ => DType::F64,
    }
}

/// The type of the values that `load` and `store_quad` take and give.
pub(super) fn value(dtype: DType) -> &'static str {
    Type::of(dtype).map_or("vec2<u32>", Type::name)
}

/// The low bits of a word as an element of an integer dtype of at most 32 bits.
pub(super) fn narrow_word(dtype: DType, word: &str) -> String {
    match Type::of(dtype) {
        Some(Type::I32) => narrow(dtype, format!("bitcast<i32>({word})")),
        _ => narrow(dtype, format!("({word})")),
    }
}

/// Whether [`from_pair`] knows integers of `dtype`.
pub(super) fn truncates(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::U8 | DType::U16)
}

/// The unevaluated sum `x` of two float32, converted to `dtype`.
pub(super) fn from_pair(dtype: DType) -> String {
    let (low, high) = match dtype {
        DType::I8 => ("-128", "127"),
        DType::I16 => ("-32768", "32767"),
        DType::U8 => ("0", "255"),
        DType::U16 => ("0", "65535"),
        DType::I32 => return "truncate_pair(x)".into(),
        _ => return "x.hi + x.lo".into(),
    };
    match Type::of(dtype) {
        Some(Type::U32) => format!("u32(clamp(truncate_pair(x), {low}, {high}))"),
        _ => format!("clamp(truncate_pair(x), {low}, {high})"),
    }
}

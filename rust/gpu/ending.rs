//! How sums leave a kernel of products or convolutions: rounded to their dtype, through the fused epilogue with
//! its other operands, and stored, four neighbours at once where rows fill whole quads; and the kernel that
//! adds up the parts of split sums. What is summed is elsewhere.

use super::device::Shared;
use super::pointwise::{LANES, Window, grid};
use super::queue::Binding;
use super::rows::{self, Launch, Space, binding};
use super::shaders::MATMUL_SUM;
use super::wgsl::{self, Type};
use crate::core::{DType, Result};
use crate::ir::Program;
use crate::ir::kernel::Fused;
use smallvec::SmallVec;

/// What becomes of the sums of a kernel.
pub(super) struct Tail<'a> {
    /// Of the accumulators.
    pub sum: DType,
    pub epilogue: Option<&'a Fused>,
    /// The output, whose rows are walked, with the epilogue's other operands.
    pub space: Space,
    pub operands: SmallVec<[Window<'a>; 2]>,
    pub dtype: DType,
    pub out: Window<'a>,
    /// The first element in the window.
    pub offset: usize,
}

/// Rows of the output, and their length.
pub(super) type Rows = [usize; 2];

impl<'a> Tail<'a> {
    /// The tail of a kernel that leaves parts of sums in a window of their own.
    pub fn parts(sum: DType, out: Window<'a>, offset: usize) -> Tail<'a> {
        let space = Space::new(&crate::core::Shape::new(&[]), crate::ir::kernel::Axes::new(&[]), []);
        Tail { sum, epilogue: None, space, operands: SmallVec::new(), dtype: sum, out, offset }
    }

    /// Whether rows of a length fill whole quads.
    pub fn quads(&self, length: usize) -> bool {
        length.is_multiple_of(4) && self.offset.is_multiple_of(4)
    }

    /// How the text of its kernel ends; `length` is the parameter that holds a row's.
    pub fn ending(&self, quads: bool, length: &'static str, bound: usize) -> Ending<'a> {
        let epilogue = self.epilogue.map(|fused| &*fused.program);
        let product = epilogue.map_or(self.dtype, |program| program.inputs[0]);
        let ranks = if epilogue.is_some() { self.space.ranks() } else { [0, 0] };
        Ending { sum: self.sum, product, out: self.dtype, epilogue, ranks, quads, length, bound }
    }

    /// Appends the parameters of the epilogue.
    pub fn words(&self, words: &mut Vec<u32>) {
        let Some(fused) = self.epilogue else { return };
        // The shader has no places of an epilogue that reads nothing but the product.
        if !self.operands.is_empty() {
            self.space.words(&self.operands, words);
        }
        rows::scalar_words(fused, words);
    }

    /// What it binds.
    pub fn bindings(&self) -> SmallVec<[Binding<'_>; 3]> {
        std::iter::once(&self.out).chain(&self.operands).map(|window| window.binding).collect()
    }

    /// Records the kernel that adds up parts, each as large as the output.
    pub fn add_up(
        &self,
        shared: &Shared,
        sums: &Window<'_>,
        parts: usize,
        [rows, length]: Rows,
    ) -> Result<()> {
        let count = rows * length.div_ceil(4);
        let groups = grid((count as u64).div_ceil(LANES));
        let numbers = [groups[0] as usize * LANES as usize, count, parts, rows * length, length, self.offset];
        let mut words: Vec<u32> = numbers.map(|x| x as u32).to_vec();
        self.words(&mut words);
        let ending = self.ending(self.quads(length), "p.n", 1);
        let bindings = std::iter::once(sums.binding).chain(self.bindings()).collect();
        let program = self.epilogue.map(|fused| fused.program.clone());
        let variant = ending.key().to_vec();
        Launch { shader: &MATMUL_SUM, variant, program, words, bindings, groups }
            .run(shared, || summed(&ending))
    }
}

/// Of the kernel that adds up parts.
const SUM_FIELDS: [&str; 6] = ["row", "count", "parts", "size", "n", "out_offset"];

/// The constants of the kernel that adds up parts.
pub(super) fn summed(ending: &Ending<'_>) -> Result<String> {
    Ok(ending.fields(&SUM_FIELDS) + &ending.text()?)
}

/// What decides the text of an ending.
pub(super) struct Ending<'a> {
    /// Of the accumulators.
    pub sum: DType,
    /// To which the product is rounded before the epilogue.
    pub product: DType,
    pub out: DType,
    pub epilogue: Option<&'a Program>,
    /// Of the epilogue's operands, as `rows` counts them.
    pub ranks: [usize; 2],
    /// Whether rows of the output begin and end at whole quads.
    pub quads: bool,
    /// The parameter that holds a row's length.
    pub length: &'static str,
    /// Where the output is bound; the epilogue's operands follow it.
    pub bound: usize,
}

impl Ending<'_> {
    /// What tells the text apart from others with the same epilogue.
    pub fn key(&self) -> [u32; 3] {
        let [kept, walked] = self.ranks.map(|rank| rank as u32);
        let dtypes = self.sum as u32 | (self.product as u32) << 8 | (self.out as u32) << 16;
        [dtypes, kept | walked << 8, u32::from(self.quads)]
    }

    /// The fields of `Parameters` that follow those of the kernel: the epilogue's operands and scalars.
    pub fn fields(&self, fixed: &[&str]) -> String {
        let places = match self.operands() {
            0 => String::new(),
            _ => rows::places(&self.names(), self.ranks).0,
        };
        rows::parameters(fixed, &places, self.epilogue.map_or(&[], |program| &program.scalars))
    }

    fn operands(&self) -> usize {
        self.epilogue.map_or(0, |program| program.inputs.len() - 1)
    }

    fn names(&self) -> Vec<String> {
        (1..=self.operands()).map(|i| format!("in{i}")).collect()
    }

    /// `Value`, `madd`, the bindings, `store` and `store_four`; no vectors where the sums are of 64 bits.
    pub fn text(&self) -> Result<String> {
        let value = Type::of(self.sum).unwrap_or(Type::F32);
        let mut text = format!("alias Value = {};\n", value.name());
        text += match self.sum.is_float() {
            _ if value.is_wide() => "",
            true => {
                "fn madd(a: Value, b: vec4<Value>, c: vec4<Value>) -> vec4<Value> { return fma(vec4<Value>(a), b, c); }\n"
            }
            false => {
                "fn madd(a: Value, b: vec4<Value>, c: vec4<Value>) -> vec4<Value> { return a * b + c; }\n"
            }
        };
        let out = Type::of(self.out).unwrap_or(Type::F32).name();
        let rounded = wgsl::narrow(self.product, "sum".into());
        let names = self.names();
        let mut arguments = vec![rounded.clone()];
        for (i, name) in names.iter().enumerate() {
            let dtype = self.epilogue.map_or(self.out, |program| program.inputs[1 + i]);
            let load = wgsl::load(dtype, name, "at");
            let value = Type::of(dtype).unwrap_or(Type::F32).name();
            text += &binding(name, self.bound + 1 + i, &wgsl::storage(dtype, false));
            text += &format!("fn load_{name}(at: u32) -> {value} {{ return {load}; }}\n");
            arguments.push(format!("load_{name}(at_{name}(base, r))"));
        }
        let base = if names.is_empty() { "" } else { "    let base = base_of(o);\n" };
        if !names.is_empty() {
            text += &rows::places(&names, self.ranks).1;
        }
        let ended = match self.epilogue {
            Some(program) => {
                text += &wgsl::body(program)?;
                format!("body({}).y0", arguments.join(", "))
            }
            None => rounded,
        };
        text += &format!("fn ended(o: u32, r: u32, sum: Value) -> {out} {{\n{base}    return {ended};\n}}\n");
        let length = self.length;
        let place = format!("    let at = p.out_offset + o * {length} + r;\n");
        if self.quads {
            text += &binding("out", self.bound, &wgsl::storage(self.out, true));
            let four = ["x", "y", "z", "w"].into_iter().zip(0..);
            let four: Vec<String> = four.map(|(c, i)| format!("ended(o, r + {i}u, sums.{c})")).collect();
            let lets: String = (0..4).map(|i| format!("    let y{i} = {};\n", four[i])).collect();
            let store = wgsl::store_quad(self.out, "out", "quad", ["y0", "y1", "y2", "y3"].map(String::from));
            text += &format!(
                "fn store_four(o: u32, r: u32, sums: vec4<Value>) {{\n{place}    let quad = at / 4u;\n{lets}{store}}}\n"
            );
        } else {
            text += &binding("out", self.bound, &wgsl::shared_storage(self.out));
            let store = wgsl::store_shared(self.out, "out", "at", "y");
            text += &format!(
                "fn store(o: u32, r: u32, sum: Value) {{\n{place}    let y = ended(o, r, sum);\n{store}}}\n"
            );
            if value.is_wide() {
                return Ok(text);
            }
            text += &format!(
                "fn store_four(o: u32, r: u32, sums: vec4<Value>) {{
    store(o, r, sums.x);
    if (r + 1u < {length}) {{ store(o, r + 1u, sums.y); }}
    if (r + 2u < {length}) {{ store(o, r + 2u, sums.z); }}
    if (r + 3u < {length}) {{ store(o, r + 3u, sums.w); }}
}}
"
            );
        }
        Ok(text)
    }
}

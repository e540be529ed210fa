//! How sums leave a kernel of products or convolutions: rounded to their dtype, through the fused epilogue with
//! its other operands, and stored, four neighbours at once where rows fill whole quads. The kernels are
//! elsewhere.

use super::rows::{self, binding};
use super::wgsl::{self, Type};
use crate::core::{DType, Result};
use crate::ir::Program;

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

    /// `Value`, `madd`, the bindings, `store` and `store_four`; parameters have `n`, the length of a row, and
    /// `out_offset`.
    pub fn text(&self) -> Result<String> {
        let value = Type::of(self.sum).unwrap_or(Type::F32).name();
        let mut text = format!("alias Value = {value};\n");
        text += match self.sum.is_float() {
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
        let place = "    let at = p.out_offset + o * p.n + r;\n";
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
            text += "fn store_four(o: u32, r: u32, sums: vec4<Value>) {
    store(o, r, sums.x);
    if (r + 1u < p.n) { store(o, r + 1u, sums.y); }
    if (r + 2u < p.n) { store(o, r + 2u, sums.z); }
    if (r + 3u < p.n) { store(o, r + 3u, sums.w); }
}
";
        }
        Ok(text)
    }
}

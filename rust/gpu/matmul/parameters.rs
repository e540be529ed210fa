//! What specialises the shaders of products: how each operand is read, in which tile, and how sums end. The
//! texts that the shaders' headers say come from the host are made here.

use super::choice::{Sums, THIN, Tile};
use crate::core::{DType, Layout, Result};
use crate::gpu::cooperative::Matrices;
use crate::gpu::ending::Ending;
use crate::gpu::rows::binding;
use crate::gpu::wgsl::{self, Type};

/// How a kernel reads an operand: whole quads along k or across it, where they are aligned and none is cut by
/// an edge, or single elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gpu) enum Reads {
    QuadsAlong,
    QuadsAcross,
    Singles {
        /// Whether neighbours in memory are neighbours along k.
        along: bool,
    },
}

impl Reads {
    /// Of a matrix whose axis `k` is summed over, the other one being `across`; `first` is the element at which
    /// the bound part of its buffer begins.
    pub fn of(layout: &Layout, k: usize, across: usize, first: usize) -> Reads {
        let whole = |n: isize| n % 4 == 0;
        let others = (0..layout.rank()).filter(|&axis| axis != k && axis != across);
        let aligned = whole(layout.offset as isize - first as isize)
            && others.map(|axis| layout.strides[axis]).all(whole);
        let quads = |axis: usize, other: usize| {
            let steps = whole(layout.strides[other]) || layout.shape[other] == 1;
            aligned && layout.strides[axis] == 1 && whole(layout.shape[axis] as isize) && steps
        };
        if quads(k, across) && layout.shape[k] > 0 {
            Reads::QuadsAlong
        } else if quads(across, k) && layout.shape[across] > 0 {
            Reads::QuadsAcross
        } else {
            Reads::Singles { along: layout.strides[k] == 1 }
        }
    }

    pub fn along(self) -> bool {
        matches!(self, Reads::QuadsAlong | Reads::Singles { along: true })
    }

    pub fn key(self) -> u32 {
        match self {
            Reads::QuadsAlong => 0,
            Reads::QuadsAcross => 1,
            Reads::Singles { along } => 2 + u32::from(along),
        }
    }
}

pub(in crate::gpu) const FIELDS: [&str; 19] = [
    "row",
    "parts",
    "each",
    "batches",
    "batch1",
    "m",
    "n",
    "k",
    "a_offset",
    "a_batch0",
    "a_batch1",
    "a_m",
    "a_k",
    "b_offset",
    "b_batch0",
    "b_batch1",
    "b_k",
    "b_n",
    "out_offset",
];

/// The two operands of a kernel.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    pub dtypes: [DType; 2],
    pub reads: [Reads; 2],
}

impl Operands {
    pub fn key(&self) -> u32 {
        let [a, b] = self.dtypes.map(|dtype| dtype as u32);
        let [of_a, of_b] = self.reads.map(Reads::key);
        a | b << 8 | of_a << 16 | of_b << 20
    }
}

/// The constants of a kernel of tiles.
pub(super) fn tiled(tile: Tile, operands: &Operands, ending: &Ending<'_>) -> Result<String> {
    let mut text =
        tile_head(tile) + &ending.fields(&FIELDS) + &ending.text()? + &tile_constants(tile, operands.reads);
    for (i, (name, across)) in [("a", "m"), ("b", "n")].into_iter().enumerate() {
        text += &operand(name, i, operands.dtypes[i], operands.reads[i], true);
        text += &block(name, across, operands.reads[i]);
    }
    Ok(text)
}

/// What stands before anything else in a kernel of tiles.
pub(in crate::gpu) fn tile_head(tile: Tile) -> String {
    let head = if let Sums::Matrices(_) = tile.sums { Matrices::HEAD } else { "" };
    head.into()
}

/// What `tile.wgsl` wants to know, or `tile_cooperative.wgsl`.
pub(in crate::gpu) fn tile_constants(tile: Tile, reads: [Reads; 2]) -> String {
    let [a, b] = reads.map(Reads::along);
    let (size, lanes, strip) = (tile.size, tile.lanes, tile.strip());
    let matrices =
        if let Sums::Matrices(matrices) = tile.sums { matrices.constants(size) } else { String::new() };
    format!(
        "const TILE: u32 = {size}u;\nconst LANES: u32 = {lanes}u;\nconst STRIP: u32 = {strip}u;\n\
         const A_ALONG_K: bool = {a};\nconst B_ALONG_K: bool = {b};\n{matrices}"
    )
}

/// The binding of an operand and how its elements are read: `four_x(at)`, or `load_x(at)`.
pub(in crate::gpu) fn operand(name: &str, index: usize, dtype: DType, reads: Reads, quads: bool) -> String {
    let value = Type::of(dtype).unwrap_or(Type::F32).name();
    if quads && !matches!(reads, Reads::Singles { .. }) {
        let storage = wgsl::storage(dtype, true);
        let lanes: Vec<String> =
            (0..4).map(|lane| wgsl::load_lane(dtype, name, "quad", "loaded", lane)).collect();
        // Elements of 64 bits are not loaded as quads.
        let loaded =
            if dtype.size() <= 4 { format!("    let loaded = {name}[quad];\n") } else { String::new() };
        return binding(name, index, &storage)
            + &format!(
                "fn four_{name}(at: u32) -> vec4<{value}> {{\n    let quad = at / 4u;\n{loaded}    return vec4<{value}>({});\n}}\n",
                lanes.join(", ")
            );
    }
    binding(name, index, &wgsl::storage(dtype, false))
        + &format!("fn load_{name}(at: u32) -> {value} {{ return {}; }}\n", wgsl::load(dtype, name, "at"))
}

/// `rows_x`, the places of four rows (or columns) at k = 0, and `block_x`, their elements at k … k + 3. Rows that
/// there are not are made of the last one; what becomes of them is not stored.
pub(in crate::gpu) fn block(x: &str, across: &str, reads: Reads) -> String {
    let rows = match reads {
        Reads::QuadsAcross => format!("return vec4<u32>(base + min(row, p.{across} - 4u));"),
        _ => format!(
            "return base + min(vec4<u32>(row, row + 1u, row + 2u, row + 3u), vec4<u32>(p.{across} - 1u)) * p.{x}_{across};"
        ),
    };
    let rows = format!("fn rows_{x}(base: u32, row: u32) -> vec4<u32> {{\n    {rows}\n}}\n");
    let one_by_one = format!(
        "fn block_{x}(at: vec4<u32>, k: u32, end: u32) -> Block {{
    return Block(across_{x}(at, k, end), across_{x}(at, k + 1u, end), across_{x}(at, k + 2u, end), across_{x}(at, k + 3u, end));
}}\n"
    );
    rows + &match reads {
        // Four quads along k, turned.
        Reads::QuadsAlong => format!(
            "fn block_{x}(at: vec4<u32>, k: u32, end: u32) -> Block {{
    if (k >= end) {{ return Block(); }}
    let a = four_{x}(at.x + k);
    let b = four_{x}(at.y + k);
    let c = four_{x}(at.z + k);
    let d = four_{x}(at.w + k);
    return Block(vec4<Value>(a.x, b.x, c.x, d.x), vec4<Value>(a.y, b.y, c.y, d.y),
        vec4<Value>(a.z, b.z, c.z, d.z), vec4<Value>(a.w, b.w, c.w, d.w));
}}\n"
        ),
        Reads::QuadsAcross => format!(
            "fn across_{x}(at: vec4<u32>, k: u32, end: u32) -> vec4<Value> {{
    if (k >= end) {{ return vec4<Value>(); }}
    return four_{x}(at.x + k * p.{x}_k);
}}\n{one_by_one}"
        ),
        Reads::Singles { .. } => format!(
            "fn across_{x}(at: vec4<u32>, k: u32, end: u32) -> vec4<Value> {{
    if (k >= end) {{ return vec4<Value>(); }}
    let places = at + k * p.{x}_k;
    return vec4<Value>(load_{x}(places.x), load_{x}(places.y), load_{x}(places.z), load_{x}(places.w));
}}\n{one_by_one}"
        ),
    }
}

/// The constants of the kernel of one element an invocation.
pub(super) fn one(operands: &Operands, ending: &Ending<'_>) -> Result<String> {
    let mut text = ending.fields(&FIELDS) + &ending.text()?;
    for (i, name) in ["a", "b"].into_iter().enumerate() {
        text += &operand(name, i, operands.dtypes[i], operands.reads[i], false);
    }
    let sum = Type::of(ending.sum).unwrap_or(Type::F32);
    let next = sum.sum("sum", &sum.product("a", "b"));
    text += &format!("fn add_product(sum: Value, a: Value, b: Value) -> Value {{ return {next}; }}\n");
    Ok(text)
}

/// What specialises the thin kernel besides its operands.
#[derive(Clone, Copy)]
pub(super) struct Thin {
    /// Whether a is the thin operand, and how many rows it has (or columns, b).
    pub a: bool,
    pub rows: usize,
    /// Invocations that share a column.
    pub slices: usize,
}

/// The constants of the thin kernel. The long operand is read in quads along k or element by element.
pub(super) fn thin(thin: Thin, operands: &Operands, ending: &Ending<'_>) -> Result<String> {
    let Thin { a, rows, slices } = thin;
    let of_long = usize::from(a);
    let (short, long) = if a { ("a", "b") } else { ("b", "a") };
    let (across, quads) = (if a { "a_m" } else { "b_n" }, operands.reads[of_long] == Reads::QuadsAlong);
    let mut text = ending.fields(&FIELDS) + &ending.text()?;
    for (i, name) in ["a", "b"].into_iter().enumerate() {
        text += &operand(name, i, operands.dtypes[i], operands.reads[i], i == of_long && quads);
    }
    let (along, columns) = (operands.reads[of_long].along(), 256 / slices);
    text += &format!(
        "const THIN_A: bool = {a};\nconst COLUMNS: u32 = {columns}u;\nconst SLICES: u32 = {slices}u;\n\
         const LONG_ALONG_K: bool = {along};\n"
    );
    let row = |i: usize| format!("load_{short}(at + {i}u * p.{across})");
    let place = |i: usize| {
        if a {
            ("batch * p.m", format!("{i}u"), "column")
        } else {
            ("batch * p.m", "column".into(), ["0u", "1u", "2u", "3u"][i])
        }
    };
    let store = |i: usize, sum: &str| {
        let (base, row, column) = place(i);
        format!("    store({base} + {row}, {column}, {sum});\n")
    };
    let (sum, loaded, stores) = match rows {
        1 => ("Value".to_string(), row(0), store(0, "sum")),
        _ => {
            // Rows that are not there are the last one again.
            let loads: Vec<String> = (0..THIN).map(|i| row(i.min(rows - 1))).collect();
            let stores = (0..rows).map(|i| store(i, &format!("sum.{}", ["x", "y", "z", "w"][i]))).collect();
            ("vec4<Value>".into(), format!("vec4<Value>({})", loads.join(", ")), stores)
        }
    };
    text += &format!(
        "alias Sum = {sum};
fn thin(base: u32, k: u32) -> Sum {{
    let at = base + k * p.{short}_k;
    return {loaded};
}}
fn store_sum(batch: u32, column: u32, sum: Sum) {{\n{stores}}}\n"
    );
    text += &match quads {
        true => format!("fn long_four(at: u32, k: u32, end: u32) -> vec4<Value> {{ return four_{long}(at + k); }}\n"),
        false => format!(
            "fn long_one(at: u32, k: u32, end: u32) -> Value {{
    if (k >= end) {{ return Value(); }}
    return load_{long}(at + k * p.{long}_k);
}}
fn long_four(at: u32, k: u32, end: u32) -> vec4<Value> {{
    return vec4<Value>(long_one(at, k, end), long_one(at, k + 1u, end), long_one(at, k + 2u, end), long_one(at, k + 3u, end));
}}\n"
        ),
    };
    Ok(text)
}

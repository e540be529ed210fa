//! Operands and results of shaders that are made of products.wgsl, as WGSL: four neighbours of a row at a time, as a vector
//! where rows lie in whole quads.

use super::{rows, wgsl};
use crate::core::{DType, Layout};

/// Whether every row of an operand begins at a whole quad, and is one or several.
pub(super) fn in_quads(layout: &Layout) -> bool {
    let rank = layout.rank();
    let whole = |axis: usize| layout.shape[axis] == 1 || layout.strides[axis] % 4 == 0;
    layout.strides[rank - 1] == 1
        && layout.shape[rank - 1].is_multiple_of(4)
        && layout.offset.is_multiple_of(4)
        && (0..rank - 1).all(whole)
}

/// The operand `name` of a float dtype as binding `index`, and the functions that stage it.
pub(super) fn operand(name: &str, index: usize, dtype: DType, quads: bool) -> String {
    rows::binding(name, index, &wgsl::storage(dtype, quads)) + &staged(name, dtype, quads, name)
}

/// The functions that stage the operand `name`, which the binding `of` holds.
pub(super) fn staged(name: &str, dtype: DType, quads: bool, of: &str) -> String {
    let body = if quads {
        let quad = format!("{of}[at / 4u]");
        let lanes = [0, 1, 2, 3].map(|lane| wgsl::load_lane(dtype, of, "at", &quad, lane));
        format!("    return vec4<f32>({});\n", lanes.join(", "))
    } else {
        let mut text = String::from("    var quad = vec4<f32>();\n");
        for lane in 0..4 {
            let value = wgsl::load(dtype, of, &format!("(at + {lane}u)"));
            text += &format!("    if (left > {lane}u) {{ quad[{lane}] = {value}; }}\n");
        }
        text + "    return quad;\n"
    };
    let staged = named(include_str!("../../shaders/products_operand.wgsl"), name);
    format!("fn quad_{name}(at: u32, left: u32) -> vec4<f32> {{\n{body}}}\n{staged}")
}

/// A file's functions without its header, for the operand or result `name`.
fn named(file: &str, name: &str) -> String {
    let code = file.lines().skip_while(|line| line.starts_with("//"));
    code.flat_map(|line| [line, "\n"]).collect::<String>().replace("NAME", name)
}

/// The result `name` as binding `index`, and how tiles leave for it; half floats lie in quads.
pub(super) fn result(name: &str, index: usize, dtype: DType, quads: bool) -> String {
    let binding = rows::binding(name, index, &wgsl::storage(dtype, quads));
    let body = if quads {
        wgsl::store_quad(dtype, name, "at / 4u", ["x", "y", "z", "w"].map(|lane| format!("quad.{lane}")))
    } else {
        (0..4).map(|i| format!("    if (left > {i}u) {{ {name}[at + {i}u] = quad[{i}]; }}\n")).collect()
    };
    let rows = named(include_str!("../../shaders/products_result.wgsl"), name);
    format!("{binding}fn store_{name}(at: u32, quad: vec4<f32>, left: u32) {{\n{body}}}\n{rows}")
}

/// `SUBGROUP`, and `exchange(x, mask)`, the vector of the lane whose number differs by a mask below it.
pub(super) fn exchange(subgroup: u32) -> String {
    let value = if subgroup == 1 { "x" } else { "subgroupShuffleXor(x, mask)" };
    format!(
        "const SUBGROUP: u32 = {subgroup}u;\n\
         fn exchange(x: vec4<f32>, mask: u32) -> vec4<f32> {{ return {value}; }}\n"
    )
}

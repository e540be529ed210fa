//! Operands of hand-written shaders item by item: one element, or four neighbours where all operands lie in whole
//! quads. Here are the bindings and accessors as WGSL, and small programs that such kernels leave to others.

use super::{View, rows, wgsl};
use crate::core::DType;
use crate::ir::kernel::{Fused, Scalars};
use crate::ir::{Elementwise, Program, Reg, Step};
use std::sync::Arc;

/// Whether every row of a view, `step` elements apart, begins at a whole quad.
pub(super) fn in_quads(view: &View<'_>) -> bool {
    let (last, rows) = view.layout.strides.split_last().map_or((1, &[][..]), |(last, rows)| (*last, rows));
    let size = view.layout.shape.last().copied().unwrap_or(1);
    let whole = |(axis, step): (usize, &isize)| view.layout.shape[axis] == 1 || step % 4 == 0;
    last == 1 && size % 4 == 0 && view.layout.offset.is_multiple_of(4) && rows.iter().enumerate().all(whole)
}

/// `Item`, and what shaders ask of it.
pub(super) fn declarations(quads: bool) -> &'static str {
    if quads {
        "alias Item = vec4<f32>;\nconst WIDTH: f32 = 4.0;\n\
         fn first_of(x: Item) -> f32 { return x.x; }\n\
         fn total(x: Item) -> f32 { return (x.x + x.y) + (x.z + x.w); }\n"
    } else {
        "alias Item = f32;\nconst WIDTH: f32 = 1.0;\nfn first_of(x: Item) -> f32 { return x; }\n\
         fn total(x: Item) -> f32 { return x; }\n"
    }
}

/// The operand `name` of a float dtype as binding `index`, and `load_NAME(at) -> Item`.
pub(super) fn operand(name: &str, index: usize, dtype: DType, quads: bool) -> String {
    let binding = rows::binding(name, index, &wgsl::storage(dtype, quads));
    let value = match quads {
        false => wgsl::load(dtype, name, "at"),
        true => {
            let quad = format!("{name}[at]");
            let lanes = [0, 1, 2, 3].map(|lane| wgsl::load_lane(dtype, name, "at", &quad, lane));
            format!("Item({})", lanes.join(", "))
        }
    };
    format!("{binding}fn load_{name}(at: u32) -> Item {{ return {value}; }}\n")
}

/// The result `name` as binding `index`, and `store_NAME(at, item)`; half floats lie in quads.
pub(super) fn result(name: &str, index: usize, dtype: DType, quads: bool) -> String {
    let binding = rows::binding(name, index, &wgsl::storage(dtype, quads));
    let store = match quads {
        false => format!("    {name}[at] = item;\n"),
        true => wgsl::store_quad(dtype, name, "at", ["x", "y", "z", "w"].map(|lane| format!("item.{lane}"))),
    };
    format!("{binding}fn store_{name}(at: u32, item: Item) {{\n{store}}}\n")
}

/// One more input of a program, in float32.
pub(super) fn input(program: &mut Program, dtype: DType) -> Reg {
    program.inputs.push(dtype);
    let arg = Reg::Input(program.inputs.len() as u16 - 1);
    if dtype == DType::F32 {
        return arg;
    }
    program.steps.push(Step::Cast { from: dtype, to: DType::F32, arg });
    Reg::Step(program.steps.len() as u16 - 1)
}

/// One more step, in float32.
pub(super) fn apply(program: &mut Program, op: Elementwise, a: Reg, b: Reg) -> Reg {
    program.steps.push(Step::Apply { op, dtype: DType::F32, args: [a, b, a] });
    Reg::Step(program.steps.len() as u16 - 1)
}

/// The product of two inputs, in float32.
pub(super) fn product(dtypes: [DType; 2]) -> Fused {
    let mut program = Program::default();
    let [a, b] = dtypes.map(|dtype| input(&mut program, dtype));
    let result = apply(&mut program, Elementwise::mul, a, b);
    program.outputs.push(result);
    Fused { program: Arc::new(program), scalars: Scalars::new() }
}

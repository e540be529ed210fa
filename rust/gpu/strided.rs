//! Strided operands of hand-written shaders: the text and the parameters by which a kernel finds, for an
//! index into the row-major iteration space, the place of an element in each operand.

use super::pointwise::Axes;
use crate::core::Layout;
use std::fmt::Write;

/// The number of axes that kernels distinguish.
pub(super) fn rank(axes: &Axes) -> usize {
    axes.sizes.len().max(1)
}

/// The structure `Places` and for each name the function `at_name(i)`. Parameters end with a field
/// `@align(16) places: Places`.
pub(super) fn text(rank: usize, names: &[&str]) -> String {
    let mut fields = String::new();
    let mut functions = String::new();
    for axis in 0..rank {
        let _ = writeln!(fields, "    size{axis}: u32,");
    }
    for name in names {
        let _ = writeln!(fields, "    {name}_offset: u32,");
        let _ = write!(
            functions,
            "fn at_{name}(i: u32) -> u32 {{\n    var rest = i;\n    var at = p.places.{name}_offset;\n"
        );
        for axis in 0..rank {
            let _ = writeln!(fields, "    {name}_stride{axis}: u32,");
        }
        for axis in (1..rank).rev() {
            let _ = writeln!(
                functions,
                "    at += rest % p.places.size{axis} * p.places.{name}_stride{axis};\n    \
                 rest /= p.places.size{axis};"
            );
        }
        let _ = write!(functions, "    return at + rest * p.places.{name}_stride0;\n}}\n");
    }
    format!("struct Places {{\n{fields}}}\n{functions}")
}

/// Appends the fields of `Places`: `layouts` are the operands' over the space of `axes`, `firsts` the
/// elements at which the bound parts of their buffers begin.
pub(super) fn words(axes: &Axes, layouts: &[Layout], firsts: &[usize], words: &mut Vec<u32>) {
    words.resize(words.len().next_multiple_of(4), 0);
    let none = axes.sizes.is_empty();
    words.extend(axes.sizes.iter().map(|&size| size as u32));
    words.extend(none.then_some(1));
    for (i, (layout, first)) in layouts.iter().zip(firsts).enumerate() {
        words.push((layout.offset as isize - *first as isize) as u32);
        words.extend(axes.strides.iter().map(|strides| strides[i] as u32));
        words.extend(none.then_some(0));
    }
}

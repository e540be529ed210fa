//! How a tensor prints: values in aligned columns, long axes shortened, then shape, dtype and device.

use super::convert::scalars;
use crate::core::{Result, Scalar};
use crate::graph::record::Edge;
use crate::graph::{Device, Tensor};
use crate::ops;
use pyo3::prelude::*;

/// Elements above which axes are shortened, and how many are kept at each end.
const THRESHOLD: usize = 1000;
const EDGE: usize = 3;
const WIDTH: usize = 88;

pub fn repr(py: Python<'_>, t: &Tensor, class: &str) -> PyResult<String> {
    let short = t.count() > THRESHOLD;
    let shown = if short { shorten(&t.detach())? } else { t.detach() };
    let numbers = match t.count() {
        0 => vec![],
        _ => scalars(py, &shown)?,
    };
    let cells = format_all(&numbers);
    let prefix = if t.requires_grad() && class != "Tensor" { format!("{class} ") } else { String::new() };
    let head = if prefix.is_empty() { format!("{}(", class.to_lowercase()) } else { format!("{class}(") };
    let mut text = head.clone();
    let mut cells = cells.iter();
    write_axis(&mut text, shown.shape(), t.shape(), short, &mut cells, head.len());
    let mut tail = vec![];
    if t.count() == 0 || short {
        tail.push(format!("shape={}", t.shape()));
    }
    let plain =
        matches!(t.dtype(), crate::core::DType::F32 | crate::core::DType::I64 | crate::core::DType::Bool);
    if !plain || t.count() == 0 {
        tail.push(format!("dtype={}", t.dtype()));
    }
    if t.device() != Device::Cpu {
        tail.push(format!("device={:?}", t.device().to_string()));
    }
    match t.edge() {
        Edge::Fn(call, _) => tail.push(format!("grad_fn={}", call.name)),
        Edge::Leaf(_) => tail.push("requires_grad=True".into()),
        Edge::None => {}
    }
    for part in tail {
        text.push_str(", ");
        text.push_str(&part);
    }
    text.push(')');
    Ok(text)
}

/// The first and last elements along long axes.
fn shorten(t: &Tensor) -> Result<Tensor> {
    let mut out = t.clone();
    for axis in 0..t.rank() {
        let n = out.shape()[axis];
        if n > 2 * EDGE {
            let first = ops::view::slice(&out, axis, 0, EDGE, 1)?;
            let last = ops::view::slice(&out, axis, n - EDGE, EDGE, 1)?;
            out = ops::join::cat(&[&first, &last], axis)?;
        }
    }
    Ok(out)
}

/// Numbers as text of one width: floats with up to four digits after the point, or in scientific form
/// where their sizes differ too much.
fn format_all(numbers: &[Scalar]) -> Vec<String> {
    let floats: Vec<f64> =
        numbers.iter().filter_map(|s| if let Scalar::Float(f) = s { Some(*f) } else { None }).collect();
    let finite = || floats.iter().copied().filter(|f| f.is_finite() && *f != 0.0).map(f64::abs);
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(0.0, f64::max));
    let scientific =
        high >= 1e8 || (high > 0.0 && (low < 1e-4 || high / low > 1e6) && finite().any(|f| f.fract() != 0.0));
    let digits = |f: f64| {
        let text = if scientific { format!("{f:.4e}") } else { format!("{f:.4}") };
        if scientific { text } else { text.trim_end_matches('0').to_string() }
    };
    let mut cells: Vec<String> = numbers
        .iter()
        .map(|s| match s {
            Scalar::Bool(b) => if *b { "True" } else { "False" }.to_string(),
            Scalar::Int(i) => i.to_string(),
            Scalar::Uint(u) => u.to_string(),
            Scalar::Float(f) if f.is_nan() => "nan".to_string(),
            Scalar::Float(f) if f.is_infinite() => if *f > 0.0 { "inf" } else { "-inf" }.to_string(),
            Scalar::Float(f) => digits(*f),
        })
        .collect();
    if !scientific && !floats.is_empty() {
        // Points stand under points.
        let tail = |c: &str| c.find('.').map_or(0, |p| c.len() - p - 1);
        let most = cells.iter().map(|c| tail(c)).max().unwrap_or(0);
        for cell in &mut cells {
            if cell.contains('.') {
                let missing = most - tail(cell);
                cell.push_str(&"0".repeat(missing));
            }
        }
    }
    let width = cells.iter().map(String::len).max().unwrap_or(0);
    cells.iter().map(|c| format!("{c:>width$}")).collect()
}

/// Writes one level of brackets. `shown` are the sizes of what is written, `real` of the tensor.
fn write_axis(
    text: &mut String,
    shown: &[usize],
    real: &[usize],
    short: bool,
    cells: &mut std::slice::Iter<'_, String>,
    indent: usize,
) {
    let [n, rest @ ..] = shown else {
        text.push_str(cells.next().map_or("[]", |c| c.trim()));
        return;
    };
    text.push('[');
    let gap = short && *n == 2 * EDGE && real[0] > 2 * EDGE;
    let mut column = indent + 1;
    for i in 0..*n {
        if i > 0 {
            text.push(',');
            if rest.is_empty() {
                text.push(' ');
            } else {
                text.push_str(&"\n".repeat(rest.len()));
                text.push_str(&" ".repeat(indent + 1));
            }
        }
        if gap && i == EDGE {
            text.push_str("...,");
            if rest.is_empty() {
                text.push(' ');
            } else {
                text.push_str(&"\n".repeat(rest.len()));
                text.push_str(&" ".repeat(indent + 1));
            }
        }
        if rest.is_empty() {
            let cell = cells.next().map_or("", String::as_str);
            if column + cell.len() > WIDTH && i > 0 {
                text.truncate(text.trim_end().len());
                text.push('\n');
                text.push_str(&" ".repeat(indent + 1));
                column = indent + 1;
            }
            column += cell.len() + 2;
            text.push_str(cell);
        } else {
            write_axis(text, rest, &real[1..], short, cells, indent + 1);
        }
    }
    text.push(']');
}

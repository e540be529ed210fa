//! `x[…]` and `x[…] = …` as NumPy has them: integers, slices with any step, `...`, `None`, masks and
//! integer tensors.

use super::{args, convert};
use crate::core::layout::MAX_RANK;
use crate::core::{DType, Error, Layout, Shape};
use crate::graph::{Device, Tensor};
use crate::ir::kernel::Scatter;
use crate::ops;
use pyo3::exceptions::{PyIndexError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyEllipsis, PyInt, PyList, PySlice, PyTuple};

/// What one entry of the index does to the axis it meets.
enum Part {
    /// Drops the axis at an index.
    Select(usize),
    /// Start, count and step.
    Slice(usize, usize, isize),
    /// A new axis of size 1.
    New,
    /// Chosen by a tensor of integers; the axis stays until `advanced` replaces it.
    Tensor(Tensor),
    /// A new axis of size 1, chosen or not: what a 0-d mask does.
    Flag(Tensor),
}

/// The basic part of an index as one view, and the tensors that choose along axes of that view.
struct Index {
    parts: Vec<Part>,
    tensors: Vec<Option<Tensor>>,
}

fn parse(x: &Tensor, index: &Bound<'_, PyAny>) -> PyResult<Index> {
    // Each is converted once: an object may answer otherwise the second time.
    let entries: Vec<(Bound<'_, PyAny>, Option<Tensor>)> = match index.cast::<PyTuple>() {
        Ok(tuple) => {
            tuple.iter().map(|e| Ok((e.clone(), tensor_entry(&e, x.device())?))).collect::<PyResult<_>>()?
        }
        Err(_) => vec![(index.clone(), tensor_entry(index, x.device())?)],
    };
    let mut parts = vec![];
    let mut axis = 0;
    let mut taken = 0;
    for (entry, chosen) in &entries {
        taken += match chosen {
            Some(t) if t.dtype() == DType::Bool => t.rank(),
            Some(_) => 1,
            None if entry.is_none() || entry.cast::<PyEllipsis>().is_ok() => 0,
            None => 1,
        };
    }
    if taken > x.rank() {
        return Err(PyIndexError::new_err(format!(
            "index: {taken} indices for a tensor of shape {}",
            x.shape()
        )));
    }
    let mut seen_ellipsis = false;
    for (entry, chosen) in entries {
        if entry.is_none() {
            parts.push(Part::New);
        } else if entry.cast::<PyEllipsis>().is_ok() {
            if seen_ellipsis {
                return Err(PyIndexError::new_err("index: only one `...` is possible"));
            }
            seen_ellipsis = true;
            for _ in 0..x.rank() - taken {
                parts.push(Part::Slice(0, x.shape()[axis], 1));
                axis += 1;
            }
        } else if let Ok(slice) = entry.cast::<PySlice>() {
            parts.push(slice_part(slice, x.shape()[axis])?);
            axis += 1;
        } else if let Some(t) = chosen {
            if t.dtype() == DType::Bool && t.rank() == 0 {
                let places = ops::advanced::nonzero(&ops::view::unsqueeze(&t, 0)?)?;
                parts.push(Part::Flag(ops::view::select(&places, 1, 0)?));
            } else if t.dtype() == DType::Bool {
                for places in mask_places(x, axis, &t)? {
                    parts.push(Part::Tensor(places));
                    axis += 1;
                }
            } else {
                parts.push(Part::Tensor(t));
                axis += 1;
            }
        } else {
            let i = args::index("index", &entry).map_err(|error| bad_index(&entry, error))?;
            let n = x.shape()[axis] as i64;
            if i < -n || i >= n {
                return Err(PyIndexError::new_err(format!(
                    "index: {i} is out of range for axis {axis} of size {n}"
                )));
            }
            parts.push(Part::Select(if i < 0 { i + n } else { i } as usize));
            axis += 1;
        }
    }
    for axis in axis..x.rank() {
        parts.push(Part::Slice(0, x.shape()[axis], 1));
    }
    let axes = parts.iter().filter(|part| !matches!(part, Part::Select(_))).count();
    if axes > MAX_RANK {
        return Err(PyIndexError::new_err(format!("index: {axes} axes; at most {MAX_RANK} are supported")));
    }
    let mut tensors = vec![];
    for part in &parts {
        match part {
            Part::Select(_) => {}
            Part::Tensor(t) | Part::Flag(t) => tensors.push(Some(t.clone())),
            Part::Slice(..) | Part::New => tensors.push(None),
        }
    }
    // Beside tensors, an integer is a 0-d tensor: it takes part in where their axes go.
    if tensors.iter().any(Option::is_some) && parts.iter().any(|p| matches!(p, Part::Select(_))) {
        tensors.clear();
        for part in &mut parts {
            if let Part::Select(i) = *part {
                let at = ops::create::full(&Default::default(), (i as i64).into(), DType::I64, x.device())?;
                *part = Part::Tensor(at);
            }
            tensors.push(if let Part::Tensor(t) | Part::Flag(t) = part { Some(t.clone()) } else { None });
        }
    }
    Ok(Index { parts, tensors })
}

/// What to say of an entry that is no integer; what it raised itself goes through.
fn bad_index(entry: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = entry.py();
    if error.is_instance_of::<PyOverflowError>(py) {
        return PyIndexError::new_err("index: the integer does not fit 64 bits");
    }
    if !error.is_instance_of::<PyTypeError>(py) {
        return error;
    }
    let kind = entry.get_type().name().map_or_else(|_| "?".into(), |n| n.to_string());
    PyIndexError::new_err(format!(
        "index: {kind} is no index; use integers, slices, `...`, `None`, masks or integer tensors"
    ))
}

/// An entry that chooses by a tensor: a tensor, an array, a list, a tuple within a tuple, or a Python bool.
/// What is no tensor yet becomes one on the device of what it indexes.
fn tensor_entry(entry: &Bound<'_, PyAny>, device: Device) -> PyResult<Option<Tensor>> {
    let t = if let Ok(t) = entry.cast::<super::tensor::PyTensor>() {
        t.get().get()
    } else if entry.cast::<PyBool>().is_ok()
        || entry.hasattr("__array_interface__")?
        || entry.cast::<PyList>().is_ok()
        || entry.cast::<PyTuple>().is_ok()
    {
        let t = convert::tensor(entry, None, device)?;
        if t.count() == 0 && !t.dtype().is_int() { ops::cast::cast(&t, DType::I64)? } else { t }
    } else {
        return Ok(None);
    };
    if t.dtype().is_float() {
        return Err(PyIndexError::new_err(format!(
            "index: a tensor of {} cannot index; use integers or bool",
            t.dtype()
        )));
    }
    if t.rank() == 0 && t.dtype().is_int() && entry.cast::<PyInt>().is_ok() {
        return Ok(None);
    }
    Ok(Some(t))
}

/// The places where a mask over axes from `axis` on is true, one tensor for each of its axes.
fn mask_places(x: &Tensor, axis: usize, mask: &Tensor) -> PyResult<Vec<Tensor>> {
    let covered = &x.shape()[axis..axis + mask.rank()];
    if covered != &mask.shape()[..] {
        return Err(PyIndexError::new_err(format!(
            "index: a mask of shape {} does not fit axes {axis}… of {}",
            mask.shape(),
            x.shape()
        )));
    }
    let places = ops::advanced::nonzero(mask)?;
    (0..mask.rank()).map(|k| Ok(ops::view::select(&places, 1, k)?)).collect()
}

fn slice_part(slice: &Bound<'_, PySlice>, size: usize) -> PyResult<Part> {
    for name in ["start", "stop", "step"] {
        let bound = slice.getattr(name)?;
        if !bound.is_none() && !bound.hasattr("__index__")? {
            let kind = bound.get_type().name()?;
            return Err(PyTypeError::new_err(format!("index: slices take integers, not {kind}")));
        }
    }
    // Bounds beyond any size are cut, as Python cuts them.
    let found = slice.indices(size as isize).map_err(|error| {
        match error.is_instance_of::<PyValueError>(slice.py()) {
            true => PyValueError::new_err("index: a slice's step must not be 0"),
            false => error,
        }
    })?;
    Ok(Part::Slice(found.start.max(0) as usize, found.slicelength, found.step))
}

/// The view that the basic parts make of a layout; axes chosen by tensors stay whole.
fn window(layout: &Layout, parts: &[Part]) -> Layout {
    let mut out = layout.clone();
    let mut axis = 0;
    for part in parts {
        match *part {
            Part::Select(i) => out = out.select(axis, i),
            Part::Slice(start, count, step) => {
                out = out.slice(axis, start, count, step);
                axis += 1;
            }
            Part::New | Part::Flag(_) => {
                out = out.unsqueeze(axis);
                axis += 1;
            }
            Part::Tensor(_) => axis += 1,
        }
    }
    out
}

/// `x[index]`.
pub fn get(x: &Tensor, index: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    // The commonest index of all.
    if let Ok(i) = index.cast::<PyInt>()
        && x.rank() > 0
        && index.cast::<PyBool>().is_err()
    {
        let n = x.shape()[0] as i64;
        let i: i64 =
            i.extract().map_err(|_| PyIndexError::new_err("index: the integer does not fit 64 bits"))?;
        if i < -n || i >= n {
            return Err(PyIndexError::new_err(format!("index: {i} is out of range for axis 0 of size {n}")));
        }
        return Ok(ops::view::select(x, 0, if i < 0 { i + n } else { i } as usize)?);
    }
    let Index { parts, tensors } = parse(x, index)?;
    let basic = if parts.iter().all(|p| matches!(p, Part::Tensor(_))) {
        x.clone()
    } else {
        ops::view::window("index", x, |layout| window(layout, &parts))
    };
    if tensors.iter().all(Option::is_none) {
        return Ok(basic);
    }
    Ok(ops::advanced::advanced(&basic, &tensors)?)
}

/// The value of `x` after `x[index] = value`.
pub fn set(x: &Tensor, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    let value = match args::scalar(value)? {
        Some(scalar) => {
            if x.dtype().is_int() && !scalar.fits(x.dtype()) {
                return Err(Error::Value(format!(
                    "index: the number {} does not fit {}",
                    scalar.as_f64(),
                    x.dtype()
                ))
                .into());
            }
            ops::create::full(&Default::default(), scalar, x.dtype(), x.device())?
        }
        None => match value.cast::<super::tensor::PyTensor>() {
            Ok(t) => t.get().get(),
            Err(_) => convert::tensor(value, None, x.device())?,
        },
    };
    if let Some(filled) = fill(x, index, &value)? {
        return Ok(filled);
    }
    let Index { parts, tensors } = parse(x, index)?;
    let whole = Layout::contiguous(x.shape().clone());
    let place = window(&whole, &parts);
    let chosen = tensors.iter().any(Option::is_some);
    let part = if chosen {
        let old = ops::view::window("index", x, |layout| window(layout, &parts));
        ops::advanced::put(&old, &tensors, &value, Scatter::Set)?
    } else {
        fit(&value, &place)?
    };
    Ok(ops::view::assign(x, &part, &place, Scatter::Set)?)
}

/// `x[mask] = number` for a mask over leading axes: a choice for each element, which need not know how many there are.
fn fill(x: &Tensor, index: &Bound<'_, PyAny>, value: &Tensor) -> PyResult<Option<Tensor>> {
    let Ok(mask) = index.cast::<super::tensor::PyTensor>() else { return Ok(None) };
    let mask = mask.get().get();
    let number = value.rank() == 0 && value.dtype() == x.dtype() && value.device() == x.device();
    let fits = mask.rank() <= x.rank() && x.shape()[..mask.rank()] == mask.shape()[..];
    if !number || !fits || mask.dtype() != DType::Bool || mask.device() != x.device() || mask.rank() == 0 {
        return Ok(None);
    }
    let mut shape = mask.shape().to_vec();
    shape.resize(x.rank(), 1);
    let mask = ops::view::reshape(&mask, &Shape::new(&shape))?;
    Ok(Some(ops::advanced::masked_fill(x, &mask, value)?))
}

/// Leading axes of size 1 that the place does not have are dropped, as NumPy does.
fn fit(value: &Tensor, place: &Layout) -> PyResult<Tensor> {
    let extra = value.rank().saturating_sub(place.rank());
    if extra > 0 && value.shape()[..extra].iter().all(|&n| n == 1) {
        let axes: Vec<usize> = (0..extra).collect();
        return Ok(ops::view::squeeze(value, &axes)?);
    }
    if place.rank() < value.rank() || value.layout().broadcast_to(&place.shape).is_none() {
        return Err(Error::Shape(format!(
            "index: a value of shape {} does not fit a place of shape {}",
            value.shape(),
            place.shape
        ))
        .into());
    }
    Ok(value.clone())
}

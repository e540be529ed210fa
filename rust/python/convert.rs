//! Python data to tensors and back: numbers, nested sequences, arrays, pickles. NumPy's and DLPack's own
//! protocols live in `numpy` and `dlpack`.

use super::tensor::{PyTensor, number, realise, to_device};
use super::{args, dlpack, dtype, numpy};
use crate::bail;
use crate::core::layout::MAX_RANK;
use crate::core::{DType, Element, Error, Layout, Result, Scalar, Shape};
use crate::cpu::{self, Memory};
use crate::graph::{Buffer, Device, Tensor};
use crate::{for_dtype, ops};
use half::{bf16, f16};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

/// A new tensor from numbers, nested sequences, arrays or another tensor; the data are copied.
pub fn tensor(value: &Bound<'_, PyAny>, dtype: Option<DType>, device: Device) -> PyResult<Tensor> {
    let host = if let Ok(t) = value.cast::<PyTensor>() {
        t.get().get().detach()
    } else if let Some(scalar) = args::scalar(value)? {
        let dtype = dtype.unwrap_or(scalar.default_dtype());
        ops::create::full(&Shape::default(), scalar, dtype, device)?
    } else if numpy::is_array(value)? {
        numpy::from_array(value, Copy::Always)?
    } else if value.hasattr("__dlpack__")? {
        dlpack::import(value, Copy::Always)?
    } else if value.hasattr("__array_interface__")? || value.hasattr("__array__")? || is_buffer(value) {
        let array = value.py().import("numpy")?.call_method1("asarray", (value,))?;
        numpy::from_array(&array, Copy::Always)?
    } else {
        sequence(value, dtype)?
    };
    let cast = ops::cast::cast(&host, dtype.unwrap_or(host.dtype()))?;
    Ok(to_device(&cast, device)?.as_own())
}

/// Whether an import may, must or must not share memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// Copies unless the source says that nobody will write it.
    Auto,
    Always,
    Never,
}

fn is_buffer(value: &Bound<'_, PyAny>) -> bool {
    // SAFETY: asking whether an object exports a buffer reads its type only.
    unsafe { pyo3::ffi::PyObject_CheckBuffer(value.as_ptr()) != 0 }
}

/// What a nested sequence has been found to hold.
struct Nested {
    shape: Vec<usize>,
    numbers: Vec<Scalar>,
}

fn sequence(value: &Bound<'_, PyAny>, dtype: Option<DType>) -> PyResult<Tensor> {
    let mut found = Nested { shape: vec![], numbers: vec![] };
    collect(value, 0, &mut found)?;
    let dtype = dtype.unwrap_or_else(|| {
        let kinds = found.numbers.iter().map(|s| s.default_dtype());
        kinds
            .reduce(|a, b| if a == DType::U64 && b == DType::I64 { a } else { a.promote(b) })
            .unwrap_or(DType::F32)
    });
    let shape = Shape::checked("tensor", &found.shape)?;
    if found.numbers.len() != shape.count() {
        return Err(ragged(&found.shape));
    }
    Ok(from_scalars(&found.numbers, shape, dtype)?)
}

fn ragged(shape: &[usize]) -> PyErr {
    super::errors::ShapeError::new_err(format!(
        "tensor: the nested sequence is ragged; its first parts have shape {}",
        Shape::new(shape)
    ))
}

/// Whether so many numbers can be held until their dtype is known.
fn fits_memory(count: usize) -> Result<()> {
    if count.saturating_mul(size_of::<Scalar>()) > cpu::memory::limit() {
        bail!(Memory, "tensor: a sequence of {count} numbers is too large for memory");
    }
    Ok(())
}

/// Appends the numbers of `value`, which lies `depth` levels deep.
fn collect(value: &Bound<'_, PyAny>, depth: usize, found: &mut Nested) -> PyResult<()> {
    if depth > MAX_RANK {
        return Err(PyValueError::new_err(format!("tensor: nested deeper than {MAX_RANK} levels")));
    }
    let leaf = match args::scalar(value)? {
        Some(scalar) => Some(vec![scalar]),
        None => match value.cast::<PyTensor>() {
            Ok(t) => Some(scalars(value.py(), &t.get().get())?),
            Err(_) => None,
        },
    };
    if let Some(numbers) = leaf {
        // A tensor within a sequence counts as so many levels; only 0-d ones are common.
        if depth < found.shape.len() {
            return Err(ragged(&found.shape));
        }
        if numbers.len() != 1 {
            return Err(PyTypeError::new_err(
                "tensor: a sequence of tensors with axes; use `stack` or `cat`",
            ));
        }
        found.numbers.extend(numbers);
        if found.numbers.len().is_power_of_two() {
            fits_memory(2 * found.numbers.len())?;
        }
        return Ok(());
    }
    if value.cast::<PyString>().is_ok() || value.hasattr("keys")? {
        return Err(PyTypeError::new_err(format!("tensor: {} holds no numbers", value.get_type().name()?)));
    }
    let Ok(items) = value.try_iter() else {
        return Err(PyTypeError::new_err(format!(
            "tensor: {} is no number and no sequence",
            value.get_type().name()?
        )));
    };
    if let Ok(len) = value.len() {
        // Before they are gone through one by one: a range may be longer than any memory.
        fits_memory(found.numbers.len().saturating_add(len))?;
    }
    let first_here = depth == found.shape.len() && found.numbers.is_empty();
    if first_here {
        found.shape.push(0);
    } else if depth >= found.shape.len() {
        return Err(ragged(&found.shape));
    }
    let mut count = 0;
    for item in items {
        collect(&item?, depth + 1, found)?;
        count += 1;
        if first_here {
            // Counted as it goes, so that deeper levels know that this one is not the last.
            found.shape[depth] = count;
        }
    }
    if count != found.shape[depth] {
        return Err(ragged(&found.shape));
    }
    Ok(())
}

/// A Rust number as an element of a dtype, as casts round and saturate.
trait FromScalar: Element {
    fn from_scalar(x: Scalar) -> Self;
}

macro_rules! from_scalar {
    ($($int:ty)*) => {$(
        impl FromScalar for $int {
            fn from_scalar(x: Scalar) -> $int {
                match x { Scalar::Float(f) => f as $int, other => other.as_i64() as $int }
            }
        }
    )*};
}

from_scalar!(u8 u16 u32 u64 i8 i16 i32 i64);

impl FromScalar for f16 {
    fn from_scalar(x: Scalar) -> f16 {
        f16::from_f64(x.as_f64())
    }
}
impl FromScalar for bf16 {
    fn from_scalar(x: Scalar) -> bf16 {
        bf16::from_f64(x.as_f64())
    }
}
impl FromScalar for f32 {
    fn from_scalar(x: Scalar) -> f32 {
        x.as_f64() as f32
    }
}
impl FromScalar for f64 {
    fn from_scalar(x: Scalar) -> f64 {
        x.as_f64()
    }
}

/// A CPU tensor of these numbers in row-major order.
pub fn from_scalars(numbers: &[Scalar], shape: Shape, dtype: DType) -> Result<Tensor> {
    if let Some(bad) = numbers.iter().find(|s| dtype.is_int() && !s.fits(dtype)) {
        bail!(Value, "tensor: the number {} does not fit {dtype}", bad.as_f64());
    }
    let memory = Memory::alloc(numbers.len() * dtype.size())?;
    let truth = dtype == DType::Bool;
    for_dtype!(dtype, T => {
        let out = memory.ptr().cast::<T>();
        for (i, &x) in numbers.iter().enumerate() {
            let x = if truth { Scalar::Bool(x.as_f64() != 0.0) } else { x };
            // SAFETY: the memory is fresh, ours alone, aligned, and holds one element a number.
            unsafe { out.add(i).write(T::from_scalar(x)) };
        }
    });
    Ok(Tensor::from_buffer(Device::Cpu, shape, dtype, Buffer::Cpu(memory)))
}

/// The first element in these bytes.
pub fn scalar_from(dtype: DType, bytes: [u8; 8]) -> Scalar {
    let low = |n: usize| u64::from_le_bytes(bytes) & (u64::MAX >> (64 - 8 * n));
    match dtype {
        DType::Bool => Scalar::Bool(bytes[0] != 0),
        DType::U8 | DType::U16 | DType::U32 => Scalar::Int(low(dtype.size()) as i64),
        DType::U64 => match low(8) {
            u if u <= i64::MAX as u64 => Scalar::Int(u as i64),
            u => Scalar::Uint(u),
        },
        DType::I8 => Scalar::Int(bytes[0] as i8 as i64),
        DType::I16 => Scalar::Int(low(2) as i16 as i64),
        DType::I32 => Scalar::Int(low(4) as i32 as i64),
        DType::I64 => Scalar::Int(low(8) as i64),
        DType::F16 => Scalar::Float(f16::from_bits(low(2) as u16).to_f64()),
        DType::BF16 => Scalar::Float(bf16::from_bits(low(2) as u16).to_f64()),
        DType::F32 => Scalar::Float(f32::from_bits(low(4) as u32) as f64),
        DType::F64 => Scalar::Float(f64::from_bits(low(8))),
    }
}

/// A row-major CPU tensor with the same elements, which has run.
pub fn host(py: Python<'_>, t: &Tensor) -> PyResult<Tensor> {
    let host = ops::elementwise::contiguous(&to_device(&t.detach(), Device::Cpu)?)?;
    realise(py, &host)?;
    Ok(host)
}

/// The bytes of a row-major CPU tensor that has run.
pub fn bytes(t: &Tensor) -> Result<&[u8]> {
    let size = t.dtype().size();
    if t.count() == 0 {
        return Ok(&[]);
    }
    let start = t.layout().offset * size;
    Ok(&t.host()?.bytes()[start..start + t.count() * size])
}

/// All elements in row-major order.
pub fn scalars(py: Python<'_>, t: &Tensor) -> PyResult<Vec<Scalar>> {
    let host = host(py, t)?;
    let size = host.dtype().size();
    let out = bytes(&host)?.chunks_exact(size).map(|chunk| {
        let mut word = [0; 8];
        word[..size].copy_from_slice(chunk);
        scalar_from(host.dtype(), word)
    });
    Ok(out.collect())
}

/// Nested lists of Python numbers, or one number for a 0-d tensor.
fn nested<'py>(
    py: Python<'py>,
    shape: &[usize],
    numbers: &mut std::vec::IntoIter<Scalar>,
) -> PyResult<Bound<'py, PyAny>> {
    match shape {
        [] => number(
            py,
            numbers.next().ok_or_else(|| PyErr::from(Error::Shape("tolist: out of elements".into())))?,
        ),
        [n, rest @ ..] => {
            let items: Vec<_> = (0..*n).map(|_| nested(py, rest, numbers)).collect::<PyResult<_>>()?;
            Ok(PyList::new(py, items)?.into_any())
        }
    }
}

#[pymethods]
impl PyTensor {
    /// The elements as nested lists of Python numbers.
    fn tolist<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let t = self.get();
        nested(py, t.shape(), &mut scalars(py, &t)?.into_iter())
    }
}

/// What pickle stores: dtype, shape, bytes, and whether gradients are wanted.
pub fn reduce<'py>(slf: &Bound<'py, PyTensor>) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let t = slf.get().get();
    let data = host(py, &t)?;
    let rebuild = py.import("oxon._core")?.getattr("_rebuild")?;
    let class = slf.get_type();
    let shape = PyTuple::new(py, t.shape().iter())?;
    let data = PyBytes::new(py, bytes(&data)?);
    let device = t.device().to_string();
    let state = (class, t.dtype().name(), shape, data, slf.get().get().requires_grad(), device);
    Ok((rebuild, state).into_pyobject(py)?.into_any())
}

/// The tensor that was pickled, on the device where it was.
#[pyfunction]
#[pyo3(signature = (class, dtype, shape, data, requires_grad, device="cpu"))]
fn _rebuild<'py>(
    class: &Bound<'py, PyAny>,
    dtype: &str,
    shape: &Bound<'py, PyAny>,
    data: &Bound<'py, PyBytes>,
    requires_grad: bool,
    device: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let Some(dtype) = DType::parse(dtype) else {
        return Err(PyValueError::new_err("unpickle: unknown dtype"));
    };
    let shape = args::shape("unpickle", &args::integers("unpickle", shape)?)?;
    let data = data.as_bytes();
    if data.len() != shape.count() * dtype.size() {
        return Err(PyValueError::new_err(format!("unpickle: {} bytes for {shape} of {dtype}", data.len())));
    }
    if dtype == DType::Bool && data.iter().any(|&b| b > 1) {
        return Err(PyValueError::new_err("unpickle: a bool is neither 0 nor 1"));
    }
    let t = Tensor::from_buffer(Device::Cpu, shape, dtype, Buffer::Cpu(Memory::copy_of(data)?));
    let t = to_device(&t, Device::parse(device)?)?;
    let plain = Bound::new(py, PyTensor::new(t))?;
    if class.is(py.get_type::<PyTensor>()) {
        plain.setattr("requires_grad", requires_grad)?;
        return Ok(plain.into_any());
    }
    class.call1((plain, requires_grad))
}

/// A new tensor from numbers, nested sequences, NumPy arrays or anything that speaks the buffer
/// protocol or DLPack. The data are copied. Python floats become float32, integers int64.
///
/// >>> import oxon as ox
/// >>> ox.tensor([[1.0, 2.0], [3.0, 4.0]]).shape
/// (2, 2)
#[pyfunction]
#[pyo3(name = "tensor", signature = (data, *, dtype=None, device=None, requires_grad=false))]
fn make_tensor(
    data: &Bound<'_, PyAny>,
    dtype: Option<&Bound<'_, PyAny>>,
    device: Option<&Bound<'_, PyAny>>,
    requires_grad: bool,
) -> super::tensor::Out {
    let t = tensor(data, dtype.map(dtype::extract).transpose()?, args::device(device)?)?;
    Ok(PyTensor::new(if requires_grad { super::tensor::as_leaf(&t)? } else { t }))
}

/// Memory that somebody else owns, as a CPU tensor seen through `layout`.
pub fn borrowed(memory: Memory, layout: Layout, dtype: DType) -> Tensor {
    let len = memory.len() / dtype.size();
    Tensor::from_memory(memory, len, layout, dtype)
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(make_tensor, m)?)?;
    m.add_function(wrap_pyfunction!(_rebuild, m)?)?;
    numpy::init(m)?;
    dlpack::init(m)
}

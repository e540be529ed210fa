//! `oxon.float32` and the like.

use crate::core::DType;
use crate::core::dtype::RESERVED;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

/// The type of a tensor's elements; compare them with `==` or `is`.
#[pyclass(name = "dtype", module = "oxon", frozen, eq, hash)]
#[derive(PartialEq, Eq, Hash)]
pub struct PyDType(pub DType);

static ALL: PyOnceLock<Vec<Py<PyDType>>> = PyOnceLock::new();

/// The one object of a dtype.
pub fn object(py: Python<'_>, dtype: DType) -> Py<PyDType> {
    let all = ALL.get_or_init(py, || {
        let make = |&d| Py::new(py, PyDType(d)).expect("a small object");
        DType::ALL.iter().map(make).collect()
    });
    all[dtype as usize].clone_ref(py)
}

#[pymethods]
impl PyDType {
    /// The name, as in `"float32"`.
    #[getter]
    fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Bytes an element takes.
    #[getter]
    fn itemsize(&self) -> usize {
        self.0.size()
    }

    /// Whether the dtype is one of float16, bfloat16, float32 and float64.
    #[getter]
    fn is_floating_point(&self) -> bool {
        self.0.is_float()
    }

    fn __repr__(&self) -> String {
        format!("oxon.{}", self.0.name())
    }

    fn __str__(&self) -> String {
        self.__repr__()
    }

    /// Pickled and copied by name, so that it is the same object afterwards.
    fn __reduce__(&self) -> &'static str {
        self.0.name()
    }
}

/// A dtype given as an object of ours, a name, a Python type, or a NumPy dtype or scalar type.
pub fn extract(value: &Bound<'_, PyAny>) -> PyResult<DType> {
    if let Ok(dtype) = value.cast::<PyDType>() {
        return Ok(dtype.get().0);
    }
    let py = value.py();
    let name: String = if let Ok(name) = value.extract::<String>() {
        name
    } else if value.is(py.get_type::<pyo3::types::PyFloat>()) {
        return Ok(DType::F32);
    } else if value.is(py.get_type::<pyo3::types::PyInt>()) {
        return Ok(DType::I64);
    } else if value.is(py.get_type::<pyo3::types::PyBool>()) {
        return Ok(DType::Bool);
    } else if let Ok(name) = value.getattr("name").and_then(|n| n.extract::<String>()) {
        name
    } else if let Ok(name) = value.getattr("__name__").and_then(|n| n.extract::<String>()) {
        name
    } else {
        return Err(PyTypeError::new_err(format!("{} is no dtype; try oxon.float32", value.repr()?)));
    };
    let name = name.strip_prefix("oxon.").unwrap_or(&name);
    if RESERVED.contains(&name) {
        return Err(super::errors::DTypeError::new_err(format!("{name} is reserved and not supported yet")));
    }
    DType::parse(name.trim_end_matches('_')).ok_or_else(|| {
        let known: Vec<&str> = DType::ALL.iter().map(|d| d.name()).collect();
        super::errors::DTypeError::new_err(format!("{name:?} is no dtype; there are {}", known.join(", ")))
    })
}

/// The limits of a floating-point dtype.
#[pyclass(module = "oxon", frozen, get_all)]
#[allow(non_camel_case_types, reason = "the array API's name")]
struct finfo {
    bits: usize,
    eps: f64,
    max: f64,
    min: f64,
    smallest_normal: f64,
    tiny: f64,
    dtype: Py<PyDType>,
}

#[pymethods]
impl finfo {
    #[new]
    fn __new__(py: Python<'_>, dtype: &Bound<'_, PyAny>) -> PyResult<finfo> {
        let dtype = of_tensor_or_dtype(dtype)?;
        let (max, normal) = match dtype {
            DType::F16 => (half::f16::MAX.to_f64(), half::f16::MIN_POSITIVE.to_f64()),
            DType::BF16 => (half::bf16::MAX.to_f64(), half::bf16::MIN_POSITIVE.to_f64()),
            DType::F32 => (f32::MAX as f64, f32::MIN_POSITIVE as f64),
            DType::F64 => (f64::MAX, f64::MIN_POSITIVE),
            other => return Err(PyTypeError::new_err(format!("finfo: {other} is no floating-point dtype"))),
        };
        let eps = dtype.epsilon();
        let dtype_object = object(py, dtype);
        let bits = 8 * dtype.size();
        Ok(finfo { bits, eps, max, min: -max, smallest_normal: normal, tiny: normal, dtype: dtype_object })
    }
}

/// The limits of an integer dtype.
#[pyclass(module = "oxon", frozen, get_all)]
#[allow(non_camel_case_types, reason = "the array API's name")]
struct iinfo {
    bits: usize,
    max: i128,
    min: i128,
    dtype: Py<PyDType>,
}

#[pymethods]
impl iinfo {
    #[new]
    fn __new__(py: Python<'_>, dtype: &Bound<'_, PyAny>) -> PyResult<iinfo> {
        let dtype = of_tensor_or_dtype(dtype)?;
        if !dtype.is_int() {
            return Err(PyTypeError::new_err(format!("iinfo: {dtype} is no integer dtype")));
        }
        let bits = 8 * dtype.size();
        let signed = dtype.kind() == crate::core::dtype::Kind::Signed;
        let (min, max) =
            if signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1i128 << bits) - 1) };
        Ok(iinfo { bits, max, min, dtype: object(py, dtype) })
    }
}

fn of_tensor_or_dtype(value: &Bound<'_, PyAny>) -> PyResult<DType> {
    match value.cast::<super::tensor::PyTensor>() {
        Ok(t) => Ok(t.get().get().dtype()),
        Err(_) => extract(value),
    }
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    // What annotations call them.
    m.add("DType", py.get_type::<PyDType>())?;
    m.add("Device", py.get_type::<pyo3::types::PyString>())?;
    m.add_class::<finfo>()?;
    m.add_class::<iinfo>()?;
    for &dtype in DType::ALL {
        m.add(dtype.name(), object(py, dtype))?;
    }
    for (alias, dtype) in [
        ("half", DType::F16),
        ("float", DType::F32),
        ("double", DType::F64),
        ("int", DType::I32),
        ("long", DType::I64),
    ] {
        m.add(alias, object(py, dtype))?;
    }
    let names: Vec<&str> = DType::ALL.iter().map(|d| d.name()).collect();
    m.add("DTYPES", PyTuple::new(py, names)?)?;
    m.add("RESERVED_DTYPES", PyTuple::new(py, RESERVED)?)
}

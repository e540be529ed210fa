//! NumPy: arrays in and out without copies where that is safe. NumPy is only imported when it is used.

use super::convert::{Copy, borrowed};
use super::tensor::{Out, PyTensor, realise, to_device};
use super::{args, dtype};
use crate::core::layout::Strides;
use crate::core::{DType, Layout, Shape};
use crate::cpu::Memory;
use crate::graph::{Device, Tensor};
use crate::ops;
use numpy::npyffi::{NPY_ARRAY_WRITEABLE, PY_ARRAY_API, npy_intp};
use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use smallvec::SmallVec;
use std::ptr::NonNull;

/// Whether `value` is an ndarray, found without importing NumPy: if nobody has, it is none.
pub fn is_array(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(value.hasattr("__array_interface__")? && value.cast::<PyUntypedArray>().is_ok())
}

/// The descriptor of one of our dtypes, or `None` for bfloat16.
fn descriptor(py: Python<'_>, dtype: DType) -> PyResult<&Bound<'_, PyArrayDescr>> {
    static ALL: PyOnceLock<Vec<Option<Py<PyArrayDescr>>>> = PyOnceLock::new();
    let all = ALL.get_or_try_init(py, || {
        DType::ALL
            .iter()
            .map(|&d| match d {
                DType::BF16 => Ok(None),
                d => PyArrayDescr::new(py, d.name()).map(|d| Some(d.unbind())),
            })
            .collect::<PyResult<Vec<_>>>()
    })?;
    match &all[dtype as usize] {
        Some(descriptor) => Ok(descriptor.bind(py)),
        None => Err(super::errors::DTypeError::new_err(
            "numpy: NumPy has no bfloat16; convert first, as in `x.float().numpy()`",
        )),
    }
}

/// Our dtype for a NumPy descriptor in native byte order.
fn dtype_of(descriptor: &Bound<'_, PyArrayDescr>) -> PyResult<DType> {
    let found = match (descriptor.kind(), descriptor.itemsize()) {
        (b'b', _) => Some(DType::Bool),
        (b'u', 1) => Some(DType::U8),
        (b'u', 2) => Some(DType::U16),
        (b'u', 4) => Some(DType::U32),
        (b'u', 8) => Some(DType::U64),
        (b'i', 1) => Some(DType::I8),
        (b'i', 2) => Some(DType::I16),
        (b'i', 4) => Some(DType::I32),
        (b'i', 8) => Some(DType::I64),
        (b'f', 2) => Some(DType::F16),
        (b'f', 4) => Some(DType::F32),
        (b'f', 8) => Some(DType::F64),
        _ => None,
    };
    found.ok_or_else(|| {
        super::errors::DTypeError::new_err(format!(
            "tensor: a NumPy array of {descriptor} has no dtype of ours"
        ))
    })
}

/// A tensor from an ndarray. It shares memory where `copy` lets it and the strides can be ours.
pub fn from_array(value: &Bound<'_, PyAny>, copy: Copy) -> PyResult<Tensor> {
    let py = value.py();
    let array = value.cast::<PyUntypedArray>()?;
    let descriptor = array.dtype();
    if descriptor.is_native_byteorder() == Some(false) {
        if copy == Copy::Never {
            return Err(PyValueError::new_err(
                "from_numpy: the array is in foreign byte order and must be copied",
            ));
        }
        let native = value.call_method1("astype", (descriptor.call_method1("newbyteorder", ("=",))?,))?;
        return from_array(&native, copy);
    }
    let dtype = dtype_of(&descriptor)?;
    let size = dtype.size() as isize;
    let shape = Shape::checked("tensor", array.shape())?;
    // SAFETY: the array is alive and its header is read under the GIL.
    let (data, writeable) = unsafe {
        let raw = array.as_array_ptr();
        ((*raw).fields.data.cast::<u8>(), (*raw).fields.flags & NPY_ARRAY_WRITEABLE != 0)
    };
    let aligned = (data as usize).is_multiple_of(dtype.size());
    let whole = array.strides().iter().all(|s| s % size == 0);
    let shares = aligned && whole && (copy == Copy::Never || (copy == Copy::Auto && !writeable));
    if copy == Copy::Never && !shares {
        return Err(PyValueError::new_err(
            "from_numpy: the array's elements are not aligned and must be copied",
        ));
    }
    if !shares {
        let plain = if array.is_c_contiguous() && aligned {
            value.clone()
        } else {
            py.import("numpy")?
                .call_method1("ascontiguousarray", (value,))?
                .call_method1("reshape", (array.shape().to_vec(),))?
        };
        let plain = plain.cast::<PyUntypedArray>()?;
        // SAFETY: the array is C-contiguous, so its elements fill this range.
        let bytes = unsafe {
            let start = (*plain.as_array_ptr()).fields.data.cast::<u8>();
            std::slice::from_raw_parts(start, shape.count() * dtype.size())
        };
        let memory = Memory::copy_of(bytes)?;
        return Ok(Tensor::from_buffer(Device::Cpu, shape, dtype, crate::graph::Buffer::Cpu(memory)));
    }
    let strides: Strides = array.strides().iter().map(|s| s / size).collect();
    // The buffer starts at the lowest address that the array touches.
    let below: isize = shape.iter().zip(&strides).map(|(&n, &s)| (n as isize - 1).max(0) * s.min(0)).sum();
    let above: isize = shape.iter().zip(&strides).map(|(&n, &s)| (n as isize - 1).max(0) * s.max(0)).sum();
    if shape.count() == 0 {
        return Ok(ops::create::zeros(&shape, dtype, Device::Cpu)?);
    }
    let start = data.wrapping_offset(below * size);
    let len = (above - below + 1) * size;
    let Some(start) = NonNull::new(start) else {
        return Err(PyValueError::new_err("tensor: the array has no data"));
    };
    // SAFETY: the array owns these bytes and the keeper keeps it alive; that nobody writes them is what
    // the caller of `copy=False` promises, or what the array's own flag says.
    let memory = unsafe { Memory::borrow(start, len as usize, Box::new(value.clone().unbind())) };
    let layout = Layout { shape, strides, offset: (-below) as usize };
    Ok(borrowed(memory, layout, dtype))
}

/// A read-only ndarray on the memory of a CPU tensor that has run.
fn to_array<'py>(py: Python<'py>, tensor: Tensor) -> PyResult<Bound<'py, PyAny>> {
    let descriptor = descriptor(py, tensor.dtype())?.clone();
    let size = tensor.dtype().size() as isize;
    let layout = tensor.layout();
    let mut sizes: SmallVec<[npy_intp; 8]> = layout.shape.iter().map(|&n| n as npy_intp).collect();
    let mut strides: SmallVec<[npy_intp; 8]> = layout.strides.iter().map(|&s| s * size).collect();
    let data = tensor.host()?.ptr().wrapping_offset(layout.offset as isize * size);
    let keeper = Bound::new(py, Keeper { _tensor: tensor })?;
    // SAFETY: sizes, strides and data describe the tensor's buffer, which the keeper, as the array's
    // base, holds as long as the array lives. The array is not writeable.
    unsafe {
        let array = PY_ARRAY_API.PyArray_NewFromDescr(
            py,
            numpy::npyffi::get_type_object(py, numpy::npyffi::NpyTypes::PyArray_Type),
            descriptor.into_dtype_ptr(),
            sizes.len() as _,
            sizes.as_mut_ptr(),
            strides.as_mut_ptr(),
            data.cast(),
            0,
            std::ptr::null_mut(),
        );
        let array = Bound::from_owned_ptr_or_err(py, array)?;
        PY_ARRAY_API.PyArray_SetBaseObject(py, array.as_ptr().cast(), keeper.into_ptr());
        Ok(array)
    }
}

/// Keeps a tensor's buffer alive for an array.
#[pyclass(frozen)]
struct Keeper {
    _tensor: Tensor,
}

#[pymethods]
impl PyTensor {
    /// The elements as a read-only NumPy array that shares their memory (a copy from another device).
    fn numpy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let t = self.get();
        if t.requires_grad() {
            return Err(super::errors::GradError::new_err(
                "numpy: the tensor requires grad, which an array cannot carry; use `x.detach().numpy()`",
            ));
        }
        let host = if t.device() == Device::Cpu { t } else { to_device(&t, Device::Cpu)? };
        realise(py, &host)?;
        to_array(py, host)
    }

    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let host = to_device(&self.get().detach(), Device::Cpu)?;
        if copy == Some(false) && self.get().device() != Device::Cpu {
            return Err(PyValueError::new_err("__array__: a tensor on another device must be copied"));
        }
        realise(py, &host)?;
        let array = to_array(py, host)?;
        match dtype {
            Some(dtype) if !array.getattr("dtype")?.eq(dtype)? => {
                if copy == Some(false) {
                    return Err(PyValueError::new_err("__array__: another dtype needs a copy"));
                }
                array.call_method1("astype", (dtype,))
            }
            _ if copy == Some(true) => array.call_method0("copy"),
            _ => Ok(array),
        }
    }

    /// Before NumPy's arrays, so that `array + tensor` is a tensor.
    #[classattr]
    fn __array_priority__() -> f64 {
        1000.0
    }

    #[classattr]
    fn __array_ufunc__(py: Python<'_>) -> Py<PyAny> {
        py.None()
    }
}

/// A tensor from a NumPy array. The data are copied unless the array is read-only; `copy=False` shares
/// the memory of a writeable one, which must then not be written while the tensor is used.
#[pyfunction]
#[pyo3(signature = (array, *, copy=None))]
fn from_numpy(array: &Bound<'_, PyAny>, copy: Option<bool>) -> Out {
    if !is_array(array)? {
        return Err(PyTypeError::new_err(format!(
            "from_numpy: {} is no NumPy array",
            array.get_type().name()?
        )));
    }
    Ok(PyTensor::new(from_array(array, copy_mode(copy))?.as_own()))
}

pub fn copy_mode(copy: Option<bool>) -> Copy {
    match copy {
        None => Copy::Auto,
        Some(true) => Copy::Always,
        Some(false) => Copy::Never,
    }
}

/// The array API's `asarray`: shares where it can, or says that it cannot.
#[pyfunction]
#[pyo3(signature = (obj, /, *, dtype=None, device=None, copy=None))]
fn asarray(
    obj: &Bound<'_, PyAny>,
    dtype: Option<&Bound<'_, PyAny>>,
    device: Option<&Bound<'_, PyAny>>,
    copy: Option<bool>,
) -> Out {
    let dtype = dtype.map(dtype::extract).transpose()?;
    let found = if let Ok(t) = obj.cast::<PyTensor>() {
        let t = t.get().get();
        if copy == Some(true) { ops::elementwise::copy(&t)? } else { t }
    } else if is_array(obj)? {
        from_array(obj, copy_mode(copy))?
    } else if obj.hasattr("__dlpack__")? {
        super::dlpack::import(obj, copy_mode(copy))?
    } else if copy == Some(false) {
        return Err(PyValueError::new_err(format!("asarray: {} must be copied", obj.get_type().name()?)));
    } else {
        super::convert::tensor(obj, dtype, args::device(device)?)?
    };
    let found = to_device(&found, if device.is_some() { args::device(device)? } else { found.device() })?;
    let cast = ops::cast::cast(&found, dtype.unwrap_or(found.dtype()))?;
    if copy == Some(false) && cast.dtype() != found.dtype() {
        return Err(PyValueError::new_err("asarray: another dtype needs a copy"));
    }
    Ok(PyTensor::new(cast.as_own()))
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(from_numpy, m)?)?;
    m.add_function(wrap_pyfunction!(asarray, m)?)
}

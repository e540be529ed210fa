//! The buffer protocol (PEP 3118): `memoryview(x)`, and whatever else reads memory, sees a tensor's
//! elements where they are. Host memory only, and read-only, since tensors are values.

use super::tensor::{PyTensor, realise};
use crate::core::{DType, Layout};
use crate::graph::{Device, Tensor};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, c_int};

/// What a view points to until it is released.
struct Export {
    tensor: Tensor,
    shape: Vec<isize>,
    strides: Vec<isize>,
}

/// The code of the `struct` module.
fn format(dtype: DType) -> Option<&'static CStr> {
    Some(match dtype {
        DType::Bool => c"?",
        DType::I8 => c"b",
        DType::I16 => c"h",
        DType::I32 => c"i",
        DType::I64 => c"q",
        DType::U8 => c"B",
        DType::U16 => c"H",
        DType::U32 => c"I",
        DType::U64 => c"Q",
        DType::F16 => c"e",
        DType::F32 => c"f",
        DType::F64 => c"d",
        DType::BF16 => return None,
    })
}

/// Whether a reader who asked with these flags can make sense of the layout.
fn suits(layout: &Layout, flags: c_int) -> bool {
    let asks = |flag: c_int| flags & flag == flag;
    let by_columns = || {
        let axes: Vec<usize> = (0..layout.rank()).rev().collect();
        layout.permute(&axes).is_contiguous()
    };
    if asks(ffi::PyBUF_ANY_CONTIGUOUS) {
        return layout.is_contiguous() || by_columns();
    }
    if asks(ffi::PyBUF_F_CONTIGUOUS) {
        return by_columns();
    }
    let any_strides = asks(ffi::PyBUF_STRIDES) && !asks(ffi::PyBUF_C_CONTIGUOUS);
    any_strides || layout.is_contiguous()
}

#[pymethods]
impl PyTensor {
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let tensor = slf.get().get();
        let refuse = |why: &str| Err(PyBufferError::new_err(format!("memoryview: {why}")));
        // SAFETY: Python gives a view to fill; `obj` says whether it was.
        unsafe { (*view).obj = std::ptr::null_mut() };
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return refuse("a tensor's memory is read-only");
        }
        if tensor.requires_grad() {
            return refuse("the tensor requires grad; use `x.detach()`");
        }
        if tensor.device() != Device::Cpu {
            return refuse("the tensor is on another device; use `x.cpu()`");
        }
        let Some(format) = format(tensor.dtype()) else {
            return refuse("there is no code for bfloat16; convert first, as in `x.float()`");
        };
        if !suits(tensor.layout(), flags) {
            return refuse("the elements do not lie side by side; use `x.contiguous()`");
        }
        realise(slf.py(), &tensor)?;
        let size = tensor.dtype().size() as isize;
        let layout = tensor.layout();
        let shape: Vec<isize> = layout.shape.iter().map(|&n| n as isize).collect();
        let strides: Vec<isize> = layout.strides.iter().map(|&s| s * size).collect();
        let data = tensor.host()?.ptr().wrapping_offset(layout.offset as isize * size);
        let (rank, bytes) = (shape.len(), tensor.count() as isize * size);
        let export = Box::into_raw(Box::new(Export { tensor, shape, strides }));
        let asked = |flag: c_int| flags & flag == flag;
        // SAFETY: the export keeps all that the view points to until `__releasebuffer__` takes it back.
        unsafe {
            (*view).buf = data.cast();
            (*view).len = bytes;
            (*view).itemsize = size;
            (*view).readonly = 1;
            (*view).ndim = rank as c_int;
            (*view).format =
                if asked(ffi::PyBUF_FORMAT) { format.as_ptr().cast_mut() } else { std::ptr::null_mut() };
            (*view).shape =
                if asked(ffi::PyBUF_ND) { (*export).shape.as_mut_ptr() } else { std::ptr::null_mut() };
            (*view).strides =
                if asked(ffi::PyBUF_STRIDES) { (*export).strides.as_mut_ptr() } else { std::ptr::null_mut() };
            (*view).suboffsets = std::ptr::null_mut();
            (*view).internal = export.cast();
            (*view).obj = slf.into_any().into_ptr();
        }
        Ok(())
    }

    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: `internal` is the export that `__getbuffer__` made for this view, which is released once.
        let export = unsafe { Box::from_raw((*view).internal.cast::<Export>()) };
        drop(export.tensor);
    }
}

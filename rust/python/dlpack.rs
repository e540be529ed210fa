//! DLPack: tensors to and from other libraries without copies, in both kinds of capsule
//! (dmlc/dlpack, ABI 0 `dltensor` and ABI 1 `dltensor_versioned`). Host memory only.

use super::convert::{Copy, borrowed};
use super::numpy::copy_mode;
use super::tensor::{Out, PyTensor, realise, to_device};
use crate::core::layout::Strides;
use crate::core::{DType, Layout};
use crate::cpu::Memory;
use crate::graph::{Device, Tensor};
use crate::ops;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

const CPU: i32 = 1;
const READ_ONLY: u64 = 1;
const COPIED: u64 = 2;
const PLAIN: &CStr = c"dltensor";
const PLAIN_USED: &CStr = c"used_dltensor";
const VERSIONED: &CStr = c"dltensor_versioned";
const VERSIONED_USED: &CStr = c"used_dltensor_versioned";

#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct Managed {
    tensor: DlTensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
}

#[repr(C)]
struct ManagedVersioned {
    major: u32,
    minor: u32,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut ManagedVersioned)>,
    flags: u64,
    tensor: DlTensor,
}

/// DLPack's type codes: 0 signed, 1 unsigned, 2 float, 4 bfloat, 6 bool.
fn code_of(dtype: DType) -> (u8, u8) {
    let code = match dtype {
        DType::Bool => 6,
        DType::BF16 => 4,
        d if d.is_float() => 2,
        d if d.kind() == crate::core::dtype::Kind::Signed => 0,
        _ => 1,
    };
    (code, dtype.size() as u8 * 8)
}

fn dtype_of(code: u8, bits: u8, lanes: u16) -> PyResult<DType> {
    let found = DType::ALL.iter().copied().find(|&d| code_of(d) == (code, bits) && lanes == 1);
    found.ok_or_else(|| {
        PyBufferError::new_err(format!(
            "from_dlpack: type code {code} of {bits} bits × {lanes} lanes has no dtype of ours"
        ))
    })
}

/// What an exported capsule owns.
struct Export {
    _tensor: Tensor,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

impl Export {
    fn dl_tensor(&mut self, tensor: &Tensor) -> PyResult<DlTensor> {
        let (code, bits) = code_of(tensor.dtype());
        Ok(DlTensor {
            data: tensor.host()?.ptr().cast(),
            device_type: CPU,
            device_id: 0,
            ndim: self.shape.len() as i32,
            code,
            bits,
            lanes: 1,
            shape: self.shape.as_mut_ptr(),
            strides: self.strides.as_mut_ptr(),
            byte_offset: (tensor.layout().offset * tensor.dtype().size()) as u64,
        })
    }
}

unsafe extern "C" fn delete_plain(managed: *mut Managed) {
    // SAFETY: made by `Box::into_raw` below and deleted once.
    unsafe {
        let managed = Box::from_raw(managed);
        drop(Box::from_raw(managed.context.cast::<Export>()));
    }
}

unsafe extern "C" fn delete_versioned(managed: *mut ManagedVersioned) {
    // SAFETY: made by `Box::into_raw` below and deleted once.
    unsafe {
        let managed = Box::from_raw(managed);
        drop(Box::from_raw(managed.context.cast::<Export>()));
    }
}

/// Deletes what a capsule holds if nobody took it.
unsafe extern "C" fn drop_capsule(capsule: *mut ffi::PyObject) {
    // SAFETY: called by Python with a live capsule; a consumer that took the contents renamed it.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, PLAIN.as_ptr()) == 1 {
            let managed = ffi::PyCapsule_GetPointer(capsule, PLAIN.as_ptr()).cast::<Managed>();
            if let Some(deleter) = (*managed).deleter {
                deleter(managed);
            }
        } else if ffi::PyCapsule_IsValid(capsule, VERSIONED.as_ptr()) == 1 {
            let managed = ffi::PyCapsule_GetPointer(capsule, VERSIONED.as_ptr()).cast::<ManagedVersioned>();
            if let Some(deleter) = (*managed).deleter {
                deleter(managed);
            }
        }
    }
}

/// A capsule for a CPU tensor. The versioned kind is read-only and shares memory; the plain kind cannot
/// say read-only, so it holds a copy.
fn export<'py>(
    py: Python<'py>,
    tensor: &Tensor,
    versioned: bool,
    copy: Option<bool>,
) -> PyResult<Bound<'py, PyAny>> {
    let negative = tensor.layout().strides.iter().zip(&tensor.shape()[..]).any(|(&s, &n)| s < 0 && n > 1);
    let copies = copy == Some(true) || !versioned || negative;
    if copies && copy == Some(false) {
        return Err(PyBufferError::new_err(
            "__dlpack__: sharing needs max_version=(1, 0), which can say read-only, and no negative stride",
        ));
    }
    let shared = if copies { ops::elementwise::copy(&tensor.detach())? } else { tensor.detach() };
    realise(py, &shared)?;
    let mut export = Box::new(Export {
        shape: shared.shape().iter().map(|&n| n as i64).collect(),
        strides: shared.layout().strides.iter().map(|&s| s as i64).collect(),
        _tensor: shared.clone(),
    });
    let dl = export.dl_tensor(&shared)?;
    let context = Box::into_raw(export).cast();
    // SAFETY: the pointers are fresh boxes that the deleters take back; the capsule's destructor calls
    // them unless a consumer does.
    unsafe {
        let capsule = if versioned {
            let flags = if copies { COPIED } else { READ_ONLY };
            let managed = ManagedVersioned {
                major: 1,
                minor: 0,
                context,
                deleter: Some(delete_versioned),
                flags,
                tensor: dl,
            };
            ffi::PyCapsule_New(
                Box::into_raw(Box::new(managed)).cast(),
                VERSIONED.as_ptr(),
                Some(drop_capsule),
            )
        } else {
            let managed = Managed { tensor: dl, context, deleter: Some(delete_plain) };
            ffi::PyCapsule_New(Box::into_raw(Box::new(managed)).cast(), PLAIN.as_ptr(), Some(drop_capsule))
        };
        Bound::from_owned_ptr_or_err(py, capsule)
    }
}

/// What was taken from a capsule; dropping it tells the producer.
enum Taken {
    Plain(*mut Managed),
    Versioned(*mut ManagedVersioned),
}

// SAFETY: DLPack's deleters may be called from any thread; those that need the GIL take it.
unsafe impl Send for Taken {}
// SAFETY: nothing is read through it after import.
unsafe impl Sync for Taken {}

impl Drop for Taken {
    fn drop(&mut self) {
        // SAFETY: taken from a capsule that was renamed, so this is the only owner.
        unsafe {
            match *self {
                Taken::Plain(m) => {
                    if let Some(deleter) = (*m).deleter {
                        deleter(m);
                    }
                }
                Taken::Versioned(m) => {
                    if let Some(deleter) = (*m).deleter {
                        deleter(m);
                    }
                }
            }
        }
    }
}

/// A tensor from an object that speaks DLPack.
pub fn import(value: &Bound<'_, PyAny>, copy: Copy) -> PyResult<Tensor> {
    let py = value.py();
    if value.hasattr("__dlpack_device__")? {
        let (kind, _): (i32, i32) = value.call_method0("__dlpack_device__")?.extract()?;
        if kind != CPU {
            return Err(PyBufferError::new_err(format!(
                "from_dlpack: the object is on a device of DLPack kind {kind}; move it to the CPU first"
            )));
        }
    }
    let kwargs = PyDict::new(py);
    kwargs.set_item("max_version", (1, 0))?;
    let capsule = match value.call_method("__dlpack__", (), Some(&kwargs)) {
        // Producers from before version 1 know no keywords.
        Err(error) if error.is_instance_of::<PyTypeError>(py) => value.call_method0("__dlpack__")?,
        other => other?,
    };
    // SAFETY: names and pointers are checked; the capsule is renamed as the protocol demands, which
    // makes us the owner of its contents.
    let (taken, dl, read_only) = unsafe {
        let raw = capsule.as_ptr();
        if ffi::PyCapsule_IsValid(raw, VERSIONED.as_ptr()) == 1 {
            let m = ffi::PyCapsule_GetPointer(raw, VERSIONED.as_ptr()).cast::<ManagedVersioned>();
            if (*m).major > 1 {
                return Err(PyBufferError::new_err(format!(
                    "from_dlpack: version {}.{} is not known",
                    (*m).major,
                    (*m).minor
                )));
            }
            ffi::PyCapsule_SetName(raw, VERSIONED_USED.as_ptr());
            (Taken::Versioned(m), &(*m).tensor, (*m).flags & READ_ONLY != 0)
        } else if ffi::PyCapsule_IsValid(raw, PLAIN.as_ptr()) == 1 {
            let m = ffi::PyCapsule_GetPointer(raw, PLAIN.as_ptr()).cast::<Managed>();
            ffi::PyCapsule_SetName(raw, PLAIN_USED.as_ptr());
            (Taken::Plain(m), &(*m).tensor, false)
        } else {
            return Err(PyBufferError::new_err("from_dlpack: __dlpack__ gave no capsule that can be used"));
        }
    };
    let dtype = dtype_of(dl.code, dl.bits, dl.lanes)?;
    let rank = usize::try_from(dl.ndim).unwrap_or(usize::MAX);
    if rank > crate::core::layout::MAX_RANK || dl.device_type != CPU {
        return Err(PyBufferError::new_err(format!(
            "from_dlpack: {rank} axes on device kind {}",
            dl.device_type
        )));
    }
    // SAFETY: DLPack says that shape, and strides unless null, have `ndim` entries.
    let (sizes, strides) = unsafe {
        let sizes = if rank == 0 { &[][..] } else { std::slice::from_raw_parts(dl.shape, rank) };
        let strides = if dl.strides.is_null() || rank == 0 {
            None
        } else {
            Some(std::slice::from_raw_parts(dl.strides, rank))
        };
        (sizes, strides)
    };
    let shape = super::args::shape("from_dlpack", sizes)?;
    let strides: Strides = match strides {
        Some(strides) => strides.iter().map(|&s| s as isize).collect(),
        None => shape.strides(),
    };
    if shape.count() == 0 {
        return Ok(ops::create::zeros(&shape, dtype, Device::Cpu)?);
    }
    let size = dtype.size() as isize;
    let below: isize = shape.iter().zip(&strides).map(|(&n, &s)| (n as isize - 1) * s.min(0)).sum();
    let above: isize = shape.iter().zip(&strides).map(|(&n, &s)| (n as isize - 1) * s.max(0)).sum();
    let start = dl.data.cast::<u8>().wrapping_add(dl.byte_offset as usize).wrapping_offset(below * size);
    let Some(start) = NonNull::new(start) else { return Err(PyBufferError::new_err("from_dlpack: no data")) };
    if !(start.as_ptr() as usize).is_multiple_of(dtype.size()) {
        return Err(PyBufferError::new_err("from_dlpack: the elements are not aligned"));
    }
    // SAFETY: the producer vouches for the range and keeps it until its deleter is called.
    let memory = unsafe { Memory::borrow(start, ((above - below + 1) * size) as usize, Box::new(taken)) };
    let tensor = borrowed(memory, Layout { shape, strides, offset: (-below) as usize }, dtype);
    let shares = copy == Copy::Never || (copy == Copy::Auto && read_only);
    if shares {
        return Ok(tensor);
    }
    let copied = ops::elementwise::copy(&tensor)?;
    realise(py, &copied)?;
    Ok(copied)
}

#[pymethods]
impl PyTensor {
    /// A DLPack capsule of this tensor, for `from_dlpack` of another library.
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<&Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = stream;
        let t = self.get();
        if t.requires_grad() {
            return Err(PyBufferError::new_err("__dlpack__: the tensor requires grad; use `x.detach()`"));
        }
        if dl_device.is_some_and(|(kind, _)| kind != CPU) {
            return Err(PyBufferError::new_err("__dlpack__: only host memory can be exported"));
        }
        if t.device() != Device::Cpu && copy == Some(false) {
            return Err(PyBufferError::new_err("__dlpack__: a tensor on another device must be copied"));
        }
        let versioned = max_version.is_some_and(|(major, _)| major >= 1);
        export(py, &to_device(&t, Device::Cpu)?, versioned, copy)
    }

    /// Where `__dlpack__` would find the memory: `(1, 0)`, the host.
    fn __dlpack_device__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, [CPU, 0])
    }
}

/// A tensor from an object of another library that speaks DLPack. The data are copied unless the
/// producer says that they are read-only; `copy=False` shares them in any case.
#[pyfunction]
#[pyo3(signature = (x, /, *, device=None, copy=None))]
fn from_dlpack(x: &Bound<'_, PyAny>, device: Option<&Bound<'_, PyAny>>, copy: Option<bool>) -> Out {
    if !x.hasattr("__dlpack__")? {
        return Err(PyTypeError::new_err(format!(
            "from_dlpack: {} does not speak DLPack",
            x.get_type().name()?
        )));
    }
    let tensor = import(x, copy_mode(copy))?;
    let device = if device.is_some() { super::args::device(device)? } else { Device::Cpu };
    Ok(PyTensor::new(to_device(&tensor, device)?.as_own()))
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(from_dlpack, m)?)
}

//! The class `Tensor`: a handle on a slot that holds a value. Operators, attributes, and the methods
//! that put another value into the slot. What computes lives in `table`, `methods` and `functions`.

use super::{args, convert, dtype};
use crate::bail;
use crate::core::{DType, Error, Result, Scalar};
use crate::graph::record::{Edge, Leaf, Slot, grad_enabled};
use crate::graph::{Device, Tensor};
use crate::ops::{self, elementwise};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use std::sync::Arc;

/// A tensor: an array of numbers of one dtype on one device, which remembers how it was made so that
/// gradients can be taken. Tensors are values: a method that ends in `_` puts a new value into this
/// handle and changes no other tensor.
#[pyclass(name = "Tensor", module = "oxon", frozen, subclass, weakref, dict)]
pub struct PyTensor {
    slot: Arc<Slot>,
    /// `p.data`: sees the slot of `p` without its history.
    detached: bool,
}

impl PyTensor {
    pub fn new(tensor: Tensor) -> PyTensor {
        PyTensor { slot: Slot::new(tensor), detached: false }
    }

    /// A handle on a slot that others see too.
    pub fn on(slot: Arc<Slot>) -> PyTensor {
        PyTensor { slot, detached: false }
    }

    /// The value now.
    pub fn get(&self) -> Tensor {
        let tensor = self.slot.get();
        if self.detached { tensor.detach() } else { tensor }
    }

    /// Puts another value of the same shape and dtype here, as in-place methods do.
    pub fn put(&self, op: &str, value: Tensor) -> Result<()> {
        let old = self.get();
        if old.is_view() {
            bail!(
                Value,
                "{op}: this tensor is a view, and tensors are values: writing into it would change nothing \
                 else; write `x[index] = value` into the tensor that it shows, or take a copy of its own \
                 first, `x = x.clone()`"
            );
        }
        if old.shape() != value.shape() {
            bail!(Shape, "{op}: the result of {} does not fit a tensor of {}", value.shape(), old.shape());
        }
        let is_leaf = matches!(old.edge(), Edge::Leaf(_));
        if is_leaf && grad_enabled() {
            bail!(
                Grad,
                "{op}: in place on a leaf that requires grad; wrap it in `with oxon.no_grad():`, as optimizers do"
            );
        }
        let value = ops::cast::cast(&value, old.dtype())?.as_own();
        self.slot.set(if self.detached || is_leaf {
            // The slot keeps its place in the record; only the value changes.
            value.with_edge(self.slot.get().edge().clone())
        } else {
            value
        });
        Ok(())
    }

    /// The leaf where gradients accumulate, if this is one.
    fn leaf(&self) -> Option<Arc<Leaf>> {
        match self.get().edge() {
            Edge::Leaf(leaf) => Some(leaf.clone()),
            _ => None,
        }
    }
}

impl From<Tensor> for PyTensor {
    fn from(tensor: Tensor) -> PyTensor {
        PyTensor::new(tensor)
    }
}

/// What a method that computes gives back.
pub type Out = PyResult<PyTensor>;

/// Wraps the value of an operation.
pub fn out(result: Result<Tensor>) -> Out {
    Ok(PyTensor::new(result?))
}

/// Makes a leaf of a value: gradients of what is computed from it will accumulate.
pub fn as_leaf(tensor: &Tensor) -> Result<Tensor> {
    if !tensor.dtype().is_float() {
        bail!(
            DType,
            "requires_grad: only floating-point tensors can require gradients, not {}",
            tensor.dtype()
        );
    }
    Ok(tensor.as_own().with_edge(Edge::Leaf(Arc::default())))
}

#[pymethods]
impl PyTensor {
    #[new]
    #[pyo3(signature = (data, *, dtype=None, device=None, requires_grad=false))]
    fn __new__(
        data: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
        device: Option<&Bound<'_, PyAny>>,
        requires_grad: bool,
    ) -> Out {
        let dtype = dtype.map(dtype::extract).transpose()?;
        let tensor = match data.cast::<PyTensor>() {
            Ok(t) => {
                let t = t.get().get().detach();
                let t = ops::cast::cast(&t, dtype.unwrap_or(t.dtype()))?;
                if device.is_some() { to_device(&t, args::device(device)?)? } else { t }
            }
            Err(_) => convert::tensor(data, dtype, args::device(device)?)?,
        };
        Ok(PyTensor::new(if requires_grad { as_leaf(&tensor)? } else { tensor.as_own() }))
    }

    #[classmethod]
    fn __class_getitem__<'py>(cls: &Bound<'py, PyType>, _item: &Bound<'py, PyAny>) -> Bound<'py, PyType> {
        cls.clone()
    }

    /// The sizes of the axes, as a tuple.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.get().shape().iter())
    }

    /// The sizes of all axes, or of one.
    #[pyo3(signature = (dim=None))]
    fn size<'py>(&self, py: Python<'py>, dim: Option<i64>) -> PyResult<Bound<'py, PyAny>> {
        let t = self.get();
        match dim {
            None => Ok(PyTuple::new(py, t.shape().iter())?.into_any()),
            Some(dim) => {
                let axis = args::one_axis("size", dim, t.rank())?;
                Ok(t.shape()[axis].into_pyobject(py)?.into_any())
            }
        }
    }

    /// The dtype, as `oxon.float32`.
    #[getter]
    fn dtype(&self, py: Python<'_>) -> Py<dtype::PyDType> {
        dtype::object(py, self.get().dtype())
    }

    /// The name of the device that holds the elements: `"cpu"`, `"gpu"`, `"gpu:1"`, or `"gpu:"` and a name.
    #[getter]
    fn device(&self) -> String {
        self.get().device().to_string()
    }

    /// The number of axes.
    #[getter]
    fn ndim(&self) -> usize {
        self.get().rank()
    }

    /// The number of axes.
    fn dim(&self) -> usize {
        self.get().rank()
    }

    /// The number of elements.
    fn numel(&self) -> usize {
        self.get().count()
    }

    /// Bytes an element takes.
    #[getter]
    fn itemsize(&self) -> usize {
        self.get().dtype().size()
    }

    /// Bytes all elements take.
    #[getter]
    fn nbytes(&self) -> usize {
        self.get().dtype().size() * self.get().count()
    }

    /// Elements between neighbours along each axis.
    fn stride(&self) -> Vec<isize> {
        self.get().layout().strides.to_vec()
    }

    /// Whether the elements lie in row-major order without gaps.
    fn is_contiguous(&self) -> bool {
        self.get().is_contiguous()
    }

    /// Whether the dtype is a floating-point one.
    fn is_floating_point(&self) -> bool {
        self.get().dtype().is_float()
    }

    /// Whether operations on this tensor are recorded.
    #[getter]
    fn requires_grad(&self) -> bool {
        !self.detached && self.get().requires_grad()
    }

    #[setter]
    fn set_requires_grad(&self, on: bool) -> PyResult<()> {
        let t = self.get();
        match (t.edge(), on) {
            (Edge::None, true) => self.slot.set(as_leaf(&t)?),
            (Edge::Leaf(_), false) => self.slot.set(t.detach()),
            (Edge::Fn(..), false) => {
                return Err(Error::Grad(
                    "requires_grad: only leaves can stop requiring grad; use `detach()`".into(),
                )
                .into());
            }
            _ => {}
        }
        Ok(())
    }

    /// Makes this tensor a leaf whose gradients accumulate (or no longer) and gives it back.
    #[pyo3(signature = (requires_grad=true))]
    fn requires_grad_<'py>(slf: &Bound<'py, Self>, requires_grad: bool) -> PyResult<Bound<'py, Self>> {
        slf.get().set_requires_grad(requires_grad)?;
        Ok(slf.clone())
    }

    /// Whether this tensor was made by the user rather than by a recorded operation.
    #[getter]
    fn is_leaf(&self) -> bool {
        !matches!(self.get().edge(), Edge::Fn(..))
    }

    /// The name of the operation that made this tensor, or `None` for leaves.
    #[getter]
    fn grad_fn(&self) -> Option<&'static str> {
        match self.get().edge() {
            Edge::Fn(call, _) => Some(call.name),
            _ => None,
        }
    }

    /// The gradient that backward passes have accumulated here, or `None`.
    #[getter]
    fn grad(&self) -> Option<PyTensor> {
        let leaf = self.leaf()?;
        let slot = leaf.grad.lock().clone();
        slot.map(PyTensor::on)
    }

    #[setter]
    fn set_grad(&self, value: Option<&Bound<'_, PyTensor>>) -> PyResult<()> {
        let Some(leaf) = self.leaf() else {
            if value.is_none() {
                return Ok(());
            }
            return Err(Error::Grad("grad: only a leaf that requires grad has one".into()).into());
        };
        if let Some(value) = value {
            let (have, want) = (value.get().get(), self.get());
            if have.shape() != want.shape() {
                return Err(
                    Error::Shape(format!("grad: {} for a tensor of {}", have.shape(), want.shape())).into()
                );
            }
            if !have.dtype().is_float() {
                return Err(
                    Error::DType(format!("grad: {} for a tensor of {}", have.dtype(), want.dtype())).into()
                );
            }
        }
        *leaf.grad.lock() = value.map(|v| v.get().slot.clone());
        Ok(())
    }

    /// The value without history; assigning to it puts another value into this handle.
    #[getter]
    fn data(&self) -> PyTensor {
        PyTensor { slot: self.slot.clone(), detached: true }
    }

    #[setter]
    fn set_data(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let value = args::tensor("data", value)?;
        let old = self.slot.get();
        let edge = old.edge().clone();
        if edge.is_some() && !value.dtype().is_float() {
            return Err(
                Error::DType(format!("data: {} for a tensor that requires grad", value.dtype())).into()
            );
        }
        if matches!(edge, Edge::Fn(..)) && (value.shape() != old.shape() || value.dtype() != old.dtype()) {
            return Err(Error::Shape(format!(
                "data: {} of {} for the result of an operation, {} of {}",
                value.shape(),
                value.dtype(),
                old.shape(),
                old.dtype()
            ))
            .into());
        }
        self.slot.set(value.detach().as_own().with_edge(edge));
        Ok(())
    }

    /// The same value without history.
    fn detach(&self) -> PyTensor {
        PyTensor::new(self.get().detach())
    }

    /// Puts the value of `other` into this handle, cast and broadcast to what this is.
    fn copy_<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let own = slf.get().get();
        let other = args::tensor("copy_", other)?;
        // Cast where it lies, since the CPU alone has every dtype.
        let other = if other.device() == Device::Cpu { ops::cast::cast(&other, own.dtype())? } else { other };
        let other = to_device(&other, own.device())?;
        let value = ops::view::expand(&other, own.shape())?;
        slf.get().put("copy_", value)?;
        Ok(slf.clone())
    }

    /// Fills this handle with a number.
    fn fill_<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let own = slf.get().get();
        let Some(value) = args::scalar(value)? else {
            return Err(PyTypeError::new_err("fill_: expected a number"));
        };
        let value = ops::create::full(own.shape(), value, own.dtype(), own.device())?;
        slf.get().put("fill_", value)?;
        Ok(slf.clone())
    }

    /// Fills this handle with zeros.
    fn zero_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let value = ops::create::zeros_like(&slf.get().get())?;
        slf.get().put("zero_", value)?;
        Ok(slf.clone())
    }

    /// Whether in-place methods refuse this tensor because it shows a part of another.
    #[getter]
    fn is_view(&self) -> bool {
        self.get().is_view()
    }

    /// A tensor of its own with the same elements.
    fn clone(&self) -> Out {
        out(elementwise::copy(&self.get()))
    }

    fn __copy__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        rewrap(slf, slf.get().get())
    }

    fn __deepcopy__<'py>(slf: &Bound<'py, Self>, memo: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
        let t = slf.get().get();
        if matches!(t.edge(), Edge::Fn(..)) {
            return Err(
                Error::Grad("deepcopy: only leaves can be copied; use `x.detach().clone()`".into()).into()
            );
        }
        let fresh = if t.requires_grad() { as_leaf(&t)? } else { t.as_own() };
        let copy = rewrap(slf, fresh)?;
        memo.set_item(slf.as_ptr() as usize, &copy)?;
        Ok(copy)
    }

    /// This tensor with elements of another dtype, on another device, or both.
    #[pyo3(signature = (*args, dtype=None, device=None, copy=false))]
    fn to<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        dtype: Option<&Bound<'py, PyAny>>,
        device: Option<&Bound<'py, PyAny>>,
        copy: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let t = slf.get().get();
        let mut to_dtype = dtype.map(dtype::extract).transpose()?;
        let mut device = device.map(|d| args::device(Some(d))).transpose()?;
        for arg in args {
            if let Ok(other) = arg.cast::<PyTensor>() {
                to_dtype = Some(other.get().get().dtype());
                device = Some(other.get().get().device());
            } else if let Ok(name) = arg.extract::<String>()
                && DType::parse(&name).is_none()
            {
                device = Some(super::device::parse(arg.py(), &name)?);
            } else {
                to_dtype = Some(dtype::extract(&arg)?);
            }
        }
        let (device, dtype) = (device.unwrap_or(t.device()), to_dtype.unwrap_or(t.dtype()));
        // Cast on the CPU if one of the two is, since it alone has every dtype.
        let cast = if t.device() == Device::Cpu {
            to_device(&ops::cast::cast(&t, dtype)?, device)?
        } else {
            ops::cast::cast(&to_device(&t, device)?, dtype)?
        };
        let same = cast.dtype() == t.dtype() && cast.device() == t.device();
        if same && !copy {
            return Ok(slf.clone().into_any());
        }
        let result = if same { elementwise::copy(&t)? } else { cast };
        Ok(PyTensor::new(result).into_pyobject(slf.py())?.into_any())
    }

    /// This tensor on the CPU.
    fn cpu<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if slf.get().get().device() == Device::Cpu {
            return Ok(slf.clone().into_any());
        }
        let moved = to_device(&slf.get().get(), Device::Cpu)?;
        Ok(PyTensor::new(moved).into_pyobject(slf.py())?.into_any())
    }

    /// The one element as a Python number.
    fn item<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let t = self.get();
        if t.count() != 1 {
            return Err(PyValueError::new_err(format!(
                "item: a tensor of shape {} has {} elements; index one, or use `tolist()`",
                t.shape(),
                t.count()
            )));
        }
        number(py, element(py, &t)?)
    }

    fn __bool__(&self, py: Python<'_>) -> PyResult<bool> {
        let t = self.get();
        if t.count() != 1 {
            return Err(PyValueError::new_err(format!(
                "bool: a tensor of shape {} has no one truth value; use `any()` or `all()`",
                t.shape()
            )));
        }
        Ok(match element(py, &t)? {
            Scalar::Bool(b) => b,
            other => other.as_f64() != 0.0,
        })
    }

    fn __float__(&self, py: Python<'_>) -> PyResult<f64> {
        let t = self.single("float")?;
        Ok(element(py, &t)?.as_f64())
    }

    fn __int__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let t = self.single("int")?;
        let value = number(py, element(py, &t)?)?;
        py.get_type::<pyo3::types::PyInt>().call1((value,))
    }

    fn __complex__(&self, py: Python<'_>) -> PyResult<pyo3::Py<PyAny>> {
        let value = self.__float__(py)?;
        Ok(py.get_type::<pyo3::types::PyComplex>().call1((value,))?.unbind())
    }

    fn __index__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let t = self.single("index")?;
        if !t.dtype().is_int() {
            return Err(PyTypeError::new_err(format!("index: a tensor of {} is no integer", t.dtype())));
        }
        number(py, element(py, &t)?)
    }

    /// A tensor of no axes as its number, so that `f"{loss:.3f}"` works; others only as their repr.
    fn __format__<'py>(slf: &Bound<'py, Self>, spec: &str) -> PyResult<Bound<'py, PyAny>> {
        let (py, t) = (slf.py(), slf.get().get());
        if t.rank() == 0 {
            return number(py, element(py, &t)?)?.call_method1("__format__", (spec,));
        }
        if spec.is_empty() {
            return Ok(slf.str()?.into_any());
        }
        Err(PyTypeError::new_err(format!(
            "format: {spec:?} is for one number, and the tensor has the shape {}; index one, or use `item()`",
            t.shape()
        )))
    }

    fn __len__(&self) -> PyResult<usize> {
        match self.get().shape().first() {
            Some(&n) => Ok(n),
            None => Err(PyTypeError::new_err("len: a 0-d tensor has no length")),
        }
    }

    fn __hash__(slf: &Bound<'_, Self>) -> isize {
        slf.as_ptr() as isize >> 4
    }

    fn __getitem__(&self, index: &Bound<'_, PyAny>) -> Out {
        super::index::get(&self.get(), index).map(PyTensor::new)
    }

    fn __setitem__(&self, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let value = super::index::set(&self.get(), index, value)?;
        Ok(self.put("x[index] = value", value)?)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let name = slf.get_type().name()?.to_string();
        super::text::repr(slf.py(), &slf.get().get(), &name)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        convert::reduce(slf)
    }
}

impl PyTensor {
    fn single(&self, op: &str) -> PyResult<Tensor> {
        let t = self.get();
        if t.count() != 1 {
            return Err(PyTypeError::new_err(format!(
                "{op}: a tensor of shape {} is not one number",
                t.shape()
            )));
        }
        Ok(t)
    }

    /// The slot itself, for those who share it.
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }
}

/// Another handle of the same Python class.
fn rewrap<'py>(like: &Bound<'py, PyTensor>, tensor: Tensor) -> PyResult<Bound<'py, PyAny>> {
    let py = like.py();
    let plain = Bound::new(py, PyTensor::new(tensor))?;
    if like.get_type().is(py.get_type::<PyTensor>()) {
        return Ok(plain.into_any());
    }
    like.get_type().call1((plain, like.get().requires_grad()))
}

/// Runs what a tensor needs, without holding up other Python threads.
pub fn realise(py: Python<'_>, tensor: &Tensor) -> PyResult<()> {
    if tensor.value().ready().is_none() && !tensor.realise_small() {
        py.detach(|| tensor.realise().map(drop))?;
    }
    tensor.realise()?;
    Ok(())
}

/// The one element of a tensor that has exactly one.
pub fn element(py: Python<'_>, tensor: &Tensor) -> PyResult<Scalar> {
    realise(py, tensor)?;
    let bytes = match tensor.device() {
        Device::Cpu => tensor.element_bytes()?,
        _ => py.detach(|| tensor.element_bytes())?,
    };
    Ok(convert::scalar_from(tensor.dtype(), bytes))
}

/// A scalar as Python's own type.
pub fn number(py: Python<'_>, scalar: Scalar) -> PyResult<Bound<'_, PyAny>> {
    Ok(match scalar {
        Scalar::Bool(b) => pyo3::types::PyBool::new(py, b).to_owned().into_any(),
        Scalar::Int(i) => i.into_pyobject(py)?.into_any(),
        Scalar::Uint(u) => u.into_pyobject(py)?.into_any(),
        Scalar::Float(f) => f.into_pyobject(py)?.into_any(),
    })
}

/// A tensor on a device, copied there if it is elsewhere.
pub fn to_device(tensor: &Tensor, device: Device) -> Result<Tensor> {
    ops::transfer::to_device(tensor, device)
}

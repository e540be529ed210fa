//! Choosing, sorting, joining and rearranging, as methods and functions.

use super::args;
use super::tensor::{Out, PyTensor, out};
use crate::core::{DType, Scalar};
use crate::graph::{Device, Tensor};
use crate::ir::kernel::Scatter;
use crate::ops::{self, advanced, index, rearrange, search, shapes, sort};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

type T<'a, 'py> = &'a Bound<'py, PyTensor>;
type Any<'a, 'py> = Option<&'a Bound<'py, PyAny>>;
type Pair<'py> = PyResult<Bound<'py, PyAny>>;
type Many = PyResult<Vec<PyTensor>>;

pub fn value(t: T<'_, '_>) -> Tensor {
    t.get().get()
}

pub fn many(found: Vec<Tensor>) -> Vec<PyTensor> {
    found.into_iter().map(PyTensor::new).collect()
}

/// The named tuple of what was found and where.
static VALUES_INDICES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

fn pair(py: Python<'_>, (values, indices): (Tensor, Tensor)) -> Pair<'_> {
    let (values, indices) = (PyTensor::new(values), PyTensor::new(indices));
    match VALUES_INDICES.get(py) {
        Some(named) => named.bind(py).call1((values, indices)),
        None => Ok((values, indices).into_pyobject(py)?.into_any()),
    }
}

/// Both without an axis of size 1.
fn without(py: Python<'_>, axis: usize, (a, b): (Tensor, Tensor)) -> Pair<'_> {
    pair(py, (ops::view::squeeze(&a, &[axis])?, ops::view::squeeze(&b, &[axis])?))
}

pub fn count(op: &str, n: i64) -> PyResult<usize> {
    usize::try_from(n).map_err(|_| PyValueError::new_err(format!("{op}: {n} is negative")))
}

#[pymethods]
impl PyTensor {
    /// Values in order along `dim`, and the indices that give it. Stable; NaN comes last when ascending.
    #[pyo3(signature = (dim=-1, descending=false))]
    fn sort<'py>(&self, py: Python<'py>, dim: i64, descending: bool) -> Pair<'py> {
        let x = self.get();
        pair(py, sort::sort(&x, args::one_axis("sort", dim, x.rank())?, descending)?)
    }

    /// The indices that sort along `dim`. Stable.
    #[pyo3(signature = (dim=-1, descending=false))]
    fn argsort(&self, dim: i64, descending: bool) -> Out {
        let x = self.get();
        out(sort::argsort(&x, args::one_axis("argsort", dim, x.rank())?, descending))
    }

    /// The k largest (or smallest) elements along `dim`, in order, and their indices.
    #[pyo3(signature = (k, dim=-1, largest=true))]
    fn topk<'py>(&self, py: Python<'py>, k: i64, dim: i64, largest: bool) -> Pair<'py> {
        let x = self.get();
        pair(py, sort::topk(&x, count("topk", k)?, args::one_axis("topk", dim, x.rank())?, largest)?)
    }

    /// The k-th smallest element along `dim`, counted from 1, and its index.
    #[pyo3(signature = (k, dim=-1))]
    fn kthvalue<'py>(&self, py: Python<'py>, k: i64, dim: i64) -> Pair<'py> {
        let x = self.get();
        let axis = args::one_axis("kthvalue", dim, x.rank())?;
        without(py, axis, sort::kthvalue(&x, count("kthvalue", k)?, axis)?)
    }

    /// The median of all elements, or with `dim` the medians along it and their indices; the lower of two.
    #[pyo3(signature = (dim=None))]
    fn median<'py>(&self, py: Python<'py>, dim: Option<i64>) -> PyResult<Bound<'py, PyAny>> {
        let x = self.get();
        match dim {
            None => {
                let flat = ops::view::reshape(&x, &crate::core::Shape::new(&[x.count()]))?;
                let (found, _) = sort::median(&flat, 0)?;
                Ok(PyTensor::new(ops::view::squeeze(&found, &[0])?.as_own()).into_pyobject(py)?.into_any())
            }
            Some(dim) => {
                let axis = args::one_axis("median", dim, x.rank())?;
                without(py, axis, sort::median(&x, axis)?)
            }
        }
    }

    /// The largest elements: of all, or along `dim` with their indices, or of two tensors (`maximum`).
    #[pyo3(signature = (dim=None, keepdim=false))]
    fn max<'py>(slf: &Bound<'py, Self>, dim: Any<'_, 'py>, keepdim: bool) -> PyResult<Bound<'py, PyAny>> {
        extreme(slf, dim, keepdim, true)
    }

    /// The smallest elements: of all, or along `dim` with their indices, or of two tensors (`minimum`).
    #[pyo3(signature = (dim=None, keepdim=false))]
    fn min<'py>(slf: &Bound<'py, Self>, dim: Any<'_, 'py>, keepdim: bool) -> PyResult<Bound<'py, PyAny>> {
        extreme(slf, dim, keepdim, false)
    }

    /// `out[i][j] = x[index[i][j]][j]` for `dim=0`, and likewise along other axes.
    fn gather(&self, dim: i64, index: T<'_, '_>) -> Out {
        let x = self.get();
        out(index::gather(&x, args::one_axis("gather", dim, x.rank())?, &value(index)))
    }

    /// Slices along `dim` by a vector of indices.
    fn index_select(&self, dim: i64, index: T<'_, '_>) -> Out {
        let x = self.get();
        out(index::take(&x, &value(index), args::one_axis("index_select", dim, x.rank())?))
    }

    /// `x[…, index, …]` along an axis: the axis is replaced by those of the index.
    #[pyo3(signature = (index, dim=None))]
    fn take(&self, index: T<'_, '_>, dim: Option<i64>) -> Out {
        let x = self.get();
        match dim {
            Some(dim) => out(index::take(&x, &value(index), args::one_axis("take", dim, x.rank())?)),
            None => {
                let flat = ops::view::reshape(&x, &crate::core::Shape::new(&[x.count()]))?;
                out(index::take(&flat, &value(index), 0))
            }
        }
    }

    /// This tensor with `out[index[i][j]][j] = src[i][j]` for `dim=0`, and likewise along other axes.
    fn scatter(&self, dim: i64, index: T<'_, '_>, src: &Bound<'_, PyAny>) -> Out {
        self.scattered("scatter", dim, index, src, Scatter::Set)
    }

    /// The same with values added; those at one place add up in order.
    fn scatter_add(&self, dim: i64, index: T<'_, '_>, src: &Bound<'_, PyAny>) -> Out {
        self.scattered("scatter_add", dim, index, src, Scatter::Add)
    }

    /// The tensors along the first axis, one after another.
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let x = self.get();
        if x.rank() == 0 {
            return Err(PyTypeError::new_err("iter: a 0-d tensor has no elements to go through"));
        }
        let items = pyo3::types::PyList::new(py, many(shapes::unbind(&x, 0)?))?;
        Ok(items.try_iter()?.into_any())
    }

    /// The places of elements that are not zero, (count, ndim) in int64. Observes the tensor.
    fn nonzero(&self) -> Out {
        out(advanced::nonzero(&self.get()))
    }

    /// The elements where a mask is true, as a vector. Observes the mask.
    fn masked_select(&self, mask: T<'_, '_>) -> Out {
        out(advanced::masked_select(&self.get(), &value(mask)))
    }

    /// This tensor with a number where a mask is true.
    fn masked_fill(&self, mask: T<'_, '_>, value: &Bound<'_, PyAny>) -> Out {
        let number = args::required("masked_fill", value)?;
        out(advanced::masked_fill(&self.get(), &mask.get().get(), &number))
    }

    /// The elements of axes in reverse order.
    #[pyo3(signature = (dims=None))]
    fn flip(&self, dims: Any<'_, '_>) -> Out {
        let x = self.get();
        out(rearrange::flip(&x, &args::axes_or_all("flip", dims, x.rank())?))
    }

    /// The elements shifted along axes; those that leave one end come in at the other.
    #[pyo3(signature = (shifts, dims=None))]
    fn roll(&self, shifts: &Bound<'_, PyAny>, dims: Any<'_, '_>) -> Out {
        let x = self.get();
        let shifts = args::integers("roll", shifts)?;
        match dims {
            Some(dims) => {
                let axes = args::axes_or_all("roll", Some(dims), x.rank())?;
                let shifts = if shifts.len() == 1 { vec![shifts[0]; axes.len()] } else { shifts.to_vec() };
                out(rearrange::roll(&x, &shifts, &axes))
            }
            None => {
                let flat = ops::view::reshape(&x, &crate::core::Shape::new(&[x.count()]))?;
                out(ops::view::reshape(&rearrange::roll(&flat, &shifts, &[0])?, x.shape()))
            }
        }
    }

    /// The tensor repeated along its axes, `repeat(2, 1)`.
    #[pyo3(signature = (*reps))]
    fn repeat(&self, reps: &Bound<'_, PyTuple>) -> Out {
        self.tiled("repeat", reps)
    }

    /// The same as `repeat`.
    #[pyo3(signature = (*reps))]
    fn tile(&self, reps: &Bound<'_, PyTuple>) -> Out {
        self.tiled("tile", reps)
    }

    /// Each element along `dim` (of all, flattened, without it) repeated in its place.
    #[pyo3(signature = (repeats, dim=None))]
    fn repeat_interleave(&self, repeats: &Bound<'_, PyAny>, dim: Option<i64>) -> Out {
        let x = self.get();
        let (x, axis) = match dim {
            Some(dim) => (x.clone(), args::one_axis("repeat_interleave", dim, x.rank())?),
            None => (ops::view::reshape(&x, &crate::core::Shape::new(&[x.count()]))?, 0),
        };
        match args::scalar(repeats)? {
            Some(Scalar::Int(n)) => {
                out(rearrange::repeat_interleave(&x, count("repeat_interleave", n)?, axis))
            }
            Some(_) => Err(PyTypeError::new_err("repeat_interleave: repeats must be an integer or a tensor")),
            None => out(rearrange::repeat_each(&x, &args::tensor("repeat_interleave", repeats)?, axis)),
        }
    }

    /// The lower triangle of the last two axes, zeros above the k-th diagonal.
    #[pyo3(signature = (diagonal=0))]
    fn tril(&self, diagonal: i64) -> Out {
        out(rearrange::tril(&self.get(), diagonal))
    }

    /// The upper triangle of the last two axes, zeros below the k-th diagonal.
    #[pyo3(signature = (diagonal=0))]
    fn triu(&self, diagonal: i64) -> Out {
        out(rearrange::triu(&self.get(), diagonal))
    }

    /// The diagonal over two axes, as a last axis.
    #[pyo3(signature = (offset=0, dim1=0, dim2=1))]
    fn diagonal(&self, offset: i64, dim1: i64, dim2: i64) -> Out {
        let x = self.get();
        let axes = (args::one_axis("diagonal", dim1, x.rank())?, args::one_axis("diagonal", dim2, x.rank())?);
        out(rearrange::diagonal(&x, offset, axes.0, axes.1))
    }

    /// A matrix with this vector on a diagonal, or the diagonal of this matrix.
    #[pyo3(signature = (diagonal=0))]
    fn diag(&self, diagonal: i64) -> Out {
        out(rearrange::diag(&self.get(), diagonal))
    }

    /// The sum of the main diagonal of a matrix.
    fn trace(&self) -> Out {
        out(rearrange::trace(&self.get(), 0, 0, 1))
    }

    /// Views of `split_size` elements (or of each of the sizes in a list) along `dim`.
    #[pyo3(signature = (split_size, dim=0))]
    fn split(&self, split_size: &Bound<'_, PyAny>, dim: i64) -> Many {
        let x = self.get();
        let axis = args::one_axis("split", dim, x.rank())?;
        if let Some(Scalar::Int(size)) = args::scalar(split_size)? {
            return Ok(many(shapes::split_every(&x, count("split", size)?, axis)?));
        }
        let sizes = args::integers("split", split_size)?;
        let sizes: Vec<usize> = sizes.iter().map(|&s| count("split", s)).collect::<PyResult<_>>()?;
        Ok(many(shapes::split(&x, &sizes, axis)?))
    }

    /// At most `chunks` views of equal size along `dim`; the last may be smaller.
    #[pyo3(signature = (chunks, dim=0))]
    fn chunk(&self, chunks: i64, dim: i64) -> Many {
        let x = self.get();
        Ok(many(shapes::chunk(&x, count("chunk", chunks)?, args::one_axis("chunk", dim, x.rank())?)?))
    }

    /// Views without `dim`, one for each index.
    #[pyo3(signature = (dim=0))]
    fn unbind(&self, dim: i64) -> Many {
        let x = self.get();
        Ok(many(shapes::unbind(&x, args::one_axis("unbind", dim, x.rank())?)?))
    }

    /// Axes moved to other places, the rest in order.
    fn movedim(&self, source: &Bound<'_, PyAny>, destination: &Bound<'_, PyAny>) -> Out {
        let x = self.get();
        let axes = |v| args::axes_or_all("movedim", Some(v), x.rank());
        out(shapes::movedim(&x, &axes(source)?, &axes(destination)?))
    }

    /// One axis as several; one size may be -1.
    fn unflatten(&self, dim: i64, sizes: &Bound<'_, PyAny>) -> Out {
        let x = self.get();
        let sizes = args::integers("unflatten", sizes)?;
        out(shapes::unflatten(&x, args::one_axis("unflatten", dim, x.rank())?, &sizes))
    }

    /// Differences of neighbours along `dim`, taken `n` times.
    #[pyo3(signature = (n=1, dim=-1))]
    fn diff(&self, n: i64, dim: i64) -> Out {
        let x = self.get();
        out(shapes::diff(&x, count("diff", n)?, args::one_axis("diff", dim, x.rank())?))
    }

    /// All products of an element of this vector and one of another.
    fn outer(&self, other: T<'_, '_>) -> Out {
        out(shapes::outer(&self.get(), &value(other)))
    }

    /// The sum of products of two vectors.
    fn dot(&self, other: T<'_, '_>) -> Out {
        out(shapes::dot(&self.get(), &value(other)))
    }

    /// The p-norm over axes (all without `dim`).
    #[pyo3(signature = (p=2.0, dim=None, keepdim=false))]
    fn norm(&self, p: f64, dim: Any<'_, '_>, keepdim: bool) -> Out {
        let x = self.get();
        out(shapes::norm(&x, p, &args::axes_or_all("norm", dim, x.rank())?, keepdim))
    }

    /// Quantiles in [0, 1] along `dim` (of all, flattened, without it), interpolated.
    #[pyo3(signature = (q, dim=None))]
    fn quantile(&self, py: Python<'_>, q: &Bound<'_, PyAny>, dim: Option<i64>) -> Out {
        let x = self.get();
        let (x, axis) = match dim {
            Some(dim) => (x.clone(), args::one_axis("quantile", dim, x.rank())?),
            None => (ops::view::reshape(&x, &crate::core::Shape::new(&[x.count()]))?, 0),
        };
        match args::scalar(q)? {
            Some(q) => out(sort::quantile(&x, &[q.as_f64()], axis).and_then(|t| ops::view::select(&t, 0, 0))),
            None => {
                let q = super::convert::tensor(q, Some(DType::F64), Device::Cpu)?;
                if q.rank() != 1 {
                    return Err(PyTypeError::new_err(format!(
                        "quantile: q is a number or several, not {}",
                        q.shape()
                    )));
                }
                let q: Vec<f64> = super::convert::scalars(py, &q)?.iter().map(|q| q.as_f64()).collect();
                out(sort::quantile(&x, &q, axis))
            }
        }
    }

    /// How often each of 0, 1, … comes in this vector, or the sum of its weights. Observes the tensor.
    #[pyo3(signature = (weights=None, minlength=0))]
    fn bincount(&self, weights: Option<T<'_, '_>>, minlength: i64) -> Out {
        out(search::bincount(&self.get(), weights.map(value).as_ref(), count("bincount", minlength)?))
    }
}

impl PyTensor {
    fn scattered(&self, op: &str, dim: i64, index: T<'_, '_>, src: &Bound<'_, PyAny>, mode: Scatter) -> Out {
        let (x, at) = (self.get(), value(index));
        let axis = args::one_axis(op, dim, x.rank())?;
        let part = match args::required(op, src)? {
            ops::Arg::Tensor(t) => t,
            ops::Arg::Scalar(s) => ops::create::full(at.shape(), s, x.dtype(), x.device())?,
        };
        out(index::scatter(&x, axis, &at, &part, mode))
    }

    fn tiled(&self, op: &str, reps: &Bound<'_, PyTuple>) -> Out {
        let reps = args::spread(op, reps)?;
        let reps: Vec<usize> = reps.iter().map(|&r| count(op, r)).collect::<PyResult<_>>()?;
        out(rearrange::tile(&self.get(), &reps))
    }
}

fn extreme<'py>(
    slf: &Bound<'py, PyTensor>,
    dim: Any<'_, 'py>,
    keepdim: bool,
    largest: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, x) = (slf.py(), slf.get().get());
    let name = if largest { "max" } else { "min" };
    match dim {
        None => {
            let axes: Vec<usize> = (0..x.rank()).collect();
            Ok(PyTensor::new(ops::reduce::extreme(&x, &axes, keepdim, largest)?)
                .into_pyobject(py)?
                .into_any())
        }
        Some(other) if other.cast::<PyTensor>().is_ok() => {
            slf.call_method1(if largest { "maximum" } else { "minimum" }, (other,))
        }
        Some(dim) => {
            let axis = args::one_axis(name, args::index(name, dim)?, x.rank())?;
            // The values come by the indices, so that one element of several equal ones gets the gradient.
            let places = ops::reduce::arg_extreme(&x, Some(axis), true, largest)?;
            let found = index::gather(&x, axis, &places)?;
            let squeeze = |t: &Tensor| if keepdim { Ok(t.clone()) } else { ops::view::squeeze(t, &[axis]) };
            pair(py, (squeeze(&found)?, squeeze(&places)?))
        }
    }
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    let options = PyDict::new(py);
    options.set_item("module", "oxon")?;
    let named = py.import("collections")?.getattr("namedtuple")?;
    let named = named.call(("ValuesIndices", ("values", "indices")), Some(&options))?;
    named.setattr("__doc__", "What was found along an axis, and where it stands.")?;
    m.add("ValuesIndices", &named)?;
    let _ = VALUES_INDICES.set(py, named.unbind());
    let tensor = py.get_type::<PyTensor>();
    // Functions of one tensor are its methods, called on it.
    for name in METHODS {
        m.add(*name, tensor.getattr(*name)?)?;
    }
    Ok(())
}

/// Methods that are functions of the module as well.
const METHODS: &[&str] = &[
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "argsort",
    "bincount",
    "broadcast_to",
    "chunk",
    "clamp",
    "cummax",
    "cummin",
    "cumprod",
    "cumsum",
    "diag",
    "diagonal",
    "diff",
    "dot",
    "flatten",
    "flip",
    "gather",
    "index_select",
    "kthvalue",
    "log_softmax",
    "logsumexp",
    "masked_fill",
    "masked_select",
    "matmul",
    "max",
    "mean",
    "median",
    "min",
    "movedim",
    "nonzero",
    "norm",
    "numel",
    "outer",
    "permute",
    "prod",
    "quantile",
    "repeat_interleave",
    "reshape",
    "roll",
    "scatter",
    "scatter_add",
    "softmax",
    "sort",
    "split",
    "squeeze",
    "std",
    "sum",
    "take",
    "tile",
    "topk",
    "trace",
    "transpose",
    "tril",
    "triu",
    "unbind",
    "unflatten",
    "unsqueeze",
    "var",
];

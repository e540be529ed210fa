//! Choosing, sorting, joining and rearranging, as methods and functions.

use super::args;
use super::tensor::{Out, PyTensor, out};
use crate::core::{DType, Scalar};
use crate::graph::Tensor;
use crate::ir::kernel::Scatter;
use crate::ops::{self, advanced, index, join, rearrange, search, shapes, sort};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

type T<'a, 'py> = &'a Bound<'py, PyTensor>;
type Any<'a, 'py> = Option<&'a Bound<'py, PyAny>>;
type Pair = PyResult<(PyTensor, PyTensor)>;
type Many = PyResult<Vec<PyTensor>>;

fn value(t: T<'_, '_>) -> Tensor {
    t.get().get()
}

fn values(tensors: &[Bound<'_, PyTensor>]) -> Vec<Tensor> {
    tensors.iter().map(value).collect()
}

fn many(found: Vec<Tensor>) -> Vec<PyTensor> {
    found.into_iter().map(PyTensor::new).collect()
}

fn pair((a, b): (Tensor, Tensor)) -> (PyTensor, PyTensor) {
    (a.into(), b.into())
}

fn count(op: &str, n: i64) -> PyResult<usize> {
    usize::try_from(n).map_err(|_| PyValueError::new_err(format!("{op}: {n} is negative")))
}

#[pymethods]
impl PyTensor {
    /// Values in order along `dim`, and the indices that give it. Stable; NaN comes last when ascending.
    #[pyo3(signature = (dim=-1, descending=false))]
    fn sort(&self, dim: i64, descending: bool) -> Pair {
        let x = self.get();
        Ok(pair(sort::sort(&x, args::one_axis("sort", dim, x.rank())?, descending)?))
    }

    /// The indices that sort along `dim`. Stable.
    #[pyo3(signature = (dim=-1, descending=false))]
    fn argsort(&self, dim: i64, descending: bool) -> Out {
        let x = self.get();
        out(sort::argsort(&x, args::one_axis("argsort", dim, x.rank())?, descending))
    }

    /// The k largest (or smallest) elements along `dim`, in order, and their indices.
    #[pyo3(signature = (k, dim=-1, largest=true))]
    fn topk(&self, k: i64, dim: i64, largest: bool) -> Pair {
        let x = self.get();
        Ok(pair(sort::topk(&x, count("topk", k)?, args::one_axis("topk", dim, x.rank())?, largest)?))
    }

    /// The k-th smallest element along `dim`, counted from 1, and its index.
    #[pyo3(signature = (k, dim=-1))]
    fn kthvalue(&self, k: i64, dim: i64) -> Pair {
        let x = self.get();
        Ok(pair(sort::kthvalue(&x, count("kthvalue", k)?, args::one_axis("kthvalue", dim, x.rank())?)?))
    }

    /// The median of all elements, or with `dim` the medians along it and their indices; the lower of two.
    #[pyo3(signature = (dim=None))]
    fn median<'py>(&self, py: Python<'py>, dim: Option<i64>) -> PyResult<Bound<'py, PyAny>> {
        let x = self.get();
        match dim {
            None => {
                let flat = ops::view::reshape(&x, &crate::core::Shape::new(&[x.count()]))?;
                Ok(PyTensor::new(sort::median(&flat, 0)?.0).into_pyobject(py)?.into_any())
            }
            Some(dim) => {
                let found = sort::median(&x, args::one_axis("median", dim, x.rank())?)?;
                Ok(pair(found).into_pyobject(py)?.into_any())
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
            Some(Scalar::Int(n)) => out(rearrange::repeat_interleave(&x, count("repeat_interleave", n)?, axis)),
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
    fn quantile(&self, q: &Bound<'_, PyAny>, dim: Option<i64>) -> Out {
        let x = self.get();
        let (x, axis) = match dim {
            Some(dim) => (x.clone(), args::one_axis("quantile", dim, x.rank())?),
            None => (ops::view::reshape(&x, &crate::core::Shape::new(&[x.count()]))?, 0),
        };
        match args::scalar(q)? {
            Some(q) => out(sort::quantile(&x, &[q.as_f64()], axis).and_then(|t| ops::view::select(&t, 0, 0))),
            None => {
                let q: Vec<f64> = q.try_iter()?.map(|v| v?.extract()).collect::<PyResult<_>>()?;
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
            Ok(PyTensor::new(ops::reduce::extreme(&x, &axes, keepdim, largest)?).into_pyobject(py)?.into_any())
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
            Ok((PyTensor::new(squeeze(&found)?), PyTensor::new(squeeze(&places)?)).into_pyobject(py)?.into_any())
        }
    }
}

/// Tensors one after another along an axis.
#[pyfunction]
#[pyo3(signature = (tensors, dim=0))]
fn cat(tensors: Vec<Bound<'_, PyTensor>>, dim: i64) -> Out {
    let tensors = values(&tensors);
    let rank = tensors.first().map_or(1, |t| t.rank());
    out(join::cat(&tensors.iter().collect::<Vec<_>>(), args::one_axis("cat", dim, rank)?))
}

/// Tensors of one shape along a new axis.
#[pyfunction]
#[pyo3(signature = (tensors, dim=0))]
fn stack(tensors: Vec<Bound<'_, PyTensor>>, dim: i64) -> Out {
    let tensors = values(&tensors);
    let rank = tensors.first().map_or(0, |t| t.rank()) + 1;
    out(join::stack(&tensors.iter().collect::<Vec<_>>(), args::one_axis("stack", dim, rank)?))
}

/// `a` where the condition holds, else `b`; either may be a number. With the condition alone, the places
/// where it is true, one vector for each axis.
#[pyfunction]
#[pyo3(name = "where", signature = (condition, a=None, b=None, /))]
fn where_<'py>(
    condition: &Bound<'py, PyAny>,
    a: Any<'_, 'py>,
    b: Any<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = condition.py();
    let condition = args::tensor("where", condition)?;
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (args::required("where", a)?, args::required("where", b)?),
        (None, None) => {
            let places = many(advanced::where1(&condition)?);
            return Ok(PyTuple::new(py, places)?.into_any());
        }
        _ => return Err(PyTypeError::new_err("where: give both values, or neither")),
    };
    let found = ops::apply(crate::ir::Elementwise::r#where, &[ops::Arg::Tensor(condition), a, b])?;
    Ok(PyTensor::new(found).into_pyobject(py)?.into_any())
}

/// Sums of products named by letters, as in `einsum("bij,bjk->bik", a, b)`.
#[pyfunction]
#[pyo3(signature = (equation, *operands))]
fn einsum(equation: &str, operands: &Bound<'_, PyTuple>) -> Out {
    let operands: Vec<Tensor> = match operands.len() {
        1 if operands.get_item(0)?.cast::<PyTensor>().is_err() => {
            operands.get_item(0)?.try_iter()?.map(|t| args::tensor("einsum", &t?)).collect::<PyResult<_>>()?
        }
        _ => operands.iter().map(|t| args::tensor("einsum", &t)).collect::<PyResult<_>>()?,
    };
    out(ops::einsum::einsum(equation, &operands.iter().collect::<Vec<_>>()))
}

/// 1 at the place that each integer names along a new last axis, else 0.
#[pyfunction]
#[pyo3(signature = (x, num_classes=None))]
fn one_hot(x: T<'_, '_>, num_classes: Option<i64>) -> Out {
    let classes = num_classes.filter(|&n| n != -1).map(|n| count("one_hot", n)).transpose()?;
    out(search::one_hot(&value(x), classes))
}

/// Elements added before and after axes: `pad` holds pairs from the last axis backwards, as PyTorch's.
/// `mode` is "constant", "reflect", "replicate" or "circular".
#[pyfunction]
#[pyo3(signature = (x, pad, mode="constant", value=None))]
fn pad(x: T<'_, '_>, pad: &Bound<'_, PyAny>, mode: &str, value: Any<'_, '_>) -> Out {
    let x = x.get().get();
    let given = args::integers("pad", pad)?;
    if given.len() % 2 != 0 || given.len() / 2 > x.rank() {
        return Err(PyValueError::new_err(format!(
            "pad: {} numbers for {} axes; give two for each axis, the last axis first",
            given.len(),
            x.rank()
        )));
    }
    let mut amounts = vec![(0, 0); x.rank()];
    for (i, both) in given.chunks_exact(2).enumerate() {
        amounts[x.rank() - 1 - i] = (both[0], both[1]);
    }
    let mode = match mode {
        "constant" => {
            let number = value.map_or(Ok(Some(Scalar::Int(0))), args::scalar)?;
            rearrange::Pad::Constant(number.ok_or_else(|| PyTypeError::new_err("pad: value must be a number"))?)
        }
        "reflect" => rearrange::Pad::Reflect,
        "replicate" => rearrange::Pad::Replicate,
        "circular" => rearrange::Pad::Circular,
        other => return Err(PyValueError::new_err(format!("pad: mode {other:?} is unknown"))),
    };
    out(rearrange::pad(&x, &amounts, mode))
}

/// Coordinate grids of vectors; `indexing` is "ij" or "xy".
#[pyfunction]
#[pyo3(signature = (*tensors, indexing="ij"))]
fn meshgrid(tensors: &Bound<'_, PyTuple>, indexing: &str) -> Many {
    let tensors: Vec<Tensor> = tensors.iter().map(|t| args::tensor("meshgrid", &t)).collect::<PyResult<_>>()?;
    let swap = match indexing {
        "ij" => false,
        "xy" => true,
        other => return Err(PyValueError::new_err(format!("meshgrid: indexing {other:?} is unknown"))),
    };
    Ok(many(rearrange::meshgrid(&tensors.iter().collect::<Vec<_>>(), swap)?))
}

/// The distinct elements in ascending order, with where each came first, which each element is, and how
/// often each comes. Observes the tensor.
#[pyfunction]
fn unique_all(x: T<'_, '_>) -> PyResult<(PyTensor, PyTensor, PyTensor, PyTensor)> {
    let found = search::unique(&value(x))?;
    Ok((found.values.into(), found.first.into(), found.inverse.into(), found.counts.into()))
}

/// Where values would go in sorted rows, left or right of equal ones.
#[pyfunction]
#[pyo3(signature = (sorted_sequence, values, *, right=false, side=None))]
fn searchsorted(sorted_sequence: T<'_, '_>, values: &Bound<'_, PyAny>, right: bool, side: Option<&str>) -> Out {
    let right = match side {
        None => right,
        Some("left") => false,
        Some("right") => true,
        Some(other) => return Err(PyValueError::new_err(format!("searchsorted: side {other:?} is unknown"))),
    };
    out(search::searchsorted(&value(sorted_sequence), &args::tensor("searchsorted", values)?, right))
}

/// Contraction over axes: the last `dims` of a with the first of b, or two lists of axes.
#[pyfunction]
#[pyo3(signature = (a, b, dims=None))]
fn tensordot(a: T<'_, '_>, b: T<'_, '_>, dims: Any<'_, '_>) -> Out {
    let (a, b) = (value(a), value(b));
    let lists = match dims.map_or(Ok(Some(Scalar::Int(2))), args::scalar)? {
        Some(Scalar::Int(n)) => {
            let n = count("tensordot", n)?;
            if n > a.rank() || n > b.rank() {
                return Err(PyValueError::new_err(format!("tensordot: {n} axes of {} and {}", a.shape(), b.shape())));
            }
            ((a.rank() - n..a.rank()).collect::<Vec<_>>(), (0..n).collect::<Vec<_>>())
        }
        _ => {
            let (first, second): (Bound<'_, PyAny>, Bound<'_, PyAny>) = dims.expect("checked").extract()?;
            let axes = |v, rank| args::axes_or_all("tensordot", Some(v), rank).map(|a| a.to_vec());
            (axes(&first, a.rank())?, axes(&second, b.rank())?)
        }
    };
    out(shapes::tensordot(&a, &b, (&lists.0, &lists.1)))
}

/// Views of all tensors in the shape to which they broadcast.
#[pyfunction]
#[pyo3(signature = (*tensors))]
fn broadcast_tensors(tensors: &Bound<'_, PyTuple>) -> Many {
    let tensors: Vec<Tensor> =
        tensors.iter().map(|t| args::tensor("broadcast_tensors", &t)).collect::<PyResult<_>>()?;
    if tensors.is_empty() {
        return Ok(vec![]);
    }
    Ok(many(ops::elementwise::broadcast_tensors("broadcast_tensors", &tensors.iter().collect::<Vec<_>>())?))
}

/// The Kronecker product.
#[pyfunction]
fn kron(a: T<'_, '_>, b: T<'_, '_>) -> Out {
    out(shapes::kron(&value(a), &value(b)))
}

/// The cross product along an axis of size 3.
#[pyfunction]
#[pyo3(signature = (a, b, dim=-1))]
fn cross(a: T<'_, '_>, b: T<'_, '_>, dim: i64) -> Out {
    let a = value(a);
    out(shapes::cross(&a, &value(b), args::one_axis("cross", dim, a.rank())?))
}

/// The p-distances between the rows of a (…, M, D) and b (…, N, D), to (…, M, N).
#[pyfunction]
#[pyo3(signature = (a, b, p=2.0))]
fn cdist(a: T<'_, '_>, b: T<'_, '_>, p: f64) -> Out {
    out(shapes::cdist(&value(a), &value(b), p))
}

/// The dtype that dtypes and tensors promote to.
#[pyfunction]
#[pyo3(signature = (*args))]
fn result_type(py: Python<'_>, args: &Bound<'_, PyTuple>) -> PyResult<Py<super::dtype::PyDType>> {
    let mut found: Option<DType> = None;
    let mut weak = vec![];
    for arg in args {
        let dtype = if let Ok(t) = arg.cast::<PyTensor>() {
            t.get().get().dtype()
        } else if let Some(scalar) = super::args::scalar(&arg)? {
            weak.push(scalar);
            continue;
        } else {
            super::dtype::extract(&arg)?
        };
        found = Some(found.map_or(dtype, |d| d.promote(dtype)));
    }
    let Some(mut dtype) = found else {
        return Err(PyValueError::new_err("result_type: at least one tensor or dtype is needed"));
    };
    for scalar in weak {
        dtype = scalar.promote(dtype);
    }
    Ok(super::dtype::object(py, dtype))
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for function in [
        wrap_pyfunction!(cat, m)?,
        wrap_pyfunction!(stack, m)?,
        wrap_pyfunction!(where_, m)?,
        wrap_pyfunction!(einsum, m)?,
        wrap_pyfunction!(one_hot, m)?,
        wrap_pyfunction!(pad, m)?,
        wrap_pyfunction!(meshgrid, m)?,
        wrap_pyfunction!(unique_all, m)?,
        wrap_pyfunction!(searchsorted, m)?,
        wrap_pyfunction!(tensordot, m)?,
        wrap_pyfunction!(broadcast_tensors, m)?,
        wrap_pyfunction!(kron, m)?,
        wrap_pyfunction!(cross, m)?,
        wrap_pyfunction!(cdist, m)?,
        wrap_pyfunction!(result_type, m)?,
    ] {
        m.add_function(function)?;
    }
    let tensor = m.py().get_type::<PyTensor>();
    // Functions of one tensor are its methods, called on it.
    for name in METHODS {
        m.add(*name, tensor.getattr(*name)?)?;
    }
    Ok(())
}

/// Methods that are functions of the module as well.
const METHODS: &[&str] = &[
    "all", "amax", "amin", "any", "argmax", "argmin", "argsort", "bincount", "broadcast_to", "chunk", "clamp",
    "cummax", "cummin", "cumprod", "cumsum", "diag", "diagonal", "diff", "dot", "flatten", "flip", "gather",
    "index_select", "kthvalue", "log_softmax", "logsumexp", "masked_fill", "masked_select", "matmul", "max", "mean",
    "median", "min", "movedim", "nonzero", "norm", "numel", "outer", "permute", "prod", "quantile",
    "repeat_interleave", "reshape", "roll", "scatter", "scatter_add", "softmax", "sort", "split", "squeeze", "std",
    "sum", "take", "tile", "topk", "trace", "transpose", "tril", "triu", "unbind", "unflatten", "unsqueeze", "var",
];

//! Random tensors and generators.

use super::args;
use super::create::finish;
use super::tensor::{Out, PyTensor, out};
use crate::core::{DType, Result, Shape};
use crate::graph::Device;
use crate::ops::random::{self, Generator};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

type Any<'a, 'py> = Option<&'a Bound<'py, PyAny>>;
type Gen<'a, 'py> = Option<&'a Bound<'py, PyGenerator>>;

/// A stream of random numbers of its own. The same seed gives the same numbers on every device and with
/// any number of threads (Philox 4×32-10; Salmon et al., 2011).
#[pyclass(name = "Generator", module = "oxon", frozen)]
pub struct PyGenerator(Generator);

#[pymethods]
impl PyGenerator {
    #[new]
    #[pyo3(signature = (seed=None))]
    fn __new__(seed: Option<&Bound<'_, PyAny>>) -> PyResult<PyGenerator> {
        Ok(PyGenerator(Generator::new(seed.map_or(Ok(0), |seed| bits("Generator", seed))?)))
    }

    /// Begins the stream of another seed, and gives this generator back.
    fn manual_seed<'py>(slf: &Bound<'py, Self>, seed: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        slf.get().0.set_seed(bits("manual_seed", seed)?);
        Ok(slf.clone())
    }

    /// The seed that was set last.
    fn initial_seed(&self) -> u64 {
        self.0.state().0
    }

    /// Seed and position: all there is to know.
    fn get_state(&self) -> (u64, u64) {
        self.0.state()
    }

    /// Goes to a position that `get_state` gave.
    fn set_state(&self, state: (u64, u64)) {
        self.0.set_state(state);
    }

    fn __repr__(&self) -> String {
        let (seed, offset) = self.0.state();
        format!("Generator(seed={seed}, offset={offset})")
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let rebuild = py.import("oxon._core")?.getattr("_rebuild_generator")?;
        Ok((rebuild, (slf.get().0.state(),)).into_pyobject(py)?.into_any())
    }
}

#[pyfunction]
fn _rebuild_generator(state: (u64, u64)) -> PyGenerator {
    let generator = Generator::new(0);
    generator.set_state(state);
    PyGenerator(generator)
}

/// A seed: any integer, of which 64 bits are used.
fn bits(op: &str, seed: &Bound<'_, PyAny>) -> PyResult<u64> {
    if let Ok(seed) = seed.extract::<u64>() {
        return Ok(seed);
    }
    args::index(op, seed).map(|i| i as u64)
}

/// Runs `draw` with the generator given, or with the global one.
pub fn with<R>(generator: Gen<'_, '_>, draw: impl FnOnce(&Generator) -> R) -> R {
    match generator {
        Some(generator) => draw(&generator.get().0),
        None => draw(random::global()),
    }
}

/// Seeds the generator that is used where none is given.
#[pyfunction]
fn manual_seed(seed: &Bound<'_, PyAny>) -> PyResult<()> {
    random::manual_seed(bits("manual_seed", seed)?);
    Ok(())
}

/// Seed and position of the global generator.
#[pyfunction]
fn get_rng_state() -> (u64, u64) {
    random::global().state()
}

/// Puts the global generator where `get_rng_state` found it.
#[pyfunction]
fn set_rng_state(state: (u64, u64)) {
    random::global().set_state(state);
}

macro_rules! unit {
    ($($(#[$doc:meta])* $name:ident $like:ident;)*) => {$(
        $(#[$doc])*
        #[pyfunction]
        #[pyo3(signature = (*size, generator=None, dtype=None, device=None, requires_grad=false))]
        fn $name(
            size: &Bound<'_, PyTuple>,
            generator: Gen<'_, '_>,
            dtype: Any<'_, '_>,
            device: Any<'_, '_>,
            requires_grad: bool,
        ) -> Out {
            let shape = args::shape(stringify!($name), &args::spread(stringify!($name), size)?)?;
            let (dtype, device) = (args::dtype_or(dtype, DType::F32)?, args::device(device)?);
            finish(with(generator, |from| random::$name(&shape, dtype, device, from)), requires_grad)
        }

        /// The same in the shape, dtype and device of another tensor, unless given.
        #[pyfunction]
        #[pyo3(signature = (x, /, *, generator=None, dtype=None, device=None, requires_grad=false))]
        fn $like(
            x: &Bound<'_, PyTensor>,
            generator: Gen<'_, '_>,
            dtype: Any<'_, '_>,
            device: Any<'_, '_>,
            requires_grad: bool,
        ) -> Out {
            let x = x.get().get();
            let device = if device.is_some() { args::device(device)? } else { x.device() };
            let dtype = args::dtype_or(dtype, x.dtype())?;
            finish(with(generator, |from| random::$name(x.shape(), dtype, device, from)), requires_grad)
        }
    )*};
}

unit! {
    /// Uniform on [0, 1), in a shape `rand(2, 3)` or `rand((2, 3))`.
    rand rand_like;
    /// Standard normal, in a shape `randn(2, 3)` or `randn((2, 3))`.
    randn randn_like;
}

/// `randint(high, size)` or `randint(low, high, size)`: uniform integers from low up to but without high.
#[pyfunction]
#[pyo3(signature = (*args, low=None, high=None, size=None, generator=None, dtype=None, device=None))]
fn randint(
    args: &Bound<'_, PyTuple>,
    low: Option<i64>,
    high: Option<i64>,
    size: Any<'_, '_>,
    generator: Gen<'_, '_>,
    dtype: Any<'_, '_>,
    device: Any<'_, '_>,
) -> Out {
    let mut given: Vec<Bound<'_, PyAny>> = args.iter().collect();
    let size = match size {
        Some(size) => size.clone(),
        None => given
            .pop()
            .ok_or_else(|| PyTypeError::new_err("randint: give high and size, as in randint(10, (2, 3))"))?,
    };
    let numbers: Vec<i64> = given.iter().map(|g| args::index("randint", g)).collect::<PyResult<_>>()?;
    let (low, high) = match (numbers[..].as_ref(), low, high) {
        ([low, high], None, None) => (*low, *high),
        ([high], low, None) => (low.unwrap_or(0), *high),
        ([low], None, Some(high)) => (*low, high),
        ([], low, Some(high)) => (low.unwrap_or(0), high),
        _ => return Err(PyTypeError::new_err("randint: expected low, high and size")),
    };
    let shape = args::shape("randint", &args::integers("randint", &size)?)?;
    let (dtype, device) = (args::dtype_or(dtype, DType::I64)?, args::device(device)?);
    out(with(generator, |from| random::randint(low, high, &shape, dtype, device, from)))
}

/// A random order of 0 … n − 1.
#[pyfunction]
#[pyo3(signature = (n, *, generator=None, device=None))]
fn randperm(n: i64, generator: Gen<'_, '_>, device: Any<'_, '_>) -> Out {
    let n = usize::try_from(n).map_err(|_| PyValueError::new_err("randperm: n must not be negative"))?;
    Shape::checked("randperm", &[n])?;
    let device = args::device(device)?;
    out(with(generator, |from| random::permutation(n, device, from)))
}

/// Normal numbers; mean and std are numbers or tensors, which broadcast with `size`.
#[pyfunction]
#[pyo3(signature = (mean=None, std=None, size=None, *, generator=None, dtype=None, device=None))]
fn normal(
    mean: Any<'_, '_>,
    std: Any<'_, '_>,
    size: Any<'_, '_>,
    generator: Gen<'_, '_>,
    dtype: Any<'_, '_>,
    device: Any<'_, '_>,
) -> Out {
    use crate::ops::Arg;
    let given = |v: Any<'_, '_>, default: f64| v.map_or(Ok(default.into()), |v| args::required("normal", v));
    let (mean, std) = (given(mean, 0.0)?, given(std, 1.0)?);
    let mut shape = match size {
        Some(size) => args::shape("normal", &args::integers("normal", size)?)?,
        None => Shape::default(),
    };
    let mut device = args::device(device)?;
    for arg in [&mean, &std] {
        if let Arg::Tensor(t) = arg {
            device = t.device();
            shape = shape.broadcast(t.shape()).ok_or_else(|| {
                super::errors::ShapeError::new_err(format!(
                    "normal: {} does not broadcast to {shape}",
                    t.shape()
                ))
            })?;
        }
    }
    let dtype = args::dtype_or(dtype, DType::F32)?;
    out(with(generator, |from| random::normal(mean, std, &shape, dtype, device, from)))
}

/// Uniform numbers from low up to but without high.
#[pyfunction]
#[pyo3(signature = (low=0.0, high=1.0, size=None, *, generator=None, dtype=None, device=None))]
fn uniform(
    low: f64,
    high: f64,
    size: Any<'_, '_>,
    generator: Gen<'_, '_>,
    dtype: Any<'_, '_>,
    device: Any<'_, '_>,
) -> Out {
    let shape = match size {
        Some(size) => args::shape("uniform", &args::integers("uniform", size)?)?,
        None => Shape::default(),
    };
    let (dtype, device) = (args::dtype_or(dtype, DType::F32)?, args::device(device)?);
    out(with(generator, |from| random::uniform(low, high, &shape, dtype, device, from)))
}

/// 1 with the probability that each element gives, else 0, in its dtype.
#[pyfunction]
#[pyo3(signature = (p, *, generator=None))]
fn bernoulli(p: &Bound<'_, PyTensor>, generator: Gen<'_, '_>) -> Out {
    out(with(generator, |from| random::bernoulli(&p.get().get(), from)))
}

/// `num_samples` indices for each row of weights (…, C), drawn in proportion to them.
#[pyfunction]
#[pyo3(signature = (p, num_samples, replacement=false, *, generator=None))]
fn multinomial(
    p: &Bound<'_, PyTensor>,
    num_samples: usize,
    replacement: bool,
    generator: Gen<'_, '_>,
) -> Out {
    out(with(generator, |from| random::multinomial(&p.get().get(), num_samples, replacement, from)))
}

impl PyTensor {
    /// A random value for an in-place method, in the shape and dtype that the tensor has.
    fn drawn(
        slf: &Bound<'_, Self>,
        draw: impl FnOnce(&Shape, DType, Device) -> Result<crate::graph::Tensor>,
    ) -> PyResult<()> {
        let t = slf.get().get();
        let value = PyTensor::new(draw(t.shape(), t.dtype(), t.device())?);
        slf.call_method1("copy_", (value,))?;
        Ok(())
    }
}

#[pymethods]
impl PyTensor {
    /// Fills this handle with uniform numbers from `a` up to but without `b`.
    #[pyo3(signature = (a=0.0, b=1.0, *, generator=None))]
    fn uniform_<'py>(
        slf: &Bound<'py, Self>,
        a: f64,
        b: f64,
        generator: Gen<'_, 'py>,
    ) -> PyResult<Bound<'py, Self>> {
        Self::drawn(slf, |shape, dtype, device| {
            with(generator, |from| random::uniform(a, b, shape, dtype, device, from))
        })?;
        Ok(slf.clone())
    }

    /// Fills this handle with normal numbers.
    #[pyo3(signature = (mean=0.0, std=1.0, *, generator=None))]
    fn normal_<'py>(
        slf: &Bound<'py, Self>,
        mean: f64,
        std: f64,
        generator: Gen<'_, 'py>,
    ) -> PyResult<Bound<'py, Self>> {
        Self::drawn(slf, |shape, dtype, device| {
            with(generator, |from| random::normal(mean, std, shape, dtype, device, from))
        })?;
        Ok(slf.clone())
    }
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyGenerator>()?;
    for function in [
        wrap_pyfunction!(_rebuild_generator, m)?,
        wrap_pyfunction!(manual_seed, m)?,
        wrap_pyfunction!(get_rng_state, m)?,
        wrap_pyfunction!(set_rng_state, m)?,
        wrap_pyfunction!(rand, m)?,
        wrap_pyfunction!(rand_like, m)?,
        wrap_pyfunction!(randn, m)?,
        wrap_pyfunction!(randn_like, m)?,
        wrap_pyfunction!(randint, m)?,
        wrap_pyfunction!(randperm, m)?,
        wrap_pyfunction!(normal, m)?,
        wrap_pyfunction!(uniform, m)?,
        wrap_pyfunction!(bernoulli, m)?,
        wrap_pyfunction!(multinomial, m)?,
    ] {
        m.add_function(function)?;
    }
    Ok(())
}

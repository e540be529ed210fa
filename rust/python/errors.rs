//! Exceptions: one type for each kind of error, each under the built-in one that users expect.

use crate::core::Error;
use pyo3::create_exception;
use pyo3::exceptions::{
    PyIndexError, PyKeyboardInterrupt, PyMemoryError, PyOSError, PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;

create_exception!(oxon, ShapeError, PyValueError, "Sizes or ranks that do not fit.");
create_exception!(oxon, DTypeError, PyTypeError, "A dtype that the operation does not take.");
create_exception!(
    oxon,
    DeviceError,
    PyRuntimeError,
    "A device that is absent, or lacks what is asked of it."
);
create_exception!(oxon, GradError, PyRuntimeError, "Differentiation that cannot be done.");

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        match error {
            Error::Shape(m) => ShapeError::new_err(m),
            Error::DType(m) => DTypeError::new_err(m),
            Error::Device(m) => DeviceError::new_err(m),
            Error::Index(m) => PyIndexError::new_err(m),
            Error::Value(m) => PyValueError::new_err(m),
            Error::Grad(m) => match raised_below(&m) {
                Some(error) => error,
                None => GradError::new_err(m),
            },
            Error::Memory(m) => PyMemoryError::new_err(m),
            Error::Io(m) => PyOSError::new_err(m),
            Error::Interrupted => PyKeyboardInterrupt::new_err(()),
        }
    }
}

thread_local! {
    /// An exception that Python code raised inside a gradient, on its way through Rust.
    static RAISED: std::cell::RefCell<Option<PyErr>> = const { std::cell::RefCell::new(None) };
}

const BELOW: &str = "raised by Python code in a gradient";

/// Carries a Python exception through code that knows only our errors.
pub fn through(error: PyErr) -> Error {
    RAISED.set(Some(error));
    Error::Grad(BELOW.into())
}

fn raised_below(message: &str) -> Option<PyErr> {
    if message == BELOW { RAISED.take() } else { None }
}

//! The only place that knows Python: the extension module `oxon._core`. Conversions, error types and
//! the classes and functions that the package re-exports; the arithmetic is all below.

mod args;
mod autocast;
mod buffer;
mod convert;
mod create;
mod device;
mod dlpack;
mod dtype;
mod errors;
mod files;
mod fused;
#[cfg(feature = "gpu")]
mod gpus;
mod grad;
mod index;
mod join;
mod layers;
mod losses;
mod methods;
mod names;
mod numpy;
#[allow(unsafe_op_in_unsafe_fn, reason = "what pyo3 makes of methods in macros")]
mod operators;
mod random;
mod recurrent;
mod runtime;
mod select;
#[allow(unsafe_op_in_unsafe_fn, reason = "what pyo3 makes of methods in macros")]
mod table;
#[allow(unsafe_op_in_unsafe_fn, reason = "what pyo3 makes of methods in macros")]
mod tensor;
mod text;

use pyo3::prelude::*;

#[pymodule]
#[pyo3(name = "_core")]
mod _core {
    use super::*;

    #[pymodule_export]
    use super::dtype::PyDType;
    #[pymodule_export]
    use super::errors::{DTypeError, DeviceError, GradError, ShapeError};
    #[pymodule_export]
    use super::tensor::PyTensor;

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        runtime::init(m)?;
        device::init(m)?;
        #[cfg(feature = "gpu")]
        gpus::init(m)?;
        dtype::init(m)?;
        table::init(m)?;
        create::init(m)?;
        convert::init(m)?;
        layers::init(m)?;
        losses::init(m)?;
        recurrent::init(m)?;
        random::init(m)?;
        select::init(m)?;
        join::init(m)?;
        files::init(m)?;
        fused::init(m)?;
        grad::init(m)?;
        autocast::init(m)?;
        names::init(m)?;
        // What is public is what has no underscore; the package says the rest.
        m.delattr("__all__")
    }
}

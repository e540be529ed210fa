//! What can go wrong, told to the user in one sentence: operation, shapes, dtypes, devices, and what
//! to do. Each variant becomes one Python exception type.

use std::fmt;

#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// Sizes or ranks that do not fit: `ShapeError(ValueError)`.
    Shape(String),
    /// A dtype that the operation does not take: `DTypeError(TypeError)`.
    DType(String),
    /// A device that is absent, lacks a feature, or mixes with another: `DeviceError(RuntimeError)`.
    Device(String),
    /// An index outside its axis: `IndexError`.
    Index(String),
    /// A value that the operation does not take: `ValueError`.
    Value(String),
    /// Differentiation that cannot be done: `GradError(RuntimeError)`.
    Grad(String),
    /// Memory that cannot be had: `MemoryError`.
    Memory(String),
    /// A file that cannot be read or written: `OSError`.
    Io(String),
    /// The user pressed Ctrl-C: `KeyboardInterrupt`.
    Interrupted,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Shape(m)
            | Error::DType(m)
            | Error::Device(m)
            | Error::Index(m)
            | Error::Value(m)
            | Error::Grad(m)
            | Error::Memory(m)
            | Error::Io(m) => f.write_str(m),
            Error::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Error {}

/// `bail!(Shape, "matmul: {} and {}", a, b)` returns that error.
#[macro_export]
macro_rules! bail {
    ($kind:ident, $($message:tt)*) => {
        return Err($crate::core::Error::$kind(format!($($message)*)))
    };
}

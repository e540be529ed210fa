//! The vocabulary that every room shares: dtypes, shapes, layouts, scalars, errors and the
//! counter-based random generator. Nothing here knows an operation or a device.

pub mod dtype;
pub mod error;
pub mod layout;
pub mod rng;
pub mod scalar;

pub use dtype::{DType, Element};
pub use error::{Error, Result};
pub use layout::{Layout, Shape};
pub use scalar::Scalar;

//! What an operation is: its name, doc, dtype and shape rule, and the kernels that a backend can be
//! asked to run. How a kernel runs is the backends' business.

pub mod conv;
pub mod elementwise;
pub mod kernel;
pub mod program;
pub mod sym;
pub mod value;

pub use elementwise::{Class, Elementwise};
pub use kernel::Kernel;
pub use program::{Program, Reg, Step};

//! The table of elementwise operations as methods of `Tensor` and functions of the module, and as a
//! registry that tests read.

use super::args;
use super::tensor::{Out, PyTensor, out};
use crate::elementwise_table;
use crate::ir::{Class, Elementwise};
use crate::ops::{self, elementwise};
use pyo3::prelude::*;
use pyo3::types::PyDict;

macro_rules! expand {
    ($($arity:ident $class:ident { $(
        $(#[doc = $doc:literal])*
        $name:ident($($arg:ident),+) { $body:expr }
        $(grad($($g:ident),+) { $($grad:expr),+ })? $(not $flat:ident)?;
    )* })*) => {
        $($(expand!(@method $arity $(#[doc = $doc])* $name);)*)*

        /// The functions of two arguments, either of which may be a number.
        mod binary {
            use super::*;
            $($(expand!(@function $arity $(#[doc = $doc])* $name);)*)*
        }

        fn add_functions(m: &Bound<'_, PyModule>) -> PyResult<()> {
            $($(expand!(@add m $arity $name);)*)*
            Ok(())
        }
    };
    (@method unary $(#[doc = $doc:literal])* $name:ident) => {
        #[pymethods]
        impl PyTensor {
            $(#[doc = $doc])*
            fn $name(&self) -> Out {
                out(elementwise::unary(Elementwise::$name, &self.get()))
            }
        }
    };
    (@method binary $(#[doc = $doc:literal])* $name:ident) => {
        #[pymethods]
        impl PyTensor {
            $(#[doc = $doc])*
            fn $name(&self, other: &Bound<'_, PyAny>) -> Out {
                let other = args::required(stringify!($name), other)?;
                out(ops::apply(Elementwise::$name, &[ops::Arg::Tensor(self.get()), other]))
            }
        }
    };
    (@function unary $(#[doc = $doc:literal])* $name:ident) => {};
    (@function binary $(#[doc = $doc:literal])* $name:ident) => {
        $(#[doc = $doc])*
        #[pyfunction]
        #[pyo3(signature = (a, b, /))]
        pub fn $name(a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> Out {
            let name = stringify!($name);
            out(ops::apply(Elementwise::$name, &[args::required(name, a)?, args::required(name, b)?]))
        }
    };
    // A function of one tensor is the method, called on it.
    (@add $m:ident unary $name:ident) => {
        $m.add(stringify!($name), $m.py().get_type::<PyTensor>().getattr(stringify!($name))?)?;
    };
    (@add $m:ident binary $name:ident) => {
        $m.add_function(wrap_pyfunction!(binary::$name, $m)?)?;
    };
}

elementwise_table!(expand);

/// What each operation of the table is: name to (doc, arity, class, differentiable).
fn registry(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let all = PyDict::new(py);
    for &op in Elementwise::ALL {
        let class = match op.class() {
            Class::Number => "number",
            Class::Float => "float",
            Class::Test => "test",
            Class::Compare => "compare",
            Class::Bits => "bits",
            Class::Where => "where",
        };
        all.set_item(op.name(), (op.doc(), op.arity(), class, op.differentiable()))?;
    }
    Ok(all)
}

pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    add_functions(m)?;
    m.add("ELEMENTWISE", registry(m.py())?)
}

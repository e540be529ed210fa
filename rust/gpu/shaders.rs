//! The registry of hand-written shaders, and how they become kernels: a file of `shaders/`, the constants
//! and accessors that specialise it, its parameters, and what it calls of the prelude.

use super::pipeline::{Parameters, Source};
use super::{assign, generate, index, matmul, pointwise, prelude};

/// A hand-written shader; its file's header says what it does and what it takes.
pub(super) struct Shader {
    pub name: &'static str,
    text: &'static str,
    /// Storage buffers in group 0.
    bindings: usize,
}

macro_rules! shader {
    ($constant:ident $name:literal $bindings:literal $($file:literal)+) => {
        pub(super) const $constant: Shader =
            Shader { name: $name, text: concat!($(include_str!(concat!("../../shaders/", $file))),+), bindings: $bindings };
    };
}

shader!(ARANGE "arange" 1 "arange.wgsl");
shader!(RANDOM "random" 1 "random.wgsl");
shader!(MATMUL "matmul" 3 "matmul_parameters.wgsl" "matmul.wgsl");
shader!(MATMUL_SMALL "matmul_small" 3 "matmul_parameters.wgsl" "matmul_small.wgsl");
shader!(ASSIGN "assign" 2 "assign.wgsl");
shader!(GATHER "gather" 4 "gather.wgsl" "pick.wgsl");

impl Shader {
    /// The shader with the declarations that it takes from the host.
    pub fn source(&self, constants: &str, parameters: Parameters) -> Source {
        let text = format!("{constants}{}\n{}", parameters.declaration(), self.text);
        let functions = prelude::needed(&text);
        Source {
            label: self.name.into(),
            wgsl: text + "\n" + &functions,
            bindings: self.bindings,
            parameters,
        }
    }
}

/// Every shader as text, with a name: the hand-written ones in each variant, the prelude, and generated
/// kernels for each operation, dtype and class of operands. Tests validate them without a GPU.
pub fn all() -> Vec<(String, String)> {
    let mut all = vec![("prelude".to_string(), prelude::all())];
    for parameters in [Parameters::Immediates, Parameters::Uniform] {
        for variants in [
            assign::variants(parameters),
            generate::variants(parameters),
            index::variants(parameters),
            matmul::variants(parameters),
            pointwise::variants(parameters),
        ] {
            all.extend(
                variants.into_iter().map(|(name, source)| (format!("{name} {parameters:?}"), source.wgsl)),
            );
        }
    }
    all
}

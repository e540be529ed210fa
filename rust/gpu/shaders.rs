//! The registry of hand-written shaders, and how they become kernels: a file of `shaders/`, the constants
//! and accessors that specialise it, its parameters, and what it calls of the prelude.

use super::device::Shared;
use super::pipeline::{Key, Parameters, Source};
use super::queue::{Binding, Queue};
use super::{
    assign, conv, generate, index, matmul, neighbours, pointwise, pool, prelude, reduce, scan, scatter,
    softmax, sort,
};
use crate::core::Result;

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
shader!(REDUCE "reduce" 2 "combine.wgsl" "reduce.wgsl");
shader!(SOFTMAX "softmax" 2 "combine.wgsl" "softmax.wgsl");
shader!(SCAN "scan" 3 "scan.wgsl");
shader!(SCAN_SERIAL "scan_serial" 3 "scan_serial.wgsl");
shader!(SORT_TILE "sort_tile" 1 "sort_parameters.wgsl" "sort_tile.wgsl");
shader!(SORT_STEP "sort_step" 2 "sort_parameters.wgsl" "sort_step.wgsl");
shader!(SORT_EMIT "sort_emit" 4 "sort_emit.wgsl");
shader!(SEARCH_SORTED "searchsorted" 3 "searchsorted.wgsl");
shader!(ASSIGN "assign" 2 "assign.wgsl");
shader!(GATHER "gather" 4 "gather.wgsl" "pick.wgsl");
shader!(SCATTER "scatter" 3 "scatter.wgsl");
shader!(SCATTER_FEW "scatter_few" 5 "scatter_few.wgsl" "pick.wgsl");
shader!(SCATTER_KEYS "scatter_keys" 3 "scatter_keys.wgsl" "pick.wgsl");
shader!(MAX_POOL "max_pool" 3 "pool.wgsl" "max_pool.wgsl");
shader!(AVG_POOL "avg_pool" 2 "pool.wgsl" "avg_pool.wgsl");
shader!(AVG_POOL_INPUT "avg_pool_input" 2 "pool.wgsl" "avg_pool_input.wgsl");
shader!(CONV "conv" 3 "conv_parameters.wgsl" "conv.wgsl" "conv_tile.wgsl");
shader!(CONV_DIRECT "conv_direct" 3 "conv_parameters.wgsl" "conv.wgsl" "conv_direct.wgsl");
shader!(CONV_INPUT "conv_input" 3 "conv_parameters.wgsl" "conv_input.wgsl" "conv_tile.wgsl");
shader!(CONV_INPUT_DIRECT "conv_input_direct" 3 "conv_parameters.wgsl" "conv_input.wgsl" "conv_direct.wgsl");
shader!(CONV_WEIGHT "conv_weight" 3 "conv_parameters.wgsl" "conv_weight.wgsl" "conv_tile.wgsl");
shader!(CONV_WEIGHT_DIRECT "conv_weight_direct" 3 "conv_parameters.wgsl" "conv_weight.wgsl" "conv_direct.wgsl");
shader!(CONV_SUM "conv_sum" 2 "conv_sum.wgsl");
shader!(NEIGHBOURS "neighbours" 1 "neighbours.wgsl");
shader!(RANK "rank" 2 "rank.wgsl");
shader!(RADIX_COUNT "radix_count" 2 "radix.wgsl" "radix_count.wgsl");
shader!(RADIX_SCAN "radix_scan" 1 "radix_scan.wgsl");
shader!(RADIX_MOVE "radix_move" 3 "radix.wgsl" "radix_move.wgsl");

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

    /// Records a kernel, compiled at its first use.
    pub fn launch(
        &self,
        shared: &Shared,
        recorder: &mut Queue,
        launch: &Launch<'_>,
        constants: impl FnOnce() -> String,
    ) -> Result<()> {
        let parameters = shared.parameters(launch.words.len());
        let key = Key::Shader(self.name, launch.variant.to_vec());
        let pipeline = shared.pipelines.get(shared, &key, || Ok(self.source(&constants(), parameters)))?;
        recorder.dispatch(shared, &pipeline, launch.bindings, launch.words, launch.groups)
    }
}

/// A hand-written kernel on its way to the queue.
pub(super) struct Launch<'a> {
    /// What its constants are made from.
    pub variant: &'a [u32],
    pub bindings: &'a [Binding<'a>],
    /// Its parameters.
    pub words: &'a [u32],
    pub groups: [u32; 2],
}

/// Every shader as text, with a name: the hand-written ones in each variant, the prelude, and generated
/// kernels for each operation, dtype and class of operands, with and without 64-bit integers of the device's.
/// Tests validate them without a GPU.
pub fn all() -> Vec<(String, String)> {
    let mut all = vec![];
    let mut add = |name: String, text: String| {
        let [native, pairs] = [true, false].map(|native| prelude::wide(&text, native));
        if native != pairs {
            all.push((format!("{name} in pairs"), text.clone() + &pairs));
        }
        all.push((name, text + &native));
    };
    add("prelude".into(), prelude::all());
    for parameters in [Parameters::Immediates, Parameters::Uniform] {
        for variants in [
            assign::variants(parameters),
            conv::variants(parameters),
            generate::variants(parameters),
            index::variants(parameters),
            matmul::variants(parameters),
            neighbours::variants(parameters),
            pointwise::variants(parameters),
            pool::variants(parameters),
            reduce::variants(parameters),
            scan::variants(parameters),
            scatter::variants(parameters),
            softmax::variants(parameters),
            sort::variants(parameters),
        ] {
            for (name, source) in variants {
                add(format!("{name} {parameters:?}"), source.wgsl);
            }
        }
    }
    all
}

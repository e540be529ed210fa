//! The registry of hand-written shaders, and how they become kernels: a file of `shaders/`, the constants
//! and accessors that specialise it, its parameters, and what it calls of the prelude.

use super::device::Shared;
use super::pipeline::{Key, Parameters, Source};
use super::queue::{Binding, Queue};
use super::{
    assign, attention, conv, cooperative, generate, index, matmul, neighbours, normalize, pointwise, pool,
    prelude, recurrent, reduce, scan, scatter, softmax, sort, speed, together,
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
shader!(MATMUL_8X8 "matmul_8x8" 3 "matmul_parameters.wgsl" "matmul.wgsl" "tile_8x8.wgsl" "tile_blocks.wgsl" "tile.wgsl");
shader!(MATMUL_4X4 "matmul_4x4" 3 "matmul_parameters.wgsl" "matmul.wgsl" "tile_4x4.wgsl" "tile_blocks.wgsl" "tile.wgsl");
shader!(MATMUL_COOPERATIVE "matmul_cooperative" 3 "matmul_parameters.wgsl" "matmul.wgsl" "tile_blocks.wgsl" "tile_cooperative.wgsl");
shader!(MATMUL_ONE "matmul_one" 3 "matmul_parameters.wgsl" "matmul_one.wgsl");
shader!(MATMUL_THIN "matmul_thin" 3 "matmul_parameters.wgsl" "matmul_thin.wgsl");
shader!(MATMUL_SUM "matmul_sum" 2 "matmul_sum.wgsl");
shader!(REDUCE "reduce" 2 "combine.wgsl" "reduce.wgsl");
shader!(SOFTMAX "softmax" 2 "combine.wgsl" "softmax.wgsl");
shader!(NORMALIZE "normalize" 4 "combine.wgsl" "normalize.wgsl");
shader!(NORMALIZE_INPUT "normalize_input" 5 "combine.wgsl" "normalize_input.wgsl");
shader!(ATTENTION "attention" 5 "products.wgsl" "attention_scores.wgsl" "attention_rows.wgsl" "attention.wgsl");
shader!(ATTENTION_QUERY "attention_query" 7 "products.wgsl" "attention_scores.wgsl" "attention_rows.wgsl" "attention_kept.wgsl" "attention_query.wgsl");
shader!(ATTENTION_KEY "attention_key" 8 "products.wgsl" "attention_scores.wgsl" "attention_kept.wgsl" "attention_key.wgsl");
shader!(RECURRENT_STEPS "recurrent_steps" 6 "recurrent_cell.wgsl" "recurrent_forward.wgsl" "recurrent_steps.wgsl");
shader!(RECURRENT_STEP "recurrent_step" 7 "products.wgsl" "recurrent_cell.wgsl" "recurrent_forward.wgsl" "recurrent_step.wgsl");
shader!(RECURRENT_INPUT_STEPS "recurrent_input_steps" 8 "recurrent_cell.wgsl" "recurrent_backward.wgsl" "recurrent_input_steps.wgsl");
shader!(RECURRENT_INPUT_STEP "recurrent_input_step" 9 "products.wgsl" "recurrent_cell.wgsl" "recurrent_backward.wgsl" "recurrent_input_step.wgsl");
shader!(SCAN "scan" 3 "scan.wgsl");
shader!(SCAN_SERIAL "scan_serial" 3 "scan_serial.wgsl");
shader!(SORT_TILE "sort_tile" 1 "sort_parameters.wgsl" "sort_tile.wgsl");
shader!(SORT_STEP "sort_step" 2 "sort_parameters.wgsl" "sort_step.wgsl");
shader!(SORT_EMIT "sort_emit" 4 "sort_emit.wgsl");
shader!(SEARCH_SORTED "searchsorted" 3 "searchsorted.wgsl");
shader!(ASSIGN "assign" 2 "assign.wgsl");
shader!(GATHER "gather" 4 "gather.wgsl" "pick.wgsl");
shader!(SCATTER "scatter" 3 "scatter.wgsl");
shader!(SCATTER_FEW "scatter_few" 5 "scatter_few.wgsl" "pick.wgsl" "quads.wgsl");
shader!(SCATTER_KEYS "scatter_keys" 3 "scatter_keys.wgsl" "pick.wgsl");
shader!(MAX_POOL "max_pool" 3 "pool.wgsl" "max_pool.wgsl");
shader!(AVG_POOL "avg_pool" 2 "pool.wgsl" "avg_pool.wgsl" "quads.wgsl");
shader!(AVG_POOL_INPUT "avg_pool_input" 2 "pool.wgsl" "avg_pool_input.wgsl" "quads.wgsl");
shader!(MAX_POOL_INPUT "max_pool_input" 3 "pool.wgsl" "max_pool_input.wgsl" "quads.wgsl");
shader!(CONV_8X8 "conv_8x8" 3 "conv_parameters.wgsl" "conv.wgsl" "conv_matrix.wgsl" "conv_blocks.wgsl" "tile_8x8.wgsl" "tile_blocks.wgsl" "tile.wgsl");
shader!(CONV_4X4 "conv_4x4" 3 "conv_parameters.wgsl" "conv.wgsl" "conv_matrix.wgsl" "conv_blocks.wgsl" "tile_4x4.wgsl" "tile_blocks.wgsl" "tile.wgsl");
shader!(CONV_COOPERATIVE "conv_cooperative" 3 "conv_parameters.wgsl" "conv.wgsl" "conv_matrix.wgsl" "conv_blocks.wgsl" "tile_blocks.wgsl" "tile_cooperative.wgsl");
shader!(CONV_INPUT_8X8 "conv_input_8x8" 3 "conv_parameters.wgsl" "conv_input.wgsl" "conv_rows.wgsl" "conv_blocks.wgsl" "tile_8x8.wgsl" "tile_blocks.wgsl" "tile.wgsl");
shader!(CONV_INPUT_4X4 "conv_input_4x4" 3 "conv_parameters.wgsl" "conv_input.wgsl" "conv_rows.wgsl" "conv_blocks.wgsl" "tile_4x4.wgsl" "tile_blocks.wgsl" "tile.wgsl");
shader!(CONV_INPUT_COOPERATIVE "conv_input_cooperative" 3 "conv_parameters.wgsl" "conv_input.wgsl" "conv_rows.wgsl" "conv_blocks.wgsl" "tile_blocks.wgsl" "tile_cooperative.wgsl");
shader!(CONV_WEIGHT_8X8 "conv_weight_8x8" 3 "conv_parameters.wgsl" "conv_weight.wgsl" "conv_rows.wgsl" "conv_blocks.wgsl" "tile_8x8.wgsl" "tile_blocks.wgsl" "tile.wgsl");
shader!(CONV_WEIGHT_4X4 "conv_weight_4x4" 3 "conv_parameters.wgsl" "conv_weight.wgsl" "conv_rows.wgsl" "conv_blocks.wgsl" "tile_4x4.wgsl" "tile_blocks.wgsl" "tile.wgsl");
shader!(CONV_WEIGHT_COOPERATIVE "conv_weight_cooperative" 3 "conv_parameters.wgsl" "conv_weight.wgsl" "conv_rows.wgsl" "conv_blocks.wgsl" "tile_blocks.wgsl" "tile_cooperative.wgsl");
shader!(CONV_DIRECT "conv_direct" 3 "conv_parameters.wgsl" "conv.wgsl" "conv_direct.wgsl");
shader!(CONV_INPUT_DIRECT "conv_input_direct" 3 "conv_parameters.wgsl" "conv_input.wgsl" "conv_direct.wgsl");
shader!(CONV_WEIGHT_REDUCE "conv_weight_reduce" 3 "conv_parameters.wgsl" "conv_weight.wgsl" "conv_reduce.wgsl");
shader!(CONV_DEPTHWISE "conv_depthwise" 3 "conv_depthwise.wgsl");
shader!(NEIGHBOURS "neighbours" 1 "neighbours.wgsl");
shader!(SUBGROUPS "subgroups" 1 "subgroups.wgsl");
shader!(RANK "rank" 2 "rank.wgsl");
shader!(RADIX_COUNT "radix_count" 2 "radix.wgsl" "radix_count.wgsl");
shader!(RADIX_SCAN "radix_scan" 1 "radix_scan.wgsl");
shader!(MULTIPLY_ADDS "multiply_adds" 1 "multiply_adds.wgsl");
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
            attention::variants(parameters),
            conv::variants(parameters),
            cooperative::variants(parameters),
            generate::variants(parameters),
            index::variants(parameters),
            matmul::variants(parameters),
            neighbours::variants(parameters),
            normalize::variants(parameters),
            pointwise::variants(parameters),
            pool::variants(parameters),
            recurrent::variants(parameters),
            reduce::variants(parameters),
            scan::variants(parameters),
            scatter::variants(parameters),
            softmax::variants(parameters),
            sort::variants(parameters),
            speed::variants(parameters),
            together::variants(parameters),
        ] {
            for (name, source) in variants {
                add(format!("{name} {parameters:?}"), source.wgsl);
            }
        }
    }
    all
}

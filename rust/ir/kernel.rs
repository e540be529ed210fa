//! Everything a backend can be asked to run. A node of the graph is a kernel, its inputs and the shapes
//! and dtypes of its outputs; the planner turns neighbouring kernels into fewer, larger ones; a
//! backend is one exhaustive `match` over this enum.
//!
//! Every output is a fresh row-major buffer. Inputs come as strided views; "map" below is a fused
//! prologue, whose tensor operands are then the kernel's inputs, all of the iteration shape.

use super::conv::{Conv2d, Pool2d};
use super::{Elementwise, Program, Reg, Step};
use crate::core::{DType, Layout, Scalar};
use smallvec::SmallVec;
use std::sync::Arc;

/// An argument of a single elementwise operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// The n-th input of the node.
    Input(u8),
    Scalar(Scalar),
}

pub type Scalars = SmallVec<[Scalar; 4]>;

/// A program with the values of its scalar parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Fused {
    pub program: Arc<Program>,
    pub scalars: Scalars,
}

impl Fused {
    pub fn identity(dtype: DType) -> Fused {
        Fused { program: Arc::new(Program::identity(dtype)), scalars: Scalars::new() }
    }

    /// A single operation.
    pub fn apply(op: Elementwise, dtype: DType, args: &[Arg]) -> Fused {
        let mut program = Program::default();
        let mut scalars = Scalars::new();
        let mut regs = [Reg::Input(0); 3];
        for (i, arg) in args.iter().enumerate() {
            let dtype = if op == Elementwise::r#where && i == 0 { DType::Bool } else { dtype };
            regs[i] = match *arg {
                Arg::Input(n) => {
                    let n = n as usize;
                    if program.inputs.len() <= n {
                        program.inputs.resize(n + 1, dtype);
                    }
                    program.inputs[n] = dtype;
                    Reg::Input(n as u16)
                }
                Arg::Scalar(value) => {
                    program.scalars.push(dtype);
                    scalars.push(value);
                    Reg::Scalar(program.scalars.len() as u16 - 1)
                }
            };
        }
        program.steps.push(Step::Apply { op, dtype, args: regs });
        program.outputs.push(Reg::Step(0));
        Fused { program: Arc::new(program), scalars }
    }

    /// A conversion.
    pub fn cast(from: DType, to: DType) -> Fused {
        let mut program = Program::identity(from);
        if from != to {
            program.steps.push(Step::Cast { from, to, arg: Reg::Input(0) });
            program.outputs[0] = Reg::Step(0);
        }
        Fused { program: Arc::new(program), scalars: Scalars::new() }
    }
}

/// A set of axes, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Axes(pub u32);

impl Axes {
    pub fn new(axes: &[usize]) -> Axes {
        Axes(axes.iter().fold(0, |bits, &a| bits | 1 << a))
    }

    pub fn contains(self, axis: usize) -> bool {
        self.0 >> axis & 1 == 1
    }
}

/// How a reduction combines elements. Over nothing it gives the identity; `Max` and `Min` over
/// nothing are refused when the node is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduce {
    /// Floats to their dtype (half floats accumulate in float32), integers wrap.
    Sum,
    Prod,
    /// NaN if any element is NaN.
    Max,
    Min,
    /// bool to bool.
    Any,
    All,
    /// `log Σ exp`, without overflow; floats only.
    LogSumExp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scan {
    Sum,
    Prod,
    Max,
    Min,
}

/// How written elements meet what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scatter {
    /// The last writer in row-major order of the indices wins.
    Set,
    /// Duplicates add up, in row-major order of the indices.
    Add,
}

/// What a recurrent layer does in a step, from the input's share gi and the last hidden state's share gh of
/// the gates, which lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    /// h' = tanh(gi + gh).
    Tanh,
    /// h' = max(gi + gh, 0).
    Relu,
    /// i, f, g, o = gi + gh; c' = σ(f) c + σ(i) tanh(g); h' = σ(o) tanh(c').
    Lstm,
    /// r = σ(gi₁ + gh₁); z = σ(gi₂ + gh₂); n = tanh(gi₃ + r gh₃); h' = (1 − z) n + z h.
    Gru,
}

/// What a random kernel draws. Element `i` depends on key and `offset + i` alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Every bit pattern of the dtype (integers); 0 or 1 for bool.
    Bits,
    /// Uniform on [0, 1).
    Uniform,
    /// Standard normal.
    Normal,
    /// Uniform integers in [low, low + span); span ≥ 1.
    Integer { low: i64, span: u64 },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kernel {
    /// One elementwise operation on arguments of `dtype`; what users record and the planner fuses.
    Apply {
        op: Elementwise,
        dtype: DType,
        args: SmallVec<[Arg; 3]>,
    },
    /// Conversion to the dtype of the output, by the rule of [`super::Step::Cast`].
    Cast,
    /// The elements of a view in row-major order.
    Copy,
    /// A fused chain; one output for each of the program's, all of one shape.
    Pointwise(Fused),

    /// One value everywhere.
    Fill(Scalar),
    /// `start + i·step`, computed in float64 or wrapping int64, then converted.
    Arange {
        start: Scalar,
        step: Scalar,
    },
    Random {
        distribution: Distribution,
        key: u64,
        offset: u64,
    },

    /// Reduces `axes` of the map's values to size 1.
    Reduce {
        op: Reduce,
        axes: Axes,
        map: Fused,
    },
    /// Mean and biased variance over `axes`, to size 1: two outputs, of the map's float dtype.
    Moments {
        axes: Axes,
        map: Fused,
    },
    /// Rows (rows, n), whose neighbours lie side by side, with mean 0, if they are centred, and mean square 1:
    /// `y = (x − μ) r w + b` with `r = 1 / √(σ² + eps)`, a weight (n) and a bias (n) where there are, which
    /// follow x. Outputs are y, μ (or 0) and r (rows, 1). Float32 and float64, on the GPU half floats too, with
    /// μ and r in float32.
    Normalize {
        centred: bool,
        eps: f64,
        weight: bool,
        bias: bool,
    },
    /// The gradients of x, of the weight if there is one, and of the bias if that is asked for, from x, dy, μ,
    /// r and the weight.
    NormalizeInput {
        centred: bool,
        weight: bool,
        bias: bool,
    },
    /// The int64 index of the first largest (or smallest) element along `axis`, or of the first NaN;
    /// `axis` becomes size 1.
    ArgReduce {
        largest: bool,
        axis: usize,
    },
    /// Running combination along `axis`.
    Scan {
        op: Scan,
        axis: usize,
    },
    /// Softmax, or its logarithm, along the last axis of the map's values.
    Softmax {
        log: bool,
        map: Fused,
    },
    /// Values in order along the last axis, and the int64 indices that give it. Stable; NaN last when
    /// ascending and first when descending.
    Sort {
        descending: bool,
    },
    /// For each value of input 1 (…, M), where it would go in the sorted rows of input 0 (…, N):
    /// int64, left of equal elements or right of them.
    SearchSorted {
        right: bool,
    },

    /// Inputs (…, M, K) and (…, K, N) with equal leading sizes, to (…, M, N). Input 0 of the epilogue's
    /// program is the product; its other inputs follow the two matrices and have the output's shape.
    Matmul {
        epilogue: Option<Fused>,
    },
    /// (N, C, H, W) and (K, C/groups, R, S), to (N, K, H', W'); the epilogue as for `Matmul`.
    Conv {
        conv: Conv2d,
        epilogue: Option<Fused>,
    },
    /// The gradient of the input from dy and w.
    ConvInput {
        conv: Conv2d,
    },
    /// The gradient of the weight from x and dy.
    ConvWeight {
        conv: Conv2d,
    },
    /// (N, C, H, W) to values and int64 places within the plane H·W.
    MaxPool {
        pool: Pool2d,
    },
    /// dy and places, to the gradient of an input of the output's size; of `MaxPool`, or of `AdaptiveMaxPool`.
    MaxPoolInput {
        pool: Option<Pool2d>,
    },
    AvgPool {
        pool: Pool2d,
    },
    AvgPoolInput {
        pool: Pool2d,
    },
    /// Bins `[⌊i·H/H'⌋, ⌈(i+1)·H/H'⌉)`.
    AdaptiveAvgPool,
    AdaptiveAvgPoolInput,
    /// Values and places, as `MaxPool`; the gradient is `MaxPoolInput`.
    AdaptiveMaxPool,

    /// softmax(scale Q Kᵀ + mask) V of q (…, L, E), k (…, S, E) and v (…, S, V), whose leading sizes are equal
    /// and whose last axes have neighbours, and maybe a mask (…, L, S) of the dtype that computes. Causal queries i see
    /// keys 0 to i. Outputs are (…, L, V) and the logarithms of the sums of exponentials (…, L); a query
    /// that sees no key gives zeros and −∞.
    Attention {
        causal: bool,
        scale: f64,
    },
    /// The gradients of q, k and v, from both outputs of `Attention`, the first one's gradient, and its
    /// inputs.
    AttentionInput {
        causal: bool,
        scale: f64,
    },
    /// All steps of a recurrent layer: gi (L, N, gates·H), the recurrent weight (gates·H, H), the initial
    /// states (N, H), which are h and for an LSTM c, and optionally the recurrent bias (gates·H), to each
    /// state before and after all steps (L + 1, N, H), and (L, N, 4·H) for the gradient, if that is an
    /// output: the gates of an LSTM behind their functions; r, z, n and the hidden state's share of n of a
    /// GRU. Reversed, steps are taken from the last to the first, and the initial state is the last.
    Recurrent {
        cell: Cell,
        reverse: bool,
    },
    /// The gradients of gi, for a GRU of the hidden state's share as well, and of the initial states, from
    /// the recurrent weight, the outputs of `Recurrent`, the gradients of all h (L, N, H) and of the last
    /// states.
    RecurrentInput {
        cell: Cell,
        reverse: bool,
    },

    /// `x[…, index, …]` along `axis`: the axis is replaced by all axes of the index (input 1, int64,
    /// non-negative or −size…−1).
    Take {
        axis: usize,
    },
    /// The gradient of `Take`: (dy, index) added into zeros of the output's shape.
    TakeInput {
        axis: usize,
    },
    /// `out[i][j] = x[index[i][j]][j]` along `axis`; index and output have one shape.
    Gather {
        axis: usize,
    },
    /// Input 0 with `out[index[i][j]][j]` set or added from input 2, along `axis`; index is input 1.
    Scatter {
        axis: usize,
        mode: Scatter,
    },
    /// Input 0 with input 1 written into `window` of it.
    Assign {
        window: Layout,
        mode: Scatter,
    },
    /// Inputs joined along `axis`.
    Concat {
        axis: usize,
    },
}

impl Kernel {
    /// Whether the values of the operands decide if this can run: such a node remembers the user's line.
    pub fn fails_late(&self) -> bool {
        matches!(
            self,
            Kernel::Take { .. } | Kernel::TakeInput { .. } | Kernel::Gather { .. } | Kernel::Scatter { .. }
        )
    }

    /// The name in errors and structure keys.
    pub fn name(&self) -> &'static str {
        match self {
            Kernel::Apply { op, .. } => op.name(),
            Kernel::Cast => "cast",
            Kernel::Copy => "copy",
            Kernel::Pointwise(_) => "pointwise",
            Kernel::Fill(_) => "fill",
            Kernel::Arange { .. } => "arange",
            Kernel::Random { .. } => "random",
            Kernel::Reduce { op: Reduce::Sum, .. } => "sum",
            Kernel::Reduce { op: Reduce::Prod, .. } => "prod",
            Kernel::Reduce { op: Reduce::Max, .. } => "amax",
            Kernel::Reduce { op: Reduce::Min, .. } => "amin",
            Kernel::Reduce { op: Reduce::Any, .. } => "any",
            Kernel::Reduce { op: Reduce::All, .. } => "all",
            Kernel::Reduce { op: Reduce::LogSumExp, .. } => "logsumexp",
            Kernel::Moments { .. } => "moments",
            Kernel::Normalize { .. } => "normalize",
            Kernel::NormalizeInput { .. } => "normalize_input",
            Kernel::ArgReduce { largest: true, .. } => "argmax",
            Kernel::ArgReduce { .. } => "argmin",
            Kernel::Scan { op: Scan::Sum, .. } => "cumsum",
            Kernel::Scan { op: Scan::Prod, .. } => "cumprod",
            Kernel::Scan { op: Scan::Max, .. } => "cummax",
            Kernel::Scan { op: Scan::Min, .. } => "cummin",
            Kernel::Softmax { log: false, .. } => "softmax",
            Kernel::Softmax { .. } => "log_softmax",
            Kernel::Sort { .. } => "sort",
            Kernel::SearchSorted { .. } => "searchsorted",
            Kernel::Matmul { .. } => "matmul",
            Kernel::Conv { .. } => "conv",
            Kernel::ConvInput { .. } => "conv_input",
            Kernel::ConvWeight { .. } => "conv_weight",
            Kernel::MaxPool { .. } => "max_pool",
            Kernel::MaxPoolInput { .. } => "max_pool_input",
            Kernel::AvgPool { .. } => "avg_pool",
            Kernel::AvgPoolInput { .. } => "avg_pool_input",
            Kernel::AdaptiveAvgPool => "adaptive_avg_pool",
            Kernel::AdaptiveAvgPoolInput => "adaptive_avg_pool_input",
            Kernel::AdaptiveMaxPool => "adaptive_max_pool",
            Kernel::Attention { .. } => "attention",
            Kernel::AttentionInput { .. } => "attention_input",
            Kernel::Recurrent { .. } => "recurrent",
            Kernel::RecurrentInput { .. } => "recurrent_input",
            Kernel::Take { .. } => "take",
            Kernel::TakeInput { .. } => "take_input",
            Kernel::Gather { .. } => "gather",
            Kernel::Scatter { .. } => "scatter",
            Kernel::Assign { .. } => "assign",
            Kernel::Concat { .. } => "concat",
        }
    }
}

//! Automatic mixed precision: THE TABLE of operations that run in a half float and of those that run in float32
//! where a region of `autocast` is entered, and the state of this thread's regions. An operation asks [`cast`] with
//! its name before it does anything else; outside of regions that is one look at a thread-local.
//!
//! What the table does not name takes its operands as they come, and several of them promote. The walk back runs
//! with autocast [`off`]: the gradient of a cast is a cast, so that gradients arrive in the dtype of the weights.

use super::cast::cast as convert;
use crate::core::{DType, Result};
use crate::graph::record::{Edge, grad_enabled};
use crate::graph::tensor::WeakTensor;
use crate::graph::{Device, Tensor};
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};

/// In which dtype an operation runs within a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The region's half float: products, which gain from it and whose sums are float32 all the same.
    Low,
    /// float32: what leaves the range of float16 or adds up many rounding errors.
    Full,
}

use Policy::{Full, Low};

/// THE TABLE, by the names that operations have in errors.
pub const TABLE: &[(&str, Policy)] = &[
    ("attention", Low),
    ("conv1d", Low),
    ("conv2d", Low),
    ("conv_transpose1d", Low),
    ("conv_transpose2d", Low),
    ("einsum", Low),
    ("linear", Low),
    ("matmul", Low),
    ("recurrent", Low),
    ("acos", Full),
    ("asin", Full),
    ("binary_cross_entropy", Full),
    ("binary_cross_entropy_with_logits", Full),
    ("cdist", Full),
    ("cosh", Full),
    ("cosine_similarity", Full),
    ("cross_entropy", Full),
    ("cumprod", Full),
    ("cumsum", Full),
    ("erfinv", Full),
    ("exp", Full),
    ("exp2", Full),
    ("expm1", Full),
    ("gaussian_nll_loss", Full),
    ("group_norm", Full),
    ("hinge_embedding_loss", Full),
    ("huber_loss", Full),
    ("kl_div", Full),
    ("l1_loss", Full),
    ("layer_norm", Full),
    ("log", Full),
    ("log10", Full),
    ("log1p", Full),
    ("log2", Full),
    ("log_softmax", Full),
    ("logsumexp", Full),
    ("margin_ranking_loss", Full),
    ("mean", Full),
    ("mse_loss", Full),
    ("nll_loss", Full),
    ("norm", Full),
    ("pairwise_distance", Full),
    ("poisson_nll_loss", Full),
    ("pow", Full),
    ("prod", Full),
    ("reciprocal", Full),
    ("rms_norm", Full),
    ("rsqrt", Full),
    ("sinh", Full),
    ("smooth_l1_loss", Full),
    ("soft_margin_loss", Full),
    ("softmax", Full),
    ("softplus", Full),
    ("sum", Full),
    ("tan", Full),
];

/// The kinds of device, which have a region each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Cpu,
    Gpu,
}

impl Kind {
    fn of(device: Device) -> Kind {
        if device == Device::Cpu { Kind::Cpu } else { Kind::Gpu }
    }
}

/// What holds on a thread: the half float of each kind of device, or none where there is no region.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct State {
    low: [Option<DType>; 2],
    /// Whether casts of weights are kept until the outermost region ends.
    cache: bool,
}

const OFF: State = State { low: [None; 2], cache: false };

/// Casts of leaves, by the leaf's place in memory, the dtype, and whether the cast is in the record. A weak
/// reference keeps the place from being used again; a leaf that an optimizer has replaced is a dead one.
type Cache = FxHashMap<(usize, DType, bool), (WeakTensor, Tensor)>;

thread_local! {
    static STATE: Cell<State> = const { Cell::new(OFF) };
    static OUTER: RefCell<Vec<State>> = const { RefCell::new(vec![]) };
    static CACHE: RefCell<Cache> = RefCell::default();
}

/// Begins a region in which operations on devices of `kind` run in `low`, or as they do without autocast.
pub fn enter(kind: Kind, low: Option<DType>, cache: bool) {
    let mut state = STATE.get();
    OUTER.with_borrow_mut(|outer| outer.push(state));
    state.low[kind as usize] = low;
    state.cache = cache;
    STATE.set(state);
}

/// Ends the region that this thread began last; with the outermost one, casts of weights are forgotten.
pub fn exit() {
    let (before, left) = OUTER.with_borrow_mut(|outer| (outer.pop().unwrap_or(OFF), outer.len()));
    STATE.set(before);
    if left == 0 {
        // Tensors are dropped after the cache is released: that may run code that looks at it.
        let _old = CACHE.take();
    }
}

/// The half float of this thread's region for devices of a kind, if it is in one.
pub fn low(kind: Kind) -> Option<DType> {
    STATE.get().low[kind as usize]
}

/// Whether this thread is in a region of any kind.
#[inline]
pub fn is_active() -> bool {
    STATE.get().low != OFF.low
}

/// Whether casts of weights are kept.
pub fn caches() -> bool {
    STATE.get().cache
}

/// Runs `body` outside of all regions.
pub fn off<T>(body: impl FnOnce() -> T) -> T {
    struct Restore(State);
    impl Drop for Restore {
        fn drop(&mut self) {
            STATE.set(self.0);
        }
    }
    let _restore = Restore(STATE.replace(OFF));
    body()
}

/// The operands of `op` in the dtypes that the table asks for, or nothing where they are so already, which is
/// always the case outside of regions. float64 and what is no float stay as they are.
#[inline]
pub fn cast<const N: usize>(op: &str, operands: [Option<&Tensor>; N]) -> Result<Option<[Option<Tensor>; N]>> {
    if is_active() { cast_in(STATE.get(), op, operands) } else { Ok(None) }
}

/// The same for operations of one operand, which is given back where it is as it should be.
#[inline]
pub fn one(op: &str, x: &Tensor) -> Result<Tensor> {
    Ok(match cast(op, [Some(x)])? {
        Some([Some(x)]) => x,
        _ => x.clone(),
    })
}

/// The same for any number of operands.
pub fn all(op: &str, operands: &[&Tensor]) -> Result<Vec<Tensor>> {
    let state = STATE.get();
    let dtype = operands.first().and_then(|first| wanted(state, op, first.device()));
    operands.iter().map(|t| dtype.map_or(Ok((*t).clone()), |dtype| taken(state, t, dtype))).collect()
}

#[cold]
fn cast_in<const N: usize>(
    state: State,
    op: &str,
    operands: [Option<&Tensor>; N],
) -> Result<Option<[Option<Tensor>; N]>> {
    let Some(first) = operands.iter().flatten().next() else { return Ok(None) };
    let Some(dtype) = wanted(state, op, first.device()) else { return Ok(None) };
    if operands.iter().flatten().all(|t| t.dtype() == dtype || !eligible(t)) {
        return Ok(None);
    }
    let mut out = [const { None }; N];
    for (out, t) in out.iter_mut().zip(operands) {
        *out = t.map(|t| taken(state, t, dtype)).transpose()?;
    }
    Ok(Some(out))
}

/// What the table and the region ask of an operation.
fn wanted(state: State, op: &str, device: Device) -> Option<DType> {
    let low = state.low[Kind::of(device) as usize]?;
    match TABLE.iter().find(|(name, _)| *name == op)?.1 {
        Low => Some(low),
        Full => Some(DType::F32),
    }
}

fn eligible(t: &Tensor) -> bool {
    matches!(t.dtype(), DType::F16 | DType::BF16 | DType::F32)
}

fn taken(state: State, t: &Tensor, dtype: DType) -> Result<Tensor> {
    if t.dtype() == dtype || !eligible(t) {
        return Ok(t.clone());
    }
    let weight = t.dtype() == DType::F32 && matches!(t.edge(), Edge::Leaf(_));
    if !state.cache || !weight {
        return convert(t, dtype);
    }
    let key = (t.address(), dtype, grad_enabled());
    if let Some(found) = CACHE.with_borrow(|cache| cache.get(&key).map(|(_, found)| found.clone())) {
        return Ok(found);
    }
    let found = convert(t, dtype)?;
    let entry = (t.downgrade(), found.clone());
    // A training loop within one region replaces its weights each step.
    let _dead = CACHE.with_borrow_mut(|cache| {
        let full = cache.len() == cache.capacity();
        let dead: Vec<_> =
            if full { cache.extract_if(|_, (weight, _)| weight.is_dead()).collect() } else { vec![] };
        cache.insert(key, entry);
        dead
    });
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_an_operation_once() {
        for (i, (name, _)) in TABLE.iter().enumerate() {
            assert!(TABLE[..i].iter().all(|(other, _)| other != name), "{name}");
        }
    }

    #[test]
    fn regions_nest_and_end() {
        assert_eq!(low(Kind::Cpu), None);
        enter(Kind::Cpu, Some(DType::BF16), true);
        enter(Kind::Gpu, Some(DType::F16), true);
        assert_eq!((low(Kind::Cpu), low(Kind::Gpu)), (Some(DType::BF16), Some(DType::F16)));
        assert_eq!(off(|| low(Kind::Cpu)), None);
        enter(Kind::Cpu, None, true);
        assert_eq!((low(Kind::Cpu), low(Kind::Gpu)), (None, Some(DType::F16)));
        exit();
        exit();
        assert_eq!((low(Kind::Cpu), low(Kind::Gpu)), (Some(DType::BF16), None));
        exit();
        exit();
        assert_eq!(STATE.get(), OFF);
    }
}

//! Random numbers: generators, distributions, permutations and dropout. Every draw takes its key and its
//! place in the stream at the call, so that what runs, when and where never shifts another's numbers.

use super::{cast, elementwise, host, reduce, search, sort, source, view};
use crate::bail;
use crate::core::{DType, Result, Scalar, Shape};
use crate::graph::node::Operands;
use crate::graph::{Device, Tensor};
use crate::ir::Elementwise as E;
use crate::ir::Kernel;
use crate::ir::kernel::{Distribution, Scan};
use elementwise::Arg;
use parking_lot::Mutex;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

/// A stream of random numbers: the key names it, the offset is how many elements have been drawn.
pub struct Generator(Mutex<(u64, u64)>);

/// A draw begins with a new block of the counter, so that no two share a word.
const BLOCK: u64 = 4;
/// Draws that take two words an element read a stream of their own, whose key differs in these bits.
const WIDE: u64 = 0x9E37_79B9_7F4A_7C15;

/// Whether an element takes two words of the stream.
fn is_wide(distribution: Distribution, dtype: DType) -> bool {
    match distribution {
        Distribution::Integer { .. } => true,
        Distribution::Normal => false,
        Distribution::Bits | Distribution::Uniform => dtype.size() == 8,
    }
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator(Mutex::new((seed, 0)))
    }

    /// Begins the stream of another seed.
    pub fn set_seed(&self, seed: u64) {
        *self.0.lock() = (seed, 0);
    }

    /// The seed and the offset: all there is to know.
    pub fn state(&self) -> (u64, u64) {
        *self.0.lock()
    }

    pub fn set_state(&self, state: (u64, u64)) {
        *self.0.lock() = state;
    }

    /// Takes `count` elements of the stream: their key and the place of the first.
    pub fn reserve(&self, count: usize) -> (u64, u64) {
        let mut state = self.0.lock();
        let (key, offset) = *state;
        state.1 = offset.wrapping_add((count as u64).next_multiple_of(BLOCK));
        (key, offset)
    }
}

/// The generator that is used where none is given; its first seed differs from run to run.
pub fn global() -> &'static Generator {
    static GLOBAL: LazyLock<Generator> =
        LazyLock::new(|| Generator::new(RandomState::new().build_hasher().finish()));
    &GLOBAL
}

/// Seeds the global generator.
pub fn manual_seed(seed: u64) {
    global().set_seed(seed);
}

fn draw(
    distribution: Distribution,
    shape: &Shape,
    dtype: DType,
    device: Device,
    from: &Generator,
) -> Result<Tensor> {
    Shape::checked("random", shape)?;
    let (key, offset) = from.reserve(shape.count());
    let key = if is_wide(distribution, dtype) { key ^ WIDE } else { key };
    source(device, Kernel::Random { distribution, key, offset }, Operands::new(), shape.clone(), dtype)
}

fn is_float(op: &str, dtype: DType) -> Result<()> {
    if !dtype.is_float() {
        bail!(DType, "{op}: gives floats, not {dtype}");
    }
    Ok(())
}

/// Uniform on [0, 1).
pub fn rand(shape: &Shape, dtype: DType, device: Device, from: &Generator) -> Result<Tensor> {
    is_float("rand", dtype)?;
    draw(Distribution::Uniform, shape, dtype, device, from)
}

/// Standard normal.
pub fn randn(shape: &Shape, dtype: DType, device: Device, from: &Generator) -> Result<Tensor> {
    is_float("randn", dtype)?;
    draw(Distribution::Normal, shape, dtype, device, from)
}

/// Uniform integers in [low, high).
pub fn randint(
    low: i64,
    high: i64,
    shape: &Shape,
    dtype: DType,
    device: Device,
    from: &Generator,
) -> Result<Tensor> {
    if !dtype.is_int() {
        bail!(DType, "randint: gives integers, not {dtype}");
    }
    if low >= high {
        bail!(Value, "randint: there is no integer in [{low}, {high})");
    }
    if !Scalar::Int(low).fits(dtype) || !Scalar::Int(high - 1).fits(dtype) {
        bail!(Value, "randint: [{low}, {high}) does not fit {dtype}");
    }
    let span = high.wrapping_sub(low) as u64;
    draw(Distribution::Integer { low, span }, shape, dtype, device, from)
}

/// Uniform on [low, high).
pub fn uniform(
    low: f64,
    high: f64,
    shape: &Shape,
    dtype: DType,
    device: Device,
    from: &Generator,
) -> Result<Tensor> {
    if !(low <= high && (high - low).is_finite()) {
        bail!(Value, "uniform: [{low}, {high}) is no interval");
    }
    let unit = rand(shape, dtype, device, from)?;
    elementwise::binary(E::add, &elementwise::binary(E::mul, &unit, high - low)?, low)
}

/// Normal with these means and standard deviations, numbers or tensors, which broadcast to `shape`.
/// Differentiable in both.
pub fn normal(
    mean: impl Into<Arg>,
    std: impl Into<Arg>,
    shape: &Shape,
    dtype: DType,
    device: Device,
    from: &Generator,
) -> Result<Tensor> {
    let (mean, std) = (mean.into(), std.into());
    if let Arg::Scalar(s) = std
        && (s.as_f64().is_nan() || s.as_f64() < 0.0)
    {
        bail!(Value, "normal: a standard deviation of {}", s.as_f64());
    }
    let out = elementwise::binary(
        E::add,
        &elementwise::binary(E::mul, &randn(shape, dtype, device, from)?, std)?,
        mean,
    )?;
    if out.shape() != shape {
        bail!(Shape, "normal: mean and standard deviation give {}, not {shape}", out.shape());
    }
    Ok(out)
}

/// 1 with the probability that each element of `p` gives, else 0, in the dtype of `p`. Not differentiable.
pub fn bernoulli(p: &Tensor, from: &Generator) -> Result<Tensor> {
    is_float("bernoulli", p.dtype())?;
    let unit = rand(p.shape(), DType::F32, p.device(), from)?;
    cast::cast(&elementwise::binary(E::lt, &unit, &p.detach())?, p.dtype())
}

/// The integers 0 … n − 1 in random order, int64.
pub fn permutation(n: usize, device: Device, from: &Generator) -> Result<Tensor> {
    let keys = draw(Distribution::Bits, &Shape::checked("randperm", &[n])?, DType::I64, device, from)?;
    sort::argsort(&keys, 0, false)
}

/// `count` indices drawn by the weights in the rows of `p` (…, N), which need not sum to 1: int64
/// (…, count). Without replacement by an exponential race (Efraimidis and Spirakis, 2006). Observes the
/// weights to refuse what is none. Not differentiable.
pub fn multinomial(p: &Tensor, count: usize, replacement: bool, from: &Generator) -> Result<Tensor> {
    is_float("multinomial", p.dtype())?;
    if p.rank() == 0 || count == 0 {
        bail!(Shape, "multinomial: {count} draws from weights of {}", p.shape());
    }
    let p = cast::cast(&p.detach(), p.dtype().compute())?;
    let last = p.rank() - 1;
    let usable = elementwise::binary(E::bitwise_and, &elementwise::binary(E::ge, &p, 0.0)?, &finite(&p)?)?;
    if !host::places_of_true(&elementwise::unary(E::bitwise_not, &usable)?)?.is_empty() {
        bail!(Value, "multinomial: weights must be finite and not negative");
    }
    let need = Arg::Scalar(Scalar::Int(if replacement { 1 } else { count as i64 }));
    let positive = reduce::sum(&elementwise::binary(E::gt, &p, 0.0)?, &[last], false)?;
    if !host::places_of_true(&elementwise::binary(E::lt, &positive, need)?)?.is_empty() {
        bail!(Value, "multinomial: a row has fewer positive weights than are to be drawn from it");
    }
    let mut shape = p.shape().clone();
    if !replacement {
        let exponential = elementwise::unary(
            E::log1p,
            &elementwise::unary(E::neg, &rand(&shape, p.dtype(), p.device(), from)?)?,
        )?;
        let times = elementwise::binary(E::div, &elementwise::unary(E::neg, &exponential)?, &p)?;
        return Ok(sort::topk(&times, count, last, false)?.1);
    }
    shape[last] = count;
    let unit = rand(&Shape::checked("multinomial", &shape)?, p.dtype(), p.device(), from)?;
    let sums = reduce::scan(Scan::Sum, &p, last)?;
    let total = view::slice(&sums, last, p.shape()[last] - 1, 1, 1)?;
    search::searchsorted(&elementwise::binary(E::div, &sums, &total)?, &unit, true)
}

fn finite(x: &Tensor) -> Result<Tensor> {
    elementwise::unary(E::isfinite, x)
}

/// `x` with elements set to 0 with probability `p` and the others divided by `1 − p` (Srivastava et al.,
/// 2014).
pub fn dropout(x: &Tensor, p: f64, from: &Generator) -> Result<Tensor> {
    masked(x, x.shape(), p, from)
}

/// Dropout of whole channels: one decision for each (N, C) of `x` (N, C, …).
pub fn dropout_channels(x: &Tensor, p: f64, from: &Generator) -> Result<Tensor> {
    if x.rank() < 2 {
        bail!(Shape, "dropout: expected (N, C, …), got {}", x.shape());
    }
    let shape: Shape = x.shape().iter().enumerate().map(|(a, &n)| if a < 2 { n } else { 1 }).collect();
    masked(x, &shape, p, from)
}

fn masked(x: &Tensor, shape: &Shape, p: f64, from: &Generator) -> Result<Tensor> {
    is_float("dropout", x.dtype())?;
    if !(0.0..=1.0).contains(&p) {
        bail!(Value, "dropout: a probability of {p}");
    }
    if p == 0.0 {
        return Ok(x.clone());
    }
    let unit = rand(shape, DType::F32, x.device(), from)?;
    let stays = elementwise::binary(E::ge, &unit, p)?;
    let scale = if p == 1.0 { 0.0 } else { 1.0 / (1.0 - p) };
    elementwise::select(&stays, &elementwise::binary(E::mul, x, scale)?, 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_never_share_a_block() {
        let g = Generator::new(7);
        assert_eq!(g.reserve(5), (7, 0));
        assert_eq!(g.reserve(0), (7, 8));
        assert_eq!(g.reserve(1), (7, 8));
        assert_eq!(g.state(), (7, 12));
        g.set_seed(3);
        assert_eq!(g.reserve(1), (3, 0));
    }

    #[test]
    fn parameters_are_checked() {
        let (g, s) = (Generator::new(0), Shape::new(&[2]));
        let message = |r: Result<Tensor>| r.unwrap_err().to_string();
        assert_eq!(
            message(randint(3, 3, &s, DType::I64, Device::Cpu, &g)),
            "randint: there is no integer in [3, 3)"
        );
        assert_eq!(
            message(randint(0, 300, &s, DType::U8, Device::Cpu, &g)),
            "randint: [0, 300) does not fit uint8"
        );
        assert_eq!(message(rand(&s, DType::I64, Device::Cpu, &g)), "rand: gives floats, not int64");
        assert!(uniform(f64::NAN, 1.0, &s, DType::F32, Device::Cpu, &g).is_err());
        let x = crate::ops::create::zeros(&s, DType::F32, Device::Cpu).unwrap();
        assert_eq!(message(dropout(&x, 1.5, &g)), "dropout: a probability of 1.5");
        assert_eq!(g.state(), (0, 0), "a refused draw takes nothing");
    }
}

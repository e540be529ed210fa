//! Kernels and memory on a real driver: the adapter that `OXON_GPU_ADAPTER` names, or Mesa's lavapipe. Without
//! one they are skipped and say so; `OXON_REQUIRE_GPU=1` makes that a failure.

mod attention;
mod conv;
mod elementwise;
mod index;
mod kernels;
mod matmul;
mod memory;
mod normalize;
mod pool;
mod recurrent;
mod reference;
mod rows;
mod scan;
mod scatter;
mod together;

use super::*;
use crate::core::layout::Layout;
use crate::ir::kernel::Arg;
use crate::ir::{Elementwise, Program, Reg, Step};
use std::sync::Arc;

/// The device under test.
fn device() -> Option<Device> {
    let name = std::env::var(ADAPTER_VARIABLE).unwrap_or_else(|_| "llvmpipe".into());
    match place(&name).and_then(open) {
        Ok(device) => {
            // With no Vulkan driver other stacks would answer to the name.
            assert!(cfg!(not(target_os = "linux")) || device.adapter().backend == "vulkan");
            Some(device)
        }
        Err(error) if std::env::var_os("OXON_REQUIRE_GPU").is_some_and(|v| v == "1") => panic!("{error}"),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// The device under test as it is, without subgroups, and without any optional feature.
fn devices() -> &'static [Device] {
    static ALL: std::sync::OnceLock<Vec<Device>> = std::sync::OnceLock::new();
    ALL.get_or_init(|| {
        let Some(full) = device() else { return vec![] };
        let at = device::place_of(&full).unwrap();
        let without = |features| Device::create(at, features, false).unwrap();
        vec![full, without("subgroups"), without("immediates,int64,float16,subgroups")]
    })
}

/// The device under test, binding no more than a megabyte at once.
fn narrow() -> Option<Device> {
    let full = device()?;
    Some(Device::create(device::place_of(&full).unwrap(), "bindings", false).unwrap())
}

/// A number of any dtype.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    fn float(self) -> f64 {
        match self {
            Number::Int(x) => x as f64,
            Number::Float(x) => x,
        }
    }

    /// Equal, where NaN equals NaN; signs of zeros do not count.
    fn same(self, other: Number) -> bool {
        self == other || self.float().is_nan() && other.float().is_nan()
    }
}

/// Elements as the bytes of a buffer; integers wrap, floats round.
fn encode(dtype: DType, numbers: &[Number]) -> Vec<u8> {
    let mut bytes = vec![];
    for number in numbers {
        let int = match *number {
            Number::Int(x) => x,
            Number::Float(x) => x as i128,
        };
        match dtype {
            DType::F16 => bytes.extend(half::f16::from_f64(number.float()).to_le_bytes()),
            DType::BF16 => bytes.extend(half::bf16::from_f64(number.float()).to_le_bytes()),
            DType::F32 => bytes.extend((number.float() as f32).to_le_bytes()),
            DType::F64 => bytes.extend(number.float().to_le_bytes()),
            DType::Bool => bytes.push((int != 0) as u8),
            _ => bytes.extend_from_slice(&int.to_le_bytes()[..dtype.size()]),
        }
    }
    bytes
}

fn decode(dtype: DType, bytes: &[u8]) -> Vec<Number> {
    let int = |bytes: &[u8]| {
        let mut wide = [0; 16];
        wide[..bytes.len()].copy_from_slice(bytes);
        let bits = 8 * bytes.len() as u32;
        let value = i128::from_le_bytes(wide);
        let signed = dtype.kind() == crate::core::dtype::Kind::Signed && value >> (bits - 1) == 1;
        if signed { value - (1 << bits) } else { value }
    };
    bytes
        .chunks_exact(dtype.size())
        .map(|b| match dtype {
            DType::F16 => Number::Float(half::f16::from_le_bytes([b[0], b[1]]).to_f64()),
            DType::BF16 => Number::Float(half::bf16::from_le_bytes([b[0], b[1]]).to_f64()),
            DType::F32 => Number::Float(f32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f64),
            _ => Number::Int(int(b)),
        })
        .collect()
}

fn floats(values: &[f32]) -> Vec<Number> {
    values.iter().map(|&x| Number::Float(x as f64)).collect()
}

/// A tensor on the device.
struct Tensor {
    buffer: Buffer,
    layout: Layout,
    dtype: DType,
}

impl Tensor {
    fn new(device: &Device, dtype: DType, shape: &[usize], numbers: &[Number]) -> Tensor {
        let layout = Layout::contiguous(Shape::new(shape));
        assert_eq!(layout.count(), numbers.len());
        Tensor { buffer: device.upload(&encode(dtype, numbers)).unwrap(), layout, dtype }
    }

    fn view(&self) -> View<'_> {
        View { buffer: &self.buffer, layout: &self.layout, dtype: self.dtype }
    }

    fn numbers(&self) -> Vec<Number> {
        decode(self.dtype, &self.buffer.download(0..self.layout.count() * self.dtype.size()).unwrap())
    }
}

/// What a kernel makes of operands.
fn run_on(
    device: &Device,
    kernel: &Kernel,
    inputs: &[&Tensor],
    shape: &[usize],
    dtype: DType,
) -> Result<Tensor> {
    let layout = Layout::contiguous(Shape::new(shape));
    let buffer = device.alloc(layout.count() * dtype.size())?;
    let views: Vec<View<'_>> = inputs.iter().map(|tensor| tensor.view()).collect();
    run(kernel, &views, &[Out { buffer: &buffer, shape: &layout.shape, dtype }])?;
    device.shared().check()?;
    Ok(Tensor { buffer, layout, dtype })
}

/// The same for a kernel of several results.
fn run_all(
    device: &Device,
    kernel: &Kernel,
    inputs: &[&Tensor],
    results: &[(&[usize], DType)],
) -> Result<Vec<Tensor>> {
    let mut made = vec![];
    for &(shape, dtype) in results {
        let layout = Layout::contiguous(Shape::new(shape));
        made.push(Tensor { buffer: device.alloc(layout.count() * dtype.size())?, layout, dtype });
    }
    let views: Vec<View<'_>> = inputs.iter().map(|tensor| tensor.view()).collect();
    let outs: Vec<Out<'_>> =
        made.iter().map(|t| Out { buffer: &t.buffer, shape: &t.layout.shape, dtype: t.dtype }).collect();
    run(kernel, &views, &outs)?;
    device.shared().check()?;
    Ok(made)
}

/// Fails where a result is further from its reference than `tolerance` of the largest one, or of 1.
fn close(what: &str, got: &Tensor, want: &[f64], tolerance: f64) {
    let got = got.numbers();
    assert_eq!(got.len(), want.len(), "{what}");
    let size = want.iter().filter(|x| x.is_finite()).fold(1.0, |most: f64, x| most.max(x.abs()));
    for (i, (got, &want)) in got.iter().zip(want).enumerate() {
        let same = got.same(Number::Float(want)) || (got.float() - want).abs() <= tolerance * size;
        assert!(same, "{what}, element {i}: {got:?}, not {want}");
    }
}

/// The places of a layout's elements in row-major order.
fn places(layout: &Layout) -> Vec<usize> {
    let mut index = vec![0; layout.rank()];
    let mut all = vec![];
    for _ in 0..layout.count() {
        let at: isize = index.iter().zip(&layout.strides).map(|(&i, &stride)| i as isize * stride).sum();
        all.push((layout.offset as isize + at) as usize);
        for axis in (0..layout.rank()).rev() {
            index[axis] += 1;
            if index[axis] < layout.shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    all
}

/// Numbers without a pattern, the same in every run, on (−1, 1).
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let words = |i: usize| crate::core::rng::block(seed, i as u64)[0];
    (0..count).map(|i| 2.0 * crate::core::rng::uniform_f32(words(i)) - 1.0).collect()
}

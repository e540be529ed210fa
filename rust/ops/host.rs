//! Values on the host, for the few operations that must look: bounds that can be checked at the call,
//! and results whose shape depends on data.

use super::{cast, elementwise};
use crate::core::{DType, Layout, Result, Shape};
use crate::cpu::Memory;
use crate::cpu::view::Axes;
use crate::graph::{Buffer, Device, Tensor};

/// Whether reading costs nothing: the tensor has run and lies on the host.
pub fn is_ready(x: &Tensor) -> bool {
    x.device() == Device::Cpu && matches!(x.value().ready(), Some(Ok(_)))
}

/// Runs what the tensor needs and reads its bytes, copied from its device if need be.
fn with_bytes<R>(x: &Tensor, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
    let buffer = x.realise()?;
    Ok(match buffer.host() {
        Some(memory) => read(memory.bytes()),
        None => read(buffer.transfer(Device::Cpu)?.host().expect("on the host now").bytes()),
    })
}

/// Calls `f` for the elements of an int64 tensor in row-major order; runs what the tensor needs.
pub fn for_each_i64(x: &Tensor, mut f: impl FnMut(i64)) -> Result<()> {
    const SIZE: usize = size_of::<i64>();
    debug_assert_eq!(x.dtype(), DType::I64);
    if x.count() == 0 {
        return Ok(());
    }
    let axes = Axes::new(x.layout());
    let (first, stride) = (x.layout().offset as isize, axes.stride());
    with_bytes(x, |bytes| {
        axes.runs(0, x.count(), |place, count| {
            for i in 0..count as isize {
                let at = (first + place + i * stride) as usize * SIZE;
                let mut element = [0; SIZE];
                element.copy_from_slice(&bytes[at..at + SIZE]);
                f(i64::from_ne_bytes(element));
            }
        })
    })
}

/// The integers of a tensor in row-major order; runs what the tensor needs.
pub fn integers(x: &Tensor) -> Result<Vec<i64>> {
    let x = cast::cast(&x.detach(), DType::I64)?;
    let mut out = Vec::with_capacity(x.count());
    for_each_i64(&x, |i| out.push(i))?;
    Ok(out)
}

/// The smallest and the largest of an int64 tensor, or `None` of an empty one; runs what it needs.
pub fn range(x: &Tensor) -> Result<Option<(i64, i64)>> {
    let mut found: Option<(i64, i64)> = None;
    for_each_i64(x, |i| found = Some(found.map_or((i, i), |(low, high)| (low.min(i), high.max(i)))))?;
    Ok(found)
}

/// The row-major places of the elements that are not zero; runs what the tensor needs.
pub fn places_of_true(x: &Tensor) -> Result<Vec<i64>> {
    let x = elementwise::contiguous(&cast::cast(&x.detach(), DType::Bool)?)?;
    let start = x.layout().offset;
    with_bytes(&x, |bytes| {
        let bytes = &bytes[start..start + x.count()];
        bytes.iter().enumerate().filter(|(_, b)| **b != 0).map(|(i, _)| i as i64).collect()
    })
}

/// An int64 tensor of these values on a device.
pub fn tensor(values: &[i64], shape: &Shape, device: Device) -> Result<Tensor> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
    let buffer = Buffer::Cpu(Memory::copy_of(&bytes)?);
    let buffer = if device == Device::Cpu { buffer } else { buffer.transfer(device)? };
    debug_assert_eq!(Layout::contiguous(shape.clone()).count(), values.len());
    Ok(Tensor::from_buffer(device, shape.clone(), DType::I64, buffer))
}

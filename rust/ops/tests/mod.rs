//! Tests of the operations: against plain loops, and gradients of first and second order against finite
//! differences in float64. What they share is here.

mod index;
mod order;
mod planes;
mod products;
mod rows;

use super::{cast, create, elementwise, reduce};
use crate::autograd;
use crate::core::{DType, Layout, Result, Shape};
use crate::cpu::Memory;
use crate::cpu::view::Axes;
use crate::graph::record::{Edge, Leaf};
use crate::graph::{Device, Tensor};
use crate::ir::Elementwise as E;
use std::sync::Arc;

/// A float64 tensor that has run.
pub fn floats(values: &[f64], shape: &[usize]) -> Tensor {
    assert_eq!(values.len(), shape.iter().product::<usize>());
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
    let layout = Layout::contiguous(Shape::new(shape));
    Tensor::from_memory(Memory::copy_of(&bytes).unwrap(), values.len(), layout, DType::F64)
}

/// An int64 tensor that has run.
pub fn ints(values: &[i64], shape: &[usize]) -> Tensor {
    assert_eq!(values.len(), shape.iter().product::<usize>());
    super::host::tensor(values, &Shape::new(shape), Device::Cpu).unwrap()
}

/// A bool tensor that has not run.
pub fn bools(values: &[i64], shape: &[usize]) -> Tensor {
    cast::cast(&ints(values, shape), DType::Bool).unwrap()
}

/// The same values as a tensor that has not run.
pub fn pending(x: &Tensor) -> Tensor {
    let zero = create::zeros_like(x).unwrap();
    elementwise::binary(E::add, x, &zero).unwrap()
}

/// Float64 values without ties or structure, in (−1, 1); `seed` tells tensors of one test apart.
pub fn noise(shape: &[usize], seed: u64) -> Tensor {
    let n = shape.iter().product();
    let values: Vec<f64> = (0..n)
        .map(|i| {
            let [high, low, ..] = crate::core::rng::block(seed, i as u64);
            2.0 * crate::core::rng::uniform_f64(high, low) - 1.0
        })
        .collect();
    floats(&values, shape)
}

/// The elements in row-major order.
pub fn values(x: &Tensor) -> Vec<f64> {
    let x = cast::cast(&x.detach(), DType::F64).unwrap();
    let mut out = vec![];
    let bytes = x.host().unwrap().bytes();
    let axes = Axes::new(x.layout());
    if x.count() > 0 {
        axes.runs(0, x.count(), |place, n| {
            for i in 0..n as isize {
                let at = 8 * (x.layout().offset as isize + place + i * axes.stride()) as usize;
                out.push(f64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap()));
            }
        });
    }
    out
}

pub fn assert_close(got: &[f64], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: {got:?} for {want:?}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let same = g == w || (g.is_nan() && w.is_nan());
        let bound = tolerance * w.abs().max(1.0);
        assert!(
            same || (g - w).abs() <= bound,
            "{what}: element {i} is {g}, expected {w}\n{got:?}\n{want:?}"
        );
    }
}

/// Shape and values, exactly or to a few ulp of float64.
pub fn assert_is(x: &Tensor, shape: &[usize], want: &[f64]) {
    assert_eq!(x.shape()[..], *shape);
    assert_close(&values(x), want, 1e-12, "values");
}

pub fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.to_string(),
    }
}

/// The error that observing `x` raises.
pub fn late_message(x: Tensor) -> String {
    message(x.realise().map(|_| ()))
}

fn leaf(x: &Tensor) -> Tensor {
    x.detach().with_edge(Edge::Leaf(Arc::new(Leaf::default())))
}

/// `Σ w y` with fixed weights, so that every element of `y` counts differently.
fn weigh(y: &Tensor, seed: u64) -> Tensor {
    let w = cast::cast(&noise(y.shape(), seed), y.dtype()).unwrap();
    let axes: Vec<usize> = (0..y.rank()).collect();
    reduce::sum(&elementwise::binary(E::mul, y, &w).unwrap(), &axes, false).unwrap()
}

/// The gradients of a number with respect to tensors; zeros where there is none.
fn gradients(y: &Tensor, of: &[Tensor], create_graph: bool) -> Vec<Tensor> {
    let found = autograd::grad(std::slice::from_ref(y), &[None], of, true, create_graph).unwrap();
    found.into_iter().zip(of).map(|(g, x)| g.unwrap_or_else(|| create::zeros_like(x).unwrap())).collect()
}

/// Compares the gradients of `number` with central differences, for each element of each input.
fn against_differences(inputs: &[Tensor], what: &str, number: impl Fn(&[Tensor]) -> Tensor) {
    let leaves: Vec<Tensor> = inputs.iter().map(leaf).collect();
    let found = gradients(&number(&leaves), &leaves, false);
    let step = 1e-5;
    for (i, input) in inputs.iter().enumerate() {
        assert_eq!(found[i].shape(), input.shape(), "{what}: gradient {i}");
        assert_eq!(found[i].dtype(), input.dtype(), "{what}: gradient {i}");
        let at = values(input);
        let mut want = vec![];
        for k in 0..at.len() {
            let moved = |by: f64| {
                let mut at = at.clone();
                at[k] += by;
                let mut inputs: Vec<Tensor> = inputs.iter().map(leaf).collect();
                inputs[i] = leaf(&floats(&at, input.shape()));
                values(&number(&inputs))[0]
            };
            want.push((moved(step) - moved(-step)) / (2.0 * step));
        }
        assert_close(&values(&found[i]), &want, 1e-6, &format!("{what} of input {i}"));
    }
}

/// Checks the first derivatives of `f`, which may return several tensors.
pub fn check_first(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Vec<Tensor>) {
    let number = |inputs: &[Tensor]| {
        let parts = f(inputs).into_iter().enumerate().map(|(i, y)| weigh(&y, 900 + i as u64));
        parts.reduce(|a, b| elementwise::binary(E::add, &a, &b).unwrap()).expect("an output")
    };
    against_differences(inputs, "gradient", number);
}

/// Checks first and second derivatives.
pub fn check(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Tensor) {
    check_first(inputs, |inputs| vec![f(inputs)]);
    // The gradient itself, weighed, as a function of the inputs; its square keeps linear operations from
    // having none.
    against_differences(inputs, "second gradient", |inputs| {
        let leaves: Vec<Tensor> =
            inputs.iter().map(|x| if x.requires_grad() { x.clone() } else { leaf(x) }).collect();
        let y = f(&leaves);
        let y = elementwise::binary(E::add, &y, &elementwise::unary(E::square, &y).unwrap()).unwrap();
        let first = gradients(&weigh(&y, 900), &leaves, true);
        let parts = first.iter().enumerate().map(|(i, g)| weigh(g, 950 + i as u64));
        parts.reduce(|a, b| elementwise::binary(E::add, &a, &b).unwrap()).expect("an input")
    });
}

//! Elements written by index, on every path: short indices, few elements, many, and outputs larger than a binding.

use super::index::{assert_same, devices, list, multi, offset, picks, resolve, tensor, turned};
use super::*;
use crate::core::Error;
use crate::ir::kernel::Scatter;

/// What every element is after the others were added one by one, rounded where that shows.
fn add(dtype: DType, to: Number, part: Number) -> Number {
    match (to, part) {
        (Number::Int(a), Number::Int(b)) => super::reference::wrap(dtype, a + b),
        (a, b) if dtype == DType::F32 => Number::Float((a.float() as f32 + b.float() as f32) as f64),
        (a, b) => Number::Float(a.float() + b.float()),
    }
}

/// Rounded once.
fn stored(dtype: DType, numbers: Vec<Number>) -> Vec<Number> {
    decode(dtype, &encode(dtype, &numbers))
}

/// Numbers whose sum depends on the order.
fn uneven(device: &Device, dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    if dtype != DType::F32 {
        return tensor(device, dtype, shape, seed);
    }
    let numbers: Vec<f32> =
        noise(shape.iter().product(), seed).into_iter().map(|x| x * 10f32.powf(4.0 * x)).collect();
    Tensor::new(device, dtype, shape, &floats(&numbers))
}

fn check_scatter(device: &Device, mode: Scatter, dtype: DType, axis: usize, index: &Tensor, shape: &[usize]) {
    let x = turned(uneven(device, dtype, shape, 1));
    let source = turned(uneven(device, dtype, &index.layout.shape, 2));
    let kernel = Kernel::Scatter { axis, mode };
    let got = run_on(device, &kernel, &[&x, index, &source], shape, dtype).unwrap();
    let (mut want, at, parts) = (list(&x), list(index), list(&source));
    for i in 0..at.len() {
        let mut place = multi(&index.layout.shape, i);
        place[axis] = resolve(at[i], shape[axis]);
        let place = offset(shape, &place);
        want[place] = if mode == Scatter::Set { parts[i] } else { add(dtype, want[place], parts[i]) };
    }
    let what = (shape, axis, &index.layout.shape, dtype, mode);
    assert_same(&got.numbers(), &stored(dtype, want), &what);
}

const SET: [DType; 6] = [DType::Bool, DType::I8, DType::U16, DType::BF16, DType::F32, DType::U64];
const ADDED: [DType; 8] =
    [DType::U8, DType::I8, DType::I16, DType::F16, DType::BF16, DType::F32, DType::U32, DType::I64];

#[test]
fn scatter_on_every_path() {
    for device in devices() {
        for (shape, axis, along) in [
            (&[9][..], 0, 5),
            (&[30, 21], 1, 1),
            (&[4, 7, 5], 1, 11),
            (&[5, 3], 0, 40),
            (&[6, 50], 1, 70),
            (&[5, 3], 0, 0),
            (&[11, 90], 0, 60),
            (&[70, 40], 1, 50),
            (&[1], 0, 300),
        ] {
            let mut of_index = shape.to_vec();
            of_index[axis] = along;
            let index = turned(picks(&device, &of_index, shape[axis], 3));
            for dtype in SET {
                check_scatter(&device, Scatter::Set, dtype, axis, &index, shape);
            }
            for dtype in ADDED {
                if wgsl::check("", dtype, device.adapter()).is_ok() {
                    check_scatter(&device, Scatter::Add, dtype, axis, &index, shape);
                }
            }
        }
        // An index that is smaller than the output on other axes, and one row of indices for all.
        for mode in [Scatter::Set, Scatter::Add] {
            check_scatter(&device, mode, DType::F32, 0, &picks(&device, &[4, 5], 7, 4), &[7, 9]);
            let mut index = picks(&device, &[40], 30, 5);
            index.layout = index.layout.broadcast_to(&[100, 40].into()).unwrap();
            check_scatter(&device, mode, DType::F32, 1, &index, &[100, 30]);
            check_scatter(&device, mode, DType::F32, 1, &index, &[101, 30]);
        }
        let x = tensor(&device, DType::Bool, &[3], 1);
        let kernel = Kernel::Scatter { axis: 0, mode: Scatter::Add };
        let index = picks(&device, &[3], 3, 1);
        assert!(matches!(
            run_on(&device, &kernel, &[&x, &index, &x], &[3], DType::Bool),
            Err(Error::DType(_))
        ));
    }
}

fn check_take_input(
    device: &Device,
    dtype: DType,
    lead: &[usize],
    size: usize,
    row: &[usize],
    index: &Tensor,
) {
    let dy_shape = [lead, &index.layout.shape[..], row].concat();
    let shape = [lead, &[size], row].concat();
    let dy = turned(uneven(device, dtype, &dy_shape, 6));
    let kernel = Kernel::TakeInput { axis: lead.len() };
    let got = run_on(device, &kernel, &[&dy, index], &shape, dtype).unwrap();
    let zero = if dtype.is_float() { Number::Float(0.0) } else { Number::Int(0) };
    let mut want = vec![zero; shape.iter().product()];
    let (at, parts, width) = (list(index), list(&dy), row.iter().product::<usize>());
    for (i, &part) in parts.iter().enumerate() {
        let (l, pick, column) = (i / width / at.len(), i / width % at.len(), i % width);
        let place = (l * size + resolve(at[pick], size)) * width + column;
        want[place] = add(dtype, want[place], part);
    }
    assert_same(&got.numbers(), &stored(dtype, want), &(&shape, &index.layout.shape, dtype));
}

#[test]
fn the_gradient_of_take() {
    for device in devices() {
        for (lead, size, row, by) in [
            (&[][..], 7, &[5][..], &[20][..]),
            (&[3], 4, &[], &[6, 2]),
            (&[2, 2], 9, &[3], &[]),
            (&[2], 300, &[3], &[40, 70]),
            (&[], 70_000, &[], &[5000]),
            (&[], 1, &[2], &[3000]),
            (&[2], 3, &[2], &[0]),
            (&[0], 3, &[2], &[4]),
        ] {
            let index = turned(picks(&device, by, size, 7));
            for dtype in [DType::F32, DType::F16, DType::U8, DType::I32] {
                check_take_input(&device, dtype, lead, size, row, &index);
            }
        }
    }
}

#[test]
fn bad_indices_are_neither_written_nor_forgotten() {
    for device in devices() {
        let x = tensor(&device, DType::F32, &[6], 1);
        for count in [3, 100, 5000] {
            let mut numbers = vec![Number::Int(2); count];
            (numbers[0], numbers[1]) = (Number::Int(6), Number::Int(-7));
            let index = Tensor::new(&device, DType::I64, &[count], &numbers);
            let source = tensor(&device, DType::F32, &[count], 2);
            for mode in [Scatter::Set, Scatter::Add] {
                let kernel = Kernel::Scatter { axis: 0, mode };
                let y = run_on(&device, &kernel, &[&x, &index, &source], &[6], DType::F32).unwrap();
                let error = device.synchronize().unwrap_err();
                assert_eq!(
                    error,
                    Error::Index("scatter: index 6 is out of range for axis 0 of size 6".into())
                );
                let (got, was) = (list(&y), list(&x));
                for i in [0, 1, 3, 4, 5] {
                    assert_eq!(got[i], was[i]);
                }
            }
            let y = run_on(&device, &Kernel::TakeInput { axis: 0 }, &[&source, &index], &[6], DType::F32);
            let error = y.unwrap().buffer.download(0..4).unwrap_err();
            assert_eq!(
                error,
                Error::Index("take_input: index 6 is out of range for axis 0 of size 6".into())
            );
        }
        device.synchronize().unwrap();
    }
}

#[test]
fn a_gradient_larger_than_a_binding() {
    let Some(device) = device() else { return };
    // 160 MB.
    let (size, row) = (5_000_000, 8);
    let index = picks(&device, &[3000], size, 2);
    let dy = tensor(&device, DType::F32, &[3000, row], 3);
    let got =
        run_on(&device, &Kernel::TakeInput { axis: 0 }, &[&dy, &index], &[size, row], DType::F32).unwrap();
    let mut want = vec![0f32; size * row];
    for (i, part) in list(&dy).into_iter().enumerate() {
        want[resolve(list_at(&index, i / row), size) * row + i % row] += part.float() as f32;
    }
    let bytes = got.buffer.download(0..4 * size * row).unwrap();
    for (i, word) in bytes.chunks_exact(4).enumerate() {
        assert_eq!(f32::from_le_bytes(word.try_into().unwrap()), want[i], "element {i}");
    }
}

fn list_at(t: &Tensor, i: usize) -> Number {
    decode(t.dtype, &t.buffer.download(8 * i..8 * i + 8).unwrap())[0]
}

//! Elements chosen, joined, and written into windows, on every dtype that can be moved, with 64-bit types and
//! without.

use super::*;
use crate::core::Error;
use crate::ir::kernel::Scatter;

/// The device under test, and one without optional features. Both belong to the caller alone, so that bad
/// indices disturb no other test.
pub fn devices() -> Vec<Device> {
    let Some(full) = device() else { return vec![] };
    let at = device::place_of(&full).unwrap();
    ["", "immediates,int64,float16,subgroups"]
        .map(|without| Device::create(at, without, false).unwrap())
        .into()
}

/// What elements of every width may hold, small enough that sums of a few are exact in every dtype.
pub fn values(dtype: DType, count: usize, seed: u64) -> Vec<Number> {
    let number = |x: f32| match dtype {
        DType::Bool => Number::Int(i128::from(x > 0.0)),
        _ if dtype.is_float() => Number::Float((8.0 * x).round() as f64 / 4.0),
        _ => Number::Int((60.0 + 50.0 * x) as i128),
    };
    noise(count, seed).into_iter().map(number).collect()
}

pub fn tensor(device: &Device, dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    Tensor::new(device, dtype, shape, &values(dtype, shape.iter().product(), seed))
}

/// Indices from −size to size − 1 with duplicates.
pub fn picks(device: &Device, shape: &[usize], size: usize, seed: u64) -> Tensor {
    let pick =
        |x: f32| Number::Int(((x * size as f32).floor() as i128).clamp(-(size as i128), size as i128 - 1));
    let numbers: Vec<Number> = noise(shape.iter().product(), seed).into_iter().map(pick).collect();
    Tensor::new(device, DType::I64, shape, &numbers)
}

/// The elements of a view in row-major order.
pub fn list(t: &Tensor) -> Vec<Number> {
    let all = decode(t.dtype, &download(&t.buffer).unwrap());
    places(&t.layout).into_iter().map(|at| all[at]).collect()
}

/// The same tensor with its elements elsewhere: axes stored in the opposite order.
pub fn turned(t: Tensor) -> Tensor {
    let device = t.buffer.device().clone();
    let rank = t.layout.rank();
    let back: Vec<usize> = (0..rank).rev().collect();
    let swapped = Tensor { layout: t.layout.permute(&back), ..t };
    let mut stored = Tensor::new(&device, swapped.dtype, &swapped.layout.shape, &list(&swapped));
    stored.layout = stored.layout.permute(&back);
    stored
}

pub fn resolve(index: Number, size: usize) -> usize {
    let at = index.float() as i64;
    (if at < 0 { at + size as i64 } else { at }) as usize
}

/// The offset in row-major order of a multi-index.
pub fn offset(shape: &[usize], at: &[usize]) -> usize {
    shape.iter().zip(at).fold(0, |sum, (&size, &i)| sum * size + i)
}

pub fn multi(shape: &[usize], mut at: usize) -> Vec<usize> {
    let mut all = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        all[axis] = at % shape[axis];
        at /= shape[axis];
    }
    all
}

pub fn assert_same(got: &[Number], want: &[Number], what: &dyn std::fmt::Debug) {
    assert_eq!(got.len(), want.len(), "{what:?}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(got.same(*want), "{what:?}: element {i} is {got:?}, not {want:?}");
    }
}

/// Those that can be moved everywhere.
const MOVED: [DType; 8] =
    [DType::Bool, DType::I8, DType::U16, DType::F16, DType::BF16, DType::F32, DType::I64, DType::U64];

#[test]
fn take_of_every_width() {
    for device in devices() {
        for (shape, axis, by) in [
            (&[9][..], 0, &[5][..]),
            (&[40, 33], 0, &[7]),
            (&[6, 5, 7], 1, &[3, 2]),
            (&[6, 5, 7], 2, &[]),
            (&[6, 5, 7], 0, &[2, 3, 2]),
            (&[300, 2, 4], 0, &[1001]),
            (&[3, 0, 2], 0, &[4]),
            (&[3, 4], 1, &[0]),
        ] {
            for dtype in MOVED {
                for turn in [false, true] {
                    let size = shape[axis];
                    let mut x = tensor(&device, dtype, shape, 1);
                    let mut index = picks(&device, by, size, 2);
                    if turn {
                        (x, index) = (turned(x), turned(index));
                    }
                    let out: Vec<usize> = [&shape[..axis], by, &shape[axis + 1..]].concat();
                    let got = run_on(&device, &Kernel::Take { axis }, &[&x, &index], &out, dtype).unwrap();
                    let (from, at) = (list(&x), list(&index));
                    let want: Vec<Number> = (0..out.iter().product())
                        .map(|i| {
                            let place = multi(&out, i);
                            let pick = at[offset(by, &place[axis..axis + by.len()])];
                            let mut source = place[..axis].to_vec();
                            source.push(resolve(pick, size));
                            source.extend(&place[axis + by.len()..]);
                            from[offset(shape, &source)]
                        })
                        .collect();
                    assert_same(&got.numbers(), &want, &(shape, axis, by, dtype, turn));
                }
            }
        }
    }
}

#[test]
fn gather_of_every_width() {
    for device in devices() {
        for (shape, axis, along) in
            [(&[9][..], 0, 5), (&[30, 21], 1, 1), (&[4, 7, 5], 1, 11), (&[5, 3], 0, 40), (&[5, 3], 0, 0)]
        {
            for dtype in MOVED {
                let mut of_index = shape.to_vec();
                of_index[axis] = along;
                let x = turned(tensor(&device, dtype, shape, 3));
                // One row of indices for all.
                let mut index = picks(&device, &of_index[1..], shape[axis], 4);
                index.layout = index.layout.broadcast_to(&Shape::new(&of_index)).unwrap();
                let got = run_on(&device, &Kernel::Gather { axis }, &[&x, &index], &of_index, dtype).unwrap();
                let (from, at) = (list(&x), list(&index));
                let want: Vec<Number> = (0..at.len())
                    .map(|i| {
                        let mut place = multi(&of_index, i);
                        place[axis] = resolve(at[i], shape[axis]);
                        from[offset(shape, &place)]
                    })
                    .collect();
                assert_same(&got.numbers(), &want, &(shape, axis, along, dtype));
            }
        }
    }
}

#[test]
fn concat_of_every_width() {
    for device in devices() {
        for (shape, axis, sizes) in [
            (&[1][..], 0, &[3, 0, 1, 6][..]),
            (&[3, 1], 1, &[1, 2, 5]),
            (&[2, 1, 3], 1, &[4, 1]),
            (&[2, 5], 0, &[1; 200]),
        ] {
            for dtype in MOVED {
                let parts: Vec<Tensor> = sizes
                    .iter()
                    .enumerate()
                    .map(|(i, &size)| {
                        let mut part = shape.to_vec();
                        part[axis] = size;
                        let part = tensor(&device, dtype, &part, i as u64);
                        if i % 2 == 0 { part } else { turned(part) }
                    })
                    .collect();
                let mut out = shape.to_vec();
                out[axis] = sizes.iter().sum();
                let lists: Vec<Vec<Number>> = parts.iter().map(list).collect();
                let want: Vec<Number> = (0..out.iter().product())
                    .map(|i| {
                        let mut place = multi(&out, i);
                        let part = sizes
                            .iter()
                            .position(|&size| {
                                let inside = place[axis] < size;
                                place[axis] -= if inside { 0 } else { size };
                                inside
                            })
                            .unwrap();
                        lists[part][offset(&parts[part].layout.shape, &place)]
                    })
                    .collect();
                let parts: Vec<&Tensor> = parts.iter().collect();
                let got = run_on(&device, &Kernel::Concat { axis }, &parts, &out, dtype).unwrap();
                assert_same(&got.numbers(), &want, &(shape, axis, sizes.len(), dtype));
            }
        }
    }
}

#[test]
fn assignment_to_windows() {
    for device in devices() {
        let shape = [5, 7, 6];
        let whole = Layout::contiguous(Shape::new(&shape));
        let windows = [
            whole.clone(),
            whole.slice(2, 1, 3, 2),
            whole.slice(0, 4, 3, -2).slice(1, 2, 4, 1),
            whole.select(1, 3).permute(&[1, 0]),
            whole.slice(1, 3, 0, 1),
        ];
        for window in windows {
            for dtype in [MOVED.as_slice(), &[DType::U8, DType::I16, DType::I32]].concat() {
                for mode in [Scatter::Set, Scatter::Add] {
                    if mode == Scatter::Add
                        && (dtype == DType::Bool || wgsl::check("", dtype, device.adapter()).is_err())
                    {
                        continue;
                    }
                    let x = turned(tensor(&device, dtype, &shape, 5));
                    let source = turned(tensor(&device, dtype, &window.shape, 6));
                    let kernel = Kernel::Assign { window: window.clone(), mode };
                    let got = run_on(&device, &kernel, &[&x, &source], &shape, dtype).unwrap();
                    let mut want = list(&x);
                    for (at, new) in places(&window).into_iter().zip(list(&source)) {
                        want[at] = match (mode, want[at], new) {
                            (Scatter::Set, ..) => new,
                            (_, Number::Int(a), Number::Int(b)) => super::reference::wrap(dtype, a + b),
                            (_, a, b) => Number::Float(a.float() + b.float()),
                        };
                    }
                    assert_same(&got.numbers(), &want, &(&window, dtype, mode));
                }
            }
        }
        // In place, where the operand is the output's own memory.
        let x = tensor(&device, DType::F32, &[3], 7);
        let y = tensor(&device, DType::F32, &[1], 8);
        let kernel = Kernel::Assign { window: Layout::contiguous([1].into()), mode: Scatter::Set };
        let mut want = list(&x);
        want[0] = list(&y)[0];
        let shape = Shape::new(&[3]);
        run(&kernel, &[x.view(), y.view()], &[Out { buffer: &x.buffer, shape: &shape, dtype: DType::F32 }])
            .unwrap();
        assert_same(&x.numbers(), &want, &"in place");
        let broadcast = Layout::contiguous([1].into()).broadcast_to(&[3].into()).unwrap();
        let kernel = Kernel::Assign { window: broadcast, mode: Scatter::Set };
        assert!(matches!(run_on(&device, &kernel, &[&x, &x], &[3], DType::F32), Err(Error::Value(_))));
    }
}

#[test]
fn sixty_four_bits_are_copied_without_a_type_for_them() {
    for device in devices() {
        for dtype in [DType::I64, DType::U64, DType::F64] {
            let bytes: Vec<u8> = (0..8 * 35).map(|i| (i * 37 % 251) as u8).collect();
            let layout = Layout::contiguous([5, 7].into()).permute(&[1, 0]);
            let x = Tensor { buffer: device.upload(&bytes).unwrap(), layout, dtype };
            let y = run_on(&device, &Kernel::Copy, &[&x], &[7, 5], dtype).unwrap();
            let want: Vec<u8> =
                places(&x.layout).into_iter().flat_map(|at| bytes[8 * at..8 * at + 8].to_vec()).collect();
            assert_eq!(y.buffer.download(0..8 * 35).unwrap(), want);
        }
    }
}

#[test]
fn a_bad_index_is_an_error_at_the_next_observation() {
    for device in devices() {
        let x = tensor(&device, DType::F32, &[4, 3], 1);
        let take = |indices: &[i64], axis: usize| {
            let numbers: Vec<Number> = indices.iter().map(|&i| Number::Int(i as i128)).collect();
            let index = Tensor::new(&device, DType::I64, &[indices.len()], &numbers);
            let mut shape = [4, 3];
            shape[axis] = indices.len();
            run_on(&device, &Kernel::Take { axis }, &[&x, &index], &shape, DType::F32).unwrap()
        };
        let message = |error: Result<Vec<u8>>| match error {
            Err(Error::Index(message)) => message,
            other => panic!("{other:?}"),
        };
        let y = take(&[0, 4, -4], 0);
        let error = message(y.buffer.download(0..4));
        assert_eq!(error, "take: index 4 is out of range for axis 0 of size 4");
        // Told once; the device goes on, and what was not there is 0.
        assert_eq!(list(&y)[3..6], [Number::Float(0.0); 3]);
        assert_same(&list(&take(&[3, -1], 0))[..3], &list(&x)[9..], &"good again");
        for (bad, told) in [
            (-5, "-5"),
            (1 << 40, "2147483647 or more"),
            (i64::MAX, "2147483647 or more"),
            (i64::MIN, "-2147483647 or less"),
            (-(1 << 32), "-2147483647 or less"),
            (1 << 31, "2147483647 or more"),
            (-(1 << 31) - 5, "-2147483647 or less"),
        ] {
            take(&[0, bad], 1);
            let Err(Error::Index(error)) = device.synchronize() else { panic!("{bad} went unseen") };
            assert_eq!(error, format!("take: index {told} is out of range for axis 1 of size 3"));
            device.synchronize().unwrap();
        }
        // Nothing can be taken from an empty axis.
        let none = Tensor::new(&device, DType::F32, &[0, 3], &[]);
        let index = Tensor::new(&device, DType::I64, &[2], &[Number::Int(0), Number::Int(-1)]);
        run_on(&device, &Kernel::Take { axis: 0 }, &[&none, &index], &[2, 3], DType::F32).unwrap();
        assert!(
            device
                .synchronize()
                .unwrap_err()
                .to_string()
                .contains("index 0 is out of range for axis 0 of size 0")
        );
    }
}

#[test]
fn tables_and_results_larger_than_a_binding() {
    let Some(device) = device() else { return };
    // 160 MB to choose from.
    let (rows, row) = (5_000_001, 8);
    let x = run_on(
        &device,
        &Kernel::Arange { start: crate::core::Scalar::Int(0), step: crate::core::Scalar::Int(1) },
        &[],
        &[4_000_000],
        DType::I32,
    );
    let line = x.unwrap();
    let shape = [rows, row];
    let window = Layout { offset: 2, ..Layout::contiguous([4_000_000].into()) };
    let zeros =
        run_on(&device, &Kernel::Fill(crate::core::Scalar::Int(-1)), &[], &shape, DType::I32).unwrap();
    let last = Layout { offset: rows * row - 4_000_000, ..window.clone() };
    let set = |window: &Layout, x: &Tensor| {
        let kernel = Kernel::Assign { window: window.clone(), mode: Scatter::Set };
        run_on(&device, &kernel, &[x, &line], &shape, DType::I32).unwrap()
    };
    let x = set(&last, &set(&window, &zeros));
    let index = picks(&device, &[1000], rows, 2);
    let y = run_on(&device, &Kernel::Take { axis: 0 }, &[&x, &index], &[1000, row], DType::I32).unwrap();
    let at = list(&index);
    for (i, got) in y.numbers().into_iter().enumerate() {
        let place = resolve(at[i / row], rows) * row + i % row;
        let want = match place {
            _ if place >= last.offset => place - last.offset,
            _ if (2..4_000_002).contains(&place) => place - 2,
            _ => usize::MAX,
        };
        assert_eq!(got, Number::Int(want as isize as i128), "element {i} from {place}");
    }
    // A result of 200 MB, bytes from a table of three.
    let table = Tensor::new(&device, DType::U8, &[3], &[Number::Int(5), Number::Int(6), Number::Int(7)]);
    let mut index = Tensor::new(&device, DType::I64, &[4, 1], &[0, 1, 2, -1].map(Number::Int));
    index.layout = index.layout.broadcast_to(&[4, 50_000_004].into()).unwrap();
    let y =
        run_on(&device, &Kernel::Take { axis: 0 }, &[&table, &index], &[4, 50_000_004], DType::U8).unwrap();
    for (i, byte) in download(&y.buffer).unwrap().into_iter().take(200_000_016).enumerate() {
        assert_eq!(byte, [5, 6, 7, 7][i / 50_000_004]);
    }
}

//! Softmax, running sums, products and extremes, sorting and searching, against plain loops in float64 and in wide
//! integers.

use super::rows::{dtypes, elements, mixed, views};
use super::*;
use crate::core::Scalar;
use crate::ir::kernel::Scan;
use std::cmp::Ordering;

fn tensor(device: &Device, dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    Tensor::new(device, dtype, shape, &mixed(dtype, shape.iter().product(), seed))
}

fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 6e-4,
        DType::BF16 => 5e-3,
        _ => 2e-6,
    }
}

// Softmax --------------------------------------------------------------------------------------------

fn softened(log: bool, row: &[f64]) -> Vec<f64> {
    let most = row
        .iter()
        .fold(f64::NEG_INFINITY, |m, &x| if m.is_nan() || x.is_nan() { f64::NAN } else { m.max(x) });
    let sum: f64 = row.iter().map(|x| (x - most).exp()).sum();
    row.iter().map(|x| if log { x - most - sum.ln() } else { (x - most).exp() / sum }).collect()
}

fn check_softmax(log: bool, map: Fused, operands: &[&Tensor], values: &[f64], device: &Device) {
    let shape = operands[0].layout.shape.to_vec();
    let dtype = map.program.dtype(map.program.outputs[0]);
    let got = run_on(device, &Kernel::Softmax { log, map }, operands, &shape, dtype).unwrap().numbers();
    let length = shape[shape.len() - 1];
    for (r, row) in values.chunks(length.max(1)).enumerate() {
        for (i, want) in softened(log, row).into_iter().enumerate() {
            let (got, want) = (got[r * length + i].float(), want as f32 as f64);
            let same = got == want || got.is_nan() && want.is_nan();
            let near = (got - want).abs() <= rounding(dtype) * want.abs().max(if log { 1.0 } else { 1e-6 });
            assert!(same || near, "{log} {shape:?} {dtype} row {r} element {i}: {got}, not {want}");
        }
    }
}

fn check_soft(log: bool, x: &Tensor, device: &Device) {
    let values: Vec<f64> = elements(x).iter().map(|x| x.float()).collect();
    check_softmax(log, Fused::identity(x.dtype), &[x], &values, device);
}

#[test]
fn softmax_of_every_layout_and_length() {
    for device in devices() {
        for log in [false, true] {
            for x in views(device, DType::F32, &[5, 6, 7], 1) {
                check_soft(log, &x, device);
            }
            let shapes: [&[usize]; 9] = [
                &[1],
                &[7, 1],
                &[1000, 3],
                &[33, 100],
                &[300, 300],
                &[3, 1000],
                &[2, 9000],
                &[1, 70_001],
                &[2, 3, 0],
            ];
            for shape in shapes {
                check_soft(log, &tensor(device, DType::F32, shape, 2), device);
            }
            for dtype in [DType::F16, DType::BF16] {
                check_soft(log, &tensor(device, dtype, &[31, 45], 3), device);
            }
        }
    }
}

#[test]
fn softmax_of_extreme_rows_and_of_a_prologue() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for device in devices() {
        let rows = [
            [1.0, nan, 2.0, 3.0],
            [-inf, -inf, -inf, -inf],
            [inf, 1.0, 2.0, 3.0],
            [-inf, 1.0, 2.0, -inf],
            [3e38, -3e38, 0.0, 3e38],
            [1e4, 1e4 + 1.0, 0.0, -1e4],
        ];
        let x = Tensor::new(device, DType::F32, &[6, 4], &floats(rows.as_flattened()));
        check_soft(false, &x, device);
        check_soft(true, &x, device);
        for shape in [[20, 30], [2, 10_000]] {
            let x = tensor(device, DType::F32, &shape, 4);
            let mut y = tensor(device, DType::F32, &[1, shape[1]], 5);
            y.layout = y.layout.broadcast_to(&Shape::new(&shape)).unwrap();
            let mut program = Program::default();
            program.inputs.extend([DType::F32, DType::F32]);
            program.scalars.push(DType::F32);
            let apply = |op, a, b| Step::Apply { op, dtype: DType::F32, args: [a, b, a] };
            program.steps.push(apply(Elementwise::mul, Reg::Input(0), Reg::Scalar(0)));
            program.steps.push(apply(Elementwise::add, Reg::Step(0), Reg::Input(1)));
            program.outputs.push(Reg::Step(1));
            let map =
                Fused { program: Arc::new(program), scalars: [Scalar::Float(0.25)].into_iter().collect() };
            let values: Vec<f64> =
                elements(&x).iter().zip(elements(&y)).map(|(x, y)| 0.25 * x.float() + y.float()).collect();
            check_softmax(false, map.clone(), &[&x, &y], &values, device);
            check_softmax(true, map, &[&x, &y], &values, device);
        }
    }
}

#[test]
fn softmax_in_its_operands_place() {
    for device in devices() {
        for shape in [[30, 40], [2, 10_000]] {
            let x = tensor(device, DType::F32, &shape, 6);
            let before = elements(&x);
            let kernel = Kernel::Softmax { log: false, map: Fused::identity(DType::F32) };
            let out = Out { buffer: &x.buffer, shape: &x.layout.shape, dtype: DType::F32 };
            run(&kernel, &[x.view()], &[out]).unwrap();
            let (got, length) = (elements(&x), shape[1]);
            for (r, row) in before.chunks(length).enumerate() {
                let row: Vec<f64> = row.iter().map(|x| x.float()).collect();
                for (got, want) in got[r * length..].iter().zip(softened(false, &row)) {
                    assert!((got.float() - want).abs() <= 2e-6 * want.max(1e-6));
                }
            }
        }
    }
}

// Scans ----------------------------------------------------------------------------------------------

/// The running combination, and the sum of absolute values before each element, which bounds its error.
fn scanned(op: Scan, dtype: DType, line: &[Number]) -> Vec<(Number, f64)> {
    let (mut size, mut all) = (0.0, vec![]);
    let mut running: Option<Number> = None;
    for &x in line {
        size += x.float().abs();
        let next = match (running, x) {
            (None, x) => x,
            (Some(Number::Float(a)), Number::Float(b)) => Number::Float(match op {
                Scan::Sum => a + b,
                Scan::Prod => a * b,
                _ if a.is_nan() || b.is_nan() => f64::NAN,
                Scan::Max => a.max(b),
                Scan::Min => a.min(b),
            }),
            (Some(Number::Int(a)), Number::Int(b)) => super::reference::wrap(
                dtype,
                match op {
                    Scan::Sum => a + b,
                    Scan::Prod => a.wrapping_mul(b),
                    Scan::Max => a.max(b),
                    Scan::Min => a.min(b),
                },
            ),
            (Some(_), x) => x,
        };
        running = Some(next);
        all.push((next, size));
    }
    all
}

/// The places of the lines along an axis, in row-major order of a shape.
fn lines(shape: &[usize], axis: usize) -> Vec<Vec<usize>> {
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let line =
        |o: usize| (0..shape[axis]).map(|r| (o / inner * shape[axis] + r) * inner + o % inner).collect();
    (0..outer * inner).map(line).collect()
}

fn check_scan(device: &Device, op: Scan, axis: usize, x: &Tensor) {
    let shape = x.layout.shape.to_vec();
    let got = run_on(device, &Kernel::Scan { op, axis }, &[x], &shape, x.dtype).unwrap().numbers();
    let values = elements(x);
    for line in lines(&shape, axis) {
        let of_line: Vec<Number> = line.iter().map(|&i| values[i]).collect();
        for (i, (want, size)) in scanned(op, x.dtype, &of_line).into_iter().enumerate() {
            let found = got[line[i]];
            let (a, b) = (found.float(), want.float());
            let error = match op {
                Scan::Sum => rounding(x.dtype) * b.abs() + 5e-7 * size,
                Scan::Prod => (rounding(x.dtype) + 1e-6 * i as f64) * b.abs() + 1e-7,
                _ => 0.0,
            };
            let near = x.dtype.is_float() && (a - b).abs() <= error;
            let over = x.dtype == DType::F16 && a.is_infinite() && b.abs() > 65_000.0;
            assert!(
                found.same(want) || near || over,
                "{op:?} {} {shape:?} along {axis}, element {i}: {found:?}, not {want:?}",
                x.dtype
            );
        }
    }
}

const SCANS: [Scan; 4] = [Scan::Sum, Scan::Prod, Scan::Max, Scan::Min];

#[test]
fn scans_of_every_layout_dtype_and_length() {
    for device in devices() {
        for x in views(device, DType::F32, &[4, 5, 6], 7) {
            (0..3).for_each(|axis| check_scan(device, Scan::Sum, axis, &x));
        }
        for dtype in dtypes().filter(|&dtype| dtype != DType::Bool) {
            let x = tensor(device, dtype, &[3, 90], 8);
            for op in SCANS {
                check_scan(device, op, 1, &x);
                check_scan(device, op, 0, &x);
            }
        }
        for shape in
            [[1, 1], [1, 64], [1, 65], [3, 4096], [2, 4097], [3, 10_001], [1, 70_001], [700, 5], [5, 0]]
        {
            let x = tensor(device, DType::F32, &shape, 9);
            check_scan(device, Scan::Sum, 1, &x);
            check_scan(device, Scan::Max, 1, &x);
            check_scan(device, Scan::Sum, 0, &x);
        }
        let nan = f32::NAN;
        let x = Tensor::new(
            device,
            DType::F32,
            &[2, 4],
            &floats(&[1.0, nan, 2.0, 0.0, 3.0, f32::INFINITY, -nan, 1.0]),
        );
        SCANS.iter().for_each(|&op| check_scan(device, op, 1, &x));
        // In the operand's place.
        for shape in [[3, 70_000], [5000, 4]] {
            let x = tensor(device, DType::I32, &shape, 10);
            let before = elements(&x);
            let axis = usize::from(shape[0] == 3);
            let out = Out { buffer: &x.buffer, shape: &x.layout.shape, dtype: DType::I32 };
            run(&Kernel::Scan { op: Scan::Sum, axis }, &[x.view()], &[out]).unwrap();
            let got = elements(&x);
            for line in lines(&shape, axis) {
                let of_line: Vec<Number> = line.iter().map(|&i| before[i]).collect();
                for (&i, (want, _)) in line.iter().zip(scanned(Scan::Sum, DType::I32, &of_line)) {
                    assert_eq!(got[i], want);
                }
            }
        }
    }
}

#[test]
fn scans_larger_than_a_binding() {
    let Some(device) = device() else { return };
    let count = 40_000_000;
    let x = run_on(&device, &Kernel::Fill(Scalar::Int(1)), &[], &[count], DType::I32).unwrap();
    let y = run_on(&device, &Kernel::Scan { op: Scan::Sum, axis: 0 }, &[&x], &[count], DType::I32).unwrap();
    for (i, got) in y.buffer.download(0..4 * count).unwrap().chunks_exact(4).enumerate() {
        assert_eq!(got, (i as i32 + 1).to_le_bytes(), "element {i}");
    }
}

// Sorting --------------------------------------------------------------------------------------------

/// NaN is greater than all numbers.
fn order(a: Number, b: Number) -> Ordering {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => a.cmp(&b),
        _ => {
            let (a, b) = (a.float(), b.float());
            a.partial_cmp(&b).unwrap_or(a.is_nan().cmp(&b.is_nan()))
        }
    }
}

fn check_sort(device: &Device, descending: bool, x: &Tensor, in_place: bool) {
    let shape = &x.layout.shape;
    let (all, length) = (elements(x), shape[shape.rank() - 1]);
    let fresh = device.alloc(shape.count() * x.dtype.size()).unwrap();
    let values = if in_place { &x.buffer } else { &fresh };
    let places = device.alloc(shape.count() * 8).unwrap();
    let outs =
        [Out { buffer: values, shape, dtype: x.dtype }, Out { buffer: &places, shape, dtype: DType::I64 }];
    run(&Kernel::Sort { descending }, &[x.view()], &outs).unwrap();
    let values = decode(x.dtype, &values.download(0..shape.count() * x.dtype.size()).unwrap());
    let places = decode(DType::I64, &places.download(0..shape.count() * 8).unwrap());
    for (r, row) in all.chunks(length.max(1)).enumerate() {
        let mut want: Vec<usize> = (0..length).collect();
        want.sort_by(|&i, &j| if descending { order(row[j], row[i]) } else { order(row[i], row[j]) });
        for (i, &place) in want.iter().enumerate() {
            let at = r * length + i;
            assert_eq!(
                places[at],
                Number::Int(place as i128),
                "{descending} {} {shape}, row {r}, element {i}",
                x.dtype
            );
            assert!(values[at].same(row[place]), "{descending} {} {shape}, row {r}, element {i}", x.dtype);
        }
    }
}

#[test]
fn sorting() {
    for device in devices() {
        for descending in [false, true] {
            for dtype in dtypes() {
                check_sort(device, descending, &tensor(device, dtype, &[5, 37], 11), false);
            }
            for x in views(device, DType::F32, &[3, 4, 9], 12) {
                check_sort(device, descending, &x, false);
            }
            for shape in
                [&[1][..], &[3, 1], &[2, 0], &[700, 3], &[3, 1024], &[2, 1025], &[1, 5000], &[3, 2500]]
            {
                check_sort(device, descending, &tensor(device, DType::F32, shape, 13), false);
            }
            let (inf, nan) = (f32::INFINITY, f32::NAN);
            let rows = [[nan, 1.0, -nan, -inf, inf, 0.0], [0.0, -0.0, 0.0, nan, -0.0, -1.0]];
            check_sort(
                device,
                descending,
                &Tensor::new(device, DType::F32, &[2, 6], &floats(rows.as_flattened())),
                false,
            );
            check_sort(device, descending, &tensor(device, DType::F32, &[3, 50], 14), true);
        }
        // No key is greater than that of padding.
        let ends = [u32::MAX, 0, u32::MAX, 5, u32::MAX].map(|x| Number::Int(x as i128));
        check_sort(device, false, &Tensor::new(device, DType::U32, &[5], &ends), false);
        check_sort(device, true, &Tensor::new(device, DType::U32, &[5], &ends), false);
    }
}

#[test]
fn places_can_be_copied_without_64_bit_integers() {
    for device in devices() {
        let numbers: Vec<Number> = (0..60).map(|i| Number::Int((i - 30) << 33)).collect();
        let mut x = Tensor::new(device, DType::I64, &[6, 10], &numbers);
        let base = x.layout.clone();
        for layout in [
            base.permute(&[1, 0]),
            base.slice(1, 9, 5, -2),
            base.select(0, 3),
            base.select(0, 3).select(0, 4),
            base.select(0, 3).broadcast_to(&[2, 10].into()).unwrap(),
        ] {
            x.layout = layout;
            let shape = x.layout.shape.to_vec();
            let got = run_on(device, &Kernel::Copy, &[&x], &shape, DType::I64).unwrap().numbers();
            let want: Vec<Number> = places(&x.layout).into_iter().map(|place| numbers[place]).collect();
            assert_eq!(got, want);
        }
    }
}

#[test]
fn a_row_of_many_tiles() {
    let Some(device) = device() else { return };
    let x = Tensor::new(&device, DType::F32, &[100_003], &floats(&noise(100_003, 15)));
    check_sort(&device, false, &x, false);
}

#[test]
fn rows_longer_than_a_binding_are_sorted() {
    let Some(device) = narrow() else { return };
    // Entries of 8 bytes: windows of 131,072, with pairs in one and in two of them.
    for (dtype, length) in [(DType::F32, 300_001), (DType::I64, 140_000), (DType::U8, 262_144)] {
        check_sort(&device, length % 2 == 0, &tensor(&device, dtype, &[length], 16), false);
    }
    check_sort(&device, false, &tensor(&device, DType::F32, &[3, 140_001], 17), true);
    let mut turned = tensor(&device, DType::F32, &[150_000, 2], 18);
    turned.layout = turned.layout.permute(&[1, 0]);
    check_sort(&device, true, &turned, false);
}

fn check_search(device: &Device, right: bool, sorted: &Tensor, values: &Tensor) {
    let shape = values.layout.shape.to_vec();
    let kernel = Kernel::SearchSorted { right };
    let got = run_on(device, &kernel, &[sorted, values], &shape, DType::I64).unwrap().numbers();
    let (rows, sought) = (elements(sorted), elements(values));
    let length = *sorted.layout.shape.last().unwrap();
    let width = *shape.last().unwrap_or(&1);
    for (i, &value) in sought.iter().enumerate() {
        let row = if sorted.layout.rank() == 1 { 0 } else { i / width };
        let goes_before = |x: &&Number| match order(**x, value) {
            Ordering::Less => true,
            Ordering::Equal => right,
            Ordering::Greater => false,
        };
        let want = rows[row * length..][..length].iter().filter(goes_before).count();
        let dtype = values.dtype;
        assert_eq!(
            got[i],
            Number::Int(want as i128),
            "{right} {dtype} {shape:?} in {:?}, element {i}",
            sorted.layout
        );
    }
}

#[test]
fn searching() {
    for device in devices() {
        for right in [false, true] {
            for dtype in dtypes() {
                let ordered = |rows: usize, length: usize| {
                    let mut all = mixed(dtype, rows * length, 16);
                    all.chunks_mut(length).for_each(|row| row.sort_by(|&a, &b| order(a, b)));
                    all
                };
                let one = Tensor::new(device, dtype, &[41], &ordered(1, 41));
                check_search(device, right, &one, &tensor(device, dtype, &[6, 11], 17));
                let each = Tensor::new(device, dtype, &[6, 41], &ordered(6, 41));
                check_search(device, right, &each, &tensor(device, dtype, &[6, 11], 17));
            }
            let mut all = floats(&[-5.0, -1.0, -0.0, 0.0, 2.0, f32::INFINITY, f32::NAN]);
            let values = floats(&[f32::NAN, -0.0, f32::INFINITY, f32::NEG_INFINITY, 2.0, 7.0]);
            let values = Tensor::new(device, DType::F32, &[6], &values);
            check_search(device, right, &Tensor::new(device, DType::F32, &[7], &all), &values);
            // The same row backwards in memory, and every value in a column.
            all.reverse();
            let mut row = Tensor::new(device, DType::F32, &[7], &all);
            row.layout = row.layout.slice(0, 6, 7, -1);
            let mut column = tensor(device, DType::F32, &[9, 4], 18);
            column.layout = column.layout.permute(&[1, 0]);
            check_search(device, right, &row, &column);
            check_search(device, right, &Tensor::new(device, DType::F32, &[0], &[]), &column);
            check_search(device, right, &row, &tensor(device, DType::F32, &[], 19));
        }
    }
}

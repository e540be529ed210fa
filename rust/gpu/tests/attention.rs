//! Attention and its gradients against plain loops in float64.

use super::rows::elements;
use super::*;

/// The sizes of a call: heads, queries, keys, and columns of queries and of values.
#[derive(Clone, Copy)]
struct Case {
    heads: usize,
    queries: usize,
    keys: usize,
    size: usize,
    value: usize,
    causal: bool,
}

/// What a call gives: out, lse, and from dout: dq, dk, dv.
struct Wanted {
    out: Vec<f64>,
    lse: Vec<f64>,
    grads: [Vec<f64>; 3],
}

/// The formulas as they stand, on row-major operands; `mask` is (L, S) and shared by all heads.
fn wanted(case: Case, scale: f64, [q, k, v, dout]: [&[f64]; 4], mask: Option<&[f64]>) -> Wanted {
    let Case { heads, queries, keys, size, value, causal } = case;
    let mut all = Wanted {
        out: vec![0.0; heads * queries * value],
        lse: vec![f64::NEG_INFINITY; heads * queries],
        grads: [heads * queries * size, heads * keys * size, heads * keys * value].map(|n| vec![0.0; n]),
    };
    for row in 0..heads * queries {
        let (head, i) = (row / queries, row % queries);
        let of = |x: &[f64], key: usize, n: usize, c: usize| x[(head * keys + key) * n + c];
        let seen = if causal { keys.min(i + 1) } else { keys };
        let mut p: Vec<f64> = (0..seen)
            .map(|j| {
                let dot: f64 = (0..size).map(|c| q[row * size + c] * of(k, j, size, c)).sum();
                dot * scale + mask.map_or(0.0, |mask| mask[i * keys + j])
            })
            .collect();
        let most = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if most == f64::NEG_INFINITY {
            continue;
        }
        let sum: f64 = p.iter().map(|x| (x - most).exp()).sum();
        all.lse[row] = most + sum.ln();
        p.iter_mut().for_each(|x| *x = (*x - all.lse[row]).exp());
        for c in 0..value {
            all.out[row * value + c] = (0..seen).map(|j| p[j] * of(v, j, value, c)).sum();
        }
        let dp: Vec<f64> =
            (0..seen).map(|j| (0..value).map(|c| dout[row * value + c] * of(v, j, value, c)).sum()).collect();
        let delta: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
        for j in 0..seen {
            let ds = scale * p[j] * (dp[j] - delta);
            for c in 0..size {
                all.grads[0][row * size + c] += ds * of(k, j, size, c);
                all.grads[1][(head * keys + j) * size + c] += ds * q[row * size + c];
            }
            for c in 0..value {
                all.grads[2][(head * keys + j) * value + c] += p[j] * dout[row * value + c];
            }
        }
    }
    all
}

fn reals(t: &Tensor) -> Vec<f64> {
    elements(t).iter().map(|x| x.float()).collect()
}

/// Runs both kernels and compares. `of` makes an operand of the shape from a seed.
fn check(
    device: &Device,
    case: Case,
    dtype: DType,
    mask: Option<&[f32]>,
    of: &dyn Fn([usize; 3], u64) -> Tensor,
) {
    let Case { heads, queries, keys, size, value, causal } = case;
    let scale = 1.0 / (size as f64).sqrt();
    let (q, k, v) = (of([heads, queries, size], 1), of([heads, keys, size], 2), of([heads, keys, value], 3));
    let dout = of([heads, queries, value], 4);
    let mask = mask.map(|mask| {
        let mut t = Tensor::new(device, DType::F32, &[1, queries, keys], &floats(mask));
        t.layout = t.layout.broadcast_to(&Shape::new(&[heads, queries, keys])).unwrap();
        t
    });
    let added = mask.as_ref().map(|mask| reals(mask)[..queries * keys].to_vec());
    let want = wanted(
        case,
        scale,
        [&reals(&q), &reals(&k), &reals(&v), &reals(&dout)].map(|x| &x[..]),
        added.as_deref(),
    );
    let what = format!(
        "{} {dtype} ({heads}, {queries}, {keys}, {size}, {value}), causal: {causal}, mask: {}",
        device.adapter(),
        mask.is_some()
    );
    let tolerance = match dtype {
        DType::F16 => 2e-3,
        DType::BF16 => 2e-2,
        _ => 4e-6,
    };

    let mut inputs = vec![&q, &k, &v];
    inputs.extend(&mask);
    let kernel = Kernel::Attention { causal, scale };
    let (full, rows) = ([heads, queries, value], [heads, queries]);
    let made = run_all(device, &kernel, &inputs, &[(&full, dtype), (&rows, DType::F32)]).unwrap();
    close(&format!("out of {what}"), &made[0], &want.out, tolerance);
    close(&format!("lse of {what}"), &made[1], &want.lse, 4e-6);

    let mut inputs = vec![&made[0], &made[1], &dout, &q, &k, &v];
    inputs.extend(&mask);
    let kernel = Kernel::AttentionInput { causal, scale };
    let shapes = [[heads, queries, size], [heads, keys, size], [heads, keys, value]];
    let results: Vec<(&[usize], DType)> = shapes.iter().map(|shape| (&shape[..], dtype)).collect();
    let grads = run_all(device, &kernel, &inputs, &results).unwrap();
    for (name, (got, want)) in ["dq", "dk", "dv"].iter().zip(grads.iter().zip(&want.grads)) {
        close(&format!("{name} of {what}"), got, want, tolerance);
    }
    let again = run_all(device, &kernel, &inputs, &results).unwrap();
    for (a, b) in grads.iter().zip(&again) {
        assert_eq!(a.numbers(), b.numbers(), "{what}");
    }
}

fn case([heads, queries, keys, size, value]: [usize; 5], causal: bool) -> Case {
    Case { heads, queries, keys, size, value, causal }
}

/// Tiles that are full and that are not, one strip and several, columns in one pass and in several; what costs a driver
/// most are kernels, of which each size has its own, so that devices without some features take two of the sizes.
#[test]
fn attention_of_all_sizes() {
    for (rank, device) in devices().iter().enumerate() {
        let of = |shape: [usize; 3], seed| {
            Tensor::new(device, DType::F32, &shape, &floats(&noise(shape.iter().product(), seed)))
        };
        for (i, sizes) in [
            [2, 33, 65, 36, 40],
            [2, 20, 50, 7, 13],
            [2, 1, 1, 1, 1],
            [3, 5, 7, 4, 8],
            [1, 32, 32, 32, 32],
            [1, 70, 40, 64, 64],
            [1, 40, 33, 130, 20],
            [1, 9, 34, 20, 164],
        ]
        .into_iter()
        .enumerate()
        .filter(|(i, _)| rank == 0 || *i < 2)
        {
            check(device, case(sizes, i % 2 == 1), DType::F32, None, &of);
            let (queries, keys) = (sizes[1], sizes[2]);
            let mut mask: Vec<f32> = noise(queries * keys, 5).iter().map(|x| 3.0 * x).collect();
            // The first query sees nothing, the others not all.
            mask[..keys].fill(f32::NEG_INFINITY);
            mask.iter_mut().skip(keys).step_by(3).for_each(|x| *x = f32::NEG_INFINITY);
            check(device, case(sizes, i % 2 == 0), DType::F32, Some(&mask), &of);
        }
    }
}

/// Heads that lie side by side in rows, as a projection makes them, and rows from odd places on.
#[test]
fn operands_lie_anywhere() {
    let Some(device) = device() else { return };
    for odd in [0, 1] {
        let of = |[heads, rows, columns]: [usize; 3], seed| {
            let (wide, count) = (columns + 4, (columns + 4) * heads * rows);
            let mut t = Tensor::new(&device, DType::F32, &[rows, heads, wide], &floats(&noise(count, seed)));
            t.layout = t.layout.slice(2, odd, columns, 1).permute(&[1, 0, 2]);
            t
        };
        check(&device, case([3, 37, 45, 16, 12], false), DType::F32, None, &of);
    }
}

#[test]
fn attention_of_half_floats() {
    for device in devices() {
        for dtype in [DType::F16, DType::BF16] {
            let of = |shape: [usize; 3], seed| {
                Tensor::new(device, dtype, &shape, &floats(&noise(shape.iter().product(), seed)))
            };
            check(device, case([2, 33, 40, 16, 24], true), dtype, None, &of);
            check(device, case([1, 5, 6, 7, 3], false), dtype, None, &of);
        }
    }
}

/// Scores far apart neither overflow nor vanish; what is not a number stays in its row.
#[test]
fn extreme_scores() {
    let Some(device) = device() else { return };
    let of = |shape: [usize; 3], seed| {
        let numbers: Vec<f32> = noise(shape.iter().product(), seed)
            .iter()
            .map(|x| if seed < 3 { 40.0 * x } else { *x })
            .collect();
        Tensor::new(&device, DType::F32, &shape, &floats(&numbers))
    };
    let (rows, n) = (34, 8);
    let mut numbers = elements(&of([1, rows, n], 1));
    numbers[3 * n] = Number::Float(f64::NAN);
    let q = Tensor::new(&device, DType::F32, &[1, rows, n], &numbers);
    let (k, v) = (of([1, rows, n], 2), of([1, rows, n], 3));
    let kernel = Kernel::Attention { causal: false, scale: 1.0 };
    let made =
        run_all(&device, &kernel, &[&q, &k, &v], &[(&[1, rows, n], DType::F32), (&[1, rows], DType::F32)]);
    let out = made.unwrap()[0].numbers();
    for (row, out) in out.chunks(n).enumerate() {
        assert!(
            out.iter()
                .all(|x| x.float().is_nan() == (row == 3) && x.float().abs().max(1.0) == 1.0 || row == 3)
        );
    }
}

/// Few queries, many keys: in parts, the last of which is shorter.
#[test]
fn few_queries_see_keys_in_parts() {
    let Some(full) = device() else { return };
    // A device of its own, since the others' dispatches are not counted.
    let own = Device::create(device::place_of(&full).unwrap(), "", false).unwrap();
    let dispatches = |case: Case| {
        let [q, k] = [([case.heads, case.queries, case.size], 1), ([case.heads, case.keys, case.size], 2)]
            .map(|(shape, seed)| {
                Tensor::new(&own, DType::F32, &shape, &floats(&noise(shape.iter().product(), seed)))
            });
        let (out, lse) = ([case.heads, case.queries, case.size], [case.heads, case.queries]);
        let kernel = Kernel::Attention { causal: case.causal, scale: 1.0 };
        let before = own.shared().recorder().dispatches;
        run_all(&own, &kernel, &[&q, &k, &k], &[(&out, DType::F32), (&lse, DType::F32)]).unwrap();
        own.shared().recorder().dispatches - before
    };
    assert_eq!(dispatches(case([1, 3, 700, 8, 8], true)), 1);
    assert_eq!(dispatches(case([1, 3, 300, 8, 8], false)), 1);
    let in_parts = dispatches(case([1, 3, 700, 8, 8], false));
    assert!(in_parts > 1 || full.adapter().kind != Kind::Software, "{in_parts}");
    for device in devices() {
        for dtype in [DType::F32, DType::F16] {
            let of = |[heads, rows, columns]: [usize; 3], seed| {
                let count = heads * rows * columns;
                let mut t = Tensor::new(device, dtype, &[rows, heads, columns], &floats(&noise(count, seed)));
                t.layout = t.layout.permute(&[1, 0, 2]);
                t
            };
            let long = case([1, 3, 1100, 12, 20], false);
            check(device, long, dtype, None, &of);
            // Whole parts are not seen, and of the last query none.
            let mut mask: Vec<f32> = noise(3 * 1100, 5).iter().map(|x| 3.0 * x).collect();
            mask[..600].fill(f32::NEG_INFINITY);
            mask[2 * 1100..].fill(f32::NEG_INFINITY);
            check(device, long, dtype, Some(&mask), &of);
        }
    }
}

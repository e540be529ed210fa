//! Sequences of recurrent layers and their gradients against plain loops in float64.

use super::*;
use crate::ir::kernel::Cell;

#[derive(Clone, Copy, Debug)]
struct Case {
    cell: Cell,
    reverse: bool,
    bias: bool,
    steps: usize,
    batch: usize,
    hidden: usize,
}

impl Case {
    /// Gates, states, and values kept.
    fn sizes(self) -> (usize, usize, usize) {
        match self.cell {
            Cell::Tanh | Cell::Relu => (1, 1, 0),
            Cell::Lstm => (4, 2, 4),
            Cell::Gru => (3, 1, 4),
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// One step of one unit from its gates: the next h and c, and what is kept.
fn step(cell: Cell, gi: &[f64], gh: &[f64], h: f64, c: f64) -> (f64, f64, Vec<f64>) {
    let z: Vec<f64> = gi.iter().zip(gh).map(|(a, b)| a + b).collect();
    match cell {
        Cell::Tanh => (z[0].tanh(), 0.0, vec![]),
        Cell::Relu => (z[0].max(0.0), 0.0, vec![]),
        Cell::Lstm => {
            let kept = vec![sigmoid(z[0]), sigmoid(z[1]), z[2].tanh(), sigmoid(z[3])];
            let next = kept[1] * c + kept[0] * kept[2];
            (kept[3] * next.tanh(), next, kept)
        }
        Cell::Gru => {
            let (r, z) = (sigmoid(z[0]), sigmoid(z[1]));
            let n = (gi[2] + r * gh[2]).tanh();
            ((1.0 - z) * n + z * h, 0.0, vec![r, z, n, gh[2]])
        }
    }
}

/// All h and c around the steps, and what is kept.
fn forward(case: Case, gi: &[f64], u: &[f64], first: &[Vec<f64>], bias: &[f64]) -> Vec<Vec<f64>> {
    let Case { cell, reverse, steps, batch, hidden, .. } = case;
    let (gates, states, keeps) = case.sizes();
    let size = batch * hidden;
    let mut all = vec![vec![0.0; (steps + 1) * size]; states];
    let mut kept = vec![0.0; steps * keeps * size];
    for (all, first) in all.iter_mut().zip(first) {
        let at = if reverse { steps * size } else { 0 };
        all[at..at + size].copy_from_slice(first);
    }
    for i in 0..steps {
        let t = if reverse { steps - 1 - i } else { i };
        let (before, after) = if reverse { (t + 1, t) } else { (t, t + 1) };
        for n in 0..batch {
            for j in 0..hidden {
                let row = (t * batch + n) * gates;
                let shares: Vec<f64> = (0..gates).map(|g| gi[(row + g) * hidden + j]).collect();
                let products: Vec<f64> = (0..gates)
                    .map(|g| {
                        let last = &all[0][before * size + n * hidden..][..hidden];
                        let weights = &u[(g * hidden + j) * hidden..][..hidden];
                        let sum: f64 = last.iter().zip(weights).map(|(a, b)| a * b).sum();
                        sum + bias.get(g * hidden + j).copied().unwrap_or(0.0)
                    })
                    .collect();
                let at = before * size + n * hidden + j;
                let c = if states > 1 { all[1][at] } else { 0.0 };
                let (h, c, keep) = step(cell, &shares, &products, all[0][at], c);
                let to = after * size + n * hidden + j;
                all[0][to] = h;
                if states > 1 {
                    all[1][to] = c;
                }
                for (k, x) in keep.into_iter().enumerate() {
                    kept[((t * batch + n) * keeps + k) * hidden + j] = x;
                }
            }
        }
    }
    if keeps > 0 {
        all.push(kept);
    }
    all
}

/// How the sum of outputs times their gradients changes with each number of `of`, by differences.
fn slope(f: &dyn Fn(&[f64]) -> f64, of: &[f64], at: usize) -> f64 {
    let step = 1e-5;
    let value = |by: f64| {
        let mut moved = of.to_vec();
        moved[at] += by;
        f(&moved)
    };
    (value(step) - value(-step)) / (2.0 * step)
}

fn reals(count: usize, seed: u64, scale: f64) -> Vec<f64> {
    noise(count, seed).iter().map(|x| *x as f64 * scale).map(|x| x as f32 as f64).collect()
}

fn upload(device: &Device, shape: &[usize], numbers: &[f64]) -> Tensor {
    let numbers: Vec<Number> = numbers.iter().map(|&x| Number::Float(x)).collect();
    Tensor::new(device, DType::F32, shape, &numbers)
}

fn check(device: &Device, case: Case) {
    let Case { cell, reverse, bias, steps, batch, hidden } = case;
    let (gates, states, keeps) = case.sizes();
    let size = batch * hidden;
    let gi = reals(steps * gates * size, 1, 1.0);
    let u = reals(gates * hidden * hidden, 2, 1.0 / (hidden as f64).sqrt());
    let first: Vec<Vec<f64>> = (0..states).map(|i| reals(size, 3 + i as u64, 1.0)).collect();
    let d = if bias { reals(gates * hidden, 5, 0.5) } else { vec![] };
    let want = forward(case, &gi, &u, &first, &d);

    let state = [batch, hidden];
    let weight = upload(device, &[gates * hidden, hidden], &u);
    let initial: Vec<Tensor> = first.iter().map(|x| upload(device, &state, x)).collect();
    let shares = upload(device, &[steps, batch, gates * hidden], &gi);
    let added = upload(device, &[d.len()], &d);
    let mut inputs = vec![&shares, &weight];
    inputs.extend(&initial);
    inputs.extend(bias.then_some(&added));
    let (around, keep) = ([steps + 1, batch, hidden], [steps, batch, keeps * hidden]);
    let mut results: Vec<(&[usize], DType)> = vec![(&around, DType::F32); states];
    if keeps > 0 {
        results.push((&keep, DType::F32));
    }
    let kernel = Kernel::Recurrent { cell, reverse };
    let made = run_all(device, &kernel, &inputs, &results).unwrap();
    let what = format!("{case:?} on {}", device.adapter());
    for (i, (made, want)) in made.iter().zip(&want).enumerate() {
        close(&format!("result {i} of {what}"), made, want, 3e-6);
    }
    // Without what the gradient needs the states are the same.
    let bare = run_all(device, &kernel, &inputs, &results[..states]).unwrap();
    assert_eq!(bare[0].numbers(), made[0].numbers(), "{what}");

    let dy = reals(steps * size, 6, 1.0);
    let dlast: Vec<Vec<f64>> = (0..states).map(|i| reals(size, 7 + i as u64, 1.0)).collect();
    let loss = |gi: &[f64], first: &[Vec<f64>]| -> f64 {
        let all = forward(case, gi, &u, first, &d);
        let outputs = if reverse { &all[0][..steps * size] } else { &all[0][size..] };
        let last = if reverse { 0 } else { steps * size };
        let of_states: f64 = (0..states)
            .flat_map(|i| (0..size).map(move |j| (i, j)))
            .map(|(i, j)| all[i][last + j] * dlast[i][j])
            .sum();
        outputs.iter().zip(&dy).map(|(y, dy)| y * dy).sum::<f64>() + of_states
    };
    let (dy_there, dlast_there) = (
        upload(device, &[steps, batch, hidden], &dy),
        dlast.iter().map(|x| upload(device, &state, x)).collect::<Vec<_>>(),
    );
    let mut inputs = vec![&weight];
    inputs.extend(&made);
    inputs.push(&dy_there);
    inputs.extend(&dlast_there);
    let of_gates = [steps, batch, gates * hidden];
    let apart = usize::from(cell == Cell::Gru);
    let mut results: Vec<(&[usize], DType)> = vec![(&of_gates, DType::F32); 1 + apart];
    results.extend(std::iter::repeat_n((&state[..], DType::F32), states));
    let kernel = Kernel::RecurrentInput { cell, reverse };
    let grads = run_all(device, &kernel, &inputs, &results).unwrap();
    let again = run_all(device, &kernel, &inputs, &results).unwrap();
    for (a, b) in grads.iter().zip(&again) {
        assert_eq!(a.numbers(), b.numbers(), "{what}");
    }
    // Some of the numbers, wherever they are.
    let some = |count: usize| (0..count).step_by((count / 6).max(1));
    let dgi = grads[0].numbers();
    for at in some(gi.len()) {
        let want = slope(&|gi| loss(gi, &first), &gi, at);
        assert!((dgi[at].float() - want).abs() < 2e-5, "dgi {at} of {what}: {:?}, not {want}", dgi[at]);
    }
    for i in 0..states {
        let found = grads[1 + apart + i].numbers();
        for at in some(size) {
            let moved = |x: &[f64]| {
                let mut first = first.clone();
                first[i] = x.to_vec();
                loss(&gi, &first)
            };
            let want = slope(&moved, &first[i], at);
            let got = found[at];
            assert!((got.float() - want).abs() < 2e-5, "state {i}, {at} of {what}: {got:?}, not {want}");
        }
    }
    if apart > 0 {
        // The hidden state's share is the input's, but that of n, which r multiplies.
        let dgh = grads[1].numbers();
        let kept = &want[states];
        for (at, (gi, gh)) in dgi.iter().zip(&dgh).enumerate() {
            let (row, gate, j) = (at / (gates * hidden), at / hidden % gates, at % hidden);
            let r = if gate == 2 { kept[row * keeps * hidden + j] } else { 1.0 };
            assert!((gi.float() * r - gh.float()).abs() < 1e-5, "dgh {at} of {what}");
        }
    }
}

const CELLS: [Cell; 4] = [Cell::Tanh, Cell::Relu, Cell::Lstm, Cell::Gru];

/// Layers whose sequences a workgroup has to itself.
#[test]
fn layers_of_few_units() {
    for device in devices() {
        for cell in CELLS {
            for (reverse, bias, [steps, batch, hidden]) in
                [(false, false, [3, 1, 1]), (true, true, [4, 5, 7]), (false, true, [2, 9, 33])]
            {
                check(device, Case { cell, reverse, bias, steps, batch, hidden });
            }
        }
    }
}

/// So many sequences that a lane takes two, or four.
#[test]
fn layers_of_many_sequences() {
    let Some(device) = device() else { return };
    for (cell, batch, hidden) in [(Cell::Gru, 600, 65), (Cell::Lstm, 1050, 100)] {
        // Differences would take all day; one sequence more or less must not matter.
        let steps = 2;
        let case = Case { cell, reverse: false, bias: false, steps, batch, hidden };
        let (gates, states, keeps) = case.sizes();
        let mut results = vec![];
        for batch in [batch, 3] {
            let gi: Vec<f64> = (0..steps)
                .flat_map(|t| reals(batch.min(1100) * gates * hidden, 10 + t as u64, 1.0))
                .collect();
            let gi = upload(&device, &[steps, batch, gates * hidden], &gi);
            let u = upload(&device, &[gates * hidden, hidden], &reals(gates * hidden * hidden, 2, 0.1));
            let first: Vec<Tensor> = (0..states)
                .map(|i| upload(&device, &[batch, hidden], &reals(batch * hidden, 3 + i as u64, 1.0)))
                .collect();
            let mut inputs = vec![&gi, &u];
            inputs.extend(&first);
            let (around, keep) = ([steps + 1, batch, hidden], [steps, batch, keeps * hidden]);
            let mut shapes: Vec<(&[usize], DType)> = vec![(&around, DType::F32); states];
            shapes.push((&keep, DType::F32));
            let made =
                run_all(&device, &Kernel::Recurrent { cell, reverse: false }, &inputs, &shapes).unwrap();
            let dy = upload(&device, &[steps, batch, hidden], &vec![1.0; steps * batch * hidden]);
            let mut inputs = vec![&u];
            inputs.extend(&made);
            inputs.push(&dy);
            inputs.extend(&first);
            let (of_gates, state) = ([steps, batch, gates * hidden], [batch, hidden]);
            let apart = usize::from(cell == Cell::Gru);
            let mut shapes: Vec<(&[usize], DType)> = vec![(&of_gates, DType::F32); 1 + apart];
            shapes.extend(std::iter::repeat_n((&state[..], DType::F32), states));
            let back =
                run_all(&device, &Kernel::RecurrentInput { cell, reverse: false }, &inputs, &shapes).unwrap();
            let last = made[0].numbers()[steps * batch * hidden..][..3 * hidden].to_vec();
            let dfirst = back[1 + apart].numbers()[..3 * hidden].to_vec();
            results.push((last, dfirst));
        }
        assert_eq!(results[0], results[1], "{cell:?}");
    }
}

/// Layers of which each step is a dispatch.
#[test]
fn layers_of_many_units() {
    for device in devices() {
        for (cell, reverse, bias, [steps, batch, hidden]) in [
            (Cell::Tanh, false, true, [2, 3, 129]),
            (Cell::Relu, true, false, [3, 2, 132]),
            (Cell::Lstm, false, true, [2, 34, 130]),
            (Cell::Lstm, true, false, [3, 2, 160]),
            (Cell::Gru, true, true, [3, 2, 132]),
            (Cell::Gru, false, false, [2, 2, 131]),
        ] {
            check(device, Case { cell, reverse, bias, steps, batch, hidden });
        }
    }
}

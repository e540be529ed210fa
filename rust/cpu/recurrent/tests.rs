//! Sequences against the cells' formulas one number at a time, and their gradients against differences.

use super::*;
use crate::cpu::reference::{Data, assert_close, on_all_threads, tolerance};

const CELLS: [Cell; 4] = [Cell::Tanh, Cell::Relu, Cell::Lstm, Cell::Gru];

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// What a sequence is called with, in float64.
#[derive(Clone)]
struct Call {
    cell: Cell,
    reverse: bool,
    sizes: [usize; 3],
    gi: Vec<f64>,
    weight: Vec<f64>,
    bias: Vec<f64>,
    states: Vec<Vec<f64>>,
}

impl Call {
    fn new(cell: Cell, reverse: bool, sizes: [usize; 3], dtype: DType) -> Call {
        let [l, n, h] = sizes;
        let (gates, states, _) = cells::sizes(cell);
        let list = |count: usize, seed: u64, scale: f64| -> Vec<f64> {
            let f = |i| scale * crate::cpu::reference::mixed(dtype, i as u64, seed);
            Data::new(dtype, &[count], f).list()
        };
        Call {
            cell,
            reverse,
            sizes,
            gi: list(l * n * gates * h, 1, 0.5),
            weight: list(gates * h * h, 2, 1.0 / h.max(1) as f64),
            bias: list(gates * h, 3, 0.25),
            states: (0..states).map(|s| list(n * h, 4 + s as u64, 0.5)).collect(),
        }
    }

    /// The states before and after all steps, as the kernel gives them.
    fn oracle(&self) -> Vec<Vec<f64>> {
        let [l, n, h] = self.sizes;
        let (gates, count, _) = cells::sizes(self.cell);
        let mut all = vec![vec![0.0; (l + 1) * n * h]; count];
        for row in 0..n {
            let mut state: Vec<Vec<f64>> =
                self.states.iter().map(|s| s[row * h..(row + 1) * h].to_vec()).collect();
            for step in 0..=l {
                let place = if self.reverse { l - step } else { step };
                for (all, state) in all.iter_mut().zip(&state) {
                    all[(place * n + row) * h..][..h].copy_from_slice(state);
                }
                if step == l {
                    break;
                }
                let t = if self.reverse { l - 1 - step } else { step };
                let gi = |g: usize, u: usize| self.gi[((t * n + row) * gates + g) * h + u];
                let gh = |g: usize, u: usize| {
                    let row = &self.weight[(g * h + u) * h..][..h];
                    self.bias[g * h + u] + row.iter().zip(&state[0]).map(|(w, x)| w * x).sum::<f64>()
                };
                let next: Vec<Vec<f64>> = match self.cell {
                    Cell::Tanh => vec![(0..h).map(|u| (gi(0, u) + gh(0, u)).tanh()).collect()],
                    Cell::Relu => vec![(0..h).map(|u| (gi(0, u) + gh(0, u)).max(0.0)).collect()],
                    Cell::Lstm => {
                        let z = |g: usize, u: usize| gi(g, u) + gh(g, u);
                        let c: Vec<f64> = (0..h)
                            .map(|u| sigmoid(z(1, u)) * state[1][u] + sigmoid(z(0, u)) * z(2, u).tanh())
                            .collect();
                        vec![(0..h).map(|u| sigmoid(z(3, u)) * c[u].tanh()).collect(), c]
                    }
                    Cell::Gru => {
                        let part = |g: usize, u: usize| sigmoid(gi(g, u) + gh(g, u));
                        let new = |u: usize| (gi(2, u) + part(0, u) * gh(2, u)).tanh();
                        let h = |u: usize| (1.0 - part(1, u)) * new(u) + part(1, u) * state[0][u];
                        vec![(0..state[0].len()).map(h).collect()]
                    }
                };
                state = next;
            }
        }
        all
    }

    fn data(&self, dtype: DType) -> Vec<Data> {
        let [l, n, h] = self.sizes;
        let gates = cells::sizes(self.cell).0;
        let tensor = |shape: &[usize], x: &[f64]| Data::new(dtype, shape, |i| x[i]);
        let mut out = vec![tensor(&[l, n, gates * h], &self.gi), tensor(&[gates * h, h], &self.weight)];
        out.extend(self.states.iter().map(|s| tensor(&[n, h], s)));
        out.push(tensor(&[gates * h], &self.bias));
        out
    }

    /// The states around all steps, and what was kept.
    fn run(&self, dtype: DType) -> Vec<Data> {
        let [l, n, h] = self.sizes;
        let (_, states, kept) = cells::sizes(self.cell);
        let data = self.data(dtype);
        on_all_threads(|| {
            let mut outs = vec![Data::zeros(dtype, &[l + 1, n, h]); states];
            outs.extend((kept > 0).then(|| Data::zeros(dtype, &[l, n, kept * h])));
            let views: Vec<View> = data.iter().map(Data::view).collect();
            let targets: Vec<Out> = outs.iter_mut().map(Data::out).collect();
            recurrent(self.cell, self.reverse, &views, &targets).unwrap();
            outs
        })
    }
}

const SIZES: [[usize; 3]; 8] =
    [[1, 1, 1], [3, 2, 5], [4, 9, 33], [2, 17, 70], [3, 3, 100], [2, 1, 257], [5, 0, 4], [2, 40, 64]];

#[test]
fn sequences_are_their_formulas() {
    for cell in CELLS {
        for sizes in SIZES {
            for (reverse, dtype) in [(false, DType::F32), (true, DType::F32), (false, DType::F64)] {
                let call = Call::new(cell, reverse, sizes, dtype);
                for (got, want) in call.run(dtype).iter().zip(call.oracle()) {
                    assert_close(&got.list(), &want, 10.0 * tolerance(dtype), &(cell, sizes, reverse, dtype));
                }
            }
        }
    }
}

#[test]
fn saturated_gates_do_not_overflow() {
    for cell in [Cell::Lstm, Cell::Gru] {
        for dtype in [DType::F32, DType::F64] {
            let mut call = Call::new(cell, false, [2, 4, 20], dtype);
            call.gi.iter_mut().enumerate().for_each(|(i, x)| *x = if i % 3 == 0 { -500.0 } else { 500.0 });
            for (got, want) in call.run(dtype).iter().zip(call.oracle()) {
                assert_close(&got.list(), &want, 10.0 * tolerance(dtype), &(cell, dtype));
            }
        }
    }
}

/// A weighted sum of all h, and of the last states once more.
fn objective(call: &Call, weights: &[Vec<f64>]) -> f64 {
    let [l, n, h] = call.sizes;
    let all = call.oracle();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (first, last) = if call.reverse { (0, 0) } else { (n * h, l * n * h) };
    let mut sum = dot(&all[0][first..][..l * n * h], &weights[0]);
    for (all, weights) in all.iter().zip(&weights[1..]) {
        sum += dot(&all[last..][..n * h], weights);
    }
    sum
}

#[test]
fn gradients_are_differences() {
    let dtype = DType::F64;
    for cell in CELLS {
        let (gates, states, kept) = cells::sizes(cell);
        for sizes in [[3, 2, 5], [2, 9, 18], [2, 1, 70]] {
            for reverse in [false, true] {
                let [l, n, h] = sizes;
                let call = Call::new(cell, reverse, sizes, dtype);
                let around = call.run(dtype);
                let mut grads = vec![Data::mixed(dtype, &[l, n, h], 20)];
                grads.extend((0..states).map(|s| Data::mixed(dtype, &[n, h], 21 + s as u64)));
                let weight = Data::new(dtype, &[gates * h, h], |i| call.weight[i]);
                let shares = 1 + (cell == Cell::Gru) as usize;
                let got = on_all_threads(|| {
                    let mut outs = vec![Data::zeros(dtype, &[l, n, gates * h]); shares];
                    outs.extend(vec![Data::zeros(dtype, &[n, h]); states]);
                    let mut views = vec![weight.view()];
                    views.extend(around[..states + (kept > 0) as usize].iter().map(Data::view));
                    views.extend(grads.iter().map(Data::view));
                    let targets: Vec<Out> = outs.iter_mut().map(Data::out).collect();
                    recurrent_input(cell, reverse, &views, &targets).unwrap();
                    outs
                });
                let weights: Vec<Vec<f64>> = grads.iter().map(Data::list).collect();
                let check = |got: &[f64], change: &dyn Fn(&mut Call, usize, f64), what: &str| {
                    for (i, &got) in got.iter().enumerate().step_by(1 + got.len() / 40) {
                        let ends = [1e-6, -1e-6].map(|by| {
                            let mut moved = call.clone();
                            change(&mut moved, i, by);
                            objective(&moved, &weights)
                        });
                        let want = (ends[0] - ends[1]) / 2e-6;
                        let near = (got - want).abs() <= 1e-6 * want.abs().max(1.0);
                        assert!(near, "{what} {cell:?} {sizes:?} {reverse} at {i}: {got} for {want}");
                    }
                };
                check(&got[0].list(), &|call, i, by| call.gi[i] += by, "gi");
                for s in 0..states {
                    check(&got[shares + s].list(), &|call, i, by| call.states[s][i] += by, "state");
                }
                // The bias has the sums of the hidden state's share.
                let share = got[shares - 1].list();
                let bias: Vec<f64> =
                    (0..gates * h).map(|u| share.iter().skip(u).step_by(gates * h).sum()).collect();
                check(&bias, &|call, i, by| call.bias[i] += by, "bias");
            }
        }
    }
}

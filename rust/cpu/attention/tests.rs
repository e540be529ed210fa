//! Attention against its formula one number at a time, and its gradients against differences.

use super::*;
use crate::core::Shape;
use crate::cpu::reference::{Data, assert_close, on_all_threads, tolerance};

/// What attention is called with, in float64.
#[derive(Clone)]
struct Call {
    /// Heads, queries, keys, sizes of a key and of a value.
    sizes: [usize; 5],
    causal: bool,
    scale: f64,
    operands: [Vec<f64>; 3],
    mask: Option<Vec<f64>>,
}

impl Call {
    fn new(sizes: [usize; 5], causal: bool) -> Call {
        let [heads, queries, keys, size, value] = sizes;
        let list = |shape: &[usize], seed| Data::mixed(DType::F32, shape, seed).list();
        let operands =
            [list(&[heads, queries, size], 1), list(&[heads, keys, size], 2), list(&[heads, keys, value], 3)];
        Call { sizes, causal, scale: 0.2, operands, mask: None }
    }

    /// With a mask that also forbids, and all of the last query.
    fn masked(mut self) -> Call {
        let [_, queries, keys, ..] = self.sizes;
        let mut mask = Data::mixed(DType::F32, &[queries, keys], 4).list();
        for (i, x) in mask.iter_mut().enumerate() {
            if i % 5 == 2 || i / keys == queries - 1 {
                *x = f64::NEG_INFINITY;
            }
        }
        self.mask = Some(mask);
        self
    }

    /// The result and the logarithms of sums.
    fn oracle(&self) -> [Vec<f64>; 2] {
        let [heads, queries, keys, size, value] = self.sizes;
        let [q, k, v] = &self.operands;
        let (mut out, mut lse) = (vec![], vec![]);
        for head in 0..heads {
            for i in 0..queries {
                let score = |j: usize| {
                    let [q, k] = [&q[(head * queries + i) * size..][..size], &k[(head * keys + j) * size..]];
                    let dot = q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>();
                    let seen = if self.causal && j > i { f64::NEG_INFINITY } else { 0.0 };
                    dot * self.scale + self.mask.as_ref().map_or(0.0, |mask| mask[i * keys + j]) + seen
                };
                let weights: Vec<f64> = (0..keys).map(|j| score(j).exp()).collect();
                let sum: f64 = weights.iter().sum();
                lse.push(sum.ln());
                out.extend((0..value).map(|c| {
                    let total: f64 =
                        weights.iter().enumerate().map(|(j, w)| w * v[(head * keys + j) * value + c]).sum();
                    if sum == 0.0 { 0.0 } else { total / sum }
                }));
            }
        }
        [out, lse]
    }

    fn data(&self, dtype: DType) -> Vec<Data> {
        let [heads, queries, keys, size, value] = self.sizes;
        let shapes = [[heads, queries, size], [heads, keys, size], [heads, keys, value]];
        let mut out: Vec<Data> =
            shapes.iter().zip(&self.operands).map(|(shape, x)| Data::new(dtype, shape, |i| x[i])).collect();
        if let Some(mask) = &self.mask {
            let mut mask = Data::new(dtype, &[1, queries, keys], |i| mask[i]);
            mask.layout = mask.layout.broadcast_to(&Shape::new(&[heads, queries, keys])).unwrap();
            out.push(mask);
        }
        out
    }

    fn run(&self, dtype: DType, data: &[Data]) -> Vec<Data> {
        let [heads, queries, _, _, value] = self.sizes;
        on_all_threads(|| {
            let mut outs =
                [Data::zeros(dtype, &[heads, queries, value]), Data::zeros(dtype, &[heads, queries])];
            let views: Vec<View> = data.iter().map(Data::view).collect();
            let targets: Vec<Out> = outs.iter_mut().map(Data::out).collect();
            attention(self.causal, self.scale, &views, &targets).unwrap();
            outs.into()
        })
    }

    fn check(&self, dtype: DType) {
        let got = self.run(dtype, &self.data(dtype));
        for (got, want) in got.iter().zip(self.oracle()) {
            let what = (self.sizes, self.causal, self.mask.is_some(), dtype);
            assert_close(&got.list(), &want, 10.0 * tolerance(dtype), &what);
        }
    }
}

const SIZES: [[usize; 5]; 9] = [
    [1, 1, 1, 1, 1],
    [2, 3, 5, 7, 4],
    [3, 9, 17, 33, 18],
    [2, 70, 65, 16, 50],
    [1, 300, 400, 8, 3],
    [20, 5, 130, 32, 64],
    [2, 33, 20, 5, 0],
    [0, 4, 4, 4, 4],
    [2, 0, 4, 4, 4],
];

#[test]
fn attention_is_its_formula() {
    for sizes in SIZES {
        for causal in [false, true] {
            let call = Call::new(sizes, causal);
            call.check(DType::F32);
            call.check(DType::F64);
            if sizes[1] > 0 {
                call.masked().check(DType::F32);
            }
        }
    }
}

#[test]
fn operands_lie_anywhere() {
    let call = Call::new([6, 20, 20, 16, 16], true).masked();
    let want = call.run(DType::F32, &call.data(DType::F32));
    // Queries, keys and values side by side in one buffer, sequences before heads, as layers make them.
    let [q, k, v] = &call.operands;
    let side = Data::new(DType::F32, &[20, 3, 6, 16], |i| {
        let (c, head, which, row) = (i % 16, i / 16 % 6, i / 96 % 3, i / 288);
        [q, k, v][which][(head * 20 + row) * 16 + c]
    });
    let mut data: Vec<Data> = (0..3)
        .map(|which| {
            let mut part = side.clone();
            part.layout = part.layout.select(1, which).permute(&[1, 0, 2]);
            part
        })
        .collect();
    // The mask transposed in memory.
    let mask = call.mask.as_ref().unwrap();
    let mut turned = Data::new(DType::F32, &[1, 20, 20], |i| mask[i % 20 * 20 + i / 20]);
    turned.layout = turned.layout.permute(&[0, 2, 1]).broadcast_to(&Shape::new(&[6, 20, 20])).unwrap();
    data.push(turned);
    for (a, b) in call.run(DType::F32, &data).iter().zip(&want) {
        assert!(a.bytes() == b.bytes());
    }
}

#[test]
fn large_scores_do_not_overflow_and_nan_stays_in_its_row() {
    let mut call = Call::new([1, 40, 500, 4, 3], false);
    call.operands[0].iter_mut().for_each(|x| *x *= 300.0);
    let got = call.run(DType::F32, &call.data(DType::F32));
    assert!(got[0].list().iter().all(|x| x.abs() <= 3.0));
    call.operands[0][8] = f64::NAN;
    let got = call.run(DType::F32, &call.data(DType::F32))[0].list();
    let nan: Vec<usize> = (0..got.len()).filter(|&i| got[i].is_nan()).collect();
    assert_eq!(nan, [6, 7, 8]);
}

#[test]
fn gradients_are_differences() {
    let dtype = DType::F64;
    for sizes in
        [[1, 1, 1, 1, 1], [2, 7, 5, 3, 4], [1, 40, 150, 9, 20], [17, 20, 20, 8, 8], [1, 150, 140, 2, 1]]
    {
        for (causal, masked) in [(false, false), (true, false), (false, true)] {
            let mut call = Call::new(sizes, causal);
            if masked {
                call = call.masked();
            }
            let [heads, queries, keys, size, value] = sizes;
            let data = call.data(dtype);
            let seen = call.run(dtype, &data);
            let dout = Data::mixed(dtype, &[heads, queries, value], 9);
            let got = on_all_threads(|| {
                let mut outs = [[heads, queries, size], [heads, keys, size], [heads, keys, value]]
                    .map(|shape| Data::zeros(dtype, &shape));
                let mut views = vec![seen[0].view(), seen[1].view(), dout.view()];
                views.extend(data.iter().map(Data::view));
                let targets: Vec<Out> = outs.iter_mut().map(Data::out).collect();
                attention_input(causal, call.scale, &views, &targets).unwrap();
                outs.into()
            });
            let weights = dout.list();
            let objective =
                |call: &Call| -> f64 { call.oracle()[0].iter().zip(&weights).map(|(y, w)| y * w).sum() };
            for (which, got) in got.iter().enumerate() {
                let got = got.list();
                for i in (0..got.len()).step_by(1 + got.len() / 12) {
                    let ends = [1e-5, -1e-5].map(|by| {
                        let mut moved = call.clone();
                        moved.operands[which][i] += by;
                        objective(&moved)
                    });
                    let want = (ends[0] - ends[1]) / 2e-5;
                    let near = (got[i] - want).abs() <= 1e-6 * want.abs().max(1.0);
                    assert!(near, "{sizes:?} {causal} {masked} {which} at {i}: {} for {want}", got[i]);
                }
            }
        }
    }
}

#[test]
fn gradients_of_all_sizes_are_those_of_float64() {
    // Sizes whose differences would take too long: float32 beside float64, which the test above holds.
    for sizes in SIZES {
        for causal in [false, true] {
            let call = Call::new(sizes, causal);
            let [heads, queries, keys, size, value] = sizes;
            let run = |dtype: DType| {
                let data = call.data(dtype);
                let seen = call.run(dtype, &data);
                let dout = Data::mixed(dtype, &[heads, queries, value], 9);
                on_all_threads(|| {
                    let mut outs = [[heads, queries, size], [heads, keys, size], [heads, keys, value]]
                        .map(|shape| Data::new(dtype, &shape, |_| 7.0));
                    let mut views = vec![seen[0].view(), seen[1].view(), dout.view()];
                    views.extend(data.iter().map(Data::view));
                    let targets: Vec<Out> = outs.iter_mut().map(Data::out).collect();
                    attention_input(causal, call.scale, &views, &targets).unwrap();
                    outs.into()
                })
            };
            for (single, double) in run(DType::F32).iter().zip(run(DType::F64)) {
                assert_close(&single.list(), &double.list(), 2e-5, &(sizes, causal));
            }
        }
    }
}

//! Softmax, normalizations and losses.

use super::*;
use crate::ops::loss::{self, Reduction};
use crate::ops::{norm, view};

const REDUCTIONS: [Reduction; 3] = [Reduction::None, Reduction::Mean, Reduction::Sum];

/// Log-softmax of rows.
fn log_rows(v: &[f64], n: usize) -> Vec<f64> {
    v.chunks(n)
        .flat_map(|row| {
            let log = row.iter().map(|x| x.exp()).sum::<f64>().ln();
            row.iter().map(move |x| x - log).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn softmax_along_any_axis() {
    let x = noise(&[2, 3, 4], 1);
    let want = log_rows(&values(&x), 4);
    assert_is(&norm::log_softmax(&x, 2).unwrap(), &[2, 3, 4], &want);
    assert_is(&norm::softmax(&x, 2).unwrap(), &[2, 3, 4], &want.iter().map(|l| l.exp()).collect::<Vec<_>>());
    let turned = view::transpose(&x, 0, 2).unwrap();
    let back = view::transpose(&norm::softmax(&turned, 0).unwrap(), 0, 2).unwrap();
    assert_close(&values(&back), &want.iter().map(|l| l.exp()).collect::<Vec<_>>(), 1e-12, "axis 0");
    for axis in 0..3 {
        check(&[noise(&[2, 3, 2], 1)], |x| norm::softmax(&x[0], axis).unwrap());
        check(&[noise(&[2, 3, 2], 1)], |x| norm::log_softmax(&x[0], axis).unwrap());
    }
}

/// Each group of `n` elements with zero mean and unit variance.
fn standard(v: &[f64], n: usize, eps: f64) -> Vec<f64> {
    v.chunks(n)
        .flat_map(|row| {
            let mean = row.iter().sum::<f64>() / n as f64;
            let var = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
            row.iter().map(move |x| (x - mean) / (var + eps).sqrt()).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn normalizations() {
    let x = noise(&[2, 4, 3], 1);
    let want = standard(&values(&x), 12, 1e-5);
    assert_is(&norm::layer_norm(&x, &[4, 3], None, None, 1e-5).unwrap(), &[2, 4, 3], &want);
    let want = standard(&values(&x), 6, 1e-3);
    assert_is(&norm::group_norm(&x, 2, None, None, 1e-3).unwrap(), &[2, 4, 3], &want);
    let want: Vec<f64> = values(&x)
        .chunks(3)
        .flat_map(|r| {
            let scale = (r.iter().map(|x| x * x).sum::<f64>() / 3.0 + 0.1).sqrt();
            r.iter().map(move |x| x / scale).collect::<Vec<_>>()
        })
        .collect();
    assert_is(&norm::rms_norm(&x, &[3], None, Some(0.1)).unwrap(), &[2, 4, 3], &want);
    let (w, b) = (noise(&[3], 2), noise(&[3], 3));
    let small = noise(&[2, 2, 3], 4);
    check(&[small.clone(), w.clone(), b], |t| {
        norm::layer_norm(&t[0], &[3], Some(&t[1]), Some(&t[2]), 1e-2).unwrap()
    });
    check(&[small.clone(), w], |t| norm::rms_norm(&t[0], &[3], Some(&t[1]), Some(1e-2)).unwrap());
    let (w, b) = (noise(&[2], 2), noise(&[2], 3));
    check(&[small.clone(), w.clone(), b.clone()], |t| {
        norm::group_norm(&t[0], 1, Some(&t[1]), Some(&t[2]), 1e-2).unwrap()
    });
    check(&[small.clone(), w.clone(), b.clone()], |t| {
        norm::batch_norm_train(&t[0], Some(&t[1]), Some(&t[2]), 1e-2).unwrap().0
    });
    let (mean, var) = (noise(&[2], 5), floats(&[0.5, 2.0], &[2]));
    check(&[small, w, b, mean, var], |t| {
        norm::batch_norm(&t[0], Some(&t[1]), Some(&t[2]), &t[3], &t[4], 1e-2).unwrap()
    });
    // Other choices of what has a gradient.
    check(std::slice::from_ref(&x), |t| norm::layer_norm(&t[0], &[4, 3], None, None, 1e-2).unwrap());
    check(&[noise(&[4, 3], 2)], |w| norm::layer_norm(&x, &[4, 3], Some(&w[0]), None, 1e-2).unwrap());
    check(&[x.clone(), noise(&[4, 3], 2)], |t| {
        norm::rms_norm(&t[0], &[4, 3], Some(&t[1]), Some(1e-2)).unwrap()
    });
    check(&[noise(&[4], 2)], |b| norm::group_norm(&x, 4, None, Some(&b[0]), 1e-2).unwrap());
    check(&[x.clone(), noise(&[4], 2)], |t| norm::group_norm(&t[0], 2, Some(&t[1]), None, 1e-2).unwrap());
    check(&[x.clone(), noise(&[4], 2)], |t| {
        norm::batch_norm_train(&t[0], None, Some(&t[1]), 1e-2).unwrap().0
    });
    assert_eq!(
        message(norm::layer_norm(&x, &[4], None, None, 1e-5)),
        "layer_norm: input (2, 4, 3) does not end with the normalized shape (4,)"
    );
    assert!(
        message(norm::group_norm(&x, 3, None, None, 1e-5)).contains("4 channels do not divide into 3 groups")
    );
    assert!(message(norm::batch_norm_train(&noise(&[1, 3], 1), None, None, 0.1)).contains("more than one"));
    assert!(message(norm::layer_norm(&ints(&[1; 2], &[2]), &[2], None, None, 0.1)).contains("takes floats"));
}

#[test]
fn batch_statistics() {
    let x = noise(&[3, 2, 2], 1);
    let (y, mean, var) = norm::batch_norm_train(&x, None, None, 1e-5).unwrap();
    let channels = view::reshape(&view::permute(&x, &[1, 0, 2]).unwrap(), &Shape::new(&[2, 6])).unwrap();
    let v = values(&channels);
    let means: Vec<f64> = v.chunks(6).map(|c| c.iter().sum::<f64>() / 6.0).collect();
    let vars: Vec<f64> =
        v.chunks(6).zip(&means).map(|(c, m)| c.iter().map(|x| (x - m).powi(2)).sum::<f64>() / 6.0).collect();
    assert_is(&mean, &[2], &means);
    assert_is(&var, &[2], &vars);
    let got = view::permute(&y, &[1, 0, 2]).unwrap();
    assert_close(&values(&got), &standard(&v, 6, 1e-5), 1e-12, "batch_norm_train");
    let still = norm::batch_norm(&x, None, None, &mean, &var, 1e-5).unwrap();
    assert_close(&values(&still), &values(&y), 1e-12, "batch_norm");
}

#[test]
fn half_floats_are_normalized_in_float32() {
    let x = cast::cast(&floats(&[300.0, 400.0, 500.0, 60000.0], &[1, 4]), DType::F16).unwrap();
    let y = norm::layer_norm(&x, &[4], None, None, 1e-5).unwrap();
    assert_eq!(y.dtype(), DType::F16);
    assert_close(&values(&y), &standard(&values(&x), 4, 1e-5), 1e-3, "float16");
}

#[test]
fn cross_entropy_of_classes() {
    let x = noise(&[3, 4], 1);
    let log = log_rows(&values(&x), 4);
    let target = ints(&[2, 0, 3], &[3]);
    let each = [-log[2], -log[4], -log[11]];
    let loss = |t: &Tensor, w: Option<&Tensor>, ignore, smoothing, r| {
        loss::cross_entropy(&x, t, w, ignore, smoothing, r)
    };
    assert_is(&loss(&target, None, None, 0.0, Reduction::None).unwrap(), &[3], &each);
    assert_is(
        &loss(&target, None, Some(-100), 0.0, Reduction::Mean).unwrap(),
        &[],
        &[each.iter().sum::<f64>() / 3.0],
    );
    assert_is(&loss(&target, None, None, 0.0, Reduction::Sum).unwrap(), &[], &[each.iter().sum()]);
    let weight = floats(&[0.5, 1.0, 2.0, 4.0], &[4]);
    let sum = 2.0 * each[0] + 0.5 * each[1] + 4.0 * each[2];
    assert_is(&loss(&target, Some(&weight), None, 0.0, Reduction::Mean).unwrap(), &[], &[sum / 6.5]);
    // Ignored targets: known at the call, and not.
    let some = ints(&[2, -1, 3], &[3]);
    for target in [some.clone(), pending(&some)] {
        let got = loss(&target, None, Some(-1), 0.0, Reduction::None).unwrap();
        assert_is(&got, &[3], &[each[0], 0.0, each[2]]);
        let got = loss(&target, None, Some(-1), 0.0, Reduction::Mean).unwrap();
        assert_is(&got, &[], &[(each[0] + each[2]) / 2.0]);
        let got = loss(&target, Some(&weight), Some(-1), 0.0, Reduction::Mean).unwrap();
        assert_is(&got, &[], &[(2.0 * each[0] + 4.0 * each[2]) / 6.0]);
        for smoothing in [0.0, 0.1] {
            for weight in [None, Some(weight.clone())] {
                for r in REDUCTIONS {
                    check(std::slice::from_ref(&x), |x| {
                        loss::cross_entropy(&x[0], &target, weight.as_ref(), Some(-1), smoothing, r).unwrap()
                    });
                }
            }
        }
    }
    // Smoothing mixes in the mean over the classes.
    let smooth: Vec<f64> =
        (0..3).map(|i| 0.9 * each[i] - 0.1 * log[4 * i..][..4].iter().sum::<f64>() / 4.0).collect();
    assert_is(&loss(&target, None, None, 0.1, Reduction::None).unwrap(), &[3], &smooth);
    assert_is(
        &loss::nll_loss(&floats(&log, &[3, 4]), &some, Some(&weight), Some(-1), Reduction::Mean).unwrap(),
        &[],
        &[(2.0 * each[0] + 4.0 * each[2]) / 6.0],
    );
    check(std::slice::from_ref(&x), |x| {
        loss::nll_loss(&x[0], &some, Some(&weight), Some(-1), Reduction::Mean).unwrap()
    });
}

#[test]
fn cross_entropy_of_images_and_single_rows() {
    let x = noise(&[2, 3, 2], 1);
    let rows = values(&view::permute(&x, &[0, 2, 1]).unwrap());
    let log = log_rows(&rows, 3);
    let target = ints(&[0, 2, 1, 1], &[2, 2]);
    let want = [-log[0], -log[5], -log[7], -log[10]];
    assert_is(&loss::cross_entropy(&x, &target, None, None, 0.0, Reduction::None).unwrap(), &[2, 2], &want);
    check(std::slice::from_ref(&x), |x| {
        loss::cross_entropy(&x[0], &target, None, None, 0.2, Reduction::Mean).unwrap()
    });
    let row = floats(&rows[..3], &[3]);
    let one = loss::cross_entropy(&row, &ints(&[1], &[]), None, None, 0.0, Reduction::Mean).unwrap();
    assert_is(&one, &[], &[-log[1]]);
    // No overflow, and certain mistakes are infinite.
    let far = floats(&[1000.0, 0.0, 0.0, f64::NEG_INFINITY], &[2, 2]);
    let got = loss::cross_entropy(&far, &ints(&[1, 1], &[2]), None, None, 0.0, Reduction::None).unwrap();
    assert_is(&got, &[2], &[1000.0, f64::INFINITY]);
}

#[test]
fn targets_are_checked_now_or_late() {
    let x = noise(&[2, 3], 1);
    let loss = |t: &Tensor| loss::cross_entropy(&x, t, None, Some(-100), 0.0, Reduction::Mean);
    assert_eq!(message(loss(&ints(&[0, 3], &[2]))), "cross_entropy: target 3 is not among the 3 classes");
    assert_eq!(message(loss(&ints(&[-1, 0], &[2]))), "cross_entropy: target -1 is not among the 3 classes");
    for wrong in [3, -1] {
        let late = loss(&pending(&ints(&[0, wrong], &[2]))).unwrap();
        assert!(late_message(late).contains("out of range"), "{wrong}");
    }
    assert!(message(loss(&ints(&[0; 4], &[2, 2]))).contains("targets are integers (2,)"));
    assert!(message(loss(&noise(&[2], 1))).contains("not float64 (2,)"));
    let w = noise(&[2], 1);
    let weighted = loss::cross_entropy(&x, &ints(&[0, 1], &[2]), Some(&w), None, 0.0, Reduction::Mean);
    assert_eq!(message(weighted), "cross_entropy: weight (2,) for 3 classes");
}

#[test]
fn cross_entropy_of_probabilities() {
    let x = noise(&[2, 3], 1);
    let log = log_rows(&values(&x), 3);
    let t = floats(&[0.2, 0.3, 0.5, 1.0, 0.0, 0.0], &[2, 3]);
    let each: Vec<f64> =
        (0..2).map(|i| -(0..3).map(|c| values(&t)[3 * i + c] * log[3 * i + c]).sum::<f64>()).collect();
    assert_is(&loss::cross_entropy(&x, &t, None, None, 0.0, Reduction::None).unwrap(), &[2], &each);
    let mean = loss::cross_entropy(&x, &t, None, None, 0.0, Reduction::Mean).unwrap();
    assert_is(&mean, &[], &[(each[0] + each[1]) / 2.0]);
    let w = floats(&[1.0, 2.0, 0.5], &[3]);
    check(&[x, t, w], |t| {
        loss::cross_entropy(&t[0], &t[1], Some(&t[2]), None, 0.1, Reduction::Mean).unwrap()
    });
}

#[test]
fn elementwise_losses() {
    let (x, t) = (noise(&[2, 3], 1), noise(&[2, 3], 2));
    let each = |f: fn(f64) -> f64| -> Vec<f64> {
        values(&x).iter().zip(values(&t)).map(|(x, t)| f(x - t)).collect()
    };
    let none = Reduction::None;
    assert_is(&loss::mse_loss(&x, &t, none).unwrap(), &[2, 3], &each(|d| d * d));
    assert_is(&loss::l1_loss(&x, &t, none).unwrap(), &[2, 3], &each(f64::abs));
    let huber = each(|d| if d.abs() <= 0.5 { 0.5 * d * d } else { 0.5 * (d.abs() - 0.25) });
    assert_is(&loss::huber_loss(&x, &t, 0.5, none).unwrap(), &[2, 3], &huber);
    let smooth: Vec<f64> = huber.iter().map(|h| h / 0.5).collect();
    assert_is(&loss::smooth_l1_loss(&x, &t, 0.5, none).unwrap(), &[2, 3], &smooth);
    assert_is(&loss::smooth_l1_loss(&x, &t, 0.0, none).unwrap(), &[2, 3], &each(f64::abs));
    let mean = each(|d| d * d).iter().sum::<f64>() / 6.0;
    assert_is(&loss::mse_loss(&x, &t, Reduction::Mean).unwrap(), &[], &[mean]);
    assert_is(&loss::mse_loss(&x, &t, Reduction::BatchMean).unwrap(), &[], &[mean * 3.0]);
    for r in REDUCTIONS {
        check(&[x.clone(), t.clone()], |v| loss::mse_loss(&v[0], &v[1], r).unwrap());
        check(&[x.clone(), t.clone()], |v| loss::l1_loss(&v[0], &v[1], r).unwrap());
        check(&[x.clone(), t.clone()], |v| loss::huber_loss(&v[0], &v[1], 0.5, r).unwrap());
    }
    let p = floats(&[0.1, 0.2, 0.7], &[3]);
    let got = loss::kl_div(&floats(&[-1.0, -2.0, -3.0], &[3]), &p, false, Reduction::Sum).unwrap();
    let want: f64 = [(0.1f64, -1.0), (0.2, -2.0), (0.7, -3.0)].iter().map(|(t, x)| t * (t.ln() - x)).sum();
    assert_is(&got, &[], &[want]);
    check(&[noise(&[3], 1), p], |v| loss::kl_div(&v[0], &v[1], false, Reduction::Mean).unwrap());
    check(&[x.clone(), t.clone()], |v| loss::kl_div(&v[0], &v[1], true, Reduction::Sum).unwrap());
    assert_eq!(
        message(loss::mse_loss(&x, &noise(&[2, 1], 1), none)),
        "mse_loss: input (2, 3) and target (2, 1) must have one shape"
    );
    assert!(message(loss::huber_loss(&x, &t, f64::NAN, none)).contains("delta must be positive"));
    assert!(Reduction::parse("mse_loss", "max").is_err());
}

#[test]
fn binary_losses() {
    let x = floats(&[-2.0, 0.5, 3.0], &[3]);
    let t = floats(&[0.0, 0.25, 1.0], &[3]);
    let p: Vec<f64> = values(&x).iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
    let want: Vec<f64> =
        p.iter().zip(values(&t)).map(|(p, t)| -t * p.ln() - (1.0 - t) * (1.0 - p).ln()).collect();
    let none = Reduction::None;
    assert_is(&loss::binary_cross_entropy(&floats(&p, &[3]), &t, None, none).unwrap(), &[3], &want);
    let logits = |x: &Tensor| loss::binary_cross_entropy_with_logits(x, &t, None, None, none);
    assert_is(&logits(&x).unwrap(), &[3], &want);
    assert_is(&logits(&floats(&[1e4, 0.0, -1e4], &[3])).unwrap(), &[3], &[1e4, 2f64.ln(), 1e4]);
    let (w, often) = (floats(&[1.0, 2.0, 3.0], &[3]), floats(&[2.0], &[1]));
    let want: Vec<f64> = (0..3)
        .map(|i| {
            (i + 1) as f64 * (-2.0 * values(&t)[i] * p[i].ln() - (1.0 - values(&t)[i]) * (1.0 - p[i]).ln())
        })
        .collect();
    let got = loss::binary_cross_entropy_with_logits(&x, &t, Some(&w), Some(&often), none).unwrap();
    assert_is(&got, &[3], &want);
    let inner = floats(&[0.2, 0.6, 0.9], &[3]);
    check(&[inner, t.clone()], |v| {
        loss::binary_cross_entropy(&v[0], &v[1], Some(&w), Reduction::Mean).unwrap()
    });
    check(&[x.clone(), t.clone()], |v| {
        loss::binary_cross_entropy_with_logits(&v[0], &v[1], Some(&w), Some(&often), Reduction::Mean).unwrap()
    });
    check(&[x, t], |v| {
        loss::binary_cross_entropy_with_logits(&v[0], &v[1], None, None, Reduction::Sum).unwrap()
    });
    // Certain mistakes cost 100 and have a finite gradient.
    let wrong = leaf(&floats(&[0.0, 1.0], &[2]));
    let cost = loss::binary_cross_entropy(&wrong, &floats(&[1.0, 0.0], &[2]), None, Reduction::Sum).unwrap();
    assert_is(&cost, &[], &[200.0]);
    assert_is(&gradients(&cost, &[wrong], false)[0], &[2], &[-1e12, 1e12]);
}

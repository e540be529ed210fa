//! Sorting, distinct values and random numbers.

use super::*;
use crate::core::Error;
use crate::ops::random::{self, Generator};
use crate::ops::{search, sort, view};

#[test]
fn sorting_is_stable_along_any_axis() {
    let x = floats(&[2.0, 1.0, 2.0, f64::NAN, 1.0, 0.0], &[3, 2]);
    let (v, i) = sort::sort(&x, 0, false).unwrap();
    assert_is(&v, &[3, 2], &[1.0, 0.0, 2.0, 1.0, 2.0, f64::NAN]);
    assert_is(&i, &[3, 2], &[2.0, 2.0, 0.0, 0.0, 1.0, 1.0]);
    let (v, i) = sort::sort(&x, 0, true).unwrap();
    assert_is(&v, &[3, 2], &[2.0, f64::NAN, 2.0, 1.0, 1.0, 0.0]);
    assert_is(&i, &[3, 2], &[0.0, 1.0, 1.0, 0.0, 2.0, 2.0]);
    for axis in 0..3 {
        check(&[noise(&[3, 4, 2], 1)], |x| sort::sort(&x[0], axis, axis == 1).unwrap().0);
    }
    assert_is(&sort::argsort(&ints(&[3, 1, 2], &[3]), 0, true).unwrap(), &[3], &[0.0, 2.0, 1.0]);
}

#[test]
fn the_best_and_the_middle() {
    let x = noise(&[2, 5], 3);
    let mut rows: Vec<Vec<f64>> = values(&x).chunks(5).map(<[f64]>::to_vec).collect();
    rows.iter_mut().for_each(|row| row.sort_by(f64::total_cmp));
    let (best, _) = sort::topk(&x, 2, 1, true).unwrap();
    assert_is(&best, &[2, 2], &[rows[0][4], rows[0][3], rows[1][4], rows[1][3]]);
    let (median, place) = sort::median(&x, 1).unwrap();
    assert_is(&median, &[2, 1], &[rows[0][2], rows[1][2]]);
    assert_is(&crate::ops::index::gather(&x, 1, &place).unwrap(), &[2, 1], &[rows[0][2], rows[1][2]]);
    let (third, _) = sort::kthvalue(&x, 3, 1).unwrap();
    assert_is(&third, &[2, 1], &[rows[0][2], rows[1][2]]);
    let q = sort::quantile(&x, &[0.0, 0.4, 1.0], 1).unwrap();
    let mix = |row: &[f64]| row[1] + (row[2] - row[1]) * 0.6;
    let want = [rows[0][0], rows[1][0], mix(&rows[0]), mix(&rows[1]), rows[0][4], rows[1][4]];
    assert_is(&q, &[3, 2], &want);
    check(std::slice::from_ref(&x), |x| sort::topk(&x[0], 2, 1, false).unwrap().0);
    check(std::slice::from_ref(&x), |x| sort::median(&x[0], 1).unwrap().0);
    check(std::slice::from_ref(&x), |x| sort::quantile(&x[0], &[0.3, 0.5], 1).unwrap());
    for even in [floats(&[4.0, 1.0, 3.0, 2.0], &[4]), ints(&[4, 1, 3, 2], &[4])] {
        assert_is(&sort::median(&even, 0).unwrap().0, &[1], &[2.0]);
        assert_is(&sort::median(&even, 0).unwrap().1, &[1], &[3.0]);
    }
    let spoiled = floats(&[1.0, f64::NAN, 0.0], &[3]);
    assert_is(&sort::median(&spoiled, 0).unwrap().0, &[1], &[f64::NAN]);
    assert_is(&sort::median(&spoiled, 0).unwrap().1, &[1], &[1.0]);
    assert_is(&sort::quantile(&spoiled, &[0.0], 0).unwrap(), &[1], &[f64::NAN]);
    assert!(message(sort::topk(&x, 6, 1, true)).contains("k = 6"));
    assert!(message(sort::quantile(&x, &[f64::NAN], 1)).contains("not between 0 and 1"));
}

#[test]
fn distinct_values() {
    let x = ints(&[3, 1, 3, 3, 2, 1], &[2, 3]);
    let found = search::unique(&x).unwrap();
    assert_is(&found.values, &[3], &[1.0, 2.0, 3.0]);
    assert_is(&found.first, &[3], &[1.0, 4.0, 0.0]);
    assert_is(&found.inverse, &[2, 3], &[2.0, 0.0, 2.0, 2.0, 1.0, 0.0]);
    assert_is(&found.counts, &[3], &[2.0, 1.0, 3.0]);
    assert_eq!(search::unique(&floats(&[], &[0])).unwrap().values.shape()[..], [0]);
    assert_eq!(search::unique(&floats(&[f64::NAN, f64::NAN], &[2])).unwrap().values.shape()[..], [2]);
    check(&[noise(&[4], 1)], |x| search::unique(&x[0]).unwrap().values);
}

#[test]
fn places_in_sorted_rows() {
    let row = floats(&[1.0, 2.0, 2.0, 4.0], &[4]);
    let asked = floats(&[0.0, 2.0, 5.0, 3.0], &[2, 2]);
    assert_is(&search::searchsorted(&row, &asked, false).unwrap(), &[2, 2], &[0.0, 1.0, 4.0, 3.0]);
    assert_is(&search::searchsorted(&row, &asked, true).unwrap(), &[2, 2], &[0.0, 3.0, 4.0, 3.0]);
    let rows = floats(&[1.0, 2.0, 3.0, 4.0], &[2, 2]);
    assert_is(
        &search::searchsorted(&rows, &floats(&[2.5, 2.5], &[2, 1]), false).unwrap(),
        &[2, 1],
        &[2.0, 0.0],
    );
    assert!(
        message(
            search::searchsorted(&rows, &asked.clone().detach(), false)
                .and_then(|_| { search::searchsorted(&rows, &noise(&[3, 2], 1), false) })
        )
        .contains("differ in leading sizes")
    );
}

#[test]
fn random_numbers_have_their_distributions() {
    let g = Generator::new(42);
    let n = 40_000;
    let shape = Shape::new(&[n]);
    let moments = |x: &Tensor| {
        let v = values(x);
        let mean = v.iter().sum::<f64>() / n as f64;
        (mean, v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64)
    };
    for dtype in [DType::F32, DType::F64] {
        let (mean, var) = moments(&random::rand(&shape, dtype, Device::Cpu, &g).unwrap());
        assert!((mean - 0.5).abs() < 0.01 && (var - 1.0 / 12.0).abs() < 0.003, "{mean} {var}");
        let (mean, var) = moments(&random::randn(&shape, dtype, Device::Cpu, &g).unwrap());
        assert!(mean.abs() < 0.02 && (var - 1.0).abs() < 0.03, "{mean} {var}");
    }
    let (mean, _) = moments(&random::uniform(-3.0, -1.0, &shape, DType::F32, Device::Cpu, &g).unwrap());
    assert!((mean + 2.0).abs() < 0.02);
    let dice = values(&random::randint(1, 7, &shape, DType::I64, Device::Cpu, &g).unwrap());
    for face in 1..=6 {
        let share = dice.iter().filter(|&&d| d == face as f64).count() as f64 / n as f64;
        assert!((share - 1.0 / 6.0).abs() < 0.01, "{face}: {share}");
    }
    let mut order = values(&random::permutation(1000, Device::Cpu, &g).unwrap());
    assert_ne!(order[..3], [0.0, 1.0, 2.0]);
    order.sort_by(f64::total_cmp);
    assert!(order.iter().enumerate().all(|(i, &p)| p == i as f64));
    let p = floats(&[0.2, 0.9], &[2, 1]);
    let p = view::expand(&p, &Shape::new(&[2, n / 2])).unwrap();
    let hits = values(&random::bernoulli(&p, &g).unwrap());
    let share = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    assert!((share(&hits[..n / 2]) - 0.2).abs() < 0.02 && (share(&hits[n / 2..]) - 0.9).abs() < 0.02);
}

#[test]
fn the_same_seed_gives_the_same_stream() {
    let shape = Shape::new(&[100]);
    let run = || {
        let g = Generator::new(5);
        let _unused = random::rand(&Shape::new(&[3]), DType::F32, Device::Cpu, &g).unwrap();
        values(&random::randn(&shape, DType::F32, Device::Cpu, &g).unwrap())
    };
    assert_eq!(run(), run());
    let other = values(&random::randn(&shape, DType::F32, Device::Cpu, &Generator::new(6)).unwrap());
    assert_ne!(run(), other);
}

#[test]
fn drawing_by_weights() {
    let g = Generator::new(1);
    let p = floats(&[0.0, 1.0, 3.0, 0.0, 4.0, 0.0, 0.0, 4.0], &[2, 4]);
    let n = 8000;
    let drawn = values(&random::multinomial(&p, n, true, &g).unwrap());
    let share =
        |row: usize, k: f64| drawn[row * n..][..n].iter().filter(|&&d| d == k).count() as f64 / n as f64;
    assert!((share(0, 1.0) - 0.25).abs() < 0.02 && (share(0, 2.0) - 0.75).abs() < 0.02);
    assert!((share(1, 0.0) - 0.5).abs() < 0.02 && (share(1, 3.0) - 0.5).abs() < 0.02);
    let pairs = values(&random::multinomial(&p, 2, false, &g).unwrap());
    assert!(pairs[0] != pairs[1] && pairs[..2].iter().all(|d| [1.0, 2.0].contains(d)), "{pairs:?}");
    assert!(message(random::multinomial(&p, 3, false, &g)).contains("fewer positive weights"));
    assert!(message(random::multinomial(&floats(&[-1.0, 2.0], &[2]), 1, true, &g)).contains("not negative"));
    assert!(message(random::multinomial(&floats(&[0.0, 0.0], &[2]), 1, true, &g)).contains("fewer positive"));
    assert!(matches!(random::multinomial(&ints(&[1], &[1]), 1, true, &g), Err(Error::DType(_))));
}

#[test]
fn dropout_scales_what_stays() {
    let g = Generator::new(9);
    let x = create::ones(&Shape::new(&[100, 100]), DType::F64, Device::Cpu).unwrap();
    let y = values(&random::dropout(&x, 0.25, &g).unwrap());
    assert!(y.iter().all(|&y| y == 0.0 || y == 1.0 / 0.75));
    assert!((y.iter().sum::<f64>() / 1e4 - 1.0).abs() < 0.03);
    let planes = values(&random::dropout_channels(&x, 0.5, &g).unwrap());
    assert!(planes.iter().all(|&y| y == 0.0 || y == 2.0));
    let channels = create::ones(&Shape::new(&[4, 8, 5]), DType::F64, Device::Cpu).unwrap();
    for plane in values(&random::dropout_channels(&channels, 0.5, &g).unwrap()).chunks(5) {
        assert!(plane.iter().all(|y| y == &plane[0]));
    }
    assert_eq!(values(&random::dropout(&x, 1.0, &g).unwrap()), [0.0; 10_000]);
    // The gradient has the same mask.
    check(&[noise(&[4, 5], 1)], |x| random::dropout(&x[0], 0.5, &Generator::new(3)).unwrap());
}

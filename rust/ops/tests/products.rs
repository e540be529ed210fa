//! Einsum, products of vectors and matrices, norms, and shapes taken apart.

use super::*;
use crate::ops::einsum::einsum;
use crate::ops::{shapes, view};
use std::collections::BTreeMap;

/// Einsum by its definition: a sum over all values of all labels.
fn plain(inputs: &[&str], output: &str, operands: &[&Tensor]) -> Vec<f64> {
    let mut sizes: BTreeMap<char, usize> = BTreeMap::new();
    for (labels, t) in inputs.iter().zip(operands) {
        for (label, &n) in labels.chars().zip(t.shape().iter()) {
            let size = sizes.entry(label).or_insert(n);
            *size = (*size).max(n);
        }
    }
    let inner: Vec<char> = sizes.keys().copied().filter(|l| !output.contains(*l)).collect();
    let order: Vec<char> = output.chars().chain(inner).collect();
    let total: usize = order.iter().map(|l| sizes[l]).product();
    let kept: usize = output.chars().map(|l| sizes[&l]).product();
    let data: Vec<Vec<f64>> = operands.iter().map(|t| values(t)).collect();
    let mut out = vec![0.0; kept];
    for i in 0..total {
        let mut rest = i;
        let mut at = BTreeMap::new();
        for label in order.iter().rev() {
            at.insert(*label, rest % sizes[label]);
            rest /= sizes[label];
        }
        let mut product = 1.0;
        for ((labels, t), data) in inputs.iter().zip(operands).zip(&data) {
            let place = labels
                .chars()
                .zip(t.shape().iter())
                .fold(0, |place, (l, &n)| place * n + if n == 1 { 0 } else { at[&l] });
            product *= data[place];
        }
        out[i / (total / kept)] += product;
    }
    out
}

#[test]
fn einsum_is_its_definition() {
    type Case = (&'static str, &'static [&'static str], &'static str, &'static [&'static [usize]]);
    let cases: &[Case] = &[
        ("ij,jk->ik", &["ij", "jk"], "ik", &[&[2, 3], &[3, 4]]),
        ("ij,jk", &["ij", "jk"], "ik", &[&[2, 3], &[3, 4]]),
        ("bij,bjk->bik", &["bij", "bjk"], "bik", &[&[2, 2, 3], &[2, 3, 2]]),
        ("bij , bkj -> kib", &["bij", "bkj"], "kib", &[&[2, 2, 3], &[2, 2, 3]]),
        ("ba", &["ba"], "ab", &[&[2, 3]]),
        ("ii", &["ii"], "", &[&[3, 3]]),
        ("ii->i", &["ii"], "i", &[&[3, 3]]),
        ("iji->j", &["iji"], "j", &[&[2, 3, 2]]),
        ("ij->", &["ij"], "", &[&[2, 3]]),
        ("i,j->ij", &["i", "j"], "ij", &[&[2], &[3]]),
        ("i,i->i", &["i", "i"], "i", &[&[3], &[3]]),
        ("i,i->", &["i", "i"], "", &[&[3], &[3]]),
        ("ij,j->ij", &["ij", "j"], "ij", &[&[2, 3], &[3]]),
        ("ij,kl->il", &["ij", "kl"], "il", &[&[2, 3], &[2, 2]]),
        ("...ij,...jk->...ik", &["abij", "bjk"], "abik", &[&[2, 2, 1, 3], &[2, 3, 2]]),
        ("...j,j", &["abj", "j"], "ab", &[&[2, 2, 3], &[3]]),
        ("i...->...", &["iab"], "ab", &[&[2, 3, 2]]),
        ("ij,jk->ik", &["ij", "jk"], "ik", &[&[2, 1], &[3, 2]]),
        ("bi,bi->b", &["bi", "bi"], "b", &[&[1, 3], &[2, 3]]),
        ("ij,jk,kl->il", &["ij", "jk", "kl"], "il", &[&[2, 3], &[3, 2], &[2, 2]]),
        ("i,ij,j->", &["i", "ij", "j"], "", &[&[2], &[2, 3], &[3]]),
        ("ij,ik,il->jkl", &["ij", "ik", "il"], "jkl", &[&[2, 2], &[2, 3], &[2, 2]]),
        ("aab,bcc->ac", &["aab", "bcc"], "ac", &[&[2, 2, 3], &[3, 2, 2]]),
    ];
    for (equation, inputs, output, sizes) in cases {
        let operands: Vec<Tensor> = sizes.iter().enumerate().map(|(i, s)| noise(s, i as u64)).collect();
        let views: Vec<&Tensor> = operands.iter().collect();
        let got = einsum(equation, &views).unwrap();
        assert_close(&values(&got), &plain(inputs, output, &views), 1e-12, equation);
        check(&operands, |t| einsum(equation, &t.iter().collect::<Vec<_>>()).unwrap());
    }
    let whole = einsum("ij,jk->ik", &[&ints(&[1, 2, 3, 4], &[2, 2]), &ints(&[1, 0, 1, 1], &[2, 2])]).unwrap();
    assert_eq!(whole.dtype(), DType::I64);
    assert_is(&whole, &[2, 2], &[3.0, 2.0, 7.0, 4.0]);
}

#[test]
fn einsum_refuses() {
    let (a, b) = (noise(&[2, 3], 1), noise(&[2, 3], 2));
    let fails = |equation: &str, part: &str| {
        let text = message(einsum(equation, &[&a, &b]));
        assert!(text.contains(part), "{text}");
    };
    fails("ij->ij", "names 1 operands, but 2 were given");
    fails("ij,jk->ik", "'j' names sizes 3 and 2".replace('\'', "\"").as_str());
    fails("ijk,ij", "names 3 axes of operand 0, which is (2, 3)");
    fails("ij,ij->ijk", "which no operand does");
    fails("ij,ij->ii", "twice");
    fails("i1,ij->i", "'1' is not a label");
    fails("ii,ij->i", "names sizes 2 and 3 of (2, 3)");
    fails("......i,ij", "");
    fails("", "");
    assert!(message(einsum("i->i", &[])).contains("at least one operand"));
}

#[test]
fn pieces() {
    let x = noise(&[2, 5], 1);
    let sizes = |parts: Vec<Tensor>| parts.iter().map(|t| t.shape()[1]).collect::<Vec<_>>();
    assert_eq!(sizes(shapes::split(&x, &[2, 0, 3], 1).unwrap()), [2, 0, 3]);
    assert_eq!(sizes(shapes::split_every(&x, 2, 1).unwrap()), [2, 2, 1]);
    assert_eq!(sizes(shapes::chunk(&x, 3, 1).unwrap()), [2, 2, 1]);
    assert_eq!(sizes(shapes::chunk(&x, 9, 1).unwrap()), [1; 5]);
    assert_eq!(sizes(shapes::chunk(&floats(&[], &[2, 0]), 3, 1).unwrap()), [0]);
    assert_is(&shapes::unbind(&x, 1).unwrap()[3], &[2], &[values(&x)[3], values(&x)[8]]);
    assert!(message(shapes::split(&x, &[2, 2], 1)).contains("do not make up axis 1"));
    assert!(shapes::split(&x, &[usize::MAX, 6], 1).is_err());
    check_first(std::slice::from_ref(&x), |x| shapes::chunk(&x[0], 2, 1).unwrap());
    let y = noise(&[2, 3, 4], 1);
    assert_eq!(shapes::movedim(&y, &[0, 2], &[2, 0]).unwrap().shape()[..], [4, 3, 2]);
    assert_eq!(shapes::movedim(&y, &[0], &[1]).unwrap().shape()[..], [3, 2, 4]);
    assert!(shapes::movedim(&y, &[0, 0], &[1, 2]).is_err());
    assert_eq!(shapes::flatten(&y, 1, 2).unwrap().shape()[..], [2, 12]);
    assert_eq!(shapes::flatten(&noise(&[], 1), 0, 0).unwrap().shape()[..], [1]);
    assert_eq!(shapes::unflatten(&y, 2, &[-1, 2]).unwrap().shape()[..], [2, 3, 2, 2]);
    assert!(shapes::unflatten(&y, 2, &[3, 2]).is_err());
    let v = values(&x);
    assert_is(&shapes::diff(&x, 2, 0).unwrap(), &[0, 5], &[]);
    assert_is(&shapes::diff(&floats(&v[..3], &[3]), 2, 0).unwrap(), &[1], &[v[2] - 2.0 * v[1] + v[0]]);
}

#[test]
fn products_of_vectors() {
    let (a, b) = (noise(&[3], 1), noise(&[3], 2));
    let (u, v) = (values(&a), values(&b));
    let dot: f64 = u.iter().zip(&v).map(|(a, b)| a * b).sum();
    assert_is(&shapes::dot(&a, &b).unwrap(), &[], &[dot]);
    assert_is(&shapes::vecdot(&a, &b, 0).unwrap(), &[], &[dot]);
    let outer: Vec<f64> = u.iter().flat_map(|a| v.iter().map(move |b| a * b)).collect();
    assert_is(&shapes::outer(&a, &b).unwrap(), &[3, 3], &outer);
    let cross = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    assert_is(&shapes::cross(&a, &b, 0).unwrap(), &[3], &cross);
    check(&[a.clone(), b.clone()], |t| shapes::cross(&t[0], &t[1], 0).unwrap());
    let (m, n) = (noise(&[2, 3, 4], 3), noise(&[4, 3, 2], 4));
    let got = shapes::tensordot(&m, &n, (&[1, 2], &[1, 0])).unwrap();
    assert_close(&values(&got), &plain(&["ajk", "kjb"], "ab", &[&m, &n]), 1e-12, "tensordot");
    assert!(shapes::tensordot(&m, &n, (&[0], &[0])).is_err());
    let (p, q) = (noise(&[2, 2], 5), noise(&[3], 6));
    let want: Vec<f64> = values(&p).iter().flat_map(|a| values(&q).into_iter().map(move |b| a * b)).collect();
    assert_is(&shapes::kron(&p, &q).unwrap(), &[2, 6], &want);
    check(&[p, q], |t| shapes::kron(&t[0], &t[1]).unwrap());
}

#[test]
fn norms() {
    let x = noise(&[2, 3], 1);
    let v = values(&x);
    for p in [1.0, 2.0, 3.0, 0.5] {
        let want: Vec<f64> =
            v.chunks(3).map(|r| r.iter().map(|x: &f64| x.abs().powf(p)).sum::<f64>().powf(1.0 / p)).collect();
        assert_is(&shapes::norm(&x, p, &[1], false).unwrap(), &[2], &want);
        assert_is(&shapes::norm(&x, p, &[1], true).unwrap(), &[2, 1], &want);
        check(std::slice::from_ref(&x), |x| shapes::norm(&x[0], p, &[1], false).unwrap());
        let zero = leaf(&floats(&[0.0, 0.0], &[2]));
        let norm = shapes::norm(&zero, p, &[0], false).unwrap();
        assert_is(&gradients(&norm, &[zero], false)[0], &[2], &[0.0, 0.0]);
    }
    let largest = v.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    assert_is(&shapes::norm(&x, f64::INFINITY, &[0, 1], false).unwrap(), &[], &[largest]);
    assert_is(&shapes::norm(&floats(&[0.0, 3.0], &[2]), 0.0, &[0], false).unwrap(), &[], &[1.0]);
    let (a, b) = (noise(&[2, 3], 1), noise(&[4, 3], 2));
    let got = shapes::cdist(&a, &b, 2.0).unwrap();
    let first = values(&a).iter().zip(values(&b)).take(3).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    assert_eq!(got.shape()[..], [2, 4]);
    assert_close(&values(&got)[..1], &[first], 1e-12, "cdist");
    check(&[a, b], |t| shapes::cdist(&t[0], &t[1], 2.0).unwrap());
    let _ = view::reshape(&x, &Shape::new(&[6])).unwrap();
}

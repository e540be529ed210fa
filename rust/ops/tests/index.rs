//! Indexing: NumPy's rules, bounds now and late, gradients with duplicates.

use super::*;
use crate::ir::kernel::Scatter;
use crate::ops::{advanced, index, rearrange, search, view};

/// `x[at]` of a row-major tensor.
fn element(x: &[f64], shape: &[usize], at: &[usize]) -> f64 {
    x[at.iter().zip(shape).fold(0, |place, (i, n)| place * n + i)]
}

/// Every index of a shape in row-major order.
fn all(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().fold(vec![vec![]], |done, &n| {
        done.into_iter().flat_map(|at| (0..n).map(move |i| [&at[..], &[i]].concat())).collect()
    })
}

#[test]
fn take_replaces_the_axis() {
    let x = noise(&[3, 4, 2], 1);
    let (index, places) = (ints(&[0, -1, 2, 2, 1, -4], &[2, 3]), [0, 3, 2, 2, 1, 0]);
    let y = index::take(&x, &index, 1).unwrap();
    let want: Vec<f64> = all(&[3, 2, 3, 2])
        .iter()
        .map(|at| element(&values(&x), &[3, 4, 2], &[at[0], places[at[1] * 3 + at[2]], at[3]]))
        .collect();
    assert_is(&y, &[3, 2, 3, 2], &want);
    check(&[x], |x| index::take(&x[0], &index, 1).unwrap());
    assert_is(&index::take(&floats(&[5.0, 6.0], &[2]), &ints(&[1], &[]), 0).unwrap(), &[], &[6.0]);
    assert_is(&index::take(&floats(&[], &[0]), &ints(&[], &[0]), 0).unwrap(), &[0], &[]);
}

#[test]
fn bounds_are_checked_at_the_call_or_late() {
    let x = noise(&[5], 1);
    assert_eq!(
        message(index::take(&x, &ints(&[0, 7], &[2]), 0)),
        "take: index 7 is out of range for axis 0 of size 5"
    );
    assert_eq!(
        message(index::gather(&x, 0, &ints(&[-6], &[1]))),
        "gather: index -6 is out of range for axis 0 of size 5"
    );
    assert!(message(index::take(&floats(&[], &[0]), &ints(&[0], &[1]), 0)).contains("size 0"));
    assert!(message(index::take(&x, &x, 0)).contains("indices must be integers, not float64"));
    let late = |i: i64| pending(&ints(&[0, i], &[2]));
    assert!(late_message(index::take(&x, &late(5), 0).unwrap()).contains("out of range"));
    let m = noise(&[2, 3], 2);
    let pair = |i, j| advanced::advanced(&m, &[Some(late(i)), Some(late(j))]);
    assert!(late_message(pair(0, 3).unwrap()).contains("out of range"));
    assert!(late_message(pair(-3, 0).unwrap()).contains("out of range"));
    assert_is(&pair(-2, -3).unwrap(), &[2], &[values(&m)[0], values(&m)[0]]);
    let again = advanced::advanced(&m, &[Some(ints(&[0, 2], &[2])), Some(ints(&[0, 0], &[2]))]);
    assert_eq!(message(again), "index: index 2 is out of range for axis 0 of size 2");
}

#[test]
fn gather_and_scatter_are_adjoint() {
    let x = noise(&[2, 4], 1);
    let index = ints(&[3, 0, 3, -2, 1, 1], &[2, 3]);
    let v = values(&x);
    let want = [v[3], v[0], v[3], v[6], v[5], v[5]];
    assert_is(&index::gather(&x, 1, &index).unwrap(), &[2, 3], &want);
    check(std::slice::from_ref(&x), |x| index::gather(&x[0], 1, &index).unwrap());
    // A smaller index cuts the input.
    let corner = ints(&[1, 0], &[1, 2]);
    assert_is(&index::gather(&x, 0, &corner).unwrap(), &[1, 2], &[v[4], v[1]]);
    check(std::slice::from_ref(&x), |x| index::gather(&x[0], 0, &corner).unwrap());
    let part = noise(&[2, 3], 2);
    let p = values(&part);
    let set = index::scatter(&x, 1, &index, &part, Scatter::Set).unwrap();
    assert_is(&set, &[2, 4], &[p[1], v[1], v[2], p[2], v[4], p[5], p[3], v[7]]);
    let add = index::scatter(&x, 1, &index, &part, Scatter::Add).unwrap();
    assert_is(
        &add,
        &[2, 4],
        &[v[0] + p[1], v[1], v[2], v[3] + p[0] + p[2], v[4], v[5] + p[4] + p[5], v[6] + p[3], v[7]],
    );
    for mode in [Scatter::Set, Scatter::Add] {
        check(&[x.clone(), part.clone()], |x| index::scatter(&x[0], 1, &index, &x[1], mode).unwrap());
        // A window of the base, and a number that broadcasts.
        check(&[x.clone(), noise(&[], 3)], |x| index::scatter(&x[0], 0, &corner, &x[1], mode).unwrap());
    }
    assert!(
        message(index::gather(&x, 1, &ints(&[0; 3], &[3, 1])))
            .contains("larger than input (2, 4) along axis 0")
    );
    assert!(
        message(index::scatter(&x, 1, &index, &noise(&[4], 1), Scatter::Set)).contains("does not broadcast")
    );
    assert!(
        message(index::scatter(&bools(&[1], &[1]), 0, &ints(&[0], &[1]), &bools(&[1], &[1]), Scatter::Add))
            .contains("bool")
    );
}

#[test]
fn take_along_axis_broadcasts() {
    let x = noise(&[2, 1, 3], 1);
    let index = ints(&[2, 0, 1, 1], &[1, 4, 1]);
    let v = values(&x);
    let want: Vec<f64> = (0..2).flat_map(|i| [v[3 * i + 2], v[3 * i], v[3 * i + 1], v[3 * i + 1]]).collect();
    assert_is(&index::take_along_axis(&x, &index, 2).unwrap(), &[2, 4, 1], &want);
    check(&[x], |x| index::take_along_axis(&x[0], &index, 2).unwrap());
}

#[test]
fn several_indices_follow_numpy() {
    let shape = [2, 3, 4, 5];
    let x = noise(&shape, 1);
    let v = values(&x);
    let (i, j) = (ints(&[0, -1, 2], &[3]), ints(&[1, 3], &[2, 1]));
    let (pi, pj) = ([0, 2, 2], [1, 3]);
    // Neighbours: their axes stay in place.
    let y = advanced::advanced(&x, &[None, Some(i.clone()), Some(j.clone())]).unwrap();
    let want: Vec<f64> =
        all(&[2, 2, 3, 5]).iter().map(|a| element(&v, &shape, &[a[0], pi[a[2]], pj[a[1]], a[3]])).collect();
    assert_is(&y, &[2, 2, 3, 5], &want);
    // Apart: their axes come first.
    let k = ints(&[1, 0, 1], &[3]);
    let y = advanced::advanced(&x, &[Some(k.clone()), None, Some(j.clone())]).unwrap();
    let want: Vec<f64> = all(&[2, 3, 3, 5])
        .iter()
        .map(|a| element(&v, &shape, &[[1, 0, 1][a[1]], a[2], pj[a[0]], a[3]]))
        .collect();
    assert_is(&y, &[2, 3, 3, 5], &want);
    let y = advanced::advanced(&x, &[None, Some(i.clone()), None, Some(j.clone())]).unwrap();
    let want: Vec<f64> =
        all(&[2, 3, 2, 4]).iter().map(|a| element(&v, &shape, &[a[2], pi[a[1]], a[3], pj[a[0]]])).collect();
    assert_is(&y, &[2, 3, 2, 4], &want);
    // One index, and one that is 0-d.
    let y = advanced::advanced(&x, &[None, Some(ints(&[-1], &[])), None]).unwrap();
    let want: Vec<f64> =
        all(&[2, 4, 5]).iter().map(|a| element(&v, &shape, &[a[0], 2, a[1], a[2]])).collect();
    assert_is(&y, &[2, 4, 5], &want);
    let small = noise(&[2, 3, 4], 2);
    for indices in [
        vec![None, Some(i.clone()), Some(j.clone())],
        vec![Some(k.clone()), None, Some(j.clone())],
        vec![Some(k.clone()), Some(i.clone()), Some(k.clone())],
    ] {
        check(std::slice::from_ref(&small), |x| advanced::advanced(&x[0], &indices).unwrap());
        let result = advanced::advanced(&small, &indices).unwrap();
        let part = noise(result.shape(), 3);
        for mode in [Scatter::Set, Scatter::Add] {
            check(&[small.clone(), part.clone()], |x| advanced::put(&x[0], &indices, &x[1], mode).unwrap());
        }
    }
    assert!(message(advanced::advanced(&small, &vec![None; 4])).contains("too many indices"));
    let ragged = [Some(ints(&[0, 1], &[2])), Some(ints(&[0, 1, 2], &[3]))];
    assert!(message(advanced::advanced(&small, &ragged)).contains("do not broadcast"));
}

#[test]
fn put_writes_what_advanced_reads() {
    let x = noise(&[3, 4], 1);
    let indices = [Some(ints(&[2, 0, 2], &[3])), Some(ints(&[1, 1, 1], &[3]))];
    let set = advanced::put(&x, &indices, &floats(&[1.0, 2.0, 3.0], &[1, 3]), Scatter::Set).unwrap();
    let mut want = values(&x);
    (want[1], want[9]) = (2.0, 3.0);
    assert_is(&set, &[3, 4], &want);
    let add = advanced::put(&x, &indices, &floats(&[1.0, 2.0, 3.0], &[3]), Scatter::Add).unwrap();
    let mut want = values(&x);
    want[1] += 2.0;
    want[9] += 4.0;
    assert_is(&add, &[3, 4], &want);
    // Whole rows, from a value that broadcasts.
    let rows =
        advanced::put(&x, &[Some(ints(&[0, 2], &[2]))], &floats(&[9.0, 8.0], &[2, 1]), Scatter::Set).unwrap();
    let mut want = values(&x);
    want[..4].fill(9.0);
    want[8..].fill(8.0);
    assert_is(&rows, &[3, 4], &want);
    assert!(
        message(advanced::put(&x, &indices, &noise(&[2], 1), Scatter::Set))
            .contains("does not broadcast to the indexed (3,)")
    );
}

#[test]
fn masks_select_and_assign() {
    let x = noise(&[2, 3, 2], 1);
    let v = values(&x);
    let mask = bools(&[1, 0, 0, 0, 1, 1], &[2, 3]);
    let y = advanced::advanced(&x, &[Some(mask.clone())]).unwrap();
    assert_is(&y, &[3, 2], &[v[0], v[1], v[8], v[9], v[10], v[11]]);
    check(std::slice::from_ref(&x), |x| advanced::advanced(&x[0], &[Some(mask.clone())]).unwrap());
    // A mask beside an integer index.
    let last = bools(&[0, 1], &[2]);
    let y = advanced::advanced(&x, &[Some(ints(&[1], &[1])), None, Some(last.clone())]).unwrap();
    assert_is(&y, &[1, 3], &[v[7], v[9], v[11]]);
    // A 0-d mask adds an axis.
    let none = advanced::advanced(&x, &[Some(bools(&[0], &[]))]).unwrap();
    assert_eq!(none.shape()[..], [0, 2, 3, 2]);
    let one = advanced::advanced(&x, &[None, Some(bools(&[1], &[]))]).unwrap();
    assert_is(&one, &[2, 1, 3, 2], &v);
    let filled = advanced::put(&x, &[Some(mask.clone())], &floats(&[7.0], &[1]), Scatter::Set).unwrap();
    let want: Vec<f64> =
        v.iter().enumerate().map(|(i, x)| if [0, 4, 5].contains(&(i / 2)) { 7.0 } else { *x }).collect();
    assert_is(&filled, &[2, 3, 2], &want);
    check(&[x.clone(), noise(&[], 2)], |x| {
        advanced::put(&x[0], &[Some(mask.clone())], &x[1], Scatter::Set).unwrap()
    });
    check(&[x.clone(), noise(&[3, 2], 2)], |x| {
        advanced::put(&x[0], &[Some(mask.clone())], &x[1], Scatter::Set).unwrap()
    });
    check(&[x.clone(), noise(&[3, 2], 2)], |x| {
        advanced::put(&x[0], &[Some(mask.clone())], &x[1], Scatter::Add).unwrap()
    });
    assert_eq!(
        message(advanced::advanced(&x, &[Some(bools(&[1, 1, 1], &[3]))])),
        "index: a mask of (3,) does not fit (2, 3, 2) at axis 0"
    );
    let wide = bools(&[1, 0, 1, 0, 0, 0], &[2, 3, 1]);
    assert_is(&advanced::masked_select(&x, &wide).unwrap(), &[4], &[v[0], v[1], v[4], v[5]]);
    check(std::slice::from_ref(&x), |x| advanced::masked_select(&x[0], &wide).unwrap());
    let zero = advanced::masked_fill(&x, &wide, 0.0).unwrap();
    assert_close(&values(&zero)[..6], &[0.0, 0.0, v[2], v[3], 0.0, 0.0], 0.0, "masked_fill");
    assert!(
        message(advanced::masked_fill(&ints(&[1], &[1]), &bools(&[1], &[1]), 0.5))
            .contains("does not fit int64")
    );
    assert!(
        message(advanced::masked_fill(&noise(&[1], 1), &bools(&[1, 0], &[2]), 0.5))
            .contains("does not broadcast")
    );
}

#[test]
fn nonzero_lists_places() {
    let x = floats(&[0.0, 2.0, f64::NAN, 0.0, 0.0, -1.0], &[2, 3]);
    assert_is(&advanced::nonzero(&x).unwrap(), &[3, 2], &[0.0, 1.0, 0.0, 2.0, 1.0, 2.0]);
    let turned = view::permute(&x, &[1, 0]).unwrap();
    let columns = advanced::where1(&turned).unwrap();
    assert_is(&columns[0], &[3], &[1.0, 2.0, 2.0]);
    assert_is(&columns[1], &[3], &[0.0, 0.0, 1.0]);
    assert_eq!(advanced::nonzero(&floats(&[3.0], &[])).unwrap().shape()[..], [1, 0]);
    assert_eq!(advanced::nonzero(&floats(&[], &[0, 2])).unwrap().shape()[..], [0, 2]);
}

#[test]
fn elements_move() {
    let x = noise(&[2, 3], 1);
    let v = values(&x);
    assert_is(&rearrange::flip(&x, &[0, 1]).unwrap(), &[2, 3], &[v[5], v[4], v[3], v[2], v[1], v[0]]);
    assert_is(
        &rearrange::roll(&x, &[1, -1], &[0, 1]).unwrap(),
        &[2, 3],
        &[v[4], v[5], v[3], v[1], v[2], v[0]],
    );
    assert_is(
        &rearrange::tile(&x, &[2, 1, 2]).unwrap(),
        &[2, 2, 6],
        &[&v[..3], &v[..3], &v[3..], &v[3..]].concat().repeat(2),
    );
    assert_is(
        &rearrange::repeat_interleave(&x, 2, 1).unwrap(),
        &[2, 6],
        &v.iter().flat_map(|&x| [x, x]).collect::<Vec<_>>(),
    );
    let each = rearrange::repeat_each(&x, &ints(&[2, 0, 1], &[3]), 1).unwrap();
    assert_is(&each, &[2, 3], &[v[0], v[0], v[2], v[3], v[3], v[5]]);
    check(std::slice::from_ref(&x), |x| rearrange::roll(&x[0], &[1, -1], &[0, 1]).unwrap());
    check(std::slice::from_ref(&x), |x| rearrange::tile(&x[0], &[2, 1, 2]).unwrap());
    check(std::slice::from_ref(&x), |x| rearrange::repeat_each(&x[0], &ints(&[2, 0, 1], &[3]), 1).unwrap());
    assert!(message(rearrange::repeat_each(&x, &ints(&[1, -1, 1], &[3]), 1)).contains("-1 repeats"));
    assert!(rearrange::tile(&x, &[usize::MAX, 2]).is_err());
}

#[test]
fn triangles_and_diagonals() {
    let x = noise(&[2, 3, 4], 1);
    let v = values(&x);
    for offset in -4..=5 {
        let low = rearrange::tril(&x, offset).unwrap();
        let high = rearrange::triu(&x, offset).unwrap();
        let part = |keep: fn(i64, i64) -> bool| -> Vec<f64> {
            all(&[2, 3, 4])
                .iter()
                .zip(&v)
                .map(|(at, x)| if keep(at[2] as i64 - at[1] as i64, offset) { *x } else { 0.0 })
                .collect()
        };
        assert_is(&low, &[2, 3, 4], &part(|gap, k| gap <= k));
        assert_is(&high, &[2, 3, 4], &part(|gap, k| gap >= k));
        let line = rearrange::diagonal(&x, offset, 1, 2).unwrap();
        let want: Vec<f64> = all(&[2, 3, 4])
            .iter()
            .zip(&v)
            .filter(|(at, _)| at[2] as i64 - at[1] as i64 == offset)
            .map(|(_, x)| *x)
            .collect();
        assert_is(&line, &[2, want.len() / 2], &want);
    }
    check(std::slice::from_ref(&x), |x| rearrange::diagonal(&x[0], -1, 2, 1).unwrap());
    check(std::slice::from_ref(&x), |x| rearrange::trace(&x[0], 1, 0, 2).unwrap());
    check(&[noise(&[2, 3], 2)], |x| rearrange::diag_embed(&x[0], -1, 0, 2).unwrap());
    let square = rearrange::diag(&floats(&[1.0, 2.0], &[2]), 1).unwrap();
    assert_is(&square, &[3, 3], &[0.0, 1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0]);
    assert_eq!(rearrange::tril(&bools(&[1; 4], &[2, 2]), 0).unwrap().dtype(), DType::Bool);
    assert_is(&rearrange::tril(&ints(&[1, 2, 3, 4], &[2, 2]), 0).unwrap(), &[2, 2], &[1.0, 0.0, 3.0, 4.0]);
}

#[test]
fn padding() {
    use crate::core::Scalar;
    use rearrange::{Pad, pad};
    let x = floats(&[1.0, 2.0, 3.0, 4.0], &[4]);
    let ends = |mode, before, after| values(&pad(&x, &[(before, after)], mode).unwrap());
    assert_eq!(ends(Pad::Reflect, 3, 1), [4.0, 3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0]);
    assert_eq!(ends(Pad::Replicate, 2, 5)[..], [1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0]);
    assert_eq!(ends(Pad::Circular, 1, 4), [4.0, 1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
    let five = Pad::Constant(Scalar::Float(5.0));
    assert_eq!(ends(five, 1, 2), [5.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.0]);
    assert_eq!(ends(five, -1, 2), [2.0, 3.0, 4.0, 5.0, 5.0]);
    assert_eq!(ends(five, -3, -1), [] as [f64; 0]);
    assert_eq!(ends(five, 7, -4), [5.0; 7]);
    assert_eq!(ends(five, -6, 3), [5.0]);
    for mode in [Pad::Reflect, Pad::Replicate, Pad::Circular, five] {
        check(&[noise(&[3, 2, 3], 1)], |x| pad(&x[0], &[(0, 0), (1, 0), (2, 1)], mode).unwrap());
    }
    check(&[noise(&[3, 4], 1)], |x| pad(&x[0], &[(-1, 2), (1, -2)], five).unwrap());
    assert!(message(pad(&x, &[(4, 0)], Pad::Reflect)).contains("more than mode \"reflect\" has to give"));
    assert!(message(pad(&x, &[(-1, 0)], Pad::Circular)).contains("no negative amounts"));
    assert!(message(pad(&x, &[(-3, -2)], five)).contains("takes more than axis 0"));
    assert!(pad(&x, &[(i64::MAX, i64::MAX)], five).is_err());
    assert!(pad(&x, &[(i64::MAX, 0)], Pad::Replicate).is_err());
}

#[test]
fn codes_and_counts() {
    let x = ints(&[2, 0, 1], &[3]);
    assert_is(&search::one_hot(&x, None).unwrap(), &[3, 3], &[0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    assert_eq!(search::one_hot(&x, Some(5)).unwrap().shape()[..], [3, 5]);
    assert_eq!(message(search::one_hot(&x, Some(2))), "one_hot: class 2 is not in 0 … 1");
    assert!(
        late_message(search::one_hot(&pending(&ints(&[-1], &[1])), Some(2)).unwrap())
            .contains("out of range")
    );
    assert_is(&search::bincount(&ints(&[1, 3, 1], &[3]), None, 0).unwrap(), &[4], &[0.0, 2.0, 0.0, 1.0]);
    assert_is(&search::bincount(&ints(&[], &[0]), None, 2).unwrap(), &[2], &[0.0, 0.0]);
    check(&[noise(&[3], 1)], |w| search::bincount(&ints(&[1, 3, 1], &[3]), Some(&w[0]), 0).unwrap());
    assert!(message(search::bincount(&ints(&[-1], &[1]), None, 0)).contains("negative"));
    let grid =
        rearrange::meshgrid(&[&floats(&[1.0, 2.0], &[2]), &floats(&[3.0, 4.0, 5.0], &[3])], true).unwrap();
    assert_is(&grid[0], &[3, 2], &[1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
    assert_is(&grid[1], &[3, 2], &[3.0, 3.0, 4.0, 4.0, 5.0, 5.0]);
}

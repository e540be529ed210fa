//! Einstein's summation: labels name the axes of operands and of the result; labels that the result does
//! not name are summed over.

use super::{autocast, elementwise, matmul, rearrange, reduce, view};
use crate::bail;
use crate::core::{Result, Shape};
use crate::graph::Tensor;
use crate::ir::Elementwise as E;

/// The axes that `...` stands for are labelled by numbers from here on, the last axis lowest.
const ELLIPSIS: u32 = 1 << 24;

type Label = u32;

/// An operand with a label for each axis.
struct Term {
    tensor: Tensor,
    labels: Vec<Label>,
}

/// `einsum("bik,bkj->bij", a, b)`: explicit or implicit result, `...`, repeated labels within an operand
/// (its diagonal) and axes of size 1 that broadcast. Pairs are contracted from left to right by batched
/// matmul.
pub fn einsum(equation: &str, operands: &[&Tensor]) -> Result<Tensor> {
    if operands.is_empty() {
        bail!(Value, "einsum: at least one operand is needed");
    }
    super::device("einsum", operands)?;
    let operands = autocast::all("einsum", operands)?;
    let operands: &[&Tensor] = &operands.iter().collect::<Vec<_>>();
    let (inputs, output) = parse(equation, operands)?;
    let mut terms = Vec::with_capacity(operands.len());
    for (tensor, labels) in operands.iter().zip(inputs) {
        terms.push(diagonals(equation, Term { tensor: (*tensor).clone(), labels })?);
    }
    let sizes = broadcast_sizes(equation, &terms)?;
    for label in &output {
        if !sizes.iter().any(|(known, _)| known == label) {
            bail!(Value, "einsum: {equation:?}: the result names {:?}, which no operand does", text(*label));
        }
    }
    let mut rest = terms.into_iter();
    let mut left = rest.next().expect("at least one");
    while let Some(right) = rest.next() {
        let later: Vec<Label> =
            rest.as_slice().iter().flat_map(|t| &t.labels).chain(&output).copied().collect();
        left = contract(left, right, &later, &sizes)?;
    }
    let left = sum_others(left, &output)?;
    let order: Vec<usize> =
        output.iter().map(|l| place(&left.labels, *l).expect("labels of the result")).collect();
    Ok(view::permute(&left.tensor, &order)?.as_own())
}

fn place(labels: &[Label], label: Label) -> Option<usize> {
    labels.iter().position(|&l| l == label)
}

fn text(label: Label) -> String {
    char::from_u32(label).filter(|_| label < ELLIPSIS).map_or_else(|| "...".into(), String::from)
}

/// The labels of each operand, and of the result.
fn parse(equation: &str, operands: &[&Tensor]) -> Result<(Vec<Vec<Label>>, Vec<Label>)> {
    let clean: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match clean.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (&clean[..], None),
    };
    let parts: Vec<&str> = left.split(',').collect();
    if parts.len() != operands.len() {
        bail!(
            Value,
            "einsum: {equation:?} names {} operands, but {} were given",
            parts.len(),
            operands.len()
        );
    }
    let mut dots = 0;
    let mut inputs = vec![];
    for (i, (part, tensor)) in parts.iter().zip(operands).enumerate() {
        let named = part.replacen("...", "", 1).chars().count();
        let free = tensor.rank().checked_sub(named);
        let labels = match free {
            Some(free) if part.contains("...") || free == 0 => labels(equation, part, free)?,
            _ => {
                bail!(
                    Value,
                    "einsum: {equation:?} names {named} axes of operand {i}, which is {}",
                    tensor.shape()
                )
            }
        };
        dots = dots.max(labels.iter().filter(|&&l| l >= ELLIPSIS).count());
        inputs.push(labels);
    }
    let output = match right {
        Some(right) => {
            let output = labels(equation, right, dots)?;
            if let Some(twice) = output.iter().enumerate().find(|(i, l)| output[..*i].contains(l)) {
                bail!(Value, "einsum: {equation:?}: the result names {:?} twice", text(*twice.1));
            }
            output
        }
        None => {
            // The dots first, then in alphabetical order what comes once.
            let all: Vec<Label> = inputs.iter().flatten().copied().collect();
            let mut once: Vec<Label> = all.iter().copied().filter(|l| *l < ELLIPSIS).collect();
            once.sort_unstable();
            once.retain(|l| all.iter().filter(|other| *other == l).count() == 1);
            ellipsis(dots).chain(once).collect()
        }
    };
    Ok((inputs, output))
}

/// Labels of the axes that an ellipsis of `count` axes stands for.
fn ellipsis(count: usize) -> impl Iterator<Item = Label> {
    (0..count as u32).rev().map(|i| ELLIPSIS + i)
}

/// The labels of one operand whose dots stand for `dots` axes.
fn labels(equation: &str, part: &str, dots: usize) -> Result<Vec<Label>> {
    let letters = |text: &str| -> Result<Vec<Label>> {
        match text.chars().find(|c| !c.is_alphabetic()) {
            Some(c) => bail!(Value, "einsum: {equation:?}: {c:?} is not a label; labels are letters"),
            None => Ok(text.chars().map(Label::from).collect()),
        }
    };
    match part.split_once("...") {
        None => letters(part),
        Some((before, after)) => Ok([letters(before)?, ellipsis(dots).collect(), letters(after)?].concat()),
    }
}

/// Without labels that repeat: their axes become the diagonal.
fn diagonals(equation: &str, mut term: Term) -> Result<Term> {
    while let Some((first, second)) =
        (0..term.labels.len()).find_map(|i| Some((i, i + 1 + place(&term.labels[i + 1..], term.labels[i])?)))
    {
        let shape = term.tensor.shape();
        if shape[first] != shape[second] {
            let label = text(term.labels[first]);
            bail!(
                Shape,
                "einsum: {equation:?}: {label:?} names sizes {} and {} of {shape}",
                shape[first],
                shape[second]
            );
        }
        term.tensor = rearrange::diagonal(&term.tensor, 0, first, second)?;
        let label = term.labels.remove(second);
        term.labels.remove(first);
        term.labels.push(label);
    }
    Ok(term)
}

/// The size of each label; axes of size 1 give way.
fn broadcast_sizes(equation: &str, terms: &[Term]) -> Result<Vec<(Label, usize)>> {
    let mut sizes: Vec<(Label, usize)> = vec![];
    for term in terms {
        for (&label, &size) in term.labels.iter().zip(term.tensor.shape().iter()) {
            match sizes.iter_mut().find(|(known, _)| *known == label) {
                None => sizes.push((label, size)),
                Some((_, known)) if *known == 1 => *known = size,
                Some((_, known)) if *known == size || size == 1 => {}
                Some((_, known)) => {
                    bail!(Shape, "einsum: {equation:?}: {:?} names sizes {known} and {size}", text(label))
                }
            }
        }
    }
    Ok(sizes)
}

/// Summed over every label that is not wanted.
fn sum_others(term: Term, wanted: &[Label]) -> Result<Term> {
    let (kept, gone): (Vec<usize>, Vec<usize>) =
        (0..term.labels.len()).partition(|&a| wanted.contains(&term.labels[a]));
    if gone.is_empty() {
        return Ok(term);
    }
    let dtype = term.tensor.dtype();
    let sum = super::cast::cast(&reduce::sum(&term.tensor, &gone, false)?, dtype)?;
    Ok(Term { tensor: sum, labels: kept.iter().map(|&a| term.labels[a]).collect() })
}

/// Two operands as one, summed over the labels that are not wanted later. Labels of both that are wanted
/// number matrices, those of one are rows or columns, those that are not wanted are inner.
fn contract(a: Term, b: Term, later: &[Label], sizes: &[(Label, usize)]) -> Result<Term> {
    let dtype = a.tensor.dtype().promote(b.tensor.dtype());
    let wanted = |other: &Term| [&other.labels[..], later].concat();
    let (for_a, for_b) = (wanted(&b), wanted(&a));
    let (a, b) = (sum_others(a, &for_a)?, sum_others(b, &for_b)?);
    let shared = |l: &&Label| b.labels.contains(l);
    let batch: Vec<Label> = a.labels.iter().filter(shared).filter(|l| later.contains(l)).copied().collect();
    let inner: Vec<Label> = a.labels.iter().filter(shared).filter(|l| !later.contains(l)).copied().collect();
    let rows: Vec<Label> = a.labels.iter().filter(|l| !b.labels.contains(l)).copied().collect();
    let columns: Vec<Label> = b.labels.iter().filter(|l| !a.labels.contains(l)).copied().collect();
    let size = |labels: &[Label]| -> Vec<usize> {
        labels
            .iter()
            .map(|l| sizes.iter().find(|(known, _)| known == l).expect("every label has a size").1)
            .collect()
    };
    let arrange = |term: &Term, groups: [&[Label]; 3]| -> Result<Tensor> {
        let all = groups.concat();
        let order: Vec<usize> =
            all.iter().map(|&l| place(&term.labels, l).expect("a label of the term")).collect();
        let full =
            view::expand(&view::permute(&term.tensor, &order)?, &Shape::checked("einsum", &size(&all))?)?;
        let flat: Shape = groups.iter().map(|g| size(g).iter().product()).collect();
        view::reshape(&super::cast::cast(&full, dtype)?, &flat)
    };
    let left = arrange(&a, [&batch, &rows, &inner])?;
    let product = if inner.is_empty() {
        // Nothing to sum: (batch, rows, 1) · (batch, 1, columns) elementwise.
        elementwise::binary(E::mul, &left, &arrange(&b, [&batch, &inner, &columns])?)?
    } else {
        matmul::matmul(&left, &arrange(&b, [&batch, &inner, &columns])?)?
    };
    let labels = [batch, rows, columns].concat();
    let tensor = view::reshape(&product, &Shape::checked("einsum", &size(&labels))?)?;
    Ok(Term { tensor, labels })
}

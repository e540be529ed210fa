//! The slow, obvious product that the tests compare with.

use super::Gemm;

/// `Σₚ A[i, p] · B[p, j]` in order for every element of C, by the given arithmetic.
pub fn product<A: Copy, C: Copy>(
    g: &Gemm,
    a: impl Fn(isize) -> A,
    b: impl Fn(isize) -> A,
    zero: C,
    step: impl Fn(C, A, A) -> C,
) -> Vec<C> {
    let mut c = Vec::new();
    for (&a_at, &b_at) in g.batch_a.iter().zip(g.batch_b) {
        for i in 0..g.m as isize {
            for j in 0..g.n as isize {
                c.push((0..g.k as isize).fold(zero, |sum, p| {
                    step(sum, a(a_at + i * g.rsa + p * g.csa), b(b_at + p * g.rsb + j * g.csb))
                }));
            }
        }
    }
    c
}

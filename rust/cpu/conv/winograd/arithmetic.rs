//! The six small matrices of F(4×4, 3×3), applied to vectors of channels: to a row or a column of weights, input,
//! products and gradients.

use super::{IN, OUT, TAPS};
use crate::cpu::conv::simd::Simd;

/// `a x + y`.
#[inline(always)]
unsafe fn plus<V: Simd<Elem = f32>>(y: V, a: f32, x: V) -> V {
    // SAFETY: the caller has the instructions.
    unsafe { V::splat(a).fma(x, y) }
}

/// The matrix of the weights' transform.
pub const G: [[f32; TAPS]; IN] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// `G g`.
#[inline(always)]
pub unsafe fn of_weights<V: Simd<Elem = f32>>(g: [V; TAPS]) -> [V; IN] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let scaled = |a: f32, x: V| plus(V::zero(), a, x);
        let ends = scaled(-1.0 / 6.0, g[0].add(g[2]));
        let wide = plus(scaled(1.0 / 24.0, g[0]), 1.0 / 6.0, g[2]);
        [
            scaled(0.25, g[0]),
            plus(ends, -1.0 / 6.0, g[1]),
            plus(ends, 1.0 / 6.0, g[1]),
            plus(wide, 1.0 / 12.0, g[1]),
            plus(wide, -1.0 / 12.0, g[1]),
            g[2],
        ]
    }
}

/// `Bᵀ d`.
#[inline(always)]
pub unsafe fn of_input<V: Simd<Elem = f32>>(d: [V; IN]) -> [V; IN] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let (even, odd) = (plus(d[4], -4.0, d[2]), plus(d[3], -4.0, d[1]));
        let (far, twice) = (plus(d[4], -1.0, d[2]), plus(d[3], -1.0, d[1]));
        [
            plus(plus(d[4], -5.0, d[2]), 4.0, d[0]),
            even.add(odd),
            plus(even, -1.0, odd),
            plus(far, 2.0, twice),
            plus(far, -2.0, twice),
            plus(plus(d[5], -5.0, d[3]), 4.0, d[1]),
        ]
    }
}

/// `Aᵀ m`.
#[inline(always)]
pub unsafe fn of_output<V: Simd<Elem = f32>>(m: [V; IN]) -> [V; OUT] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let (near, near_odd) = (m[1].add(m[2]), plus(m[1], -1.0, m[2]));
        let (far, far_odd) = (m[3].add(m[4]), plus(m[3], -1.0, m[4]));
        [
            m[0].add(near).add(far),
            plus(near_odd, 2.0, far_odd),
            plus(near, 4.0, far),
            plus(near_odd, 8.0, far_odd).add(m[5]),
        ]
    }
}

/// `A e` of four values.
#[inline(always)]
pub unsafe fn of_gradient<V: Simd<Elem = f32>>(e: [V; OUT]) -> [V; IN] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let (even, odd) = (e[0].add(e[2]), e[1].add(e[3]));
        let (far, far_odd) = (plus(e[0], 4.0, e[2]), plus(e[1], 4.0, e[3]));
        [e[0], even.add(odd), plus(even, -1.0, odd), plus(far, 2.0, far_odd), plus(far, -2.0, far_odd), e[3]]
    }
}

/// `Gᵀ p`.
#[inline(always)]
pub unsafe fn of_products<V: Simd<Elem = f32>>(p: [V; IN]) -> [V; TAPS] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let scaled = |a: f32, x: V| plus(V::zero(), a, x);
        let (near, near_odd) = (p[1].add(p[2]), plus(p[2], -1.0, p[1]));
        let (far, far_odd) = (p[3].add(p[4]), plus(p[3], -1.0, p[4]));
        [
            plus(plus(scaled(0.25, p[0]), -1.0 / 6.0, near), 1.0 / 24.0, far),
            plus(scaled(1.0 / 6.0, near_odd), 1.0 / 12.0, far_odd),
            plus(scaled(1.0 / 6.0, plus(far, -1.0, near)), 1.0, p[5]),
        ]
    }
}

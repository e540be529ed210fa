//! Packing and blocks against loops over float64, for each kind of instruction that this processor has.

use super::*;
use crate::cpu::isa::Bf16;
use half::bf16;

/// Quarters of small numbers: exact, and so are their sums.
fn value(i: usize) -> bf16 {
    bf16::from_f32(((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59) as f32 / 4.0 - 4.0)
}

/// Every element of the block, of operands that lie in all ways and end anywhere.
#[test]
fn blocks_are_products() {
    for kind in Bf16::supported() {
        for (rows, columns, depth) in
            [(32, 32, 64), (1, 1, 1), (7, 30, 33), (17, 16, 95), (32, 5, 31), (16, 32, 2)]
        {
            for (a_along, a_across) in [(1, depth), (rows, 1), (2, 2 * depth + 1)] {
                for (b_along, b_across) in [(1, depth), (columns, 1), (3, 3 * depth)] {
                    let a: Vec<bf16> = (0..a_along * depth + a_across * rows).map(value).collect();
                    let b: Vec<bf16> =
                        (0..b_along * depth + b_across * columns).map(|i| value(i + 9)).collect();
                    let steps = depth.div_ceil(STEP);
                    let (mut left, mut right) = (vec![1u16; steps * UNIT], vec![1u16; steps * UNIT]);
                    let mut c = vec![0.5f32; BLOCK];
                    let mut out = vec![7u16; rows * (columns + 2)];
                    let source = |of: &[bf16], along: usize, across: usize| Source {
                        at: of.as_ptr().cast(),
                        along: along as isize,
                        across: across as isize,
                    };
                    // SAFETY: vectors as large as the sizes say.
                    unsafe {
                        pack_left(source(&a, a_along, a_across), depth, rows, left.as_mut_ptr());
                        pack_right(source(&b, b_along, b_across), depth, columns, right.as_mut_ptr());
                        let session = Session::new(kind);
                        let a = Left::packed(left.as_ptr());
                        session.multiply(a, right.as_ptr(), steps, c.as_mut_ptr(), false);
                        session.multiply(a, right.as_ptr(), steps, c.as_mut_ptr(), true);
                        round(c.as_ptr(), rows, first(columns), out.as_mut_ptr(), columns + 2);
                    }
                    for i in 0..EDGE {
                        for j in 0..EDGE {
                            let product = |k: usize| {
                                a[k * a_along + i * a_across].to_f64()
                                    * b[k * b_along + j * b_across].to_f64()
                            };
                            let inside = i < rows && j < columns;
                            let want = if inside {
                                2.0 * (0..depth).map(product).fold(0.0, |a, b| a + b)
                            } else {
                                0.0
                            };
                            assert_eq!(
                                c[i * EDGE + j] as f64,
                                want,
                                "{kind:?} {rows}x{columns}x{depth} ({i}, {j})"
                            );
                            if inside {
                                assert_eq!(out[i * (columns + 2) + j], bf16::from_f64(want).to_bits());
                            }
                        }
                    }
                    let gaps =
                        |i: usize| [out[(i + 1) * (columns + 2) - 1], out[(i + 1) * (columns + 2) - 2]];
                    assert!((0..rows).all(|i| gaps(i) == [7, 7]));
                }
            }
        }
    }
}

#[test]
fn rounding_is_to_nearest_even() {
    if Bf16::supported().next().is_none() {
        return;
    }
    let mut x = vec![0f32; BLOCK];
    for round_of in 0..200u32 {
        for (i, x) in x.iter_mut().enumerate() {
            *x = f32::from_bits((round_of * BLOCK as u32 + i as u32).wrapping_mul(2_654_435_761));
        }
        x[..4].copy_from_slice(&[f32::NAN, f32::INFINITY, f32::MAX, -0.0]);
        let mut out = vec![0u16; BLOCK];
        // SAFETY: a block, and room for one.
        unsafe { round(x.as_ptr(), EDGE, !0, out.as_mut_ptr(), EDGE) };
        for (&x, out) in x.iter().zip(out) {
            let (got, want) = (bf16::from_bits(out), bf16::from_f32(x));
            assert!(got == want || got.is_nan() && want.is_nan(), "{x:e}");
        }
    }
}

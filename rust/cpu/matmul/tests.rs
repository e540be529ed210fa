//! Every way through the room against the slow product: sizes around the tiles' edges, strides of all
//! kinds, every level of instructions, and the same bits with any number of threads.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use half::f16;

use super::reference::product;
use super::*;
use crate::core::Element;
use crate::cpu::isa::Bf16;
use crate::cpu::threads::set_num_threads;

/// Small whole numbers and quarters in no order: exact in every dtype, and so are their sums.
fn value(i: usize) -> f64 {
    ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59) as f64 / 4.0 - 4.0
}

/// How an r×c matrix lies in memory: (row stride, column stride), and where element (0, 0) is.
#[derive(Clone, Copy, Debug)]
enum Lie {
    Rows,
    Columns,
    /// Rows with gaps between them, starting at an odd place.
    Wide,
    Strided,
    /// One row, or one column, for all.
    SameRow,
    SameColumn,
    Backwards,
    RowsBackwards,
}

const LIES: [Lie; 8] = [
    Lie::Rows,
    Lie::Columns,
    Lie::Wide,
    Lie::Strided,
    Lie::SameRow,
    Lie::SameColumn,
    Lie::Backwards,
    Lie::RowsBackwards,
];

impl Lie {
    fn strides(self, r: usize, c: usize) -> (isize, isize, isize) {
        let (ri, ci) = (r as isize, c as isize);
        match self {
            Lie::Rows => (ci, 1, 0),
            Lie::Columns => (1, ri, 0),
            Lie::Wide => (ci + 3, 1, 1),
            Lie::Strided => (2 * ci + 1, 2, 3),
            Lie::SameRow => (0, 1, 0),
            Lie::SameColumn => (1, 0, 0),
            Lie::Backwards => (-1, -ri, (ri * ci - 1).max(0)),
            Lie::RowsBackwards => (-ci, 1, (ri * ci - ci).max(0)),
        }
    }
}

struct Case {
    isa: Isa,
    m: usize,
    n: usize,
    k: usize,
    a: Lie,
    b: Lie,
    batch: usize,
    share_b: bool,
    /// The instructions for bfloat16, where its own products are meant.
    bf16: Option<Bf16>,
}

impl Case {
    fn new(isa: Isa, m: usize, n: usize, k: usize, a: Lie, b: Lie) -> Case {
        Case { isa, m, n, k, a, b, batch: 1, share_b: false, bf16: None }
    }

    /// Runs it in `T` on the memory that it names, and checks that every element is told of once, not
    /// before it is what `want` makes of A and B.
    fn check<T: Element>(
        &self,
        dtype: DType,
        from: impl Fn(usize) -> T,
        want: impl Fn(&Gemm, &[T], &[T]) -> Vec<T>,
    ) {
        let &Case { m, n, k, batch, .. } = self;
        let (rsa, csa, a0) = self.a.strides(m, k);
        let (rsb, csb, b0) = self.b.strides(k, n);
        // Not an element more than is named, so that a sanitizer sees any read beyond.
        let room = |first: isize, rs: isize, cs: isize, rows: usize, cols: usize| {
            let last = |stride: isize, count: usize| (stride * (count as isize - 1)).max(0);
            (first + last(rs, rows) + last(cs, cols) + 1) as usize
        };
        let (a_room, b_room) = (room(a0, rsa, csa, m, k), room(b0, rsb, csb, k, n));
        let a: Vec<T> = (0..a_room * batch).map(|i| from(i + 7)).collect();
        let b: Vec<T> = (0..b_room * batch).map(|i| from(3 * i + 1)).collect();
        let a_step = if self.share_b { m * k } else { a_room };
        let b_step = if self.share_b { 0 } else { b_room };
        let batch_a: Vec<isize> = (0..batch).map(|i| a0 + (i * a_step) as isize).collect();
        let batch_b: Vec<isize> = (0..batch).map(|i| b0 + (i * b_step) as isize).collect();
        let g = Gemm { m, n, k, rsa, csa, rsb, csb, batch_a: &batch_a, batch_b: &batch_b };

        let (len, want, guard) = (batch * m * n, want(&g, &a, &b), from(12345));
        let mut c = vec![guard; len + 2];
        let told: Vec<AtomicU8> = want.iter().map(|_| AtomicU8::new(0)).collect();
        let at = Shared::new(c.as_mut_ptr().wrapping_add(1));
        let done = |start: usize, len: usize| {
            for i in start..start + len {
                told[i].fetch_add(1, Relaxed);
                // SAFETY: within C, and finished by this thread.
                assert!(unsafe { *at.at(i) } == want[i], "{} {dtype}: element {i}", self.name());
            }
        };
        let (a, b): (*const u8, *const u8) = (a.as_ptr().cast(), b.as_ptr().cast());
        // SAFETY: the memory is as large as the strides ask for.
        let result = unsafe {
            match self.bf16 {
                #[cfg(target_arch = "x86_64")]
                Some(kind) => bf16::matmul(kind, &g, a.cast(), b.cast(), at.at(0).cast(), &done),
                _ => matmul_on(self.isa, dtype, &g, a, b, at.at(0).cast(), &done),
            }
        };
        assert_eq!(result, Ok(()));
        assert!(told.iter().all(|t| t.load(Relaxed) == 1), "{} {dtype}: told once", self.name());
        assert!(c[1..=len] == want, "{} {dtype}: changed after it was told of", self.name());
        assert!(c[0] == guard && c[len + 1] == guard, "{} {dtype}: wrote outside C", self.name());
    }

    fn f32(&self) {
        self.check(
            DType::F32,
            |i| value(i) as f32,
            |g, a, b| product(g, |i| a[i as usize], |i| b[i as usize], 0.0, |s, a, b| s + a * b),
        );
    }

    fn name(&self) -> String {
        let Case { isa, m, n, k, a, b, batch, share_b, bf16 } = self;
        format!("{isa:?} {bf16:?} {m}x{n}x{k} {a:?} {b:?} batch {batch} shared {share_b}")
    }
}

#[test]
fn all_small_sizes() {
    for isa in Isa::supported() {
        for m in (0..=20).chain([31, 33, 49, 50]) {
            for n in (0..=20).chain([31, 32, 47, 48, 49, 64, 100]) {
                for k in [0, 1, 2, 7, 8, 16, 33, 40] {
                    Case::new(isa, m, n, k, Lie::Rows, Lie::Rows).f32();
                    Case::new(isa, m, n, k, Lie::Rows, Lie::Columns).f32();
                }
            }
        }
    }
}

#[test]
fn all_lies_in_both_floats() {
    for isa in Isa::supported() {
        for (m, n, k) in
            [(1, 9, 40), (9, 1, 33), (3, 50, 37), (17, 23, 5), (60, 37, 70), (49, 2, 65), (7, 70, 1)]
        {
            for a in LIES {
                for b in LIES {
                    let case = Case::new(isa, m, n, k, a, b);
                    case.f32();
                    case.check(DType::F64, value, |g, a, b| {
                        product(g, |i| a[i as usize], |i| b[i as usize], 0.0, |s, a, b| s + a * b)
                    });
                }
            }
        }
    }
}

#[test]
fn sizes_beyond_a_block() {
    for isa in Isa::supported() {
        for (m, n, k) in [(300, 301, 1030), (70, 700, 800), (33, 4500, 390), (4200, 20, 390), (4, 3000, 2000)]
        {
            for (a, b) in [
                (Lie::Rows, Lie::Rows),
                (Lie::Columns, Lie::Rows),
                (Lie::Rows, Lie::Columns),
                (Lie::Columns, Lie::Columns),
            ] {
                Case::new(isa, m, n, k, a, b).f32();
            }
        }
    }
}

#[test]
fn batches() {
    for isa in Isa::supported() {
        for (m, n, k) in [(1, 1, 1), (4, 4, 4), (5, 33, 40), (64, 64, 64), (100, 120, 90), (1, 70, 64)] {
            for batch in [2, 3, 9, 40] {
                for share_b in [false, true] {
                    for b in [Lie::Rows, Lie::Columns] {
                        Case { batch, share_b, ..Case::new(isa, m, n, k, Lie::Rows, b) }.f32();
                    }
                }
            }
        }
    }
}

/// Thirds, so that every order of summation has bits of its own.
#[test]
fn threads_do_not_change_bits() {
    let run = |m: usize, n: usize, k: usize, (rsb, csb): (isize, isize), batch: usize| {
        let a: Vec<f32> = (0..m * k * batch).map(|i| value(i) as f32 / 3.0).collect();
        let b: Vec<f32> = (0..k * n).map(|i| value(i + 5) as f32 / 3.0).collect();
        let mut c = vec![0f32; m * n * batch];
        let batch_a: Vec<isize> = (0..batch).rev().map(|i| (i * m * k) as isize).collect();
        let batch_b = vec![0; batch];
        let g = Gemm { m, n, k, rsa: k as isize, csa: 1, rsb, csb, batch_a: &batch_a, batch_b: &batch_b };
        let (a, b) = (a.as_ptr().cast(), b.as_ptr().cast());
        // SAFETY: the memory is as large as the sizes say.
        unsafe { matmul(DType::F32, &g, a, b, c.as_mut_ptr().cast(), &|_, _| ()).unwrap() };
        c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    for (m, n, k, batch) in
        [(1, 5000, 300, 1), (40, 600, 900, 1), (300, 200, 900, 1), (65, 65, 65, 20), (600, 3, 500, 1)]
    {
        for strides in [(n as isize, 1), (1, k as isize)] {
            set_num_threads(1);
            let want = run(m, n, k, strides, batch);
            for threads in [2, 4] {
                set_num_threads(threads);
                assert!(
                    run(m, n, k, strides, batch) == want,
                    "{m}x{n}x{k} {strides:?} with {threads} threads"
                );
            }
        }
    }
}

/// Rounding errors stay within the bound of a sum of k products.
#[test]
fn floats_that_round() {
    for isa in Isa::supported() {
        for (m, n, k) in [(9, 50, 1000), (1, 300, 700), (5, 10, 2000), (70, 70, 500)] {
            for b in [Lie::Rows, Lie::Columns] {
                let case = Case::new(isa, m, n, k, Lie::Rows, b);
                let (rsb, csb, _) = b.strides(k, n);
                let x = |i: usize| (value(i) / 3.0) as f32;
                let (a, b): (Vec<f32>, Vec<f32>) =
                    ((0..m * k).map(x).collect(), (9..9 + k * n).map(x).collect());
                let g = Gemm { m, n, k, rsa: k as isize, csa: 1, rsb, csb, batch_a: &[0], batch_b: &[0] };
                let mut c = vec![0f32; m * n];
                // SAFETY: the memory is as large as the sizes say.
                unsafe {
                    let c = c.as_mut_ptr().cast();
                    matmul_on(isa, DType::F32, &g, a.as_ptr().cast(), b.as_ptr().cast(), c, &|_, _| ())
                        .unwrap();
                }
                let (a, b) = (|i: isize| a[i as usize] as f64, |i: isize| b[i as usize] as f64);
                let want = product(&g, a, b, (0.0, 0.0), |(s, abs), a, b| (s + a * b, abs + (a * b).abs()));
                for (c, (want, abs)) in c.iter().zip(want) {
                    let bound = abs * f32::EPSILON as f64 * (k as f64).sqrt();
                    assert!((*c as f64 - want).abs() <= bound, "{}: {c} for {want}", case.name());
                }
            }
        }
    }
}

#[test]
fn halves_round_once() {
    for isa in Isa::supported() {
        for (m, n, k) in [(1, 20, 30), (5, 7, 9), (50, 33, 400), (20, 1, 64)] {
            for a in LIES {
                for b in [Lie::Rows, Lie::Columns, Lie::Strided] {
                    // Sums of these are exact in float32: the one rounding is all that differs.
                    let case = Case { batch: 2, ..Case::new(isa, m, n, k, a, b) };
                    case.check(
                        DType::F16,
                        |i| f16::from_f64(value(i)),
                        |g, a, b| {
                            let (a, b) =
                                (|i: isize| a[i as usize].to_f64(), |i: isize| b[i as usize].to_f64());
                            product(g, a, b, 0.0, |s, a, b| s + a * b)
                                .into_iter()
                                .map(f16::from_f64)
                                .collect()
                        },
                    );
                    case.check(
                        DType::BF16,
                        |i| half::bf16::from_f64(value(i)),
                        |g, a, b| {
                            let (a, b) =
                                (|i: isize| a[i as usize].to_f64(), |i: isize| b[i as usize].to_f64());
                            product(g, a, b, 0.0, |s, a, b| s + a * b)
                                .into_iter()
                                .map(half::bf16::from_f64)
                                .collect()
                        },
                    );
                }
            }
        }
    }
}

/// Sizes around the edges of blocks, parts, strips and panels, by each kind of instruction.
#[test]
fn bfloat16_by_its_own_instructions() {
    for kind in Bf16::supported() {
        let sizes = [
            (4, 5, 2),
            (32, 32, 32),
            (33, 31, 65),
            (64, 96, 128),
            (50, 33, 400),
            (300, 40, 512),
            (40, 600, 70),
            (70, 45, 1100),
            (31, 530, 1030),
        ];
        for (m, n, k) in sizes {
            for a in LIES {
                for b in [Lie::Rows, Lie::Columns, Lie::Strided, Lie::SameRow] {
                    let batch = if m * n * k < 1 << 20 { 3 } else { 1 };
                    let isa = Isa::Avx512;
                    let case = Case { batch, bf16: Some(kind), ..Case::new(isa, m, n, k, a, b) };
                    case.check(
                        DType::BF16,
                        |i| half::bf16::from_f64(value(i)),
                        |g, a, b| {
                            let (a, b) =
                                (|i: isize| a[i as usize].to_f64(), |i: isize| b[i as usize].to_f64());
                            product(g, a, b, 0.0, |s, a, b| s + a * b)
                                .into_iter()
                                .map(half::bf16::from_f64)
                                .collect()
                        },
                    );
                }
            }
        }
    }
}

#[test]
fn integers_wrap_and_booleans_or() {
    for isa in Isa::supported() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (9, 130, 35), (40, 3, 64), (1, 300, 2)] {
            for a in LIES {
                for b in LIES {
                    let case = Case { batch: 2, ..Case::new(isa, m, n, k, a, b) };
                    macro_rules! check {
                        ($($dtype:ident $T:ty),*) => { $(
                            let from = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as $T;
                            let step = |s: $T, a: $T, b: $T| s.wrapping_add(a.wrapping_mul(b));
                            case.check(DType::$dtype, from, |g, a, b| {
                                product(g, |i| a[i as usize], |i| b[i as usize], 0, step)
                            });
                        )* };
                    }
                    check!(I8 i8, U8 u8, I16 i16, U16 u16, I32 i32, U32 u32, I64 i64, U64 u64);
                    let from = |i: usize| (i * 7 + i / 3).is_multiple_of(11) as u8;
                    case.check(DType::Bool, from, |g, a, b| {
                        product(g, |i| a[i as usize], |i| b[i as usize], 0, |s, a, b| s | (a & b))
                    });
                }
            }
        }
    }
}

#[test]
fn not_a_number_and_infinity_pass_through() {
    for isa in Isa::supported() {
        for n in [1, 5, 40] {
            let (m, k) = (3, 50);
            let mut a = vec![1f32; m * k];
            let b = vec![1f32; k * n];
            a[k + 7] = f32::NAN;
            a[2 * k + 49] = f32::INFINITY;
            let mut c = vec![0f32; m * n];
            let g = Gemm { m, n, k, rsa: 50, csa: 1, rsb: n as isize, csb: 1, batch_a: &[0], batch_b: &[0] };
            // SAFETY: the memory is as large as the sizes say.
            unsafe {
                let c = c.as_mut_ptr().cast();
                matmul_on(isa, DType::F32, &g, a.as_ptr().cast(), b.as_ptr().cast(), c, &|_, _| ()).unwrap();
            }
            assert!(c[..n].iter().all(|&x| x == 50.0));
            assert!(c[n..2 * n].iter().all(|x| x.is_nan()));
            assert!(c[2 * n..].iter().all(|&x| x == f32::INFINITY));
        }
    }
}

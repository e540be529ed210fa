//! Every geometry, on every instruction set, against the definition.

use super::reference;
use super::*;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Numbers in [-1, 1] that are exact in every dtype.
fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64
    };
    (0..count).map(|_| (next() % 129.0 - 64.0) / 64.0).collect()
}

trait Number: crate::core::Element {
    fn of(x: f64) -> Self;
    fn to(self) -> f64;
}

impl Number for f32 {
    fn of(x: f64) -> Self {
        x as f32
    }
    fn to(self) -> f64 {
        self as f64
    }
}

impl Number for f64 {
    fn of(x: f64) -> Self {
        x
    }
    fn to(self) -> f64 {
        self
    }
}

impl Number for f16 {
    fn of(x: f64) -> Self {
        f16::from_f64(x)
    }
    fn to(self) -> f64 {
        self.to_f64()
    }
}

impl Number for bf16 {
    fn of(x: f64) -> Self {
        bf16::from_f64(x)
    }
    fn to(self) -> f64 {
        self.to_f64()
    }
}

fn close<T: Number>(what: &str, got: &[T], want: &[f64], relative: f64, terms: usize) {
    assert_eq!(got.len(), want.len());
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let bound = relative * (terms as f64).sqrt().max(want.abs());
        let got = got.to();
        assert!((got - want).abs() <= bound, "{what}: element {i} is {got}, not {want}");
    }
}

/// All three operations at one geometry against the definition.
fn check<T: Number>(isa: Isa, d: &Dims, relative: f64) {
    let what = format!("{} {} {d:?}", isa.name(), T::DTYPE);
    let (x, w) = (numbers(d.x_count(), 1), numbers(d.w_count(), 2));
    let dy = numbers(d.y_count(), 3);
    let narrow = |v: &[f64]| v.iter().map(|&x| T::of(x)).collect::<Vec<T>>();
    let (tx, tw, tdy) = (narrow(&x), narrow(&w), narrow(&dy));
    let nan = T::of(f64::NAN);
    let (mut y, mut dx, mut dw) = (vec![nan; dy.len()], vec![nan; x.len()], vec![nan; w.len()]);
    let told: Vec<AtomicU8> = (0..y.len()).map(|_| AtomicU8::new(0)).collect();
    let out = Shared::new(y.as_mut_ptr());
    // SAFETY: the buffers have the sizes of `d`.
    unsafe {
        forward_at(
            isa,
            T::DTYPE,
            d,
            tx.as_ptr().cast(),
            tw.as_ptr().cast(),
            out.at(0).cast(),
            &|start, len| {
                for (i, told) in told.iter().enumerate().skip(start).take(len) {
                    told.fetch_add(1, Relaxed);
                    // What is reported is written.
                    assert!(!(*out.at(i)).to().is_nan(), "{what}: {i}");
                }
            },
        )
        .unwrap();
        backward_input_at(isa, T::DTYPE, d, tdy.as_ptr().cast(), tw.as_ptr().cast(), dx.as_mut_ptr().cast())
            .unwrap();
        backward_weight_at(isa, T::DTYPE, d, tx.as_ptr().cast(), tdy.as_ptr().cast(), dw.as_mut_ptr().cast())
            .unwrap();
    }
    assert!(told.iter().all(|t| t.load(Relaxed) == 1), "{what}: each element is reported once");
    let (depth, area) = (d.c / d.conv.groups, d.r * d.s);
    close(&format!("forward {what}"), &y, &reference::forward(d, &x, &w), relative, depth * area);
    let terms = d.k / d.conv.groups * area;
    close(&format!("input {what}"), &dx, &reference::backward_input(d, &dy, &w), relative, terms);
    let terms = d.n * d.oh * d.ow;
    close(&format!("weight {what}"), &dw, &reference::backward_weight(d, &x, &dy), relative, terms);
}

fn dims(x: [usize; 4], w: [usize; 4], conv: Conv2d) -> Option<Dims> {
    Dims::new(conv, &x.into(), &w.into()).ok()
}

fn plain() -> Conv2d {
    Conv2d { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 }
}

#[test]
fn every_small_geometry() {
    let mut count = 0;
    for isa in Isa::supported() {
        for (h, w) in [(1, 1), (1, 9), (4, 5), (7, 3)] {
            for (r, s) in [(1, 1), (3, 3), (2, 3), (1, 5)] {
                for (stride, dilation) in
                    [([1, 1], [1, 1]), ([2, 2], [1, 1]), ([1, 3], [2, 1]), ([3, 2], [2, 2]), ([5, 4], [1, 3])]
                {
                    for padding in [[0, 0], [1, 1], [0, 2], [4, 3]] {
                        for (n, groups, c, k) in
                            [(1, 1, 1, 1), (2, 1, 3, 5), (3, 2, 1, 2), (1, 3, 2, 1), (1, 1, 2, 4)]
                        {
                            let conv = Conv2d { stride, padding, dilation, groups };
                            if let Some(d) = dims([n, groups * c, h, w], [groups * k, c, r, s], conv) {
                                check::<f32>(isa, &d, 1e-5);
                                count += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(count > 1000, "{count}");
}

#[test]
fn sizes_that_fill_and_overflow_tiles_and_blocks() {
    for isa in Isa::supported() {
        for (n, c, k, size, kernel) in [
            (1, 1, 33, 20, 3),
            (9, 3, 17, 13, 3),
            (2, 50, 16, 9, 3),
            (5, 20, 50, 8, 5),
            (2, 130, 67, 6, 3),
            (1, 3, 8, 70, 7),
            (17, 40, 24, 4, 4),
            (3, 300, 40, 5, 1),
            (70, 5, 7, 3, 1),
            (1, 17, 300, 6, 2),
        ] {
            for (stride, padding, dilation) in [(1, 0, 1), (1, kernel / 2, 1), (2, 1, 1), (1, 1, 2)] {
                let (stride, padding, dilation) = ([stride; 2], [padding; 2], [dilation; 2]);
                let conv = Conv2d { stride, padding, dilation, groups: 1 };
                if let Some(d) = dims([n, c, size, size + 1], [k, c, kernel, kernel], conv) {
                    check::<f32>(isa, &d, 1e-5);
                    check::<f64>(isa, &d, 1e-13);
                }
            }
        }
    }
}

#[test]
fn groups_few_and_many() {
    for isa in Isa::supported() {
        for (groups, c, k) in [(32, 1, 1), (5, 1, 3), (4, 4, 4), (2, 20, 33), (300, 1, 2), (3, 16, 1)] {
            for stride in [1, 2] {
                let conv = Conv2d { stride: [stride; 2], padding: [1, 1], groups, ..plain() };
                let d = dims([2, groups * c, 11, 10], [groups * k, c, 3, 3], conv).unwrap();
                check::<f32>(isa, &d, 1e-5);
                check::<f64>(isa, &d, 1e-13);
            }
        }
    }
}

#[test]
fn depthwise_planes() {
    for isa in Isa::supported() {
        for (n, c, h, w) in [(1, 1, 1, 1), (3, 5, 9, 33), (2, 7, 30, 16), (1, 2, 5, 70), (2, 3, 6, 15)] {
            for (kernel, padding, dilation) in [
                ([3, 3], [1, 1], [1, 1]),
                ([1, 5], [0, 2], [1, 3]),
                ([4, 2], [3, 0], [2, 1]),
                ([7, 7], [0, 6], [1, 1]),
            ] {
                let conv = Conv2d { padding, dilation, groups: c, ..plain() };
                if let Some(d) = dims([n, c, h, w], [c, 1, kernel[0], kernel[1]], conv) {
                    assert!(d.is_depthwise());
                    check::<f32>(isa, &d, 1e-5);
                    check::<f64>(isa, &d, 1e-13);
                }
            }
        }
    }
}

#[test]
fn half_floats_round_once() {
    for isa in Isa::supported() {
        for (n, c, k, groups) in [(2, 3, 5, 1), (3, 32, 32, 1), (2, 6, 6, 6)] {
            let conv = Conv2d { padding: [1, 1], stride: [1, 2], groups, ..plain() };
            let d = dims([n, c, 9, 10], [k, c / groups, 3, 3], conv).unwrap();
            check::<f16>(isa, &d, 6e-4);
            check::<bf16>(isa, &d, 5e-3);
        }
    }
}

#[test]
fn nothing_in_gives_zeros_or_nothing_out() {
    for isa in Isa::supported() {
        for (x, w, padding) in [
            ([0, 3, 5, 5], [4, 3, 3, 3], 0),
            ([2, 0, 5, 5], [4, 0, 3, 3], 0),
            ([2, 3, 5, 5], [0, 3, 3, 3], 0),
            ([2, 3, 0, 5], [4, 3, 2, 2], 1),
            ([2, 0, 0, 0], [0, 0, 1, 1], 1),
        ] {
            let d = dims(x, w, Conv2d { padding: [padding; 2], ..plain() }).unwrap();
            check::<f32>(isa, &d, 0.0);
        }
    }
}

#[test]
fn far_padding_and_long_strides() {
    for isa in Isa::supported() {
        for (stride, padding, dilation) in
            [([100, 1], [40, 3], [1, 9]), ([7, 50], [1, 60], [2, 1]), ([usize::MAX, 1], [0, 0], [1, 1])]
        {
            let conv = Conv2d { stride, padding, dilation, groups: 1 };
            check::<f32>(isa, &dims([2, 3, 6, 40], [4, 3, 2, 3], conv).unwrap(), 1e-5);
        }
    }
}

/// Garbage in lanes that are not kept, and in memory next to what is read, must not get into results.
#[test]
fn an_infinite_element_reaches_only_its_outputs() {
    for isa in Isa::supported() {
        for (padding, k) in [(0, 3), (1, 3), (1, 40)] {
            let d = dims([1, 2, 6, 9], [k, 2, 3, 3], Conv2d { padding: [padding; 2], ..plain() }).unwrap();
            let (mut x, w) = (vec![1f32; d.x_count()], vec![1f32; d.w_count()]);
            x[9 * 3 + 8] = f32::INFINITY;
            let (dy, mut y, mut dw) =
                (vec![1f32; d.y_count()], vec![0f32; d.y_count()], vec![0f32; d.w_count()]);
            // SAFETY: the buffers have the sizes of `d`.
            unsafe {
                forward_at(
                    isa,
                    DType::F32,
                    &d,
                    x.as_ptr().cast(),
                    w.as_ptr().cast(),
                    y.as_mut_ptr().cast(),
                    &|_, _| (),
                )
                .unwrap();
                backward_weight_at(
                    isa,
                    DType::F32,
                    &d,
                    x.as_ptr().cast(),
                    dy.as_ptr().cast(),
                    dw.as_mut_ptr().cast(),
                )
                .unwrap();
            }
            let wide: Vec<f64> = x.iter().map(|&x| x.min(1e30) as f64).collect();
            let want = reference::forward(&d, &wide, &vec![1.0; w.len()]);
            assert!(y.iter().zip(&want).all(|(y, want)| y.is_infinite() == (*want > 1e20) && !y.is_nan()));
            let want = reference::backward_weight(&d, &wide, &vec![1.0; dy.len()]);
            assert!(dw.iter().zip(&want).all(|(y, want)| y.is_infinite() == (*want > 1e20) && !y.is_nan()));
        }
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let before = crate::cpu::threads::num_threads();
    for (x, w, groups) in [
        ([8, 16, 14, 14], [24, 16, 3, 3], 1),
        ([6, 12, 20, 20], [12, 1, 3, 3], 12),
        ([3, 48, 30, 30], [32, 48, 3, 3], 1),
        ([2, 64, 12, 12], [64, 64, 3, 3], 1),
        ([4, 16, 20, 20], [32, 16, 5, 5], 1),
    ] {
        let d = dims(x, w, Conv2d { padding: [1, 1], groups, ..plain() }).unwrap();
        let narrow = |v: Vec<f64>| v.iter().map(|&x| x as f32 * 1.000_123).collect::<Vec<f32>>();
        let (x, w, dy) = (
            narrow(numbers(d.x_count(), 1)),
            narrow(numbers(d.w_count(), 2)),
            narrow(numbers(d.y_count(), 3)),
        );
        let mut results = vec![];
        for threads in [1, 2, 3, 4] {
            crate::cpu::threads::set_num_threads(threads);
            let (mut y, mut dx, mut dw) = (vec![0f32; dy.len()], vec![0f32; x.len()], vec![0f32; w.len()]);
            // SAFETY: the buffers have the sizes of `d`.
            unsafe {
                let (x, w, dy) = (x.as_ptr().cast(), w.as_ptr().cast(), dy.as_ptr().cast());
                forward(DType::F32, &d, x, w, y.as_mut_ptr().cast(), &|_, _| ()).unwrap();
                backward_input(DType::F32, &d, dy, w, dx.as_mut_ptr().cast()).unwrap();
                backward_weight(DType::F32, &d, x, dy, dw.as_mut_ptr().cast()).unwrap();
            }
            let bits = |v: Vec<f32>| v.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            results.push((bits(y), bits(dx), bits(dw)));
        }
        assert!(results.iter().all(|r| *r == results[0]));
    }
    crate::cpu::threads::set_num_threads(before);
}

/// Output channels along the lanes: planes in place, padded by a chunk and padded for all; lines and images in a
/// chunk; phases, also such as leave positions out; more channels than a block has.
#[test]
fn channels_along_the_lanes() {
    for isa in Isa::supported() {
        for (groups, n, [c, k, h, w], kernel, (stride, padding, dilation)) in [
            (1, 1, [20, 40, 13, 12], [3, 3], ([1, 1], [1, 1], [1, 1])),
            (1, 5, [130, 64, 7, 7], [3, 3], ([1, 1], [1, 1], [1, 1])),
            (1, 9, [33, 48, 9, 8], [3, 3], ([2, 2], [1, 1], [1, 1])),
            (2, 3, [16, 31, 14, 15], [3, 2], ([2, 1], [2, 0], [1, 2])),
            (1, 2, [18, 95, 16, 17], [2, 4], ([1, 1], [0, 0], [2, 1])),
            (1, 12, [64, 112, 8, 9], [1, 1], ([2, 2], [0, 0], [1, 1])),
            (3, 4, [22, 128, 12, 20], [4, 3], ([3, 2], [1, 2], [1, 1])),
            (1, 1, [40, 30, 60, 40], [3, 3], ([1, 1], [1, 1], [1, 1])),
        ] {
            let conv = Conv2d { stride, padding, dilation, groups };
            let weight = [groups * k, c, kernel[0], kernel[1]];
            let d = dims([n, groups * c, h, w], weight, conv).unwrap();
            let (terms, positions) = (c * kernel[0] * kernel[1], n * d.oh * d.ow);
            assert!(with_simd!(isa, f32, V => Channels::pay::<V<f32>>(k, terms, positions, d.ow)), "{d:?}");
            // By the definition, also where another way would win.
            let sizes = (d.x_count(), d.w_count(), d.y_count());
            let (x, weight, dy) = (numbers(sizes.0, 1), numbers(sizes.1, 2), numbers(sizes.2, 3));
            let narrow = |v: &[f64]| v.iter().map(|&x| x as f32).collect::<Vec<f32>>();
            let (tx, tw, tdy) = (narrow(&x), narrow(&weight), narrow(&dy));
            let (mut y, mut dx) = (vec![f32::NAN; sizes.2], vec![f32::NAN; sizes.0]);
            // SAFETY: the buffers have the sizes of `d`, and the processor has the level.
            unsafe {
                let (forward, input) = (Forward { isa, dims: &d }, BackwardInput { isa, dims: &d });
                forward.run(tx.as_ptr(), tw.as_ptr(), y.as_mut_ptr(), None).unwrap();
                input.run(tdy.as_ptr(), tw.as_ptr(), dx.as_mut_ptr(), None).unwrap();
            }
            let what = format!("{} {d:?}", isa.name());
            close(&format!("forward {what}"), &y, &reference::forward(&d, &x, &weight), 1e-5, terms);
            let want = reference::backward_input(&d, &dy, &weight);
            close(&format!("input {what}"), &dx, &want, 1e-5, k * kernel[0] * kernel[1]);
            check::<f64>(isa, &d, 1e-13);
        }
    }
}

/// Winograd's way for a 3×3 convolution of stride 1, forward and back, against the definition: everything
/// is written and reported once, and the error is below what the file promises.
#[test]
fn winograd_is_the_definition_within_its_bound() {
    for isa in Isa::supported() {
        for ([n, c, k, h, w], padding) in [
            ([1, 16, 16, 4, 4], [0, 0]),
            ([2, 19, 33, 17, 9], [0, 1]),
            ([3, 33, 20, 13, 30], [2, 2]),
            ([1, 3, 1, 3, 3], [1, 0]),
            ([13, 5, 50, 12, 21], [1, 1]),
            ([2, 64, 64, 57, 5], [1, 2]),
            ([1, 130, 8, 6, 402], [1, 1]),
        ] {
            let d = dims([n, c, h, w], [k, c, 3, 3], Conv2d { padding, ..plain() }).unwrap();
            let what = format!("{} {d:?}", isa.name());
            let (x, weight) = (numbers(d.x_count(), 1), numbers(d.w_count(), 2));
            let dy = numbers(d.y_count(), 3);
            let narrow = |v: &[f64]| v.iter().map(|&x| x as f32).collect::<Vec<f32>>();
            let (tx, tw, tdy) = (narrow(&x), narrow(&weight), narrow(&dy));
            let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
            let [mut dw, mut single, mut shared] = [(); 3].map(|()| vec![f32::NAN; weight.len()]);
            let told: Vec<AtomicU8> = (0..y.len()).map(|_| AtomicU8::new(0)).collect();
            let out = Shared::new(y.as_mut_ptr());
            let done = |start: usize, len: usize| {
                for (i, told) in told.iter().enumerate().skip(start).take(len) {
                    told.fetch_add(1, Relaxed);
                    // SAFETY: what is reported is written, and nobody writes it again.
                    assert!(!unsafe { *out.at(i) }.is_nan(), "{what}: {i}");
                }
            };
            // SAFETY: the buffers have the sizes of `d`, and the processor has the level.
            unsafe {
                let job = Winograd::forward(&d, tx.as_ptr(), tw.as_ptr(), out.at(0), Some(&done));
                with_simd!(isa, f32, V => job.run::<V<f32>>(isa)).unwrap();
                let job = Winograd::backward_input(&d, tdy.as_ptr(), tw.as_ptr(), dx.as_mut_ptr());
                with_simd!(isa, f32, V => job.run::<V<f32>>(isa)).unwrap();
                // All images at once, one after the other, and in shares.
                for (dw, elements, near) in
                    [(&mut dw, winograd::ELEMENTS, 0), (&mut single, 1, 0), (&mut shared, 1, usize::MAX)]
                {
                    let (x, dy, dw) = (tx.as_ptr(), tdy.as_ptr(), dw.as_mut_ptr());
                    let job = WinogradWeight { dims: &d, x, dy, dw, elements, near };
                    with_simd!(isa, f32, V => job.run::<V<f32>>()).unwrap();
                }
            }
            assert!(told.iter().all(|t| t.load(Relaxed) == 1), "{what}: each element is reported once");
            for (got, want) in [
                (&y, reference::forward(&d, &x, &weight)),
                (&dx, reference::backward_input(&d, &dy, &weight)),
                (&dw, reference::backward_weight(&d, &x, &dy)),
                (&single, reference::backward_weight(&d, &x, &dy)),
                (&shared, reference::backward_weight(&d, &x, &dy)),
            ] {
                let largest = want.iter().fold(0f64, |m, x| m.max(x.abs()));
                for (i, (&got, want)) in got.iter().zip(want).enumerate() {
                    let error = (got as f64 - want).abs() / largest;
                    assert!(error < winograd::BOUND, "{what}: element {i}: {got}, not {want}");
                }
            }
        }
    }
}

#[test]
fn integers_are_refused() {
    let d = dims([1, 1, 3, 3], [1, 1, 1, 1], plain()).unwrap();
    let (x, mut y) = ([0u8; 72], [0u8; 72]);
    // SAFETY: nothing is touched.
    let got = unsafe { backward_input(DType::I64, &d, x.as_ptr(), x.as_ptr(), y.as_mut_ptr()) };
    assert!(got.is_err());
}

#[test]
fn ranges_inside() {
    for (residue, pad, stride, size, count) in [
        (0, 1, 1, 5, 7),
        (1, 2, 2, 5, 4),
        (0, -2, 1, 5, 3),
        (0, 9, 3, 2, 3),
        (0, -9, 1, 5, 3),
        (2, 0, 3, 9, 10),
    ] {
        let hits: Vec<usize> = (0..count)
            .filter(|&x| {
                let at = (x * stride + residue) as isize - pad;
                (0..size as isize).contains(&at)
            })
            .collect();
        let [from, to] = planes::inside(residue, pad, stride, size, count);
        assert_eq!((from..to).collect::<Vec<_>>(), hits);
    }
}

/// All three directions by blocks of bfloat16, with each kind of instruction: sizes that end anywhere in steps,
/// strips and panels, rows shorter and longer than a panel, strides, dilations and paddings.
#[cfg(target_arch = "x86_64")]
#[test]
fn blocks_of_bfloat16() {
    use crate::cpu::isa::Bf16;
    let conv = |stride, padding, dilation| Conv2d { stride, padding, dilation, groups: 1 };
    let cases = [
        ([2, 16, 8, 8], [32, 16, 3, 3], conv([1, 1], [1, 1], [1, 1])),
        ([3, 20, 9, 7], [33, 20, 3, 3], conv([2, 2], [1, 1], [1, 1])),
        ([4, 24, 5, 5], [40, 24, 3, 2], conv([1, 1], [0, 0], [2, 1])),
        ([3, 31, 13, 11], [17, 31, 5, 5], conv([2, 1], [2, 3], [1, 1])),
        ([9, 33, 4, 4], [35, 33, 3, 3], conv([1, 2], [1, 1], [1, 2])),
        ([2, 64, 10, 12], [64, 64, 1, 1], conv([2, 2], [0, 0], [1, 1])),
        ([2, 9, 40, 70], [16, 9, 3, 3], conv([3, 1], [0, 2], [1, 1])),
        ([1, 3, 33, 37], [64, 3, 7, 7], conv([2, 2], [3, 3], [1, 1])),
    ];
    for kind in Bf16::supported() {
        for (x, w, conv) in cases {
            let d = &dims(x, w, conv).unwrap();
            let what = format!("{kind:?} {d:?}");
            let numbers = |count: usize, seed: u64| -> Vec<f64> {
                // Of few digits, so that they are exact in bfloat16.
                numbers(count, seed).into_iter().map(|x| (x * 16.0).round() / 16.0).collect()
            };
            let (x, w, dy) = (numbers(d.x_count(), 1), numbers(d.w_count(), 2), numbers(d.y_count(), 3));
            let narrow = |v: &[f64]| v.iter().map(|&x| bf16::from_f64(x)).collect::<Vec<bf16>>();
            let (tx, tw, tdy) = (narrow(&x), narrow(&w), narrow(&dy));
            let mut outs = [d.y_count(), d.x_count(), d.w_count()].map(|count| vec![bf16::NAN; count + 1]);
            let told: Vec<AtomicU8> = (0..d.y_count()).map(|_| AtomicU8::new(0)).collect();
            let done = |start: usize, len: usize| {
                told[start..start + len].iter().for_each(|told| {
                    told.fetch_add(1, Relaxed);
                })
            };
            let [y, dx, dw] = outs.each_mut();
            // SAFETY: the buffers have the sizes of `d`.
            unsafe {
                let (x, w, dy) = (tx.as_ptr().cast(), tw.as_ptr().cast(), tdy.as_ptr().cast());
                blocks::forward(kind, d, x, w, y.as_mut_ptr().cast(), &done).unwrap();
                blocks::backward_input(kind, d, dy, w, dx.as_mut_ptr().cast()).unwrap();
                blocks::backward_weight(kind, d, x, dy, dw.as_mut_ptr().cast()).unwrap();
            }
            assert!(told.iter().all(|t| t.load(Relaxed) == 1), "{what}: each element is reported once");
            let wanted = [
                ("forward", reference::forward(d, &x, &w), d.c * d.r * d.s),
                ("input", reference::backward_input(d, &dy, &w), d.k * d.r * d.s),
                ("weight", reference::backward_weight(d, &x, &dy), d.n * d.oh * d.ow),
            ];
            for (out, (name, want, terms)) in outs.iter().zip(wanted) {
                let (guard, out) = out.split_last().unwrap();
                assert!(guard.is_nan(), "{name} {what}: wrote outside");
                close(&format!("{name} {what}"), out, &want, 4e-3, terms.min(4));
            }
        }
    }
}

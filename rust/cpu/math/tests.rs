//! The elementary functions against float64 (float32) and against the platform's own (float64), on
//! bit patterns from the whole range and on special values, for every instruction set.

use crate::cpu::isa::Isa;
use crate::cpu::lanes::{Arch, Lanes, OnLanes, Real, Vector, dispatch};
use crate::ir::value::Float;

/// A function on vectors, to be chosen at compile time.
trait Function {
    fn apply<S: Lanes>(x: Vector<S>) -> Vector<S>;
}

struct Run<'a, F, E>(&'a [E], &'a mut [E], std::marker::PhantomData<F>);

impl<F: Function, E: Real> OnLanes for Run<'_, F, E> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let width = <E::In<A> as Lanes>::WIDTH;
        assert_eq!(self.0.len() % width, 0);
        for (x, y) in self.0.chunks_exact(width).zip(self.1.chunks_exact_mut(width)) {
            // SAFETY: both chunks are as long as a vector.
            unsafe { F::apply(Vector(<E::In<A> as Lanes>::load(x.as_ptr()))).0.store(y.as_mut_ptr()) }
        }
    }
}

fn run<F: Function, E: Real>(isa: Isa, x: &[E]) -> Vec<E> {
    let mut y = vec![E::default(); x.len()];
    dispatch(isa, Run::<F, E>(x, &mut y, std::marker::PhantomData));
    y
}

/// Distance from `y` to the exact `want` in units of the last place of `want` in `E`; a wrong special
/// value is infinitely far.
fn distance<E: Real>(y: E, want: f64) -> f64 {
    let (y, near) = (y.to_f64(), E::of(want).to_f64());
    if want.is_nan() || y.is_nan() {
        return if want.is_nan() && y.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if y == near {
        let signs = y == 0.0 && y.is_sign_negative() != want.is_sign_negative();
        return if signs {
            f64::INFINITY
        } else if y.is_infinite() {
            0.0
        } else {
            (y - want).abs() / ulp::<E>(want)
        };
    }
    (y - want).abs() / ulp::<E>(want)
}

fn ulp<E: Real>(x: f64) -> f64 {
    let e = x.abs().max(E::TINY).log2().floor();
    e.min(E::BIAS).exp2() / 2f64.powi(E::FRACTION_BITS)
}

const SPECIAL: [f64; 32] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    -1.5,
    2.0,
    3.0,
    1e-45,
    -1e-45,
    1e-40,
    -1e-40,
    1e-20,
    -1e-20,
    0.75,
    89.0,
    -89.0,
    710.0,
    -745.0,
    1e5,
    1e9,
    3.4e38,
    -3.4e38,
    -103.9,
    88.72284,
    128.0,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    0.92,
];

/// Functions, the float64 reference, and the bounds in ulp for float32 and float64.
macro_rules! functions {
    ($($name:ident $reference:expr, $single:literal, $double:literal;)*) => {$(
        #[test]
        fn $name() {
            struct This;
            impl Function for This {
                #[inline(always)]
                fn apply<S: Lanes>(x: Vector<S>) -> Vector<S> { Float::$name(x) }
            }
            let reference: fn(f64) -> f64 = $reference;
            // Strides without a pattern in bits; every exponent and sign is met many times.
            let single = (0..1 << 18).map(|i: u32| f32::from_bits(i * 16381));
            let single: Vec<f32> = single.chain(SPECIAL.iter().map(|&x| x as f32)).collect();
            let double = (0..1 << 16).map(|i: u64| f64::from_bits(i * ((1 << 48) - 59)));
            let near = (0..1 << 14).map(|i| (i as f64 - 8192.0) / 511.0);
            let double: Vec<f64> = double.chain(near).chain(SPECIAL).collect();
            for isa in Isa::supported() {
                for (&x, y) in single.iter().zip(run::<This, f32>(isa, &single)) {
                    let far = distance(y, reference(x as f64));
                    assert!(far <= $single, "{}({x:e}) = {y:e} on {isa:?}, {far} ulp off", stringify!($name));
                }
                for (&x, y) in double.iter().zip(run::<This, f64>(isa, &double)) {
                    let far = distance(y, reference(x));
                    assert!(far <= $double, "{}({x:e}) = {y:e} on {isa:?}, {far} ulp off", stringify!($name));
                }
            }
        }
    )*};
}

// The float64 references are themselves off by up to an ulp.
functions! {
    exp f64::exp, 1.0, 2.0;
    exp2 f64::exp2, 1.0, 2.0;
    expm1 f64::exp_m1, 1.6, 3.0;
    log f64::ln, 1.0, 2.0;
    log2 f64::log2, 2.5, 4.0;
    log10 f64::log10, 2.5, 4.0;
    log1p f64::ln_1p, 1.2, 3.0;
    sin f64::sin, 1.6, 2.5;
    cos f64::cos, 1.6, 2.5;
    tan f64::tan, 4.0, 5.0;
    tanh f64::tanh, 1.8, 3.0;
    erf libm::erf, 2.0, 1.0;
    erfc libm::erfc, 0.51, 1.0;
    sqrt f64::sqrt, 0.5, 0.5;
    sinh f64::sinh, 4.0, 5.0;
    cosh f64::cosh, 4.0, 5.0;
    asin f64::asin, 4.0, 5.0;
    acos f64::acos, 4.0, 5.0;
    atan f64::atan, 4.0, 5.0;
    asinh libm::asinh, 4.0, 5.0;
    acosh |x| if x < 1.0 { f64::NAN } else { libm::acosh(x) }, 4.0, 5.0;
    atanh libm::atanh, 4.0, 5.0;
}

#[test]
fn a_result_does_not_depend_on_its_neighbours() {
    struct Sine;
    impl Function for Sine {
        #[inline(always)]
        fn apply<S: Lanes>(x: Vector<S>) -> Vector<S> {
            Float::sin(x)
        }
    }
    // Large angles take another way than small ones.
    let mixed: Vec<f32> =
        (0..4096).map(|i| if i % 5 == 0 { i as f32 * 1e6 } else { i as f32 * 0.37 }).collect();
    for isa in Isa::supported() {
        let together = run::<Sine, f32>(isa, &mixed);
        for (i, &x) in mixed.iter().enumerate() {
            let alone = run::<Sine, f32>(isa, &[x; 16])[0];
            assert_eq!(alone.to_bits(), together[i].to_bits(), "sin({x}) on {isa:?}");
        }
    }
}

#[test]
fn scalar_functions() {
    use super::scalar::*;
    let close =
        |got: f64, want: f64| assert!((got - want).abs() <= 1e-15 * want.abs().max(1.0), "{got} {want}");
    // Values from tables of ψ: −γ, −γ − 2 log 2, and ψ(−½).
    close(digamma(1.0), -0.577_215_664_901_532_9);
    close(digamma(0.5), -1.963_510_026_021_423_5);
    close(digamma(-0.5), 0.036_489_973_978_576_52);
    close(digamma(10.0), 2.251_752_589_066_721);
    assert_eq!(digamma(0.0), f64::NEG_INFINITY);
    assert_eq!(digamma(-0.0), f64::INFINITY);
    assert!(digamma(-3.0).is_nan());
    for i in -999..1000 {
        let x = i as f64 / 1000.0;
        close(libm::erf(erfinv(x)), x);
    }
    close(erfinv(0.5), 0.476_936_276_204_469_9);
    let y = erfinv(1.0 - 1e-15);
    assert!((libm::erfc(y) / (1.0 - (1.0 - 1e-15)) - 1.0).abs() < 1e-13, "{y}");
    assert_eq!(erfinv(1.0), f64::INFINITY);
    assert_eq!(erfinv(-1.0), f64::NEG_INFINITY);
    assert!(erfinv(1.1).is_nan());
    assert!(erfinv(-0.0).is_sign_negative());
}

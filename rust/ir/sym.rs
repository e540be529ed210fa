//! Symbols: values that remember what was done to them. Running a body of the table on symbols gives
//! an [`Expr`], from which WGSL text and gradients over tensors are made.

use super::elementwise::Elementwise;
use super::value::{Bits, Float, Number};
use std::cell::RefCell;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// One node of an expression; operands are indices of earlier nodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Term {
    Input(usize),
    Constant(f64),
    Apply(Elementwise, [usize; 3]),
}

/// A directed acyclic graph in order of evaluation, with shared terms stored once.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    terms: Vec<Term>,
    roots: Vec<usize>,
}

impl Expr {
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    pub fn roots(&self) -> &[usize] {
        &self.roots
    }

    /// Whether the expression is `op(input 0, input 1, …)` and nothing else.
    pub fn is_application_of(&self, op: Elementwise) -> bool {
        match self.roots[..] {
            [root] => match self.terms[root] {
                Term::Apply(found, args) => {
                    found == op
                        && args[..op.arity()]
                            .iter()
                            .enumerate()
                            .all(|(i, &a)| self.terms[a] == Term::Input(i))
                }
                _ => false,
            },
            _ => false,
        }
    }
}

/// A handle on a term of the expression that this thread is building.
#[derive(Clone, Copy, Debug)]
pub struct Sym(usize);

thread_local! {
    static TERMS: RefCell<Vec<Term>> = const { RefCell::new(Vec::new()) };
}

/// Builds the expression that `body` makes of `inputs` symbols. Not reentrant.
pub fn build(inputs: usize, body: impl FnOnce(&[Sym]) -> Vec<Sym>) -> Expr {
    TERMS.with_borrow_mut(Vec::clear);
    let inputs: Vec<Sym> = (0..inputs).map(|i| Sym::term(Term::Input(i))).collect();
    let roots = body(&inputs).iter().map(|s| s.0).collect();
    Expr { terms: TERMS.take(), roots }
}

impl Sym {
    fn term(term: Term) -> Sym {
        TERMS.with_borrow_mut(|terms| match terms.iter().position(|t| *t == term) {
            Some(at) => Sym(at),
            None => {
                terms.push(term);
                Sym(terms.len() - 1)
            }
        })
    }

    pub(super) fn apply(op: Elementwise, args: &[Sym]) -> Sym {
        let mut places = [0; 3];
        for (place, arg) in places.iter_mut().zip(args) {
            *place = arg.0;
        }
        Sym::term(Term::Apply(op, places))
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $op:ident;)*) => {$(
        impl $trait for Sym {
            type Output = Sym;
            fn $method(self, other: Sym) -> Sym { Sym::apply(Elementwise::$op, &[self, other]) }
        }
        impl $trait<f64> for Sym {
            type Output = Sym;
            fn $method(self, other: f64) -> Sym { Sym::apply(Elementwise::$op, &[self, Sym::constant(other)]) }
        }
        impl $trait<Sym> for f64 {
            type Output = Sym;
            fn $method(self, other: Sym) -> Sym { Sym::apply(Elementwise::$op, &[Sym::constant(self), other]) }
        }
    )*};
}

operators! {
    Add add add;
    Sub sub sub;
    Mul mul mul;
    Div div div;
}

impl Neg for Sym {
    type Output = Sym;
    fn neg(self) -> Sym {
        Sym::apply(Elementwise::neg, &[self])
    }
}

macro_rules! methods {
    ($($name:ident($($arg:ident),*) = $op:ident;)*) => {
        $(fn $name(self $(, $arg: Sym)*) -> Sym { Sym::apply(Elementwise::$op, &[self $(, $arg)*]) })*
    };
}

impl Number for Sym {
    type Mask = Sym;

    fn constant(x: f64) -> Sym {
        Sym::term(Term::Constant(x))
    }

    methods! {
        abs() = abs; sign() = sign; maximum(b) = maximum; minimum(b) = minimum;
        floor_divide(b) = floor_divide; remainder(b) = remainder; fmod(b) = fmod; pow(b) = pow;
        eq(b) = eq; ne(b) = ne; lt(b) = lt; le(b) = le; gt(b) = gt; ge(b) = ge;
    }

    fn select(mask: Sym, yes: Sym, no: Sym) -> Sym {
        Sym::apply(Elementwise::r#where, &[mask, yes, no])
    }
    fn both(a: Sym, b: Sym) -> Sym {
        Sym::apply(Elementwise::bitwise_and, &[a, b])
    }
    fn either(a: Sym, b: Sym) -> Sym {
        Sym::apply(Elementwise::bitwise_or, &[a, b])
    }
    fn not(a: Sym) -> Sym {
        Sym::apply(Elementwise::bitwise_not, &[a])
    }
}

impl Float for Sym {
    methods! {
        sqrt() = sqrt; rsqrt() = rsqrt; exp() = exp; exp2() = exp2; expm1() = expm1;
        log() = log; log2() = log2; log10() = log10; log1p() = log1p;
        sin() = sin; cos() = cos; tan() = tan; asin() = asin; acos() = acos; atan() = atan;
        sinh() = sinh; cosh() = cosh; tanh() = tanh; asinh() = asinh; acosh() = acosh; atanh() = atanh;
        erf() = erf; erfc() = erfc; erfinv() = erfinv; lgamma() = lgamma; digamma() = digamma;
        floor() = floor; ceil() = ceil; trunc() = trunc; round() = round;
        atan2(b) = atan2; hypot(b) = hypot; copysign(b) = copysign; nextafter(b) = nextafter;
        is_nan() = isnan; is_inf() = isinf; signbit() = signbit;
    }
}

impl Bits for Sym {
    methods! {
        and(b) = bitwise_and; or(b) = bitwise_or; xor(b) = bitwise_xor; invert() = bitwise_not;
        shift_left(b) = bitwise_left_shift; shift_right(b) = bitwise_right_shift;
    }
}

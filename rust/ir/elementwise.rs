//! THE TABLE: every elementwise operation once, as name, doc, forward and gradient. The enum, the CPU
//! loops, the WGSL, the tensor methods, the Python methods and their stubs are expansions of these
//! rows (`elementwise_table!(callback)` hands all rows to a macro of yours).
//!
//! A row reads `name(args) { forward } grad(args, y, dy) { one gradient an argument };` where `y` is the
//! result and `dy` its gradient; or `name(args) { forward } not differentiable;`. A body that calls a
//! method of the same name (`{ x.exp() }`) is a primitive: lanes and shaders implement it themselves.

/// Calls `$callback! { rows }`.
#[macro_export]
macro_rules! elementwise_table {
    ($callback:ident) => {
        $callback! {
            unary Number {
                /// The negative.
                neg(x) { -x } grad(x, y, dy) { -dy };
                /// The absolute value.
                abs(x) { x.abs() } grad(x, y, dy) { dy * sign(x) };
                /// −1, 0 or 1; NaN stays NaN.
                sign(x) { x.sign() } grad(x, y, dy) { constant(0.0) };
                /// The square.
                square(x) { x * x } grad(x, y, dy) { dy * 2.0 * x };
                /// Rectified linear unit, `max(x, 0)` (Nair and Hinton, 2010).
                relu(x) { maximum(x, constant(0.0)) } grad(x, y, dy) { select(gt(y, constant(0.0)), dy, constant(0.0)) };
            }
            unary Float {
                /// The square root; NaN for negative numbers.
                sqrt(x) { x.sqrt() } grad(x, y, dy) { dy * 0.5 / y };
                /// One over the square root.
                rsqrt(x) { x.rsqrt() } grad(x, y, dy) { dy * -0.5 * y * y * y };
                /// One over x.
                reciprocal(x) { 1.0 / x } grad(x, y, dy) { -dy * y * y };
                /// e to the power x.
                exp(x) { x.exp() } grad(x, y, dy) { dy * y };
                /// 2 to the power x.
                exp2(x) { x.exp2() } grad(x, y, dy) { dy * y * std::f64::consts::LN_2 };
                /// `exp(x) − 1`, exact near 0.
                expm1(x) { x.expm1() } grad(x, y, dy) { dy * (y + 1.0) };
                /// The natural logarithm.
                log(x) { x.log() } grad(x, y, dy) { dy / x };
                /// The logarithm to base 2.
                log2(x) { x.log2() } grad(x, y, dy) { dy / (x * std::f64::consts::LN_2) };
                /// The logarithm to base 10.
                log10(x) { x.log10() } grad(x, y, dy) { dy / (x * std::f64::consts::LN_10) };
                /// `log(1 + x)`, exact near 0.
                log1p(x) { x.log1p() } grad(x, y, dy) { dy / (x + 1.0) };
                /// The sine of x in radians.
                sin(x) { x.sin() } grad(x, y, dy) { dy * cos(x) };
                /// The cosine of x in radians.
                cos(x) { x.cos() } grad(x, y, dy) { -dy * sin(x) };
                /// The tangent of x in radians.
                tan(x) { x.tan() } grad(x, y, dy) { dy * (y * y + 1.0) };
                /// The inverse sine, in radians.
                asin(x) { x.asin() } grad(x, y, dy) { dy * rsqrt(1.0 - x * x) };
                /// The inverse cosine, in radians.
                acos(x) { x.acos() } grad(x, y, dy) { -dy * rsqrt(1.0 - x * x) };
                /// The inverse tangent, in radians.
                atan(x) { x.atan() } grad(x, y, dy) { dy / (x * x + 1.0) };
                /// The hyperbolic sine.
                sinh(x) { x.sinh() } grad(x, y, dy) { dy * cosh(x) };
                /// The hyperbolic cosine.
                cosh(x) { x.cosh() } grad(x, y, dy) { dy * sinh(x) };
                /// The hyperbolic tangent.
                tanh(x) { x.tanh() } grad(x, y, dy) { dy * (1.0 - y * y) };
                /// The inverse hyperbolic sine.
                asinh(x) { x.asinh() } grad(x, y, dy) { dy * rsqrt(x * x + 1.0) };
                /// The inverse hyperbolic cosine.
                acosh(x) { x.acosh() } grad(x, y, dy) { dy * rsqrt(x * x - 1.0) };
                /// The inverse hyperbolic tangent.
                atanh(x) { x.atanh() } grad(x, y, dy) { dy / (1.0 - x * x) };
                /// The error function, `2/√π ∫₀ˣ exp(−t²) dt`.
                erf(x) { x.erf() } grad(x, y, dy) { dy * std::f64::consts::FRAC_2_SQRT_PI * exp(-(x * x)) };
                /// `1 − erf(x)`, exact for large x.
                erfc(x) { x.erfc() } grad(x, y, dy) { dy * -std::f64::consts::FRAC_2_SQRT_PI * exp(-(x * x)) };
                /// The inverse error function on (−1, 1).
                erfinv(x) { x.erfinv() } grad(x, y, dy) { dy * (1.0 / std::f64::consts::FRAC_2_SQRT_PI) * exp(y * y) };
                /// The logarithm of the absolute value of the gamma function.
                lgamma(x) { x.lgamma() } grad(x, y, dy) { dy * digamma(x) };
                /// The derivative of `lgamma`.
                digamma(x) { x.digamma() } not differentiable;
                /// Logistic function, `1 / (1 + exp(−x))`.
                sigmoid(x) { 1.0 / (1.0 + exp(-x)) } grad(x, y, dy) { dy * y * (1.0 - y) };
                /// `log(sigmoid(x))`, without overflow.
                logsigmoid(x) { minimum(x, constant(0.0)) - log1p(exp(-abs(x))) } grad(x, y, dy) { dy * (1.0 - exp(y)) };
                /// `log(1 + exp(x))`, without overflow.
                softplus(x) { maximum(x, constant(0.0)) + log1p(exp(-abs(x))) } grad(x, y, dy) { dy * sigmoid(x) };
                /// `x sigmoid(x)`, also called swish (Elfwing et al., 2017).
                silu(x) { x / (1.0 + exp(-x)) } grad(x, y, dy) {{
                    let s = sigmoid(x);
                    dy * (s + y * (1.0 - s))
                }};
                /// Gaussian error linear unit, `x Φ(x)` (Hendrycks and Gimpel, 2016).
                gelu(x) { 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)) } grad(x, y, dy) {
                    dy * (0.5 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)) + x * exp(-0.5 * x * x) * 0.398942280401432677939946059934)
                };
                /// GELU in its tanh form.
                gelu_tanh(x) { x / (1.0 + exp(-2.0 * x * (0.797884560802865355879892119869 + x * x * 0.0356774081363001))) } grad(x, y, dy) {{
                    // Beyond ±10 the tangent is ±1 in every dtype, and squares would overflow.
                    let x = minimum(maximum(x, constant(-10.0)), constant(10.0));
                    let t = tanh(x * (0.797884560802865355879892119869 + x * x * 0.0356774081363001));
                    dy * 0.5 * (1.0 + t + x * (1.0 - t * t) * (0.797884560802865355879892119869 + x * x * 0.1070322244089003))
                }};
                /// The largest integer not above x.
                floor(x) { x.floor() } grad(x, y, dy) { constant(0.0) };
                /// The smallest integer not below x.
                ceil(x) { x.ceil() } grad(x, y, dy) { constant(0.0) };
                /// The integer part of x.
                trunc(x) { x.trunc() } grad(x, y, dy) { constant(0.0) };
                /// The nearest integer; halves go to the even one.
                round(x) { x.round() } grad(x, y, dy) { constant(0.0) };
            }
            unary Test {
                /// Whether x is NaN.
                isnan(x) { x.is_nan() } not differentiable;
                /// Whether x is an infinity.
                isinf(x) { x.is_inf() } not differentiable;
                /// Whether x is neither NaN nor infinite.
                isfinite(x) { V::not(V::either(x.is_nan(), x.is_inf())) } not differentiable;
                /// Whether the sign bit is set; true for −0.
                signbit(x) { x.signbit() } not differentiable;
            }
            unary Bits {
                /// Every bit flipped; logical not for bool.
                bitwise_not(x) { x.invert() } not differentiable;
            }
            binary Number {
                /// The sum.
                add(a, b) { a + b } grad(a, b, y, dy) { dy, dy };
                /// The difference.
                sub(a, b) { a - b } grad(a, b, y, dy) { dy, -dy };
                /// The product.
                mul(a, b) { a * b } grad(a, b, y, dy) { dy * b, dy * a };
                /// The larger; NaN if either is NaN. Ties share the gradient.
                maximum(a, b) { a.maximum(b) } grad(a, b, y, dy) {
                    select(gt(a, b), dy, select(eq(a, b), dy * 0.5, constant(0.0))),
                    select(gt(b, a), dy, select(eq(a, b), dy * 0.5, constant(0.0)))
                };
                /// The smaller; NaN if either is NaN. Ties share the gradient.
                minimum(a, b) { a.minimum(b) } grad(a, b, y, dy) {
                    select(lt(a, b), dy, select(eq(a, b), dy * 0.5, constant(0.0))),
                    select(lt(b, a), dy, select(eq(a, b), dy * 0.5, constant(0.0)))
                };
                /// The quotient rounded down.
                floor_divide(a, b) { a.floor_divide(b) } grad(a, b, y, dy) { constant(0.0), constant(0.0) };
                /// What is left after `floor_divide`; it has the sign of the divisor.
                remainder(a, b) { a.remainder(b) } grad(a, b, y, dy) { dy, -dy * floor_divide(a, b) };
                /// What is left after truncating division; it has the sign of the dividend.
                fmod(a, b) { a.fmod(b) } grad(a, b, y, dy) { dy, -dy * trunc(a / b) };
                /// a to the power b.
                pow(a, b) { a.pow(b) } grad(a, b, y, dy) {
                    select(eq(b, constant(0.0)), constant(0.0), dy * b * pow(a, b - 1.0)),
                    select(Sym::both(eq(a, constant(0.0)), ge(b, constant(0.0))), constant(0.0), dy * y * log(a))
                };
            }
            binary Float {
                /// The quotient.
                div(a, b) { a / b } grad(a, b, y, dy) { dy / b, -dy * y / b };
                /// The angle of the point (b, a), in (−π, π].
                atan2(a, b) { a.atan2(b) } grad(a, b, y, dy) {
                    // Not b / (a² + b²), whose squares overflow.
                    dy * (b / hypot(a, b)) / hypot(a, b),
                    -dy * (a / hypot(a, b)) / hypot(a, b)
                };
                /// `√(a² + b²)`, without overflow.
                hypot(a, b) { a.hypot(b) } grad(a, b, y, dy) { dy * a / y, dy * b / y };
                /// a with the sign of b.
                copysign(a, b) { a.copysign(b) } grad(a, b, y, dy) { dy * sign(a) * copysign(constant(1.0), b), constant(0.0) };
                /// The next number after a towards b.
                nextafter(a, b) { a.nextafter(b) } not differentiable;
                /// `log(exp(a) + exp(b))`, without overflow.
                logaddexp(a, b) {{
                    let high = maximum(a, b);
                    let gap = -abs(a - b);
                    // Two equal infinities have the gap NaN; the answer is the infinity itself.
                    select(eq(a, b), high + std::f64::consts::LN_2, high + log1p(exp(gap)))
                }} grad(a, b, y, dy) { dy * sigmoid(gap(a, b)), dy * sigmoid(-gap(a, b)) };
                /// `a log(b)`, and 0 where a is 0.
                xlogy(a, b) { select(V::both(eq(a, constant(0.0)), V::not(b.is_nan())), constant(0.0), a * log(b)) } grad(a, b, y, dy) {
                    select(Sym::both(eq(a, constant(0.0)), le(b, constant(0.0))), constant(0.0), xlogy(dy, b)),
                    dy * a / b
                };
            }
            binary Compare {
                /// Whether a equals b.
                eq(a, b) { a.eq(b) } not differentiable;
                /// Whether a differs from b.
                ne(a, b) { a.ne(b) } not differentiable;
                /// Whether a is less than b.
                lt(a, b) { a.lt(b) } not differentiable;
                /// Whether a is at most b.
                le(a, b) { a.le(b) } not differentiable;
                /// Whether a is greater than b.
                gt(a, b) { a.gt(b) } not differentiable;
                /// Whether a is at least b.
                ge(a, b) { a.ge(b) } not differentiable;
            }
            binary Bits {
                /// The bits set in both; logical and for bool.
                bitwise_and(a, b) { a.and(b) } not differentiable;
                /// The bits set in either; logical or for bool.
                bitwise_or(a, b) { a.or(b) } not differentiable;
                /// The bits set in one alone; logical exclusive or for bool.
                bitwise_xor(a, b) { a.xor(b) } not differentiable;
                /// a shifted left by b bits; 0 once b reaches the width or is negative.
                bitwise_left_shift(a, b) { a.shift_left(b) } not differentiable;
                /// a shifted right by b bits, keeping the sign.
                bitwise_right_shift(a, b) { a.shift_right(b) } not differentiable;
            }
        }
    };
}

use super::sym::{Expr, Sym, build};
use super::value::prelude::*;
use super::value::{Bits, Float, FloatLiteral, Literal, Number};
use crate::bail;
use crate::core::{DType, Result};

/// Which dtypes an operation takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Integers and floats, to the same dtype.
    Number,
    /// Floats; integers and bools become float32 first.
    Float,
    /// Floats, to bool.
    Test,
    /// Everything, to bool.
    Compare,
    /// Integers and bool, to the same dtype.
    Bits,
    /// A bool and two of any one dtype, to that dtype.
    Where,
}

/// A unary body of class Number; the traits below are the same for the other classes.
pub trait UnaryNumber {
    fn apply<V: Number>(x: V) -> V
    where
        f64: Literal<V>;
}
pub trait UnaryFloat {
    fn apply<V: Float>(x: V) -> V
    where
        f64: FloatLiteral<V>;
}
pub trait UnaryTest {
    fn apply<V: Float>(x: V) -> V::Mask
    where
        f64: FloatLiteral<V>;
}
pub trait UnaryBits {
    fn apply<V: Bits>(x: V) -> V;
}
pub trait BinaryNumber {
    fn apply<V: Number>(a: V, b: V) -> V
    where
        f64: Literal<V>;
}
pub trait BinaryFloat {
    fn apply<V: Float>(a: V, b: V) -> V
    where
        f64: FloatLiteral<V>;
}
pub trait BinaryCompare {
    fn apply<V: Number>(a: V, b: V) -> V::Mask
    where
        f64: Literal<V>;
}
pub trait BinaryBits {
    fn apply<V: Bits>(a: V, b: V) -> V;
}

macro_rules! expand {
    ($($arity:ident $class:ident { $(
        $(#[doc = $doc:literal])*
        $name:ident($($arg:ident),+) { $body:expr }
        $(grad($($g:ident),+) { $($grad:expr),+ })? $(not $flat:ident)?;
    )* })*) => {
        /// An elementwise operation: a row of the table, or `where`.
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Elementwise { $($($name,)*)* r#where }

        impl Elementwise {
            pub const ALL: &'static [Elementwise] = &[$($(Elementwise::$name,)*)* Elementwise::r#where];

            /// The one name that this operation bears in every room.
            pub const fn name(self) -> &'static str {
                match self { $($(Elementwise::$name => stringify!($name),)*)* Elementwise::r#where => "where" }
            }

            /// The first paragraph of its documentation.
            pub const fn doc(self) -> &'static str {
                match self {
                    $($(Elementwise::$name => concat!($($doc),*).trim_ascii(),)*)*
                    Elementwise::r#where => "a where the condition holds, else b.",
                }
            }

            pub const fn arity(self) -> usize {
                match self {
                    $($(Elementwise::$name => [$(stringify!($arg)),+].len(),)*)*
                    Elementwise::r#where => 3,
                }
            }

            pub const fn class(self) -> Class {
                match self { $($(Elementwise::$name => Class::$class,)*)* Elementwise::r#where => Class::Where }
            }

            /// Whether the row gives a gradient; a row that does not says `not differentiable`.
            pub const fn differentiable(self) -> bool {
                match self {
                    $($(Elementwise::$name => {
                        const GRAD: bool = false $(|| { $(let _ = stringify!($g);)+ true })?;
                        const FLAT: bool = false $(|| { let _ = stringify!($flat); true })?;
                        const { assert!(GRAD != FLAT, "a row gives a gradient or says: not differentiable") };
                        GRAD
                    })*)*
                    Elementwise::r#where => true,
                }
            }

            /// The forward as an expression over its arguments: for a primitive one application of
            /// itself, otherwise what its body is made of.
            pub fn forward(self) -> Expr {
                build(self.arity(), |args| match self {
                    $($(Elementwise::$name => vec![expand!(@forward $arity $class $name args)],)*)*
                    Elementwise::r#where => vec![Sym::select(args[0], args[1], args[2])],
                })
            }

            /// The gradients, one for each argument, as expressions over the arguments, the result and
            /// the result's gradient, in that order. Empty if the row says `not differentiable`.
            #[allow(unused_variables)]
            pub fn gradient(self) -> Expr {
                build(self.arity() + 2, |inputs| match self {
                    $($(Elementwise::$name => {
                        expand!(@gradient inputs $(($($g),+) { $($grad),+ })?)
                    })*)*
                    Elementwise::r#where => {
                        let (c, dy) = (inputs[0], inputs[4]);
                        let zero = Sym::constant(0.0);
                        vec![zero, Sym::select(c, dy, zero), Sym::select(c, zero, dy)]
                    }
                })
            }
        }

        /// One uninhabited type a row: `op::exp` names the body of `exp` in generic code.
        #[allow(non_camel_case_types)]
        pub mod op {
            #[allow(unused_imports)]
            use super::*;
            $($(
                $(#[doc = $doc])*
                pub enum $name {}
                expand!(@body $arity $class $name ($($arg),+) $body);
            )*)*
        }
    };

    (@body unary Number $name:ident ($x:ident) $body:expr) => {
        impl UnaryNumber for $name { #[inline(always)] fn apply<V: Number>($x: V) -> V where f64: Literal<V> { $body } }
    };
    (@body unary Float $name:ident ($x:ident) $body:expr) => {
        impl UnaryFloat for $name { #[inline(always)] fn apply<V: Float>($x: V) -> V where f64: FloatLiteral<V> { $body } }
    };
    (@body unary Test $name:ident ($x:ident) $body:expr) => {
        impl UnaryTest for $name { #[inline(always)] fn apply<V: Float>($x: V) -> V::Mask where f64: FloatLiteral<V> { $body } }
    };
    (@body unary Bits $name:ident ($x:ident) $body:expr) => {
        impl UnaryBits for $name { #[inline(always)] fn apply<V: Bits>($x: V) -> V { $body } }
    };
    (@body binary Number $name:ident ($a:ident, $b:ident) $body:expr) => {
        impl BinaryNumber for $name { #[inline(always)] fn apply<V: Number>($a: V, $b: V) -> V where f64: Literal<V> { $body } }
    };
    (@body binary Float $name:ident ($a:ident, $b:ident) $body:expr) => {
        impl BinaryFloat for $name { #[inline(always)] fn apply<V: Float>($a: V, $b: V) -> V where f64: FloatLiteral<V> { $body } }
    };
    (@body binary Compare $name:ident ($a:ident, $b:ident) $body:expr) => {
        impl BinaryCompare for $name { #[inline(always)] fn apply<V: Number>($a: V, $b: V) -> V::Mask where f64: Literal<V> { $body } }
    };
    (@body binary Bits $name:ident ($a:ident, $b:ident) $body:expr) => {
        impl BinaryBits for $name { #[inline(always)] fn apply<V: Bits>($a: V, $b: V) -> V { $body } }
    };

    (@forward unary Number $name:ident $args:ident) => { <op::$name as UnaryNumber>::apply($args[0]) };
    (@forward unary Float $name:ident $args:ident) => { <op::$name as UnaryFloat>::apply($args[0]) };
    (@forward unary Test $name:ident $args:ident) => { <op::$name as UnaryTest>::apply($args[0]) };
    (@forward unary Bits $name:ident $args:ident) => { <op::$name as UnaryBits>::apply($args[0]) };
    (@forward binary Number $name:ident $args:ident) => { <op::$name as BinaryNumber>::apply($args[0], $args[1]) };
    (@forward binary Float $name:ident $args:ident) => { <op::$name as BinaryFloat>::apply($args[0], $args[1]) };
    (@forward binary Compare $name:ident $args:ident) => { <op::$name as BinaryCompare>::apply($args[0], $args[1]) };
    (@forward binary Bits $name:ident $args:ident) => { <op::$name as BinaryBits>::apply($args[0], $args[1]) };

    (@gradient $inputs:ident) => { vec![] };
    (@gradient $inputs:ident ($($g:ident),+) { $($grad:expr),+ }) => {{
        let mut each = $inputs.iter().copied();
        $(let $g: Sym = each.next().expect("arguments, result and its gradient");)+
        vec![$($grad),+]
    }};
}

elementwise_table!(expand);

/// For gradients: the logistic function as one operation.
fn sigmoid(x: Sym) -> Sym {
    Sym::apply(Elementwise::sigmoid, &[x])
}

/// For gradients: `a log(b)`, and 0 where a is 0, as one operation.
fn xlogy(a: Sym, b: Sym) -> Sym {
    Sym::apply(Elementwise::xlogy, &[a, b])
}

/// For gradients: `a − b`, and 0 for two equal infinities.
fn gap(a: Sym, b: Sym) -> Sym {
    select(Sym::both(eq(a, b), a.is_inf()), constant(0.0), a - b)
}

impl Elementwise {
    /// The operation of this name.
    pub fn parse(name: &str) -> Option<Elementwise> {
        Elementwise::ALL.iter().copied().find(|op| op.name() == name)
    }

    /// Whether the body is the operation itself, which lanes and shaders implement.
    pub fn is_primitive(self) -> bool {
        self.forward().is_application_of(self)
    }

    /// The dtype in which arguments of `dtype` are taken, or an error that says which would do.
    pub fn argument(self, dtype: DType) -> Result<DType> {
        match self.class() {
            Class::Number if dtype == DType::Bool => {
                bail!(
                    DType,
                    "{}: bool is not a number; cast it (`x.long()`) or use the logical operations",
                    self.name()
                )
            }
            Class::Float | Class::Test if !dtype.is_float() => Ok(DType::F32),
            Class::Bits
                if dtype == DType::Bool
                    && matches!(self, Elementwise::bitwise_left_shift | Elementwise::bitwise_right_shift) =>
            {
                bail!(DType, "{}: takes integers, not bool", self.name())
            }
            Class::Bits if dtype.is_float() => {
                bail!(DType, "{}: takes integers or bool, not {dtype}", self.name())
            }
            _ => Ok(dtype),
        }
    }

    /// The dtype of the result for arguments of `dtype`.
    pub const fn result(self, dtype: DType) -> DType {
        match self.class() {
            Class::Test | Class::Compare => DType::Bool,
            _ => dtype,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_documented() {
        for (i, &op) in Elementwise::ALL.iter().enumerate() {
            assert_eq!(Elementwise::parse(op.name()), Some(op));
            assert_eq!(op as usize, i);
            assert!(op.doc().ends_with('.'), "{} has no doc", op.name());
        }
    }

    #[test]
    fn gradients_have_one_root_an_argument() {
        for &op in Elementwise::ALL {
            let expected = if op.differentiable() { op.arity() } else { 0 };
            assert_eq!(op.gradient().roots().len(), expected, "{}", op.name());
        }
    }

    #[test]
    fn composites_are_made_of_primitives() {
        assert!(Elementwise::exp.is_primitive());
        assert!(!Elementwise::silu.is_primitive());
    }

    #[test]
    fn an_application_is_of_one_operation_alone() {
        for &op in Elementwise::ALL {
            for &other in Elementwise::ALL {
                let itself = op == other && op.is_primitive();
                assert_eq!(op.forward().is_application_of(other), itself, "{} {}", op.name(), other.name());
            }
        }
        assert!(!Elementwise::add.gradient().is_application_of(Elementwise::add));
    }
}

//! Element types: the table of dtypes, promotion by the array API's rules, and `for_dtype!`, the one
//! place where a runtime dtype becomes a Rust type.

use half::{bf16, f16};

/// What kind of number a dtype holds; promotion climbs from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Bool,
    Unsigned,
    Signed,
    Float,
}

macro_rules! dtypes {
    ($($variant:ident $name:literal $short:literal $kind:ident $rust:ty;)*) => {
        /// The type of a tensor's elements.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DType { $($variant),* }

        impl DType {
            pub const ALL: &'static [DType] = &[$(DType::$variant),*];

            /// The name that users read and write, as in `"float32"`.
            pub const fn name(self) -> &'static str { match self { $(DType::$variant => $name),* } }

            /// The abbreviation used in error messages and structure keys, as in `f32`.
            pub const fn short(self) -> &'static str { match self { $(DType::$variant => $short),* } }

            /// Bytes an element takes.
            pub const fn size(self) -> usize { match self { $(DType::$variant => size_of::<$rust>()),* } }

            pub const fn kind(self) -> Kind { match self { $(DType::$variant => Kind::$kind),* } }
        }

        $(dtypes!(@element $variant $rust);)*
    };
    (@element Bool $rust:ty) => {};
    (@element $variant:ident $rust:ty) => {
        impl Element for $rust { const DTYPE: DType = DType::$variant; }
    };
}

/// A Rust type that tensors store. `bool` is stored as a byte of 0 or 1 and has no `Element` of its
/// own, since a forged byte must never become an invalid Rust `bool`.
pub trait Element: Copy + Send + Sync + Default + PartialOrd + 'static {
    const DTYPE: DType;
}

dtypes! {
    Bool "bool" "bool" Bool u8;
    U8 "uint8" "u8" Unsigned u8;
    U16 "uint16" "u16" Unsigned u16;
    U32 "uint32" "u32" Unsigned u32;
    U64 "uint64" "u64" Unsigned u64;
    I8 "int8" "i8" Signed i8;
    I16 "int16" "i16" Signed i16;
    I32 "int32" "i32" Signed i32;
    I64 "int64" "i64" Signed i64;
    F16 "float16" "f16" Float f16;
    BF16 "bfloat16" "bf16" Float bf16;
    F32 "float32" "f32" Float f32;
    F64 "float64" "f64" Float f64;
}

/// Names that are kept for dtypes to come; asking for one is an error that says so.
pub const RESERVED: &[&str] = &["complex64", "complex128"];

impl DType {
    pub fn parse(name: &str) -> Option<DType> {
        let name = match name {
            "float" | "single" => "float32",
            "half" => "float16",
            "double" => "float64",
            "int" => "int32",
            "long" => "int64",
            "short" => "int16",
            other => other,
        };
        DType::ALL.iter().copied().find(|d| d.name() == name)
    }

    /// From 1 to the next number that the dtype has.
    pub fn epsilon(self) -> f64 {
        match self {
            DType::F16 => half::f16::EPSILON.to_f64(),
            DType::BF16 => half::bf16::EPSILON.to_f64(),
            DType::F32 => f32::EPSILON.into(),
            DType::F64 => f64::EPSILON,
            _ => 1.0,
        }
    }

    pub const fn is_float(self) -> bool {
        matches!(self.kind(), Kind::Float)
    }

    pub const fn is_int(self) -> bool {
        matches!(self.kind(), Kind::Signed | Kind::Unsigned)
    }

    /// The dtype in which arithmetic on this one is done: half floats compute in float32.
    pub const fn compute(self) -> DType {
        match self {
            DType::F16 | DType::BF16 => DType::F32,
            other => other,
        }
    }

    /// The common dtype of two tensors: the array API's table, extended by what it leaves open
    /// (an integer and a float give the float; `uint64` and a signed integer give `float32`;
    /// the two half floats give `float32`).
    pub fn promote(self, other: DType) -> DType {
        use Kind::*;
        if self == other {
            return self;
        }
        let (low, high) = if self.kind() <= other.kind() { (self, other) } else { (other, self) };
        match (low.kind(), high.kind()) {
            (Bool, _) => high,
            (Unsigned | Signed, Float) => high,
            (Float, Float) if low.size() == 2 && high.size() == 2 => DType::F32,
            (Unsigned, Signed) if low.size() >= high.size() => match low.size() {
                1 => DType::I16,
                2 => DType::I32,
                4 => DType::I64,
                _ => DType::F32,
            },
            (Unsigned, Signed) => high,
            _ => {
                if low.size() > high.size() {
                    low
                } else {
                    high
                }
            }
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Runs an expression with `$T` bound to the Rust type that stores `$dtype` (`bool` as `u8`).
#[macro_export]
macro_rules! for_dtype {
    ($dtype:expr, $T:ident => $body:expr) => {{
        use $crate::core::DType as D;
        match $dtype {
            D::Bool | D::U8 => {
                type $T = u8;
                $body
            }
            D::U16 => {
                type $T = u16;
                $body
            }
            D::U32 => {
                type $T = u32;
                $body
            }
            D::U64 => {
                type $T = u64;
                $body
            }
            D::I8 => {
                type $T = i8;
                $body
            }
            D::I16 => {
                type $T = i16;
                $body
            }
            D::I32 => {
                type $T = i32;
                $body
            }
            D::I64 => {
                type $T = i64;
                $body
            }
            D::F16 => {
                type $T = half::f16;
                $body
            }
            D::BF16 => {
                type $T = half::bf16;
                $body
            }
            D::F32 => {
                type $T = f32;
                $body
            }
            D::F64 => {
                type $T = f64;
                $body
            }
        }
    }};
}

/// Runs an expression with `$T` bound to the unsigned integer of the dtype's width: what kernels that
/// only move elements need, four instances instead of thirteen.
#[macro_export]
macro_rules! for_width {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype.size() {
            1 => {
                type $T = u8;
                $body
            }
            2 => {
                type $T = u16;
                $body
            }
            4 => {
                type $T = u32;
                $body
            }
            _ => {
                type $T = u64;
                $body
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promotion_is_symmetric_and_idempotent() {
        for &a in DType::ALL {
            assert_eq!(a.promote(a), a);
            for &b in DType::ALL {
                assert_eq!(a.promote(b), b.promote(a), "{a} {b}");
                assert_eq!(a.promote(b).promote(a), a.promote(b), "{a} {b}");
            }
        }
    }

    #[test]
    fn mixed_signs_widen() {
        assert_eq!(DType::U8.promote(DType::I8), DType::I16);
        assert_eq!(DType::U32.promote(DType::I64), DType::I64);
        assert_eq!(DType::U64.promote(DType::I8), DType::F32);
        assert_eq!(DType::I64.promote(DType::F16), DType::F16);
        assert_eq!(DType::F16.promote(DType::BF16), DType::F32);
    }
}

//! A single number outside any tensor: what Python's `2`, `2.5` and `True` become. Scalars are weak:
//! they take the dtype of the tensor that they meet.

use super::dtype::{DType, Kind};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    Bool(bool),
    Int(i64),
    /// Above `i64::MAX`.
    Uint(u64),
    Float(f64),
}

impl Scalar {
    pub fn kind(self) -> Kind {
        match self {
            Scalar::Bool(_) => Kind::Bool,
            Scalar::Int(_) | Scalar::Uint(_) => Kind::Signed,
            Scalar::Float(_) => Kind::Float,
        }
    }

    /// The dtype of `op(tensor of dtype, self)`: the tensor's, unless the scalar's kind is higher.
    pub fn promote(self, dtype: DType) -> DType {
        match (dtype.kind(), self.kind()) {
            (Kind::Float, _) | (_, Kind::Bool) => dtype,
            (_, Kind::Float) => DType::F32,
            (Kind::Bool, _) => DType::I64,
            _ => dtype,
        }
    }

    /// The dtype of a tensor made from this scalar alone.
    pub fn default_dtype(self) -> DType {
        match self {
            Scalar::Bool(_) => DType::Bool,
            Scalar::Int(_) => DType::I64,
            Scalar::Uint(_) => DType::U64,
            Scalar::Float(_) => DType::F32,
        }
    }

    pub fn as_f64(self) -> f64 {
        match self {
            Scalar::Bool(b) => b as u8 as f64,
            Scalar::Int(i) => i as f64,
            Scalar::Uint(u) => u as f64,
            Scalar::Float(f) => f,
        }
    }

    /// The value as an integer: floats truncate and saturate, unsigned values keep their bits.
    pub fn as_i64(self) -> i64 {
        match self {
            Scalar::Bool(b) => b as i64,
            Scalar::Int(i) => i,
            Scalar::Uint(u) => u as i64,
            Scalar::Float(f) => f as i64,
        }
    }

    /// Whether an integer scalar can be stored in `dtype` without wrapping.
    pub fn fits(self, dtype: DType) -> bool {
        let value = match self {
            Scalar::Int(i) => i as i128,
            Scalar::Uint(u) => u as i128,
            _ => return true,
        };
        let bits = 8 * dtype.size() as u32;
        match dtype.kind() {
            Kind::Unsigned => (0..1i128 << bits).contains(&value),
            Kind::Signed => (-(1i128 << (bits - 1))..1i128 << (bits - 1)).contains(&value),
            _ => true,
        }
    }
}

impl From<f64> for Scalar {
    fn from(x: f64) -> Self {
        Scalar::Float(x)
    }
}

impl From<i64> for Scalar {
    fn from(x: i64) -> Self {
        Scalar::Int(x)
    }
}

impl From<bool> for Scalar {
    fn from(x: bool) -> Self {
        Scalar::Bool(x)
    }
}

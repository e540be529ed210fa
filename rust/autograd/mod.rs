//! Walking the record back: `backward` and `grad`. What is walked is made by `ops` and kept in
//! `graph::record`.

pub mod backward;

pub use backward::{backward, grad};

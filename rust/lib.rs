//! oxon: tensors, automatic differentiation, SIMD kernels for the CPU and WGSL compute shaders for any
//! GPU. The list of modules is the architecture, read from the top: each knows only those above it.

// Whether a tensor may be shared between threads depends on wgpu's deeply nested types.
#![recursion_limit = "256"]

/// An operation makes and drops half a dozen small objects; nodes, layouts and handles live in its free lists.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[macro_use]
pub mod core;
#[macro_use]
pub mod ir;
pub mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod graph;
pub mod ops;

pub mod autograd;
pub mod io;
#[cfg(feature = "python")]
mod python;

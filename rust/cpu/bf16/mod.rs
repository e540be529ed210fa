//! Products of bfloat16 matrices with float32 sums, as the processor's own instructions make them: AMX tiles or
//! AVX-512 BF16 dot products. What is multiplied is the business of `matmul/bf16.rs` and `conv/bf16.rs`; without
//! these instructions halves are widened to float32 (`matmul/pack.rs`).
//!
//! C is made in blocks of 32×32, from a strip of 32 rows of A and a panel of 32 columns of B, in steps of 32 along k:
//!
//! ```text
//! A strip   32 rows of 32 elements a step, where they are or packed behind each other
//! B panel   a step is two tiles of 16 columns; a tile has 16 rows of pairs: element (2p, j) beside (2p + 1, j)
//! C block   32 rows of 32 float32
//! ```
//!
//! Both kinds of instruction read the same layout. Sums run along k in order, so that a block does not depend on
//! who makes it. Subnormal operands and sums count as zeros, as the instructions have it.

mod amx;
mod dot;
mod pack;
#[cfg(test)]
mod tests;

pub use pack::{Source, first, pack_left, pack_right, pairs, round, store_row, turned};

use super::isa::Bf16;

/// Rows of a strip, columns of a panel.
pub const EDGE: usize = 32;
/// Elements along k in a step.
pub const STEP: usize = 32;
/// Elements of a panel's step, or of a packed strip's.
pub const UNIT: usize = EDGE * STEP;
/// Elements of a block of C.
pub const BLOCK: usize = EDGE * EDGE;

/// A strip of A: from a row to the next, and from a step to the next, in elements.
#[derive(Clone, Copy)]
pub struct Left {
    pub at: *const u16,
    pub row: isize,
    pub step: isize,
}

impl Left {
    pub fn packed(at: *const u16) -> Left {
        Left { at, row: STEP as isize, step: UNIT as isize }
    }
}

/// This thread's readiness for a kind of instruction: tiles are configured as long as it is there.
pub struct Session(Bf16);

impl Session {
    pub fn new(kind: Bf16) -> Session {
        if kind == Bf16::Amx {
            amx::configure();
        }
        Session(kind)
    }

    /// `C = A B`, or `C += A B`, over so many steps.
    ///
    /// # Safety
    /// The strip has 32 rows of 32 elements a step, the panel `UNIT` elements a step, the block `BLOCK` elements,
    /// which nobody else touches.
    #[inline]
    pub unsafe fn multiply(&self, a: Left, b: *const u16, steps: usize, c: *mut f32, add: bool) {
        // SAFETY: the caller's promises; whoever made the session found the instructions.
        unsafe {
            match self.0 {
                Bf16::Amx => amx::multiply(a, b, steps, c, add),
                Bf16::Dot => dot::multiply(a, b, steps, c, add),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.0 == Bf16::Amx {
            amx::release();
        }
    }
}

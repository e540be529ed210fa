//! Blocks of C by AMX (Intel's advanced matrix extensions), as assembly: the intrinsics are not stable in Rust yet.
//! The compiler knows nothing of tile registers and never uses them. Four hold a block of C, two a step of A, two a
//! step of B; each of them is multiplied twice, so that 4 loads serve 4 products of 16 cycles each.

use super::Left;
use std::arch::asm;

/// What `ldtilecfg` reads: palette 1, eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Config([u8; 64]);

const CONFIG: Config = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64;
        bytes[48 + tile] = 16;
        tile += 1;
    }
    Config(bytes)
};

static TILES: Config = CONFIG;

/// Shapes this thread's tile registers; only on processors where `isa::bf16` says so.
pub fn configure() {
    // SAFETY: `isa::bf16` has asked the system for leave to use tiles; the configuration is a valid one.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const TILES, options(nostack, preserves_flags, readonly)) }
}

/// Gives the tile registers up, so that switching threads need not save them.
pub fn release() {
    // SAFETY: as above.
    unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) }
}

/// # Safety
/// As for `Session::multiply`; this thread's tiles are configured and `steps` is not zero.
pub unsafe fn multiply(a: Left, b: *const u16, steps: usize, c: *mut f32, add: bool) {
    // SAFETY: the caller's promises.
    unsafe {
        if add {
            asm!(
                "tileloadd tmm0, [{c} + {ld}]",
                "tileloadd tmm1, [{c} + {ld} + 64]",
                "tileloadd tmm2, [{c} + {ld} + 2048]",
                "tileloadd tmm3, [{c} + {ld} + 2112]",
                c = in(reg) c, ld = in(reg) 128usize, options(nostack, preserves_flags, readonly),
            );
        } else {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                options(nostack, preserves_flags, nomem),
            );
        }
        asm!(
            "2:",
            "tileloadd tmm6, [{b} + {ldb}]",
            "tileloadd tmm4, [{a} + {lda}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {ldb} + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{low} + {lda}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, {step}",
            "add {low}, {step}",
            "add {b}, 2048",
            "dec {n}",
            "jnz 2b",
            a = inout(reg) a.at => _,
            low = inout(reg) a.at.wrapping_offset(16 * a.row) => _,
            b = inout(reg) b => _,
            n = inout(reg) steps => _,
            lda = in(reg) 2 * a.row,
            ldb = in(reg) 64usize,
            step = in(reg) 2 * a.step,
            options(nostack, readonly),
        );
        asm!(
            "tilestored [{c} + {ld}], tmm0",
            "tilestored [{c} + {ld} + 64], tmm1",
            "tilestored [{c} + {ld} + 2048], tmm2",
            "tilestored [{c} + {ld} + 2112], tmm3",
            c = in(reg) c, ld = in(reg) 128usize, options(nostack, preserves_flags),
        );
    }
}

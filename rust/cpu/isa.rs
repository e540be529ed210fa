//! Which vector instructions this processor has, found once. Kernels choose by `isa::get()` and are
//! compiled for their level by `#[target_feature]`; nothing here computes.

use std::sync::OnceLock;

/// A level of vector instructions that kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// What the compiler's baseline has: SSE2 on x86-64.
    Portable,
    /// 128-bit vectors of AArch64.
    Neon,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, VL and DQ, and all of `Avx2`.
    Avx512,
}

impl Isa {
    const ALL: [Isa; 4] = [Isa::Portable, Isa::Neon, Isa::Avx2, Isa::Avx512];

    pub const fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// Whether this processor, under this operating system, runs code of this level.
    pub fn is_supported(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.is_supported()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
            }
            #[allow(unreachable_patterns, reason = "which levels are left depends on the target")]
            _ => false,
        }
    }

    /// The levels that run here, lowest first; tests sweep them.
    pub fn supported() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_supported())
    }
}

/// Instructions for products of bfloat16 with float32 sums, which some processors of level `Avx512` have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bf16 {
    /// AVX-512 BF16: pairs of products.
    Dot,
    /// AMX: products of tiles.
    Amx,
}

impl Bf16 {
    const ALL: [Bf16; 2] = [Bf16::Dot, Bf16::Amx];

    pub const fn name(self) -> &'static str {
        match self {
            Bf16::Dot => "avx512bf16",
            Bf16::Amx => "amx",
        }
    }

    /// Whether this processor has them, and the system gives leave to use them.
    pub fn is_supported(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Bf16::Dot => Isa::Avx512.is_supported() && is_x86_feature_detected!("avx512bf16"),
            Bf16::Amx => Isa::Avx512.is_supported() && amx(),
        };
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// The kinds that run here; tests sweep them.
    pub fn supported() -> impl Iterator<Item = Bf16> {
        Bf16::ALL.into_iter().filter(|kind| kind.is_supported())
    }
}

/// Whether there are tiles, and the system lets this process use them: it is asked once, as Linux wants it.
#[cfg(target_arch = "x86_64")]
fn amx() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| {
        const BF16: u32 = 1 << 22;
        const TILES: u32 = 1 << 24;
        let leaf = std::arch::x86_64::__cpuid_count(7, 0);
        leaf.edx & (BF16 | TILES) == BF16 | TILES && leave_for_tiles()
    })
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn leave_for_tiles() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: a request that changes nothing but what this process may do.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn leave_for_tiles() -> bool {
    false
}

/// The level that kernels use: the highest that runs here, or the one that the environment variable
/// `OXON_ISA` names (`portable`, `neon`, `avx2`, `avx512`, and with bfloat16 products `avx512bf16`, `amx`) if it
/// runs here.
pub fn get() -> Isa {
    static CHOICE: OnceLock<Isa> = OnceLock::new();
    *CHOICE.get_or_init(|| choose(std::env::var("OXON_ISA").ok().as_deref()))
}

/// The instructions for products of bfloat16, if there are any: the best ones, or those that `OXON_ISA` names; none
/// where it names a level.
pub fn bf16() -> Option<Bf16> {
    static CHOICE: OnceLock<Option<Bf16>> = OnceLock::new();
    *CHOICE.get_or_init(|| choose_bf16(std::env::var("OXON_ISA").ok().as_deref()))
}

fn choose_bf16(asked: Option<&str>) -> Option<Bf16> {
    let is = |name: &str| asked.is_some_and(|asked| asked.eq_ignore_ascii_case(name));
    if Isa::supported().any(|isa| is(isa.name())) {
        return None;
    }
    Bf16::supported().find(|kind| is(kind.name())).or(Bf16::supported().last())
}

fn choose(asked: Option<&str>) -> Isa {
    let asked = asked.and_then(|name| Isa::supported().find(|isa| isa.name().eq_ignore_ascii_case(name)));
    asked.or_else(|| Isa::supported().last()).unwrap_or(Isa::Portable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_can_be_forced_down_but_not_up() {
        let best = Isa::supported().last().unwrap();
        assert_eq!(choose(None), best);
        assert_eq!(choose(Some("no such level")), best);
        for isa in Isa::ALL {
            let want = if isa.is_supported() { isa } else { best };
            assert_eq!(choose(Some(isa.name())), want);
            assert!(!isa.is_supported() || choose_bf16(Some(isa.name())).is_none());
        }
        assert_eq!(choose_bf16(None), Bf16::supported().last());
        for kind in Bf16::supported() {
            assert_eq!((choose(Some(kind.name())), choose_bf16(Some(kind.name()))), (best, Some(kind)));
        }
    }
}

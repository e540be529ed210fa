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

/// The level that kernels use: the highest that runs here, or the one that the environment variable
/// `OXON_ISA` names (`portable`, `neon`, `avx2`, `avx512`) if it runs here.
pub fn get() -> Isa {
    static CHOICE: OnceLock<Isa> = OnceLock::new();
    *CHOICE.get_or_init(|| choose(std::env::var("OXON_ISA").ok().as_deref()))
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
        }
    }
}

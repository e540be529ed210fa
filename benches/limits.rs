//! The machine's limits, which the figures of `compare.py` are held against: `cargo bench --bench limits`.
//! Multiply-adds in float32 from registers alone, and bytes read from, copied within and written to memory,
//! on one thread and on all. The best of many short runs, since whatever disturbs one makes it slower. With
//! `OXON_ISA=avx2` the multiply-adds are AVX2's. It needs nothing but itself: `compare.py --limits` compiles it alone.

use std::hint::black_box;
use std::time::{Duration, Instant};

fn main() {
    let all = std::thread::available_parallelism().map_or(1, |n| n.get());
    println!("{:34}{:>14}{:>14}", "", "1 thread", format!("{all} threads"));
    line("float32 multiply-adds (GFLOP/s)", all, |_| {
        const ROUNDS: usize = 100_000;
        ROUNDS as f64 * multiply_adds(ROUNDS)
    });
    for (name, bytes) in
        [("256 KiB", 256 << 10), ("4 MiB", 4 << 20), ("32 MiB", 32 << 20), ("256 MiB", 256 << 20)]
    {
        line(&format!("read {name} (GB/s)"), all, |memory| {
            let part = &memory[..bytes / 8];
            black_box(part.iter().fold(0u64, |sum, x| sum.wrapping_add(*x)));
            bytes as f64
        });
        line(&format!("copy within {name} (GB/s moved)"), all, |memory| {
            let (from, to) = memory[..bytes / 8].split_at_mut(bytes / 16);
            to.copy_from_slice(black_box(from));
            bytes as f64
        });
    }
}

/// Prints the best rate of `work`, which tells how much it did, on one thread and on all.
fn line(name: &str, all: usize, work: impl Fn(&mut [u64]) -> f64 + Sync) {
    let rates = [1, all].map(|threads| {
        let each = || {
            let mut memory = vec![1u64; (256 << 20) / 8];
            let (mut best, begin) = (0f64, Instant::now());
            while begin.elapsed() < Duration::from_millis(500) {
                let start = Instant::now();
                let done = work(&mut memory);
                best = best.max(done / start.elapsed().as_secs_f64() / 1e9);
            }
            best
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(each)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(0.0)).sum::<f64>()
        })
    });
    println!("{name:34}{:14.1}{:14.1}", rates[0], rates[1]);
}

/// Runs a loop of independent multiply-adds so often; gives the operations of one round.
fn multiply_adds(rounds: usize) -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        let narrow = std::env::var("OXON_ISA").is_ok_and(|isa| isa == "avx2");
        if !narrow && std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the instructions.
            return unsafe { avx512(rounds) };
        }
        if std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            return unsafe { avx2(rounds) };
        }
    }
    portable::<4>(rounds)
}

/// Chains enough to hide the latency of two units, few enough for the registers.
const CHAINS: usize = 12;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(rounds: usize) -> f64 {
    use std::arch::x86_64::*;
    let (a, b) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.25)));
    let mut sums = [_mm512_set1_ps(1.0); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, a, b);
        }
    }
    black_box(sums);
    (2 * CHAINS * 16) as f64
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(rounds: usize) -> f64 {
    use std::arch::x86_64::*;
    let (a, b) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(0.25)));
    let mut sums = [_mm256_set1_ps(1.0); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, a, b);
        }
    }
    black_box(sums);
    (2 * CHAINS * 8) as f64
}

/// What the compiler makes of it; on AArch64 that is NEON.
fn portable<const LANES: usize>(rounds: usize) -> f64 {
    let (a, b) = (black_box(0.5f32), black_box(0.25f32));
    let mut sums = [[1f32; LANES]; CHAINS];
    for _ in 0..rounds {
        for sum in sums.as_flattened_mut() {
            *sum = if cfg!(target_arch = "aarch64") { sum.mul_add(a, b) } else { *sum * a + b };
        }
    }
    black_box(sums);
    (2 * CHAINS * LANES) as f64
}

//! Pairs of words put in the order of the first, stably: by their rank where there are few, else by radix,
//! four bits a pass. The shaders' headers tell how.

use super::device::Device;
use super::memory::Buffer;
use super::pipeline::{Parameters, Source};
use super::scatter::whole;
use super::shaders::{Launch, RADIX_COUNT, RADIX_MOVE, RADIX_SCAN, RANK};
use crate::core::Result;

/// Pairs up to which the quadratic kernel is the faster one.
const FEW: usize = 2048;
/// Pairs that an invocation walks at least, and how many invocations walk at most.
const EACH: usize = 64;
const CHUNKS: usize = 4096;

/// `count` pairs sorted by their keys, which are below `limit` or all ones.
pub(super) fn by_key(device: &Device, pairs: Buffer, count: usize, limit: usize) -> Result<Buffer> {
    let shared = device.shared();
    if count < 2 {
        return Ok(pairs);
    }
    let mut sorted = device.alloc(8 * count)?;
    if count <= FEW {
        let launch = Launch {
            variant: &[],
            bindings: &[whole(&pairs), whole(&sorted)],
            words: &[count as u32],
            groups: [count.div_ceil(256) as u32, 1],
        };
        RANK.launch(shared, &mut shared.recorder(), &launch, String::new)?;
        return Ok(sorted);
    }
    let mut pairs = pairs;
    let each = count.div_ceil(CHUNKS).max(EACH);
    let chunks = count.div_ceil(each);
    let counts = device.alloc(4 * 16 * chunks)?;
    // No key's digits are all ones, so those that are come last.
    let bits = usize::BITS - limit.leading_zeros();
    for shift in (0..bits).step_by(4) {
        let words = [count as u32, chunks as u32, each as u32, shift];
        let groups = [chunks.div_ceil(64) as u32, 1];
        let (from, to, of) = (whole(&pairs), whole(&sorted), whole(&counts));
        let mut recorder = shared.recorder();
        let launch = Launch { variant: &[], bindings: &[from, of], words: &words, groups };
        RADIX_COUNT.launch(shared, &mut recorder, &launch, String::new)?;
        let scan = Launch { variant: &[], bindings: &[of], words: &[16 * chunks as u32], groups: [1, 1] };
        RADIX_SCAN.launch(shared, &mut recorder, &scan, String::new)?;
        let launch = Launch { variant: &[], bindings: &[from, of, to], words: &words, groups };
        RADIX_MOVE.launch(shared, &mut recorder, &launch, String::new)?;
        drop(recorder);
        std::mem::swap(&mut pairs, &mut sorted);
    }
    Ok(pairs)
}

/// The shaders of this file.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    [&RANK, &RADIX_COUNT, &RADIX_SCAN, &RADIX_MOVE]
        .map(|shader| (shader.name.to_string(), shader.source("", parameters)))
        .into()
}

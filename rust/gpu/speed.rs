//! What a device does at best, the yardstick that kernels are held against, and what recording them costs while
//! somebody asks. Nothing here computes anything.

use super::device::Device;
use super::pipeline::{Parameters, Source};
use super::pointwise::Window;
use super::shaders::{Launch, MULTIPLY_ADDS};
use super::{open, rows::too_large};
use crate::core::Result;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

static WATCHED: AtomicBool = AtomicBool::new(false);
/// Kernels, bind groups, and nanoseconds in [`super::run`] and, of these, in submissions.
static COUNTS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// What recording has cost.
#[derive(Clone, Copy, Debug)]
pub struct Recording {
    pub kernels: u64,
    /// Made anew, for buffers that no kernel had together before.
    pub bind_groups: u64,
    /// From a planned kernel to the command, without submissions.
    pub recording: Duration,
    pub submitting: Duration,
}

/// Begins to count afresh what recording costs, or ends it, and tells what was counted.
pub fn watch(on: bool) -> Recording {
    let [kernels, bind_groups, all, submitting] = [0, 1, 2, 3].map(|i| COUNTS[i].swap(0, Ordering::Relaxed));
    WATCHED.store(on, Ordering::Relaxed);
    let recording = Duration::from_nanos(all.saturating_sub(submitting));
    Recording { kernels, bind_groups, recording, submitting: Duration::from_nanos(submitting) }
}

/// The time, if somebody watches.
pub(super) fn clock() -> Option<Instant> {
    WATCHED.load(Ordering::Relaxed).then(Instant::now)
}

/// What [`note`] counts.
#[derive(Clone, Copy)]
pub(super) enum Noted {
    Kernel,
    BindGroup,
    Run,
    Submit,
}

/// Counts what began at `start`: one, or its time.
pub(super) fn note(what: Noted, start: Option<Instant>) {
    let Some(start) = start else { return };
    let amount = match what {
        Noted::Kernel | Noted::BindGroup => 1,
        Noted::Run | Noted::Submit => start.elapsed().as_nanos() as u64,
    };
    COUNTS[what as usize].fetch_add(amount, Ordering::Relaxed);
}

/// Operations that an invocation of `multiply_adds` does in a turn.
const PER_TURN: f64 = 8.0 * 4.0 * 4.0 * 2.0;
const GROUPS: u32 = 8192;
const LANES: f64 = 256.0;
/// A measured stretch is at least this long, so that submission and waiting matter little.
const STRETCH: Duration = Duration::from_millis(30);
/// Bytes of a copy: more than any cache holds.
const COPIED: usize = 256 << 20;
const ROUNDS: usize = 5;

/// Operations in float32 and bytes copied, both a second.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    pub multiply_adds: f64,
    /// Each byte counts twice, as read and as written.
    pub copied: f64,
}

/// Measures the adapter at a place.
pub fn speed(at: usize) -> Result<Speed> {
    let device = open(at)?;
    Ok(Speed { multiply_adds: multiply_adds(&device)?, copied: copied(&device)? })
}

fn multiply_adds(device: &Device) -> Result<f64> {
    let shared = device.shared();
    let y = device.alloc(4)?;
    let Some(window) = Window::new(shared, &y, 0, 0, 4) else { return Err(too_large("speed", shared)) };
    let turn = |turns: u32| {
        let words = [turns, 0.875f32.to_bits(), 0.125f32.to_bits()];
        let launch = Launch { variant: &[], bindings: &[window.binding], words: &words, groups: [GROUPS, 1] };
        MULTIPLY_ADDS.launch(shared, &mut shared.recorder(), &launch, String::new)
    };
    // Longer and longer dispatches, none of which runs for a second.
    let mut turns = 1;
    while best(device, || turn(turns))? < STRETCH && turns < 1 << 20 {
        turns *= 2;
    }
    let time = best(device, || turn(turns))?;
    Ok(f64::from(GROUPS) * LANES * PER_TURN * f64::from(turns) / time.as_secs_f64())
}

fn copied(device: &Device) -> Result<f64> {
    let most = device.shared().limits.max_buffer_size.min(COPIED as u64) as usize / 4 * 4;
    let (from, to) = (device.alloc(most)?, device.alloc(most)?);
    let mut copies = 1;
    let time = loop {
        let time = best(device, || (0..copies).try_for_each(|_| from.copy_to(0, &to, 0, most)))?;
        if time >= STRETCH || copies >= 1 << 10 {
            break time;
        }
        copies *= 2;
    };
    Ok((2 * most * copies) as f64 / time.as_secs_f64())
}

/// The shortest of some rounds, the first of which warms up, from recording to the end of the work.
fn best(device: &Device, mut record: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut best = Duration::MAX;
    for round in 0..=ROUNDS {
        device.synchronize()?;
        let start = Instant::now();
        record()?;
        device.synchronize()?;
        if round > 0 {
            best = best.min(start.elapsed());
        }
        // A slow device needs no second opinion.
        if round > 0 && best > 4 * STRETCH {
            break;
        }
    }
    Ok(best)
}

/// All variants of the shaders of this file.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    vec![("multiply_adds".into(), MULTIPLY_ADDS.source("", parameters))]
}

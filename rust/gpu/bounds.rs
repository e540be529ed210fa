//! Indices that turn out to be outside their axis while a kernel runs. Such a kernel neither reads nor
//! writes there, but leaves the index in a word of a small buffer of the device. The words travel with
//! every read-back and with `synchronize`, which then is an error that names the operation and where it was asked
//! for, and are made zero again.

use crate::bail;
use crate::core::Result;
use std::cell::RefCell;
use std::sync::Arc;

/// Words of the buffer. More kinds of checks than that between two read-backs share the last word.
pub(super) const SLOTS: usize = 1024;

/// What one word tells of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Check {
    pub op: &'static str,
    pub axis: usize,
    pub size: usize,
}

thread_local! {
    /// Where the user asked for what this thread is recording.
    static LINE: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Records kernels that the user asked for at `line`, which errors that come later name.
pub fn asked_for_at<T>(line: Option<&Arc<str>>, record: impl FnOnce() -> T) -> T {
    LINE.replace(line.cloned());
    let done = record();
    LINE.take();
    done
}

/// The checks recorded since the last read-back, in the order of their words, each with its line.
#[derive(Default)]
pub(super) struct Checks(Vec<(Check, Option<Arc<str>>)>);

impl Checks {
    /// The word that a kernel with this check reports to.
    pub fn slot(&mut self, check: Check) -> u32 {
        LINE.with_borrow(|line| {
            let same = |known: &(Check, Option<Arc<str>>)| known.0 == check && known.1 == *line;
            let at = self.0.iter().position(same).unwrap_or(self.0.len());
            if at == self.0.len() && at < SLOTS {
                self.0.push((check, line.clone()));
            }
            at.min(SLOTS - 1) as u32
        })
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// An error if a kernel has reported. `words` are those of these checks; a word is 0 or the largest bad
    /// index, held within 32 bits and moved up by 2³¹.
    pub fn verdict(&self, words: &[u8]) -> Result<()> {
        for ((Check { op, axis, size }, line), word) in self.0.iter().zip(words.chunks_exact(4)) {
            let index = match u32::from_ne_bytes([word[0], word[1], word[2], word[3]]) {
                0 => continue,
                1 => "-2147483647 or less".to_string(),
                u32::MAX => "2147483647 or more".to_string(),
                word => (word ^ 1 << 31).cast_signed().to_string(),
            };
            let line = line.as_ref().map(|line| format!(" (asked for at {line})")).unwrap_or_default();
            bail!(Index, "{op}: index {index} is out of range for axis {axis} of size {size}{line}");
        }
        Ok(())
    }
}

//! How a total is cut into parts of nearly the same length. What is done with the parts is the callers' affair.

use std::ops::Range;

/// A total split into parts that differ by one at most.
#[derive(Clone, Copy)]
pub struct Even {
    pub parts: usize,
    base: usize,
    longer: usize,
}

impl Even {
    pub fn new(total: usize, parts: usize) -> Even {
        // Small products have one part of everything, and no time for divisions.
        if parts == 1 {
            return Even { parts, base: total, longer: 0 };
        }
        Even { parts, base: total / parts, longer: total % parts }
    }

    /// As few parts as are needed for none to be longer than `most`.
    pub fn at_most(total: usize, most: usize) -> Even {
        Even::new(total, if total <= most { 1 } else { total.div_ceil(most) })
    }

    pub fn iter(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.parts).map(move |i| self.part(i))
    }

    pub fn part(&self, i: usize) -> Range<usize> {
        let start = i * self.base + i.min(self.longer);
        start..start + self.base + (i < self.longer) as usize
    }
}

//! On which processor a parked worker wakes: never on the waker's.
//!
//! Linux wakes a sleeper on the waker's own processor unless it finds an idle one, and in a virtual machine
//! it finds none: a halted virtual processor counts as taken away by the host (`vcpu_is_preempted`). The
//! two then share a processor for milliseconds beside an idle one. So whoever wakes a worker forbids it
//! that processor until it runs.

#[cfg(target_os = "linux")]
pub use linux::Place;

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::atomic::{AtomicI32, Ordering::*};

    #[derive(Default)]
    pub struct Place {
        thread: AtomicI32,
        /// One more than the processor that it may not wake on; 0 if it may wake on any.
        forbidden: AtomicI32,
    }

    impl Place {
        /// The worker is about to park.
        pub fn leave(&self) {
            // Published by the worker's store that it is parked.
            if self.thread.load(Relaxed) == 0 {
                // SAFETY: a question without arguments.
                self.thread.store(unsafe { libc::gettid() }, Relaxed);
            }
        }

        /// The worker runs again, and may run anywhere.
        pub fn arrive(&self) {
            let processor = self.forbidden.swap(0, Acquire) - 1;
            if processor >= 0 {
                allow(0, processor as usize, true);
            }
        }

        /// Called by whoever is about to wake the worker.
        pub fn keep_off_mine(&self) {
            // SAFETY: a question without arguments.
            let mine = unsafe { libc::sched_getcpu() };
            if mine >= 0 && allow(self.thread.load(Relaxed), mine as usize, false) {
                self.forbidden.store(mine + 1, Release);
            }
        }
    }

    /// Adds a processor to those that a thread (0 is this one) may run on, or takes it from them. Changes
    /// nothing where none would be left. A refusal by the system costs time only.
    fn allow(thread: i32, processor: usize, yes: bool) -> bool {
        if processor >= libc::CPU_SETSIZE as usize {
            return false;
        }
        // SAFETY: the set is plain bits, as large as the calls are told, and has a bit for the processor.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            if libc::sched_getaffinity(thread, size_of_val(&set), &mut set) != 0 {
                return false;
            }
            if libc::CPU_ISSET(processor, &set) == yes {
                return false;
            }
            if yes {
                libc::CPU_SET(processor, &mut set);
            } else {
                libc::CPU_CLR(processor, &mut set);
            }
            libc::CPU_COUNT(&set) > 0 && libc::sched_setaffinity(thread, size_of_val(&set), &set) == 0
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    /// Other systems place threads themselves.
    #[derive(Default)]
    pub struct Place;

    impl Place {
        pub fn leave(&self) {}
        pub fn arrive(&self) {}
        pub fn keep_off_mine(&self) {}
    }
}

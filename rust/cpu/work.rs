//! What kernels share when they split their work: code compiled for the processor at hand, chunks that
//! can fail, buffers written by several threads, and typed temporaries. No kernel lives here.

use super::isa::{self, Isa};
use super::memory::Memory;
use super::threads::parallel;
use crate::core::{Error, Result};
use parking_lot::Mutex;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// About how many elements a chunk of a memory-bound kernel has: enough to outweigh handing it to a
/// thread, few enough to stay in a core's own cache.
pub const GRAIN: usize = 1 << 16;

/// Runs `f` compiled for the vector instructions of this processor. `f` and the loops that it calls
/// must be `#[inline(always)]`: what is not inlined into here keeps the compiler's baseline.
#[inline(always)]
pub fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    match isa::get() {
        // SAFETY: `isa::get` gives levels that this processor supports.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512(f) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2(f) },
        // NEON is part of the baseline of AArch64.
        _ => f(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
fn avx512<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// `parallel` for chunks that can fail; gives the error of the lowest chunk that did.
pub fn try_parallel(chunks: usize, f: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    parallel(chunks, |chunk| {
        if let Err(error) = f(chunk) {
            let mut first = failed.lock();
            if first.as_ref().is_none_or(|&(other, _)| chunk < other) {
                *first = Some((chunk, error));
            }
        }
    });
    failed.into_inner().map_or(Ok(()), |(_, error)| Err(error))
}

/// A buffer whose parts are written by several threads, each part by one.
pub struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: an address alone; `slice` says what makes its use sound.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn new(ptr: *mut T) -> Shared<T> {
        Shared(ptr)
    }

    pub fn at(self, index: usize) -> *mut T {
        self.0.wrapping_add(index)
    }

    /// Elements `start .. start + len`.
    ///
    /// # Safety
    /// They must be in the buffer, and nobody else may use them as long as the slice lives.
    pub unsafe fn slice<'a>(self, start: usize, len: usize) -> &'a mut [T] {
        // SAFETY: what the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

/// A temporary array of plain values.
pub struct Temp<T> {
    memory: Memory,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Copy> Temp<T> {
    pub fn filled(len: usize, value: T) -> Result<Temp<T>> {
        let memory = Memory::alloc(len.saturating_mul(size_of::<T>()))?;
        let ptr = memory.ptr().cast::<T>();
        for i in 0..len {
            // SAFETY: the block has room for `len` elements and is aligned for any plain type.
            unsafe { ptr.add(i).write(value) };
        }
        Ok(Temp { memory, len, element: PhantomData })
    }

    pub fn shared(&mut self) -> Shared<T> {
        Shared(self.as_mut_ptr())
    }
}

impl<T> Deref for Temp<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `filled` has written all `len` elements.
        unsafe { std::slice::from_raw_parts(self.memory.ptr().cast(), self.len) }
    }
}

impl<T> DerefMut for Temp<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the block belongs to this value alone.
        unsafe { std::slice::from_raw_parts_mut(self.memory.ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_failing_chunk_is_told() {
        for _ in 0..50 {
            let result = try_parallel(40, |i| match i {
                7 | 20 | 39 => Err(Error::Value(format!("chunk {i}"))),
                _ => Ok(()),
            });
            assert_eq!(result, Err(Error::Value("chunk 7".into())));
        }
        assert_eq!(try_parallel(3, |_| Ok(())), Ok(()));
    }

    #[test]
    fn temporaries_hold_what_they_are_filled_with() {
        let mut t = Temp::filled(1000, 7u64).unwrap();
        assert!(t.iter().all(|&x| x == 7));
        t[3] = 1;
        assert_eq!(t.iter().sum::<u64>(), 6994);
        assert!(Temp::filled(usize::MAX / 2, 0u64).is_err());
    }
}

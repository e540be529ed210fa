//! A forked child has the forking thread only, and a copy of the pool whose workers do not exist.

/// Gives children of this process a fresh pool. Called once for each pool that is made.
#[cfg(unix)]
pub fn watch() {
    use std::sync::Once;
    unsafe extern "C" fn forget_pool() {
        // The old pool is leaked: its locks may be held for ever by threads that are gone.
        super::POOL.store(std::ptr::null_mut(), super::Release);
    }
    static ONCE: Once = Once::new();
    // SAFETY: the handler is a plain function that does one atomic store. If the registration
    // fails for want of memory, only forked children lose parallelism's safety.
    ONCE.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(forget_pool));
    });
}

#[cfg(not(unix))]
pub fn watch() {}

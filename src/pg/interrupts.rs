//! Interrupts, and running work on other threads while the backend stays able to serve them.

use pgrx::pg_sys;

/// Serves pending interrupts: raises an ERROR for a cancel, ends the session for a terminate.
pub fn check() {
    pgrx::check_for_interrupts!();
}

/// Whether a cancel or a terminate is waiting to be served.
pub fn stop_wanted() -> bool {
    // SAFETY: plain flags that signal handlers of this process set; read as volatile, only their zeroness matters.
    unsafe {
        std::ptr::read_volatile(&raw const pg_sys::QueryCancelPending) != 0
            || std::ptr::read_volatile(&raw const pg_sys::ProcDiePending) != 0
    }
}

/// Runs `f` with all signals blocked in this thread, so that threads made by `f` never run the server's handlers.
pub fn with_signals_blocked<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: restores the mask saved below.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
        }
    }
    // SAFETY: both sets are initialised before they are read; the mask is restored even if `f` unwinds.
    let _restore = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut old: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        Restore(old)
    };
    f()
}

/// Runs `work` on a private pool of `threads` threads while this thread waits and watches for a cancel or terminate;
/// then `work` is told to stop through the flag it is given, all threads are joined, and the interrupt is served.
/// `work` must not touch the server.
pub fn run_on_threads<R: Send>(
    threads: usize,
    work: impl FnOnce(&std::sync::atomic::AtomicBool) -> R + Send,
) -> R {
    use std::sync::atomic::{AtomicBool, Ordering};
    let stop = AtomicBool::new(false);
    let done = AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        let (stop, done) = (&stop, &done);
        let this = std::thread::current();
        let worker = with_signals_blocked(|| {
            scope.spawn(move || {
                let result = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build_scoped(|thread| thread.run(), |pool| pool.install(|| work(stop)));
                done.store(true, Ordering::Release);
                this.unpark();
                result
            })
        });
        while !done.load(Ordering::Acquire) && !worker.is_finished() {
            std::thread::park_timeout(std::time::Duration::from_millis(10));
            if stop_wanted() {
                stop.store(true, Ordering::Relaxed);
            }
        }
        worker.join()
    });
    check();
    match result {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => {
            crate::am::errors::raise_internal(format!("could not start worker threads: {error}"))
        }
        Err(_) => crate::am::errors::raise_internal("a worker thread failed".to_string()),
    }
}

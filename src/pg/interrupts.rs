//! Interrupts, and running work on other threads while the backend stays able to serve them.
//!
//! Other backends wait for this one: DROP DATABASE, for instance, until every backend has answered a barrier. So the backend's own
//! thread serves interrupts while others work, but only those that cannot end the session. An end of the session runs exit handlers,
//! of the C++ libraries too, under threads that are still at work: for what may end it the threads are stopped and *joined* first. An
//! interrupt that raises an ERROR reaches us as a panic; it goes on as soon as the threads are joined.

use super::memory;
use pgrx::pg_sys;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Serves pending interrupts: raises an ERROR for a cancel, ends the session for a terminate. Also raises one if memory has run out.
pub fn check() {
    memory::check();
    pgrx::check_for_interrupts!();
}

/// Whether `check` would serve an interrupt now.
fn waits() -> bool {
    // SAFETY: plain reads of this process's own variables; the first is set by signal handlers, hence volatile.
    unsafe {
        (&raw const pg_sys::InterruptPending).read_volatile() != 0
            && pg_sys::InterruptHoldoffCount == 0
            && pg_sys::QueryCancelHoldoffCount == 0
            && pg_sys::CritSectionCount == 0
    }
}

/// Whether what waits asks for the end of the statement or of the session.
fn end_waits() -> bool {
    // SAFETY: flags that signal handlers of this process set; read as volatile, only their zeroness matters.
    unsafe {
        let set = |flag: *const pg_sys::sig_atomic_t| flag.read_volatile() != 0;
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        if set(&raw const pg_sys::TransactionTimeoutPending) {
            return true;
        }
        set(&raw const pg_sys::QueryCancelPending)
            || set(&raw const pg_sys::ProcDiePending)
            || set(&raw const pg_sys::ClientConnectionLost)
            || set(&raw const pg_sys::IdleInTransactionSessionTimeoutPending)
            || set(&raw const pg_sys::IdleSessionTimeoutPending)
    }
}

unsafe extern "C-unwind" {
    /// The server's, from libpq/libpq.h: whether the client is still there. Does not block.
    fn pq_check_connection() -> bool;
}

/// Looks after interrupts, on the backend's own thread, while other threads work.
pub struct Watch {
    /// When the client is to be looked for next, where a check was due (`client_connection_check_interval`).
    client_check: Cell<Option<Instant>>,
    /// Stop also for what is not known to be harmless.
    careful: bool,
    out_of_memory: Cell<bool>,
}

impl Watch {
    /// On a standby, conflicts with recovery may end a session and cannot be told from other interrupts. A `careful` watch stops the work
    /// for any interrupt there; one that is not, for those only that surely ask for it.
    pub fn new(careful: bool) -> Watch {
        Watch { client_check: Cell::new(None), careful, out_of_memory: Cell::new(false) }
    }

    /// To be called every few milliseconds. Serves what is harmless. True if the work has to be given up: then the threads are to be
    /// joined, and `Watch::end` called. May raise an ERROR: the threads are to be stopped and joined before that goes on.
    pub fn must_stop(&self) -> bool {
        if memory::is_exhausted() {
            self.out_of_memory.set(true);
            return true;
        }
        if self.client_is_gone() {
            return true;
        }
        if !waits() {
            return false;
        }
        // No signal handler can set another flag between the look at the flags and their service.
        with_signals_blocked(|| {
            self.put_off_client_check();
            // SAFETY: a plain question about this process's state.
            if end_waits() || (self.careful && unsafe { pg_sys::RecoveryInProgress() }) {
                return true;
            }
            // SAFETY: as above.
            if !unsafe { pg_sys::RecoveryInProgress() } {
                pgrx::check_for_interrupts!();
            }
            false
        })
    }

    /// Serves the interrupt for which the work was given up, which mostly raises an ERROR or ends the session.
    pub fn end(self) {
        if self.out_of_memory.get() {
            memory::raise_exhausted();
        }
        drop(self);
        check();
    }

    /// The server's own check would end the session then and there. So it waits until the work is done, and meanwhile the client is
    /// looked for here, as often as asked for.
    fn put_off_client_check(&self) {
        // SAFETY: this process's own variables; signals are blocked, so that no handler writes to the flag meanwhile.
        unsafe {
            if pg_sys::CheckClientConnectionPending != 0 && pg_sys::client_connection_check_interval > 0 {
                pg_sys::CheckClientConnectionPending = 0;
                self.client_check.set(Some(Instant::now()));
            }
        }
    }

    fn client_is_gone(&self) -> bool {
        let Some(due) = self.client_check.get() else { return false };
        if Instant::now() < due {
            return false;
        }
        // SAFETY: reads a setting; the check is only ever due in a backend that has a client, and an error that it raises is caught at
        // the boundary.
        unsafe {
            let interval = Duration::from_millis(pg_sys::client_connection_check_interval.max(100) as u64);
            self.client_check.set(Some(Instant::now() + interval));
            !pg_sys::ffi::pg_guard_ffi_boundary(|| pq_check_connection())
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.client_check.get().is_some() {
            // SAFETY: flags of this process, set as the server's timeout handler sets them.
            unsafe {
                (&raw mut pg_sys::CheckClientConnectionPending).write_volatile(1);
                (&raw mut pg_sys::InterruptPending).write_volatile(1);
            }
        }
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

/// How often the waiting thread looks for interrupts.
const POLL: Duration = Duration::from_millis(10);

/// Runs `work` on a private pool of `threads` threads while this thread waits and looks after interrupts. For one that ends the
/// statement `work` is told to stop through the flag it is given, all threads are joined, and only then the interrupt is served.
/// `work` must not touch the server.
pub fn run_on_threads<R: Send>(threads: usize, work: impl FnOnce(&AtomicBool) -> R + Send) -> R {
    memory::demand();
    let stop = AtomicBool::new(false);
    let done = AtomicBool::new(false);
    let watch = Watch::new(false);
    let result = std::thread::scope(|scope| {
        let (stop, done) = (&stop, &done);
        let this = std::thread::current();
        let run = move || {
            let result = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build_scoped(|thread| thread.run(), |pool| pool.install(|| work(stop)));
            done.store(true, Ordering::Release);
            this.unpark();
            result.map_err(|error| error.to_string())
        };
        let worker = match with_signals_blocked(|| std::thread::Builder::new().spawn_scoped(scope, run)) {
            Ok(worker) => worker,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mut raised = None;
        while !done.load(Ordering::Acquire) && !worker.is_finished() {
            std::thread::park_timeout(POLL);
            if stop.load(Ordering::Relaxed) {
                continue;
            }
            match catch_unwind(AssertUnwindSafe(|| watch.must_stop())) {
                Ok(must_stop) => stop.store(must_stop, Ordering::Relaxed),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    raised = Some(error);
                }
            }
        }
        let result = worker.join();
        match raised {
            Some(error) => resume_unwind(error),
            None => result,
        }
    });
    watch.end();
    match result {
        Ok(Ok(result)) => result,
        Ok(Err(reason)) => crate::am::errors::raise_no_threads(&reason),
        Err(_) => crate::am::errors::raise_internal("a worker thread failed".to_string()),
    }
}

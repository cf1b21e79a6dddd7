//! One piece of shared memory with one lock, asked for while the library is preloaded.

use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::CStr;
use std::sync::atomic::AtomicU64;

/// Words at the beginning that are counters, changed without the lock.
const COUNTERS: usize = 2;
/// Name of the piece and of its lock's tranche.
const NAME: &CStr = c"leann cache";

/// Set in the postmaster, inherited by every backend through fork.
struct State {
    wanted: Cell<usize>,
    start: Cell<*mut u64>,
    lock: Cell<*mut pg_sys::LWLock>,
    previous_request: Cell<pg_sys::shmem_request_hook_type>,
    previous_startup: Cell<pg_sys::shmem_startup_hook_type>,
}

thread_local! {
    static STATE: State = const {
        State {
            wanted: Cell::new(0),
            start: Cell::new(std::ptr::null_mut()),
            lock: Cell::new(std::ptr::null_mut()),
            previous_request: Cell::new(None),
            previous_startup: Cell::new(None),
        }
    };
}

/// Whether the library is being preloaded, the only time when shared memory can be asked for.
pub fn preloading() -> bool {
    // SAFETY: a plain read of this process's variable.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Asks for so many words, zero at first, and two counters. To be called while preloading.
pub fn ask_for(words: usize) {
    STATE.with(|state| {
        state.wanted.set(COUNTERS + words);
        // SAFETY: hooks are set while the postmaster has one thread; those before are called first.
        unsafe {
            state.previous_request.set(pg_sys::shmem_request_hook);
            pg_sys::shmem_request_hook = Some(on_request);
            state.previous_startup.set(pg_sys::shmem_startup_hook);
            pg_sys::shmem_startup_hook = Some(on_startup);
        }
    });
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_request() {
    STATE.with(|state| {
        // SAFETY: called by the server at the time for it.
        unsafe {
            if let Some(previous) = state.previous_request.get() {
                pg_sys::ffi::pg_guard_ffi_boundary(|| previous());
            }
            pg_sys::RequestAddinShmemSpace(state.wanted.get() * size_of::<u64>());
            pg_sys::RequestNamedLWLockTranche(NAME.as_ptr(), 1);
        }
    });
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_startup() {
    STATE.with(|state| {
        // SAFETY: called by the server at the time for it, in the postmaster, which is alone then: also after a crash,
        // when it makes all shared memory anew. The piece is as large as asked for and aligned for any type.
        unsafe {
            if let Some(previous) = state.previous_startup.get() {
                pg_sys::ffi::pg_guard_ffi_boundary(|| previous());
            }
            let mut found = false;
            let bytes = state.wanted.get() * size_of::<u64>();
            let start = pg_sys::ShmemInitStruct(NAME.as_ptr(), bytes, &mut found).cast::<u64>();
            if !found {
                start.write_bytes(0, state.wanted.get());
            }
            state.lock.set(&raw mut (*pg_sys::GetNamedLWLockTranche(NAME.as_ptr())).lock);
            state.start.set(start);
        }
    });
}

/// The memory behind the counters, with the lock held.
struct Held {
    lock: *mut pg_sys::LWLock,
    start: *mut u64,
    words: usize,
}

impl Held {
    /// None if there is no shared memory.
    fn take(mode: pg_sys::LWLockMode::Type) -> Option<Held> {
        STATE.with(|state| {
            let (start, lock) = (state.start.get(), state.lock.get());
            if start.is_null() {
                return None;
            }
            // SAFETY: lock and memory live as long as the server; the memory begins with the counters.
            unsafe {
                pg_sys::LWLockAcquire(lock, mode);
                Some(Held { lock, start: start.add(COUNTERS), words: state.wanted.get() - COUNTERS })
            }
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: taken in `take`, released once. After an ERROR the server would have released it already, but nothing
        // that is done under it can raise one.
        unsafe { pg_sys::LWLockRelease(self.lock) };
    }
}

/// Reads the memory under the lock in share mode; None if there is none. `f` must not raise errors.
pub fn read<R>(f: impl FnOnce(&[u64]) -> R) -> Option<R> {
    let held = Held::take(pg_sys::LWLockMode::LW_SHARED)?;
    // SAFETY: nobody writes to it while the lock is held.
    Some(f(unsafe { std::slice::from_raw_parts(held.start, held.words) }))
}

/// Changes the memory under the lock in exclusive mode; None if there is none. `f` must not raise errors.
pub fn change<R>(f: impl FnOnce(&mut [u64]) -> R) -> Option<R> {
    let held = Held::take(pg_sys::LWLockMode::LW_EXCLUSIVE)?;
    // SAFETY: nobody else reads or writes it while the lock is held.
    Some(f(unsafe { std::slice::from_raw_parts_mut(held.start, held.words) }))
}

/// The counters, which need no lock; None if there is no shared memory.
pub fn counters() -> Option<&'static [AtomicU64; COUNTERS]> {
    STATE.with(|state| {
        // SAFETY: null, or the beginning of the piece, which lives as long as the server and is only ever used atomically.
        unsafe { state.start.get().cast::<[AtomicU64; COUNTERS]>().as_ref() }
    })
}

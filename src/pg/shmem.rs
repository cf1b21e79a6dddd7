//! One piece of shared memory with one lock, requested while the library is preloaded. It has a part for each
//! of its users.

use crate::session::{self, State};
use pgrx::pg_sys;
use std::ffi::CStr;
use std::sync::atomic::AtomicU64;

/// Words at the beginning of the memory that are counters, changed without the lock.
const COUNTER_WORDS: usize = 2;
/// Name of the memory and of its lock's tranche.
const NAME: &CStr = c"leann cache";

/// The parts of the memory, in their order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What searches did, index by index.
    Statistics,
    /// Embeddings.
    Cache,
}

/// The shared memory. The postmaster sets this, and every backend inherits it through fork.
#[derive(Clone, Copy)]
struct SharedMemory {
    statistics_words: usize,
    cache_words: usize,
    start: *mut u64,
    lock: *mut pg_sys::LWLock,
    previous_request: pg_sys::shmem_request_hook_type,
    previous_startup: pg_sys::shmem_startup_hook_type,
}

impl Default for SharedMemory {
    fn default() -> SharedMemory {
        let (start, lock) = (std::ptr::null_mut(), std::ptr::null_mut());
        SharedMemory {
            statistics_words: 0,
            cache_words: 0,
            start,
            lock,
            previous_request: None,
            previous_startup: None,
        }
    }
}

impl SharedMemory {
    /// Returns the words of the whole memory.
    fn words(&self) -> usize {
        COUNTER_WORDS + self.statistics_words + self.cache_words
    }

    /// Returns where a part begins, and its words.
    fn part(&self, part: Part) -> (usize, usize) {
        match part {
            Part::Statistics => (COUNTER_WORDS, self.statistics_words),
            Part::Cache => (COUNTER_WORDS + self.statistics_words, self.cache_words),
        }
    }
}

impl State for SharedMemory {}

/// Requests two counters and so many words for each part, all zero at first. Call it while preloading.
pub fn request(statistics_words: usize, cache_words: usize) {
    // SAFETY: hooks are set while the postmaster has one thread; the previous ones are called first.
    unsafe {
        session::with(|memory: &mut SharedMemory| {
            (memory.statistics_words, memory.cache_words) = (statistics_words, cache_words);
            memory.previous_request = pg_sys::shmem_request_hook;
            memory.previous_startup = pg_sys::shmem_startup_hook;
        });
        pg_sys::shmem_request_hook = Some(on_request);
        pg_sys::shmem_startup_hook = Some(on_startup);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_request() {
    let memory: SharedMemory = session::get();
    // SAFETY: the server calls the hook when memory may be requested.
    unsafe {
        if let Some(previous) = memory.previous_request {
            pg_sys::ffi::pg_guard_ffi_boundary(|| previous());
        }
        pg_sys::RequestAddinShmemSpace(memory.words() * size_of::<u64>());
        pg_sys::RequestNamedLWLockTranche(NAME.as_ptr(), 1);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_startup() {
    let memory: SharedMemory = session::get();
    // SAFETY: the server calls the hook when shared memory is to be set up, in the postmaster, which is alone
    // then. That is also so after a crash, when it sets up all shared memory again. The memory is as large as
    // requested and aligned for any type.
    unsafe {
        if let Some(previous) = memory.previous_startup {
            pg_sys::ffi::pg_guard_ffi_boundary(|| previous());
        }
        let mut found = false;
        let start = pg_sys::ShmemInitStruct(NAME.as_ptr(), memory.words() * size_of::<u64>(), &mut found)
            .cast::<u64>();
        if !found {
            start.write_bytes(0, memory.words());
        }
        let lock = &raw mut (*pg_sys::GetNamedLWLockTranche(NAME.as_ptr())).lock;
        session::with(|memory: &mut SharedMemory| (memory.start, memory.lock) = (start, lock));
    }
}

/// The words of a part, with the lock held.
struct LockedWords {
    lock: *mut pg_sys::LWLock,
    start: *mut u64,
    words: usize,
}

impl LockedWords {
    /// Takes the lock. Returns None if there is no shared memory.
    fn take(part: Part, mode: pg_sys::LWLockMode::Type) -> Option<LockedWords> {
        let memory: SharedMemory = session::get();
        let (first, words) = memory.part(part);
        if memory.start.is_null() || words == 0 {
            return None;
        }
        // SAFETY: lock and memory live as long as the server; the part is within the memory.
        unsafe {
            pg_sys::LWLockAcquire(memory.lock, mode);
            Some(LockedWords { lock: memory.lock, start: memory.start.add(first), words })
        }
    }
}

impl Drop for LockedWords {
    fn drop(&mut self) {
        // SAFETY: `take` took it, and it is released once. After an ERROR the server would have released it
        // already, but nothing that runs under the lock can raise one.
        unsafe { pg_sys::LWLockRelease(self.lock) };
    }
}

/// Reads the words of a part under the lock in share mode. Returns None if there is no such part. `f` must
/// not raise errors.
pub fn read<R>(part: Part, f: impl FnOnce(&[u64]) -> R) -> Option<R> {
    let held = LockedWords::take(part, pg_sys::LWLockMode::LW_SHARED)?;
    // SAFETY: no backend writes to the words while the lock is held.
    Some(f(unsafe { std::slice::from_raw_parts(held.start, held.words) }))
}

/// Changes the words of a part under the lock in exclusive mode. Returns None if there is no such part. `f`
/// must not raise errors.
pub fn change<R>(part: Part, f: impl FnOnce(&mut [u64]) -> R) -> Option<R> {
    let held = LockedWords::take(part, pg_sys::LWLockMode::LW_EXCLUSIVE)?;
    // SAFETY: no other backend reads or writes the words while the lock is held.
    Some(f(unsafe { std::slice::from_raw_parts_mut(held.start, held.words) }))
}

/// Returns the counters, which need no lock, or None if there is no shared memory.
pub fn counters() -> Option<&'static [AtomicU64; COUNTER_WORDS]> {
    // SAFETY: null, or the beginning of the memory, which lives as long as the server; the counters are only
    // accessed atomically.
    unsafe { session::get::<SharedMemory>().start.cast::<[AtomicU64; COUNTER_WORDS]>().as_ref() }
}

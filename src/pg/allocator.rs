//! Handles memory that runs out, and limits the freed memory that the C library keeps.
//!
//! **Out of memory.** When an allocation in Rust fails, the standard library aborts the process, and Postgres
//! then restarts the whole cluster. It should be an ERROR in one session. Two rules achieve that:
//!
//! - Whatever grows with the number of rows is allocated through `try_reserve`, here by [`reserve`], and
//!   raises an ERROR that names its purpose.
//! - All other allocations are small. When the system refuses a small allocation, the allocator below frees a
//!   *reserve* of some megabytes, tries again, and so succeeds; it only records that memory is exhausted. The
//!   next safe point (`interrupts::check`, or the thread that waits while others work) raises the ERROR,
//!   unless the reserve can be allocated again by then. No work begins on other threads without the reserve
//!   ([`demand`]).
//!
//! There are two reserves: what one thread frees, other threads and the C++ libraries may take. The second
//! reserve is for the backend's own thread, which has to stop the others and raise the ERROR.
//!
//! The ERROR cannot be raised where the allocation fails: an allocator must not unwind, because Rust code is
//! compiled on the assumption that it does not. Between a failed allocation and the next safe point the work
//! of a page, a batch or a row is done, which needs far less than the reserve. A worker thread for which even
//! the reserve does not suffice waits for a while: the waiting thread sees the record and stops the job,
//! which frees memory.
//!
//! **Freed memory.** A model needs some 10 MB while it runs on a long text. By default, glibc serves each
//! thread from an arena of its own and never returns the top of any arena but the first. That leaves an idle
//! backend with up to twice the memory it needs, and with a different amount in each backend.

use crate::error::Error;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::TryReserveError;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Duration;

/// Bytes of each reserve. It is never written to, so it takes address space but no memory.
const RESERVE_BYTES: usize = 4 << 20;
/// Bytes of the largest allocation that a reserve is freed for. A larger one must be one that may fail.
const MAX_RESCUED_BYTES: usize = RESERVE_BYTES / 4;
/// Bytes that the ONNX Runtime library and a small model take.
const PROBE_BYTES: usize = 64 << 20;
/// Longest time that a worker thread waits for a stopped job to free memory.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Time between two attempts of a worker thread to allocate.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Freed for any thread.
static SHARED_RESERVE: Reserve = Reserve::none();
/// Freed for the backend's own thread only.
static BACKEND_RESERVE: Reserve = Reserve::none();
/// Set when an allocation fails, cleared when both reserves are there again or the ERROR is raised.
static EXHAUSTED: AtomicBool = AtomicBool::new(false);

/// A block of memory that is only held to be freed when memory runs out.
struct Reserve(AtomicPtr<u8>);

impl Reserve {
    const LAYOUT: Layout = Layout::new::<[u64; RESERVE_BYTES / 8]>();

    const fn none() -> Reserve {
        Reserve(AtomicPtr::new(std::ptr::null_mut()))
    }

    fn is_there(&self) -> bool {
        !self.0.load(Ordering::Relaxed).is_null()
    }

    fn free(&self) {
        let block = self.0.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if !block.is_null() {
            // SAFETY: `fill` allocated it with this layout, and the swap gives it to no other thread.
            unsafe { System.dealloc(block, Reserve::LAYOUT) };
        }
    }

    /// Allocates the block if it is not there. Returns false if the system refuses it.
    fn fill(&self) -> bool {
        if self.is_there() {
            return true;
        }
        // SAFETY: the layout is not empty.
        let block = unsafe { System.alloc(Reserve::LAYOUT) };
        if block.is_null() {
            return false;
        }
        let before = self.0.swap(block, Ordering::AcqRel);
        if !before.is_null() {
            // SAFETY: another call allocated it with this layout, and the swap gives it to no other thread.
            unsafe { System.dealloc(before, Reserve::LAYOUT) };
        }
        true
    }
}

/// The allocator of all Rust code in this library: the system's allocator, backed by the reserves.
pub struct WithReserve;

// SAFETY: every pointer comes from `System` with the requested layout, or is null; no method unwinds or
// allocates by itself.
unsafe impl GlobalAlloc for WithReserve {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller of `alloc` promises what `System` asks for.
        unsafe { alloc_or_retry(layout.size(), || System.alloc(layout)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe { alloc_or_retry(layout.size(), || System.alloc_zeroed(layout)) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as in `alloc`. A failed attempt leaves the old block unchanged, so it can be repeated.
        unsafe { alloc_or_retry(size, || System.realloc(old, layout, size)) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`; every block is one of `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

fn alloc_or_retry(size: usize, attempt: impl Fn() -> *mut u8) -> *mut u8 {
    let block = attempt();
    if block.is_null() { retry_with_reserve(size, &attempt) } else { block }
}

/// Frees the shared reserve and tries again. If that does not suffice, the backend's own thread frees its
/// reserve, and a worker thread waits for memory. Returns null if nothing helped.
#[cold]
fn retry_with_reserve(size: usize, attempt: &dyn Fn() -> *mut u8) -> *mut u8 {
    if size > MAX_RESCUED_BYTES {
        return std::ptr::null_mut();
    }
    EXHAUSTED.store(true, Ordering::Relaxed);
    SHARED_RESERVE.free();
    let mut block = attempt();
    // SAFETY: plain calls about this process.
    if unsafe { libc::gettid() == libc::getpid() } {
        if block.is_null() {
            BACKEND_RESERVE.free();
            block = attempt();
        }
        return block;
    }
    let mut waited = Duration::ZERO;
    while block.is_null() && waited < MAX_WAIT {
        std::thread::sleep(RETRY_INTERVAL);
        waited += RETRY_INTERVAL;
        block = attempt();
    }
    block
}

/// Returns whether an allocation has failed since the reserves were last refilled.
pub fn is_exhausted() -> bool {
    EXHAUSTED.load(Ordering::Relaxed)
}

/// Returns whether the system would refuse as much memory as a library or a model takes.
pub fn is_scarce() -> bool {
    let mut probe: Vec<u8> = Vec::new();
    let refused = probe.try_reserve_exact(PROBE_BYTES).is_err();
    // Otherwise the compiler may optimize the allocation away.
    std::hint::black_box(&mut probe);
    refused
}

/// Serves as a safe point: raises an ERROR if an allocation has failed and memory is still scarce. Only the
/// backend's own thread may call it.
pub fn check() {
    let ready = SHARED_RESERVE.is_there() && BACKEND_RESERVE.is_there();
    if !ready && !refill() && is_exhausted() {
        raise_exhausted();
    }
}

/// Raises an ERROR unless both reserves are there. Call it before work that needs memory begins.
pub fn demand() {
    if !refill() {
        raise_exhausted();
    }
}

/// Allocates the reserves that are not there. Returns false if the system refuses one.
#[cold]
fn refill() -> bool {
    let fill = || BACKEND_RESERVE.fill() && SHARED_RESERVE.fill();
    let filled = fill() || {
        trim();
        fill()
    };
    if filled {
        EXHAUSTED.store(false, Ordering::Relaxed);
    }
    filled
}

/// Raises the ERROR for a small allocation that has failed somewhere.
pub fn raise_exhausted() -> ! {
    EXHAUSTED.store(false, Ordering::Relaxed);
    out_of_memory().detail("The system refused memory for a model, a sketch or a page.").raise()
}

/// Raises the ERROR for memory that was refused for the purpose `what`.
pub fn raise_no_room(what: &str) -> ! {
    out_of_memory().detail(format!("The system refused memory for {what}.")).raise()
}

/// Returns the ERROR for memory that was refused, without a detail.
pub fn out_of_memory() -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY, "out of memory")
}

/// Raises an ERROR that names the purpose `what` if a collection's `try_reserve` was refused.
pub fn expect_room(reserved: Result<(), TryReserveError>, what: &str) {
    if reserved.is_err() {
        raise_no_room(what);
    }
}

/// Raises an ERROR unless `bytes` more can be allocated. Call it before a text or vector of that size is
/// copied. A copy small enough for a reserve is not checked.
pub fn expect_copy(bytes: usize) {
    if bytes > MAX_RESCUED_BYTES {
        let mut copy = Vec::<u8>::new();
        let reserved = copy.try_reserve_exact(bytes);
        // Otherwise the compiler may optimize the allocation away.
        std::hint::black_box(&mut copy);
        expect_room(reserved, "a copy of a value");
    }
}

/// Reserves room for `more` values, as `Vec::reserve` does, or raises an ERROR that names them as `what`.
pub fn reserve<T>(values: &mut Vec<T>, more: usize, what: &str) {
    if values.capacity() - values.len() < more && values.try_reserve(more).is_err() {
        raise_no_room(what);
    }
}

/// Free memory up to this many bytes is kept for the next run: allocating it again would make embedding a
/// short text 10 % slower.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAX_KEPT_BYTES: u32 = 4 << 20;

/// Makes every thread that has yet to start allocate from the arena of the backend's own thread. Call it
/// before the first one starts. The server's own code is not affected, because it has only one thread.
pub fn share_one_arena() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets a parameter of the allocator, which takes its own lock for that.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Returns free memory to the system if there is more than a run needs.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: reads the allocator's counters, under its lock. The counters have 32 bits: beyond 4 GB they may
    // show too little, and a later call returns the memory.
    unsafe {
        if libc::mallinfo().fordblks as u32 > MAX_KEPT_BYTES {
            trim();
        }
    }
}

/// Returns all free memory to the system.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: touches free memory only, under the allocator's lock.
    unsafe {
        libc::malloc_trim(0);
    }
}

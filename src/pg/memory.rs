//! Memory: what happens when there is none left, and what the C library keeps of freed memory.
//!
//! **None left.** Where Rust cannot allocate, its standard library aborts the process, and Postgres then restarts the whole cluster. It
//! should be an ERROR in one session. Two things see to that:
//!
//! - Whatever grows with rows is allocated by `try_reserve`, here through [`reserve`], and raises an ERROR that says what it was for.
//! - Everything else is small. When the system refuses a small allocation, the allocator below gives up a *reserve* of some megabytes,
//!   tries again, and so succeeds; it only notes that memory is exhausted. The next safe point of ours (`interrupts::check`, or the thread
//!   that waits while others work) raises the ERROR, unless the reserve can be had again by then, in which case nothing was amiss. No work
//!   begins on other threads without the reserve ([`demand`]).
//!
//! There are two reserves: what one thread gives up, others may take, the C++ libraries too. The second is for the backend's own thread,
//! which has to stop the others and to raise the ERROR.
//!
//! Why not raise the ERROR where the allocation fails? An allocator must not unwind: Rust code is compiled on the assumption that it does
//! not. Between a failed allocation and the next safe point there is a page, a batch or a row's worth of work, which is far less than the
//! reserve. A worker thread for which even the reserve does not do waits for a while: the waiting thread has seen the note and stops the
//! job, which sets memory free.
//!
//! **Kept.** A model needs some 10 MB while it runs on a long text. glibc would serve each thread from an arena of its own, never give back
//! the top of any but the first, and so leave a backend that waits for its next statement with up to twice what it needs, and no two with
//! the same.

use crate::error::Error;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::TryReserveError;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Duration;

/// Bytes of each reserve. Untouched, so that it takes address space and no memory.
const RESERVE: usize = 4 << 20;
/// A larger allocation gets nothing of a reserve: it must be one that may fail.
const SMALL: usize = RESERVE / 4;
/// Bytes that the ONNX Runtime library and a small model take.
const PROBE: usize = 64 << 20;
/// How long a worker thread waits for memory that a stopped job sets free, and in what steps.
const PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(5);

/// For any thread, and for the backend's own.
static ANYBODYS: Reserve = Reserve::none();
static OWN: Reserve = Reserve::none();
static EXHAUSTED: AtomicBool = AtomicBool::new(false);

/// A block that is kept to be given up.
struct Reserve(AtomicPtr<u8>);

impl Reserve {
    const LAYOUT: Layout = Layout::new::<[u64; RESERVE / 8]>();

    const fn none() -> Reserve {
        Reserve(AtomicPtr::new(std::ptr::null_mut()))
    }

    fn is_there(&self) -> bool {
        !self.0.load(Ordering::Relaxed).is_null()
    }

    fn give_up(&self) {
        let block = self.0.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if !block.is_null() {
            // SAFETY: allocated with this layout in `fill`, and taken by nobody else.
            unsafe { System.dealloc(block, Reserve::LAYOUT) };
        }
    }

    /// Gets the block, if it is not there. False if it cannot be had.
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
            // SAFETY: allocated with this layout by an earlier call, and taken by nobody else.
            unsafe { System.dealloc(before, Reserve::LAYOUT) };
        }
        true
    }
}

/// The allocator of all Rust code in this library: the system's, with the reserve behind it.
pub struct WithReserve;

// SAFETY: every pointer comes from `System` with the layout asked for, or is null; nothing here unwinds or allocates by itself.
unsafe impl GlobalAlloc for WithReserve {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on, here and below.
        unsafe { or_again(layout.size(), || System.alloc(layout)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe { or_again(layout.size(), || System.alloc_zeroed(layout)) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // A failed attempt leaves the old block as it was.
        unsafe { or_again(size, || System.realloc(old, layout, size)) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }
}

fn or_again(size: usize, attempt: impl Fn() -> *mut u8) -> *mut u8 {
    let block = attempt();
    if block.is_null() { again(size, &attempt) } else { block }
}

#[cold]
fn again(size: usize, attempt: &dyn Fn() -> *mut u8) -> *mut u8 {
    if size > SMALL {
        return std::ptr::null_mut();
    }
    EXHAUSTED.store(true, Ordering::Relaxed);
    ANYBODYS.give_up();
    let mut block = attempt();
    // SAFETY: plain calls about this process.
    if unsafe { libc::gettid() == libc::getpid() } {
        if block.is_null() {
            OWN.give_up();
            block = attempt();
        }
        return block;
    }
    let mut waited = Duration::ZERO;
    while block.is_null() && waited < PATIENCE {
        std::thread::sleep(STEP);
        waited += STEP;
        block = attempt();
    }
    block
}

/// Whether an allocation has failed since the reserve was last had.
pub fn is_exhausted() -> bool {
    EXHAUSTED.load(Ordering::Relaxed)
}

/// Whether the system would refuse as much memory as a library or a model takes.
pub fn is_scarce() -> bool {
    let mut probe: Vec<u8> = Vec::new();
    let refused = probe.try_reserve_exact(PROBE).is_err();
    // Used, or else the compiler may leave the allocation out.
    std::hint::black_box(&mut probe);
    refused
}

/// A safe point: raises an ERROR if an allocation has failed and memory is still scarce. To be called on the backend's own thread.
pub fn check() {
    let ready = ANYBODYS.is_there() && OWN.is_there();
    if !ready && !refill() && is_exhausted() {
        raise_exhausted();
    }
}

/// To be called before work begins that will need memory: raises an ERROR unless the reserves are there.
pub fn demand() {
    if !refill() {
        raise_exhausted();
    }
}

/// Gets the reserves that are not there. False if one cannot be had.
#[cold]
fn refill() -> bool {
    let fill = || OWN.fill() && ANYBODYS.fill();
    let filled = fill() || {
        trim();
        fill()
    };
    if filled {
        EXHAUSTED.store(false, Ordering::Relaxed);
    }
    filled
}

/// Raises the ERROR for memory that ran out somewhere.
pub fn raise_exhausted() -> ! {
    EXHAUSTED.store(false, Ordering::Relaxed);
    out_of_memory().detail("The system refused memory for a model, a sketch or a page.").raise()
}

/// Raises the ERROR for memory that was refused for this purpose.
pub fn raise_no_room(what: &str) -> ! {
    out_of_memory().detail(format!("The system refused memory for {what}.")).raise()
}

pub fn out_of_memory() -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY, "out of memory")
}

/// Raises an ERROR that says what it was for if room was refused, by the `try_reserve` of whatever collection.
pub fn expect_room(reserved: Result<(), TryReserveError>, what: &str) {
    if reserved.is_err() {
        raise_no_room(what);
    }
}

/// To be called before a text or vector of so many bytes is copied: raises an ERROR if a copy cannot be had. (One small enough
/// for a reserve needs no look.)
pub fn expect_copy(bytes: usize) {
    if bytes > SMALL {
        let mut copy = Vec::<u8>::new();
        let reserved = copy.try_reserve_exact(bytes);
        // Used, or else the compiler may leave the allocation out.
        std::hint::black_box(&mut copy);
        expect_room(reserved, "a copy of a value");
    }
}

/// Makes room for `more` values, as `Vec::reserve` does, or raises an ERROR that says what they are.
pub fn reserve<T>(values: &mut Vec<T>, more: usize, what: &str) {
    if values.capacity() - values.len() < more && values.try_reserve(more).is_err() {
        raise_no_room(what);
    }
}

/// Free memory up to this many bytes is kept for the next run: getting it anew would cost a short text a tenth of its
/// time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEEP: u32 = 4 << 20;

/// Has every thread that is yet to start allocate from the arena of the backend's own thread. To be called before the
/// first one starts; it changes nothing for the server's code, which has no other threads.
pub fn share_one_arena() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets a parameter of the allocator, which takes its own lock for that.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives free memory back to the system, if it is much.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: reads the allocator's counters, under its lock. They are of 32 bits: beyond 4 GB they may say less than there is, and then
    // it is given back another time.
    unsafe {
        if libc::mallinfo().fordblks as u32 > KEEP {
            trim();
        }
    }
}

/// Gives all free memory back to the system.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: touches free memory only, under the allocator's lock.
    unsafe {
        libc::malloc_trim(0);
    }
}

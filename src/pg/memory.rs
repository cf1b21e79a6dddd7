//! What the C library keeps of freed memory.
//!
//! A model needs some 10 MB while it runs on a long text. glibc would serve each thread from an arena of its own, never
//! give back the top of any but the first, and so leave a backend that waits for its next statement with up to twice
//! what it needs, and no two with the same.

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
    // SAFETY: the first reads the allocator's counters, the second touches free memory only; both take its lock. The
    // counters are of 32 bits: beyond 4 GB they may say less than there is, and then it is given back another time.
    unsafe {
        if libc::mallinfo().fordblks as u32 > KEEP {
            libc::malloc_trim(0);
        }
    }
}

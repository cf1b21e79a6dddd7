//! Random numbers that nobody can foresee, from the server's strong random source.

use crate::error::raise_internal;
use pgrx::pg_sys;

/// Returns a random number.
pub fn number() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer is 8 writable bytes.
    if !unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) } {
        raise_internal("could not generate a random number");
    }
    u64::from_le_bytes(bytes)
}

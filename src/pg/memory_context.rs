//! Ties what Rust owns to the lifetime of a memory context of the server.

use pgrx::pg_sys;
use std::ffi::c_void;

/// What the server calls before it resets or deletes a memory context.
pub type ResetFunction = unsafe extern "C-unwind" fn(*mut c_void);

/// Calls `function` with `argument` before `context` is reset or deleted.
///
/// # Safety
/// `context` is live; `argument` is what `function` expects, and stays so until then. The function must
/// neither raise errors nor allocate in the context.
pub unsafe fn before_reset(context: pg_sys::MemoryContext, function: ResetFunction, argument: *mut c_void) {
    // SAFETY: the callback is in the context whose reset it waits for.
    unsafe {
        let callback: *mut pg_sys::MemoryContextCallback =
            pg_sys::MemoryContextAlloc(context, size_of::<pg_sys::MemoryContextCallback>()).cast();
        (*callback).func = Some(function);
        (*callback).arg = argument;
        pg_sys::MemoryContextRegisterResetCallback(context, callback);
    }
}

/// Returns what this access method keeps with an `IndexInfo`: from row to row of a statement that inserts.
/// It is made at the first call and dropped with the statement's memory.
///
/// # Safety
/// `info` is live for `'a`, and belongs to an index of this access method. `T` is the same type in all calls,
/// and no earlier result is in use.
pub unsafe fn kept_with<'a, T: Default>(info: *mut pg_sys::IndexInfo) -> &'a mut T {
    // SAFETY: the server leaves `ii_AmCache` to the access method. It is null or what this function put
    // there, because the callback runs when the memory of `info` itself is freed.
    unsafe {
        if (*info).ii_AmCache.is_null() {
            let kept = Box::into_raw(Box::<T>::default()).cast();
            before_reset((*info).ii_Context, drop_kept::<T>, kept);
            (*info).ii_AmCache = kept;
        }
        &mut *(*info).ii_AmCache.cast()
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn drop_kept<T>(kept: *mut c_void) {
    // SAFETY: `kept_with` made it, and the server calls a callback once.
    drop(unsafe { Box::<T>::from_raw(kept.cast()) });
}

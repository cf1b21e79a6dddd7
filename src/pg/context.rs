//! The CONTEXT line of errors: what was being done when one struck, be it raised by us, the server, or a function of the user's.

use pgrx::pg_sys;
use std::ffi::{CString, c_char, c_int, c_void};

unsafe extern "C-unwind" {
    /// The server's, from utils/elog.h.
    fn errcontext_msg(format: *const c_char, ...) -> c_int;
}

/// While this lives, every error of this backend says in its CONTEXT what `say` gives. To be dropped in the reverse order of making.
pub struct ErrorContext<'a> {
    entry: Box<pg_sys::ErrorContextCallback>,
    /// Behind a pointer of its own, because the server keeps it.
    _say: Box<&'a dyn Fn() -> String>,
}

impl<'a> ErrorContext<'a> {
    pub fn new(say: &'a dyn Fn() -> String) -> ErrorContext<'a> {
        let say = Box::new(say);
        // SAFETY: the server's list of callbacks belongs to this thread; entry and argument live on the heap until `drop` takes the entry
        // off the list. An error that unwinds past this has the server restore the list as it was before.
        unsafe {
            let mut entry = Box::new(pg_sys::ErrorContextCallback {
                previous: pg_sys::error_context_stack,
                callback: Some(add_context),
                arg: (&raw const *say).cast_mut().cast(),
            });
            pg_sys::error_context_stack = &raw mut *entry;
            ErrorContext { entry, _say: say }
        }
    }
}

impl Drop for ErrorContext<'_> {
    fn drop(&mut self) {
        // SAFETY: the entry is the last of the list unless an error has restored an older one.
        unsafe {
            if pg_sys::error_context_stack == &raw mut *self.entry {
                pg_sys::error_context_stack = self.entry.previous;
            }
        }
    }
}

/// Called by the server while it reports an error.
unsafe extern "C-unwind" fn add_context(say: *mut c_void) {
    // SAFETY: the argument given in `new`, which lives as long as the entry is on the list.
    let text = unsafe { (*say.cast::<&dyn Fn() -> String>())() };
    if let Ok(text) = CString::new(text) {
        // SAFETY: called in the midst of an error report, where the server allows it; the format takes one C string.
        unsafe { errcontext_msg(c"%s".as_ptr(), text.as_ptr()) };
    }
}

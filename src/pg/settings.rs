//! Settings of the session that apply while a value lives, as a function's SET clause applies them.

use pgrx::pg_sys;
use std::ffi::CStr;

/// The search path in which no user can shadow the server's own objects.
const SYSTEM_SEARCH_PATH: (&CStr, &CStr) = (c"search_path", c"pg_catalog, pg_temp");

/// Settings that apply until this is dropped.
pub struct LocalSettings {
    level: i32,
}

impl LocalSettings {
    /// Applies settings, given as names and values.
    pub fn set(settings: &[(&CStr, &CStr)]) -> LocalSettings {
        // SAFETY: starts a nesting level, as the server does for a function with a SET clause.
        let level = unsafe { pg_sys::NewGUCNestLevel() };
        for (name, value) in settings {
            // SAFETY: names and values are C strings; the call is that of SET LOCAL.
            unsafe {
                pg_sys::set_config_option(
                    name.as_ptr(),
                    value.as_ptr(),
                    pg_sys::GucContext::PGC_USERSET,
                    pg_sys::GucSource::PGC_S_SESSION,
                    pg_sys::GucAction::GUC_ACTION_SAVE,
                    true,
                    0,
                    false,
                )
            };
        }
        LocalSettings { level }
    }

    /// Sets a search path that finds only what the server itself provides, so that no user chooses what an
    /// unqualified name in an expression or a query means.
    pub fn system_search_path() -> LocalSettings {
        LocalSettings::set(&[SYSTEM_SEARCH_PATH])
    }

    /// Sets that search path, and keeps the messages of functions from the client.
    pub fn isolated() -> LocalSettings {
        LocalSettings::set(&[SYSTEM_SEARCH_PATH, (c"client_min_messages", c"error")])
    }
}

impl Drop for LocalSettings {
    fn drop(&mut self) {
        // After an ERROR the end of the transaction restores the settings.
        if !std::thread::panicking() {
            // SAFETY: `set` started the level; drops end the levels in order, the latest first.
            unsafe { pg_sys::AtEOXact_GUC(true, self.level) };
        }
    }
}

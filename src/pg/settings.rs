//! Settings of the session that hold for the time of a value, as a function's SET clause does it.

use pgrx::pg_sys;
use std::ffi::CStr;

/// Settings as they are until this is dropped.
pub struct LocalSettings {
    level: i32,
}

impl LocalSettings {
    pub fn set(settings: &[(&CStr, &CStr)]) -> LocalSettings {
        // SAFETY: what SET LOCAL does in a function with a SET clause, with constants.
        let level = unsafe { pg_sys::NewGUCNestLevel() };
        for (name, value) in settings {
            // SAFETY: as above.
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

    /// A search path that finds nothing but what the server itself brings: whatever an expression or a query leaves
    /// unqualified is then nobody's to choose.
    pub fn system_search_path() -> LocalSettings {
        LocalSettings::set(&[(c"search_path", c"pg_catalog, pg_temp")])
    }
}

impl Drop for LocalSettings {
    fn drop(&mut self) {
        // After an ERROR the end of the transaction puts the settings back.
        if !std::thread::panicking() {
            // SAFETY: the level is the one that `set` opened; levels end in the order of drops, the latest first.
            unsafe { pg_sys::AtEOXact_GUC(true, self.level) };
        }
    }
}

//! Where the server keeps temporary files.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pgrx::pg_sys;

/// Returns the path of a folder for files that all backends share until the server restarts. It need not
/// exist yet.
///
/// It is among the server's temporary files, under a name like theirs. So the server removes it when it
/// starts, base backups, pg_rewind and pg_checksums skip it, and only the server's operating-system user can
/// write to it. A standby has its own.
pub fn temporary_folder(name: &str) -> PathBuf {
    // SAFETY: a NUL-terminated string that was set before any extension was loaded and never changes.
    let data = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    Path::new(OsStr::from_bytes(data.to_bytes())).join("base/pgsql_tmp").join(format!("pgsql_tmp_{name}"))
}

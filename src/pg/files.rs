//! Where the server keeps files of a while.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pgrx::pg_sys;

/// A folder for files that all backends share until the server restarts. It need not exist yet.
///
/// It lies among the temporary files, under a name like theirs. So the server removes it when it starts, base backups,
/// pg_rewind and pg_checksums pass it over, and nobody but the server's own user can write it. A standby has its own.
pub fn temporary_folder(name: &str) -> PathBuf {
    // SAFETY: a NUL-terminated string that was set before any extension was loaded, and never changes.
    let data = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    Path::new(OsStr::from_bytes(data.to_bytes())).join("base/pgsql_tmp").join(format!("pgsql_tmp_{name}"))
}

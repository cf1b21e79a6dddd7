//! Reports the progress of a build, as `pg_stat_progress_create_index` shows it.

use pgrx::pg_sys;

/// The phases of a build after the server's own first one, "initializing".
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(i64)]
pub enum Phase {
    Embedding = 2,
    Training = 3,
    Layout = 4,
    Writing = 5,
}

impl Phase {
    /// Returns the name that the view shows for a phase's number.
    pub fn name(number: i64) -> Option<&'static std::ffi::CStr> {
        Some(match number {
            1 => c"initializing", // the server's PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE
            2 => c"embedding rows",
            3 => c"training sketch",
            4 => c"laying out pages",
            5 => c"writing pages",
            _ => return None,
        })
    }
}

fn update(parameter: u32, value: i64) {
    // SAFETY: writes this backend's own slot of the statistics array.
    unsafe { pg_sys::pgstat_progress_update_param(parameter as i32, value) };
}

pub fn phase(phase: Phase) {
    update(pg_sys::PROGRESS_CREATEIDX_SUBPHASE, phase as i64);
}

pub fn rows_total(rows: u64) {
    update(pg_sys::PROGRESS_CREATEIDX_TUPLES_TOTAL, rows as i64);
}

pub fn rows_done(rows: u64) {
    update(pg_sys::PROGRESS_CREATEIDX_TUPLES_DONE, rows as i64);
}

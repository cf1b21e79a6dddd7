//! Reports index scans to the server's statistics.

use pgrx::pg_sys;

/// Counts one scan of the index: `idx_scan` of `pg_stat_user_indexes`, and from Postgres 18 on the searches
/// that EXPLAIN shows. This is the server's macro `pgstat_count_index_scan`, written out.
///
/// # Safety
/// `scan` is a live index scan.
pub unsafe fn count_scan(scan: pg_sys::IndexScanDesc) {
    // SAFETY: the caller promises a live scan. An open relation has its counters, or gets them on demand if
    // statistics are kept.
    unsafe {
        #[cfg(feature = "pg18")]
        if !(*scan).instrument.is_null() {
            (*(*scan).instrument).nsearches += 1;
        }
        let index = (*scan).indexRelation;
        if (*index).pgstat_info.is_null() && (*index).pgstat_enabled {
            pg_sys::pgstat_assoc_relation(index);
        }
        let counters = (*index).pgstat_info;
        if counters.is_null() {
            return;
        }
        #[cfg(feature = "pg15")]
        {
            (*counters).t_counts.t_numscans += 1;
        }
        #[cfg(not(feature = "pg15"))]
        {
            (*counters).counts.numscans += 1;
        }
    }
}

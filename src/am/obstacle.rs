//! Finds what keeps a sound index from being read: it is not built yet, belongs to another session, or has no
//! pages of its own.

use crate::error::Error;
use crate::pg::function::{self, Own};
use crate::pg::{Rel, lock};
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;

/// The reason why an index cannot be read, and a remedy.
pub struct Obstacle {
    index: String,
    reason: &'static str,
    remedy: String,
}

impl Obstacle {
    /// Returns reason and remedy in one line, for an administrator who looks over all indexes.
    pub fn advice(self) -> String {
        format!("{}: {}", self.reason, self.remedy)
    }

    /// Raises the obstacle as an error.
    pub fn raise(self) -> ! {
        let Obstacle { index, reason, remedy } = self;
        Error::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("index \"{index}\" cannot be read: {reason}"),
        )
        .hint(capitalized(&remedy))
        .raise()
    }
}

/// Returns a clause as a sentence, with a capital letter and a period.
fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).chain(['.']).collect())
}

/// Returns the obstacle to reading an open index of this access method, if there is one.
pub fn find(index: Rel, table: Rel) -> Option<Obstacle> {
    let obstacle = |reason, remedy| Some(Obstacle { index: index.name(), reason, remedy });
    // SAFETY: an open index has its rows of pg_class and pg_index in memory.
    let (persistence, local, built) = unsafe {
        let raw = index.raw();
        let row = &*(*raw).rd_index;
        ((*(*raw).rd_rel).relpersistence as u8, (*raw).rd_islocaltemp, row.indisready && row.indisvalid)
    };
    if persistence == pg_sys::RELPERSISTENCE_TEMP && !local {
        return obstacle("it is a temporary index of another session", "query it in that session".to_owned());
    }
    // SAFETY: reads shared memory.
    if persistence == pg_sys::RELPERSISTENCE_UNLOGGED && unsafe { pg_sys::RecoveryInProgress() } {
        return obstacle(
            "it is unlogged, and a standby does not hold the contents of unlogged indexes",
            "query it on the primary".to_owned(),
        );
    }
    if built {
        None
    } else if lock::is_being_maintained(table) {
        obstacle(
            "it is not built yet, or was left unfinished",
            "see pg_stat_progress_create_index; if no build is listed there, drop it or rebuild it with \
             REINDEX INDEX"
                .to_owned(),
        )
    } else {
        obstacle(
            "it was left unfinished by a build that failed or was canceled",
            format!("DROP INDEX {0}, or rebuild it with REINDEX INDEX {0}", index.name()),
        )
    }
}

/// Returns the obstacle of a partitioned index of this access method, which has no pages; None for any other
/// object.
pub fn find_partitioned(oid: pg_sys::Oid) -> Option<Obstacle> {
    // SAFETY: the server takes any oid here, and the index is open while its row is read.
    unsafe {
        if pg_sys::get_rel_relkind(oid) as u8 != pg_sys::RELKIND_PARTITIONED_INDEX {
            return None;
        }
        let raw = pg_sys::index_open(oid, pg_sys::AccessShareLock as i32);
        let (is_leann, index) = (is_leann_index(Rel::from_raw(raw)), Rel::from_raw(raw).name());
        pg_sys::index_close(raw, pg_sys::NoLock as i32);
        is_leann.then(|| Obstacle {
            index,
            reason: "it is partitioned and has no pages of its own",
            remedy: "name the index of one of its partitions".to_owned(),
        })
    }
}

fn is_leann_index(index: Rel) -> bool {
    // SAFETY: an open index names the handler of its access method.
    function::is(unsafe { (*index.raw()).rd_amhandler }, Own::Handler)
}

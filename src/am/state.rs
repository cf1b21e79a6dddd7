//! What keeps an index from being read, which is no damage: it is not built yet, or belongs to another session, or has no
//! pages of its own.

use crate::error::Error;
use crate::pg::function::{self, Own};
use crate::pg::{Rel, lock};
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;

/// Why an index cannot be read, and what to do.
pub struct Obstacle {
    index: String,
    what: &'static str,
    todo: String,
}

impl Obstacle {
    /// In one line, for an administrator who looks over all indexes.
    pub fn advice(self) -> String {
        format!("{}: {}", self.what, self.todo)
    }

    pub fn raise(self) -> ! {
        let Obstacle { index, what, todo } = self;
        Error::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("index \"{index}\" cannot be read: {what}"),
        )
        .hint(capitalized(&todo))
        .raise()
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).chain(['.']).collect())
}

/// Of an open index of this access method and its table.
pub fn obstacle(index: Rel, table: Rel) -> Option<Obstacle> {
    let obstacle = |what, todo| Some(Obstacle { index: index.name(), what, todo });
    // SAFETY: an open index has its rows of pg_class and pg_index.
    let (persistence, local, built) = unsafe {
        let raw = index.raw();
        let row = &*(*raw).rd_index;
        ((*(*raw).rd_rel).relpersistence as u8, (*raw).rd_islocaltemp, row.indisready && row.indisvalid)
    };
    if persistence == pg_sys::RELPERSISTENCE_TEMP && !local {
        return obstacle("it is a temporary index of another session", "ask in that session".to_owned());
    }
    // SAFETY: reads shared memory.
    if persistence == pg_sys::RELPERSISTENCE_UNLOGGED && unsafe { pg_sys::RecoveryInProgress() } {
        return obstacle(
            "it is unlogged, and a standby has no contents of unlogged indexes",
            "ask on the primary".to_owned(),
        );
    }
    if built {
        None
    } else if lock::is_being_maintained(table) {
        obstacle(
            "it is not built yet, or was left unfinished",
            "see pg_stat_progress_create_index; if nothing builds it there, drop it or rebuild it with REINDEX INDEX".to_owned(),
        )
    } else {
        obstacle(
            "it was left unfinished by a build that failed or was canceled",
            format!("DROP INDEX {0}, or rebuild it with REINDEX INDEX {0}", index.name()),
        )
    }
}

/// Of a partitioned index of this access method, which has no pages.
pub fn of_partitioned(oid: pg_sys::Oid) -> Option<Obstacle> {
    // SAFETY: takes any oid; the index is opened for as long as its row is looked at.
    unsafe {
        if pg_sys::get_rel_relkind(oid) as u8 != pg_sys::RELKIND_PARTITIONED_INDEX {
            return None;
        }
        let raw = pg_sys::index_open(oid, pg_sys::AccessShareLock as i32);
        let (ours, index) = (is_ours(Rel::from_raw(raw)), Rel::from_raw(raw).name());
        pg_sys::index_close(raw, pg_sys::NoLock as i32);
        ours.then(|| Obstacle {
            index,
            what: "it is partitioned and has no pages itself",
            todo: "name the index of one of its partitions".to_owned(),
        })
    }
}

fn is_ours(index: Rel) -> bool {
    // SAFETY: an open index names the handler of its access method.
    function::is(unsafe { (*index.raw()).rd_amhandler }, Own::Handler)
}

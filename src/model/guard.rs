//! Stops a statement that would embed a whole table row by row without anybody having meant it.
//!
//! A distance that no index answers is computed for every row, and each row costs a run of the model: minutes or hours
//! where a query of another kind would take a second. So what a statement embeds by computing distances outside an index
//! is counted, and beyond `leann.max_embedded_rows` it is stopped with a word on what to do instead. Building an index,
//! inserting into one and `leann.embed` are meant to embed and count nowhere. Nor do searches, with one exception: rows
//! that the server asks for by itself, because a cursor is to outlive its transaction.

use std::cell::Cell;

use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;

use super::statement;
use crate::error::{Error, Result};
use crate::guc;

/// What texts are embedded for.
#[derive(Clone, Copy)]
pub enum Work {
    Distance,
    Cast,
    HeldCursor,
}

thread_local! {
    static EXEMPT: Cell<u32> = const { Cell::new(0) };
}

/// While this lives, nothing counts: for functions that are known to embed much.
pub struct Exempt;

impl Exempt {
    pub fn now() -> Exempt {
        EXEMPT.set(EXEMPT.get() + 1);
        Exempt
    }
}

impl Drop for Exempt {
    fn drop(&mut self) {
        EXEMPT.set(EXEMPT.get() - 1);
    }
}

/// Computes something outside an index, and counts the texts which that sends through a model.
pub fn outside_index<T>(work: Work, compute: impl FnOnce() -> Result<T>) -> Result<T> {
    let texts = || {
        let counters = super::counters();
        counters.recomputes + counters.queries
    };
    let before = texts();
    let result = compute()?;
    charge(texts() - before, work)?;
    Ok(result)
}

/// An index scan has recomputed rows. They count only if the server, not the client, wanted them.
pub fn recomputed(rows: u64) -> Result<()> {
    if is_portal_held() { charge(rows, Work::HeldCursor) } else { Ok(()) }
}

fn charge(texts: u64, work: Work) -> Result<()> {
    let limit = guc::max_embedded_rows();
    if texts == 0 || limit == 0 || EXEMPT.get() > 0 || is_maintenance() || is_load() {
        return Ok(());
    }
    if statement::guarded(texts) > limit { Err(stopped(work, limit)) } else { Ok(()) }
}

fn stopped(work: Work, limit: u64) -> Error {
    const SETTING: &str = "leann.max_embedded_rows sets the limit; 0 is none.";
    let (purpose, detail, hint) = match work {
        Work::Distance => (
            "to compute distances",
            "Its plan does not take rows from a leann index in the order of their distance, so it computes the distance of \
             every row, and for that the row's embedding.",
            "Order by the distance alone, nearest first, with a LIMIT: SELECT ... ORDER BY embedding_of(...) <-> ... LIMIT \
             10. EXPLAIN shows whether that uses an index.",
        ),
        Work::Cast => (
            "to cast embeddings to real[]",
            "The cast computes one embedding at a time.",
            "leann.embed_all(array_agg(...)) computes many at a time, and has no limit.",
        ),
        Work::HeldCursor => (
            "to keep a cursor beyond its transaction",
            "At COMMIT the server reads a cursor WITH HOLD, and the query of a loop in which there is a COMMIT, to its end, \
             however few of its rows are wanted.",
            "Put a LIMIT into the cursor's query, or collect the keys of the rows before the first COMMIT.",
        ),
    };
    Error::new(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!("statement stopped after it had embedded {limit} texts {purpose}"),
    )
    .detail(detail)
    .hint(format!("{hint} {SETTING}"))
}

/// Whether the server reads a cursor to its end because its transaction commits.
fn is_portal_held() -> bool {
    // SAFETY: the portal that is being run, if any, lives as long as it runs. Of a plain SELECT's portal only this fills
    // a tuple store.
    unsafe {
        let portal = pg_sys::ActivePortal;
        !portal.is_null()
            && (*portal).strategy == pg_sys::PortalStrategy::PORTAL_ONE_SELECT
            && !(*portal).holdStore.is_null()
    }
}

unsafe extern "C-unwind" {
    /// The server's, from replication/logicalworker.h: whether this process applies what another server sends. Raises nothing.
    fn IsLogicalWorker() -> bool;
}

/// Whether rows are loaded or a table is rewritten: what is computed then is stored with them, as in a generated column.
fn is_load() -> bool {
    // SAFETY: the portal that is being run, if any, lives as long as it runs, with its statements; each cast follows a check
    // of the tag.
    unsafe {
        let portal = pg_sys::ActivePortal;
        if portal.is_null() {
            return IsLogicalWorker();
        }
        pgrx::PgList::<pg_sys::PlannedStmt>::from_pg((*portal).stmts).iter_ptr().any(|planned| {
            let utility = (*planned).utilityStmt;
            !utility.is_null()
                && match (*utility).type_ {
                    pg_sys::NodeTag::T_CopyStmt => (*(utility as *mut pg_sys::CopyStmt)).is_from,
                    pg_sys::NodeTag::T_AlterTableStmt => true,
                    _ => false,
                }
        })
    }
}

/// Whether the server evaluates expressions for ANALYZE, an index of any kind or a materialized view, which it does in a
/// security-restricted operation.
fn is_maintenance() -> bool {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: reads two variables of this process.
    unsafe { pg_sys::GetUserIdAndSecContext(&mut user, &mut context) };
    context & pg_sys::SECURITY_RESTRICTED_OPERATION as i32 != 0
}

//! Stops a statement that would embed a whole table row by row by mistake.
//!
//! A distance that no index provides is computed for every row, and each row costs a run of the model:
//! minutes or hours, where another query would take a second. So this module counts the texts that a
//! statement embeds for distances outside an index and for casts to numbers, and beyond
//! `leann.max_embedded_rows` it stops the statement with a hint at what to do instead. Building an index,
//! inserting into one and `leann.embed` are meant to embed and are not counted. Nor are searches, with one
//! exception: rows that the server itself reads, because a cursor is to outlive its transaction.

use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;

use super::counters::counters;
use super::statement;
use crate::error::{Error, Result};
use crate::guc;
use crate::session::{self, State};

/// What texts are embedded for.
#[derive(Clone, Copy)]
pub enum Purpose {
    Distance,
    Cast,
    HeldCursor,
}

/// The number of live [`Exempt`]s.
#[derive(Clone, Copy, Default)]
struct Exemptions(u32);

impl State for Exemptions {}

/// While this lives, nothing is counted. For functions that are known to embed many texts.
pub struct Exempt;

impl Exempt {
    /// Starts an exemption.
    pub fn now() -> Exempt {
        session::with(|exemptions: &mut Exemptions| exemptions.0 += 1);
        Exempt
    }
}

impl Drop for Exempt {
    fn drop(&mut self) {
        session::with(|exemptions: &mut Exemptions| exemptions.0 -= 1);
    }
}

/// Runs `compute` outside an index, and counts the texts that it sends through a model.
pub fn outside_index<T>(purpose: Purpose, compute: impl FnOnce() -> Result<T>) -> Result<T> {
    let texts = || {
        let counters = counters();
        counters.recomputes + counters.queries
    };
    let before = texts();
    let result = compute()?;
    charge(texts() - before, purpose)?;
    Ok(result)
}

/// Notes that an index scan has recomputed rows. They count only if the server, not the client, asked for
/// them.
pub fn recomputed(rows: u64) -> Result<()> {
    if is_portal_held() { charge(rows, Purpose::HeldCursor) } else { Ok(()) }
}

/// Counts texts, and returns the ERROR if the statement exceeds its limit.
fn charge(texts: u64, purpose: Purpose) -> Result<()> {
    let limit = guc::max_embedded_rows();
    if texts == 0 || limit == 0 || session::get::<Exemptions>().0 > 0 || is_maintenance() || is_load() {
        return Ok(());
    }
    if statement::add_guarded(texts) > limit { Err(stopped(purpose, limit)) } else { Ok(()) }
}

fn stopped(purpose: Purpose, limit: u64) -> Error {
    const SETTING: &str = "leann.max_embedded_rows sets the limit; 0 means no limit.";
    let (purpose, detail, hint) = match purpose {
        Purpose::Distance => (
            "to compute distances",
            "Its plan does not read rows from a leann index in order of distance, so it computes the \
             embedding and the distance of every row.",
            "Order by the distance alone, nearest first, with a LIMIT: SELECT ... ORDER BY embedding_of(...) \
             <-> ... LIMIT 10. EXPLAIN shows whether that uses an index.",
        ),
        Purpose::Cast => (
            "to cast embeddings to real[]",
            "The cast computes one embedding at a time.",
            "leann.embed_all(array_agg(...)) computes many at a time and has no limit.",
        ),
        Purpose::HeldCursor => (
            "to keep a cursor beyond its transaction",
            "At COMMIT the server reads a cursor WITH HOLD, or the query of a loop that contains a COMMIT, \
             to its end, however few rows are wanted.",
            "Put a LIMIT into the cursor's query, or collect the keys of the rows before the first COMMIT.",
        ),
    };
    Error::new(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!("statement stopped after embedding {limit} texts {purpose}"),
    )
    .detail(detail)
    .hint(format!("{hint} {SETTING}"))
}

/// Returns whether the server reads a cursor to its end because its transaction commits.
fn is_portal_held() -> bool {
    // SAFETY: the running portal, if any, lives as long as it runs. (For a portal of a plain SELECT, only
    // this case fills a tuple store.)
    unsafe {
        let portal = pg_sys::ActivePortal;
        !portal.is_null()
            && (*portal).strategy == pg_sys::PortalStrategy::PORTAL_ONE_SELECT
            && !(*portal).holdStore.is_null()
    }
}

unsafe extern "C-unwind" {
    /// Declared in the server's replication/logicalworker.h: whether this process applies changes that
    /// another server sends. Raises nothing.
    fn IsLogicalWorker() -> bool;
}

/// Returns whether rows are loaded or a table is rewritten. What is computed then is stored with the rows, as
/// in a generated column.
fn is_load() -> bool {
    // SAFETY: the running portal, if any, lives as long as it runs, with its statements; each cast follows a
    // check of the tag.
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

/// Returns whether the server evaluates expressions for ANALYZE, an index of any kind or a materialized view,
/// which it does in a security-restricted operation.
fn is_maintenance() -> bool {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: reads two variables of this process.
    unsafe { pg_sys::GetUserIdAndSecContext(&mut user, &mut context) };
    context & pg_sys::SECURITY_RESTRICTED_OPERATION as i32 != 0
}

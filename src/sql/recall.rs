//! `leann.recall`: how much of the truth an index finds, measured on its own table.
//!
//! Each query runs through the index as any client's would, under the session's settings, and its rows are compared
//! with the nearest rows of the whole table, which is embedded once for all queries, in batches. That pass costs as
//! much as building the index does.

use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::rc::Rc;

use pgrx::PgList;
use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::prelude::*;
use pgrx::spi::{SpiClient, SpiCursor, SpiTupleTable, quote_literal};

use super::embedding::{self, Embedding};
use super::operators::{require_same_dimensions, squared_distance};
use crate::error::{Error, OrRaise, Result};
use crate::{model, stats};

/// Most rows that can be asked for each query.
const MAX_K: i32 = 10_000;

/// Rows of the table embedded together.
const CHUNK: i64 = 256;

/// Two squared distances that differ by less are equal: a model's numbers depend a little on what else is in a batch.
const TIE: f64 = 1e-6;

/// The table behind an index, in SQL.
struct Target {
    index: pg_sys::Oid,
    table_oid: pg_sys::Oid,
    table: String,
    expression: String,
    predicate: String,
}

/// A row by its heap pointer, and the square of its L2 distance to the query.
#[derive(Clone)]
struct Near {
    row: String,
    squared: f64,
}

/// What one index scan gave.
struct Found {
    rows: Vec<String>,
    recomputes: i64,
    pages: i64,
}

/// `leann.recall(index, queries, k)`.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn leann_recall(
    index: pg_sys::Oid,
    queries: Array<'_, &[u8]>,
    k: i32,
) -> TableIterator<
    'static,
    (name!(query, String), name!(recall, Option<f64>), name!(recomputes, i64), name!(pages, i64)),
> {
    // NULLs have no nearest rows, and no line in the result.
    let queries: Vec<String> =
        queries.iter().flatten().map(|query| super::utf8(query).into_owned()).collect();
    let (found, truth) = measure(index, &queries, k).or_raise();
    let lines: Vec<_> = queries
        .into_iter()
        .zip(found)
        .zip(truth)
        .map(|((query, found), truth)| {
            (query, share_found(&found.rows, &truth, k as usize), found.recomputes, found.pages)
        })
        .collect();
    TableIterator::new(lines)
}

fn measure(index: pg_sys::Oid, queries: &[String], k: i32) -> Result<(Vec<Found>, Vec<Vec<Near>>)> {
    if !(1..=MAX_K).contains(&k) {
        return Err(Error::invalid(format!("k must be between 1 and {MAX_K}, not {k}")));
    }
    // One connection, and in a transaction that has written nothing one snapshot, for all queries.
    Spi::connect(|client| {
        let target = Target::of(client, index)?;
        let found = {
            let _planner = OnlyIndex::visible(target.table_oid, target.index);
            let _settings = Settings::set(&[(c"enable_seqscan", c"off"), (c"enable_bitmapscan", c"off")]);
            queries.iter().map(|query| scan(client, &target, query, k)).collect::<Result<Vec<_>>>()?
        };
        Ok((found, exact(client, &target, queries, k as usize)?))
    })
}

impl Target {
    /// Reads what the catalogs say of the index. Runs with `search_path = pg_catalog`, so every name comes qualified.
    fn of(client: &SpiClient, index: pg_sys::Oid) -> Result<Target> {
        const DESCRIBE: &str = "
            SELECT x.indrelid, x.indrelid::regclass::text, pg_get_indexdef(x.indexrelid, 1, false),
                   pg_get_expr(x.indpred, x.indrelid), m.amname = 'leann' AND c.relkind = 'i'
            FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am m ON m.oid = c.relam
            WHERE x.indexrelid = $1";
        let row = client.select(DESCRIBE, Some(1), &[index.into()])?.first();
        if row.is_empty() || row.get(5)? != Some(true) {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                "the relation is not a leann index",
            ));
        }
        let predicate = row.get::<String>(4)?;
        Ok(Target {
            index,
            table_oid: row.get(1)?.unwrap_or(pg_sys::InvalidOid),
            table: row.get(2)?.unwrap_or_default(),
            expression: row.get(3)?.unwrap_or_default(),
            predicate: predicate.map_or_else(String::new, |predicate| format!("WHERE {predicate}")),
        })
    }
}

/// The `k` rows that the index gives for a query, from an empty cache, so that the figures do not depend on the queries
/// before it.
fn scan(client: &SpiClient, target: &Target, query: &str, k: i32) -> Result<Found> {
    let Target { table, expression, predicate, .. } = target;
    let distance = format!("({expression}) OPERATOR(public.<->) {}::text", quote_literal(query));
    let select = format!("SELECT ctid::text FROM ONLY {table} {predicate} ORDER BY {distance} LIMIT {k}");
    require_index_scan(&select)?;
    model::clear_cache();
    let _uncounted = model::guard::Exempt::now();
    let before = stats::so_far();
    let _cold = model::shared::PassedOver::now();
    let mut rows = Vec::new();
    for row in client.select(select.as_str(), None, &[])? {
        rows.extend(row[1].value::<String>()?);
    }
    let figures = stats::so_far().since(&before);
    Ok(Found { rows, recomputes: figures.recomputes as i64, pages: figures.pages as i64 })
}

/// An error unless the planner answers the query from the index. EXPLAIN counts as a statement that may write, which
/// pgrx would mark the transaction for; so it is called here directly.
fn require_index_scan(select: &str) -> Result<()> {
    let explain = CString::new(format!("EXPLAIN (COSTS OFF) {select}"))
        .map_err(|_| Error::invalid("null character"))?;
    let mut uses_index = false;
    // SAFETY: called between SPI_connect and SPI_finish; the table is that of the call before, with one text column.
    unsafe {
        pg_sys::SPI_execute(explain.as_ptr(), false, 0);
        let table = pg_sys::SPI_tuptable;
        for at in 0..pg_sys::SPI_processed as usize {
            let line = pg_sys::SPI_getvalue(*(*table).vals.add(at), (*table).tupdesc, 1);
            uses_index |= !line.is_null()
                && CStr::from_ptr(line).to_bytes().windows(10).any(|word| word == b"Index Scan");
        }
        pg_sys::SPI_freetuptable(table);
    }
    if uses_index {
        return Ok(());
    }
    Err(Error::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "the planner cannot use the index",
    )
    .hint(
        "The index must be valid, and of the model that the query is embedded with: see leann.default_model.",
    ))
}

/// The `k` nearest rows of the table to each query, and those that are as near as the last of them.
fn exact(client: &SpiClient, target: &Target, queries: &[String], k: usize) -> Result<Vec<Vec<Near>>> {
    let Target { table, expression, predicate, .. } = target;
    let queries = queries.iter().map(|query| Embedding::parse(query)).collect::<Result<Vec<_>>>()?;
    let mut nearest = vec![Nearest::new(k); queries.len()];
    let mut vectors: Option<Vec<Rc<[f32]>>> = None;
    let mut cursor = client
        .try_open_cursor(&format!("SELECT ctid::text, {expression} FROM ONLY {table} {predicate}"), &[])?;
    loop {
        let rows = fetch(&mut cursor)?;
        let Some(rows) = rows else { break };
        let default = model::default_name();
        let model = rows.iter().find_map(|(_, value)| value.model()).unwrap_or(&default).to_owned();
        let values: Vec<&Embedding> = rows.iter().map(|(_, value)| value).collect();
        let embedded = embedding::vectors(&values, &model)?;
        if vectors.is_none() {
            vectors = Some(embedding::vectors(&queries.iter().collect::<Vec<_>>(), &model)?);
        }
        let vectors = vectors.as_deref().unwrap_or_default();
        for ((row, _), embedding) in rows.iter().zip(&embedded) {
            for (query, nearest) in vectors.iter().zip(&mut nearest) {
                require_same_dimensions(embedding.len(), query.len())?;
                nearest.add(row, squared_distance(embedding, query));
            }
        }
    }
    Ok(nearest.into_iter().map(|nearest| nearest.rows).collect())
}

/// The next rows of the table and their embeddings; `None` at the end. What Postgres allocates for them is freed here,
/// so that a large table is never in memory as a whole.
fn fetch(cursor: &mut SpiCursor) -> Result<Option<Vec<(String, Embedding)>>> {
    let mut table = cursor.fetch(CHUNK)?;
    if table.is_empty() {
        return Ok(None);
    }
    let mut scratch = PgMemoryContexts::new("leann recall");
    // SAFETY: nothing that `read` returns lies in Postgres's memory, so it outlives the context.
    let rows = unsafe { scratch.switch_to(|_| read(&mut table)) }?;
    // SAFETY: this is still the table of the fetch above, since `read` runs no statement, and nobody reads it any more.
    unsafe { pg_sys::SPI_freetuptable(pg_sys::SPI_tuptable) };
    Ok(Some(rows))
}

fn read(table: &mut SpiTupleTable) -> Result<Vec<(String, Embedding)>> {
    let mut rows = Vec::new();
    for row in table {
        // A row without text has no embedding and no place in the index.
        if let (Some(at), Some(value)) = (row[1].value()?, row[2].value()?) {
            rows.push((at, value));
        }
    }
    Ok(rows)
}

/// The `k` nearest rows so far, nearest first, and those that tie with the last of them.
#[derive(Clone)]
struct Nearest {
    k: usize,
    rows: Vec<Near>,
}

impl Nearest {
    fn new(k: usize) -> Nearest {
        Nearest { k, rows: Vec::new() }
    }

    fn add(&mut self, row: &str, squared: f64) {
        if self.rows.len() >= self.k && squared > self.rows[self.k - 1].squared + TIE {
            return;
        }
        let at = self.rows.partition_point(|near| near.squared <= squared);
        self.rows.insert(at, Near { row: row.to_owned(), squared });
        if let Some(last) = self.rows.get(self.k - 1).map(|near| near.squared + TIE) {
            self.rows.truncate(self.rows.partition_point(|near| near.squared <= last));
        }
    }
}

/// The share of the `k` nearest rows that were found. Any of several rows that tie for the last places will do.
/// `None` where there is nothing to find.
fn share_found(found: &[String], truth: &[Near], k: usize) -> Option<f64> {
    let wanted = k.min(truth.len());
    let truth: HashSet<&str> = truth.iter().map(|near| near.row.as_str()).collect();
    let hits = found.iter().filter(|row| truth.contains(row.as_str())).count();
    (wanted > 0).then(|| hits.min(wanted) as f64 / wanted as f64)
}

/// Settings of the planner for the time of this value.
struct Settings {
    level: i32,
}

impl Settings {
    fn set(settings: &[(&CStr, &CStr)]) -> Settings {
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
        Settings { level }
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // After an ERROR the end of the transaction puts the settings back.
        if !std::thread::panicking() {
            // SAFETY: the level is the one that `set` opened.
            unsafe { pg_sys::AtEOXact_GUC(true, self.level) };
        }
    }
}

thread_local! {
    /// While an `OnlyIndex` lives: a table, and the index of it that the planner may see.
    static VISIBLE: Cell<(pg_sys::Oid, pg_sys::Oid)> = const { Cell::new((pg_sys::InvalidOid, pg_sys::InvalidOid)) };
    static PREVIOUS_HOOK: Cell<pg_sys::get_relation_info_hook_type> = const { Cell::new(None) };
}

/// Keeps all other indexes of a table from the planner for the time of this value, so that of two indexes on the same
/// expression the one asked about is measured.
struct OnlyIndex;

impl OnlyIndex {
    fn visible(table: pg_sys::Oid, index: pg_sys::Oid) -> OnlyIndex {
        VISIBLE.set((table, index));
        // SAFETY: hooks are changed by the backend's one thread; the one before is called, and put back on drop.
        unsafe {
            PREVIOUS_HOOK.set(pg_sys::get_relation_info_hook);
            pg_sys::get_relation_info_hook = Some(hide_other_indexes);
        }
        OnlyIndex
    }
}

impl Drop for OnlyIndex {
    fn drop(&mut self) {
        // SAFETY: as in `visible`.
        unsafe { pg_sys::get_relation_info_hook = PREVIOUS_HOOK.take() };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn hide_other_indexes(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    inherited: bool,
    rel: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: the planner's own pointers, passed on; `indexlist` is a list of IndexOptInfo.
    unsafe {
        if let Some(previous) = PREVIOUS_HOOK.get() {
            pg_guard_ffi_boundary(|| previous(root, relation, inherited, rel));
        }
        let (table, index) = VISIBLE.get();
        if relation != table {
            return;
        }
        let mut kept = PgList::<pg_sys::IndexOptInfo>::new();
        for info in PgList::<pg_sys::IndexOptInfo>::from_pg((*rel).indexlist).iter_ptr() {
            if (*info).indexoid == index {
                kept.push(info);
            }
        }
        (*rel).indexlist = kept.into_pg();
    }
}

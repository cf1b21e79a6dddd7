//! `leann.recall`: how much of the truth an index finds, measured on its own table.
//!
//! Each query runs through the index as any client's would, under the session's settings, and its rows are compared
//! with the nearest rows of the whole table, which is embedded once for all queries, in batches. That pass costs as
//! much as building the index does.
//!
//! The table is read, and the functions of the index run, with the caller's rights, so that row security holds; or with those
//! of the table's owner where the caller has them, so that a superuser does not run with his own rights what others wrote.

use std::collections::HashSet;
use std::ffi::CString;
use std::rc::Rc;

use leann_page::HeapPointer;
use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::prelude::*;

use super::embedding::{self, Embedding};
use super::operators::{Strategy, require_same_dimensions, squared_distance};
use super::{Text, introspect};
use crate::am::build::heap_pointer;
use crate::am::state;
use crate::error::{Error, OrRaise, Result};
use crate::model;
use crate::pg::only_index::OnlyIndex;
use crate::pg::relation::OpenIndex;
use crate::pg::rights::AsOwner;
use crate::pg::settings::LocalSettings;
use crate::pg::spi::{self, Statement};
use crate::pg::{deparse, interrupts};
use crate::stats;

/// Most rows that can be asked for each query.
const MAX_K: i32 = 10_000;

/// Rows of the table embedded together.
const CHUNK: i64 = 256;

/// Two squared distances that differ by less are equal: a model's numbers depend a little on what else is in a batch.
const TIE: f64 = 1e-6;

/// A row by its heap pointer, and the square of its L2 distance to the query.
#[derive(Clone)]
struct Near {
    row: HeapPointer,
    squared: f64,
}

/// What one index scan gave.
struct Found {
    rows: Vec<HeapPointer>,
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
    (name!(query, Text), name!(recall, Option<f64>), name!(recomputes, i64), name!(pages, i64)),
> {
    if !(1..=MAX_K).contains(&k) {
        Error::invalid(format!("k must be between 1 and {MAX_K}, not {k}")).raise();
    }
    // NULLs have no nearest rows, and no line in the result.
    let queries: Vec<String> =
        queries.iter().flatten().map(|query| super::utf8(query).into_owned()).collect();
    let open = introspect::open(index);
    let _owner = AsOwner::if_allowed(open.table().owner());
    let (found, truth) = measure(&open, &queries, k).or_raise();
    let lines: Vec<_> = queries
        .into_iter()
        .zip(found)
        .zip(truth)
        .map(|((query, found), truth)| {
            let recall = share_found(&found.rows, &truth, k as usize);
            (Text(query), recall, found.recomputes, found.pages)
        })
        .collect();
    TableIterator::new(lines)
}

fn measure(open: &OpenIndex, queries: &[String], k: i32) -> Result<(Vec<Found>, Vec<Vec<Near>>)> {
    if let Some(obstacle) = state::obstacle(open.index(), open.table()) {
        obstacle.raise();
    }
    // One connection, and the snapshot of the statement around it for all queries.
    spi::connected(|| {
        let text = StatementTexts::of(open)?;
        let found = scan_all(open, &text, queries, k)?;
        Ok((found, exact(&text, queries, k as usize)?))
    })
}

/// The statements over the table behind an index. The function runs with `search_path = pg_catalog`, so every other name
/// comes qualified.
struct StatementTexts {
    /// Without its LIMIT; the query is a parameter, so that no log and no statistics of statements show it.
    nearest: Vec<u8>,
    whole_table: CString,
}

impl StatementTexts {
    fn of(open: &OpenIndex) -> Result<StatementTexts> {
        let (index, table) = (open.index(), open.table());
        let operator = deparse::index_operator(index, Strategy::L2 as i16, pg_sys::TEXTOID)
            .ok_or_else(|| Error::invalid("the index's operator class has no distance to a text"))?;
        let (name, expression) = (deparse::relation_name(table), deparse::index_expression(index));
        let (name, expression) = (name.to_bytes(), expression.to_bytes());
        let predicate = deparse::index_predicate(index, table);
        let condition = predicate.as_deref().map_or(Vec::new(), |p| [b" WHERE ", p.to_bytes()].concat());
        let from = [b" FROM ONLY ".as_slice(), name, &condition].concat();
        let whole_table = [b"SELECT ctid, ".as_slice(), expression, &from].concat();
        Ok(StatementTexts {
            nearest: [b"SELECT ctid", &*from, b" ORDER BY (", expression, b") ", &operator, b" $1"].concat(),
            whole_table: CString::new(whole_table).expect("the server's strings have no null character"),
        })
    }
}

/// Runs every query through the index, under the session's settings but for those that would choose another plan.
fn scan_all(open: &OpenIndex, text: &StatementTexts, queries: &[String], k: i32) -> Result<Vec<Found>> {
    let _planner = OnlyIndex::of_table(open.table().oid(), open.index().oid());
    let _settings = LocalSettings::set(&[(c"enable_seqscan", c"off"), (c"enable_bitmapscan", c"off")]);
    let limited = [&*text.nearest, format!(" LIMIT {k}").as_bytes()].concat();
    let limited = CString::new(limited).expect("the server's strings have no null character");
    let statement = Statement::prepare(&limited, &[pg_sys::TEXTOID]);
    if !statement.reads_index(open.index().oid()) {
        return Err(cannot_use_index());
    }
    queries.iter().map(|query| scan(&statement, query)).collect()
}

fn cannot_use_index() -> Error {
    Error::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "the planner cannot use the index",
    )
    .hint(
        "The index must be valid, of the model that the query is embedded with (leann.default_model), and, for a user who may \
         not see every row, on functions that do not depend on his search_path.",
    )
}

/// The rows that the index gives for a query, from an empty cache, so that the figures do not depend on the queries before
/// it.
fn scan(statement: &Statement, query: &str) -> Result<Found> {
    interrupts::check();
    model::clear_cache();
    let _uncounted = model::guard::Exempt::now();
    let _cold = model::shared::PassedOver::now();
    let before = stats::so_far();
    let mut rows = Vec::new();
    let parameter = Text(query.to_owned()).into_datum().expect("a text is not null");
    statement.for_each_row(&[parameter], |row| {
        // SAFETY: the column is a ctid, which points to an item pointer.
        rows.extend(row.value(1, pg_sys::TIDOID).map(|ctid| unsafe { heap_pointer(ctid.cast_mut_ptr()) }));
    });
    let figures = stats::so_far().since(&before);
    Ok(Found { rows, recomputes: figures.recomputes as i64, pages: figures.pages as i64 })
}

/// The `k` nearest rows of the table to each query, and those that are as near as the last of them.
fn exact(text: &StatementTexts, queries: &[String], k: usize) -> Result<Vec<Vec<Near>>> {
    let mut nearest = vec![Nearest::new(k); queries.len()];
    let mut vectors: Option<Vec<Rc<[f32]>>> = None;
    let embedding_type = Embedding::type_oid();
    let statement = Statement::prepare(&text.whole_table, &[]);
    let mut cursor = statement.cursor();
    let mut rows: Vec<(HeapPointer, Embedding)> = Vec::new();
    while cursor.next_rows(CHUNK, |row| rows.extend(read(row, embedding_type))) {
        let default = model::default_name();
        let model = rows.iter().find_map(|(_, value)| value.model()).unwrap_or(&default).to_owned();
        let values: Vec<&Embedding> = rows.iter().map(|(_, value)| value).collect();
        let embedded = embedding::vectors(&values, &model)?;
        if let (None, Some(first)) = (&vectors, embedded.first()) {
            vectors = Some(query_vectors(queries, &model, first.len())?);
        }
        let vectors = vectors.as_deref().unwrap_or_default();
        for ((row, _), embedding) in rows.iter().zip(&embedded) {
            for (query, nearest) in vectors.iter().zip(&mut nearest) {
                require_same_dimensions(embedding.len(), query.len())?;
                nearest.add(*row, squared_distance(embedding, query));
            }
        }
        rows.clear();
    }
    Ok(nearest.into_iter().map(|nearest| nearest.rows).collect())
}

/// The vectors of the queries, each read as the operator reads its operand.
fn query_vectors(queries: &[String], model: &str, dim: usize) -> Result<Vec<Rc<[f32]>>> {
    let queries: Vec<Embedding> = queries.iter().map(|query| Embedding::operand(query, dim)).collect();
    embedding::vectors(&queries.iter().collect::<Vec<_>>(), model)
}

/// A row of the table and its embedding; None for one without text, which has no place in the index.
fn read(row: &spi::Row, embedding: pg_sys::Oid) -> Option<(HeapPointer, Embedding)> {
    let (ctid, value) = (row.value(1, pg_sys::TIDOID)?, row.value(2, embedding)?);
    let mut scratch = PgMemoryContexts::new("leann recall");
    // SAFETY: the columns are a ctid, which points to an item pointer, and a value of type embedding. Detoasting leaves
    // nothing behind that outlives the context.
    unsafe {
        let value = scratch.switch_to(|_| Embedding::from_datum(value, false))?;
        Some((heap_pointer(ctid.cast_mut_ptr()), value))
    }
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

    fn add(&mut self, row: HeapPointer, squared: f64) {
        if self.rows.len() >= self.k && squared > self.rows[self.k - 1].squared + TIE {
            return;
        }
        let at = self.rows.partition_point(|near| near.squared <= squared);
        self.rows.insert(at, Near { row, squared });
        if let Some(last) = self.rows.get(self.k - 1).map(|near| near.squared + TIE) {
            self.rows.truncate(self.rows.partition_point(|near| near.squared <= last));
        }
    }
}

/// The share of the `k` nearest rows that were found. Any of several rows that tie for the last places will do.
/// `None` where there is nothing to find.
fn share_found(found: &[HeapPointer], truth: &[Near], k: usize) -> Option<f64> {
    let wanted = k.min(truth.len());
    let truth: HashSet<HeapPointer> = truth.iter().map(|near| near.row).collect();
    let hits = found.iter().filter(|row| truth.contains(row)).count();
    (wanted > 0).then(|| hits.min(wanted) as f64 / wanted as f64)
}

//! `leann.recall`: measures on an index's own table which share of the nearest rows the index finds.
//!
//! Each query runs through the index as a client's query does, under the session's settings. Its rows are
//! compared with the nearest rows of the whole table, which is embedded once for all queries, in batches.
//! That pass costs as much as building the index does.
//!
//! Where the caller gives no queries, a pass before these draws them from the table (`recall_sample`). It
//! embeds nothing. The pass for the nearest rows cannot draw them too: it needs the queries from its first
//! row on, and the sample is complete only after the last.
//!
//! The table is read and the functions of the index run with the caller's rights, so that row security holds.
//! A caller who has the rights of the table's owner uses those, so that a superuser does not run code of
//! other users with superuser rights.

use std::collections::HashSet;
use std::ffi::CString;
use std::rc::Rc;

use leann_page::HeapPointer;
use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::prelude::*;

use super::recall_sample::Sample;
use super::{introspect, obstacle, stats};
use crate::error::{Error, OrRaise, Result};
use crate::model;
use crate::pg::hide_indexes::HideOtherIndexes;
use crate::pg::relation::OpenIndex;
use crate::pg::rights::AsOwner;
use crate::pg::settings::LocalSettings;
use crate::pg::spi::{self, Statement};
use crate::pg::{deparse, interrupts, random, tid};
use crate::sql::operators::{Strategy, require_same_dimensions};
use crate::value::{Embedding, Text};
use leann_vector::exact_squared_distance;

/// Maximum rows per query.
const MAX_K: i32 = 10_000;

/// Maximum queries that are drawn from the table.
const MAX_SAMPLES: i32 = 10_000;

/// Maximum rows of the table that are read and embedded together.
const MAX_BATCH_ROWS: i64 = 256;

/// Maximum difference of two squared distances that count as equal. A model's numbers depend a little on the
/// other texts in a batch.
const TIE_TOLERANCE: f64 = 1e-6;

/// A row by its heap pointer, and the square of its L2 distance to the query.
#[derive(Clone)]
struct Neighbor {
    row: HeapPointer,
    squared: f64,
}

/// What one index scan returned, and its figures.
struct SearchResult {
    rows: Vec<HeapPointer>,
    recomputes: i64,
    pages: i64,
}

/// What the function returns for a query: the query, its recall, and the recomputes and pages of its scan.
type Line = (Text, Option<f64>, i64, i64);

/// Returns the recall of each query and the figures of its scan: `leann.recall(index, queries, k, samples)`.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn leann_recall(
    index: Option<pg_sys::Oid>,
    queries: Option<Array<'_, &[u8]>>,
    k: Option<i32>,
    samples: Option<i32>,
) -> TableIterator<
    'static,
    (name!(query, Text), name!(recall, Option<f64>), name!(recomputes, i64), name!(pages, i64)),
> {
    // Without queries, it draws some. For any other NULL it returns what a strict function would.
    let (Some(index), Some(k), Some(samples)) = (index, k, samples) else {
        return TableIterator::new([]);
    };
    for (name, value, most) in [("k", k, MAX_K), ("samples", samples, MAX_SAMPLES)] {
        if !(1..=most).contains(&value) {
            Error::invalid(format!("{name} must be between 1 and {most}, not {value}")).raise();
        }
    }
    // A NULL in the array has no nearest rows, and no row in the result.
    let queries: Option<Vec<String>> = queries.map(|queries| {
        queries.iter().flatten().map(|query| crate::encoding::utf8(query).into_owned()).collect()
    });
    let open = introspect::open(index);
    let _owner = AsOwner::if_allowed(open.table().owner());
    TableIterator::new(measure(&open, queries, samples as usize, k).or_raise())
}

/// Compares for each query what the index finds with the nearest rows of the table. Draws the queries from
/// the table if there are none.
fn measure(open: &OpenIndex, queries: Option<Vec<String>>, samples: usize, k: i32) -> Result<Vec<Line>> {
    if let Some(obstacle) = obstacle::find(open.index(), open.table()) {
        obstacle.raise();
    }
    // All statements use one connection and the snapshot of the surrounding statement.
    spi::connected(|| {
        let text = StatementTexts::new(open)?;
        let queries = queries.unwrap_or_else(|| draw_queries(&text, samples));
        let found = search_index(open, &text, &queries, k)?;
        let truth = search_table(&text, &queries, k as usize)?;
        let found = queries.into_iter().zip(found).zip(truth);
        Ok(found
            .map(|((query, found), truth)| {
                let recall = share_found(&found.rows, &truth, k as usize);
                (Text(query), recall, found.recomputes, found.pages)
            })
            .collect())
    })
}

/// The statements over the table of an index. The function runs with `search_path = pg_catalog`, so all other
/// names are qualified.
struct StatementTexts {
    /// The nearest rows, without the LIMIT. The query is a parameter, so that no log and no statistics of
    /// statements show it.
    nearest: Vec<u8>,
    /// All rows that the index may hold.
    whole_table: CString,
}

impl StatementTexts {
    /// Composes the statements from the definition of the index.
    fn new(open: &OpenIndex) -> Result<StatementTexts> {
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

/// Draws queries from the rows that the index holds and the caller sees. Embeds nothing.
fn draw_queries(text: &StatementTexts, samples: usize) -> Vec<String> {
    let mut sample = Sample::new(samples, random::number());
    let embedding_type = Embedding::type_oid();
    let statement = Statement::prepare(&text.whole_table, &[]);
    let mut cursor = statement.cursor();
    let mut offer = |row: &spi::Row| sample.offer(|| read_value(row, embedding_type).map(|value| value.0));
    while cursor.next_rows(MAX_BATCH_ROWS, &mut offer) {
        interrupts::check();
    }
    sample.into_queries()
}

/// Runs every query through the index, under the session's settings except those that would choose another
/// plan.
fn search_index(
    open: &OpenIndex,
    text: &StatementTexts,
    queries: &[String],
    k: i32,
) -> Result<Vec<SearchResult>> {
    let _planner = HideOtherIndexes::new(open.table().oid(), open.index().oid());
    let _settings = LocalSettings::set(&[(c"enable_seqscan", c"off"), (c"enable_bitmapscan", c"off")]);
    let limited = [&*text.nearest, format!(" LIMIT {k}").as_bytes()].concat();
    let limited = CString::new(limited).expect("the server's strings have no null character");
    let statement = Statement::prepare(&limited, &[pg_sys::TEXTOID]);
    if !statement.reads_index(open.index().oid()) {
        return Err(cannot_use_index());
    }
    queries.iter().map(|query| search_once(&statement, query)).collect()
}

/// Returns the error for an index that the planner does not choose.
fn cannot_use_index() -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "the planner cannot use the index")
        .hint(
            "The index must be valid and use the model that embeds the query (leann.default_model). \
         For a user who may not see every row, its functions must not depend on the user's search_path.",
        )
}

/// Returns the rows that the index finds for a query. Empties the cache first, so that the figures do not
/// depend on earlier queries.
fn search_once(statement: &Statement, query: &str) -> Result<SearchResult> {
    interrupts::check();
    model::clear_cache();
    let _uncounted = model::guard::Exempt::now();
    let _cold = model::shared::BypassSharedCache::new();
    let before = stats::current_statement();
    let mut rows = Vec::new();
    let parameter = Text(query.to_owned()).into_datum().expect("a text is not null");
    statement.for_each_row(&[parameter], |row| {
        // SAFETY: the column is a ctid, whose datum points to an item pointer.
        rows.extend(row.value(1, pg_sys::TIDOID).map(|ctid| unsafe { tid::read(ctid.cast_mut_ptr()) }));
    });
    let figures = stats::current_statement().since(&before);
    Ok(SearchResult { rows, recomputes: figures.recomputes as i64, pages: figures.pages as i64 })
}

/// Returns the `k` nearest rows of the table to each query, and those that are as near as the last of them.
fn search_table(text: &StatementTexts, queries: &[String], k: usize) -> Result<Vec<Vec<Neighbor>>> {
    let mut nearest = vec![NearestRows::new(k); queries.len()];
    let mut vectors: Option<Vec<Rc<[f32]>>> = None;
    let embedding_type = Embedding::type_oid();
    let statement = Statement::prepare(&text.whole_table, &[]);
    let mut cursor = statement.cursor();
    let mut rows: Vec<(HeapPointer, Embedding)> = Vec::new();
    while cursor.next_rows(MAX_BATCH_ROWS, |row| rows.extend(read_row(row, embedding_type))) {
        let default = model::default_name();
        let model = rows.iter().find_map(|(_, value)| value.model()).unwrap_or(&default).to_owned();
        let values: Vec<&Embedding> = rows.iter().map(|(_, value)| value).collect();
        let embedded = model::vectors(&values, &model)?;
        if let (None, Some(first)) = (&vectors, embedded.first()) {
            vectors = Some(query_vectors(queries, &model, first.len())?);
        }
        let vectors = vectors.as_deref().unwrap_or_default();
        for ((row, _), embedding) in rows.iter().zip(&embedded) {
            for (query, nearest) in vectors.iter().zip(&mut nearest) {
                require_same_dimensions(embedding.len(), query.len())?;
                nearest.add(*row, exact_squared_distance(embedding, query));
            }
        }
        rows.clear();
    }
    Ok(nearest.into_iter().map(|nearest| nearest.rows).collect())
}

/// Returns the vectors of the queries, each read as the operator reads its operand.
fn query_vectors(queries: &[String], model: &str, dim: usize) -> Result<Vec<Rc<[f32]>>> {
    let queries: Vec<Embedding> = queries.iter().map(|query| Embedding::operand(query, dim)).collect();
    model::vectors(&queries.iter().collect::<Vec<_>>(), model)
}

/// Reads a row of the table and its embedding. Returns None for a row without text, which the index does not
/// hold.
fn read_row(row: &spi::Row, embedding: pg_sys::Oid) -> Option<(HeapPointer, Embedding)> {
    let (ctid, value) = (row.value(1, pg_sys::TIDOID)?, read_value(row, embedding)?);
    // SAFETY: the column is a ctid, whose datum points to an item pointer.
    Some((unsafe { tid::read(ctid.cast_mut_ptr()) }, value))
}

/// Reads the embedding of a row of the table, or None as `read_row` does.
fn read_value(row: &spi::Row, embedding: pg_sys::Oid) -> Option<Embedding> {
    let value = row.value(2, embedding)?;
    let mut scratch = PgMemoryContexts::new("leann recall");
    // SAFETY: the column is a value of type embedding. All that detoasting allocates goes with the context.
    unsafe { scratch.switch_to(|_| Embedding::from_datum(value, false)) }
}

/// The `k` nearest rows so far, nearest first, and those that tie with the last of them.
#[derive(Clone)]
struct NearestRows {
    k: usize,
    rows: Vec<Neighbor>,
}

impl NearestRows {
    fn new(k: usize) -> NearestRows {
        NearestRows { k, rows: Vec::new() }
    }

    /// Adds a row if it is near enough.
    fn add(&mut self, row: HeapPointer, squared: f64) {
        if self.rows.len() >= self.k && squared > self.rows[self.k - 1].squared + TIE_TOLERANCE {
            return;
        }
        let at = self.rows.partition_point(|near| near.squared <= squared);
        self.rows.insert(at, Neighbor { row, squared });
        if let Some(last) = self.rows.get(self.k - 1).map(|near| near.squared + TIE_TOLERANCE) {
            self.rows.truncate(self.rows.partition_point(|near| near.squared <= last));
        }
    }
}

/// Returns the share of the `k` nearest rows that were found. Any of the rows that tie for the last places
/// count. Returns None if there is nothing to find.
fn share_found(found: &[HeapPointer], truth: &[Neighbor], k: usize) -> Option<f64> {
    let wanted = k.min(truth.len());
    let truth: HashSet<HeapPointer> = truth.iter().map(|near| near.row).collect();
    let hits = found.iter().filter(|row| truth.contains(row)).count();
    (wanted > 0).then(|| hits.min(wanted) as f64 / wanted as f64)
}

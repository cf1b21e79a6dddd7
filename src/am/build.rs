//! CREATE INDEX: reads the table once, embeds its rows in batches, trains a sketcher, lays out pages, writes
//! and WAL-logs them.

use super::build_scan::{self, Collected};
use super::errors;
use super::model_identity::{self, ModelIdentity};
use super::options::{Options, Store};
use super::page_writer;
use super::pages::read_meta;
use crate::error::{OrRaise, raise_internal};
use crate::guc;
use crate::model::{self, Loaded};
use crate::pg::buffer::BODY_BYTES;
use crate::pg::expression::{self, Definition};
use crate::pg::progress::{self, Phase};
use crate::pg::{Rel, allocator, interrupts, random, wal};
use crate::session::{self, State};
use leann_graph::F16Vectors;
use leann_layout::{Image, LayoutError, Planned, SourceRows, Training};
use leann_sketch::Sketcher;
use pgrx::pg_sys;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

/// The embeddings of no rows.
static NO_ROWS: F16Vectors<'static> = F16Vectors::new(&[], 1);

/// Returns the memory of a build to the system when all of it is free, also after an error.
struct TrimOnDrop;

impl Drop for TrimOnDrop {
    fn drop(&mut self) {
        allocator::trim();
    }
}

/// Start of the statement that last announced the default model for an index of a partition.
#[derive(Default)]
struct DefaultNotice(pg_sys::TimestampTz);

impl State for DefaultNotice {}

/// Tells the user that a new index uses the default model: once for all partitions, and not in a rebuild.
fn announce_default_model(index: Rel, model: &str) {
    // SAFETY: reads this backend's state, and the row of pg_class that every open index has.
    let (rebuilt, partition, now) = unsafe {
        (
            pg_sys::ReindexIsProcessingIndex(index.oid()),
            (*(*index.raw()).rd_rel).relispartition,
            pg_sys::GetCurrentStatementStartTimestamp(),
        )
    };
    let said = partition && session::with(|DefaultNotice(at)| std::mem::replace(at, now)) == now;
    if !rebuilt && !said {
        errors::notice_default_model(&index.name(), model);
    }
}

/// Builds an index for the server.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn ambuild(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
) -> *mut pg_sys::IndexBuildResult {
    // SAFETY: the server passes both relations open and locked, and the index's description.
    let (heap_rows, index_rows) = unsafe {
        let (table, index) = (Rel::from_raw(table), Rel::from_raw(index));
        build(table, index, info)
    };
    // SAFETY: allocates a zeroed result of the right size in the current context; the server frees it.
    unsafe {
        let result = pg_sys::palloc0(size_of::<pg_sys::IndexBuildResult>()) as *mut pg_sys::IndexBuildResult;
        (*result).heap_tuples = heap_rows;
        (*result).index_tuples = index_rows as f64;
        result
    }
}

/// Builds an index. Returns the number of rows in the table and in the index.
///
/// # Safety
/// `info` describes the open index.
unsafe fn build(table: Rel, index: Rel, info: *mut pg_sys::IndexInfo) -> (f64, usize) {
    let _trim = TrimOnDrop;
    check_key_type(table, index);
    check_is_heap(table, index);
    if is_replaced_by_upgrade(index) {
        return (0.0, 0);
    }
    if index.blocks() != 0 {
        raise_internal(format!("index \"{}\" already contains data", index.name()));
    }
    let options = Options::read(index);
    if let Some(identity) = model_identity::remembered(table, index) {
        write_empty(index, &identity, &options);
        return (0.0, 0);
    }
    let model = load_model(index);
    if options.store == Store::Float16 {
        page_writer::check_room(index, model.name(), model.dim());
    }
    progress::phase(Phase::Embedding);
    // SAFETY: reads a setting.
    let work_mem = unsafe { pg_sys::maintenance_work_mem } as usize * 1024;
    // SAFETY: the caller promises that `info` describes the open index.
    let collected = unsafe { build_scan::read_table(table, index, info, &model, work_mem) };
    write_collected(index, &model, &options, collected)
}

/// Returns whether pg_upgrade makes the index only to put the old one's file in its place, which needs no
/// model. An unlogged index is not replaced: it keeps what is built here as its init fork, which names a
/// model.
fn is_replaced_by_upgrade(index: Rel) -> bool {
    // SAFETY: reads a setting.
    unsafe { pg_sys::IsBinaryUpgrade && index.is_permanent() }
}

/// Returns the model of a new index. Tells the user if it is the default one.
fn load_model(index: Rel) -> Rc<Loaded> {
    let definition = expression::definition(index);
    let model = model::get(&definition.model()).or_raise();
    if matches!(definition, Definition::Default) {
        announce_default_model(index, model.name());
    }
    model
}

/// Writes an index over the rows of its table. Returns the number of rows in the table and in the index.
fn write_collected(index: Rel, model: &Loaded, options: &Options, collected: Collected) -> (f64, usize) {
    let Collected { heap_rows, vectors, pointers, cut } = collected;
    let rows = pointers.len();
    let vectors = vectors.finish();
    let identity =
        ModelIdentity { model: model.name().to_owned(), fingerprint: model.fingerprint(), dim: model.dim() };
    if rows == 0 {
        write_empty(index, &identity, options);
    } else {
        let embeddings = F16Vectors::new(vectors.values(), model.dim());
        let rows = SourceRows { embeddings: &embeddings, dim: model.dim(), pointers: &pointers };
        write_rows(index, rows, &identity, options, cut);
    }
    if cut > 0 {
        errors::notice_truncated(&index.name(), cut, rows, model.name(), model.max_tokens());
    }
    model_identity::remember(index, identity);
    (heap_rows, rows)
}

/// Trains, lays out, writes and WAL-logs an index over rows.
fn write_rows(
    index: Rel,
    rows: SourceRows<'_>,
    identity: &ModelIdentity,
    options: &Options,
    truncated_rows: usize,
) {
    let options = options.for_build(random::number());
    progress::phase(Phase::Training);
    let Training { sketcher, rows: rows_trained } =
        on_threads("training the sketch of an index", |stop| leann_layout::train(rows, &options, stop));
    progress::phase(Phase::Layout);
    let planned =
        on_threads("laying out an index", |stop| leann_layout::lay_out(rows, &sketcher, &options, stop));
    let image = Image {
        rows_trained,
        truncated_rows,
        embeddings: rows.embeddings,
        pointers: rows.pointers,
        ..empty_image(identity, &sketcher, &planned, options.seed)
    };
    progress::phase(Phase::Writing);
    let blocks = page_writer::write(index, pg_sys::ForkNumber::MAIN_FORKNUM, &image);
    wal::log_range(index, 0..blocks);
}

/// Runs one step of the plan on the build's threads.
fn on_threads<R: Send>(
    what: &str,
    work: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> Result<R, LayoutError> + Send,
) -> R {
    interrupts::run_on_threads(guc::threads(), |stop| work(&|| stop.load(Relaxed))).unwrap_or_else(|error| {
        match error {
            LayoutError::NoMemory => allocator::raise_no_room(what),
            LayoutError::Sketch(error) => raise_internal(format!("{what}: {error}")),
            // An interrupt stopped the threads and was not raised afterwards. This cannot happen, but must
            // not hang.
            LayoutError::Stopped => raise_internal(format!("{what} was interrupted")),
        }
    })
}

/// Returns an index over no rows, whose parts the caller may replace.
fn empty_image<'a>(
    identity: &'a ModelIdentity,
    sketcher: &'a Sketcher,
    planned: &'a Planned,
    seed: u64,
) -> Image<'a> {
    Image {
        model: &identity.model,
        fingerprint: identity.fingerprint,
        sketcher,
        seed,
        index_id: random::number(),
        rows_trained: 0,
        truncated_rows: 0,
        embeddings: &NO_ROWS,
        pointers: &[],
        planned,
        body_bytes: BODY_BYTES,
    }
}

/// Writes an index over no rows into a fork. Returns the number of blocks.
fn write_empty_fork(
    index: Rel,
    fork: pg_sys::ForkNumber::Type,
    identity: &ModelIdentity,
    options: &Options,
) -> u32 {
    let options = options.for_build(random::number());
    let sketcher = options.first_sketcher(identity.dim);
    let planned = leann_layout::planned_empty(&sketcher);
    page_writer::write(index, fork, &empty_image(identity, &sketcher, &planned, options.seed))
}

/// Writes and WAL-logs an index over no rows.
fn write_empty(index: Rel, identity: &ModelIdentity, options: &Options) {
    progress::phase(Phase::Writing);
    let blocks = write_empty_fork(index, pg_sys::ForkNumber::MAIN_FORKNUM, identity, options);
    wal::log_range(index, 0..blocks);
}

/// Refuses an index on text. The operator class for text exists so that this message can be given instead of
/// "data type text has no default operator class".
fn check_key_type(table: Rel, index: Rel) {
    // SAFETY: an open index has one key column, described by its operator class's input type.
    if unsafe { *(*index.raw()).rd_opcintype } == pg_sys::TEXTOID {
        errors::raise_text_column(&table.name(), &key_column(index));
    }
}

/// Returns the name of the key column, or "expression" if the key is not a column.
fn key_column(index: Rel) -> String {
    // SAFETY: an open index has its row of pg_index, with one key column. The name is a palloc'd C string.
    unsafe {
        let row = (*index.raw()).rd_index;
        let key = (*row).indkey.values.as_slice(1)[0];
        if key <= 0 {
            return "expression".to_string();
        }
        let name = pg_sys::get_attname((*row).indrelid, key, false);
        std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

/// Refuses tables that are not heaps. A scan relies on row pointers being block numbers of the table's file,
/// and on what the heap does with a pointer whose row is gone.
fn check_is_heap(table: Rel, index: Rel) {
    // SAFETY: an open relation has its row of pg_class.
    let method = unsafe { (*(*table.raw()).rd_rel).relam };
    if method != pg_sys::HEAP_TABLE_AM_OID {
        errors::raise_not_a_heap(&index.name(), &table.name());
    }
}

/// Writes the init fork of an unlogged index: an index over no rows. The server calls this after `ambuild`,
/// so the model can be read from the main fork.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn ambuildempty(index: pg_sys::Relation) {
    // SAFETY: the server passes the index open and locked.
    let rel = unsafe { Rel::from_raw(index) };
    let meta = read_meta(rel);
    let identity = ModelIdentity { model: meta.model, fingerprint: meta.fingerprint, dim: meta.dim as usize };
    write_empty_fork(rel, pg_sys::ForkNumber::INIT_FORKNUM, &identity, &Options::read(rel));
}

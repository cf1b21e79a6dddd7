//! CREATE INDEX: read the table once, embed in batches, train, lay out, write, log.

use super::collect::{self, Collected};
use super::errors;
use super::identity::{self, Identity};
use super::index::{corrupted, read_meta};
use super::layout::{self, Centre, Contents, ENTRY_HUBS, MAX_LINKS, NewPage, bulk_size, centre_len};
use super::options::{Options, Store};
use crate::error::OrRaise;
use crate::guc;
use crate::model::{self, Loaded};
use crate::pg::progress::{self, Phase};
use crate::pg::spill::Vectors;
use crate::pg::{Rel, expression, interrupts, memory, wal};
use leann_graph::room::{collected, with_room};
use leann_graph::{F16Rows, Rows, Unfinished};
use leann_page::HeapPointer;
use leann_sketch::{MIN_TRAINING_ROWS, SketchError, Sketcher, TrainOptions};
use pgrx::pg_sys;
use std::cell::Cell;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

/// Rows that a table is taken to grow to at the least: a sketch of few directions, which is smaller, fits rows to come badly.
const GROWS_TO: usize = 5_000;
/// Rows that the sketch is trained on at most.
const TRAIN_ROWS: usize = 20_000;
/// Rows of a table of `rows` that the sketch is trained on.
fn train_rows(rows: usize, dim: usize) -> usize {
    rows.min(TRAIN_ROWS).min(leann_sketch::most_training_rows(dim))
}

/// Gives the memory of a build back to the system when all of it is free, also after an error.
struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        memory::trim();
    }
}

/// The model that an index is defined on: the one its expression names, else the session's default, and whether it is that.
fn model_of(index: Rel) -> (String, bool) {
    match expression::definition(index) {
        expression::Definition::Model(model) => (model, false),
        expression::Definition::Default => (model::default_name(), true),
    }
}

thread_local! {
    /// Start of the statement in which an index of a partition was last said to take the default model.
    static SAID_AT: Cell<pg_sys::TimestampTz> = const { Cell::new(0) };
}

/// Says that a new index takes the default model. Not when it is rebuilt, and once for all partitions.
fn say_default(index: Rel, model: &str) {
    // SAFETY: plain questions about this backend's state, and the index's row of pg_class.
    let (rebuilt, partition, now) = unsafe {
        (
            pg_sys::ReindexIsProcessingIndex(index.oid()),
            (*(*index.raw()).rd_rel).relispartition,
            pg_sys::GetCurrentStatementStartTimestamp(),
        )
    };
    let said = partition && SAID_AT.replace(now) == now;
    if !rebuilt && !said {
        errors::notice_default_model(&index.name(), model);
    }
}

#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn ambuild(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
) -> *mut pg_sys::IndexBuildResult {
    // SAFETY: the server hands over both relations open and locked, and the index's description.
    let (heap_rows, index_rows) = unsafe {
        let (table, index) = (Rel::from_raw(table), Rel::from_raw(index));
        build(table, index, info)
    };
    // SAFETY: a zeroed result of the right size in the current context, freed by the server.
    unsafe {
        let result = pg_sys::palloc0(size_of::<pg_sys::IndexBuildResult>()) as *mut pg_sys::IndexBuildResult;
        (*result).heap_tuples = heap_rows;
        (*result).index_tuples = index_rows as f64;
        result
    }
}

/// # Safety
/// `info` describes the open index.
unsafe fn build(table: Rel, index: Rel, info: *mut pg_sys::IndexInfo) -> (f64, usize) {
    let _give_back = GiveBack;
    check_key_type(table, index);
    super::tables::check_table(table, index);
    // pg_upgrade makes the index only to put the old one's file in its place: no model is needed for that. (An unlogged
    // index keeps what is made here as its init fork, and that has a model.)
    // SAFETY: reads a setting.
    if unsafe { pg_sys::IsBinaryUpgrade } && index.is_permanent() {
        return (0.0, 0);
    }
    if index.blocks() != 0 {
        errors::raise_internal(format!("index \"{}\" already contains data", index.name()));
    }
    let options = Options::of(index);
    if let Some(identity) = identity::of_emptied(table, index) {
        write_empty(index, &identity, &options);
        return (0.0, 0);
    }
    let (name, default) = model_of(index);
    let model = model::get(&name).or_raise();
    if default {
        say_default(index, &name);
    }
    check_room(index, &model, &options);
    progress::phase(Phase::Embedding);
    // SAFETY: reads a setting.
    let work_mem = unsafe { pg_sys::maintenance_work_mem } as usize * 1024;
    // SAFETY: by the caller's promise.
    let Collected { heap_rows, vectors, pointers, cut } =
        unsafe { collect::rows(table, index, info, &model, work_mem) };
    let rows = pointers.len();
    let vectors = vectors.finish();
    let identity =
        Identity { model: model.name().to_owned(), fingerprint: model.fingerprint(), dim: model.dim() };
    if rows == 0 {
        write_empty(index, &identity, &options);
    } else {
        let dim = model.dim();
        let seed = random_u64();
        let work = LayOut { vectors: &vectors, pointers: &pointers, truncated_rows: cut, dim, options, seed };
        let blocks = work.write(index, &identity, guc::threads());
        wal::log_range(index, 0..blocks);
    }
    if cut > 0 {
        errors::notice_truncated(&index.name(), cut, rows, model.name(), model.max_tokens());
    }
    identity::remember(index, identity);
    (heap_rows, rows)
}

/// Writes an index over no rows.
fn write_empty(index: Rel, identity: &Identity, options: &Options) {
    progress::phase(Phase::Writing);
    let seed = random_u64();
    let sketcher = options.first_sketcher(identity.dim, seed);
    let blocks = layout::empty(&identity.model, identity.fingerprint, &sketcher, seed, random_u64())
        .write(index, pg_sys::ForkNumber::MAIN_FORKNUM)
        .unwrap_or_else(|fault| corrupted(index, 0, fault));
    wal::log_range(index, 0..blocks);
}

/// # Safety
/// `tid` points to a valid item pointer.
pub unsafe fn heap_pointer(tid: pg_sys::ItemPointer) -> HeapPointer {
    // SAFETY: by the caller's promise.
    let tid = unsafe { *tid };
    HeapPointer { block: (tid.ip_blkid.bi_hi as u32) << 16 | tid.ip_blkid.bi_lo as u32, offset: tid.ip_posid }
}

/// Refuses an index on anything but the type `embedding`. The operator class for text exists so that this message can
/// be given instead of "data type text has no default operator class".
fn check_key_type(table: Rel, index: Rel) {
    // SAFETY: an open index has one key column, described by its operator class's input type and its definition.
    unsafe {
        let input = *(*index.raw()).rd_opcintype;
        if input != pg_sys::TEXTOID {
            return;
        }
        let key = (*(*index.raw()).rd_index).indkey.values.as_slice(1)[0];
        let column = if key > 0 {
            let name = pg_sys::get_attname((*(*index.raw()).rd_index).indrelid, key, false);
            std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned()
        } else {
            "expression".to_string()
        };
        errors::raise_text_column(&table.name(), &column);
    }
}

/// Refuses to store embeddings of which not two fit on a page: it could not be split.
fn check_room(index: Rel, model: &Loaded, options: &Options) {
    let two_fit = || layout::sure_capacity(Sketcher::float16(model.dim()).sketch_bytes()) >= 2;
    if options.store == Store::Float16 && !two_fit() {
        errors::raise_too_large_to_store(&index.name(), model.name(), model.dim());
    }
}

pub fn random_u64() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer is 8 writable bytes.
    if !unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) } {
        errors::raise_internal("could not generate a random number".to_string());
    }
    u64::from_le_bytes(bytes)
}

/// Everything between the embeddings and the pages.
struct LayOut<'a> {
    vectors: &'a Vectors,
    pointers: &'a [HeapPointer],
    truncated_rows: usize,
    dim: usize,
    options: Options,
    seed: u64,
}

/// Why the worker threads hand back nothing.
enum Fault {
    Stopped,
    NoMemory,
    Sketch(SketchError),
}

impl Fault {
    fn raise(self, what: &str) -> ! {
        match self {
            Fault::NoMemory => memory::raise_no_room(what),
            Fault::Sketch(error) => errors::raise_internal(format!("{what}: {error}")),
            // Stopped for an interrupt that was then not raised after all: cannot happen, but must not hang.
            Fault::Stopped => errors::raise_internal(format!("{what} was interrupted")),
        }
    }
}

impl From<SketchError> for Fault {
    fn from(error: SketchError) -> Fault {
        match error {
            SketchError::Stopped => Fault::Stopped,
            SketchError::NoMemory => Fault::NoMemory,
            error => Fault::Sketch(error),
        }
    }
}

impl From<Unfinished> for Fault {
    fn from(reason: Unfinished) -> Fault {
        match reason {
            Unfinished::Stopped => Fault::Stopped,
            Unfinished::NoMemory => Fault::NoMemory,
        }
    }
}

/// What the worker threads hand back.
struct LaidOut {
    sketcher: Sketcher,
    pages: Vec<NewPage>,
    entries: Vec<u32>,
}

impl LayOut<'_> {
    /// Returns the number of blocks written.
    fn write(&self, index: Rel, identity: &Identity, threads: usize) -> u32 {
        progress::phase(Phase::Training);
        let sketcher = interrupts::run_on_threads(threads, |stop| self.train(stop))
            .unwrap_or_else(|fault| fault.raise("training the sketch of an index"));
        progress::phase(Phase::Layout);
        let laid_out = interrupts::run_on_threads(threads, |stop| self.lay_out(sketcher, stop))
            .unwrap_or_else(|fault| fault.raise("laying out an index"));
        progress::phase(Phase::Writing);
        let trained = laid_out.sketcher.is_trained();
        let contents = Contents {
            model: &identity.model,
            fingerprint: identity.fingerprint,
            sketcher: &laid_out.sketcher,
            seed: self.seed,
            index_id: random_u64(),
            rows_trained: if trained { train_rows(self.pointers.len(), self.dim) } else { 0 },
            truncated_rows: self.truncated_rows,
            embeddings: &F16Rows::new(self.vectors.values(), self.dim),
            pointers: self.pointers,
            pages: laid_out.pages,
            entries: laid_out.entries,
        };
        let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
        contents.write(index, fork).unwrap_or_else(|fault| corrupted(index, 0, fault))
    }

    /// Trains on a sample spread evenly over the rows. Few rows, or rows too much alike, get the untrained sketch.
    fn train(&self, stop: &AtomicBool) -> Result<Sketcher, Fault> {
        let rows = F16Rows::new(self.vectors.values(), self.dim);
        if rows.len() < MIN_TRAINING_ROWS || self.options.store == Store::Float16 {
            return Ok(self.options.first_sketcher(self.dim, self.seed));
        }
        let count = train_rows(rows.len(), self.dim);
        let mut sample = with_room(count * self.dim)?;
        sample.resize(count * self.dim, 0.0);
        for (i, out) in sample.chunks_exact_mut(self.dim).enumerate() {
            rows.read(i * rows.len() / count, out);
        }
        let options = TrainOptions {
            sketch_bytes: self.options.sketch_bytes as usize,
            rows: rows.len().max(GROWS_TO),
            seed: self.seed,
        };
        Ok(Sketcher::train(&sample, self.dim, &options, &|| stop.load(Relaxed))?)
    }

    /// Balanced pages, their sketches, centres and links.
    fn lay_out(&self, sketcher: Sketcher, stop: &AtomicBool) -> Result<LaidOut, Fault> {
        use rayon::prelude::*;
        let rows = F16Rows::new(self.vectors.values(), self.dim);
        let size = bulk_size(sketcher.sketch_bytes(), self.pointers, &self.options);
        let stopped = || stop.load(Relaxed);
        let page_of = leann_graph::balanced_pages(&rows, size, self.seed, &stopped, &|_, _| ())?;
        let page_count = page_of.iter().max().map_or(0, |&last| last as usize + 1);
        let members = leann_graph::members_of(&page_of, page_count)?;
        drop(page_of);
        let made: Vec<Result<NewPage, Fault>> = collected(
            members.into_par_iter().map(|members| {
                if stopped() { Err(Fault::Stopped) } else { self.make_page(&rows, &sketcher, members) }
            }),
            page_count,
        )?;
        let mut pages = with_room(page_count)?;
        for page in made {
            pages.push(page?);
        }
        let len = centre_len(&sketcher);
        let mut centres = with_room(page_count * len)?;
        pages.iter().for_each(|page: &NewPage| centres.extend_from_slice(&page.centre.values));
        let links = leann_graph::link_hubs(&centres, len, MAX_LINKS, &stopped)?;
        for (page, links) in pages.iter_mut().zip(links) {
            page.links = links;
        }
        let entries = leann_graph::entry_hubs(&centres, len, ENTRY_HUBS)?;
        Ok(LaidOut { sketcher, pages, entries })
    }

    fn make_page(
        &self,
        rows: &F16Rows<'_>,
        sketcher: &Sketcher,
        members: Vec<u32>,
    ) -> Result<NewPage, Fault> {
        let (directions, bytes) = (sketcher.directions(), sketcher.sketch_bytes());
        let mut embedding = vec![0.0; self.dim];
        let mut decoded = with_room(members.len() * directions)?;
        decoded.resize(members.len() * directions, 0.0);
        let mut sketches = vec![0; members.len() * bytes];
        let places = decoded.chunks_exact_mut(directions).zip(sketches.chunks_exact_mut(bytes));
        for (&row, (decoded, sketch)) in members.iter().zip(places) {
            rows.read(row as usize, &mut embedding);
            sketcher.encode(&embedding, sketch);
            sketcher.decode(sketch, decoded);
        }
        let centre = Centre::of(decoded.chunks_exact(directions), centre_len(sketcher));
        // Embeddings need not be kept twice.
        let sketches = if sketcher.is_exact() { Vec::new() } else { sketches };
        Ok(NewPage { rows: members, sketches, centre, links: Vec::new() })
    }
}

/// The init fork of an unlogged index: the same index over no rows. The server calls it after `ambuild`, so the model
/// is read from the main fork.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn ambuildempty(index: pg_sys::Relation) {
    // SAFETY: the server hands over the index open and locked.
    let rel = unsafe { Rel::from_raw(index) };
    let meta = read_meta(rel);
    let seed = random_u64();
    let sketcher = Options::of(rel).first_sketcher(meta.dim as usize, seed);
    layout::empty(&meta.model, meta.fingerprint, &sketcher, seed, random_u64())
        .write(rel, pg_sys::ForkNumber::INIT_FORKNUM)
        .unwrap_or_else(|fault| corrupted(rel, 0, fault));
}

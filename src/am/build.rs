//! CREATE INDEX: read the table once, embed in batches, train, lay out, write, log.

use super::errors;
use super::index::{corrupted, embed_values, read_meta};
use super::layout::{self, Centre, Contents, ENTRY_HUBS, MAX_LINKS, NewPage, bulk_size, centre_len};
use super::options::{Options, Store};
use crate::error::OrRaise;
use crate::guc;
use crate::model::{self, Loaded, Reuse};
use crate::pg::progress::{self, Phase};
use crate::pg::spill::{VectorStore, Vectors};
use crate::pg::{Rel, expression, interrupts, wal};
use crate::sql::embedding::Embedding;
use leann_graph::{F16Rows, Rows};
use leann_page::HeapPointer;
use leann_sketch::{MIN_TRAINING_ROWS, SketchError, Sketcher, TrainOptions};
use leann_value::Value;
use pgrx::{FromDatum, PgMemoryContexts, pg_sys};
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

/// Rows that a table is taken to grow to at the least: a sketch of few directions, which is smaller, fits rows to come badly.
const GROWS_TO: usize = 5_000;
/// Rows that the sketch is trained on at most.
const TRAIN_ROWS: usize = 20_000;
/// Texts are embedded in batches of so many rows per thread, or so many bytes, whichever comes first: enough to sort by
/// length and to keep all threads busy to the end, few enough to show progress and to hold little text.
const BATCH_ROWS_PER_THREAD: usize = 128;
const BATCH_BYTES: usize = 4 << 20;

/// Rows of a table of `rows` that the sketch is trained on.
fn train_rows(rows: usize, dim: usize) -> usize {
    rows.min(TRAIN_ROWS).min(leann_sketch::most_training_rows(dim))
}

/// The rows of the table as the scan hands them over.
struct Collector {
    rel: Rel,
    model: Rc<Loaded>,
    vectors: VectorStore,
    pointers: Vec<HeapPointer>,
    waiting: Vec<Embedding>,
    waiting_bytes: usize,
    batch_rows: usize,
}

impl Collector {
    fn add(&mut self, pointer: HeapPointer, value: Embedding) {
        self.waiting_bytes += match &value.0 {
            Value::Deferred { text, .. } => text.len(),
            Value::Dense(vector) => vector.len() * size_of::<f32>(),
        };
        self.pointers.push(pointer);
        self.waiting.push(value);
        if self.waiting.len() >= self.batch_rows || self.waiting_bytes >= BATCH_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        for vector in embed_values(self.rel, &self.model, &self.waiting, Reuse::InSession) {
            self.vectors.push(&vector);
        }
        self.waiting.clear();
        self.waiting_bytes = 0;
        progress::rows_done(self.vectors.rows() as u64);
    }
}

/// The model that an index is defined on: the one its expression names, else the session's default.
fn model_of(index: Rel) -> String {
    match expression::definition(index) {
        expression::Definition::Model(model) => model,
        expression::Definition::Default => model::default_name(),
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
    let model = model::get(&model_of(index)).or_raise();
    let options = Options::of(index);
    check_room(index, &model, &options);
    progress::phase(Phase::Embedding);
    progress::rows_total(table.tuples_estimate().max(0.0) as u64);
    // SAFETY: reads a setting.
    let memory = unsafe { pg_sys::maintenance_work_mem } as usize * 1024;
    let mut collector = Collector {
        rel: index,
        model: model.clone(),
        vectors: VectorStore::new(model.dim(), memory),
        pointers: Vec::new(),
        waiting: Vec::new(),
        waiting_bytes: 0,
        batch_rows: BATCH_ROWS_PER_THREAD * guc::threads(),
    };
    // SAFETY: by the caller's promise; the callback gets the collector that outlives the scan.
    let heap_rows = unsafe {
        pg_sys::table_index_build_scan(
            table.raw(),
            index.raw(),
            info,
            true,
            true,
            Some(collect),
            &raw mut collector as *mut std::ffi::c_void,
            std::ptr::null_mut(),
        )
    };
    collector.flush();
    let rows = collector.vectors.rows();
    progress::rows_total(rows as u64);
    let Collector { vectors, pointers, .. } = collector;
    let vectors = vectors.finish();
    let threads = guc::threads();
    let work =
        LayOut { vectors: &vectors, pointers: &pointers, dim: model.dim(), options, seed: random_u64() };
    let blocks = work.write(index, &model, threads);
    wal::log_range(index, 0..blocks);
    (heap_rows, rows)
}

/// The scan's callback: one row version to be indexed.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn collect(
    _index: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    values: *mut pg_sys::Datum,
    nulls: *mut bool,
    _alive: bool,
    state: *mut std::ffi::c_void,
) {
    // SAFETY: the server passes one value and null flag for the one key column, a valid heap pointer, and the
    // collector given to the scan.
    unsafe {
        if *nulls {
            return;
        }
        let collector = &mut *(state as *mut Collector);
        // Detoasting and decoding leave garbage behind, row by row.
        let value = PgMemoryContexts::new("leann row").switch_to(|_| Embedding::from_datum(*values, false));
        if let Some(value) = value {
            collector.add(heap_pointer(tid), value);
        }
    }
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
    dim: usize,
    options: Options,
    seed: u64,
}

/// What the worker threads hand back.
struct LaidOut {
    sketcher: Sketcher,
    pages: Vec<NewPage>,
    entries: Vec<u32>,
}

impl LayOut<'_> {
    /// Returns the number of blocks written.
    fn write(&self, index: Rel, model: &Loaded, threads: usize) -> u32 {
        let (model, fingerprint) = (model.name(), model.fingerprint());
        let rows = self.pointers.len();
        let index_id = random_u64();
        let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
        let written = if rows == 0 {
            let sketcher = self.options.first_sketcher(self.dim, self.seed);
            progress::phase(Phase::Writing);
            layout::empty(model, fingerprint, &sketcher, self.seed, index_id).write(index, fork)
        } else {
            progress::phase(Phase::Training);
            let sketcher = interrupts::run_on_threads(threads, |stop| self.train(stop));
            let sketcher = sketcher.unwrap_or_else(|fault| errors::raise_internal(fault.to_string()));
            progress::phase(Phase::Layout);
            let laid_out = interrupts::run_on_threads(threads, |stop| self.lay_out(sketcher, stop));
            let Some(laid_out) = laid_out else {
                // Stopped for an interrupt that was then not raised after all: cannot happen, but must not hang.
                errors::raise_internal("the layout was interrupted".to_string())
            };
            progress::phase(Phase::Writing);
            let contents = Contents {
                model,
                fingerprint,
                sketcher: &laid_out.sketcher,
                seed: self.seed,
                index_id,
                rows_trained: if laid_out.sketcher.is_trained() { train_rows(rows, self.dim) } else { 0 },
                embeddings: &F16Rows::new(self.vectors.values(), self.dim),
                pointers: self.pointers,
                pages: laid_out.pages,
                entries: laid_out.entries,
            };
            contents.write(index, fork)
        };
        written.unwrap_or_else(|fault| corrupted(index, 0, fault))
    }

    /// Trains on a sample spread evenly over the rows. Few rows, or rows too much alike, get the untrained sketch.
    fn train(&self, stop: &AtomicBool) -> Result<Sketcher, SketchError> {
        let rows = F16Rows::new(self.vectors.values(), self.dim);
        if rows.len() < MIN_TRAINING_ROWS || self.options.store == Store::Float16 {
            return Ok(self.options.first_sketcher(self.dim, self.seed));
        }
        let count = train_rows(rows.len(), self.dim);
        let mut sample = vec![0.0; count * self.dim];
        for (i, out) in sample.chunks_exact_mut(self.dim).enumerate() {
            rows.read(i * rows.len() / count, out);
        }
        let options = TrainOptions {
            sketch_bytes: self.options.sketch_bytes as usize,
            rows: rows.len().max(GROWS_TO),
            seed: self.seed,
        };
        Sketcher::train(&sample, self.dim, &options, &|| stop.load(Relaxed))
    }

    /// Balanced pages, their sketches, centres and links. None when told to stop.
    fn lay_out(&self, sketcher: Sketcher, stop: &AtomicBool) -> Option<LaidOut> {
        use rayon::prelude::*;
        let rows = F16Rows::new(self.vectors.values(), self.dim);
        let size = bulk_size(sketcher.sketch_bytes(), self.pointers, &self.options);
        let stopped = || stop.load(Relaxed);
        let page_of = leann_graph::balanced_pages(&rows, size, self.seed, &stopped, &|_, _| ()).ok()?;
        let page_count = page_of.iter().max().map_or(0, |&last| last as usize + 1);
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); page_count];
        for (row, &page) in page_of.iter().enumerate() {
            members[page as usize].push(row as u32);
        }
        let mut pages: Vec<NewPage> = members
            .into_par_iter()
            .map(|members| (!stopped()).then(|| self.make_page(&rows, &sketcher, members)))
            .collect::<Option<_>>()?;
        let len = centre_len(&sketcher);
        let centres: Vec<f32> = pages.iter().flat_map(|page| page.centre.values.iter().copied()).collect();
        let links = leann_graph::link_hubs(&centres, len, MAX_LINKS, &stopped).ok()?;
        for (page, links) in pages.iter_mut().zip(links) {
            page.links = links;
        }
        let entries = leann_graph::entry_hubs(&centres, len, ENTRY_HUBS);
        Some(LaidOut { sketcher, pages, entries })
    }

    fn make_page(&self, rows: &F16Rows<'_>, sketcher: &Sketcher, members: Vec<u32>) -> NewPage {
        let (directions, bytes) = (sketcher.directions(), sketcher.sketch_bytes());
        let mut embedding = vec![0.0; self.dim];
        let mut decoded = vec![0.0; members.len() * directions];
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
        NewPage { rows: members, sketches, centre, links: Vec::new() }
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

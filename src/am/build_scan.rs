//! Reads the table for a build, embeds its rows in batches and keeps their vectors.

use super::row_embedding;
use crate::guc;
use crate::model::Loaded;
use crate::pg::context::explained;
use crate::pg::spill::VectorStore;
use crate::pg::{Rel, allocator, progress, tid};
use crate::value::Embedding;
use leann_page::HeapPointer;
use leann_value::Value;
use pgrx::{FromDatum, PgMemoryContexts, pg_sys};
use std::cell::Cell;

/// Maximum rows of a batch for each thread. Enough to sort by length and to keep all threads busy to the end;
/// few enough to show progress.
const MAX_BATCH_ROWS_PER_THREAD: usize = 128;
/// Bytes of texts and vectors that complete a batch early, so that a build holds little text.
const FULL_BATCH_BYTES: usize = 4 << 20;

/// The rows of a table and their embeddings.
pub struct Collected {
    /// Number of rows in the table, including those that are not in the index.
    pub heap_rows: f64,
    pub vectors: VectorStore,
    /// Heap pointers, one for each vector.
    pub pointers: Vec<HeapPointer>,
    /// Number of rows whose text the model truncated.
    pub cut: usize,
}

/// Reads the table once. Holds at most `work_mem` bytes of vectors in memory.
///
/// # Safety
/// `info` describes the open index of the open table.
pub unsafe fn read_table(
    table: Rel,
    index: Rel,
    info: *mut pg_sys::IndexInfo,
    model: &Loaded,
    work_mem: usize,
) -> Collected {
    let position = ScanPosition {
        blocks: table.blocks(),
        first: Cell::new(None),
        last: Cell::new(None),
        rows: Cell::new(0),
    };
    let mut collector = Collector {
        index,
        model,
        vectors: VectorStore::new(model.dim(), work_mem),
        pointers: Vec::new(),
        waiting: Vec::new(),
        waiting_bytes: 0,
        batch_rows: MAX_BATCH_ROWS_PER_THREAD * guc::threads(),
        cut: 0,
        position: &position,
    };
    progress::rows_total(table.rows_estimate() as u64);
    let name = index.name();
    let progress_detail = || position.describe(&name);
    let heap_rows = explained(&progress_detail, || {
        // SAFETY: the caller makes the same promise; the callback gets the collector, which outlives the
        // scan.
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
        heap_rows
    });
    let Collector { vectors, pointers, cut, .. } = collector;
    progress::rows_total(vectors.rows() as u64);
    Collected { heap_rows, vectors, pointers, cut }
}

/// How far the scan of the table has come.
struct ScanPosition {
    blocks: u32,
    first: Cell<Option<HeapPointer>>,
    last: Cell<Option<HeapPointer>>,
    rows: Cell<usize>,
}

impl ScanPosition {
    /// Notes that the scan has reached a row.
    fn advance(&self, pointer: HeapPointer) {
        if self.first.get().is_none() {
            self.first.set(Some(pointer));
        }
        self.last.set(Some(pointer));
    }

    /// Estimates the rows of the whole scan from the share of the table that was read. A scan may start at
    /// any block and wraps around.
    fn expected_rows(&self) -> Option<f64> {
        let (first, last) = (self.first.get()?, self.last.get()?);
        // A table may have grown since its blocks were counted.
        let blocks = i64::from(self.blocks.max(1));
        let read = (i64::from(last.block) - i64::from(first.block)).rem_euclid(blocks) + 1;
        Some(self.rows.get() as f64 * blocks as f64 / read as f64)
    }

    /// Says for errors where the scan is. A row that failed before the callback got it is the one after the
    /// last.
    fn describe(&self, index: &str) -> String {
        let after = match self.last.get() {
            Some(HeapPointer { block, offset }) => {
                format!(", and the last row read is at ctid ({block},{offset})")
            }
            None => String::new(),
        };
        format!("Index \"{index}\" was being built; {} rows were embedded{after}.", self.rows.get())
    }
}

/// Takes the rows of the table as the scan passes them.
struct Collector<'a> {
    index: Rel,
    model: &'a Loaded,
    vectors: VectorStore,
    pointers: Vec<HeapPointer>,
    waiting: Vec<Embedding>,
    waiting_bytes: usize,
    batch_rows: usize,
    /// Number of rows whose text the model truncated.
    cut: usize,
    position: &'a ScanPosition,
}

impl Collector<'_> {
    /// Adds a row to the batch, and embeds the batch when it is full.
    fn add(&mut self, pointer: HeapPointer, value: Embedding) {
        self.waiting_bytes += match &value.0 {
            Value::Deferred { text, .. } => text.len(),
            Value::Dense(vector) => vector.len() * size_of::<f32>(),
        };
        allocator::reserve(&mut self.pointers, 1, "the heap pointers of a build");
        allocator::reserve(&mut self.waiting, 1, "the rows of a build that wait for the model");
        self.pointers.push(pointer);
        self.waiting.push(value);
        if self.waiting.len() >= self.batch_rows || self.waiting_bytes >= FULL_BATCH_BYTES {
            self.flush();
        }
    }

    /// Embeds the rows of the batch.
    fn flush(&mut self) {
        let before = self.vectors.rows();
        let rows = row_embedding::RowBatch {
            index: self.index,
            model: self.model,
            pointers: &self.pointers[before..],
            values: &self.waiting,
        };
        self.cut += rows.embed(|vector| self.vectors.push(vector));
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.position.rows.set(self.vectors.rows());
        if let Some(rows) = self.position.expected_rows() {
            progress::rows_total(rows as u64);
        }
        progress::rows_done(self.vectors.rows() as u64);
    }
}

/// Takes one row version that the index is to hold: the scan's callback.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn collect(
    _index: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    values: *mut pg_sys::Datum,
    nulls: *mut bool,
    _alive: bool,
    state: *mut std::ffi::c_void,
) {
    // SAFETY: the server passes one value and one null flag for the one key column, a valid heap pointer, and
    // the collector that the scan was started with.
    unsafe {
        let collector = &mut *(state as *mut Collector<'_>);
        collector.position.advance(tid::read(tid));
        if *nulls {
            return;
        }
        // Detoasting and decoding leave garbage behind with every row.
        let value = PgMemoryContexts::new("leann row").switch_to(|_| Embedding::from_datum(*values, false));
        if let Some(value) = value {
            collector.add(tid::read(tid), value);
        }
    }
}

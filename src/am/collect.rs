//! Reading the table for a build: rows are collected, embedded in batches, and their vectors kept.

use super::build::heap_pointer;
use super::incoming;
use crate::guc;
use crate::model::Loaded;
use crate::pg::context::explained;
use crate::pg::spill::VectorStore;
use crate::pg::{Rel, memory, progress};
use crate::sql::embedding::Embedding;
use leann_page::HeapPointer;
use leann_value::Value;
use pgrx::{FromDatum, PgMemoryContexts, pg_sys};
use std::cell::Cell;

/// Texts are embedded in batches of so many rows per thread, or so many bytes, whichever comes first: enough to sort by
/// length and to keep all threads busy to the end, few enough to show progress and to hold little text.
const BATCH_ROWS_PER_THREAD: usize = 128;
const BATCH_BYTES: usize = 4 << 20;

/// What a table gave.
pub struct Collected {
    /// Rows of the table, those that are not in the index included.
    pub heap_rows: f64,
    pub vectors: VectorStore,
    /// One for each vector.
    pub pointers: Vec<HeapPointer>,
    /// Rows whose text the model cut.
    pub cut: usize,
}

/// Reads the table once. At most `work_mem` bytes of vectors are held in memory.
///
/// # Safety
/// `info` describes the open index of the open table.
pub unsafe fn rows(
    table: Rel,
    index: Rel,
    info: *mut pg_sys::IndexInfo,
    model: &Loaded,
    work_mem: usize,
) -> Collected {
    let position = Position {
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
        batch_rows: BATCH_ROWS_PER_THREAD * guc::threads(),
        cut: 0,
        position: &position,
    };
    progress::rows_total(table.rows_estimate() as u64);
    let name = index.name();
    let say = || position.say(&name);
    let heap_rows = explained(&say, || {
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
        heap_rows
    });
    let Collector { vectors, pointers, cut, .. } = collector;
    progress::rows_total(vectors.rows() as u64);
    Collected { heap_rows, vectors, pointers, cut }
}

/// How far the scan of the table is.
struct Position {
    blocks: u32,
    first: Cell<Option<HeapPointer>>,
    last: Cell<Option<HeapPointer>>,
    rows: Cell<usize>,
}

impl Position {
    fn passed(&self, pointer: HeapPointer) {
        if self.first.get().is_none() {
            self.first.set(Some(pointer));
        }
        self.last.set(Some(pointer));
    }

    /// Rows that there will be, by the share of the table that was read. A scan may start anywhere, and goes round.
    fn expected(&self) -> Option<f64> {
        let (first, last) = (self.first.get()?, self.last.get()?);
        // A table may have grown since its blocks were counted.
        let blocks = i64::from(self.blocks.max(1));
        let read = (i64::from(last.block) - i64::from(first.block)).rem_euclid(blocks) + 1;
        Some(self.rows.get() as f64 * blocks as f64 / read as f64)
    }

    /// For errors. A row that fails before it gets here is the one after the last.
    fn say(&self, index: &str) -> String {
        let after = match self.last.get() {
            Some(HeapPointer { block, offset }) => {
                format!("; the last row read is at ctid ({block},{offset})")
            }
            None => String::new(),
        };
        format!("Index \"{index}\" was being built, {} rows were embedded{after}.", self.rows.get())
    }
}

/// The rows of the table as the scan hands them over.
struct Collector<'a> {
    index: Rel,
    model: &'a Loaded,
    vectors: VectorStore,
    pointers: Vec<HeapPointer>,
    waiting: Vec<Embedding>,
    waiting_bytes: usize,
    batch_rows: usize,
    /// Rows whose text the model cut.
    cut: usize,
    position: &'a Position,
}

impl Collector<'_> {
    fn add(&mut self, pointer: HeapPointer, value: Embedding) {
        self.waiting_bytes += match &value.0 {
            Value::Deferred { text, .. } => text.len(),
            Value::Dense(vector) => vector.len() * size_of::<f32>(),
        };
        memory::reserve(&mut self.pointers, 1, "the heap pointers of a build");
        memory::reserve(&mut self.waiting, 1, "the rows of a build that wait for the model");
        self.pointers.push(pointer);
        self.waiting.push(value);
        if self.waiting.len() >= self.batch_rows || self.waiting_bytes >= BATCH_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let before = self.vectors.rows();
        let rows = incoming::Rows {
            index: self.index,
            model: self.model,
            pointers: &self.pointers[before..],
            values: &self.waiting,
        };
        self.cut += rows.embed(|vector| self.vectors.push(vector));
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.position.rows.set(self.vectors.rows());
        if let Some(rows) = self.position.expected() {
            progress::rows_total(rows as u64);
        }
        progress::rows_done(self.vectors.rows() as u64);
    }
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
        let collector = &mut *(state as *mut Collector<'_>);
        collector.position.passed(heap_pointer(tid));
        if *nulls {
            return;
        }
        // Detoasting and decoding leave garbage behind, row by row.
        let value = PgMemoryContexts::new("leann row").switch_to(|_| Embedding::from_datum(*values, false));
        if let Some(value) = value {
            collector.add(heap_pointer(tid), value);
        }
    }
}

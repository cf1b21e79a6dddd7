//! Trains the sketch of an index that was made on an empty table, once VACUUM finds enough rows in it:
//! without a model and without reading the table (README.md, "Training in place").

use super::errors;
use super::index::Index;
use super::pages::{AnyPage, any_page, change_meta, read_meta};
use crate::error::raise_internal;
use crate::guc;
use crate::pg::buffer::BODY_BYTES;
use crate::pg::interrupts::{self, vacuum_delay};
use crate::pg::{Access, Rel, Strategy, WalRecord, allocator, lock, random};
use leann_layout::{DistinctSample, max_training_rows};
use leann_page::{Meta, NO_PAGE, ParamsPage, SketchForm};
use leann_sketch::{SketchError, Sketcher};
use std::hash::{DefaultHasher, Hasher};
use std::sync::atomic::Ordering::Relaxed;

/// Rows per dimension that are needed, because sketches are noisy. From twice as many rows, components
/// trained on sketches serve about as well as those trained on embeddings.
const ROWS_PER_DIM: u64 = 16;
/// Rows that are needed in any case.
const MIN_ROWS: u64 = 4_096;

/// Trains the index's sketch on its own sketches if it is untrained and has enough rows. Old rows keep their
/// sketches; new rows are kept in the form that fits them better.
pub fn train_if_worthwhile(rel: Rel) {
    let meta = read_meta(rel);
    if meta.sketch_form != SketchForm::Untrained
        || meta.nodes < MIN_ROWS.max(ROWS_PER_DIM * u64::from(meta.dim))
    {
        return;
    }
    let index = Index::open(rel);
    let sketches = sample(&index);
    let Some(trained) = train(&index, &sketches) else { return };
    let rows_trained = sketches.len() / index.sketch_bytes();
    if store(rel, &trained, rows_trained as u32) {
        errors::log_trained(&rel.name(), rows_trained);
    }
}

/// Returns a random sample of the different sketches, one after the other.
fn sample(index: &Index) -> Vec<u8> {
    let mut sample = DistinctSample::new(max_training_rows(index.sketcher.dim()), random::number());
    let strategy = Strategy::bulk_read();
    for block in 1..index.rel.blocks() {
        vacuum_delay();
        if let AnyPage::Node(page) = any_page(index.rel, &index.meta, block, Access::Share, &strategy) {
            for sketch in page.nodes().sketches().chunks_exact(index.sketch_bytes()) {
                let mut hasher = DefaultHasher::new();
                hasher.write(sketch);
                sample.offer(hasher.finish(), || sketch.to_vec());
            }
        }
    }
    let chosen = sample.into_items();
    let mut sketches = Vec::new();
    allocator::reserve(&mut sketches, chosen.len() * index.sketch_bytes(), "the sample of an index");
    chosen.iter().for_each(|sketch| sketches.extend_from_slice(sketch));
    sketches
}

/// Trains on threads of the session. Returns None if the rows are too much alike.
fn train(index: &Index, sketches: &[u8]) -> Option<Sketcher> {
    let (sketcher, rows) = ((*index.sketcher).clone(), index.meta.nodes as usize);
    let trained = interrupts::run_on_threads(guc::threads(), move |stop| {
        sketcher.train_in_place(sketches, rows, &|| stop.load(Relaxed))
    });
    match trained {
        Ok(trained) => trained,
        Err(SketchError::NoMemory) => allocator::raise_no_room("training the sketch of an index"),
        Err(error) => raise_internal(format!("training the sketch of an index: {error}")),
    }
}

/// Writes the parameters to new pages, and then makes the meta page name them. Returns false if the index is
/// no longer untrained.
fn store(rel: Rel, trained: &Sketcher, rows_trained: u32) -> bool {
    let params = trained.to_bytes();
    let _structure = lock::StructureLock::acquire(rel);
    let index = Index::open(rel);
    if index.meta.sketch_form != SketchForm::Untrained {
        return false;
    }
    // From the last page to the first, because each names the next one. New blocks only: a reader may still
    // look for a node page where a free block was.
    let mut next = NO_PAGE;
    for chunk in params.chunks(ParamsPage::chunk_capacity(BODY_BYTES)).rev() {
        let mut page = index.extend();
        let record = WalRecord::start(rel);
        page.write(&record, |body| ParamsPage::init(body, next, chunk));
        record.finish();
        next = page.block();
    }
    change_meta(rel, |meta| {
        *meta = Meta {
            // Sessions keep sketchers by this number.
            index_id: random::number(),
            sketch_form: SketchForm::TrainedInPlace,
            rows_trained,
            params_first: next,
            params_len: params.len() as u32,
            params_checksum: crc32fast::hash(&params),
            ..meta.clone()
        };
        true
    });
    true
}

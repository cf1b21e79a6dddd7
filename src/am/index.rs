//! An index as every phase sees it: its meta page, its sketch, its model.

use super::errors;
use crate::error::OrRaise;
use crate::model::{self, Loaded, Reuse};
use crate::pg::{Access, PageGuard, Rel, WalRecord, expression, memory};
use crate::sql::embedding::Embedding;
use leann_page::{Meta, NO_PAGE, PageError, ParamsPage, SketchForm};
use leann_sketch::Sketcher;
use leann_value::{Role, Value};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::rc::Rc;

/// An index, its meta page as of opening, and its sketch parameters.
pub struct Index {
    pub rel: Rel,
    pub meta: Meta,
    pub sketcher: Rc<Sketcher>,
    /// That of the scan which reads the index, null otherwise: every page that is read must serve it.
    pub snapshot: pg_sys::Snapshot,
}

impl Index {
    /// Reads the meta page and, unless this backend knows them already, the sketch parameters.
    pub fn open(rel: Rel) -> Index {
        memory::demand();
        let meta = read_meta(rel);
        let sketcher = sketcher(rel, &meta);
        Index { rel, meta, sketcher, snapshot: std::ptr::null_mut() }
    }

    /// Blocks that are in use: what a scan may have to read. Free pages count only until they are used again.
    pub fn blocks_in_use(&self) -> u32 {
        self.rel.blocks().saturating_sub(self.meta.free_pages).max(1)
    }

    /// Bytes of one node's sketch.
    pub fn sketch_bytes(&self) -> usize {
        self.meta.sketch_bytes as usize
    }

    /// The index's model. Raises an error unless the installed one is the one that the index was built with.
    pub fn model(&self) -> Rc<Loaded> {
        let model = model::get(&self.meta.model).or_raise();
        if model.fingerprint() != self.meta.fingerprint || model.dim() != self.meta.dim as usize {
            errors::raise_fingerprint_mismatch(&self.rel.name(), &self.meta.model);
        }
        model
    }

    /// The sketch of an embedding.
    pub fn sketch(&self, embedding: &[f32]) -> Vec<u8> {
        let mut sketch = vec![0; self.sketch_bytes()];
        self.sketcher.encode(embedding, &mut sketch);
        sketch
    }

    /// The leading directions of what a sketch says of its row.
    pub fn place_of_sketch(&self, sketch: &[u8]) -> Vec<f32> {
        let mut decoded = vec![0.0; self.sketcher.directions()];
        self.sketcher.decode(sketch, &mut decoded);
        decoded.truncate(self.meta.centre_len as usize);
        decoded
    }

    /// The leading directions of a row's projection: what hub centres are compared with.
    pub fn place_target(&self, embedding: &[f32]) -> Vec<f32> {
        let mut projected = vec![0.0; self.sketcher.directions()];
        self.sketcher.project(embedding, &mut projected);
        projected.truncate(self.meta.centre_len as usize);
        projected
    }

    /// Whether the query's model is the index's: the one its expression names (`definition`), else the session's default.
    pub fn serves_default_model(&self, definition: &expression::Definition) -> bool {
        match definition {
            expression::Definition::Model(_) => true,
            expression::Definition::Default => model::default_name() == self.meta.model,
        }
    }
}

/// Embeddings of values of the index expression of `rel`, in order: dense ones are taken as they are, deferred ones
/// embedded in one go.
pub fn embed_values(rel: Rel, model: &Loaded, values: &[Embedding], reuse: Reuse) -> Vec<Rc<[f32]>> {
    for value in values {
        match &value.0 {
            Value::Dense(vector) if vector.len() != model.dim() => {
                errors::raise_wrong_dimension(&rel.name(), vector.len(), model.dim())
            }
            Value::Deferred { model: Some(other), .. } if other != model.name() => {
                errors::raise_model_mismatch(&rel.name(), model.name(), other)
            }
            _ => {}
        }
    }
    let mut passages = embed_role(model, values, Role::Passage, reuse);
    let mut queries = embed_role(model, values, Role::Query, reuse);
    values
        .iter()
        .filter_map(|value| match &value.0 {
            Value::Dense(vector) => Some(Rc::from(vector.as_slice())),
            Value::Deferred { role: Role::Passage, .. } => passages.next(),
            Value::Deferred { role: Role::Query, .. } => queries.next(),
        })
        .collect()
}

/// The embeddings of those values that are deferred in this role.
fn embed_role(
    model: &Loaded,
    values: &[Embedding],
    wanted: Role,
    reuse: Reuse,
) -> impl Iterator<Item = Rc<[f32]>> + use<> {
    let texts: Vec<&str> = values
        .iter()
        .filter_map(|value| match &value.0 {
            Value::Deferred { text, role, .. } if *role == wanted => Some(text.as_str()),
            _ => None,
        })
        .collect();
    if texts.is_empty() { Vec::new() } else { model.embed(wanted, &texts, reuse).or_raise() }.into_iter()
}

/// Reads block 0.
pub fn read_meta(rel: Rel) -> Meta {
    if rel.blocks() == 0 {
        corrupted(rel, 0, PageError::Short { len: 0, needed: 1 });
    }
    let page = PageGuard::read(rel, 0, Access::Share);
    Meta::decode(page.body()).unwrap_or_else(|fault| corrupted(rel, 0, fault))
}

/// Changes the meta page in one WAL record, if `change` says that it changed something.
pub fn change_meta(rel: Rel, change: impl FnOnce(&mut Meta) -> bool) {
    let mut page = PageGuard::read(rel, 0, Access::Exclusive);
    let mut meta = Meta::decode(page.body()).unwrap_or_else(|fault| corrupted(rel, 0, fault));
    if change(&mut meta) {
        let record = WalRecord::start(rel);
        meta.encode(record.page(&mut page)).unwrap_or_else(|fault| corrupted(rel, 0, fault));
        record.finish();
    }
}

/// Reports a page that cannot be read. A meta page of another format is no damage: another release wrote the index.
pub fn corrupted(rel: Rel, block: u32, fault: PageError) -> ! {
    match fault {
        PageError::Version { found, supported } if block == 0 => {
            errors::raise_other_format(&rel.name(), found, supported)
        }
        fault => errors::raise_corrupted(&rel.name(), block, &fault.to_string()),
    }
}

/// Sketchers of the indexes that this backend used last, by index id. The id is drawn anew by every build, so an entry
/// can be useless but never wrong.
const SKETCHERS_KEPT: usize = 4;
thread_local! {
    static SKETCHERS: RefCell<Vec<(u64, Rc<Sketcher>)>> = const { RefCell::new(Vec::new()) };
}

fn sketcher(rel: Rel, meta: &Meta) -> Rc<Sketcher> {
    let known = SKETCHERS.with_borrow_mut(|kept| {
        let at = kept.iter().position(|(id, _)| *id == meta.index_id)?;
        // The one used last goes to the end.
        let entry = kept.remove(at);
        kept.push(entry);
        kept.last().map(|(_, sketcher)| sketcher.clone())
    });
    known.unwrap_or_else(|| {
        let sketcher = Rc::new(load_sketcher(rel, meta));
        SKETCHERS.with_borrow_mut(|kept| {
            if kept.len() >= SKETCHERS_KEPT {
                kept.remove(0);
            }
            kept.push((meta.index_id, sketcher.clone()));
        });
        sketcher
    })
}

fn load_sketcher(rel: Rel, meta: &Meta) -> Sketcher {
    let sketcher = match meta.sketch_form {
        SketchForm::Untrained => Sketcher::untrained(meta.dim as usize, meta.seed),
        SketchForm::Float16 => Sketcher::float16(meta.dim as usize),
        SketchForm::Trained => {
            let bytes = read_params(rel, meta);
            if crc32fast::hash(&bytes) != meta.params_checksum {
                errors::raise_corrupted(
                    &rel.name(),
                    meta.params_first,
                    "sketch parameters fail their checksum",
                );
            }
            Sketcher::from_bytes(&bytes).unwrap_or_else(|fault| {
                errors::raise_corrupted(&rel.name(), meta.params_first, &fault.to_string())
            })
        }
    };
    let agrees = sketcher.dim() == meta.dim as usize
        && sketcher.sketch_bytes() == meta.sketch_bytes as usize
        && sketcher.directions() == meta.directions as usize
        && meta.centre_len <= meta.directions;
    if !agrees {
        errors::raise_corrupted(&rel.name(), 0, "the meta page does not agree with the sketch parameters");
    }
    sketcher
}

fn read_params(rel: Rel, meta: &Meta) -> Vec<u8> {
    let blocks = rel.blocks();
    let mut bytes = Vec::new();
    let mut next = meta.params_first;
    let mut pages = 0;
    while next != NO_PAGE && bytes.len() < meta.params_len as usize {
        pages += 1;
        if pages > blocks {
            errors::raise_corrupted(&rel.name(), next, "the chain of params pages runs in a circle");
        }
        if next >= blocks {
            errors::raise_corrupted(&rel.name(), next, "block number beyond the end of the index");
        }
        let page = PageGuard::read(rel, next, Access::Share);
        let params = ParamsPage::parse(page.body()).unwrap_or_else(|fault| corrupted(rel, next, fault));
        if params.chunk().is_empty() {
            break;
        }
        memory::reserve(&mut bytes, params.chunk().len(), "the parameters of a sketch");
        bytes.extend_from_slice(params.chunk());
        next = params.next();
    }
    if bytes.len() != meta.params_len as usize {
        errors::raise_corrupted(&rel.name(), meta.params_first, "sketch parameters of the wrong length");
    }
    bytes
}

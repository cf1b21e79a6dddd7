//! An open index as all phases use it: its pages, its sketcher, its model.

use super::errors;
use super::pages::{Damage, Pages, read_params};
use crate::error::OrRaise;
use crate::model::{self, Loaded, Reuse};
use crate::pg::{Rel, allocator};
use crate::session::{self, State};
use crate::value::Embedding;
use leann_page::{Meta, SketchForm};
use leann_sketch::Sketcher;
use lru::LruCache;
use pgrx::pg_sys;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::rc::Rc;

/// An open index: its pages and its sketcher.
pub struct Index {
    pages: Pages,
    pub sketcher: Rc<Sketcher>,
}

impl Deref for Index {
    type Target = Pages;

    fn deref(&self) -> &Pages {
        &self.pages
    }
}

impl Index {
    /// Opens an index: reads the meta page and, unless this backend has cached them, the sketch parameters.
    pub fn open(rel: Rel) -> Index {
        Index::open_for_scan(rel, std::ptr::null_mut())
    }

    /// Opens an index for a scan, whose snapshot every page must serve. The snapshot is live as long as the
    /// scan.
    pub fn open_for_scan(rel: Rel, snapshot: pg_sys::Snapshot) -> Index {
        allocator::demand();
        let pages = Pages::open(rel, snapshot);
        let sketcher = sketcher(rel, &pages.meta);
        Index { pages, sketcher }
    }

    /// Loads the index's model. Raises an error unless the installed model is the one that the index was
    /// built with.
    pub fn model(&self) -> Rc<Loaded> {
        let model = model::get(&self.meta.model).or_raise();
        if model.fingerprint() != self.meta.fingerprint || model.dim() != self.meta.dim as usize {
            errors::raise_fingerprint_mismatch(&self.rel.name(), &self.meta.model);
        }
        model
    }

    /// Returns the sketch of an embedding.
    pub fn sketch(&self, embedding: &[f32]) -> Vec<u8> {
        let mut sketch = vec![0; self.sketch_bytes()];
        self.sketcher.encode(embedding, &mut sketch);
        sketch
    }

    /// Returns the leading components of a decoded sketch.
    pub fn place_of_sketch(&self, sketch: &[u8]) -> Vec<f32> {
        let mut decoded = vec![0.0; self.sketcher.components()];
        self.sketcher.decode(sketch, &mut decoded);
        decoded.truncate(self.meta.center_len as usize);
        decoded
    }

    /// Returns the leading components of a row's projection, which are compared with the centers of hubs.
    pub fn place_target(&self, embedding: &[f32]) -> Vec<f32> {
        let mut projected = vec![0.0; self.sketcher.components()];
        self.sketcher.project(embedding, &mut projected);
        projected.truncate(self.meta.center_len as usize);
        projected
    }
}

/// Returns the embeddings of values of the index's expression, in order. Raises an error for a value of
/// another model.
pub fn embed_values(rel: Rel, model: &Loaded, values: &[Embedding], reuse: Reuse) -> Vec<Rc<[f32]>> {
    for value in values {
        if let Some(fault) = errors::foreign_value(rel, model, value) {
            fault.raise()
        }
    }
    model.vectors(&values.iter().collect::<Vec<_>>(), reuse).or_raise()
}

/// Maximum sketchers that a backend keeps: one for each partition of a table, of which a trained one takes a
/// few hundred kilobytes.
const SKETCHER_CACHE_CAPACITY: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// Sketchers of the indexes that this backend used last, by index id. Every build draws a new id, so an entry
/// can become useless but never wrong.
struct SketcherCache(LruCache<u64, Rc<Sketcher>>);

impl Default for SketcherCache {
    fn default() -> SketcherCache {
        SketcherCache(LruCache::new(SKETCHER_CACHE_CAPACITY))
    }
}

impl State for SketcherCache {}

/// Returns an index's sketcher from the cache, or loads it.
fn sketcher(rel: Rel, meta: &Meta) -> Rc<Sketcher> {
    session::with(|SketcherCache(cache)| cache.get(&meta.index_id).cloned()).unwrap_or_else(|| {
        let sketcher = Rc::new(load_sketcher(rel, meta).unwrap_or_else(|damage| damage.raise(rel)));
        session::with(|SketcherCache(cache)| cache.put(meta.index_id, sketcher.clone()));
        sketcher
    })
}

/// Makes the sketcher of an index from its meta page and params pages. Returns the damage if the two
/// disagree.
pub fn load_sketcher(rel: Rel, meta: &Meta) -> Result<Sketcher, Damage> {
    let sketcher = match meta.sketch_form {
        SketchForm::Untrained => Sketcher::untrained(meta.dim as usize, meta.seed),
        SketchForm::Float16 => Sketcher::float16(meta.dim as usize),
        SketchForm::Trained | SketchForm::TrainedInPlace => Sketcher::from_bytes(&read_params(rel, meta)?)
            .map_err(|fault| Damage::new(meta.params_first, fault.to_string()))?,
    };
    let in_place = meta.sketch_form == SketchForm::TrainedInPlace;
    let agrees = sketcher.is_trained_in_place() == in_place
        && sketcher.dim() == meta.dim as usize
        && sketcher.sketch_bytes() == meta.sketch_bytes as usize
        && sketcher.components() == meta.components as usize
        && meta.center_len <= meta.components;
    if agrees {
        Ok(sketcher)
    } else {
        Err(Damage::new(0, "the meta page does not agree with the sketch parameters"))
    }
}

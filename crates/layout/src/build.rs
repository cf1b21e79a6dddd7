//! Plans a build: trains the sketcher, decides which row lies on which page, and links the pages' hubs.

use leann_graph::fallible::{par_collect, with_capacity};
use leann_graph::{Center, F16Vectors, PageSize, Vectors as _, tuning};
use leann_page::{HeapPointer, NodePage, PointerForm};
use leann_sketch::{MIN_TRAINING_ROWS, Sketcher, TrainOptions};

use crate::error::LayoutError;
use crate::sample::distinct_sample;
use crate::sizes::center_len;

/// Minimum rows that a table is assumed to grow to when the number of components is chosen. Too few
/// components would fit later rows badly.
const MIN_ASSUMED_ROWS: usize = 5_000;

/// The rows of a build.
#[derive(Clone, Copy)]
pub struct SourceRows<'a> {
    /// Embeddings of unit length, one after the other.
    pub embeddings: &'a F16Vectors<'a>,
    /// Dimensions of each.
    pub dim: usize,
    /// Where each row lies in its table, in the same order.
    pub pointers: &'a [HeapPointer],
}

/// The options of a build.
#[derive(Clone, Copy, Debug)]
pub struct BuildOptions {
    /// Bytes of a trained sketch.
    pub sketch_bytes: usize,
    /// Percentage of a node page that is filled, 1 to 100.
    pub fill_percent: usize,
    /// Whether the index stores the embeddings in 16-bit floats, so that a search recomputes none.
    pub store_embeddings: bool,
    /// Bytes of a page's body.
    pub body_bytes: usize,
    /// Seed of every random choice.
    pub seed: u64,
}

impl BuildOptions {
    /// Returns the sketcher of an index that has seen no rows.
    pub fn first_sketcher(&self, dim: usize) -> Sketcher {
        if self.store_embeddings { Sketcher::float16(dim) } else { Sketcher::untrained(dim, self.seed) }
    }

    /// Returns how full pages of these rows are made: as the fill factor says on average, and no page beyond
    /// its capacity.
    fn page_size(&self, sketch_bytes: usize, pointers: &[HeapPointer]) -> PageSize {
        // A page whose own pointers need fewer bytes has room for more nodes, never for fewer.
        let form = PointerForm::holding_all(pointers.iter().copied());
        let capacity = NodePage::capacity_for(self.body_bytes, sketch_bytes, form);
        // Rounds to the nearest number, because a page may have room for only a few nodes.
        let fill = (capacity * self.fill_percent + 50) / 100;
        PageSize { fill: fill.max(1), capacity }
    }
}

/// Returns how many rows of `dim` dimensions a sketcher is trained on at most.
pub fn max_training_rows(dim: usize) -> usize {
    tuning::MAX_TRAINING_ROWS.min(leann_sketch::max_training_rows(dim))
}

/// A sketcher and what it was trained on.
pub struct Training {
    /// The sketcher.
    pub sketcher: Sketcher,
    /// Rows that it was trained on; 0 if it is not trained.
    pub rows: usize,
}

/// Trains a sketcher on a random sample of the different rows. Returns the untrained sketcher if they are few
/// or too much alike.
///
/// # Errors
/// Returns a [`LayoutError`]; `Stopped` some ten milliseconds after `stop` first returns true.
pub fn train(
    rows: SourceRows<'_>,
    options: &BuildOptions,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Training, LayoutError> {
    let (embeddings, dim) = (rows.embeddings, rows.dim);
    let untrained = || Ok(Training { sketcher: options.first_sketcher(dim), rows: 0 });
    if embeddings.len() < MIN_TRAINING_ROWS || options.store_embeddings {
        return untrained();
    }
    let count = max_training_rows(dim).min(embeddings.len());
    let chosen = distinct_sample(embeddings, count, options.seed, stop)?;
    if chosen.len() < MIN_TRAINING_ROWS {
        return untrained();
    }
    let mut sample = with_capacity(chosen.len() * dim)?;
    sample.resize(chosen.len() * dim, 0.0);
    for (row, out) in chosen.iter().zip(sample.chunks_exact_mut(dim)) {
        embeddings.read(*row, out);
    }
    let training = TrainOptions {
        sketch_bytes: options.sketch_bytes,
        rows: embeddings.len().max(MIN_ASSUMED_ROWS),
        seed: options.seed,
    };
    let sketcher = Sketcher::train(&sample, dim, &training, stop)?;
    let rows = if sketcher.is_trained() { chosen.len() } else { 0 };
    Ok(Training { sketcher, rows })
}

/// How well the sketches of some rows describe them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PageFit {
    /// Sketches in the untrained form.
    pub untrained: usize,
    /// The sum of [`Sketcher::fit`] over the sketches.
    pub sum: f32,
}

impl PageFit {
    /// Adds up the sketches, which lie one after the other.
    pub fn of(sketcher: &Sketcher, sketches: &[u8]) -> PageFit {
        let mut fit = PageFit::default();
        for sketch in sketches.chunks_exact(sketcher.sketch_bytes()) {
            fit.untrained += usize::from(sketcher.is_untrained_sketch(sketch));
            fit.sum += sketcher.fit(sketch);
        }
        fit
    }
}

/// One node page before it has a block.
pub struct PlannedPage {
    /// Positions of its rows in the list of rows.
    pub rows: Vec<u32>,
    /// Their sketches, one after the other. Empty if the sketches are the embeddings, which the caller holds
    /// anyway.
    pub sketches: Vec<u8>,
    /// How well the sketches describe the rows.
    pub fit: PageFit,
    /// Center and spread of its nodes.
    pub center: Center,
    /// Positions of the pages that its hub links to.
    pub links: Vec<u32>,
}

/// The pages of an index and where walks begin.
pub struct Planned {
    /// All node pages.
    pub pages: Vec<PlannedPage>,
    /// Positions in `pages` of the entry hubs.
    pub entries: Vec<u32>,
}

/// Divides rows among balanced pages of near ones and links the pages' hubs. Runs on rayon's current pool.
///
/// # Errors
/// Returns [`LayoutError::Stopped`] soon after `stop` returns true, and [`LayoutError::NoMemory`].
pub fn lay_out(
    rows: SourceRows<'_>,
    sketcher: &Sketcher,
    options: &BuildOptions,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Planned, LayoutError> {
    use rayon::prelude::*;
    let size = options.page_size(sketcher.sketch_bytes(), rows.pointers);
    let page_of = leann_graph::balanced_pages(rows.embeddings, size, options.seed, stop, &|_, _| ())?;
    let page_count = page_of.iter().max().map_or(0, |&last| last as usize + 1);
    let members = leann_graph::members_of(&page_of, page_count)?;
    drop(page_of);
    let made: Vec<Result<PlannedPage, LayoutError>> = par_collect(
        members.into_par_iter().map(|members| {
            if stop() { Err(LayoutError::Stopped) } else { plan_page(rows, sketcher, members) }
        }),
        page_count,
    )?;
    let mut pages = with_capacity(page_count)?;
    for page in made {
        pages.push(page?);
    }
    let len = center_len(sketcher);
    let mut centers = with_capacity(page_count * len)?;
    pages.iter().for_each(|page: &PlannedPage| centers.extend_from_slice(&page.center.values));
    let links = leann_graph::link_hubs(&centers, len, tuning::MAX_LINKS, stop)?;
    for (page, links) in pages.iter_mut().zip(links) {
        page.links = links;
    }
    let entries = leann_graph::entry_hubs(&centers, len, tuning::ENTRY_HUBS)?;
    Ok(Planned { pages, entries })
}

/// Encodes the rows of a page and computes its center.
fn plan_page(
    rows: SourceRows<'_>,
    sketcher: &Sketcher,
    members: Vec<u32>,
) -> Result<PlannedPage, LayoutError> {
    let (components, bytes) = (sketcher.components(), sketcher.sketch_bytes());
    let mut embedding = vec![0.0; rows.dim];
    let mut decoded = with_capacity(members.len() * components)?;
    decoded.resize(members.len() * components, 0.0);
    let mut sketches = vec![0; members.len() * bytes];
    let places = decoded.chunks_exact_mut(components).zip(sketches.chunks_exact_mut(bytes));
    for (&row, (decoded, sketch)) in members.iter().zip(places) {
        rows.embeddings.read(row as usize, &mut embedding);
        sketcher.encode(&embedding, sketch);
        sketcher.decode(sketch, decoded);
    }
    let center = Center::from_vectors(decoded.chunks_exact(components), center_len(sketcher));
    let fit = PageFit::of(sketcher, &sketches);
    // Exact sketches are the embeddings, which need not be kept twice.
    let sketches = if sketcher.is_exact() { Vec::new() } else { sketches };
    Ok(PlannedPage { rows: members, sketches, fit, center, links: Vec::new() })
}

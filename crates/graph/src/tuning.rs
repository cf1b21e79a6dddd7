//! Constants that shape an index and its walks, shared by the access method and the measuring programs.
//!
//! Figures are from `benches/coverage` on wiki50k (50,000 rows of 384 values on 365 pages, 300 queries), the
//! hardest of the data sets; *coverage* is the share of the true ten nearest rows on the pages visited so
//! far. The other data sets (SciFact, FiQA) differ by less. docs/ideas.md tells what else was tried.

/// Links that a hub has room for; HNSW's M.
///
/// Coverage after ten pages is .782, .784, .785 and .786 with 8, 12, 16 and 24 links, and .789 if all hubs
/// are ranked. At beam 1 it is .743, .757, .766 and .774.
pub const MAX_LINKS: usize = 24;

/// Components of a center that its hub keeps if the sketch is trained.
///
/// They are sorted by variance, and the leading ones decide which page is near: coverage after ten pages is
/// .744, .767, .779, .789 and .789 with 64, 96, 128, 160 and 192, and .792 with all. 160 cost 2.4 bytes per
/// row.
pub const CENTER_COMPONENTS: usize = 160;

/// Components of a center that its hub keeps if the sketch is untrained.
///
/// After a random rotation any of them tell as much as any other, so the first are kept. The number is a
/// bound, not a measurement: three hubs or more fit on a page of 8 kB whatever the dimensions of the model.
pub const UNTRAINED_CENTER_COMPONENTS: usize = 2_048;

/// Hubs at which a walk of a freshly built index starts.
///
/// They take the place of HNSW's upper layers: from these, walks read 38, 170, 214 and 283 hubs before the
/// first page of 5,000, 50,000, 200,000 and a million rows, and cover what ranking all hubs covers within
/// .011.
pub const ENTRY_HUBS: usize = 16;

/// Beam of a search: hubs that a walk expands before it returns its first page.
///
/// Coverage after ten pages is .774, .779, .786 and .787 at beams of 1, 8, 24 and 32, which read 55, 102, 169
/// and 195 of the 365 hubs before the first page.
pub const SEARCH_BEAM: usize = 24;

/// Beam of the search for the page of a new row.
///
/// Smaller than that of a search, because only the first few pages are wanted.
pub const PLACE_BEAM: usize = 16;

/// Share of the nodes that the smaller half of a split page gets at least.
///
/// The larger half then fits on a page however many bytes its heap pointers need: those of the full page had
/// three at least, and six are the most, next to a sketch of eight or more.
pub const MIN_SPLIT_SHARE: f32 = 0.3;

/// Next nearest pages that a new row is offered, if the nearest one is full, before that is split.
///
/// A row that lies between pages is found on either. Pages of a grown index are 79 % full instead of 70 %,
/// and the index is 13 % smaller, at the same recall.
pub const SPILL_PAGES: usize = 3;

/// Squared distance to the center of such a page, relative to that of the nearest, beyond which it is not
/// offered.
///
/// Measured together with [`SPILL_PAGES`].
pub const MAX_SPILL_RATIO: f32 = 1.6;

/// Bytes of a row's sketch by default, next to three or more of heap pointer.
///
/// 48 save six or seven bytes per row and cost an eighth more recomputes; 64 cost eleven bytes and save an
/// eighth (docs/performance.md).
pub const DEFAULT_SKETCH_BYTES: usize = 54;

/// Percentage of a node page that a build fills by default.
///
/// Nearly all: clustering needs little slack, and a page that fills up spills before it is split.
pub const DEFAULT_FILL_PERCENT: usize = 97;

/// Rows that a sketch is trained on at most.
///
/// Bounds what training adds to the time of a build; it is not the result of a measurement.
pub const MAX_TRAINING_ROWS: usize = 20_000;

/// Size of a search's candidate list by default.
///
/// Half of it needs more patience for the same recall: .960 is reached on 159 pages with 64 and on 137 with
/// 128 (docs/ideas.md, "How many pages").
pub const DEFAULT_EF_SEARCH: usize = 128;

/// How sure a search is by default before it returns rows, in standard deviations
/// ([`crate::RerankOptions::z`]).
///
/// At 1.5 the recall on SciFact, FiQA and wiki50k is .977, .972 and .953, of 17.0, 16.2 and 22.6 recomputes.
pub const DEFAULT_RERANK_Z: f64 = 1.4;

/// Rows that a search decides on together by default.
///
/// Deciding on ten takes a fifth fewer recomputes at equal recall than deciding row by row.
pub const DEFAULT_EXPECTED_ROWS: usize = 10;

/// Rows that the model embeds at once by default.
///
/// On SciFact recall is .975, .990 and .993 with batches of 1, 8 and 16, of 15.7, 19.1 and 21.4 recomputes.
pub const DEFAULT_RECOMPUTE_BATCH: usize = 4;

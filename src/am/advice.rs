//! When a REINDEX is worth it, for `leann.index_info` and for the log of VACUUM.

use super::page_counts::PageCounts;
use leann_page::{Meta, SketchForm};

/// Rows from which a rebuild to train the sketch is worthwhile.
const MIN_ROWS_TO_TRAIN: u64 = 1000;
/// Growth since the build beyond which a rebuild would train the sketch. An index that was built over more of
/// its rows and is untrained has rows that are too much alike.
const MIN_GROWTH_TO_TRAIN: u64 = 2;
/// Share of rows in the untrained form, beyond that of the build, from which a rebuild is worthwhile.
///
/// A row in that form costs about three fifths more recomputes when it is searched for, so at a fifth of the
/// rows a rebuild saves about a tenth of all recomputes. Indexes that were built on a tenth of a corpus and
/// grown with the rest stay below; those grown with a fifth or more of other text are above.
const MIN_UNTRAINED_SHARE: f64 = 0.2;
/// Ratio of the index's blocks to those that its rows need, beyond which a rebuild may be worthwhile.
const MIN_BLOAT: f64 = 1.5;
/// Blocks that a rebuild must save.
const MIN_SAVED_BLOCKS: f64 = 32.0;
/// Share of a node page that is full where inserts filled it.
const GROWN_PAGE_FILL: f64 = 0.7;

/// Returns what an administrator may want to do about the index.
pub fn advice(meta: &Meta, pages: &PageCounts, blocks: u32) -> Option<&'static str> {
    let untrained = pages.fit.map_or(meta.untrained_nodes, |fit| fit.untrained);
    if let Some(advice) = advice_to_train(meta, pages.nodes, untrained) {
        return Some(advice);
    }
    let per_page = pages.slots as f64 / pages.node_pages.max(1) as f64;
    let node_pages = (pages.nodes as f64 / (GROWN_PAGE_FILL * per_page).max(1.0)).ceil().max(1.0);
    let others = 1.0
        + pages.params_pages as f64
        + pages.hub_pages as f64 * node_pages / pages.node_pages.max(1) as f64;
    let (blocks, needed) = (f64::from(blocks), node_pages + others);
    (blocks > MIN_BLOAT * needed && blocks - needed > MIN_SAVED_BLOCKS).then_some(
        "most of the index is empty: new rows will use the free pages, and REINDEX gives them back",
    )
}

/// Returns the advice to train the sketch, or to train it anew, of an index that now has so many nodes, of
/// which so many are in the untrained form.
pub fn advice_to_train(meta: &Meta, nodes: u64, untrained: u64) -> Option<&'static str> {
    match meta.sketch_form {
        SketchForm::Untrained
            if nodes >= MIN_ROWS_TO_TRAIN && nodes > MIN_GROWTH_TO_TRAIN * meta.rows_at_build =>
        {
            Some("the sketch is untrained: REINDEX makes searches cheaper")
        }
        SketchForm::Trained | SketchForm::TrainedInPlace if nodes >= MIN_ROWS_TO_TRAIN && is_coarse(meta) => {
            let share = |untrained: u64, nodes: u64| untrained as f64 / nodes.max(1) as f64;
            let at_build = share(meta.untrained_at_build, meta.rows_at_build);
            (share(untrained, nodes) > at_build + MIN_UNTRAINED_SHARE)
                .then_some("many rows do not fit the sketch: REINDEX makes searches cheaper")
        }
        _ => None,
    }
}

/// Returns whether sketches are so short that the form of a row makes a difference. With two bits for each
/// dimension or more, the untrained form is about as good as the trained one.
fn is_coarse(meta: &Meta) -> bool {
    8 * u32::from(meta.sketch_bytes) < 2 * meta.dim
}

//! Sizes of the parts of an index.

use leann_graph::tuning::{CENTER_COMPONENTS, MAX_LINKS, UNTRAINED_CENTER_COMPONENTS};
use leann_page::{NodePage, PointerForm};
use leann_sketch::Sketcher;

/// Returns how many components a hub's center keeps.
pub fn center_len(sketcher: &Sketcher) -> usize {
    let most = if sketcher.is_trained() { CENTER_COMPONENTS } else { UNTRAINED_CENTER_COMPONENTS };
    sketcher.components().min(most)
}

// An index holds values of the type `embedding`, so no lower layer may have a smaller limit. Three hubs fit
// on the smallest page in use, of 8 kB.
const _: () = assert!(
    leann_value::MAX_DIM <= leann_sketch::MAX_DIM
        && 3 * (16 + UNTRAINED_CENTER_COMPONENTS + 6 * MAX_LINKS) + 20 <= 8192 - 24
);

/// Returns how many nodes fit on a page if their pointers have the maximum length.
pub fn any_page_capacity(body_bytes: usize, sketch_bytes: usize) -> usize {
    NodePage::capacity_for(body_bytes, sketch_bytes, PointerForm::WIDEST)
}

//! Counts over all pages of an index: pages by kind, nodes, and how well the sketches describe their rows.

use super::pages::{AnyPage, any_page};
use crate::pg::{Access, Rel, Strategy, interrupts};
use leann_layout::PageFit;
use leann_page::{Meta, PageKind};
use leann_sketch::Sketcher;

/// Counts of pages by kind, of nodes and of the nodes that fit.
#[derive(Default)]
pub struct PageCounts {
    pub nodes: u64,
    /// Nodes that fit on the node pages, those on them included.
    pub slots: u64,
    pub node_pages: i64,
    pub hub_pages: i64,
    pub params_pages: i64,
    pub free_pages: i64,
    /// None if the sketcher could not be read.
    pub fit: Option<IndexFit>,
}

/// How well the sketches of an index describe its rows.
#[derive(Clone, Copy, Default)]
pub struct IndexFit {
    /// Nodes whose sketches are in the untrained form.
    pub untrained: u64,
    /// The sum over all nodes of the share of its row's squared length that a sketch keeps.
    pub sum: f64,
}

impl PageCounts {
    /// Counts over the whole index, page after page, while others may change it.
    pub fn of(rel: Rel, meta: &Meta, sketcher: Option<&Sketcher>) -> PageCounts {
        let mut pages = PageCounts { fit: sketcher.map(|_| IndexFit::default()), ..PageCounts::default() };
        let strategy = Strategy::bulk_read();
        for block in 1..rel.blocks() {
            interrupts::check();
            match any_page(rel, meta, block, Access::Share, &strategy) {
                AnyPage::Node(page) => {
                    let nodes = page.nodes();
                    pages.node_pages += 1;
                    pages.nodes += nodes.count() as u64;
                    pages.slots += nodes.capacity() as u64;
                    if let (Some(fit), Some(sketcher)) = (&mut pages.fit, sketcher) {
                        let of_page = PageFit::of(sketcher, nodes.sketches());
                        fit.untrained += of_page.untrained as u64;
                        fit.sum += f64::from(of_page.sum);
                    }
                }
                AnyPage::Hub(page) => {
                    page.hubs();
                    pages.hub_pages += 1;
                }
                AnyPage::Other(PageKind::Params) => pages.params_pages += 1,
                AnyPage::Other(PageKind::Free | PageKind::Zero) => pages.free_pages += 1,
                AnyPage::Other(_) => {}
            }
        }
        pages
    }
}

//! Divides the nodes of a full page over two pages.

use leann_graph::{Center, tuning};
use leann_page::{HeapPointer, HubRef, NewHub, NodePageMut, PageError};
use leann_sketch::Sketcher;

/// A node: the part of one row that the index holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where the row lies in its table.
    pub pointer: HeapPointer,
    /// The row's sketch.
    pub sketch: Vec<u8>,
}

/// The nodes of one half of a divided page.
pub struct Half {
    /// The nodes in their former order.
    pub nodes: Vec<Node>,
    /// Center and spread of the nodes.
    pub center: Center,
}

impl Half {
    /// Fills the body of the half's node page.
    ///
    /// # Errors
    /// Returns [`PageError::Full`] if the nodes do not fit.
    pub fn write(
        &self,
        body: &mut [u8],
        generation: u32,
        sketch_bytes: usize,
        hub: HubRef,
    ) -> Result<(), PageError> {
        let mut page = NodePageMut::init(body, generation, sketch_bytes, hub)?;
        self.nodes.iter().try_for_each(|node| page.push(node.pointer, &node.sketch))
    }

    /// Returns the entry of the half's hub.
    pub fn hub<'a>(&'a self, node_block: u32, node_generation: u32, links: &'a [HubRef]) -> NewHub<'a> {
        let center = &self.center;
        NewHub { node_block, node_generation, spread: center.spread, center: &center.values, links }
    }
}

/// Divides nodes into two halves of near ones by 2-means on their decoded sketches. Hubs keep `center_len`
/// components.
pub fn divide(nodes: Vec<Node>, sketcher: &Sketcher, center_len: usize) -> [Half; 2] {
    let components = sketcher.components();
    let mut decoded = vec![0.0; nodes.len() * components];
    for (node, out) in nodes.iter().zip(decoded.chunks_exact_mut(components)) {
        sketcher.decode(&node.sketch, out);
    }
    let moves = leann_graph::bisect(&decoded, components, tuning::MIN_SPLIT_SHARE);
    let half = |second: bool| {
        let vectors = decoded.chunks_exact(components).zip(&moves);
        let chosen = vectors.filter(move |(_, moves)| **moves == second).map(|(vector, _)| vector);
        let center = Center::from_vectors(chosen, center_len);
        let nodes = nodes.iter().zip(&moves).filter(|(_, moves)| **moves == second);
        Half { nodes: nodes.map(|(node, _)| node.clone()).collect(), center }
    };
    [half(false), half(true)]
}

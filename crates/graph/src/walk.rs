//! The walk over the hub graph: which node page to visit next.
//!
//! Best-first search over hub links (the layer search of HNSW: Malkov and Yashunin, TPAMI 2018, algorithm 2),
//! made resumable: each call returns one node page, best hub first, for as long as the caller asks. Links are
//! only hints. They may point to hubs that are gone, to slots that hold another hub by now, or nowhere. What
//! makes the walk complete is the chain of hub pages, which holds every hub once and is read when the links
//! run dry.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use leann_page::HubRef;
use leann_vector::dot;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::order::Score;

/// A node page and the generation it had when its hub was read. A page that was split, or freed and used
/// again, has another generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct NodePageRef {
    /// Block number of the node page.
    pub block: u32,
    /// Generation of its content.
    pub generation: u32,
}

/// A hub as read from its page.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Hub {
    /// Where the hub is stored.
    pub at: HubRef,
    /// The node page that it stands for.
    pub node_page: NodePageRef,
    /// Mean of the page's decoded sketches in the leading components of the sketch. May be shorter than the
    /// walk's target, which is then cut to its length.
    pub center: Vec<f32>,
    /// Root mean square distance of the page's nodes to the center.
    pub spread: f32,
    /// Near hubs.
    pub links: Vec<HubRef>,
}

/// Storage of hubs.
pub trait HubReader {
    /// Returns where walks start. Hints like all links: may be stale.
    fn entry_hubs(&mut self) -> Vec<HubRef>;
    /// Visits the hubs at `at` that exist, in any order. References to free or impossible places are skipped.
    fn read(&mut self, at: &[HubRef], visit: &mut dyn FnMut(&Hub));
    /// Visits every hub, in the order of the chain.
    fn read_all(&mut self, visit: &mut dyn FnMut(&Hub));
}

/// What makes a hub good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HubMetric {
    /// For a query: inner product with the center, and somewhat more for hubs of wide pages.
    Search,
    /// For placing a row: nearest center by L2, as `<t, c> - |c|^2 / 2`.
    Place,
}

/// What a hub's spread adds to its score for a query. The best of a page's nodes lies above their mean, and
/// the further the wider they spread. Measured, this finds the same rows on a fifth fewer pages where pages
/// differ much.
const SPREAD_WEIGHT: f32 = 0.3;

impl HubMetric {
    /// Returns the score of a hub; higher is better.
    pub fn score(self, target: &[f32], hub: &Hub) -> f32 {
        match self {
            HubMetric::Search => dot(target, &hub.center) + SPREAD_WEIGHT * hub.spread,
            HubMetric::Place => dot(target, &hub.center) - 0.5 * dot(&hub.center, &hub.center),
        }
    }
}

/// A hub that was read. At most one per node page and generation.
struct Discovered {
    at: HubRef,
    node_page: NodePageRef,
    /// Taken when the hub is expanded.
    links: Vec<HubRef>,
}

/// Heap entry: best score first, then the hub read first, so that walks are deterministic.
type Ranked = (Score, Reverse<u32>);

/// A resumable best-first walk. Its memory is bounded by the number of hubs.
pub struct HubWalk {
    target: Vec<f32>,
    metric: HubMetric,
    /// What it was at first, and one more for every page returned.
    beam: usize,
    discovered: Vec<Discovered>,
    by_page: FxHashMap<NodePageRef, u32>,
    /// References that were read, whether or not a hub was there.
    visited: FxHashSet<HubRef>,
    unexpanded: BinaryHeap<Ranked>,
    /// Hubs whose page was not returned yet.
    candidates: BinaryHeap<Ranked>,
    /// The best `beam` scores discovered, worst on top.
    best: BinaryHeap<Reverse<Score>>,
    /// The scores of all others.
    below_best: BinaryHeap<Score>,
    started: bool,
    /// Every hub of the chain is discovered, so links tell nothing new.
    complete: bool,
    /// References to read again before the next page is returned.
    stale: Vec<HubRef>,
    /// The system refused memory for a hub that was read.
    out_of_memory: bool,
}

impl HubWalk {
    /// Starts a walk. `target` is the projected query, or the projected row for [`HubMetric::Place`]. Before
    /// the n-th page is returned, the best `beam + n - 1` discovered hubs have been expanded.
    pub fn new(target: Vec<f32>, metric: HubMetric, beam: usize) -> HubWalk {
        HubWalk {
            target,
            metric,
            beam: beam.max(1),
            discovered: Vec::new(),
            by_page: FxHashMap::default(),
            visited: FxHashSet::default(),
            unexpanded: BinaryHeap::new(),
            candidates: BinaryHeap::new(),
            best: BinaryHeap::new(),
            below_best: BinaryHeap::new(),
            started: false,
            complete: false,
            stale: Vec::new(),
            out_of_memory: false,
        }
    }

    /// Returns the best hub whose page was not returned yet, with that page and the hub's score; None if a
    /// pass over the whole chain discovered none. It can be called again after that.
    pub fn next<R: HubReader>(&mut self, reader: &mut R) -> Option<(HubRef, NodePageRef, f32)> {
        if !self.stale.is_empty() {
            let stale = std::mem::take(&mut self.stale);
            reader.read(&stale, &mut |hub| self.discover(hub));
        }
        if !self.started {
            self.started = true;
            let entries = reader.entry_hubs();
            self.read(reader, &entries);
        }
        self.search_beam(reader);
        if self.candidates.is_empty() {
            // Only a pass over the chain that discovers nothing ends the walk: a page may be split while the
            // chain is read, with the old hub met after the split and the new one's place before it.
            self.read_chain(reader);
        }
        self.pop_best()
    }

    /// Reads the hub at `at` again before the next page is returned, because its node page was found split,
    /// or used for other nodes, since the hub was read. The hub now has the page's present generation, and
    /// links to where nodes went. Nodes that lie elsewhere are found by the pass over the chain before the
    /// walk ends.
    pub fn read_again(&mut self, at: HubRef) {
        self.stale.push(at);
    }

    /// Returns whether the system refused memory for what was read. Then hubs are missing, and the walk can
    /// only be dropped.
    pub fn out_of_memory(&self) -> bool {
        self.out_of_memory
    }

    /// Reserves memory for one more hub.
    fn try_reserve(&mut self) -> bool {
        self.discovered.try_reserve(1).is_ok()
            && self.by_page.try_reserve(1).is_ok()
            && self.candidates.try_reserve(1).is_ok()
            && self.unexpanded.try_reserve(1).is_ok()
            && self.best.try_reserve(1).is_ok()
            && self.below_best.try_reserve(1).is_ok()
    }

    /// Expands the best unexpanded hub until the best `beam` discovered ones are all expanded. The best
    /// candidate is always among those, because `beam` grows with every page returned.
    fn search_beam<R: HubReader>(&mut self, reader: &mut R) {
        while let Some(&(score, Reverse(next))) = self.unexpanded.peek() {
            if self.best.len() >= self.beam && self.best.peek().is_some_and(|worst| score < worst.0) {
                break;
            }
            self.unexpanded.pop();
            let links = std::mem::take(&mut self.discovered[next as usize].links);
            self.read(reader, &links);
        }
    }

    /// Reads those of `at` that were not read before.
    fn read<R: HubReader>(&mut self, reader: &mut R, at: &[HubRef]) {
        let mut fresh: Vec<HubRef> = at.iter().copied().filter(|at| !self.visited.contains(at)).collect();
        // Sorted, so that a reader meets the hubs of one page together.
        fresh.sort_unstable();
        fresh.dedup();
        if fresh.is_empty() {
            return;
        }
        reader.read(&fresh, &mut |hub| self.discover(hub));
        if self.visited.try_reserve(fresh.len()).is_err() {
            self.out_of_memory = true;
            return;
        }
        self.visited.extend(fresh);
    }

    /// Reads all hubs, after which links are of no use.
    fn read_chain<R: HubReader>(&mut self, reader: &mut R) {
        reader.read_all(&mut |hub| self.discover(hub));
        self.complete = true;
        self.unexpanded = BinaryHeap::new();
        (self.best, self.below_best) = (BinaryHeap::new(), BinaryHeap::new());
        for hub in &mut self.discovered {
            hub.links = Vec::new();
        }
    }

    /// Takes in a hub that was read.
    fn discover(&mut self, hub: &Hub) {
        if let Some(&index) = self.by_page.get(&hub.node_page) {
            // The same page under another reference: its entry has moved since.
            self.discovered[index as usize].at = hub.at;
            return;
        }
        if !self.try_reserve() {
            self.out_of_memory = true;
            return;
        }
        let index = self.discovered.len() as u32;
        let score = Score::new(self.metric.score(&self.target, hub));
        self.by_page.insert(hub.node_page, index);
        self.discovered.push(Discovered {
            at: hub.at,
            node_page: hub.node_page,
            links: if self.complete { Vec::new() } else { hub.links.clone() },
        });
        self.candidates.push((score, Reverse(index)));
        if self.complete {
            return;
        }
        self.unexpanded.push((score, Reverse(index)));
        self.best.push(Reverse(score));
        if self.best.len() > self.beam
            && let Some(Reverse(worst)) = self.best.pop()
        {
            self.below_best.push(worst);
        }
    }

    /// Takes the best candidate, and widens the beam by one.
    fn pop_best(&mut self) -> Option<(HubRef, NodePageRef, f32)> {
        let (score, Reverse(index)) = self.candidates.pop()?;
        if !self.complete {
            self.beam += 1;
            self.best.extend(self.below_best.pop().map(Reverse));
        }
        let hub = &self.discovered[index as usize];
        Some((hub.at, hub.node_page, score.get()))
    }
}

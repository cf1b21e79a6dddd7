//! The walk over the hub graph: which node page to visit next.
//!
//! Best-first search over hub links (as in HNSW's layer search: Malkov & Yashunin 2018, algorithm 2), made
//! resumable: it hands out one node page per call, best hub first, for as long as the caller asks. Links are only
//! hints. They may point to hubs that are gone, to slots that hold another hub by now, or nowhere; what makes the
//! walk complete is the chain of hub pages, which holds every hub once and is read when the links run dry.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::hash::{FastMap, FastSet};
use crate::order::Score;

/// Where a hub is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct HubRef {
    pub page: u32,
    pub slot: u16,
}

/// A node page and the generation it had when its hub was read; a page that was split, or freed and used again,
/// has another generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct NodePageRef {
    pub block: u32,
    pub generation: u32,
}

/// A hub as read from its page.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Hub {
    pub at: HubRef,
    pub node_page: NodePageRef,
    /// The mean of the page's decoded sketches in the leading directions of the sketch; may be shorter than the
    /// walk's target, which is then cut to its length.
    pub centre: Vec<f32>,
    /// Root mean square distance of the page's nodes to the centre.
    pub spread: f32,
    pub links: Vec<HubRef>,
}

/// Storage of hubs.
pub trait HubReader {
    type Error;
    /// Where walks start. Hints like all links: may be stale.
    fn entry_hubs(&mut self) -> Result<Vec<HubRef>, Self::Error>;
    /// Visits the hubs at `at` that exist, in any order; references to free or impossible places are skipped.
    fn read(&mut self, at: &[HubRef], visit: &mut dyn FnMut(&Hub)) -> Result<(), Self::Error>;
    /// Visits every hub, in the order of the chain.
    fn read_all(&mut self, visit: &mut dyn FnMut(&Hub)) -> Result<(), Self::Error>;
}

/// What makes a hub good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HubMetric {
    /// For a query: inner product with the centre, and somewhat more for hubs of wide pages.
    Search,
    /// For placing a row: nearest centre by L2, as `<t, c> - |c|^2 / 2`.
    Place,
}

/// What a hub's spread adds to its score for a query. The best of a page's nodes lies above their mean, and the further
/// the wider they spread; measured, this finds the same rows on a fifth fewer pages where pages differ much.
const SPREAD_WEIGHT: f32 = 0.3;

impl HubMetric {
    /// Higher is better.
    pub fn score(self, target: &[f32], hub: &Hub) -> f32 {
        match self {
            HubMetric::Search => dot(target, &hub.centre) + SPREAD_WEIGHT * hub.spread,
            HubMetric::Place => dot(target, &hub.centre) - 0.5 * dot(&hub.centre, &hub.centre),
        }
    }
}

/// Over the shorter of the two.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    let mut sums = [0.0f32; LANES];
    let (chunks_a, chunks_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = chunks_a.remainder().iter().zip(chunks_b.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in chunks_a.zip(chunks_b) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// A hub that was read. At most one per node page and generation.
struct Known {
    at: HubRef,
    node_page: NodePageRef,
    /// Emptied when the hub is expanded.
    links: Vec<HubRef>,
}

/// Heap entry: best score first, then the hub read first, so that walks are deterministic.
type Ranked = (Score, Reverse<u32>);

/// A resumable best-first walk. Its memory is bounded by the number of hubs.
pub struct HubWalk {
    target: Vec<f32>,
    metric: HubMetric,
    /// What it was at first, and one more for every hub given.
    beam: usize,
    known: Vec<Known>,
    by_page: FastMap<NodePageRef, u32>,
    /// References that were read already, whether or not a hub was there.
    asked: FastSet<HubRef>,
    unexpanded: BinaryHeap<Ranked>,
    not_given: BinaryHeap<Ranked>,
    /// The best `beam` scores known, worst on top.
    best: BinaryHeap<Reverse<Score>>,
    /// The scores of all others.
    below_best: BinaryHeap<Score>,
    entries: Option<Vec<HubRef>>,
    started: bool,
    /// Every hub of the chain is known, so links tell nothing new.
    complete: bool,
    /// To be read again before the next answer.
    again: Vec<HubRef>,
    hubs_read: usize,
    /// The system refused memory for a hub that was read.
    out_of_memory: bool,
}

impl HubWalk {
    /// `target` is the projected query, or the projected row for [`HubMetric::Place`]; before the n-th answer,
    /// the best `beam + n - 1` known hubs have been expanded.
    pub fn new(target: Vec<f32>, metric: HubMetric, beam: usize) -> HubWalk {
        HubWalk {
            target,
            metric,
            beam: beam.max(1),
            known: Vec::new(),
            by_page: FastMap::default(),
            asked: FastSet::default(),
            unexpanded: BinaryHeap::new(),
            not_given: BinaryHeap::new(),
            best: BinaryHeap::new(),
            below_best: BinaryHeap::new(),
            entries: None,
            started: false,
            complete: false,
            again: Vec::new(),
            hubs_read: 0,
            out_of_memory: false,
        }
    }

    /// The best hub not yet given, its node page and its score; None when a look at the whole chain brought no hub that
    /// was not given. Fails only as the reader fails, and can then be called again.
    pub fn next<R: HubReader>(
        &mut self,
        reader: &mut R,
    ) -> Result<Option<(HubRef, NodePageRef, f32)>, R::Error> {
        if !self.again.is_empty() {
            let again = std::mem::take(&mut self.again);
            // Forgotten if the reader fails: the chain, at the end, has what it would have brought.
            reader.read(&again, &mut |hub| self.take(hub))?;
        }
        if !self.started {
            // Kept, so that a walk called again after an error does not begin anew.
            let entries = match self.entries.take() {
                Some(entries) => entries,
                None => reader.entry_hubs()?,
            };
            self.entries = Some(entries.clone());
            self.read(reader, &entries)?;
            self.started = true;
        }
        self.search_beam(reader)?;
        if self.not_given.is_empty() {
            // The end is certain only after a pass over the chain that found nothing unknown: a page may be split while
            // the chain is read, with the old hub met after the split and the new one's place before it.
            self.read_chain(reader)?;
        }
        Ok(self.give_best())
    }

    /// A node page was found split, or used for other nodes, since its hub was read at `at`. Before its next answer the walk
    /// reads that one again, and with it the page's present generation and the links to where nodes went. What came to lie
    /// elsewhere is found by the look at the chain before the walk ends.
    pub fn read_again(&mut self, at: HubRef) {
        self.again.push(at);
    }

    /// Whether the system refused memory for what was read: then hubs are missing, and the walk can only be ended.
    pub fn out_of_memory(&self) -> bool {
        self.out_of_memory
    }

    /// Room for one more hub.
    fn make_room(&mut self) -> bool {
        self.known.try_reserve(1).is_ok()
            && self.by_page.try_reserve(1).is_ok()
            && self.not_given.try_reserve(1).is_ok()
            && self.unexpanded.try_reserve(1).is_ok()
            && self.best.try_reserve(1).is_ok()
            && self.below_best.try_reserve(1).is_ok()
    }

    /// How often a hub was read, the chain included.
    pub fn hubs_read(&self) -> usize {
        self.hubs_read
    }

    /// Expands the best unexpanded hub until the best `beam` known ones are all expanded. The best one not given is
    /// always among those, because `beam` grows with every one that is.
    fn search_beam<R: HubReader>(&mut self, reader: &mut R) -> Result<(), R::Error> {
        while let Some(&(score, Reverse(next))) = self.unexpanded.peek() {
            if self.best.len() >= self.beam && self.best.peek().is_some_and(|worst| score < worst.0) {
                break;
            }
            self.unexpanded.pop();
            let links = std::mem::take(&mut self.known[next as usize].links);
            if let Err(error) = self.read(reader, &links) {
                self.known[next as usize].links = links;
                self.unexpanded.push((score, Reverse(next)));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Reads those of `at` that were not read before.
    fn read<R: HubReader>(&mut self, reader: &mut R, at: &[HubRef]) -> Result<(), R::Error> {
        let mut fresh: Vec<HubRef> = at.iter().copied().filter(|at| !self.asked.contains(at)).collect();
        // Sorted, so that a reader meets the hubs of one page together.
        fresh.sort_unstable();
        fresh.dedup();
        if fresh.is_empty() {
            return Ok(());
        }
        reader.read(&fresh, &mut |hub| self.take(hub))?;
        if self.asked.try_reserve(fresh.len()).is_err() {
            self.out_of_memory = true;
            return Ok(());
        }
        // Only now: after an error the same references are to be read again.
        self.asked.extend(fresh);
        Ok(())
    }

    fn read_chain<R: HubReader>(&mut self, reader: &mut R) -> Result<(), R::Error> {
        reader.read_all(&mut |hub| self.take(hub))?;
        self.complete = true;
        self.unexpanded = BinaryHeap::new();
        (self.best, self.below_best) = (BinaryHeap::new(), BinaryHeap::new());
        for hub in &mut self.known {
            hub.links = Vec::new();
        }
        Ok(())
    }

    fn take(&mut self, hub: &Hub) {
        self.hubs_read += 1;
        if let Some(&index) = self.by_page.get(&hub.node_page) {
            // The same page under another reference: its entry has moved since.
            self.known[index as usize].at = hub.at;
            return;
        }
        if !self.make_room() {
            self.out_of_memory = true;
            return;
        }
        let index = self.known.len() as u32;
        let score = Score::new(self.metric.score(&self.target, hub));
        self.by_page.insert(hub.node_page, index);
        self.known.push(Known {
            at: hub.at,
            node_page: hub.node_page,
            links: if self.complete { Vec::new() } else { hub.links.clone() },
        });
        self.not_given.push((score, Reverse(index)));
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

    fn give_best(&mut self) -> Option<(HubRef, NodePageRef, f32)> {
        let (score, Reverse(index)) = self.not_given.pop()?;
        if !self.complete {
            self.beam += 1;
            self.best.extend(self.below_best.pop().map(Reverse));
        }
        let hub = &self.known[index as usize];
        Some((hub.at, hub.node_page, score.get()))
    }
}

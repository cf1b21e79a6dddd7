//! A walk over the hubs of several indexes at once.

use leann_page::HubRef;

use crate::order::Score;
use crate::walk::{HubReader, HubWalk, NodePageRef};

/// One of several walks, and the page that it returned but this walk has not.
struct Source {
    walk: HubWalk,
    head: Head,
}

enum Head {
    /// The walk has to be asked.
    Unknown,
    Page(HubRef, NodePageRef, f32),
    /// A pass over the chain of hubs discovered no page that was not returned.
    Exhausted,
}

/// Several walks merged: the best page of all first, by the score of its hub.
///
/// A walk is asked for its next page only when that may be the next of all. So a single one is read exactly
/// as far as [`HubWalk`] reads it, and each of several at most one page ahead.
pub struct Walks {
    sources: Vec<Source>,
}

impl Walks {
    /// Merges walks, one per index. Their scores are compared as they are: all have the same metric and the
    /// same query, each projected as its index projects.
    pub fn new(walks: Vec<HubWalk>) -> Walks {
        Walks { sources: walks.into_iter().map(|walk| Source { walk, head: Head::Unknown }).collect() }
    }

    /// Returns the best page that was not returned yet: the number of its index, its hub, the page and the
    /// hub's score. Of equal scores the index with the lowest number comes first. `readers[i]` reads the hubs
    /// of walk i.
    ///
    /// None if all walks are exhausted. It can be called again after that, like [`HubWalk::next`].
    pub fn next<R: HubReader>(&mut self, readers: &mut [R]) -> Option<(usize, HubRef, NodePageRef, f32)> {
        debug_assert_eq!(self.sources.len(), readers.len());
        for (source, reader) in self.sources.iter_mut().zip(readers) {
            if matches!(source.head, Head::Unknown) {
                source.head = match source.walk.next(reader) {
                    Some((at, page, score)) => Head::Page(at, page, score),
                    None => Head::Exhausted,
                };
            }
        }
        let Some(best) = self.best() else {
            self.sources.iter_mut().for_each(|source| source.head = Head::Unknown);
            return None;
        };
        match std::mem::replace(&mut self.sources[best].head, Head::Unknown) {
            Head::Page(at, page, score) => Some((best, at, page, score)),
            Head::Unknown | Head::Exhausted => None,
        }
    }

    /// Has the walk of index `source` read the hub at `at` again ([`HubWalk::read_again`]).
    pub fn read_again(&mut self, source: usize, at: HubRef) {
        let source = &mut self.sources[source];
        source.walk.read_again(at);
        if matches!(source.head, Head::Exhausted) {
            source.head = Head::Unknown;
        }
    }

    /// Returns whether the system refused memory to any of the walks. Then hubs are missing, and the walk can
    /// only be dropped.
    pub fn out_of_memory(&self) -> bool {
        self.sources.iter().any(|source| source.walk.out_of_memory())
    }

    /// Returns the source with the best page, the first of equals.
    fn best(&self) -> Option<usize> {
        let pages = self.sources.iter().enumerate().filter_map(|(number, source)| match source.head {
            Head::Page(_, _, score) => Some((Score::new(score), number)),
            Head::Unknown | Head::Exhausted => None,
        });
        pages.max_by_key(|&(score, number)| (score, std::cmp::Reverse(number))).map(|(_, number)| number)
    }
}

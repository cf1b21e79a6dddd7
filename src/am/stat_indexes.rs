//! Counts what searches did, index by index: `leann.stat_indexes`. Where the library is preloaded, the counts
//! are those of all sessions since the server started; elsewhere, those of this session.

use super::stats::ScanStats;
use crate::pg::catalog;
use crate::pg::rights::{self, Asker};
use crate::pg::shmem::{self, Part};
use crate::session::{self, State};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Indexes that are counted. Beyond that, a new one takes the place of the one that was searched least
/// recently.
const MAX_INDEXES: usize = 512;
/// Counts of one index.
const COUNTS: usize = 9;
/// Words of one index: its key, when its counts began, when it was searched last, and the counts.
const ENTRY_WORDS: usize = 3 + COUNTS;
/// Words of all indexes.
const WORDS: usize = MAX_INDEXES * ENTRY_WORDS;

/// What is counted without shared memory.
#[derive(Default)]
struct OwnCounts(Vec<u64>);

impl State for OwnCounts {
    fn forget(&mut self) {
        self.0.clear();
    }
}

/// Requests the shared memory of the library. Call it while preloading.
pub fn request_memory() {
    shmem::request(WORDS, crate::model::shared::memory_words());
}

/// Adds what a search over some indexes did. Each index counts a share by the rows of it that were read.
pub fn add(indexes: &[(pg_sys::Oid, u64)], stats: &ScanStats) {
    let all = indexes.iter().map(|(_, rows)| rows).sum::<u64>().max(1) as f64;
    let now = now();
    change(|words| {
        for (index, rows) in indexes {
            let share = if indexes.len() == 1 { 1.0 } else { *rows as f64 / all };
            let entry = entry(words, key(*index), now);
            for (word, count) in entry[3..].iter_mut().zip(counts(stats)) {
                *word += (count * share).round() as u64;
            }
            // A search counts once for each index.
            entry[3] += 1;
        }
    });
}

/// Returns the counts of a search, in the order of the view's columns. Its own number comes first, which is
/// counted apart.
fn counts(stats: &ScanStats) -> [f64; COUNTS] {
    [
        0.0,
        stats.pages as f64,
        stats.nodes as f64,
        stats.checked as f64,
        stats.recomputes as f64,
        stats.cache_hits as f64,
        stats.late as f64,
        // Microseconds.
        stats.model_ms * 1e3,
        stats.walk_ms * 1e3,
    ]
}

/// Returns the entry of an index. Makes one if there is none.
fn entry(words: &mut [u64], key: u64, now: i64) -> &mut [u64] {
    let entries = words.as_chunks_mut::<ENTRY_WORDS>().0;
    let known = entries.iter().position(|entry| entry[0] == key);
    let place = known.unwrap_or_else(|| {
        let oldest = (0..entries.len()).min_by_key(|&place| (entries[place][0] != 0, entries[place][2]));
        let place = oldest.unwrap_or_default();
        entries[place] = [0; ENTRY_WORDS];
        (entries[place][0], entries[place][1]) = (key, now as u64);
        place
    });
    entries[place][2] = now as u64;
    &mut entries[place]
}

/// Changes the counts under their lock.
fn change<R>(mut f: impl FnMut(&mut [u64]) -> R) -> R {
    match shmem::change(Part::Statistics, &mut f) {
        Some(result) => result,
        None => session::with(|OwnCounts(words)| {
            words.resize(WORDS, 0);
            f(words)
        }),
    }
}

/// Returns what an index of this database is known by.
fn key(index: pg_sys::Oid) -> u64 {
    // SAFETY: a plain read of this backend's database.
    let database = unsafe { pg_sys::MyDatabaseId };
    u64::from(database.to_u32()) << 32 | u64::from(index.to_u32())
}

fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// Returns the counts of the indexes of this database on tables that the user may read, for the view
/// `leann.stat_indexes`. Counts that began before `reset`, when the database's statistics were reset, begin
/// anew. Times are in microseconds since 2000.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn index_counts(
    reset: Option<i64>,
) -> TableIterator<
    'static,
    (
        name!(indexrelid, pg_sys::Oid),
        name!(searches, i64),
        name!(pages, i64),
        name!(nodes, i64),
        name!(checked, i64),
        name!(recomputes, i64),
        name!(cache_hits, i64),
        name!(late, i64),
        name!(model_ms, f64),
        name!(walk_ms, f64),
        name!(since, i64),
    ),
> {
    let reset = reset.unwrap_or(i64::MIN);
    let of_database = key(pg_sys::InvalidOid);
    let now = now();
    let mut found: Vec<[u64; ENTRY_WORDS]> = Vec::with_capacity(MAX_INDEXES);
    change(|words| {
        for entry in words.as_chunks_mut::<ENTRY_WORDS>().0 {
            if entry[0] == 0 || entry[0] >> 32 != of_database >> 32 {
                continue;
            }
            if (entry[1] as i64) < reset {
                entry[1] = now as u64;
                entry[3..].fill(0);
            }
            found.push(*entry);
        }
    });
    let (all, asker) = (rights::reads_all_statistics(), Asker::now());
    found.retain(|entry| {
        let index = catalog::index(pg_sys::Oid::from(entry[0] as u32));
        index.is_some_and(|index| all || asker.reads_whole(index.indrelid))
    });
    TableIterator::new(found.into_iter().map(|entry| {
        let [key, since, _, searches, pages, nodes, checked, recomputes, hits, late, model, walk] = entry;
        (
            pg_sys::Oid::from(key as u32),
            searches as i64,
            pages as i64,
            nodes as i64,
            checked as i64,
            recomputes as i64,
            hits as i64,
            late as i64,
            model as f64 / 1e3,
            walk as f64 / 1e3,
            since as i64,
        )
    }))
}

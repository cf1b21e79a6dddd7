//! Counts what searches did, index by index: `leann.stat_indexes`. Where the library is preloaded, the counts
//! are those of all sessions since the server started; elsewhere, those of this session.

use super::stats::ScanStats;
use crate::pg::Rel;
use crate::pg::catalog;
use crate::pg::rights::{self, Asker};
use crate::pg::shmem::{self, Part};
use crate::session::{self, State};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Indexes that are counted in shared memory, and in a session.
const MAX_INDEXES: usize = 4096;
const MAX_OWN_INDEXES: usize = 512;
/// Places where an index may be. If all are taken, it replaces the one that was searched least recently.
const PLACES: usize = 16;
/// Counts of one index.
const COUNTS: usize = 9;
/// Words of one index: its key, when its counts began, when it was searched last, and the counts.
const ENTRY_WORDS: usize = 3 + COUNTS;

/// Spreads keys over the places (Knuth, "The Art of Computer Programming", volume 3, section 6.4).
const HASH_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

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
    shmem::request(MAX_INDEXES * ENTRY_WORDS, crate::model::shared::memory_words());
}

/// Adds what a search over some indexes did. Each index counts a share by the rows of it that were read.
/// Those of temporary tables are not counted: a session could have so many that they take all places.
pub fn add(indexes: &[(Rel, u64)], stats: &ScanStats) {
    let all = indexes.iter().map(|(_, rows)| rows).sum::<u64>().max(1) as f64;
    let now = now();
    change(|words| {
        for (index, rows) in indexes.iter().filter(|(index, _)| !index.is_temporary()) {
            let share = if indexes.len() == 1 { 1.0 } else { *rows as f64 / all };
            let entry = entry(words, key(index.oid()), now);
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
    let (first, count) = (key.wrapping_mul(HASH_FACTOR) >> 32, entries.len() as u64);
    let places = (0..PLACES as u64).map(|step| ((first + step) % count) as usize);
    let known = places.clone().find(|&place| entries[place][0] == key);
    let place = known.unwrap_or_else(|| {
        let oldest = places.min_by_key(|&place| (entries[place][0] != 0, entries[place][2]));
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
            words.resize(MAX_OWN_INDEXES * ENTRY_WORDS, 0);
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
/// `leann.stat_indexes`. Counts that began before the database's statistics were reset begin anew.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn index_counts() -> TableIterator<
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
        name!(since, Option<TimestampWithTimeZone>),
    ),
> {
    let reset = last_reset();
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
            // SAFETY: a time stamp is passed by value, in 64 bits.
            unsafe { TimestampWithTimeZone::from_datum(pg_sys::Datum::from(since as i64), false) },
        )
    }))
}

/// Returns when the statistics of this database were reset last.
fn last_reset() -> i64 {
    // SAFETY: the server returns its entry for the database, or null if it has none.
    unsafe { pg_sys::pgstat_fetch_stat_dbentry(pg_sys::MyDatabaseId).as_ref() }
        .map_or(i64::MIN, |entry| entry.stat_reset_timestamp)
}

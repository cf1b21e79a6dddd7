//! The server-wide cache of embeddings: a session finds what another one has embedded. It exists only if the
//! library is preloaded.
//!
//! In addition to the asking roles, the model and the text, a key holds the database. So no user can learn,
//! from how fast an answer comes, whether another user has embedded a text.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pgrx::pg_sys;

use super::cache;
use super::ring_cache::{CachedEmbedding, RingCache, RingKey};
use crate::guc;
use crate::pg::shmem::{self, Part};
use crate::session::{self, State};

/// What the cache has done since the server started.
pub struct Statistics {
    pub limit_bytes: usize,
    pub bytes: usize,
    pub lookups: u64,
    pub hits: u64,
}

/// Returns the words that the cache takes, of the size that the setting gives.
pub fn memory_words() -> usize {
    guc::shared_cache_bytes() / size_of::<u64>()
}

/// Whether a [`BypassSharedCache`] lives.
#[derive(Clone, Copy, Default)]
struct Bypassed(bool);

impl State for Bypassed {}

/// While this lives, this session finds nothing in the cache. For measuring what searches cost without it.
pub struct BypassSharedCache(());

impl BypassSharedCache {
    pub fn new() -> BypassSharedCache {
        session::with(|bypassed: &mut Bypassed| bypassed.0 = true);
        BypassSharedCache(())
    }
}

impl Drop for BypassSharedCache {
    fn drop(&mut self) {
        session::with(|bypassed: &mut Bypassed| bypassed.0 = false);
    }
}

/// Returns an embedding that a session of this database and of these roles has kept.
pub fn get(key: &cache::Key) -> Option<Vec<f32>> {
    if session::get::<Bypassed>().0 {
        return None;
    }
    let [lookups, hits] = counters()?;
    let ring_key = key_in_database(key);
    let found =
        shmem::read(Part::Cache, |memory| RingCache::over(memory).and_then(|ring| ring.get(ring_key)))?;
    lookups.fetch_add(1, Relaxed);
    hits.fetch_add(u64::from(found.is_some()), Relaxed);
    let CachedEmbedding { embedding, aging } = found?;
    if aging {
        put(key, &embedding);
    }
    Some(embedding)
}

/// Keeps an embedding for all sessions of this database and of these roles.
pub fn put(key: &cache::Key, embedding: &[f32]) {
    if counters().is_none() {
        return;
    }
    let key = key_in_database(key);
    shmem::change(Part::Cache, |memory| {
        if let Some(mut ring) = RingCache::over(memory) {
            ring.put(key, embedding);
        }
    });
}

/// Forgets all embeddings, of every role and database. They may come from a model whose files were damaged.
pub fn clear() {
    shmem::change(Part::Cache, |memory| {
        if let Some(mut ring) = RingCache::over(memory) {
            ring.clear();
        }
    });
}

/// Returns the counts of lookups and of hits, or None if there is no such cache.
fn counters() -> Option<&'static [AtomicU64; 2]> {
    shmem::counters().filter(|_| memory_words() > 0)
}

/// Returns what the cache has done, or None if there is no such cache.
pub fn statistics() -> Option<Statistics> {
    let [lookups, hits] = counters()?;
    let (limit_bytes, bytes) =
        shmem::read(Part::Cache, |memory| RingCache::over(memory).map_or((0, 0), |ring| ring.fill()))?;
    Some(Statistics { limit_bytes, bytes, lookups: lookups.load(Relaxed), hits: hits.load(Relaxed) })
}

/// Returns the key of an embedding in this database.
fn key_in_database(key: &cache::Key) -> RingKey {
    // SAFETY: a plain read of this backend's database.
    let database = unsafe { pg_sys::MyDatabaseId };
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.bytes());
    hasher.update(&database.to_u32().to_le_bytes());
    let mut halves = [[0; 8]; 2];
    hasher.finalize_xof().fill(halves.as_flattened_mut());
    halves.map(u64::from_le_bytes)
}

//! The server-wide cache of embeddings: what one session has embedded, the next one finds. There only when the library is
//! preloaded.
//!
//! A key holds the database beside who asks, model and text. So nobody can learn, from how fast an answer comes, whether
//! another user has embedded a text.

use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;

use pgrx::pg_sys;

use super::cache;
use super::ring::{self, Found, Ring};
use crate::guc;
use crate::pg::shmem;

/// What the cache has done since the server started.
pub struct Statistics {
    pub limit_bytes: usize,
    pub bytes: usize,
    pub lookups: u64,
    pub hits: u64,
}

/// Asks the server for the cache's memory, as large as the setting says. To be called while preloading.
pub fn ask_for_memory() {
    let bytes = guc::shared_cache_bytes();
    if bytes > 0 {
        shmem::ask_for(bytes / size_of::<u64>());
    }
}

thread_local! {
    static PASSED_OVER: Cell<bool> = const { Cell::new(false) };
}

/// While this lives, this session finds nothing in the cache: for measuring what searches cost without it.
pub struct PassedOver;

impl PassedOver {
    pub fn now() -> PassedOver {
        PASSED_OVER.set(true);
        PassedOver
    }
}

impl Drop for PassedOver {
    fn drop(&mut self) {
        PASSED_OVER.set(false);
    }
}

/// An embedding that any session of this database and role has kept.
pub fn get(key: &cache::Key) -> Option<Vec<f32>> {
    if PASSED_OVER.get() {
        return None;
    }
    let [lookups, hits] = shmem::counters()?;
    let own = own_key(key);
    let found = shmem::read(|memory| Ring::over(memory).and_then(|ring| ring.get(own)))?;
    lookups.fetch_add(1, Relaxed);
    hits.fetch_add(u64::from(found.is_some()), Relaxed);
    let Found { embedding, aging } = found?;
    if aging {
        put(key, &embedding);
    }
    Some(embedding)
}

/// Keeps an embedding for all sessions of this database and role.
pub fn put(key: &cache::Key, embedding: &[f32]) {
    if shmem::counters().is_none() {
        return;
    }
    let key = own_key(key);
    shmem::change(|memory| {
        if let Some(mut ring) = Ring::over(memory) {
            ring.put(key, embedding);
        }
    });
}

/// Forgets all embeddings, of every role and database. They may have been made by a model whose files were not sound.
pub fn clear() {
    shmem::change(|memory| {
        if let Some(mut ring) = Ring::over(memory) {
            ring.clear();
        }
    });
}

/// None if there is no such cache.
pub fn statistics() -> Option<Statistics> {
    let [lookups, hits] = shmem::counters()?;
    let (limit_bytes, bytes) = shmem::read(|memory| Ring::over(memory).map_or((0, 0), |ring| ring.fill()))?;
    Some(Statistics { limit_bytes, bytes, lookups: lookups.load(Relaxed), hits: hits.load(Relaxed) })
}

fn own_key(key: &cache::Key) -> ring::Key {
    // SAFETY: a plain read of this backend's database.
    let database = unsafe { pg_sys::MyDatabaseId };
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.bytes());
    hasher.update(&database.to_u32().to_le_bytes());
    let mut halves = [[0; 8]; 2];
    hasher.finalize_xof().fill(halves.as_flattened_mut());
    halves.map(u64::from_le_bytes)
}

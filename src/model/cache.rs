//! The embeddings that this session used last: a bounded store that evicts the least recently used entry
//! first.
//!
//! A key is a hash of the asking roles, the model's fingerprint, the text's role and the text. So an entry is
//! never stale: another text, another role or another model gives another key. And no user can learn, from
//! how fast an answer comes, what another user of the session has embedded. With 128 bits, collisions of two
//! texts are not a concern.

use std::rc::Rc;

use leann_value::Role;
use lru::LruCache;

use crate::pg::rights::Asker;
use crate::session::{self, State};

/// Identifies a text as a model embeds it for the asking roles.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key([u8; 16]);

impl Key {
    pub fn new(asker: Asker, fingerprint: &[u8; 32], role: Role, text: &str) -> Key {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&asker.user.to_u32().to_le_bytes());
        hasher.update(&asker.outer.to_u32().to_le_bytes());
        hasher.update(fingerprint);
        hasher.update(&[match role {
            Role::Query => 1,
            Role::Passage => 2,
        }]);
        hasher.update(text.as_bytes());
        let mut key = [0; 16];
        hasher.finalize_xof().fill(&mut key);
        Key(key)
    }

    /// Returns the key of a vector that was given as numbers.
    pub fn from_vector(vector: &[f32]) -> Key {
        let mut hasher = blake3::Hasher::new();
        for value in vector {
            hasher.update(&value.to_bits().to_le_bytes());
        }
        let mut key = [0; 16];
        hasher.finalize_xof().fill(&mut key);
        Key(key)
    }

    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The session's cache.
pub struct Cache {
    entries: LruCache<Key, Rc<[f32]>>,
    bytes: usize,
    lookups: u64,
    hits: u64,
}

/// Bytes that an entry takes in addition to its numbers: key, list links, hash slot, reference count and
/// allocator overhead.
const ENTRY_BYTES: usize = 112;

/// Returns the bytes that an entry takes.
fn entry_bytes(embedding: &[f32]) -> usize {
    ENTRY_BYTES + size_of_val(embedding)
}

impl Default for Cache {
    fn default() -> Cache {
        Cache { entries: LruCache::unbounded(), bytes: 0, lookups: 0, hits: 0 }
    }
}

impl State for Cache {
    fn forget(&mut self) {
        *self = Cache::default();
    }
}

impl Cache {
    pub fn get(&mut self, key: &Key) -> Option<Rc<[f32]>> {
        let found = self.entries.get(key).cloned();
        self.lookups += 1;
        self.hits += u64::from(found.is_some());
        found
    }

    /// Returns the bytes taken, the number of lookups, and the number of those that found something.
    pub fn statistics(&self) -> (usize, u64, u64) {
        (self.bytes, self.lookups, self.hits)
    }

    /// Keeps an embedding, and evicts the least recently used ones until all fit into `limit` bytes.
    pub fn put(&mut self, key: Key, embedding: Rc<[f32]>, limit: usize) {
        self.bytes += entry_bytes(&embedding);
        if let Some(old) = self.entries.put(key, embedding) {
            self.bytes -= entry_bytes(&old);
        }
        while self.bytes > limit {
            let Some((_, oldest)) = self.entries.pop_lru() else { break };
            self.bytes -= entry_bytes(&oldest);
        }
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}

/// Returns the bytes that this session's cache takes, the number of lookups, and the number of those that
/// found something.
pub fn cache_statistics() -> (usize, u64, u64) {
    session::with(|cache: &mut Cache| cache.statistics())
}

/// Forgets every embedding that this session has kept.
pub fn clear_cache() {
    session::with(Cache::clear);
}

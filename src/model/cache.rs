//! The embeddings that this session used last: a bounded store, least recently used out first.
//!
//! A key is a hash of who asks, the model's fingerprint, the text's role and the text. So an entry can never be stale:
//! another text, another role or another model is another key. And nobody can learn, from how fast an answer comes,
//! what another user of the session has embedded. At 128 bits two texts that collide are not to be feared.

use std::rc::Rc;

use leann_value::Role;
use lru::LruCache;

use crate::pg::rights::Asker;

/// Names a text as a model embeds it for somebody.
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

    /// The key of a vector that stands for itself.
    pub fn of_vector(vector: &[f32]) -> Key {
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

pub struct Cache {
    entries: LruCache<Key, Rc<[f32]>>,
    bytes: usize,
    lookups: u64,
    hits: u64,
}

/// What an entry takes beside its numbers: key, list links, hash slot, reference count, allocator's share.
const ENTRY_BYTES: usize = 112;

fn bytes_of(embedding: &[f32]) -> usize {
    ENTRY_BYTES + size_of_val(embedding)
}

impl Cache {
    pub fn new() -> Cache {
        Cache { entries: LruCache::unbounded(), bytes: 0, lookups: 0, hits: 0 }
    }

    pub fn get(&mut self, key: &Key) -> Option<Rc<[f32]>> {
        let found = self.entries.get(key).cloned();
        self.lookups += 1;
        self.hits += u64::from(found.is_some());
        found
    }

    /// Bytes taken, lookups, and those that found something.
    pub fn statistics(&self) -> (usize, u64, u64) {
        (self.bytes, self.lookups, self.hits)
    }

    /// Keeps an embedding, and lets go of those unused the longest until all fit into `limit` bytes.
    pub fn put(&mut self, key: Key, embedding: Rc<[f32]>, limit: usize) {
        self.bytes += bytes_of(&embedding);
        if let Some(old) = self.entries.put(key, embedding) {
            self.bytes -= bytes_of(&old);
        }
        while self.bytes > limit {
            let Some((_, oldest)) = self.entries.pop_lru() else { break };
            self.bytes -= bytes_of(&oldest);
        }
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// Forgets what was asked and found, too.
    pub fn forget(&mut self) {
        *self = Cache::new();
    }
}

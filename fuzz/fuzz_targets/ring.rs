//! Any memory as the server-wide cache: reading it finds something or nothing, and what is put there is
//! found.
#![no_main]

#[allow(dead_code)]
#[path = "../../src/model/ring_cache.rs"]
mod ring_cache;

use libfuzzer_sys::fuzz_target;
use ring_cache::RingCache;

/// Words of the memory; shorter inputs are repeated. Enough for eight slots.
const WORDS: usize = 1_000;

fuzz_target!(|input: &[u8]| {
    let (words, _) = input.as_chunks::<8>();
    if words.is_empty() {
        return;
    }
    let memory: Vec<u64> = (0..WORDS).map(|at| u64::from_le_bytes(words[at % words.len()])).collect();
    let mut ring = RingCache::over(memory).expect("there is room for slots");
    let keys = [[0, 0], [1, 2], [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[words.len() - 1])]];
    for key in keys {
        ring.get(key);
    }
    ring.fill();
    for (at, key) in keys.into_iter().enumerate() {
        let embedding = vec![at as f32; 3 + 40 * at];
        ring.put(key, &embedding);
        assert_eq!(ring.get(key).map(|found| found.embedding), Some(embedding));
    }
});

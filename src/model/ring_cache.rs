//! A bounded store of embeddings in one flat piece of memory, which drops the least recently used first. The
//! server-wide cache is one.
//!
//! It depends neither on Postgres nor on locks. Entries are appended to an arena that is used as a ring; a
//! table of buckets finds them. Positions in the arena only grow, so an entry is alive as long as no more
//! than the arena's length was appended after it, and slots that point to overwritten entries are ignored. An
//! entry in the older half of the arena is *aging*: the caller that finds it appends it again, so that
//! entries in use survive. Thus a lookup changes the store once per half turn of the arena, and usually needs
//! only a shared lock.

/// A 128-bit key.
pub type RingKey = [u64; 2];

/// An embedding that was found.
#[derive(Debug, PartialEq)]
pub struct CachedEmbedding {
    pub embedding: Vec<f32>,
    /// Whether the caller should put it again to keep it.
    pub aging: bool,
}

/// Index of the word that holds the position of the next entry.
const HEAD_INDEX: usize = 0;
/// Words before the table of buckets.
const HEADER_WORDS: usize = 1;
/// Slots that a key may be in.
const SLOTS_PER_BUCKET: usize = 4;
/// Words of a slot: half of the key, and the entry's position plus one (0: empty).
const SLOT_WORDS: usize = 2;
/// Words of the arena for each slot. The table takes about a hundredth of the memory, and is half full with
/// embeddings of 384 dimensions.
const ARENA_WORDS_PER_SLOT: usize = 100;
/// Words before the numbers of an entry: the key, and the count of numbers.
const PREFIX_WORDS: usize = 3;

/// The store, in any memory that is zero at first.
pub struct RingCache<M> {
    memory: M,
    slots: usize,
}

impl<M: AsRef<[u64]>> RingCache<M> {
    /// Returns the store in a piece of memory: the same memory always gives the same store. Returns None if
    /// it is too small.
    pub fn over(memory: M) -> Option<RingCache<M>> {
        let words = memory.as_ref().len().checked_sub(HEADER_WORDS)?;
        let slots = words / (ARENA_WORDS_PER_SLOT + SLOT_WORDS) / SLOTS_PER_BUCKET * SLOTS_PER_BUCKET;
        (slots > 0).then_some(RingCache { memory, slots })
    }

    fn arena(&self) -> &[u64] {
        &self.memory.as_ref()[HEADER_WORDS + SLOT_WORDS * self.slots..]
    }

    /// Returns the first slot of a key's bucket, as an index into the memory.
    fn bucket(&self, key: RingKey) -> usize {
        HEADER_WORDS + SLOT_WORDS * SLOTS_PER_BUCKET * (key[1] as usize % (self.slots / SLOTS_PER_BUCKET))
    }

    /// Returns the place in the arena of a live position, and the number of words appended since.
    fn place(&self, slot: &[u64]) -> Option<(usize, u64)> {
        let (head, position) = (self.memory.as_ref()[HEAD_INDEX], slot[1].checked_sub(1)?);
        let length = self.arena().len() as u64;
        let age = head.checked_sub(position).filter(|age| (1..=length).contains(age))?;
        Some(((position % length) as usize, age))
    }

    /// Returns the embedding kept under a key.
    pub fn get(&self, key: RingKey) -> Option<CachedEmbedding> {
        let bucket = &self.memory.as_ref()[self.bucket(key)..][..SLOT_WORDS * SLOTS_PER_BUCKET];
        let slot = bucket.chunks_exact(SLOT_WORDS).find(|slot| slot[0] == key[0] && slot[1] > 0)?;
        let (place, age) = self.place(slot)?;
        let entry = self.arena().get(place..)?;
        let (prefix, numbers) = entry.split_at_checked(PREFIX_WORDS)?;
        let count = usize::try_from(prefix[2]).ok()?;
        let words = numbers.get(..count.div_ceil(2))?;
        if prefix[..2] != key {
            return None;
        }
        let halves = words.iter().flat_map(|word| [*word as u32, (*word >> 32) as u32]);
        let embedding = halves.take(count).map(f32::from_bits).collect();
        Some(CachedEmbedding { embedding, aging: age > self.arena().len() as u64 / 2 })
    }

    /// Returns the bytes that entries can take, and the bytes that live ones take (including those to be
    /// overwritten next).
    pub fn fill(&self) -> (usize, usize) {
        let head = usize::try_from(self.memory.as_ref()[HEAD_INDEX]).unwrap_or(usize::MAX);
        (8 * self.arena().len(), 8 * head.min(self.arena().len()))
    }
}

impl<M: AsRef<[u64]> + AsMut<[u64]>> RingCache<M> {
    /// Forgets all entries.
    pub fn clear(&mut self) {
        let slots = self.slots;
        let memory = self.memory.as_mut();
        memory[HEAD_INDEX] = 0;
        memory[HEADER_WORDS..HEADER_WORDS + SLOT_WORDS * slots].fill(0);
    }

    /// Keeps an embedding in place of the oldest ones. One that is larger than the arena is not kept.
    pub fn put(&mut self, key: RingKey, embedding: &[f32]) {
        let needed = PREFIX_WORDS + embedding.len().div_ceil(2);
        let length = self.arena().len();
        if needed > length {
            return;
        }
        // No server runs long enough for positions to overflow, but damaged memory may hold any position.
        if self.memory.as_ref()[HEAD_INDEX] > u64::MAX - 2 * length as u64 {
            self.clear();
        }
        let mut position = self.memory.as_ref()[HEAD_INDEX];
        let mut place = (position % length as u64) as usize;
        if place + needed > length {
            // An entry is contiguous: the end of the arena stays unused in this turn.
            position += (length - place) as u64;
            place = 0;
        }
        let slot = self.slot_to_use(key);
        let start = HEADER_WORDS + SLOT_WORDS * self.slots + place;
        let memory = self.memory.as_mut();
        memory[HEAD_INDEX] = position + needed as u64;
        memory[slot] = key[0];
        memory[slot + 1] = position + 1;
        memory[start..start + 2].copy_from_slice(&key);
        memory[start + 2] = embedding.len() as u64;
        for (word, pair) in memory[start + PREFIX_WORDS..].iter_mut().zip(embedding.chunks(2)) {
            let high = pair.get(1).map_or(0, |number| u64::from(number.to_bits()));
            *word = u64::from(pair[0].to_bits()) | high << 32;
        }
    }

    /// Returns the key's own slot if it has one, otherwise the slot with the oldest entry.
    fn slot_to_use(&self, key: RingKey) -> usize {
        let bucket = self.bucket(key);
        let slots = self.memory.as_ref()[bucket..][..SLOT_WORDS * SLOTS_PER_BUCKET].chunks_exact(SLOT_WORDS);
        let rank = |slot: &[u64]| if slot[0] == key[0] { 0 } else { slot[1] };
        let best = slots.enumerate().min_by_key(|(_, slot)| rank(slot)).map_or(0, |(number, _)| number);
        bucket + SLOT_WORDS * best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedding(seed: u64, count: usize) -> Vec<f32> {
        (0..count).map(|at| (seed * 31 + at as u64) as f32 / 7.0).collect()
    }

    fn key(seed: u64) -> RingKey {
        [seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), seed.wrapping_mul(0xc2b2_ae3d_27d4_eb4f).rotate_left(31)]
    }

    #[test]
    fn what_is_kept_is_what_was_put_and_the_newest_are_kept() {
        let mut ring = RingCache::over(vec![0u64; 50_000]).unwrap();
        let per_entry = PREFIX_WORDS + 192;
        let room = ring.arena().len() / per_entry;
        for seed in 0..5_000 {
            assert_eq!(ring.get(key(seed)), None);
            ring.put(key(seed), &embedding(seed, 384));
            assert_eq!(
                ring.get(key(seed)),
                Some(CachedEmbedding { embedding: embedding(seed, 384), aging: false })
            );
        }
        let kept = (0..5_000).filter(|seed| ring.get(key(*seed)).is_some()).count();
        assert!(kept <= room && kept * 10 >= room * 9, "{kept} of {room}");
        assert!(
            (5_000 - kept as u64 / 2..5_000).filter(|seed| ring.get(key(*seed)).is_some()).count() * 20
                >= kept * 9
        );
        let (capacity, used) = ring.fill();
        assert!(used <= capacity && used > capacity / 2);
    }

    #[test]
    fn sizes_mix_and_a_key_put_again_has_its_new_value() {
        let mut ring = RingCache::over(vec![0u64; 20_000]).unwrap();
        for seed in 0..3_000u64 {
            let count = [0, 1, 7, 64, 384, 1023][seed as usize % 6];
            ring.put(key(seed % 50), &embedding(seed, count));
            assert_eq!(
                ring.get(key(seed % 50)).map(|found| found.embedding),
                Some(embedding(seed, count)),
                "{count}"
            );
        }
    }

    #[test]
    fn what_is_in_use_does_not_die_of_age() {
        let mut ring = RingCache::over(vec![0u64; 50_000]).unwrap();
        let (mut missed, mut put_again) = (0, 0);
        ring.put(key(0), &embedding(0, 384));
        for seed in 1..5_000 {
            ring.put(key(seed), &embedding(seed, 384));
            if seed % 20 == 0 {
                let found = ring.get(key(0));
                missed += u32::from(found.is_none());
                let aging = found.is_none_or(|found| found.aging);
                put_again += u32::from(aging);
                if aging {
                    ring.put(key(0), &embedding(0, 384));
                }
            }
        }
        // The arena is filled 20 times. Now and then a bucket fills with younger entries.
        assert!(missed <= 4, "{missed}");
        assert!((20..60).contains(&put_again), "{put_again}: about twice in each turn of the arena");
    }

    #[test]
    fn what_is_cleared_is_gone_and_the_store_goes_on() {
        let mut ring = RingCache::over(vec![0u64; 20_000]).unwrap();
        for seed in 0..200 {
            ring.put(key(seed), &embedding(seed, 64));
        }
        ring.clear();
        assert!((0..200).all(|seed| ring.get(key(seed)).is_none()));
        assert_eq!(ring.fill().1, 0);
        ring.put(key(1), &embedding(7, 64));
        assert_eq!(ring.get(key(1)).map(|found| found.embedding), Some(embedding(7, 64)));
    }

    #[test]
    fn what_cannot_be_kept_is_not() {
        assert!(RingCache::over(vec![0u64; 100]).is_none());
        let mut ring = RingCache::over(vec![0u64; 1_000]).unwrap();
        ring.put(key(1), &embedding(1, 100_000));
        assert_eq!(ring.get(key(1)), None);
    }

    #[test]
    fn any_memory_is_safe_to_read() {
        let mut state = 1u64;
        for _ in 0..200 {
            let noise = (0..3_000).map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                state >> (state >> 58)
            });
            let mut ring = RingCache::over(noise.collect::<Vec<u64>>()).unwrap();
            for seed in 0..100 {
                ring.get(key(seed));
            }
            ring.memory[HEAD_INDEX] %= 1 << 40;
            ring.put(key(7), &embedding(7, 10));
        }
    }
}

//! A fast hash for small fixed-size keys (page numbers, heap pointers).
//!
//! A scan hashes every hub and every consumed row; the standard library's keyed hash would cost more than scoring
//! does. The keys are positions on disk that the engine itself assigned, so nobody can choose them to collide.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

pub type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<PositionHasher>>;
pub type FastSet<K> = HashSet<K, BuildHasherDefault<PositionHasher>>;

/// Multiply and rotate, as in the hash of the Rust compiler; the high bits are folded down at the end because the
/// table takes its bucket from the low ones.
#[derive(Clone, Copy, Default)]
pub struct PositionHasher(u64);

impl PositionHasher {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for PositionHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }
    fn write_u8(&mut self, value: u8) {
        self.mix(value.into());
    }
    fn write_u16(&mut self, value: u16) {
        self.mix(value.into());
    }
    fn write_u32(&mut self, value: u32) {
        self.mix(value.into());
    }
    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }
    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

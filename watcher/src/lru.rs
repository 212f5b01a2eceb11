//! A bounded map that gives up what was not used for longest. Memory stays flat whatever the input; who inserts
//! learns what was given up and counts it. Deterministic: no random state, so a replay evicts what the original did.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
};

/// End of the list.
const NONE: u32 = u32::MAX;

/// At most `capacity` entries, used ones first.
pub struct Lru<K, V> {
    index: HashMap<K, u32, BuildHasherDefault<FixedHasher>>,
    slots: Vec<Slot<K, V>>,
    newest: u32,
    oldest: u32,
    capacity: u32,
}

struct Slot<K, V> {
    key: K,
    value: V,
    newer: u32,
    older: u32,
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    /// Grows with its content; `capacity` below 1 counts as 1.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, NONE as usize - 1) as u32;
        Self { index: HashMap::default(), slots: Vec::new(), newest: NONE, oldest: NONE, capacity }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Without counting as a use.
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.index.get(key).map(|&at| &self.slots[at as usize].value)
    }

    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        let at = *self.index.get(key)?;
        self.touch(at);
        Some(&mut self.slots[at as usize].value)
    }

    /// Inserts or replaces; returns the entry that had to go, the replaced one included.
    pub fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        if let Some(&at) = self.index.get(&key) {
            self.touch(at);
            return Some((key, std::mem::replace(&mut self.slots[at as usize].value, value)));
        }
        let slot = Slot { key, value, newer: NONE, older: NONE };
        if self.slots.len() < self.capacity as usize {
            let at = self.slots.len() as u32;
            self.slots.push(slot);
            self.index.insert(key, at);
            self.link_newest(at);
            return None;
        }
        let at = self.oldest;
        self.unlink(at);
        let old = std::mem::replace(&mut self.slots[at as usize], slot);
        self.index.remove(&old.key);
        self.index.insert(key, at);
        self.link_newest(at);
        Some((old.key, old.value))
    }

    /// In no order that means anything, but the same each time.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots.iter().map(|slot| (&slot.key, &slot.value))
    }

    fn touch(&mut self, at: u32) {
        if self.newest != at {
            self.unlink(at);
            self.link_newest(at);
        }
    }

    fn unlink(&mut self, at: u32) {
        let Slot { newer, older, .. } = self.slots[at as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let next = self.newest;
        let slot = &mut self.slots[at as usize];
        (slot.newer, slot.older) = (NONE, next);
        match next {
            NONE => self.oldest = at,
            next => self.slots[next as usize].newer = at,
        }
        self.newest = at;
    }
}

/// Multiplies and rotates. No defence against chosen keys is needed: those used here are pids, keyed hashes of the
/// kernel side, and prefixes of SHA-256.
#[derive(Default)]
pub struct FixedHasher(u64);

impl Hasher for FixedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        // The map takes its bucket from the low bits and its tag from the high ones: both must depend on all.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample::Dice;

    #[test]
    fn the_least_used_goes_first() {
        let mut lru = Lru::new(2);
        assert_eq!(lru.insert(1, "a"), None);
        assert_eq!(lru.insert(2, "b"), None);
        assert_eq!(lru.get(&1), Some(&mut "a"));
        assert_eq!(lru.insert(3, "c"), Some((2, "b")));
        assert_eq!(lru.insert(1, "A"), Some((1, "a")));
        assert_eq!((lru.peek(&1), lru.peek(&2), lru.peek(&3)), (Some(&"A"), None, Some(&"c")));
        assert_eq!(lru.len(), 2);
    }

    #[test]
    fn agrees_with_a_plain_model() {
        let (mut lru, mut model, mut dice) = (Lru::new(17), Vec::<(u32, u64)>::new(), Dice::new(3));
        for _ in 0..50_000 {
            let key = dice.below(40) as u32;
            let known = model.iter().position(|(other, _)| *other == key);
            if dice.below(2) == 0 {
                let value = known.map(|at| model.remove(at));
                model.extend(value);
                assert_eq!(lru.get(&key).copied(), value.map(|(_, value)| value));
            } else {
                let value = dice.roll();
                let gone = match known {
                    Some(at) => Some(model.remove(at)),
                    None if model.len() == 17 => Some(model.remove(0)),
                    None => None,
                };
                model.push((key, value));
                assert_eq!(lru.insert(key, value), gone);
            }
        }
    }
}

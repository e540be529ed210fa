//! A bounded cache that forgets what was not used for long. Nothing here knows what it holds.

use rustc_hash::FxHashMap;
use std::hash::Hash;

/// Two generations of at most `limit` entries: a use brings an entry into the young one, and when that
/// is full the old one is dropped and the young one grows old. Every operation is O(1).
pub(super) struct Cache<K, V> {
    young: FxHashMap<K, V>,
    old: FxHashMap<K, V>,
    limit: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    pub fn new(limit: usize) -> Cache<K, V> {
        Cache { young: FxHashMap::default(), old: FxHashMap::default(), limit }
    }

    /// A copy of an entry; one look where it is young.
    pub fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.insert(key.clone(), value.clone());
        Some(value)
    }

    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.limit {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// All keys.
    #[cfg(test)]
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.young.keys().chain(self.old.keys())
    }

    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut cache = Cache::new(4);
        for i in 0..100 {
            cache.insert(i, i * i);
            assert_eq!(cache.get(&0), Some(0), "after {i}");
            assert!(cache.len() <= 8);
        }
        assert_eq!(cache.get(&1), None);
        cache.clear();
        assert_eq!(cache.get(&0), None);
    }
}

//! What the settings name, found by its name.

use indexmap::IndexMap;
use indexmap::map::{Iter, IterMut};
use serde::{Deserialize, Serialize};
use std::hash::Hash;
use std::ops::{Deref, Index};

/// A map whose keys the settings give: it is read with each event, and gets other keys when the settings change.
///
/// It is in the order of its keys, as a `BTreeMap` is, so that decisions replay byte for byte. But a key is found by its
/// hash, in two or three lines of memory however many there are. A tree of 10,000 names takes a dozen, and that is what most
/// events would spend their time with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(
    bound(deserialize = "K: Hash + Ord + Deserialize<'de>, V: Deserialize<'de>"),
    from = "Unordered<K, V>"
)]
pub struct ByName<K, V>(Unordered<K, V>);

// Names come from the settings: nobody can choose them for their hashes, and the order does not depend on those.
type Unordered<K, V> = IndexMap<K, V, foldhash::fast::FixedState>;

impl<K: Hash + Ord, V> ByName<K, V> {
    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    /// Whether there is such a key.
    pub fn contains_key(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// The value of `key`, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key)
    }

    /// Puts `value` in its place; gives back the one that was there. New keys cost as much as there are after them.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert_sorted(key, value).1
    }

    /// Takes a key out. That costs as much as there are after it.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.0.shift_remove(key)
    }

    /// Takes out all keys of which `keep` says no.
    pub fn retain(&mut self, keep: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain(keep);
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.values_mut()
    }
}

impl<K, V> Deref for ByName<K, V> {
    type Target = IndexMap<K, V, foldhash::fast::FixedState>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<K: Hash + Ord, V> Index<&K> for ByName<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        &self.0[key]
    }
}

impl<K, V> Default for ByName<K, V> {
    fn default() -> Self {
        Self(IndexMap::default())
    }
}

impl<K: Hash + Eq, V: PartialEq> PartialEq for ByName<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<K: Hash + Eq, V: Eq> Eq for ByName<K, V> {}

impl<K: Hash + Ord, V> From<Unordered<K, V>> for ByName<K, V> {
    fn from(mut map: Unordered<K, V>) -> Self {
        map.sort_unstable_keys();
        Self(map)
    }
}

impl<K: Hash + Ord, V> FromIterator<(K, V)> for ByName<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Self {
        Self::from(Unordered::from_iter(items))
    }
}

impl<K: Hash + Ord, V, const N: usize> From<[(K, V); N]> for ByName<K, V> {
    fn from(items: [(K, V); N]) -> Self {
        items.into_iter().collect()
    }
}

impl<'a, K, V> IntoIterator for &'a ByName<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'a, K, V> IntoIterator for &'a mut ByName<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_in_the_order_of_its_keys_however_it_came_to_be() {
        let sorted = ByName::from([("api", 1), ("shop", 2), ("web", 3)]);
        let mut other = ByName::from([("web", 3), ("old", 0), ("api", 1)]);
        assert_eq!(other.insert("shop", 9), None);
        assert_eq!(other.insert("shop", 2), Some(9));
        assert_eq!(other.remove(&"old"), Some(0));
        assert_eq!(other.remove(&"old"), None);
        assert!(other.keys().eq(["api", "shop", "web"].iter()), "{other:?}");
        assert_eq!(other, sorted);
        other.retain(|name, _| *name != "shop");
        assert!(other.iter().eq([(&"api", &1), (&"web", &3)]), "{other:?}");
        assert_eq!((other[&"web"], other.get(&"shop"), other.contains_key(&"api")), (3, None, true));
    }

    #[test]
    fn it_is_stored_as_a_map_and_read_in_order() {
        let read: ByName<String, u8> = serde_json::from_str(r#"{"web":3,"api":1}"#).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), r#"{"api":1,"web":3}"#);
        assert!(read.keys().eq(["api", "web"]), "{read:?}");
    }
}

//! A table of entries with keys of an index and a generation, that grows without moving what it has: by a chunk at a time, so
//! that neither the time of an insert nor the memory goes up in steps of the whole.

/// Entries of a chunk.
const CHUNK: usize = 1024;
/// Ends the list of free slots.
const NONE: u32 = u32::MAX;

/// A name of an entry: index and generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// Is of no entry.
    pub(super) const NOBODY: Key = Key { index: u32::MAX, generation: 0 };

    pub(super) fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The key with this number, which need not be anybody's.
    pub(super) fn from_number(number: u64) -> Key {
        Key { index: number as u32, generation: (number >> 32) as u32 }
    }
}

pub(super) struct Slots<T> {
    chunks: Vec<Box<[Slot<T>]>>,
    /// The first free slot.
    free: u32,
    len: usize,
}

pub(super) struct Slot<T> {
    /// Odd while there is an entry.
    generation: u32,
    /// The next free slot.
    next: u32,
    entry: Option<T>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Slots { chunks: Vec::new(), free: NONE, len: 0 }
    }

    /// # Panics
    /// With 2^32 entries.
    pub(super) fn insert(&mut self, entry: T) -> Key {
        if self.free == NONE {
            self.grow();
        }
        let index = self.free;
        let slot = &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK];
        self.free = slot.next;
        slot.generation = slot.generation.wrapping_add(1);
        slot.entry = Some(entry);
        self.len += 1;
        Key { index, generation: slot.generation }
    }

    #[cold]
    fn grow(&mut self) {
        let first = u32::try_from(self.chunks.len() * CHUNK).expect("2^32 entries");
        let next = |i: usize| if i + 1 == CHUNK { NONE } else { first + i as u32 + 1 };
        let chunk = (0..CHUNK).map(|i| Slot { generation: 0, next: next(i), entry: None });
        self.chunks.push(chunk.collect());
        self.free = first;
    }

    fn slot(&self, key: Key) -> Option<&Slot<T>> {
        let slot = self.chunks.get(key.index as usize / CHUNK)?.get(key.index as usize % CHUNK)?;
        (slot.generation == key.generation).then_some(slot)
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        self.slot(key)?.entry.as_ref()
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.chunks.get_mut(key.index as usize / CHUNK)?.get_mut(key.index as usize % CHUNK)?;
        if slot.generation == key.generation { slot.entry.as_mut() } else { None }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.chunks.get_mut(key.index as usize / CHUNK)?.get_mut(key.index as usize % CHUNK)?;
        if slot.generation != key.generation {
            return None;
        }
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.next = self.free;
        self.free = key.index;
        self.len -= 1;
        Some(entry)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many places a look at all entries looks at.
    pub(super) fn places(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// All entries, in the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.chunks.iter().flatten().enumerate().filter_map(|(index, slot)| {
            let key = Key { index: index as u32, generation: slot.generation };
            slot.entry.as_ref().map(|entry| (key, entry))
        })
    }
}

impl<T> std::ops::Index<Key> for Slots<T> {
    type Output = T;

    fn index(&self, key: Key) -> &T {
        self.get(key).expect("the entry is there")
    }
}

impl<T> std::ops::IndexMut<Key> for Slots<T> {
    fn index_mut(&mut self, key: Key) -> &mut T {
        self.get_mut(key).expect("the entry is there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn keys_are_of_one_entry_only() {
        let mut slots = Slots::new();
        let first = slots.insert(1);
        assert_eq!(slots.remove(first), Some(1));
        let second = slots.insert(2);
        assert_ne!(first, second);
        assert_eq!((slots.get(first), slots.get(second)), (None, Some(&2)));
        assert_eq!(slots.remove(first), None);
        assert!(slots.get(Key::from_number(u64::MAX)).is_none() && slots.get(Key::from_number(0)).is_none());
        assert_eq!(Key::from_number(second.number()), second);
    }

    #[test]
    fn as_a_map() {
        let (mut slots, mut map, mut state) = (Slots::new(), HashMap::new(), 7u64);
        for n in 0..20_000u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if state >> 62 < 3 || map.is_empty() {
                map.insert(slots.insert(n), n);
            } else {
                let key = *map.keys().nth((state >> 32) as usize % map.len().min(50)).unwrap();
                assert_eq!(slots.remove(key), map.remove(&key));
            }
        }
        assert_eq!(slots.len(), map.len());
        assert_eq!(slots.iter().map(|(key, n)| (key, *n)).collect::<HashMap<_, _>>(), map);
        assert!(map.iter().all(|(key, n)| slots.get(*key) == Some(n)));
    }
}

//! Jobs that may not start yet, by when they may, with a count of each priority.

use super::Entry;
use crate::queue::priority::Priority;
use crate::queue::record::RecordId;
use std::collections::BTreeMap;
use std::time::Instant;

type Key = (Instant, RecordId);

pub(super) struct Delayed<S> {
    jobs: BTreeMap<Key, (Priority, Entry<S>)>,
    count: [usize; 3],
}

impl<S> Delayed<S> {
    pub(super) fn new() -> Self {
        Delayed { jobs: BTreeMap::new(), count: [0; 3] }
    }

    pub(super) fn insert(&mut self, at: Instant, priority: Priority, entry: Entry<S>) {
        self.count[priority.index()] += 1;
        self.jobs.insert((at, entry.record), (priority, entry));
    }

    /// Takes out the job that may start at a time, if there is a time and the job is still here.
    pub(super) fn remove(&mut self, at: Option<Instant>, record: RecordId) -> Option<(Priority, Entry<S>)> {
        let (priority, entry) = self.jobs.remove(&(at?, record))?;
        self.count[priority.index()] -= 1;
        Some((priority, entry))
    }

    /// Takes out what `is_gone` says.
    pub(super) fn remove_all(&mut self, is_gone: impl Fn(&Entry<S>) -> bool) -> Vec<Entry<S>> {
        let gone = self.jobs.iter().filter(|(_, (_, entry))| is_gone(entry));
        let gone: Vec<Key> = gone.map(|(key, _)| *key).collect();
        gone.into_iter().filter_map(|(at, record)| self.remove(Some(at), record)).map(|(_, entry)| entry).collect()
    }

    pub(super) fn take(&mut self) -> impl Iterator<Item = (Priority, Entry<S>)> + use<S> {
        std::mem::replace(self, Delayed::new()).jobs.into_values()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Instant, Priority, &Entry<S>)> {
        self.jobs.iter().map(|((at, _), (priority, entry))| (*at, *priority, entry))
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn len_of(&self, priority: Priority) -> usize {
        self.count[priority.index()]
    }
}

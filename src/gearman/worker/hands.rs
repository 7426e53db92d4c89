//! The jobs that a worker has in hand.

use super::ability::{Ended, Pending};
use super::ahead::Oldest;
use super::job::Job;
use super::mail::{Bell, Mail, Origin};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Names a job in hand. None is used twice.
pub(super) type Key = u64;

/// A job that the engine has, and whose end has not been seen.
pub(super) struct InHand {
    pub(super) job: Job,
    /// Which of the worker's functions.
    pub(super) function: usize,
    pub(super) since: Instant,
    /// Jobs that had ended then.
    pub(super) ended_before: u64,
    pending: Box<dyn Pending>,
    bell: Waker,
}

/// All of them.
#[derive(Default)]
pub(super) struct Hands {
    /// In the order in which they were taken.
    jobs: BTreeMap<Key, InHand>,
    next: Key,
}

impl Hands {
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The one that was taken first.
    pub(super) fn oldest(&self, now: Instant) -> Option<Oldest> {
        let (_, first) = self.jobs.first_key_value()?;
        Some(Oldest { age: now.saturating_duration_since(first.since), ended_before: first.ended_before })
    }

    /// Takes one: its key, to ask for its end with.
    pub(super) fn take(
        &mut self,
        job: Job,
        function: usize,
        pending: Box<dyn Pending>,
        mail: &Arc<Mail>,
        (now, ended_before): (Instant, u64),
    ) -> Key {
        let key = self.next;
        self.next += 1;
        let bell = Waker::from(Arc::new(Bell { mail: Arc::clone(mail), key }));
        self.jobs.insert(key, InHand { job, function, since: now, ended_before, pending, bell });
        key
    }

    /// Whether a job has ended. If so it is in hand no more; if not, a letter comes when it does.
    pub(super) fn ended(&mut self, key: Key) -> Option<(InHand, Ended)> {
        let in_hand = self.jobs.get_mut(&key)?;
        let InHand { pending, bell, .. } = in_hand;
        match pending.poll(&mut Context::from_waker(bell)) {
            Poll::Pending => None,
            Poll::Ready(ended) => self.jobs.remove(&key).map(|in_hand| (in_hand, ended)),
        }
    }

    /// Keeps jobs of a connection that is gone from starting: their keys.
    pub(super) fn give_up(&mut self, origin: Origin) -> Vec<Key> {
        let orphans = self.jobs.iter().filter(|(_, in_hand)| in_hand.job.0.line.origin == origin);
        orphans.map(|(key, in_hand)| (*key, in_hand.pending.give_up()).0).collect()
    }

    /// Those of a connection.
    pub(super) fn of(&self, origin: Origin) -> impl Iterator<Item = &InHand> {
        self.jobs.values().filter(move |in_hand| in_hand.job.0.line.origin == origin)
    }
}

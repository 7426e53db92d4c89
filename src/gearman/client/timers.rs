//! Limits of time, of jobs and of their attempts.

use super::jobs::Key;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// So many may be of jobs that have ended, besides half of all.
const STALE: usize = 1024;

/// A job's limit of time: of all of it, or of one attempt.
#[derive(PartialEq, Eq)]
pub(super) struct Timer {
    pub(super) at: Instant,
    pub(super) key: Key,
    pub(super) attempt: Option<u32>,
}

impl Timer {
    /// Whether it limits this attempt of its job.
    pub(super) fn is_of(&self, attempt: u32) -> bool {
        self.attempt.is_none_or(|own| own == attempt)
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// All of them. Most jobs end long before their limit: what is left of those goes when it is the greater part.
#[derive(Default)]
pub(super) struct Timers {
    due: BinaryHeap<Reverse<Timer>>,
    /// Entries whose job or attempt has ended; those that have come due may be among them.
    stale: usize,
}

impl Timers {
    /// Adds one, if it is one.
    pub(super) fn extend(&mut self, timer: Option<Timer>) {
        self.due.extend(timer.map(Reverse));
    }

    /// So many are of a job or attempt that has ended; `is_wanted` tells which others are not.
    pub(super) fn forget(&mut self, timers: usize, mut is_wanted: impl FnMut(&Timer) -> bool) {
        self.stale += timers;
        if self.stale > STALE + self.due.len() / 2 {
            self.due.retain(|Reverse(timer)| is_wanted(timer));
            self.stale = 0;
        }
    }

    /// One that was due was stale.
    pub(super) fn was_stale(&mut self) {
        self.stale = self.stale.saturating_sub(1);
    }

    /// Takes what is due.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<Timer> {
        let Reverse(timer) = self.due.peek()?;
        if timer.at > now { None } else { self.due.pop().map(|Reverse(timer)| timer) }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse(timer)| timer.at)
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }
}

//! Counting: values that must be dropped exactly once, and events to wait for by number.

use super::PATIENCE;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// Counts the tokens made and dropped.
#[derive(Clone, Default)]
pub(crate) struct Live {
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    made: AtomicUsize,
    dropped: AtomicUsize,
}

/// A value that reports its drop.
pub(crate) struct Token {
    live: Live,
    number: usize,
}

impl Live {
    pub(crate) fn token(&self) -> Token {
        let number = self.counts.made.fetch_add(1, Ordering::SeqCst) + 1;
        Token { live: self.clone(), number }
    }

    pub(crate) fn made(&self) -> usize {
        self.counts.made.load(Ordering::SeqCst)
    }

    pub(crate) fn dropped(&self) -> usize {
        self.counts.dropped.load(Ordering::SeqCst)
    }

    /// Fails unless every token was dropped, once.
    #[track_caller]
    pub(crate) fn assert_balanced(&self) {
        let (made, dropped) = (self.made(), self.dropped());
        assert_eq!(made, dropped, "{made} values were made and {dropped} dropped");
    }
}

impl Token {
    /// Which token of its kind this is, from 1.
    pub(crate) fn number(&self) -> usize {
        self.number
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.live.counts.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// A number of events, and the sum of what they carried, that a thread can wait for.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    shared: Arc<(Mutex<(u64, u64)>, Condvar)>,
}

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally::default()
    }

    /// One event that carries `n`.
    pub(crate) fn add(&self, n: u64) {
        let mut seen = self.shared.0.lock().unwrap();
        *seen = (seen.0 + 1, seen.1.wrapping_add(n));
        self.shared.1.notify_all();
    }

    pub(crate) fn count(&self) -> u64 {
        self.shared.0.lock().unwrap().0
    }

    pub(crate) fn sum(&self) -> u64 {
        self.shared.0.lock().unwrap().1
    }

    /// Waits until `count` events happened.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: u64) {
        let seen = self.shared.0.lock().unwrap();
        let (seen, _) = self.shared.1.wait_timeout_while(seen, PATIENCE, |seen| seen.0 < count).unwrap();
        assert!(seen.0 >= count, "only {} of {count} events within {PATIENCE:?}: a job was lost", seen.0);
    }
}

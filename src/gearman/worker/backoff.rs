//! When to try a server again that is down: a rule without I/O.

use std::time::{Duration, Instant};

/// How the wait for a server that is down grows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backoff {
    /// The first wait, and what is added to half of the time that the server is down. Default: 1 s.
    pub first: Duration,
    /// How long that goes on. Default: 60 s.
    pub growing: Duration,
    /// The wait afterwards, and the longest before. Default: 30 s.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { first: Duration::from_secs(1), growing: Duration::from_secs(60), longest: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The same wait, always.
    pub fn always(wait: Duration) -> Backoff {
        Backoff { first: wait, growing: Duration::ZERO, longest: wait }
    }

    /// Sets the first wait.
    pub fn first(mut self, first: Duration) -> Self {
        self.first = first;
        self
    }

    /// Sets the longest wait.
    pub fn longest(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// The wait before the next attempt.
    fn wait(&self, down: Duration) -> Duration {
        if down < self.growing { (down / 2 + self.first).min(self.longest) } else { self.longest }
    }
}

/// One server's failures in a row.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Option<Instant>,
    pub(super) attempts: u32,
}

impl Outage {
    /// Another one: how long to wait.
    pub(super) fn failed(&mut self, backoff: &Backoff, now: Instant) -> Duration {
        let since = *self.since.get_or_insert(now);
        self.attempts += 1;
        backoff.wait(now.saturating_duration_since(since))
    }

    /// A peer that answers ends it; one that only lets itself be connected to does not.
    pub(super) fn end(&mut self) {
        *self = Outage::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gw_03_the_wait_grows_for_a_minute() {
        let (backoff, mut outage, start) = (Backoff::default(), Outage::default(), Instant::now());
        let mut wait = |seconds: f64| outage.failed(&backoff, start + Duration::from_secs_f64(seconds)).as_secs_f64();
        assert_eq!([0.0, 1.0, 2.5, 20.0, 59.0].map(&mut wait), [1.0, 1.5, 2.25, 11.0, 30.0]);
        assert_eq!([60.0, 90.0, 4000.0].map(wait), [30.0; 3]);
        assert_eq!(outage.attempts, 8);
        outage.end();
        let later = start + Duration::from_secs(5000);
        assert_eq!((outage.failed(&backoff, later), outage.attempts), (Duration::from_secs(1), 1));
    }

    #[test]
    fn the_wait_can_be_set() {
        let short = Backoff::default().first(Duration::from_millis(10)).longest(Duration::from_millis(20));
        let mut outage = Outage::default();
        let start = Instant::now();
        assert_eq!(outage.failed(&short, start), Duration::from_millis(10));
        assert_eq!(outage.failed(&short, start + Duration::from_secs(1)), Duration::from_millis(20));
        assert_eq!(Outage::default().failed(&Backoff::always(Duration::ZERO), start), Duration::ZERO);
    }
}

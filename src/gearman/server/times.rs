//! How long jobs wait and run, by function. No clock is read for it: a job's times are those at which the bytes came that
//! submitted, grabbed and ended it.

use super::functions::Entry;
use std::time::{Duration, Instant};

/// A unit of time.
const TICK: Duration = Duration::from_micros(100);
/// Each bucket is for four times as long as the one before.
const BUCKETS: usize = 14;

/// How many jobs took how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    counts: [u64; BUCKETS],
    /// In ticks.
    sum: u64,
}

impl Times {
    /// How many jobs took less than a time, for each of a row of times; the last one, `None`, is for all.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + '_ {
        let mut below = 0;
        self.counts.iter().enumerate().map(move |(i, count)| {
            below += count;
            ((i + 1 < BUCKETS).then(|| TICK * 4u32.pow(i as u32)), below)
        })
    }

    /// How many jobs there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long all of them took together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum.saturating_mul(TICK.as_micros() as u64))
    }

    fn add(&mut self, ticks: u32) {
        // 0 is less than a tick; from 1 on two bits a bucket.
        let bucket = (u32::BITS - ticks.leading_zeros()).div_ceil(2) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.sum += u64::from(ticks);
    }
}

/// The time in ticks since some start; it goes round in five days.
#[derive(Clone, Copy)]
pub(super) struct Ticks(u32);

impl Ticks {
    pub(super) const NONE: Ticks = Ticks(0);

    pub(super) fn since(start: Instant, now: Instant) -> Ticks {
        // Cut: it goes round.
        Ticks((now.saturating_duration_since(start).as_micros() / TICK.as_micros()) as u32)
    }

    pub(super) fn time_until(self, later: Ticks) -> Duration {
        TICK * self.until(later)
    }

    fn until(self, later: Ticks) -> u32 {
        let ticks = later.0.wrapping_sub(self.0);
        // Threads read their clocks before they take turns.
        if ticks > u32::MAX - 100_000 { 0 } else { ticks }
    }
}

/// How long the jobs of a function waited and ran.
#[derive(Default)]
pub(super) struct Timings {
    pub(super) waits: Times,
    pub(super) runs: Times,
}

impl Entry {
    /// A job has left the queue for a worker.
    pub(super) fn has_waited(&mut self, since: Ticks, now: Ticks) {
        self.timings.get_or_insert_default().waits.add(since.until(now));
    }

    /// A job has ended that had started.
    pub(super) fn has_run(&mut self, since: Ticks, now: Ticks) {
        self.timings.get_or_insert_default().runs.add(since.until(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_above_it() {
        for ticks in [0, 1, 3, 4, 15, 16, 63, 64, 1 << 20, (1 << 24) - 1, 1 << 24, u32::MAX] {
            let mut times = Times::default();
            times.add(ticks);
            let time = TICK * ticks;
            for (bound, count) in times.buckets() {
                assert_eq!(count == 1, bound.is_none_or(|bound| time < bound), "{time:?} {bound:?}");
            }
            assert_eq!((times.count(), times.sum()), (1, time));
        }
    }

    #[test]
    fn time_goes_round() {
        let ticks = |n: u32| Ticks(n);
        assert_eq!(ticks(u32::MAX - 1).until(ticks(3)), 5);
        assert_eq!(ticks(10).until(ticks(9)), 0, "another thread's clock");
    }
}

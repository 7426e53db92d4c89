//! What is to happen at a time: jobs in hand that run too long, and jobs that are to start later.

use super::keys::{JobKey, RunKey};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The wall clock may jump: a wait for one of its times is no longer than this.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);
/// So many entries may be of jobs that have ended, besides as many as are not.
const STALE: usize = 1024;

#[derive(Default)]
pub(super) struct Timers {
    limits: BinaryHeap<Reverse<(Instant, RunKey)>>,
    /// Entries above whose job has ended.
    stale: usize,
    /// By seconds since 1970.
    starts: BinaryHeap<Reverse<(u64, JobKey)>>,
}

/// Seconds since 1970.
pub(super) fn wall_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Timers {
    pub(super) fn limit(&mut self, at: Instant, run: RunKey) {
        self.limits.push(Reverse((at, run)));
    }

    /// A job with a limit has ended in time. Its entry goes later; `is_running` tells which others have gone, too.
    pub(super) fn forget_limit(&mut self, is_running: impl Fn(RunKey) -> bool) {
        self.stale += 1;
        if self.stale > STALE + self.limits.len() / 2 {
            self.limits.retain(|Reverse((_, run))| is_running(*run));
            self.stale = 0;
        }
    }

    pub(super) fn start_at(&mut self, seconds: u64, job: JobKey) {
        self.starts.push(Reverse((seconds, job)));
    }

    /// The next that has run too long, or has ended before.
    pub(super) fn next_over(&mut self, now: Instant) -> Option<RunKey> {
        let Reverse((at, _)) = self.limits.peek()?;
        if *at > now {
            return None;
        }
        self.limits.pop().map(|Reverse((_, run))| run)
    }

    /// An entry that `next_over` gave was of a job that has ended.
    pub(super) fn was_stale(&mut self) {
        self.stale = self.stale.saturating_sub(1);
    }

    /// The next that is to start, if it is still there.
    pub(super) fn next_start(&mut self, seconds: u64) -> Option<JobKey> {
        let Reverse((at, _)) = self.starts.peek()?;
        if *at > seconds {
            return None;
        }
        self.starts.pop().map(|Reverse((_, job))| job)
    }

    /// When to look again.
    pub(super) fn due(&self, now: Instant, seconds: u64) -> Option<Instant> {
        let limit = self.limits.peek().map(|Reverse((at, _))| *at);
        let start = self.starts.peek().map(|Reverse((at, _))| {
            let wait = Duration::from_secs(at.saturating_sub(seconds));
            now + wait.min(LOOK_AT_CLOCK)
        });
        limit.into_iter().chain(start).min()
    }
}

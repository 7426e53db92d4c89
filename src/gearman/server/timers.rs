//! What is to happen at a time: jobs in hand that run too long, and jobs that are to start later.

use super::keys::{FunctionKey, JobKey, RunKey};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The wall clock may jump: a wait for one of its times is no longer than this.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);
/// So many entries may be of jobs that have ended, besides as many as are not.
const STALE: usize = 1024;

/// What is due at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A job in hand has run too long, or has ended before.
    Over(RunKey),
    /// More sleepers may have to be woken.
    Rewake(FunctionKey),
}

#[derive(Default)]
pub(super) struct Timers {
    due: BinaryHeap<Reverse<(Instant, Due)>>,
    /// Entries above whose job has ended.
    stale: usize,
    /// By seconds since 1970.
    starts: BinaryHeap<Reverse<(u64, JobKey)>>,
    /// Entries of those whose job has ended.
    stale_starts: usize,
    /// Something is due earlier than before.
    has_earlier: bool,
}

/// Seconds since 1970.
pub(super) fn wall_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Timers {
    pub(super) fn push(&mut self, at: Instant, due: Due) {
        self.has_earlier |= self.due.peek().is_none_or(|Reverse((first, _))| at < *first);
        self.due.push(Reverse((at, due)));
    }

    /// A job with a limit has ended in time. Its entry goes later; `is_running` tells which others have gone, too.
    pub(super) fn forget_limit(&mut self, is_running: impl Fn(RunKey) -> bool) {
        self.stale += 1;
        if self.stale > STALE + self.due.len() / 2 {
            self.due.retain(|Reverse((_, due))| !matches!(due, Due::Over(run) if !is_running(*run)));
            self.stale = 0;
        }
    }

    /// A job has ended before its time. Its entry goes later; `is_held` tells which others have gone, too.
    pub(super) fn forget_start(&mut self, is_held: impl Fn(JobKey) -> bool) {
        self.stale_starts += 1;
        if self.stale_starts > STALE + self.starts.len() / 2 {
            self.starts.retain(|Reverse((_, job))| is_held(*job));
            self.stale_starts = 0;
        }
    }

    pub(super) fn start_at(&mut self, seconds: u64, job: JobKey) {
        self.has_earlier |= self.starts.peek().is_none_or(|Reverse((first, _))| seconds < *first);
        self.starts.push(Reverse((seconds, job)));
    }

    /// Of entries above: how many are of jobs that have ended, and how many it takes for that.
    #[cfg(test)]
    pub(super) fn stale(
        &self,
        is_running: impl Fn(RunKey) -> bool,
        is_held: impl Fn(JobKey) -> bool,
    ) -> [(usize, usize); 2] {
        let over = |due: &Due| matches!(due, Due::Over(run) if !is_running(*run));
        let due = self.due.iter().filter(|Reverse((_, due))| over(due)).count();
        let starts = self.starts.iter().filter(|Reverse((_, job))| !is_held(*job)).count();
        [(due, self.stale), (starts, self.stale_starts)]
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.due.len() + self.starts.len()
    }

    /// The next that is due.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<Due> {
        let Reverse((at, _)) = self.due.peek()?;
        if *at > now {
            return None;
        }
        self.due.pop().map(|Reverse((_, due))| due)
    }

    /// An entry that was due was of a job that has ended.
    pub(super) fn was_stale(&mut self) {
        self.stale = self.stale.saturating_sub(1);
    }

    /// An entry whose time has come was of a job that has ended.
    pub(super) fn was_stale_start(&mut self) {
        self.stale_starts = self.stale_starts.saturating_sub(1);
    }

    /// The next that is to start, if it is still there.
    pub(super) fn next_start(&mut self, seconds: u64) -> Option<JobKey> {
        let Reverse((at, _)) = self.starts.peek()?;
        if *at > seconds {
            return None;
        }
        self.starts.pop().map(|Reverse((_, job))| job)
    }

    /// Whether who waits for the time has to look again.
    pub(super) fn take_has_earlier(&mut self) -> bool {
        std::mem::take(&mut self.has_earlier)
    }

    /// When to look again.
    pub(super) fn next(&self, now: Instant, seconds: u64) -> Option<Instant> {
        let limit = self.due.peek().map(|Reverse((at, _))| *at);
        let start = self.starts.peek().map(|Reverse((at, _))| {
            let wait = Duration::from_secs(at.saturating_sub(seconds));
            now + wait.min(LOOK_AT_CLOCK)
        });
        limit.into_iter().chain(start).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    /// Ten years on, an hour back: what is due by the wall clock follows it, and is looked at soon; limits know nothing of it.
    #[test]
    fn f36_jumps_of_the_wall_clock() {
        let (mut timers, now, noon) = (Timers::default(), Instant::now(), 1_800_000_000);
        let limit = Duration::from_secs(20);
        timers.push(now + limit, Due::Over(RunKey::default()));
        let [soon, later] = [1, 2].map(JobKey::from_number);
        timers.start_at(noon + 10, soon);
        timers.start_at(noon + 2 * HOUR, later);
        assert_eq!(timers.next(now, noon), Some(now + Duration::from_secs(10)));

        // Back: the wait is for longer, and not longer than until the limit.
        assert_eq!(timers.next_start(noon - HOUR), None);
        assert_eq!(timers.next(now, noon - HOUR), Some(now + limit));
        // As far as it goes.
        assert_eq!(timers.next_start(0), None);
        assert_eq!(timers.next(now, 0), Some(now + limit));
        // Without a limit it would be looked at the clock all the same.
        assert_eq!(timers.next_due(now + limit), Some(Due::Over(RunKey::default())));
        assert_eq!(timers.next(now, noon - HOUR), Some(now + LOOK_AT_CLOCK));
        assert_eq!(timers.next(now, noon), Some(now + Duration::from_secs(10)));

        // On: all are due, in their order, and no limit is.
        timers.push(now + limit, Due::Over(RunKey::default()));
        let years = noon + 10 * 365 * 24 * HOUR;
        assert_eq!(timers.next(now, years), Some(now));
        assert_eq!([(); 3].map(|()| timers.next_start(years)), [Some(soon), Some(later), None]);
        assert_eq!(timers.next_due(now), None);
        assert_eq!(timers.next(now, years), Some(now + limit));
    }
}

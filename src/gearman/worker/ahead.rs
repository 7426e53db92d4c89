//! How many jobs a worker takes: a rule without I/O.

use std::time::Duration;

/// Runs are never taken to be shorter: beyond that it is the network that counts.
const SHORTEST: Duration = Duration::from_micros(1);

/// Takes as many jobs as there are threads, and more only while jobs are seen to be quick.
///
/// A job that lies here behind others waits, though another worker may be idle; and it cannot be given back. On the other
/// hand a thread that has ended a job has to wait for the next one as long as the network takes, unless that is here
/// already. So a job is taken ahead when three things speak for it:
///
/// * By what the slowest function has taken of late, whoever comes last waits for `patience` at most.
/// * Since the oldest job in hand was taken, others have ended: two more are taken for each of these. Where jobs flow, that doubles
///   with each round; where they have stopped to end, as when all threads have begun long ones, nothing is taken ahead.
/// * The oldest job in hand is not older than twice the patience.
#[derive(Debug)]
pub(super) struct Ahead {
    threads: usize,
    patience: Duration,
    most: usize,
    /// Of each function: how long it runs.
    runs: Vec<Option<Duration>>,
    /// Jobs that have ended.
    ended: u64,
    /// How many did while the one that ended last was in hand, itself included.
    flow: u64,
}

/// The job that has been in hand for the longest time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Oldest {
    pub(super) age: Duration,
    /// Jobs that had ended when it was taken.
    pub(super) ended_before: u64,
}

impl Ahead {
    pub(super) fn new(threads: usize, patience: Duration, most: usize, functions: usize) -> Ahead {
        Ahead { threads, patience, most, runs: vec![None; functions], ended: 0, flow: 0 }
    }

    /// How many jobs can run at once.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// Jobs that have ended.
    pub(super) fn ended(&self) -> u64 {
        self.ended
    }

    /// A job of a function has ended. Long runs count at once, shorter ones as the longer are forgotten.
    pub(super) fn ran(&mut self, function: usize, took: Duration, ended_before: u64) {
        self.ended += 1;
        self.flow = self.ended - ended_before;
        let Some(known) = self.runs.get_mut(function) else { return };
        let faded = known.map_or(took, |known| known - known / 8 + took / 8);
        *known = Some(took.max(faded));
    }

    /// How many jobs may be in hand.
    pub(super) fn limit(&self, oldest: Option<Oldest>) -> usize {
        let Some(slowest) = self.runs.iter().flatten().max() else { return self.threads };
        let flow = match oldest {
            Some(oldest) if oldest.age > self.patience.saturating_mul(2) => return self.threads,
            Some(oldest) => self.ended - oldest.ended_before,
            None => self.flow,
        };
        let flow = usize::try_from(flow).unwrap_or(usize::MAX).saturating_mul(2);
        let each = self.patience.as_nanos() / (*slowest).max(SHORTEST).as_nanos();
        let ahead = usize::try_from(each).unwrap_or(usize::MAX).saturating_mul(self.threads);
        self.threads + ahead.min(self.most).min(flow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// As if so many jobs had ended since.
    fn behind(ahead: &Ahead, jobs: u64) -> Option<Oldest> {
        Some(Oldest { age: Duration::ZERO, ended_before: ahead.ended() - jobs })
    }

    #[test]
    fn only_quick_functions_are_taken_ahead() {
        let mut ahead = Ahead::new(4, MS, 64, 2);
        let limit = |ahead: &Ahead| ahead.limit(behind(ahead, ahead.ended()));
        assert_eq!(limit(&ahead), 4, "nothing is known");
        for _ in 0..50 {
            ahead.ran(0, MS / 10, 0);
        }
        assert_eq!(limit(&ahead), 4 + 40);
        ahead.ran(0, Duration::ZERO, 0);
        assert_eq!(limit(&ahead), 4 + 44);
        ahead.ran(1, MS * 2, 0);
        assert_eq!(limit(&ahead), 4, "one is slow");
        for _ in 0..100 {
            ahead.ran(1, MS / 500, 0);
        }
        assert_eq!(limit(&ahead), 4 + 44, "it is no longer, and the other one counts");
        ahead.ran(0, Duration::from_secs(1), 0);
        assert_eq!(limit(&ahead), 4, "one long run is enough");
        ahead.ran(9, Duration::ZERO, 0);
    }

    #[test]
    fn only_where_jobs_end() {
        let mut ahead = Ahead::new(2, MS, 64, 1);
        for _ in 0..100 {
            ahead.ran(0, Duration::ZERO, ahead.ended());
        }
        assert_eq!(ahead.limit(None), 2 + 2, "the last one was alone");
        assert_eq!([0, 1, 5, 90].map(|jobs| ahead.limit(behind(&ahead, jobs))), [2, 4, 12, 66]);
        let old = |age| ahead.limit(Some(Oldest { age, ended_before: 0 }));
        assert_eq!([MS * 2, MS * 3].map(old), [66, 2], "one that takes long is seen before it ends");
    }

    #[test]
    fn there_is_a_limit() {
        let mut ahead = Ahead::new(2, Duration::MAX, 10, 1);
        (0..20).for_each(|_| ahead.ran(0, Duration::ZERO, 0));
        assert_eq!(ahead.limit(None), 12);
        let mut none = Ahead::new(2, MS, 0, 1);
        none.ran(0, Duration::ZERO, 0);
        assert_eq!(none.limit(None), 2);
    }
}

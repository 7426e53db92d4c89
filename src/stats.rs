//! What an engine and its functions have done so far.

use crate::queue::priority::Priority;
use std::fmt;
use std::time::Duration;

/// Figures of an engine, read while it runs: each is exact for some moment during the call.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Stats {
    /// One entry a worker, and behind them one for each spare thread that was started.
    pub workers: Vec<WorkerStats>,
    /// Functions registered now.
    pub functions: usize,
}

impl Stats {
    /// The sum over the workers.
    pub fn total(&self) -> WorkerStats {
        self.workers.iter().fold(WorkerStats::default(), |a, b| WorkerStats {
            jobs: a.jobs + b.jobs,
            panicked: a.panicked + b.panicked,
            cancelled: a.cancelled + b.cancelled,
            claims: a.claims + b.claims,
            steals: a.steals + b.steals,
            parks: a.parks + b.parks,
            wakes: a.wakes + b.wakes,
        })
    }
}

/// Figures of one worker since the engine started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Jobs taken and ended: run, panicked or met cancelled. Counted after a batch, not after each job.
    pub jobs: u64,
    /// Of these, jobs that panicked.
    pub panicked: u64,
    /// Of these, jobs that were met cancelled and did not run.
    pub cancelled: u64,
    /// Batches claimed from queues.
    pub claims: u64,
    /// Jobs taken from other workers: nested ones, and claimed ones that were stuck behind a long job.
    pub steals: u64,
    /// Times the worker parked.
    pub parks: u64,
    /// Other workers that this one woke.
    pub wakes: u64,
}

/// Figures of one function since it was registered: see [`Function::stats`](crate::Function::stats).
///
/// While jobs come and go each figure is exact for some moment during the call; a job whose outcome the caller has seen is
/// always counted. So at rest the sum is exact: each accepted job is in exactly one of the figures that
/// [`accepted`](Self::accepted) adds up.
///
/// ```
/// let engine = layshaft::Engine::builder().workers(2).start()?;
/// let half = engine.function("half", |x: u32| { assert!(x % 2 == 0, "{x} is odd"); x / 2 })?;
/// assert!(half.call(3).is_err());
/// assert_eq!(half.call(4)?, 2);
/// let stats = half.stats();
/// assert_eq!((stats.done, stats.panicked, stats.queued.total(), stats.running), (1, 1, 0, 0));
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct FunctionStats {
    /// The function's name.
    pub name: String,
    /// Jobs that are not started, and not cancelled.
    pub queued: Queued,
    /// Jobs that run now: on workers, also while they wait for others, or in the hands of consumers. A job whose time is up
    /// counts until its body returns.
    pub running: u64,
    /// Of these, the ones whose end was told already, for their time was up, or that run again meanwhile.
    pub late: u64,
    /// Jobs that gave their result.
    pub done: u64,
    /// Jobs whose consumer reported a failure.
    pub failed: u64,
    /// Jobs whose body panicked.
    pub panicked: u64,
    /// Jobs that were cancelled, discarded, or dropped as abandoned, before they ran.
    pub cancelled: u64,
    /// Jobs whose time was up.
    pub timed_out: u64,
    /// Jobs that went to make room.
    pub evicted: u64,
    /// Jobs whose consumer went away without finishing them, for the last time.
    pub lost: u64,
    /// Submits that joined a job with the same key. They are no jobs of their own.
    pub coalesced: u64,
    /// Attempts that were lost, and followed by another one.
    pub retried: u64,
    /// Jobs that were put on the dead list. Each has ended in one of the other ways, too.
    pub dead: u64,
    /// Submits that were refused because the queue was full. They are no jobs.
    pub refused: u64,
    /// How long jobs waited from submit to start: samples, or all, see
    /// [`Function::time_exactly`](crate::Function::time_exactly).
    pub wait: Histogram,
    /// How long jobs ran.
    pub run: Histogram,
}

impl FunctionStats {
    /// Jobs that were accepted: queued, running and ended ones. Each once, so without the [`late`](Self::late) ones.
    pub fn accepted(&self) -> u64 {
        self.queued.total() as u64 + self.running.saturating_sub(self.late) + self.ended()
    }

    /// Jobs that have ended, in whatever way.
    pub fn ended(&self) -> u64 {
        self.done + self.failed + self.panicked + self.cancelled + self.timed_out + self.evicted + self.lost
    }
}

/// Queued jobs by priority. Cancelled ones that still lie in a lane are taken off the normal priority first: the total is
/// exact, and so are the priorities once workers have met these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Queued {
    /// Of high priority.
    pub high: usize,
    /// Of normal priority.
    pub normal: usize,
    /// Of low priority.
    pub low: usize,
}

impl Queued {
    /// Of a priority.
    pub fn of(&self, priority: Priority) -> usize {
        match priority {
            Priority::High => self.high,
            Priority::Normal => self.normal,
            Priority::Low => self.low,
        }
    }

    /// Of all.
    pub fn total(&self) -> usize {
        self.high + self.normal + self.low
    }

    /// Takes off what is cancelled and lies there.
    pub(crate) fn take_off(&mut self, mut cancelled: usize) {
        for queued in [&mut self.normal, &mut self.low, &mut self.high] {
            let n = cancelled.min(*queued);
            *queued -= n;
            cancelled -= n;
        }
    }
}

/// Buckets of a histogram: four to each power of two, up to half an hour.
pub(crate) const BUCKETS: usize = 160;

/// How often which durations were seen, each within an eighth of its value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Empty if nothing was seen.
    counts: Vec<u64>,
    /// Nanoseconds.
    sum: u64,
}

impl Histogram {
    pub(crate) fn new(counts: Vec<u64>, sum: u64) -> Histogram {
        Histogram { counts, sum }
    }

    /// The bucket of a duration in nanoseconds.
    pub(crate) fn bucket(nanos: u64) -> usize {
        if nanos < 4 {
            return nanos as usize;
        }
        let power = nanos.ilog2() as usize;
        let quarter = (nanos >> (power - 2)) as usize & 3;
        ((power - 1) * 4 + quarter).min(BUCKETS - 1)
    }

    /// The first nanosecond that is beyond a bucket.
    fn end(bucket: usize) -> u64 {
        let next = bucket + 1;
        if next < 4 { next as u64 } else { (4 + next as u64 % 4) << (next / 4 - 1) }
    }

    /// How many durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// Their mean; `None` if there are none.
    pub fn mean(&self) -> Option<Duration> {
        self.sum.checked_div(self.count()).map(Duration::from_nanos)
    }

    /// What at least this part of them do not exceed, from 0.0 to 1.0, rounded up to a bucket's end; `None` if there are
    /// none.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        let rank = ((count as f64 * part.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut below = 0;
        let bucket = self.counts.iter().position(|n| {
            below += n;
            below >= rank
        });
        bucket.filter(|_| count > 0).map(|bucket| Duration::from_nanos(Self::end(bucket)))
    }

    /// The buckets that have some: the first duration beyond each, and how many are in it. In order.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let counts = self.counts.iter().enumerate().filter(|(_, n)| **n > 0);
        counts.map(|(bucket, n)| (Duration::from_nanos(Self::end(bucket)), *n))
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Histogram");
        text.field("count", &self.count());
        if let Some(mean) = self.mean() {
            text.field("mean", &mean);
            text.field("p50", &self.quantile(0.5).unwrap_or_default());
            text.field("p99", &self.quantile(0.99).unwrap_or_default());
        }
        text.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other() {
        let mut last = 0;
        for bucket in 0..BUCKETS - 1 {
            let end = Histogram::end(bucket);
            assert!(end > last, "bucket {bucket} ends at {end}");
            assert_eq!((Histogram::bucket(last), Histogram::bucket(end - 1)), (bucket, bucket));
            assert!(last < 16 || (end - last) * 4 <= last, "bucket {bucket} is wide: {last} to {end}");
            last = end;
        }
        assert_eq!(Histogram::bucket(u64::MAX), BUCKETS - 1);
        assert!(last > 1800 * 1_000_000_000 / 4, "{last}");
    }

    #[test]
    fn quantiles_are_bucket_ends() {
        let mut counts = vec![0; BUCKETS];
        (1..=1000_u64).for_each(|n| counts[Histogram::bucket(n * 1000)] += 1);
        let histogram = Histogram::new(counts, (1..=1000).sum::<u64>() * 1000);
        assert_eq!((histogram.count(), histogram.mean()), (1000, Some(Duration::from_nanos(500_500))));
        for part in [0.0, 0.01, 0.5, 0.99, 1.0] {
            let exact = f64::max(1000.0 * part, 1.0) * 1000.0;
            let told = histogram.quantile(part).unwrap().as_nanos() as f64;
            assert!(told >= exact && told <= exact * 1.26, "{part}: {told} for {exact}");
        }
        assert_eq!(histogram.buckets().map(|(_, n)| n).sum::<u64>(), 1000);
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}

//! What a run did, in one line.

use crate::histogram::Histogram;
use std::fmt;
use std::time::Duration;

/// Counted while results come in.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Inputs that became a result or an error.
    pub(crate) jobs: u64,
    pub(crate) failed: u64,
    pub(crate) bytes: u64,
    pub(crate) run_times: Histogram,
}

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally { jobs: 0, failed: 0, bytes: 0, run_times: Histogram::new() }
    }
}

/// A whole run.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) tally: Tally,
    pub(crate) took: Duration,
    pub(crate) steals: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { jobs, failed, bytes, run_times } = &self.tally;
        let seconds = self.took.as_secs_f64();
        let per_second = *jobs as f64 / seconds.max(1e-9);
        let [p50, p99] = [50, 99].map(|percent| run_times.percentile(percent));
        write!(
            f,
            "{jobs} jobs, {failed} failed, {bytes} bytes, {seconds:.3} s, {per_second:.0} jobs/s, \
             run time p50 {p50:.1?} p99 {p99:.1?}, {} steals",
            self.steals
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_run_has_a_summary() {
        let summary = Summary { tally: Tally::new(), took: Duration::from_millis(500), steals: 0 };
        let want = "0 jobs, 0 failed, 0 bytes, 0.500 s, 0 jobs/s, run time p50 0.0ns p99 0.0ns, 0 steals";
        assert_eq!(summary.to_string(), want);
    }

    #[test]
    fn figures_are_of_the_run() {
        let mut tally = Tally::new();
        (tally.jobs, tally.failed, tally.bytes) = (10, 1, 1234);
        for _ in 0..9 {
            tally.run_times.record(Duration::from_micros(100));
        }
        let text = Summary { tally, took: Duration::from_secs(2), steals: 3 }.to_string();
        assert!(text.starts_with("10 jobs, 1 failed, 1234 bytes, 2.000 s, 5 jobs/s, run time p50 "), "{text}");
        assert!(text.ends_with("µs, 3 steals"), "{text}");
    }
}

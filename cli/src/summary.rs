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
        let [p50, p99] = [50, 99].map(|percent| Readable(run_times.percentile(percent)));
        let noun = if *jobs == 1 { "job" } else { "jobs" };
        write!(
            f,
            "{jobs} {noun}, {failed} failed, {bytes} bytes, {seconds:.3} s, {per_second:.*} jobs/s, \
             run time p50 {p50} p99 {p99}, {} steals",
            if per_second < 10.0 { 1 } else { 0 },
            self.steals
        )
    }
}

/// A duration in the unit that suits it.
struct Readable(Duration);

impl fmt::Display for Readable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_nanos() as f64 / 1e3;
        match micros {
            ..1e4 => write!(f, "{micros:.1} us"),
            ..1e7 => write!(f, "{:.1} ms", micros / 1e3),
            _ => write!(f, "{:.1} s", micros / 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_run_has_a_summary() {
        let summary = Summary { tally: Tally::new(), took: Duration::from_millis(500), steals: 0 };
        let want = "0 jobs, 0 failed, 0 bytes, 0.500 s, 0.0 jobs/s, run time p50 0.0 us p99 0.0 us, 0 steals";
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
        assert!(text.starts_with("10 jobs, 1 failed, 1234 bytes, 2.000 s, 5.0 jobs/s, run time p50 "), "{text}");
        assert!(text.ends_with(" us, 3 steals"), "{text}");
    }

    #[test]
    fn times_have_a_unit_that_suits_them() {
        let text = |micros| Readable(Duration::from_micros(micros)).to_string();
        assert_eq!([text(9), text(12_345), text(12_345_678)], ["9.0 us", "12.3 ms", "12.3 s"]);
    }
}

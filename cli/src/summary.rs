//! What a run did: in one line, and a line a worker; as text and as JSON.

use crate::histogram::Histogram;
use layshaft::{Stats, WorkerStats};
use serde_json::{Value, json};
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
    /// Inputs that an interrupted run has left.
    pub(crate) not_started: u64,
    /// There may be more of these.
    pub(crate) are_more_left: bool,
}

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally { jobs: 0, failed: 0, bytes: 0, run_times: Histogram::new(), not_started: 0, are_more_left: false }
    }

    /// How far an interrupted run came.
    pub(crate) fn left(&self) -> String {
        let Tally { jobs, not_started, .. } = self;
        let at_least = if self.are_more_left { "at least " } else { "" };
        format!("{jobs} of {at_least}{} done, {at_least}{not_started} not started", jobs + not_started)
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
        let Tally { jobs, failed, bytes, run_times, .. } = &self.tally;
        let seconds = self.took.as_secs_f64();
        let per_second = self.per_second();
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

impl Summary {
    fn per_second(&self) -> f64 {
        self.tally.jobs as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// As a line of JSON, with what is added to it.
    pub(crate) fn json(&self, interrupted: bool, workers: Option<&[WorkerStats]>) -> String {
        let Tally { jobs, failed, bytes, run_times, .. } = &self.tally;
        let [p50, p99] = [50, 99].map(|percent| run_times.percentile(percent).as_secs_f64());
        let (seconds, per_second, steals) = (self.took.as_secs_f64(), self.per_second(), self.steals);
        let mut summary = json!({
            "jobs": jobs, "failed": failed, "bytes": bytes, "seconds": seconds, "jobs_per_second": per_second,
            "run_seconds": { "p50": p50, "p99": p99 }, "steals": steals, "interrupted": interrupted,
        });
        if interrupted {
            summary["not_started"] = json!(self.tally.not_started);
            summary["are_more_left"] = json!(self.tally.are_more_left);
        }
        if let Some(workers) = workers {
            summary["workers"] = workers.iter().map(worker).collect();
        }
        format!("{summary}\n")
    }
}

/// A line a worker, and one of their sums.
pub(crate) fn figures(stats: &Stats) -> String {
    let line = |name: &str, worker: &WorkerStats| {
        let WorkerStats { jobs, panicked, claims, steals, parks, wakes, .. } = *worker;
        format!("{name:<8} {jobs:>9} {panicked:>9} {claims:>9} {steals:>9} {parks:>9} {wakes:>9}\n")
    };
    let mut text = format!(
        "{:<8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
        "worker", "jobs", "panicked", "claims", "steals", "parks", "wakes"
    );
    text.extend(stats.workers.iter().enumerate().map(|(i, worker)| line(&i.to_string(), worker)));
    text + &line("total", &stats.total())
}

fn worker(stats: &WorkerStats) -> Value {
    let WorkerStats { jobs, panicked, cancelled, claims, steals, parks, wakes, .. } = stats;
    json!({
        "jobs": jobs, "panicked": panicked, "cancelled": cancelled, "claims": claims, "steals": steals, "parks": parks,
        "wakes": wakes,
    })
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
    fn what_is_left_is_told() {
        let mut tally = Tally::new();
        (tally.jobs, tally.not_started) = (120, 3940);
        assert_eq!(tally.left(), "120 of 4060 done, 3940 not started");
        tally.are_more_left = true;
        assert_eq!(tally.left(), "120 of at least 4060 done, at least 3940 not started");
    }

    #[test]
    fn times_have_a_unit_that_suits_them() {
        let text = |micros| Readable(Duration::from_micros(micros)).to_string();
        assert_eq!([text(9), text(12_345), text(12_345_678)], ["9.0 us", "12.3 ms", "12.3 s"]);
    }
}

//! Repetitions and their median.

use std::time::Duration;

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// Timed ones; one more goes before.
    pub(super) repetitions: usize,
    /// Divides the jobs of a repetition.
    divisor: u64,
}

impl Effort {
    pub(super) const FULL: Effort = Effort { repetitions: 7, divisor: 1 };
    pub(super) const QUICK: Effort = Effort { repetitions: 3, divisor: 50 };

    /// `jobs`, or fewer when less is to be measured.
    pub(super) fn jobs(self, jobs: u64) -> u64 {
        jobs / self.divisor
    }

    /// Times `run`, which runs `jobs` jobs and says how long they took.
    pub(super) fn figure(self, jobs: u64, mut run: impl FnMut() -> Result<Duration, String>) -> Result<Figure, String> {
        run()?;
        let mut nanos = Vec::with_capacity(self.repetitions);
        for _ in 0..self.repetitions {
            nanos.push(run()?.as_nanos() as f64 / jobs as f64);
        }
        nanos.sort_by(f64::total_cmp);
        let (lowest, highest) = (nanos[0], nanos[nanos.len() - 1]);
        Ok(Figure { jobs, median: nanos[nanos.len() / 2], lowest, highest })
    }
}

/// Nanoseconds a job.
#[derive(Debug)]
pub(super) struct Figure {
    /// In each repetition.
    pub(super) jobs: u64,
    pub(super) median: f64,
    pub(super) lowest: f64,
    pub(super) highest: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warm_up_does_not_count() {
        let mut times = [9000, 10, 50, 20].map(Duration::from_micros).into_iter();
        let figure = Effort::QUICK.figure(1000, || times.next().ok_or("asked too often".to_owned())).expect("measured");
        assert_eq!((figure.median, figure.lowest, figure.highest, figure.jobs), (20.0, 10.0, 50.0, 1000));
    }
}

//! How many jobs a worker takes: a rule without I/O.

use std::time::Duration;

/// Runs are never taken to be shorter: beyond that it is the network that counts.
const SHORTEST: Duration = Duration::from_micros(1);

/// Takes as many jobs as there are threads, and more only while all functions are known to be quick.
///
/// A job that lies here behind others waits, though another worker may be idle; and it cannot be given back. On the other
/// hand a thread that has ended a job has to wait for the next one as long as the network takes, unless that is here
/// already. So so many are taken ahead that whoever comes last waits for `patience` at most, going by what the slowest function
/// has taken of late; and none before a run was measured.
#[derive(Debug)]
pub(super) struct Ahead {
    threads: usize,
    patience: Duration,
    most: usize,
    /// Of each function: how long it runs.
    runs: Vec<Option<Duration>>,
}

impl Ahead {
    pub(super) fn new(threads: usize, patience: Duration, most: usize, functions: usize) -> Ahead {
        Ahead { threads, patience, most, runs: vec![None; functions] }
    }

    /// A job of a function took so long. Longer ones count at once, shorter ones as the longer are forgotten.
    pub(super) fn ran(&mut self, function: usize, took: Duration) {
        let Some(known) = self.runs.get_mut(function) else { return };
        let faded = known.map_or(took, |known| known - known / 8 + took / 8);
        *known = Some(took.max(faded));
    }

    /// How many jobs may be in hand.
    pub(super) fn limit(&self) -> usize {
        let Some(slowest) = self.runs.iter().flatten().max() else { return self.threads };
        let each = self.patience.as_nanos() / (*slowest).max(SHORTEST).as_nanos();
        let ahead = usize::try_from(each).unwrap_or(usize::MAX).saturating_mul(self.threads);
        self.threads + ahead.min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_quick_functions_are_taken_ahead() {
        let mut ahead = Ahead::new(4, Duration::from_millis(1), 64, 2);
        assert_eq!(ahead.limit(), 4, "nothing is known");
        ahead.ran(0, Duration::from_micros(100));
        assert_eq!(ahead.limit(), 4 + 40);
        ahead.ran(0, Duration::ZERO);
        assert_eq!(ahead.limit(), 4 + 44);
        ahead.ran(1, Duration::from_millis(2));
        assert_eq!(ahead.limit(), 4, "one is slow");
        for _ in 0..100 {
            ahead.ran(1, Duration::from_micros(2));
        }
        assert_eq!(ahead.limit(), 4 + 44, "it is no longer, and the other one counts");
        ahead.ran(0, Duration::from_secs(1));
        assert_eq!(ahead.limit(), 4, "one long run is enough");
        ahead.ran(9, Duration::ZERO);
    }

    #[test]
    fn there_is_a_limit() {
        let mut ahead = Ahead::new(2, Duration::MAX, 10, 1);
        ahead.ran(0, Duration::ZERO);
        assert_eq!(ahead.limit(), 12);
        let mut none = Ahead::new(2, Duration::from_millis(1), 0, 1);
        none.ran(0, Duration::ZERO);
        assert_eq!(none.limit(), 2);
    }
}

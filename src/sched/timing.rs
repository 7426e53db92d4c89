//! How long jobs of a function wait and run: histograms that any thread adds to.

use crate::stats::{BUCKETS, Histogram};
use crate::sync::{AtomicU64, Ordering};

/// Both histograms of a function.
pub(crate) struct Timing {
    pub(crate) wait: Recorder,
    pub(crate) run: Recorder,
}

/// A histogram that is being written.
pub(crate) struct Recorder {
    counts: [AtomicU64; BUCKETS],
    /// Nanoseconds.
    sum: AtomicU64,
}

impl Timing {
    pub(crate) fn new() -> Timing {
        Timing { wait: Recorder::new(), run: Recorder::new() }
    }
}

impl Recorder {
    fn new() -> Recorder {
        Recorder { counts: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }

    pub(crate) fn add(&self, nanos: u64) {
        // Ordering: Relaxed, counter only; likewise below.
        self.counts[Histogram::bucket(nanos)].fetch_add(1, Ordering::Relaxed);
        // Ordering: Relaxed, counter only.
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Histogram {
        // Ordering: Relaxed, counter only; likewise below.
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        // Ordering: Relaxed, counter only.
        Histogram::new(counts.collect(), self.sum.load(Ordering::Relaxed))
    }
}

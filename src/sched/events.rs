//! What happened to the jobs of a function besides being run to their end: counted where it happens, by any thread.

use super::core::Core;
use super::timing::Timing;
use crate::error::JobError;
use crate::sync::{AtomicU64, Ordering};
use std::sync::OnceLock;

/// Counts since the function was registered, made with the first of them.
pub(crate) struct Events {
    /// Finished by consumers.
    pub(crate) completed: AtomicU64,
    /// Taken by consumers, and neither finished nor put back.
    pub(crate) taken: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) panicked: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) timed_out: AtomicU64,
    pub(crate) evicted: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) coalesced: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) dead: AtomicU64,
    pub(crate) refused: AtomicU64,
    timing: OnceLock<Box<Timing>>,
}

impl Events {
    pub(super) fn new() -> Events {
        let zero = || AtomicU64::new(0);
        Events {
            completed: zero(),
            taken: zero(),
            failed: zero(),
            panicked: zero(),
            cancelled: zero(),
            timed_out: zero(),
            evicted: zero(),
            lost: zero(),
            coalesced: zero(),
            retried: zero(),
            dead: zero(),
            refused: zero(),
            timing: OnceLock::new(),
        }
    }

    /// The count of jobs that ended like this.
    fn of(&self, why: &JobError) -> &AtomicU64 {
        match why {
            JobError::Panicked(_) => &self.panicked,
            JobError::Failed(_) => &self.failed,
            JobError::Cancelled => &self.cancelled,
            JobError::TimedOut => &self.timed_out,
            JobError::Evicted => &self.evicted,
            JobError::Lost => &self.lost,
        }
    }

    /// The histograms, if there are any.
    pub(crate) fn timing(&self) -> Option<&Timing> {
        self.timing.get().map(|timing| &**timing)
    }

    fn make_timing(&self) -> &Timing {
        self.timing.get_or_init(|| Box::new(Timing::new()))
    }
}

/// The models count nothing: what is counted orders nothing, and each access would be another step of a schedule.
const COUNTS: bool = !crate::sync::IS_MODEL;

impl Core {
    /// Adds to one of the counts.
    #[cold]
    pub(crate) fn count(&self, which: impl FnOnce(&Events) -> &AtomicU64, n: u64) {
        if COUNTS {
            // Ordering: Relaxed, counter only; published with the job's outcome.
            which(self.make_events()).fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Takes from one of the counts, which was added to.
    pub(crate) fn uncount(&self, which: impl FnOnce(&Events) -> &AtomicU64) {
        if COUNTS && let Some(events) = self.events() {
            // Ordering: Relaxed, counter only.
            which(events).fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Counts a job that has ended without a result.
    #[cold]
    pub(crate) fn count_end(&self, why: &JobError) {
        self.count(|events| events.of(why), 1);
    }

    /// Notes how long a job waited, in nanoseconds.
    #[cold]
    pub(crate) fn note_wait(&self, nanos: u64) {
        if COUNTS {
            self.make_events().make_timing().wait.add(nanos);
        }
    }

    /// Notes how long a job ran, in nanoseconds.
    #[cold]
    pub(crate) fn note_run(&self, nanos: u64) {
        if COUNTS {
            self.make_events().make_timing().run.add(nanos);
        }
    }
}

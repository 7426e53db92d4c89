//! What an engine has done so far.

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
    /// Of these, jobs that panicked (in the body, or in a drop).
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

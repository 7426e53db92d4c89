//! Why a job is not running: as data here, in words in `words`, found out in `reasons`.

mod reasons;
mod words;

pub(crate) use reasons::{of, of_job};

use crate::error::JobError;
use std::time::Instant;

/// Why a function's next job, or one job, is not running: every reason there is, the most decisive first.
///
/// [`Function::explain`](crate::Function::explain) and [`Function::explain_job`](crate::Function::explain_job) make one. It
/// says what was so at some moment during the call: under way, a job may start before the answer is read.
///
/// As text it is one line a reason, which says what can be done about it.
///
/// ```
/// use layshaft::{Engine, Reason};
///
/// let engine = Engine::builder().workers(1).start()?;
/// let resize = engine.function("resize", |n: u64| n / 2)?;
/// resize.pause();
/// let handle = resize.submit(8)?;
///
/// let why = resize.explain_job(&handle);
/// assert!(matches!(why.first(), Reason::Paused { until: None, .. }));
/// assert_eq!(why.to_string(), "the function is paused; `resume` lets its jobs start");
///
/// resize.resume();
/// assert_eq!(handle.wait()?, 4);
/// assert!(matches!(resize.explain().first(), Reason::NothingQueued { .. }));
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    function: String,
    /// Never empty.
    reasons: Vec<Reason>,
}

impl Explanation {
    /// The name of the function that was asked.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// All reasons, the most decisive first; at least one.
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// The most decisive reason.
    pub fn first(&self) -> &Reason {
        &self.reasons[0]
    }
}

/// One reason why a job is not running, or why there is nothing to explain.
///
/// As text it is one line in words, with what to do when something can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The job has ended.
    Ended(Outcome),
    /// The handle is of a job of another function.
    OtherFunction,
    /// The job is running on one of the engine's threads.
    #[non_exhaustive]
    Running {
        /// The threads that run jobs of this function. The job is on one of them, unless it waits there for another job that
        /// its thread has begun meanwhile.
        threads: Vec<String>,
        /// Which attempt it is, from 1; `None` where attempts are not counted: jobs without key, times, listeners and retries.
        attempt: Option<u32>,
    },
    /// A consumer set has pulled the job, and it is not finished.
    #[non_exhaustive]
    Pulled {
        /// Which attempt it is, as for [`Running`](Self::Running).
        attempt: Option<u32>,
    },
    /// The function is paused.
    #[non_exhaustive]
    Paused {
        /// When it goes on; `None` for not before it is resumed.
        until: Option<Instant>,
    },
    /// The job was submitted to start later.
    #[non_exhaustive]
    NotBefore {
        /// When it may start.
        at: Instant,
    },
    /// The job was lost, and waits for another attempt.
    #[non_exhaustive]
    NextAttempt {
        /// When that may start; `None` when it is on its way back to the queue.
        at: Option<Instant>,
        /// Attempts so far.
        attempts: u32,
    },
    /// As many jobs of the function run as may run at once.
    #[non_exhaustive]
    CapReached {
        /// Jobs that run; of a function without a body, that are pulled and not finished.
        running: usize,
        /// The most that may ([`Limits::concurrency`](crate::Limits::concurrency)).
        cap: usize,
    },
    /// The function has no body, and no consumer set has it.
    NoConsumer,
    /// The function has no body, and none of the consumer sets that have it is about to pull a job by itself.
    #[non_exhaustive]
    NotPulled {
        /// Sets that have the function.
        sets: usize,
        /// Of these, sets that are parked. They are woken when those that were woken have looked.
        parked: usize,
        /// Sets that were woken for a job, and have not looked for it yet.
        woken: usize,
        /// Jobs of the function that are pulled and not finished.
        pulled: usize,
    },
    /// Every thread of the engine that could run the job is inside another one.
    #[non_exhaustive]
    NoWorker {
        /// The threads that are inside a job, with the functions.
        threads: Vec<BusyThread>,
        /// How many of them wait for other jobs inside theirs.
        blocked: usize,
        /// The engine's workers. When fewer threads than these run jobs without waiting, its spares are used up.
        workers: usize,
    },
    /// Jobs of the function are before it. Exact: the function's queue was locked.
    #[non_exhaustive]
    Ahead {
        /// Those of the job's own priority.
        same: usize,
        /// Those of higher priorities.
        higher: usize,
    },
    /// Jobs of the function may be before it. The queue of a function without limits has no lock, and where in it a job lies
    /// is not known: all that are queued may be before it, or none. Nested ones are not counted: they lie with the workers.
    #[non_exhaustive]
    AheadAtMost {
        /// The most that can be.
        jobs: usize,
    },
    /// The job was submitted inside another one, and lies with the worker that ran that: newest first, where others take the
    /// oldest.
    Nested,
    /// Nothing keeps it from starting: somebody is about to take it.
    AboutToStart,
    /// Nothing of the function is queued.
    #[non_exhaustive]
    NothingQueued {
        /// Jobs of it that run; of a function without a body, that are pulled and not finished.
        running: usize,
    },
    /// The function was removed. What it accepted before is still run.
    FunctionRemoved,
    /// The engine has begun to end. What was accepted before is still run.
    Draining,
    /// The engine has ended: it runs nothing any more.
    EngineEnded,
}

/// A thread that is inside a job.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusyThread {
    /// The thread's name.
    pub thread: String,
    /// The function whose job it runs; `scope` for the engine's own, which runs scopes' jobs.
    pub function: String,
}

/// How a job has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// With its result.
    Value,
    /// Its body panicked, with this message.
    Panicked(String),
    /// Whoever ran it reported this failure.
    Failed(String),
    /// It was cancelled before it ran.
    Cancelled,
    /// Its time ran out.
    TimedOut,
    /// The queue dropped it to make room.
    Evicted,
    /// Whoever had taken it went away without finishing it.
    Lost,
}

impl From<Result<(), JobError>> for Outcome {
    fn from(outcome: Result<(), JobError>) -> Outcome {
        match outcome {
            Ok(()) => Outcome::Value,
            Err(JobError::Panicked(panic)) => Outcome::Panicked(panic.message().to_owned()),
            Err(JobError::Failed(why)) => Outcome::Failed(why),
            Err(JobError::Cancelled) => Outcome::Cancelled,
            Err(JobError::TimedOut) => Outcome::TimedOut,
            Err(JobError::Evicted) => Outcome::Evicted,
            Err(JobError::Lost) => Outcome::Lost,
        }
    }
}

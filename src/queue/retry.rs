//! Whether a job that was lost is run again.

use std::time::Duration;

/// When a job of a function is run again, for [`Function::set_retry`](crate::Function::set_retry).
///
/// A job is *lost* when whoever had pulled it drops it unfinished; a function with a body loses none, but may count panics.
/// A lost job goes back to the front of its queue, and is run again with a clone of its argument. One that has been run too
/// often goes to the function's dead list, and its handles report [`JobError::Lost`](crate::JobError::Lost), or what ended the last
/// attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "it does nothing until it is set"]
pub struct Retry {
    pub(crate) attempts: u32,
    pub(crate) delay: Duration,
    pub(crate) panics: bool,
    pub(crate) timeouts: bool,
    pub(crate) dead: usize,
}

impl Retry {
    /// Runs a job so many times at most, the first included. 0 is taken as 1.
    pub fn attempts(attempts: u32) -> Retry {
        Retry { attempts: attempts.max(1), delay: Duration::ZERO, panics: false, timeouts: false, dead: 1_000 }
    }

    /// How long after its loss a job may start again. Default: at once.
    pub fn delay(mut self, delay: Duration) -> Retry {
        self.delay = delay;
        self
    }

    /// Whether a panic of the body counts as a loss. Default: no, it is the job's end.
    pub fn panics(mut self, count: bool) -> Retry {
        self.panics = count;
        self
    }

    /// Whether a run that exceeds the job's [`timeout`](crate::Submit::timeout) counts as a loss. The result of that attempt is
    /// dropped if it still comes. Default: no, it is the job's end. A deadline always is.
    pub fn timeouts(mut self, count: bool) -> Retry {
        self.timeouts = count;
        self
    }

    /// How many jobs the dead list keeps; beyond that the oldest goes. Default: 1,000.
    pub fn keep_dead(mut self, jobs: usize) -> Retry {
        self.dead = jobs;
        self
    }
}

/// A job in a function's dead list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadJob {
    /// Its number in the list, for [`Function::retry_dead`](crate::Function::retry_dead) and
    /// [`Function::take_dead`](crate::Function::take_dead).
    pub number: u64,
    /// How many times it was run.
    pub attempts: u32,
    /// What ended the last attempt.
    pub reason: String,
}

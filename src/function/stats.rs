//! What a function has done.

use super::Function;
use crate::stats::FunctionStats;

impl<A, R> Function<A, R> {
    /// What became of the function's jobs so far, and how long they take. For a function that was removed, too.
    ///
    /// Counting costs a job two stores to memory of its worker's own. Waits and runs are samples: of about each thousandth job
    /// of a busy function, each 16th of one with limits or terms; [`time_exactly`](Self::time_exactly) has all of them noted.
    /// Jobs that jobs submit are queued on their worker, count there as of normal priority, cancelled ones until they are met,
    /// and have no wait.
    pub fn stats(&self) -> FunctionStats {
        self.core.stats()
    }
}

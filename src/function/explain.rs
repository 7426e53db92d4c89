//! Why a function's jobs are not running.

use super::Function;
use crate::explain::{self, Explanation};
use crate::handle::JobHandle;

/// # Explanations
/// Looking takes locks and walks queues. It costs nothing while nobody asks, and may be done anywhere, also inside a job.
impl<A, R> Function<A, R> {
    /// Why the function's next job is not running: the first of those that may start by their own times, else the one that may
    /// start earliest.
    ///
    /// Jobs that run are no reason for those that are queued: see [`Reason::CapReached`](crate::Reason::CapReached) and
    /// [`Reason::NoWorker`](crate::Reason::NoWorker) for when they are.
    pub fn explain(&self) -> Explanation {
        explain::of(&self.core)
    }

    /// Why the job of this handle is not running.
    ///
    /// # Panics
    /// When the handle has given its result to a poll.
    pub fn explain_job(&self, handle: &JobHandle<R>) -> Explanation {
        let (job, origin) = handle.parts();
        explain::of_job(&self.core, job, origin)
    }
}

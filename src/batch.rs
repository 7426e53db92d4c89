//! Many jobs in one submit.

use crate::as_completed::AsCompleted;
use crate::error::WaitError;
use crate::handle::JobHandle;
use std::fmt;

/// How far ahead `Batch::wait` looks.
const AHEAD: usize = 64;

/// The handles of a batch, in the order of its arguments.
#[must_use = "dropping a batch detaches its jobs; use `send_batch` if no result is wanted"]
pub struct Batch<R> {
    handles: Vec<JobHandle<R>>,
}

impl<R> Batch<R> {
    pub(crate) fn new(handles: Vec<JobHandle<R>>) -> Self {
        Batch { handles }
    }

    /// How many jobs.
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }

    /// Waits for all results, in the order of the arguments. A wait that is refused gives the job's handle back, in
    /// [`WaitError::WouldNeverEnd`].
    pub fn wait(self) -> Vec<Result<R, WaitError<R>>> {
        let mut results = Vec::with_capacity(self.handles.len());
        let mut handles = self.handles.into_iter();
        while !handles.as_slice().is_empty() {
            // Waiting for each in turn would be a wake-up a job: one wait for a later one covers those before it.
            let ahead = handles.as_slice().len().min(AHEAD);
            handles.as_slice()[ahead - 1].wait_until_done();
            results.extend(handles.by_ref().take(ahead).map(JobHandle::wait));
        }
        results
    }

    /// The results in the order in which the jobs end, each with the index of its argument. Those that have ended come first,
    /// in the order of the arguments. Waiting costs a wake-up a job at most, and an allocation for each that has not ended.
    ///
    /// ```
    /// let engine = layshaft::Engine::builder().workers(2).start()?;
    /// let square = engine.function("square", |n: u64| n * n)?;
    /// let numbers = [3, 1, 2];
    /// for (index, result) in square.submit_batch(numbers)?.as_completed() {
    ///     assert_eq!(result?, numbers[index] * numbers[index]);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn as_completed(self) -> AsCompleted<R> {
        AsCompleted::new(self.handles)
    }
}

impl<R> IntoIterator for Batch<R> {
    type Item = JobHandle<R>;
    type IntoIter = std::vec::IntoIter<JobHandle<R>>;

    fn into_iter(self) -> Self::IntoIter {
        self.handles.into_iter()
    }
}

impl<R> fmt::Debug for Batch<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).finish()
    }
}

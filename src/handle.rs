//! The caller's end of a job.

use crate::error::{JobError, WaitError};
use crate::job::id::JobId;
use crate::job::origin;
use crate::job::slot::ResultSlot;
use crate::sched::worker::Worker;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};
use std::time::Duration;

/// A submitted job: wait for its result, poll it as a future, or cancel it.
///
/// # Waiting
/// [`wait`](Self::wait) spins for about 10 microseconds and then parks the thread. Inside a job of the same engine it
/// runs the awaited job itself if that is still in the worker's own deque, and nothing else; otherwise, or with half of the
/// stack used ([`Builder::stack_size`](crate::Builder::stack_size)), it blocks the thread, and a spare one takes its place
/// ([`Builder::spare_workers`](crate::Builder::spare_workers)). When there is no
/// spare left and every other thread waits, too, the wait is refused and the handle comes back; so is a wait for the
/// running job itself, or for one that this very thread has interrupted. Two jobs that wait for each other on different
/// threads are not noticed: they wait for ever. Nor is a wait for a job that may not start because its function is paused, or
/// because its limits let no job run besides the caller's own.
///
/// A wait inside a job for a job of another engine, or of a function without a body, is never refused.
///
/// # Cancel safety
/// Dropping a handle detaches the job: it runs, and its result is dropped. Dropping the future between polls does the
/// same. [`cancel`](Self::cancel) is explicit.
#[must_use = "dropping a handle detaches the job; use `send` if no result is wanted"]
pub struct JobHandle<R> {
    slot: NonNull<ResultSlot>,
    /// The function's record, by index.
    origin: u32,
    result: PhantomData<R>,
}

// SAFETY: the handle's side of a slot may be used from any thread, and moves an `R` there.
unsafe impl<R: Send> Send for JobHandle<R> {}
// SAFETY: through a shared handle the result cannot be reached, and what can be is atomic.
unsafe impl<R: Send> Sync for JobHandle<R> {}

impl<R> JobHandle<R> {
    pub(crate) fn new(slot: NonNull<ResultSlot>, origin: u32) -> Self {
        JobHandle { slot, origin, result: PhantomData }
    }

    #[inline(always)]
    fn slot(&self) -> &ResultSlot {
        assert!(!self.is_spent(), "a `JobHandle` was used after it gave its result");
        // SAFETY: the slab's slots live as long as the process.
        unsafe { self.slot.as_ref() }
    }

    /// The slot, and the index of the function's record, for a look that takes nothing.
    pub(crate) fn parts(&self) -> (NonNull<ResultSlot>, u32) {
        let _ = self.slot();
        (self.slot, self.origin)
    }

    /// Whether the result was taken by a poll.
    fn is_spent(&self) -> bool {
        self.slot == NonNull::dangling()
    }

    /// Gives the slot up without ending its use.
    fn into_slot(self) -> NonNull<ResultSlot> {
        ManuallyDrop::new(self).slot
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// [`WaitError::Job`] when the job ended without a result, [`WaitError::WouldNeverEnd`] when a job waits for itself
    /// or for a job that no thread would be left to run.
    #[inline]
    pub fn wait(self) -> Result<R, WaitError<R>> {
        if self.slot().is_done() {
            return self.into_outcome().map_err(WaitError::Job);
        }
        self.wait_slow()
    }

    #[cold]
    #[inline(never)]
    fn wait_slow(self) -> Result<R, WaitError<R>> {
        if self.slot().is_cancel_granted() {
            return Err(WaitError::Job(JobError::Cancelled));
        }
        if !self.block(None) {
            return Err(WaitError::WouldNeverEnd(self));
        }
        self.into_outcome().map_err(WaitError::Job)
    }

    /// The outcome of a job that is done.
    #[inline(always)]
    pub(crate) fn into_outcome(self) -> Result<R, JobError> {
        // SAFETY: done, and the handle gives the slot up.
        unsafe { ResultSlot::take(self.into_slot()) }
    }

    /// Blocks until done, or returns at once if that would never happen.
    pub(crate) fn wait_until_done(&self) {
        if !self.is_finished() {
            self.block(None);
        }
    }

    /// Blocks until done, `limit` at most: whether it is. At once `false` when that would never happen.
    fn block(&self, limit: Option<Duration>) -> bool {
        Worker::with_current(|worker| match worker {
            Some(worker) if self.is_run_by(worker) => worker.wait_inside(self.slot, limit),
            Some(worker) => worker.wait_outside(self.slot, limit),
            None => ResultSlot::wait(self.slot, limit),
        })
    }

    /// Blocks until done, also where [`wait`](Self::wait) would be refused.
    pub(crate) fn wait_anyway(self) -> Result<R, JobError> {
        Worker::with_current(|worker| match worker {
            Some(worker) => worker.wait_outside(self.slot, None),
            None => ResultSlot::wait(self.slot, None),
        });
        self.into_outcome()
    }

    /// Runs the job, if it is in this worker's own deque: whether it has.
    pub(crate) fn help(&self) -> bool {
        Worker::with_current(|worker| worker.is_some_and(|worker| worker.help(self.slot)))
    }

    /// Whether the job is one that this engine's workers run. It has not ended.
    pub(crate) fn is_run_by(&self, worker: &Worker) -> bool {
        origin::is_run_by(self.origin, worker.engine_number())
    }

    /// Whether the job is the running one, or was interrupted by it: it ends only after that.
    pub(crate) fn is_on_this_stack(&self) -> bool {
        Worker::with_current(|worker| worker.is_some_and(|worker| worker.is_on_this_stack(self.slot)))
    }

    /// Whether the job is done. A cancelled one is only when it was met.
    pub(crate) fn is_done(&self) -> bool {
        self.slot().is_done()
    }

    /// Has the waker of `cx` woken by the job's end, unless it is done: whether it is.
    pub(crate) fn watch(&self, cx: &Context<'_>) -> bool {
        ResultSlot::poll(self.slot, cx).is_ready()
    }

    /// Whether the job is done and gave a result.
    pub(crate) fn has_value(&self) -> bool {
        self.slot().has_value()
    }

    /// Waits for the result, for at most `limit`.
    ///
    /// # Errors
    /// The handle, when the time was up first; inside a job also at once, where [`wait`](Self::wait) would be refused.
    pub fn wait_timeout(self, limit: Duration) -> Result<Result<R, JobError>, Self> {
        if !self.slot().is_done() {
            if self.slot().is_cancel_granted() {
                return Ok(Err(JobError::Cancelled));
            }
            if !self.block(Some(limit)) {
                return Err(self);
            }
        }
        Ok(self.into_outcome())
    }

    /// Asks for the job not to run: `true` if it will not. Its handle then reports [`JobError::Cancelled`] at once; the
    /// argument is dropped when its turn comes.
    ///
    /// `false` means that the job has started or ended. A running body sees the wish in
    /// [`Running::is_cancelled`](crate::Running::is_cancelled) and may end early.
    ///
    /// Costs a `membarrier` system call (0.3 to about 10 microseconds), so that starting a job costs nothing. Waits for
    /// a worker only if that is just now starting this job, for a few instructions.
    pub fn cancel(&self) -> bool {
        let _ = self.slot();
        ResultSlot::cancel(self.slot, self.origin)
    }

    /// Whether the job has ended, so that [`wait`](Self::wait) returns at once.
    pub fn is_finished(&self) -> bool {
        self.slot().is_done() || self.slot().is_cancel_granted()
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        self.slot().id()
    }
}

impl<R> Drop for JobHandle<R> {
    fn drop(&mut self) {
        if !self.is_spent() {
            // SAFETY: the handle's side, last use.
            unsafe { ResultSlot::detach::<R>(self.slot) };
        }
    }
}

/// Needs no runtime: whoever ends the job wakes the task. Polling again after the result was given panics, and so does
/// any other use of the handle but dropping it.
impl<R> Future for JobHandle<R> {
    type Output = Result<R, JobError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.slot().is_cancel_granted() {
            return Poll::Ready(Err(JobError::Cancelled));
        }
        match ResultSlot::poll(self.slot, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let slot = std::mem::replace(&mut self.slot, NonNull::dangling());
                // SAFETY: done, and the handle has given the slot up.
                Poll::Ready(unsafe { ResultSlot::take(slot) })
            }
        }
    }
}

impl<R> Unpin for JobHandle<R> {}

impl<R> fmt::Debug for JobHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_spent() {
            return f.write_str("JobHandle(spent)");
        }
        f.debug_struct("JobHandle").field("id", &self.id()).field("finished", &self.is_finished()).finish()
    }
}

//! A job that is submitted with more than its argument.

use crate::error::{CallError, SubmitError};
use crate::function::Function;
use crate::handle::JobHandle;
use crate::queue::priority::Priority;
use std::fmt;

/// A job before it is submitted: [`Function::job`], then what it needs, then [`submit`](Self::submit) or
/// [`send`](Self::send).
///
/// ```
/// use layshaft::{Engine, Priority};
///
/// let engine = Engine::builder().workers(1).start()?;
/// let render = engine.function("render", |page: u32| page + 1)?;
/// let urgent = render.job(7).priority(Priority::High).submit()?;
/// assert_eq!(urgent.wait()?, 8);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[must_use = "a job does nothing until it is submitted or sent"]
pub struct Submit<'f, A, R> {
    function: &'f Function<A, R>,
    arg: A,
    priority: Priority,
}

impl<'f, A, R> Submit<'f, A, R> {
    pub(crate) fn new(function: &'f Function<A, R>, arg: A) -> Self {
        Submit { function, arg, priority: Priority::default() }
    }

    /// How urgent the job is. Default: [`Priority::Normal`].
    ///
    /// A high or low job that a job submits goes to its function's queue, and not to the worker's own deque.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }
}

impl<A: Send + 'static, R: Send + 'static> Submit<'_, A, R> {
    /// Queues the job and returns its handle.
    ///
    /// # Errors
    /// As for [`Function::submit`].
    pub fn submit(self) -> Result<JobHandle<R>, SubmitError<A>> {
        self.function.submit_at(self.priority, self.arg)
    }

    /// Queues the job and forgets it.
    ///
    /// # Errors
    /// As for [`Function::send`].
    pub fn send(self) -> Result<(), SubmitError<A>> {
        self.function.send_at(self.priority, self.arg)
    }

    /// Queues the job and waits for its result.
    ///
    /// # Errors
    /// As for [`Function::call`].
    pub fn call(self) -> Result<R, CallError<A, R>> {
        self.submit().map_err(CallError::Submit)?.wait().map_err(CallError::Wait)
    }
}

impl<A, R> fmt::Debug for Submit<'_, A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submit")
            .field("function", self.function)
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}

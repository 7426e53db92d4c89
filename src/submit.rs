//! A job that is submitted with more than its argument.

use crate::error::{CallError, SubmitError};
use crate::function::Function;
use crate::handle::JobHandle;
use crate::queue::priority::Priority;
use crate::queue::record::Terms;
use crate::queue::update::Update;
use crate::sched::managed::deliver_clone;
use std::fmt;
use std::time::{Duration, Instant};

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
    terms: Terms,
}

impl<'f, A, R> Submit<'f, A, R> {
    pub(crate) fn new(function: &'f Function<A, R>, arg: A) -> Self {
        Submit { function, arg, priority: Priority::default(), terms: Terms::default() }
    }

    /// How urgent the job is. Default: [`Priority::Normal`].
    ///
    /// A high or low job that a job submits goes to its function's queue, and not to the worker's own deque.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// How long the job may run. When it takes longer, its handle reports [`JobError::TimedOut`](crate::JobError::TimedOut) and its
    /// late result is dropped; a thread cannot be killed, so the body goes on until it returns (it sees it in
    /// [`Running::is_cancelled`](crate::Running::is_cancelled)). Default: no limit.
    ///
    /// Like the other terms below, this makes the function managed, see [`Function::set_limits`].
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.terms.timeout = Some(limit);
        self
    }

    /// How long after its submit the job must have ended, waiting included. One that has not started by then does not.
    /// Reported as [`JobError::TimedOut`](crate::JobError::TimedOut). Default: no limit.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.terms.deadline = Instant::now().checked_add(limit);
        self
    }

    /// When the job may start at the earliest: then it queues up behind the others. Until then it counts as queued. The end of
    /// the engine, or of the function, does not wait for it: it ends as cancelled. Default: at once.
    pub fn at(mut self, time: Instant) -> Self {
        self.terms.at = Some(time);
        self
    }

    /// The same, from now.
    pub fn after(self, delay: Duration) -> Self {
        match Instant::now().checked_add(delay) {
            Some(time) => self.at(time),
            // Beyond what the clock can tell: as late as it can.
            None => self.at(Instant::now() + Duration::from_secs(u64::from(u32::MAX))),
        }
    }

    /// Queues the job before all others of its function and priority that are queued: the last one comes first. One that may not
    /// start yet ([`at`](Self::at)) queues up behind them all the same when its time has come.
    pub fn ahead(mut self) -> Self {
        self.terms.ahead = true;
        self
    }

    /// Has the job accepted however many are queued, and no other one go for it: for a job that was promised a place earlier. It
    /// counts as queued like any other. Default: the function's limits apply.
    pub fn beyond_limits(mut self) -> Self {
        self.terms.beyond_limits = true;
        self
    }

    /// Calls `on_update` with what the job tells while it runs ([`Running::progress`](crate::Running::progress),
    /// [`data`](crate::Running::data), [`warning`](crate::Running::warning), and the same of a [`Completer`](crate::Completer)): in
    /// order, on the thread that tells, which waits for it. A call that panics is given up. Whoever joins a running unique job
    /// hears what it tells from then on.
    /// It may call whatever it likes; what it tells itself is told when all have heard of what it was told.
    pub fn on_update(mut self, on_update: impl FnMut(&Update) + Send + 'static) -> Self {
        self.terms.on_update = Some(Box::new(on_update));
        self
    }

    /// Joins a job of the function that has the same key and is queued or runs: its outcome, cloned, is this one's as well, and
    /// this argument is dropped. Without such a job this one is the first. When it has ended, however, the key is free again.
    ///
    /// Cancelling one of the handles does not cancel the job for the others. The terms and the priority are those of the first.
    pub fn unique(mut self, key: impl AsRef<[u8]>) -> Self
    where
        R: Clone,
    {
        self.terms.unique = Some((key.as_ref().into(), deliver_clone::<R>));
        self
    }

    /// [`unique`](Self::unique) with the whole argument as the key.
    pub fn unique_argument(self) -> Self
    where
        A: AsRef<[u8]>,
        R: Clone,
    {
        let key = self.arg.as_ref().to_vec();
        self.unique(key)
    }
}

impl<A: Send + 'static, R: Send + 'static> Submit<'_, A, R> {
    /// Queues the job and returns its handle.
    ///
    /// # Errors
    /// As for [`Function::submit`].
    pub fn submit(self) -> Result<JobHandle<R>, SubmitError<A>> {
        self.function.submit_with(self.priority, self.arg, self.terms)
    }

    /// Queues the job if that takes no waiting.
    #[cfg(feature = "gearman")]
    pub(crate) fn submit_at_once(self) -> Result<JobHandle<R>, SubmitError<A>> {
        self.function.submit_at_once(self.priority, self.arg, self.terms)
    }

    /// Queues the job and forgets it.
    ///
    /// # Errors
    /// As for [`Function::send`].
    pub fn send(self) -> Result<(), SubmitError<A>> {
        self.function.send_with(self.priority, self.arg, self.terms)
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

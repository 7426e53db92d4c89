//! What a function may hold and run at once.

use super::priority::Priority;

/// What becomes of a submit to a function whose queue is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// It is refused: the argument comes back in [`SubmitError::Full`](crate::SubmitError::Full).
    #[default]
    Reject,
    /// The newest of the least urgent queued jobs makes room: it ends as [`JobError::Evicted`](crate::JobError::Evicted).
    /// When all that is queued is more urgent than the new job, that is refused.
    EvictNewest,
    /// The oldest of the least urgent queued jobs makes room, in the same way.
    EvictOldest,
    /// The caller waits for room. On a worker thread, which would keep a worker from making room, it is refused.
    Block,
}

/// Limits of a function, for [`Function::set_limits`](crate::Function::set_limits). The default limits nothing.
///
/// ```
/// use layshaft::{Engine, Limits, Overflow};
///
/// let engine = Engine::builder().workers(2).start()?;
/// let resize = engine.function("resize", |n: u64| n / 2)?;
/// resize.set_limits(Limits::new().capacity(100).overflow(Overflow::EvictOldest).concurrency(1));
/// assert_eq!(resize.submit(8)?.wait()?, 4);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "limits do nothing until they are set"]
pub struct Limits {
    pub(super) capacity: Option<usize>,
    pub(super) capacity_of: [Option<usize>; 3],
    pub(super) overflow: Overflow,
    pub(super) concurrency: Option<usize>,
    pub(super) drops_abandoned: bool,
}

impl Limits {
    /// No limits.
    pub fn new() -> Limits {
        Limits::default()
    }

    /// Queued jobs at most, of all priorities together; those that run do not count. Default: no limit.
    ///
    /// A lower one than before holds from the next submit on: it evicts as many as it must, or is refused.
    pub fn capacity(mut self, jobs: usize) -> Limits {
        self.capacity = Some(jobs);
        self
    }

    /// Queued jobs of one priority at most, besides the capacity for all. Default: no limit.
    pub fn capacity_of(mut self, priority: Priority, jobs: usize) -> Limits {
        self.capacity_of[priority.index()] = Some(jobs);
        self
    }

    /// What becomes of a submit to a full queue. Default: [`Overflow::Reject`].
    pub fn overflow(mut self, overflow: Overflow) -> Limits {
        self.overflow = overflow;
        self
    }

    /// Whether a job that was submitted with a handle, and whose handles are all gone before it starts, is dropped instead of
    /// run. One that was sent, or that a [`send`](crate::Submit::send) joined, is run in any case. Default: it is run.
    pub fn drop_abandoned(mut self, drop: bool) -> Limits {
        self.drops_abandoned = drop;
        self
    }

    /// Jobs that run at once at most; of a function without a body, jobs that are pulled and not finished. With 0 none starts.
    /// Default: no limit.
    pub fn concurrency(mut self, jobs: usize) -> Limits {
        self.concurrency = Some(jobs);
        self
    }
}

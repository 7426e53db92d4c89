//! One error type per operation. A refused submit hands the argument back; a refused wait hands the handle back.

use crate::batch::Batch;
use crate::handle::JobHandle;
use crate::sync::Mutex;
use std::any::Any;
use std::error::Error;
use std::fmt;

/// Why an engine did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// `workers(0)` was asked for: nothing would ever run. Ask for 1 or more.
    NoWorkers,
    /// More workers or spares than an engine can have. Threads beyond the number of cores only help when jobs block.
    #[non_exhaustive]
    TooManyWorkers {
        /// What was asked for.
        asked: usize,
        /// The most there can be.
        limit: usize,
    },
    /// The operating system refused a thread.
    Spawn(std::io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::NoWorkers => f.write_str("an engine with 0 workers would never run a job; ask for 1 or more"),
            StartError::TooManyWorkers { asked, limit } => {
                write!(
                    f,
                    "{asked} workers or spares were asked for, an engine can have {limit} of each; one or two a core \
                     are enough"
                )
            }
            StartError::Spawn(_) => f.write_str("the operating system refused to start a worker thread"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StartError::NoWorkers | StartError::TooManyWorkers { .. } => None,
            StartError::Spawn(e) => Some(e),
        }
    }
}

/// Why a function was not registered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// A function of this name exists. Remove it first, or choose another name.
    NameTaken(String),
    /// The name cannot be used; the text says why.
    InvalidName(String),
    /// The engine is shutting down.
    Closed,
    /// The engine holds as many functions as it can.
    TooMany(usize),
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegisterError::NameTaken(name) => {
                write!(f, "a function named {name:?} is already registered; remove it first, or choose another name")
            }
            RegisterError::InvalidName(why) => write!(f, "invalid function name: {why}"),
            RegisterError::Closed => {
                f.write_str("the engine is shutting down and registers no more functions; start another one")
            }
            RegisterError::TooMany(limit) => {
                write!(f, "the engine already holds {limit} functions, its limit; remove some, or start another engine")
            }
        }
    }
}

impl Error for RegisterError {}

/// Why a function was not found by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LookupError {
    /// There is no function of this name: it was never registered, it was removed, or the engine has ended.
    NotFound(String),
    /// It has another argument or result.
    #[non_exhaustive]
    WrongTypes {
        /// The function's name.
        name: String,
        /// Its types, as the compiler prints them.
        registered: String,
        /// Those that were asked for.
        asked: String,
    },
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookupError::NotFound(name) => {
                write!(f, "there is no function named {name:?}: register it first, or look for it in `function_stats`")
            }
            LookupError::WrongTypes { name, registered, asked } => {
                write!(
                    f,
                    "the function {name:?} is a {registered}, and was looked up as a {asked}; ask for its own types"
                )
            }
        }
    }
}

impl Error for LookupError {}

/// Why a job was not accepted, with its argument.
#[non_exhaustive]
pub enum SubmitError<A> {
    /// The queue is at its limit.
    Full(A),
    /// The function was removed, or the engine is shutting down.
    Closed(A),
}

impl<A> SubmitError<A> {
    /// The argument that was not accepted.
    pub fn into_arg(self) -> A {
        match self {
            SubmitError::Full(a) | SubmitError::Closed(a) => a,
        }
    }

    /// Whether the queue was at its limit.
    pub fn is_full(&self) -> bool {
        matches!(self, SubmitError::Full(_))
    }

    /// Whether the function takes no more jobs.
    pub fn is_closed(&self) -> bool {
        matches!(self, SubmitError::Closed(_))
    }

    fn reason(&self) -> &'static str {
        match self {
            SubmitError::Full(_) => "the queue is full; retry later, or take jobs from it faster",
            SubmitError::Closed(_) => {
                "the function was removed or the engine is shutting down; register it again, or start another engine"
            }
        }
    }
}

impl<A> fmt::Debug for SubmitError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full() { "Full(..)" } else { "Closed(..)" })
    }
}

impl<A> fmt::Display for SubmitError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job not accepted: {}", self.reason())
    }
}

impl<A> Error for SubmitError<A> {}

/// How a job ended without a result.
#[derive(Debug)]
#[non_exhaustive]
pub enum JobError {
    /// The body panicked.
    Panicked(Panic),
    /// Whoever ran the job reported a failure.
    Failed(String),
    /// The job was cancelled before it ran.
    Cancelled,
    /// The job's time ran out.
    TimedOut,
    /// The queue dropped the job to make room.
    Evicted,
    /// Whoever had taken the job went away without finishing it.
    Lost,
}

impl JobError {
    /// The same for another who hears of it. A panic's payload goes to one; the others get its message.
    pub(crate) fn copy(&self) -> JobError {
        match self {
            JobError::Panicked(panic) => JobError::Panicked(Panic::new(Box::new(panic.message().to_owned()))),
            JobError::Failed(why) => JobError::Failed(why.clone()),
            JobError::Cancelled => JobError::Cancelled,
            JobError::TimedOut => JobError::TimedOut,
            JobError::Evicted => JobError::Evicted,
            JobError::Lost => JobError::Lost,
        }
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobError::Panicked(panic) => write!(f, "the job panicked: {}", panic.message()),
            JobError::Failed(text) => write!(f, "the job failed: {text}"),
            JobError::Cancelled => f.write_str("the job was cancelled before it ran"),
            JobError::TimedOut => f.write_str("the job's time ran out: its timeout or deadline passed before its end"),
            JobError::Evicted => {
                f.write_str("the queue dropped the job to make room: the function's capacity was reached")
            }
            JobError::Lost => f.write_str("whoever had taken the job went away without finishing it"),
        }
    }
}

impl Error for JobError {}

/// What a body panicked with.
pub struct Panic {
    message: String,
    /// The lock is never contended: it makes the payload, which is only `Send`, `Sync` as well.
    payload: Mutex<Box<dyn Any + Send>>,
}

impl Panic {
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Panic {
        let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        let message = text.unwrap_or_else(|| "a payload that is not text".to_owned());
        Panic { message, payload: Mutex::new(payload) }
    }

    /// The panic message, when the payload was text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Goes on panicking with the same payload, without running the panic hook again.
    pub fn resume(self) -> ! {
        std::panic::resume_unwind(self.into_payload())
    }

    pub(crate) fn into_payload(self) -> Box<dyn Any + Send> {
        self.payload.into_inner()
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic").field(&self.message).finish()
    }
}

/// Why a wait did not give a result.
#[non_exhaustive]
pub enum WaitError<R> {
    /// The wait was refused, because the job could not have ended before it: it is the caller's own job or one that this
    /// thread has interrupted, or every thread would be waiting, or have its stack half used, and no spare is left. The handle
    /// comes back.
    WouldNeverEnd(JobHandle<R>),
    /// The job ended without a result.
    Job(JobError),
}

impl<R> fmt::Debug for WaitError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitError::WouldNeverEnd(handle) => f.debug_tuple("WouldNeverEnd").field(handle).finish(),
            WaitError::Job(e) => f.debug_tuple("Job").field(e).finish(),
        }
    }
}

impl<R> fmt::Display for WaitError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitError::WouldNeverEnd(handle) => write!(
                f,
                "waiting for job {} here would never end: it is the running job itself, or no thread would be left to \
                 run it; return first and wait outside, or start the engine with more spare workers",
                handle.id()
            ),
            WaitError::Job(_) => f.write_str("the job ended without a result"),
        }
    }
}

impl<R> Error for WaitError<R> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            WaitError::WouldNeverEnd(_) => None,
            WaitError::Job(e) => Some(e),
        }
    }
}

/// Why a call gave no result: it was not accepted, or the wait failed.
#[non_exhaustive]
pub enum CallError<A, R> {
    /// The job was not accepted; the argument comes back.
    Submit(SubmitError<A>),
    /// The job was accepted and gave no result.
    Wait(WaitError<R>),
}

impl<A, R> fmt::Debug for CallError<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Submit(e) => f.debug_tuple("Submit").field(e).finish(),
            CallError::Wait(e) => f.debug_tuple("Wait").field(e).finish(),
        }
    }
}

impl<A, R> fmt::Display for CallError<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Submit(e) => e.fmt(f),
            CallError::Wait(e) => e.fmt(f),
        }
    }
}

impl<A, R> Error for CallError<A, R> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            CallError::Submit(_) => None,
            CallError::Wait(e) => e.source(),
        }
    }
}

/// A batch that was accepted in part: the handles made so far, and the arguments that were not taken.
pub struct BatchError<A, R = ()> {
    pub(crate) accepted: usize,
    pub(crate) handles: Batch<R>,
    pub(crate) rest: Vec<A>,
    pub(crate) full: bool,
}

impl<A, R> BatchError<A, R> {
    /// How many jobs were accepted.
    pub fn accepted(&self) -> usize {
        self.accepted
    }

    /// Whether the queue was at its limit; otherwise the function was removed or the engine is shutting down.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// The handles of the accepted jobs (none for a batch that was sent) and the arguments not taken, in order.
    pub fn into_parts(self) -> (Batch<R>, Vec<A>) {
        (self.handles, self.rest)
    }
}

impl<A, R> fmt::Debug for BatchError<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.rest.len();
        f.debug_struct("BatchError").field("accepted", &self.accepted).field("rest", &rest).finish_non_exhaustive()
    }
}

impl<A, R> fmt::Display for BatchError<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why =
            if self.full { "the queue is full; submit the rest later" } else { "the function takes no more jobs" };
        write!(f, "{} jobs of the batch were accepted and {} were not: {why}", self.accepted, self.rest.len())
    }
}

impl<A, R> Error for BatchError<A, R> {}

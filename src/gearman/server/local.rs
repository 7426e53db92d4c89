//! Functions of the server's own process: their jobs go to the engine's workers, without a remote worker.

use crate::quiet::swallow;
use crate::{Function, JobError, JobHandle, Panic, Priority, SubmitError, Update};
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a client hears of the end of a job that ran in the server's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It has a result.
    Result(Vec<u8>),
    /// It failed.
    Failure,
    /// It failed, and this says why: for clients that asked for exceptions.
    Exception(Vec<u8>),
}

/// Hears of updates.
pub(super) type OnUpdate = Box<dyn FnMut(&Update) + Send>;

/// Why a job was not accepted.
pub(super) enum Refusal {
    Full,
    Closed,
    /// The payload is none of this function's.
    Payload(String),
}

/// A function of this process, behind bytes.
pub(super) trait Local: Send + Sync {
    fn start(
        &self,
        payload: &[u8],
        priority: Priority,
        on_update: Option<OnUpdate>,
    ) -> Result<Box<dyn LocalRun>, Refusal>;
    /// Queued jobs of each priority, and running ones, whoever submitted them.
    fn counts(&self) -> ([usize; 3], usize);
    fn explain(&self) -> crate::Explanation;
    fn pause(&self);
    fn resume(&self);
    fn set_limits(&self, limits: crate::Limits);
}

/// A job in this process.
pub(super) trait LocalRun: Send + Sync {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Answer>;
    /// Whether it will not run.
    fn cancel(&self) -> bool;
}

/// A typed function, and how its arguments and results are bytes.
pub(super) struct Typed<A, R, D, E> {
    function: Function<A, R>,
    decode: D,
    encode: std::sync::Arc<E>,
    has_updates: bool,
}

impl<A, R, D, E> Typed<A, R, D, E> {
    pub(super) fn new(function: Function<A, R>, decode: D, encode: E, has_updates: bool) -> Self {
        Typed { function, decode, encode: std::sync::Arc::new(encode), has_updates }
    }
}

impl<A, R, D, E> Local for Typed<A, R, D, E>
where
    A: Send + 'static,
    R: Send + 'static,
    D: Fn(&[u8]) -> Result<A, String> + Send + Sync + 'static,
    E: Fn(R) -> Answer + Send + Sync + 'static,
{
    fn start(
        &self,
        payload: &[u8],
        priority: Priority,
        on_update: Option<OnUpdate>,
    ) -> Result<Box<dyn LocalRun>, Refusal> {
        let arg = caught(|| (self.decode)(payload)).unwrap_or_else(Err).map_err(Refusal::Payload)?;
        let mut job = self.function.job(arg).priority(priority);
        if let Some(mut on_update) = on_update.filter(|_| self.has_updates) {
            job = job.on_update(move |update| on_update(update));
        }
        match job.submit() {
            Ok(handle) => {
                Ok(Box::new(Job { handle, encode: std::sync::Arc::clone(&self.encode), result: PhantomData::<fn(R)> }))
            }
            Err(SubmitError::Full(_)) => Err(Refusal::Full),
            Err(SubmitError::Closed(_)) => Err(Refusal::Closed),
        }
    }

    fn counts(&self) -> ([usize; 3], usize) {
        let stats = self.function.stats();
        let queued = Priority::ALL.map(|priority| stats.queued.of(priority));
        (queued, usize::try_from(stats.running).unwrap_or(usize::MAX))
    }

    fn explain(&self) -> crate::Explanation {
        self.function.explain()
    }

    fn pause(&self) {
        self.function.pause();
    }

    fn resume(&self) {
        self.function.resume();
    }

    fn set_limits(&self, limits: crate::Limits) {
        self.function.set_limits(limits);
    }
}

/// Calls the embedder's code on a thread that serves all connections: a panic is an error, and its message says which.
fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        let panic = Panic::new(payload);
        let why = panic.message().to_owned();
        swallow(panic.into_payload());
        why
    })
}

struct Job<R, E> {
    handle: JobHandle<R>,
    encode: std::sync::Arc<E>,
    result: PhantomData<fn(R)>,
}

impl<R: Send + 'static, E: Fn(R) -> Answer + Send + Sync> LocalRun for Job<R, E> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        Pin::new(&mut self.handle).poll(cx).map(|outcome| match outcome {
            Ok(result) => caught(|| (self.encode)(result)).unwrap_or_else(|why| Answer::Exception(why.into_bytes())),
            Err(JobError::Panicked(panic)) => Answer::Exception(panic.message().as_bytes().to_vec()),
            Err(JobError::Failed(why)) => Answer::Exception(why.into_bytes()),
            Err(_) => Answer::Failure,
        })
    }

    fn cancel(&self) -> bool {
        self.handle.cancel()
    }
}

//! What a worker can do: functions of its engine, and how a job becomes one of theirs.

use super::job::{Job, WorkError};
use crate::engine::Engine;
use crate::error::{JobError, Panic, RegisterError, SubmitError};
use crate::function::Function;
use crate::handle::JobHandle;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// What becomes of a job.
#[derive(Debug)]
pub(super) enum Outcome {
    Done(Vec<u8>),
    Failed(WorkError),
    /// It never ran: the server can give it to another worker.
    NotRun,
}

/// A job's end.
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    /// How long the body ran, if that is known.
    pub(super) took: Option<Duration>,
}

/// A job that the engine did not take, with its payload.
pub(super) struct Refused {
    pub(super) payload: Vec<u8>,
    /// It may take it later.
    pub(super) is_full: bool,
}

/// A function on offer.
pub(super) trait Ability: Send {
    /// Makes a job of the engine of it.
    fn start(&self, job: &Job, payload: Vec<u8>) -> Result<Box<dyn Pending>, Refused>;
}

/// A job of the engine that has not been seen to end.
pub(super) trait Pending: Send {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended>;

    /// Nobody wants the result any more.
    fn give_up(&self);
}

impl Outcome {
    fn of(result: Result<Vec<u8>, WorkError>) -> Outcome {
        result.map_or_else(Outcome::Failed, Outcome::Done)
    }

    fn of_error(error: JobError) -> Outcome {
        match error {
            JobError::Cancelled | JobError::Evicted => Outcome::NotRun,
            JobError::Panicked(panic) => Outcome::Failed(WorkError::exception(panic.message())),
            error => Outcome::Failed(WorkError::exception(error.to_string())),
        }
    }
}

/// Registers the function that an ability is, under the name that servers will see.
pub(super) type Make = Box<dyn FnOnce(&Engine, &str) -> Result<Box<dyn Ability>, RegisterError>>;

/// An ability whose body knows of the job that it runs for.
pub(super) fn of_body(body: impl Fn(&Job, Vec<u8>) -> Result<Vec<u8>, WorkError> + Send + Sync + 'static) -> Make {
    Box::new(move |engine, name| {
        let run = move |(job, payload): (Job, Vec<u8>)| {
            let started = Instant::now();
            let result = body(&job, payload);
            Ran { result, took: started.elapsed() }
        };
        let function = engine.function(name, run)?;
        Ok(Box::new(Body { engine: engine.clone(), function }))
    })
}

/// What a body gave, and how long it took.
struct Ran {
    result: Result<Vec<u8>, WorkError>,
    took: Duration,
}

/// Removes its function from the engine in the end.
struct Body {
    engine: Engine,
    function: Function<(Job, Vec<u8>), Ran>,
}

impl Drop for Body {
    fn drop(&mut self) {
        self.engine.remove(self.function.name());
    }
}

impl Ability for Body {
    fn start(&self, job: &Job, payload: Vec<u8>) -> Result<Box<dyn Pending>, Refused> {
        match self.function.job((job.clone(), payload)).submit_at_once() {
            Ok(handle) => Ok(Box::new(handle)),
            Err(error) => {
                let is_full = error.is_full();
                let (_, payload) = error.into_arg();
                Err(Refused { payload, is_full })
            }
        }
    }
}

impl Pending for JobHandle<Ran> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        poll(self, cx).map(|outcome| match outcome {
            Ok(ran) => Ended { outcome: Outcome::of(ran.result), took: Some(ran.took) },
            Err(error) => Ended { outcome: Outcome::of_error(error), took: None },
        })
    }

    fn give_up(&self) {
        self.cancel();
    }
}

/// Under a name that is not that of [`Pending`].
fn poll<R>(handle: &mut JobHandle<R>, cx: &mut Context<'_>) -> Poll<Result<R, JobError>> {
    Future::poll(Pin::new(handle), cx)
}

/// An ability that a function of the engine is already, with what goes between its types and bytes.
pub(super) fn of_function<A, R>(
    function: Function<A, R>,
    decode: impl Fn(&[u8]) -> Result<A, WorkError> + Send + Sync + 'static,
    encode: impl Fn(R) -> Result<Vec<u8>, WorkError> + Send + Sync + 'static,
) -> Make
where
    A: Send + 'static,
    R: Send + 'static,
{
    Box::new(move |_, _| Ok(Box::new(Coded { function, decode, encode: Arc::new(encode) })))
}

struct Coded<A, R, D, E> {
    function: Function<A, R>,
    decode: D,
    encode: Arc<E>,
}

impl<A, R, D, E> Ability for Coded<A, R, D, E>
where
    A: Send + 'static,
    R: Send + 'static,
    D: Fn(&[u8]) -> Result<A, WorkError> + Send + Sync + 'static,
    E: Fn(R) -> Result<Vec<u8>, WorkError> + Send + Sync + 'static,
{
    fn start(&self, job: &Job, payload: Vec<u8>) -> Result<Box<dyn Pending>, Refused> {
        let arg = match guarded(|| (self.decode)(&payload)) {
            Ok(arg) => arg,
            Err(error) => return Ok(Box::new(Known(Some(Outcome::Failed(error))))),
        };
        let listener = job.clone();
        match self.function.job(arg).on_update(move |update| listener.relay(update)).submit_at_once() {
            Ok(handle) => Ok(Box::new(Encoding { handle, encode: Arc::clone(&self.encode) })),
            Err(error) => {
                let is_full = matches!(error, SubmitError::Full(_));
                Err(Refused { payload, is_full })
            }
        }
    }
}

/// An end that is known from the beginning.
struct Known(Option<Outcome>);

impl Pending for Known {
    fn poll(&mut self, _: &mut Context<'_>) -> Poll<Ended> {
        Poll::Ready(Ended { outcome: self.0.take().unwrap_or(Outcome::NotRun), took: None })
    }

    fn give_up(&self) {}
}

struct Encoding<R, E> {
    handle: JobHandle<R>,
    encode: Arc<E>,
}

impl<R, E> Pending for Encoding<R, E>
where
    R: Send + 'static,
    E: Fn(R) -> Result<Vec<u8>, WorkError> + Send + Sync + 'static,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        poll(&mut self.handle, cx).map(|outcome| {
            let outcome = match outcome {
                Ok(value) => Outcome::of(guarded(|| (self.encode)(value))),
                Err(error) => Outcome::of_error(error),
            };
            Ended { outcome, took: None }
        })
    }

    fn give_up(&self) {
        self.handle.cancel();
    }
}

/// Runs a codec, whose panic is of its job alone.
fn guarded<T>(f: impl FnOnce() -> Result<T, WorkError>) -> Result<T, WorkError> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|payload| Err(WorkError::exception(Panic::new(payload).message())))
}

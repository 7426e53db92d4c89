//! Functions of the server's own process: their jobs go to the engine's workers, without a remote worker.

use super::functions::Target;
use super::job::State;
use super::keys::JobKey;
use super::notices::{Bell, Notice};
use super::table::{End, Refused, Table};
use crate::gearman::packet::Kind;
use crate::quiet::swallow;
use crate::{Function, JobError, JobHandle, Panic, Priority, SubmitError, Update};
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

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
    /// Whether this is a payload of the function's; otherwise why not.
    fn check(&self, payload: &[u8]) -> Result<(), String>;
    /// Submits a job; one that was accepted before, whatever the limits.
    fn start(
        &self,
        payload: &[u8],
        priority: Priority,
        on_update: OnUpdate,
        is_accepted: bool,
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
    encode: Arc<E>,
}

impl<A, R, D, E> Typed<A, R, D, E> {
    pub(super) fn new(function: Function<A, R>, decode: D, encode: E) -> Self {
        Typed { function, decode, encode: Arc::new(encode) }
    }
}

impl<A, R, D, E> Local for Typed<A, R, D, E>
where
    A: Send + 'static,
    R: Send + 'static,
    D: Fn(&[u8]) -> Result<A, String> + Send + Sync + 'static,
    E: Fn(R) -> Answer + Send + Sync + 'static,
{
    fn check(&self, payload: &[u8]) -> Result<(), String> {
        caught(|| (self.decode)(payload).map(drop)).unwrap_or_else(Err)
    }

    fn start(
        &self,
        payload: &[u8],
        priority: Priority,
        on_update: OnUpdate,
        is_accepted: bool,
    ) -> Result<Box<dyn LocalRun>, Refusal> {
        let arg = caught(|| (self.decode)(payload)).unwrap_or_else(Err).map_err(Refusal::Payload)?;
        let job = self.function.job(arg).priority(priority).on_update(on_update);
        // Others wait for this thread: it does not wait for room.
        match if is_accepted { job.beyond_limits() } else { job }.submit_at_once() {
            Ok(handle) => Ok(Box::new(Job { handle, encode: Arc::clone(&self.encode), result: PhantomData::<fn(R)> })),
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
    encode: Arc<E>,
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

impl Table {
    /// Hands a job to this process.
    pub(super) fn start_local(&mut self, key: JobKey, is_accepted: bool) -> Result<(), Refused> {
        let job = &mut self.jobs[key];
        let Target::Local(local) = &self.functions[job.function].target else { return Err(Refused::Closed) };
        let notices = Arc::clone(&self.notices);
        // Though nobody may listen: who asks for its status, or joins it later, is told.
        let on_update: OnUpdate = Box::new(move |update: &Update| notices.push(Notice::Told(key, update.clone())));
        match local.start(job.payload(), job.priority, on_update, is_accepted) {
            Ok(run) => job.extra().local = Some(run),
            Err(Refusal::Full) => return Err(Refused::Full),
            Err(Refusal::Closed) => return Err(Refused::Closed),
            Err(Refusal::Payload(why)) => return Err(Refused::Payload(why)),
        }
        job.state = State::Local;
        self.locals += 1;
        self.notices.push(Notice::Ended(key));
        Ok(())
    }

    /// Looks whether a job in this process has ended; otherwise it will say so.
    pub(super) fn look_at_local(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        let Some(local) = job.extra.as_mut().and_then(|extra| extra.local.as_mut()) else { return };
        let waker = Waker::from(Bell::of_job(key, &self.notices));
        let Poll::Ready(answer) = local.poll(&mut Context::from_waker(&waker)) else { return };
        job.extra().local = None;
        match &answer {
            Answer::Result(result) => self.end(key, End::Complete(result)),
            Answer::Failure => self.end(key, End::Fail),
            Answer::Exception(why) => self.end(key, End::Exception(why)),
        }
    }

    /// What a job in this process told goes to those who listen to it.
    pub(super) fn pass_on(&mut self, key: JobKey, update: &Update) {
        let handle = self.handle(key);
        let handle = handle.as_bytes();
        match update {
            Update::Progress { done, total } => {
                let (done, total) = (done.to_string(), total.to_string());
                self.keep_progress(key, done.as_bytes(), total.as_bytes());
                self.relay(key, Kind::WorkStatus, &[handle, done.as_bytes(), total.as_bytes()]);
            }
            Update::Data(data) => self.relay(key, Kind::WorkData, &[handle, data]),
            Update::Warning(text) => self.relay(key, Kind::WorkWarning, &[handle, text]),
        }
    }
}

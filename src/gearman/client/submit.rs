//! What a job may have besides its payload.

use super::error::ClientError;
use super::handle::RemoteHandle;
use super::job::{Caller, Job};
use super::mail::Line;
use super::reply::{self, Reply};
use super::spec::Spec;
use super::update::{Listener, RemoteId, RemoteUpdate};
use super::updates::Updates;
use crate::Priority;
use crate::gearman::packet::Kind;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A job to be submitted, see [`Client::job`](super::Client::job).
#[must_use = "nothing is submitted until `submit`"]
pub struct RemoteSubmit {
    line: Line,
    spec: Spec,
    priority: Priority,
    resubmit: Option<bool>,
    listener: Option<Listener>,
}

impl RemoteSubmit {
    pub(super) fn new(line: Line, function: Vec<u8>, payload: Vec<u8>) -> RemoteSubmit {
        let spec = Spec {
            kind: Kind::SubmitJob,
            function,
            unique: Vec::new(),
            reducer: None,
            at: None,
            payload,
            retries: 0,
            attempt_timeout: None,
            timeout: None,
            resubmit: false,
        };
        RemoteSubmit { line, spec, priority: Priority::Normal, resubmit: None, listener: None }
    }

    /// The unique key: of jobs with the same function and key one runs, and all callers get its result. `-` stands for the
    /// payload. Empty, as by default: none.
    pub fn unique(mut self, key: impl AsRef<[u8]>) -> Self {
        self.spec.unique = key.as_ref().to_vec();
        self
    }

    /// Before or after others in the server's queues.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Not before this time, to the second. Only for background jobs of normal priority: the protocol knows no others.
    pub fn at(mut self, time: SystemTime) -> Self {
        self.spec.at = Some(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
        self
    }

    /// The function that puts the parts of the result together. Not with a priority, nor with a time: the protocol has no
    /// such packet. Few workers know what to do with it.
    pub fn reduce(mut self, reducer: impl AsRef<[u8]>) -> Self {
        self.spec.reducer = Some(reducer.as_ref().to_vec());
        self
    }

    /// How long the job may take in all, with all attempts, counted from its submit on.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.spec.timeout = Some(limit);
        self
    }

    /// How long one attempt may take. One that takes longer is given up (it may still run) and counts as failed.
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.spec.attempt_timeout = Some(limit);
        self
    }

    /// How often the job is submitted again after an attempt that failed, timed out, or was lost with its server.
    /// Default: 0. What a server refuses is not tried again.
    pub fn retries(mut self, most: u32) -> Self {
        self.spec.retries = most;
        self
    }

    /// Whether the job may run twice: then it is submitted again when its server is lost while nobody knows what became of
    /// it, up to five times. Default: yes with a unique key, no without. A job that the server cannot have taken is
    /// submitted elsewhere in any case.
    pub fn resubmit(mut self, allowed: bool) -> Self {
        self.resubmit = Some(allowed);
        self
    }

    /// Has `listener` called for each update. It is called on the client's own thread: what takes long delays all jobs, and
    /// a wait for one of this client's jobs is refused. It is dropped at the job's end, before the result is given.
    ///
    /// Jobs with the same unique key, submitted by one client to one server, hear of an update as often as the server sends
    /// it: C gearmand once for each of them, so each hears all.
    pub fn on_update(mut self, listener: impl FnMut(&RemoteUpdate) + Send + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// The updates as a stream, instead of a listener.
    pub fn updates(mut self) -> (Self, Updates) {
        let (listener, updates) = Updates::pair();
        self.listener = Some(listener);
        (self, updates)
    }

    /// Submits it, and blocks while too much waits to be written
    /// ([`ClientBuilder::buffer`](super::ClientBuilder::buffer)), but not until the server has answered.
    ///
    /// # Errors
    /// [`ClientError::InvalidJob`] and [`ClientError::Closed`]. What happens later, the handle tells.
    pub fn submit(self) -> Result<RemoteHandle, ClientError> {
        let line = self.line.clone();
        let (job, handle) = self.foreground()?;
        line.mailbox.submit(job)?;
        Ok(handle)
    }

    /// Submits it as a background job, which runs whether or not anybody is there to hear of it. The reply comes when the
    /// server has accepted it; it alone says that the job is not lost.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_background(self) -> Result<Reply<RemoteId>, ClientError> {
        let line = self.line.clone();
        let (job, reply) = self.background()?;
        line.mailbox.submit(job)?;
        Ok(reply)
    }

    /// As [`submit`](Self::submit), but pends where that blocks.
    pub fn submit_async(self) -> Submitting<RemoteHandle> {
        let line = self.line.clone();
        Submitting::new(line, self.foreground())
    }

    /// As [`submit_background`](Self::submit_background), but pends where that blocks.
    pub fn submit_background_async(self) -> Submitting<Reply<RemoteId>> {
        let line = self.line.clone();
        Submitting::new(line, self.background())
    }

    fn foreground(mut self) -> Result<(Box<Job>, RemoteHandle), ClientError> {
        self.spec.kind = match (&self.spec.reducer, self.priority) {
            _ if self.spec.at.is_some() => {
                return Err(ClientError::InvalidJob("a job with a time is a background job: use submit_background"));
            }
            (None, Priority::High) => Kind::SubmitJobHigh,
            (None, Priority::Low) => Kind::SubmitJobLow,
            (None, _) => Kind::SubmitJob,
            (Some(_), _) => Kind::SubmitReduceJob,
        };
        let (completer, reply) = reply::pair(self.line.io);
        Ok((self.job(Caller::Foreground(completer))?, RemoteHandle(reply)))
    }

    fn background(mut self) -> Result<(Box<Job>, Reply<RemoteId>), ClientError> {
        self.spec.kind = match (&self.spec.reducer, self.priority) {
            (None, _) if self.spec.at.is_some() => Kind::SubmitJobEpoch,
            (None, Priority::High) => Kind::SubmitJobHighBg,
            (None, Priority::Low) => Kind::SubmitJobLowBg,
            (None, _) => Kind::SubmitJobBg,
            (Some(_), _) => Kind::SubmitReduceJobBackground,
        };
        let (completer, reply) = reply::pair(self.line.io);
        Ok((self.job(Caller::Background(completer))?, reply))
    }

    /// Checks what is the same for both.
    fn job(self, caller: Caller) -> Result<Box<Job>, ClientError> {
        let RemoteSubmit { mut spec, priority, resubmit, listener, .. } = self;
        let names = [Some(&spec.function), Some(&spec.unique), spec.reducer.as_ref()];
        let is_special = spec.reducer.is_some() || spec.at.is_some();
        let wrong = if spec.function.is_empty() {
            "the function's name is empty"
        } else if names.into_iter().flatten().any(|name| name.contains(&0)) {
            "a function's name or a unique key holds a NUL, which the protocol cannot say"
        } else if is_special && priority != Priority::Normal || spec.reducer.is_some() && spec.at.is_some() {
            "the protocol has no job with two of: a priority, a time, a reducer"
        } else if u32::try_from(spec.size()).is_err() {
            "the payload is over 4 GiB, which the protocol cannot say"
        } else {
            spec.resubmit = resubmit.unwrap_or(!spec.unique.is_empty());
            return Ok(Job::new(spec, caller, listener));
        };
        Err(ClientError::InvalidJob(wrong))
    }
}

impl fmt::Debug for RemoteSubmit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteSubmit")
            .field("spec", &self.spec)
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}

/// A submit that pends while too much waits to be written. Dropped before its end, the job is not submitted.
#[must_use = "futures do nothing unless polled"]
pub struct Submitting<T> {
    line: Line,
    job: Option<Box<Job>>,
    end: Option<Result<T, ClientError>>,
}

impl<T> Submitting<T> {
    fn new(line: Line, made: Result<(Box<Job>, T), ClientError>) -> Submitting<T> {
        match made {
            Ok((job, end)) => Submitting { line, job: Some(job), end: Some(Ok(end)) },
            Err(error) => Submitting { line, job: None, end: Some(Err(error)) },
        }
    }
}

impl<T: Unpin> Future for Submitting<T> {
    type Output = Result<T, ClientError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Submitting { line, job, end } = self.get_mut();
        if job.is_some() {
            match line.mailbox.poll_submit(job, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
        }
        Poll::Ready(end.take().expect("a future was polled after its end"))
    }
}

impl<T> fmt::Debug for Submitting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitting").field("is_pending", &self.job.is_some()).finish_non_exhaustive()
    }
}

//! Jobs in flight, given back in the order in which they were submitted, or as they end.

use crate::bell::Bell;
use layshaft::{JobError, JobHandle};
use std::collections::VecDeque;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// How many jobs back a wait looks. Woken for every single job, the caller costs each a wake-up, which takes longer than
/// hashing a small file (files of 20 bytes: 14 times slower); when a job further back has ended, most before it have.
const AHEAD: usize = 64;

/// In which order results come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// As submitted.
    Kept,
    /// As they end, nearly: a wait looks at all jobs only after it.
    AsTheyEnd,
}

/// How a job ended.
pub(crate) type Ended<R> = (Arc<Path>, Result<R, JobError>);

/// One input and its job.
struct Entry<R> {
    path: Arc<Path>,
    job: Job<R>,
}

enum Job<R> {
    Outstanding(JobHandle<R>),
    Ended(Result<R, JobError>),
}

/// The jobs that were submitted and not given back.
pub(crate) struct Window<R> {
    order: Order,
    entries: VecDeque<Entry<R>>,
    /// Found among the others by a wait, when the order does not matter.
    ended: VecDeque<Ended<R>>,
}

impl<R> Window<R> {
    pub(crate) fn new(order: Order) -> Window<R> {
        Window { order, entries: VecDeque::new(), ended: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() + self.ended.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a job.
    pub(crate) fn push(&mut self, path: Arc<Path>, handle: JobHandle<R>) {
        self.entries.push_back(Entry { path, job: Job::Outstanding(handle) });
    }

    /// Adds what will never be a job, at its place.
    pub(crate) fn push_ended(&mut self, path: Arc<Path>, result: Result<R, JobError>) {
        self.entries.push_back(Entry { path, job: Job::Ended(result) });
    }

    /// Takes a job that was found to have ended, or the oldest, if it has.
    pub(crate) fn pop(&mut self) -> Option<Ended<R>> {
        if let Some(ended) = self.ended.pop_front() {
            return Some(ended);
        }
        let result = self.entries.front_mut()?.job.poll_finished()?;
        self.entries.pop_front().map(|entry| (entry.path, result))
    }

    /// Lets `bell` ring when a job a little way back ends, or the oldest if that one has ended already. Returns whether
    /// there is something to take at once.
    pub(crate) fn watch(&mut self, bell: &Arc<Bell>) -> bool {
        if self.order == Order::AsTheyEnd {
            self.collect();
        }
        let back = AHEAD.min(self.entries.len()).saturating_sub(1);
        let is_outstanding = |entry: &Entry<R>| matches!(entry.job, Job::Outstanding(_));
        let at = if self.entries.get(back).is_some_and(is_outstanding) { back } else { 0 };
        let has_ended = self.entries.get_mut(at).is_some_and(|entry| entry.job.watch(&Arc::clone(bell).into()));
        has_ended || !self.ended.is_empty()
    }

    /// Takes out all that has ended, keeping the order of the others.
    fn collect(&mut self) {
        for _ in 0..self.entries.len() {
            let Some(mut entry) = self.entries.pop_front() else { return };
            match entry.job.poll_finished() {
                Some(result) => self.ended.push_back((entry.path, result)),
                None => self.entries.push_back(entry),
            }
        }
    }

    /// Cancels what has not started, the newest first, so that nothing starts in the place of what was cancelled. How
    /// many jobs are running.
    pub(crate) fn cancel(&mut self) -> usize {
        let running = |entry: &&Entry<R>| match &entry.job {
            Job::Outstanding(handle) => !handle.is_finished() && !handle.cancel() && !handle.is_finished(),
            Job::Ended(_) => false,
        };
        self.entries.iter().rev().filter(running).count()
    }
}

impl<R> Job<R> {
    /// The result, if there is one; the job is then spent.
    fn poll_finished(&mut self) -> Option<Result<R, JobError>> {
        if matches!(self, Job::Outstanding(handle) if !handle.is_finished()) {
            return None;
        }
        // Never read: an entry that gave its result is dropped.
        match std::mem::replace(self, Job::Ended(Err(JobError::Lost))) {
            Job::Ended(result) => Some(result),
            Job::Outstanding(mut handle) => match poll(&mut handle, Waker::noop()) {
                Poll::Ready(result) => Some(result),
                Poll::Pending => {
                    *self = Job::Outstanding(handle);
                    None
                }
            },
        }
    }

    /// Lets `waker` be woken at the job's end: whether it has ended.
    fn watch(&mut self, waker: &Waker) -> bool {
        if let Job::Outstanding(handle) = self {
            match poll(handle, waker) {
                Poll::Ready(result) => *self = Job::Ended(result),
                Poll::Pending => return false,
            }
        }
        true
    }
}

fn poll<R>(handle: &mut JobHandle<R>, waker: &Waker) -> Poll<Result<R, JobError>> {
    Pin::new(handle).poll(&mut Context::from_waker(waker))
}

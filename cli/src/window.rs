//! Jobs in flight, given back in the order in which they were submitted.

use layshaft::{JobError, JobHandle};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How many jobs back a wait looks. Woken for every single job, the caller costs each a wake-up, which takes longer than
/// hashing a small file (files of 20 bytes: 14 times slower); when a job further back has ended, most before it have.
const AHEAD: usize = 64;

/// One input and its job.
struct Entry<R> {
    path: Arc<Path>,
    job: Job<R>,
}

enum Job<R> {
    Outstanding(JobHandle<R>),
    Ended(Result<R, JobError>),
    /// Only while its handle is being waited for.
    Taken,
}

/// The jobs between the oldest one without a result and the newest.
pub(crate) struct Window<R> {
    entries: VecDeque<Entry<R>>,
}

impl<R> Window<R> {
    pub(crate) fn new() -> Window<R> {
        Window { entries: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a job.
    pub(crate) fn push(&mut self, path: Arc<Path>, handle: JobHandle<R>) {
        self.entries.push_back(Entry { path, job: Job::Outstanding(handle) });
    }

    /// Adds what will never be a job, at its place.
    pub(crate) fn push_ended(&mut self, path: Arc<Path>, result: Result<R, JobError>) {
        self.entries.push_back(Entry { path, job: Job::Ended(result) });
    }

    /// Takes the oldest job, if it has ended.
    pub(crate) fn pop(&mut self) -> Option<(Arc<Path>, Result<R, JobError>)> {
        let oldest = self.entries.front_mut()?;
        if let Job::Outstanding(handle) = &oldest.job {
            if !handle.is_finished() {
                return None;
            }
            oldest.job.wait(Duration::ZERO);
        }
        let entry = self.entries.pop_front()?;
        match entry.job {
            Job::Ended(result) => Some((entry.path, result)),
            unfinished => {
                self.entries.push_front(Entry { path: entry.path, job: unfinished });
                None
            }
        }
    }

    /// Waits at most `limit` for a job a little way back, or for the oldest if that one has ended already.
    pub(crate) fn wait(&mut self, limit: Duration) {
        let back = AHEAD.min(self.entries.len()).saturating_sub(1);
        let is_outstanding = |entry: &Entry<R>| matches!(entry.job, Job::Outstanding(_));
        let at = if self.entries.get(back).is_some_and(is_outstanding) { back } else { 0 };
        if let Some(entry) = self.entries.get_mut(at) {
            entry.job.wait(limit);
        }
    }
}

impl<R> Job<R> {
    fn wait(&mut self, limit: Duration) {
        *self = match std::mem::replace(self, Job::Taken) {
            Job::Outstanding(handle) => match handle.wait_timeout(limit) {
                Ok(result) => Job::Ended(result),
                Err(handle) => Job::Outstanding(handle),
            },
            other => other,
        };
    }
}

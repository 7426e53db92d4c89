//! An answer that is on its way, for whoever waits for it or polls it.

use super::error::ClientError;
use super::update::RemoteId;
use crate::quiet::wake;
use crate::sync::{Condvar, Mutex};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// Where an answer is put.
struct Cell<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    /// The client's thread, which must not wait for itself.
    io: ThreadId,
}

struct State<T> {
    /// Of a job, once the server has accepted it.
    id: Option<RemoteId>,
    answer: Option<Result<T, ClientError>>,
    is_over: bool,
    waker: Option<Waker>,
}

/// The end that gives the answer. Dropped without one it says that the client is closed, so that nobody waits for ever.
pub(super) struct Completer<T>(Arc<Cell<T>>);

/// An answer that is on its way: wait for it, or poll it as a future of any executor.
///
/// Dropping it changes nothing: the answer is thrown away when it comes.
#[must_use = "dropping it drops the answer"]
pub struct Reply<T>(Arc<Cell<T>>);

/// Both ends.
pub(super) fn pair<T>(io: ThreadId) -> (Completer<T>, Reply<T>) {
    let state = State { id: None, answer: None, is_over: false, waker: None };
    let cell = Arc::new(Cell { state: Mutex::new(state), changed: Condvar::new(), io });
    (Completer(Arc::clone(&cell)), Reply(cell))
}

impl<T> Completer<T> {
    /// Gives the answer.
    pub(super) fn complete(self, answer: Result<T, ClientError>) {
        self.put(answer);
    }

    /// Says under which name the job is known.
    pub(super) fn created(&self, id: RemoteId) {
        self.0.state.lock().id = Some(id);
        self.0.changed.notify_all();
    }

    fn put(&self, answer: Result<T, ClientError>) {
        let mut state = self.0.state.lock();
        if state.is_over {
            return;
        }
        state.answer = Some(answer);
        state.is_over = true;
        let waker = state.waker.take();
        drop(state);
        self.0.changed.notify_all();
        if let Some(waker) = waker {
            wake(waker);
        }
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        self.put(Err(ClientError::Closed));
    }
}

impl<T> Cell<T> {
    /// Blocks until `done`, or until `end`: whether it is done.
    fn block(&self, end: Option<Instant>, done: impl Fn(&State<T>) -> bool) -> bool {
        let mut state = self.state.lock();
        while !done(&state) {
            match end {
                None => self.changed.wait(&mut state),
                Some(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.changed.wait_for(&mut state, left);
                }
            }
        }
        true
    }

    fn take(&self) -> Result<T, ClientError> {
        self.state.lock().answer.take().expect("a `Reply` was used after it gave its answer")
    }

    /// Whether waiting here would be waiting for oneself.
    fn is_own_thread(&self) -> bool {
        std::thread::current().id() == self.io
    }
}

impl<T> Reply<T> {
    /// An answer that is known already.
    pub(super) fn ready(io: ThreadId, answer: Result<T, ClientError>) -> Reply<T> {
        let (completer, reply) = pair(io);
        completer.complete(answer);
        reply
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// What went wrong instead; [`ClientError::WouldNeverEnd`] in a listener of the same client.
    pub fn wait(self) -> Result<T, ClientError> {
        if !self.is_finished() && self.0.is_own_thread() {
            return Err(ClientError::WouldNeverEnd);
        }
        self.0.block(None, |state| state.is_over);
        self.0.take()
    }

    /// Waits for the answer, but not longer than `limit`.
    ///
    /// # Errors
    /// Hands itself back when there is none yet.
    pub fn wait_timeout(self, limit: Duration) -> Result<Result<T, ClientError>, Self> {
        let end = Instant::now().checked_add(limit);
        let is_over = match self.0.is_own_thread() {
            true => self.is_finished(),
            false => self.0.block(end, |state| state.is_over),
        };
        if is_over { Ok(self.0.take()) } else { Err(self) }
    }

    /// Under which name the server knows the job that is asked about.
    pub(super) fn id(&self) -> Option<RemoteId> {
        self.0.state.lock().id.clone()
    }

    /// Waits until that is known, or never will be.
    pub(super) fn wait_created(&self) {
        if !self.0.is_own_thread() {
            self.0.block(None, |state| state.is_over || state.id.is_some());
        }
    }

    /// Whether there is an answer.
    pub fn is_finished(&self) -> bool {
        self.0.state.lock().is_over
    }
}

impl<T> Future for Reply<T> {
    type Output = Result<T, ClientError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Clones and drops are others' code: neither happens under the lock.
        let waker = cx.waker().clone();
        let mut state = self.0.state.lock();
        if state.is_over {
            drop(state);
            return Poll::Ready(self.0.take());
        }
        let old = state.waker.replace(waker);
        drop(state);
        drop(old);
        Poll::Pending
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("is_finished", &self.is_finished()).finish_non_exhaustive()
    }
}

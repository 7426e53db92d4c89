//! What is heard of a job before its end.

use crate::gearman::address::Address;
use crate::quiet::wake;
use crate::sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Under which name a server knows a job: `H:host:17`, what Gearman calls its handle.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RemoteId {
    server: Arc<Address>,
    name: Arc<[u8]>,
}

impl RemoteId {
    /// A name that was kept somewhere.
    pub fn new(server: Address, name: impl AsRef<[u8]>) -> RemoteId {
        RemoteId { server: Arc::new(server), name: name.as_ref().into() }
    }

    pub(super) fn of(server: Arc<Address>, name: Arc<[u8]>) -> RemoteId {
        RemoteId { server, name }
    }

    /// The server.
    pub fn server(&self) -> &Address {
        &self.server
    }

    /// The name, any bytes.
    pub fn name(&self) -> &[u8] {
        &self.name
    }
}

impl fmt::Display for RemoteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name.escape_ascii())
    }
}

/// What is heard of a job before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoteUpdate {
    /// The server has accepted it.
    Created(RemoteId),
    /// A part of the result.
    Data(Vec<u8>),
    /// Something went wrong, and the job goes on.
    Warning(Vec<u8>),
    /// How far it is, in units of its own.
    Status {
        /// What is done.
        numerator: u64,
        /// What there is in all; 0 when the worker does not say.
        denominator: u64,
    },
    /// The worker reported an exception. The attempt has failed.
    Exception(Vec<u8>),
    /// An attempt has failed, and the job is submitted again for the so-and-so-many-th time, from 1.
    Retry(u32),
}

/// Hears of updates.
pub(super) type Listener = Box<dyn FnMut(&RemoteUpdate) + Send>;

/// What a server knows of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RemoteStatus {
    /// Whether there is such a job. One that has ended is forgotten.
    pub is_known: bool,
    /// Whether a worker has it.
    pub is_running: bool,
    /// What is done, as the worker told it.
    pub numerator: u64,
    /// What there is in all.
    pub denominator: u64,
    /// How many clients wait for it. Only servers that were asked by unique key tell.
    pub clients: Option<u64>,
}

/// The updates of a job, to be taken one by one: by waiting, as an iterator, or polled.
///
/// They are kept until they are taken, however many they are. After the last one, at the job's end, there is `None`.
pub struct Updates(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<RemoteUpdate>,
    is_over: bool,
    waker: Option<Waker>,
}

/// Marks the end when the job drops its listener.
struct Sender(Arc<Shared>);

impl Sender {
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.state.lock();
        change(&mut state);
        let waker = state.waker.take();
        drop(state);
        self.0.changed.notify_one();
        if let Some(waker) = waker {
            wake(waker);
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.change(|state| state.is_over = true);
    }
}

impl Updates {
    /// A listener, and the updates it hears.
    pub(super) fn pair() -> (Listener, Updates) {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let sender = Sender(Arc::clone(&shared));
        let listener = move |update: &RemoteUpdate| sender.change(|state| state.queue.push_back(update.clone()));
        (Box::new(listener), Updates(shared))
    }

    /// The next one, if it is there; `None` at the end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<RemoteUpdate>> {
        let mut state = self.0.state.lock();
        match state.queue.pop_front() {
            Some(update) => Poll::Ready(Some(update)),
            None if state.is_over => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Waits for each.
impl Iterator for Updates {
    type Item = RemoteUpdate;

    fn next(&mut self) -> Option<RemoteUpdate> {
        let mut state = self.0.state.lock();
        loop {
            if let Some(update) = state.queue.pop_front() {
                return Some(update);
            }
            if state.is_over {
                return None;
            }
            self.0.changed.wait(&mut state);
        }
    }
}

impl fmt::Debug for Updates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        f.debug_struct("Updates").field("queued", &state.queue.len()).field("is_over", &state.is_over).finish()
    }
}

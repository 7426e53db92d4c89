//! A job's updates as a stream.

use super::update::{Listener, RemoteUpdate};
use crate::quiet::wake;
use crate::sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

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
        // Clones and drops are others' code: neither happens under the lock.
        let waker = cx.waker().clone();
        let mut state = self.0.state.lock();
        let next = state.queue.pop_front();
        if next.is_some() || state.is_over {
            return Poll::Ready(next);
        }
        let old = state.waker.replace(waker);
        drop(state);
        drop(old);
        Poll::Pending
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

//! What a running job tells whoever listens to it.

use crate::quiet::quietly;
use crate::sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::thread::{self, ThreadId};

/// What a running job told, see [`Submit::on_update`](crate::Submit::on_update).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Update {
    /// So much is done, of so much in all, in units of the job's own.
    Progress {
        /// What is done.
        done: u64,
        /// What there is in all.
        total: u64,
    },
    /// A part of the result.
    Data(Arc<[u8]>),
    /// Something went wrong, and the job goes on.
    Warning(Arc<[u8]>),
}

/// Hears of updates.
pub(crate) type OnUpdate = Box<dyn FnMut(&Update) + Send>;

/// Those who listen to one job. One thread at a time tells them, without the lock, so that updates come in the same order for
/// everybody, and listeners may do what they like.
#[derive(Clone)]
pub(crate) struct Audience(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    told: Condvar,
}

#[derive(Default)]
struct State {
    /// Those who are not being told something just now: all, or those who came since.
    listeners: Vec<OnUpdate>,
    /// What is yet to be told.
    updates: VecDeque<Update>,
    /// How many updates came, and how many of them were told.
    came: u64,
    told: u64,
    /// Who is telling.
    teller: Option<ThreadId>,
}

impl Audience {
    pub(crate) fn new() -> Self {
        Audience(Arc::new(Shared { state: Mutex::new(State::default()), told: Condvar::new() }))
    }

    /// Runs no code of others.
    pub(crate) fn join(&self, on_update: OnUpdate) {
        self.0.state.lock().listeners.push(on_update);
    }

    /// Tells all, in the order in which they came, and returns when that is done; what a listener tells itself is told when
    /// all have heard of what it was told. Runs others' code.
    pub(crate) fn tell(&self, update: &Update) {
        let me = thread::current().id();
        let mut state = self.0.state.lock();
        state.updates.push_back(update.clone());
        state.came += 1;
        let mine = state.came;
        if state.teller == Some(me) {
            return;
        }
        while state.teller.is_some() && state.told < mine {
            self.0.told.wait(&mut state);
        }
        if state.told >= mine {
            return;
        }
        state.teller = Some(me);
        while let Some(update) = state.updates.pop_front() {
            let mut listeners = mem::take(&mut state.listeners);
            drop(state);
            listeners.iter_mut().for_each(|on_update| quietly(|| on_update(&update)));
            state = self.0.state.lock();
            // Those who came meanwhile are behind.
            listeners.append(&mut state.listeners);
            state.listeners = listeners;
            state.told += 1;
        }
        state.teller = None;
        drop(state);
        self.0.told.notify_all();
    }
}

impl fmt::Debug for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Audience")
    }
}

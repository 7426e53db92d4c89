//! A job of the table, and who hears of it.

use super::keys::{ConnKey, FunctionKey, RunKey};
use super::local::LocalRun;
use super::notices::Ticket;
use crate::{JobHandle, Priority, Pulled};
use std::sync::Arc;
use std::time::Instant;

/// A job, from its submit to its end. There may be millions: what is rare is in `extra`.
pub(super) struct Job {
    pub(super) function: FunctionKey,
    pub(super) payload: Box<[u8]>,
    /// Its unique key: as it came, or a NUL and the payload where that is the key. Such a job was given as `-`.
    pub(super) unique: Option<Arc<[u8]>>,
    pub(super) listeners: Listeners,
    pub(super) state: State,
    pub(super) priority: Priority,
    /// It runs though nobody listens: a background job, or one that a background job has joined.
    pub(super) detached: bool,
    /// How often it was handed out.
    pub(super) attempts: u16,
    pub(super) extra: Option<Box<Extra>>,
}

/// What few jobs have.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) reducer: Option<Box<[u8]>>,
    pub(super) progress: Option<Progress>,
    /// The engine's handle, where the function has limits: a cancelled job then makes room at once.
    pub(super) handle: Option<JobHandle<()>>,
    /// The job in this process that it is.
    pub(super) local: Option<Box<dyn LocalRun>>,
}

/// How much is done, of how much, as the worker wrote it.
pub(super) struct Progress {
    pub(super) done: Box<[u8]>,
    pub(super) total: Box<[u8]>,
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// In its function's queue.
    Queued,
    /// Not before its time.
    Held,
    /// In a remote worker's hands.
    Running(RunKey),
    /// In this process, queued or running there.
    Local,
    /// Over, but for its ticket, which is in the queue.
    Buried,
}

/// A job in a remote worker's hands.
pub(super) struct Run {
    pub(super) job: super::keys::JobKey,
    pub(super) conn: ConnKey,
    pub(super) pulled: Pulled<Ticket, ()>,
    /// Where it is in its connection's list.
    pub(super) position: usize,
    pub(super) limit: Option<Instant>,
}

/// Connections that hear of a job.
#[derive(Debug, Default)]
pub(super) enum Listeners {
    #[default]
    None,
    One(Listener),
    // Boxed: a job without several is smaller.
    #[allow(clippy::box_collection)]
    Many(Box<Vec<Listener>>),
}

/// A connection that hears of a job, and how often it has submitted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) conn: ConnKey,
    pub(super) times: u32,
}

impl Listeners {
    pub(super) fn as_slice(&self) -> &[Listener] {
        match self {
            Listeners::None => &[],
            Listeners::One(one) => std::slice::from_ref(one),
            Listeners::Many(many) => many,
        }
    }

    /// Adds a connection: whether it is new.
    pub(super) fn add(&mut self, conn: ConnKey) -> bool {
        let new = Listener { conn, times: 1 };
        match self {
            Listeners::None => *self = Listeners::One(new),
            Listeners::One(one) if one.conn == conn => {
                one.times += 1;
                return false;
            }
            Listeners::One(one) => *self = Listeners::Many(Box::new(vec![*one, new])),
            Listeners::Many(many) => match many.iter_mut().find(|listener| listener.conn == conn) {
                Some(listener) => {
                    listener.times += 1;
                    return false;
                }
                None => many.push(new),
            },
        }
        true
    }

    /// Removes a connection: whether it was there.
    pub(super) fn remove(&mut self, conn: ConnKey) -> bool {
        match self {
            Listeners::One(one) if one.conn == conn => *self = Listeners::None,
            Listeners::Many(many) => {
                let before = many.len();
                many.retain(|listener| listener.conn != conn);
                return many.len() < before;
            }
            _ => return false,
        }
        true
    }

    /// How many submits wait for the end.
    pub(super) fn count(&self) -> usize {
        self.as_slice().iter().map(|listener| listener.times as usize).sum()
    }
}

impl Job {
    pub(super) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// The unique key as a worker is to see it.
    pub(super) fn shown_unique(&self) -> &[u8] {
        match self.unique.as_deref() {
            None => b"",
            Some([0, ..]) => b"-",
            Some(key) => key,
        }
    }

    pub(super) fn reducer(&self) -> Option<&[u8]> {
        self.extra.as_ref()?.reducer.as_deref()
    }

    /// How much is done, of how much; empty if nothing was told.
    pub(super) fn progress(&self) -> (&[u8], &[u8]) {
        let progress = self.extra.as_ref().and_then(|extra| extra.progress.as_ref());
        progress.map_or((b"0", b"0"), |progress| (&progress.done, &progress.total))
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// Nobody hears of its end, and nobody asked for it to run anyway.
    pub(super) fn is_abandoned(&self) -> bool {
        !self.detached && self.listeners.as_slice().is_empty()
    }
}

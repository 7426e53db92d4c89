//! A job of the table, and who hears of it.

use super::keys::{ConnKey, FunctionKey, RunKey};
use super::local::LocalRun;
use super::notices::Ticket;
use super::times::Ticks;
use crate::{JobHandle, Priority, Pulled};
use std::collections::BTreeMap;
use std::time::Instant;

/// Bytes that a job takes besides its payload and key, for the budget.
pub(super) const JOB_BYTES: usize = 128;
/// The same for each connection that listens, but for the first.
pub(super) const LISTENER_BYTES: usize = 64;
/// Bytes of a number in WORK_STATUS at most, where it is kept.
const NUMBER_BYTES: usize = 64;

/// A job, from its submit to its end. There may be millions: what is rare is in `extra`.
pub(super) struct Job {
    pub(super) function: FunctionKey,
    /// Its unique key, and its payload behind it.
    data: Box<[u8]>,
    unique_bytes: u16,
    /// The payload is its key.
    has_payload_key: bool,
    pub(super) listeners: Listeners,
    pub(super) state: State,
    pub(super) priority: Priority,
    /// It runs though nobody listens: a background job, or one that a background job has joined.
    pub(super) detached: bool,
    /// How often it was handed out.
    pub(super) attempts: u16,
    /// When it was queued, or started.
    pub(super) since: Ticks,
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

impl Extra {
    /// What peers have put there.
    fn bytes(&self) -> usize {
        let progress = self.progress.as_ref().map_or(0, |progress| progress.done.len() + progress.total.len());
        self.reducer.as_ref().map_or(0, |reducer| reducer.len()) + progress
    }
}

/// What no other live job of a function may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Unique<'a> {
    None,
    Key(&'a [u8]),
    Payload(&'a [u8]),
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
    /// The number in its handle.
    pub(super) number: u64,
    /// The how manieth hand-out it is.
    pub(super) turn: u64,
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
    /// How often each has submitted it. Boxed: a job without several is smaller.
    #[allow(clippy::box_collection)]
    Many(Box<BTreeMap<ConnKey, u32>>),
}

/// A connection that hears of a job, and how often it has submitted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) conn: ConnKey,
    pub(super) times: u32,
}

impl Listeners {
    pub(super) fn iter(&self) -> impl Iterator<Item = Listener> + '_ {
        let (one, many) = match self {
            Listeners::None => (None, None),
            Listeners::One(one) => (Some(*one), None),
            Listeners::Many(many) => {
                (None, Some(many.iter().map(|(conn, times)| Listener { conn: *conn, times: *times })))
            }
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Listeners::None => 0,
            Listeners::One(_) => 1,
            Listeners::Many(many) => many.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn contains(&self, conn: ConnKey) -> bool {
        match self {
            Listeners::None => false,
            Listeners::One(one) => one.conn == conn,
            Listeners::Many(many) => many.contains_key(&conn),
        }
    }

    /// Adds a connection: whether it is new.
    pub(super) fn add(&mut self, conn: ConnKey) -> bool {
        match self {
            Listeners::None => *self = Listeners::One(Listener { conn, times: 1 }),
            Listeners::One(one) if one.conn == conn => {
                one.times += 1;
                return false;
            }
            Listeners::One(one) => *self = Listeners::Many(Box::new([(one.conn, one.times), (conn, 1)].into())),
            Listeners::Many(many) => {
                let times = many.entry(conn).or_default();
                *times += 1;
                return *times == 1;
            }
        }
        true
    }

    /// Removes a connection: whether it was there.
    pub(super) fn remove(&mut self, conn: ConnKey) -> bool {
        match self {
            Listeners::One(one) if one.conn == conn => *self = Listeners::None,
            Listeners::Many(many) => return many.remove(&conn).is_some(),
            _ => return false,
        }
        true
    }

    /// How many submits wait for the end.
    pub(super) fn count(&self) -> usize {
        self.iter().map(|listener| listener.times as usize).sum()
    }
}

impl Job {
    /// A job that is in no queue.
    pub(super) fn new(
        function: FunctionKey,
        unique: Unique<'_>,
        payload: &[u8],
        priority: Priority,
        detached: bool,
    ) -> Job {
        let key = if let Unique::Key(key) = unique { key } else { &[] };
        Job {
            function,
            data: [key, payload].concat().into_boxed_slice(),
            unique_bytes: u16::try_from(key.len()).expect("keys are short"),
            has_payload_key: matches!(unique, Unique::Payload(_)),
            listeners: Listeners::None,
            state: State::Buried,
            priority,
            detached,
            attempts: 0,
            since: Ticks::NONE,
            extra: None,
        }
    }

    pub(super) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// The payload, and what a worker is to see as unique key.
    pub(super) fn payload(&self) -> &[u8] {
        &self.data[usize::from(self.unique_bytes)..]
    }

    pub(super) fn shown_unique(&self) -> &[u8] {
        if self.has_payload_key { b"-" } else { &self.data[..usize::from(self.unique_bytes)] }
    }

    /// What no other live job of its function may have.
    pub(super) fn unique(&self) -> Unique<'_> {
        match (self.has_payload_key, self.unique_bytes) {
            (true, _) => Unique::Payload(self.payload()),
            (false, 0) => Unique::None,
            (false, _) => Unique::Key(self.shown_unique()),
        }
    }

    /// What it takes of the budget.
    pub(super) fn bytes(&self) -> usize {
        let listeners = LISTENER_BYTES * self.listeners.len().saturating_sub(1);
        JOB_BYTES + self.data.len() + listeners + self.extra.as_ref().map_or(0, |extra| extra.bytes())
    }

    /// Keeps how much is done, of how much. What is too long for a number is not kept.
    pub(super) fn keep_progress(&mut self, done: &[u8], total: &[u8]) {
        if done.len().max(total.len()) <= NUMBER_BYTES {
            self.extra().progress = Some(Progress { done: done.into(), total: total.into() });
        }
    }

    /// Leaves a tombstone: the job itself.
    pub(super) fn bury(&mut self) -> Job {
        let tombstone = Job::new(self.function, Unique::None, &[], self.priority, false);
        std::mem::replace(self, tombstone)
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
        !self.detached && self.listeners.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With 24 bytes in the engine's queue and what an allocator adds to the payload it is to be less than 120.
    #[test]
    fn a_job_is_small() {
        assert!(size_of::<Job>() <= 72, "{} bytes", size_of::<Job>());
        assert!(size_of::<super::super::slots::Slot<Job>>() <= 80);
        assert_eq!(size_of::<Ticket>(), 16);
    }
}

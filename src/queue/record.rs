//! What is known of a job beyond its argument: who hears of it, under which key, and until when.

use super::update::{Audience, OnUpdate};
use crate::job::slot::ResultSlot;
use std::collections::{BTreeSet, HashMap};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// Completes a slot with a clone of the value that is pointed to, whose type the submit knew.
pub(crate) type DeliverClone = unsafe fn(NonNull<ResultSlot>, *const ());

/// What a submit asks for besides running the job.
#[derive(Default)]
pub(crate) struct Terms {
    /// Joins a queued or running job with the same key.
    pub(crate) unique: Option<(Box<[u8]>, DeliverClone)>,
    /// How long it may run.
    pub(crate) timeout: Option<Duration>,
    /// When it must have ended.
    pub(crate) deadline: Option<Instant>,
    /// When it may start.
    pub(crate) at: Option<Instant>,
    /// Hears of updates.
    pub(crate) on_update: Option<OnUpdate>,
    /// Before what is queued of its priority.
    pub(crate) ahead: bool,
    /// No limit keeps it out. It needs no record.
    pub(crate) beyond_limits: bool,
}

impl Terms {
    /// Whether nothing is asked for.
    pub(crate) fn is_empty(&self) -> bool {
        let times = [self.deadline, self.at];
        let has_no_time = self.timeout.is_none() && times.iter().all(Option::is_none);
        self.unique.is_none() && has_no_time && self.on_update.is_none() && !self.ahead
    }
}

/// Names a record of one function; 0 names none.
pub(crate) type RecordId = u64;

/// The slot of somebody who hears of a job.
pub(crate) struct Listener(pub(crate) NonNull<ResultSlot>);

// SAFETY: the job's side of a result slot may move between threads.
unsafe impl Send for Listener {}

/// One job's record.
pub(crate) struct Record {
    /// Those who hear of the end.
    pub(crate) listeners: Vec<NonNull<ResultSlot>>,
    /// Somebody wants it run without hearing of it.
    pub(crate) detached: bool,
    unique: Option<(Box<[u8]>, DeliverClone)>,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    /// When it may start, or might.
    pub(crate) at: Option<Instant>,
    /// When the running job's time is up.
    run_until: Option<Instant>,
    pub(crate) is_running: bool,
    /// How often it was started.
    pub(crate) attempts: u32,
    audience: Option<Audience>,
}

// SAFETY: the job's side of a result slot may move between threads.
unsafe impl Send for Record {}

impl Record {
    /// How to give the value to more than one.
    pub(crate) fn deliver_clone(&self) -> Option<DeliverClone> {
        self.unique.as_ref().map(|unique| unique.1)
    }

    /// Whether nobody would hear of it, or wants it run: all have cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        // SAFETY: the slab's slots live as long as the process; likewise below.
        !self.detached && self.listeners.iter().all(|slot| unsafe { slot.as_ref() }.is_cancel_granted())
    }

    /// The same, with handles that were dropped.
    pub(crate) fn is_abandoned(&self) -> bool {
        let is_gone = |slot: &NonNull<ResultSlot>| {
            // SAFETY: as above.
            let slot = unsafe { slot.as_ref() };
            slot.is_cancel_granted() || slot.is_abandoned()
        };
        !self.detached && self.listeners.iter().all(is_gone)
    }

    /// Whether everybody who hears of it has asked to cancel it.
    pub(crate) fn is_cancel_requested(&self) -> bool {
        // SAFETY: as above.
        !self.detached && self.listeners.iter().all(|slot| unsafe { slot.as_ref() }.is_cancel_requested())
    }

    /// Whether this handle's slot hears of it.
    pub(crate) fn is_heard_by(&self, slot: NonNull<ResultSlot>) -> bool {
        self.listeners.contains(&slot)
    }

    /// Whether anybody is left, after [`begin`](Self::begin).
    pub(crate) fn is_wanted(&self) -> bool {
        self.detached || !self.listeners.is_empty()
    }

    /// The job is about to start, or to end without: who has cancelled it hears of it no more.
    pub(crate) fn begin(&mut self) -> Vec<Listener> {
        // SAFETY: as above.
        let has_cancelled = |slot: &mut NonNull<ResultSlot>| !unsafe { slot.as_ref() }.begin();
        self.listeners.extract_if(.., has_cancelled).map(Listener).collect()
    }

    /// Hears of updates from now on.
    pub(crate) fn listen(&mut self, on_update: Option<OnUpdate>) {
        if let Some(on_update) = on_update {
            self.audience.get_or_insert_with(Audience::new).join(on_update);
        }
    }

    pub(crate) fn audience(&self) -> Option<Audience> {
        self.audience.clone()
    }

    /// One more who hears of it, or wants it run.
    pub(crate) fn join(&mut self, listener: Option<NonNull<ResultSlot>>) {
        match listener {
            None => self.detached = true,
            Some(listener) => {
                // SAFETY: as above.
                let slot = unsafe { listener.as_ref() };
                slot.set_recorded();
                if self.is_running {
                    // A handle that is not yet given out cannot have cancelled.
                    slot.begin();
                }
                self.listeners.push(listener);
            }
        }
    }
}

/// The records of one function.
#[derive(Default)]
pub(crate) struct Records {
    all: HashMap<RecordId, Record>,
    by_key: HashMap<Box<[u8]>, RecordId>,
    /// When to look at which record.
    due: BTreeSet<(Instant, RecordId)>,
    last: RecordId,
}

impl Records {
    /// A new record.
    pub(crate) fn add(&mut self, listener: Option<NonNull<ResultSlot>>, terms: &mut Terms) -> RecordId {
        self.last += 1;
        let id = self.last;
        let mut record = Record {
            listeners: listener.into_iter().collect(),
            detached: listener.is_none(),
            unique: terms.unique.take(),
            timeout: terms.timeout,
            deadline: terms.deadline,
            at: None,
            run_until: None,
            is_running: false,
            attempts: 0,
            audience: None,
        };
        record.listen(terms.on_update.take());
        if let Some((key, _)) = &record.unique {
            self.by_key.insert(key.clone(), id);
        }
        self.look_at(record.deadline, id);
        self.all.insert(id, record);
        id
    }

    /// The job may not start before this time.
    pub(crate) fn delay(&mut self, at: Instant, id: RecordId) {
        if let Some(record) = self.all.get_mut(&id) {
            record.at = Some(at);
            self.look_at(Some(at), id);
        }
    }

    /// Has the record looked at when the time has come.
    fn look_at(&mut self, when: Option<Instant>, id: RecordId) {
        if let Some(when) = when {
            self.due.insert((when, id));
        }
    }

    pub(crate) fn get(&self, id: RecordId) -> Option<&Record> {
        self.all.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: RecordId) -> Option<&mut Record> {
        self.all.get_mut(&id)
    }

    /// The record of the job whose end this handle's slot hears of.
    pub(crate) fn heard_by(&self, slot: NonNull<ResultSlot>) -> Option<RecordId> {
        self.all.iter().find(|(_, record)| record.is_heard_by(slot)).map(|(id, _)| *id)
    }

    /// The record of a queued or running job with this key.
    pub(crate) fn by_key(&self, key: &[u8]) -> Option<RecordId> {
        self.by_key.get(key).copied()
    }

    /// Takes a record out: its job ends now, and its key is free.
    pub(crate) fn remove(&mut self, id: RecordId) -> Option<Record> {
        let record = self.all.remove(&id)?;
        if let Some((key, _)) = &record.unique {
            self.by_key.remove(key);
        }
        for when in [record.deadline, record.at, record.run_until].into_iter().flatten() {
            self.due.remove(&(when, id));
        }
        Some(record)
    }

    /// The job starts.
    pub(crate) fn start(&mut self, id: RecordId) {
        let Some(record) = self.all.get_mut(&id) else { return };
        record.is_running = true;
        record.attempts += 1;
        record.run_until = record.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let until = record.run_until;
        self.look_at(until, id);
    }

    /// A started job goes back to the queue: whether anybody still wants it run. If so, those who have asked to cancel it hear
    /// of it no more.
    pub(crate) fn unstart(&mut self, id: RecordId, cancelled: &mut Vec<Listener>) -> bool {
        let Some(record) = self.all.get_mut(&id) else { return true };
        record.is_running = false;
        let is_wanted = !record.is_cancel_requested();
        if is_wanted {
            // SAFETY: the slab's slots live as long as the process; likewise below.
            let has_asked = |slot: &mut NonNull<ResultSlot>| unsafe { slot.as_ref() }.is_cancel_requested();
            cancelled.extend(record.listeners.extract_if(.., has_asked).map(Listener));
            // SAFETY: as above.
            record.listeners.iter().for_each(|slot| unsafe { slot.as_ref() }.unbegin());
        }
        if let Some(until) = record.run_until.take() {
            self.due.remove(&(until, id));
        }
        is_wanted
    }

    /// The job that had this record is to be run again, under a new one: whoever still has the old one is too late.
    pub(crate) fn renew(&mut self, id: RecordId) -> RecordId {
        let Some(record) = self.remove(id) else { return 0 };
        self.last += 1;
        let new = self.last;
        if let Some((key, _)) = &record.unique {
            self.by_key.insert(key.clone(), new);
        }
        self.look_at(record.deadline, new);
        self.all.insert(new, Record { at: None, run_until: None, ..record });
        new
    }

    /// A record to look at now.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<RecordId> {
        let (when, id) = *self.due.first()?;
        if when > now {
            return None;
        }
        self.due.pop_first();
        Some(id)
    }

    /// When the job could start, if that is over.
    pub(crate) fn not_before(&self, id: RecordId, now: Instant) -> Option<Instant> {
        self.all.get(&id)?.at.filter(|at| *at <= now)
    }

    /// Whether a record's time is up.
    pub(crate) fn is_over(&self, id: RecordId, now: Instant) -> bool {
        self.all.get(&id).is_some_and(|record| {
            let until = [record.deadline, record.run_until];
            until.into_iter().flatten().any(|until| until <= now)
        })
    }

    /// Whether it is the run alone that takes too long.
    pub(crate) fn is_run_over(&self, id: RecordId, now: Instant) -> bool {
        self.all.get(&id).is_some_and(|record| {
            record.run_until.is_some_and(|until| until <= now) && record.deadline.is_none_or(|deadline| deadline > now)
        })
    }

    /// When to look next.
    pub(crate) fn first_due(&self) -> Option<Instant> {
        self.due.first().map(|(when, _)| *when)
    }

    /// Whether any job has one.
    pub(crate) fn has_any(&self) -> bool {
        !self.all.is_empty()
    }
}

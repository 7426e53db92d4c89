//! The queue of a function that limits apply to, without its lock: what is queued in which order, and what may start.

use super::block::detached;
use super::limits::{Limits, Overflow};
use super::priority::Priority;
use super::record::{Listener, Record, RecordId, Records, Terms};
use crate::error::JobError;
use crate::job::slot::ResultSlot;
use std::collections::{BTreeMap, VecDeque};
use std::ptr::NonNull;
use std::time::Instant;

/// A queued job.
pub(crate) struct Entry<S> {
    /// Its result slot, or `detached`. If it has a record, those who hear of it are there.
    pub(crate) control: *mut ResultSlot,
    pub(crate) stored: S,
    /// Its record, or 0. A job whose record is gone has ended already.
    pub(crate) record: RecordId,
}

// SAFETY: the job's side of a result slot may move between threads.
unsafe impl<S: Send> Send for Entry<S> {}

impl<S> Entry<S> {
    /// A job without a record.
    pub(crate) fn new(control: *mut ResultSlot, stored: S) -> Self {
        Entry { control, stored, record: 0 }
    }

    /// The handle's slot, if there is one.
    pub(crate) fn listener(&self) -> Option<NonNull<ResultSlot>> {
        NonNull::new(self.control).filter(|slot| slot.as_ptr() != detached())
    }
}

/// What has ended, for the caller to tell without the lock: that runs others' code.
pub(crate) struct Ends<S> {
    /// Jobs that are not run, and why.
    pub(crate) entries: Vec<(Entry<S>, JobError)>,
    /// Records whose jobs are over, and why.
    pub(crate) records: Vec<(Record, JobError)>,
    /// Those who cancelled a job that others still want.
    pub(crate) cancelled: Vec<Listener>,
}

impl<S> Ends<S> {
    pub(crate) fn new() -> Self {
        Ends { entries: Vec::new(), records: Vec::new(), cancelled: Vec::new() }
    }

    pub(crate) fn append(&mut self, other: &mut Ends<S>) {
        self.entries.append(&mut other.entries);
        self.records.append(&mut other.records);
        self.cancelled.append(&mut other.cancelled);
    }
}

/// The jobs and limits of one function.
pub(crate) struct State<S> {
    jobs: [VecDeque<Entry<S>>; 3],
    /// Jobs that may not start yet.
    delayed: BTreeMap<(Instant, RecordId), (Priority, Entry<S>)>,
    pub(crate) records: Records,
    /// Entries among the jobs whose record is gone.
    dead: usize,
    running: usize,
    limits: Limits,
    paused: bool,
    resume_at: Option<Instant>,
    /// What was accepted is to end: nothing may hold it up for ever.
    ending: bool,
    /// Takes no more submits.
    closed: bool,
}

/// Whether there is room for one more.
enum Room {
    Yes,
    /// If a job of this priority goes.
    Instead(Priority),
    No,
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    Closed,
    Full,
    /// There will be: the caller may wait.
    Wait,
}

/// What can be asked whatever the type of the jobs.
pub(crate) trait Controls {
    fn limits(&self) -> Limits;
    fn set_limits(&mut self, limits: Limits);
    fn is_paused(&self) -> bool;
    /// Keeps jobs from starting, or no longer. Not in a function that is ending.
    fn set_paused(&mut self, paused: bool, until: Option<Instant>);
}

impl<S> Controls for State<S> {
    fn limits(&self) -> Limits {
        self.limits.clone()
    }

    fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    fn is_paused(&self) -> bool {
        self.paused
    }

    fn set_paused(&mut self, paused: bool, until: Option<Instant>) {
        self.paused = paused && !self.ending;
        self.resume_at = until.filter(|_| self.paused);
    }
}

impl<S> State<S> {
    pub(crate) fn new(closed: bool) -> Self {
        State {
            jobs: std::array::from_fn(|_| VecDeque::new()),
            delayed: BTreeMap::new(),
            records: Records::default(),
            dead: 0,
            running: 0,
            limits: Limits::default(),
            paused: false,
            resume_at: None,
            ending: closed,
            closed,
        }
    }

    /// What was accepted is to end: jobs that are not due never will be.
    pub(crate) fn start_ending(&mut self, ends: &mut Ends<S>) {
        self.ending = true;
        self.paused = false;
        for (_, (_, entry)) in std::mem::take(&mut self.delayed) {
            self.end(entry, JobError::Cancelled, ends);
        }
    }

    /// Takes no more submits.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Jobs of a priority that are accepted and not started.
    pub(crate) fn queued(&self, priority: Priority) -> usize {
        let delayed = self.delayed.values().filter(|(of, _)| *of == priority).count();
        let is_dead =
            |entry: &&Entry<S>| entry.record != 0 && self.records.get(entry.record).is_none_or(Record::is_cancelled);
        let jobs = &self.jobs[priority.index()];
        let dead = if self.dead > 0 || self.records.has_any() { jobs.iter().filter(is_dead).count() } else { 0 };
        delayed + jobs.len() - dead
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// Including those that have ended and lie there.
    fn total(&self) -> usize {
        self.jobs.iter().map(VecDeque::len).sum::<usize>() + self.delayed.len()
    }

    /// How many jobs may start now, at most.
    pub(crate) fn startable(&self) -> usize {
        if self.paused {
            return 0;
        }
        let most = self.limits.concurrency.unwrap_or(usize::MAX).max(usize::from(self.ending));
        most.saturating_sub(self.running).min(self.total() - self.delayed.len())
    }

    /// Whether a job of this priority may start now.
    pub(crate) fn may_start(&self, priority: Priority) -> bool {
        !self.jobs[priority.index()].is_empty() && self.startable() > 0
    }

    /// Takes the first job of a priority that is to run, if one may start.
    pub(crate) fn start(&mut self, priority: Priority, ends: &mut Ends<S>) -> Option<Entry<S>> {
        while self.may_start(priority) {
            let entry = self.jobs[priority.index()].pop_front()?;
            if let Some(entry) = self.begin(entry, ends) {
                self.running += 1;
                return Some(entry);
            }
        }
        None
    }

    /// A job is about to start: it comes back if it is to run.
    fn begin(&mut self, entry: Entry<S>, ends: &mut Ends<S>) -> Option<Entry<S>> {
        if entry.record == 0 {
            // SAFETY: the slab's slots live as long as the process.
            let is_abandoned = entry.listener().is_some_and(|slot| unsafe { slot.as_ref() }.is_abandoned());
            if is_abandoned && self.limits.drops_abandoned {
                ends.entries.push((entry, JobError::Cancelled));
                return None;
            }
            return Some(entry);
        }
        let Some(record) = self.records.get_mut(entry.record) else {
            self.dead -= 1;
            ends.entries.push((entry, JobError::Cancelled));
            return None;
        };
        if record.is_cancelled() || (self.limits.drops_abandoned && record.is_abandoned()) {
            self.end(entry, JobError::Cancelled, ends);
            return None;
        }
        ends.cancelled.extend(record.begin());
        self.records.start(entry.record);
        Some(entry)
    }

    /// A job that was started has ended, or gone back.
    pub(crate) fn ended(&mut self) {
        self.running -= 1;
    }

    /// Ends a job that was taken out of the queue.
    fn end(&mut self, entry: Entry<S>, why: JobError, ends: &mut Ends<S>) {
        if let Some(record) = self.records.remove(entry.record) {
            ends.records.push((record, why.copy()));
        } else if entry.record != 0 {
            self.dead -= 1;
        }
        ends.entries.push((entry, why));
    }

    /// Joins a job with the same key that is queued or runs: whether there is one.
    pub(crate) fn join(&mut self, terms: &Terms, listener: Option<NonNull<ResultSlot>>, ends: &mut Ends<S>) -> bool {
        let Some((key, _)) = &terms.unique else { return false };
        let Some(id) = self.records.by_key(key) else { return false };
        let Some(record) = self.records.get_mut(id) else { return false };
        if record.is_cancelled() && !record.is_running {
            // All who heard of it have cancelled: the key is free, and its entry is met later.
            ends.records.extend(self.records.remove(id).map(|record| (record, JobError::Cancelled)));
            self.dead += 1;
            return false;
        }
        record.join(listener);
        true
    }

    /// Appends a job that there is room for.
    pub(crate) fn admit(&mut self, priority: Priority, mut entry: Entry<S>, mut terms: Terms) {
        if !terms.is_empty() {
            let listener = entry.listener();
            if let Some(slot) = listener {
                // SAFETY: the slab's slots live as long as the process.
                unsafe { slot.as_ref() }.set_recorded();
            }
            entry.record = self.records.add(listener, &mut terms);
            entry.control = detached();
        }
        match terms.at {
            Some(at) => {
                self.records.look_at(Some(at), entry.record);
                self.delayed.insert((at, entry.record), (priority, entry));
            }
            None => self.append(priority, entry),
        }
    }

    /// Appends a job, whatever the limits: it was accepted before.
    pub(crate) fn append(&mut self, priority: Priority, entry: Entry<S>) {
        self.jobs[priority.index()].push_back(entry);
    }

    /// Puts jobs before all others of their priority, in their order.
    pub(crate) fn put_first(&mut self, priority: Priority, entries: impl DoubleEndedIterator<Item = Entry<S>>) {
        entries.rev().for_each(|entry| self.jobs[priority.index()].push_front(entry));
    }

    /// A job that was started goes back, before all others; one whose record is gone meanwhile has ended.
    pub(crate) fn unstart(&mut self, priority: Priority, entry: Entry<S>, ends: &mut Ends<S>) {
        if entry.record != 0 && self.records.get(entry.record).is_none() {
            ends.entries.push((entry, JobError::Cancelled));
            return;
        }
        if self.records.unstart(entry.record) {
            self.put_first(priority, std::iter::once(entry));
        } else {
            self.end(entry, JobError::Cancelled, ends);
        }
    }

    /// Makes room for a new job.
    pub(crate) fn make_room(&mut self, priority: Priority, ends: &mut Ends<S>) -> Result<(), NoRoom> {
        if self.closed {
            return Err(NoRoom::Closed);
        }
        let mut gone = Vec::new();
        loop {
            match self.room(priority) {
                Room::Yes => {
                    gone.into_iter().for_each(|(_, entry)| self.end(entry, JobError::Evicted, ends));
                    return Ok(());
                }
                Room::Instead(from) => {
                    let evicts_oldest = self.evicts_oldest();
                    let jobs = &mut self.jobs[from.index()];
                    let entry = if evicts_oldest { jobs.pop_front() } else { jobs.pop_back() };
                    gone.push((from, entry.expect("not empty")));
                }
                Room::No => {
                    // What was to go for it stays.
                    gone.into_iter().rev().for_each(|(from, entry)| self.take_back(from, entry));
                    let is_worth_waiting = self.limits.overflow == Overflow::Block;
                    return Err(if is_worth_waiting { NoRoom::Wait } else { NoRoom::Full });
                }
            }
        }
    }

    fn evicts_oldest(&self) -> bool {
        self.limits.overflow == Overflow::EvictOldest
    }

    fn take_back(&mut self, from: Priority, entry: Entry<S>) {
        let oldest = self.evicts_oldest();
        let jobs = &mut self.jobs[from.index()];
        if oldest { jobs.push_front(entry) } else { jobs.push_back(entry) }
    }

    fn room(&self, priority: Priority) -> Room {
        let is_full = |limit: Option<usize>, queued: usize| limit.is_some_and(|most| queued >= most);
        let evicts = matches!(self.limits.overflow, Overflow::EvictNewest | Overflow::EvictOldest);
        let instead = |from: Option<Priority>| from.filter(|_| evicts).map_or(Room::No, Room::Instead);
        let some_of = |p: &Priority| !self.jobs[p.index()].is_empty();
        if let limit @ Some(_) = self.limits.capacity_of[priority.index()]
            && is_full(limit, self.jobs[priority.index()].len())
        {
            return instead(Some(priority).filter(some_of));
        }
        if is_full(self.limits.capacity, self.total()) {
            let least_urgent = Priority::ALL.into_iter().rev().find(some_of);
            return instead(least_urgent.filter(|from| *from >= priority));
        }
        Room::Yes
    }

    /// Takes out what has been cancelled, or has ended, so that it takes no room: whether there was any.
    pub(crate) fn sweep(&mut self, ends: &mut Ends<S>) -> bool {
        let before = self.total();
        for i in 0..self.jobs.len() {
            let jobs = std::mem::take(&mut self.jobs[i]);
            let (gone, kept): (VecDeque<_>, _) = jobs.into_iter().partition(|entry| self.is_over(entry));
            self.jobs[i] = kept;
            gone.into_iter().for_each(|entry| self.end(entry, JobError::Cancelled, ends));
        }
        self.total() < before
    }

    fn is_over(&self, entry: &Entry<S>) -> bool {
        if entry.record != 0 {
            return self.records.get(entry.record).is_none_or(Record::is_cancelled);
        }
        // SAFETY: the slab's slots live as long as the process.
        entry.listener().is_some_and(|slot| unsafe { slot.as_ref() }.is_cancel_granted())
    }

    /// Takes everything out.
    pub(crate) fn clear(&mut self, ends: &mut Ends<S>) {
        let delayed = std::mem::take(&mut self.delayed).into_values().map(|(_, entry)| entry);
        let jobs = self.jobs.each_mut().map(std::mem::take).into_iter().flatten();
        for entry in jobs.chain(delayed).collect::<Vec<_>>() {
            self.end(entry, JobError::Cancelled, ends);
        }
    }

    // Time.

    /// Does what is due by now.
    pub(crate) fn tick(&mut self, now: Instant, ends: &mut Ends<S>) {
        if self.resume_at.is_some_and(|at| at <= now) {
            self.set_paused(false, None);
        }
        while let Some(id) = self.records.next_due(now) {
            let is_over = self.records.is_over(id, now);
            let released = self.delayed.first_key_value().is_some_and(|((at, first), _)| *at <= now && *first == id);
            if is_over {
                self.time_out(id, released, ends);
            } else if released && let Some((_, (priority, entry))) = self.delayed.pop_first() {
                self.append(priority, entry);
            }
        }
    }

    /// A job's time is up, wherever it is.
    fn time_out(&mut self, id: RecordId, released: bool, ends: &mut Ends<S>) {
        let Some(record) = self.records.remove(id) else { return };
        let is_delayed = |key: &&(Instant, RecordId)| key.1 == id;
        if released {
            ends.entries.extend(self.delayed.pop_first().map(|(_, (_, entry))| (entry, JobError::TimedOut)));
        } else if let Some(key) = self.delayed.keys().find(is_delayed).copied() {
            ends.entries.extend(self.delayed.remove(&key).map(|(_, entry)| (entry, JobError::TimedOut)));
        } else if !record.is_running {
            self.dead += 1;
        }
        ends.records.push((record, JobError::TimedOut));
    }

    /// When `tick` has something to do next.
    pub(crate) fn first_due(&self) -> Option<Instant> {
        [self.records.first_due(), self.resume_at].into_iter().flatten().min()
    }
}

//! The queue of a function that limits apply to, without its lock: what is queued in which order, and what may start.

mod delayed;
mod look;
mod sweep;

pub(crate) use look::{Look, Place};

use self::delayed::Delayed;
use super::block::detached;
use super::limits::{Limits, Overflow};
use super::priority::Priority;
use super::record::{Listener, Record, RecordId, Records, Terms};
use super::retry::{DeadJob, Retry};
use crate::clock;
use crate::error::JobError;
use crate::job::slot::ResultSlot;
use std::collections::{HashMap, VecDeque};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// One of so many jobs has its wait noted.
const SAMPLED: u64 = 16;

/// A queued job.
pub(crate) struct Entry<S> {
    /// Its result slot, or `detached`. If it has a record, those who hear of it are there.
    pub(crate) control: *mut ResultSlot,
    pub(crate) stored: S,
    /// Its record, or 0. A job whose record is gone has ended already.
    pub(crate) record: RecordId,
    /// A clone of the argument, for another attempt.
    pub(crate) again: Option<S>,
    /// When it was queued, if its wait is a sample.
    pub(crate) stamp: Option<u64>,
}

// SAFETY: the job's side of a result slot may move between threads.
unsafe impl<S: Send> Send for Entry<S> {}

impl<S> Entry<S> {
    /// A job without a record.
    pub(crate) fn new(control: *mut ResultSlot, stored: S) -> Self {
        Entry { control, stored, record: 0, again: None, stamp: None }
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
    /// Arguments that no attempt will need any more.
    pub(crate) unused: Vec<S>,
    /// Jobs put on the dead list.
    pub(crate) dead: u64,
}

impl<S> Ends<S> {
    pub(crate) fn new() -> Self {
        Ends { entries: Vec::new(), records: Vec::new(), cancelled: Vec::new(), unused: Vec::new(), dead: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let Ends { entries, records, cancelled, unused, dead } = self;
        entries.is_empty() && records.is_empty() && cancelled.is_empty() && unused.is_empty() && *dead == 0
    }

    pub(crate) fn append(&mut self, other: &mut Ends<S>) {
        self.entries.append(&mut other.entries);
        self.records.append(&mut other.records);
        self.cancelled.append(&mut other.cancelled);
        self.unused.append(&mut other.unused);
        self.dead += std::mem::take(&mut other.dead);
    }
}

/// The jobs and limits of one function.
pub(crate) struct State<S> {
    jobs: [VecDeque<Entry<S>>; 3],
    /// Jobs that may not start yet.
    delayed: Delayed<S>,
    pub(crate) records: Records,
    /// Entries among the jobs whose record is gone.
    gone: usize,
    /// Cancels that were granted, whose jobs are not in the queue any more as far as is known.
    swept: Option<u32>,
    /// Set if lost jobs are run again.
    pub(crate) retry: Option<Retrying<S>>,
    /// For another attempt, of jobs that run.
    again: HashMap<RecordId, (Priority, S)>,
    /// Jobs that were run too often, oldest first.
    dead: VecDeque<Dead<S>>,
    /// Jobs on their way from a lost attempt to the next.
    in_hand: usize,
    running: usize,
    /// Jobs that run and started before the function was managed.
    pub(crate) earlier: usize,
    /// Attempts of jobs with a record that run though that was taken, or is another attempt's by now.
    late: usize,
    limits: Limits,
    /// The wait of each job is noted, and not that of some.
    pub(crate) exact: bool,
    /// Jobs that were accepted.
    accepted: u64,
    paused: bool,
    resume_at: Option<Instant>,
    /// What was accepted is to end: nothing may hold it up for ever.
    ending: bool,
    /// Takes no more submits.
    closed: bool,
}

/// How lost jobs are run again.
pub(crate) struct Retrying<S> {
    pub(crate) policy: Retry,
    /// Clones an argument.
    pub(crate) clone: fn(&S) -> S,
}

/// A job that was run too often.
struct Dead<S> {
    number: u64,
    attempts: u32,
    reason: String,
    priority: Priority,
    stored: S,
}

/// A job between two attempts.
pub(crate) struct InHand<S> {
    record: RecordId,
    priority: Priority,
    pub(crate) stored: S,
    pub(crate) clone: fn(&S) -> S,
    delay: Duration,
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
    /// Has the time of each job noted, or of some.
    fn set_exact(&mut self, exact: bool);
    fn is_paused(&self) -> bool;
    fn dead(&self) -> Vec<DeadJob>;
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

    fn set_exact(&mut self, exact: bool) {
        self.exact = exact;
    }

    fn is_paused(&self) -> bool {
        self.paused
    }

    fn dead(&self) -> Vec<DeadJob> {
        let dead =
            |dead: &Dead<S>| DeadJob { number: dead.number, attempts: dead.attempts, reason: dead.reason.clone() };
        self.dead.iter().map(dead).collect()
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
            delayed: Delayed::new(),
            records: Records::default(),
            gone: 0,
            swept: None,
            retry: None,
            again: HashMap::new(),
            dead: VecDeque::new(),
            in_hand: 0,
            running: 0,
            earlier: 0,
            late: 0,
            limits: Limits::default(),
            exact: false,
            accepted: 0,
            paused: false,
            resume_at: None,
            ending: closed,
            closed,
        }
    }

    /// What was accepted is to end: jobs that are not due never will be, and those that wait for another attempt have it now.
    pub(crate) fn start_ending(&mut self, ends: &mut Ends<S>) {
        self.ending = true;
        self.set_paused(false, None);
        for (priority, entry) in self.delayed.take() {
            let is_retry = self.records.get(entry.record).is_some_and(|record| record.attempts > 0);
            if is_retry {
                self.append(priority, entry);
            } else {
                self.end(entry, JobError::Cancelled, ends);
            }
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
        let is_wanted = |entry: &Entry<S>| self.records.get(entry.record).is_some_and(|record| !record.is_cancelled());
        let delayed = self.delayed.iter().filter(|(_, of, entry)| *of == priority && is_wanted(entry)).count();
        let is_dead =
            |entry: &&Entry<S>| entry.record != 0 && self.records.get(entry.record).is_none_or(Record::is_cancelled);
        let jobs = &self.jobs[priority.index()];
        let dead = if self.gone > 0 || self.records.has_any() { jobs.iter().filter(is_dead).count() } else { 0 };
        delayed + jobs.len() - dead
    }

    /// Queued jobs that nobody wants any more, and that count as queued no longer.
    pub(crate) fn cancelled(&self) -> usize {
        if !self.records.has_any() {
            return 0;
        }
        let entries = self.jobs.iter().flatten().chain(self.delayed.iter().map(|(_, _, entry)| entry));
        entries.filter(|entry| self.records.get(entry.record).is_some_and(Record::is_cancelled)).count()
    }

    /// Jobs that run though their end was told, or another attempt has begun.
    pub(crate) fn late(&self) -> usize {
        self.late
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.total() + self.in_hand == 0
    }

    /// Whether no job is queued or will be: one with a record may be run again, or be told of.
    pub(crate) fn is_settled(&self) -> bool {
        self.closed && self.is_empty() && !self.records.has_any()
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
        most.saturating_sub(self.running + self.earlier).min(self.total() - self.delayed.len())
    }

    /// Whether a job of this priority may start now.
    pub(crate) fn may_start(&self, priority: Priority) -> bool {
        !self.jobs[priority.index()].is_empty() && self.startable() > 0
    }

    /// Takes the first job of a priority that is to run, if one may start.
    pub(crate) fn start(&mut self, priority: Priority, ends: &mut Ends<S>) -> Option<Entry<S>> {
        while self.may_start(priority) {
            let entry = self.jobs[priority.index()].pop_front()?;
            if let Some(entry) = self.begin(priority, entry, ends) {
                self.running += 1;
                return Some(entry);
            }
        }
        None
    }

    /// A job is about to start: it comes back if it is to run.
    fn begin(&mut self, priority: Priority, entry: Entry<S>, ends: &mut Ends<S>) -> Option<Entry<S>> {
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
            self.gone -= 1;
            ends.entries.push((entry, JobError::Cancelled));
            return None;
        };
        if record.is_cancelled() || (self.limits.drops_abandoned && record.is_abandoned()) {
            self.end(entry, JobError::Cancelled, ends);
            return None;
        }
        ends.cancelled.extend(record.begin());
        if !record.is_wanted() {
            // Cancelled since the look above, or asked to while it was out.
            self.end(entry, JobError::Cancelled, ends);
            return None;
        }
        self.records.start(entry.record);
        let mut entry = entry;
        if let Some(again) = entry.again.take() {
            self.again.insert(entry.record, (priority, again));
        }
        Some(entry)
    }

    /// A job that was started has ended, or gone back.
    pub(crate) fn ended(&mut self) {
        self.running -= 1;
    }

    /// Jobs that run, of those that were started from here.
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// Ends a job that was taken out of the queue.
    fn end(&mut self, entry: Entry<S>, why: JobError, ends: &mut Ends<S>) {
        if let Some(record) = self.records.remove(entry.record) {
            ends.records.push((record, why.copy()));
        } else if entry.record != 0 {
            self.gone -= 1;
        }
        ends.entries.push((entry, why));
    }

    /// Joins a job with the same key that is queued or runs: whether there is one.
    pub(crate) fn join(
        &mut self,
        terms: &mut Terms,
        listener: Option<NonNull<ResultSlot>>,
        ends: &mut Ends<S>,
    ) -> bool {
        let Some((key, _)) = &terms.unique else { return false };
        let Some(id) = self.records.by_key(key) else { return false };
        let Some(record) = self.records.get_mut(id) else { return false };
        if record.is_cancelled() && !record.is_running {
            // All who heard of it have cancelled: the key is free. Its entry is met later, unless that is for the clock.
            let Some(record) = self.records.remove(id) else { return false };
            match self.delayed.remove(record.at, id) {
                Some((_, entry)) => ends.entries.push((entry, JobError::Cancelled)),
                None => self.gone += 1,
            }
            ends.records.push((record, JobError::Cancelled));
            return false;
        }
        record.join(listener);
        record.listen(terms.on_update.take());
        true
    }

    /// Appends a job that there is room for.
    pub(crate) fn admit(&mut self, priority: Priority, mut entry: Entry<S>, mut terms: Terms) {
        self.accepted += 1;
        if self.exact || self.accepted % SAMPLED == 0 {
            entry.stamp = Some(clock::now());
        }
        if !terms.is_empty() || entry.again.is_some() {
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
                self.records.delay(at, entry.record);
                self.delayed.insert(at, priority, entry);
            }
            None if terms.ahead => self.put_first(priority, std::iter::once(entry)),
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
            self.late -= 1;
            ends.entries.push((entry, JobError::Cancelled));
            return;
        }
        let mut entry = entry;
        entry.again = self.again.remove(&entry.record).map(|(_, again)| again);
        if self.records.unstart(entry.record, &mut ends.cancelled) {
            self.put_first(priority, std::iter::once(entry));
        } else {
            self.end(entry, JobError::Cancelled, ends);
        }
    }

    /// Whether there is room for a new job as it is.
    pub(crate) fn has_room(&self, priority: Priority) -> bool {
        matches!(self.room(priority), Room::Yes)
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

    fn evicts(&self) -> bool {
        matches!(self.limits.overflow, Overflow::EvictNewest | Overflow::EvictOldest)
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
        let instead = |from: Option<Priority>| from.filter(|_| self.evicts()).map_or(Room::No, Room::Instead);
        let some_of = |p: &Priority| !self.jobs[p.index()].is_empty();
        let of_priority = || self.jobs[priority.index()].len() + self.delayed.len_of(priority);
        if let limit @ Some(_) = self.limits.capacity_of[priority.index()]
            && is_full(limit, of_priority())
        {
            return instead(Some(priority).filter(some_of));
        }
        if is_full(self.limits.capacity, self.total()) {
            let least_urgent = Priority::ALL.into_iter().rev().find(some_of);
            return instead(least_urgent.filter(|from| *from >= priority));
        }
        Room::Yes
    }

    fn is_over(&self, entry: &Entry<S>) -> bool {
        if entry.record != 0 {
            return self.records.get(entry.record).is_none_or(Record::is_cancelled);
        }
        // SAFETY: the slab's slots live as long as the process.
        entry.listener().is_some_and(|slot| unsafe { slot.as_ref() }.is_cancel_granted())
    }

    /// Takes everything out, for good: what comes after it is cleared as well.
    pub(crate) fn clear(&mut self, ends: &mut Ends<S>) {
        self.ending = true;
        self.set_paused(false, None);
        let delayed = self.delayed.take().map(|(_, entry)| entry);
        let jobs = self.jobs.each_mut().map(std::mem::take).into_iter().flatten();
        for entry in jobs.chain(delayed).collect::<Vec<_>>() {
            self.end(entry, JobError::Cancelled, ends);
        }
    }

    // Losing and retrying.

    /// A job's attempt has ended with its result: `None` if that was told before, or is another attempt's to tell.
    pub(crate) fn settle(&mut self, id: RecordId) -> (Option<Record>, Option<S>) {
        let again = self.again.remove(&id).map(|(_, again)| again);
        let record = self.records.remove(id);
        self.late -= usize::from(record.is_none());
        (record, again)
    }

    /// A job's attempt was lost: it comes back to be cloned for the next, without the lock, and then to
    /// [`run_again`](Self::run_again). `None` if it has ended, now or before.
    pub(crate) fn lose(&mut self, id: RecordId, why: JobError, ends: &mut Ends<S>) -> Option<InHand<S>> {
        if self.records.get(id).is_none() {
            self.late -= 1;
            return None;
        }
        self.lose_attempt(id, why, ends)
    }

    fn lose_attempt(&mut self, id: RecordId, why: JobError, ends: &mut Ends<S>) -> Option<InHand<S>> {
        let again = self.again.remove(&id);
        let record = self.records.get(id)?;
        let (attempts, is_wanted) = (record.attempts, !record.is_cancel_requested());
        let retry = self.retry.as_ref().map(|retry| (retry.policy.clone(), retry.clone));
        match (again, retry) {
            (Some((priority, stored)), Some((policy, clone))) if is_wanted && attempts < policy.attempts => {
                self.in_hand += 1;
                self.records.unstart(id, &mut ends.cancelled);
                let record = self.records.renew(id);
                return Some(InHand { record, priority, stored, clone, delay: policy.delay });
            }
            (Some((priority, stored)), Some((policy, _))) if is_wanted => {
                let number = id;
                self.dead.push_back(Dead { number, attempts, reason: why.to_string(), priority, stored });
                ends.dead += 1;
                while self.dead.len() > policy.dead {
                    ends.unused.extend(self.dead.pop_front().map(|dead| dead.stored));
                }
            }
            (Some((_, stored)), _) => ends.unused.push(stored),
            (None, _) => {}
        }
        ends.records.extend(self.records.remove(id).map(|record| (record, why)));
        None
    }

    /// The next attempt of a job, with a clone for the one after it, if that was to be had.
    pub(crate) fn run_again(&mut self, job: InHand<S>, again: Option<S>, ends: &mut Ends<S>) {
        self.in_hand -= 1;
        let InHand { record, priority, stored, delay, .. } = job;
        let stamp = self.exact.then(clock::now);
        let entry = Entry { record, again, stamp, ..Entry::new(detached(), stored) };
        if self.records.get(record).is_none() {
            // Its deadline has passed meanwhile, and was told.
            ends.unused.push(entry.stored);
            ends.unused.extend(entry.again);
        } else if delay.is_zero() || self.ending {
            self.put_first(priority, std::iter::once(entry));
        } else {
            let at = Instant::now().checked_add(delay).unwrap_or_else(Instant::now);
            self.records.delay(at, record);
            self.delayed.insert(at, priority, entry);
        }
    }

    /// Takes a job off the dead list.
    pub(crate) fn take_dead(&mut self, number: u64) -> Option<(Priority, S)> {
        let at = self.dead.iter().position(|dead| dead.number == number)?;
        self.dead.remove(at).map(|dead| (dead.priority, dead.stored))
    }

    // Time.

    /// Does what is due by now. Jobs whose attempt is lost come back, as from [`lose`](Self::lose).
    pub(crate) fn tick(&mut self, now: Instant, ends: &mut Ends<S>) -> Vec<InHand<S>> {
        let mut lost = Vec::new();
        if self.resume_at.is_some_and(|at| at <= now) {
            self.set_paused(false, None);
        }
        while let Some(id) = self.records.next_due(now) {
            let is_over = self.records.is_over(id, now);
            let may_retry = self.retry.as_ref().is_some_and(|retry| retry.policy.timeouts);
            if is_over && may_retry && self.records.is_run_over(id, now) {
                // It runs on.
                self.late += 1;
                lost.extend(self.lose_attempt(id, JobError::TimedOut, ends));
            } else if is_over {
                self.time_out(id, ends);
            } else if let Some((priority, mut entry)) = self.delayed.remove(self.records.not_before(id, now), id) {
                // It was not to start before.
                entry.stamp = entry.stamp.map(|_| clock::now());
                self.append(priority, entry);
            }
        }
        lost
    }

    /// A job's time is up, wherever it is.
    fn time_out(&mut self, id: RecordId, ends: &mut Ends<S>) {
        let Some(record) = self.records.remove(id) else { return };
        ends.unused.extend(self.again.remove(&id).map(|(_, again)| again));
        self.late += usize::from(record.is_running);
        if let Some((_, entry)) = self.delayed.remove(record.at, id) {
            ends.entries.push((entry, JobError::TimedOut));
        } else if !record.is_running {
            self.gone += 1;
        }
        ends.records.push((record, JobError::TimedOut));
    }

    /// When `tick` has something to do next.
    pub(crate) fn first_due(&self) -> Option<Instant> {
        [self.records.first_due(), self.resume_at].into_iter().flatten().min()
    }
}

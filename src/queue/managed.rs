//! The queue of a function that limits apply to, without its lock: what is queued in which order, and what may start.

use super::limits::{Limits, Overflow};
use super::priority::Priority;
use crate::job::slot::ResultSlot;
use std::collections::VecDeque;

/// A queued job.
pub(crate) struct Entry<S> {
    /// Its result slot, or `detached`.
    pub(crate) control: *mut ResultSlot,
    pub(crate) stored: S,
}

// SAFETY: the job's side of a result slot may move between threads.
unsafe impl<S: Send> Send for Entry<S> {}

/// The jobs and limits of one function.
pub(crate) struct State<S> {
    jobs: [VecDeque<Entry<S>>; 3],
    running: usize,
    limits: Limits,
    paused: bool,
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
    fn set_paused(&mut self, paused: bool);
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

    fn set_paused(&mut self, paused: bool) {
        self.paused = paused && !self.ending;
    }
}

impl<S> State<S> {
    pub(crate) fn new(closed: bool) -> Self {
        let jobs = std::array::from_fn(|_| VecDeque::new());
        State { jobs, running: 0, limits: Limits::default(), paused: false, ending: closed, closed }
    }

    /// What was accepted is to end.
    pub(crate) fn start_ending(&mut self) {
        self.ending = true;
        self.paused = false;
    }

    /// Takes no more submits.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn queued(&self, priority: Priority) -> usize {
        self.jobs[priority.index()].len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.total() == 0
    }

    fn total(&self) -> usize {
        self.jobs.iter().map(VecDeque::len).sum()
    }

    /// How many jobs may start now.
    pub(crate) fn startable(&self) -> usize {
        if self.paused {
            return 0;
        }
        let most = self.limits.concurrency.unwrap_or(usize::MAX).max(usize::from(self.ending));
        most.saturating_sub(self.running).min(self.total())
    }

    /// Whether a job of this priority may start now.
    pub(crate) fn may_start(&self, priority: Priority) -> bool {
        !self.jobs[priority.index()].is_empty() && self.startable() > 0
    }

    /// Takes the first job of a priority, if it may start.
    pub(crate) fn start(&mut self, priority: Priority) -> Option<Entry<S>> {
        if !self.may_start(priority) {
            return None;
        }
        self.running += 1;
        self.jobs[priority.index()].pop_front()
    }

    /// A job that was started has ended, or gone back.
    pub(crate) fn ended(&mut self) {
        self.running -= 1;
    }

    /// Appends a job, whatever the limits: it was accepted before.
    pub(crate) fn append(&mut self, priority: Priority, entry: Entry<S>) {
        self.jobs[priority.index()].push_back(entry);
    }

    /// Puts jobs before all others of their priority, in their order.
    pub(crate) fn put_first(&mut self, priority: Priority, entries: impl DoubleEndedIterator<Item = Entry<S>>) {
        entries.rev().for_each(|entry| self.jobs[priority.index()].push_front(entry));
    }

    /// Makes room for a new job: what had to go for it, or why there is none.
    pub(crate) fn make_room(&mut self, priority: Priority) -> Result<Vec<Entry<S>>, NoRoom> {
        if self.closed {
            return Err(NoRoom::Closed);
        }
        let mut gone = Vec::new();
        loop {
            match self.room(priority) {
                Room::Yes => return Ok(gone.into_iter().map(|(_, entry)| entry).collect()),
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
        let is_full = |limit: Option<usize>, queued| limit.is_some_and(|most| queued >= most);
        let evicts = matches!(self.limits.overflow, Overflow::EvictNewest | Overflow::EvictOldest);
        let instead = |from: Option<Priority>| from.filter(|_| evicts).map_or(Room::No, Room::Instead);
        let some_of = |p: &Priority| self.queued(*p) > 0;
        if is_full(self.limits.capacity_of[priority.index()], self.queued(priority)) {
            return instead(Some(priority).filter(some_of));
        }
        if is_full(self.limits.capacity, self.total()) {
            let least_urgent = Priority::ALL.into_iter().rev().find(some_of);
            return instead(least_urgent.filter(|from| *from >= priority));
        }
        Room::Yes
    }

    /// Takes out the jobs that `is_dead` says, so that they do not take room.
    pub(crate) fn sweep(&mut self, is_dead: impl Fn(&Entry<S>) -> bool) -> Vec<Entry<S>> {
        let mut dead = Vec::new();
        for jobs in &mut self.jobs {
            let (gone, kept) = std::mem::take(jobs).into_iter().partition(&is_dead);
            *jobs = kept;
            dead.extend::<VecDeque<_>>(gone);
        }
        dead
    }

    /// Takes everything out.
    pub(crate) fn clear(&mut self) -> Vec<Entry<S>> {
        self.sweep(|_| true)
    }
}

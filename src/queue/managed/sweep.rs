//! Room that cancelled jobs leave: they lie in the queue until they are met, and are taken out before where others need the room.
//!
//! A cancel comes without the queue's lock, and says no more than that there was one. So a look at the queue is worth it only if
//! there were as many cancels as jobs have to go; and if that is one, it is most likely of the jobs that were queued last.

use super::{Ends, Entry, State};
use crate::error::JobError;
use crate::queue::priority::Priority;
use crate::queue::record::Record;
use std::collections::VecDeque;

impl<S> State<S> {
    /// Takes out what was cancelled or has ended, where that makes room for a new job. So many cancels were granted so far. If
    /// workers do not take the function's jobs, each of those cancels is of one job that is queued, or was.
    pub(crate) fn sweep_for(&mut self, priority: Priority, cancels: u32, is_pulled: bool, ends: &mut Ends<S>) {
        let lacking = self.lacking(priority);
        let has_ended = self.swept != Some(cancels) || self.gone > 0;
        if lacking == 0 || !has_ended {
            return;
        }
        // Jobs with records end in other ways, too, and may be cancelled by several.
        if let Some(swept) = self.swept.filter(|_| is_pulled && self.gone == 0 && !self.records.has_any()) {
            // One may be taken out before it is counted.
            let granted = usize::try_from(cancels.wrapping_sub(swept) as i32).unwrap_or(0);
            // Where others go for a new job, what has ended goes first, or one of them goes in vain.
            let needed = if self.evicts() { 1 } else { lacking };
            if granted < needed {
                return;
            }
            if lacking == 1 && self.sweep_newest(priority, ends) {
                self.swept = Some(swept.wrapping_add(1));
                return;
            }
        }
        self.sweep(ends);
        self.swept = Some(cancels);
    }

    /// How many jobs would have to go for a new one; none if there is room.
    fn lacking(&self, priority: Priority) -> usize {
        over(self.limits.capacity, self.total()).max(self.lacking_of(priority))
    }

    /// The same for what its priority has room for.
    fn lacking_of(&self, priority: Priority) -> usize {
        let queued = self.jobs[priority.index()].len() + self.delayed.len_of(priority);
        over(self.limits.capacity_of[priority.index()], queued)
    }

    /// Takes out what has been cancelled, or has ended, so that it takes no room.
    fn sweep(&mut self, ends: &mut Ends<S>) {
        let is_gone = |entry: &Entry<S>| self.records.get(entry.record).is_none_or(Record::is_cancelled);
        let gone = self.delayed.remove_all(is_gone);
        gone.into_iter().for_each(|entry| self.end(entry, JobError::Cancelled, ends));
        for i in 0..self.jobs.len() {
            let jobs = std::mem::take(&mut self.jobs[i]);
            let (gone, kept): (VecDeque<_>, _) = jobs.into_iter().partition(|entry| self.has_ended(entry));
            self.jobs[i] = kept;
            gone.into_iter().for_each(|entry| self.end(entry, JobError::Cancelled, ends));
        }
    }

    /// The same for one, the newest, if that makes room: whether it does. What was queued last is cancelled soonest, most likely: it
    /// is not to take a look at everything.
    fn sweep_newest(&mut self, priority: Priority, ends: &mut Ends<S>) -> bool {
        let is_full_of = self.lacking_of(priority) > 0;
        let longest = self.jobs.iter().map(VecDeque::len).max().unwrap_or(0);
        for back in 1..=longest {
            for i in 0..self.jobs.len() {
                if is_full_of && i != priority.index() {
                    continue;
                }
                let jobs = &self.jobs[i];
                let Some(at) = jobs.len().checked_sub(back).filter(|at| self.has_ended(&jobs[*at])) else { continue };
                let Some(entry) = self.jobs[i].remove(at) else { continue };
                self.end(entry, JobError::Cancelled, ends);
                return self.has_room(priority);
            }
        }
        false
    }

    fn has_ended(&self, entry: &Entry<S>) -> bool {
        #[cfg(test)]
        tests::LOOKS.set(tests::LOOKS.get() + 1);
        self.is_over(entry)
    }
}

/// How many jobs there are too many for one more.
fn over(limit: Option<usize>, queued: usize) -> usize {
    limit.map_or(0, |most| (queued + 1).saturating_sub(most))
}

#[cfg(test)]
mod tests {
    use crate::{Engine, Limits, Priority};
    use std::cell::Cell;

    thread_local! {
        /// How often a job in a queue was looked at for whether it has ended.
        pub(super) static LOOKS: Cell<usize> = const { Cell::new(0) };
    }

    /// In a full queue, again and again a job comes and is cancelled: its room is there for the next one, and what is queued
    /// besides is not looked at for that.
    #[test]
    fn a_cancelled_job_makes_room_without_a_look_at_all() {
        const MOST: usize = 1000;
        let engine = Engine::builder().workers(1).start().unwrap();
        for limits in [Limits::new().capacity(MOST), Limits::new().capacity_of(Priority::Normal, MOST)] {
            let f = engine.consumer::<usize, ()>("f").unwrap();
            f.set_limits(limits);
            let mut handles: Vec<_> = (0..MOST).map(|i| f.submit(i).unwrap()).collect();
            f.job(0).priority(Priority::Low).submit().map(|handle| handles.insert(0, handle)).ok();
            // The first look is at all, for it may be the first at what was cancelled before.
            assert!(f.submit(0).is_err());
            LOOKS.set(0);
            for i in 0..100 {
                assert!(handles.pop().unwrap().cancel());
                handles.push(f.submit(i).unwrap());
                assert!(f.submit(i).unwrap_err().is_full(), "there is room for one");
            }
            assert!(LOOKS.get() <= 1000, "{} looks", LOOKS.get());
            // With no room for what is there, fewer cancels than it takes are not worth a look.
            f.set_limits(Limits::new().capacity(MOST / 2));
            LOOKS.set(0);
            for _ in 0..100 {
                assert!(handles.pop().unwrap().cancel());
                assert!(f.submit(0).is_err());
            }
            assert_eq!(LOOKS.get(), 0);
            handles.truncate(MOST / 2 - 1);
            handles.split_off(10).into_iter().for_each(|handle| assert!(handle.cancel()));
            f.send(0).unwrap();
            engine.remove("f");
        }
    }
}

//! The model's limits: who finds room, who makes it, and what may start.

use super::operation::{Bounds, Policy};
use super::reference::{Reference, Refusal, State};
use layshaft::{Overflow, Priority};
use std::collections::VecDeque;

impl Reference {
    pub(crate) fn set_limits(&mut self, function: usize, bounds: Bounds) {
        self.functions[function].managed = true;
        self.functions[function].bounds = bounds;
    }

    /// For so many hours, or for good.
    pub(crate) fn pause(&mut self, function: usize, hours: Option<u8>) {
        let until = self.due(hours);
        let of = &mut self.functions[function];
        of.managed = true;
        of.paused = !of.ending;
        of.resume_at = until.filter(|_| of.paused);
        self.fall_due(function, 0);
    }

    pub(crate) fn resume(&mut self, function: usize) {
        (self.functions[function].paused, self.functions[function].resume_at) = (false, None);
    }

    pub(crate) fn set_retry(&mut self, function: usize, policy: Policy) {
        self.functions[function].managed = true;
        self.functions[function].policy = policy;
    }

    /// Evicts what must go for a job of this priority. All or nothing: a job that is refused evicts nobody.
    pub(crate) fn make_room(&mut self, function: usize, priority: Priority) -> Result<(), Refusal> {
        let of = &self.functions[function];
        let (bounds, delayed) = (of.bounds, of.delayed.clone());
        let is_of = |job: &usize, priority: Priority| self.jobs[*job].terms.priority == priority;
        let mut left: VecDeque<usize> = of.queue.clone();
        let mut gone = Vec::new();
        loop {
            let of_priority = left.iter().chain(&delayed).filter(|job| is_of(job, priority)).count();
            let from = if bounds.capacity_of.is_some_and(|(of, most)| of == priority && of_priority >= most) {
                Some(priority)
            } else if bounds.capacity.is_some_and(|most| left.len() + delayed.len() >= most) {
                // The least urgent there is.
                left.back().map(|job| self.jobs[*job].terms.priority).filter(|least| *least >= priority)
            } else {
                break;
            };
            let victim = from.and_then(|from| match bounds.overflow {
                Overflow::EvictNewest => left.iter().rposition(|job| is_of(job, from)),
                Overflow::EvictOldest => left.iter().position(|job| is_of(job, from)),
                _ => None,
            });
            let refusal = if bounds.overflow == Overflow::Block { Refusal::Wait } else { Refusal::Full };
            gone.extend(left.remove(victim.ok_or(refusal)?));
        }
        self.functions[function].queue = left;
        gone.into_iter().for_each(|job| self.settle(job, State::Evicted));
        Ok(())
    }

    /// How many jobs of a priority find room before a caller has to wait: as many as there may be when none ever does.
    pub(crate) fn room_left(&self, function: usize, priority: Priority) -> u8 {
        let of = &self.functions[function];
        if of.bounds.overflow != Overflow::Block || of.closed {
            return u8::MAX;
        }
        let queued = || of.queue.iter().chain(&of.delayed).map(|job| self.jobs[*job].terms.priority);
        let all = of.bounds.capacity.map(|most| most.saturating_sub(queued().count()));
        let same = of.bounds.capacity_of.filter(|(of, _)| *of == priority);
        let same = same.map(|(_, most)| most.saturating_sub(queued().filter(|p| *p == priority).count()));
        [all, same].into_iter().flatten().min().map_or(u8::MAX, |left| left.min(255) as u8)
    }

    /// Whether one more job may start.
    pub(crate) fn may_start(&self, function: usize) -> bool {
        let of = &self.functions[function];
        let most = of.bounds.concurrency.map_or(usize::MAX, |most| most.max(usize::from(of.ending)));
        !of.paused && of.running < most && !of.queue.is_empty()
    }

    /// Starts the first job of a function, of one priority; those that nobody wants any more are dropped.
    pub(crate) fn start(&mut self, function: usize, priority: Priority) -> Option<usize> {
        while self.may_start(function) {
            let of = &mut self.functions[function];
            let job = of.queue.front().copied().filter(|job| self.jobs[*job].terms.priority == priority)?;
            of.queue.pop_front();
            let is_abandoned = !self.jobs[job].sent && self.listeners(job).all(|claim| claim.dropped);
            if is_abandoned && self.functions[function].bounds.drop_abandoned {
                self.settle(job, State::Cancelled);
                continue;
            }
            let run_until = self.due(self.jobs[job].terms.timeout);
            let of = &mut self.jobs[job];
            (of.attempts, of.state, of.run_until) = (of.attempts + 1, State::Pulled, run_until);
            return Some(job);
        }
        None
    }
}

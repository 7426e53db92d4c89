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
            gone.extend(left.remove(victim.ok_or(Refusal::Full)?));
        }
        self.functions[function].queue = left;
        gone.into_iter().for_each(|job| self.settle(job, State::Evicted));
        Ok(())
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

//! The model's jobs that have started: pulled ones and how they end or come back, and what workers run.

use super::operation::Terms;
use super::reference::{Kind, Reference, State, kind};
use layshaft::{JobError, Priority};

/// Jobs that a dead list keeps.
pub(crate) const DEAD: usize = 2;

const PRIORITIES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

impl Reference {
    /// The next job for a set with these members, whose turn begins at `cursor`.
    pub(crate) fn pull(&mut self, members: &[usize], cursor: &mut usize) -> Option<usize> {
        for priority in PRIORITIES {
            for i in 0..members.len() {
                let at = (*cursor + i) % members.len();
                if let Some(job) = self.start(members[at], priority) {
                    *cursor = at + 1;
                    let function = &mut self.functions[members[at]];
                    self.jobs[job].state = State::Pulled;
                    self.jobs[job].counts = function.managed;
                    function.running += usize::from(function.managed);
                    return Some(job);
                }
            }
        }
        None
    }

    /// Whether all who hear of a pulled job have asked to cancel it.
    pub(crate) fn is_cancel_asked(&self, job: usize) -> bool {
        !self.jobs[job].sent && self.listeners(job).all(|claim| claim.wished)
    }

    /// A pulled job is out no more.
    fn release(&mut self, job: usize) {
        if std::mem::take(&mut self.jobs[job].counts) {
            self.functions[self.jobs[job].function].running -= 1;
        }
    }

    /// Before all others of its priority; who has asked to cancel it is out.
    fn requeue(&mut self, job: usize) {
        let asked = self.claims.iter_mut().filter(|claim| claim.job == job && claim.end.is_none() && claim.wished);
        asked.for_each(|claim| claim.end = Some(State::Cancelled));
        let (function, priority) = (self.jobs[job].function, self.jobs[job].terms.priority);
        let place = self.place(function, |queued| queued >= priority);
        self.functions[function].queue.insert(place, job);
        self.jobs[job].state = State::Queued;
    }

    pub(crate) fn put_back(&mut self, job: usize) {
        self.release(job);
        if self.is_cancel_asked(job) { self.settle(job, State::Cancelled) } else { self.requeue(job) }
    }

    pub(crate) fn finish(&mut self, job: usize, end: State) {
        self.release(job);
        self.settle(job, end);
    }

    /// Whoever had pulled it went away: it is run again, or is dead, or has just ended.
    pub(crate) fn lose(&mut self, job: usize) {
        self.release(job);
        let (most, of) = (self.functions[self.jobs[job].function].attempts, &self.jobs[job]);
        let may_retry = of.retries && most > 0 && !self.is_cancel_asked(job);
        if may_retry && of.attempts < most {
            self.requeue(job);
            return;
        }
        let dead = &mut self.functions[of.function].dead;
        if may_retry {
            dead.push(job);
            if dead.len() > DEAD {
                dead.remove(0);
            }
        }
        self.settle(job, State::Lost);
    }

    /// The dead list, as attempts and reasons.
    pub(crate) fn dead(&self, function: usize) -> Vec<(u32, String)> {
        let dead = self.functions[function].dead.iter();
        dead.map(|job| (self.jobs[*job].attempts, JobError::Lost.to_string())).collect()
    }

    /// Runs what workers can run. Returns, by function, the ids of the jobs in the order of their starts; children of functions
    /// that are not managed are not among them.
    pub(crate) fn run(&mut self) -> Vec<Vec<u64>> {
        (0..self.functions.len()).map(|function| self.run_all_of(function)).collect()
    }

    fn run_all_of(&mut self, function: usize) -> Vec<u64> {
        let mut ran = Vec::new();
        while !self.functions[function].remote
            && let Some(job) = PRIORITIES.into_iter().find_map(|priority| self.start(function, priority))
        {
            let (id, n) = (self.jobs[job].id, self.jobs[job].n);
            // It runs while its children are sent.
            self.jobs[job].state = State::Pulled;
            ran.push(id);
            for child in 1..=self.children(function, n) {
                if self.functions[function].managed {
                    let _ = self.submit(function, id | child, 0, Terms::default(), false);
                }
            }
            let panics = kind(n) == Kind::Panics;
            self.panicked += u64::from(panics);
            self.settle(job, if panics { State::Panicked } else { State::Value });
        }
        ran
    }

    /// Jobs that a job sends when it runs: none that its function does not take.
    pub(crate) fn children(&self, function: usize, n: u8) -> u64 {
        match kind(n) {
            Kind::Parent(children) if !self.functions[function].closed => children,
            _ => 0,
        }
    }
}

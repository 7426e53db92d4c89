//! The model's jobs that have started: pulled ones and how they end or come back, and what workers run.

use super::operation::Terms;
use super::reference::{Kind, Reference, Refusal, State, kind};
use layshaft::{JobError, Priority};

/// Jobs that a dead list keeps.
pub(crate) const DEAD: usize = 2;

const PRIORITIES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

/// One run of a job, in somebody's hands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) job: usize,
    /// Which one, from 1.
    number: u32,
    /// It counts as running: one that a set has pulled.
    counts: bool,
}

impl Reference {
    /// The next job for a set with these members, whose turn begins at `cursor`.
    pub(crate) fn pull(&mut self, members: &[usize], cursor: &mut usize) -> Option<Attempt> {
        for priority in PRIORITIES {
            for i in 0..members.len() {
                let at = (*cursor + i) % members.len();
                if let Some(job) = self.start(members[at], priority) {
                    *cursor = at + 1;
                    self.functions[members[at]].running += 1;
                    return Some(Attempt { job, number: self.jobs[job].attempts, counts: true });
                }
            }
        }
        None
    }

    /// Whether an attempt is the one that decides: the job's time is not up, and there is no other.
    fn is_current(&self, of: Attempt) -> bool {
        let job = &self.jobs[of.job];
        job.state == State::Pulled && job.attempts == of.number
    }

    /// Whether nobody waits for what this attempt gives: all who hear of the job have asked to cancel it, or it is too late.
    pub(crate) fn is_unwanted(&self, of: Attempt) -> bool {
        !self.is_current(of) || self.is_cancel_asked(of.job)
    }

    /// Whether all who hear of a job that runs have asked to cancel it.
    fn is_cancel_asked(&self, job: usize) -> bool {
        !self.jobs[job].sent && self.listeners(job).all(|claim| claim.wished)
    }

    /// An attempt is over: whether it decides.
    fn release(&mut self, of: Attempt) -> bool {
        self.functions[self.jobs[of.job].function].running -= usize::from(of.counts);
        let is_current = self.is_current(of);
        if is_current {
            self.jobs[of.job].run_until = None;
        }
        is_current
    }

    /// Who has asked to cancel it is out.
    fn unstart(&mut self, job: usize) {
        let asked = self.claims.iter_mut().filter(|claim| claim.job == job && claim.end.is_none() && claim.wished);
        asked.for_each(|claim| claim.end = Some(State::Cancelled));
        self.jobs[job].state = State::Queued;
        self.jobs[job].run_until = None;
    }

    /// Before all others of its priority.
    fn put_first(&mut self, job: usize) {
        let (function, priority) = (self.jobs[job].function, self.jobs[job].terms.priority);
        let place = self.place(function, |queued| queued >= priority);
        self.functions[function].queue.insert(place, job);
    }

    pub(crate) fn put_back(&mut self, of: Attempt) {
        if !self.release(of) {
            return;
        }
        if self.is_cancel_asked(of.job) {
            self.settle(of.job, State::Cancelled);
        } else {
            self.unstart(of.job);
            self.put_first(of.job);
        }
    }

    pub(crate) fn finish(&mut self, of: Attempt, end: State) {
        if self.release(of) {
            self.settle(of.job, end);
        }
    }

    /// Whoever had pulled it went away.
    pub(crate) fn drop_attempt(&mut self, of: Attempt) {
        if self.release(of) && self.lose(of.job, State::Lost) {
            self.run_again(of.job);
        }
    }

    /// An attempt failed: true when there is to be another one, else the job is dead, or has just ended.
    pub(crate) fn lose(&mut self, job: usize, why: State) -> bool {
        let of = &self.jobs[job];
        let (function, most) = (of.function, self.functions[of.function].policy.attempts);
        let may_retry = of.retries && most > 0 && !self.is_cancel_asked(job);
        if may_retry && of.attempts < most {
            self.unstart(job);
            return true;
        }
        self.settle(job, why);
        if may_retry {
            self.functions[function].died += 1;
            let dead = &mut self.functions[function].dead;
            dead.push(job);
            if dead.len() > DEAD {
                dead.remove(0);
            }
        }
        false
    }

    /// The next attempt: at once, or in an hour.
    pub(crate) fn run_again(&mut self, job: usize) {
        let function = self.jobs[job].function;
        let of = &mut self.functions[function];
        of.retried += 1;
        if !of.policy.later || of.ending {
            self.put_first(job);
            return;
        }
        of.delayed.push(job);
        self.jobs[job].at = self.due(Some(1));
    }

    /// The dead list, as attempts and reasons.
    pub(crate) fn dead(&self, function: usize) -> Vec<(u32, String)> {
        let reason = |state| match state {
            State::Panicked => "the job panicked: meant".to_owned(),
            State::TimedOut => JobError::TimedOut.to_string(),
            _ => JobError::Lost.to_string(),
        };
        let dead = self.functions[function].dead.iter().map(|job| &self.jobs[*job]);
        dead.map(|job| (job.attempts, reason(job.state))).collect()
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
            ran.push(self.jobs[job].id);
            let of = Attempt { job, number: self.jobs[job].attempts, counts: false };
            self.run_body(of);
        }
        ran
    }

    fn run_body(&mut self, of: Attempt) {
        let (function, id, n) = (self.jobs[of.job].function, self.jobs[of.job].id, self.jobs[of.job].n);
        for child in 1..=self.children(function, n) {
            if self.functions[function].managed {
                let sent = self.submit(function, id | child, 0, Terms::default(), false);
                // A worker waits for no room.
                self.functions[function].refused += u64::from(sent == Err(Refusal::Wait));
            }
        }
        let runs = self.runs.entry(id).or_default();
        *runs += 1;
        if kind(n) == Kind::Long {
            self.fall_due(function, 2);
        } else if kind(n).panics(*runs) {
            // In a scope it is the closure's, and then the body's.
            self.panicked += if kind(n) == Kind::Scoped(3) { 2 } else { 1 };
            if !self.functions[function].policy.panics {
                self.finish(of, State::Panicked);
            } else if self.release(of) && self.lose(of.job, State::Panicked) {
                self.run_again(of.job);
            }
            return;
        }
        self.finish(of, State::Value);
    }

    /// Jobs that a job sends when it runs: none that its function does not take.
    pub(crate) fn children(&self, function: usize, n: u8) -> u64 {
        match kind(n) {
            Kind::Parent(children) if !self.functions[function].closed => children,
            _ => 0,
        }
    }
}

//! The sequential model: plain queues, no threads. What limits do to a queue is in [`room`](super::room), what becomes of jobs
//! that were started in [`started`](super::started), and what time does in [`times`](super::times).

use super::operation::{Bounds, NAMES, Policy, Terms};
use super::times::Due;
use layshaft::Priority;
use std::collections::{HashMap, VecDeque};

/// What a job's body does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// Sends this many jobs to its own function.
    Parent(u64),
    Panics,
    /// Panics until its argument has been run more often than this.
    Flaky(u32),
    /// Has so many closures run in a scope, and with 3 another one that panics.
    Scoped(u32),
    /// Has two closures run.
    Joined,
    /// Two hours pass for its function while it runs.
    Long,
}

impl Kind {
    /// Whether the body panics, the how manieth run of its argument this is.
    pub(crate) fn panics(self, run: u32) -> bool {
        match self {
            Kind::Panics | Kind::Scoped(3) => true,
            Kind::Flaky(runs) => run <= runs,
            _ => false,
        }
    }
}

/// The kind is a property of the argument, so that the body knows it too.
pub(crate) fn kind(n: u8) -> Kind {
    match n % 8 {
        7 => Kind::Panics,
        6 => Kind::Long,
        5 => Kind::Parent(u64::from(n / 8 % 4)),
        3 => Kind::Scoped(u32::from(n / 8 % 4)),
        1 => Kind::Joined,
        4 => Kind::Flaky(u32::from(n / 8 % 3)),
        _ => Kind::Plain,
    }
}

/// What a successful job gives.
pub(crate) fn result(n: u8) -> u64 {
    u64::from(n) * 3 + 1
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Queued,
    Pulled,
    Value,
    Panicked,
    Cancelled,
    Evicted,
    Failed,
    Lost,
    TimedOut,
}

impl State {
    pub(crate) fn is_ended(self) -> bool {
        !matches!(self, State::Queued | State::Pulled)
    }
}

/// A handle.
pub(crate) struct Claim {
    pub(crate) job: usize,
    /// What it reports.
    pub(crate) end: Option<State>,
    /// Which end of the run that was, from 1.
    pub(crate) order: u64,
    /// A cancel was refused.
    pub(crate) wished: bool,
    pub(crate) dropped: bool,
}

pub(crate) struct Job {
    /// Of its argument.
    pub(crate) id: u64,
    pub(crate) function: usize,
    pub(crate) n: u8,
    pub(crate) terms: Terms,
    pub(crate) state: State,
    /// Somebody sent it.
    pub(crate) sent: bool,
    /// There is a clone of its argument.
    pub(crate) retries: bool,
    pub(crate) attempts: u32,
    /// When it may start, if that is later.
    pub(crate) at: Option<Due>,
    pub(crate) deadline: Option<Due>,
    /// When its run takes too long.
    pub(crate) run_until: Option<Due>,
}

#[derive(Default)]
pub(crate) struct Function {
    pub(crate) remote: bool,
    pub(crate) closed: bool,
    /// What was accepted is to end.
    pub(crate) ending: bool,
    pub(crate) managed: bool,
    pub(crate) paused: bool,
    /// When it is no longer.
    pub(crate) resume_at: Option<Due>,
    pub(crate) bounds: Bounds,
    pub(crate) policy: Policy,
    pub(crate) running: usize,
    /// Submits that joined another job.
    pub(crate) coalesced: u64,
    pub(crate) refused: u64,
    /// Attempts that another one followed.
    pub(crate) retried: u64,
    /// Jobs that were put on the dead list.
    pub(crate) died: u64,
    /// Indices of jobs, first to start in front.
    pub(crate) queue: VecDeque<usize>,
    pub(crate) delayed: Vec<usize>,
    pub(crate) dead: Vec<usize>,
}

/// Why a submit is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Closed,
    Full,
    /// There may be room later: the caller waits.
    Wait,
}

#[derive(Default)]
pub(crate) struct Reference {
    /// Who holds each name.
    pub(crate) names: [Option<usize>; NAMES],
    pub(crate) functions: Vec<Function>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) claims: Vec<Claim>,
    pub(crate) panicked: u64,
    /// Jobs that the end of a function or of the engine cancelled.
    pub(crate) discarded: usize,
    /// How often a body has run, by the argument's id.
    pub(crate) runs: HashMap<u64, u32>,
    /// Ends that handles report, so far.
    pub(crate) ends: u64,
    /// Times so far.
    pub(crate) times: u64,
}

impl Reference {
    /// False when the name is taken.
    pub(crate) fn register(&mut self, name: usize, remote: bool) -> bool {
        if self.names[name].is_some() {
            return false;
        }
        self.names[name] = Some(self.functions.len());
        self.functions.push(Function { remote, ..Function::default() });
        true
    }

    /// False when nobody had the name.
    pub(crate) fn remove(&mut self, name: usize) -> bool {
        let Some(function) = self.names[name].take() else { return false };
        self.functions[function].closed = true;
        self.end(function);
        true
    }

    /// Nothing may hold up for ever what the function has accepted.
    pub(crate) fn end(&mut self, function: usize) {
        let of = &mut self.functions[function];
        (of.ending, of.paused, of.resume_at) = (true, false, None);
        let mut delayed = std::mem::take(&mut of.delayed);
        delayed.sort_by_key(|job| self.jobs[*job].at);
        for job in delayed {
            if self.jobs[job].attempts > 0 {
                // It has its other attempt now.
                self.jobs[job].at = None;
                self.append(job);
                continue;
            }
            self.discarded += 1;
            self.settle(job, State::Cancelled);
        }
    }

    /// Jobs that are accepted, have not started, and are wanted.
    pub(crate) fn queued(&self, function: usize) -> usize {
        self.functions[function].queue.len() + self.functions[function].delayed.len()
    }

    /// Accepts a job, or has the handle join another: the handle's number, if there is to be one.
    pub(crate) fn submit(
        &mut self,
        function: usize,
        id: u64,
        n: u8,
        terms: Terms,
        handle: bool,
    ) -> Result<Option<usize>, Refusal> {
        self.functions[function].managed |= terms.is_managed();
        if self.functions[function].closed {
            return Err(Refusal::Closed);
        }
        if let Some(job) = self.with_key(function, terms.key) {
            self.jobs[job].sent |= !handle;
            self.functions[function].coalesced += 1;
            return Ok(handle.then(|| self.claim(job)));
        }
        if let Err(why) = self.make_room(function, terms.priority) {
            self.functions[function].refused += u64::from(why == Refusal::Full);
            return Err(why);
        }
        let retries = self.functions[function].policy.attempts > 0;
        let job = self.jobs.len();
        let (state, sent) = (State::Queued, !handle);
        let (at, deadline) = (self.due(terms.after), self.due(terms.deadline));
        self.jobs.push(Job {
            id,
            function,
            n,
            terms,
            state,
            sent,
            retries,
            attempts: 0,
            at,
            deadline,
            run_until: None,
        });
        let claim = handle.then(|| self.claim(job));
        if at.is_some() {
            self.functions[function].delayed.push(job);
        } else if terms.ahead {
            let place = self.place(function, |queued| queued >= terms.priority);
            self.functions[function].queue.insert(place, job);
        } else {
            self.append(job);
        }
        self.fall_due(function, 0);
        Ok(claim)
    }

    /// Behind all of its priority.
    pub(crate) fn append(&mut self, job: usize) {
        let Job { function, terms, .. } = self.jobs[job];
        // Priorities are ordered most urgent first.
        let place = self.place(function, |queued| queued > terms.priority);
        self.functions[function].queue.insert(place, job);
    }

    fn claim(&mut self, job: usize) -> usize {
        self.claims.push(Claim { job, end: None, order: 0, wished: false, dropped: false });
        self.claims.len() - 1
    }

    /// The job that a submit with this key joins.
    fn with_key(&self, function: usize, key: Option<u8>) -> Option<usize> {
        let is_it = |job: &Job| job.function == function && job.terms.key == key && !job.state.is_ended();
        key.and_then(|_| self.jobs.iter().position(is_it))
    }

    /// Where the first queued job is that `stands` behind the new one.
    pub(crate) fn place(&self, function: usize, stands: impl Fn(Priority) -> bool) -> usize {
        let queue = &self.functions[function].queue;
        queue.iter().position(|job| stands(self.jobs[*job].terms.priority)).unwrap_or(queue.len())
    }

    /// Those who still hear of a job.
    pub(crate) fn listeners(&self, job: usize) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(move |claim| claim.job == job && claim.end.is_none())
    }

    /// A job is over: whoever hears of it does now.
    pub(crate) fn settle(&mut self, job: usize, end: State) {
        self.jobs[job].state = end;
        let listeners = self.claims.iter_mut().filter(|claim| claim.job == job && claim.end.is_none());
        for claim in listeners {
            self.ends += 1;
            (claim.end, claim.order) = (Some(end), self.ends);
        }
    }

    /// True when the job will not run, as far as this handle is concerned.
    pub(crate) fn cancel(&mut self, claim: usize) -> bool {
        let job = self.claims[claim].job;
        match (self.claims[claim].end, self.jobs[job].state) {
            (None, State::Queued) => {
                self.claims[claim].end = Some(State::Cancelled);
                if !self.jobs[job].sent && self.listeners(job).next().is_none() {
                    self.take_out(job);
                    self.jobs[job].state = State::Cancelled;
                }
            }
            (None, _) => self.claims[claim].wished = true,
            _ => {}
        }
        self.claims[claim].end == Some(State::Cancelled)
    }

    /// Out of its queue.
    pub(crate) fn take_out(&mut self, job: usize) {
        let function = &mut self.functions[self.jobs[job].function];
        function.queue.retain(|queued| *queued != job);
        function.delayed.retain(|queued| *queued != job);
    }

    /// Cancels everything queued.
    pub(crate) fn discard(&mut self) {
        for function in 0..self.functions.len() {
            let of = &mut self.functions[function];
            for job in std::mem::take(&mut of.queue).into_iter().chain(std::mem::take(&mut of.delayed)) {
                self.discarded += 1;
                self.settle(job, State::Cancelled);
            }
            self.end(function);
        }
    }

    pub(crate) fn close(&mut self) {
        self.functions.iter_mut().for_each(|function| function.closed = true);
    }
}

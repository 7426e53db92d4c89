//! The sequential model: plain queues, no threads.

use super::operation::NAMES;
use layshaft::Priority;
use std::collections::VecDeque;

/// What a job's body does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// Sends this many jobs to its own function.
    Parent(u64),
    Panics,
}

/// The kind is a property of the argument, so that the body knows it too.
pub(crate) fn kind(n: u8) -> Kind {
    match n % 8 {
        7 => Kind::Panics,
        5 => Kind::Parent(u64::from(n / 8 % 4)),
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
    Failed,
    Lost,
}

impl State {
    pub(crate) fn is_ended(self) -> bool {
        !matches!(self, State::Queued | State::Pulled)
    }
}

pub(crate) struct Job {
    pub(crate) function: usize,
    pub(crate) n: u8,
    pub(crate) priority: Priority,
    pub(crate) state: State,
    pub(crate) cancel_asked: bool,
}

#[derive(Default)]
pub(crate) struct Function {
    pub(crate) remote: bool,
    pub(crate) closed: bool,
    /// Indices of jobs, first to start in front.
    pub(crate) queue: VecDeque<usize>,
}

#[derive(Default)]
pub(crate) struct Reference {
    /// Who holds each name.
    pub(crate) names: [Option<usize>; NAMES],
    pub(crate) functions: Vec<Function>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) panicked: u64,
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
        true
    }

    /// The number that the next job will have.
    pub(crate) fn next_job(&self) -> usize {
        self.jobs.len()
    }

    /// False when the function is closed.
    pub(crate) fn submit(&mut self, function: usize, n: u8, priority: Priority) -> bool {
        if self.functions[function].closed {
            return false;
        }
        // Behind all of its priority: priorities are ordered most urgent first.
        let place = self.place(function, |queued| queued > priority);
        self.functions[function].queue.insert(place, self.jobs.len());
        self.jobs.push(Job { function, n, priority, state: State::Queued, cancel_asked: false });
        true
    }

    /// Where the first queued job is that `stands` behind the new one.
    fn place(&self, function: usize, stands: impl Fn(Priority) -> bool) -> usize {
        let queue = &self.functions[function].queue;
        queue.iter().position(|job| stands(self.jobs[*job].priority)).unwrap_or(queue.len())
    }

    /// The priority of the first job of a function.
    pub(crate) fn first(&self, function: usize) -> Option<Priority> {
        self.functions[function].queue.front().map(|job| self.jobs[*job].priority)
    }

    /// True when the job will not run.
    pub(crate) fn cancel(&mut self, job: usize) -> bool {
        match self.jobs[job].state {
            State::Queued => {
                let queue = &mut self.functions[self.jobs[job].function].queue;
                queue.retain(|queued| *queued != job);
                self.jobs[job].state = State::Cancelled;
            }
            State::Pulled => self.jobs[job].cancel_asked = true,
            _ => {}
        }
        self.jobs[job].state == State::Cancelled
    }

    /// A consumer took `job`, which must be the first of its function.
    pub(crate) fn pull(&mut self, job: usize) {
        let first = self.functions[self.jobs[job].function].queue.pop_front();
        assert_eq!(first, Some(job), "a set took a job that was not the first of its function");
        self.jobs[job].state = State::Pulled;
    }

    pub(crate) fn put_back(&mut self, job: usize) {
        // Before all of its priority.
        let (function, priority) = (self.jobs[job].function, self.jobs[job].priority);
        let place = self.place(function, |queued| queued >= priority);
        self.functions[function].queue.insert(place, job);
        self.jobs[job].state = State::Queued;
    }

    /// Runs everything that a worker can run. Returns, by function, the jobs in the order of their starts.
    pub(crate) fn run(&mut self) -> Vec<Vec<usize>> {
        let mut ran = Vec::new();
        for function in &mut self.functions {
            let queue = if function.remote { VecDeque::new() } else { std::mem::take(&mut function.queue) };
            for job in &queue {
                let job = &mut self.jobs[*job];
                let panics = kind(job.n) == Kind::Panics;
                job.state = if panics { State::Panicked } else { State::Value };
                self.panicked += u64::from(panics);
            }
            ran.push(queue.into());
        }
        ran
    }

    /// Jobs that `job` sends when it runs: none that its function does not take.
    pub(crate) fn children(&self, job: usize) -> u64 {
        match kind(self.jobs[job].n) {
            Kind::Parent(children) if !self.functions[self.jobs[job].function].closed => children,
            _ => 0,
        }
    }

    /// Cancels everything queued. Returns how much that was.
    pub(crate) fn discard(&mut self) -> usize {
        let queued: Vec<usize> = self.functions.iter_mut().flat_map(|function| function.queue.drain(..)).collect();
        for job in &queued {
            self.jobs[*job].state = State::Cancelled;
        }
        queued.len()
    }

    pub(crate) fn close(&mut self) {
        self.functions.iter_mut().for_each(|function| function.closed = true);
    }
}

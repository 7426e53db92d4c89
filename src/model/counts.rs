//! What jobs are counted in.

use crate::sched::tally::{Counted, Tallies, started};
use crate::sync::AtomicU64;

/// A function that jobs are counted for.
pub struct Function([AtomicU64; 2]);

impl Counted for Function {
    fn turned_out(&self) -> &[AtomicU64; 2] {
        &self.0
    }

    fn number(&self) -> usize {
        0
    }
}

impl Function {
    pub fn new() -> Self {
        Function([AtomicU64::new(0), AtomicU64::new(0)])
    }
}

impl Default for Function {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the workers count: one place each, which all functions come to.
pub struct Counts(Vec<Tallies<Function>>);

impl Counts {
    pub fn new(workers: usize) -> Self {
        Counts((0..workers).map(|_| Tallies::new()).collect())
    }

    /// Worker `worker` runs a job.
    pub fn run(&self, worker: usize, function: &Function, body: impl FnOnce()) {
        self.0[worker].of(function).start();
        body();
        // Another function may have come to the place meanwhile.
        self.0[worker].of(function).end();
    }

    /// Jobs of a function that run, and that have ended.
    pub fn read(&self, function: &Function) -> (u64, u64) {
        let started = started(function, self.0.iter());
        (started.running, started.done)
    }

    pub fn turn_out(&self, worker: usize) {
        self.0[worker].turn_out();
    }
}

//! What workers run, and in which order.

use super::borrows::value;
use super::driver::{Arg, Driver, HOUR, Own, Reply, until};
use super::reference::{Kind, kind};
use crate::common::{Held, Live, PATIENCE};
use layshaft::Engine;
use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::{Condvar, Mutex};
use std::time::Instant;

/// Children carry their parent's number and, in the low bits, their own from 1.
pub(super) const CHILD_BITS: u32 = 8;

/// What ran, as (function, job id), in order.
#[derive(Default)]
pub(super) struct Log {
    ran: Mutex<Vec<(usize, u64)>>,
    grown: Condvar,
    /// How often each job ran.
    runs: Mutex<HashMap<u64, u32>>,
}

impl Log {
    /// One more run of a job: the how manieth.
    fn push(&self, function: usize, id: u64) -> u32 {
        let mut runs = self.runs.lock().unwrap();
        let run = runs.entry(id).or_default();
        *run += 1;
        self.ran.lock().unwrap().push((function, id));
        self.grown.notify_all();
        *run
    }

    /// Takes what ran once there are `count` entries.
    pub(super) fn take(&self, count: usize) -> Vec<(usize, u64)> {
        let ran = self.ran.lock().unwrap();
        let (mut ran, _) = self.grown.wait_timeout_while(ran, PATIENCE, |ran| ran.len() < count).unwrap();
        assert!(ran.len() >= count, "only {} of {count} queued jobs ran: {ran:?}", ran.len());
        std::mem::take(&mut *ran)
    }
}

impl Driver {
    pub(super) fn run(&mut self) {
        self.run_with(|_, _| ());
    }

    /// The same, with `f` called before the worker goes on: it may have it do so earlier.
    pub(super) fn run_with<T>(&mut self, f: impl FnOnce(&Engine, &Held) -> T) -> T {
        self.make_room(|driver, function| !driver.model.functions[function].remote);
        let held = self.held.take().unwrap();
        let returned = f(&held.engine, &held);
        let engine = held.release();
        self.expect_runs();
        // Jobs that nobody wants leave no trace when they are met.
        until(|| self.functions.iter().enumerate().all(|(at, function)| function.queued() == self.model.queued(at)));
        engine.remove("hold");
        self.held = Some(Held::of(engine));
        returned
    }

    /// Waits for everything that may run and compares the order of the starts.
    pub(super) fn expect_runs(&mut self) {
        let ran = self.model.run();
        let own = |id: u64| id & ((1 << CHILD_BITS) - 1);
        // Functions that are not managed run children newest first, when their parent has returned.
        let children = |driver: &Driver, function: usize, id: u64| {
            let n = driver.model.jobs.iter().find(|job| job.id == id).map_or(0, |job| job.n);
            driver.model.children(function, n)
        };
        let nested = |driver: &Driver, function: usize, ran: &[u64]| {
            let is_managed = driver.model.functions[function].managed;
            ran.iter().map(|id| if is_managed { 0 } else { children(driver, function, *id) }).sum::<u64>()
        };
        let count =
            ran.iter().enumerate().map(|(function, ran)| ran.len() as u64 + nested(self, function, ran)).sum::<u64>();
        let log = self.log.take(count as usize);
        assert_eq!(log.len() as u64, count, "more ran than was queued");
        for (function, expected) in ran.into_iter().enumerate() {
            let of_function = || log.iter().filter(|entry| entry.0 == function).map(|entry| entry.1);
            if self.model.functions[function].managed {
                assert_eq!(of_function().collect::<Vec<_>>(), expected, "function {function} started other jobs");
                continue;
            }
            let parents = of_function().filter(|id| own(*id) == 0);
            assert_eq!(parents.collect::<Vec<_>>(), expected, "function {function} started its jobs in another order");
            for id in expected {
                let family = of_function().filter(|of| of >> CHILD_BITS == id >> CHILD_BITS).map(own);
                let newest_first = std::iter::once(0).chain((1..=children(self, function, id)).rev());
                assert!(family.eq(newest_first), "the children of {id} did not start newest first");
            }
        }
    }
}

pub(super) fn body(function: usize, arg: Arg, log: &Log, live: &Live, own: &Own) -> Reply {
    let kind = kind(arg.n);
    let own = || own.lock().unwrap().clone().expect("it was stored before the first job");
    if let Kind::Parent(children) = kind {
        let own = own();
        for child in 1..=children {
            // A closed or full function hands it back, which is all right.
            let _ = own.send(Arg::new(arg.id | child, 0, live));
        }
    }
    if kind == Kind::Long {
        own().fall_due(Instant::now() + 2 * HOUR);
    }
    let run = log.push(function, arg.id);
    if kind.panics(run) && !matches!(kind, Kind::Scoped(_)) {
        resume_unwind(Box::new("meant"));
    }
    Reply::new(value(kind, arg.n), live)
}

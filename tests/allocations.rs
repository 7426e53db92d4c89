//! Does a job allocate in steady state?
//!
//! The counting allocator sees the whole process, so this file holds one test.

mod common;

use common::alloc::{Counting, allocations};
use common::{engine, value, watchdog};
use layshaft::{Engine, Function, JobHandle};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const JOBS: u64 = 2_000;
const ROUNDS: usize = 40;

/// Wakes the waiting thread at a count, without allocating.
struct Countdown {
    left: AtomicU64,
    waiter: Thread,
}

impl Countdown {
    fn new() -> Arc<Countdown> {
        Arc::new(Countdown { left: AtomicU64::new(0), waiter: thread::current() })
    }

    fn start(&self, jobs: u64) {
        self.left.store(jobs, Ordering::SeqCst);
    }

    fn tick(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.waiter.unpark();
        }
    }

    fn wait(&self) {
        while self.left.load(Ordering::SeqCst) > 0 {
            thread::park();
        }
    }
}

/// Runs `round` until pools and buffers have the size that it needs, then demands rounds without an allocation.
///
/// How many jobs are in flight differs from round to round, so a pool may still grow in a late one; a job that
/// allocates does so in every round.
fn assert_steady(what: &str, mut round: impl FnMut()) {
    let mut counts = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let before = allocations();
        round();
        counts.push(allocations() - before);
    }
    println!("{what}: allocations by round of {JOBS} jobs: {counts:?}");
    let without = counts[ROUNDS / 4..].iter().filter(|count| **count == 0).count();
    assert!(without >= ROUNDS / 4, "{what} allocates in steady state: {counts:?} by round of {JOBS} jobs");
}

fn sends<A: Send + 'static>(engine: &Engine, what: &str, arg: impl Fn(u64) -> A) {
    let countdown = Countdown::new();
    let tick = countdown.clone();
    let function = engine.function(what, move |_: A| tick.tick()).unwrap();
    assert_steady(what, || {
        countdown.start(JOBS);
        (0..JOBS).for_each(|n| function.send(arg(n)).unwrap());
        countdown.wait();
    });
    assert_steady(&format!("{what} in batches"), || {
        countdown.start(JOBS);
        for _ in 0..JOBS / 100 {
            function.send_batch((0..100).map(&arg)).unwrap();
        }
        countdown.wait();
    });
}

fn submits<A: Send + 'static>(engine: &Engine, what: &str, arg: impl Fn(u64) -> A) {
    let function: Function<A, A> = engine.function(what, |arg| arg).unwrap();
    let mut handles: Vec<JobHandle<A>> = Vec::with_capacity(64);
    assert_steady(what, || {
        for n in 0..JOBS / 64 {
            handles.extend((0..64).map(|m| function.submit(arg(n + m)).unwrap()));
            handles.drain(..).for_each(|handle| drop(value(handle)));
        }
    });
    assert_steady(&format!("{what}, one at a time"), || (0..JOBS / 4).for_each(|n| drop(function.call(arg(n)))));
    assert_steady(&format!("{what}, cancelled or detached"), || {
        for n in 0..JOBS / 64 {
            handles.extend((0..64).map(|m| function.submit(arg(n + m)).unwrap()));
            handles.drain(..).enumerate().for_each(|(m, handle)| {
                let _ = m % 2 == 0 && handle.cancel();
            });
            value(function.submit(arg(n)).unwrap());
        }
    });
}

fn nested(engine: &Engine) {
    let countdown = Countdown::new();
    let tick = countdown.clone();
    let leaf = engine.function("leaf", move |n: u64| {
        tick.tick();
        n
    });
    let leaf = leaf.unwrap();
    let (inner, waited) = (leaf.clone(), leaf.clone());
    let sender = engine.function("sender", move |n: u64| (0..n).for_each(|n| inner.send(n).unwrap())).unwrap();
    assert_steady("nested sends", || {
        countdown.start(JOBS);
        (0..JOBS / 50).for_each(|_| sender.send(50).unwrap());
        countdown.wait();
    });
    let waiter = engine.function("waiter", move |n: u64| {
        (0..n).for_each(|n| assert_eq!(waited.submit(n).unwrap().wait().unwrap(), n));
    });
    let waiter = waiter.unwrap();
    assert_steady("nested waits", || {
        countdown.start(JOBS);
        (0..JOBS / 50).for_each(|_| value(waiter.submit(50).unwrap()));
        countdown.wait();
    });
}

fn pulls(engine: &Engine) {
    let function = engine.consumer::<u64, u64>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&function);
    let mut handles: Vec<JobHandle<u64>> = Vec::with_capacity(64);
    assert_steady("pulls", || {
        for n in 0..JOBS / 64 {
            handles.extend((0..64).map(|m| function.submit(n + m).unwrap()));
            while let Some(pulled) = set.try_next() {
                let (n, completer) = pulled.take();
                completer.complete(n);
            }
            handles.drain(..).for_each(|handle| {
                let _ = value(handle);
            });
        }
    });
}

#[test]
fn no_allocation_a_job() {
    let _watchdog = watchdog("the end of the jobs");
    for workers in [1, 2] {
        println!("{workers} workers");
        let engine = engine(workers);
        sends(&engine, "send u64", |n| n);
        sends(&engine, "send 200 bytes", |n| [n; 25]);
        submits(&engine, "submit u64", |n| n);
        submits(&engine, "submit 200 bytes", |n| [n; 25]);
        nested(&engine);
        pulls(&engine);
    }
}

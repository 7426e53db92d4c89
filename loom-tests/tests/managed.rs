//! Functions that limits apply to: becoming managed loses no job and holds up what it must, and no wake-up is lost.
#![cfg(layshaft_loom)]

use layshaft::model::workers::{end as end_of, engine, work};
use layshaft::{Engine, Function, JobError, Limits, Shutdown, WaitError};
use layshaft_loom_tests::{Threads, explore};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use std::time::Duration;

fn counting(engine: &Engine) -> (Function<usize, ()>, Arc<AtomicUsize>) {
    let ran = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ran);
    let function = engine.function("count", move |n| _ = count.fetch_add(n, Ordering::SeqCst)).unwrap();
    (function, ran)
}

/// A first pause against a worker that claims: of two jobs, at most the one that was about to start runs after it.
#[test]
fn pause_against_a_claim() {
    explore("managed, first pause against a claim", Threads::Two, || {
        let (engine, seat) = engine(1);
        let (function, ran) = counting(&engine);
        function.send_batch([1, 1]).unwrap();
        let worker = thread::spawn(move || work(seat, 0));
        function.pause();
        // Not a load, which loom would let be late.
        let before = ran.fetch_add(0, Ordering::SeqCst);
        let discarded = engine.shutdown(Shutdown::Discard).discarded;
        worker.join().unwrap();
        let after = ran.load(Ordering::SeqCst);
        assert!(after <= before + 1, "{after} jobs ran, {before} of them before the pause returned");
        assert_eq!(after + discarded, 2);
    });
}

/// A submit that does not see the first limit: its job goes through the lane and is run all the same.
#[test]
fn first_limit_against_a_submit() {
    explore("managed, first limit against a submit", Threads::Three, || {
        let (engine, seat) = engine(1);
        let (function, ran) = counting(&engine);
        let worker = thread::spawn(move || work(seat, 0));
        let sender = {
            let function = function.clone();
            thread::spawn(move || function.send(1).unwrap())
        };
        function.set_limits(Limits::new().concurrency(1));
        sender.join().unwrap();
        assert!(engine.shutdown(Shutdown::Drain).complete);
        worker.join().unwrap();
        assert_eq!(ran.load(Ordering::SeqCst), 1);
    });
}

/// A first pause against a set that takes, and a late submit through the lane: a job that was sent after the pause is not
/// taken.
#[test]
fn pause_against_a_take() {
    explore("managed, first pause against a take and a submit", Threads::Three, || {
        let (engine, seat) = engine(1);
        let function = engine.consumer::<u32, ()>("paused").unwrap();
        let (set, clock) = (engine.consumer_set(), Arc::new(AtomicUsize::new(0)));
        set.add(&function);
        let taker = thread::spawn(move || set.try_next().map(|pulled| pulled.take().1.complete(())).is_some());
        let sender = {
            let (function, clock) = (function.clone(), Arc::clone(&clock));
            thread::spawn(move || {
                // Relaxed: to tell what came first must not order it.
                let is_late = clock.fetch_add(1, Ordering::Relaxed) == 1;
                function.send(1).unwrap();
                is_late
            })
        };
        function.pause();
        clock.fetch_add(1, Ordering::Relaxed);
        let (taken, is_late) = (taker.join().unwrap(), sender.join().unwrap());
        assert!(!(taken && is_late), "taken after the pause");
        drop(function);
        end_of(engine, seat);
    });
}

/// A worker that has fallen asleep beside a paused function is woken by its resume; without that loom reports a deadlock.
#[test]
fn resume_wakes_the_sleeper() {
    explore("managed, resume against falling asleep", Threads::Two, || {
        let (engine, seat) = engine(1);
        let (function, ran) = counting(&engine);
        function.pause();
        let worker = thread::spawn(move || work(seat, 0));
        let handle = function.submit(1).unwrap();
        function.resume();
        handle.wait().unwrap();
        engine.shutdown(Shutdown::Drain);
        worker.join().unwrap();
        assert_eq!(ran.load(Ordering::SeqCst), 1);
    });
}

/// Two consumers and a limit of one: they never have jobs at the same time, and the second job is not forgotten.
#[test]
fn one_at_a_time() {
    explore("managed, one at a time", Threads::Three, || {
        let (engine, seat) = engine(1);
        let function = engine.consumer::<u32, ()>("alone").unwrap();
        function.set_limits(Limits::new().concurrency(1));
        function.send_batch([1, 1]).unwrap();
        let cell = Arc::new(Exclusive(UnsafeCell::new(0)));
        let consumer = || {
            let (set, cell) = (engine.consumer_set(), Arc::clone(&cell));
            set.add(&function);
            move || {
                while let Some(pulled) = set.try_next() {
                    cell.add(*pulled.arg());
                    pulled.take().1.complete(());
                }
            }
        };
        let other = thread::spawn(consumer());
        consumer()();
        other.join().unwrap();
        cell.0.with(|n| {
            // SAFETY: both consumers have ended.
            assert_eq!(unsafe { *n }, 2);
        });
        drop(function);
        end_of(engine, seat);
    });
}

/// The clock against a consumer that finishes, or loses, the job: its handle hears one end.
#[test]
fn the_clock_against_completion() {
    explore("managed, a time-out against completion", Threads::Three, || {
        let (engine, seat) = engine(1);
        let function = engine.consumer::<u32, u32>("slow").unwrap();
        let handle = function.job(1).timeout(Duration::from_secs(1)).submit().unwrap();
        let set = engine.consumer_set();
        set.add(&function);
        let consumer = thread::spawn(move || {
            if let Some(pulled) = set.try_next() {
                let (arg, completer) = pulled.take();
                completer.complete(arg);
            }
        });
        let clock = {
            let seat = seat.clone();
            thread::spawn(move || seat.tick())
        };
        let end = handle.wait();
        assert!(matches!(end, Ok(1) | Err(WaitError::Job(JobError::TimedOut))), "{end:?}");
        consumer.join().unwrap();
        clock.join().unwrap();
        assert_eq!(function.queued(), 0);
        drop(function);
        end_of(engine, seat);
    });
}

/// A submit with the key of a job that is just ending: it hears that end, or its own job is there.
#[test]
fn joining_against_completion() {
    explore("managed, a unique submit against completion", Threads::Two, || {
        let (engine, seat) = engine(1);
        let function = engine.consumer::<u32, u32>("alone").unwrap();
        let set = engine.consumer_set();
        set.add(&function);
        let first = function.job(1).unique(*b"key").submit().unwrap();
        let pulled = set.try_next().unwrap();
        let consumer = thread::spawn(move || pulled.take().1.complete(7));
        let second = function.job(2).unique(*b"key").submit().unwrap();
        consumer.join().unwrap();
        assert_eq!(first.wait().unwrap(), 7);
        if let Some(pulled) = set.try_next() {
            assert_eq!(*pulled.arg(), 2);
            pulled.take().1.complete(8);
            assert_eq!(second.wait().unwrap(), 8);
        } else {
            assert_eq!(second.wait().unwrap(), 7);
        }
        drop((function, set));
        end_of(engine, seat);
    });
}

/// Loom reports bodies that overlap.
struct Exclusive(UnsafeCell<u32>);

// SAFETY: the limit keeps the bodies apart; loom checks that.
unsafe impl Sync for Exclusive {}
// SAFETY: as above.
unsafe impl Send for Exclusive {}

impl Exclusive {
    fn add(&self, more: u32) {
        // SAFETY: as above.
        self.0.with_mut(|n| unsafe { *n += more });
    }
}

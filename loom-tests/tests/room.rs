//! Submits that wait for room: each is woken by whatever makes some, or there will never be any. A wake-up that is lost is a
//! deadlock here.
#![cfg(layshaft_loom)]

use layshaft::model::workers::{Seat, end, engine};
use layshaft::{ConsumerSet, Engine, Function, Limits, Overflow};
use layshaft_loom_tests::{Threads, explore};
use loom::sync::Arc;
use loom::thread;

/// A function whose jobs the model takes itself, with room for one.
fn narrow() -> (Engine, Seat, Function<usize, ()>, ConsumerSet<usize, ()>) {
    let (engine, seat) = engine(1);
    let function = engine.consumer::<usize, ()>("narrow").unwrap();
    function.set_limits(Limits::new().capacity(1).overflow(Overflow::Block));
    let set = engine.consumer_set();
    set.add(&function);
    (engine, seat, function, set)
}

/// Takes the job that is there and ends it: its argument.
fn take(set: &ConsumerSet<usize, ()>) -> Option<usize> {
    let (arg, completer) = set.try_next()?.take();
    completer.complete(());
    Some(arg)
}

/// The job that took the room is cancelled.
#[test]
fn a_cancel_makes_room() {
    explore("room, a wait against a cancel", Threads::Two, || {
        let (engine, seat, function, set) = narrow();
        let first = function.submit(1).unwrap();
        let waiter = {
            let function = function.clone();
            thread::spawn(move || function.send(2).unwrap())
        };
        assert!(first.cancel());
        waiter.join().unwrap();
        assert_eq!(take(&set), Some(2));
        drop((function, set));
        end(engine, seat);
    });
}

/// It is taken.
#[test]
fn a_take_makes_room() {
    explore("room, a wait against a take", Threads::Two, || {
        let (engine, seat, function, set) = narrow();
        function.send(1).unwrap();
        let waiter = {
            let function = function.clone();
            thread::spawn(move || function.send(2).unwrap())
        };
        assert_eq!(take(&set), Some(1));
        waiter.join().unwrap();
        assert_eq!(take(&set), Some(2));
        drop((function, set));
        end(engine, seat);
    });
}

/// It is cancelled by one thread, and taken by another: whichever does, there is room, and what was cancelled is not run.
#[test]
fn a_cancel_or_a_take_makes_room() {
    explore("room, a wait against a cancel and a take", Threads::Three, || {
        let (engine, seat, function, set) = narrow();
        let first = function.submit(1).unwrap();
        let waiter = {
            let function = function.clone();
            thread::spawn(move || function.send(2).unwrap())
        };
        let canceller = thread::spawn(move || first.cancel());
        let taken = take(&set);
        let cancelled = canceller.join().unwrap();
        waiter.join().unwrap();
        let ran = taken.into_iter().chain(take(&set)).collect::<Vec<_>>();
        assert_eq!(ran, if cancelled { vec![2] } else { vec![1, 2] });
        drop((function, set));
        end(engine, seat);
    });
}

/// Two wait for one place, which a cancel makes; who gets it takes its own job, which makes room for the other.
#[test]
fn two_wait_for_a_cancel() {
    explore("room, two waits against a cancel", Threads::Three, || {
        let (engine, seat, function, set) = narrow();
        let first = function.submit(1).unwrap();
        let set = Arc::new(set);
        let waiters = [2, 3].map(|n| {
            let (function, set) = (function.clone(), Arc::clone(&set));
            thread::spawn(move || {
                function.send(n).unwrap();
                assert_eq!(take(&set), Some(n));
            })
        });
        assert!(first.cancel());
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        drop((function, set));
        end(engine, seat);
    });
}

/// Two cancels beside a wait, the second of which alone makes room.
#[test]
fn the_last_cancel_makes_room() {
    explore("room, a wait against two cancels", Threads::Three, || {
        let (engine, seat, function, set) = narrow();
        function.set_limits(Limits::new().capacity(2).overflow(Overflow::Block));
        let [first, second] = [1, 2].map(|n| function.submit(n).unwrap());
        function.set_limits(Limits::new().capacity(1).overflow(Overflow::Block));
        let waiter = {
            let function = function.clone();
            thread::spawn(move || function.send(3).unwrap())
        };
        let canceller = thread::spawn(move || assert!(first.cancel()));
        assert!(second.cancel());
        canceller.join().unwrap();
        waiter.join().unwrap();
        assert_eq!(take(&set), Some(3));
        drop((function, set));
        end(engine, seat);
    });
}

/// The function is removed: there will never be room.
#[test]
fn a_removal_ends_the_wait() {
    explore("room, a wait against a removal", Threads::Two, || {
        let (engine, seat, function, set) = narrow();
        function.send(1).unwrap();
        let waiter = {
            let function = function.clone();
            thread::spawn(move || function.send(2).unwrap_err().is_closed())
        };
        assert!(engine.remove("narrow"));
        assert!(waiter.join().unwrap());
        assert_eq!(take(&set), Some(1));
        drop((function, set));
        end(engine, seat);
    });
}

/// Another limit makes room for both, though each says so to one of them alone.
#[test]
fn another_limit_makes_room() {
    explore("room, two waits against another limit", Threads::Three, || {
        let (engine, seat, function, set) = narrow();
        function.send(1).unwrap();
        let waiters = [2, 3].map(|n| {
            let function = function.clone();
            thread::spawn(move || function.send(n).unwrap())
        });
        function.set_limits(Limits::new());
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        let all = std::iter::from_fn(|| take(&set)).sum::<usize>();
        assert_eq!(all, 6);
        drop((function, set));
        end(engine, seat);
    });
}

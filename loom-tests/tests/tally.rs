//! Counts of jobs: whoever has seen a job's end finds it counted, once, though its place comes to another function.
#![cfg(layshaft_loom)]

use layshaft::model::counts::{Counts, Function};
use layshaft_loom_tests::{Threads, explore};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// One place, two functions, and a reader that knows of some ends.
#[test]
fn a_place_that_changes_hands() {
    explore("tally, a place that changes hands", Threads::Two, || {
        let shared = Arc::new((Counts::new(1), [Function::new(), Function::new()], AtomicUsize::new(0)));
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (counts, [one, other], told) = &*shared;
                counts.run(0, one, || ());
                told.store(1, Ordering::Release);
                counts.run(0, other, || ());
                counts.turn_out(0);
            })
        };
        let (counts, [one, other], told) = &*shared;
        let known = told.load(Ordering::Acquire) as u64;
        let (running, ended) = counts.read(one);
        assert!(running + ended <= 1 && ended >= known, "{running} run and {ended} have ended, of {known} known");
        worker.join().unwrap();
        assert_eq!((counts.read(one), counts.read(other)), ((0, 1), (0, 1)));
    });
}

/// A job that another one interrupts begins in a place and ends in it again, with its count elsewhere in between.
#[test]
fn a_job_that_is_interrupted() {
    explore("tally, a job that is interrupted", Threads::Two, || {
        let shared = Arc::new((Counts::new(1), [Function::new(), Function::new()], AtomicUsize::new(0)));
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (counts, [one, other], told) = &*shared;
                counts.run(0, one, || {
                    told.store(1, Ordering::Release);
                    counts.run(0, other, || ());
                });
            })
        };
        let (counts, [one, _], told) = &*shared;
        if told.load(Ordering::Acquire) == 1 {
            let (running, ended) = counts.read(one);
            assert_eq!(running + ended, 1);
        }
        worker.join().unwrap();
        assert_eq!(counts.read(one), (0, 1));
    });
}

/// Two workers turn out counts of one function.
#[test]
fn two_workers() {
    explore("tally, two workers", Threads::Two, || {
        let shared = Arc::new((Counts::new(2), Function::new()));
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (counts, function) = &*shared;
                counts.run(0, function, || ());
                counts.turn_out(0);
            })
        };
        let (counts, function) = &*shared;
        counts.run(1, function, || ());
        counts.turn_out(1);
        let (running, ended) = counts.read(function);
        assert!(running + ended <= 2 && ended >= 1, "{running} run and {ended} have ended");
        worker.join().unwrap();
        assert_eq!(counts.read(function), (0, 2));
    });
}

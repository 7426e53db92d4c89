//! Whole engines: real workers on loom's threads, from the first submit to the end of the drain. A lost wake-up is a
//! deadlock here; a job that is lost or run twice breaks the count.
#![cfg(layshaft_loom)]

use layshaft::model::workers::{engine, work};
use layshaft::{JobError, Shutdown, WaitError};
use layshaft_loom_tests::{Threads, explore};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

#[test]
fn submit_and_drain() {
    explore("engine, a submit and a drain against one worker", Threads::Two, || {
        let (engine, seat) = engine(1);
        let ran = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ran);
        let note = engine.function("note", move |n: usize| count.fetch_add(n, Ordering::Relaxed)).unwrap();
        let worker = thread::spawn(move || work(seat, 0));
        note.send(1).unwrap();
        let drained = engine.shutdown(Shutdown::Drain);
        worker.join().unwrap();
        assert!(drained.complete && drained.discarded == 0);
        assert_eq!(ran.load(Ordering::Relaxed), 1);
        assert_eq!(note.send(5).unwrap_err().into_arg(), 5);
    });
}

/// A submit that races with the end is run, or hands its argument back.
#[test]
fn submit_against_drain() {
    explore("engine, a submit against the drain", Threads::Three, || {
        let (engine, seat) = engine(1);
        let ran = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ran);
        let note = engine.function("note", move |n: usize| count.fetch_add(n, Ordering::Relaxed)).unwrap();
        let worker = thread::spawn(move || work(seat, 0));
        let sender = thread::spawn(move || usize::from(note.send(1).is_ok()));
        engine.shutdown(Shutdown::Drain);
        worker.join().unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), sender.join().unwrap());
    });
}

/// A discarded job is cancelled, or it has run: never both, never neither.
#[test]
fn submit_against_discard() {
    explore("engine, a waiting caller against a discard", Threads::Three, || {
        let (engine, seat) = engine(1);
        let ran = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ran);
        let note = engine.function("note", move |n: usize| count.fetch_add(n, Ordering::Relaxed)).unwrap();
        let worker = thread::spawn(move || work(seat, 0));
        let handle = note.submit(1).unwrap();
        engine.shutdown(Shutdown::Discard);
        worker.join().unwrap();
        match handle.wait() {
            Ok(_) => assert_eq!(ran.load(Ordering::Relaxed), 1),
            Err(WaitError::Job(JobError::Cancelled)) => assert_eq!(ran.load(Ordering::Relaxed), 0),
            Err(error) => panic!("{error}"),
        }
    });
}

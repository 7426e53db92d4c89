//! The ends of engines, against everything that may go on meanwhile.
#![cfg(layshaft_shuttle)]

use layshaft::{Drained, Engine, Function, JobError, Priority, Shutdown, WaitError};
use layshaft_shuttle_tests::{explore, join, start};
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Two senders, jobs that send more, and one shutdown a mode at the same time: each job that was accepted has run, or
/// ended as cancelled and was counted; each handle knows which; each other submit got its argument back.
fn end(modes: &[Shutdown]) {
    let (engine, workers) = start(3);
    let ran = Arc::new(AtomicUsize::new(0));
    let accepted = Arc::new(AtomicUsize::new(0));
    let key = Arc::new(OnceLock::<Function<usize, usize>>::new());
    let (count, more, child) = (Arc::clone(&ran), Arc::clone(&accepted), Arc::clone(&key));
    let job = engine.function("job", move |n: usize| {
        count.fetch_add(1, Ordering::Relaxed);
        for _ in 0..n {
            match child.get().unwrap().send(n - 1) {
                Ok(()) => _ = more.fetch_add(1, Ordering::Relaxed),
                Err(refused) => assert_eq!(refused.into_arg(), n - 1),
            }
        }
        n
    });
    let job = job.unwrap();
    key.set(job.clone()).unwrap();
    let sender = |_| {
        let (job, accepted) = (job.clone(), Arc::clone(&accepted));
        thread::spawn(move || {
            let handles: Vec<_> = (0..3).filter_map(|n| job.submit(n).ok().map(|handle| (n, handle))).collect();
            accepted.fetch_add(handles.len(), Ordering::Relaxed);
            for (n, handle) in handles {
                match handle.wait() {
                    Ok(value) => assert_eq!(value, n),
                    Err(WaitError::Job(JobError::Cancelled)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    };
    let senders: Vec<_> = (0..2).map(sender).collect();
    let ender = |mode: &Shutdown| {
        let (engine, mode) = (engine.clone(), *mode);
        thread::spawn(move || engine.shutdown(mode))
    };
    join(modes.iter().map(ender).collect::<Vec<_>>());
    join(senders);
    // A second shutdown waits for the end that the first one may have left under way.
    let Drained { complete, discarded, running, .. } = engine.shutdown(Shutdown::Drain);
    join(workers);
    assert!(complete && running.is_empty());
    let (accepted, ran) = (accepted.load(Ordering::Relaxed), ran.load(Ordering::Relaxed));
    assert_eq!(accepted, ran + discarded);
    let may_discard = modes.iter().any(|mode| *mode != Shutdown::Drain);
    assert!(discarded == 0 || may_discard);
    assert_eq!(job.submit(7).unwrap_err().into_arg(), 7);
}

#[test]
fn drain() {
    explore("drain", 4_000, || end(&[Shutdown::Drain]));
}

#[test]
fn drain_for() {
    explore("drain with a deadline", 4_000, || end(&[Shutdown::DrainFor(Duration::from_secs(1))]));
}

#[test]
fn discard() {
    explore("discard", 4_000, || end(&[Shutdown::Discard]));
}

#[test]
fn drain_against_discard() {
    explore("drain against discard", 4_000, || end(&[Shutdown::Drain, Shutdown::Discard]));
}

/// A tree that has begun can finish during a drain, also where its jobs go through the lanes.
#[test]
fn trees_outlive_the_drain() {
    explore("trees outlive the drain", 6_000, || {
        let (engine, workers) = start(3);
        let ran = Arc::new(AtomicUsize::new(0));
        let key = Arc::new(OnceLock::<Function<usize, ()>>::new());
        let (count, child) = (Arc::clone(&ran), Arc::clone(&key));
        let grow = engine.function("grow", move |depth: usize| {
            count.fetch_add(1, Ordering::Relaxed);
            for priority in if depth > 0 { &[Priority::High, Priority::Normal][..] } else { &[] } {
                let refused = child.get().unwrap().job(depth - 1).priority(*priority).send().is_err();
                assert!(!refused, "a job was refused before the drain had ended");
            }
        });
        let grow = grow.unwrap();
        key.set(grow.clone()).unwrap();
        let other = grow.clone();
        let sender = thread::spawn(move || other.send(1).unwrap());
        grow.send(2).unwrap();
        sender.join().unwrap();
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(workers);
        assert_eq!(ran.load(Ordering::Relaxed), 7 + 3);
    });
}

/// The last handle of an engine goes inside a job, while others are queued.
#[test]
fn dropped_inside_a_job() {
    explore("dropped inside a job", 4_000, || {
        let (engine, workers) = start(3);
        let ran = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ran);
        let job = engine.function("job", move |engine: Option<Engine>| {
            count.fetch_add(1, Ordering::Relaxed);
            drop(engine);
        });
        let job = job.unwrap();
        let other = job.clone();
        let sender = thread::spawn(move || usize::from(other.send(None).is_ok()));
        job.send(None).unwrap();
        job.send(Some(engine)).unwrap();
        let accepted = sender.join().unwrap();
        join(workers);
        assert_eq!(ran.load(Ordering::Relaxed), 2 + accepted);
    });
}

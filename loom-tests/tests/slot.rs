//! The result slot: one outcome, told once, and the slot freed once, whatever the two sides do.
#![cfg(layshaft_loom)]

use layshaft::model::jobs::{Job, job};
use layshaft::{JobError, WaitError};
use layshaft_loom_tests::{Threads, explore};
use loom::alloc::Track;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

#[test]
fn wait_against_completion() {
    explore("slot, wait against completion", Threads::Two, || {
        let (job, handle) = job();
        let worker = thread::spawn(move || job.run(|| Track::new(7)));
        assert_eq!(handle.wait().unwrap().into_inner(), 7);
        assert!(worker.join().unwrap());
    });
}

/// A caller whose time is up before the job ends keeps the handle.
#[test]
fn giving_up_against_completion() {
    explore("slot, a wait that gives up against completion", Threads::Two, || {
        let (job, handle) = job();
        let worker = thread::spawn(move || job.run(|| Track::new(7)));
        let value = handle.wait_timeout(Duration::ZERO).unwrap_or_else(|handle| Ok(handle.wait().unwrap()));
        assert_eq!(value.unwrap().into_inner(), 7);
        assert!(worker.join().unwrap());
    });
}

#[test]
fn detach_against_completion() {
    explore("slot, handle dropped against completion", Threads::Two, || {
        let (job, handle) = job();
        let worker = thread::spawn(move || job.run(|| Track::new(7)));
        drop(handle);
        worker.join().unwrap();
    });
}

/// Exactly one of: the job runs, or `cancel` says that it will not.
#[test]
fn cancel_against_start() {
    explore("slot, cancel against start", Threads::Two, || {
        let (job, handle) = job();
        let worker = thread::spawn(move || job.run(|| Track::new(7)));
        let cancelled = handle.cancel();
        match handle.wait() {
            Ok(value) => assert_eq!((value.into_inner(), cancelled), (7, false)),
            Err(WaitError::Job(JobError::Cancelled)) => assert!(cancelled),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(worker.join().unwrap(), !cancelled);
    });
}

/// Counts its wakes.
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counter() -> (std::sync::Arc<Count>, Waker) {
    let count = std::sync::Arc::new(Count(AtomicUsize::new(0)));
    (std::sync::Arc::clone(&count), Waker::from(count))
}

/// A pending poll is followed by a wake of the last waker; then the result is there.
#[test]
fn poll_against_completion() {
    explore("slot, two polls against completion", Threads::Two, || {
        let (job, mut handle) = job();
        let worker = thread::spawn(move || job.run(|| Track::new(7)));
        let mut last = None;
        for _ in 0..2 {
            let (count, waker) = counter();
            match Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(value) => {
                    assert_eq!(value.unwrap().into_inner(), 7);
                    worker.join().unwrap();
                    return;
                }
                Poll::Pending => last = Some(count),
            }
        }
        worker.join().unwrap();
        assert_eq!(last.unwrap().0.load(Ordering::SeqCst), 1, "wakes of the last waker");
        let (_, waker) = counter();
        let Poll::Ready(value) = Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)) else {
            panic!("pending after the end");
        };
        assert_eq!(value.unwrap().into_inner(), 7);
    });
}

#[test]
fn poll_then_drop() {
    explore("slot, poll and drop against completion", Threads::Two, || {
        let (job, mut handle) = job();
        let worker = thread::spawn(move || job.run(|| Track::new(7)));
        let (_, waker) = counter();
        if let Poll::Ready(value) = Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)) {
            assert_eq!(value.unwrap().into_inner(), 7);
        }
        drop(handle);
        worker.join().unwrap();
    });
}

/// A slot that was freed is used again by another job.
#[test]
fn used_again() {
    explore("slot, used again", Threads::Two, || {
        let (first, handle) = job();
        let worker = thread::spawn(move || first.run(|| Track::new(1)));
        assert_eq!(handle.wait().unwrap().into_inner(), 1);
        let (second, handle) = job();
        second.run(|| Track::new(2));
        assert_eq!(handle.wait().unwrap().into_inner(), 2);
        worker.join().unwrap();
    });
}

/// A consumer puts the job back while it is cancelled: it ends once, and counts as a tombstone only while it lies there
/// cancelled.
#[test]
fn cancel_against_put_back() {
    explore("slot, cancel against put back", Threads::Two, || {
        let (job, handle) = job();
        let origin = job.origin();
        let consumer = thread::spawn(move || job.put_back().is_some_and(|job| job.run(|| 7)));
        let granted = handle.cancel();
        let ran = consumer.join().unwrap();
        assert!(!(ran && granted), "a job ran that was not to");
        assert_eq!(Job::<u32>::tombstones(origin), 0);
        match handle.wait() {
            Ok(value) => assert!(value == 7 && ran),
            Err(WaitError::Job(JobError::Cancelled)) => assert!(!ran),
            Err(error) => panic!("{error}"),
        }
    });
}

/// Two threads cancel through one handle: both are told the same, and the job is one tombstone.
#[test]
fn cancelled_twice() {
    explore("slot, two cancels", Threads::Two, || {
        let (job, handle) = job();
        let (origin, handle) = (job.origin(), loom::sync::Arc::new(handle));
        let other = {
            let handle = loom::sync::Arc::clone(&handle);
            thread::spawn(move || handle.cancel())
        };
        let granted = [handle.cancel(), other.join().unwrap()];
        assert_eq!((granted, Job::<u32>::tombstones(origin)), ([true; 2], 1));
        assert!(!job.run(|| 7));
        assert_eq!(Job::<u32>::tombstones(origin), 0);
    });
}

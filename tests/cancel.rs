//! What does cancelling a job do, before, while and after it runs?

mod common;

use common::wake::CountingWaker;
use common::{Gate, Held, Live, Tally, engine, outcome, value, watchdog};
use layshaft::{JobError, JobHandle, Shutdown};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context;

#[test]
fn before_the_run_it_will_not_run() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let live = Live::default();
    let ran = Arc::new(AtomicU64::new(0));
    let count = ran.clone();
    let body = move |(n, token)| {
        count.fetch_add(1, Ordering::SeqCst);
        drop(token);
        n
    };
    let note = held.engine.function("note", body).unwrap();
    let handles: Vec<JobHandle<u64>> = (0..300).map(|n| note.submit((n, live.token())).unwrap()).collect();
    for handle in handles.iter().step_by(3) {
        assert!(handle.cancel());
        assert!(handle.cancel(), "it still will not run");
        assert!(handle.is_finished());
    }
    assert_eq!(note.queued(), 200, "cancelled jobs are not queued");
    let engine = held.release();
    for (n, handle) in handles.into_iter().enumerate() {
        match outcome(handle) {
            Err(JobError::Cancelled) => assert_eq!(n % 3, 0),
            result => assert_eq!(result.unwrap(), n as u64),
        }
    }
    assert_eq!(ran.load(Ordering::SeqCst), 200);
    assert_eq!(note.queued(), 0);
    engine.shutdown(Shutdown::Drain);
    drop((engine, note));
    live.assert_balanced();
}

/// The waiter learns at once, while the worker that would skip the job is still held.
#[test]
fn the_waiter_does_not_wait_for_a_worker() {
    let _watchdog = watchdog("the wake");
    let held = Held::new(1);
    let double = held.engine.function("double", |n: u64| n * 2).unwrap();
    let mut polled = double.submit(1).unwrap();
    let (wakes, waker) = CountingWaker::pair();
    assert!(Pin::new(&mut polled).poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(polled.cancel());
    wakes.wait_for(1);
    assert!(matches!(outcome(polled), Err(JobError::Cancelled)));
    let waited = double.submit(2).unwrap();
    assert!(waited.cancel());
    assert!(matches!(waited.wait(), Err(layshaft::WaitError::Job(JobError::Cancelled))));
}

#[test]
fn while_it_runs_the_body_is_told_and_decides() {
    let _watchdog = watchdog("the end of the job");
    let engine = engine(1);
    let gate = Gate::new();
    let pass = gate.clone();
    let body = move |n: u64| {
        let before = layshaft::current().unwrap().is_cancelled();
        pass.pass();
        (n, before, layshaft::current().unwrap().is_cancelled())
    };
    let slow = engine.function("slow", body).unwrap();
    let handle = slow.submit(7).unwrap();
    gate.wait_entered(1);
    assert!(!handle.cancel(), "it runs already");
    gate.open();
    assert_eq!(value(handle), (7, false, true));
    assert_eq!(value(slow.submit(8).unwrap()), (8, false, false), "the next job is not cancelled");
}

#[test]
fn after_the_run_nothing_changes() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let double = engine.function("double", |n: u64| n * 2).unwrap();
    let first = double.submit(4).unwrap();
    value(double.submit(5).unwrap());
    assert!(!first.cancel(), "it ran");
    assert_eq!(value(first), 8);
}

#[test]
fn a_cancelled_handle_may_be_dropped() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(2);
    let live = Live::default();
    let done = Tally::new();
    let count = done.clone();
    let note = held.engine.function("note", move |(n, _token)| count.add(n)).unwrap();
    for n in 0..200 {
        let handle = note.submit((n, live.token())).unwrap();
        assert!(handle.cancel());
        drop(handle);
        note.send((n, live.token())).unwrap();
    }
    drop(held.release());
    assert_eq!((done.count(), done.sum()), (200, 199 * 100));
    drop(note);
    live.assert_balanced();
}

/// True exactly when the body did not run, however close the race is.
#[test]
fn the_answer_is_right_in_a_race() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let live = Live::default();
    let ran: Arc<Vec<AtomicU64>> = Arc::new((0..4_000).map(|_| AtomicU64::new(0)).collect());
    let count = ran.clone();
    let body = move |(n, _token): (usize, _)| count[n].fetch_add(1, Ordering::SeqCst);
    let mark = engine.function("mark", body).unwrap();
    let mut cancelled = 0;
    for n in 0..ran.len() {
        let handle = mark.submit((n, live.token())).unwrap();
        for _ in 0..n % 64 {
            std::hint::spin_loop();
        }
        let will_not_run = handle.cancel();
        let result = outcome(handle);
        assert_eq!(will_not_run, matches!(result, Err(JobError::Cancelled)), "job {n}");
        assert_eq!(ran[n].load(Ordering::SeqCst), u64::from(!will_not_run), "job {n}");
        cancelled += u64::from(will_not_run);
    }
    println!("{cancelled} of {} jobs were cancelled in time", ran.len());
    drop((engine, mark));
    live.assert_balanced();
}

/// Several threads cancel what one batch submitted, while the workers run it.
#[test]
fn whole_batches_in_a_race() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let done = Tally::new();
    let count = done.clone();
    let note = engine.function("note", move |n: u64| count.add(n)).unwrap();
    let (mut spared, mut cancelled) = (0, 0);
    for _ in 0..20 {
        let handles: Vec<_> = note.submit_batch(0..500).unwrap().into_iter().collect();
        let counts: Vec<u64> = std::thread::scope(|scope| {
            let cancel = |part: &[JobHandle<()>]| part.iter().rev().filter(|handle| handle.cancel()).count() as u64;
            let threads: Vec<_> = handles.chunks(250).map(|part| scope.spawn(move || cancel(part))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        cancelled += counts.iter().sum::<u64>();
        spared += handles.into_iter().map(outcome).filter(Result::is_ok).count() as u64;
    }
    assert_eq!(spared + cancelled, 20 * 500);
    assert_eq!(done.count(), spared);
}

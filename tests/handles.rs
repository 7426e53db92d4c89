//! What can the caller's end of a job do: wait, poll, detach, tell its id?

mod common;

use common::wake::CountingWaker;
use common::{Held, PATIENCE, Tally, engine, outcome, value, watchdog};
use futures_lite::future::block_on;
use layshaft::{JobError, JobHandle, JobId, Shutdown, WaitError};
use std::collections::{BTreeSet, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

fn poll<R>(handle: &mut JobHandle<R>, waker: &Waker) -> Poll<Result<R, JobError>> {
    Pin::new(handle).poll(&mut Context::from_waker(waker))
}

#[test]
fn wait_gives_the_result() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let double = engine.function("double", |n: u64| n * 2).unwrap();
    assert_eq!(double.submit(21).unwrap().wait().unwrap(), 42);
    assert_eq!(double.call(4).unwrap(), 8);
}

#[test]
fn wait_blocks_until_the_job_ends() {
    let _watchdog = watchdog("the end of the wait");
    let held = Held::new(1);
    let double = held.engine.function("double", |n: u64| n * 2).unwrap();
    let handles: Vec<_> = (0..8).map(|n| double.submit(n).unwrap()).collect();
    let waiters: Vec<_> = handles.into_iter().map(|handle| thread::spawn(move || handle.wait().unwrap())).collect();
    let _engine = held.release();
    for (n, waiter) in waiters.into_iter().enumerate() {
        assert_eq!(waiter.join().unwrap(), 2 * n as u64);
    }
}

#[test]
fn wait_timeout_hands_the_handle_back() {
    let _watchdog = watchdog("the end of the job");
    let held = Held::new(1);
    let double = held.engine.function("double", |n: u64| n * 2).unwrap();
    let handle = double.submit(5).unwrap();
    let id = handle.id();
    let handle = handle.wait_timeout(Duration::ZERO).unwrap_err();
    let handle = handle.wait_timeout(Duration::from_millis(5)).unwrap_err();
    assert_eq!(handle.id(), id);
    let _engine = held.release();
    assert_eq!(handle.wait_timeout(PATIENCE).ok().unwrap().unwrap(), 10);
}

#[test]
fn the_longest_timeout_does_not_overflow() {
    let _watchdog = watchdog("the end of the job");
    let held = Held::new(1);
    let double = held.engine.function("double", |n: u64| n * 2).unwrap();
    let handle = double.submit(5).unwrap();
    let waiter = thread::spawn(move || handle.wait_timeout(Duration::MAX).ok().unwrap().unwrap());
    let _engine = held.release();
    assert_eq!(waiter.join().unwrap(), 10);
}

#[test]
fn a_handle_is_a_future_for_any_waker() {
    let _watchdog = watchdog("the wake");
    let held = Held::new(1);
    let double = held.engine.function("double", |n: u64| n * 2).unwrap();
    let mut handle = double.submit(6).unwrap();
    let (wakes, waker) = CountingWaker::pair();
    assert!(poll(&mut handle, &waker).is_pending());
    assert!(poll(&mut handle, &waker).is_pending());
    assert_eq!(wakes.wakes(), 0);
    let _engine = held.release();
    wakes.wait_for(1);
    assert!(handle.is_finished());
    assert!(matches!(poll(&mut handle, &waker), Poll::Ready(Ok(12))));
    assert_eq!(wakes.wakes(), 1, "one end of a job is one wake");
}

#[test]
fn only_the_last_waker_is_woken() {
    let _watchdog = watchdog("the wake");
    let held = Held::new(1);
    let double = held.engine.function("double", |n: u64| n * 2).unwrap();
    let mut handle = double.submit(6).unwrap();
    let (first_wakes, first) = CountingWaker::pair();
    let (last_wakes, last) = CountingWaker::pair();
    assert!(poll(&mut handle, &first).is_pending());
    assert!(poll(&mut handle, &last).is_pending());
    let _engine = held.release();
    last_wakes.wait_for(1);
    assert!(matches!(poll(&mut handle, &last), Poll::Ready(Ok(12))));
    assert_eq!(first_wakes.wakes(), 0);
}

/// The replacement of a waker races with the end of the job: the job's end must reach the new one.
#[test]
fn a_waker_replaced_during_the_end_is_not_lost() {
    let _watchdog = watchdog("a wake for the last waker");
    let engine = engine(1);
    let double = engine.function("double", |n: u64| n * 2).unwrap();
    for n in 0..2_000 {
        let mut handle = double.submit(n).unwrap();
        let result = loop {
            let (wakes, waker) = CountingWaker::pair();
            if let Poll::Ready(result) = poll(&mut handle, &waker) {
                break result;
            }
            if n % 2 == 0 {
                wakes.wait_for(1);
            }
        };
        assert_eq!(result.unwrap(), 2 * n);
    }
}

#[test]
fn wakers_are_dropped_with_their_job() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let double = held.engine.function("double", |n: u64| n * 2).unwrap();
    let (wakes, waker) = CountingWaker::pair();
    let mut dropped = double.submit(1).unwrap();
    assert!(poll(&mut dropped, &waker).is_pending());
    drop(dropped);
    let mut cancelled = double.submit(2).unwrap();
    assert!(poll(&mut cancelled, &waker).is_pending());
    assert!(cancelled.cancel());
    let mut ended = double.submit(3).unwrap();
    assert!(poll(&mut ended, &waker).is_pending());
    held.release().shutdown(Shutdown::Drain);
    drop((cancelled, ended, waker));
    assert_eq!(Arc::strong_count(&wakes), 1, "a waker was kept");
}

#[test]
fn futures_run_without_a_runtime() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let double = engine.function("double", |n: u64| n * 2).unwrap();
    let sum = block_on(async {
        let handles: Vec<_> = (0..100).map(|n| double.submit(n).unwrap()).collect();
        let mut sum = 0;
        for handle in handles {
            sum += handle.await.unwrap();
        }
        sum
    });
    assert_eq!(sum, 9_900);
    let failed = engine.function("failed", |()| std::panic::resume_unwind(Box::new("no luck"))).unwrap();
    assert!(matches!(block_on(failed.submit(()).unwrap()), Err(JobError::Panicked(_))));
}

#[test]
fn a_polled_handle_can_still_wait() {
    let _watchdog = watchdog("the end of the job");
    let held = Held::new(1);
    let double = held.engine.function("double", |n: u64| n * 2).unwrap();
    let mut handle = double.submit(6).unwrap();
    let (_, waker) = CountingWaker::pair();
    assert!(poll(&mut handle, &waker).is_pending());
    let waiter = thread::spawn(move || handle.wait().unwrap());
    let _engine = held.release();
    assert_eq!(waiter.join().unwrap(), 12);
}

#[test]
fn dropping_a_handle_detaches_the_job() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let done = Tally::new();
    let count = done.clone();
    let note = held.engine.function("note", move |n: u64| count.add(n)).unwrap();
    for n in 0..100 {
        drop(note.submit(n).unwrap());
    }
    drop(note.submit_batch(0..100).unwrap());
    let _engine = held.release();
    done.wait_for(200);
    assert_eq!(done.sum(), 2 * 4_950);
}

#[test]
fn ids_are_unique_and_stable() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let own = engine.function("own", |()| layshaft::current().unwrap().id()).unwrap();
    let mut ids: HashSet<JobId> = HashSet::new();
    let mut texts: BTreeSet<String> = BTreeSet::new();
    for round in 0..20 {
        let handles: Vec<_> = (0..100).map(|_| own.submit(()).unwrap()).collect();
        for handle in handles {
            let id = handle.id();
            assert!(ids.insert(id), "round {round}: id {id} was given twice");
            assert!(texts.insert(id.to_string()), "round {round}: {id} was printed for another job");
            let handle = match handle.wait_timeout(Duration::ZERO) {
                Ok(seen) => {
                    assert_eq!(seen.unwrap(), Some(id));
                    continue;
                }
                Err(handle) => handle,
            };
            assert_eq!(handle.id(), id);
            assert_eq!(value(handle), Some(id), "the body saw another id");
        }
    }
}

#[test]
fn current_tells_about_the_running_job() {
    let _watchdog = watchdog("the end of the jobs");
    assert!(layshaft::current().is_none());
    let engine = engine(1);
    let (tell, told) = std::sync::mpsc::channel();
    let about = engine.function("about", move |()| {
        let running = layshaft::current().unwrap();
        tell.send((running.id(), running.function().to_owned(), running.engine().workers())).unwrap();
    });
    about.unwrap().send(()).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (None, "about".to_owned(), 1));
}

#[test]
fn is_finished_follows_the_job() {
    let _watchdog = watchdog("the end of the job");
    let held = Held::new(1);
    let double = held.engine.function("double", |n: u64| n * 2).unwrap();
    let (first, second) = (double.submit(1).unwrap(), double.submit(2).unwrap());
    assert!(!first.is_finished());
    assert!(second.cancel());
    assert!(second.is_finished());
    let _engine = held.release();
    value(double.submit(3).unwrap());
    assert!(first.is_finished(), "a job before a finished one has finished, with one worker");
}

/// The refused wait hands the handle back, and it still works elsewhere.
#[test]
fn waiting_for_ones_own_job_is_refused() {
    let _watchdog = watchdog("the refusal");
    let held = Held::new(1);
    let own: Arc<Mutex<Option<JobHandle<bool>>>> = Arc::default();
    let inside = own.clone();
    let (back, handed_back) = std::sync::mpsc::channel();
    let body = move |()| {
        let handle = inside.lock().unwrap().take().unwrap();
        match handle.wait() {
            Err(WaitError::WouldNeverEnd(handle)) => back.send(handle).is_ok(),
            _ => false,
        }
    };
    let wait = held.engine.function("wait", body).unwrap();
    *own.lock().unwrap() = Some(wait.submit(()).unwrap());
    let _engine = held.release();
    let handle = handed_back.recv_timeout(PATIENCE).expect("the wait is refused");
    assert!(value(handle));
}

/// With one worker, the outer job lies on the stack under the inner one, which waits for it.
#[test]
fn waiting_for_a_job_below_on_the_stack_is_refused() {
    let _watchdog = watchdog("the refusal");
    let held = Held::new(1);
    let outer: Arc<Mutex<Option<JobHandle<bool>>>> = Arc::default();
    let (back, handed_back) = std::sync::mpsc::channel();
    let below = outer.clone();
    let inner_body = move |()| match below.lock().unwrap().take().unwrap().wait() {
        Err(WaitError::WouldNeverEnd(handle)) => back.send(handle).is_ok(),
        _ => false,
    };
    let inner = held.engine.function("inner", inner_body).unwrap();
    let body = move |()| inner.submit(()).unwrap().wait().unwrap();
    let function = held.engine.function("outer", body).unwrap();
    *outer.lock().unwrap() = Some(function.submit(()).unwrap());
    let _engine = held.release();
    let handle = handed_back.recv_timeout(PATIENCE).expect("the wait is refused");
    assert!(value(handle));
}

#[test]
fn handles_outlive_their_engine() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let double = engine.function("double", |n: u64| n * 2).unwrap();
    let done = double.submit(4).unwrap();
    let ignored = double.submit(5).unwrap();
    drop(engine);
    assert_eq!(value(done), 8);
    assert!(ignored.is_finished());
    assert!(!ignored.cancel());
    assert!(outcome(ignored).is_ok());
}

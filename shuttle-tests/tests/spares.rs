//! Waits inside jobs with spares that take over, scopes, and batches as they come.
#![cfg(layshaft_shuttle)]

use layshaft::{Function, JobError, Priority, Shutdown, WaitError, current};
use layshaft_shuttle_tests::{explore, join, start, start_with_spares, wait_for};
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread;
use std::sync::{Arc, OnceLock};

type Tree = Function<usize, usize>;

/// A function that counts the leaves below it: two children a level, one in the worker's own deque, one in the lane.
fn tree(engine: &layshaft::Engine, ran: &Arc<AtomicUsize>) -> Tree {
    let key = Arc::new(OnceLock::<Tree>::new());
    let (children, count) = (Arc::clone(&key), Arc::clone(ran));
    let leaves = engine.function("leaves", move |depth: usize| {
        count.fetch_add(1, Ordering::Relaxed);
        let Some(below) = depth.checked_sub(1) else { return 1 };
        let submit = |priority| children.get().unwrap().job(below).priority(priority).submit().unwrap();
        let handles = [submit(Priority::Normal), submit(Priority::Low)];
        handles.map(|handle| handle.wait().unwrap()).into_iter().sum()
    });
    key.set(leaves.unwrap()).unwrap();
    key.get().unwrap().clone()
}

/// With enough spares no wait is refused, and all that was submitted has run.
#[test]
fn trees_of_waits() {
    explore("trees of waits", 3_000, || {
        // Jobs that wait are at most four: two roots, and two below one of them.
        let (engine, _, threads) = start_with_spares(2, 4);
        let ran = Arc::new(AtomicUsize::new(0));
        let leaves = tree(&engine, &ran);
        let other = leaves.clone();
        let caller = thread::spawn(move || other.call(2).unwrap());
        assert_eq!(leaves.call(1).unwrap(), 2);
        assert_eq!(caller.join().unwrap(), 4);
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(threads);
        assert_eq!(ran.load(Ordering::Relaxed), 3 + 7);
    });
}

/// The drain comes while jobs wait: what they wait for is run.
#[test]
fn waits_against_the_drain() {
    explore("waits against the drain", 4_000, || {
        let (engine, _, threads) = start_with_spares(1, 3);
        let ran = Arc::new(AtomicUsize::new(0));
        let leaves = tree(&engine, &ran);
        let handle = leaves.submit(2).unwrap();
        let caller = thread::spawn(move || handle.wait().unwrap());
        assert!(engine.shutdown(Shutdown::Drain).complete);
        assert_eq!(ran.load(Ordering::Relaxed), 7);
        assert_eq!(caller.join().unwrap(), 4);
        join(threads);
    });
}

/// A discard while jobs wait: each wait ends, and each job that was accepted ran or was counted.
#[test]
fn waits_against_a_discard() {
    explore("waits against a discard", 4_000, || {
        let (engine, _, threads) = start_with_spares(2, 2);
        let ran = Arc::new(AtomicUsize::new(0));
        let accepted = Arc::new(AtomicUsize::new(0));
        let (count, run) = (Arc::clone(&accepted), Arc::clone(&ran));
        let inner = engine.function("inner", |n: usize| n).unwrap().ordered();
        let outer = engine.function("outer", move |n: usize| {
            run.fetch_add(1, Ordering::Relaxed);
            let Ok(handle) = inner.submit(n) else { return n };
            count.fetch_add(1, Ordering::Relaxed);
            match handle.wait() {
                Ok(value) => {
                    run.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(value, n);
                }
                Err(WaitError::Job(JobError::Cancelled)) => {}
                Err(error) => panic!("{error}"),
            }
            n
        });
        let outer = outer.unwrap();
        let caller = |t: usize| {
            let (outer, accepted) = (outer.clone(), Arc::clone(&accepted));
            thread::spawn(move || {
                let handles: Vec<_> = (0..2).filter_map(|_| outer.submit(t).ok()).collect();
                accepted.fetch_add(handles.len(), Ordering::Relaxed);
                for handle in handles {
                    match handle.wait() {
                        Ok(value) => assert_eq!(value, t),
                        Err(WaitError::Job(JobError::Cancelled)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        };
        let callers: Vec<_> = (0..2).map(caller).collect();
        let drained = engine.shutdown(Shutdown::Discard);
        join(callers);
        join(threads);
        assert!(drained.complete);
        let (accepted, ran) = (accepted.load(Ordering::Relaxed), ran.load(Ordering::Relaxed));
        assert_eq!(accepted, ran + drained.discarded);
    });
}

/// Jobs that borrow, in jobs and outside, with spares and without, while the engine ends: each runs once before its scope
/// returns.
fn scopes(spares: usize, mode: Shutdown) {
    let (engine, _, threads) = start_with_spares(2, spares);
    let ran = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ran);
    let inside = engine.function("inside", move |()| {
        let (engine, mut places) = (current().unwrap().engine(), [0; 3]);
        engine.scope(|scope| places.iter_mut().for_each(|place| scope.spawn(|| *place += 1)));
        let (a, b) = engine.join(|| places[0], || places[1..].iter().sum::<usize>());
        assert_eq!((a, b), (1, 2), "jobs of a scope were lost, or ran twice");
        count.fetch_add(1, Ordering::Relaxed);
    });
    let inside = inside.unwrap();
    let accepted = (0..2).filter(|_| inside.send(()).is_ok()).count();
    let other = engine.clone();
    let outside = thread::spawn(move || {
        let mut places = [0; 2];
        other.scope(|scope| {
            let (left, right) = places.split_at_mut(1);
            scope.spawn(move || {
                left[0] += 1;
                // Of the same scope, from inside of it.
                scope.spawn(move || right[0] += 1);
            });
        });
        assert_eq!(places, [1, 1]);
    });
    let drained = engine.shutdown(mode);
    outside.join().unwrap();
    join(threads);
    assert!(drained.complete);
    let left = accepted - ran.load(Ordering::Relaxed);
    assert!(left == 0 || mode == Shutdown::Discard);
    assert!(drained.discarded >= left, "{left} did not run, {} were counted", drained.discarded);
}

#[test]
fn scopes_without_spares() {
    explore("scopes without spares", 3_000, || scopes(0, Shutdown::Drain));
}

#[test]
fn scopes_with_spares() {
    explore("scopes with spares", 3_000, || scopes(2, Shutdown::Drain));
}

#[test]
fn scopes_against_a_discard() {
    explore("scopes against a discard", 3_000, || scopes(1, Shutdown::Discard));
}

/// Batches as they come: outside, polled, and in jobs, of jobs in the own deque and in a lane. Each index comes once, with its
/// value.
#[test]
fn as_completed() {
    explore("as completed", 3_000, || {
        let (engine, _, threads) = start_with_spares(2, 2);
        let double = engine.function("double", |n: usize| n * 2).unwrap();
        let ordered = engine.function("ordered", |n: usize| n * 2).unwrap().ordered();
        let functions = [double.clone(), ordered];
        let check = |(index, value): (usize, usize)| {
            assert_eq!(value, index * 2);
            1 << index
        };
        let inside = engine.function("inside", move |which: usize| {
            let done = functions[which].submit_batch(0..3).unwrap().as_completed();
            done.map(|(index, result)| check((index, result.unwrap()))).sum::<usize>()
        });
        let inside = inside.unwrap();
        let caller = |which: usize| {
            let (double, inside) = (double.clone(), inside.clone());
            thread::spawn(move || {
                let mut sum = 0;
                let mut done = double.submit_batch(0..3).unwrap().as_completed();
                while let Some((index, result)) = match which {
                    0 => done.next().map(|(index, result)| (index, result.unwrap())),
                    _ => wait_for(|cx| done.poll_next(cx)).map(|(index, result)| (index, result.unwrap())),
                } {
                    sum += check((index, result));
                }
                assert_eq!(sum, 0b111);
                assert_eq!(inside.call(which).unwrap(), 0b111);
            })
        };
        join((0..2).map(caller).collect::<Vec<_>>());
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(threads);
    });
}

/// The same without spares: a wait is refused, or all come; what was refused comes later.
#[test]
fn as_completed_without_spares() {
    explore("as completed without spares", 4_000, || {
        let (engine, threads) = start(2);
        let ran = Arc::new(AtomicUsize::new(0));
        let run = Arc::clone(&ran);
        let ordered = engine.function("ordered", move |n: usize| {
            run.fetch_add(1, Ordering::Relaxed);
            n
        });
        let ordered = ordered.unwrap().ordered();
        let inside = engine.function("inside", move |jobs: usize| {
            let mut refused = Vec::new();
            let mut got = 0;
            for (index, result) in ordered.submit_batch(0..jobs).unwrap().as_completed() {
                match result {
                    Ok(value) => {
                        assert_eq!(value, index);
                        got += 1;
                    }
                    Err(WaitError::WouldNeverEnd(handle)) => refused.push((index, handle)),
                    Err(error) => panic!("{error}"),
                }
            }
            (got, refused)
        });
        let inside = inside.unwrap();
        let caller = |_| {
            let inside = inside.clone();
            thread::spawn(move || {
                let (got, refused) = inside.call(2).unwrap();
                assert_eq!(got + refused.len(), 2);
                for (index, handle) in refused {
                    assert_eq!(handle.wait().unwrap(), index);
                }
            })
        };
        join((0..2).map(caller).collect::<Vec<_>>());
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(threads);
        assert_eq!(ran.load(Ordering::Relaxed), 4);
    });
}

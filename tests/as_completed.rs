//! What happens when the jobs of a batch are wanted as they end?

mod common;

use common::wake::CountingWaker;
use common::{Gate, Held, Live, Tally, engine, outcome, value, watchdog};
use layshaft::{AsCompleted, Engine, JobError, Shutdown, WaitError};
use std::future::poll_fn;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

/// Indexes and values of all that is left.
fn values<R>(done: AsCompleted<R>) -> Vec<(usize, R)> {
    done.map(|(index, result)| (index, result.unwrap())).collect()
}

#[test]
fn none() {
    let engine = engine(1);
    let double = engine.function("double", |n: u64| n * 2).unwrap();
    let mut done = double.submit_batch([]).unwrap().as_completed();
    assert_eq!(done.len(), 0);
    assert!(done.next().is_none() && done.next().is_none());
    assert!(matches!(done.poll_next(&mut Context::from_waker(&CountingWaker::pair().1)), Poll::Ready(None)));
}

#[test]
fn in_the_order_of_their_ends() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(4);
    let gates: [Gate; 4] = Default::default();
    let pass = gates.clone();
    let held = engine.function("held", move |n: usize| {
        pass[n].pass();
        n * 10
    });
    let mut done = held.unwrap().submit_batch(0..4).unwrap().as_completed();
    for (left, index) in [2, 0, 3, 1].into_iter().enumerate() {
        assert_eq!(done.len(), 4 - left);
        gates[index].open();
        let (got, result) = done.next().unwrap();
        assert_eq!((got, result.unwrap()), (index, index * 10));
    }
    assert!(done.next().is_none());
}

#[test]
fn what_has_ended_comes_first() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let gate = Gate::new();
    let pass = gate.clone();
    let held = engine.function("held", move |n: usize| {
        if n == 0 {
            pass.pass();
        }
        n
    });
    let held = held.unwrap();
    let batch = held.submit_batch(0..5).unwrap();
    // Order among the others is that of their starts.
    held.call(9).unwrap();
    let mut done = batch.as_completed();
    assert_eq!(done.by_ref().take(4).map(|(index, _)| index).collect::<Vec<_>>(), [1, 2, 3, 4]);
    gate.open();
    assert_eq!(values(done), [(0, 0)]);
}

#[test]
fn each_job_fails_for_itself() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let odd = engine.function("odd", |n: usize| if n % 2 == 0 { resume_unwind(Box::new("even")) } else { n });
    let mut seen = [false; 200];
    for (index, result) in odd.unwrap().submit_batch(0..200).unwrap().as_completed() {
        assert!(!std::mem::replace(&mut seen[index], true), "job {index} came twice");
        match result {
            Ok(value) => assert_eq!((value, index % 2), (index, 1)),
            Err(WaitError::Job(JobError::Panicked(panic))) => assert_eq!((panic.message(), index % 2), ("even", 0)),
            Err(error) => panic!("job {index}: {error}"),
        }
    }
    assert_eq!(seen, [true; 200]);
}

#[test]
fn a_discard_ends_the_rest() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let double = held.engine.function("double", |n: u64| n * 2).unwrap();
    let mut done = double.submit_batch(0..100).unwrap().as_completed();
    let engine = held.engine.clone();
    let ender = std::thread::spawn(move || engine.shutdown(Shutdown::Discard));
    let first = done.next();
    assert!(matches!(first, Some((_, Err(WaitError::Job(JobError::Cancelled))))));
    held.open();
    assert_eq!(done.filter(|(_, result)| matches!(result, Err(WaitError::Job(JobError::Cancelled)))).count(), 99);
    assert_eq!(ender.join().unwrap().discarded, 100);
}

/// Nobody but the job that waits is there to run them.
#[test]
fn inside_a_job_its_own_deque_is_run() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = Engine::builder().workers(1).spare_workers(0).start().unwrap();
    let double = engine.function("double", |n: usize| n * 2).unwrap();
    let outer =
        engine.function("outer", move |jobs: usize| values(double.submit_batch(0..jobs).unwrap().as_completed()));
    let pairs = value(outer.unwrap().submit(200).unwrap());
    assert_eq!(pairs, (0..200).rev().map(|n| (n, n * 2)).collect::<Vec<_>>(), "newest first");
}

/// Jobs in the function's queue need another thread, and there is only a spare.
#[test]
fn inside_a_job_a_spare_takes_the_place() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = Engine::builder().workers(1).spare_workers(1).start().unwrap();
    let double = engine.function("double", |n: usize| n * 2).unwrap().ordered();
    let outer =
        engine.function("outer", move |jobs: usize| values(double.submit_batch(0..jobs).unwrap().as_completed()));
    let pairs = value(outer.unwrap().submit(200).unwrap());
    assert_eq!(pairs, (0..200).map(|n| (n, n * 2)).collect::<Vec<_>>());
}

#[test]
fn a_wait_that_would_never_end_gives_the_handles_back() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = Engine::builder().workers(1).spare_workers(0).start().unwrap();
    let double = engine.function("double", |n: usize| n * 2).unwrap().ordered();
    let outer = engine.function("outer", move |jobs: usize| {
        let refused = double.submit_batch(0..jobs).unwrap().as_completed().map(|(index, result)| match result {
            Err(WaitError::WouldNeverEnd(handle)) => (index, handle),
            other => panic!("{other:?}"),
        });
        refused.collect::<Vec<_>>()
    });
    let refused = value(outer.unwrap().submit(5).unwrap());
    assert_eq!(refused.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    for (index, handle) in refused {
        assert_eq!(value(handle), index * 2);
    }
}

/// One handle went back, the others go on: its end is told, too, and concerns nobody.
#[test]
fn after_a_refusal_the_rest_comes() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = Engine::builder().workers(1).spare_workers(0).start().unwrap();
    let double = engine.function("double", |n: usize| n * 2).unwrap().ordered();
    let outer = engine.function("outer", move |()| {
        let mut done = double.submit_batch(0..4).unwrap().as_completed();
        let (index, refused) = done.next().unwrap();
        assert_eq!(index, 0);
        let Err(WaitError::WouldNeverEnd(handle)) = refused else { panic!("{refused:?}") };
        (handle, done)
    });
    let (handle, done) = value(outer.unwrap().submit(()).unwrap());
    assert_eq!(value(handle), 0);
    assert_eq!(values(done), [(1, 2), (2, 4), (3, 6)]);
}

/// A job finds itself in the batch that it goes through: it alone cannot end.
#[test]
fn a_job_does_not_wait_for_itself() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let own: Arc<Mutex<Option<AsCompleted<usize>>>> = Arc::default();
    let (gate, inside) = (Gate::new(), own.clone());
    let pass = gate.clone();
    let job = engine.function("job", move |n: usize| {
        if n > 0 {
            return 0;
        }
        pass.pass();
        let mut done = inside.lock().unwrap().take().unwrap();
        assert!(matches!(done.by_ref().take(2).map(|(index, _)| index).sum::<usize>(), 3));
        let (index, result) = done.next().unwrap();
        assert!(matches!(result, Err(WaitError::WouldNeverEnd(_))) && done.next().is_none());
        index + 100
    });
    let job = job.unwrap();
    let batch = job.submit_batch(0..3).unwrap();
    *own.lock().unwrap() = Some(batch.as_completed());
    gate.wait_entered(1);
    gate.open();
    // The handle of that job was dropped by itself: what it did is seen at the end.
    assert!(engine.shutdown(Shutdown::Drain).complete);
    assert_eq!(engine.stats().total().panicked, 0);
}

/// Jobs that this engine's workers do not run are waited for with and without spares.
#[test]
fn jobs_of_others() {
    let _watchdog = watchdog("the end of the jobs");
    for spares in [0, 1] {
        let (other, engine) = (engine(1), Engine::builder().workers(1).spare_workers(spares).start().unwrap());
        let double = other.function("double", |n: usize| {
            // Longer than a wait spins.
            (0..if n == 0 { 5_000 } else { 0 }).for_each(|_| std::thread::yield_now());
            n * 2
        });
        let double = double.unwrap();
        let pulled = engine.consumer::<usize, usize>("pulled").unwrap();
        let set = engine.consumer_set();
        set.add(&pulled);
        let consumer = std::thread::spawn(move || {
            while let Some(job) = set.next() {
                let (n, completer) = job.take();
                completer.complete(n * 3);
            }
        });
        let outer = engine.function("outer", move |jobs: usize| {
            let sum = |done: AsCompleted<usize>| done.map(|(_, result)| result.unwrap()).sum::<usize>();
            let doubled = sum(double.submit_batch(0..jobs).unwrap().as_completed());
            doubled + sum(pulled.submit_batch(0..jobs).unwrap().as_completed())
        });
        assert_eq!(value(outer.unwrap().submit(100).unwrap()), 5 * 4_950);
        engine.shutdown(Shutdown::Drain);
        consumer.join().unwrap();
    }
}

#[test]
fn dropping_it_detaches_the_rest() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let (live, ran) = (Live::default(), Tally::new());
    let count = ran.clone();
    let note = held.engine.function("note", move |token: common::Token| {
        count.add(1);
        token
    });
    let note = note.unwrap();
    let mut done = note.submit_batch((0..10).map(|_| live.token())).unwrap().as_completed();
    let (counter, waker) = CountingWaker::pair();
    assert!(done.poll_next(&mut Context::from_waker(&waker)).is_pending());
    drop(done);
    drop((held.release(), note));
    assert_eq!((ran.count(), counter.wakes()), (10, 0));
    live.assert_balanced();
}

/// One wake-up for what has ended since the last poll.
#[test]
fn polls() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let gates: [Gate; 3] = Default::default();
    let pass = gates.clone();
    let held = engine.function("held", move |n: usize| {
        pass[n].pass();
        n
    });
    let held = held.unwrap();
    let mut done = held.submit_batch([0, 1, 2]).unwrap().as_completed();
    let (counter, waker) = CountingWaker::pair();
    let (last, other) = CountingWaker::pair();
    assert!(done.poll_next(&mut Context::from_waker(&waker)).is_pending());
    assert!(done.poll_next(&mut Context::from_waker(&other)).is_pending());
    gates[0].open();
    last.wait_for(1);
    gates[1].open();
    // The second has ended when the third starts.
    gates[2].wait_entered(1);
    assert_eq!((counter.wakes(), last.wakes()), (0, 1), "the last waker alone is woken, and once");
    for n in [0, 1] {
        let polled = done.poll_next(&mut Context::from_waker(&waker));
        assert!(matches!(polled, Poll::Ready(Some((index, Ok(value)))) if (index, value) == (n, n)), "{polled:?}");
    }
    assert!(done.poll_next(&mut Context::from_waker(&waker)).is_pending());
    gates[2].open();
    counter.wait_for(1);
    assert!(matches!(done.poll_next(&mut Context::from_waker(&waker)), Poll::Ready(Some((2, Ok(2))))));
    assert!(matches!(done.poll_next(&mut Context::from_waker(&waker)), Poll::Ready(None)));
    assert_eq!((counter.wakes(), last.wakes()), (1, 1));
}

#[test]
fn futures_run_without_a_runtime() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let square = engine.function("square", |n: usize| n * n).unwrap();
    let sum = futures_lite::future::block_on(async {
        let mut done = square.submit_batch(0..1_000).unwrap().as_completed();
        let mut sum = 0;
        while let Some((index, result)) = poll_fn(|cx| done.poll_next(cx)).await {
            assert_eq!(result.unwrap(), index * index);
            sum += index;
        }
        sum
    });
    assert_eq!(sum, 999 * 500);
}

/// Batches from outside and inside, of leaves and of jobs that go through batches themselves; some are given up.
#[test]
fn stress() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let leaf = engine.function("leaf", |n: usize| n + 1).unwrap();
    let (inner, give_up) = (leaf.clone(), AtomicBool::new(false));
    let tree = engine.function("tree", move |n: usize| {
        let mut done = inner.submit_batch(0..n).unwrap().as_completed();
        if give_up.fetch_xor(true, Ordering::Relaxed) {
            return done.next().map_or(0, |(index, result)| result.unwrap() - index);
        }
        let all = values(done);
        assert!(all.iter().all(|(index, value)| *value == index + 1));
        all.len()
    });
    let tree = tree.unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..100 {
                    let mut indexes: Vec<usize> = values(leaf.submit_batch(0..n).unwrap().as_completed())
                        .into_iter()
                        .map(|(index, value)| value.min(index))
                        .collect();
                    indexes.sort_unstable();
                    assert!(indexes.into_iter().eq(0..n));
                    for (index, result) in tree.submit_batch([n; 4]).unwrap().as_completed() {
                        let got = result.unwrap();
                        assert!(got == n || got == n.min(1), "tree {index}: {got} of {n}");
                    }
                }
            });
        }
    });
    assert_eq!(outcome(leaf.submit(1).unwrap()).unwrap(), 2);
    assert!(engine.shutdown(Shutdown::Drain).complete);
}

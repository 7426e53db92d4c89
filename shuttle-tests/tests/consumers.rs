//! Functions without a body, pulled by several sets.
#![cfg(layshaft_shuttle)]
// Errors hold locks, and those of shuttle are large.
#![allow(clippy::result_large_err)]

use layshaft::{ConsumerSet, Function, JobError, Limits, Priority, Pulled, Retry, Shutdown, WaitError};
use layshaft_shuttle_tests::{explore, join, start, start_with_spares, wait_for};
use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use shuttle::thread;
use std::sync::Arc;
use std::time::Duration;

type Job = Function<usize, usize>;

/// As `ConsumerSet::next`, on the model's threads: `None` when every function is closed and empty.
fn next(set: &ConsumerSet<usize, usize>, functions: &[Job]) -> Option<Pulled<usize, usize>> {
    loop {
        let is_over = functions.iter().all(Job::is_closed);
        if let Some(job) = set.try_next() {
            return Some(job);
        }
        if is_over {
            return None;
        }
        wait_for(|cx| set.poll_ready(cx));
        // What is there may be reserved and not published yet: its producer goes first.
        thread::yield_now();
    }
}

/// Two sets over two functions. Each job is finished once, those that are put back and those that get lost, too.
#[test]
fn pulled_by_two_sets() {
    explore("pulled by two sets", 3_000, || {
        let (engine, workers) = start(1);
        let functions: Arc<Vec<Job>> =
            Arc::new(["one", "two"].iter().map(|name| engine.consumer(name).unwrap()).collect());
        let returns = Arc::new(AtomicUsize::new(0));
        let consumer = |_| {
            let (set, functions, returns) = (engine.consumer_set(), Arc::clone(&functions), Arc::clone(&returns));
            functions.iter().for_each(|function| set.add(function));
            thread::spawn(move || {
                while let Some(job) = next(&set, &functions) {
                    if job.priority() == Priority::High && returns.fetch_add(1, Ordering::Relaxed) == 0 {
                        job.put_back();
                        continue;
                    }
                    let (x, completer) = job.take();
                    match x % 3 {
                        0 => drop(completer),
                        1 => completer.fail("planned"),
                        _ => completer.complete(x * 2),
                    }
                }
            })
        };
        let consumers: Vec<_> = (0..2).map(consumer).collect();
        let caller = |t: usize| {
            let functions = Arc::clone(&functions);
            thread::spawn(move || {
                let at = |i| if i == 1 { Priority::High } else { Priority::Normal };
                let submit = |i: usize| functions[(t + i) % 2].job(t * 3 + i).priority(at(i)).submit().unwrap();
                let handles: Vec<_> = (0..3).map(submit).collect();
                for (i, handle) in handles.into_iter().enumerate() {
                    match handle.wait() {
                        Ok(value) => assert!(i == 2 && value == (t * 3 + i) * 2),
                        Err(WaitError::Job(JobError::Lost)) => assert_eq!(i, 0),
                        Err(WaitError::Job(JobError::Failed(_))) => assert_eq!(i, 1),
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        };
        join((0..2).map(caller));
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(consumers);
        join(workers);
    });
}

/// A function is added to a parked set and removed from it, another one from the engine, while callers submit and cancel.
#[test]
fn functions_come_and_go() {
    explore("functions come and go", 3_000, || {
        let (engine, workers) = start(1);
        let functions: Arc<Vec<Job>> =
            Arc::new(["one", "two"].iter().map(|name| engine.consumer(name).unwrap()).collect());
        let set = Arc::new(engine.consumer_set());
        set.add(&functions[0]);
        let (mine, theirs) = (Arc::clone(&set), Arc::clone(&functions));
        let consumer = thread::spawn(move || {
            let mut finished = 0;
            while let Some(job) = next(&mine, &theirs) {
                let (x, completer) = job.take();
                finished += usize::from(!completer.is_cancelled());
                completer.complete(x);
            }
            finished
        });
        let caller = |t: usize| {
            let functions = Arc::clone(&functions);
            thread::spawn(move || {
                let handles: Vec<_> = (0..2).filter_map(|i| functions[t].submit(i).ok()).collect();
                let cancelled = handles.first().is_some_and(|handle| handle.cancel());
                for (i, handle) in handles.into_iter().enumerate() {
                    match handle.wait() {
                        Ok(value) => assert!(value < 2),
                        Err(WaitError::Job(JobError::Cancelled)) => assert!(i == 0 && cancelled),
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        };
        let callers: Vec<_> = (0..2).map(caller).collect();
        set.add(&functions[1]);
        set.remove(&functions[0]);
        set.add(&functions[0]);
        join(callers);
        assert!(engine.remove("one"));
        assert!(engine.shutdown(Shutdown::Drain).complete);
        assert!(consumer.join().unwrap() <= 4);
        join(workers);
    });
}

/// A discard ends what is queued, and what is put back after it.
#[test]
fn discard_against_sets() {
    explore("discard against sets", 3_000, || {
        let (engine, workers) = start(1);
        let functions: Arc<Vec<Job>> = Arc::new(vec![engine.consumer("one").unwrap()]);
        let consumer = |_| {
            let (set, functions) = (engine.consumer_set(), Arc::clone(&functions));
            set.add(&functions[0]);
            thread::spawn(move || {
                let mut returned = false;
                while let Some(job) = next(&set, &functions) {
                    if std::mem::replace(&mut returned, true) {
                        let (x, completer) = job.take();
                        completer.complete(x);
                    } else {
                        job.put_back();
                    }
                }
            })
        };
        let consumers: Vec<_> = (0..2).map(consumer).collect();
        let caller = |_| {
            let function = functions[0].clone();
            thread::spawn(move || {
                let handles: Vec<_> = (0..2).filter_map(|i| function.submit(i).ok()).collect();
                for handle in handles {
                    match handle.wait() {
                        Ok(value) => assert!(value < 2),
                        Err(WaitError::Job(JobError::Cancelled)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        };
        let callers: Vec<_> = (0..2).map(caller).collect();
        assert!(engine.shutdown(Shutdown::Discard).complete);
        join(callers);
        join(consumers);
        join(workers);
    });
}

/// A discard ends what nobody pulls, though the workers may have left before it gets there.
#[test]
fn discard_of_what_nobody_pulls() {
    explore("discard of what nobody pulls", 4_000, || {
        let (engine, workers) = start(1);
        let function: Job = engine.consumer("one").unwrap();
        let caller = |priority| {
            let function = function.clone();
            thread::spawn(move || {
                let handles: Vec<_> = (0..2).filter_map(|i| function.job(i).priority(priority).submit().ok()).collect();
                let accepted = handles.len();
                for handle in handles {
                    assert!(matches!(handle.wait(), Err(WaitError::Job(JobError::Cancelled))));
                }
                accepted
            })
        };
        let callers = [Priority::Normal, Priority::Low, Priority::Normal].map(caller);
        let drained = engine.shutdown(Shutdown::Discard);
        let accepted: usize = join(callers).into_iter().sum();
        assert!(drained.complete);
        assert_eq!(drained.discarded, accepted);
        join(workers);
    });
}

/// A managed function, pulled by two sets that put back and lose jobs: no more than so many are out at once, equal ones join,
/// and lost ones come again until they have been out too often.
#[test]
fn limits_and_attempts() {
    explore("limits and attempts", 3_000, || {
        let (engine, workers) = start(1);
        let function: Job = engine.consumer("one").unwrap();
        function.set_limits(Limits::new().concurrency(1));
        function.set_retry(Retry::attempts(2));
        let functions = Arc::new(vec![function]);
        // Jobs that are out, and how many were lost, put back and completed.
        let counts = Arc::new([const { AtomicUsize::new(0) }; 4]);
        let consumer = |_| {
            let (set, functions, counts) = (engine.consumer_set(), Arc::clone(&functions), Arc::clone(&counts));
            set.add(&functions[0]);
            thread::spawn(move || {
                let [out, lost, returned, completed] = &*counts;
                while let Some(job) = next(&set, &functions) {
                    assert_eq!(out.fetch_add(1, Ordering::Relaxed), 0, "more than one is out");
                    let x = *job.arg();
                    thread::yield_now();
                    out.fetch_sub(1, Ordering::Relaxed);
                    if x == 0 {
                        lost.fetch_add(1, Ordering::Relaxed);
                        drop(job);
                    } else if returned.fetch_add(1, Ordering::Relaxed) == 0 {
                        job.put_back();
                    } else {
                        completed.fetch_add(1, Ordering::Relaxed);
                        job.take().1.complete(x);
                    }
                }
            })
        };
        let consumers: Vec<_> = (0..2).map(consumer).collect();
        let caller = |t: usize| {
            let functions = Arc::clone(&functions);
            thread::spawn(move || {
                let submit = |key: usize| functions[0].job(key).unique([key as u8]).submit().unwrap();
                let handles = [submit(t), submit(1)];
                for (i, handle) in handles.into_iter().enumerate() {
                    match handle.wait() {
                        Ok(value) => assert!(value == 1 && t + i > 0),
                        Err(WaitError::Job(JobError::Lost)) => assert!(t == 0 && i == 0),
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        };
        join((0..2).map(caller).collect::<Vec<_>>());
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(consumers);
        join(workers);
        let [_, lost, _, completed] = &*counts;
        assert_eq!((lost.load(Ordering::Relaxed), functions[0].dead().len()), (2, 1));
        let completed = completed.load(Ordering::Relaxed);
        assert!((1..=3).contains(&completed) && functions[0].queued() == 0, "{completed} completed");
    });
}

/// The clock against consumers that complete, lose and put back: one outcome a job, and a value only of one that was completed.
#[test]
fn times() {
    const JOBS: usize = 4;
    explore("times of pulled jobs", 3_000, || {
        let (engine, seat, workers) = start_with_spares(1, 0);
        let functions: Arc<Vec<Job>> = Arc::new(vec![engine.consumer("one").unwrap()]);
        let completed = Arc::new([const { AtomicUsize::new(0) }; JOBS]);
        let over = Arc::new(AtomicBool::new(false));
        let consumer = |_| {
            let (set, functions, completed) = (engine.consumer_set(), Arc::clone(&functions), Arc::clone(&completed));
            set.add(&functions[0]);
            thread::spawn(move || {
                let mut returned = false;
                while let Some(job) = next(&set, &functions) {
                    if !std::mem::replace(&mut returned, true) {
                        job.put_back();
                        continue;
                    }
                    let (x, completer) = job.take();
                    if x == 3 {
                        drop(completer);
                    } else {
                        completed[x].fetch_add(1, Ordering::Relaxed);
                        completer.complete(x);
                    }
                }
            })
        };
        let consumers: Vec<_> = (0..2).map(consumer).collect();
        let is_over = Arc::clone(&over);
        let clock = thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                seat.tick();
                thread::yield_now();
            }
        });
        let caller = |t: usize| {
            let functions = Arc::clone(&functions);
            thread::spawn(move || {
                let soon = Duration::from_secs(600);
                let handles = [
                    functions[0].job(t * 2).timeout(soon).submit().unwrap(),
                    functions[0].job(t * 2 + 1).deadline(soon).submit().unwrap(),
                ];
                handles.map(|handle| handle.wait())
            })
        };
        let ends = join((0..2).map(caller).collect::<Vec<_>>());
        over.store(true, Ordering::Relaxed);
        clock.join().unwrap();
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(consumers);
        join(workers);
        for (x, end) in ends.into_iter().flatten().enumerate() {
            let completed = completed[x].load(Ordering::Relaxed);
            match end {
                Ok(value) => assert_eq!((value, completed), (x, 1)),
                Err(WaitError::Job(JobError::TimedOut)) => assert!(completed <= 1),
                Err(WaitError::Job(JobError::Lost)) => assert_eq!(x, 3),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(functions[0].queued(), 0);
    });
}

//! Whole engines with four to seven threads: callers, jobs that submit jobs, cancels, priorities, a removal.
#![cfg(layshaft_shuttle)]

use layshaft::{Function, JobError, Priority, Shutdown, WaitError};
use layshaft_shuttle_tests::{block_on, explore, join, start};
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::sync::{Barrier, Condvar, Mutex};
use shuttle::thread;
use std::panic::resume_unwind;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Everything that is submitted runs once, and its caller gets its own result, however it waits.
#[test]
fn callers() {
    explore("callers", 4_000, || {
        let (engine, workers) = start(3);
        let ran = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ran);
        let double = engine.function("double", move |x: usize| {
            count.fetch_add(1, Ordering::Relaxed);
            if x % 10 == 1 { resume_unwind(Box::new("planned")) } else { x * 2 }
        });
        let double = double.unwrap();
        let caller = |t: usize| {
            let double = double.clone();
            thread::spawn(move || {
                let handles: Vec<_> = (0..4).map(|i| double.submit(t * 10 + i).unwrap()).collect();
                double.send(0).unwrap();
                for (i, handle) in handles.into_iter().enumerate() {
                    let outcome = match t {
                        0 => block_on(handle),
                        1 => handle.wait_timeout(Duration::ZERO).unwrap_or_else(block_on),
                        _ => handle.wait().map_err(|error| match error {
                            WaitError::Job(error) => error,
                            other => panic!("{other}"),
                        }),
                    };
                    match outcome {
                        Ok(value) => assert_eq!(value, (t * 10 + i) * 2),
                        Err(JobError::Panicked(_)) => assert_eq!(i, 1),
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        };
        join((0..3).map(caller));
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(workers);
        assert_eq!(ran.load(Ordering::Relaxed), 15);
    });
}

/// Trees of jobs from two roots, one of them sent in a batch: more than a deque holds, and thieves on all sides.
#[test]
fn trees() {
    explore("trees", 3_000, || {
        let (engine, workers) = start(4);
        let ran = Arc::new(AtomicUsize::new(0));
        let (count, key) = (Arc::clone(&ran), Arc::new(OnceLock::<Function<usize, ()>>::new()));
        let children = Arc::clone(&key);
        let grow = engine.function("grow", move |depth: usize| {
            count.fetch_add(1, Ordering::Relaxed);
            let children = children.get().unwrap();
            for _ in 0..if depth > 0 { 3 } else { 0 } {
                children.send(depth - 1).unwrap();
            }
        });
        let grow = grow.unwrap();
        key.set(grow.clone()).unwrap();
        let other = grow.clone();
        let sender = thread::spawn(move || other.send(2).unwrap());
        assert_eq!(grow.send_batch([1, 2, 0]).unwrap(), 3);
        sender.join().unwrap();
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(workers);
        assert_eq!(ran.load(Ordering::Relaxed), 13 + 4 + 13 + 1);
    });
}

/// Jobs that wait for jobs: each gets its result, or is refused; none waits for ever.
#[test]
fn waits_inside_jobs() {
    explore("waits inside jobs", 3_000, || {
        let (engine, workers) = start(3);
        let key = Arc::new(OnceLock::<Function<usize, Option<usize>>>::new());
        let children = Arc::clone(&key);
        let leaves = engine.function("leaves", move |depth: usize| {
            let Some(below) = depth.checked_sub(1) else { return Some(1) };
            let submit = |priority| children.get().unwrap().job(below).priority(priority).submit().unwrap();
            // The first lies in the worker's own deque, the second in the function's lane.
            let handles = [submit(Priority::Normal), submit(Priority::High)];
            handles.map(|handle| handle.wait().ok().flatten()).into_iter().sum()
        });
        let leaves = leaves.unwrap();
        key.set(leaves.clone()).unwrap();
        let other = leaves.clone();
        let caller = thread::spawn(move || other.call(2).unwrap());
        let counts = [leaves.call(1).unwrap(), caller.join().unwrap()];
        assert!(counts[0].is_none_or(|n| n == 2) && counts[1].is_none_or(|n| n == 4), "{counts:?}");
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(workers);
    });
}

/// A job that was claimed together with a slow one does not wait for it: here the slow one waits for the other.
#[test]
fn a_claim_behind_a_slow_job() {
    explore("a claim behind a slow job", 4_000, || {
        let (engine, workers) = start(3);
        let gate = Arc::new((Mutex::new(0), Condvar::new()));
        let meet = Arc::clone(&gate);
        let pair = engine.function("pair", move |_: usize| {
            let mut came = meet.0.lock().unwrap();
            *came += 1;
            meet.1.notify_all();
            while *came < 3 {
                came = meet.1.wait(came).unwrap();
            }
        });
        let pair = pair.unwrap();
        let other = pair.clone();
        let sender = thread::spawn(move || other.send(3).unwrap());
        pair.send_batch([1, 2]).unwrap();
        sender.join().unwrap();
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(workers);
        assert_eq!(*gate.0.lock().unwrap(), 3);
    });
}

/// A cancel says yes exactly when the body does not run, whoever asks, and how often.
#[test]
fn cancels() {
    const JOBS: usize = 4;
    explore("cancels", 4_000, || {
        let (engine, workers) = start(2);
        let ran = Arc::new([const { AtomicUsize::new(0) }; JOBS]);
        let note = Arc::clone(&ran);
        let job = engine.function("job", move |i: usize| {
            note[i].fetch_add(1, Ordering::Relaxed);
        });
        let job = job.unwrap();
        let at = |i| if i == 2 { Priority::High } else { Priority::Normal };
        let handles: Arc<Vec<_>> = Arc::new((0..JOBS).map(|i| job.job(i).priority(at(i)).submit().unwrap()).collect());
        let canceller = |_| {
            let handles = Arc::clone(&handles);
            thread::spawn(move || handles.iter().map(|handle| handle.cancel()).collect::<Vec<_>>())
        };
        let answers = join((0..3).map(canceller));
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(workers);
        let handles = Arc::into_inner(handles).unwrap();
        for (i, handle) in handles.into_iter().enumerate() {
            let cancelled = answers.iter().any(|of| of[i]);
            assert_eq!(ran[i].load(Ordering::Relaxed), usize::from(!cancelled), "job {i}: {answers:?}");
            assert_eq!(matches!(handle.wait(), Err(WaitError::Job(JobError::Cancelled))), cancelled);
        }
        assert_eq!(job.queued(), 0);
    });
}

/// What is queued when the worker comes starts in the order of priorities over all functions, then of the submits.
#[test]
fn priorities_on_one_worker() {
    explore("priorities on one worker", 4_000, || {
        let (engine, workers) = start(1);
        let order = Arc::new(Mutex::new(Vec::new()));
        let gate = Arc::new((Barrier::new(2), Barrier::new(2)));
        let pass = Arc::clone(&gate);
        let hold = engine.function("hold", move |()| {
            pass.0.wait();
            pass.1.wait();
        });
        hold.unwrap().send(()).unwrap();
        gate.0.wait();
        let sender = |(t, priority): (usize, Priority)| {
            let note = Arc::clone(&order);
            let function = engine.function(&format!("function {t}"), move |i: usize| {
                note.lock().unwrap().push((priority, t, i));
            });
            let function = function.unwrap();
            thread::spawn(move || (0..3).for_each(|i| function.job(i).priority(priority).send().unwrap()))
        };
        let priorities = [Priority::Low, Priority::High, Priority::Normal, Priority::High];
        join(priorities.into_iter().enumerate().map(sender));
        gate.1.wait();
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(workers);
        let order = order.lock().unwrap();
        assert_eq!(order.len(), 12);
        let rank = |priority| [Priority::High, Priority::Normal, Priority::Low].iter().position(|p| *p == priority);
        assert!(order.is_sorted_by_key(|(priority, ..)| rank(*priority)), "{order:?}");
        for t in 0..4 {
            assert!(order.iter().filter(|job| job.1 == t).map(|job| job.2).eq(0..3), "{order:?}");
        }
    });
}

/// A function is removed while others submit to it, and its name is used again at once.
#[test]
fn removal() {
    explore("removal", 4_000, || {
        let (engine, workers) = start(3);
        let token = Arc::new(());
        let ran = Arc::new([const { AtomicUsize::new(0) }; 2]);
        let register = |which: usize| {
            let (note, token) = (Arc::clone(&ran), Arc::clone(&token));
            let body = move |n: usize| {
                let _ = &token;
                note[which].fetch_add(n, Ordering::Relaxed);
            };
            engine.function("name", body).unwrap()
        };
        let first = register(0);
        let sender = |_| {
            let first = first.clone();
            thread::spawn(move || {
                let mut accepted = 0;
                for priority in [Priority::Normal, Priority::High, Priority::Normal] {
                    match first.job(1).priority(priority).send() {
                        Ok(()) => accepted += 1,
                        Err(refused) => assert!(refused.is_closed() && refused.into_arg() == 1),
                    }
                }
                accepted
            })
        };
        let senders: Vec<_> = (0..3).map(sender).collect();
        assert!(engine.remove("name"));
        let second = register(1);
        second.send(1).unwrap();
        let accepted: usize = join(senders).into_iter().sum();
        assert!(engine.remove("name") && !engine.remove("name"));
        drop((first, second));
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(workers);
        assert_eq!(ran[0].load(Ordering::Relaxed), accepted);
        assert_eq!(ran[1].load(Ordering::Relaxed), 1);
        drop(engine);
        assert_eq!(Arc::strong_count(&token), 1, "a removed function's body was not dropped");
    });
}

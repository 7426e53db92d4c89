//! Functions with limits, and jobs with keys, times and further attempts.
#![cfg(layshaft_shuttle)]
// Errors hold locks, and those of shuttle are large.
#![allow(clippy::result_large_err)]

use layshaft::{Function, JobError, JobHandle, Limits, Overflow, Priority, Retry, Shutdown, WaitError};
use layshaft_shuttle_tests::{explore, join, start, start_with_spares};
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use shuttle::thread;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

/// Until the clock of a model goes on.
const SOON: Duration = Duration::from_secs(600);

type Counts<const N: usize> = Arc<[AtomicUsize; N]>;

fn counts<const N: usize>() -> Counts<N> {
    Arc::new([const { AtomicUsize::new(0) }; N])
}

fn add(count: &AtomicUsize) -> usize {
    count.fetch_add(1, Ordering::Relaxed)
}

fn get(count: &AtomicUsize) -> usize {
    count.load(Ordering::Relaxed)
}

fn end<R>(handle: JobHandle<R>) -> Result<R, JobError> {
    handle.wait().map_err(|error| match error {
        WaitError::Job(error) => error,
        refused => panic!("{refused}"),
    })
}

/// No more than so many run at once, set before or while they run; in a pause none starts.
#[test]
fn a_cap_and_a_pause() {
    explore("a cap and a pause", 3_000, || {
        const CAP: usize = 2;
        let (engine, workers) = start(4);
        let seen = counts::<3>();
        let note = Arc::clone(&seen);
        let job = engine.function("job", move |n: usize| {
            let [inside, most, ran] = &*note;
            most.fetch_max(add(inside) + 1, Ordering::Relaxed);
            thread::yield_now();
            inside.fetch_sub(1, Ordering::Relaxed);
            add(ran);
            n
        });
        let job = job.unwrap();
        job.set_limits(Limits::new().concurrency(CAP));
        let caller = |t: usize| {
            let job = job.clone();
            thread::spawn(move || {
                job.send(t).unwrap();
                let priority = if t == 0 { Priority::High } else { Priority::Normal };
                let handles = [job.submit(t).unwrap(), job.job(t).priority(priority).submit().unwrap()];
                handles.into_iter().for_each(|handle| assert_eq!(end(handle).unwrap(), t));
            })
        };
        job.send_batch([7, 7, 7]).unwrap();
        let pauser = {
            let job = job.clone();
            thread::spawn(move || {
                job.pause();
                let queued = job.queued();
                (0..5).for_each(|_| thread::yield_now());
                // Others may submit meanwhile, and nothing starts.
                assert!(job.queued() >= queued && job.is_paused());
                job.resume();
            })
        };
        join((0..2).map(caller).collect::<Vec<_>>());
        pauser.join().unwrap();
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(workers);
        let [inside, most, ran] = &*seen;
        assert!(get(most) <= CAP, "{} at once", get(most));
        assert_eq!((get(inside), get(ran), job.queued()), (0, 9, 0));
    });
}

/// How many have to be taken out so that the others ascend.
fn out_of_order(numbers: &[usize]) -> usize {
    let mut longest: Vec<usize> = Vec::new();
    for (at, n) in numbers.iter().enumerate() {
        let before = (0..at).filter(|i| numbers[*i] < *n).map(|i| longest[i]).max().unwrap_or(0);
        longest.push(before + 1);
    }
    numbers.len() - longest.into_iter().max().unwrap_or(0)
}

/// One at a time, each sender's in its order; where the limit comes while jobs are queued and claimed, all but those that were
/// running, of which there is one a worker at most.
fn one_at_a_time(limit_first: bool) {
    const WORKERS: usize = 3;
    let (engine, workers) = start(WORKERS);
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&order);
    let job = engine.function("job", move |(t, i): (usize, usize)| {
        note.lock().unwrap().push((t, i));
    });
    let job = job.unwrap();
    let set = || job.set_limits(Limits::new().concurrency(1));
    if limit_first {
        set();
    }
    let sender = |t: usize| {
        let job = job.clone();
        thread::spawn(move || (0..4).for_each(|i| job.send((t, i)).unwrap()))
    };
    let senders: Vec<_> = (0..2).map(sender).collect();
    set();
    let before = if limit_first { 0 } else { order.lock().unwrap().len() };
    join(senders);
    assert!(engine.shutdown(Shutdown::Drain).complete);
    join(workers);
    let order = order.lock().unwrap();
    assert_eq!(order.len(), 8);
    let late = |t| order[before..].iter().filter(|job| job.0 == t).map(|job| job.1).collect::<Vec<_>>();
    let early = if limit_first { 0 } else { WORKERS };
    assert!((0..2).map(|t| out_of_order(&late(t))).sum::<usize>() <= early, "{order:?} from {before} on");
}

#[test]
fn in_order() {
    explore("in order", 3_000, || one_at_a_time(true));
}

#[test]
fn a_limit_comes_late() {
    explore("a limit comes late", 3_000, || one_at_a_time(false));
}

/// Jobs with the same key: one at a time, and each handle hears of a run that it has joined, or that it was cancelled.
#[test]
fn keys() {
    explore("keys", 3_000, || {
        let (engine, workers) = start(3);
        let (inside, runs) = (counts::<2>(), counts::<2>());
        let (within, run) = (Arc::clone(&inside), Arc::clone(&runs));
        let job = engine.function("job", move |key: usize| {
            assert_eq!(add(&within[key]), 0, "two jobs with one key");
            let number = add(&run[key]);
            thread::yield_now();
            within[key].fetch_sub(1, Ordering::Relaxed);
            (key, number)
        });
        let job = job.unwrap();
        let caller = |t: usize| {
            let job = job.clone();
            thread::spawn(move || {
                let submit = |key: usize| job.job(key).unique([key as u8]).submit().unwrap();
                let handles = [submit(0), submit(t % 2), submit(1)];
                let cancelled = t == 1 && handles[0].cancel();
                if t == 2 {
                    job.job(0).unique([0]).send().unwrap();
                }
                let mut values = 0;
                for (i, handle) in handles.into_iter().enumerate() {
                    match end(handle) {
                        Ok((key, _)) => {
                            assert_eq!(key, [0, t % 2, 1][i]);
                            assert!(i > 0 || !cancelled);
                            values += 1;
                        }
                        Err(JobError::Cancelled) => assert!(i == 0 && cancelled),
                        Err(error) => panic!("{error}"),
                    }
                }
                values
            })
        };
        let values: usize = join((0..3).map(caller).collect::<Vec<_>>()).into_iter().sum();
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(workers);
        let runs = get(&runs[0]) + get(&runs[1]);
        assert!((8..=9).contains(&values) && (2..=10).contains(&runs), "{values} values of {runs} runs");
        assert_eq!(job.queued(), 0);
    });
}

/// The clock against starts and ends: one outcome a job, a value only of a run that was, and no run of what was late before.
#[test]
fn times() {
    explore("times", 3_000, || {
        const JOBS: usize = 6;
        let (engine, seat, workers) = start_with_spares(2, 0);
        let runs = counts::<JOBS>();
        let run = Arc::clone(&runs);
        let job = engine.function("job", move |i: usize| {
            add(&run[i]);
            thread::yield_now();
            i
        });
        let job = job.unwrap();
        let left = Arc::new(AtomicUsize::new(2));
        let caller = |t: usize| {
            let (job, left) = (job.clone(), Arc::clone(&left));
            thread::spawn(move || {
                let submit = |i: usize| match i % 3 {
                    0 => job.job(i).timeout(SOON),
                    1 => job.job(i).deadline(SOON),
                    _ => job.job(i).after(SOON),
                };
                let handles = [0, 1, 2].map(|i| submit(t * 3 + i).submit().unwrap());
                let ends = handles.map(end);
                left.fetch_sub(1, Ordering::Relaxed);
                ends
            })
        };
        let callers: Vec<_> = (0..2).map(caller).collect();
        let clock = thread::spawn(move || {
            while left.load(Ordering::Relaxed) > 0 {
                seat.tick();
                thread::yield_now();
            }
        });
        let ends = join(callers);
        clock.join().unwrap();
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(workers);
        for (i, end) in ends.into_iter().flatten().enumerate() {
            let ran = get(&runs[i]);
            match end {
                Ok(value) => assert_eq!((value, ran), (i, 1)),
                Err(JobError::TimedOut) => assert!(i % 3 < 2 && ran <= 1 && (i % 3 == 1 || ran == 1)),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(job.queued(), 0);
    });
}

/// A full queue: each job runs once, is evicted, or comes back, and who hears what agrees with it.
fn overflow(overflow: Overflow) {
    const JOBS: usize = 9;
    let (engine, workers) = start(2);
    let runs = counts::<JOBS>();
    let run = Arc::clone(&runs);
    let job = engine.function("job", move |i: usize| {
        add(&run[i]);
        i
    });
    let job = job.unwrap();
    job.set_limits(Limits::new().capacity(2).overflow(overflow));
    let caller = |t: usize| {
        let job = job.clone();
        thread::spawn(move || {
            let at = |i| if i % 3 == 1 { Priority::High } else { Priority::Normal };
            let submitted = (t * 3..t * 3 + 3).map(|i| (i, job.job(i).priority(at(i)).submit()));
            submitted.collect::<Vec<_>>()
        })
    };
    let submitted = join((0..3).map(caller).collect::<Vec<_>>());
    let evicts = matches!(overflow, Overflow::EvictNewest | Overflow::EvictOldest);
    for (i, submitted) in submitted.into_iter().flatten() {
        let ran = match submitted.map(end) {
            Ok(Ok(value)) => usize::from(value == i),
            Ok(Err(JobError::Evicted)) if evicts => 0,
            Err(refused) if refused.is_full() && overflow != Overflow::Block => {
                assert_eq!(refused.into_arg(), i);
                0
            }
            other => panic!("{i}: {other:?}"),
        };
        assert_eq!(get(&runs[i]), ran, "job {i}");
    }
    assert!(engine.shutdown(Shutdown::Drain).complete);
    join(workers);
    assert_eq!(job.queued(), 0);
}

#[test]
fn rejects() {
    explore("rejects", 2_000, || overflow(Overflow::Reject));
}

#[test]
fn evicts_the_oldest() {
    explore("evicts the oldest", 2_000, || overflow(Overflow::EvictOldest));
}

#[test]
fn evicts_the_newest() {
    explore("evicts the newest", 2_000, || overflow(Overflow::EvictNewest));
}

#[test]
fn waits_for_room() {
    explore("waits for room", 2_000, || overflow(Overflow::Block));
}

/// Callers that wait for room when the function goes: accepted and run, or handed back.
fn waiting_for_room(capacity: usize) {
    let (engine, workers) = start(2);
    let ran = counts::<1>();
    let run = Arc::clone(&ran);
    let job = engine.function("job", move |_: usize| _ = add(&run[0])).unwrap();
    job.set_limits(Limits::new().capacity(capacity).overflow(Overflow::Block));
    let caller = |t: usize| {
        let job = job.clone();
        thread::spawn(move || (0..2).filter(|i| job.send(t * 2 + i).is_ok()).count())
    };
    let callers: Vec<_> = (0..3).map(caller).collect();
    assert!(engine.remove("job"));
    let accepted: usize = join(callers).into_iter().sum();
    assert!(engine.shutdown(Shutdown::Drain).complete);
    join(workers);
    assert_eq!(get(&ran[0]), accepted);
    assert!(capacity > 0 || accepted == 0);
}

#[test]
fn waits_for_room_against_removal() {
    explore("waits for room against removal", 3_000, || waiting_for_room(1));
}

#[test]
fn waits_for_no_room_against_removal() {
    explore("waits for no room against removal", 2_000, || waiting_for_room(0));
}

/// Bodies that panic are run again, as often as the policy says, and not more; what was run too often is on the dead list.
#[test]
fn retries() {
    explore("retries", 3_000, || {
        const JOBS: usize = 4;
        let (engine, workers) = start(3);
        let runs = counts::<JOBS>();
        let run = Arc::clone(&runs);
        let token = Arc::new(());
        let body = move |(i, _token): (usize, Arc<()>)| {
            // Job 1 panics once, job 2 twice, and job 3 always.
            if add(&run[i]) < if i == 3 { 9 } else { i } {
                resume_unwind(Box::new("planned"));
            }
            i
        };
        let job: Function<(usize, Arc<()>), usize> = engine.function("job", body).unwrap();
        job.set_retry(Retry::attempts(3).panics(true));
        let caller = |t: usize| {
            let (job, token) = (job.clone(), Arc::clone(&token));
            thread::spawn(move || {
                let submit = |i: usize| job.job((i, Arc::clone(&token))).unique([i as u8]).submit().unwrap();
                [submit(t), submit(t + 2)].map(end).map(|end| match end {
                    Ok(value) => value,
                    Err(JobError::Panicked(panic)) => {
                        assert_eq!(panic.message(), "planned");
                        3
                    }
                    Err(error) => panic!("{error}"),
                })
            })
        };
        let ends = join((0..2).map(caller).collect::<Vec<_>>());
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(workers);
        assert_eq!(ends, [[0, 2], [1, 3]]);
        assert_eq!([0, 1, 2, 3].map(|i| get(&runs[i])), [1, 2, 3, 3]);
        let dead = job.dead();
        assert!(dead.len() == 1 && dead[0].attempts == 3, "{dead:?}");
        assert_eq!(job.take_dead(dead[0].number).unwrap().0, 3);
        drop((job, engine));
        assert_eq!(Arc::strong_count(&token), 1, "an argument was not dropped");
    });
}

/// Runs that take too long are run again, and the late results of earlier ones are for nobody.
#[test]
fn late_attempts() {
    explore("late attempts", 3_000, || {
        let (engine, seat, workers) = start_with_spares(3, 0);
        let runs = counts::<2>();
        let (run, over) = (Arc::clone(&runs), Arc::new(AtomicBool::new(false)));
        let job = engine.function("job", move |i: usize| {
            let number = add(&run[i]);
            thread::yield_now();
            (i, number)
        });
        let job = job.unwrap();
        job.set_retry(Retry::attempts(2).timeouts(true));
        let is_over = Arc::clone(&over);
        let clock = thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                seat.tick();
                thread::yield_now();
            }
        });
        let caller = |i: usize| {
            let job = job.clone();
            thread::spawn(move || end(job.job(i).timeout(SOON).submit().unwrap()))
        };
        let ends = join((0..2).map(caller).collect::<Vec<_>>());
        over.store(true, Ordering::Relaxed);
        clock.join().unwrap();
        assert!(engine.shutdown(Shutdown::Drain).complete);
        join(workers);
        let mut dead = 0;
        for (i, end) in ends.into_iter().enumerate() {
            let ran = get(&runs[i]);
            match end {
                Ok((value, number)) => assert!(value == i && number < ran && ran <= 2),
                Err(JobError::TimedOut) => {
                    assert_eq!(ran, 2);
                    dead += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((job.dead().len(), job.queued()), (dead, 0));
    });
}

/// A discard against everything that a managed function holds: each job that was accepted ran, or ended as cancelled and was
/// counted.
#[test]
fn discard() {
    explore("discard of managed jobs", 3_000, || {
        let (engine, workers) = start(2);
        let ran = counts::<1>();
        let run = Arc::clone(&ran);
        let job = engine.function("job", move |n: usize| {
            add(&run[0]);
            n
        });
        let job = job.unwrap();
        job.set_limits(Limits::new().concurrency(1));
        let caller = |t: usize| {
            let job = job.clone();
            thread::spawn(move || {
                let submit = |i: usize| match i {
                    0 => job.submit(t),
                    1 => job.job(t).unique([t as u8]).submit(),
                    2 => job.job(t).after(SOON).submit(),
                    _ => job.job(t).priority(Priority::Low).timeout(SOON).submit(),
                };
                let handles: Vec<_> = (0..4).filter_map(|i| submit(i).ok()).collect();
                let accepted = handles.len();
                for handle in handles {
                    match end(handle) {
                        Ok(value) => assert_eq!(value, t),
                        Err(JobError::Cancelled) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                accepted
            })
        };
        let callers: Vec<_> = (0..2).map(caller).collect();
        job.pause();
        let ender = engine.clone();
        let ender = thread::spawn(move || ender.shutdown(Shutdown::Discard));
        job.resume();
        let accepted: usize = join(callers).into_iter().sum();
        assert!(ender.join().unwrap().complete);
        join(workers);
        let discarded = engine.shutdown(Shutdown::Drain).discarded;
        assert_eq!(accepted, get(&ran[0]) + discarded);
        assert_eq!(job.queued(), 0);
    });
}

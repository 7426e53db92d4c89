//! Workers lent to rayon: where its work runs, who gets the workers back and when, and what is refused.
#![cfg(feature = "rayon")]

mod common;

use common::{Gate, Held, engine, outcome, value, watchdog};
use layshaft::{Engine, JobError, JobHandle, LendError, Shutdown, WaitError};
use rayon::prelude::*;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

fn named(name: &str, workers: usize) -> Engine {
    Engine::builder().workers(workers).thread_name(name).start().unwrap()
}

/// Whoever waits has nobody in its place.
fn without_spares(workers: usize) -> Engine {
    Engine::builder().workers(workers).spare_workers(0).start().unwrap()
}

/// The engine of the running job.
fn here() -> Engine {
    layshaft::current().expect("inside a job").engine()
}

fn sum(n: u64) -> u64 {
    (0..n).into_par_iter().sum()
}

#[test]
fn rayons_work_runs_on_the_engines_workers() {
    let _dog = watchdog("the loan");
    let engine = named("lent", 3);
    let names = Mutex::new(HashSet::new());
    let note = || {
        let thread = thread::current();
        assert!(thread.name().unwrap().starts_with("lent-"), "{thread:?}");
        names.lock().unwrap().insert(thread.id());
    };
    let meet = Barrier::new(3);
    let threads = engine.lend(3, || {
        note();
        rayon_core::broadcast(|_| {
            meet.wait();
            note();
        });
        rayon_core::join(note, note);
        (0..1000).into_par_iter().for_each(|_| note());
        rayon_core::current_num_threads()
    });
    assert_eq!(threads, Ok(3));
    assert_eq!(names.lock().unwrap().len(), 3);
}

/// Borrowed data, results, and one loan after the other.
#[test]
fn a_loan_is_a_scope() {
    let _dog = watchdog("the loans");
    let engine = engine(2);
    let mut data: Vec<u64> = (0..10_000).collect();
    for round in 1..50 {
        engine.lend(1 + round % 2, || data.par_iter_mut().for_each(|x| *x += 1)).unwrap();
        assert_eq!(data[0], round as u64);
    }
    assert_eq!(engine.lend(2, || data.par_iter().sum::<u64>()), Ok((0..10_000).sum::<u64>() + 49 * 10_000));
    assert_eq!(engine.stats().functions, 0, "no loan is left among the functions");
}

#[test]
fn what_is_spawned_ends_before_the_loan() {
    let _dog = watchdog("the spawned closures");
    let engine = engine(2);
    let ran = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ran);
    engine
        .lend(2, move || {
            for _ in 0..100 {
                let count = Arc::clone(&count);
                rayon_core::spawn(move || {
                    let count = Arc::clone(&count);
                    rayon_core::spawn(move || _ = count.fetch_add(1, Ordering::Relaxed));
                });
            }
        })
        .unwrap();
    assert_eq!(ran.load(Ordering::Relaxed), 100);
}

#[test]
fn what_there_is_not_is_not_lent() {
    let _dog = watchdog("the refusals");
    let engine = without_spares(2);
    assert_eq!(engine.lend(0, || ()), Err(LendError::NoWorkers));
    assert!(matches!(engine.lend(3, || ()), Err(LendError::TooMany { asked: 3, limit: 2, .. })));
    let inside = engine.function("inside", |n| here().lend(n, || sum(100))).unwrap();
    let error = inside.call(2).unwrap().unwrap_err();
    assert!(matches!(error, LendError::TooMany { asked: 2, limit: 1, .. }));
    assert!(error.to_string().contains("2 workers were asked for, and 1 can be lent here"), "{error}");
    assert_eq!(inside.call(0).unwrap(), Err(LendError::NoWorkers));
    assert_eq!(inside.call(1).unwrap(), Ok(4950));
}

#[test]
fn jobs_borrow_side_by_side() {
    let _dog = watchdog("the loans of jobs");
    let engine = engine(3);
    let total = engine.function("total", |n| here().lend(1, || sum(n))).unwrap();
    // Two may wait at a time; the third is refused, or comes later.
    let jobs: Vec<_> = (0..200).map(|n| (n, total.submit(n).unwrap())).collect();
    let mut lent = 0;
    for (n, job) in jobs {
        match value(job) {
            Ok(total) => {
                assert_eq!(total, (0..n).sum::<u64>());
                lent += 1;
            }
            Err(error) => assert_eq!(error, LendError::WouldNeverEnd),
        }
    }
    assert!(lent > 0);
}

/// One job borrows the worker of another one, which waits for it: whoever comes second is refused.
#[test]
fn a_loan_that_would_never_end_is_refused() {
    let _dog = watchdog("the refusals");
    let engine = without_spares(2);
    let borrow = engine.function("borrow", |meet: Arc<Barrier>| {
        meet.wait();
        here().lend(1, || ())
    });
    let borrow = borrow.unwrap();
    let wait = engine.function("wait", |(meet, job): (Arc<Barrier>, JobHandle<Result<(), LendError>>)| {
        meet.wait();
        job.wait()
    });
    let wait = wait.unwrap();
    for _ in 0..200 {
        let meet = Arc::new(Barrier::new(2));
        let job = borrow.submit(Arc::clone(&meet)).unwrap();
        match value(wait.submit((meet, job)).unwrap()) {
            Ok(Ok(()) | Err(LendError::WouldNeverEnd)) => {}
            // Ended before the next round, which needs both workers.
            Err(WaitError::WouldNeverEnd(job)) => assert_eq!(value(job), Ok(())),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_panic_goes_on_to_the_caller_when_the_workers_are_back() {
    let _dog = watchdog("the panics");
    let engine = engine(2);
    let text = |caught: thread::Result<Result<(), LendError>>| {
        let payload = caught.expect_err("it panics");
        *payload.downcast_ref::<&str>().expect("a text")
    };
    let caught = catch_unwind(AssertUnwindSafe(|| engine.lend(2, || panic!("in f"))));
    assert_eq!(text(caught), "in f");
    let each = || (0..100).into_par_iter().for_each(|x| assert!(x != 77, "in a part"));
    assert_eq!(text(catch_unwind(AssertUnwindSafe(|| engine.lend(2, each)))), "in a part");
    let spawned = || {
        rayon_core::spawn(|| panic!("spawned"));
        rayon_core::spawn(|| panic!("spawned"));
    };
    assert_eq!(text(catch_unwind(AssertUnwindSafe(|| engine.lend(1, spawned)))), "spawned");
    // Both workers are there: two jobs that wait for each other end.
    let meet = Arc::new(Barrier::new(2));
    let both = engine.function("both", move |()| _ = meet.wait()).unwrap();
    let jobs = [both.submit(()).unwrap(), both.submit(()).unwrap()];
    jobs.into_iter().for_each(value);
    assert_eq!(engine.stats().workers.iter().map(|w| w.panicked).sum::<u64>(), 0);
}

/// A job that borrows and panics reports it as any job does.
#[test]
fn a_panic_goes_through_a_job() {
    let _dog = watchdog("the panic");
    let engine = engine(2);
    let job = engine.function("job", |()| here().lend(1, || panic!("deep inside") as ())).unwrap();
    let Err(JobError::Panicked(panic)) = outcome(job.submit(()).unwrap()) else { panic!("the job panics") };
    assert_eq!(panic.message(), "deep inside");
    assert_eq!(engine.lend(2, || sum(10)), Ok(45));
}

#[test]
fn workers_that_are_busy_come_late_or_never() {
    let _dog = watchdog("the loan with one worker");
    let engine = engine(2);
    let gate = Gate::new();
    let pass = gate.clone();
    let busy = engine.function("busy", move |()| pass.pass()).unwrap();
    let job = busy.submit(()).unwrap();
    gate.wait_entered(1);
    for _ in 0..20 {
        assert_eq!(engine.lend(2, || (sum(1000), rayon_core::current_num_threads())), Ok((499_500, 2)));
    }
    // Twenty threads that never came are still queued. They end at once.
    gate.open();
    value(job);
    assert_eq!(engine.lend(2, || rayon_core::broadcast(|_| 1).len()), Ok(2));
}

#[test]
fn a_closed_engine_lends_nothing() {
    let _dog = watchdog("the refusal");
    let engine = engine(2);
    engine.shutdown(Shutdown::Drain);
    let error = engine.lend(1, || ()).unwrap_err();
    assert_eq!(error, LendError::Closed);
    assert!(error.to_string().contains("shutting down"));
}

#[test]
fn a_drain_waits_for_lent_workers() {
    let _dog = watchdog("the drain");
    let engine = engine(2);
    let gate = Gate::new();
    thread::scope(|scope| {
        let borrower = scope.spawn(|| {
            engine.lend(2, || {
                gate.pass();
                sum(1000)
            })
        });
        gate.wait_entered(1);
        let ending = scope.spawn(|| engine.shutdown(Shutdown::Drain));
        while engine.function("probe", |()| ()).map(|_| engine.remove("probe")).is_ok() {
            thread::yield_now();
        }
        assert!(!ending.is_finished());
        gate.open();
        assert_eq!(borrower.join().unwrap(), Ok(499_500));
        assert!(ending.join().unwrap().complete);
    });
}

/// A shutdown from inside a loan begins the end, and the loan goes on.
#[test]
fn a_loan_ends_its_engine() {
    let _dog = watchdog("the end");
    let engine = engine(2);
    let rest = engine.lend(2, || {
        let drained = engine.shutdown(Shutdown::Drain);
        assert!(!drained.complete);
        sum(1000)
    });
    assert_eq!(rest, Ok(499_500));
    assert!(engine.shutdown(Shutdown::Drain).complete);
}

#[test]
fn a_discarded_loan_is_refused() {
    let _dog = watchdog("the refusal");
    let held = Held::new(2);
    thread::scope(|scope| {
        let borrower = scope.spawn(|| held.engine.lend(2, || panic!("nobody may call this") as ()));
        while held.engine.stats().functions < 2 {
            thread::yield_now();
        }
        let ending = scope.spawn(|| held.engine.shutdown(Shutdown::Discard));
        assert_eq!(borrower.join().unwrap(), Err(LendError::Closed));
        held.open();
        assert!(ending.join().unwrap().complete);
    });
}

/// Rayon has given every thread a part that no other may take, and one of them never comes.
#[test]
fn a_discarded_thread_is_replaced() {
    let _dog = watchdog("the broadcast");
    let engine = engine(2);
    let (busy, lent) = (Gate::new(), Gate::new());
    let pass = busy.clone();
    let hold = engine.function("busy", move |()| pass.pass()).unwrap();
    hold.send(()).unwrap();
    busy.wait_entered(1);
    thread::scope(|scope| {
        let borrower = scope.spawn(|| {
            engine.lend(2, || {
                lent.pass();
                rayon_core::broadcast(|context| context.index())
            })
        });
        lent.wait_entered(1);
        let ending = scope.spawn(|| engine.shutdown(Shutdown::Discard));
        lent.open();
        assert_eq!(borrower.join().unwrap(), Ok(vec![0, 1]));
        busy.open();
        assert!(ending.join().unwrap().complete);
    });
}

/// Waits inside a loan: allowed while a worker is left that is not lent, refused otherwise.
#[test]
fn waiting_inside_a_loan() {
    let _dog = watchdog("the waits");
    let engine = without_spares(3);
    let double = engine.function("double", |x: u64| x * 2).unwrap();
    let waits = || {
        let outcome = |x| match double.job(x).priority(layshaft::Priority::High).call() {
            Ok(y) => Some(y),
            Err(layshaft::CallError::Wait(WaitError::WouldNeverEnd(_))) => None,
            Err(error) => panic!("{error}"),
        };
        (0..100).into_par_iter().map(outcome).collect::<Vec<_>>()
    };
    let all: Vec<_> = (0..100).map(|x| Some(x * 2)).collect();
    assert_eq!(engine.lend(1, waits).unwrap(), all);
    assert_eq!(engine.lend(2, waits).unwrap(), all);
    assert!(engine.lend(3, waits).unwrap().iter().zip(&all).all(|(is, all)| is.is_none() || is == all));
}

/// A loan inside a loan gets the workers that are not lent yet.
#[test]
fn loans_inside_loans() {
    let _dog = watchdog("the inner loans");
    let engine = without_spares(3);
    assert_eq!(engine.lend(1, || engine.lend(2, || sum(10))), Ok(Ok(45)));
    assert_eq!(engine.lend(2, || engine.lend(1, || sum(10))), Ok(Ok(45)));
    let inner = engine.lend(2, || engine.lend(2, || ()));
    assert!(matches!(inner, Ok(Err(LendError::TooMany { asked: 2, limit: 1, .. }))));
    let deepest = engine.lend(1, || engine.lend(1, || engine.lend(1, || sum(10))));
    assert_eq!(deepest, Ok(Ok(Ok(45))));
    let inner = engine.lend(3, || engine.lend(1, || ()));
    assert_eq!(inner, Ok(Err(LendError::WouldNeverEnd)));
}

/// With spares nothing of that is refused: what a loan waits for is done in its threads' places.
#[test]
fn spares_take_the_places_of_lent_workers() {
    let _dog = watchdog("the waits");
    let engine = engine(2);
    let double = engine.function("double", |x: u64| x * 2).unwrap();
    let waits = || (0..200).into_par_iter().map(|x| double.call(x).unwrap()).sum::<u64>();
    for _ in 0..20 {
        assert_eq!(engine.lend(2, waits), Ok(39_800));
    }
    let inside = engine.function("inside", |n| here().lend(n, || sum(100))).unwrap();
    assert_eq!(inside.call(2).unwrap(), Ok(4950));
    assert_eq!(engine.lend(2, || engine.lend(1, || sum(10))), Ok(Ok(45)));
    assert!(engine.shutdown(Shutdown::Drain).complete);
}

/// A loan that comes back as a thread too many does not keep the others from work.
#[test]
fn a_waiting_loan_leaves_somebody_to_run_jobs() {
    let _dog = watchdog("the waits of two loans");
    let engine = engine(2);
    let double = engine.function("double", |x: u64| x * 2).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let ends = |x: u64| match double.submit(x).unwrap().wait() {
                        Ok(y) => y == x * 2,
                        Err(error) => matches!(error, WaitError::WouldNeverEnd(_)),
                    };
                    let all = || (0..16).into_par_iter().all(ends);
                    assert_eq!(engine.lend(2, all), Ok(true));
                }
            });
        }
    });
    assert!(engine.shutdown(Shutdown::Drain).complete);
}

/// A job of one engine borrows another's workers.
#[test]
fn engines_lend_to_each_other() {
    let _dog = watchdog("the loans");
    let (one, other) = (engine(1), Arc::new(engine(1)));
    let lender = Arc::clone(&other);
    let total = one.function("total", move |n| lender.lend(1, || sum(n))).unwrap();
    assert_eq!(total.call(100).unwrap(), Ok(4950));
    assert_eq!(other.lend(1, || one.lend(1, || sum(10))), Ok(Ok(45)));
}

/// Loans from outside, loans from jobs, jobs and waits, all at once.
#[test]
fn stress() {
    let _dog = watchdog("the stress");
    let engine = engine(4);
    let ran = AtomicUsize::new(0);
    let borrow = engine.function("borrow", |n| here().lend(n, || sum(100)).unwrap_or(4950)).unwrap();
    let double = engine.function("double", |x: u64| x * 2).unwrap();
    thread::scope(|scope| {
        for t in 0..4_usize {
            let (engine, ran, borrow, double) = (&engine, &ran, &borrow, &double);
            scope.spawn(move || {
                for i in 0..100 {
                    let n = 1 + (t + i) % 4;
                    let inside = || {
                        let ends = |x| match double.submit(x).unwrap().wait() {
                            Ok(y) => y == x * 2,
                            Err(error) => matches!(error, WaitError::WouldNeverEnd(_)),
                        };
                        (0..8).into_par_iter().filter(|&x| ends(x)).count()
                    };
                    ran.fetch_add(engine.lend(n, inside).unwrap(), Ordering::Relaxed);
                    match borrow.call(n % 4) {
                        Ok(total) => assert_eq!(total, 4950),
                        Err(error) => panic!("{error}"),
                    }
                    assert_eq!(double.call(4).unwrap(), 8);
                }
            });
        }
    });
    assert_eq!(ran.load(Ordering::Relaxed), 4 * 100 * 8);
    assert!(engine.shutdown(Shutdown::Drain).complete);
}

//! The figures of functions: exact for whoever has seen the outcomes, whatever these were.

mod common;

use common::{Gate, engine, outcome, value, watchdog};
use layshaft::{Engine, Function, FunctionStats, JobError, Limits, Overflow, Priority, Retry, Shutdown};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// All ends but `done`, and what runs or waits.
fn rest(stats: &FunctionStats) -> [u64; 9] {
    let FunctionStats { running, failed, panicked, cancelled, timed_out, evicted, lost, .. } = *stats;
    [stats.queued.total() as u64, running, failed, panicked, cancelled, timed_out, evicted, lost, stats.dead]
}

/// What waited for a job finds it counted, each time.
#[test]
fn an_outcome_that_was_seen_is_counted() {
    let _dog = watchdog("the jobs");
    let engine = engine(2);
    let double = engine.function("double", |x: u64| x * 2).unwrap();
    for n in 1..=2_000 {
        assert_eq!(double.call(n).unwrap(), n * 2);
        let stats = double.stats();
        assert_eq!((stats.done, rest(&stats)), (n, [0; 9]), "{stats:?}");
    }
    let ahead: Vec<_> = double.submit_batch(0..500).unwrap().wait();
    assert_eq!(ahead.len(), 500);
    let stats = double.stats();
    assert_eq!((stats.done, rest(&stats), stats.accepted()), (2_500, [0; 9], 2_500));
}

/// More functions than a worker counts for at a time, and jobs of some inside jobs of others.
#[test]
fn counts_survive_other_functions() {
    let _dog = watchdog("the jobs");
    let engine = engine(3);
    let all: Vec<Function<u64, u64>> = (0..100)
        .map(|n| {
            let next = n + 1;
            let body = move |depth: u64| {
                if depth == 0 {
                    return 1;
                }
                let engine = layshaft::current().unwrap().engine();
                let figures = engine.function_stats();
                assert!(figures.iter().find(|f| f.name == format!("f{n:02}")).unwrap().running >= 1);
                drop(engine);
                next
            };
            engine.function(&format!("f{n:02}"), body).unwrap()
        })
        .collect();
    thread::scope(|scope| {
        for t in 0..4 {
            let all = &all;
            scope.spawn(move || {
                for round in 0..50 {
                    let handles: Vec<_> = all.iter().map(|f| f.submit(u64::from(round % 25 == t)).unwrap()).collect();
                    handles.into_iter().for_each(|handle| _ = value(handle));
                }
            });
        }
    });
    let figures = engine.function_stats();
    let names: Vec<_> = figures.iter().map(|f| f.name.clone()).collect();
    assert!(names.is_sorted() && names.len() == 100);
    for stats in figures {
        assert_eq!((stats.done, rest(&stats)), (200, [0; 9]), "{}", stats.name);
    }
}

/// Jobs that wait on one stack: all of them run.
#[test]
fn jobs_that_wait_for_each_other_run() {
    let _dog = watchdog("the tree");
    let engine = engine(2);
    let seen = Arc::new(AtomicUsize::new(0));
    let most = Arc::clone(&seen);
    let key = Arc::new(std::sync::OnceLock::<Function<u64, u64>>::new());
    let own = Arc::clone(&key);
    let down = engine.function("down", move |depth: u64| {
        let f = own.get().unwrap();
        if depth == 0 {
            most.fetch_max(f.stats().running as usize, Ordering::Relaxed);
            return 0;
        }
        1 + f.call(depth - 1).unwrap()
    });
    key.set(down.unwrap()).unwrap();
    let down = key.get().unwrap();
    assert_eq!(down.call(9).unwrap(), 9);
    assert_eq!(seen.load(Ordering::Relaxed), 10);
    let stats = down.stats();
    assert_eq!((stats.done, rest(&stats)), (10, [0; 9]));
}

#[test]
fn queued_and_running_jobs_are_told_apart() {
    let _dog = watchdog("the jobs");
    let engine = engine(1);
    let gate = Gate::new();
    let pass = gate.clone();
    let held = engine.function("held", move |_: u32| pass.pass()).unwrap();
    let first = held.submit(0).unwrap();
    gate.wait_entered(1);
    let of = |priority, n| (0..n).map(|n| held.job(n).priority(priority).submit().unwrap()).collect::<Vec<_>>();
    let jobs = [of(Priority::High, 2), of(Priority::Normal, 3), of(Priority::Low, 4)];
    let stats = held.stats();
    assert_eq!((stats.queued.high, stats.queued.normal, stats.queued.low, stats.running), (2, 3, 4, 1));
    assert!(jobs[1][0].cancel() && jobs[1][2].cancel());
    let stats = held.stats();
    assert_eq!((stats.queued.normal, stats.cancelled, stats.accepted()), (1, 2, 10));
    gate.open();
    value(first);
    for job in jobs.into_iter().flatten() {
        assert!(matches!(outcome(job), Ok(()) | Err(JobError::Cancelled)));
    }
    let stats = held.stats();
    assert_eq!((stats.done, stats.ended(), rest(&stats)), (8, 10, [0, 0, 0, 0, 2, 0, 0, 0, 0]));
}

#[test]
fn panics_are_counted() {
    let _dog = watchdog("the panics");
    let engine = engine(2);
    let odd = engine.function("odd", |x: u32| assert!(x % 2 == 1)).unwrap();
    let recorded = |x| odd.job(x).unique(x.to_le_bytes()).submit().unwrap();
    let plain = |x| odd.submit(x).unwrap();
    let handles: Vec<_> = (0..10).map(plain).collect();
    assert_eq!(handles.into_iter().map(outcome).filter(Result::is_err).count(), 5);
    assert_eq!((odd.stats().done, rest(&odd.stats())), (5, [0, 0, 0, 5, 0, 0, 0, 0, 0]));
    let handles: Vec<_> = (0..10).map(recorded).collect();
    assert_eq!(handles.into_iter().map(outcome).filter(Result::is_err).count(), 5);
    assert_eq!((odd.stats().done, rest(&odd.stats())), (10, [0, 0, 0, 10, 0, 0, 0, 0, 0]));
}

#[test]
fn what_consumers_do_is_counted() {
    let _dog = watchdog("the jobs");
    let engine = engine(1);
    let remote = engine.consumer::<u32, u32>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&remote);
    for managed in [false, true] {
        if managed {
            remote.set_retry(Retry::attempts(2));
        }
        let before = remote.stats();
        let handles: Vec<_> = (0..5).map(|n| remote.submit(n).unwrap()).collect();
        remote.send(5).unwrap();
        let next = || set.try_next().unwrap();
        let taken: Vec<_> = (0..3).map(|_| next().take().1).collect();
        assert_eq!((remote.stats().running, remote.stats().queued.total()), (3, 3));
        let mut taken = taken.into_iter();
        taken.next().unwrap().complete(1);
        taken.next().unwrap().fail("no");
        drop(taken.next().unwrap());
        next().put_back();
        while let Some(pulled) = set.try_next() {
            pulled.take().1.complete(2);
        }
        handles.into_iter().for_each(|handle| _ = outcome(handle));
        let after = remote.stats();
        assert_eq!(after.failed - before.failed, 1);
        // With another attempt nothing is lost.
        let lost = after.lost - before.lost;
        assert_eq!((lost, after.retried - before.retried), if managed { (0, 1) } else { (1, 0) });
        assert_eq!((after.done - before.done, after.running, after.queued.total()), (5 - lost, 0, 0));
    }
}

#[test]
fn limits_and_terms_are_counted() {
    let _dog = watchdog("the jobs");
    let engine = engine(1);
    let gate = Gate::new();
    let pass = gate.clone();
    let held = engine
        .function("held", move |x: u32| {
            pass.pass();
            x
        })
        .unwrap();
    let first = held.job(0).unique("same").submit().unwrap();
    gate.wait_entered(1);
    held.set_limits(Limits::new().capacity(2).overflow(Overflow::EvictOldest));
    let evicted = held.submit(1).unwrap();
    let late = held.job(2).deadline(Duration::ZERO).submit().unwrap();
    let joined = held.job(3).unique("same").submit().unwrap();
    assert_eq!(outcome(late).unwrap_err().to_string(), JobError::TimedOut.to_string());
    let kept = [held.submit(4).unwrap(), held.submit(5).unwrap()];
    assert!(matches!(outcome(evicted), Err(JobError::Evicted)));
    held.set_limits(Limits::new().capacity(2));
    assert!(held.submit(6).is_err());
    gate.open();
    assert_eq!((value(first), value(joined)), (0, 0));
    assert_eq!(kept.map(value), [4, 5]);
    let stats = held.stats();
    assert_eq!((stats.done, stats.evicted, stats.timed_out, stats.coalesced, stats.refused), (3, 1, 1, 1, 1));
    assert_eq!((stats.accepted(), stats.queued.total(), stats.running), (5, 0, 0));
}

#[test]
fn exhausted_jobs_are_counted_once() {
    let _dog = watchdog("the attempts");
    let engine = engine(1);
    let bad = engine.function("bad", |x: u32| assert!(x > 5, "always")).unwrap();
    bad.set_retry(Retry::attempts(3).panics(true).keep_dead(1));
    for n in 0..2 {
        assert!(matches!(outcome(bad.submit(n).unwrap()), Err(JobError::Panicked(_))));
    }
    let stats = bad.stats();
    assert_eq!((stats.panicked, stats.retried, stats.dead, stats.accepted(), stats.done), (2, 4, 2, 2, 0));
    assert_eq!(bad.dead().len(), 1);
}

/// Discarded jobs count as cancelled, and a removed function keeps its figures.
#[test]
fn the_figures_outlive_function_and_engine() {
    let _dog = watchdog("the end");
    let engine = engine(1);
    let gate = Gate::new();
    let pass = gate.clone();
    let held = engine.function("held", move |_: u32| pass.pass()).unwrap();
    held.send(0).unwrap();
    gate.wait_entered(1);
    let gone = engine.function("gone", |x: u32| x).unwrap();
    gone.send(1).unwrap();
    assert!(engine.remove("gone"));
    (0..100).for_each(|n| held.send(n).unwrap());
    thread::scope(|scope| {
        let ending = scope.spawn(|| engine.shutdown(Shutdown::Discard));
        while held.stats().cancelled < 100 {
            thread::yield_now();
        }
        gate.open();
        assert!(ending.join().unwrap().complete);
    });
    let (held, gone) = (held.stats(), gone.stats());
    assert_eq!((held.done, rest(&held)), (1, [0, 0, 0, 0, 100, 0, 0, 0, 0]));
    assert_eq!(gone.accepted(), 1);
    assert_eq!(gone.ended(), 1);
}

/// A function that comes after a removed one begins at nothing.
#[test]
fn a_new_function_has_its_own_figures() {
    let _dog = watchdog("the jobs");
    let engine = engine(2);
    for round in 0..300 {
        let name = format!("f{}", round % 3);
        let own = engine.function(&name, |x: u32| x).unwrap();
        (0..5).for_each(|n| _ = own.call(n).unwrap());
        assert_eq!((own.stats().done, rest(&own.stats())), (5, [0; 9]), "round {round}");
        assert!(engine.remove(&name));
        assert_eq!(own.stats().done, 5);
    }
}

#[test]
fn waits_and_runs_are_timed() {
    let _dog = watchdog("the jobs");
    let engine = engine(2);
    let quick = engine.function("quick", |x: u64| x).unwrap();
    // A few blocks' worth are enough for samples.
    for _ in 0..40 {
        (0..1_000).for_each(|n| quick.send(n).unwrap());
        value(quick.submit(0).unwrap());
    }
    let stats = quick.stats();
    assert!(stats.wait.count() > 0 && stats.run.count() > 0 && stats.wait.count() < 2_000, "{:?}", stats.wait);
    let day = Duration::from_secs(86_400);
    assert!(stats.wait.quantile(0.5) <= stats.wait.quantile(1.0) && stats.wait.mean() < Some(day));

    quick.time_exactly(true);
    let before = (stats.wait.count(), stats.run.count());
    (0..100).for_each(|n| _ = value(quick.submit(n).unwrap()));
    quick.time_exactly(false);
    let stats = quick.stats();
    assert_eq!((stats.wait.count() - before.0, stats.run.count() - before.1), (100, 100));
}

#[test]
fn what_is_timed_exactly_is_what_happened() {
    let _dog = watchdog("the jobs");
    let engine = Engine::builder().workers(1).start().unwrap();
    let gate = Gate::new();
    let pass = gate.clone();
    let held = engine.function("held", move |_: u32| pass.pass()).unwrap();
    held.time_exactly(true);
    let began = Instant::now();
    let jobs: Vec<_> = (0..3).map(|n| held.submit(n).unwrap()).collect();
    gate.wait_entered(1);
    let waited = Instant::now();
    while waited.elapsed() < Duration::from_millis(5) {
        thread::yield_now();
    }
    let held_for = waited.elapsed();
    gate.open();
    jobs.into_iter().for_each(value);
    let all = began.elapsed();
    let stats = held.stats();
    assert_eq!((stats.wait.count(), stats.run.count()), (3, 3));
    assert!(stats.run.quantile(1.0).unwrap() >= held_for && stats.run.sum() <= all, "{:?}", stats.run);
    // Two waited for the first one.
    assert!(stats.wait.sum() >= 2 * held_for && stats.wait.sum() <= 3 * all, "{:?}", stats.wait);
}

/// Others' panics do not hide what a caller has seen, nor pass for results.
#[test]
fn panics_elsewhere_hide_no_result() {
    let _dog = watchdog("the jobs");
    let engine = engine(2);
    let odd = engine
        .function("odd", |x: u32| {
            if x % 2 == 0 {
                resume_unwind(Box::new("even"))
            }
        })
        .unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert!(outcome(odd.submit(0).unwrap()).is_err());
            }
        });
        for n in 1..=10_000 {
            value(odd.submit(1).unwrap());
            for _ in 0..200 {
                let done = odd.stats().done;
                if done != n {
                    stop.store(true, Ordering::Relaxed);
                    panic!("{done} are told as done of {n}");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// A job whose time is up is one job, though its body or its consumer goes on; likewise one that runs again meanwhile.
#[test]
fn late_jobs_are_counted_once() {
    let _dog = watchdog("the jobs");
    let engine = engine(2);
    let gate = Gate::new();
    let pass = gate.clone();
    let held = engine.function("held", move |_: u32| pass.pass()).unwrap();
    let late = held.job(0).timeout(Duration::from_millis(1)).submit().unwrap();
    gate.wait_entered(1);
    assert!(matches!(outcome(late), Err(JobError::TimedOut)));
    let stats = held.stats();
    assert_eq!((stats.running, stats.late, stats.timed_out, stats.accepted()), (1, 1, 1, 1));
    held.set_retry(Retry::attempts(2).timeouts(true));
    let twice = held.job(1).timeout(Duration::from_millis(1)).submit().unwrap();
    gate.wait_entered(2);
    // Both attempts are late, and the next one waits for a worker.
    while (held.stats().late, held.stats().queued.total()) != (2, 1) {
        thread::yield_now();
    }
    assert_eq!(held.stats().accepted(), 2);
    gate.open();
    assert!(matches!(outcome(twice), Ok(()) | Err(JobError::TimedOut)));

    let remote = engine.consumer::<u32, u32>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&remote);
    let ends: [fn(layshaft::Pulled<u32, u32>); 4] =
        [|pulled| pulled.take().1.complete(1), |pulled| pulled.take().1.fail("no"), drop, layshaft::Pulled::put_back];
    for (n, end) in (1..).zip(ends) {
        let late = remote.job(1).timeout(Duration::from_millis(1)).submit().unwrap();
        let pulled = set.try_next().unwrap();
        assert!(matches!(outcome(late), Err(JobError::TimedOut)));
        let stats = remote.stats();
        assert_eq!((stats.running, stats.late, stats.timed_out, stats.accepted()), (1, 1, n, n));
        end(pulled);
        let stats = remote.stats();
        assert_eq!((stats.running, stats.late, stats.timed_out, stats.accepted()), (0, 0, n, n));
    }
    assert!(engine.shutdown(Shutdown::Drain).complete);
    let stats = held.stats();
    assert_eq!((stats.running, stats.late, stats.accepted(), stats.ended()), (0, 0, 2, 2));
}

/// Each start is a wait and a run, however it ends.
#[test]
fn every_start_is_timed() {
    let _dog = watchdog("the jobs");
    let engine = engine(1);
    let odd = engine
        .function("odd", |x: u32| {
            if x % 2 == 0 {
                resume_unwind(Box::new("even"))
            }
        })
        .unwrap();
    odd.time_exactly(true);
    (0..10).for_each(|x| _ = outcome(odd.submit(x).unwrap()));
    (0..10).for_each(|x| _ = outcome(odd.job(x).timeout(Duration::from_secs(60)).submit().unwrap()));
    odd.set_retry(Retry::attempts(3).panics(true));
    assert!(outcome(odd.submit(0).unwrap()).is_err());

    let remote = engine.consumer::<u32, u32>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&remote);
    remote.time_exactly(true);
    let all = |terms: &dyn Fn() -> layshaft::JobHandle<u32>| {
        let before = remote.stats();
        let handles: Vec<_> = (0..4).map(|_| terms()).collect();
        set.try_next().unwrap().put_back();
        let next = || set.try_next().unwrap().take().1;
        next().complete(1);
        next().fail("no");
        drop(next());
        set.try_next().unwrap().put_back();
        next().complete(1);
        handles.into_iter().for_each(|handle| _ = outcome(handle));
        let after = remote.stats();
        (after.wait.count() - before.wait.count(), after.run.count() - before.run.count())
    };
    assert_eq!(all(&|| remote.submit(1).unwrap()), (6, 6));
    assert_eq!(all(&|| remote.job(1).timeout(Duration::from_secs(60)).submit().unwrap()), (6, 6));

    assert!(engine.shutdown(Shutdown::Drain).complete);
    let stats = odd.stats();
    assert_eq!((stats.wait.count(), stats.run.count()), (23, 23));
}

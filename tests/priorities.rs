//! High before normal before low, over all functions that somebody serves.

mod common;

use common::{Gate, Held, Live, Tally, engine, outcome, value, watchdog};
use layshaft::Priority::{self, High, Low, Normal};
use layshaft::{Engine, Function, JobError, Shutdown};
use std::sync::{Arc, Mutex};
use std::thread;

type Log = Arc<Mutex<Vec<String>>>;

/// A function that notes the jobs it runs.
fn noting(engine: &Engine, name: &str, log: &Log) -> Function<u32, ()> {
    let (log, prefix) = (Arc::clone(log), name.to_owned());
    engine.function(name, move |n| log.lock().unwrap().push(format!("{prefix}{n}"))).unwrap()
}

fn send(function: &Function<u32, ()>, priority: Priority, n: u32) {
    function.job(n).priority(priority).send().unwrap();
}

fn noted(log: &Log) -> Vec<String> {
    log.lock().unwrap().clone()
}

#[test]
fn high_before_normal_before_low_over_all_functions() {
    let _watch = watchdog("priorities over functions");
    let held = Held::new(1);
    let log = Log::default();
    let (a, b) = (noting(&held.engine, "a", &log), noting(&held.engine, "b", &log));
    for (priority, base) in [(Low, 30), (Normal, 20), (High, 10)] {
        for n in base..base + 3 {
            send(&a, priority, n);
            send(&b, priority, n);
        }
    }
    held.release().shutdown(Shutdown::Drain);
    let order = noted(&log);
    let rank = |name: &String| name[1..].parse::<u32>().unwrap() / 10;
    assert!(order.is_sorted_by_key(rank), "a lower priority came first: {order:?}");
    for prefix in ["a", "b"] {
        let own: Vec<&String> = order.iter().filter(|name| name.starts_with(prefix)).collect();
        assert!(own.is_sorted_by_key(|name| name[1..].to_owned()), "not in order within a priority: {own:?}");
        assert_eq!(own.len(), 9);
    }
}

/// Turns within a priority: no function waits for another one's whole queue.
#[test]
fn no_starvation_within_a_priority() {
    let _watch = watchdog("no starvation under skew");
    for priority in [High, Normal, Low] {
        let held = Held::new(1);
        let log = Log::default();
        let (busy, rare) = (noting(&held.engine, "busy", &log), noting(&held.engine, "rare", &log));
        (0..1_000).for_each(|n| send(&busy, priority, n));
        (0..3).for_each(|n| send(&rare, priority, n));
        held.release().shutdown(Shutdown::Drain);
        let order = noted(&log);
        let last = order.iter().rposition(|name| name.starts_with("rare")).unwrap();
        assert!(last < 200, "{priority:?}: the last of 3 jobs of a rare function was number {last} of 1,003");
    }
}

/// A high job does not wait for the rest of a batch that was claimed before it came.
#[test]
fn high_comes_between_two_jobs_of_a_claim() {
    let _watch = watchdog("a high job in the middle of a claim");
    let held = Held::new(1);
    let log = Log::default();
    let urgent = noting(&held.engine, "urgent", &log);
    let (note, send_urgent) = (Arc::clone(&log), urgent.clone());
    let normal = held
        .engine
        .function("normal", move |n: u32| {
            note.lock().unwrap().push(format!("normal{n}"));
            if n == 3 {
                send(&send_urgent, High, 0);
            }
        })
        .unwrap();
    normal.send_batch(0..10).unwrap();
    let engine = held.release();
    engine.shutdown(Shutdown::Drain);
    let order = noted(&log);
    let at = |name: &str| order.iter().position(|noted| noted == name).unwrap();
    assert_eq!(at("urgent0"), at("normal3") + 1, "{order:?}");
    assert_eq!(order.len(), 11);
}

/// Jobs that jobs submit are normal ones: a high one comes before them, a low one after.
#[test]
fn nested_jobs_are_normal() {
    let _watch = watchdog("nested jobs and priorities");
    let engine = engine(1);
    let log = Log::default();
    let leaf = noting(&engine, "leaf", &log);
    let (inner, own) = (leaf.clone(), Arc::clone(&log));
    let root = engine
        .function("root", move |(): ()| {
            send(&inner, Low, 30);
            (20..25).for_each(|n| inner.send(n).unwrap());
            send(&inner, High, 10);
            own.lock().unwrap().push("root".to_owned());
        })
        .unwrap();
    root.call(()).unwrap();
    engine.shutdown(Shutdown::Drain);
    let order = noted(&log);
    assert_eq!(order.first().map(String::as_str), Some("root"));
    assert_eq!(order.get(1).map(String::as_str), Some("leaf10"), "{order:?}");
    assert_eq!(order.last().map(String::as_str), Some("leaf30"), "{order:?}");
    assert_eq!(order.len(), 8);
}

/// A job that waits runs what it waits for on its own stack, and nothing else, however urgent.
#[test]
fn a_waiting_job_runs_no_high_one() {
    let _watch = watchdog("a job that waits while a high one is queued");
    let engine = engine(1);
    let log = Log::default();
    let (urgent, inner) = (noting(&engine, "urgent", &log), noting(&engine, "inner", &log));
    let own = Arc::clone(&log);
    let outer = engine
        .function("outer", move |(): ()| {
            let handle = inner.submit(0).unwrap();
            send(&urgent, High, 0);
            handle.wait().unwrap();
            own.lock().unwrap().push("outer".to_owned());
        })
        .unwrap();
    value(outer.submit(()).unwrap());
    engine.shutdown(Shutdown::Drain);
    assert_eq!(noted(&log), ["inner0", "outer", "urgent0"]);
}

/// A panic in a high job between two jobs of a claim concerns nobody else.
#[test]
fn a_high_job_that_panics_harms_nobody() {
    let _watch = watchdog("a high job panics");
    let held = Held::new(1);
    let fails = held.engine.function("fails", |(): ()| -> u32 { panic!("on purpose") }).unwrap();
    let inner = fails.clone();
    let results = Arc::new(Mutex::new(Vec::new()));
    let handles = Arc::clone(&results);
    let fine = held
        .engine
        .function("fine", move |n: u32| {
            handles.lock().unwrap().push(inner.job(()).priority(High).submit().unwrap());
            n
        })
        .unwrap();
    let batch = fine.submit_batch(0..5).unwrap();
    let engine = held.release();
    let fine: Vec<u32> = batch.wait().into_iter().map(|result| result.unwrap()).collect();
    assert_eq!(fine, [0, 1, 2, 3, 4]);
    for handle in results.lock().unwrap().drain(..) {
        assert!(matches!(outcome(handle), Err(JobError::Panicked(_))));
    }
    assert_eq!(engine.stats().total().panicked, 5);
}

#[test]
fn a_consumer_set_takes_the_most_urgent_first() {
    let engine = engine(1);
    let a = engine.consumer::<u32, ()>("a").unwrap();
    let b = engine.consumer::<u32, ()>("b").unwrap();
    for (priority, base) in [(Low, 30), (Normal, 20), (High, 10)] {
        for n in 0..2 {
            a.job(base + n).priority(priority).send().unwrap();
            b.job(base + 5 + n).priority(priority).send().unwrap();
        }
    }
    assert_eq!((a.queued(), b.queued()), (6, 6));
    let set = engine.consumer_set();
    set.add(&a);
    set.add(&b);
    let mut taken = Vec::new();
    while let Some(job) = set.try_next() {
        // Put back once: it comes first again within its priority, and keeps it.
        let priority = job.priority();
        job.put_back();
        let job = set.try_next().unwrap();
        assert_eq!(job.priority(), priority);
        taken.push(job.take().0);
    }
    let ranks: Vec<u32> = taken.iter().map(|n| n / 10).collect();
    assert!(ranks.is_sorted(), "a lower priority came first: {taken:?}");
    // Turns: neither function gives two in a row while the other has some of that priority.
    let of_a: Vec<bool> = taken.iter().map(|n| n % 10 < 5).collect();
    assert!(of_a.chunks(4).all(|chunk| chunk.iter().filter(|is_a| **is_a).count() == 2), "{taken:?}");
    assert_eq!(taken.len(), 12);
}

/// A parked set is woken for each priority.
#[test]
fn a_waiting_set_gets_jobs_of_every_priority() {
    let _watch = watchdog("a set waits for jobs of every priority");
    let engine = engine(1);
    let pulled = engine.consumer::<u32, u32>("pulled").unwrap();
    let set = engine.consumer_set();
    set.add(&pulled);
    let consumer = thread::spawn(move || {
        while let Some(job) = set.next() {
            let (arg, completer) = job.take();
            completer.complete(arg + 1);
        }
    });
    for priority in [High, Normal, Low] {
        assert_eq!(value(pulled.job(1).priority(priority).submit().unwrap()), 2);
    }
    engine.shutdown(Shutdown::Drain);
    consumer.join().unwrap();
}

#[test]
fn removal_and_shutdown_know_all_priorities() {
    let _watch = watchdog("removal with jobs of all priorities");
    let held = Held::new(1);
    let done = Tally::new();
    let count = done.clone();
    let function = held.engine.function("counted", move |n: u64| count.add(n)).unwrap();
    function.job(1).priority(High).send().unwrap();
    function.job(2).priority(Low).send().unwrap();
    assert_eq!(function.queued(), 2);
    assert!(held.engine.remove("counted"));
    for priority in [High, Normal, Low] {
        assert_eq!(function.job(7).priority(priority).send().unwrap_err().into_arg(), 7);
    }
    let fresh = held.engine.function("fresh", |(): ()| ()).unwrap();
    let engine = held.release();
    assert!(engine.shutdown(Shutdown::Drain).complete);
    assert_eq!((done.count(), done.sum()), (2, 3));
    // The first job of another priority after the end.
    assert!(fresh.job(()).priority(Low).submit().unwrap_err().is_closed());
}

#[test]
fn a_discard_ends_jobs_of_all_priorities() {
    let _watch = watchdog("a discard with jobs of all priorities");
    let live = Live::default();
    let held = Held::new(1);
    let function = held.engine.function("dropped", drop).unwrap();
    let handles: Vec<_> =
        [High, Normal, Low].map(|priority| function.job(live.token()).priority(priority).submit().unwrap()).into();
    let engine = held.engine.clone();
    let shutdown = thread::spawn(move || engine.shutdown(Shutdown::Discard));
    for handle in handles {
        assert!(matches!(outcome(handle), Err(JobError::Cancelled)));
    }
    drop(held);
    assert_eq!(shutdown.join().unwrap().discarded, 3);
    live.assert_balanced();
}

/// Several producers of all priorities against several workers: nothing is lost or doubled.
#[test]
fn stress() {
    const EACH: u64 = 20_000;
    let _watch = watchdog("priorities, stress");
    let engine = engine(3);
    let done = Tally::new();
    let functions: Vec<Function<u64, ()>> = (0..5)
        .map(|i| {
            let count = done.clone();
            engine.function(&format!("f{i}"), move |n| count.add(n)).unwrap()
        })
        .collect();
    let gate = Gate::new();
    thread::scope(|scope| {
        for producer in 0..4 {
            let (functions, gate) = (&functions, &gate);
            scope.spawn(move || {
                gate.pass();
                for i in 0..EACH {
                    let priority = [High, Normal, Normal, Low][(i * 7 % 4) as usize];
                    let function = &functions[(i % 5) as usize];
                    function.job(producer * EACH + i).priority(priority).send().unwrap();
                }
            });
        }
        gate.wait_entered(4);
        gate.open();
    });
    let n = 4 * EACH;
    assert!(engine.shutdown(Shutdown::Drain).complete);
    assert_eq!((done.count(), done.sum()), (n, n * (n - 1) / 2));
}

/// What a worker has claimed and not started comes before low jobs of others.
#[test]
fn claimed_normal_jobs_before_low_ones() {
    let _watch = watchdog("the low jobs");
    let (log, stuck, busy) = (Log::default(), Gate::new(), Gate::new());
    let engine = engine(2);
    let pass = busy.clone();
    let blocker = engine.function("blocker", move |_: u32| pass.pass()).unwrap();
    let (pass, notes) = (stuck.clone(), Arc::clone(&log));
    let normal = engine.function("normal", move |n: u32| {
        if n == 0 {
            pass.pass();
        }
        notes.lock().unwrap().push(format!("n{n}"));
    });
    let (normal, low) = (normal.unwrap(), noting(&engine, "low", &log));
    blocker.send(0).unwrap();
    busy.wait_entered(1);
    normal.send_batch(0..20).unwrap();
    stuck.wait_entered(1);
    (0..3).for_each(|n| send(&low, Low, n));
    busy.open();
    while noted(&log).len() < 22 {
        thread::yield_now();
    }
    stuck.open();
    assert!(engine.shutdown(Shutdown::Drain).complete);
    let order = noted(&log);
    assert!(order[..19].iter().all(|name| name.starts_with('n')), "a low one came first: {order:?}");
}

/// The last one first, and before what was there; another priority is another matter.
#[test]
fn jobs_can_be_submitted_ahead_of_others() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = std::sync::Arc::clone(&order);
    let function = held.engine.function("note", move |n: u32| note.lock().unwrap().push(n)).unwrap();
    for n in [0, 1] {
        function.send(n).unwrap();
    }
    for n in [2, 3] {
        function.job(n).ahead().send().unwrap();
    }
    function.job(4).priority(Priority::Low).ahead().send().unwrap();
    function.send(5).unwrap();
    held.release().shutdown(layshaft::Shutdown::Drain);
    assert_eq!(*order.lock().unwrap(), [3, 2, 0, 1, 5, 4]);

    let engine = common::engine(1);
    let (remote, set) = (engine.consumer::<u32, ()>("remote").unwrap(), engine.consumer_set());
    set.add(&remote);
    remote.send_batch([0, 1]).unwrap();
    remote.job(2).ahead().send().unwrap();
    let order: Vec<u32> = std::iter::from_fn(|| set.try_next().map(|pulled| *pulled.arg())).collect();
    assert_eq!(order, [2, 0, 1]);
}

//! Do jobs that borrow end before their scope does, whoever runs them, and whatever else happens?

mod common;

use common::rng::Rng;
use common::{Gate, Held, PATIENCE, Tally, value, watchdog};
use layshaft::{Engine, Scope, Shutdown};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

fn engine(workers: usize, spares: usize) -> Engine {
    Engine::builder().workers(workers).spare_workers(spares).start().unwrap()
}

/// Calls `f` outside, and inside a job, of engines of several sizes.
fn everywhere(f: impl Fn(&Engine) + Send + Sync + 'static) {
    let f = Arc::new(f);
    for (workers, spares) in [(1, 0), (1, 1), (2, 0), (2, 2), (4, 4)] {
        let engine = engine(workers, spares);
        f(&engine);
        let f = f.clone();
        let inside = engine.function("inside", move |()| f(&layshaft::current().unwrap().engine())).unwrap();
        value(inside.submit(()).unwrap());
    }
}

/// One more.
fn add(to: &AtomicUsize) {
    to.fetch_add(1, Ordering::Relaxed);
}

fn message(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("a panic");
    (*payload.downcast::<&str>().unwrap()).to_owned()
}

fn fail(with: &'static str) {
    // Not `panic!`: nothing is printed.
    resume_unwind(Box::new(with));
}

#[test]
fn jobs_borrow() {
    let _watchdog = watchdog("the end of the scopes");
    everywhere(|engine| {
        let mut squares = vec![0; 10_000];
        let returned = engine.scope(|s| {
            for (n, square) in squares.iter_mut().enumerate() {
                s.spawn(move || *square = n * n);
            }
            "returned"
        });
        assert_eq!(returned, "returned");
        assert!(squares.iter().enumerate().all(|(n, &square)| square == n * n));
        assert_eq!(engine.scope(|_| 4), 4, "without jobs");
    });
}

/// Jobs spawn jobs of the same scope: the scope waits for all generations.
#[test]
fn jobs_spawn_jobs() {
    fn tree<'scope>(s: &'scope Scope<'scope, '_>, depth: u32, leaves: &'scope AtomicUsize) {
        match depth {
            0 => add(leaves),
            _ => (0..2).for_each(|_| s.spawn(move || tree(s, depth - 1, leaves))),
        }
    }
    let _watchdog = watchdog("the end of the scopes");
    everywhere(|engine| {
        let leaves = AtomicUsize::new(0);
        engine.scope(|s| tree(s, 11, &leaves));
        assert_eq!(leaves.into_inner(), 1 << 11);
    });
}

/// Each level of a scope opens another one.
#[test]
fn scopes_in_scopes() {
    fn tree(engine: &Engine, depth: u32) -> u64 {
        if depth == 0 {
            return 1;
        }
        let mut leaves = [0; 3];
        engine.scope(|s| leaves.iter_mut().for_each(|leaf| s.spawn(|| *leaf = tree(engine, depth - 1))));
        leaves.iter().sum()
    }
    let _watchdog = watchdog("the end of the scopes");
    everywhere(|engine| assert_eq!(tree(engine, 6), 729));
}

#[test]
fn joins_in_joins() {
    fn fibonacci(engine: &Engine, n: u64) -> u64 {
        if n < 2 {
            return n;
        }
        let (left, right) = engine.join(|| fibonacci(engine, n - 1), || fibonacci(engine, n - 2));
        left + right
    }
    let _watchdog = watchdog("the end of the joins");
    everywhere(|engine| assert_eq!(fibonacci(engine, 15), 610));
}

/// A sort in place: both halves are borrowed mutably, at the same time.
#[test]
fn joins_borrow() {
    fn sort(engine: &Engine, numbers: &mut [u64]) {
        if numbers.len() < 2 {
            return;
        }
        let (mut low, last) = (0, numbers.len() - 1);
        for at in 0..last {
            if numbers[at] < numbers[last] {
                numbers.swap(at, low);
                low += 1;
            }
        }
        numbers.swap(low, last);
        let (left, right) = numbers.split_at_mut(low);
        engine.join(|| sort(engine, left), || sort(engine, &mut right[1..]));
    }
    let _watchdog = watchdog("the end of the joins");
    everywhere(|engine| {
        let mut rng = Rng::new(4);
        let mut numbers: Vec<u64> = (0..3_000).map(|_| rng.below(1_000_000)).collect();
        sort(engine, &mut numbers);
        assert!(numbers.is_sorted());
    });
}

/// Whatever panics, all have ended when the panic goes on; one is reported.
#[test]
fn panics_wait_for_the_others() {
    let _watchdog = watchdog("the end of the scopes");
    everywhere(|engine| {
        let ran = AtomicUsize::new(0);
        let count = || add(&ran);
        let text = message(|| {
            engine.scope(|s| {
                (0..100).for_each(|_| s.spawn(count));
                s.spawn(|| fail("a job"));
                (0..100).for_each(|_| s.spawn(count));
            });
        });
        assert_eq!((text.as_str(), ran.load(Ordering::Relaxed)), ("a job", 200));
        let text = message(|| {
            engine.scope(|s| {
                s.spawn(|| fail("a job"));
                (0..100).for_each(|_| s.spawn(count));
                fail("the scope");
            });
        });
        assert_eq!((text.as_str(), ran.load(Ordering::Relaxed)), ("the scope", 300));
        let text = message(|| _ = engine.join(count, || fail("b")));
        assert_eq!((text.as_str(), ran.load(Ordering::Relaxed)), ("b", 301));
        let text = message(|| _ = engine.join(|| fail("a"), count));
        assert_eq!((text.as_str(), ran.load(Ordering::Relaxed)), ("a", 302));
        let text = message(|| _ = engine.join(|| fail("a"), || fail("b")));
        assert_eq!(text, "a");
    });
}

/// What a discard takes out of the queues is run all the same, and not counted.
#[test]
fn a_discard_runs_scoped_jobs() {
    let _watchdog = watchdog("the end of the scope");
    let held = Held::new(2);
    let probe = held.engine.function("probe", |()| ()).unwrap();
    let (ran, spawned) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|threads| {
        let waiting = threads.spawn(|| {
            held.engine.scope(|s| {
                (0..1_000).for_each(|_| s.spawn(|| add(&ran)));
                spawned.store(true, Ordering::Release);
            });
        });
        while !spawned.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let stopping = threads.spawn(|| held.engine.shutdown(Shutdown::Discard));
        while !probe.is_closed() {
            thread::yield_now();
        }
        held.open();
        let drained = stopping.join().unwrap();
        assert!(drained.complete);
        assert_eq!(drained.discarded, 0);
        waiting.join().unwrap();
    });
    assert_eq!(ran.into_inner(), 1_000);
}

/// The same for jobs in a worker's own deque, whose scope is inside a job.
#[test]
fn a_discard_runs_scoped_jobs_of_jobs() {
    let _watchdog = watchdog("the end of the scope");
    for workers in [1, 2] {
        let engine = engine(workers, 1);
        let gate = Gate::new();
        let pass = gate.clone();
        let outer = engine.function("outer", move |()| {
            let ran = AtomicUsize::new(0);
            layshaft::current().unwrap().engine().scope(|s| {
                (0..100).for_each(|_| s.spawn(|| add(&ran)));
                pass.pass();
                (0..100).for_each(|_| s.spawn(|| add(&ran)));
            });
            ran.into_inner()
        });
        let outer = outer.unwrap().submit(()).unwrap();
        gate.wait_entered(1);
        let probe = engine.function("probe", |()| ()).unwrap();
        let stopper = thread::spawn(move || engine.shutdown(Shutdown::Discard));
        while !probe.is_closed() {
            thread::yield_now();
        }
        gate.open();
        assert_eq!(value(outer), 200);
        let drained = stopper.join().unwrap();
        assert!(drained.complete);
        assert_eq!(drained.discarded, 0);
    }
}

/// After the end a scope works as if there were no engine, whether or not there was one before.
#[test]
fn after_the_end_jobs_run_here() {
    let _watchdog = watchdog("the end of the scopes");
    for was_used in [false, true] {
        let engine = engine(2, 2);
        if was_used {
            engine.scope(|s| s.spawn(|| ()));
        }
        engine.shutdown(Shutdown::Drain);
        let here = thread::current().id();
        let mut seen = Vec::new();
        engine.scope(|s| {
            s.spawn(|| seen.push(thread::current().id()));
        });
        assert_eq!(seen, [here]);
        assert_eq!(engine.join(|| 1, || thread::current().id()), (1, here));
        let text = message(|| engine.scope(|s| s.spawn(|| fail("a job"))));
        assert_eq!(text, "a job");
    }
}

/// The only thread opens a scope, and other threads spawn its jobs, into a queue: nobody else is left to run them.
#[test]
fn a_wait_that_would_be_refused_is_made_good() {
    let _watchdog = watchdog("the end of the scope");
    let engine = engine(1, 0);
    let outer = engine.function("outer", |()| {
        let ran = AtomicU64::new(0);
        layshaft::current().unwrap().engine().scope(|s| {
            thread::scope(|threads| {
                threads.spawn(|| {
                    (0..1_000).for_each(|n| {
                        let ran = &ran;
                        s.spawn(move || _ = ran.fetch_add(n, Ordering::Relaxed));
                    });
                });
            });
        });
        ran.into_inner()
    });
    assert_eq!(value(outer.unwrap().submit(()).unwrap()), 499_500);
    assert_eq!(engine.stats().workers.len(), 1);
}

/// A scoped job blocks until another one of the scope has run: a spare has to run that.
#[test]
fn scoped_jobs_wait() {
    let _watchdog = watchdog("the end of the scope");
    let engine = engine(1, 2);
    let double = engine.function("double", |n: u64| n * 2).unwrap();
    let outer = engine.function("outer", move |()| {
        let sum = AtomicU64::new(0);
        layshaft::current().unwrap().engine().scope(|s| {
            for n in 0..10 {
                let (sum, double) = (&sum, &double);
                s.spawn(move || {
                    let doubled = double.job(n).priority(layshaft::Priority::High).submit().unwrap().wait().unwrap();
                    sum.fetch_add(doubled, Ordering::Relaxed);
                });
            }
        });
        sum.into_inner()
    });
    assert_eq!(value(outer.unwrap().submit(()).unwrap()), 90);
}

/// Scopes are no function that anybody registered; their jobs have a name for people.
#[test]
fn scoped_jobs_are_seen() {
    let _watchdog = watchdog("the end of the scope");
    let engine = engine(1, 1);
    let (mut name, mut has_id) = (String::new(), false);
    engine.scope(|s| {
        s.spawn(|| {
            let current = layshaft::current().unwrap();
            (name, has_id) = (current.function(), current.id().is_some());
        });
    });
    assert_eq!((name.as_str(), has_id), ("scope", true));
    let stats = engine.stats();
    assert_eq!((stats.functions, stats.total().jobs), (0, 1));
    assert!(!engine.remove("scope") && !engine.remove(""));
    engine.function("scope", |()| ()).unwrap();
    let gate = Gate::new();
    thread::scope(|threads| {
        threads.spawn(|| engine.scope(|s| s.spawn(|| gate.pass())));
        gate.wait_entered(1);
        let drained = engine.shutdown(Shutdown::DrainFor(std::time::Duration::ZERO));
        assert!(!drained.complete);
        assert_eq!(drained.running, ["scope"]);
        gate.open();
    });
}

/// The list of jobs stays short while they end as fast as they come.
#[test]
fn a_scope_that_goes_on_and_on() {
    const JOBS: u64 = 200_000;
    let _watchdog = watchdog("the end of the scope");
    let engine = engine(2, 0);
    let done = Tally::new();
    engine.scope(|s| {
        for n in 0..JOBS {
            let done = &done;
            s.spawn(move || done.add(n));
        }
    });
    assert_eq!((done.count(), done.sum()), (JOBS, JOBS * (JOBS - 1) / 2));
}

/// A scope of one engine inside a job of another one.
#[test]
fn a_scope_of_another_engine() {
    let _watchdog = watchdog("the end of the scopes");
    let (left, right) = (engine(1, 1), engine(1, 1));
    let inside = right.clone();
    let outer = left.function("outer", move |n: u64| {
        let mut sum = 0;
        inside.scope(|s| s.spawn(|| sum = (0..n).sum()));
        let (a, b) = inside.join(|| sum, || n);
        a + b
    });
    let outer = outer.unwrap();
    for n in 0..200 {
        assert_eq!(value(outer.submit(n).unwrap()), n * n.saturating_sub(1) / 2 + n);
    }
}

/// Scopes and joins from several threads and inside jobs, against an end that comes at any moment.
#[test]
fn stress() {
    fn work(engine: &Engine, rng: &mut Rng, depth: u32) -> u64 {
        if depth == 0 {
            return 1;
        }
        let seeds = [rng.below(1_000), rng.below(1_000)];
        let part = |seed| work(engine, &mut Rng::new(seed), depth - 1);
        if rng.one_in(2) {
            let (a, b) = engine.join(|| part(seeds[0]), || part(seeds[1]));
            return a + b;
        }
        let mut parts = [0; 2];
        engine.scope(|s| {
            parts
                .iter_mut()
                .zip(seeds)
                .for_each(|(place, seed)| s.spawn(move || *place = work(engine, &mut Rng::new(seed), depth - 1)));
        });
        parts.iter().sum()
    }
    let _watchdog = watchdog("the end of the rounds");
    for round in 0..60 {
        let engine = engine(1 + round % 3, round % 4);
        let inside =
            engine.function("inside", |seed: u64| work(&layshaft::current().unwrap().engine(), &mut Rng::new(seed), 6));
        let inside = inside.unwrap();
        let (accepted, ended) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        let (begin, begun) = mpsc::channel();
        thread::scope(|threads| {
            for seed in 0..2 {
                let (engine, inside, begin) = (&engine, &inside, begin.clone());
                let (accepted, ended) = (&accepted, &ended);
                threads.spawn(move || {
                    let _ = begin.send(());
                    for n in 0..6 {
                        if let Ok(handle) = inside.submit(n) {
                            accepted.fetch_add(1, Ordering::Relaxed);
                            ended.lock().unwrap().push(handle);
                        }
                        assert_eq!(work(engine, &mut Rng::new(seed), 5), 32);
                    }
                });
            }
            begun.recv_timeout(PATIENCE).unwrap();
            let mode = if round % 2 == 0 { Shutdown::Drain } else { Shutdown::Discard };
            if round % 3 != 0 {
                assert!(engine.shutdown(mode).complete);
            }
        });
        for handle in ended.into_inner().unwrap() {
            match handle.wait() {
                Ok(leaves) => assert_eq!(leaves, 64),
                Err(error) => assert!(round % 2 == 1, "{error:?}"),
            }
        }
    }
}

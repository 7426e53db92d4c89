//! Who runs jobs while other jobs wait? Spare threads, as many as there are, and then nobody is left waiting for ever.

mod common;

use common::{Gate, Held, PATIENCE, Tally, outcome, value, watchdog};
use layshaft::{Engine, Function, JobError, JobHandle, Priority, Shutdown, WaitError};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

fn engine(workers: usize, spares: usize) -> Engine {
    Engine::builder().workers(workers).spare_workers(spares).start().unwrap()
}

/// What a wait gave: a value, or the handle back.
type Waited = Result<u64, JobHandle<u64>>;

fn wait(handle: JobHandle<u64>) -> Waited {
    match handle.wait() {
        Ok(value) => Ok(value),
        Err(WaitError::WouldNeverEnd(handle)) => Err(handle),
        Err(error) => panic!("{error}"),
    }
}

/// `jobs` jobs, each of which waits for the one that was submitted after it; the last one returns 1, each other one more
/// than what it waited for. Returns the first one's value, and the handles of refused waits, with who was refused.
fn chain(engine: Engine, jobs: usize, priority: Priority) -> (u64, Vec<(usize, JobHandle<u64>)>) {
    let held = Held::of(engine);
    let handles: Arc<Vec<Mutex<Option<JobHandle<u64>>>>> = Arc::new((0..jobs).map(|_| Mutex::new(None)).collect());
    let (refuse, refused) = mpsc::channel();
    let next = handles.clone();
    let link = held.engine.function("link", move |n: usize| {
        let Some(next) = next.get(n + 1).and_then(|next| next.lock().unwrap().take()) else { return 1 };
        match wait(next) {
            Ok(value) => value + 1,
            Err(handle) => {
                refuse.send((n, handle)).unwrap();
                1_000
            }
        }
    });
    let link = link.unwrap();
    for n in 0..jobs {
        *handles[n].lock().unwrap() = Some(link.job(n).priority(priority).submit().unwrap());
    }
    let first = handles[0].lock().unwrap().take().unwrap();
    let engine = held.release();
    let sum = value(first);
    drop(engine);
    (sum, refused.try_iter().collect())
}

#[test]
fn waits_fifty_deep_on_one_worker() {
    let _watchdog = watchdog("the end of the chain");
    let (value, refused) = chain(engine(1, 50), 51, Priority::Normal);
    assert!(refused.is_empty());
    assert_eq!(value, 51);
}

/// One spare too few: the wait of the last thread is refused, and no other one. Jobs of high priority are claimed singly,
/// in order.
#[test]
fn the_last_thread_is_refused_its_wait() {
    let _watchdog = watchdog("the end of the chain");
    for spares in [0, 1, 5] {
        let (first, refused) = chain(engine(1, spares), spares + 2, Priority::High);
        assert_eq!(first, 1_000 + spares as u64);
        let [(who, handle)] = refused.try_into().unwrap();
        assert_eq!(who, spares, "with {spares} spares");
        assert_eq!(value(handle), 1, "the handle works elsewhere");
    }
}

/// As many spares as workers, unless somebody says otherwise.
#[test]
fn the_default_is_a_spare_a_worker() {
    let _watchdog = watchdog("the end of the chain");
    let (first, refused) = chain(Engine::builder().workers(1).start().unwrap(), 3, Priority::High);
    assert_eq!((first, refused.len(), refused[0].0), (1_001, 1, 1));
}

/// A job on the only worker waits for one that is queued behind it, with and without a limit.
#[test]
fn a_blocked_workers_place_is_taken() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::of(engine(1, 1));
    let (give, take) = mpsc::channel::<(JobHandle<u64>, bool)>();
    let take = Mutex::new(take);
    let outer = held.engine.function("outer", move |()| {
        let (handle, limited) = take.lock().unwrap().recv().unwrap();
        if limited { handle.wait_timeout(PATIENCE).unwrap().unwrap() } else { handle.wait().unwrap() }
    });
    let outer = outer.unwrap();
    let double = held.engine.function("double", |n: u64| n * 2).unwrap();
    let waiting: Vec<_> = [false, true, false]
        .into_iter()
        .map(|limited| {
            let waiting = outer.submit(()).unwrap();
            give.send((double.submit(4).unwrap(), limited)).unwrap();
            waiting
        })
        .collect();
    let engine = held.release();
    assert!(waiting.into_iter().all(|waiting| value(waiting) == 8));
    assert_eq!(engine.workers(), 1);
    assert_eq!(engine.stats().workers.len(), 2, "one spare was enough");
}

/// No thread is started for waits that need none: jobs in the own deque are run there and then.
#[test]
fn spares_are_started_when_needed() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1, 4);
    let double = engine.function("double", |n: u64| n * 2).unwrap();
    let outer = engine.function("outer", move |n: u64| double.submit(n).unwrap().wait().unwrap()).unwrap();
    let sum: u64 = outer.submit_batch(0..100).unwrap().into_iter().map(value).sum();
    assert_eq!(sum, 9_900);
    assert_eq!(engine.stats().workers.len(), 1);
}

/// Jobs that note on which threads they run, and how many run at a time.
#[derive(Default)]
struct Census {
    inside: AtomicUsize,
    most: AtomicUsize,
    threads: Mutex<HashSet<thread::ThreadId>>,
}

impl Census {
    fn visit(&self) {
        self.most.fetch_max(self.inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        self.threads.lock().unwrap().insert(thread::current().id());
        thread::yield_now();
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Registers `outer`, a job of which waits for `depth` more below it, each of them queued in the function's own lane.
fn tower(engine: &Engine) -> Function<u64, u64> {
    let own: Arc<OnceLock<Function<u64, u64>>> = Arc::default();
    let inside = own.clone();
    let function = engine.function("tower", move |depth: u64| match depth {
        0 => 0,
        // Not nested: a job of another priority goes to the lane.
        _ => inside.get().unwrap().job(depth - 1).priority(Priority::High).submit().unwrap().wait().unwrap() + 1,
    });
    assert!(own.set(function.unwrap()).is_ok());
    own.get().unwrap().clone()
}

/// After the waits are over, as many threads run jobs as there are workers, whichever they are; the next wait finds the
/// spares that there are.
#[test]
fn a_thread_too_many_becomes_a_spare_again() {
    let _watchdog = watchdog("the end of the jobs");
    for workers in [1, 2] {
        let engine = engine(workers, 3);
        let census = Arc::new(Census::default());
        let count = census.clone();
        let visit = engine.function("visit", move |()| count.visit()).unwrap();
        let tower = tower(&engine);
        for _ in 0..50 {
            assert_eq!(value(tower.submit(3).unwrap()), 3);
            census.most.store(0, Ordering::SeqCst);
            visit.submit_batch((0..200).map(|_| ())).unwrap().into_iter().for_each(value);
            let most = census.most.load(Ordering::SeqCst);
            assert!(workers > 1 || most == 1, "{most} jobs ran at a time");
        }
        let threads = engine.stats().workers.len();
        assert!(threads <= workers + 3, "{threads} threads");
        assert!(census.threads.lock().unwrap().len() <= threads);
    }
}

/// Inside a body on a spare's thread everything is as on a worker's.
#[test]
fn spares_run_jobs_as_workers_do() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1, 1);
    let double = engine.function("double", |n: u64| n * 2).unwrap();
    let inner = engine.function("inner", move |jobs: u64| {
        let handles: Vec<_> = (0..jobs).map(|n| double.submit(n).unwrap()).collect();
        let sum: u64 = handles.into_iter().map(|handle| handle.wait().unwrap()).sum();
        let current = layshaft::current().unwrap();
        (
            current.function(),
            current.id(),
            current.engine().workers(),
            sum,
            thread::current().name().unwrap().to_owned(),
        )
    });
    let inner = inner.unwrap();
    let outer = engine.function("outer", move |()| {
        let handle = inner.job(100).priority(Priority::High).submit().unwrap();
        (handle.id(), handle.wait().unwrap())
    });
    let (id, inner) = value(outer.unwrap().submit(()).unwrap());
    assert_eq!(inner, ("inner".to_owned(), Some(id), 1, 9_900, "layshaft-1".to_owned()));
}

/// A panic on a spare's thread is the awaited job's, and the thread goes on.
#[test]
fn panics_on_spares_are_their_jobs() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1, 1);
    let fail = engine.function("fail", |n: u64| std::panic::resume_unwind(Box::new(n.to_string())));
    let fail: Function<u64, u64> = fail.unwrap();
    let outer =
        engine.function("outer", move |n: u64| match fail.job(n).priority(Priority::High).submit().unwrap().wait() {
            Err(WaitError::Job(JobError::Panicked(panic))) => panic.message().parse::<u64>().unwrap(),
            other => panic!("{other:?}"),
        });
    let outer = outer.unwrap();
    for n in 0..100 {
        assert_eq!(value(outer.submit(n).unwrap()), n);
    }
    let stats = engine.stats();
    assert_eq!((stats.workers.len(), stats.total().panicked), (2, 100));
}

/// A job that waits for what a consumer set finishes is never refused; spares take its place while there are some.
#[test]
fn waits_for_pulled_jobs() {
    let _watchdog = watchdog("the end of the jobs");
    for spares in [0, 1, 3] {
        let engine = engine(1, spares);
        let remote = engine.consumer::<u64, u64>("remote").unwrap();
        let set = engine.consumer_set();
        set.add(&remote);
        let double = engine.function("double", |n: u64| n * 2).unwrap();
        let (begin, begun) = mpsc::channel();
        let ask = engine.function("ask", move |n: u64| {
            let handle = remote.submit(n).unwrap();
            begin.send(()).unwrap();
            handle.wait().unwrap()
        });
        let ask = ask.unwrap();
        let asking: Vec<_> = (0..spares as u64 + 1).map(|n| ask.submit(n).unwrap()).collect();
        (0..=spares).for_each(|_| begun.recv_timeout(PATIENCE).expect("a thread for each job"));
        let later = double.submit(4).unwrap();
        (0..=spares).for_each(|_| {
            let (n, completer) = set.try_next().unwrap().take();
            completer.complete(n + 100);
        });
        assert_eq!(asking.into_iter().map(value).sum::<u64>(), (100..=100 + spares as u64).sum::<u64>());
        assert_eq!(value(later), 8);
    }
}

/// A wait whose time is up goes on with its job, as one more running thread or as a spare. One for a pulled job is not
/// refused, but lasts as long as it was told to, also when nobody is left.
#[test]
fn a_limit_ends_a_wait() {
    let _watchdog = watchdog("the end of the jobs");
    for spares in [0, 1] {
        let engine = engine(1, spares);
        let remote = engine.consumer::<u64, u64>("remote").unwrap();
        let held = remote.clone();
        let give_up = engine.function("give up", move |limit: Duration| {
            let (handle, begun) = (held.submit(0).unwrap(), Instant::now());
            handle.wait_timeout(limit).is_err() && begun.elapsed() >= limit
        });
        let give_up = give_up.unwrap();
        for micros in (0..200).chain([20_000]) {
            assert!(value(give_up.submit(Duration::from_micros(micros)).unwrap()), "{micros} us, {spares} spares");
        }
        assert!(engine.shutdown(Shutdown::Discard).complete);
    }
}

/// Each of two engines has one worker, whose job waits for a job of the other one, which waits for one of the first.
#[test]
fn two_engines_wait_for_each_other() {
    let _watchdog = watchdog("the end of the jobs");
    let (left, right) = (engine(1, 4), engine(1, 4));
    type Link = Arc<OnceLock<Function<u64, u64>>>;
    let (to_left, to_right) = (Link::default(), Link::default());
    let body = |other: Link| {
        move |depth: u64| match depth {
            0 => 0,
            _ => other.get().unwrap().submit(depth - 1).unwrap().wait().unwrap() + 1,
        }
    };
    to_left.set(left.function("left", body(to_right.clone())).unwrap()).unwrap();
    to_right.set(right.function("right", body(to_left.clone())).unwrap()).unwrap();
    for _ in 0..20 {
        assert_eq!(value(to_left.get().unwrap().submit(8).unwrap()), 8);
    }
    let threads = |engine: &Engine| engine.stats().workers.len();
    assert!(threads(&left) > 2 && threads(&right) > 2, "{} and {} threads", threads(&left), threads(&right));
}

/// A job on the only worker that waits for one which a spare runs, in a gate.
struct Blocked {
    engine: Engine,
    gate: Gate,
    outer: JobHandle<Result<u64, JobError>>,
}

impl Blocked {
    fn new(spares: usize) -> Blocked {
        let engine = engine(1, spares);
        let gate = Gate::new();
        let pass = gate.clone();
        let inner = engine.function("inner", move |n: u64| {
            pass.pass();
            n + 1
        });
        let inner = inner.unwrap();
        let outer = engine.function("outer", move |n: u64| {
            match inner.job(n).priority(Priority::High).submit().unwrap().wait() {
                Ok(value) => Ok(value),
                Err(WaitError::Job(error)) => Err(error),
                Err(error) => panic!("{error}"),
            }
        });
        let outer = outer.unwrap().submit(4).unwrap();
        gate.wait_entered(1);
        Blocked { engine, gate, outer }
    }
}

/// A drain does not end while a job waits, though every other thread may sleep.
#[test]
fn a_drain_waits_for_blocked_jobs() {
    let _watchdog = watchdog("the shutdown");
    for spares in [1, 3] {
        let Blocked { engine, gate, outer } = Blocked::new(spares);
        let probe = engine.function("probe", |()| ()).unwrap();
        let stopper = thread::spawn(move || engine.shutdown(Shutdown::Drain));
        while !probe.is_closed() {
            thread::yield_now();
        }
        gate.open();
        let drained = stopper.join().unwrap();
        assert!(drained.complete && drained.discarded == 0);
        assert_eq!(value(outer).unwrap(), 5);
    }
}

/// A drain whose last thread waits for what a consumer set has: all others sleep, or stand by, and it must not end.
#[test]
fn a_drain_waits_for_the_last_blocked_job() {
    let _watchdog = watchdog("the shutdown");
    let engine = engine(2, 2);
    let remote = engine.consumer::<u64, u64>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&remote);
    let note = engine.function("note", |n: u64| n).unwrap();
    let (begin, begun) = mpsc::channel();
    let ask = engine.function("ask", move |n: u64| {
        let handle = remote.submit(n).unwrap();
        begin.send(()).unwrap();
        let answer = handle.wait().unwrap();
        // A job may still submit: the engine has not ended.
        note.job(answer).priority(Priority::High).submit().unwrap().wait().unwrap()
    });
    let asking = ask.unwrap().submit(4).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    let probe = engine.function("probe", |()| ()).unwrap();
    let stats = engine.clone();
    let stopper = thread::spawn(move || engine.shutdown(Shutdown::Drain));
    while !probe.is_closed() {
        thread::yield_now();
    }
    // The others look after work until they sleep, and one of them looks whether it was the last.
    let parks = || stats.stats().workers.iter().filter(|worker| worker.parks > 0).count();
    while parks() < 2 {
        thread::yield_now();
    }
    let (n, completer) = set.try_next().unwrap().take();
    completer.complete(n + 1);
    assert_eq!(value(asking), 5);
    assert!(stopper.join().unwrap().complete);
}

/// Both bodies are named: the one that waits, and the one on a spare's thread. Later both end.
#[test]
fn bodies_on_spares_are_named() {
    let _watchdog = watchdog("the shutdown");
    for spares in [1, 3] {
        let Blocked { engine, gate, outer } = Blocked::new(spares);
        let mut drained = engine.shutdown(Shutdown::DrainFor(Duration::ZERO));
        drained.running.sort();
        assert!(!drained.complete);
        assert_eq!(drained.running, ["inner", "outer"]);
        gate.open();
        assert_eq!(value(outer).unwrap(), 5);
        assert!(engine.shutdown(Shutdown::Drain).complete);
    }
}

/// What a job waits for is discarded: the wait ends, and the engine with it.
#[test]
fn a_discard_ends_waits() {
    let _watchdog = watchdog("the shutdown");
    let Blocked { engine, gate, outer } = Blocked::new(1);
    // A second job waits for one that nobody can start: the spare is busy.
    let probe = engine.function("probe", |()| ()).unwrap();
    let queued = engine.function("queued", |n: u64| n).unwrap().submit(1).unwrap();
    let stopper = thread::spawn(move || engine.shutdown(Shutdown::Discard));
    while !probe.is_closed() {
        thread::yield_now();
    }
    assert!(matches!(outcome(queued), Err(JobError::Cancelled)));
    gate.open();
    let drained = stopper.join().unwrap();
    assert!(drained.complete);
    assert_eq!(value(outer).unwrap(), 5);
}

/// The last handle of an engine goes away while spares run, wait and stand by.
#[test]
fn dropping_an_engine_ends_its_spares() {
    let _watchdog = watchdog("the drop");
    let Blocked { engine, gate, outer } = Blocked::new(3);
    let dropper = thread::spawn(move || drop(engine));
    gate.open();
    assert_eq!(value(outer).unwrap(), 5);
    dropper.join().unwrap();
}

#[test]
fn a_job_on_a_spare_drops_the_engine() {
    let _watchdog = watchdog("the drop");
    let engine = engine(1, 2);
    let last: Arc<Mutex<Option<Engine>>> = Arc::default();
    let inside = last.clone();
    let (end, ended) = mpsc::channel();
    let inner = engine.function("inner", move |()| drop(inside.lock().unwrap().take())).unwrap();
    let outer = engine.function("outer", move |()| {
        inner.job(()).priority(Priority::High).submit().unwrap().wait().unwrap();
        end.send(thread::current().name().unwrap().to_owned()).unwrap();
    });
    let outer = outer.unwrap();
    *last.lock().unwrap() = Some(engine);
    outer.send(()).unwrap();
    assert_eq!(ended.recv_timeout(PATIENCE).unwrap(), "layshaft-0");
    // The bodies go with the last thread: the sender in `outer` is dropped.
    drop(outer);
    assert_eq!(ended.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
}

/// Trees whose every wait blocks: each job waits for jobs in lanes. Nothing is lost, whoever runs it, and with too few
/// spares refused waits are given back.
fn trees(workers: usize, spares: usize, rounds: u64) -> usize {
    let engine = engine(workers, spares);
    let done = Tally::new();
    let refusals = Arc::new(Mutex::new(Vec::new()));
    let own: Arc<OnceLock<Function<u64, u64>>> = Arc::default();
    let (inside, count, refused) = (own.clone(), done.clone(), refusals.clone());
    let tree = engine.function("tree", move |depth: u64| {
        count.add(depth);
        let priorities = if depth == 0 { &[][..] } else { &[Priority::High, Priority::Normal, Priority::Low] };
        let submit = |&priority| inside.get().unwrap().job(depth - 1).priority(priority).submit().unwrap();
        let handles: Vec<_> = priorities.iter().map(submit).collect();
        for handle in handles {
            let _ = wait(handle).map_err(|handle| refused.lock().unwrap().push(handle));
        }
        depth
    });
    assert!(own.set(tree.unwrap()).is_ok());
    let tree = own.get().unwrap();
    let (jobs, sum) = (1 + 3 + 9 + 27, 3 + 3 * 2 + 9);
    for round in 1..=rounds {
        assert_eq!(value(tree.submit(3).unwrap()), 3);
        done.wait_for(round * jobs);
        assert_eq!((done.count(), done.sum()), (round * jobs, round * sum));
    }
    let refused = std::mem::take(&mut *refusals.lock().unwrap());
    let count = refused.len();
    refused.into_iter().for_each(|handle| assert!(value(handle) < 3));
    assert!(engine.shutdown(Shutdown::Drain).complete);
    count
}

#[test]
fn trees_of_waits_in_lanes() {
    let _watchdog = watchdog("the end of the trees");
    for workers in [1, 2, 4] {
        // 13 jobs of a tree have jobs below them.
        assert_eq!(trees(workers, 13, 100), 0, "with {workers} workers");
        for spares in [0, 1, 3] {
            let refused = trees(workers, spares, 100);
            println!("{workers} workers, {spares} spares: {refused} refused");
            assert!(refused > 0 || workers + spares > 3);
        }
    }
}

/// Two producers' trees at a time, with drains that begin at any moment.
#[test]
fn stress() {
    let _watchdog = watchdog("the end of the rounds");
    for round in 0..60 {
        let engine = engine(1 + round % 3, 40);
        let tower = tower(&engine);
        let producers = [(), ()].map(|()| {
            let tower = tower.clone();
            thread::spawn(move || {
                let handles: Vec<_> =
                    (0..40).map_while(|n| tower.submit(n % 6).ok().map(|handle| (n % 6, handle))).collect();
                handles.into_iter().map(|(n, handle)| assert_eq!(value(handle), n)).count()
            })
        });
        if round % 2 == 0 {
            assert!(engine.shutdown(Shutdown::Drain).complete);
        }
        let ran: usize = producers.into_iter().map(|producer| producer.join().unwrap()).sum();
        assert!(round % 2 == 0 || ran == 80);
        drop(engine);
    }
}

/// The drop of a body, on the last thread of its engine, waits for a job of another engine.
#[test]
fn a_body_that_waits_when_it_is_dropped() {
    struct AtEnd(layshaft::Function<u64, u64>, std::sync::mpsc::Sender<u64>);
    impl Drop for AtEnd {
        fn drop(&mut self) {
            self.1.send(self.0.call(7).unwrap()).unwrap();
        }
    }
    let _watch = watchdog("the drop");
    let (ending, other) = (engine(1, 1), engine(1, 1));
    let slow = other.function("slow", |n: u64| {
        // Longer than a wait spins.
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(5) {
            thread::yield_now();
        }
        n
    });
    let (told, tells) = std::sync::mpsc::channel();
    let at_end = AtEnd(slow.unwrap(), told);
    let body = move |n: u64| {
        let _ = &at_end;
        n
    };
    drop(ending.function("body", body).unwrap());
    assert!(ending.shutdown(Shutdown::Drain).complete);
    assert_eq!(tells.recv(), Ok(7));
}

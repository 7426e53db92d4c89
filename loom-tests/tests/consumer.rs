//! Consumer sets: a job wakes one parked set, and a wake-up that its set does not use goes to another. The engines have
//! no worker threads, for workers do not touch these jobs.
#![cfg(layshaft_loom)]

use layshaft::model::workers::{Seat, end, engine};
use layshaft::{ConsumerSet, Engine, Function, JobError, Pulled, WaitError};
use layshaft_loom_tests::{Threads, explore};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

type Key = Function<u32, u32>;
type Set = ConsumerSet<u32, u32>;

/// An engine with one function without a body.
struct Bench {
    engine: Engine,
    seat: Seat,
    key: Key,
}

impl Bench {
    fn new() -> Bench {
        let (engine, seat) = engine(1);
        let key = engine.consumer("pulled").unwrap();
        Bench { engine, seat, key }
    }

    fn set(&self) -> Set {
        let set = self.engine.consumer_set();
        set.add(&self.key);
        set
    }

    fn end(self) {
        end(self.engine, self.seat);
    }
}

/// Counts its wakes.
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counter() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count(AtomicUsize::new(0)));
    (Arc::clone(&count), Waker::from(count))
}

fn park(set: &Set, waker: &Waker) -> Poll<()> {
    set.poll_ready(&mut Context::from_waker(waker))
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// As `ConsumerSet::next` waits, on loom's threads. A lost wake-up is a deadlock.
fn next(set: &Set, key: &Key) -> Option<Pulled<u32, u32>> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        if let Some(job) = set.try_next() {
            return Some(job);
        }
        if key.is_closed() {
            return set.try_next();
        }
        if park(set, &waker).is_pending() {
            thread::park();
        } else if let Some(job) = set.try_next() {
            return Some(job);
        } else {
            // A job may be reserved and not yet published.
            thread::yield_now();
        }
    }
}

/// Takes a job and answers with its argument.
fn serve(set: &Set, key: &Key) -> u32 {
    let (arg, completer) = next(set, key).unwrap().take();
    completer.complete(arg);
    arg
}

#[test]
fn submit_against_park() {
    explore("consumer, a submit against a set that parks", Threads::Two, || {
        let bench = Bench::new();
        let (set, key) = (bench.set(), bench.key.clone());
        let consumer = thread::spawn(move || serve(&set, &key));
        let handle = bench.key.submit(7).unwrap();
        assert_eq!(handle.wait().unwrap(), 7);
        assert_eq!(consumer.join().unwrap(), 7);
        bench.end();
    });
}

/// Two jobs wake two sets, each once.
#[test]
fn two_jobs_wake_two_sets() {
    explore("consumer, two submits for two parked sets", Threads::Three, || {
        let bench = Bench::new();
        let sets = [0, 1].map(|_| {
            let (set, (count, waker)) = (bench.set(), counter());
            assert!(park(&set, &waker).is_pending());
            (set, count)
        });
        let senders = [1, 2].map(|n| {
            let key = bench.key.clone();
            thread::spawn(move || key.send(n).unwrap())
        });
        senders.into_iter().for_each(|s| s.join().unwrap());
        let sum: u32 = sets
            .iter()
            .map(|(set, count)| {
                assert_eq!(count.0.load(Ordering::SeqCst), 1, "wakes of a set");
                serve(set, &bench.key)
            })
            .sum();
        assert_eq!(sum, 3);
        bench.end();
    });
}

/// The waker of a set may be called late, when that set has come back by itself: the wake-up must not stay with a set
/// that is busy while another one is parked.
#[test]
fn a_late_wake_goes_on() {
    explore("consumer, a late wake-up", Threads::Two, || {
        let bench = Bench::new();
        let (busy, idle) = (bench.set(), bench.set());
        let key = bench.key.clone();
        let sender = thread::spawn(move || key.send(1).unwrap());
        let first = next(&busy, &bench.key).unwrap();
        sender.join().unwrap();
        let (count, waker) = counter();
        assert!(park(&idle, &waker).is_pending());
        bench.key.send(2).unwrap();
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "wakes of the set that is parked");
        assert_eq!(serve(&idle, &bench.key), 2);
        assert_eq!(first.take().0, 1);
        bench.end();
    });
}

/// A set that is dropped passes its wake-up on.
#[test]
fn a_dropped_set_passes_on() {
    explore("consumer, a parked set is dropped", Threads::Two, || {
        let bench = Bench::new();
        let (other, dropped) = (bench.set(), bench.set());
        let (count, waker) = counter();
        assert!(park(&other, &waker).is_pending());
        let (_, waker) = counter();
        assert!(park(&dropped, &waker).is_pending());
        let key = bench.key.clone();
        let sender = thread::spawn(move || key.send(1).unwrap());
        drop(dropped);
        sender.join().unwrap();
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "wakes of the other set");
        assert_eq!(serve(&other, &bench.key), 1);
        bench.end();
    });
}

/// A set that parks again without taking anything passes its wake-up on.
#[test]
fn a_set_that_takes_nothing_passes_on() {
    explore("consumer, a woken set takes nothing", Threads::Two, || {
        let bench = Bench::new();
        let (lazy, other) = (bench.set(), bench.set());
        let (count, waker) = counter();
        assert!(park(&other, &waker).is_pending());
        let (_, waker) = counter();
        assert!(park(&lazy, &waker).is_pending());
        let key = bench.key.clone();
        let sender = thread::spawn(move || key.send(1).unwrap());
        lazy.remove(&bench.key);
        sender.join().unwrap();
        assert!(park(&lazy, &waker).is_pending());
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "wakes of the other set");
        assert_eq!(serve(&other, &bench.key), 1);
        bench.end();
    });
}

#[test]
fn put_back_against_park() {
    explore("consumer, a job put back against a set that parks", Threads::Two, || {
        let bench = Bench::new();
        let handle = bench.key.submit(7).unwrap();
        let (id, job) = (handle.id(), bench.set().try_next().unwrap());
        let (set, key) = (bench.set(), bench.key.clone());
        let consumer = thread::spawn(move || {
            let job = next(&set, &key).unwrap();
            let id = job.id();
            let (arg, completer) = job.take();
            completer.complete(arg);
            id
        });
        job.put_back();
        assert_eq!(handle.wait().unwrap(), 7);
        assert_eq!(consumer.join().unwrap(), Some(id));
        bench.end();
    });
}

/// The count of jobs that were put back is never behind what was taken.
#[test]
fn put_back_against_two_takers() {
    explore("consumer, a job put back against two takers", Threads::Three, || {
        let bench = Bench::new();
        bench.key.send(1).unwrap();
        bench.key.send(2).unwrap();
        let set = bench.set();
        let (first, second) = (set.try_next().unwrap(), set.try_next().unwrap());
        second.put_back();
        let takers = [0, 1].map(|_| {
            let (set, key) = (bench.set(), bench.key.clone());
            thread::spawn(move || {
                let taken = set.try_next().map_or(0, |job| job.take().0);
                assert!(key.queued() <= 2, "{} jobs queued", key.queued());
                taken
            })
        });
        first.put_back();
        let taken: u32 = takers.map(|t| t.join().unwrap()).iter().sum();
        let rest: u32 = std::iter::from_fn(|| set.try_next()).map(|job| job.take().0).sum();
        assert_eq!(taken + rest, 3);
        bench.end();
    });
}

/// A job that its caller cancelled is not pulled; one that was pulled is not cancelled.
#[test]
fn cancel_against_pull() {
    explore("consumer, cancel against pull", Threads::Two, || {
        let bench = Bench::new();
        let handle = bench.key.submit(7).unwrap();
        let set = bench.set();
        let consumer = thread::spawn(move || {
            let job = set.try_next()?;
            let (arg, completer) = job.take();
            completer.complete(arg);
            Some(arg)
        });
        let cancelled = handle.cancel();
        let taken = consumer.join().unwrap();
        assert_eq!(taken, if cancelled { None } else { Some(7) });
        match handle.wait() {
            Ok(result) => assert_eq!((result, cancelled), (7, false)),
            Err(WaitError::Job(JobError::Cancelled)) => assert!(cancelled),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(bench.key.queued(), 0);
        bench.end();
    });
}

/// Removing the function wakes a set that waits for it.
#[test]
fn close_against_park() {
    explore("consumer, removal against a set that parks", Threads::Two, || {
        let bench = Bench::new();
        let (set, key) = (bench.set(), bench.key.clone());
        let consumer = thread::spawn(move || next(&set, &key).is_none());
        assert!(bench.engine.remove("pulled"));
        assert!(consumer.join().unwrap());
        bench.end();
    });
}

/// A job that was accepted before the function closed is pulled, or was refused.
#[test]
fn submit_against_close() {
    explore("consumer, a submit against removal, and a set", Threads::Three, || {
        let bench = Bench::new();
        let (set, key) = (bench.set(), bench.key.clone());
        let consumer = thread::spawn(move || next(&set, &key).map_or(0, |job| job.take().0));
        let key = bench.key.clone();
        let sender = thread::spawn(move || u32::from(key.send(1).is_ok()));
        assert!(bench.engine.remove("pulled"));
        let (taken, sent) = (consumer.join().unwrap(), sender.join().unwrap());
        let rest = bench.set().try_next().map_or(0, |job| job.take().0);
        assert_eq!(taken + rest, sent);
        bench.end();
    });
}

/// A function that was removed stays known to the engine, whose end is to find its jobs, while one of them can be put back.
#[test]
fn removal_against_put_back() {
    explore("consumer, removal against a job that is put back", Threads::Two, || {
        let bench = Bench::new();
        // The second job of a block, whose claim releases nothing.
        bench.key.send(1).unwrap();
        bench.key.send(2).unwrap();
        let set = bench.set();
        set.try_next().unwrap().take().1.complete(1);
        let taker = thread::spawn(move || set.try_next().unwrap().put_back());
        assert!(bench.engine.remove("pulled"));
        taker.join().unwrap();
        assert_eq!((bench.key.queued(), bench.seat.functions()), (1, 1));
        bench.end();
    });
}

/// Wakes a thread that waits for it. Not `unpark`, which loom (0.7.3) has wake a thread that waits for a lock, too.
#[derive(Default)]
struct Bell(Mutex<bool>, Condvar);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() = true;
        self.1.notify_one();
    }
}

/// Waits until no job can come any more, as `ConsumerSet::next` does: `true`.
fn sees_the_end(set: &Set) -> bool {
    loop {
        let bell = Arc::new(Bell::default());
        if park(set, &Waker::from(Arc::clone(&bell))).is_ready() {
            return set.try_next().is_none();
        }
        let mut rang = bell.0.lock().unwrap();
        while !*rang {
            rang = bell.1.wait(rang).unwrap();
        }
    }
}

/// A set waits for a job of a closed function that another one may put back, until that one is done with it.
#[test]
fn the_last_job_against_park() {
    explore("consumer, the last job of a closed function against a set that parks", Threads::Two, || {
        let bench = Bench::new();
        bench.key.send(1).unwrap();
        let (set, job) = (bench.set(), bench.set().try_next().unwrap());
        assert!(bench.engine.remove("pulled"));
        let consumer = thread::spawn(move || sees_the_end(&set));
        drop(job);
        assert!(consumer.join().unwrap());
        bench.end();
    });
}

/// The close and the last job's end come at the same time: one of them wakes the set.
#[test]
fn the_last_job_against_close() {
    explore("consumer, the last job against removal, and a set that parks", Threads::Three, || {
        let bench = Bench::new();
        bench.key.send(1).unwrap();
        let (set, job) = (bench.set(), bench.set().try_next().unwrap());
        let consumer = thread::spawn(move || sees_the_end(&set));
        let other = thread::spawn(move || drop(job));
        assert!(bench.engine.remove("pulled"));
        other.join().unwrap();
        assert!(consumer.join().unwrap());
        bench.end();
    });
}

/// A job for one function and a job for another do not both rest on one set that serves both.
#[test]
fn two_functions_wake_two_sets() {
    explore("consumer, two functions, a set of both and a set of one", Threads::Two, || {
        let bench = Bench::new();
        let other: Key = bench.engine.consumer("other").unwrap();
        let (only, both) = (bench.set(), bench.set());
        both.add(&other);
        let (count, waker) = counter();
        assert!(park(&only, &waker).is_pending());
        let (_, ignored) = counter();
        assert!(park(&both, &ignored).is_pending());
        let keys = [bench.key.clone(), other.clone()];
        let senders = keys.map(|key| thread::spawn(move || key.send(1).unwrap()));
        senders.into_iter().for_each(|s| s.join().unwrap());
        // The set of both takes the other function's job; the one of the first has to wake the set of one.
        let one = (0..2).find_map(|_| both.try_next()).unwrap();
        if one.function() == "other" {
            assert_eq!(count.0.load(Ordering::SeqCst), 1, "wakes of the set of one");
        }
        drop(one);
        bench.end();
    });
}

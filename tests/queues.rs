//! The same questions to each kind of queue: a function's own, a worker's deque, and a consumer's.

mod common;

use common::rng::{Rng, jitter, seed};
use common::{Gate, Live, Tally, engine, value, watchdog};
use layshaft::{Engine, Function, Shutdown};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

const JOBS: u64 = 40_000;

fn sum_below(n: u64) -> u64 {
    n * (n - 1) / 2
}

/// A function that counts its jobs.
fn counted(engine: &Engine, name: &str) -> (Function<u64, ()>, Tally) {
    let done = Tally::new();
    let count = done.clone();
    (engine.function(name, move |n| count.add(n)).unwrap(), done)
}

/// Sends `from..to` by each way in turn.
fn send_mixed(function: &Function<u64, ()>, from: u64, to: u64, rng: &mut Rng) {
    let mut next = from;
    while next < to {
        match rng.below(4) {
            0 => {
                let end = to.min(next + rng.below(100));
                assert_eq!(function.send_batch(next..end).unwrap() as u64, end - next);
                next = end;
            }
            1 => {
                drop(function.submit(next).unwrap());
                next += 1;
            }
            _ => {
                function.send(next).unwrap();
                next += 1;
            }
        }
        if rng.one_in(32) {
            jitter(rng);
        }
    }
}

/// Starts `producers` threads at once.
fn produce(producers: u64, seed: u64, work: impl Fn(u64, &mut Rng) + Sync) {
    let gate = Gate::new();
    thread::scope(|scope| {
        for producer in 0..producers {
            let (gate, work) = (&gate, &work);
            scope.spawn(move || {
                let mut rng = Rng::new(seed + producer);
                gate.pass();
                work(producer, &mut rng);
            });
        }
        gate.wait_entered(producers as usize);
        gate.open();
    });
}

mod function_queue {
    use super::*;

    #[test]
    fn smoke() {
        let _watchdog = watchdog("the end of the jobs");
        let engine = engine(1);
        let (note, done) = counted(&engine, "note");
        for n in 0..10 {
            note.send(n).unwrap();
            done.wait_for(n + 1);
        }
        assert_eq!((note.queued(), done.sum()), (0, 45));
    }

    #[test]
    fn spsc() {
        let _watchdog = watchdog("the end of the jobs");
        let engine = engine(1);
        let (next, seen) = (AtomicU64::new(0), Tally::new());
        let count = seen.clone();
        let body = move |n| {
            assert_eq!(next.fetch_add(1, Ordering::Relaxed), n, "one producer, one worker: in order");
            count.add(n);
        };
        let note = engine.function("note", body).unwrap();
        send_mixed(&note, 0, JOBS, &mut Rng::new(seed("spsc")));
        assert!(engine.shutdown(Shutdown::Drain).complete);
        assert_eq!((seen.count(), seen.sum()), (JOBS, sum_below(JOBS)));
    }

    #[test]
    fn mpmc() {
        let _watchdog = watchdog("the end of the jobs");
        let engine = engine(3);
        let (note, done) = counted(&engine, "note");
        produce(3, seed("mpmc"), |part, rng| send_mixed(&note, part * JOBS / 3, (part + 1) * JOBS / 3, rng));
        assert!(engine.shutdown(Shutdown::Drain).complete);
        assert_eq!((done.count(), done.sum()), (JOBS, sum_below(JOBS)));
    }

    /// Everyone comes at once to workers that sleep, again and again.
    #[test]
    fn stampede() {
        let _watchdog = watchdog("the end of the jobs");
        let engine = engine(4);
        let (note, done) = counted(&engine, "note");
        let seed = seed("stampede");
        for round in 0..150 {
            produce(4, seed + round, |_, rng| {
                jitter(rng);
                note.send(1).unwrap();
            });
            done.wait_for(4 * (round + 1));
        }
        assert_eq!(done.sum(), 600);
    }

    /// A function with few jobs gets its turn beside functions that never run dry.
    #[test]
    fn no_starvation() {
        let _watchdog = watchdog("a turn for the small function");
        for workers in [1, 2] {
            let engine = engine(workers);
            let (first, _) = counted(&engine, "first");
            let (second, _) = counted(&engine, "second");
            let small = engine.function("small", |n: u64| n).unwrap();
            let stop = AtomicBool::new(false);
            let feed = |function: &Function<u64, ()>| {
                while !stop.load(Ordering::Relaxed) {
                    if function.queued() < 500 {
                        function.send_batch(0..100).unwrap();
                    } else {
                        thread::yield_now();
                    }
                }
            };
            thread::scope(|scope| {
                scope.spawn(|| feed(&first));
                scope.spawn(|| feed(&second));
                for n in 0..50 {
                    assert_eq!(value(small.submit(n).unwrap()), n);
                }
                stop.store(true, Ordering::Relaxed);
            });
        }
    }

    #[test]
    fn destructors() {
        let _watchdog = watchdog("the end of the jobs");
        let live = Live::default();
        let engine = engine(2);
        let keep = engine.function("keep", |token: (u64, common::Token)| token).unwrap();
        produce(3, seed("destructors"), |_, rng| {
            for n in 0..2_000 {
                let arg = (n, live.token());
                match rng.below(4) {
                    0 => keep.send(arg).unwrap(),
                    1 => drop(keep.submit(arg).unwrap()),
                    2 => drop(keep.submit(arg).unwrap().cancel()),
                    _ => assert_eq!(value(keep.submit(arg).unwrap()).0, n),
                }
            }
        });
        engine.shutdown(Shutdown::Discard);
        drop((engine, keep));
        assert!(live.made() >= 6_000);
        live.assert_balanced();
    }
}

mod deque {
    use super::*;

    #[test]
    fn smoke() {
        let _watchdog = watchdog("the end of the jobs");
        let engine = engine(1);
        let (note, done) = counted(&engine, "note");
        let outer = engine.function("outer", move |n: u64| (0..n).for_each(|n| note.send(n).unwrap())).unwrap();
        outer.send(10).unwrap();
        done.wait_for(10);
        assert_eq!(done.sum(), 45);
    }

    /// One worker fills its deque and empties it, with no thief.
    #[test]
    fn spsc() {
        let _watchdog = watchdog("the end of the jobs");
        let engine = engine(1);
        let (note, done) = counted(&engine, "note");
        let outer = engine.function("outer", move |n: u64| (n..n + 100).for_each(|n| note.send(n).unwrap())).unwrap();
        outer.send_batch((0..JOBS).step_by(100)).unwrap();
        done.wait_for(JOBS);
        assert_eq!(done.sum(), sum_below(JOBS));
    }

    /// Workers fill their deques and rob each other.
    #[test]
    fn mpmc() {
        let _watchdog = watchdog("the end of the jobs");
        let engine = engine(4);
        let seed = seed("mpmc");
        let done = Tally::new();
        let count = done.clone();
        let body = move |n| {
            jitter(&mut Rng::new(seed + n));
            count.add(n);
        };
        let note = engine.function("note", body).unwrap();
        let outer = engine.function("outer", move |n: u64| (n..n + 100).for_each(|n| note.send(n).unwrap())).unwrap();
        outer.send_batch((0..JOBS).step_by(100)).unwrap();
        done.wait_for(JOBS);
        assert_eq!(done.sum(), sum_below(JOBS));
        println!("{} steals", engine.stats().total().steals);
    }

    /// One job feeds all the others, who have nothing of their own.
    #[test]
    fn stampede() {
        let _watchdog = watchdog("the end of the jobs");
        let engine = engine(4);
        let (note, done) = counted(&engine, "note");
        let outer = engine.function("outer", move |n: u64| (0..n).for_each(|n| note.send(n).unwrap())).unwrap();
        for round in 1..=300 {
            outer.send(8).unwrap();
            done.wait_for(8 * round);
        }
        assert_eq!(done.sum(), 300 * 28);
    }

    /// A job that stays on one worker does not hold back what it sent: the other worker comes for it.
    #[test]
    fn no_starvation() {
        let _watchdog = watchdog("the theft of the nested jobs");
        let engine = engine(2);
        let (note, done) = counted(&engine, "note");
        let seen = done.clone();
        let outer = engine.function("outer", move |n: u64| {
            (0..n).for_each(|n| note.send(n).unwrap());
            seen.wait_for(n);
        });
        value(outer.unwrap().submit(200).unwrap());
        assert_eq!(done.sum(), sum_below(200));
    }

    #[test]
    fn destructors() {
        let _watchdog = watchdog("the end of the jobs");
        let live = Live::default();
        for workers in [1, 3] {
            let engine = engine(workers);
            let keep = engine.function("keep", |token: common::Token| token).unwrap();
            let tokens = live.clone();
            let outer = engine.function("outer", move |n: u64| {
                let mut kept = Vec::new();
                for n in 0..n {
                    match n % 3 {
                        0 => keep.send(tokens.token()).is_ok(),
                        1 => keep.submit(tokens.token()).is_ok_and(|handle| handle.cancel()),
                        _ => keep.submit(tokens.token()).map(|handle| kept.push(handle)).is_ok(),
                    };
                }
            });
            let outer = outer.unwrap();
            outer.send_batch([50; 40]).unwrap();
            engine.shutdown(if workers == 1 { Shutdown::Drain } else { Shutdown::Discard });
            drop((engine, outer));
        }
        live.assert_balanced();
    }
}

mod consumer_queue {
    use super::*;
    use layshaft::ConsumerSet;

    fn remote(engine: &Engine) -> (Function<u64, ()>, ConsumerSet<u64, ()>) {
        let function = engine.consumer("remote").unwrap();
        let set = engine.consumer_set();
        set.add(&function);
        (function, set)
    }

    fn consume(set: &ConsumerSet<u64, ()>, done: &Tally) {
        while let Some(pulled) = set.next() {
            let (n, completer) = pulled.take();
            done.add(n);
            completer.complete(());
        }
    }

    #[test]
    fn smoke() {
        let _watchdog = watchdog("the end of the jobs");
        let engine = engine(1);
        let (function, set) = remote(&engine);
        for n in 0..10 {
            function.send(n).unwrap();
            assert_eq!(set.next().unwrap().take().0, n);
        }
        assert!(set.try_next().is_none());
    }

    #[test]
    fn spsc() {
        let _watchdog = watchdog("the end of the jobs");
        let engine = engine(1);
        let (function, set) = remote(&engine);
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..JOBS {
                    assert_eq!(set.next().unwrap().take().0, n, "one producer, one set: in order");
                }
            });
            send_mixed(&function, 0, JOBS, &mut Rng::new(seed("spsc")));
        });
    }

    fn share(producers: u64, consumers: u64, seed: u64) {
        let engine = engine(1);
        let (function, _set) = remote(&engine);
        let done = Tally::new();
        thread::scope(|scope| {
            for _ in 0..consumers {
                let set = engine.consumer_set();
                set.add(&function);
                let done = &done;
                scope.spawn(move || consume(&set, done));
            }
            let part = JOBS / producers;
            produce(producers, seed, |n, rng| send_mixed(&function, n * part, (n + 1) * part, rng));
            engine.remove("remote");
        });
        let jobs = JOBS / producers * producers;
        assert_eq!((done.count(), done.sum()), (jobs, sum_below(jobs)));
    }

    #[test]
    fn mpmc() {
        let _watchdog = watchdog("the end of the jobs");
        share(3, 3, seed("mpmc"));
    }

    /// More sets than jobs: all sleep, and each job wakes one that takes it.
    #[test]
    fn stampede() {
        let _watchdog = watchdog("the end of the jobs");
        let engine = engine(1);
        let (function, _set) = remote(&engine);
        let done = Tally::new();
        thread::scope(|scope| {
            for _ in 0..6 {
                let set = engine.consumer_set();
                set.add(&function);
                let done = &done;
                scope.spawn(move || consume(&set, done));
            }
            let seed = seed("stampede");
            for round in 0..300 {
                produce(2, seed + round, |_, _| function.send(1).unwrap());
                done.wait_for(2 * (round + 1));
            }
            engine.remove("remote");
        });
    }

    /// A set with several functions serves each, while one of them never runs dry.
    #[test]
    fn no_starvation() {
        let _watchdog = watchdog("a turn for the small function");
        let engine = engine(1);
        let (greedy, set) = remote(&engine);
        let small = engine.consumer::<u64, ()>("small").unwrap();
        set.add(&small);
        greedy.send_batch(0..100).unwrap();
        small.send(7).unwrap();
        for turn in 0..100 {
            let pulled = set.try_next().unwrap();
            if pulled.function() == "small" {
                return;
            }
            greedy.send(turn).unwrap();
        }
        panic!("a hundred jobs of one function before the first of the other");
    }

    #[test]
    fn destructors() {
        let _watchdog = watchdog("the end of the jobs");
        let live = Live::default();
        let engine = engine(1);
        let remote = engine.consumer::<common::Token, common::Token>("remote").unwrap();
        thread::scope(|scope| {
            for n in 0..2 {
                let set = engine.consumer_set();
                set.add(&remote);
                scope.spawn(move || {
                    let mut rng = Rng::new(n);
                    while let Some(pulled) = set.next() {
                        match rng.below(4) {
                            0 => drop(pulled),
                            1 => pulled.put_back(),
                            2 => drop(pulled.take()),
                            _ => {
                                let (token, completer) = pulled.take();
                                completer.complete(token);
                            }
                        }
                    }
                });
            }
            produce(2, seed("destructors"), |_, rng| {
                for _ in 0..2_000 {
                    match rng.below(3) {
                        0 => remote.send(live.token()).unwrap(),
                        1 => drop(remote.submit(live.token()).unwrap()),
                        _ => drop(remote.submit(live.token()).unwrap().cancel()),
                    }
                }
            });
            engine.remove("remote");
        });
        drop((engine, remote));
        live.assert_balanced();
    }
}

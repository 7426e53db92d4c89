//! Counts of jobs: whoever has seen a job's end finds it counted, once, though its place comes to another function.
#![cfg(layshaft_loom)]

use layshaft::model::counts::{self, Counts};
use layshaft::model::workers::{Seat, Steps, end, engine_that_counts};
use layshaft::{Engine, Function};
use layshaft_loom_tests::{Threads, explore};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread::{self, JoinHandle};

/// One place, two functions, and a reader that knows of some ends.
#[test]
fn a_place_that_changes_hands() {
    explore("tally, a place that changes hands", Threads::Two, || {
        let shared =
            Arc::new((Counts::new(1), [counts::Function::new(), counts::Function::new()], AtomicUsize::new(0)));
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (counts, [one, other], told) = &*shared;
                counts.run(0, one, || ());
                told.store(1, Ordering::Release);
                counts.run(0, other, || ());
                counts.turn_out(0);
            })
        };
        let (counts, [one, other], told) = &*shared;
        let known = told.load(Ordering::Acquire) as u64;
        let (running, ended) = counts.read(one);
        assert!(running + ended <= 1 && ended >= known, "{running} run and {ended} have ended, of {known} known");
        worker.join().unwrap();
        assert_eq!((counts.read(one), counts.read(other)), ((0, 1), (0, 1)));
    });
}

/// A job that another one interrupts begins in a place and ends in it again, with its count elsewhere in between.
#[test]
fn a_job_that_is_interrupted() {
    explore("tally, a job that is interrupted", Threads::Two, || {
        let shared =
            Arc::new((Counts::new(1), [counts::Function::new(), counts::Function::new()], AtomicUsize::new(0)));
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (counts, [one, other], told) = &*shared;
                counts.run(0, one, || {
                    told.store(1, Ordering::Release);
                    counts.run(0, other, || ());
                });
            })
        };
        let (counts, [one, _], told) = &*shared;
        if told.load(Ordering::Acquire) == 1 {
            let (running, ended) = counts.read(one);
            assert_eq!(running + ended, 1);
        }
        worker.join().unwrap();
        assert_eq!(counts.read(one), (0, 1));
    });
}

/// Two workers turn out counts of one function.
#[test]
fn two_workers() {
    explore("tally, two workers", Threads::Two, || {
        let shared = Arc::new((Counts::new(2), counts::Function::new()));
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (counts, function) = &*shared;
                counts.run(0, function, || ());
                counts.turn_out(0);
            })
        };
        let (counts, function) = &*shared;
        counts.run(1, function, || ());
        counts.turn_out(1);
        let (running, ended) = counts.read(function);
        assert!(running + ended <= 2 && ended >= 1, "{running} run and {ended} have ended");
        worker.join().unwrap();
        assert_eq!(counts.read(function), (0, 2));
    });
}

/// What a worker counts, who reads it, and a function that is removed meanwhile. The worker starts no job of it once it is not
/// listed.
struct Removed {
    engine: Engine,
    seat: Seat,
    function: Function<(), ()>,
    /// Jobs that were told of.
    told: Arc<AtomicUsize>,
}

impl Removed {
    fn new() -> Removed {
        let (engine, seat) = engine_that_counts(1);
        let function = engine.function("one", |()| ()).unwrap();
        Removed { engine, seat, function, told: Arc::default() }
    }

    /// A worker that runs a job of the function, if it is listed, and then has no other job; from time to time it looks which
    /// functions can go, as a job does that registers one.
    fn worker(&self) -> JoinHandle<()> {
        let (steps, seat, told) = (Steps::new(&self.seat, 0), self.seat.clone(), Arc::clone(&self.told));
        thread::spawn(move || {
            steps.between_jobs();
            steps.run_one_of(0, || _ = told.fetch_add(1, Ordering::Release));
            for _ in 0..3 {
                steps.between_jobs();
                seat.collect();
            }
            steps.park();
        })
    }
}

/// The registry lets go of a function when its worker has: what was counted there is turned out before, and nothing after.
#[test]
fn a_removed_function_is_let_go() {
    explore("tally, a function that is removed", Threads::Two, || {
        let removed = Removed::new();
        let worker = removed.worker();
        let Removed { engine, seat, function, .. } = removed;
        drop(function);
        assert!(engine.remove("one"));
        seat.collect();
        worker.join().unwrap();
        end(engine, seat);
    });
}

/// Who reads finds each end that it knows of, amidst the removal and after it; none is lost or found twice.
#[test]
fn a_reader_against_a_removal() {
    explore("tally, a reader against a removal", Threads::Two, || {
        let removed = Removed::new();
        let worker = removed.worker();
        let Removed { engine, seat, function, told } = removed;
        assert!(engine.remove("one"));
        let known = told.load(Ordering::Acquire) as u64;
        let (running, done) = seat.counted(&function);
        assert!(done >= known && running + done <= 1, "{running} run and {done} have ended, of {known} known");
        worker.join().unwrap();
        let stats = function.stats();
        assert_eq!((stats.running, stats.done), (0, told.load(Ordering::Relaxed) as u64));
        drop(function);
        seat.collect();
        seat.collect();
        end(engine, seat);
    });
}

/// Two workers end their turns while somebody reads: what both have counted is found, wherever it is.
#[test]
fn two_turns_end_against_a_reader() {
    explore("tally, the ends of two turns against a reader", Threads::Three, || {
        let shared = Arc::new((Counts::new(2), counts::Function::new()));
        let workers = [0, 1].map(|worker| {
            let (counts, function) = &*shared;
            counts.run(worker, function, || ());
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.0.turn_out(worker))
        });
        let (counts, function) = &*shared;
        assert_eq!(counts.read(function), (0, 2));
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(counts.read(function), (0, 2));
    });
}

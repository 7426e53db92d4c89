//! Threads that block inside jobs, spares that take their place, and threads too many that stand by.
#![cfg(layshaft_loom)]

use layshaft::model::workers::{Seat, Steps, engine_with_spares, work, work_when_called};
use layshaft::{Engine, Function, JobHandle, Shutdown};
use layshaft_loom_tests::{Threads, explore};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread::{self, JoinHandle};

/// `outer` waits for the job whose handle it is given.
fn functions(engine: &Engine, ran: &Arc<AtomicUsize>) -> (Function<JobHandle<usize>, usize>, Function<usize, usize>) {
    let count = Arc::clone(ran);
    let outer = engine.function("outer", move |inner: JobHandle<usize>| {
        let got = inner.wait().unwrap();
        count.fetch_add(got, Ordering::Relaxed);
        got
    });
    let count = Arc::clone(ran);
    let inner = engine.function("inner", move |n: usize| {
        count.fetch_add(n, Ordering::Relaxed);
        n
    });
    (outer.unwrap(), inner.unwrap())
}

/// The only worker waits for a job behind its own, which the spare runs. The drain has begun, and ends once: not while the
/// worker is blocked, and after one of the two has stood by again.
#[test]
fn a_wait_against_the_drain() {
    explore("spares, a wait inside a job against the drain", Threads::Three, || {
        let (engine, seat) = engine_with_spares(1, 1);
        let ran = Arc::new(AtomicUsize::new(0));
        let (outer, inner) = functions(&engine, &ran);
        let handle = inner.submit(1).unwrap();
        outer.send(handle).unwrap();
        // Before there are threads: the checker (0.7.3, `match_load_to_stores`) fails when a flag is raised beside a relaxed
        // look at it. `standing_by_against_the_drain` has the other order.
        seat.start_drain();
        let spare = seat.clone();
        let worker = thread::spawn(move || work(seat, 0));
        let spare = thread::spawn(move || work_when_called(spare, 1));
        worker.join().unwrap();
        spare.join().unwrap();
        let drained = engine.shutdown(Shutdown::Drain);
        assert!(drained.complete && drained.discarded == 0);
        assert_eq!(ran.load(Ordering::Relaxed), 2);
    });
}

/// A drain begins while the last thread that is awake stands by, and another one falls asleep: one of them ends the drain.
#[test]
fn standing_by_against_the_drain() {
    explore("spares, standing by against the drain", Threads::Three, || {
        let (engine, seat) = engine_with_spares(1, 1);
        seat.overstaff();
        let [leaver, sleeper] = [0, 1].map(|index| Steps::new(&seat, index));
        leaver.start_search();
        sleeper.start_search();
        let leaver = thread::spawn(move || leaver.stand_by());
        let sleeper = thread::spawn(move || sleeper.idle_to_the_end());
        seat.drain();
        leaver.join().unwrap();
        sleeper.join().unwrap();
        // It would wait for its workers.
        std::mem::forget(engine);
    });
}

/// Others rely on the thread that searches, which sees work and then stands by, for there is a thread too many. The one that
/// falls asleep meanwhile has seen what there is, or is woken.
#[test]
fn standing_by_against_a_submit() {
    explore("spares, standing by against a submit", Threads::Three, || {
        let (engine, seat) = engine_with_spares(1, 1);
        let note = engine.function("note", |n: usize| n).unwrap();
        seat.overstaff();
        let (leaver, sleeper) = two_searchers(&seat);
        note.send(1).unwrap();
        leaver.join().unwrap();
        sleeper.join().unwrap();
        assert!(seat.is_looked_after(), "a queued job, and all sleep");
        // It would wait for its workers.
        std::mem::forget(engine);
    });
}

#[test]
fn standing_by_against_a_claim() {
    explore("spares, standing by against a claim", Threads::Three, || {
        let (engine, seat) = engine_with_spares(2, 1);
        seat.overstaff();
        let (leaver, sleeper) = two_searchers(&seat);
        Steps::new(&seat, 2).claim();
        leaver.join().unwrap();
        sleeper.join().unwrap();
        assert!(seat.is_watched(), "claimed jobs beside a sleeper");
        // It would wait for its workers.
        std::mem::forget(engine);
    });
}

/// One will stand by, one falls asleep.
fn two_searchers(seat: &Seat) -> (JoinHandle<()>, JoinHandle<()>) {
    let [leaver, sleeper] = [0, 1].map(|index| Steps::new(seat, index));
    leaver.start_search();
    sleeper.start_search();
    (thread::spawn(move || leaver.stand_by()), thread::spawn(move || sleeper.lie_down()))
}

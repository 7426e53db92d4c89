//! Threads that block inside jobs, spares that take their place, and threads too many that stand by.
#![cfg(layshaft_loom)]

use layshaft::model::workers::{Seat, Steps, engine_with_spares};
use layshaft_loom_tests::{Threads, explore};
use loom::thread::{self, JoinHandle};

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

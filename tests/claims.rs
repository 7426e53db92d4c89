//! Does any job wait behind a long one that was claimed before it, while a worker is idle?

mod common;

use common::{Gate, Tally, engine, value, watchdog};
use layshaft::{Engine, Priority};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Waits until every worker has parked, so that a round begins from rest.
fn rest(engine: &Engine) {
    while engine.stats().workers.iter().any(|worker| worker.parks == 0) {
        std::thread::yield_now();
    }
}

/// One worker claims a batch and is stuck in its first job, a second one turns to other work and is stuck, too: the third
/// must not sleep beside the rest of the batch.
#[test]
fn invariant_1_nobody_sleeps_beside_claimed_jobs() {
    let _watchdog = watchdog("the end of the jobs behind the long one");
    for _ in 0..100 {
        let engine = engine(3);
        let (short, gate) = (Tally::new(), Gate::new());
        let (count, pass) = (short.clone(), gate.clone());
        let batch = engine.function("batch", move |long| if long { pass.pass() } else { count.add(1) }).unwrap();
        let pass = gate.clone();
        let other = engine.function("other", move |()| pass.pass()).unwrap();
        rest(&engine);
        batch.send_batch([true, false, false, false, false, false]).unwrap();
        other.send(()).unwrap();
        short.wait_for(5);
        gate.open();
    }
}

/// A high job that comes between a claim and its first start holds up none of the claimed jobs: it may wait for them.
#[test]
fn a_high_job_holds_no_claim() {
    let _watchdog = watchdog("the end of the jobs behind the high one");
    let engine = engine(2);
    let ran = Arc::new(AtomicU64::new(0));
    let (count, look) = (Arc::clone(&ran), Arc::clone(&ran));
    let normal = engine.function("normal", move |()| _ = count.fetch_add(1, Ordering::SeqCst)).unwrap();
    let urgent = engine.function("urgent", move |all: u64| {
        while look.load(Ordering::SeqCst) < all {
            std::thread::yield_now();
        }
    });
    let urgent = urgent.unwrap();
    for round in 1..=1_000 {
        normal.send_batch([(); 6]).unwrap();
        // The claim is made about now.
        (0..round % 100).for_each(|_| std::hint::spin_loop());
        value(urgent.job(round * 6).priority(Priority::High).submit().unwrap());
    }
}

//! Jobs that borrow are over when their scope is: loom sees the accesses to a joined closure's place on the stack.
#![cfg(layshaft_loom)]

use layshaft::Shutdown;
use layshaft::model::workers::{engine, work};
use layshaft_loom_tests::{Threads, explore};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// The closure is run by the worker, before the caller looks for its result.
#[test]
fn join_against_its_worker() {
    explore("scope, a join against the worker", Threads::Two, || {
        let (engine, seat) = engine(1);
        let worker = thread::spawn(move || work(seat, 0));
        let ran = Arc::new(AtomicUsize::new(0));
        assert_eq!(engine.join(|| 1, || ran.fetch_add(1, Ordering::Relaxed)), (1, 0));
        assert_eq!(ran.load(Ordering::Relaxed), 1);
        engine.shutdown(Shutdown::Discard);
        worker.join().unwrap();
    });
}

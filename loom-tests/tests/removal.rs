//! Removing a function while its jobs run: they run to their end, its body is dropped once and not before, and the next
//! function with its index gets its own jobs. The body holds a cell: loom reports a drop that races with a run.
#![cfg(layshaft_loom)]

use layshaft::model::workers::{engine, work};
use layshaft::{Function, Shutdown};
use layshaft_loom_tests::{Threads, explore};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// What a body owns: reading it races with its drop unless one is ordered before the other.
struct Owned {
    cell: UnsafeCell<usize>,
    dropped: Arc<AtomicUsize>,
}

// SAFETY: read while the body lives, written by its drop alone; loom checks that.
unsafe impl Sync for Owned {}

impl Owned {
    fn new(dropped: &Arc<AtomicUsize>) -> Owned {
        Owned { cell: UnsafeCell::new(1), dropped: Arc::clone(dropped) }
    }

    fn read(&self) -> usize {
        // SAFETY: nobody writes while the body lives.
        self.cell.with(|p| unsafe { *p })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the last use.
        self.cell.with_mut(|p| unsafe { *p = 0 });
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// The collector frees a function that a worker has just run.
#[test]
fn removed_against_its_job() {
    explore("removal, against its job", Threads::Two, || {
        let (engine, seat) = engine(1);
        let (ran, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (owned, count) = (Owned::new(&dropped), Arc::clone(&ran));
        let first =
            engine.function("first", move |(): ()| _ = count.fetch_add(owned.read(), Ordering::Relaxed)).unwrap();
        let worker = thread::spawn(move || work(seat, 0));
        first.send(()).unwrap();
        assert!(engine.remove("first"));
        assert!(first.send(()).is_err());
        drop(first);
        // Looks again whether the removed function can go, and goes on with its index.
        let count = Arc::clone(&ran);
        let second = engine.function("second", move |n: usize| _ = count.fetch_add(n, Ordering::Relaxed)).unwrap();
        second.send(10).unwrap();
        assert!(engine.shutdown(Shutdown::Drain).complete);
        worker.join().unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), 11);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    });
}

/// A submit that races with the removal is run, or hands its argument back; its late ready bit harms nobody.
#[test]
fn removed_against_a_submit() {
    explore("removal, against a submit", Threads::Three, || {
        let (engine, seat) = engine(1);
        let (ran, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (owned, count) = (Owned::new(&dropped), Arc::clone(&ran));
        let key = engine.function("first", move |(): ()| _ = count.fetch_add(owned.read(), Ordering::Relaxed)).unwrap();
        let worker = thread::spawn(move || work(seat, 0));
        let sender = thread::spawn(move || usize::from(key.send(()).is_ok()));
        assert!(engine.remove("first"));
        let sent = sender.join().unwrap();
        assert!(engine.shutdown(Shutdown::Drain).complete);
        worker.join().unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), sent);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    });
}

/// The last key is dropped by a thread that saw neither the run nor the removal: the body's end comes after its run.
#[test]
fn the_last_key_is_dropped_elsewhere() {
    explore("removal, last key dropped elsewhere", Threads::Three, || {
        let (engine, seat) = engine(1);
        let dropped = Arc::new(AtomicUsize::new(0));
        let owned = Owned::new(&dropped);
        let key = engine.function("inner", move |(): ()| _ = owned.read()).unwrap();
        // Nested, so that the run leaves no trace in the function's lane.
        let outer = engine.function("outer", |key: Function<(), ()>| _ = key.send(())).unwrap();
        outer.send(key.clone()).unwrap();
        let worker = thread::spawn(move || work(seat, 0));
        let holder = thread::spawn(move || drop(key));
        assert!(engine.remove("inner"));
        assert!(engine.shutdown(Shutdown::Drain).complete);
        holder.join().unwrap();
        worker.join().unwrap();
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    });
}

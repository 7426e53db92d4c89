//! Jobs of other priorities: their lanes are made while the function is being closed, and a worker that has run a high job
//! tidies the way to it while others look.
#![cfg(layshaft_loom)]

use layshaft::model::queues::{Queue, Ready};
use layshaft::model::workers::{Bed, engine, work};
use layshaft::{Priority, Shutdown};
use layshaft_loom_tests::{Threads, explore};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// The first high job of a function races with the end: it is run, or handed back.
#[test]
fn high_submit_against_drain() {
    explore("priority, a first high submit against the drain", Threads::Three, || {
        let (engine, seat) = engine(1);
        let ran = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ran);
        let note = engine.function("note", move |n: usize| count.fetch_add(n, Ordering::Relaxed)).unwrap();
        let worker = thread::spawn(move || work(seat, 0));
        let sender = thread::spawn(move || usize::from(note.job(1).priority(Priority::High).send().is_ok()));
        engine.shutdown(Shutdown::Drain);
        worker.join().unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), sender.join().unwrap());
    });
}

/// The same with a low job and the removal of its function.
#[test]
fn low_submit_against_removal() {
    explore("priority, a first low submit against removal", Threads::Three, || {
        let (engine, seat) = engine(1);
        let ran = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ran);
        let note = engine.function("note", move |n: usize| count.fetch_add(n, Ordering::Relaxed)).unwrap();
        let worker = thread::spawn(move || work(seat, 0));
        let sender = thread::spawn(move || usize::from(note.job(1).priority(Priority::Low).send().is_ok()));
        assert!(engine.remove("note"));
        let sent = sender.join().unwrap();
        assert!(engine.shutdown(Shutdown::Drain).complete);
        worker.join().unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), sent);
    });
}

struct Parts {
    bed: Bed,
    ready: Ready,
    queues: [Queue<u32>; 2],
    taken: AtomicUsize,
}

impl Parts {
    /// The upper levels still point at functions that have no jobs any more.
    fn stale() -> Arc<Parts> {
        let ready = Ready::new(2);
        assert!(ready.set(0));
        ready.clear(0);
        let queues = [Queue::new(), Queue::new()];
        Arc::new(Parts { bed: Bed::new(), ready, queues, taken: AtomicUsize::new(0) })
    }

    fn submit(&self, function: usize) {
        self.queues[function].push(1).unwrap();
        if self.ready.set(function) {
            self.bed.notify();
        }
    }

    /// Takes one job: whether there was one.
    fn take(&self) -> bool {
        let Some(function) = self.ready.next(0) else { return false };
        let got = self.queues[function].claim(1).len();
        let settle = || self.ready.settle(function, &self.queues[function], || _ = self.bed.notify());
        if !settle() && got > 0 && self.bed.has_sleepers() {
            self.bed.notify();
        }
        if self.taken.fetch_add(got, Ordering::SeqCst) + got == 2 {
            self.bed.wake_all();
        }
        got > 0
    }

    fn is_over(&self) -> bool {
        self.taken.load(Ordering::SeqCst) == 2
    }
}

/// A busy worker tidies, sees what came meanwhile, takes one job and is stuck in it: the other one is for the sleeper that
/// looked while the way was cleared.
#[test]
fn tidied_by_a_busy_worker() {
    explore("priority, a busy worker tidies while another falls asleep", Threads::Three, || {
        let parts = Parts::stale();
        let busy = {
            let parts = Arc::clone(&parts);
            thread::spawn(move || {
                if parts.ready.tidy() {
                    parts.bed.notify();
                }
                while parts.ready.any() && !parts.take() {
                    thread::yield_now();
                }
            })
        };
        let idle = {
            let parts = Arc::clone(&parts);
            thread::spawn(move || {
                let mut announce = false;
                while !parts.is_over() {
                    if parts.take() {
                        if std::mem::take(&mut announce) && parts.ready.any() {
                            parts.bed.notify();
                        }
                        continue;
                    }
                    parts.bed.start_search();
                    while !parts.ready.any() && !parts.is_over() {
                        parts.bed.sleep_unless(|| parts.ready.any() || parts.is_over());
                    }
                    announce |= parts.bed.stop_search();
                    thread::yield_now();
                }
            })
        };
        parts.submit(0);
        parts.submit(1);
        busy.join().unwrap();
        idle.join().unwrap();
        assert!(parts.is_over());
    });
}

//! Sleep and wake: work that is announced is seen by somebody who is awake or is woken.
#![cfg(layshaft_loom)]

use layshaft::model::queues::{Deque, Queue, Ready};
use layshaft::model::workers::{Bed, Steps, engine};
use layshaft_loom_tests::{Threads, explore};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// What a submit from outside and a worker share.
struct Parts {
    bed: Bed,
    ready: Ready,
    queue: Queue<u32>,
}

impl Parts {
    fn new() -> Arc<Parts> {
        Arc::new(Parts { bed: Bed::new(), ready: Ready::new(1), queue: Queue::new() })
    }

    fn submit(&self, n: u32) {
        self.queue.push(n).unwrap();
        if self.ready.set(0) {
            self.bed.notify();
        }
    }

    /// As a worker takes what the ready set shows.
    fn take(&self) -> usize {
        if self.ready.next(0).is_none() {
            return 0;
        }
        let got = self.queue.claim(2).len();
        let settle = || self.ready.settle(0, &self.queue, || _ = self.bed.notify());
        if got == 0 {
            settle();
        } else if self.bed.has_sleepers() && !settle() {
            // A backlog is for a sleeper.
            self.bed.notify();
        }
        got
    }

    /// As a worker searches and sleeps until it has found a job: how many it took at once. None when there is no more.
    fn work(&self, is_over: impl Fn() -> bool) -> usize {
        let mut announce = false;
        while !is_over() {
            let got = self.take();
            if got > 0 {
                if announce && self.ready.any() {
                    self.bed.notify();
                }
                return got;
            }
            self.bed.start_search();
            while !self.ready.any() && !is_over() {
                self.ready.tidy();
                self.bed.sleep_unless(|| self.ready.any() || is_over());
            }
            announce |= self.bed.stop_search();
            thread::yield_now();
        }
        0
    }
}

/// Without a wake-up the worker would sleep for ever, which loom reports as a deadlock.
#[test]
fn a_submit_wakes_the_sleeper() {
    explore("sleep, one submitter, one worker", Threads::Two, || {
        let parts = Parts::new();
        let worker = {
            let parts = Arc::clone(&parts);
            thread::spawn(move || parts.work(|| false))
        };
        parts.submit(1);
        assert_eq!(worker.join().unwrap(), 1);
        assert_eq!(parts.bed.counts(), (0, 0));
    });
}

/// One worker takes a job and is stuck in it, with the function's bit left set or cleared: the other one gets what comes.
#[test]
fn a_stuck_worker_strands_nothing() {
    explore("sleep, two submits, one of two workers gets stuck", Threads::Three, || {
        let parts = Parts::new();
        let done = Arc::new(AtomicUsize::new(0));
        let workers = [0, 1].map(|_| {
            let (parts, done) = (Arc::clone(&parts), Arc::clone(&done));
            thread::spawn(move || {
                // Whoever gets a job stays in it: what it has not claimed is for the other.
                let got = parts.work(|| done.load(Ordering::SeqCst) == 2);
                if done.fetch_add(got, Ordering::SeqCst) + got == 2 {
                    parts.bed.wake_all();
                }
            })
        });
        parts.submit(1);
        parts.submit(2);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(done.load(Ordering::SeqCst), 2);
    });
}

/// A nested job is announced with a plain store and a light fence; the sleeper's heavy fence makes it visible.
#[test]
fn a_nested_submit_wakes_the_sleeper() {
    explore("sleep, nested submit", Threads::Two, || {
        let (bed, deque) = (Arc::new(Bed::new()), Arc::new(Deque::new()));
        let thief = {
            let (bed, deque) = (Arc::clone(&bed), Arc::clone(&deque));
            thread::spawn(move || {
                bed.start_search();
                let mut got = deque.steal();
                while got.is_none() {
                    bed.sleep_unless(|| {
                        got = deque.steal();
                        got.is_some()
                    });
                    got = got.or_else(|| deque.steal());
                }
                let _ = bed.stop_search();
                got.unwrap()
            })
        };
        assert!(deque.push(7));
        bed.notify_local();
        assert_eq!(thief.join().unwrap(), 7);
    });
}

/// Sleepers and tokens match, whoever withdraws and whoever wakes.
#[test]
fn tokens_match_sleepers() {
    explore("sleep, withdraw against wake", Threads::Three, || {
        let bed = Arc::new(Bed::new());
        let sleepers = [0, 1].map(|_| {
            let bed = Arc::clone(&bed);
            thread::spawn(move || {
                bed.start_search();
                bed.sleep_unless(|| true);
                let _ = bed.stop_search();
            })
        });
        bed.wake_all();
        sleepers.into_iter().for_each(|s| s.join().unwrap());
        assert_eq!(bed.counts(), (0, 0));
    });
}

/// A worker sees work in its last look, and is counted as woken; the other one, which has run that work, takes its token. The
/// drain ends all the same.
#[test]
fn a_token_that_another_takes() {
    explore("sleep, a token that another takes, in a drain", Threads::Three, || {
        let (engine, seat) = engine(2);
        let [slow, fast] = [0, 1].map(|index| Steps::new(&seat, index));
        slow.start_search();
        fast.start_search();
        seat.start_drain();
        let slow = thread::spawn(move || {
            slow.see_work();
            slow.sleep_to_the_end();
        });
        let fast = thread::spawn(move || fast.sleep_to_the_end());
        seat.wake_all();
        slow.join().unwrap();
        fast.join().unwrap();
        // It would wait for its workers.
        std::mem::forget(engine);
    });
}

/// Two idle workers, and one that claims two jobs and gets stuck before it starts them: whatever the idle ones do, nobody
/// sleeps while nobody looks after the claim.
fn watched(was_watching: bool) {
    let (engine, seat) = engine(3);
    let [owner, leaver, sleeper] = [0, 1, 2].map(|index| Steps::new(&seat, index));
    leaver.start_search();
    sleeper.start_search();
    if was_watching {
        leaver.start_watch();
    }
    let leaver = thread::spawn(move || leaver.find_work(was_watching));
    let sleeper = thread::spawn(move || sleeper.lie_down());
    owner.claim();
    leaver.join().unwrap();
    sleeper.join().unwrap();
    assert!(seat.is_watched(), "claimed jobs beside a sleeper");
    // It would wait for its workers.
    std::mem::forget(engine);
}

#[test]
fn claims_are_watched_when_a_searcher_leaves() {
    explore("sleep, a claim against a searcher that leaves", Threads::Three, || watched(false));
}

#[test]
fn claims_are_watched_when_a_watcher_leaves() {
    explore("sleep, a claim against a watcher that leaves", Threads::Three, || watched(true));
}

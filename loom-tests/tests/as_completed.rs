//! The order in which the jobs of a batch end: each is given out once, whoever ends it and whenever it is looked at. A wake-up
//! that is lost is a deadlock here.
#![cfg(layshaft_loom)]

use layshaft::model::workers::{Seat, end, engine};
use layshaft::{AsCompleted, Completer, Engine, Function};
use layshaft_loom_tests::{Threads, explore};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};

/// A result that was written by one thread, and is dropped once, maybe by another.
struct Owned {
    cell: UnsafeCell<usize>,
    dropped: Arc<AtomicUsize>,
}

// SAFETY: one thread at a time has it; loom checks that.
unsafe impl Sync for Owned {}

impl Owned {
    fn read(&self) -> usize {
        // SAFETY: nobody writes while it lives.
        self.cell.with(|n| unsafe { *n })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the last use.
        self.cell.with_mut(|n| unsafe { *n = 0 });
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Two jobs whose ends the model chooses, and what counts the results that were dropped.
struct Pair {
    engine: (Engine, Seat),
    function: Function<usize, Owned>,
    completers: Vec<(usize, Completer<Owned>)>,
    order: AsCompleted<Owned>,
    dropped: Arc<AtomicUsize>,
}

impl Pair {
    fn new() -> Pair {
        let engine = engine(1);
        let function = engine.0.consumer::<usize, Owned>("pair").unwrap();
        let set = engine.0.consumer_set();
        set.add(&function);
        let batch = function.submit_batch([10, 20]).unwrap();
        let completers = (0..2).map(|_| set.try_next().unwrap().take()).collect();
        let order = batch.as_completed();
        Pair { engine, function, completers, order, dropped: Arc::default() }
    }

    /// What ends the next job.
    fn next_end(&mut self) -> impl FnOnce() + Send + 'static {
        let (arg, completer) = self.completers.remove(0);
        let dropped = Arc::clone(&self.dropped);
        move || completer.complete(Owned { cell: UnsafeCell::new(arg), dropped })
    }

    fn end(self) {
        let Pair { engine, function, order, dropped, .. } = self;
        drop((order, function));
        end(engine.0, engine.1);
        assert_eq!(dropped.load(Ordering::Relaxed), 2, "a result was dropped twice, or not at all");
    }
}

/// Wakes a thread that waits without the engine's help.
struct Bell(Mutex<usize>, Condvar);

impl Wake for Bell {
    fn wake(self: std::sync::Arc<Self>) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_one();
    }
}

/// Runs a future on this thread, which sleeps until it is woken.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let bell = std::sync::Arc::new(Bell(Mutex::new(0), Condvar::new()));
    let waker = Waker::from(std::sync::Arc::clone(&bell));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let mut rings = bell.0.lock().unwrap();
        while *rings == 0 {
            rings = bell.1.wait(rings).unwrap();
        }
        *rings = 0;
    }
}

/// Two completers, and a collector that waits for both.
#[test]
fn two_ends_against_the_collector() {
    explore("as completed, two ends against the collector", Threads::Three, || {
        let mut pair = Pair::new();
        let ends = [pair.next_end(), pair.next_end()];
        let completers = ends.map(thread::spawn);
        let got: Vec<_> = pair.order.by_ref().map(|(index, owned)| (index, owned.unwrap().read())).collect();
        assert!(got == [(0, 10), (1, 20)] || got == [(1, 20), (0, 10)], "{got:?}");
        completers.into_iter().for_each(|completer| completer.join().unwrap());
        pair.end();
    });
}

/// One has ended before the collector is woken by the other: they come in this order.
#[test]
fn the_order_is_that_of_the_ends() {
    explore("as completed, the order of the ends", Threads::Two, || {
        let mut pair = Pair::new();
        let (first, second) = (pair.next_end(), pair.next_end());
        let completer = thread::spawn(move || {
            second();
            first();
        });
        let got: Vec<_> = pair.order.by_ref().map(|(index, owned)| (index, owned.unwrap().read())).collect();
        assert_eq!(got, [(1, 20), (0, 10)]);
        completer.join().unwrap();
        pair.end();
    });
}

/// The same by polling: the waker that was registered last is woken.
#[test]
fn two_ends_against_a_poll() {
    explore("as completed, two ends against a poll", Threads::Three, || {
        let mut pair = Pair::new();
        let ends = [pair.next_end(), pair.next_end()];
        let completers = ends.map(thread::spawn);
        let mut sum = 0;
        while let Some((index, owned)) = block_on(poll_fn(|cx| pair.order.poll_next(cx))) {
            let value = owned.unwrap().read();
            assert_eq!(value, 10 * (index + 1));
            sum += value;
        }
        assert_eq!(sum, 30);
        completers.into_iter().for_each(|completer| completer.join().unwrap());
        pair.end();
    });
}

/// The collector takes one, and goes: the other's result has no owner, and is dropped all the same.
#[test]
fn dropped_in_the_middle() {
    explore("as completed, dropped in the middle", Threads::Three, || {
        let mut pair = Pair::new();
        let ends = [pair.next_end(), pair.next_end()];
        let completers = ends.map(thread::spawn);
        let (index, owned) = pair.order.next().unwrap();
        assert_eq!(owned.unwrap().read(), 10 * (index + 1));
        let Pair { engine, function, order, dropped, .. } = pair;
        drop(order);
        completers.into_iter().for_each(|completer| completer.join().unwrap());
        drop(function);
        end(engine.0, engine.1);
        assert_eq!(dropped.load(Ordering::Relaxed), 2, "a result was dropped twice, or not at all");
    });
}

/// One job ends while the batch is being watched, before or after its waker is registered.
#[test]
fn an_end_against_the_first_look() {
    explore("as completed, an end against the first look", Threads::Two, || {
        let engine = engine(1);
        let function = engine.0.consumer::<usize, Owned>("one").unwrap();
        let set = engine.0.consumer_set();
        set.add(&function);
        let batch = function.submit_batch([10]).unwrap();
        let (arg, completer) = set.try_next().unwrap().take();
        let dropped = Arc::new(AtomicUsize::new(0));
        let owned = Owned { cell: UnsafeCell::new(arg), dropped: Arc::clone(&dropped) };
        let completer = thread::spawn(move || completer.complete(owned));
        let mut order = batch.as_completed();
        assert_eq!(order.next().map(|(index, owned)| (index, owned.unwrap().read())), Some((0, 10)));
        assert!(order.next().is_none());
        completer.join().unwrap();
        drop((function, set, order));
        end(engine.0, engine.1);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    });
}

//! The ready set: no queued job stays without a way to it, from the root down to its function's bit.
#![cfg(layshaft_loom)]

use layshaft::model::queues::{Queue, Ready};
use layshaft_loom_tests::{Threads, explore};
use loom::sync::Arc;
use loom::thread;

/// Two leaves of the first group, and one of the second.
const FUNCTIONS: [usize; 3] = [0, 64, 128];
/// Functions that the model's ready set covers.
const COVERED: usize = 256;

/// A ready set whose upper levels still point at `index`, whose leaf is clear.
fn stale(index: usize) -> Arc<Ready> {
    let ready = Ready::new(COVERED);
    assert!(ready.set(index), "the first set turns the bit on");
    ready.clear(index);
    Arc::new(ready)
}

fn tidier(ready: &Arc<Ready>, times: usize) -> thread::JoinHandle<()> {
    let ready = Arc::clone(ready);
    thread::spawn(move || (0..times).for_each(|_| _ = ready.tidy()))
}

/// A bit that is set while upper levels are tidied stays reachable from the root.
#[test]
fn set_while_tidied() {
    explore("ready set, set against tidy", Threads::Two, || {
        let ready = stale(0);
        let tidier = tidier(&ready, 1);
        assert!(ready.set(0));
        tidier.join().unwrap();
        assert_eq!(ready.next(130), Some(0));
    });
}

/// One tidier restores the summary that another has just seen empty.
#[test]
fn set_while_tidied_twice() {
    explore("ready set, set against two tidiers", Threads::Two, || {
        let ready = stale(0);
        let tidiers = [tidier(&ready, 1), tidier(&ready, 2)];
        assert!(ready.set(0));
        tidiers.into_iter().for_each(|tidier| tidier.join().unwrap());
        assert!(ready.any(), "a set bit is reachable");
        assert_eq!(ready.next(130), Some(0));
    });
}

/// Neighbours: tidying away one leaf hides neither the other leaf of its group nor another group.
#[test]
fn neighbours_while_tidied() {
    explore("ready set, two leaves against tidy", Threads::Two, || {
        let ready = stale(FUNCTIONS[0]);
        let tidier = tidier(&ready, 2);
        let setter = {
            let ready = Arc::clone(&ready);
            thread::spawn(move || assert!(ready.set(FUNCTIONS[1])))
        };
        assert!(ready.set(FUNCTIONS[2]));
        tidier.join().unwrap();
        setter.join().unwrap();
        assert_eq!(ready.next(0), Some(FUNCTIONS[1]));
        assert_eq!(ready.next(FUNCTIONS[1] + 1), Some(FUNCTIONS[2]));
        assert_eq!(ready.next(FUNCTIONS[2] + 1), Some(FUNCTIONS[1]));
    });
}

/// As a worker does: claims, and clears the bit of a lane that looks empty, unless the second look finds a job.
fn serve(queue: &Queue<u32>, ready: &Ready) -> usize {
    if ready.next(0) != Some(0) {
        return 0;
    }
    let got = queue.claim(2).len();
    ready.settle(0, queue, || ());
    got
}

fn submit(queue: &Queue<u32>, ready: &Ready, n: u32) {
    assert!(queue.push(n).is_ok());
    ready.set(0);
}

/// Serves until the ready set shows nothing, and checks that no job is left.
fn check(queue: &Queue<u32>, ready: &Ready, got: usize, jobs: usize) {
    let rest: usize = std::iter::from_fn(|| ready.any().then(|| serve(queue, ready))).sum();
    assert_eq!((got + rest, queue.is_empty()), (jobs, true), "a queued job has no bit");
}

#[test]
fn submitted_while_cleared() {
    explore("ready set, submit against clear", Threads::Two, || {
        let (queue, ready) = (Arc::new(Queue::new()), Arc::new(Ready::new(1)));
        submit(&queue, &ready, 0);
        let worker = {
            let (queue, ready) = (Arc::clone(&queue), Arc::clone(&ready));
            thread::spawn(move || serve(&queue, &ready) + serve(&queue, &ready))
        };
        submit(&queue, &ready, 1);
        submit(&queue, &ready, 2);
        let got = worker.join().unwrap();
        check(&queue, &ready, got, 3);
    });
}

#[test]
fn submitted_while_two_clear() {
    explore("ready set, submit against two that clear", Threads::Three, || {
        let (queue, ready) = (Arc::new(Queue::new()), Arc::new(Ready::new(1)));
        submit(&queue, &ready, 0);
        let workers = [0; 2].map(|_| {
            let (queue, ready) = (Arc::clone(&queue), Arc::clone(&ready));
            thread::spawn(move || serve(&queue, &ready))
        });
        submit(&queue, &ready, 1);
        let got = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        check(&queue, &ready, got, 2);
    });
}

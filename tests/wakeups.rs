//! Who is woken for a job, where one wake-up a job is not what is wanted.

mod common;

use common::engine;
use common::wake::CountingWaker;
use layshaft::{ConsumerSet, Engine, Function};
use std::sync::Arc;
use std::task::{Context, Waker};

struct Sleeper {
    set: ConsumerSet<u64, u64>,
    wakes: Arc<CountingWaker>,
    waker: Waker,
}

impl Sleeper {
    fn new(engine: &Engine, function: &Function<u64, u64>) -> Sleeper {
        let (wakes, waker) = CountingWaker::pair();
        let set = engine.consumer_set();
        set.add(function);
        Sleeper { set, wakes, waker }
    }

    fn sleep(&self) {
        assert!(self.set.poll_ready(&mut Context::from_waker(&self.waker)).is_pending());
    }

    fn sleep_behind(&self) {
        assert!(self.set.poll_needed(&mut Context::from_waker(&self.waker), false).is_pending());
    }
}

fn sleepers(n: usize, engine: &Engine, function: &Function<u64, u64>) -> Vec<Sleeper> {
    let sleepers: Vec<Sleeper> = (0..n).map(|_| Sleeper::new(engine, function)).collect();
    sleepers.iter().for_each(Sleeper::sleep);
    sleepers
}

fn woken(sleepers: &[Sleeper]) -> Vec<usize> {
    (0..sleepers.len()).filter(|i| sleepers[*i].wakes.wakes() > 0).collect()
}

#[test]
fn a_job_wakes_as_many_sets_as_the_setting_says() {
    for (setting, expected) in [(0, 0), (1, 1), (3, 3), (usize::MAX, 8)] {
        let engine = engine(1);
        let function = engine.consumer("remote").unwrap();
        function.set_wakeups(setting);
        let sleepers = sleepers(8, &engine, &function);
        function.send(1).unwrap();
        assert_eq!(woken(&sleepers).len(), expected, "of 8, with {setting} a job");
        // The most recently parked first.
        assert!(woken(&sleepers).iter().all(|i| *i >= 8 - expected));
        assert_eq!(sleepers.iter().filter(|sleeper| sleeper.set.is_woken()).count(), expected);
    }
}

#[test]
fn a_new_setting_holds_at_once() {
    let engine = engine(1);
    let function = engine.consumer("remote").unwrap();
    function.set_wakeups(0);
    let sleepers = sleepers(4, &engine, &function);
    function.send(1).unwrap();
    assert_eq!(woken(&sleepers), [0; 0]);
    function.set_wakeups(2);
    assert_eq!(woken(&sleepers), [2, 3]);
}

#[test]
fn more_can_be_woken_while_there_is_a_job() {
    let engine = engine(1);
    let function = engine.consumer("remote").unwrap();
    let sleepers = sleepers(4, &engine, &function);
    assert_eq!(function.wake_more(2), 0);
    assert_eq!(woken(&sleepers), [0; 0], "there is nothing to wake them for");
    function.send(1).unwrap();
    assert_eq!(woken(&sleepers), [3]);
    assert_eq!(function.wake_more(2), 2);
    assert_eq!(woken(&sleepers), [1, 2, 3]);
    assert!(sleepers[2].set.try_next().is_some());
    assert_eq!(function.wake_more(1), 0);
    assert_eq!(woken(&sleepers), [1, 2, 3], "nothing is left");
    // Those that were woken in vain go back to sleep, and the next job wakes one.
    sleepers[1].sleep();
    sleepers[3].sleep();
    function.send(2).unwrap();
    assert_eq!(sleepers[3].wakes.wakes(), 2);
    assert_eq!((sleepers[0].wakes.wakes(), sleepers[1].wakes.wakes()), (0, 1));
}

#[test]
fn sets_that_did_nothing_are_woken_last() {
    let engine = engine(1);
    let function = engine.consumer("remote").unwrap();
    let sleepers: Vec<Sleeper> = (0..3).map(|_| Sleeper::new(&engine, &function)).collect();
    sleepers[0].sleep();
    sleepers[1].sleep_behind();
    sleepers[2].sleep_behind();
    for (n, next) in [0, 1, 2].into_iter().enumerate() {
        function.send(n as u64).unwrap();
        assert_eq!(sleepers[next].wakes.wakes(), 1, "wake-up {n}");
        assert_eq!(sleepers.iter().map(|sleeper| sleeper.wakes.wakes()).sum::<usize>(), n + 1);
    }
}

/// A set that comes while another one is on its way to the only job is parked; it is woken if that one takes nothing.
#[test]
fn a_set_that_is_not_needed() {
    for leaves in [false, true] {
        let engine = engine(1);
        let function = engine.consumer("remote").unwrap();
        let (first, second) = (Sleeper::new(&engine, &function), Sleeper::new(&engine, &function));
        let polled = |sleeper: &Sleeper, busy| sleeper.set.poll_needed(&mut Context::from_waker(&sleeper.waker), busy);
        first.sleep();
        function.send(1).unwrap();
        assert_eq!(first.wakes.wakes(), 1);
        assert!(polled(&second, true).is_pending());
        if leaves {
            drop(first);
            assert_eq!(second.wakes.wakes(), 1);
        } else {
            function.send(2).unwrap();
            assert_eq!(second.wakes.wakes(), 1, "for the other job");
            // With nobody on the way to them, both are told of.
            assert!(first.set.try_next().is_some());
            second.set.unpark();
            assert!(polled(&first, true).is_ready());
        }
    }
}

#[test]
fn a_set_that_is_told_of_a_change_is_not_woken_for_a_job() {
    let engine = engine(1);
    let function = engine.consumer("remote").unwrap();
    let sleeper = Sleeper::new(&engine, &function);
    sleeper.sleep();
    sleeper.set.add(&engine.consumer("other").unwrap());
    assert_eq!((sleeper.wakes.wakes(), sleeper.set.is_woken()), (1, false));
    sleeper.sleep();
    function.send(1).unwrap();
    assert_eq!((sleeper.wakes.wakes(), sleeper.set.is_woken()), (2, true));
    sleeper.set.unpark();
    assert!(!sleeper.set.is_woken());
}

/// With a body there are no sets.
#[test]
fn functions_with_a_body_have_no_sets_to_wake() {
    let engine = engine(1);
    let double = engine.function("double", |n: u64| 2 * n).unwrap();
    double.set_wakeups(3);
    assert_eq!(double.wake_more(3), 0);
    assert_eq!(double.call(2).unwrap(), 4);
}

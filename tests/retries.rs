//! Are lost jobs run again, as often as was asked for, and what becomes of those that are lost too often?

mod common;

use common::{Gate, Live, Tally, Token, engine, outcome, value, watchdog};
use layshaft::{ConsumerSet, Engine, Function, JobError, Retry, Shutdown};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(20);

fn remote(engine: &Engine, retry: Retry) -> (Function<u64, u64>, ConsumerSet<u64, u64>) {
    let function = engine.consumer("remote").unwrap();
    function.set_retry(retry);
    let set = engine.consumer_set();
    set.add(&function);
    (function, set)
}

#[test]
fn a_lost_job_goes_first_again() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let (function, set) = remote(&engine, Retry::attempts(3));
    let (first, second) = (function.submit(1).unwrap(), function.submit(2).unwrap());
    drop(set.try_next().unwrap());
    let (arg, completer) = set.try_next().unwrap().take();
    assert_eq!(arg, 1);
    drop(completer);
    let (arg, completer) = set.try_next().unwrap().take();
    completer.complete(arg * 10);
    assert_eq!(value(first), 10);
    assert!(set.try_next().unwrap().take().1.is_cancelled() || !second.is_finished());
    assert!(function.dead().is_empty());
}

/// Jobs that are lost too often go to the dead list, with how often and why, and can be run again or taken from there.
#[test]
fn the_dead_list() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let (function, set) = remote(&engine, Retry::attempts(2).keep_dead(2));
    let handles: Vec<_> = (0..3).map(|n| function.submit(n).unwrap()).collect();
    for _ in 0..6 {
        drop(set.try_next().unwrap());
    }
    assert!(set.try_next().is_none());
    assert!(handles.into_iter().all(|handle| matches!(outcome(handle), Err(JobError::Lost))));
    let dead = function.dead();
    assert_eq!(dead.iter().map(|dead| dead.attempts).collect::<Vec<_>>(), [2, 2], "the oldest made room");
    assert_eq!(dead[0].reason, JobError::Lost.to_string());
    assert_eq!(function.take_dead(dead[0].number), Some(1));
    assert!(!function.retry_dead(dead[0].number).unwrap(), "it was taken");
    assert!(function.retry_dead(dead[1].number).unwrap());
    assert!(function.dead().is_empty());
    drop(set.try_next().unwrap());
    assert_eq!(*set.try_next().unwrap().arg(), 2, "with all its attempts");
}

/// Failing is an end, and so is a cancel while it is out.
#[test]
fn ends_are_not_losses() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let (function, set) = remote(&engine, Retry::attempts(9));
    let (failed, cancelled) = (function.submit(1).unwrap(), function.submit(2).unwrap());
    set.try_next().unwrap().take().1.fail("meant");
    assert!(matches!(outcome(failed), Err(JobError::Failed(why)) if why == "meant"));
    let pulled = set.try_next().unwrap();
    assert!(!cancelled.cancel());
    drop(pulled);
    assert!(matches!(outcome(cancelled), Err(JobError::Lost)));
    assert!(set.try_next().is_none() && function.dead().is_empty());
}

/// An attempt whose time is up is run again; what the late one says counts for nothing.
#[test]
fn attempts_are_fenced() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let (function, set) = remote(&engine, Retry::attempts(2).timeouts(true));
    let handle = function.job(7).timeout(SHORT).submit().unwrap();
    let (_, late) = set.try_next().unwrap().take();
    let (arg, completer) = set.next().unwrap().take();
    assert!(late.is_cancelled() && !completer.is_cancelled());
    late.complete(111);
    completer.complete(arg);
    assert_eq!(value(handle), 7);
    let handle = function.job(8).timeout(SHORT).submit().unwrap();
    let pulled = [set.next().unwrap(), set.next().unwrap()];
    assert!(matches!(outcome(handle), Err(JobError::TimedOut)));
    assert_eq!(function.dead()[0].reason, JobError::TimedOut.to_string());
    drop(pulled);
    assert!(set.try_next().is_none());
}

#[test]
fn a_panic_may_be_a_loss() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let (ran, live) = (Tally::new(), Live::default());
    let (count, seen) = (ran.clone(), Mutex::new(0));
    let flaky = engine.function("flaky", move |(n, _token): (u64, std::sync::Arc<Token>)| {
        count.add(n);
        let mut seen = seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *seen += 1;
        if *seen < 3 {
            drop(seen);
            std::panic::resume_unwind(Box::new("not yet"));
        }
        n
    });
    let flaky = flaky.unwrap();
    flaky.set_retry(Retry::attempts(3).panics(true).delay(SHORT));
    let begin = Instant::now();
    assert_eq!(value(flaky.submit((5, live.token().into())).unwrap()), 5);
    assert!(begin.elapsed() >= SHORT * 2);
    flaky.set_retry(None);
    assert_eq!(ran.count(), 3);
    engine.shutdown(Shutdown::Drain);
    drop((engine, flaky));
    live.assert_balanced();
}

/// A drain waits for the next attempt, also one that is not due yet.
#[test]
fn a_drain_runs_what_was_lost() {
    let _watchdog = watchdog("the drain");
    let engine = engine(1);
    let gate = Gate::new();
    let pass = gate.clone();
    let ran = Tally::new();
    let count = ran.clone();
    let broken = engine.function("broken", move |n: u64| {
        pass.pass();
        count.add(n);
        std::panic::resume_unwind(Box::new("always"));
    });
    let broken: Function<u64, ()> = broken.unwrap();
    broken.set_retry(Retry::attempts(3).panics(true).delay(Duration::from_secs(3600)));
    let handle = broken.submit(1).unwrap();
    gate.wait_entered(1);
    let stopper = std::thread::spawn(move || engine.shutdown(Shutdown::Drain));
    gate.open();
    assert!(stopper.join().unwrap().complete);
    assert!(matches!(outcome(handle), Err(JobError::Panicked(_))));
    assert_eq!((ran.count(), broken.dead().len()), (3, 1));
}

/// A clone that panics is no clone: the job has the attempts that are left.
#[test]
fn a_clone_that_panics() {
    #[derive(Debug)]
    struct Single(u64);
    impl Clone for Single {
        fn clone(&self) -> Self {
            std::panic::resume_unwind(Box::new("only one"));
        }
    }
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let function = engine.consumer::<Single, u64>("single").unwrap();
    function.set_retry(Retry::attempts(9));
    let set = engine.consumer_set();
    set.add(&function);
    let (lost, done) = (function.submit(Single(1)).unwrap(), function.submit(Single(2)).unwrap());
    drop(set.try_next().unwrap());
    let (arg, completer) = set.try_next().unwrap().take();
    completer.complete(arg.0);
    assert!(matches!(outcome(lost), Err(JobError::Lost)));
    assert_eq!(value(done), 2);
}

/// After a discard there is no next attempt, due at once or later.
#[test]
fn a_discard_ends_what_was_lost() {
    let _watchdog = watchdog("the discard");
    for delay in [Duration::ZERO, Duration::from_secs(3600)] {
        let engine = engine(1);
        let (function, set) = remote(&engine, Retry::attempts(3).delay(delay));
        let handle = function.submit(1).unwrap();
        let pulled = set.try_next().unwrap();
        assert!(engine.shutdown(Shutdown::Discard).complete);
        drop(pulled);
        assert!(matches!(outcome(handle), Err(JobError::Cancelled)));
        assert_eq!((engine.shutdown(Shutdown::Drain).discarded, function.queued()), (1, 0));
        assert!(set.next().is_none());
    }
}

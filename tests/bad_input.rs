//! What becomes of wrong names, wrong numbers, second registrations and closed engines?

mod common;

use common::{Held, Live, Tally, engine, value, watchdog};
use layshaft::{CallError, Engine, RegisterError, Shutdown, StartError, SubmitError};
use std::time::Duration;

#[test]
fn names_that_cannot_be_used() {
    let engine = engine(1);
    for name in ["", "a\0b", "\0", &"x".repeat(513), &"ä".repeat(257)] {
        let error = engine.function(name, |n: u64| n).expect_err("the name is refused");
        let RegisterError::InvalidName(why) = &error else { panic!("{name:?}: {error}") };
        assert!(!why.is_empty());
        assert!(error.to_string().len() < 400, "a message of {} bytes", error.to_string().len());
        let error = engine.consumer::<u64, u64>(name).expect_err("the name is refused");
        assert!(matches!(error, RegisterError::InvalidName(_)), "{name:?}: {error}");
        assert!(!engine.remove(name));
    }
    assert_eq!(engine.stats().functions, 0);
}

#[test]
fn names_at_the_limit() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    for name in ["x", " ", "résumé/größe ☂", &"x".repeat(512), &"ä".repeat(256)] {
        let function = engine.function(name, |n: u64| n).unwrap();
        assert_eq!(function.name(), name);
        assert_eq!(value(function.submit(3).unwrap()), 3);
    }
    assert_eq!(engine.stats().functions, 5);
}

#[test]
fn no_workers() {
    let error = Engine::builder().workers(0).start().expect_err("an engine without workers is refused");
    assert!(matches!(error, StartError::NoWorkers), "{error}");
    let error = Engine::builder().workers(usize::MAX).start().unwrap_err();
    assert!(matches!(error, StartError::TooManyWorkers { asked: usize::MAX, limit: 4096, .. }), "{error}");
    let error = Engine::builder().workers(1).spare_workers(4_097).start().unwrap_err();
    assert!(matches!(error, StartError::TooManyWorkers { asked: 4_097, limit: 4096, .. }), "{error}");
}

/// A thread name is free text for most of the platform, but holds no NUL.
#[test]
fn a_thread_name_with_nul() {
    let _watchdog = watchdog("the end of the job");
    match Engine::builder().workers(1).thread_name("a\0b").start() {
        Ok(engine) => assert_eq!(engine.function("f", |n: u64| n).unwrap().call(1).unwrap(), 1),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

#[test]
fn times_beyond_the_clock() {
    let _watchdog = watchdog("the shutdown");
    let engine = Engine::builder().workers(1).drain_deadline(Duration::MAX).start().unwrap();
    assert_eq!(engine.function("f", |n: u64| n).unwrap().call(1).unwrap(), 1);
    drop(engine);
    assert!(common::engine(1).shutdown(Shutdown::DrainFor(Duration::MAX)).complete);
    assert!(common::engine(1).shutdown(Shutdown::DrainFor(Duration::ZERO)).running.is_empty());
}

#[test]
fn cl_01_the_same_name_twice() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let live = Live::default();
    let first = engine.function("f", |n: u64| n + 1).unwrap();
    let token = live.token();
    let second = engine.function("f", move |n: u64| {
        let _token = &token;
        n + 2
    });
    let error = second.expect_err("the name is taken");
    assert!(matches!(&error, RegisterError::NameTaken(name) if name == "f"), "{error}");
    live.assert_balanced();
    let error = engine.consumer::<u64, u64>("f").expect_err("the name is taken");
    assert!(matches!(error, RegisterError::NameTaken(_)), "{error}");
    assert_eq!(value(first.submit(1).unwrap()), 2, "the first one still works");
    engine.consumer::<u64, u64>("g").unwrap();
    assert!(matches!(engine.function("g", |n: u64| n).err(), Some(RegisterError::NameTaken(_))));
}

#[test]
fn a_closed_engine() {
    let _watchdog = watchdog("the refusals");
    let engine = engine(1);
    let body = engine.function("body", |text: String| text).unwrap();
    let remote = engine.consumer::<String, String>("remote").unwrap();
    assert!(engine.shutdown(Shutdown::Drain).complete);
    for function in [&body, &remote] {
        assert!(function.is_closed());
        let error = function.send("kept".to_owned()).unwrap_err();
        assert!(error.is_closed() && !error.is_full());
        assert_eq!(error.into_arg(), "kept");
        let error = function.submit("kept".to_owned()).err().unwrap();
        assert!(matches!(&error, SubmitError::Closed(arg) if arg == "kept"));
        let error = function.call("kept".to_owned()).err().unwrap();
        assert!(matches!(&error, CallError::Submit(SubmitError::Closed(arg)) if arg == "kept"));
        assert!(!error.to_string().is_empty());
    }
    assert!(matches!(engine.function("new", |n: u64| n).err(), Some(RegisterError::Closed)));
    assert!(matches!(engine.consumer::<u64, u64>("new").err(), Some(RegisterError::Closed)));
    assert!(engine.consumer_set::<String, String>().try_next().is_none());
}

/// The last engine is gone, the function is still there.
#[test]
fn a_function_without_its_engine() {
    let _watchdog = watchdog("the refusal");
    let engine = engine(1);
    let body = engine.function("body", |n: u64| n).unwrap();
    let clone = engine.clone();
    drop(engine);
    assert_eq!(value(body.submit(1).unwrap()), 1, "a clone keeps the engine running");
    drop(clone);
    assert_eq!(body.send(5).unwrap_err().into_arg(), 5);
    assert!(body.is_closed());
    assert_eq!((body.name(), body.queued()), ("body", 0));
}

/// Jobs of one engine submit to the other, and back.
#[test]
fn two_engines_at_once() {
    let _watchdog = watchdog("the end of the jobs");
    let (near, far) = (engine(1), engine(1));
    let done = Tally::new();
    let count = done.clone();
    let note = near.function("note", move |n: u64| count.add(n)).unwrap();
    let back = note.clone();
    let double = far.function("double", move |n: u64| {
        assert_eq!(layshaft::current().unwrap().function(), "double");
        back.send(n).unwrap();
        n * 2
    });
    let double = double.unwrap();
    let across = near.function("across", move |n: u64| {
        let result = double.call(n).unwrap();
        assert_eq!(layshaft::current().unwrap().function(), "across");
        result + 1
    });
    let across = across.unwrap();
    for (n, result) in across.submit_batch(0..500).unwrap().wait().into_iter().enumerate() {
        assert_eq!(result.unwrap(), 2 * n as u64 + 1);
    }
    done.wait_for(500);
    assert_eq!(done.sum(), 499 * 250);
    drop(near);
    assert!(far.shutdown(Shutdown::Drain).complete);
}

/// The same names in two engines are different functions.
#[test]
fn cl_01_two_engines_share_nothing() {
    let _watchdog = watchdog("the end of the jobs");
    let (held, free) = (Held::new(1), engine(1));
    let stuck = held.engine.function("f", |n: u64| n).unwrap();
    let quick = free.function("f", |n: u64| n + 10).unwrap();
    stuck.send(1).unwrap();
    assert_eq!(value(quick.submit(1).unwrap()), 11);
    assert!(free.shutdown(Shutdown::Drain).complete);
    assert_eq!(stuck.queued(), 1);
    assert!(!stuck.is_closed());
}

/// Nothing runs in an engine that is only started.
#[test]
fn an_idle_engine_stops() {
    let _watchdog = watchdog("the shutdown");
    for workers in [1, 2, 8] {
        let engine = engine(workers);
        assert_eq!(engine.workers(), workers);
        assert_eq!(engine.stats().workers.len(), workers);
        drop(engine);
    }
    assert!(Engine::new().unwrap().workers() >= 1);
}

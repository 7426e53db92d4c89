//! Does a function that is removed keep what it has accepted, whatever is asked of it afterwards?

mod common;

use common::{Gate, Tally, engine, outcome, value, watchdog};
use layshaft::{Engine, JobError, Limits, Retry};
use std::time::Duration;

/// Has the engine look at what was removed, which it does whenever a function is registered.
fn stir(engine: &Engine) {
    let probe = engine.function("probe", |()| ()).unwrap();
    (0..20).for_each(|_| value(probe.submit(()).unwrap()));
    assert!(engine.remove("probe"));
}

/// A worker has claimed a batch and is busy with its first job when the function is removed, and then gets its first limit.
#[test]
fn a_first_limit_comes_late() {
    let _watchdog = watchdog("the end of the jobs");
    for with_term in [false, true] {
        let (engine, gate) = (engine(2), Gate::new());
        let pass = gate.clone();
        let slow = engine.function("slow", move |n: u32| {
            if n == 0 {
                pass.pass();
            }
            n
        });
        let slow = slow.unwrap();
        let batch = slow.submit_batch(0..20).unwrap();
        gate.wait_entered(1);
        assert!(engine.remove("slow"));
        stir(&engine);
        if with_term {
            assert!(slow.job(99).unique(*b"key").submit().unwrap_err().is_closed());
        } else {
            slow.set_limits(Limits::new().concurrency(1));
        }
        gate.open();
        assert!(batch.into_iter().map(value).eq(0..20));
    }
}

/// The same for nested jobs, which lie in the worker's own deque.
#[test]
fn a_first_limit_comes_late_for_nested_jobs() {
    let _watchdog = watchdog("the end of the jobs");
    let (engine, gate, ran) = (engine(1), Gate::new(), Tally::new());
    let count = ran.clone();
    let inner = engine.function("inner", move |n: u64| count.add(n)).unwrap();
    let (nested, pass) = (inner.clone(), gate.clone());
    let outer = engine.function("outer", move |()| {
        nested.send_batch(0..20).unwrap();
        pass.pass();
    });
    let outer = outer.unwrap().submit(()).unwrap();
    gate.wait_entered(1);
    assert!(engine.remove("inner"));
    inner.set_limits(Limits::new().concurrency(1));
    gate.open();
    value(outer);
    ran.wait_for(20);
}

#[test]
fn a_lost_job_is_run_again() {
    let _watchdog = watchdog("the end of the jobs");
    let (engine, gate, ran) = (engine(1), Gate::new(), Tally::new());
    let (pass, count) = (gate.clone(), ran.clone());
    let flaky = engine.function("flaky", move |n: u64| {
        pass.pass();
        count.add(n);
        if count.count() < 3 {
            std::panic::resume_unwind(Box::new("not yet"));
        }
        n
    });
    let flaky = flaky.unwrap();
    flaky.set_retry(Retry::attempts(3).panics(true));
    let handle = flaky.submit(7).unwrap();
    gate.wait_entered(1);
    assert!(engine.remove("flaky"));
    gate.open();
    assert_eq!(value(handle), 7);
}

/// Whoever took a job that has a deadline keeps its function from being forgotten before that.
#[test]
fn a_deadline_is_told() {
    let _watchdog = watchdog("the end of the job");
    let engine = engine(1);
    let remote = engine.consumer::<u32, u32>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&remote);
    let handle = remote.job(1).deadline(Duration::from_millis(300)).submit().unwrap();
    let (_, completer) = set.try_next().unwrap().take();
    assert!(engine.remove("remote"));
    (0..5).for_each(|_| stir(&engine));
    assert!(matches!(outcome(handle), Err(JobError::TimedOut)));
    completer.complete(1);
}

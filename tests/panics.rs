//! What do panics damage: of bodies, of arguments and results as they drop, of the payload itself?

mod common;

use common::{Held, Tally, engine, outcome, value, watchdog};
use layshaft::{JobError, Shutdown};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};

/// Panics when it is dropped, unless that would be a panic during a panic.
struct Bomb(Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        if !std::thread::panicking() {
            resume_unwind(Box::new("bomb"));
        }
    }
}

/// Keeps the backtraces of panics that are meant to happen out of the output of this test binary.
fn quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let meant = info.payload().downcast_ref::<&str>().is_some_and(|text| text.starts_with("meant"));
            if !meant && !info.payload().is::<Bomb>() && !info.payload().is::<u64>() {
                report(info);
            }
        }));
    });
}

fn panic_of<R>(result: Result<R, JobError>) -> layshaft::Panic {
    match result {
        Err(JobError::Panicked(panic)) => panic,
        Err(error) => panic!("the job ended with: {error}"),
        Ok(_) => panic!("the job did not panic"),
    }
}

#[test]
fn the_message_reaches_the_handle() {
    quiet();
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let text = engine.function("text", |()| -> u64 { panic!("meant") }).unwrap();
    assert_eq!(panic_of(outcome(text.submit(()).unwrap())).message(), "meant");
    let formatted = engine.function("formatted", |n: u64| -> u64 { resume_unwind(Box::new(format!("number {n}"))) });
    let error = outcome(formatted.unwrap().submit(7).unwrap()).unwrap_err();
    assert!(error.to_string().contains("number 7"), "{error}");
    assert_eq!(panic_of::<()>(Err(error)).message(), "number 7");
    let other = engine.function("other", |n: u64| -> u64 { panic_any(n) }).unwrap();
    assert!(!panic_of(outcome(other.submit(5).unwrap())).message().is_empty());
}

#[test]
fn resume_goes_on_with_the_same_payload() {
    quiet();
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let other = engine.function("other", |n: u64| -> u64 { panic_any(n) }).unwrap();
    let panic = panic_of(outcome(other.submit(5).unwrap()));
    let payload = catch_unwind(AssertUnwindSafe(|| panic.resume())).unwrap_err();
    assert_eq!(*payload.downcast::<u64>().unwrap(), 5);
}

#[test]
fn invariant_7_the_worker_lives_on() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let done = Tally::new();
    let count = done.clone();
    let odd = engine.function("odd", move |n: u64| {
        count.add(n);
        if n % 2 == 0 { resume_unwind(Box::new("meant")) } else { n }
    });
    let odd = odd.unwrap();
    for n in 0..500 {
        odd.send(n).unwrap();
        drop(odd.submit(n).unwrap());
    }
    let handles: Vec<_> = (0..500).map(|n| odd.submit(n).unwrap()).collect();
    for (n, handle) in handles.into_iter().enumerate() {
        assert_eq!(outcome(handle).is_ok(), n % 2 == 1);
    }
    done.wait_for(1_500);
    engine.shutdown(Shutdown::Drain);
    assert_eq!(engine.stats().total().panicked, 750);
    assert_eq!(done.sum(), 3 * 499 * 250);
}

/// Inside a job too, where the panicking job ran on the waiter's own stack.
#[test]
fn a_panic_in_a_job_that_a_job_waits_for() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let inner = engine.function("inner", |n: u64| -> u64 { resume_unwind(Box::new(n.to_string())) }).unwrap();
    let outer = engine.function("outer", move |n: u64| {
        let message = match inner.submit(n).unwrap().wait() {
            Err(layshaft::WaitError::Job(JobError::Panicked(panic))) => panic.message().to_owned(),
            _ => "no panic".to_owned(),
        };
        (message, layshaft::current().unwrap().function().to_owned())
    });
    assert_eq!(value(outer.unwrap().submit(9).unwrap()), ("9".to_owned(), "outer".to_owned()));
}

#[test]
fn a_payload_that_panics_when_dropped() {
    quiet();
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let dropped = Arc::new(AtomicUsize::new(0));
    let drops = dropped.clone();
    let body = move |bomb: bool| -> u64 { if bomb { panic_any(Bomb(drops.clone())) } else { 3 } };
    let function = engine.function("bomb", body).unwrap();
    function.send(true).unwrap();
    drop(function.submit(true).unwrap());
    let kept = function.submit(true).unwrap();
    assert_eq!(value(function.submit(false).unwrap()), 3, "the worker lives on");
    // A payload that the caller holds drops in the caller's hands, as any value would.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(outcome(kept))));
    assert!(engine.shutdown(Shutdown::Drain).complete);
    drop((engine, function));
    assert!(dropped.load(Ordering::SeqCst) <= 3, "a payload was dropped twice");
}

/// An argument that panics when it drops: in the body, cancelled, and discarded.
#[test]
fn an_argument_that_panics_when_dropped() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let dropped = Arc::new(AtomicUsize::new(0));
    let bomb = || Bomb(dropped.clone());
    let ran = Tally::new();
    let count = ran.clone();
    let body = move |bomb: Option<Bomb>| {
        count.add(1);
        drop(bomb);
    };
    let function = held.engine.function("bomb", body).unwrap();
    let cancelled = function.submit(Some(bomb())).unwrap();
    assert!(cancelled.cancel());
    let run = function.submit(Some(bomb())).unwrap();
    function.send(Some(bomb())).unwrap();
    let engine = held.release();
    assert!(matches!(outcome(cancelled), Err(JobError::Cancelled)));
    assert_eq!(panic_of(outcome(run)).message(), "bomb");
    value(function.submit(None).unwrap());
    assert_eq!(ran.count(), 3);
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
    assert!(engine.shutdown(Shutdown::Drain).complete);
}

#[test]
fn discarded_arguments_that_panic_when_dropped() {
    let _watchdog = watchdog("the shutdown");
    let held = Held::new(1);
    let dropped = Arc::new(AtomicUsize::new(0));
    let function = held.engine.function("bomb", |_: Bomb| {}).unwrap();
    let handles: Vec<_> = (0..20).map(|_| function.submit(Bomb(dropped.clone())).unwrap()).collect();
    function.send_batch((0..20).map(|_| Bomb(dropped.clone()))).unwrap();
    let engine = held.engine.clone();
    let stopper = std::thread::spawn(move || engine.shutdown(Shutdown::Discard));
    for handle in handles {
        assert!(matches!(outcome(handle), Err(JobError::Cancelled)));
    }
    held.release();
    assert_eq!(stopper.join().expect("shutdown does not panic").discarded, 40);
    assert_eq!(dropped.load(Ordering::SeqCst), 40);
}

/// A result that panics when it drops, with nobody to take it.
#[test]
fn a_result_that_panics_when_dropped() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let dropped = Arc::new(AtomicUsize::new(0));
    let drops = dropped.clone();
    let body = move |bomb: bool| bomb.then(|| Bomb(drops.clone()));
    let function = held.engine.function("bomb", body).unwrap();
    function.send(true).unwrap();
    drop(function.submit(true).unwrap());
    let kept = function.submit(true).unwrap();
    let engine = held.release();
    assert!(value(function.submit(false).unwrap()).is_none(), "the worker lives on");
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
    let _ = catch_unwind(AssertUnwindSafe(|| drop(kept)));
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
    assert!(engine.shutdown(Shutdown::Drain).complete);
}

/// The body itself holds a value that panics when the function is removed.
#[test]
fn a_body_that_panics_when_dropped() {
    let _watchdog = watchdog("the shutdown");
    let engine = engine(1);
    let dropped = Arc::new(AtomicUsize::new(0));
    let bomb = Bomb(dropped.clone());
    let body = move |n: u64| {
        let _bomb = &bomb;
        n
    };
    let function = engine.function("bomb", body).unwrap();
    assert_eq!(value(function.submit(1).unwrap()), 1);
    let echo = engine.function("echo", |n: u64| n).unwrap();
    let _ = catch_unwind(AssertUnwindSafe(|| engine.remove("bomb")));
    let _ = catch_unwind(AssertUnwindSafe(|| drop(function)));
    assert_eq!(value(echo.submit(2).unwrap()), 2, "the worker lives on");
    let _ = catch_unwind(AssertUnwindSafe(|| engine.shutdown(Shutdown::Drain)));
    let _ = catch_unwind(AssertUnwindSafe(|| drop(engine)));
    drop(echo);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

/// A waker that panics is the caller's own, but the worker that wakes it must live.
#[test]
fn a_waker_that_panics() {
    struct Broken;
    impl std::task::Wake for Broken {
        fn wake(self: Arc<Self>) {
            resume_unwind(Box::new("waker"));
        }
    }
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let double = held.engine.function("double", |n: u64| n * 2).unwrap();
    let mut handle = double.submit(1).unwrap();
    let waker = Arc::new(Broken).into();
    let mut context = std::task::Context::from_waker(&waker);
    assert!(std::future::Future::poll(std::pin::Pin::new(&mut handle), &mut context).is_pending());
    let engine = held.release();
    assert_eq!(value(double.submit(2).unwrap()), 4, "the worker lives on");
    assert_eq!(value(handle), 2);
    assert!(engine.shutdown(Shutdown::Drain).complete);
}

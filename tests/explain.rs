//! Why is a job not running? Each reason as data and in words.

mod common;

use common::wake::CountingWaker;
use common::{Gate, Held, engine, outcome, value, watchdog};
use layshaft::Priority::{High, Low};
use layshaft::{
    BusyThread, ConsumerSet, Engine, Explanation, Function, JobHandle, Limits, Outcome, Overflow, Reason, Retry,
    Shutdown,
};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// Later than any test ends.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(7_300)
}

/// The text of each reason, one line each.
fn words(why: &Explanation) -> Vec<String> {
    let text = why.to_string();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(lines, why.reasons().iter().map(Reason::to_string).collect::<Vec<_>>());
    for line in &lines {
        assert!(!line.ends_with('.') && line.starts_with(|c: char| !c.is_uppercase()), "{line}");
    }
    lines
}

/// Asks until the answer is the one that is waited for: events inside the engine have no other sign.
fn ask_until(ask: impl Fn() -> Explanation, is_it: impl Fn(&[Reason]) -> bool) -> Explanation {
    loop {
        let why = ask();
        if is_it(why.reasons()) {
            return why;
        }
        thread::yield_now();
    }
}

fn remote(engine: &Engine) -> (Function<u64, u64>, ConsumerSet<u64, u64>) {
    let function = engine.consumer("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&function);
    (function, set)
}

fn identity(engine: &Engine) -> Function<u64, u64> {
    engine.function("identity", |n: u64| n).unwrap()
}

/// An engine with one free worker, and a paused function on it with a job.
fn paused(engine: &Engine) -> (Function<u64, u64>, JobHandle<u64>) {
    let function = identity(engine);
    function.pause();
    let handle = function.submit(1).unwrap();
    (function, handle)
}

#[test]
fn paused_until_resumed() {
    let _watchdog = watchdog("the end of the job");
    let engine = engine(1);
    let (function, handle) = paused(&engine);
    for why in [function.explain_job(&handle), function.explain(), engine.explain("identity").unwrap()] {
        assert!(matches!(why.reasons(), [Reason::Paused { until: None, .. }]), "{why}");
        assert_eq!((why.function(), why.first()), ("identity", &why.reasons()[0]));
        assert_eq!(words(&why), ["the function is paused; `resume` lets its jobs start"]);
    }
    function.resume();
    assert_eq!(value(handle), 1);
    assert!(engine.explain("another").is_none());
}

#[test]
fn paused_until_a_time() {
    let _watchdog = watchdog("the end of the job");
    let engine = engine(1);
    let (function, handle) = paused(&engine);
    let until = far();
    function.pause_until(until);
    let why = function.explain_job(&handle);
    assert!(matches!(why.reasons(), [Reason::Paused { until: Some(t), .. }] if *t == until), "{why}");
    assert_eq!(words(&why), ["the function is paused for 2 h 1 min; `resume` lets its jobs start now"]);
    function.resume();
    assert_eq!(value(handle), 1);
}

#[test]
fn the_cap_is_reached() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(3);
    let gate = Gate::new();
    let pass = gate.clone();
    let function = engine.function("capped", move |()| pass.pass()).unwrap();
    function.set_limits(Limits::new().concurrency(2));
    let running = [function.submit(()).unwrap(), function.submit(()).unwrap()];
    gate.wait_entered(2);
    let handle = function.submit(()).unwrap();
    for why in [function.explain_job(&handle), function.explain()] {
        assert!(matches!(why.reasons(), [Reason::CapReached { running: 2, cap: 2, .. }]), "{why}");
        assert_eq!(
            words(&why),
            [
                "2 jobs run of the function, 2 may at once; wait for one to end, or raise the concurrency with `set_limits`"
            ]
        );
    }
    function.set_limits(Limits::new().concurrency(0));
    let why = function.explain_job(&handle);
    assert!(matches!(why.first(), Reason::CapReached { running: 2, cap: 0, .. }), "{why}");
    assert!(words(&why)[0].starts_with("the function's concurrency is limited to 0, so no job starts; raise it"));
    function.set_limits(Limits::new());
    gate.open();
    running.into_iter().chain([handle]).for_each(value);
}

/// Exact where there is a queue with a lock; cancelled jobs do not count.
#[test]
fn jobs_ahead() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let (function, first) = paused(&engine);
    let low = function.job(2).priority(Low).submit().unwrap();
    let second = function.job(3).submit().unwrap();
    let recorded = function.job(4).unique(*b"key").submit().unwrap();
    let last = function.job(5).priority(Low).submit().unwrap();
    let ahead = |handle| match function.explain_job(handle).reasons() {
        [Reason::Paused { .. }] => (0, 0),
        [Reason::Paused { .. }, Reason::Ahead { same, higher, .. }] => (*same, *higher),
        other => panic!("{other:?}"),
    };
    assert_eq!([&first, &second, &recorded, &low, &last].map(ahead), [(0, 0), (1, 0), (2, 0), (0, 3), (1, 3)]);
    let text = |handle| words(&function.explain_job(handle)).pop().unwrap();
    assert_eq!(text(&second), "1 job of its priority is before it");
    assert_eq!(text(&low), "3 jobs of higher priority are before it");
    assert_eq!(text(&last), "1 of its priority and 3 of higher priority are before it");
    assert!(first.cancel());
    assert_eq!([&second, &recorded, &low, &last].map(ahead), [(0, 0), (1, 0), (0, 2), (1, 2)]);
    function.resume();
    assert_eq!([second, recorded, low, last].map(value), [3, 4, 2, 5]);
}

/// Without limits a queue has no lock, and the answer is a bound.
#[test]
fn at_most_so_many_ahead() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let function = identity(&held.engine);
    let handles: Vec<_> = (0..3).map(|n| function.submit(n).unwrap()).collect();
    let high = function.job(3).priority(High).submit().unwrap();
    for handle in handles.iter().chain([&high]) {
        let why = function.explain_job(handle);
        assert!(matches!(why.reasons(), [Reason::NoWorker { .. }, Reason::AheadAtMost { jobs: 3, .. }]), "{why}");
        assert_eq!(words(&why)[1], "at most 3 jobs of the function are before it");
    }
    assert!(matches!(function.explain().reasons(), [Reason::NoWorker { .. }]));
    held.release();
    handles.into_iter().chain([high]).map(value).for_each(drop);
}

#[test]
fn not_before_its_time() {
    let _watchdog = watchdog("the end of the job");
    let engine = engine(1);
    let function = identity(&engine);
    let at = far();
    let handle = function.job(1).at(at).submit().unwrap();
    for why in [function.explain_job(&handle), function.explain()] {
        assert!(matches!(why.reasons(), [Reason::NotBefore { at: t, .. }] if *t == at), "{why}");
        assert_eq!(
            words(&why),
            ["the job was submitted to start in 2 h 1 min at the earliest; \
              to have it earlier, cancel it and submit it anew"]
        );
    }
    assert!(handle.cancel());
    assert!(matches!(function.explain().first(), Reason::NothingQueued { running: 0, .. }), "a cancelled job is none");
}

#[test]
fn the_next_attempt_comes_later() {
    let _watchdog = watchdog("the end of the job");
    let engine = engine(1);
    let (function, set) = remote(&engine);
    function.set_retry(Retry::attempts(3).delay(Duration::from_secs(7_300)));
    let handle = function.submit(1).unwrap();
    let pulled = set.try_next().unwrap();
    let why = function.explain_job(&handle);
    assert!(matches!(why.reasons(), [Reason::Pulled { attempt: Some(1), .. }]), "{why}");
    drop(pulled);
    for why in [function.explain_job(&handle), function.explain()] {
        assert!(matches!(why.first(), Reason::NextAttempt { at: Some(_), attempts: 1, .. }), "{why}");
        assert_eq!(words(&why)[0], "the job was lost in attempt 1; the next may start in 2 h 1 min");
    }
}

/// An argument whose second clone, which a loss makes, waits in a gate.
struct Slow(u64, Gate);

impl Clone for Slow {
    fn clone(&self) -> Slow {
        if self.0 > 0 {
            self.1.pass();
        }
        Slow(self.0 + 1, self.1.clone())
    }
}

#[test]
fn between_two_attempts() {
    let _watchdog = watchdog("the end of the clone");
    let engine = engine(1);
    let gate = Gate::new();
    let function = engine.consumer::<Slow, ()>("slow").unwrap();
    function.set_retry(Retry::attempts(2));
    let set = engine.consumer_set();
    set.add(&function);
    let handle = function.submit(Slow(0, gate.clone())).unwrap();
    let pulled = set.try_next().unwrap();
    let losing = thread::spawn(move || drop(pulled));
    gate.wait_entered(1);
    let why = function.explain_job(&handle);
    assert!(matches!(why.first(), Reason::NextAttempt { at: None, attempts: 1, .. }), "{why}");
    assert_eq!(words(&why)[0], "the job was lost in attempt 1 and is on its way back to the queue");
    gate.open();
    losing.join().unwrap();
    let pulled = set.try_next().unwrap();
    assert!(matches!(function.explain_job(&handle).first(), Reason::Pulled { attempt: Some(2), .. }));
    pulled.take().1.complete(());
    value(handle);
}

#[test]
fn no_worker_is_free() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::of(Engine::builder().workers(2).thread_name("mill").start().unwrap());
    let function = identity(&held.engine);
    let handle = function.submit(1).unwrap();
    let why = function.explain_job(&handle);
    let [Reason::NoWorker { threads, blocked: 0, workers: 2, .. }] = why.reasons() else { panic!("{why}") };
    let names: Vec<_> = threads.iter().map(|BusyThread { thread, function, .. }| (&**thread, &**function)).collect();
    assert_eq!(names, [("mill-0", "hold"), ("mill-1", "hold")]);
    assert_eq!(
        words(&why),
        ["no worker is free: 2 threads run \"hold\" (2); wait for one to end, or start the engine with more workers"]
    );
    held.release();
    assert_eq!(value(handle), 1);
}

/// A thread that waits inside its job has no spare to take its place.
#[test]
fn a_blocked_thread_runs_nothing() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = Engine::builder().workers(2).spare_workers(0).start().unwrap();
    let (inner, handle) = paused(&engine);
    let waits = engine.function("waits", |handle: JobHandle<u64>| value(handle)).unwrap();
    let gate = Gate::new();
    let pass = gate.clone();
    let passes = engine.function("passes", move |()| pass.pass()).unwrap();
    let waiting = waits.submit(handle).unwrap();
    let passing = passes.submit(()).unwrap();
    gate.wait_entered(1);
    let third = passes.submit(()).unwrap();
    let is_blocked = |reasons: &[Reason]| matches!(reasons, [Reason::NoWorker { blocked: 1, workers: 2, .. }]);
    let why = ask_until(|| passes.explain_job(&third), is_blocked);
    assert_eq!(
        words(&why),
        ["no worker is free: 2 threads run \"passes\" (1), \"waits\" (1), 1 of them waits for other jobs inside; \
          wait for one to end, or start the engine with more spare workers"]
    );
    gate.open();
    inner.resume();
    assert_eq!(value(waiting), 1);
    [passing, third].into_iter().for_each(value);
}

#[test]
fn no_consumer() {
    let _watchdog = watchdog("the end of the job");
    let engine = engine(1);
    let (function, set) = remote(&engine);
    let handle = function.submit(1).unwrap();
    set.remove(&function);
    for why in [function.explain_job(&handle), function.explain()] {
        assert!(matches!(why.reasons(), [Reason::NoConsumer]), "{why}");
        assert_eq!(words(&why), ["no consumer set has the function; add it to one with `ConsumerSet::add`"]);
    }
    set.add(&function);
    set.add(&function);
    assert!(matches!(function.explain().reasons(), [Reason::NotPulled { sets: 1, .. }]));
    drop(set);
    assert!(matches!(function.explain().reasons(), [Reason::NoConsumer]));
}

#[test]
fn no_set_pulls() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let (function, set) = remote(&engine);
    let other = engine.consumer_set();
    other.add(&function);
    let handles = [function.submit(1).unwrap(), function.submit(2).unwrap()];
    let (_, completer) = set.try_next().unwrap().take();
    let why = function.explain_job(&handles[1]);
    assert!(
        matches!(why.reasons(), [Reason::NotPulled { sets: 2, parked: 0, woken: 0, pulled: 1, .. }]),
        "busy sets: {why}"
    );
    assert_eq!(
        words(&why),
        ["no consumer set pulls: 2 have the function, 1 pulled job is not finished; \
          call `try_next` or `next` on one of them, or add a set"]
    );
    assert!(matches!(function.explain_job(&handles[0]).reasons(), [Reason::Pulled { attempt: None, .. }]));
    let (_, second) = other.try_next().unwrap().take();
    let why = function.explain();
    assert!(matches!(why.reasons(), [Reason::NothingQueued { running: 2, .. }]), "{why}");
    assert_eq!(words(&why), ["nothing is queued, and 2 jobs are running"]);
    completer.complete(1);
    second.complete(2);
    assert_eq!(handles.map(value), [1, 2]);
    // The same with limits.
    function.set_limits(Limits::new());
    let handles = [function.submit(1).unwrap(), function.submit(2).unwrap()];
    let (_, completer) = set.try_next().unwrap().take();
    let why = function.explain_job(&handles[1]);
    assert!(matches!(why.reasons(), [Reason::NotPulled { sets: 2, pulled: 1, .. }]), "{why}");
    assert!(
        words(&why)[0].starts_with("no consumer set pulls: 2 have the function, 1 pulled job is not finished; call")
    );
    drop(completer);
}

/// A set that was woken and does not look keeps the job from one that is parked.
#[test]
fn a_woken_set_that_does_not_look() {
    let _watchdog = watchdog("the wake");
    let engine = engine(1);
    let (function, set) = remote(&engine);
    let other = engine.consumer_set();
    other.add(&function);
    let (wakes, waker) = CountingWaker::pair();
    let park = |set: &ConsumerSet<u64, u64>, waker: &Waker| {
        assert!(set.poll_ready(&mut Context::from_waker(waker)).is_pending());
    };
    park(&other, Waker::noop());
    park(&set, &waker);
    let handle = function.submit(1).unwrap();
    wakes.wait_for(1);
    let why = function.explain_job(&handle);
    assert!(matches!(why.reasons(), [Reason::NotPulled { sets: 2, parked: 1, woken: 1, pulled: 0, .. }]), "{why}");
    assert_eq!(
        words(&why),
        ["no consumer set pulls: 2 have the function, 1 was woken and did not look yet, 1 is parked behind it; \
          call `try_next` or `next` on one of them, or add a set"]
    );
    set.try_next().unwrap().take().1.complete(1);
    assert_eq!(value(handle), 1);
}

#[test]
fn running_on_a_thread() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = Engine::builder().workers(2).thread_name("mill").start().unwrap();
    let gate = Gate::new();
    let pass = gate.clone();
    let function = engine.function("pass", move |()| pass.pass()).unwrap();
    let plain = function.submit(()).unwrap();
    gate.wait_entered(1);
    let why = function.explain_job(&plain);
    let [Reason::Running { threads, attempt: None, .. }] = why.reasons() else { panic!("{why}") };
    assert_eq!(words(&why), [format!("the job is running: thread {} runs this function", threads[0])]);
    let counted = function.job(()).unique(*b"key").submit().unwrap();
    gate.wait_entered(2);
    let why = function.explain_job(&counted);
    let [Reason::Running { threads, attempt: Some(1), .. }] = why.reasons() else { panic!("{why}") };
    assert_eq!(threads.as_slice(), ["mill-0", "mill-1"]);
    assert_eq!(words(&why), ["the job is running (attempt 1): threads mill-0, mill-1 run this function"]);
    gate.open();
    value(plain);
    value(counted);
}

#[test]
fn nothing_is_queued() {
    let _watchdog = watchdog("the end of the job");
    let held = Held::new(2);
    let idle = identity(&held.engine);
    let why = idle.explain();
    assert!(matches!(why.reasons(), [Reason::NothingQueued { running: 0, .. }]), "{why}");
    assert_eq!(words(&why), ["nothing is queued, and nothing runs; submit a job"]);
    let why = held.engine.explain("hold").unwrap();
    assert!(matches!(why.reasons(), [Reason::NothingQueued { running: 2, .. }]), "{why}");
    assert_eq!(words(&why), ["nothing is queued, and 2 jobs are running"]);
}

/// What a job submits lies with its worker; asked from inside.
#[test]
fn nested_jobs() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let inner = identity(&engine);
    let asks = inner.clone();
    let outer = engine.function("outer", move |()| {
        let handle = asks.submit(7).unwrap();
        (asks.explain_job(&handle), asks.explain(), handle)
    });
    let (job, function, handle) = value(outer.unwrap().submit(()).unwrap());
    for why in [job, function] {
        assert!(matches!(why.reasons(), [Reason::NoWorker { .. }, Reason::Nested]), "{why}");
        assert!(words(&why)[1].starts_with("it was submitted inside a job and lies with that one's worker"));
    }
    assert_eq!(value(handle), 7);
}

#[test]
fn another_functions_job() {
    let _watchdog = watchdog("the end of the job");
    let engine = engine(1);
    let (function, handle) = paused(&engine);
    let other = engine.function("other", |n: u64| n).unwrap();
    let why = other.explain_job(&handle);
    assert!(matches!(why.reasons(), [Reason::OtherFunction]), "{why}");
    assert_eq!(words(&why), ["the job is not this function's; ask the function it was submitted to"]);
    function.resume();
    value(handle);
}

fn ended(function: &Function<u64, u64>, handle: &JobHandle<u64>) -> (Outcome, String) {
    assert!(handle.is_finished());
    let why = function.explain_job(handle);
    let [Reason::Ended(outcome)] = why.reasons() else { panic!("{why}") };
    (outcome.clone(), words(&why).remove(0))
}

#[test]
fn ended_jobs() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let body = engine.function("body", |n: u64| if n == 0 { panic!("no zero") } else { n }).unwrap();
    let handles = [body.submit(1).unwrap(), body.submit(0).unwrap()];
    while !handles.iter().all(JobHandle::is_finished) {
        thread::yield_now();
    }
    assert_eq!(
        ended(&body, &handles[0]),
        (Outcome::Value, "the job has ended with its result; take it from the handle".to_owned())
    );
    let panicked = (Outcome::Panicked("no zero".to_owned()), "the job has panicked: no zero".to_owned());
    assert_eq!(ended(&body, &handles[1]), panicked);
    assert_eq!(ended(&body, &handles[1]), panicked, "nothing was taken");
    assert!(
        matches!(outcome(handles.into_iter().nth(1).unwrap()), Err(error) if error.to_string().contains("no zero"))
    );

    let (function, set) = remote(&engine);
    function.set_limits(Limits::new().capacity(1).overflow(Overflow::EvictOldest));
    let evicted = function.submit(1).unwrap();
    let failed = function.submit(2).unwrap();
    set.try_next().unwrap().take().1.fail("meant");
    let lost = function.submit(3).unwrap();
    drop(set.try_next().unwrap());
    let cancelled = function.submit(4).unwrap();
    assert!(cancelled.cancel());
    let late = function.job(5).deadline(Duration::ZERO).submit().unwrap();
    while !late.is_finished() {
        thread::yield_now();
    }
    let table = [
        (&evicted, Outcome::Evicted, "the queue dropped the job to make room; submit it again, or raise the capacity"),
        (&failed, Outcome::Failed("meant".to_owned()), "the job has failed: meant"),
        (&lost, Outcome::Lost, "whoever had taken the job went away without finishing it; submit it again, or have"),
        (&cancelled, Outcome::Cancelled, "the job was cancelled before it ran; submit it again to have it run"),
        (&late, Outcome::TimedOut, "the job's time ran out; submit it again with more"),
    ];
    for (handle, outcome, text) in table {
        let (seen, words) = ended(&function, handle);
        assert_eq!(seen, outcome);
        assert!(words.starts_with(text), "{words}");
    }
}

#[test]
fn the_function_was_removed() {
    let _watchdog = watchdog("the end of the job");
    let held = Held::new(1);
    let function = identity(&held.engine);
    let handle = function.submit(1).unwrap();
    assert!(held.engine.remove("identity"));
    let why = function.explain_job(&handle);
    assert!(matches!(why.reasons(), [Reason::NoWorker { .. }, Reason::FunctionRemoved]), "{why}");
    assert_eq!(
        words(&why)[1],
        "the function was removed: what it accepted before is still run; register it again to submit more"
    );
    assert!(held.engine.explain("identity").is_none());
    let _engine = held.release();
    assert_eq!(value(handle), 1);
    assert!(matches!(function.explain().reasons(), [Reason::NothingQueued { .. }, Reason::FunctionRemoved]));
}

#[test]
fn the_engine_is_ending_and_has_ended() {
    let _watchdog = watchdog("the end of the engine");
    let held = Held::new(1);
    let function = identity(&held.engine);
    let (pulled, set) = remote(&held.engine);
    set.remove(&pulled);
    let (handle, remote) = (function.submit(1).unwrap(), pulled.submit(2).unwrap());
    let ending = held.engine.clone();
    let ending = thread::spawn(move || ending.shutdown(Shutdown::Drain));
    let why = ask_until(|| function.explain_job(&handle), |reasons| reasons.len() > 1);
    assert!(matches!(why.reasons(), [Reason::NoWorker { .. }, Reason::Draining]), "{why}");
    assert_eq!(
        words(&why)[1],
        "the engine is ending: what it accepted before is still run; start another one to submit more"
    );
    held.release();
    ending.join().unwrap();
    assert!(matches!(function.explain_job(&handle).reasons(), [Reason::Ended(Outcome::Value)]));
    let why = function.explain();
    assert!(matches!(why.reasons(), [Reason::NothingQueued { running: 0, .. }, Reason::EngineEnded]), "{why}");
    assert_eq!(words(&why)[1], "the engine has ended and runs nothing any more; start another one");
    // What is left in a function without a body can be pulled all the same.
    let why = pulled.explain_job(&remote);
    assert!(matches!(why.reasons(), [Reason::NoConsumer, Reason::EngineEnded]), "{why}");
}

/// All that keeps a job from starting, in order: what lasts longest first.
#[test]
fn several_reasons() {
    let _watchdog = watchdog("the answers");
    let held = Held::new(1);
    let function = identity(&held.engine);
    function.set_limits(Limits::new().concurrency(0));
    function.pause();
    let at = far();
    let handle = function.job(1).at(at).submit().unwrap();
    held.engine.remove("identity");
    // A removed function is paused no longer, and its delayed jobs end.
    assert!(matches!(function.explain_job(&handle).reasons(), [Reason::Ended(Outcome::Cancelled)]));

    let function = identity(&held.engine);
    function.set_limits(Limits::new().concurrency(0));
    function.pause();
    let handle = function.job(1).at(at).submit().unwrap();
    let kind = |reason: &Reason| match reason {
        Reason::Paused { .. } => "paused",
        Reason::NotBefore { .. } => "not before",
        Reason::CapReached { .. } => "cap",
        Reason::NoWorker { .. } => "worker",
        Reason::Ahead { .. } => "ahead",
        _ => "other",
    };
    let kinds = |handle| function.explain_job(handle).reasons().iter().map(kind).collect::<Vec<_>>();
    assert_eq!(kinds(&handle), ["paused", "not before", "cap", "worker"]);
    function.pause_until(at - Duration::from_secs(1));
    assert_eq!(kinds(&handle), ["not before", "paused", "cap", "worker"]);
    function.send(2).unwrap();
    let behind = function.submit(3).unwrap();
    assert_eq!(kinds(&behind), ["paused", "cap", "worker", "ahead"]);
}

/// Asking while everything changes: it neither panics nor blocks anybody, and what it says of the end is true.
#[test]
fn stress() {
    const ROUNDS: u64 = 300;
    let _watchdog = watchdog("the end of the stress");
    let engine = engine(2);
    let itself: Arc<OnceLock<Function<u64, u64>>> = Arc::default();
    let me = Arc::clone(&itself);
    let plain = engine.function("plain", move |n: u64| {
        if let Some(me) = me.get() {
            // Some of them submit, and all ask from inside.
            if n > 0 && n % 3 == 0 {
                let nested = me.submit(0).unwrap();
                assert!(!me.explain_job(&nested).reasons().is_empty());
            }
            assert!(!me.explain().to_string().is_empty());
        }
        n
    });
    let plain = plain.unwrap();
    itself.set(plain.clone()).unwrap();
    let managed = engine.function("managed", |n: u64| n).unwrap();
    managed.set_limits(Limits::new().concurrency(1));
    let (pulled, set) = remote(&engine);
    pulled.set_retry(Retry::attempts(2));
    thread::scope(|scope| {
        for (which, function) in [&plain, &managed, &pulled].into_iter().enumerate() {
            let engine = &engine;
            scope.spawn(move || {
                for n in 1..=ROUNDS {
                    let job = function.job(n);
                    let handle = match n % 4 {
                        // Only with the managed ones: the plain one is to stay plain for a while.
                        0 if which > 0 => job.unique(*b"key").submit().unwrap(),
                        1 => job.priority(High).submit().unwrap(),
                        _ => job.submit().unwrap(),
                    };
                    if n % 7 == 0 {
                        handle.cancel();
                    }
                    while !handle.is_finished() {
                        assert!(!function.explain_job(&handle).to_string().is_empty());
                        engine.explain(function.name()).unwrap();
                    }
                    let why = function.explain_job(&handle);
                    let [Reason::Ended(end)] = why.reasons() else { panic!("{why}") };
                    assert_eq!(*end == Outcome::Value, outcome(handle).is_ok());
                }
                if which == 2 {
                    engine.remove("remote");
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..ROUNDS / 2 {
                managed.pause();
                plain.explain();
                managed.resume();
                plain.explain();
            }
        });
        scope.spawn(|| {
            let mut n = 0;
            while let Some(job) = set.next() {
                n += 1;
                match n % 5 {
                    0 => drop(job),
                    1 => job.put_back(),
                    _ => job.take().1.complete(n),
                }
            }
        });
    });
    plain.pause();
    plain.resume();
    assert!(engine.shutdown(Shutdown::Drain).complete);
}

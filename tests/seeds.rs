//! What earlier systems of this kind promised, or broke: the rows (`cl_01`), invariants (`invariant_1`) and behaviours
//! (`behaviour_01`) of the inventory that the core answers for. Each has a test that carries its id; here are those that no
//! other file asks for.
//!
//! | id | what | test |
//! |---|---|---|
//! | CL-01 | names are an engine's own, and taken once; arguments are typed | `bad_input`: `cl_01_two_engines_share_nothing`, `cl_01_the_same_name_twice` |
//! | CL-02 | a job calls a function by name; an unknown one is an error; recursion ends | `cl_02_a_job_calls_by_name`, `cl_02_what_is_not_there_is_an_error`, `cl_02_recursion_has_an_end` |
//! | AT-40 | the eleventh of ten is refused at once; either end may go; a drain loses nothing | `at_40_the_eleventh_of_ten`; `limits`: `behaviour_05_at_40_overflow_policies`; `shutdown`: `behaviour_18_at_40_drain_runs_what_is_queued` |
//! | invariant 1 | no lost wake-up | `invariant_1_no_lost_wakeup`; `claims`: `invariant_1_nobody_sleeps_beside_claimed_jobs` |
//! | invariant 2 | one outcome for each who listens, whatever races | `invariant_2_one_outcome_whatever_races`; `times`: `invariant_2_completion_against_the_clock` |
//! | invariant 3 | a timer is the job's | `invariant_3_a_deadline_goes_with_its_job` |
//! | invariant 5 | who is busy is waited for | `shutdown`: `invariant_5_drain_waits_for_running_bodies` |
//! | invariant 7 | a panic is its job's alone | `panics`: `invariant_7_the_worker_lives_on` |
//! | invariant 8 | what was used is given back | `seeds_baseline`: `invariant_8_back_to_the_baseline` |
//! | invariant 9 | control answers whatever hangs | `invariant_9_control_answers_while_bodies_hang` |
//! | behaviour 1 | one job wakes one set; who is gone passes it on | `consumers`: `behaviour_01_one_job_wakes_one_set_the_most_recently_parked`, `behaviour_01_a_dropped_set_passes_its_wake_on` |
//! | behaviour 2 | equal jobs join a running one, whoever leaves | `behaviour_02_a_running_job_outlives_who_asked_first`; `uniques`: `behaviour_02_a_running_job_is_joined` |
//! | behaviour 3 | abandoned jobs are dropped and not counted | `uniques`: `behaviour_03_abandoned_jobs` |
//! | behaviour 4 | a timeout a job, one outcome | `behaviour_04_one_outcome_per_job_timeout` |
//! | behaviour 5 | who is told when a queue is full | `limits`: `behaviour_05_at_40_overflow_policies` |
//! | behaviour 6 | a set's functions take turns | `consumers`: `behaviour_06_functions_take_turns` |
//! | behaviours 7, 8 | progress, data and warnings in order | `updates`: `behaviour_08_in_order` |
//! | behaviour 15 | a deadline includes the waiting | `times`: `behaviour_15_a_deadline_in_the_queue` |
//! | behaviour 18 | a drain runs what was accepted | `shutdown`: `behaviour_18_at_40_drain_runs_what_is_queued`, `behaviour_18_submits_in_a_race` |
//! | behaviour 20 | a pause that ends by itself | `times`: `behaviour_20_a_pause_that_ends_by_itself` |

mod common;

use common::rng::{Rng, jitter};
use common::wake::CountingWaker;
use common::{Gate, Held, Live, Tally, engine, outcome, value, watchdog};
use layshaft::{
    CallError, Engine, Function, JobError, JobHandle, Limits, LookupError, Overflow, Priority, Shutdown, SubmitError,
    WaitError, current,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::Context;
use std::thread;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(20);
const NEVER: Duration = Duration::from_secs(3600);

fn find<A: Send + 'static, R: Send + 'static>(name: &str) -> Result<Function<A, R>, LookupError> {
    current().expect("inside a job").engine().lookup(name)
}

#[test]
fn cl_02_a_job_calls_by_name() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    // Boxed, and registered after the function that calls it.
    let outer = engine.function("outer", |n: u64| find::<[u64; 20], String>("inner").unwrap().call([n; 20]).unwrap());
    engine.function("inner", |numbers: [u64; 20]| numbers.iter().sum::<u64>().to_string()).unwrap();
    assert_eq!(value(outer.unwrap().submit(3).unwrap()), "60");
    let pulled = engine.consumer::<u64, u64>("pulled").unwrap();
    let set = engine.consumer_set();
    set.add(&pulled);
    let handle = engine.lookup::<u64, u64>("pulled").unwrap().submit(4).unwrap();
    let (arg, completer) = set.try_next().unwrap().take();
    completer.complete(arg + 1);
    assert_eq!(value(handle), 5);
}

#[test]
fn cl_02_what_is_not_there_is_an_error() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let outer = engine.function("outer", |()| find::<u64, u64>("nowhere").err());
    let unknown = value(outer.unwrap().submit(()).unwrap()).unwrap();
    assert_eq!(unknown, LookupError::NotFound("nowhere".to_owned()));
    assert_eq!(
        unknown.to_string(),
        "there is no function named \"nowhere\": register it first, or look for it in `function_stats`"
    );
    engine.function("double", |n: u64| n * 2).unwrap();
    let wrong = [engine.lookup::<u32, u64>("double").err(), engine.lookup::<u64, i64>("double").err()];
    for (error, asked) in wrong.into_iter().zip(["fn(u32) -> u64", "fn(u64) -> i64"]) {
        let error = error.expect("the types differ");
        assert!(matches!(error, LookupError::WrongTypes { .. }));
        let expected = format!(
            "the function \"double\" is a fn(u64) -> u64, and was looked up as a {asked}; ask for its own types"
        );
        assert_eq!(error.to_string(), expected);
    }
    assert!(engine.remove("double"));
    assert!(matches!(engine.lookup::<u64, u64>("double"), Err(LookupError::NotFound(_))));
    for name in ["", "scope"] {
        assert!(matches!(engine.lookup::<u64, u64>(name), Err(LookupError::NotFound(_))), "{name:?}");
    }
    assert!(engine.shutdown(Shutdown::Drain).complete);
    assert!(engine.lookup::<(), Option<LookupError>>("outer").is_err());
}

/// Each job calls the function in itself, far deeper than a stack reaches: spares take over while there are some, then a call is
/// refused. No job is lost.
#[test]
fn cl_02_recursion_has_an_end() {
    const DEPTH: u64 = 100_000;
    let _watchdog = watchdog("the end of the jobs");
    let mut deepest = [0; 3];
    for (deepest, (workers, spares)) in deepest.iter_mut().zip([(1, 0), (1, 2), (2, 8)]) {
        let builder = Engine::builder().workers(workers).spare_workers(spares).stack_size(1 << 20);
        let engine = builder.start().unwrap();
        let ran = Tally::new();
        let count = ran.clone();
        // How deep its calls went.
        let dive = engine.function("dive", move |left: u64| -> u64 {
            count.add(0);
            let Some(left) = left.checked_sub(1) else { return 0 };
            match find::<u64, u64>("dive").unwrap().call(left) {
                Ok(below) => below + 1,
                Err(CallError::Wait(WaitError::WouldNeverEnd(_))) => 0,
                Err(error) => panic!("{error}"),
            }
        });
        let dive = dive.unwrap();
        *deepest = dive.call(DEPTH).unwrap();
        assert!(*deepest > 20, "{deepest} calls deep with {workers} workers and {spares} spares");
        assert!(engine.shutdown(Shutdown::Drain).complete);
        assert_eq!((ran.count(), engine.stats().total().panicked), (DEPTH + 1, 0));
    }
    assert!(deepest[0] < deepest[1] && deepest[1] < deepest[2], "more spares reach deeper: {deepest:?}");
}

#[test]
fn at_40_the_eleventh_of_ten() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let pending = engine.consumer::<u32, u32>("checkout").unwrap();
    pending.set_limits(Limits::new().capacity(10));
    let set = engine.consumer_set();
    set.add(&pending);
    let mut handles: Vec<_> = (0..10).map(|n| pending.submit(n).unwrap()).collect();
    assert!(matches!(pending.submit(10), Err(SubmitError::Full(10))));
    assert!(matches!(pending.job(11).priority(Priority::High).submit(), Err(SubmitError::Full(11))));
    // What runs is pending no more.
    let first = set.try_next().unwrap();
    handles.push(pending.submit(12).unwrap());
    assert!(pending.submit(13).is_err_and(|error| error.is_full()));
    for pulled in std::iter::once(first).chain(std::iter::from_fn(|| set.try_next())) {
        let (arg, completer) = pulled.take();
        completer.complete(arg);
    }
    assert!(handles.into_iter().map(value).eq((0..10).chain([12])));
}

/// All workers have parked before each job: that one wakes somebody, on every way in.
#[test]
fn invariant_1_no_lost_wakeup() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let double = engine.function("double", |n: u64| n * 2).unwrap();
    let ordered = engine.function("ordered", |n: u64| n * 2).unwrap().ordered();
    let inner = double.clone();
    let nested = engine.function("nested", move |n: u64| value(inner.submit(n).unwrap())).unwrap();
    let mut parked = 0;
    for round in 0..2_000 {
        // Each round ends with one more.
        while engine.stats().total().parks <= parked {
            thread::yield_now();
        }
        parked = engine.stats().total().parks;
        let handle = match round % 5 {
            0 => double.submit(round),
            1 => double.job(round).priority(Priority::High).submit(),
            2 => double.job(round).priority(Priority::Low).submit(),
            3 => ordered.submit(round),
            _ => nested.submit(round),
        };
        assert_eq!(value(handle.unwrap()), round * 2, "round {round}");
    }
}

/// With a timeout, a deadline, or neither.
fn timed<A, R>(job: layshaft::Submit<'_, A, R>, which: u64, limit: Duration) -> layshaft::Submit<'_, A, R> {
    match which {
        0 => job.timeout(limit),
        1 => job.deadline(limit),
        _ => job,
    }
}

/// Jobs with keys, times and a full queue, and consumers that complete, fail, lose and put back, against cancels: each handle
/// hears of one end, and a completed job's listeners of its value.
#[test]
fn invariant_2_one_outcome_whatever_races() {
    const JOBS: u64 = 2_000;
    let _watchdog = watchdog("the end of the jobs");
    let (engine, live) = (engine(1), Live::default());
    let remote = engine.consumer::<(u64, common::Token), u64>("remote").unwrap();
    remote.set_limits(Limits::new().capacity(1).overflow(Overflow::EvictOldest).drop_abandoned(true));
    let (completed, evicted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let consume = |seed| {
        let (set, mut rng) = (engine.consumer_set(), Rng::new(seed));
        set.add(&remote);
        while let Some(pulled) = set.next() {
            match rng.below(8) {
                0 => pulled.put_back(),
                1 => drop(pulled),
                choice => {
                    let ((n, _token), completer) = pulled.take();
                    jitter(&mut rng);
                    if choice == 2 {
                        completer.fail("meant");
                        continue;
                    }
                    completed.fetch_add(1, Ordering::SeqCst);
                    completer.complete(n % 20);
                }
            }
        }
    };
    let submit = |seed| {
        let mut rng = Rng::new(seed);
        let mut ends = [0; 2];
        for n in 0..JOBS {
            let limit = Duration::from_micros(rng.below(300));
            let job = remote.job((n, live.token())).unique((n % 20).to_le_bytes());
            let job = timed(job, rng.below(4), limit);
            let (wakes, waker) = CountingWaker::pair();
            let mut handle = job.submit().unwrap();
            let polled = std::pin::Pin::new(&mut handle).poll(&mut Context::from_waker(&waker));
            if let std::task::Poll::Ready(end) = polled {
                ends[usize::from(end.is_ok())] += 1;
                continue;
            }
            let has_asked = rng.one_in(8);
            let is_cancelled = has_asked && handle.cancel();
            wakes.wait_for(usize::from(!is_cancelled));
            let end = outcome(handle);
            ends[usize::from(end.is_ok())] += 1;
            match end {
                Ok(key) => assert!(key == n % 20 && !is_cancelled),
                Err(error) => {
                    // Who asked in vain is heard when the job is put back.
                    assert!(if matches!(error, JobError::Cancelled) { has_asked } else { !is_cancelled });
                    evicted.fetch_add(usize::from(matches!(error, JobError::Evicted)), Ordering::SeqCst);
                }
            }
            assert!(wakes.wakes() <= 1, "told {} times", wakes.wakes());
        }
        ends
    };
    let ends = thread::scope(|scope| {
        let _ = [1, 2].map(|seed| scope.spawn(move || consume(seed)));
        let submitters = [3, 4, 5].map(|seed| scope.spawn(move || submit(seed)));
        let ends = submitters.map(thread::ScopedJoinHandle::join);
        engine.remove("remote");
        ends.map(Result::unwrap)
    });
    let heard: u64 = ends.iter().flatten().sum();
    let values: u64 = ends.iter().map(|ends| ends[1]).sum();
    let [completed, evicted] = [completed, evicted].map(AtomicUsize::into_inner);
    println!("{values} of {heard} ends were values, of {completed} completed jobs; {evicted} were evicted");
    assert_eq!((heard, remote.queued()), (3 * JOBS, 0));
    drop((engine, remote));
    live.assert_balanced();
}

/// A job's deadline goes with it from one consumer to the next, and concerns nothing else that these have.
#[test]
fn invariant_3_a_deadline_goes_with_its_job() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let remote = engine.consumer::<u32, u32>("remote").unwrap();
    let sets = [engine.consumer_set(), engine.consumer_set()];
    sets.iter().for_each(|set| set.add(&remote));
    let timed = remote.job(1).deadline(SHORT).submit().unwrap();
    let free = remote.submit(2).unwrap();
    let [first, second] = sets;
    let pulled = first.try_next().unwrap();
    let (kept, completer) = first.try_next().unwrap().take();
    assert_eq!((*pulled.arg(), kept), (1, 2));
    pulled.put_back();
    drop(first);
    let pulled = second.try_next().unwrap();
    assert!(matches!(outcome(timed), Err(JobError::TimedOut)));
    assert!(!completer.is_cancelled());
    completer.complete(kept);
    assert_eq!(value(free), 2);
    drop(pulled);
    assert_eq!(remote.queued(), 0);
}

/// Every worker is stuck in a body. Whatever is asked of the engine is answered all the same.
#[test]
fn invariant_9_control_answers_while_bodies_hang() {
    let _watchdog = watchdog("the answers");
    let held = Held::new(2);
    let engine = &held.engine;
    let note = engine.function("note", |n: u64| n).unwrap();
    let handles: Vec<JobHandle<u64>> = (0..4).map(|n| note.submit(n).unwrap()).collect();
    assert_eq!((engine.stats().functions, note.queued()), (2, 4));
    note.set_limits(Limits::new().capacity(4).overflow(Overflow::EvictNewest));
    note.send(9).unwrap();
    assert!(handles[0].cancel());
    note.pause_until(Instant::now() + NEVER);
    assert!(note.is_paused());
    note.resume();
    assert_eq!(note.queued(), 3);
    engine.lookup::<(), ()>("hold").unwrap();
    let late = engine.function("late", |()| ()).unwrap();
    late.send(()).unwrap();
    assert!(engine.remove("late") && late.is_closed());
    let drained = engine.shutdown(Shutdown::DrainFor(Duration::ZERO));
    assert!(!drained.complete);
    assert_eq!(drained.running, ["hold", "hold"]);
    let ends: Vec<_> = handles.into_iter().map(outcome).collect();
    assert!(matches!(ends[..3], [Err(JobError::Cancelled), ..]));
    assert!(matches!(ends[3], Err(JobError::Evicted)));
    held.open();
}

/// A second caller joins the running job, a third one without a handle; the first leaves. The job goes on for the others.
#[test]
fn behaviour_02_a_running_job_outlives_who_asked_first() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let (gate, (tell, told)) = (Gate::new(), mpsc::channel());
    let pass = gate.clone();
    let slow = engine.function("slow", move |n: u64| {
        pass.pass();
        tell.send(current().unwrap().is_cancelled()).unwrap();
        n
    });
    let slow = slow.unwrap();
    slow.set_limits(Limits::new().drop_abandoned(true));
    let submit = |n: u64| slow.job(n).unique(*b"key").submit().unwrap();
    let first = submit(1);
    gate.wait_entered(1);
    let second = submit(2);
    assert!(!first.cancel());
    drop(first);
    slow.job(3).unique(*b"key").send().unwrap();
    // Queued behind it, with a handle that goes: kept by a send that joins it.
    let other = slow.job(4).unique(*b"other").submit().unwrap();
    slow.job(5).unique(*b"other").send().unwrap();
    drop(other);
    let gone = slow.job(6).unique(*b"gone").submit().unwrap();
    drop(gone);
    gate.open();
    assert_eq!(value(second), 1);
    assert!(engine.shutdown(Shutdown::Drain).complete);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [false, false], "the running job, and the one that was sent");
    assert_eq!(slow.queued(), 0);
}

/// Two jobs of one consumer have times of their own; the one that hangs is told to have timed out, once, and what comes after
/// that is for nobody.
#[test]
fn behaviour_04_one_outcome_per_job_timeout() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let remote = engine.consumer::<u32, u32>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&remote);
    let quick = remote.job(1).timeout(NEVER).submit().unwrap();
    let hung = remote.job(2).timeout(SHORT).submit().unwrap();
    let (wakes, waker) = CountingWaker::pair();
    let mut hung = Box::pin(hung);
    assert!(hung.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let [first, second] = [set.try_next().unwrap().take(), set.try_next().unwrap().take()];
    wakes.wait_for(1);
    first.1.complete(10);
    second.1.complete(20);
    assert_eq!(value(quick), 10, "the other's time is not its own");
    assert!(matches!(outcome(*std::pin::Pin::into_inner(hung)), Err(JobError::TimedOut)));
    assert_eq!(wakes.wakes(), 1);
    // The same of a body that hangs.
    let gate = Gate::new();
    let (pass, ended) = (gate.clone(), Tally::new());
    let count = ended.clone();
    let body = engine.function("body", move |n: u64| {
        pass.pass();
        count.add(n);
    });
    let body = body.unwrap();
    let handle = body.job(7).timeout(SHORT).submit().unwrap();
    assert!(matches!(outcome(handle), Err(JobError::TimedOut)));
    gate.open();
    ended.wait_for(1);
    assert_eq!(body.queued(), 0);
}

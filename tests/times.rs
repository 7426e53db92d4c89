//! Do jobs start and end when their times say, and is each end told once, whatever races?

mod common;

use common::{Gate, Held, Live, Tally, Token, engine, outcome, value, watchdog};
use layshaft::{JobError, Limits, Retry, Shutdown};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(20);
const NEVER: Duration = Duration::from_secs(3600);

fn is_timed_out<R>(end: &Result<R, JobError>) -> bool {
    matches!(end, Err(JobError::TimedOut))
}

/// The body goes on when its time is up, learns of it, and its late result is dropped.
#[test]
fn a_run_that_takes_too_long() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let (live, gate, (told, heard)) = (Live::default(), Gate::new(), mpsc::channel());
    let (made, pass) = (live.clone(), gate.clone());
    let slow = engine.function("slow", move |()| {
        pass.pass();
        while !layshaft::current().unwrap().is_cancelled() {
            std::thread::yield_now();
        }
        told.send(()).unwrap();
        made.token()
    });
    let slow = slow.unwrap();
    slow.set_limits(Limits::new().concurrency(1));
    let handle = slow.job(()).timeout(SHORT).submit().unwrap();
    gate.wait_entered(1);
    let next = slow.job(()).timeout(SHORT).submit().unwrap();
    assert!(is_timed_out(&outcome(handle)), "while the body waits");
    assert_eq!(slow.queued(), 1, "the body still counts");
    gate.open();
    assert!(is_timed_out(&outcome(next)));
    (0..2).for_each(|_| heard.recv().unwrap());
    drop((engine, slow));
    assert_eq!(live.made(), 2);
    live.assert_balanced();
}

#[test]
fn a_run_in_time() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let double = engine.function("double", |n: u32| n * 2).unwrap();
    assert_eq!(double.job(4).timeout(NEVER).deadline(NEVER).call().unwrap(), 8);
    assert_eq!(double.job(5).timeout(Duration::MAX).deadline(Duration::MAX).call().unwrap(), 10);
    assert!(engine.shutdown(Shutdown::Drain).complete);
}

/// A job whose deadline passes while it waits does not start.
#[test]
fn behaviour_15_a_deadline_in_the_queue() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let (ran, live) = (Tally::new(), Live::default());
    let count = ran.clone();
    let note = held.engine.function("note", move |(n, _token)| count.add(n)).unwrap();
    let late: Vec<_> = (0..5).map(|n| note.job((n, live.token())).deadline(SHORT).submit().unwrap()).collect();
    let kept = note.job((9, live.token())).deadline(NEVER).submit().unwrap();
    assert!(late.into_iter().map(outcome).all(|end| is_timed_out(&end)));
    assert_eq!(note.queued(), 1);
    let engine = held.release();
    value(kept);
    assert_eq!((ran.count(), ran.sum()), (1, 9));
    engine.shutdown(Shutdown::Drain);
    live.assert_balanced();
}

#[test]
fn a_deadline_while_it_runs() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let gate = Gate::new();
    let pass = gate.clone();
    let slow = engine.function("slow", move |()| pass.pass()).unwrap();
    let handle = slow.job(()).deadline(SHORT).submit().unwrap();
    assert!(is_timed_out(&outcome(handle)));
    gate.open();
}

#[test]
fn not_before_its_time() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let now = engine.function("now", |_: u32| Instant::now()).unwrap();
    let begin = Instant::now();
    let (late, later) = (now.job(1).after(SHORT).submit().unwrap(), now.job(2).after(SHORT * 2).submit().unwrap());
    let at_once = now.submit(3).unwrap();
    assert_eq!(now.queued(), 2 + usize::from(!at_once.is_finished()));
    assert!(value(later) >= begin + SHORT * 2);
    assert!(value(late) >= begin + SHORT);
    value(at_once);
    assert!(value(now.job(4).at(begin).submit().unwrap()) > begin, "a time that has passed");
}

/// The end does not wait for jobs that are not due: it says that they were left.
#[test]
fn the_end_ends_what_is_not_due() {
    let _watchdog = watchdog("the drain");
    let engine = engine(1);
    let note = engine.function("note", |n: u32| n).unwrap();
    let handles: Vec<_> = (0..3).map(|n| note.job(n).after(NEVER).submit().unwrap()).collect();
    let far = note.job(1).after(Duration::MAX).deadline(NEVER).submit().unwrap();
    assert!(handles[0].cancel());
    let now = note.submit(7).unwrap();
    let drained = engine.shutdown(Shutdown::Drain);
    assert_eq!((drained.complete, drained.discarded), (true, 3));
    assert_eq!(value(now), 7);
    assert!(handles.into_iter().chain([far]).all(|handle| matches!(outcome(handle), Err(JobError::Cancelled))));
}

#[test]
fn behaviour_20_a_pause_that_ends_by_itself() {
    let _watchdog = watchdog("the end of the pause");
    let engine = engine(1);
    let now = engine.function("now", |()| Instant::now()).unwrap();
    let end = Instant::now() + SHORT;
    now.pause_until(end);
    assert!(now.is_paused());
    assert!(value(now.submit(()).unwrap()) >= end);
    assert!(!now.is_paused());
    now.pause_until(Instant::now() + NEVER);
    now.resume();
    value(now.submit(()).unwrap());
}

/// Times of about the length of the run: each job ends once, and whoever was told a value ran.
#[test]
fn invariant_2_completion_against_the_clock() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let (live, ran) = (Live::default(), Arc::new(AtomicUsize::new(0)));
    let (made, count) = (live.clone(), Arc::clone(&ran));
    let spin = engine.function("spin", move |n: u64| {
        count.fetch_add(1, Ordering::SeqCst);
        (0..n * 20).for_each(|_| std::hint::spin_loop());
        (n, made.token())
    });
    let spin = spin.unwrap();
    let mut ends = [0; 2];
    for round in 0..20 {
        let submit = |n| {
            let limit = Duration::from_micros(round * 20 + n % 50);
            let job = spin.job(n);
            if n % 2 == 0 { job.timeout(limit).submit().unwrap() } else { job.deadline(limit).submit().unwrap() }
        };
        for (n, handle) in (0..200).map(|n| (n, submit(n))).collect::<Vec<_>>() {
            match outcome(handle) {
                Ok((value, _token)) => {
                    assert_eq!(value, n);
                    ends[0] += 1;
                }
                end => {
                    assert!(is_timed_out(&end));
                    ends[1] += 1;
                }
            }
        }
    }
    println!("{} values, {} timed out, {} ran", ends[0], ends[1], ran.load(Ordering::SeqCst));
    assert!(engine.shutdown(Shutdown::Drain).complete);
    assert!(ran.load(Ordering::SeqCst) >= ends[0]);
    assert_eq!((ends[0] + ends[1], spin.queued()), (4_000, 0));
    live.assert_balanced();
}

/// Whoever pulled a job learns that its time is up, and can neither finish it nor put it back.
#[test]
fn a_pulled_job_whose_time_is_up() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let remote = engine.consumer::<u32, u32>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&remote);
    let handles: Vec<_> = (0..3).map(|n| remote.job(n).timeout(SHORT).submit().unwrap()).collect();
    let pulled: Vec<_> = (0..3).map(|_| set.try_next().unwrap()).collect();
    assert!(handles.into_iter().map(outcome).all(|end| is_timed_out(&end)));
    let [first, second, third]: [_; 3] = pulled.try_into().ok().unwrap();
    first.put_back();
    let (arg, completer) = second.take();
    assert!(completer.is_cancelled());
    completer.complete(arg);
    drop(third);
    assert!(set.try_next().is_none());
    assert_eq!(remote.queued(), 0);
    let again = remote.job(9).timeout(NEVER).submit().unwrap();
    set.try_next().unwrap().put_back();
    let (arg, completer) = set.try_next().unwrap().take();
    assert!(!completer.is_cancelled());
    completer.complete(arg);
    assert_eq!(value(again), 9);
}

/// The engine ends while a consumer has a job with a deadline: that is still told.
#[test]
fn a_deadline_after_the_end() {
    let _watchdog = watchdog("the end of the job");
    let engine = engine(1);
    let remote = engine.consumer::<u32, u32>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&remote);
    let handle = remote.job(1).deadline(SHORT * 3).submit().unwrap();
    let pulled = set.try_next().unwrap();
    engine.shutdown(Shutdown::Drain);
    drop(engine);
    assert!(is_timed_out(&outcome(handle)));
    drop(pulled);
}

/// What will never be due any more keeps neither the function nor the timer's thread.
#[test]
fn the_end_forgets_what_is_not_due() {
    let _watchdog = watchdog("the end");
    let (engine, live) = (engine(1), Live::default());
    let flaky = engine.function("flaky", |_: Arc<common::Token>| std::panic::resume_unwind(Box::new("meant"))).unwrap();
    let flaky: layshaft::Function<_, ()> = flaky;
    flaky.set_retry(layshaft::Retry::attempts(1).panics(true));
    let dead = flaky.submit(live.token().into()).unwrap();
    let later = flaky.job(live.token().into()).after(NEVER).submit().unwrap();
    assert!(outcome(dead).is_err() && flaky.dead().len() == 1);
    engine.shutdown(Shutdown::Drain);
    assert!(matches!(outcome(later), Err(JobError::Cancelled)));
    drop((engine, flaky));
    live.assert_balanced();
}

/// A consumer takes a job after the engine's end: its time is told as before, though nothing was due in between.
#[test]
fn a_time_out_after_the_end() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let remote = engine.consumer::<u32, u32>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&remote);
    let before = remote.job(1).timeout(SHORT).submit().unwrap();
    let handle = remote.job(2).timeout(SHORT).submit().unwrap();
    let pulled = set.try_next().unwrap();
    assert!(is_timed_out(&outcome(before)));
    drop(pulled);
    engine.shutdown(Shutdown::Drain);
    let pulled = set.try_next().unwrap();
    assert!(is_timed_out(&outcome(handle)));
    drop((pulled, engine));
}

/// A delayed job that was cancelled, and its key taken again, holds up nobody who comes later.
#[test]
fn a_cancelled_delay_holds_up_nobody() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let echo = engine.function("echo", |n: u64| n).unwrap();
    let keyed = |n| echo.job(n).unique("key").after(SHORT).submit().unwrap();
    let first = keyed(1);
    assert!(first.cancel());
    let again = keyed(2);
    let other = echo.job(3).after(SHORT).submit().unwrap();
    assert!(matches!(outcome(first), Err(JobError::Cancelled)));
    assert_eq!((value(again), value(other)), (2, 3));
    let stats = echo.stats();
    assert_eq!((stats.done, stats.cancelled, stats.queued.total()), (2, 1, 0));
}

/// The same with attempts that wait for their time.
#[test]
fn a_cancelled_delay_holds_up_no_retry() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let remote = engine.consumer::<u64, u64>("remote").unwrap();
    remote.set_retry(layshaft::Retry::attempts(2).delay(SHORT));
    let set = engine.consumer_set();
    set.add(&remote);
    let first = remote.job(1).unique("key").after(SHORT).submit().unwrap();
    assert!(first.cancel());
    let again = remote.job(2).unique("key").submit().unwrap();
    drop(set.next().unwrap());
    set.next().unwrap().take().1.complete(9);
    assert_eq!(value(again), 9);
}

/// Many delayed jobs whose time is up at once: each is found where it is.
#[test]
fn many_deadlines_at_once() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let never = engine.function("never", |n: u64| n).unwrap();
    let submit = |n| never.job(n).after(NEVER).deadline(SHORT).submit().unwrap();
    let jobs: Vec<_> = (0..20_000).map(submit).collect();
    assert!(jobs.into_iter().all(|job| is_timed_out(&outcome(job))));
    let stats = never.stats();
    assert_eq!((stats.timed_out, stats.queued.total()), (20_000, 0));
}

/// A function that is paused when its engine ends goes with its last key, and with it what it keeps: nothing is due any more.
#[test]
fn a_pause_does_not_outlive_the_engine() {
    let _watchdog = watchdog("the end of the function");
    for mode in [Shutdown::Drain, Shutdown::Discard] {
        let (engine, live) = (engine(1), Live::default());
        let paused = engine.consumer::<Arc<Token>, ()>("paused").unwrap();
        paused.set_retry(Retry::attempts(1));
        let set = engine.consumer_set();
        set.add(&paused);
        paused.send(Arc::new(live.token())).unwrap();
        drop(set.try_next().unwrap());
        assert_eq!((paused.dead().len(), live.dropped()), (1, 0));
        paused.pause_until(Instant::now() + NEVER);
        engine.shutdown(mode);
        drop((engine, set, paused));
        live.assert_balanced();
    }
}

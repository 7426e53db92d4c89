//! What may a function hold and run at once, and does a change take effect at once?

mod common;

use common::wake::CountingWaker;
use common::{Gate, Held, Live, Tally, Token, engine, outcome, value, watchdog};
use layshaft::Priority::{High, Low, Normal};
use layshaft::{Function, JobError, JobHandle, Limits, Overflow, Priority, Shutdown, SubmitError};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Context;
use std::thread;

type Log = Arc<Mutex<Vec<u32>>>;

fn noting(held: &Held) -> (Function<u32, u32>, Log) {
    let log = Log::default();
    let note = Arc::clone(&log);
    let function = held.engine.function("note", move |n| {
        note.lock().unwrap().push(n);
        n
    });
    (function.unwrap(), log)
}

fn noted(held: Held, log: &Log) -> Vec<u32> {
    held.release().shutdown(Shutdown::Drain);
    log.lock().unwrap().clone()
}

fn ends(handles: Vec<JobHandle<u32>>) -> Vec<Result<u32, &'static str>> {
    let name = |error| match error {
        JobError::Evicted => "evicted",
        JobError::Cancelled => "cancelled",
        _ => "other",
    };
    handles.into_iter().map(|handle| outcome(handle).map_err(name)).collect()
}

#[test]
fn a_full_queue_hands_the_argument_back() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let (note, log) = noting(&held);
    note.set_limits(Limits::new().capacity(3));
    assert_eq!(note.send_batch([0, 1, 2, 3, 4]).unwrap_err().into_parts().1, [3, 4]);
    assert!(matches!(note.send(5), Err(SubmitError::Full(5))));
    assert!(matches!(note.job(6).priority(High).submit(), Err(SubmitError::Full(6))));
    assert_eq!((note.queued(), note.limits()), (3, Limits::new().capacity(3)));
    note.set_limits(Limits::new().capacity(4));
    note.send(7).unwrap();
    assert!(note.send(8).unwrap_err().is_full());
    assert_eq!(noted(held, &log), [0, 1, 2, 7]);
}

#[test]
fn cancelled_jobs_make_room() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let (note, log) = noting(&held);
    note.set_limits(Limits::new().capacity(2));
    let (first, second) = (note.submit(1).unwrap(), note.submit(2).unwrap());
    assert!(first.cancel());
    assert_eq!(note.queued(), 1);
    let third = note.submit(3).unwrap();
    assert!(note.send(4).unwrap_err().is_full());
    assert_eq!(note.queued(), 2);
    assert_eq!(noted(held, &log), [2, 3]);
    assert_eq!(ends(vec![first, second, third]), [Err("cancelled"), Ok(2), Ok(3)]);
}

/// Who goes when there is no room, and who is told: the new caller, the newest or the oldest of the least urgent, or nobody.
#[test]
fn behaviour_05_at_40_overflow_policies() {
    let _watchdog = watchdog("the end of the jobs");
    let table = [
        (Overflow::Reject, [Ok(0), Ok(1), Err("refused"), Err("refused")], vec![0, 1]),
        (Overflow::EvictNewest, [Ok(0), Err("evicted"), Err("evicted"), Ok(3)], vec![0, 3]),
        (Overflow::EvictOldest, [Err("evicted"), Err("evicted"), Ok(2), Ok(3)], vec![2, 3]),
        (Overflow::Block, [Ok(0), Ok(1), Ok(2), Ok(3)], vec![0, 1, 2, 3]),
    ];
    for (overflow, expected, ran) in table {
        let held = Held::new(1);
        let (note, log) = noting(&held);
        note.set_limits(Limits::new().capacity(2).overflow(overflow));
        let caller = {
            let note = note.clone();
            thread::spawn(move || (0..4).map(|n| note.submit(n).map_err(SubmitError::into_arg)).collect::<Vec<_>>())
        };
        if overflow == Overflow::Block {
            while note.queued() < 2 {
                thread::yield_now();
            }
            assert!(!caller.is_finished(), "there is no room yet");
            held.open();
        }
        let submitted = caller.join().unwrap();
        assert!(note.queued() == 2 || overflow == Overflow::Block);
        let ends = submitted.into_iter().enumerate().map(|(n, submitted)| match submitted {
            Ok(handle) => ends(vec![handle]).remove(0),
            Err(arg) => Err(if arg as usize == n { "refused" } else { "another's argument" }),
        });
        held.open();
        assert_eq!(ends.collect::<Vec<_>>(), expected, "{overflow:?}");
        assert_eq!(noted(held, &log), ran, "{overflow:?}");
    }
}

#[test]
fn evictions_look_at_priorities() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let (note, log) = noting(&held);
    note.set_limits(Limits::new().capacity(3).capacity_of(High, 2).overflow(Overflow::EvictNewest));
    let submit = |n, priority: Priority| note.job(n).priority(priority).submit();
    let mut handles = vec![submit(0, Low).unwrap(), submit(1, High).unwrap(), submit(2, Normal).unwrap()];
    handles.push(submit(3, High).unwrap());
    assert!(submit(4, Low).unwrap_err().is_full(), "all that is queued is more urgent");
    handles.push(submit(5, High).unwrap());
    assert_eq!(noted(held, &log), [1, 5, 2]);
    assert_eq!(ends(handles), [Err("evicted"), Ok(1), Ok(2), Err("evicted"), Ok(5)]);
}

#[test]
fn a_caller_waits_for_room() {
    let _watchdog = watchdog("the end of the waits");
    let held = Held::new(1);
    let (note, log) = noting(&held);
    note.set_limits(Limits::new().capacity(1).overflow(Overflow::Block));
    note.send(1).unwrap();
    let (blocked, fourth) = (note.clone(), note.clone());
    let blocked = thread::spawn(move || blocked.send_batch([2, 3]).unwrap());
    while log.lock().unwrap().is_empty() && note.queued() == 1 && !blocked.is_finished() {
        // The first job leaves the queue when the worker is free, and not before.
        held.open();
        thread::yield_now();
    }
    assert_eq!(blocked.join().unwrap(), 2);
    fourth.send(4).unwrap();
    assert_eq!(noted(held, &log), [1, 2, 3, 4]);
}

#[test]
fn a_waiting_caller_learns_of_the_end_and_of_other_limits() {
    let _watchdog = watchdog("the end of the waits");
    let held = Held::new(1);
    let (note, _log) = noting(&held);
    note.set_limits(Limits::new().capacity(0).overflow(Overflow::Block));
    let waits = |note: Function<u32, u32>| thread::spawn(move || note.send(1));
    let first = waits(note.clone());
    // Either it waits already, or it finds the new limit.
    note.set_limits(Limits::new().capacity(1).overflow(Overflow::Block));
    assert!(first.join().unwrap().is_ok());
    let second = waits(note.clone());
    held.engine.remove("note");
    assert!(second.join().unwrap().unwrap_err().is_closed());
}

/// A worker that waited for room would not make any.
#[test]
fn a_worker_does_not_wait_for_room() {
    let _watchdog = watchdog("the end of the job");
    let engine = engine(1);
    let full = engine.function("full", |n: u32| n).unwrap();
    full.set_limits(Limits::new().capacity(0).overflow(Overflow::Block));
    let inner = full.clone();
    let outer = engine.function("outer", move |()| inner.send(1).unwrap_err().is_full()).unwrap();
    assert!(value(outer.submit(()).unwrap()));
}

/// A batch was claimed and its first job runs when the pause comes: none of the others starts, before or after it ends.
#[test]
fn after_a_pause_only_started_jobs_finish() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let (gate, ran) = (Gate::new(), Tally::new());
    let (pass, count) = (gate.clone(), ran.clone());
    let slow = engine.function("slow", move |n: u64| {
        if n == 0 {
            pass.pass();
        }
        count.add(n);
    });
    let slow = slow.unwrap();
    let first = slow.submit(0).unwrap();
    gate.wait_entered(1);
    slow.pause();
    slow.send_batch(1..10).unwrap();
    assert!(slow.is_paused());
    gate.open();
    value(first);
    let probe = engine.function("probe", |()| ()).unwrap();
    (0..100).for_each(|_| value(probe.submit(()).unwrap()));
    assert_eq!((ran.count(), slow.queued()), (1, 9));
    slow.resume();
    ran.wait_for(10);
    assert!(!slow.is_paused());
}

/// The same for jobs that had been claimed before the function was ever paused, and for nested ones.
#[test]
fn a_first_pause_takes_claims_and_nested_jobs_back() {
    let _watchdog = watchdog("the end of the jobs");
    for nested in [false, true] {
        let engine = engine(1);
        let (gate, log) = (Gate::new(), Log::default());
        let (pass, note) = (gate.clone(), Arc::clone(&log));
        let function = engine.function("note", move |n: u32| {
            if n == 0 {
                pass.pass();
            }
            note.lock().unwrap().push(n);
        });
        let function = function.unwrap();
        let outer = function.clone();
        let spawn = engine.function("spawn", move |()| {
            // Newest first: the one that waits comes last.
            outer.send_batch([4, 3, 2, 1, 0]).unwrap();
        });
        if nested {
            spawn.unwrap().send(()).unwrap();
        } else {
            function.send_batch(0..5).unwrap();
        }
        gate.wait_entered(1);
        function.pause();
        gate.open();
        let probe = engine.function("probe", |()| ()).unwrap();
        (0..100).for_each(|_| value(probe.submit(()).unwrap()));
        assert_eq!((&log.lock().unwrap()[..], function.queued()), (&[0][..], 4), "nested: {nested}");
        function.resume();
        engine.shutdown(Shutdown::Drain);
        let mut rest = log.lock().unwrap().clone();
        rest.sort_unstable();
        assert_eq!(rest, [0, 1, 2, 3, 4]);
    }
}

/// Claimed jobs that a pause takes back keep their place.
#[test]
fn order_survives_a_pause() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let (gate, log) = (Gate::new(), Log::default());
    let (pass, note) = (gate.clone(), Arc::clone(&log));
    let function = engine.function("note", move |n: u32| {
        if n == 0 {
            pass.pass();
        }
        note.lock().unwrap().push(n);
    });
    let function = function.unwrap();
    function.send_batch(0..200).unwrap();
    gate.wait_entered(1);
    function.pause();
    function.send_batch(200..300).unwrap();
    function.resume();
    gate.open();
    engine.shutdown(Shutdown::Drain);
    assert_eq!(*log.lock().unwrap(), (0..300).collect::<Vec<_>>());
}

#[test]
fn no_more_than_so_many_run_at_once() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(4);
    let (running, most, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Gate::new());
    let (now, peak, pass) = (Arc::clone(&running), Arc::clone(&most), gate.clone());
    let capped = engine.function("capped", move |()| {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        pass.pass();
        now.fetch_sub(1, Ordering::SeqCst);
    });
    let capped = capped.unwrap();
    capped.set_limits(Limits::new().concurrency(2));
    capped.send_batch((0..500).map(|_| ())).unwrap();
    gate.wait_entered(2);
    let probe = engine.function("probe", |()| ()).unwrap();
    (0..100).for_each(|_| value(probe.submit(()).unwrap()));
    assert_eq!((most.load(Ordering::SeqCst), capped.queued()), (2, 498));
    capped.set_limits(Limits::new().concurrency(3));
    gate.wait_entered(3);
    gate.open();
    engine.shutdown(Shutdown::Drain);
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

/// A job that panics, or was cancelled, gives its place free.
/// While as many run as may, nothing shows that a more urgent one waits: whoever ends one looks.
#[test]
fn a_high_job_is_next_when_a_cap_gives_way() {
    let (engine, gate, log) = (engine(1), Gate::new(), Log::default());
    let (pass, note) = (gate.clone(), Arc::clone(&log));
    let capped = engine.function("capped", move |n: u32| {
        if n == 0 {
            pass.pass();
        }
        note.lock().unwrap().push(n);
    });
    let capped = capped.unwrap();
    capped.set_limits(Limits::new().concurrency(1));
    (0..4).for_each(|n| capped.send(n).unwrap());
    gate.wait_entered(1);
    capped.job(9).priority(Low).send().unwrap();
    capped.job(10).priority(High).send().unwrap();
    gate.open();
    engine.shutdown(Shutdown::Drain);
    assert_eq!(*log.lock().unwrap(), [0, 10, 1, 2, 3, 9]);
}

#[test]
fn whatever_ends_gives_its_place_free() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let odd = engine.function("odd", |n: u32| {
        if n % 2 == 0 {
            std::panic::resume_unwind(Box::new("even"));
        }
        n
    });
    let odd = odd.unwrap();
    odd.set_limits(Limits::new().concurrency(1));
    odd.pause();
    let handles: Vec<_> = (0..100).map(|n| odd.submit(n).unwrap()).collect();
    assert!(handles.iter().step_by(3).all(JobHandle::cancel));
    odd.resume();
    for (n, handle) in handles.into_iter().enumerate() {
        match outcome(handle) {
            Ok(value) => assert!(value as usize == n && n % 2 == 1),
            Err(JobError::Cancelled) => assert_eq!(n % 3, 0),
            Err(error) => assert!(matches!(error, JobError::Panicked(_)) && n % 2 == 0),
        }
    }
}

/// Jobs that jobs submit wait in line, too.
#[test]
fn ordered() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let (note, log) = noting(&held);
    let (note, inner) = (note.clone().ordered(), note.ordered());
    let spawn = held.engine.function("spawn", move |from: u32| inner.send_batch(from..from + 3).unwrap()).unwrap();
    note.send(0).unwrap();
    spawn.send(10).unwrap();
    let engine = held.release();
    engine.shutdown(Shutdown::Drain);
    assert_eq!(*log.lock().unwrap(), [0, 10, 11, 12]);
    drop(note);
}

#[test]
fn the_end_of_the_engine_lifts_what_holds_jobs_up() {
    let _watchdog = watchdog("the drain");
    for remove in [false, true] {
        let engine = engine(2);
        let ran = Tally::new();
        let counts = [0, 1].map(|_| ran.clone());
        let [paused, capped] = [("paused", counts[0].clone()), ("capped", counts[1].clone())]
            .map(|(name, count)| engine.function(name, move |n| count.add(n)).unwrap());
        paused.pause();
        capped.set_limits(Limits::new().concurrency(0));
        paused.send_batch(0..20).unwrap();
        capped.send_batch(0..20).unwrap();
        if remove {
            assert!(engine.remove("paused") && engine.remove("capped"));
            ran.wait_for(40);
        }
        assert!(engine.shutdown(Shutdown::Drain).complete);
        assert_eq!(ran.count(), 40);
        paused.pause();
        assert!(!paused.is_paused());
    }
}

#[test]
fn a_discard_ends_what_limits_hold_up() {
    let _watchdog = watchdog("the discard");
    let engine = engine(1);
    let live = Live::default();
    let paused = engine.function("paused", |_: common::Token| ()).unwrap();
    paused.pause();
    let handles: Vec<_> = (0..30).map(|_| paused.submit(live.token()).unwrap()).collect();
    assert_eq!(engine.shutdown(Shutdown::Discard).discarded, 30);
    assert!(handles.into_iter().all(|handle| matches!(outcome(handle), Err(JobError::Cancelled))));
    live.assert_balanced();
}

/// Pulled jobs count as running until they are finished; what a limit held up wakes a set when it may go.
#[test]
fn a_consumer_function_with_limits() {
    let _watchdog = watchdog("the wake-ups");
    let engine = engine(1);
    let remote = engine.consumer::<u32, u32>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&remote);
    remote.send(0).unwrap();
    set.try_next().unwrap().put_back();
    remote.set_limits(Limits::new().capacity(3).concurrency(2));
    assert_eq!(remote.send_batch([1, 2, 3]).unwrap_err().into_parts().1, [3]);
    let (first, second) = (set.try_next().unwrap(), set.try_next().unwrap());
    assert_eq!((*first.arg(), *second.arg()), (0, 1));
    assert!(set.try_next().is_none(), "two are out");
    let (counter, waker) = CountingWaker::pair();
    assert!(set.poll_ready(&mut Context::from_waker(&waker)).is_pending());
    let (_, completer) = first.take();
    assert_eq!(counter.wakes(), 0, "a completer counts as well");
    completer.complete(0);
    counter.wait_for(1);
    second.put_back();
    assert_eq!(*set.try_next().unwrap().arg(), 1, "put back before the others");
    remote.pause();
    assert!(set.try_next().is_none());
    assert!(set.poll_ready(&mut Context::from_waker(&waker)).is_pending());
    remote.resume();
    counter.wait_for(2);
    assert_eq!(*set.try_next().unwrap().arg(), 2);
    remote.pause();
    remote.send_batch([7, 8]).unwrap();
}

/// Submits, nested ones, limits and pauses from many threads: every job that was accepted ends once.
#[test]
fn stress() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(3);
    let (ran, live) = (Tally::new(), Live::default());
    let (count, own) = (ran.clone(), Arc::new(OnceLock::<Function<(u64, common::Token), u64>>::new()));
    let inner = Arc::clone(&own);
    let function = engine.function("busy", move |(n, token): (u64, common::Token)| {
        count.add(n);
        if n % 5 == 1 {
            // Refused when it is full.
            let _ = inner.get().unwrap().send((0, token));
        }
        n
    });
    let function = function.unwrap();
    own.set(function.clone()).unwrap();
    let ends = thread::scope(|threads| {
        let changes = threads.spawn(|| {
            for round in 0..300 {
                let overflow = [Overflow::Reject, Overflow::EvictNewest, Overflow::EvictOldest, Overflow::Block];
                function.pause();
                let limits = Limits::new().capacity(1 + round % 50).concurrency(1 + round % 3);
                function.set_limits(limits.overflow(overflow[round % 4]));
                function.resume();
                thread::yield_now();
            }
            function.set_limits(Limits::new());
        });
        let submitters: Vec<_> = (0..3)
            .map(|thread| {
                let (function, live) = (&function, &live);
                threads.spawn(move || {
                    let mut ends = [0; 3];
                    for n in 0..2_000 {
                        let priority = [High, Normal, Low][n as usize % 3];
                        let submit = function.job((n * 3 + thread, live.token())).priority(priority).submit();
                        let Ok(handle) = submit else { continue };
                        let which = match outcome(handle) {
                            Ok(_) => 0,
                            Err(JobError::Evicted) => 1,
                            Err(_) => 2,
                        };
                        ends[which] += 1;
                    }
                    ends
                })
            })
            .collect();
        changes.join().unwrap();
        submitters.into_iter().map(|submitter| submitter.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(engine.shutdown(Shutdown::Drain).complete);
    println!("ran, evicted, otherwise ended: {ends:?}");
    assert!(ends.iter().all(|ends| ends[2] == 0));
    assert_eq!(function.queued(), 0);
    drop((engine, function, own));
    live.assert_balanced();
}

/// A function gets its first limit while workers look at what was submitted to it before: none of that is forgotten.
#[test]
fn a_first_limit_against_workers() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    for round in 0..2_000 {
        let function = engine.function("fresh", |n: u32| n).unwrap();
        let priority = [Normal, High][round % 2];
        thread::scope(|threads| {
            let limits = threads.spawn(|| function.set_limits(Limits::new().capacity(9)));
            let handles: Vec<_> = (0..3).map(|n| function.job(n).priority(priority).submit().unwrap()).collect();
            handles.into_iter().for_each(|handle| _ = value(handle));
            limits.join().unwrap();
        });
        assert!(engine.remove("fresh"));
    }
}

/// What was cancelled takes no room, and nobody has to go for it: also if it was not to start yet, or had a key.
#[test]
fn nobody_is_evicted_for_what_was_cancelled() {
    let _watchdog = watchdog("the end of the jobs");
    let later = std::time::Duration::from_secs(3600);
    for terms in 0..3 {
        let held = Held::new(1);
        let (note, log) = noting(&held);
        note.set_limits(Limits::new().capacity(2).capacity_of(Low, 1).overflow(Overflow::EvictNewest));
        let first = match terms {
            0 => note.submit(1).unwrap(),
            1 => note.job(1).unique(*b"key").submit().unwrap(),
            _ => note.job(1).after(later).submit().unwrap(),
        };
        let second = note.submit(2).unwrap();
        assert!(first.cancel());
        assert_eq!(note.queued(), 1);
        note.send(3).unwrap();
        assert_eq!(note.queued(), 2);
        let _delayed = note.job(4).priority(Low).after(later).submit().map(drop).unwrap_err();
        assert_eq!(noted(held, &log), [2, 3]);
        assert_eq!(ends(vec![first, second]), [Err("cancelled"), Ok(2)]);
    }
}

/// Jobs that are not due yet count as queued for the capacity of their priority, too.
#[test]
fn delayed_jobs_take_room() {
    let engine = engine(1);
    let note = engine.function("note", |n: u32| n).unwrap();
    note.set_limits(Limits::new().capacity_of(Low, 1));
    let later = || note.job(1).priority(Low).after(std::time::Duration::from_secs(3600)).submit();
    let first = later().unwrap();
    assert!(later().unwrap_err().is_full());
    assert!(first.cancel());
    assert_eq!(note.queued(), 0);
    let _second = later().unwrap();
}

/// A submit that waits for room gets that of a job that is cancelled.
#[test]
fn a_cancel_makes_room_for_who_waits() {
    let _watchdog = watchdog("the submit");
    let engine = engine(1);
    let note = engine.function("note", |n: u64| n).unwrap();
    note.set_limits(Limits::new().capacity(1).overflow(Overflow::Block));
    note.pause();
    let first = note.submit(1).unwrap();
    thread::scope(|scope| {
        let second = scope.spawn(|| note.submit(2).unwrap());
        assert!(first.cancel());
        let second = second.join().unwrap();
        note.resume();
        assert_eq!(value(second), 2);
    });
}

/// Jobs that run when a function gets its first limit count against it, wherever they came from.
#[test]
fn a_cap_counts_what_runs_already() {
    let _watchdog = watchdog("the end of the jobs");
    for from in ["outside", "a batch", "a job"] {
        let engine = engine(3);
        let gates = [Gate::new(), Gate::new(), Gate::new()];
        let pass = gates.clone();
        let capped = engine.function("capped", move |i: usize| pass[i].pass()).unwrap();
        // What is low runs when nothing else may start.
        let low = engine.function("low", |()| ()).unwrap();
        let nothing_else_starts = || value(low.job(()).priority(Low).submit().unwrap());

        let mut handles = match from {
            "outside" => vec![capped.submit(0).unwrap(), capped.submit(1).unwrap()],
            "a batch" => capped.submit_batch([0, 1]).unwrap().into_iter().collect(),
            _ => {
                let nested = capped.clone();
                let parent = move |()| vec![nested.submit(0).unwrap(), nested.submit(1).unwrap()];
                value(engine.function("parent", parent).unwrap().submit(()).unwrap())
            }
        };
        gates[0].wait_entered(1);
        gates[1].wait_entered(1);
        capped.set_limits(Limits::new().concurrency(1));
        handles.push(capped.submit(2).unwrap());
        nothing_else_starts();
        gates[0].open();
        value(handles.remove(0));
        nothing_else_starts();
        assert_eq!((capped.queued(), capped.stats().running), (1, 1), "from {from}");
        gates[1].open();
        gates[2].wait_entered(1);
        gates[2].open();
        handles.into_iter().for_each(value);
    }
}

#[test]
fn a_cap_counts_what_was_pulled_already() {
    let engine = engine(1);
    let remote = engine.consumer::<u8, ()>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&remote);
    remote.send_batch([0, 1, 2]).unwrap();
    let (first, second) = (set.try_next().unwrap(), set.try_next().unwrap());
    remote.set_limits(Limits::new().concurrency(1));
    assert!(set.try_next().is_none());
    first.take().1.complete(());
    assert!(set.try_next().is_none());
    second.put_back();
    assert_eq!(set.try_next().map(|pulled| *pulled.arg()), Some(1));
}

/// What was cancelled before a caller waits is dropped, and counted as gone once, while it waits.
#[test]
fn who_waits_for_room_keeps_nothing_that_has_ended() {
    let _watchdog = watchdog("the drop of what was cancelled");
    let (held, live) = (Held::new(1), Live::default());
    let slow = held.engine.function("slow", |_: Token| ()).unwrap();
    let jobs: Vec<_> = (0..3).map(|_| slow.submit(live.token()).unwrap()).collect();
    assert!(jobs[0].cancel());
    slow.set_limits(Limits::new().capacity(1).overflow(Overflow::Block));
    thread::scope(|scope| {
        scope.spawn(|| slow.send(live.token()).unwrap());
        while live.dropped() == 0 {
            thread::yield_now();
        }
        // Whoever tells of a drop has counted it.
        assert_eq!((live.dropped(), slow.queued()), (1, 2));
        slow.set_limits(Limits::new());
    });
    held.release().shutdown(Shutdown::Drain);
    live.assert_balanced();
}

/// Whatever the priority, and whatever a full queue does else.
#[test]
fn a_job_that_was_promised_a_place_has_it() {
    let _watchdog = watchdog("the end of the jobs");
    for overflow in [Overflow::Reject, Overflow::Block, Overflow::EvictNewest, Overflow::EvictOldest] {
        let held = Held::new(1);
        let (note, log) = noting(&held);
        note.job(0).beyond_limits().send().unwrap();
        note.set_limits(Limits::new().capacity(1).overflow(overflow));
        let job = note.job(1).beyond_limits().submit().unwrap();
        note.job(2).priority(High).beyond_limits().send().unwrap();
        assert_eq!(note.queued(), 3, "{overflow:?}");
        if overflow == Overflow::Reject {
            assert!(note.send(3).unwrap_err().is_full(), "it counts");
        }
        assert_eq!(noted(held, &log), [2, 0, 1]);
        assert_eq!(value(job), 1);
        assert!(matches!(note.job(4).beyond_limits().send(), Err(SubmitError::Closed(4))));
    }
}

/// One that is more urgent was cancelled: its place is free, and what is there goes for the new one.
#[test]
fn what_was_cancelled_goes_before_what_is_evicted() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let remote = engine.consumer::<u32, u32>("remote").unwrap();
    remote.set_limits(Limits::new().capacity(1).overflow(Overflow::EvictNewest));
    let evicted = [remote.submit(0).unwrap(), remote.submit(1).unwrap()];
    let urgent = remote.job(2).priority(High).beyond_limits().submit().unwrap();
    assert!(urgent.cancel());
    remote.send(3).unwrap();
    let [first, second] = evicted;
    assert_eq!(ends(vec![first, second, urgent]), [Err("evicted"), Err("evicted"), Err("cancelled")]);
    let set = engine.consumer_set();
    set.add(&remote);
    assert_eq!(set.try_next().map(|pulled| *pulled.arg()), Some(3));
}

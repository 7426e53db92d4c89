//! How does an engine end: drained, with a deadline, discarding, dropped, from inside, and against submits?

mod common;

use common::{Gate, Held, Live, PATIENCE, Tally, engine, outcome, value, watchdog};
use layshaft::{Engine, JobError, JobHandle, Shutdown};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

#[test]
fn behaviour_18_at_40_drain_runs_what_is_queued() {
    let _watchdog = watchdog("the shutdown");
    let held = Held::new(2);
    let done = Tally::new();
    let count = done.clone();
    let note = held.engine.function("note", move |n: u64| count.add(n)).unwrap();
    note.send_batch(0..5_000).unwrap();
    let handles: Vec<_> = (0..100).map(|n| note.submit(n).unwrap()).collect();
    let drained = held.release().shutdown(Shutdown::Drain);
    assert!(drained.complete && drained.running.is_empty());
    assert_eq!(drained.discarded, 0);
    assert_eq!((done.count(), done.sum()), (5_100, 4_999 * 2_500 + 4_950));
    assert!(handles.iter().all(|handle| handle.is_finished()));
    handles.into_iter().for_each(value);
}

#[test]
fn invariant_5_drain_waits_for_running_bodies() {
    let _watchdog = watchdog("the shutdown");
    let engine = engine(1);
    let (gate, done) = (Gate::new(), Tally::new());
    let (pass, count) = (gate.clone(), done.clone());
    let slow = engine.function("slow", move |()| {
        pass.pass();
        count.add(1);
    });
    slow.unwrap().send(()).unwrap();
    gate.wait_entered(1);
    let closed = engine.function("probe", |()| {}).unwrap();
    let stopper = thread::spawn(move || engine.shutdown(Shutdown::Drain).complete);
    while !closed.is_closed() {
        thread::yield_now();
    }
    assert!(!stopper.is_finished());
    gate.open();
    assert!(stopper.join().unwrap());
    assert_eq!(done.count(), 1);
}

#[test]
fn shutdown_again_changes_nothing() {
    let _watchdog = watchdog("the shutdowns");
    let engine = engine(2);
    let f = engine.function("f", |n: u64| n).unwrap();
    f.send(1).unwrap();
    let clone = engine.clone();
    for mode in [Shutdown::Drain, Shutdown::Drain, Shutdown::Discard, Shutdown::DrainFor(Duration::ZERO)] {
        let drained = clone.shutdown(mode);
        assert!(drained.complete);
        assert_eq!(drained.discarded, 0);
    }
    assert_eq!(engine.stats().total().jobs, 1);
}

#[test]
fn several_threads_shut_down_at_once() {
    let _watchdog = watchdog("the shutdowns");
    for _ in 0..20 {
        let engine = engine(2);
        let done = Tally::new();
        let count = done.clone();
        let note = engine.function("note", move |n: u64| count.add(n)).unwrap();
        note.send_batch(0..500).unwrap();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert!(engine.shutdown(Shutdown::Drain).complete));
            }
        });
        assert_eq!(done.count(), 500);
    }
}

#[test]
fn discard_drops_what_has_not_started() {
    let _watchdog = watchdog("the shutdown");
    let held = Held::new(1);
    let (live, done) = (Live::default(), Tally::new());
    let count = done.clone();
    let note = held.engine.function("note", move |(n, _token)| count.add(n)).unwrap();
    let handles: Vec<_> = (0..300).map(|n| note.submit((n, live.token())).unwrap()).collect();
    note.send_batch((0..700).map(|n| (n, live.token()))).unwrap();
    assert!(handles[0].cancel());
    let engine = held.engine.clone();
    let stopper = thread::spawn(move || engine.shutdown(Shutdown::Discard));
    for handle in handles {
        assert!(matches!(outcome(handle), Err(JobError::Cancelled)), "before the running body ends");
    }
    held.release();
    let drained = stopper.join().unwrap();
    assert_eq!(drained.discarded, 999, "the cancelled one was not queued any more");
    assert_eq!((done.count(), note.queued()), (0, 0));
    live.assert_balanced();
}

/// Discard against workers that are busy: run or cancelled, never both, never neither.
#[test]
fn discard_in_a_race() {
    let _watchdog = watchdog("the shutdowns");
    let mut ran_in_all = 0;
    for round in 0..60 {
        let engine = engine(2);
        let (live, done) = (Live::default(), Tally::new());
        let count = done.clone();
        let note = engine.function("note", move |(n, _token)| count.add(n)).unwrap();
        let handles: Vec<_> = (0..400).map(|n| note.submit((n, live.token())).unwrap()).collect();
        note.send_batch((0..400).map(|n| (n, live.token()))).unwrap();
        for _ in 0..round * 200 {
            std::hint::spin_loop();
        }
        let drained = engine.shutdown(Shutdown::Discard);
        assert!(engine.shutdown(Shutdown::Drain).complete, "bodies that ran have ended");
        let cancelled = handles.into_iter().map(outcome).filter(Result::is_err).count();
        assert_eq!(done.count() + drained.discarded as u64, 800);
        assert!(cancelled <= drained.discarded);
        ran_in_all += done.count();
        live.assert_balanced();
    }
    println!("{ran_in_all} of {} jobs ran", 60 * 800);
}

/// A body that does not return is named; what waited behind it is cancelled; later it may still end.
#[test]
fn the_deadline_names_what_still_runs() {
    let _watchdog = watchdog("the shutdown");
    let engine = engine(1);
    let gate = Gate::new();
    let pass = gate.clone();
    let stuck = engine.function("stuck in a gate", move |n: u64| {
        pass.pass();
        n
    });
    let stuck = stuck.unwrap();
    let live = Live::default();
    let behind = engine.function("behind", |_token| {}).unwrap();
    let running = stuck.submit(8).unwrap();
    gate.wait_entered(1);
    let queued: Vec<_> = (0..50).map(|_| behind.submit(live.token()).unwrap()).collect();
    let drained = engine.shutdown(Shutdown::DrainFor(Duration::from_millis(20)));
    assert!(!drained.complete);
    assert_eq!(drained.running, ["stuck in a gate"]);
    assert_eq!(drained.discarded, 50);
    for handle in queued {
        assert!(matches!(outcome(handle), Err(JobError::Cancelled)));
    }
    live.assert_balanced();
    gate.open();
    assert_eq!(value(running), 8, "its handle still works");
    let drained = engine.shutdown(Shutdown::Drain);
    assert!(drained.complete && drained.running.is_empty());
}

#[test]
fn a_deadline_that_is_not_needed() {
    let _watchdog = watchdog("the shutdown");
    let engine = engine(2);
    let done = Tally::new();
    let count = done.clone();
    let note = engine.function("note", move |n: u64| count.add(n)).unwrap();
    note.send_batch(0..1_000).unwrap();
    let drained = engine.shutdown(Shutdown::DrainFor(PATIENCE));
    assert!(drained.complete);
    assert_eq!((done.count(), drained.discarded), (1_000, 0));
}

#[test]
fn dropping_the_last_engine_drains() {
    let _watchdog = watchdog("the drop");
    let held = Held::new(2);
    let (live, done) = (Live::default(), Tally::new());
    let count = done.clone();
    let note = held.engine.function("note", move |(n, _token)| count.add(n)).unwrap();
    note.send_batch((0..2_000).map(|n| (n, live.token()))).unwrap();
    drop(held.release());
    assert_eq!((done.count(), done.sum()), (2_000, 1_999 * 1_000));
    assert!(note.is_closed());
    live.assert_balanced();
}

/// The builder's deadline bounds the drop, with a body that does not return.
#[test]
fn dropping_the_last_engine_gives_up_after_the_deadline() {
    let _watchdog = watchdog("the drop");
    let engine = Engine::builder().workers(1).drain_deadline(Duration::from_millis(20)).start().unwrap();
    let gate = Gate::new();
    let pass = gate.clone();
    let stuck = engine.function("stuck", move |n: u64| {
        pass.pass();
        n
    });
    let stuck = stuck.unwrap();
    let (running, behind) = (stuck.submit(1).unwrap(), stuck.submit(2).unwrap());
    gate.wait_entered(1);
    drop(engine);
    assert!(matches!(outcome(behind), Err(JobError::Cancelled)));
    gate.open();
    assert_eq!(value(running), 1);
}

/// Reports when the last reference to it goes.
struct Ended(mpsc::Sender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// The last engine is dropped by one of its own jobs: the drop does not wait, and what is queued still runs.
#[test]
fn dropping_the_last_engine_inside_its_own_job() {
    let _watchdog = watchdog("the end of the jobs");
    for workers in [1, 2] {
        let engine = engine(workers);
        let (ended, has_ended) = mpsc::channel();
        let ended = Ended(ended);
        let (gate, done) = (Gate::new(), Tally::new());
        let (pass, count) = (gate.clone(), done.clone());
        let last = engine.function("last", move |engine: Engine| {
            pass.pass();
            drop(engine);
            let _ended = &ended;
            7
        });
        let last = last.unwrap();
        let note = engine.function("note", move |n: u64| count.add(n)).unwrap();
        let inside = last.submit(engine.clone()).unwrap();
        gate.wait_entered(1);
        note.send_batch(0..300).unwrap();
        let behind = note.submit(300).unwrap();
        drop(engine);
        gate.open();
        assert_eq!(value(inside), 7);
        value(behind);
        done.wait_for(301);
        assert!(note.is_closed());
        drop((last, note));
        has_ended.recv_timeout(PATIENCE).expect("the engine goes away without anyone waiting for it");
    }
}

/// The same through `current()`: the outside drops what it thinks is the last one.
#[test]
fn a_job_keeps_its_engine_alive() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let gate = Gate::new();
    let pass = gate.clone();
    let late = engine.function("late", |n: u64| n + 1).unwrap();
    let keep = engine.function("keep", move |()| {
        let engine = layshaft::current().unwrap().engine();
        pass.pass();
        late.submit(engine.workers() as u64).unwrap()
    });
    let keep = keep.unwrap();
    let handle = keep.submit(()).unwrap();
    gate.wait_entered(1);
    drop(engine);
    gate.open();
    assert_eq!(value(value(handle)), 2);
}

/// A job that asks for the shutdown of its own engine cannot be waited for.
#[test]
fn shutdown_inside_a_job_returns() {
    let _watchdog = watchdog("the shutdown");
    for workers in [1, 2] {
        for drain in [true, false] {
            let engine = engine(workers);
            let stop = engine.function("stop", move |()| {
                let mode = if drain { Shutdown::Drain } else { Shutdown::Discard };
                layshaft::current().unwrap().engine().shutdown(mode)
            });
            let stop = stop.unwrap();
            let drained = value(stop.submit(()).unwrap());
            assert!(!drained.complete, "the job itself still ran");
            assert_eq!(drained.running, ["stop"]);
            assert!(stop.is_closed());
            assert!(engine.shutdown(Shutdown::Drain).complete);
        }
    }
}

/// Jobs that submit while the engine drains: accepted and run, or handed back.
#[test]
fn nested_submits_during_a_drain() {
    let _watchdog = watchdog("the shutdown");
    let held = Held::new(1);
    let (done, accepted) = (Tally::new(), Tally::new());
    let count = done.clone();
    let note = held.engine.function("note", move |n: u64| count.add(n)).unwrap();
    let (inner, ok) = (note.clone(), accepted.clone());
    let outer = held.engine.function("outer", move |n: u64| match inner.send(n) {
        Ok(()) => ok.add(n),
        Err(error) => assert_eq!(error.into_arg(), n),
    });
    let outer = outer.unwrap();
    let handles: Vec<_> = (0..300).map(|n| outer.submit(n).unwrap()).collect();
    let engine = held.engine.clone();
    let stopper = thread::spawn(move || engine.shutdown(Shutdown::Drain));
    while !note.is_closed() {
        thread::yield_now();
    }
    held.release();
    assert!(stopper.join().unwrap().complete);
    handles.into_iter().for_each(value);
    assert_eq!((done.count(), done.sum()), (accepted.count(), accepted.sum()));
}

/// Submits against the end of the engine: what was accepted has run when `shutdown` returns.
#[test]
fn behaviour_18_submits_in_a_race() {
    let _watchdog = watchdog("the shutdowns");
    let mut accepted_in_all = 0;
    for round in 0..100u32 {
        let engine = engine(2);
        let (live, done) = (Live::default(), Tally::new());
        let count = done.clone();
        let note = engine.function("note", move |(n, _token)| count.add(n)).unwrap();
        let gate = Gate::new();
        let accepted: u64 = thread::scope(|scope| {
            let submit = || {
                gate.pass();
                let mut accepted = 0;
                for n in 0..300 {
                    accepted += match n % 3 {
                        0 => u64::from(note.send((n, live.token())).is_ok()),
                        1 => u64::from(note.submit((n, live.token())).map(drop).is_ok()),
                        _ => match note.send_batch((0..4).map(|m| (m, live.token()))) {
                            Ok(all) => all as u64,
                            Err(error) => error.accepted() as u64,
                        },
                    }
                }
                accepted
            };
            let threads = [scope.spawn(submit), scope.spawn(submit)];
            gate.wait_entered(2);
            gate.open();
            for _ in 0..round * 50 {
                std::hint::spin_loop();
            }
            let mode = if round % 2 == 0 { Shutdown::Drain } else { Shutdown::Discard };
            let drained = engine.shutdown(mode);
            assert!(engine.shutdown(Shutdown::Drain).complete, "bodies that ran have ended");
            let ran = done.count();
            let accepted = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
            assert_eq!(done.count(), ran, "a job ran after the shutdown");
            assert_eq!(ran + drained.discarded as u64, accepted);
            accepted
        });
        drop((engine, note));
        live.assert_balanced();
        accepted_in_all += accepted;
    }
    println!("{accepted_in_all} of {} jobs were accepted", 100 * 2 * 600);
}

/// Jobs that sit in a consumer's queue when the engine is discarded are cancelled.
#[test]
fn discard_reaches_consumers() {
    let _watchdog = watchdog("the shutdown");
    let engine = engine(1);
    let live = Live::default();
    let remote = engine.consumer::<_, u64>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&remote);
    let pulled = remote.submit(live.token()).unwrap();
    let (token, completer) = set.try_next().unwrap().take();
    let handles: Vec<_> = (0..20).map(|_| remote.submit(live.token()).unwrap()).collect();
    assert_eq!(engine.shutdown(Shutdown::Discard).discarded, 20);
    for handle in handles {
        assert!(matches!(outcome(handle), Err(JobError::Cancelled)));
    }
    assert!(set.next().is_none());
    completer.complete(token.number() as u64);
    assert_eq!(value(pulled), 1, "a pulled job is in other hands");
    drop((token, engine, remote, set));
    live.assert_balanced();
}

/// A job that is put back after the discard has nowhere to go: it ends, too.
#[test]
fn put_back_after_a_discard() {
    let _watchdog = watchdog("the end of the job");
    let engine = engine(1);
    let remote = engine.consumer::<u64, u64>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&remote);
    let handle = remote.submit(1).unwrap();
    let pulled = set.try_next().unwrap();
    engine.shutdown(Shutdown::Discard);
    pulled.put_back();
    assert!(matches!(outcome(handle), Err(JobError::Cancelled)));
    assert_eq!((remote.queued(), engine.shutdown(Shutdown::Discard).discarded), (0, 1));
}

/// Submits race with a discard: whatever was accepted ends.
#[test]
fn what_a_discard_accepted_ends() {
    let _watchdog = watchdog("the end of the accepted jobs");
    for round in 0..200 {
        let engine = engine(2);
        let note = engine.function("note", |n: [u64; 100]| n[0]).unwrap();
        let remote = engine.consumer::<u64, u64>("remote").unwrap();
        let handles: Vec<JobHandle<u64>> = thread::scope(|threads| {
            let submitters = [(); 3].map(|()| {
                threads.spawn(|| {
                    let mut handles = Vec::new();
                    while let (Ok(here), Ok(there)) = (note.submit([1; 100]), remote.submit(1)) {
                        handles.extend([here, there]);
                    }
                    handles
                })
            });
            (0..round * 20).for_each(|_| std::hint::spin_loop());
            assert!(engine.shutdown(Shutdown::Discard).complete);
            submitters.into_iter().flat_map(|submitter| submitter.join().unwrap()).collect()
        });
        for handle in handles {
            assert!(matches!(outcome(handle), Ok(1) | Err(JobError::Cancelled)));
        }
    }
}

/// The last handle is in a thread-local of a worker, dropped when that thread ends.
#[test]
fn the_last_engine_in_a_thread_local_of_its_worker() {
    thread_local! {
        static KEPT: std::cell::RefCell<Option<(layshaft::Engine, mpsc::Sender<()>)>> = const { std::cell::RefCell::new(None) };
    }
    let _watchdog = watchdog("the end of the worker");
    let (engine, (gone, end)) = (engine(1), mpsc::channel());
    let keep = engine.function("keep", move |()| {
        let engine = layshaft::current().unwrap().engine();
        engine.shutdown(Shutdown::Drain);
        KEPT.with(|kept| *kept.borrow_mut() = Some((engine, gone.clone())));
    });
    let kept = keep.as_ref().unwrap().submit(()).unwrap();
    value(kept);
    drop((keep, engine));
    assert_eq!(end.recv(), Err(mpsc::RecvError), "the thread-local is dropped whole");
}

/// A discard reaches what waits for consumers, also when the workers have left before it looks there: it may have to wait for
/// others who look up names.
#[test]
fn a_discard_against_the_last_worker() {
    let _watchdog = watchdog("the discards");
    for round in 0..150 {
        let engine = engine(1);
        let remote = engine.consumer::<u32, u32>("remote").unwrap();
        let handle = remote.submit(1).unwrap();
        thread::scope(|threads| {
            let looks =
                [(); 4].map(|()| threads.spawn(|| while !remote.is_closed() || engine.stats().functions > 0 {}));
            assert!(engine.shutdown(Shutdown::Discard).complete);
            looks.map(|look| look.join().unwrap())
        });
        assert_eq!((handle.is_finished(), remote.queued()), (true, 0), "round {round}");
    }
}

/// What consumers have not finished is told: an end does not wait for them.
#[test]
fn what_is_left_for_consumers_is_told() {
    let _watchdog = watchdog("the end");
    for mode in [Shutdown::Drain, Shutdown::Discard] {
        let engine = engine(1);
        let [gone, busy] = ["gone", "busy"].map(|name| engine.consumer::<u64, u64>(name).unwrap());
        let _idle = engine.consumer::<u64, u64>("idle").unwrap();
        let set = engine.consumer_set();
        set.add(&busy);
        let handle = gone.submit(1).unwrap();
        busy.send_batch(0..3).unwrap();
        let pulled = set.try_next().unwrap();
        engine.remove("gone");
        let drained = engine.shutdown(mode);
        let is_drain = mode == Shutdown::Drain;
        assert!(drained.complete && drained.running.is_empty());
        assert_eq!(drained.discarded, if is_drain { 0 } else { 3 });
        let left: Vec<_> = drained.left.iter().map(|left| (&*left.function, left.queued, left.pulled)).collect();
        assert_eq!(left, if is_drain { vec![("busy", 2, 1), ("gone", 1, 0)] } else { vec![("busy", 0, 1)] });
        pulled.take().1.complete(0);
        drop((gone, set, engine));
        assert!(matches!(outcome(handle), Err(JobError::Cancelled)));
    }
}

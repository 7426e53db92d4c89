//! Do jobs with the same key run once, and does everybody who asked hear of the end?

mod common;

use common::{Gate, Held, Live, Tally, Token, engine, outcome, value, watchdog};
use layshaft::{Function, JobError, JobHandle, Limits, Overflow, Shutdown, WaitError};
use std::sync::Arc;
use std::time::Duration;

fn noting(held: &Held) -> (Function<u64, u64>, Tally) {
    let ran = Tally::new();
    let count = ran.clone();
    let note = held.engine.function("note", move |n| {
        count.add(n);
        n
    });
    (note.unwrap(), ran)
}

fn submit(function: &Function<u64, u64>, key: &str, n: u64) -> JobHandle<u64> {
    function.job(n).unique(key.as_bytes()).submit().unwrap()
}

#[test]
fn a_queued_job_is_joined() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let (note, ran) = noting(&held);
    let handles = [submit(&note, "a", 1), submit(&note, "a", 2), submit(&note, "b", 3), submit(&note, "a", 4)];
    note.job(5).unique(*b"b").send().unwrap();
    assert_eq!(note.queued(), 2);
    let engine = held.release();
    assert_eq!(handles.map(value), [1, 1, 3, 1], "the first one's argument");
    engine.shutdown(Shutdown::Drain);
    assert_eq!((ran.count(), ran.sum()), (2, 4));
}

/// Keys are the function's own.
#[test]
fn other_functions_have_other_keys() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let (note, ran) = noting(&held);
    let other = held.engine.function("other", |n: u64| n).unwrap();
    let handles = [submit(&note, "a", 1), submit(&other, "a", 2)];
    held.release();
    assert_eq!(handles.map(value), [1, 2]);
    assert_eq!(ran.count(), 1);
}

#[test]
fn behaviour_02_a_running_job_is_joined() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let (gate, live) = (Gate::new(), Live::default());
    let pass = gate.clone();
    let slow = engine.function("slow", move |token: Token| {
        pass.pass();
        Arc::new(token)
    });
    let slow = slow.unwrap();
    let first = slow.job(live.token()).unique(*b"key").submit().unwrap();
    gate.wait_entered(1);
    let second = slow.job(live.token()).unique(*b"key").submit().unwrap();
    assert_eq!(live.dropped(), 1, "its own argument is not needed");
    assert!(!second.cancel(), "it runs");
    gate.open();
    assert_eq!((value(first).number(), value(second).number()), (1, 1));
    let third = slow.job(live.token()).unique(*b"key").submit().unwrap();
    assert_eq!(value(third).number(), 3, "the key is free again");
    drop((engine, slow));
    live.assert_balanced();
}

#[test]
fn the_argument_as_the_key() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let ran = Tally::new();
    let count = ran.clone();
    let length = held.engine.function("length", move |text: String| {
        count.add(1);
        text.len()
    });
    let length = length.unwrap();
    let submit = |text: &str| length.job(text.to_owned()).unique_argument().submit().unwrap();
    let handles = [submit("one"), submit("three"), submit("one"), submit("")];
    held.release();
    assert_eq!(handles.map(value), [3, 5, 3, 0]);
    assert_eq!(ran.count(), 3);
}

/// Who cancels speaks for itself; when all have, the job does not run and the key is free at once.
#[test]
fn cancelling() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let (note, ran) = noting(&held);
    let (first, second) = (submit(&note, "a", 1), submit(&note, "a", 2));
    let alone = submit(&note, "b", 4);
    assert!(first.cancel() && alone.cancel());
    assert_eq!(note.queued(), 1);
    let fresh = submit(&note, "b", 8);
    assert_eq!(note.queued(), 2);
    let engine = held.release();
    assert!(matches!(outcome(first), Err(JobError::Cancelled)));
    assert!(matches!(outcome(alone), Err(JobError::Cancelled)));
    assert_eq!((value(second), value(fresh)), (1, 8));
    engine.shutdown(Shutdown::Drain);
    assert_eq!((ran.count(), note.queued()), (2, 0));
}

/// Every way to end frees the key and reaches everybody.
#[test]
fn ends_without_a_value() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let panics = held.engine.function("panics", |_: u64| -> u64 { std::panic::panic_any("meant".to_owned()) }).unwrap();
    std::panic::set_hook(Box::new(|_| ()));
    let handles = [submit(&panics, "a", 1), submit(&panics, "a", 2)];
    let (note, _) = noting(&held);
    note.set_limits(Limits::new().capacity(1).overflow(Overflow::EvictNewest));
    let evicted = [submit(&note, "a", 1), submit(&note, "a", 2)];
    let kept = submit(&note, "b", 3);
    for handle in evicted {
        assert!(matches!(outcome(handle), Err(JobError::Evicted)));
    }
    note.set_limits(Limits::new());
    let late = || note.job(7).unique(*b"late").deadline(Duration::from_millis(20)).submit().unwrap();
    let late = [late(), late()];
    for handle in late {
        assert!(matches!(outcome(handle), Err(JobError::TimedOut)));
    }
    let again = [submit(&note, "a", 5), submit(&note, "late", 6)];
    let engine = held.release();
    for handle in handles {
        match outcome(handle) {
            Err(JobError::Panicked(panic)) => assert_eq!(panic.message(), "meant"),
            end => panic!("{end:?}"),
        }
    }
    assert_eq!((value(kept), again.map(value)), (3, [5, 6]));
    drop(engine);
}

/// Joining needs no room.
#[test]
fn a_full_queue_is_joined() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let (note, ran) = noting(&held);
    note.set_limits(Limits::new().capacity(1));
    let handles = [submit(&note, "a", 1), submit(&note, "a", 2)];
    assert!(note.job(3).unique(*b"b").submit().unwrap_err().is_full());
    held.release();
    assert_eq!(handles.map(value), [1, 1]);
    assert_eq!(ran.count(), 1);
}

/// A result whose clone panics is that handle's misfortune.
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
    let held = Held::new(1);
    let single = held.engine.function("single", Single).unwrap();
    let handles = [0, 1].map(|n| single.job(n).unique(*b"key").submit().unwrap());
    held.release();
    let [first, second] = handles.map(outcome);
    assert_eq!(first.unwrap().0, 0);
    assert!(matches!(second, Err(JobError::Panicked(_))));
}

/// Jobs whose handles are all gone are dropped if the function says so; one that somebody sent is not.
#[test]
fn behaviour_03_abandoned_jobs() {
    let _watchdog = watchdog("the end of the jobs");
    for drops in [false, true] {
        let held = Held::new(1);
        let (note, ran) = noting(&held);
        note.set_limits(Limits::new().drop_abandoned(drops));
        drop((note.submit(1).unwrap(), submit(&note, "gone", 2)));
        drop((submit(&note, "sent", 4), submit(&note, "kept", 8)));
        note.job(0).unique(*b"sent").send().unwrap();
        note.send(16).unwrap();
        let kept = submit(&note, "kept", 0);
        held.release().shutdown(Shutdown::Drain);
        assert_eq!(value(kept), 8);
        assert_eq!((ran.count(), ran.sum()), if drops { (3, 28) } else { (5, 31) });
        assert_eq!(note.queued(), 0);
    }
}

/// A consumer's job is joined while it is out; whoever pulled it learns when all have cancelled.
#[test]
fn a_pulled_job_is_joined() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let remote = engine.consumer::<u64, u64>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&remote);
    let first = submit(&remote, "key", 1);
    let pulled = set.try_next().unwrap();
    let second = submit(&remote, "key", 2);
    assert!(set.try_next().is_none());
    pulled.put_back();
    let third = submit(&remote, "key", 3);
    let (arg, completer) = set.try_next().unwrap().take();
    assert!(!first.cancel() && !second.cancel() && !completer.is_cancelled());
    assert!(!third.cancel() && completer.is_cancelled());
    completer.complete(arg + 10);
    assert_eq!([first, second, third].map(value), [11; 3]);
    let (lost, also) = (submit(&remote, "key", 4), submit(&remote, "key", 5));
    drop(set.try_next().unwrap());
    assert!([lost, also].into_iter().all(|handle| matches!(outcome(handle), Err(JobError::Lost))));
}

/// Submits with few keys from several threads: each handle hears the value of a job that ran with its key.
#[test]
fn stress() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(3);
    let ran = Tally::new();
    let count = ran.clone();
    let echo = engine.function("echo", move |(key, _n): (u8, u64)| {
        count.add(1);
        u64::from(key)
    });
    let echo = echo.unwrap();
    let heard: u64 = std::thread::scope(|threads| {
        let submitters = [0, 1, 2].map(|thread| {
            let echo = &echo;
            threads.spawn(move || {
                let mut heard = 0;
                for n in 0..3_000_u64 {
                    let key = (n % 7) as u8;
                    let handle = echo.job((key, n * 3 + thread)).unique([key]).submit().unwrap();
                    if n % 4 == 0 && handle.cancel() {
                        assert!(matches!(outcome(handle), Err(JobError::Cancelled)));
                        continue;
                    }
                    assert_eq!(value(handle), u64::from(key));
                    heard += 1;
                }
                heard
            })
        });
        submitters.into_iter().map(|submitter| submitter.join().unwrap()).sum()
    });
    assert!(engine.shutdown(Shutdown::Drain).complete);
    println!("{heard} heard of {} runs", ran.count());
    assert!(ran.count() <= 9_000 && echo.queued() == 0);
}

/// A granted cancel is what its handle reports, also when the job's time is up or room is needed before it is met.
#[test]
fn a_granted_cancel_stays() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let (note, ran) = noting(&held);
    let late = || note.job(1).unique(*b"late").deadline(Duration::from_millis(20)).submit().unwrap();
    let (gone, kept) = (late(), late());
    assert!(gone.cancel());
    assert!(matches!(outcome(kept), Err(JobError::TimedOut)));
    assert!(matches!(outcome(gone), Err(JobError::Cancelled)));
    note.set_limits(Limits::new().capacity(1).overflow(Overflow::EvictOldest));
    let (gone, kept) = (submit(&note, "room", 2), submit(&note, "room", 4));
    assert!(gone.cancel());
    note.send(8).unwrap();
    assert!(matches!(outcome(kept), Err(JobError::Evicted)));
    assert!(matches!(outcome(gone), Err(JobError::Cancelled)));
    held.release().shutdown(Shutdown::Drain);
    assert_eq!(ran.sum(), 8);
}

/// Whoever asked in vain to cancel a job that others want learns that it is cancelled when it is put back, or lost and run again.
#[test]
fn a_wish_is_granted_when_the_job_comes_back() {
    let _watchdog = watchdog("the end of the jobs");
    for lost in [false, true] {
        let engine = engine(1);
        let remote = engine.consumer::<u64, u64>("remote").unwrap();
        remote.set_retry(layshaft::Retry::attempts(2));
        let set = engine.consumer_set();
        set.add(&remote);
        let (first, second) = (submit(&remote, "key", 1), submit(&remote, "key", 2));
        let pulled = set.try_next().unwrap();
        assert!(!first.cancel());
        if lost {
            drop(pulled)
        } else {
            pulled.put_back()
        }
        assert!(first.is_finished() && !second.is_finished());
        assert!(matches!(outcome(first), Err(JobError::Cancelled)));
        assert!(second.cancel());
        assert_eq!(remote.queued(), 0);
        assert!(set.try_next().is_none());
    }
}

/// A job that joins itself, or is given its own handle, is not to wait for itself.
#[test]
fn a_job_does_not_wait_for_itself() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let own = Arc::new(std::sync::OnceLock::<Function<u64, bool>>::new());
    let inner = Arc::clone(&own);
    let selfish = engine.function("selfish", move |n| {
        let own = inner.get().unwrap();
        let itself = own.job(n).unique(*b"key").submit().unwrap();
        itself.wait().is_err_and(|error| matches!(error, WaitError::WouldNeverEnd(_)))
    });
    own.set(selfish.unwrap()).ok().unwrap();
    let selfish = own.get().unwrap();
    assert!(value(selfish.job(1).unique(*b"key").submit().unwrap()));
    let (give, take) = std::sync::mpsc::channel::<JobHandle<bool>>();
    let take = std::sync::Mutex::new(take);
    let timed = engine.function("timed", move |()| {
        let itself = take.lock().unwrap().recv().unwrap();
        itself.wait().is_err_and(|error| matches!(error, WaitError::WouldNeverEnd(_)))
    });
    let (told, heard) = std::sync::mpsc::channel();
    let tell = move |update: &layshaft::Update| told.send(update.clone()).unwrap();
    let handle = timed.unwrap().job(()).timeout(Duration::from_secs(3600)).on_update(tell).submit().unwrap();
    give.send(handle).unwrap();
    assert!(heard.recv().is_err(), "it has ended, and nobody listens any more");
}

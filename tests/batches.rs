//! What happens with many jobs in one call: none, ten million, and iterators that misbehave?

mod common;

use common::{Gate, Held, Live, Tally, engine, outcome, value, watchdog, watchdog_for};
use layshaft::{JobError, Shutdown, WaitError};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[test]
fn none() {
    let _watchdog = watchdog("the end of the calls");
    let engine = engine(1);
    let double = engine.function("double", |n: u64| n * 2).unwrap();
    assert_eq!(double.send_batch([]).unwrap(), 0);
    let batch = double.submit_batch(Vec::new()).unwrap();
    assert!(batch.is_empty());
    assert_eq!(batch.len(), 0);
    assert!(batch.wait().is_empty());
    assert_eq!(double.queued(), 0);
}

#[test]
fn one() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let done = Tally::new();
    let count = done.clone();
    let note = engine.function("note", move |n: u64| count.add(n)).unwrap();
    assert_eq!(note.send_batch([5]).unwrap(), 1);
    assert_eq!(note.submit_batch([6]).unwrap().wait().len(), 1);
    done.wait_for(2);
    assert_eq!(done.sum(), 11);
}

#[test]
fn ten_million() {
    const JOBS: u64 = 10_000_000;
    let _watchdog = watchdog_for("the end of ten million jobs", Duration::from_secs(300));
    let engine = engine(2);
    let sums = Arc::new([const { AtomicU64::new(0) }; 2]);
    let add = sums.clone();
    let body = move |n: u64| {
        add[0].fetch_add(1, Ordering::Relaxed);
        add[1].fetch_add(n, Ordering::Relaxed);
    };
    let note = engine.function("note", body).unwrap();
    assert_eq!(note.send_batch(0..JOBS).unwrap(), JOBS as usize);
    assert!(engine.shutdown(Shutdown::Drain).complete);
    assert_eq!(sums[0].load(Ordering::SeqCst), JOBS);
    assert_eq!(sums[1].load(Ordering::SeqCst), JOBS * (JOBS - 1) / 2);
}

#[test]
fn results_come_in_the_order_of_the_arguments() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let double = engine.function("double", |n: u64| n * 2).unwrap();
    let batch = double.submit_batch(0..5_000).unwrap();
    assert_eq!(batch.len(), 5_000);
    let results: Vec<u64> = batch.wait().into_iter().map(Result::unwrap).collect();
    assert_eq!(results, (0..5_000).map(|n| n * 2).collect::<Vec<_>>());
    for (n, handle) in double.submit_batch(0..500).unwrap().into_iter().enumerate() {
        assert_eq!(value(handle), 2 * n as u64);
    }
}

#[test]
fn each_job_fails_for_itself() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let odd = engine.function("odd", |n: u64| if n % 2 == 0 { resume_unwind(Box::new("even")) } else { n });
    for (n, result) in odd.unwrap().submit_batch(0..200).unwrap().wait().into_iter().enumerate() {
        match result {
            Ok(value) => assert_eq!((value, n % 2), (n as u64, 1)),
            Err(WaitError::Job(JobError::Panicked(panic))) => assert_eq!((panic.message(), n % 2), ("even", 0)),
            Err(error) => panic!("job {n}: {error}"),
        }
    }
}

/// Every argument that the iterator gave is a job; the panic goes on to the caller.
#[test]
fn an_iterator_that_panics() {
    let _watchdog = watchdog("the end of the jobs");
    for at in [0, 1, 63, 64, 1_000] {
        let engine = engine(1);
        let (live, done) = (Live::default(), Tally::new());
        let count = done.clone();
        let note = engine.function("note", move |(n, _token)| count.add(n)).unwrap();
        let broken = |live: Live| {
            (0..).map(move |n| if n == at { resume_unwind(Box::new("iterator")) } else { (n, live.token()) })
        };
        let sent = catch_unwind(AssertUnwindSafe(|| note.send_batch(broken(live.clone()))));
        assert_eq!(*sent.unwrap_err().downcast::<&str>().unwrap(), "iterator");
        let submitted = catch_unwind(AssertUnwindSafe(|| note.submit_batch(broken(live.clone())).map(drop)));
        assert_eq!(*submitted.unwrap_err().downcast::<&str>().unwrap(), "iterator");
        note.send((7, live.token())).unwrap();
        done.wait_for(2 * at + 1);
        drop((engine, note));
        assert_eq!((done.count(), done.sum()), (2 * at + 1, at * at.saturating_sub(1) + 7), "at {at}");
        live.assert_balanced();
    }
}

#[test]
fn a_size_hint_that_lies() {
    struct Liar(u64, usize);
    impl Iterator for Liar {
        type Item = u64;
        fn next(&mut self) -> Option<u64> {
            self.0 = self.0.checked_sub(1)?;
            Some(self.0)
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (self.1, Some(self.1))
        }
    }
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let double = engine.function("double", |n: u64| n * 2).unwrap();
    for (real, told) in [(300, 0), (300, 1), (3, 1_000), (0, 64)] {
        assert_eq!(double.send_batch(Liar(real, told)).unwrap(), real as usize);
        let batch = double.submit_batch(Liar(real, told)).unwrap();
        assert_eq!(batch.len(), real as usize);
        assert_eq!(batch.wait().into_iter().map(Result::unwrap).sum::<u64>(), real * real.saturating_sub(1));
    }
}

/// The iterator itself uses the function that it feeds.
#[test]
fn an_iterator_that_sends() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let done = Tally::new();
    let count = done.clone();
    let note = engine.function("note", move |n: u64| count.add(n)).unwrap();
    let both = (0..300).inspect(|n| note.send(1_000 + n).unwrap());
    assert_eq!(note.send_batch(both).unwrap(), 300);
    done.wait_for(600);
    assert_eq!(done.sum(), 300 * 1_000 + 2 * (299 * 150));
}

/// The iterator waits for a job that it was itself given for: the batch must not hold jobs back for ever.
#[test]
fn an_iterator_that_waits_for_another_function() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let double = engine.function("double", |n: u64| n * 2).unwrap();
    let other = engine.function("other", |n: u64| n + 1).unwrap();
    let batch = double.submit_batch((0..100).map(|n| other.call(n).unwrap())).unwrap();
    let sum: u64 = batch.wait().into_iter().map(Result::unwrap).sum();
    assert_eq!(sum, 2 * 5_050);
}

#[test]
fn a_closed_function_takes_nothing() {
    let _watchdog = watchdog("the end of the calls");
    let engine = engine(1);
    let double = engine.function("double", |n: u64| n * 2).unwrap();
    engine.remove("double");
    let error = double.send_batch(0..10).unwrap_err();
    assert_eq!(error.accepted(), 0);
    assert_eq!(error.into_parts().1, (0..10).collect::<Vec<_>>());
    let error = double.submit_batch(0..10).err().unwrap();
    assert_eq!(error.accepted(), 0);
    let (made, rest) = error.into_parts();
    assert!(made.is_empty());
    assert_eq!(rest, (0..10).collect::<Vec<_>>());
}

/// The function closes in the middle: each argument is accepted and runs, or comes back.
#[test]
fn a_function_that_closes_in_the_middle() {
    let _watchdog = watchdog("the end of the jobs");
    for at in [1, 40, 64, 500, 999] {
        let engine = engine(1);
        let done = Tally::new();
        let count = done.clone();
        let note = engine.function("note", move |n: u64| count.add(n)).unwrap();
        let closing = (0..1_000).inspect(|n| assert!(*n != at || engine.remove("note")));
        let (made, rest) = match note.submit_batch(closing) {
            Ok(batch) => (batch, Vec::new()),
            Err(error) => {
                let accepted = error.accepted();
                let (made, rest) = error.into_parts();
                assert_eq!(made.len(), accepted);
                (made, rest)
            }
        };
        let accepted = made.len() as u64;
        assert!(accepted <= at + 1 && !rest.is_empty(), "{accepted} accepted, closed before number {at}");
        assert_eq!(rest, (accepted..1_000).collect::<Vec<_>>());
        assert!(made.wait().iter().all(Result::is_ok));
        assert_eq!((done.count(), done.sum()), (accepted, accepted * accepted.saturating_sub(1) / 2));
    }
}

#[test]
fn part_of_a_batch_is_cancelled() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(1);
    let double = held.engine.function("double", |n: u64| n * 2).unwrap();
    let handles: Vec<_> = double.submit_batch(0..1_000).unwrap().into_iter().collect();
    for handle in handles.iter().skip(3).step_by(2) {
        assert!(handle.cancel());
    }
    let _engine = held.release();
    for (n, handle) in handles.into_iter().enumerate() {
        match outcome(handle) {
            Ok(value) => assert_eq!((value, n < 3 || n % 2 == 0), (2 * n as u64, true)),
            Err(error) => assert!(matches!(error, JobError::Cancelled) && n % 2 == 1, "job {n}: {error}"),
        }
    }
}

#[test]
fn from_inside_a_job() {
    let _watchdog = watchdog("the end of the jobs");
    for workers in 1..=2 {
        let engine = engine(workers);
        let done = Tally::new();
        let count = done.clone();
        let note = engine.function("note", move |n: u64| count.add(n)).unwrap();
        let inner = note.clone();
        let outer = engine.function("outer", move |jobs: u64| {
            inner.send_batch(0..jobs).unwrap();
            inner.submit_batch(0..jobs).unwrap().wait().len() as u64
        });
        assert_eq!(value(outer.unwrap().submit(1_000).unwrap()), 1_000);
        done.wait_for(2_000);
        assert_eq!(done.sum(), 999 * 1_000);
    }
}

/// A batch from several threads at once into one function.
#[test]
fn from_many_threads() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let (done, gate) = (Tally::new(), Gate::new());
    let count = done.clone();
    let note = engine.function("note", move |n: u64| count.add(n)).unwrap();
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (note, gate) = (note.clone(), gate.clone());
            scope.spawn(move || {
                gate.pass();
                for chunk in 0..10 {
                    let start = (part * 10 + chunk) * 500;
                    assert_eq!(note.send_batch(start..start + 500).unwrap(), 500);
                }
            });
        }
        gate.wait_entered(4);
        gate.open();
    });
    done.wait_for(20_000);
    assert_eq!(done.sum(), 19_999 * 10_000);
}

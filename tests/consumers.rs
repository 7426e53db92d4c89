//! How do consumer sets pull, park, pass on their wakes, and end?

mod common;

use common::wake::CountingWaker;
use common::{Live, PATIENCE, Tally, engine, outcome, value, watchdog};
use layshaft::{ConsumerSet, Function, JobError, Limits, Retry, Shutdown};
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};
use std::thread;

fn is_ready(set: &ConsumerSet<u64, u64>, waker: &Waker) -> bool {
    set.poll_ready(&mut Context::from_waker(waker)).is_ready()
}

fn parked(set: &ConsumerSet<u64, u64>) -> std::sync::Arc<CountingWaker> {
    let (wakes, waker) = CountingWaker::pair();
    assert!(!is_ready(set, &waker), "a set without work parks");
    wakes
}

fn one_function(engine: &layshaft::Engine) -> (Function<u64, u64>, ConsumerSet<u64, u64>) {
    let function = engine.consumer("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&function);
    (function, set)
}

#[test]
fn a_set_pulls_over_several_functions() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let set = engine.consumer_set::<u64, u64>();
    let functions: Vec<_> = (0..5).map(|n| engine.consumer::<u64, u64>(&format!("f{n}")).unwrap()).collect();
    functions.iter().for_each(|function| set.add(function));
    let mut handles = Vec::new();
    for (at, function) in functions.iter().enumerate() {
        handles.extend((0..20).map(|n| function.submit(100 * at as u64 + n).unwrap()));
    }
    let mut next = [0; 5];
    while let Some(pulled) = set.try_next() {
        let at: usize = pulled.function()[1..].parse().unwrap();
        let (arg, completer) = pulled.take();
        assert_eq!(arg, 100 * at as u64 + next[at], "jobs of one function come in order");
        next[at] += 1;
        completer.complete(arg + 1);
    }
    assert_eq!(next, [20; 5]);
    for (n, handle) in handles.into_iter().enumerate() {
        assert_eq!(value(handle), (100 * (n / 20) + n % 20 + 1) as u64);
    }
}

/// No function of a set waits for ever while others have work.
#[test]
fn behaviour_06_functions_take_turns() {
    let engine = engine(1);
    let set = engine.consumer_set::<u64, u64>();
    let functions: Vec<_> = (0..4).map(|n| engine.consumer::<u64, u64>(&format!("f{n}")).unwrap()).collect();
    for function in &functions {
        set.add(function);
        function.send_batch(0..50).unwrap();
    }
    for turn in 0..50 {
        let names: std::collections::HashSet<String> =
            (0..4).map(|_| set.try_next().unwrap().function().to_owned()).collect();
        assert_eq!(names.len(), 4, "turn {turn}");
    }
    assert!(set.try_next().is_none());
}

#[test]
fn functions_join_and_leave_a_set() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let (first, set) = one_function(&engine);
    let second = engine.consumer::<u64, u64>("second").unwrap();
    second.send(2).unwrap();
    assert!(set.try_next().is_none(), "it is not in the set");
    set.add(&second);
    set.add(&second);
    assert_eq!(set.try_next().unwrap().take().0, 2);
    assert!(set.try_next().is_none());
    set.remove(&second);
    set.remove(&second);
    first.send(1).unwrap();
    second.send(3).unwrap();
    assert_eq!(set.try_next().unwrap().take().0, 1);
    assert!(set.try_next().is_none(), "it left the set");
    assert_eq!(second.queued(), 1);
}

/// A set that parked before a function with work joined it must learn of that work.
#[test]
fn a_function_with_work_joins_a_parked_set() {
    let _watchdog = watchdog("the wake");
    let engine = engine(1);
    let (_first, set) = one_function(&engine);
    let second = engine.consumer::<u64, u64>("second").unwrap();
    second.send(2).unwrap();
    let wakes = parked(&set);
    set.add(&second);
    wakes.wait_for(1);
    assert_eq!(set.try_next().unwrap().take().0, 2);
}

#[test]
fn put_back_goes_first_with_the_same_id() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let (function, set) = one_function(&engine);
    let handles: Vec<_> = (0..3).map(|n| function.submit(n).unwrap()).collect();
    let ids: Vec<_> = handles.iter().map(|handle| Some(handle.id())).collect();
    let first = set.try_next().unwrap();
    let second = set.try_next().unwrap();
    assert_eq!((first.id(), second.id(), function.queued()), (ids[0], ids[1], 1));
    second.put_back();
    first.put_back();
    assert_eq!(function.queued(), 3);
    for (n, id) in ids.iter().enumerate() {
        let pulled = set.try_next().unwrap();
        assert_eq!((*pulled.arg(), pulled.id()), (n as u64, *id));
        let (arg, completer) = pulled.take();
        completer.complete(arg * 10);
    }
    assert_eq!(handles.into_iter().map(value).collect::<Vec<_>>(), [0, 10, 20]);
    function.send(9).unwrap();
    assert_eq!(set.try_next().unwrap().id(), None, "a sent job has no id");
}

/// A job that was put back can be cancelled like any queued one.
#[test]
fn cancel_finds_queued_jobs_only() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let live = Live::default();
    let function = engine.consumer::<_, u64>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&function);
    let handles: Vec<_> = (0..4).map(|n: u64| function.submit((n, live.token())).unwrap()).collect();
    let (pulled, returned) = (set.try_next().unwrap(), set.try_next().unwrap());
    returned.put_back();
    assert!(handles[1].cancel(), "it is queued again");
    assert!(handles[2].cancel());
    assert_eq!(function.queued(), 1);
    assert_eq!(set.try_next().unwrap().take().0.0, 3, "cancelled jobs are passed over");
    assert!(set.try_next().is_none());
    let ((number, token), completer) = pulled.take();
    assert!(!completer.is_cancelled());
    assert!(!handles[0].cancel(), "it was pulled");
    assert!(completer.is_cancelled());
    completer.complete(number + 5);
    let ends: Vec<_> = handles.into_iter().map(outcome).collect();
    assert!(matches!(ends[..], [Ok(5), Err(JobError::Cancelled), Err(JobError::Cancelled), Err(JobError::Lost)]));
    drop((engine, function, set, token));
    live.assert_balanced();
}

#[test]
fn whatever_is_dropped_is_lost() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let (function, set) = one_function(&engine);
    let handles: Vec<_> = (0..3).map(|n| function.submit(n).unwrap()).collect();
    drop(set.try_next().unwrap());
    drop(set.try_next().unwrap().take());
    let (_, completer) = set.try_next().unwrap().take();
    completer.fail("the disk is full");
    let ends: Vec<_> = handles.into_iter().map(outcome).collect();
    assert!(matches!(&ends[..2], [Err(JobError::Lost), Err(JobError::Lost)]));
    assert!(matches!(&ends[2], Err(JobError::Failed(why)) if why == "the disk is full"));
}

/// Completing wakes the waiter, from any thread, and long after the engine has gone.
#[test]
fn a_completer_may_outlive_the_engine() {
    let _watchdog = watchdog("the end of the job");
    let engine = engine(1);
    let (function, set) = one_function(&engine);
    let (handle, lost) = (function.submit(4).unwrap(), function.submit(5).unwrap());
    let (arg, completer) = set.try_next().unwrap().take();
    let pulled = set.try_next().unwrap();
    assert!(engine.shutdown(Shutdown::DrainFor(std::time::Duration::ZERO)).running.is_empty());
    drop((engine, set, function));
    let completing = thread::spawn(move || completer.complete(arg * 2));
    assert_eq!(value(handle), 8);
    completing.join().unwrap();
    drop(pulled);
    assert!(matches!(outcome(lost), Err(JobError::Lost)));
}

#[test]
fn behaviour_01_one_job_wakes_one_set_the_most_recently_parked() {
    let _watchdog = watchdog("the wakes");
    let engine = engine(1);
    let function = engine.consumer::<u64, u64>("remote").unwrap();
    let sets: Vec<_> = (0..4).map(|_| engine.consumer_set()).collect();
    sets.iter().for_each(|set| set.add(&function));
    let wakes: Vec<_> = sets.iter().map(parked).collect();
    for jobs in 1..=4 {
        function.send(jobs).unwrap();
        wakes[4 - jobs as usize].wait_for(1);
        let counts: Vec<_> = wakes.iter().map(|wakes| wakes.wakes()).collect();
        assert_eq!(counts.iter().sum::<usize>(), jobs as usize, "after {jobs} jobs: {counts:?}");
    }
    for set in &sets {
        assert!(is_ready(set, Waker::noop()));
        assert!(set.try_next().is_some());
    }
}

/// Parking again makes a set the most recent one.
#[test]
fn parking_again_moves_a_set_to_the_front() {
    let _watchdog = watchdog("the wakes");
    let engine = engine(1);
    let (function, first) = one_function(&engine);
    let second = engine.consumer_set();
    second.add(&function);
    let old = parked(&first);
    let other = parked(&second);
    let new = parked(&first);
    function.send(1).unwrap();
    new.wait_for(1);
    assert_eq!((old.wakes(), other.wakes()), (0, 0));
    assert!(first.try_next().is_some());
}

#[test]
fn behaviour_01_a_dropped_set_passes_its_wake_on() {
    let _watchdog = watchdog("the wakes");
    let engine = engine(1);
    let (function, waiting) = one_function(&engine);
    let wakes = parked(&waiting);
    let going = engine.consumer_set();
    going.add(&function);
    let first_wakes = parked(&going);
    function.send(7).unwrap();
    first_wakes.wait_for(1);
    assert_eq!(wakes.wakes(), 0);
    drop(going);
    wakes.wait_for(1);
    assert_eq!(waiting.try_next().unwrap().take().0, 7);
}

/// A woken set that lets the function go has nothing to take, so it passes the wake on too.
#[test]
fn a_set_that_leaves_passes_its_wake_on() {
    let _watchdog = watchdog("the wakes");
    let engine = engine(1);
    let (function, waiting) = one_function(&engine);
    let wakes = parked(&waiting);
    let leaving = engine.consumer_set();
    leaving.add(&function);
    parked(&leaving);
    function.send(7).unwrap();
    leaving.remove(&function);
    wakes.wait_for(1);
    assert_eq!(waiting.try_next().unwrap().take().0, 7);
}

#[test]
fn a_put_back_job_wakes_a_set() {
    let _watchdog = watchdog("the wake");
    let engine = engine(1);
    let (function, set) = one_function(&engine);
    function.send(3).unwrap();
    let pulled = set.try_next().unwrap();
    let wakes = parked(&set);
    pulled.put_back();
    wakes.wait_for(1);
    assert!(set.try_next().is_some());
}

#[test]
fn next_blocks_until_there_is_a_job() {
    let _watchdog = watchdog("the jobs");
    let engine = engine(1);
    let (function, set) = one_function(&engine);
    let (tell, told) = mpsc::channel();
    let consumer = thread::spawn(move || {
        while let Some(pulled) = set.next() {
            tell.send(pulled.take().0).unwrap();
        }
    });
    for n in 0..200 {
        function.send(n).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), n);
    }
    function.send_batch(200..300).unwrap();
    for n in 200..300 {
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), n);
    }
    engine.remove("remote");
    consumer.join().unwrap();
}

#[test]
fn next_ends_when_every_function_is_closed_and_empty() {
    let _watchdog = watchdog("the end of next()");
    let engine = engine(1);
    let (function, set) = one_function(&engine);
    let second = engine.consumer::<u64, u64>("second").unwrap();
    set.add(&second);
    function.send_batch(0..3).unwrap();
    engine.remove("remote");
    assert!((0..3).all(|n| set.next().unwrap().take().0 == n), "queued jobs can still be pulled");
    let waiting = thread::spawn(move || set.next().is_none());
    engine.remove("second");
    assert!(waiting.join().unwrap());
}

#[test]
fn a_shutdown_ends_next() {
    let _watchdog = watchdog("the end of next()");
    for mode in [Shutdown::Drain, Shutdown::Discard, Shutdown::DrainFor(PATIENCE)] {
        let engine = engine(1);
        let (_function, set) = one_function(&engine);
        let waiting = thread::spawn(move || set.next().is_none());
        assert!(engine.shutdown(mode).complete);
        assert!(waiting.join().unwrap());
    }
}

/// A parked set learns that its functions closed, or it would never end.
#[test]
fn a_shutdown_wakes_parked_sets() {
    let _watchdog = watchdog("the wakes");
    let engine = engine(1);
    let (function, first) = one_function(&engine);
    let second = engine.consumer_set();
    second.add(&function);
    let wakes = [parked(&first), parked(&second)];
    engine.shutdown(Shutdown::Discard);
    wakes.iter().for_each(|wakes| wakes.wait_for(1));
    assert!(first.next().is_none() && second.next().is_none());
}

/// A closed function has a job that may not start yet: a set parks until it may, and until it is the end.
#[test]
fn a_closed_function_at_its_limit_parks_sets() {
    let _watchdog = watchdog("the wakes");
    let engine = engine(1);
    let (function, set) = one_function(&engine);
    function.set_limits(Limits::new().concurrency(1));
    function.send_batch(0..2).unwrap();
    let first = set.try_next().unwrap();
    engine.remove("remote");
    let wakes = parked(&set);
    drop(first);
    wakes.wait_for(1);
    let second = set.next().unwrap();
    let wakes = parked(&set);
    drop(second);
    wakes.wait_for(1);
    assert!(is_ready(&set, Waker::noop()) && set.next().is_none());
}

/// A job that was taken may come back to a closed function: sets wait for it, and see the end when it cannot any more.
#[test]
fn a_taken_job_keeps_sets_of_a_closed_function() {
    let _watchdog = watchdog("the wakes");
    let engine = engine(1);
    let (function, set) = one_function(&engine);
    let handle = function.submit(1).unwrap();
    let pulled = set.try_next().unwrap();
    engine.remove("remote");
    let wakes = parked(&set);
    pulled.put_back();
    wakes.wait_for(1);
    let (arg, completer) = {
        let pulled = set.try_next().expect("it was put back");
        let wakes = parked(&set);
        let taken = pulled.take();
        wakes.wait_for(1);
        taken
    };
    assert!(is_ready(&set, Waker::noop()) && set.next().is_none(), "it cannot be put back any more");
    completer.complete(arg + 1);
    assert_eq!(value(handle), 2);
}

/// A job that is lost to one consumer during a drain runs again with another one, which waits for that.
#[test]
fn a_job_lost_after_the_close_goes_to_a_set_that_waits() {
    let _watchdog = watchdog("the second attempt");
    for is_lost in [true, false] {
        let engine = engine(1);
        let (function, first) = one_function(&engine);
        function.set_retry(Retry::attempts(3));
        let handle = function.submit(1).unwrap();
        let pulled = first.try_next().unwrap();
        engine.shutdown(Shutdown::Drain);
        let second = engine.consumer_set();
        second.add(&function);
        let consumer = thread::spawn(move || {
            let run = |pulled: layshaft::Pulled<u64, u64>| {
                let (arg, completer) = pulled.take();
                completer.complete(arg + 1);
            };
            std::iter::from_fn(|| second.next()).map(run).count()
        });
        // Whether it has parked by then or looks later makes no difference.
        (0..1000).for_each(|_| thread::yield_now());
        let (arg, completer) = pulled.take();
        if is_lost {
            drop(completer)
        } else {
            completer.complete(arg + 1)
        }
        assert_eq!(value(handle), 2);
        assert_eq!(consumer.join().unwrap(), usize::from(is_lost));
    }
}

/// After a discard nothing comes back: sets need not wait for jobs that were taken.
#[test]
fn a_discard_ends_next_though_a_job_is_taken() {
    let _watchdog = watchdog("the end of next()");
    let engine = engine(1);
    let (function, set) = one_function(&engine);
    function.set_retry(Retry::attempts(3));
    let handle = function.submit(1).unwrap();
    let queued = function.submit(2).unwrap();
    let pulled = set.try_next().unwrap();
    engine.remove("remote");
    let waiting = engine.consumer_set();
    waiting.add(&function);
    queued.cancel();
    let waiting = thread::spawn(move || waiting.next().is_none());
    engine.shutdown(Shutdown::Discard);
    assert!(waiting.join().unwrap());
    drop(pulled);
    assert!(matches!(outcome(handle), Err(JobError::Cancelled | JobError::Lost)));
}

/// While a job waits for a consumer's job, another thread has its place.
#[test]
fn next_inside_a_job_keeps_no_worker() {
    let _watchdog = watchdog("the job behind the one that waits");
    let engine = engine(1);
    let (function, set) = one_function(&engine);
    let puller = engine
        .function("puller", move |()| {
            let (arg, completer) = set.next().unwrap().take();
            completer.complete(arg + 1);
        })
        .unwrap();
    let feeder = engine.function("feeder", move |arg: u64| function.submit(arg).unwrap()).unwrap();
    let pulled = puller.submit(()).unwrap();
    let fed = feeder.submit(7).unwrap();
    assert_eq!(value(value(fed)), 8);
    value(pulled);
}

/// The drop of an argument, a result or a waker uses the set that meets it.
#[test]
fn what_a_set_drops_may_use_it() {
    struct Uses(Option<Arc<ConsumerSet<Uses, u64>>>);
    impl Drop for Uses {
        fn drop(&mut self) {
            if let Some(set) = self.0.take() {
                assert!(set.try_next().is_none());
                assert!(set.poll_ready(&mut Context::from_waker(Waker::noop())).is_pending());
            }
        }
    }
    impl std::task::Wake for Uses {
        fn wake(self: Arc<Self>) {}
    }
    let _watchdog = watchdog("the drop");
    let engine = engine(1);
    let set = Arc::new(engine.consumer_set());
    for is_managed in [false, true] {
        let function = engine.consumer::<Uses, u64>(if is_managed { "managed" } else { "plain" }).unwrap();
        set.add(&function);
        let job = function.job(Uses(Some(Arc::clone(&set))));
        let job = if is_managed { job.timeout(PATIENCE) } else { job };
        assert!(job.submit().unwrap().cancel());
        assert!(set.try_next().is_none());
    }
    let waker = Waker::from(Arc::new(Uses(Some(Arc::clone(&set)))));
    assert!(set.poll_ready(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    assert!(set.poll_ready(&mut Context::from_waker(Waker::noop())).is_pending());
}

/// Several threads pull through their own sets until the end: every job comes once.
#[test]
fn many_sets_share_the_work() {
    const JOBS: u64 = 20_000;
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let functions: Vec<_> = (0..3).map(|n| engine.consumer::<u64, u64>(&format!("f{n}")).unwrap()).collect();
    let taken = Tally::new();
    thread::scope(|scope| {
        for n in 0..4 {
            let set = engine.consumer_set();
            functions.iter().for_each(|function| set.add(function));
            let taken = &taken;
            scope.spawn(move || {
                while let Some(pulled) = set.next() {
                    if n == 0 && *pulled.arg() % 5 == 0 && taken.count() < JOBS / 2 {
                        pulled.put_back();
                        continue;
                    }
                    let (arg, completer) = pulled.take();
                    taken.add(arg);
                    completer.complete(arg + 1);
                }
            });
        }
        let handles: Vec<_> = (0..JOBS).map(|n| functions[n as usize % 3].submit(n).unwrap()).collect();
        for (n, handle) in handles.into_iter().enumerate() {
            assert_eq!(value(handle), n as u64 + 1);
        }
        assert!(engine.shutdown(Shutdown::Drain).complete);
    });
    assert_eq!((taken.count(), taken.sum()), (JOBS, JOBS * (JOBS - 1) / 2));
}

/// Whoever asked to cancel a job that was out learns that it has started; should it come back, it does not run again.
#[test]
fn put_back_after_a_wish_to_cancel() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let (function, set) = one_function(&engine);
    let (handle, other) = (function.submit(1).unwrap(), function.submit(2).unwrap());
    let pulled = set.try_next().unwrap();
    assert!(!handle.cancel(), "it is out");
    assert!(!handle.cancel(), "it still is");
    pulled.put_back();
    assert!(handle.cancel(), "it has ended as cancelled");
    assert!(matches!(outcome(handle), Err(JobError::Cancelled)));
    assert_eq!(function.queued(), 1);
    assert_eq!(*set.try_next().unwrap().arg(), 2);
    drop(other);
}

/// The same against each other: one end a job, and the count of queued jobs is right afterwards.
#[test]
fn put_back_against_cancel() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let (function, set) = one_function(&engine);
    let mut cancelled = 0;
    for n in 0..2_000 {
        let handle = function.submit(n).unwrap();
        let pulled = set.try_next().unwrap();
        let granted = thread::scope(|threads| {
            let cancels = [(); 2].map(|()| threads.spawn(|| handle.cancel()));
            pulled.put_back();
            cancels.map(|cancel| cancel.join().unwrap())
        });
        match set.try_next() {
            Some(pulled) => pulled.take().1.complete(n),
            None => cancelled += 1,
        }
        let granted = granted.contains(&true);
        match outcome(handle) {
            Ok(value) => assert!(value == n && !granted),
            Err(error) => assert!(matches!(error, JobError::Cancelled)),
        }
        assert_eq!(function.queued(), 0, "round {n}");
    }
    println!("{cancelled} of 2000 jobs were cancelled");
}

/// A foreign waker that panics takes no wake-up from others, and harms no submitter.
#[test]
fn a_waker_that_panics() {
    struct Broken;
    impl std::task::Wake for Broken {
        fn wake(self: std::sync::Arc<Self>) {
            std::panic::resume_unwind(Box::new("waker"));
        }
    }
    let _watchdog = watchdog("the wake-up");
    let engine = engine(1);
    let (function, first) = one_function(&engine);
    let second = engine.consumer_set();
    second.add(&function);
    let counter = parked(&first);
    assert!(!is_ready(&second, &Waker::from(std::sync::Arc::new(Broken))));
    function.send_batch([1, 2]).unwrap();
    counter.wait_for(1);
    assert!(!is_ready(&second, &Waker::from(std::sync::Arc::new(Broken))) || second.try_next().is_some());
    engine.shutdown(layshaft::Shutdown::Drain);
}

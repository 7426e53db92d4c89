//! What happens with jobs that submit jobs, and wait for them?

mod common;

use common::{Gate, Held, PATIENCE, Tally, engine, value, watchdog};
use layshaft::{Engine, Function, JobHandle, Shutdown, WaitError};
use std::sync::{Arc, OnceLock};

type Recursive = Arc<OnceLock<Function<u64, u64>>>;

/// A function whose body can submit to the function itself.
fn recursive(
    engine: &Engine,
    name: &str,
    body: impl Fn(&Function<u64, u64>, u64) -> u64 + Send + Sync + 'static,
) -> Function<u64, u64> {
    let own: Recursive = Arc::default();
    let inside = own.clone();
    let function = engine.function(name, move |n| body(inside.get().unwrap(), n)).unwrap();
    assert!(own.set(function.clone()).is_ok());
    function
}

fn fibonacci(own: &Function<u64, u64>, n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let left = own.submit(n - 1).unwrap();
    let right = own.submit(n - 2).unwrap();
    right.wait().unwrap() + left.wait().unwrap()
}

#[test]
fn trees_of_waits() {
    let _watchdog = watchdog("the end of the tree");
    for workers in [1, 2, 4] {
        let engine = engine(workers);
        let fib = recursive(&engine, "fib", fibonacci);
        assert_eq!(value(fib.submit(16).unwrap()), 987, "with {workers} workers");
    }
}

/// Waits in the order of the submits: the awaited job is not the newest one.
#[test]
fn waits_oldest_first() {
    let _watchdog = watchdog("the end of the jobs");
    for workers in [1, 2] {
        let engine = engine(workers);
        let double = engine.function("double", |n: u64| n * 2).unwrap();
        let outer = engine.function("outer", move |jobs: u64| {
            let handles: Vec<_> = (0..jobs).map(|n| double.submit(n).unwrap()).collect();
            handles.into_iter().map(|handle| handle.wait().unwrap()).sum::<u64>()
        });
        assert_eq!(value(outer.unwrap().submit(200).unwrap()), 199 * 200, "with {workers} workers");
    }
}

#[test]
fn trees_without_waits() {
    let _watchdog = watchdog("the end of the tree");
    for workers in [1, 2] {
        let engine = engine(workers);
        let done = Tally::new();
        let count = done.clone();
        let tree = recursive(&engine, "tree", move |own, depth| {
            count.add(depth);
            if depth > 0 {
                own.send(depth - 1).unwrap();
                own.send(depth - 1).unwrap();
            }
            0
        });
        tree.send(13).unwrap();
        let jobs = (1 << 14) - 1;
        done.wait_for(jobs);
        assert!(engine.shutdown(Shutdown::Drain).complete);
        assert_eq!(done.count(), jobs);
        assert_eq!(done.sum(), (0..=13).map(|depth| depth << (13 - depth)).sum::<u64>());
    }
}

/// Each job submits the next one and does not wait.
#[test]
fn a_long_chain() {
    let _watchdog = watchdog("the end of the chain");
    let engine = engine(2);
    let done = Tally::new();
    let count = done.clone();
    let link = recursive(&engine, "link", move |own, left| {
        match left {
            0 => count.add(1),
            _ => own.send(left - 1).unwrap(),
        }
        left
    });
    link.send(50_000).unwrap();
    done.wait_for(1);
}

/// Each job submits the next one and waits for it: as deep as the stack of one worker must carry. Where nothing is optimised a
/// link takes some 7 KiB of it.
#[test]
fn a_deep_chain_of_waits() {
    let _watchdog = watchdog("the end of the chain");
    for workers in [1, 2] {
        let engine = Engine::builder().workers(workers).stack_size(4 << 20).start().unwrap();
        let link = recursive(&engine, "link", |own, left| match left {
            0 => 0,
            _ => own.submit(left - 1).unwrap().wait().unwrap() + 1,
        });
        assert_eq!(value(link.submit(300).unwrap()), 300, "with {workers} workers");
    }
}

/// What a job submits runs newest first on its own worker.
#[test]
fn newest_first_on_the_own_worker() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(1);
    let (tell, told) = std::sync::mpsc::channel();
    let note = engine.function("note", move |n: u64| tell.send(n).unwrap()).unwrap();
    let outer = engine.function("outer", move |jobs: u64| {
        for n in 0..jobs {
            note.send(n).unwrap();
        }
    });
    value(outer.unwrap().submit(20).unwrap());
    engine.shutdown(Shutdown::Drain);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), (0..20).rev().collect::<Vec<_>>());
}

/// Far more nested jobs than a deque is made for.
#[test]
fn a_hundred_thousand_from_one_job() {
    const JOBS: u64 = 100_000;
    let _watchdog = watchdog("the end of the jobs");
    for workers in [1, 2] {
        let engine = engine(workers);
        let done = Tally::new();
        let count = done.clone();
        let note = engine.function("note", move |n: u64| count.add(n)).unwrap();
        let outer = engine.function("outer", move |()| (0..JOBS).for_each(|n| note.send(n).unwrap())).unwrap();
        outer.send(()).unwrap();
        done.wait_for(JOBS);
        assert_eq!((done.count(), done.sum()), (JOBS, JOBS * (JOBS - 1) / 2), "with {workers} workers");
    }
}

/// The same with handles. One that lies beyond the deque may be refused to a single worker without a spare, but is never
/// lost.
#[test]
fn ten_thousand_waits_in_one_job() {
    let _watchdog = watchdog("the end of the jobs");
    for (workers, spares) in [(1, 0), (1, 1), (2, 0), (2, 2)] {
        let engine = Engine::builder().workers(workers).spare_workers(spares).start().unwrap();
        let double = engine.function("double", |n: u64| n * 2).unwrap();
        let outer = engine.function("outer", move |jobs: u64| {
            let handles: Vec<_> = (0..jobs).map(|n| double.submit(n).unwrap()).collect();
            let mut sum = 0;
            let mut refused: Vec<JobHandle<u64>> = Vec::new();
            for handle in handles {
                match handle.wait() {
                    Ok(value) => sum += value,
                    Err(WaitError::WouldNeverEnd(handle)) => refused.push(handle),
                    Err(error) => panic!("{error}"),
                }
            }
            (sum, refused)
        });
        let (mut sum, refused) = value(outer.unwrap().submit(10_000).unwrap());
        println!("with {workers} workers and {spares} spares, {} of 10,000 waits were refused", refused.len());
        assert!(spares == 0 || refused.is_empty());
        sum += refused.into_iter().map(value).sum::<u64>();
        assert_eq!(sum, 9_999 * 10_000);
    }
}

/// A job waits for a job that another thread submitted, which is still queued.
#[test]
fn a_job_waits_for_a_foreign_job() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::new(2);
    let double = held.engine.function("double", |n: u64| n * 2).unwrap();
    let wait = held.engine.function("wait", |handle: JobHandle<u64>| handle.wait().unwrap()).unwrap();
    let first = wait.submit(double.submit(4).unwrap()).unwrap();
    let later = double.submit(5).unwrap();
    let second = wait.submit(later).unwrap();
    let _engine = held.release();
    assert_eq!((value(first), value(second)), (8, 10));
}

/// The only worker waits for a job that is queued behind the waiting one, and there is no spare.
#[test]
fn the_only_worker_waits_for_a_job_behind_it() {
    let _watchdog = watchdog("the end of the jobs");
    let held = Held::of(Engine::builder().workers(1).spare_workers(0).start().unwrap());
    let (give, take) = std::sync::mpsc::channel::<JobHandle<u64>>();
    let take = std::sync::Mutex::new(take);
    let wait = held.engine.function("wait", move |()| take.lock().unwrap().recv().unwrap().wait()).unwrap();
    let double = held.engine.function("double", |n: u64| n * 2).unwrap();
    let waiting = wait.submit(()).unwrap();
    give.send(double.submit(4).unwrap()).unwrap();
    let _engine = held.release();
    match value(waiting) {
        Err(WaitError::WouldNeverEnd(handle)) => assert_eq!(value(handle), 8),
        other => panic!("not refused: {other:?}"),
    }
}

/// A wait with a limit runs the awaited job, too: that job must not wait for the one below it on the same stack.
#[test]
fn a_wait_with_a_limit_knows_its_stack() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let gate = Gate::new();
    let pass = gate.clone();
    let hold = engine.function("hold", move |()| pass.pass()).unwrap();
    let holder = hold.submit(()).unwrap();
    gate.wait_entered(1);
    let (give, take) = std::sync::mpsc::channel::<JobHandle<bool>>();
    let take = std::sync::Mutex::new(take);
    let inner = engine.function("inner", move |()| {
        let outer = take.lock().unwrap().recv().unwrap();
        matches!(outer.wait(), Err(WaitError::WouldNeverEnd(_)))
    });
    let inner = inner.unwrap();
    let (ended, end) = std::sync::mpsc::channel();
    let outer = engine.function("outer", move |()| {
        let refused = inner.submit(()).unwrap().wait_timeout(PATIENCE).unwrap().unwrap();
        ended.send(refused).unwrap();
        refused
    });
    give.send(outer.unwrap().submit(()).unwrap()).unwrap();
    assert!(end.recv_timeout(PATIENCE).expect("the two jobs wait for each other"));
    gate.open();
    value(holder);
}

/// While a job waits, its worker does not start jobs that have nothing to do with it on the same stack.
#[test]
fn a_waiting_job_keeps_its_identity() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    let who = engine.function("who", |()| layshaft::current().unwrap().function().to_owned()).unwrap();
    let outer = engine.function("outer", move |()| {
        let before = layshaft::current().unwrap().id();
        let inner = who.submit(()).unwrap().wait().unwrap();
        let after = layshaft::current().unwrap();
        (inner, after.function().to_owned(), before == after.id())
    });
    let outer = outer.unwrap();
    for result in outer.submit_batch((0..500).map(|_| ())).unwrap().wait() {
        assert_eq!(result.unwrap(), ("who".to_owned(), "outer".to_owned(), true));
    }
}

/// Nested jobs that are cancelled, detached, or polled instead of waited for.
#[test]
fn handles_inside_a_job() {
    let _watchdog = watchdog("the end of the jobs");
    for workers in [1, 2] {
        let engine = engine(workers);
        let done = Tally::new();
        let count = done.clone();
        let note = engine.function("note", move |n: u64| count.add(n)).unwrap();
        let outer = engine.function("outer", move |jobs: u64| {
            let mut cancelled = 0;
            for n in 0..jobs {
                let handle = note.submit(n).unwrap();
                cancelled += u64::from(n % 2 == 0 && handle.cancel());
            }
            cancelled
        });
        let cancelled = value(outer.unwrap().submit(400).unwrap());
        assert!(workers > 1 || cancelled == 200, "{cancelled} cancelled: nobody else could have started them");
        done.wait_for(400 - cancelled);
        engine.shutdown(Shutdown::Drain);
        assert_eq!(done.count(), 400 - cancelled);
    }
}

/// A wait with a limit that would leave no worker is refused like one without, and a refused wait gives its handle back.
#[test]
fn refused_waits_give_the_handle_back() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = Engine::builder().workers(1).spare_workers(0).start().unwrap();
    let double = engine.function("double", |n: u64| n * 2).unwrap();
    let (give, take) = std::sync::mpsc::channel::<layshaft::Batch<u64>>();
    let take = std::sync::Mutex::new(take);
    let (begin, begun) = std::sync::mpsc::channel();
    let wait = engine.function("wait", move |()| {
        begin.send(()).unwrap();
        let batch = take.lock().unwrap().recv().unwrap();
        let first = batch.wait().into_iter().map(|refused| match refused {
            Err(WaitError::WouldNeverEnd(handle)) => handle,
            other => panic!("not refused: {other:?}"),
        });
        first.map(|handle| handle.wait_timeout(PATIENCE * 100).unwrap_err()).collect::<Vec<_>>()
    });
    let waiting = wait.unwrap().submit(()).unwrap();
    begun.recv().unwrap();
    give.send(double.submit_batch([1, 2, 3]).unwrap()).unwrap();
    let handles = value(waiting);
    assert_eq!(handles.into_iter().map(value).collect::<Vec<_>>(), [2, 4, 6]);
}

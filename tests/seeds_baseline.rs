//! Does an engine give back all that it used: threads, files, memory?
//!
//! It looks at the whole process, so this file holds one test.

mod common;

use common::alloc::{Counting, live_bytes};
use common::watchdog;
use layshaft::{Engine, Function, Limits, Priority, Retry, Shutdown};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn entries(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// An engine that does a little of everything: spares, a clock, limits, keys, retries, consumers, scopes.
fn live() {
    let engine = Engine::builder().workers(2).spare_workers(2).start().unwrap();
    let double = engine.function("double", |n: u64| n * 2).unwrap();
    let ordered = engine.function("ordered", |n: u64| n).unwrap().ordered();
    let waiting = engine.function("waiting", move |n: u64| ordered.call(n).unwrap()).unwrap();
    let limited: Function<u64, u64> = engine.function("limited", |n| if n == 3 { panic!("meant") } else { n }).unwrap();
    limited.set_limits(Limits::new().concurrency(1).capacity(1_000));
    limited.set_retry(Retry::attempts(2).panics(true).keep_dead(1));
    let remote = engine.consumer::<u64, u64>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&remote);
    let batch = double.submit_batch(0..500).unwrap();
    for n in 0..20 {
        drop(limited.job(n).unique(n.to_le_bytes()).timeout(Duration::from_secs(60)).submit().unwrap());
        drop(remote.job(n).priority(Priority::High).submit().unwrap());
        assert_eq!(waiting.call(n).unwrap(), n);
    }
    assert_eq!(batch.as_completed().count(), 500);
    let mut numbers = [1; 10];
    engine.scope(|scope| numbers.iter_mut().for_each(|n| scope.spawn(|| *n += 1)));
    while let Some(pulled) = set.try_next() {
        let (arg, completer) = pulled.take();
        completer.complete(arg);
    }
    let later = limited.job(1).after(Duration::from_secs(60)).submit().unwrap();
    assert!(engine.remove("double") && engine.shutdown(Shutdown::Drain).complete && later.is_finished());
}

#[test]
fn invariant_8_back_to_the_baseline() {
    std::panic::set_hook(Box::new(|_| ()));
    let _watchdog = watchdog("the end of the engines");
    let measure = || (entries("/proc/self/task"), entries("/proc/self/fd"), live_bytes());
    (0..20).for_each(|_| live());
    let (threads, files, bytes) = measure();
    (0..100).for_each(|_| live());
    // A thread is listed for a moment after its end was waited for; the clock's is not waited for.
    while measure().0 > threads {
        std::thread::yield_now();
    }
    let (_, files_after, bytes_after) = measure();
    assert_eq!(files_after, files);
    let grown = bytes_after.saturating_sub(bytes);
    println!("100 engines left {grown} bytes");
    assert!(grown < 16 * 1024, "100 engines left {grown} bytes");
}

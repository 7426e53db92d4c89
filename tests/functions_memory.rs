//! How much memory does a function cost while it is idle, and does it give it back?
//!
//! The counting allocator sees the whole process, so this file holds one test.

mod common;

use common::alloc::{Counting, live_bytes};
use common::{engine, watchdog};
use layshaft::Engine;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FUNCTIONS: usize = 20_000;
const LIMIT: f64 = 256.0;

fn register(engine: &Engine, n: usize) -> layshaft::Function<u64, u64> {
    engine.function(&format!("{n:016}"), |n: u64| n).unwrap()
}

#[test]
fn idle_functions_are_small_and_go_away() {
    let _watchdog = watchdog("the end of the jobs");
    let engine = engine(2);
    for n in 0..64 {
        assert_eq!(register(&engine, n).call(7).unwrap(), 7);
        assert!(engine.remove(&format!("{n:016}")));
    }

    // Each thread has its own memory by then.
    while engine.stats().workers.iter().any(|worker| worker.parks == 0) {
        std::thread::yield_now();
    }

    // Handles dropped: what stays is what the engine itself keeps.
    let before = live_bytes();
    for n in 0..FUNCTIONS {
        drop(register(&engine, n));
    }
    let each = (live_bytes() - before) as f64 / FUNCTIONS as f64 - 16.0;
    println!("an idle function that never ran costs {each:.0} bytes beyond its name");
    assert!(each <= LIMIT, "an idle function costs {each:.0} bytes beyond its name, more than {LIMIT}");
    remove_all(&engine);
    let each = settled(&engine, before) as f64 / FUNCTIONS as f64;
    println!("a removed function leaves {each:.1} bytes");
    // The engine's tables stay as long as they were, and those of the priorities come with the first count.
    assert!(each <= 70.0, "a removed function leaves {each:.1} bytes");

    // After a job each: buffers that a function used while busy are given back, or shared.
    let before = live_bytes();
    for n in 0..FUNCTIONS {
        assert_eq!(register(&engine, n).call(n as u64).unwrap(), n as u64);
    }
    let each = settled(&engine, before) as f64 / FUNCTIONS as f64 - 16.0;
    println!("an idle function that ran costs {each:.0} bytes beyond its name");
    assert!(each <= LIMIT, "an idle function that ran costs {each:.0} bytes beyond its name, more than {LIMIT}");
    remove_all(&engine);

    // Come and go: the second half must not need more than the first.
    churn(&engine);
    let before = settled(&engine, 0);
    churn(&engine);
    let grown = settled(&engine, before);
    println!("{FUNCTIONS} functions that came and went left {grown} bytes");
    assert!(grown <= FUNCTIONS, "{FUNCTIONS} functions that came and went left {grown} bytes");
}

fn remove_all(engine: &Engine) {
    for n in 0..FUNCTIONS {
        assert!(engine.remove(&format!("{n:016}")));
    }
}

fn churn(engine: &Engine) {
    for n in 0..FUNCTIONS {
        let function = register(engine, n);
        assert_eq!(function.call(7).unwrap(), 7);
        assert!(engine.remove(function.name()));
    }
}

/// Bytes above `before`. Removed functions are reclaimed by the workers, so the workers are made to pass a few jobs.
fn settled(engine: &Engine, before: usize) -> usize {
    let last = engine.function("last", |n: u64| n).unwrap();
    for n in 0..1_000 {
        assert_eq!(last.call(n).unwrap(), n);
    }
    drop(last);
    assert!(engine.remove("last"));
    live_bytes().saturating_sub(before)
}

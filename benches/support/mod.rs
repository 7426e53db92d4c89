//! What the criterion benches share.
#![allow(dead_code, reason = "each bench uses a part")]

pub(crate) mod system;
pub(crate) mod tally;

use criterion::Criterion;
use layshaft::{Engine, Function};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Short runs: all benches together end in minutes.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args()
}

/// An engine whose only worker has the second core, while the caller has the first.
pub(crate) fn engine() -> Engine {
    // Also fixes which cores there are, before the first pin.
    system::pin(1);
    let engine = Engine::builder().workers(1).start().expect("an engine with one worker starts");
    warm(&engine);
    system::pin(0);
    engine
}

/// Returns when the worker has run its first job: by then its thread is set up.
fn warm(engine: &Engine) {
    let first = engine.function("first", |_: ()| ()).expect("the name is free");
    first.call(()).expect("the first job runs");
    engine.remove("first");
}

/// The body of most benches.
pub(crate) fn counted(engine: &Engine, name: &str) -> Function<u64, u64> {
    engine
        .function(name, |arg: u64| -> u64 {
            tally::count(arg);
            arg + 1
        })
        .expect("the name is free")
}

//! Model checks of the protocols in `layshaft`. The models are in `tests/`, one file a protocol; this is how they run.
#![cfg(layshaft_loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many threads a model has, its main thread among them: more threads must give more schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// Two, or three with so few operations that they cannot reach a thousand schedules: more than one.
    Two,
    /// Three or more: over a thousand.
    Three,
}

/// Explores every schedule of `model` up to the preemption bound (3, or `LOOM_MAX_PREEMPTIONS`), prints how many there
/// were, and fails if there were suspiciously few: a model that explores one schedule checks nothing.
///
/// No limit cuts the exploration short: loom panics when a single schedule has too many branches, and stops at nothing
/// else, because `LOOM_MAX_PERMUTATIONS` and `LOOM_MAX_DURATION` are refused here.
pub fn explore(name: &str, threads: Threads, model: impl Fn() + Send + Sync + 'static) {
    for cut in ["LOOM_MAX_PERMUTATIONS", "LOOM_MAX_DURATION"] {
        assert!(std::env::var_os(cut).is_none(), "{cut} would cut the exploration short; unset it");
    }
    let schedules = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&schedules);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.max_branches = 20_000;
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let schedules = schedules.load(Ordering::Relaxed);
    let bound = builder.preemption_bound.unwrap_or_default();
    println!("model {name}: {schedules} schedules at preemption bound {bound}");
    // A lower bound or a weakened site changes the number; the latter must be caught by what the model checks.
    let is_proof = bound >= 3 && std::env::var_os("LAYSHAFT_WEAKEN").is_none();
    let least = if threads == Threads::Three && is_proof { 1_001 } else { 2 };
    assert!(schedules >= least, "model {name} explored {schedules} schedules, expected {least} at least");
}

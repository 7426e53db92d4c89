//! Is every job accounted for, whatever eight threads do to an engine, and however it ends?
//!
//! Short rounds, each a fresh engine that is ended while the threads are at it or when they are done. `LAYSHAFT_SOAK_SECONDS`
//! sets the length, `LAYSHAFT_SEED` begins with the round of that seed: the same choices, up to the machine's own timing.
//! Locks are `parking_lot`'s, for ThreadSanitizer does not see into those of std.

#[path = "../common/mod.rs"]
mod common;

mod actor;
mod ledger;
mod more;
mod round;

use common::alloc::{Counting, live_bytes};
use common::{PATIENCE, rng, watchdog_for};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the process keeps for later engines, in bytes, grows to this and no further: slots, pools, threads' caches.
const KEPT: usize = 16 << 20;

/// Names the round that fails.
struct Round(u64);

impl Drop for Round {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the round that failed: LAYSHAFT_SEED={}", self.0);
        }
    }
}

#[test]
fn soak() {
    let seconds = std::env::var("LAYSHAFT_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2.0);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let first = rng::seed("soak");
    let (mut jobs, mut ran, mut rounds) = (0, 0, 0);
    while rounds < 6 || Instant::now() < end {
        let seed = first + rounds;
        let _watchdog = watchdog_for(format!("the end of the round LAYSHAFT_SEED={seed}"), PATIENCE * 3);
        let _round = Round(seed);
        // Arguments that lie in a deque's entry, in a node, and in a box.
        let (of_round, of_them_ran) = match seed % 3 {
            0 => round::run::<0>(seed),
            1 => round::run::<100>(seed),
            _ => round::run::<700>(seed),
        };
        (jobs, ran, rounds) = (jobs + of_round, ran + of_them_ran, rounds + 1);
        let kept = live_bytes();
        assert!(kept <= KEPT, "{kept} bytes are kept after {rounds} rounds");
    }
    println!("soak: {jobs} jobs in {rounds} rounds, {ran} ran; {} bytes are kept", live_bytes());
}

//! A small random generator, so that a printed seed reproduces a run.

use std::time::{SystemTime, UNIX_EPOCH};

/// xorshift64 with a multiplied output.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        // Spreads neighbouring seeds; zero would be a fixed point.
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 33) % limit
    }

    /// True once in `n`.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The seed given by `LAYSHAFT_SEED`, or one from the clock; printed, so that a failure can be run again.
pub(crate) fn seed(test: &str) -> u64 {
    let seed = match std::env::var("LAYSHAFT_SEED") {
        Ok(text) => text.parse().expect("LAYSHAFT_SEED should be a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
    };
    println!("{test}: LAYSHAFT_SEED={seed}");
    seed
}

/// Burns a random, short time: it shifts threads against each other without the clock.
pub(crate) fn jitter(rng: &mut Rng) {
    if rng.one_in(64) {
        std::thread::yield_now();
    }
    for _ in 0..rng.below(200) {
        std::hint::spin_loop();
    }
}

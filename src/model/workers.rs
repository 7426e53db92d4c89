//! Whole engines, with threads that the model starts.

use crate::engine::Engine;
use crate::sched::registry::Shared;
use crate::sched::sleep::{Sleep, Woken};
use crate::sched::worker::Worker;
use std::sync::Arc;
use std::time::Duration;

/// An engine without threads, and what its workers need: each runs [`work`].
pub fn engine(workers: usize) -> (Engine, Seat) {
    let shared = Arc::new(Shared::new(workers, Duration::from_secs(1)));
    (Engine::from_shared(Arc::clone(&shared)), Seat(shared))
}

/// A place for a worker.
#[derive(Clone)]
pub struct Seat(Arc<Shared>);

/// Runs worker `index` until the engine ends.
pub fn work(seat: Seat, index: usize) {
    Worker::main(seat.0, index);
}

/// The sleep state alone.
pub struct Bed(Sleep);

impl Bed {
    pub fn new() -> Self {
        Bed(Sleep::new())
    }

    pub fn notify(&self) -> bool {
        self.0.notify()
    }

    pub fn notify_local(&self) -> bool {
        self.0.notify_local()
    }

    pub fn wake_all(&self) {
        self.0.wake_all();
    }

    pub fn start_search(&self) {
        self.0.start_search();
    }

    pub fn stop_search(&self) -> bool {
        self.0.stop_search()
    }

    /// As a worker falls asleep: `look` is its last look. Whether it was woken, rather than having seen work.
    pub fn sleep_unless(&self, look: impl FnOnce() -> bool) -> bool {
        self.0.start_sleep();
        crate::sync::fence_heavy();
        if look() {
            self.0.stay_awake();
            return false;
        }
        self.0.park(None) == Woken::Notified
    }

    pub fn has_sleepers(&self) -> bool {
        self.0.counts().sleepers() > 0
    }

    /// Sleepers and searchers.
    pub fn counts(&self) -> (u32, u32) {
        let counts = self.0.counts_in_order();
        (counts.sleepers(), counts.searchers())
    }
}

impl Default for Bed {
    fn default() -> Self {
        Self::new()
    }
}

/// Ends an engine of one worker that was never started. Its functions are closed and forgotten.
pub fn end(engine: Engine, seat: Seat) {
    seat.0.leave();
    drop(engine);
}

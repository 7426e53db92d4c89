//! What other threads see of a worker.

use super::claim::Claim;
use super::core::Core;
use super::deque::Deque;
use super::tally::Tallies;
use crate::queue::block::Header;
use crate::stats::WorkerStats;
use crate::sync::{AtomicPtr, AtomicU64, Ordering};
use crossbeam_utils::CachePadded;
use std::ptr::{self, NonNull};

/// What other threads see of a worker.
pub(crate) struct WorkerShared {
    pub(crate) deque: Deque<Core>,
    pub(crate) claim: Claim<Core, Header>,
    /// Counts the points between two jobs; odd while the worker is parked. See `registry`.
    pub(super) epoch: CachePadded<AtomicU64>,
    /// The function whose job is running.
    pub(super) function: CachePadded<AtomicPtr<Core>>,
    pub(super) counters: CachePadded<Counters>,
    pub(crate) tallies: CachePadded<Tallies<Core>>,
}

/// Written by their worker alone.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) jobs: AtomicU64,
    pub(super) panicked: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) claims: AtomicU64,
    pub(super) steals: AtomicU64,
    pub(super) parks: AtomicU64,
    pub(super) wakes: AtomicU64,
}

#[inline(always)]
pub(super) fn add(counter: &AtomicU64, n: u64) {
    // Ordering: Relaxed, counter only, one writer.
    let value = counter.load(Ordering::Relaxed);
    // Ordering: Relaxed, counter only, one writer.
    counter.store(value + n, Ordering::Relaxed);
}

impl WorkerShared {
    /// A seat without a thread.
    pub(crate) fn new() -> WorkerShared {
        WorkerShared {
            deque: Deque::new(),
            claim: Claim::new(),
            // Parked: nobody waits for a thread that may never be started.
            epoch: CachePadded::new(AtomicU64::new(1)),
            function: CachePadded::new(AtomicPtr::new(ptr::null_mut())),
            counters: CachePadded::new(Counters::default()),
            tallies: CachePadded::new(Tallies::new()),
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        // Ordering: Acquire, pairs with the Release in `Worker::tick`: what the worker did in an earlier epoch is over.
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether an epoch is that of a parked worker.
    pub(crate) fn is_parked(epoch: u64) -> bool {
        epoch % 2 == 1
    }

    /// The function whose job is running.
    pub(crate) fn running(&self) -> Option<NonNull<Core>> {
        // Ordering: Acquire, pairs with the Release in `set_running`.
        NonNull::new(self.function.load(Ordering::Acquire))
    }

    pub(crate) fn stats(&self) -> WorkerStats {
        let c = &self.counters;
        // Ordering: Relaxed, counter only.
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WorkerStats {
            jobs: read(&c.jobs),
            panicked: read(&c.panicked),
            cancelled: read(&c.cancelled),
            claims: read(&c.claims),
            steals: read(&c.steals),
            parks: read(&c.parks),
            wakes: read(&c.wakes),
        }
    }
}

//! Which jobs have run, counted without any line that two threads write.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How long the reader sleeps between looks: it must not disturb those that count.
const LOOK_EVERY: Duration = Duration::from_micros(20);

/// A thread's counters, on cache lines of their own (two: the processor fetches lines in pairs).
#[repr(align(128))]
struct Counter {
    jobs: AtomicU64,
    /// Sum of the arguments.
    sum: AtomicU64,
}

static COUNTERS: Mutex<Vec<&'static Counter>> = Mutex::new(Vec::new());

thread_local! {
    static MINE: Cell<Option<&'static Counter>> = const { Cell::new(None) };
}

/// The body of the measured jobs: the least that can be checked.
#[inline(always)]
pub(super) fn count(argument: u64) {
    let mine = MINE.get().unwrap_or_else(register);
    // Ordering: Relaxed, only this thread writes it.
    let sum = mine.sum.load(Ordering::Relaxed);
    // Ordering: Relaxed, published by the store of `jobs`.
    mine.sum.store(sum.wrapping_add(argument), Ordering::Relaxed);
    // Ordering: Relaxed, only this thread writes it.
    let jobs = mine.jobs.load(Ordering::Relaxed);
    // Ordering: Release, pairs with the Acquire in `total`: the sum is in.
    mine.jobs.store(jobs + 1, Ordering::Release);
}

#[cold]
fn register() -> &'static Counter {
    let mine: &Counter = Box::leak(Box::new(Counter { jobs: AtomicU64::new(0), sum: AtomicU64::new(0) }));
    COUNTERS.lock().expect("nothing panics under this lock").push(mine);
    MINE.set(Some(mine));
    mine
}

/// Jobs counted so far and the sum of their arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) jobs: u64,
    pub(super) sum: u64,
}

impl Total {
    /// The total after `jobs` more jobs with arguments that sum to `sum`.
    pub(super) fn plus(self, jobs: u64, sum: u64) -> Total {
        Total { jobs: self.jobs + jobs, sum: self.sum.wrapping_add(sum) }
    }

    /// Sleeps until as many jobs as these have been counted; whether the sums agree.
    pub(super) fn reached(self) -> bool {
        loop {
            let now = total();
            if now.jobs >= self.jobs {
                return now == self;
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

pub(super) fn total() -> Total {
    let counters = COUNTERS.lock().expect("nothing panics under this lock");
    counters.iter().fold(Total { jobs: 0, sum: 0 }, |total, counter| {
        // Ordering: Acquire, pairs with the Release in `count`.
        let jobs = counter.jobs.load(Ordering::Acquire);
        // Ordering: Relaxed, `jobs` was read before.
        total.plus(jobs, counter.sum.load(Ordering::Relaxed))
    })
}

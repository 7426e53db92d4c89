//! Counts jobs and sums their arguments, on lines that no two threads write.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Pause between two looks at the counters: the reader must not disturb those that count.
const LOOK: Duration = Duration::from_micros(20);

/// One thread's figures. Two cache lines, because processors fetch pairs.
#[repr(align(128))]
struct Counter {
    jobs: AtomicU64,
    sum: AtomicU64,
}

static COUNTERS: Mutex<Vec<&'static Counter>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: Cell<Option<&'static Counter>> = const { Cell::new(None) };
}

/// Counts one job of this thread.
#[inline(always)]
pub(crate) fn count(arg: u64) {
    let own = OWN.get().unwrap_or_else(enlist);
    // Ordering: Relaxed throughout, one writer; the Release store publishes the sum to `Total::now`.
    own.sum.store(own.sum.load(Ordering::Relaxed).wrapping_add(arg), Ordering::Relaxed);
    own.jobs.store(own.jobs.load(Ordering::Relaxed) + 1, Ordering::Release);
}

#[cold]
fn enlist() -> &'static Counter {
    let own: &'static Counter = Box::leak(Box::new(Counter { jobs: AtomicU64::new(0), sum: AtomicU64::new(0) }));
    COUNTERS.lock().expect("nobody panics with the lock held").push(own);
    OWN.set(Some(own));
    own
}

/// Jobs run by all threads, and the sum of their arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Total {
    jobs: u64,
    sum: u64,
}

impl Total {
    pub(crate) fn now() -> Total {
        let counters = COUNTERS.lock().expect("nobody panics with the lock held");
        let mut total = Total { jobs: 0, sum: 0 };
        for counter in counters.iter() {
            // Ordering: Acquire, with the Release in `count`; the sum was stored before it.
            total.jobs += counter.jobs.load(Ordering::Acquire);
            total.sum = total.sum.wrapping_add(counter.sum.load(Ordering::Relaxed));
        }
        total
    }

    /// What the total will be after so many more jobs.
    pub(crate) fn after(self, jobs: u64, sum: u64) -> Total {
        Total { jobs: self.jobs + jobs, sum: self.sum.wrapping_add(sum) }
    }

    /// Returns when that many jobs have run. Panics if their sum is another: a job was lost, doubled or mangled.
    pub(crate) fn wait(self) {
        loop {
            let now = Total::now();
            if now.jobs >= self.jobs {
                // A sum is stored before its count, so it may run ahead of an early look, but not at rest.
                assert_eq!(now, self, "jobs were lost, doubled or mangled: left is what ran, right what was sent");
                return;
            }
            thread::sleep(LOOK);
        }
    }
}

/// The sum of `0..n`.
pub(crate) fn sum_below(n: u64) -> u64 {
    n * n.saturating_sub(1) / 2
}

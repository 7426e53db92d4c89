//! Workers that are lent out run none of their engine's jobs until the borrower is done. So as long as one of a loan's
//! threads waits for its engine, the others of that loan are of no help: `spares` does not count on them.

use super::spares::Blocked;
use super::worker::Worker;
use crate::sync::{AtomicUsize, Ordering};
use std::sync::Arc;

/// The threads of one loan.
pub(crate) struct Lent {
    /// How many, also those that have not come yet: they may come at any time.
    seats: usize,
    /// How many of them are blocked. Written under the crew's lock.
    blocked: AtomicUsize,
}

impl Lent {
    pub(crate) fn new(seats: usize) -> Lent {
        Lent { seats, blocked: AtomicUsize::new(0) }
    }

    /// One more is blocked, under the crew's lock: how many threads are of no help because of that, itself included.
    pub(super) fn block(&self) -> usize {
        // Ordering: Relaxed, under a lock.
        if self.blocked.fetch_add(1, Ordering::Relaxed) == 0 { self.seats } else { 0 }
    }

    /// One less: how many are of help again.
    pub(super) fn unblock(&self) -> usize {
        // Ordering: Relaxed, under a lock.
        if self.blocked.fetch_sub(1, Ordering::Relaxed) == 1 { self.seats } else { 0 }
    }
}

impl Worker {
    /// This worker is about to wait inside a job, as long as what is returned lives: `None` when no thread would be left to
    /// run jobs, unless it is others that do what it waits for.
    pub(crate) fn block(&self, for_others: bool) -> Option<Blocked<'_>> {
        // Of a drop between two jobs: whoever submits must not rely on a thread that blocks.
        self.pass_on_if_last();
        self.shared.block(for_others, self.lent.borrow().clone())
    }

    /// Has this worker be one of the lent ones while `f` runs.
    pub(crate) fn lend(&self, to: &Arc<Lent>, f: impl FnOnce()) {
        let outer = self.lent.replace(Some(Arc::clone(to)));
        f();
        self.lent.replace(outer);
    }
}

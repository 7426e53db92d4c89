//! Workers that wait inside jobs, and workers that are lent out: who waits runs no jobs, and who is lent out runs none
//! until the borrower is done. So as long as one of the lent workers waits for its engine, all of them do.

use super::shutdown::Phase;
use super::worker::Worker;
use crate::sync::Mutex;
use std::sync::Arc;

/// The workers of one loan.
pub(crate) struct Lent {
    /// How many, also those that have not come yet: they may come at any time.
    seats: usize,
    /// How many of them wait.
    waiting: Mutex<usize>,
}

impl Lent {
    pub(crate) fn new(seats: usize) -> Lent {
        Lent { seats, waiting: Mutex::new(0) }
    }

    /// One more waits. The first one asks `block` for all of them: `false`, and nothing is changed, when that refuses.
    fn block(&self, block: impl FnOnce(usize) -> bool) -> bool {
        let mut waiting = self.waiting.lock();
        if *waiting == 0 && !block(self.seats) {
            return false;
        }
        *waiting += 1;
        true
    }

    fn unblock(&self, phase: &Phase) {
        let mut waiting = self.waiting.lock();
        *waiting -= 1;
        if *waiting == 0 {
            phase.unblock(self.seats);
        }
    }
}

impl Worker {
    /// This worker is about to wait inside a job: `false` when no worker would be left to run jobs.
    pub(crate) fn block(&self) -> bool {
        let phase = &self.shared.phase;
        match &*self.lent.borrow() {
            None => phase.block(1),
            Some(lent) => lent.block(|seats| phase.block(seats)),
        }
    }

    /// This worker is about to wait for something that its engine does not run.
    pub(crate) fn block_anyway(&self) {
        let phase = &self.shared.phase;
        match &*self.lent.borrow() {
            None => phase.block_anyway(1),
            Some(lent) => {
                lent.block(|seats| {
                    phase.block_anyway(seats);
                    true
                });
            }
        }
    }

    /// The wait is over.
    pub(crate) fn unblock(&self) {
        let phase = &self.shared.phase;
        match &*self.lent.borrow() {
            None => phase.unblock(1),
            Some(lent) => lent.unblock(phase),
        }
    }

    /// How many workers run no jobs while this one waits.
    pub(crate) fn stands_for(&self) -> usize {
        self.lent.borrow().as_ref().map_or(1, |lent| lent.seats)
    }

    /// Has this worker be one of the lent ones while `f` runs.
    pub(crate) fn lend(&self, to: &Arc<Lent>, f: impl FnOnce()) {
        let outer = self.lent.replace(Some(Arc::clone(to)));
        f();
        self.lent.replace(outer);
    }
}

//! The figures of a function, gathered from where they are counted.

use super::core::Core;
use super::events::Events;
use super::tally::{Started, started};
use crate::job::origin;
use crate::queue::priority::Priority;
use crate::stats::{FunctionStats, Queued};
use crate::sync::{AtomicU64, Ordering};

impl Core {
    pub(crate) fn stats(&self) -> FunctionStats {
        let read = |which| self.read(which);
        let on_workers = self.started_on_workers();
        // What is being met as cancelled is counted as such before it is taken off here: twice for a moment, never not at all.
        let tombstones = origin::tombstones(self.origin());
        // SAFETY: the vtable was made for this core.
        let kept = unsafe { (self.vtable.managed.cancelled)(self) };
        // SAFETY: as above.
        let late = unsafe { (self.vtable.managed.late)(self) } as u64;
        let timing = self.events().and_then(Events::timing);
        FunctionStats {
            name: self.name().to_owned(),
            queued: self.queued(tombstones),
            running: on_workers.running + read(|e| &e.taken),
            late,
            done: on_workers.done + read(|e| &e.completed),
            failed: read(|e| &e.failed),
            panicked: read(|e| &e.panicked),
            cancelled: read(|e| &e.cancelled) + (tombstones + kept) as u64,
            timed_out: read(|e| &e.timed_out),
            evicted: read(|e| &e.evicted),
            lost: read(|e| &e.lost),
            coalesced: read(|e| &e.coalesced),
            retried: read(|e| &e.retried),
            dead: read(|e| &e.dead),
            refused: read(|e| &e.refused),
            wait: timing.map(|timing| timing.wait.read()).unwrap_or_default(),
            run: timing.map(|timing| timing.run.read()).unwrap_or_default(),
        }
    }

    /// Jobs that run now, or that consumers have.
    pub(crate) fn running(&self) -> u64 {
        self.started_on_workers().running + self.read(|e| &e.taken)
    }

    fn started_on_workers(&self) -> Started {
        started(self, self.shared().seats().iter().map(|seat| &*seat.tallies))
    }

    fn read(&self, which: fn(&Events) -> &AtomicU64) -> u64 {
        // Ordering: Relaxed, counter only.
        self.events().map_or(0, |events| which(events).load(Ordering::Relaxed))
    }

    /// Of all lanes, claims and deques.
    fn queued(&self, tombstones: usize) -> Queued {
        let in_lane = |priority| {
            // SAFETY: the vtable was made for this core.
            unsafe { (self.vtable.queued)(self, priority) }
        };
        let at_workers = self.shared().seats().iter().map(|w| w.claim.unstarted(self) + w.deque.entries_of(self));
        let mut queued = Queued {
            high: in_lane(Priority::High),
            normal: in_lane(Priority::Normal) + at_workers.sum::<usize>(),
            low: in_lane(Priority::Low),
        };
        queued.take_off(tombstones);
        queued
    }
}

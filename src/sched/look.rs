//! What can be seen of a function and of the workers by somebody who asks why nothing runs. Slow and approximate: each
//! answer was true at some moment, and nothing that runs jobs uses any of it.

use super::core::Core;
use super::managed::desk;
use super::registry::Shared;
use super::run::Stored;
use crate::job::origin;
use crate::job::slot::ResultSlot;
use crate::queue::managed::Look;
use crate::queue::priority::Priority;
use std::ptr::NonNull;

/// The threads of an engine, seen from one of its functions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Crew {
    /// Threads that are inside a job: their names, and those of the functions.
    pub(crate) occupied: Vec<(String, String)>,
    /// Of these, the names of those that run the function.
    pub(crate) ours: Vec<String>,
    /// How many of these wait inside a job.
    pub(crate) blocked: usize,
    /// Threads that could run a job now.
    pub(crate) free: usize,
    /// Threads that are to be running.
    pub(crate) workers: usize,
}

/// For the vtable of functions with jobs stored as `S`.
///
/// # Safety
/// The function's jobs are stored as `S`.
pub(super) unsafe fn look<S: Stored>(core: &Core, job: Option<NonNull<ResultSlot>>) -> Option<Look> {
    // SAFETY: passed on.
    unsafe { desk::<S>(core) }.map(|desk| desk.read(|state| state.look(job)))
}

impl Core {
    /// What the queue says of a handle's job, or of the one that is next; `None` if the function is not managed.
    pub(crate) fn look(&self, job: Option<NonNull<ResultSlot>>) -> Option<Look> {
        // SAFETY: the vtable was made for this core.
        unsafe { (self.vtable.managed.look)(self, job) }
    }

    /// Jobs that are accepted and not started, but for those in the workers' deques.
    pub(crate) fn count_queued(&self) -> usize {
        let at = |priority| {
            // SAFETY: the vtable was made for this core.
            unsafe { (self.vtable.queued)(self, priority) }
        };
        let claimed: usize = self.shared().workers.iter().map(|worker| worker.claim.unstarted(self)).sum();
        let queued = Priority::ALL.into_iter().map(at).sum::<usize>() + claimed;
        queued.saturating_sub(origin::tombstones(self.origin()))
    }

    /// Whether a worker's deque seems to have jobs of this function.
    pub(crate) fn is_in_a_deque(&self) -> bool {
        self.shared().seats().iter().any(|worker| worker.deque.mentions(self))
    }
}

impl Shared {
    /// What the threads do.
    pub(crate) fn crew(&self, core: &Core) -> Crew {
        let (running, blocked) = self.spares.running_and_blocked();
        let mut crew = Crew { blocked, workers: self.spares.workers(), ..Crew::default() };
        for (seat, worker) in self.seats().iter().enumerate() {
            if worker.running() == Some(NonNull::from(core)) {
                crew.ours.push(self.spares.thread_name(seat));
            }
            let function = self.running_name(seat);
            crew.occupied.extend(function.map(|function| (self.spares.thread_name(seat), function)));
        }
        crew.free = running.saturating_sub(crew.occupied.len().saturating_sub(blocked));
        crew
    }
}

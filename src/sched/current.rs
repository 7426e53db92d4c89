//! The job that a worker is running, who may ask for it, and how it is counted.

use super::core::Core;
use super::seat::add;
use super::tally::{Batch, Tally};
use super::worker::Worker;
use crate::job::slot::ResultSlot;
use crate::queue::block::detached;
use crate::queue::record::RecordId;
use crate::sync::Ordering;
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// The job that a worker is running.
#[derive(Clone, Copy)]
pub(crate) struct Running {
    pub(crate) function: *const Core,
    /// Its result slot, or `detached` when it has none.
    pub(crate) job: *mut ResultSlot,
    /// Its record, or 0.
    pub(crate) record: RecordId,
    /// Where the function's jobs are counted; null when nothing runs, and in models that do not count.
    tally: *const Tally<Core>,
}

impl Running {
    /// Whether it is this handle's job.
    pub(super) fn is(&self, handle: NonNull<ResultSlot>) -> bool {
        if self.record == 0 {
            return ptr::eq(self.job, handle.as_ptr());
        }
        // SAFETY: the job runs, or is suspended, and keeps its function.
        let core = unsafe { &*self.function };
        // SAFETY: the vtable was made for this core.
        unsafe { (core.vtable.managed.is_heard_by)(core, self.record, handle) }
    }

    pub(super) const NOTHING: Running =
        Running { function: ptr::null(), job: ptr::null_mut(), record: 0, tally: ptr::null() };
}

impl Worker {
    #[inline(always)]
    pub(crate) fn ran(&self, n: usize) {
        add(&self.me().counters.jobs, n as u64);
    }

    pub(crate) fn running(&self) -> Running {
        self.running.get()
    }

    /// Jobs of this function follow. What ran before is forgotten; who interrupts a job restores it.
    #[inline(always)]
    pub(crate) fn begin(&self, function: &Core) {
        if ptr::eq(self.running.get().function, function) {
            self.set_job(detached());
        } else {
            self.set_running(Running { function, job: detached(), record: 0, tally: ptr::null() });
        }
        if let Some(tally) = self.tally() {
            tally.relieve(function);
        }
    }

    pub(super) fn set_running(&self, mut running: Running) {
        // SAFETY: runs, or is about to, and so is not freed.
        let function = unsafe { running.function.as_ref() };
        if let Some(function) = function.filter(|_| self.shared.counts_jobs()) {
            running.tally = self.me().tallies.of(function);
        }
        self.running.set(running);
        // Ordering: Release, pairs with the Acquire in `WorkerShared::running`.
        self.me().function.store(running.function.cast_mut(), Ordering::Release);
    }

    #[inline(always)]
    pub(crate) fn set_job(&self, job: *mut ResultSlot) {
        self.running.set(Running { job, ..self.running.get() });
    }

    /// A job of the function that [`begin`](Self::begin) was given starts.
    #[inline(always)]
    pub(crate) fn start(&self) {
        if let Some(tally) = self.tally() {
            tally.start();
        }
    }

    /// It has ended. Before anybody is told of it, who would look whether it is counted.
    #[inline(always)]
    pub(crate) fn end(&self) {
        if let Some(tally) = self.tally() {
            tally.end();
        }
    }

    /// It has ended without a result that anybody wants: how, is counted elsewhere.
    pub(crate) fn end_undone(&self) {
        self.suspend();
    }

    /// Counts jobs of the function that `begin` was given.
    #[inline(always)]
    pub(crate) fn batch<'w>(&'w self, started: &'w Cell<usize>) -> Batch<'w, Core> {
        Batch::new(self.tally(), started)
    }

    /// Runs one of a round's jobs by itself, which counts it.
    #[inline(always)]
    pub(crate) fn apart(&self, run: impl FnOnce()) {
        self.suspend();
        run();
        self.apart.set(self.apart.get() + 1);
        self.start();
    }

    /// Does something between two jobs of a round.
    #[inline(always)]
    pub(crate) fn interrupt(&self, run: impl FnOnce()) {
        self.suspend();
        run();
        self.start();
    }

    #[cold]
    fn suspend(&self) {
        if let Some(tally) = self.tally() {
            tally.suspend();
        }
    }

    #[inline(always)]
    pub(super) fn tally(&self) -> Option<&Tally<Core>> {
        // SAFETY: a place of this worker's own.
        unsafe { self.running.get().tally.as_ref() }
    }

    pub(crate) fn set_record(&self, record: RecordId) {
        self.running.set(Running { record, ..self.running.get() });
    }

    #[cold]
    pub(crate) fn cancelled(&self) {
        add(&self.me().counters.cancelled, 1);
    }

    #[cold]
    pub(crate) fn panicked(&self) {
        add(&self.me().counters.panicked, 1);
    }
}

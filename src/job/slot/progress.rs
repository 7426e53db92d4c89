//! How far a job is, as far as its handle can tell without taking the outcome.

use super::{DONE_CANCELLED, DONE_EVICTED, DONE_LOST, DONE_TIMED_OUT, DONE_VALUE, NOT_STARTED, ResultSlot, YIELDED};
use crate::error::JobError;
use crate::sync::Ordering;
use std::ptr::NonNull;

/// What a handle's slot says of its job.
pub(crate) enum Progress {
    /// It has not started.
    Waiting,
    /// Somebody has it.
    Started,
    Ended(Result<(), JobError>),
}

impl ResultSlot {
    /// How far the job of a handle is. The caller has the handle, so nobody takes the outcome meanwhile.
    pub(crate) fn progress(slot: NonNull<ResultSlot>) -> Progress {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        if this.is_done() {
            return Progress::Ended(Self::ended(slot));
        }
        if this.is_cancel_granted() {
            return Progress::Ended(Err(JobError::Cancelled));
        }
        // Ordering: Relaxed, a word for people.
        match this.started.load(Ordering::Relaxed) {
            NOT_STARTED | YIELDED => Progress::Waiting,
            _ => Progress::Started,
        }
    }

    /// The outcome of a job that is done, without its value.
    fn ended(slot: NonNull<ResultSlot>) -> Result<(), JobError> {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        // Ordering: Relaxed, `is_done` acquired it.
        match this.state().load(Ordering::Relaxed) {
            DONE_VALUE => Ok(()),
            DONE_CANCELLED => Err(JobError::Cancelled),
            DONE_TIMED_OUT => Err(JobError::TimedOut),
            DONE_EVICTED => Err(JobError::Evicted),
            DONE_LOST => Err(JobError::Lost),
            _ => {
                let at = Self::value_ptr(slot).cast::<*const JobError>();
                // SAFETY: what is left is DONE_ERROR, which says that `write` put a boxed error here.
                let error = this.value.with(|_| unsafe { at.read() });
                // SAFETY: the box goes when the handle gives the slot up, and the caller has the handle.
                Err(unsafe { &*error }.copy())
            }
        }
    }

    /// Whether the job went to a worker's deque, or has a record.
    pub(crate) fn is_nested(slot: NonNull<ResultSlot>) -> bool {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        // Ordering: Relaxed, written before the job was queued.
        this.nested.load(Ordering::Relaxed) != 0
    }
}

//! A result slot between its two sides.

use crate::error::JobError;
use crate::handle::JobHandle;
use crate::job::origin;
use crate::job::slot::ResultSlot;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// The job's side of a slot. Dropping it without an end leaves the handle waiting.
pub struct Job<R> {
    slot: NonNull<ResultSlot>,
    origin: u32,
    result: PhantomData<fn(R)>,
}

// SAFETY: the job's side of a slot may be used from any thread.
unsafe impl<R: Send> Send for Job<R> {}

/// A slot: the job's side and the handle.
pub fn job<R>() -> (Job<R>, JobHandle<R>) {
    let slot = ResultSlot::acquire::<R>().expect("a slot");
    let origin = origin::acquire(0, false);
    (Job { slot, origin, result: PhantomData }, JobHandle::new(slot, origin))
}

impl<R> Job<R> {
    /// As a worker does: runs `body` unless the job was cancelled; whether it ran.
    pub fn run(self, body: impl FnOnce() -> R) -> bool {
        // SAFETY: the slab's slots live as long as the process.
        let slot = unsafe { self.slot.as_ref() };
        let begun = slot.begin();
        let outcome = if begun { Ok(body()) } else { Err(JobError::Cancelled) };
        if !begun {
            slot.bury(self.origin);
        }
        // SAFETY: the job's side, last use.
        unsafe { ResultSlot::complete(self.slot, outcome) };
        begun
    }

    /// As a consumer does: takes the job and puts it back: `None` if it was cancelled before or meanwhile.
    pub fn put_back(self) -> Option<Self> {
        // SAFETY: the slab's slots live as long as the process.
        let slot = unsafe { self.slot.as_ref() };
        if !slot.begin() || slot.is_cancel_requested() {
            self.run(|| unreachable!("cancelled"));
            return None;
        }
        slot.unbegin();
        Some(self)
    }

    /// Cancelled jobs that count as queued.
    pub fn tombstones(origin: u32) -> usize {
        origin::tombstones(origin)
    }

    /// The record of the job's function.
    pub fn origin(&self) -> u32 {
        self.origin
    }
}

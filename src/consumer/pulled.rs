//! A job that a consumer set has taken, and the write side of its handle.

use crate::error::JobError;
use crate::job::id::JobId;
use crate::job::slot::ResultSlot;
use crate::queue::block::detached;
use crate::queue::managed::Entry;
use crate::queue::priority::Priority;
use crate::queue::record::RecordId;
use crate::queue::update::Update;
use crate::sched::core::{CoreRef, MANAGED};
use crate::sched::managed;
use crate::sched::run::{Discard, Inline, Lanes, Stored, is_inline};
use crate::sync::{Ordering, fence_light};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::waiting::{Untyped, announce, has_returned, waiting};

/// A job taken by a consumer set. Dropping it reports the job as lost.
#[must_use = "dropping a pulled job reports it as lost"]
pub struct Pulled<A, R> {
    /// Taken out by `take` and `put_back`.
    arg: Option<A>,
    priority: Priority,
    completer: Completer<R>,
    hold: Hold,
}

/// Keeps a function, and counts as one of its taken jobs.
struct Hold(CoreRef);

impl Hold {
    fn new(core: &CoreRef) -> Hold {
        // SAFETY: only functions without a body are pulled.
        let waiting = unsafe { waiting(core) };
        // Ordering: Relaxed, ordered before the job leaves its queue by the fence; pairs with `is_settled`.
        waiting.taken.fetch_add(1, Ordering::Relaxed);
        fence_light();
        Hold(core.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // SAFETY: only functions without a body are pulled.
        let waiting = unsafe { waiting(&self.0) };
        // Ordering: Relaxed, a job that was put back was so under the lock under which `is_settled` looks; a finished one
        // leaves nothing.
        waiting.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<A: Send + 'static, R: Send + 'static> Pulled<A, R> {
    pub(super) fn from(core: &CoreRef, priority: Priority) -> Option<Self> {
        if is_inline::<A>() {
            Self::from_stored::<Inline<A>>(core, priority)
        } else {
            Self::from_stored::<Box<A>>(core, priority)
        }
    }

    fn from_stored<S: Stored<Arg = A>>(core: &CoreRef, priority: Priority) -> Option<Self> {
        if core.lane(priority).is_none() && !has_returned(core) {
            return None;
        }
        let hold = Hold::new(core);
        loop {
            let (entry, lease) = Self::take_next::<S>(core, priority)?;
            let slot = entry.listener();
            let Entry { control, stored, .. } = entry;
            // SAFETY: the slab's slots live as long as the process.
            if slot.is_some_and(|slot| !unsafe { slot.as_ref() }.begin()) {
                // Met as cancelled: not counted as discarded.
                let _ = Discard::<S, R>::taken(core, control, stored);
                continue;
            }
            let completer = Completer { slot, lease, result: PhantomData };
            return Some(Pulled { arg: Some(stored.unwrap()), priority, completer, hold });
        }
    }

    /// Moves the next job out of its queue.
    fn take_next<S: Stored<Arg = A>>(core: &CoreRef, priority: Priority) -> Option<(Entry<S>, Option<Lease>)> {
        if core.flags() & MANAGED != 0 {
            // SAFETY: this function's jobs are stored as `S`.
            let entry = unsafe { managed::desk::<S>(core) }?.start(priority)?;
            return Some(Self::leased(core, entry));
        }
        // SAFETY: only functions without a body are pulled, and this one's jobs are stored as `S`.
        let own = unsafe { Untyped::<S, R>::own(core) };
        let entry = own.pop_returned(priority).or_else(|| {
            let (control, stored, _) = Lanes::<S>::take_one(core, core.lane(priority)?)?;
            Some(Entry::new(control, stored))
        })?;
        // Between the take and the look at the flag, see `managed`.
        fence_light();
        if core.flags() & MANAGED == 0 {
            return Some((entry, None));
        }
        // SAFETY: this function's jobs are stored as `S`.
        let desk = unsafe { managed::desk::<S>(core) }?;
        desk.put_first(priority, entry);
        desk.start(priority).map(|entry| Self::leased(core, entry))
    }

    fn leased<S>(core: &CoreRef, entry: Entry<S>) -> (Entry<S>, Option<Lease>) {
        let lease = Lease { core: core.clone(), record: entry.record };
        (entry, Some(lease))
    }

    /// The argument.
    pub fn arg(&self) -> &A {
        self.arg.as_ref().expect("present until taken")
    }

    /// The name of the job's function.
    pub fn function(&self) -> &str {
        self.hold.0.name()
    }

    /// How urgent the job was submitted.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// The job's id; `None` for a job that was sent.
    pub fn id(&self) -> Option<JobId> {
        self.completer.id()
    }

    /// The argument, and what finishes the job.
    pub fn take(mut self) -> (A, Completer<R>) {
        let arg = self.arg.take().expect("present until taken");
        let slot = self.completer.slot.take();
        // What is left of `self` finishes nothing.
        let lease = self.completer.lease.take();
        (arg, Completer { slot, lease, result: PhantomData })
    }

    /// Queues the job again, before all others of its function and priority, under the same id. For a function's
    /// [`Retry`](crate::Retry) it has been an attempt, as a loss is.
    ///
    /// If its caller has asked to cancel it meanwhile, or the engine has discarded what is queued, the job ends as cancelled
    /// instead.
    pub fn put_back(mut self) {
        let arg = self.arg.take().expect("present until taken");
        let slot = self.completer.slot.take();
        if is_inline::<A>() {
            self.return_stored::<Inline<A>>(slot, Inline::wrap(arg));
        } else {
            self.return_stored::<Box<A>>(slot, <Box<A>>::wrap(arg));
        }
    }

    fn return_stored<S: Stored<Arg = A>>(&mut self, slot: Option<NonNull<ResultSlot>>, stored: S) {
        let core = &CoreRef::clone(&self.hold.0);
        let control = slot.map_or_else(detached, NonNull::as_ptr);
        // SAFETY: the slab's slots live as long as the process.
        let slot = slot.map(|slot| unsafe { slot.as_ref() });
        if slot.is_some_and(ResultSlot::is_cancel_requested) {
            let _ = Discard::<S, R>::taken(core, control, stored);
            return;
        }
        if let Some(slot) = slot {
            slot.unbegin();
        }
        // SAFETY: as in `take_next`.
        let own = unsafe { Untyped::<S, R>::own(core) };
        let mut returned = own.returned.lock();
        // Under the lock: who discards has said so before it takes the lock.
        if core.shared().phase.is_discarding() {
            drop(returned);
            let ended = Discard::<S, R>::taken(core, control, stored);
            core.shared().phase.discarded(ended);
            self.completer.end(Err(JobError::Cancelled));
            return;
        }
        // Under the lock, too: who makes the function managed raises the flag before it takes the lock.
        if core.flags() & MANAGED != 0 {
            drop(returned);
            // SAFETY: this function's jobs are stored as `S`.
            let desk = unsafe { managed::desk::<S>(core) }.expect("the flag is raised after it was made");
            let entry = Entry { record: self.completer.take_record(), ..Entry::new(control, stored) };
            desk.update(|state, ends| state.unstart(self.priority, entry, ends));
            if core.shared().phase.is_discarding() {
                core.shared().phase.discarded(desk.discard());
            }
            return;
        }
        returned[self.priority.index()].push_front(Entry::new(control, stored));
        // Ordering: SeqCst, before the look at the parked sets in `announce`; pairs with `poll_ready`. Under the lock, so
        // that the count is never behind.
        own.waiting.returned.fetch_add(1, Ordering::SeqCst);
        drop(returned);
        // SAFETY: a function without a body.
        unsafe { announce(core) };
    }
}

impl<A, R> fmt::Debug for Pulled<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulled").field("function", &self.hold.0.name()).finish_non_exhaustive()
    }
}

/// The write side of a job's handle. Dropping it unfinished reports the job as lost.
#[must_use = "dropping a completer reports its job as lost"]
pub struct Completer<R> {
    /// `None` for a job without a handle, and after the end.
    slot: Option<NonNull<ResultSlot>>,
    /// Dropped last: the job has ended then.
    lease: Option<Lease>,
    result: PhantomData<fn(R)>,
}

/// Counts as a running job of a managed function.
struct Lease {
    core: CoreRef,
    /// The job's record, or 0. Those who hear of its end are there.
    record: RecordId,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // SAFETY: the vtable was made for this core.
        unsafe { (self.core.vtable.managed.ended)(&self.core) };
    }
}

// SAFETY: the job's side of a slot may be used from any thread, and moves an `R` there.
unsafe impl<R: Send> Send for Completer<R> {}
// SAFETY: through a shared completer only atomics can be reached.
unsafe impl<R: Send> Sync for Completer<R> {}

impl<R> Completer<R> {
    /// Finishes the job with its result.
    pub fn complete(self, result: R) {
        self.finish(Ok(result));
    }

    /// Finishes the job as failed: its handle reports [`JobError::Failed`].
    pub fn fail(self, why: impl Into<String>) {
        self.finish(Err(JobError::Failed(why.into())));
    }

    fn finish(mut self, outcome: Result<R, JobError>) {
        self.end(outcome);
    }

    /// Tells whoever hears of it, unless that has been done.
    fn end(&mut self, outcome: Result<R, JobError>) {
        if let Some(slot) = self.slot.take() {
            // SAFETY: the job's side, last use.
            unsafe { ResultSlot::complete(slot, outcome) };
        } else if let Some(lease) = self.lease.as_mut().filter(|lease| lease.record != 0) {
            let id = std::mem::take(&mut lease.record);
            // SAFETY: the vtable was made for this core.
            let record = unsafe { (lease.core.vtable.managed.settle)(&lease.core, id) };
            match (record, outcome) {
                (Some(record), Ok(value)) => managed::deliver(record, value),
                (Some(record), Err(error)) => _ = managed::deliver_error(record, error),
                // It was told that its time is up.
                (None, _) => {}
            }
        }
    }

    /// The job's record, which is no longer this side's to finish.
    fn take_record(&mut self) -> RecordId {
        self.lease.as_mut().map_or(0, |lease| std::mem::take(&mut lease.record))
    }

    /// Tells whoever listens how much is done.
    pub fn progress(&self, done: u64, total: u64) {
        self.tell(&Update::Progress { done, total });
    }

    /// Gives whoever listens a part of the result.
    pub fn data(&self, part: &[u8]) {
        self.tell(&Update::Data(part.into()));
    }

    /// Warns whoever listens.
    pub fn warning(&self, text: &[u8]) {
        self.tell(&Update::Warning(text.into()));
    }

    fn tell(&self, update: &Update) {
        let Some(lease) = self.lease.as_ref().filter(|lease| lease.record != 0) else { return };
        // SAFETY: the vtable was made for this core.
        if let Some(audience) = unsafe { (lease.core.vtable.managed.audience)(&lease.core, lease.record) } {
            audience.tell(update);
        }
    }

    /// Whether nobody wants the result any more: the caller asked to cancel this job after it was taken (all callers, of a
    /// unique one), or its time is up.
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: the slab's slots live as long as the process.
        let asked = self.slot.is_some_and(|slot| unsafe { slot.as_ref() }.is_cancel_requested());
        let lease = self.lease.as_ref().filter(|lease| lease.record != 0);
        // SAFETY: the vtable was made for this core.
        let over = lease.is_some_and(|l| unsafe { (l.core.vtable.managed.is_cancelled)(&l.core, l.record) });
        asked || over
    }

    /// The job's id; `None` for a job that was sent.
    pub fn id(&self) -> Option<JobId> {
        // SAFETY: the slab's slots live as long as the process.
        self.slot.map(|slot| unsafe { slot.as_ref() }.id())
    }
}

impl<R> Drop for Completer<R> {
    fn drop(&mut self) {
        let record = self.take_record();
        if let Some(lease) = self.lease.as_ref().filter(|_| record != 0) {
            // SAFETY: the vtable was made for this core.
            unsafe { (lease.core.vtable.managed.lose)(&lease.core, record, JobError::Lost) };
        } else {
            self.end(Err(JobError::Lost));
        }
    }
}

impl<R> fmt::Debug for Completer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completer").field("id", &self.id()).finish()
    }
}

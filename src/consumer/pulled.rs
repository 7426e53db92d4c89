//! A job that a consumer set has taken, and the write side of its handle.

use crate::clock;
use crate::error::JobError;
use crate::job::id::JobId;
use crate::job::slot::ResultSlot;
use crate::queue::block::detached;
use crate::queue::managed::Entry;
use crate::queue::priority::Priority;
use crate::queue::record::RecordId;
use crate::queue::update::Update;
use crate::quiet::quietly;
use crate::sched::core::{CoreRef, MANAGED};
use crate::sched::managed;
use crate::sched::run::{Discard, Inline, Lanes, Stored, is_inline};
use crate::sync::{Ordering, fence_light};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::waiting::{Hold, Untyped, announce, has_ended, has_returned};

/// A job taken by a consumer set. Dropping it reports the job as lost.
#[must_use = "dropping a pulled job reports it as lost"]
pub struct Pulled<A, R> {
    /// Taken out by `take` and `put_back`.
    arg: Option<A>,
    priority: Priority,
    completer: Completer<R>,
    hold: Hold,
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
        // Whoever looks for the end meanwhile would take the hold for a job that may come back.
        if has_ended(core) {
            return None;
        }
        let hold = Hold::new(core);
        loop {
            let (entry, lease) = Self::take_next::<S>(core, priority)?;
            let slot = entry.listener();
            let Entry { control, stored, stamp, .. } = entry;
            // SAFETY: the slab's slots live as long as the process.
            if slot.is_some_and(|slot| !unsafe { slot.as_ref() }.begin()) {
                // Met as cancelled: not counted as discarded.
                let _ = Discard::<S, R>::taken(core, control, stored);
                continue;
            }
            let completer = Completer { slot, taken: lease.taken(stamp), result: PhantomData };
            return Some(Pulled { arg: Some(stored.unwrap()), priority, completer, hold });
        }
    }

    /// Moves the next job out of its queue.
    fn take_next<S: Stored<Arg = A>>(core: &CoreRef, priority: Priority) -> Option<(Entry<S>, Lease)> {
        if core.flags() & MANAGED != 0 {
            // SAFETY: this function's jobs are stored as `S`.
            let entry = unsafe { managed::desk::<S>(core) }?.start(priority)?;
            return Some(Self::leased(core, entry));
        }
        // SAFETY: only functions without a body are pulled, and this one's jobs are stored as `S`.
        let own = unsafe { Untyped::<S, R>::own(core) };
        let entry = own.pop_returned(priority).or_else(|| {
            let lane = core.lane(priority)?;
            let (control, stored, span) = Lanes::<S>::take_one(core, lane)?;
            Some(Entry { stamp: lane.take_stamp(span), ..Entry::new(control, stored) })
        })?;
        // Between the take and the look at the flag, see `managed`.
        fence_light();
        if core.flags() & MANAGED == 0 {
            let lease = Lease { core: core.clone(), counts: false, record: 0 };
            return Some((entry, lease));
        }
        // SAFETY: this function's jobs are stored as `S`.
        let desk = unsafe { managed::desk::<S>(core) }?;
        desk.put_first(priority, entry);
        desk.start(priority).map(|entry| Self::leased(core, entry))
    }

    fn leased<S>(core: &CoreRef, entry: Entry<S>) -> (Entry<S>, Lease) {
        let lease = Lease { core: core.clone(), counts: true, record: entry.record };
        (entry, lease)
    }

    /// The argument.
    pub fn arg(&self) -> &A {
        self.arg.as_ref().expect("present until taken")
    }

    /// The name of the job's function.
    pub fn function(&self) -> &str {
        self.hold.core().name()
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
    pub fn take(self) -> (A, Completer<R>) {
        (self.arg.expect("present until taken"), self.completer)
    }

    /// Queues the job again, before all others of its function and priority, under the same id. For a function's
    /// [`Retry`](crate::Retry) it has been an attempt, as a loss is.
    ///
    /// If its caller has asked to cancel it meanwhile, or the engine has discarded what is queued, the job ends as cancelled
    /// instead.
    pub fn put_back(mut self) {
        let arg = self.arg.take().expect("present until taken");
        let slot = self.completer.slot.take();
        self.completer.taken.close();
        if is_inline::<A>() {
            self.return_stored::<Inline<A>>(slot, Inline::wrap(arg));
        } else {
            self.return_stored::<Box<A>>(slot, <Box<A>>::wrap(arg));
        }
    }

    fn return_stored<S: Stored<Arg = A>>(&mut self, slot: Option<NonNull<ResultSlot>>, stored: S) {
        let core = &CoreRef::clone(self.hold.core());
        let control = slot.map_or_else(detached, NonNull::as_ptr);
        // A sample stays one, and waits again from now on.
        let stamp = self.completer.taken.started.map(|_| clock::now());
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
            let record = self.completer.take_record();
            let ended = if record == 0 {
                Discard::<S, R>::taken(core, control, stored)
            } else {
                quietly(|| drop(stored));
                // SAFETY: the vtable was made for this core.
                let record = unsafe { (core.vtable.managed.settle)(core, record) };
                record.map_or(0, |record| usize::from(managed::deliver_error(core, record, JobError::Cancelled)))
            };
            core.shared().phase.discarded(ended);
            return;
        }
        // Under the lock, too: who makes the function managed raises the flag before it takes the lock.
        if core.flags() & MANAGED != 0 {
            drop(returned);
            // SAFETY: this function's jobs are stored as `S`.
            let desk = unsafe { managed::desk::<S>(core) }.expect("the flag is raised after it was made");
            let entry = Entry { record: self.completer.take_record(), stamp, ..Entry::new(control, stored) };
            desk.update(|state, ends| state.unstart(self.priority, entry, ends));
            if core.shared().phase.is_discarding() {
                core.shared().phase.discarded(desk.discard());
            }
            return;
        }
        returned[self.priority.index()].push_front(Entry { stamp, ..Entry::new(control, stored) });
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
        f.debug_struct("Pulled").field("function", &self.hold.core().name()).finish_non_exhaustive()
    }
}

/// The write side of a job's handle. Dropping it unfinished reports the job as lost.
#[must_use = "dropping a completer reports its job as lost"]
pub struct Completer<R> {
    /// `None` for a job without a handle, and after the end.
    slot: Option<NonNull<ResultSlot>>,
    /// Dropped last: the job has ended then.
    taken: Taken,
    result: PhantomData<fn(R)>,
}

/// What a taken job is to its function.
struct Lease {
    core: CoreRef,
    /// As a running job of a managed function.
    counts: bool,
    /// The job's record, or 0. Those who hear of its end are there.
    record: RecordId,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let managed = &self.core.vtable.managed;
        let ended = if self.counts { managed.ended } else { managed.earlier_ended };
        // SAFETY: the vtable was made for this core.
        unsafe { ended(&self.core) };
    }
}

impl Lease {
    /// The job is handed out.
    fn taken(self, stamp: Option<u64>) -> Taken {
        self.core.count(|events| &events.taken, 1);
        let started = stamp.map(|stamp| {
            let now = clock::now();
            self.core.note_wait(now.saturating_sub(stamp));
            now
        });
        Taken { lease: self, is_open: true, started }
    }
}

/// A job that was handed out.
struct Taken {
    lease: Lease,
    /// Neither finished nor put back.
    is_open: bool,
    /// When it was taken, if its run is a sample.
    started: Option<u64>,
}

impl Taken {
    /// Whether it was open until now.
    fn close(&mut self) -> bool {
        let was_open = std::mem::take(&mut self.is_open);
        if was_open {
            if let Some(started) = self.started {
                self.lease.core.note_run(clock::now().saturating_sub(started));
            }
            self.lease.core.uncount(|events| &events.taken);
        }
        was_open
    }

    /// Counts the job as one that ended like this.
    fn count<R>(&self, outcome: &Result<R, JobError>) {
        let core = &self.lease.core;
        match outcome {
            Ok(_) => core.count(|events| &events.completed, 1),
            Err(why) => core.count_end(why),
        }
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
        if !self.taken.close() {
            return;
        }
        let id = self.take_record();
        if id == 0 {
            self.taken.count(&outcome);
            if let Some(slot) = self.slot.take() {
                // SAFETY: the job's side, last use.
                unsafe { ResultSlot::complete(slot, outcome) };
            }
            return;
        }
        let core = &self.taken.lease.core;
        // SAFETY: the vtable was made for this core.
        let record = unsafe { (core.vtable.managed.settle)(core, id) };
        match (record, outcome) {
            (Some(record), Ok(value)) => {
                self.taken.count(&Ok(()));
                managed::deliver(record, value);
            }
            (Some(record), Err(error)) => _ = managed::deliver_error(core, record, error),
            // It was told that its time is up.
            (None, _) => {}
        }
    }

    /// The job's record, which is no longer this side's to finish.
    fn take_record(&mut self) -> RecordId {
        std::mem::take(&mut self.taken.lease.record)
    }

    /// Whose record it is, if it has one.
    fn recorded(&self) -> Option<&Lease> {
        Some(&self.taken.lease).filter(|lease| lease.record != 0)
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
        let Some(lease) = self.recorded() else { return };
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
        // SAFETY: the vtable was made for this core.
        let over = self.recorded().is_some_and(|l| unsafe { (l.core.vtable.managed.is_cancelled)(&l.core, l.record) });
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
        if self.taken.lease.record == 0 || !self.taken.is_open {
            self.end(Err(JobError::Lost));
            return;
        }
        self.taken.close();
        let record = self.take_record();
        let core = &self.taken.lease.core;
        // SAFETY: the vtable was made for this core.
        unsafe { (core.vtable.managed.lose)(core, record, JobError::Lost) };
    }
}

impl<R> fmt::Debug for Completer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completer").field("id", &self.id()).finish()
    }
}

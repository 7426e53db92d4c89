//! Functions that limits apply to: their jobs go through one queue under a lock.
//!
//! A function becomes managed when its first limit is set, and stays it. Others pay nothing: the flag is one of those that a
//! submit looks at anyway, and workers look at once a claim, singly taken or nested job. Three orders matter:
//!
//! * A worker takes jobs (opens a claim, moves one out), light fence, looks at the flag. Whoever makes the function managed
//!   raises the flag, heavy fence, takes claimed jobs back. So a job that was not about to start when the call returned
//!   is in the managed queue, or goes there.
//! * A submit that has not seen the flag still uses the lane, sets its ready bit as ever, and so a worker comes and takes the
//!   lane's jobs over before it looks at the queue.
//! * Ready bits of managed functions are changed under the lock, to say what may start; a clear is followed by a look at the
//!   lane, as in `ReadySet::settle`.

use super::core::{Core, MANAGED, ManagedVtable, PULLED, REMOVED};
use super::run::{Discard, Stored};
use super::seat::WorkerShared;
use crate::error::{JobError, Panic};
use crate::job::origin;
use crate::job::slot::ResultSlot;
use crate::queue::block::Shape;
use crate::queue::lane::{Claim, Span};
use crate::queue::managed::{Ends, Entry, InHand, NoRoom, State};
use crate::queue::priority::Priority;
use crate::queue::record::{Listener, Record, RecordId, Terms};
use crate::queue::update::Audience;
use crate::quiet::quietly;
use crate::sync::{Mutex, MutexGuard, fence_heavy, fence_light};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::Instant;

/// The queue of a managed function, with jobs stored as `S`.
pub(crate) struct Managed<S> {
    inner: Mutex<Inner<S>>,
}

struct Inner<S> {
    state: State<S>,
    /// Which ready bits this queue has set. Submits that use the lane may set others.
    shown: [bool; 3],
    /// Submits that wait for room.
    waiting: usize,
    /// When the timer will tell.
    armed: Option<Instant>,
    /// What has ended and is not told yet.
    left: Ends<S>,
}

/// A managed function's queue, seen through its core.
pub(crate) struct Desk<'c, S> {
    core: &'c Core,
    managed: &'c Managed<S>,
}

impl<S> Clone for Desk<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Desk<'_, S> {}

impl<S> Managed<S> {
    fn new(closed: bool) -> Self {
        let inner = Inner { state: State::new(closed), shown: [false; 3], waiting: 0, armed: None, left: Ends::new() };
        Managed { inner: Mutex::new(inner) }
    }
}

/// The queue of a function, if it was made managed.
///
/// # Safety
/// The function's jobs are stored as `S`.
pub(crate) unsafe fn desk<S: Stored>(core: &Core) -> Option<Desk<'_, S>> {
    // SAFETY: made by `manage` with this type, freed with the core.
    let managed = unsafe { core.managed().cast::<Managed<S>>().as_ref() }?;
    Some(Desk { core, managed })
}

/// Makes a function managed, if it is not yet.
///
/// # Safety
/// The function's jobs are stored as `S`.
pub(crate) unsafe fn manage<S: Stored>(core: &Core) -> Desk<'_, S> {
    core.shared().make_managed(
        core,
        |closed| Box::into_raw(Box::new(Managed::<S>::new(closed))).cast(),
        || {
            core.raise(MANAGED);
            fence_heavy();
            // SAFETY: passed on, and made managed by now.
            let desk = unsafe { desk::<S>(core) }.expect("made before this is called");
            if core.flags() & PULLED == 0 {
                desk.take_claims_back(&core.shared().workers);
            }
            desk.count_earlier();
        },
    );
    // SAFETY: as above.
    unsafe { desk(core) }.expect("made above")
}

impl<'c, S: Stored> Desk<'c, S> {
    /// The lock, with the lanes' jobs taken over.
    fn enter(self) -> MutexGuard<'c, Inner<S>> {
        let mut inner = self.managed.inner.lock();
        self.take_lanes_over(&mut inner.state);
        let state = &mut inner.state;
        // The count was not quite exact, if none runs.
        if state.earlier > 0 && state.running() == 0 && self.core.running() == 0 {
            state.earlier = 0;
        }
        inner
    }

    /// Unlocks, and tells everybody who may have to do something about what changed: how many jobs ended that had not been
    /// cancelled.
    fn leave(self, mut inner: MutexGuard<'_, Inner<S>>, ends: Ends<S>) -> usize {
        let wakes = self.show(&mut inner);
        let is_waited_for = inner.waiting > 0;
        let due = inner.state.first_due().filter(|due| inner.armed.is_none_or(|armed| *due < armed));
        inner.armed = due.or(inner.armed);
        if self.core.shared().phase.has_ended() && inner.armed.is_some() && inner.state.first_due().is_none() {
            // Nothing will be due again: the timer is not to keep the function, and its thread, until then.
            inner.armed = None;
            self.core.shared().timer.forget(self.core);
        }
        let is_over = self.core.flags() & PULLED != 0 && inner.state.is_closed() && {
            // What comes back while jobs are discarded ends as cancelled.
            inner.state.is_settled() || (self.core.shared().phase.is_discarding() && inner.state.is_empty())
        };
        drop(inner);
        if is_waited_for {
            origin::tell_of_room(self.core.origin());
        }
        if let Some(due) = due {
            self.core.shared().timer.arm(self.core, due);
        }
        if wakes {
            // SAFETY: the vtable was made for this core.
            unsafe { (self.core.vtable.announce)(self.core) };
        }
        if is_over {
            // SAFETY: the vtable was made for this core.
            unsafe { (self.core.vtable.closed)(self.core) };
        }
        self.tell(ends)
    }

    /// Looks at the state.
    pub(crate) fn read<T>(self, look: impl FnOnce(&State<S>) -> T) -> T {
        look(&self.enter().state)
    }

    /// Changes the state.
    pub(crate) fn update<T>(self, change: impl FnOnce(&mut State<S>, &mut Ends<S>) -> T) -> T {
        let (mut inner, mut ends) = (self.enter(), Ends::new());
        let changed = change(&mut inner.state, &mut ends);
        self.leave(inner, ends);
        changed
    }

    /// Queues a job, for which others may have to go, or joins one with the same key.
    ///
    /// # Errors
    /// Why it was not accepted, and the job.
    pub(crate) fn submit(
        self,
        priority: Priority,
        mut entry: Entry<S>,
        mut terms: Terms,
        may_wait: bool,
    ) -> Result<(), (NoRoom, Entry<S>)> {
        let (mut inner, mut ends) = (self.enter(), Ends::new());
        if let Some(clone) = inner.state.retry.as_ref().map(|retry| retry.clone) {
            drop(inner);
            entry.again = try_clone(clone, &entry.stored);
            inner = self.enter();
        }
        // Set once others know that this one waits: whatever makes room from then on wakes it.
        let mut expected = None;
        let made = loop {
            let state = &mut inner.state;
            if !state.is_closed() && state.join(&mut terms, entry.listener(), &mut ends) {
                self.core.count(|events| &events.coalesced, 1);
                self.leave(inner, ends);
                quietly(|| drop((entry.stored, entry.again)));
                return Ok(());
            }
            if terms.beyond_limits && !state.is_closed() {
                break Ok(());
            }
            let cancels = origin::cancels(self.core.origin());
            let is_pulled = self.core.flags() & PULLED != 0;
            inner.state.sweep_for(priority, cancels, is_pulled, &mut ends);
            match inner.state.make_room(priority, &mut ends) {
                Err(NoRoom::Wait) if may_wait && !ends.is_empty() => {
                    // Told before the wait, which may be long: until then what was taken out counts as cancelled, and is kept.
                    self.leave(inner, std::mem::replace(&mut ends, Ends::new()));
                    inner = self.enter();
                }
                Err(NoRoom::Wait) if may_wait => match expected.take() {
                    // Another look: cancels, which make room, too, come without the lock.
                    None => expected = Some(origin::expect_room(self.core.origin())),
                    Some(expected) => {
                        inner.waiting += 1;
                        drop(inner);
                        origin::await_room(self.core.origin(), expected);
                        inner = self.enter();
                        inner.waiting -= 1;
                    }
                },
                made => break made,
            }
        };
        let refused = match made {
            Ok(()) => {
                inner.state.admit(priority, entry, terms);
                Ok(())
            }
            Err(why) => Err((why, entry)),
        };
        self.leave(inner, ends);
        refused
    }

    /// Takes the first job of a priority that is to run, if one may start. The caller has [`ended`](Self::ended) called when
    /// it has.
    pub(crate) fn start(self, priority: Priority) -> Option<Entry<S>> {
        self.start_in(self.enter(), priority)
    }

    /// The same for who has just ended one: that is over first. `None`, too, when a more urgent one may start now: a cap may have
    /// kept its ready bit from being set until here.
    pub(crate) fn start_next(self, priority: Priority) -> Option<Entry<S>> {
        let mut inner = self.enter();
        inner.state.ended();
        if Priority::ALL[..priority.index()].iter().any(|urgent| inner.state.may_start(*urgent)) {
            self.leave(inner, Ends::new());
            return None;
        }
        self.start_in(inner, priority)
    }

    fn start_in(self, mut inner: MutexGuard<'c, Inner<S>>, priority: Priority) -> Option<Entry<S>> {
        let mut ends = Ends::new();
        let entry = inner.state.start(priority, &mut ends);
        // Whoever came was led by a bit, which a submit may have set.
        inner.shown[priority.index()] = true;
        let has_more = inner.state.startable() > 0;
        self.leave(inner, ends);
        if has_more {
            // SAFETY: the vtable was made for this core.
            unsafe { (self.core.vtable.announce)(self.core) };
        }
        entry
    }

    /// A started job has ended.
    pub(crate) fn ended(self) {
        self.update(|state, _| state.ended());
    }

    /// Jobs run that started before the function was managed. A cap counts them, but for one that is just about to start.
    fn count_earlier(self) {
        self.update(|state, _| {
            // Those from here are on both counts; on this one first, and last.
            state.earlier = (self.core.running() as usize).saturating_sub(state.running());
        });
    }

    /// Takes a record out: `None` when its job's end was told already.
    pub(crate) fn settle(self, id: RecordId) -> Option<Record> {
        let (record, again) = self.update(|state, _| state.settle(id));
        quietly(|| drop(again));
        record
    }

    /// A job's attempt was lost: it is run again, or ends.
    pub(crate) fn lose(self, id: RecordId, why: JobError) {
        if let Some(job) = self.update(|state, ends| state.lose(id, why, ends)) {
            self.run_again(job);
        }
    }

    /// A job's attempt panicked: that may count as a loss.
    pub(crate) fn panicked(self, id: RecordId, why: JobError) {
        if self.read(|state| state.retry.as_ref().is_some_and(|retry| retry.policy.panics)) {
            self.lose(id, why);
        } else if let Some(record) = self.settle(id) {
            let _ = deliver_error(self.core, record, why);
        }
    }

    /// The next attempt of a job. The clone for the one after it is made without the lock.
    fn run_again(self, job: InHand<S>) {
        self.core.count(|events| &events.retried, 1);
        let again = try_clone(job.clone, &job.stored);
        self.update(|state, ends| state.run_again(job, again, ends));
        let phase = &self.core.shared().phase;
        if phase.is_discarding() {
            // It came back too late for whoever discards.
            phase.discarded(self.discard());
        }
    }

    /// A job that was taken before the function was managed, and must not start, goes back to the front.
    pub(crate) fn put_first(self, priority: Priority, entry: Entry<S>) {
        self.update(|state, _| state.put_first(priority, std::iter::once(entry)));
    }

    /// The same for a worker: to where `put` has it. A removed function's job does not go back, for the function may have been
    /// found empty and be on its way out; its worker runs it, as it would have without limits.
    pub(crate) fn give_back(self, entry: Entry<S>, put: impl FnOnce(&mut State<S>, Entry<S>)) -> Result<(), Entry<S>> {
        self.update(|state, _| {
            // Under the lock, which a removal takes between raising the flag and looking whether there is a job.
            if self.core.flags() & REMOVED != 0 {
                return Err(entry);
            }
            put(state, entry);
            Ok(())
        })
    }

    /// Moves the jobs that these workers have claimed and not started to the front; not in a removed function, as above.
    pub(crate) fn take_claims_back<'w>(self, workers: impl IntoIterator<Item = &'w WorkerShared>) {
        let core = NonNull::from(self.core);
        self.update(|state, _| {
            let mut entries = Vec::new();
            for worker in workers.into_iter().filter(|_| self.core.flags() & REMOVED == 0) {
                while let Some(taken) = worker.claim.revoke_of(Some(core), |_| ()) {
                    let span =
                        Span { block: taken.block, start: taken.start, len: taken.len, began: false, sampled: false };
                    // SAFETY: revoked for this call, from a claim of this function.
                    unsafe { self.empty_span(span, |entry| entries.push(entry)) };
                }
            }
            state.put_first(Priority::Normal, entries.into_iter());
        });
    }

    /// Ends everything that is queued as cancelled: how many.
    pub(crate) fn discard(self) -> usize {
        let (mut inner, mut ends) = (self.enter(), Ends::new());
        inner.state.clear(&mut ends);
        self.leave(inner, ends)
    }

    /// Tells whoever hears of jobs that have ended, and drops their arguments: how many had not been cancelled.
    fn tell(self, ends: Ends<S>) -> usize {
        let mut count = 0;
        if ends.dead > 0 {
            self.core.count(|events| &events.dead, ends.dead);
        }
        for (record, why) in ends.records {
            count += usize::from(deliver_error(self.core, record, why));
        }
        for Listener(slot) in ends.cancelled {
            // SAFETY: the job's side of the slot, last use.
            quietly(|| unsafe { ResultSlot::fail(slot, JobError::Cancelled) });
        }
        for (entry, why) in ends.entries {
            quietly(|| drop(entry.again));
            if entry.record == 0 {
                count += Discard::<S, ()>::ended(self.core, entry.control, entry.stored, why);
            } else {
                // Who heard of it was told through the record.
                quietly(|| drop(entry.stored));
            }
        }
        ends.unused.into_iter().for_each(|stored| quietly(|| drop(stored)));
        count
    }

    /// Moves what lies in the lanes to the queue: submits that did not see the flag, or came before it.
    fn take_lanes_over(self, state: &mut State<S>) {
        let blocks = &self.core.class().blocks;
        for (priority, lane) in self.core.lanes() {
            while !lane.is_empty::<S>()
                && let Claim::Jobs(span) = lane.claim::<S>(blocks, usize::MAX)
            {
                // SAFETY: claimed for this call.
                unsafe { self.empty_span(span, |entry| state.append(priority, entry)) };
            }
        }
    }

    /// Moves the jobs of a span out.
    unsafe fn empty_span(self, span: Span, mut each: impl FnMut(Entry<S>)) {
        for i in span.start..span.start + span.len {
            // SAFETY: the caller has the span; the block is of this core's shape.
            let slot = unsafe { Shape::<S>::slot(span.block, i) };
            // SAFETY: as above.
            let (control, stored) = unsafe { slot.take() };
            each(Entry::new(control, stored));
        }
        // SAFETY: moved out above.
        unsafe { Shape::<S>::finish(&self.core.class().blocks, span.block, span.len) };
    }

    /// Has the ready bits say what may start. Whether somebody may have to be woken.
    fn show(self, inner: &mut Inner<S>) -> bool {
        if self.core.flags() & PULLED != 0 {
            return inner.state.startable() > 0;
        }
        let mut wakes = false;
        for (priority, lane) in self.core.lanes() {
            let ready = self.core.shared().ready(priority);
            let (index, shown) = (self.core.index as usize, &mut inner.shown[priority.index()]);
            let may_start = inner.state.may_start(priority);
            if may_start && !*shown {
                wakes |= ready.set(index);
            } else if !may_start && *shown {
                wakes |= !ready.settle(index, || lane.is_empty::<S>(), || ());
            }
            *shown = may_start;
        }
        wakes
    }
}

/// Without a clone there is no other attempt.
fn try_clone<S>(clone: fn(&S) -> S, stored: &S) -> Option<S> {
    let mut again = None;
    quietly(|| again = Some(clone(stored)));
    again
}

/// Gives the value to everybody who hears of it.
pub(crate) fn deliver<R>(mut record: Record, value: R) {
    let clone = record.deliver_clone();
    let mut listeners = std::mem::take(&mut record.listeners).into_iter();
    let first = listeners.next();
    if let Some(clone) = clone {
        for slot in listeners {
            // SAFETY: the slots of this record were acquired for `R`, as whoever made `clone` knew; their last use.
            quietly(|| unsafe { clone(slot, (&raw const value).cast()) });
        }
    }
    match first {
        // SAFETY: the job's side of a slot acquired for `R`, last use.
        Some(slot) => quietly(|| unsafe { ResultSlot::complete(slot, Ok(value)) }),
        None => quietly(|| drop(value)),
    }
    // What listened is others' code.
    quietly(|| drop(record));
}

/// Tells everybody who hears of it that there is no value; those who had cancelled a job that was not started, that it is
/// cancelled: whether others wanted it.
pub(crate) fn deliver_error(core: &Core, mut record: Record, why: JobError) -> bool {
    let cancelled = if record.is_running { Vec::new() } else { record.begin() };
    let is_wanted = record.is_wanted();
    core.count_end(if is_wanted { &why } else { &JobError::Cancelled });
    for Listener(slot) in cancelled {
        // SAFETY: the job's side of the slot, last use; likewise below.
        quietly(|| unsafe { ResultSlot::fail(slot, JobError::Cancelled) });
    }
    let mut listeners = std::mem::take(&mut record.listeners).into_iter();
    let first = listeners.next();
    for slot in listeners {
        // SAFETY: as above.
        quietly(|| unsafe { ResultSlot::fail(slot, why.copy()) });
    }
    if let Some(slot) = first {
        // SAFETY: as above.
        quietly(|| unsafe { ResultSlot::fail(slot, why) });
    }
    // What listened is others' code.
    quietly(|| drop(record));
    is_wanted
}

/// Completes a slot with a clone of the value.
///
/// # Safety
/// `value` points to an `R`, and `slot` was acquired for one; it is its last use.
pub(crate) unsafe fn deliver_clone<R: Clone>(slot: NonNull<ResultSlot>, value: *const ()) {
    // SAFETY: passed on.
    let value = unsafe { &*value.cast::<R>() };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| value.clone()));
    let outcome = outcome.map_err(|payload| JobError::Panicked(Panic::new(payload)));
    // SAFETY: passed on.
    unsafe { ResultSlot::complete(slot, outcome) };
}

/// What a vtable needs of a managed queue, whatever its function runs.
pub(crate) struct Kept<S, R>(PhantomData<fn(S, R)>);

impl<S: Stored, R> Kept<S, R> {
    pub(crate) const TABLE: ManagedVtable = ManagedVtable {
        start_ending: Self::start_ending,
        close: Self::close,
        free: Self::free,
        startable: Self::startable,
        cancelled: Self::cancelled,
        late: Self::late,
        ended: Self::ended,
        earlier_ended: Self::earlier_ended,
        settle: Self::settle,
        lose: Self::lose,
        audience: Self::audience,
        tick: Self::tick,
        told: Self::told,
        is_cancelled: Self::is_cancelled,
        is_heard_by: Self::is_heard_by,
        look: super::look::look::<S>,
    };

    /// The engine began to end: what was accepted is to end.
    unsafe fn start_ending(core: &Core) {
        // SAFETY: passed on.
        if let Some(desk) = unsafe { desk::<S>(core) } {
            let (mut inner, mut ends) = (desk.enter(), Ends::new());
            inner.state.start_ending(&mut ends);
            core.shared().phase.discarded(desk.leave(inner, ends));
        }
    }

    /// The function was closed: submits that wait are refused. Wakes no consumer set, for the registry is locked.
    unsafe fn close(core: &Core) {
        // SAFETY: passed on.
        let Some(desk) = (unsafe { desk::<S>(core) }) else { return };
        let (mut inner, mut ends) = (desk.managed.inner.lock(), Ends::new());
        inner.state.close();
        if !core.shared().phase.is_discarding() {
            inner.state.start_ending(&mut ends);
        }
        // The rest waits for whoever comes next: this runs no other code.
        let wakes = desk.show(&mut inner) && core.flags() & PULLED == 0;
        let is_waited_for = inner.waiting > 0;
        inner.left.append(&mut ends);
        drop(inner);
        if is_waited_for {
            origin::tell_of_room(core.origin());
        }
        if wakes {
            // SAFETY: the vtable was made for this core.
            unsafe { (core.vtable.announce)(core) };
        }
    }

    /// How many jobs may start now.
    unsafe fn startable(core: &Core) -> usize {
        // SAFETY: passed on.
        unsafe { desk::<S>(core) }.map_or(0, |desk| desk.read(State::startable))
    }

    /// How many queued jobs nobody wants any more.
    unsafe fn cancelled(core: &Core) -> usize {
        // SAFETY: passed on.
        unsafe { desk::<S>(core) }.map_or(0, |desk| desk.read(State::cancelled))
    }

    /// How many jobs run though their end was told, or another attempt has begun.
    unsafe fn late(core: &Core) -> usize {
        // SAFETY: passed on.
        unsafe { desk::<S>(core) }.map_or(0, |desk| desk.read(State::late))
    }

    /// Tells of the ends that `close` left.
    unsafe fn told(core: &Core) {
        // SAFETY: passed on.
        if let Some(desk) = unsafe { desk::<S>(core) } {
            let ends = std::mem::replace(&mut desk.enter().left, Ends::new());
            core.shared().phase.discarded(desk.tell(ends));
        }
    }

    unsafe fn tick(core: &Core, now: Instant) {
        // SAFETY: passed on.
        if let Some(desk) = unsafe { desk::<S>(core) } {
            let (mut inner, mut ends) = (desk.enter(), Ends::new());
            inner.armed = None;
            let lost = inner.state.tick(now, &mut ends);
            desk.leave(inner, ends);
            lost.into_iter().for_each(|job| desk.run_again(job));
        }
    }

    unsafe fn lose(core: &Core, id: RecordId, why: JobError) {
        // SAFETY: passed on.
        if let Some(desk) = unsafe { desk::<S>(core) } {
            desk.lose(id, why);
        }
    }

    unsafe fn audience(core: &Core, id: RecordId) -> Option<Audience> {
        // SAFETY: passed on.
        unsafe { desk::<S>(core) }?.read(|state| state.records.get(id)?.audience())
    }

    unsafe fn settle(core: &Core, id: RecordId) -> Option<Record> {
        // SAFETY: passed on.
        unsafe { desk::<S>(core) }?.settle(id)
    }

    /// Whether nobody wants the running job's result any more: all have cancelled, or its time is up.
    unsafe fn is_cancelled(core: &Core, id: RecordId) -> bool {
        // SAFETY: passed on.
        let desk = unsafe { desk::<S>(core) };
        desk.is_none_or(|desk| desk.read(|state| state.records.get(id).is_none_or(Record::is_cancel_requested)))
    }

    /// Whether the running job's end is what this handle waits for.
    unsafe fn is_heard_by(core: &Core, id: RecordId, slot: NonNull<ResultSlot>) -> bool {
        // SAFETY: passed on.
        let desk = unsafe { desk::<S>(core) };
        desk.is_some_and(|desk| desk.read(|state| state.records.get(id).is_some_and(|record| record.is_heard_by(slot))))
    }

    unsafe fn earlier_ended(core: &Core) {
        // SAFETY: passed on.
        if let Some(desk) = unsafe { desk::<S>(core) } {
            desk.update(|state, _| state.earlier = state.earlier.saturating_sub(1));
        }
    }

    unsafe fn ended(core: &Core) {
        // SAFETY: passed on.
        if let Some(desk) = unsafe { desk::<S>(core) } {
            desk.ended();
        }
    }

    unsafe fn free(core: &Core) {
        let managed = core.managed().cast::<Managed<S>>();
        if !managed.is_null() {
            // SAFETY: made by `Box::into_raw` in `manage`, freed once.
            let managed = unsafe { Box::from_raw(managed) };
            // With listeners of jobs that never ran, and dead jobs: others' code.
            quietly(|| drop(managed));
        }
    }
}

/// One or more jobs, one after the other, that start without a look at limits. When they have ended, also in an unwind, a
/// function that was managed meanwhile counts them off.
pub(crate) struct Earlier<'c>(&'c Core);

impl<'c> Earlier<'c> {
    /// `None` for a function that is managed already.
    #[inline(always)]
    pub(crate) fn new(core: &'c Core) -> Option<Self> {
        (core.flags() & MANAGED == 0).then_some(Earlier(core))
    }
}

impl Drop for Earlier<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // After the count of those that run was lowered: either this sees the flag, or who raised it sees that count.
        fence_light();
        if self.0.flags() & MANAGED != 0 {
            // SAFETY: the vtable was made for this core.
            unsafe { (self.0.vtable.managed.earlier_ended)(self.0) };
        }
    }
}

/// Counts a started job as ended when it goes, also in an unwind.
pub(crate) struct Ended<'c, S: Stored>(pub(crate) Desk<'c, S>);

impl<S: Stored> Drop for Ended<'_, S> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

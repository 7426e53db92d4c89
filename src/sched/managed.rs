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

use super::core::{Core, MANAGED, ManagedVtable, PULLED};
use super::run::{Discard, Stored};
use super::seat::WorkerShared;
use crate::error::JobError;
use crate::job::origin;
use crate::job::slot::ResultSlot;
use crate::queue::block::{Shape, detached};
use crate::queue::lane::{Claim, Span};
use crate::queue::managed::{Entry, NoRoom, State};
use crate::queue::priority::Priority;
use crate::sync::{Condvar, Mutex, MutexGuard, fence_heavy};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// The queue of a managed function, with jobs stored as `S`.
pub(crate) struct Managed<S> {
    inner: Mutex<Inner<S>>,
    /// There is room, or never again.
    room: Condvar,
}

struct Inner<S> {
    state: State<S>,
    /// Which ready bits this queue has set. Submits that use the lane may set others.
    shown: [bool; 3],
    /// Submits that wait for room.
    waiting: usize,
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
    pub(super) fn new(closed: bool) -> Self {
        let inner = Inner { state: State::new(closed), shown: [false; 3], waiting: 0 };
        Managed { inner: Mutex::new(inner), room: Condvar::new() }
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
        },
    );
    // SAFETY: as above.
    unsafe { desk(core) }.expect("made above")
}

impl<'c, S: Stored> Desk<'c, S> {
    fn lock(self) -> MutexGuard<'c, Inner<S>> {
        self.managed.inner.lock()
    }

    /// Looks at the state, with the lane's jobs in it.
    pub(crate) fn read<T>(self, look: impl FnOnce(&State<S>) -> T) -> T {
        let mut inner = self.lock();
        self.take_lanes_over(&mut inner.state);
        look(&inner.state)
    }

    /// Changes the state, and tells whoever may have to do something about it.
    pub(crate) fn update<T>(self, change: impl FnOnce(&mut State<S>) -> T) -> T {
        let mut inner = self.lock();
        self.take_lanes_over(&mut inner.state);
        let changed = change(&mut inner.state);
        let is_waited_for = inner.waiting > 0;
        let wakes = self.show(&mut inner);
        drop(inner);
        if is_waited_for {
            self.managed.room.notify_all();
        }
        self.announce(wakes);
        changed
    }

    /// Queues a job, in which other jobs may have to go.
    ///
    /// # Errors
    /// Why it was not accepted, and the argument.
    pub(crate) fn submit<R>(
        self,
        priority: Priority,
        entry: Entry<S>,
        may_wait: bool,
    ) -> Result<(), (NoRoom, Entry<S>)> {
        let mut inner = self.lock();
        self.take_lanes_over(&mut inner.state);
        let mut swept = Vec::new();
        let made = loop {
            match inner.state.make_room(priority) {
                Err(NoRoom::Full | NoRoom::Wait) if swept.is_empty() && self.sweep(&mut inner.state, &mut swept) => {}
                Err(NoRoom::Wait) if may_wait => {
                    inner.waiting += 1;
                    self.managed.room.wait(&mut inner);
                    inner.waiting -= 1;
                }
                made => break made,
            }
        };
        let (accepted, evicted) = match made {
            Ok(evicted) => {
                inner.state.append(priority, entry);
                (Ok(()), evicted)
            }
            Err(why) => (Err((why, entry)), Vec::new()),
        };
        let wakes = self.show(&mut inner);
        drop(inner);
        self.announce(wakes);
        swept.into_iter().for_each(|entry| _ = self.end::<R>(entry, JobError::Cancelled));
        evicted.into_iter().for_each(|entry| _ = self.end::<R>(entry, JobError::Evicted));
        accepted
    }

    /// Takes cancelled jobs out: whether there were any.
    fn sweep(self, state: &mut State<S>, swept: &mut Vec<Entry<S>>) -> bool {
        if origin::tombstones(self.core.origin()) > 0 {
            *swept = state.sweep(is_cancelled);
        }
        !swept.is_empty()
    }

    /// Takes the first job of a priority, if it may start. The caller calls [`ended`](Self::ended) when it has.
    pub(crate) fn start(self, priority: Priority) -> Option<Entry<S>> {
        let mut inner = self.lock();
        self.take_lanes_over(&mut inner.state);
        let entry = inner.state.start(priority);
        // Whoever came was led by a bit, which a submit may have set.
        inner.shown[priority.index()] = true;
        let is_waited_for = inner.waiting > 0 && entry.is_some();
        let wakes = self.show(&mut inner) || inner.state.startable() > 0;
        drop(inner);
        if is_waited_for {
            self.managed.room.notify_all();
        }
        self.announce(wakes);
        entry
    }

    /// A started job has ended.
    pub(crate) fn ended(self) {
        self.update(State::ended);
    }

    /// Moves the jobs that these workers have claimed and not started to the front.
    pub(crate) fn take_claims_back<'w>(self, workers: impl IntoIterator<Item = &'w WorkerShared>) {
        let core = NonNull::from(self.core);
        let mut entries = Vec::new();
        for worker in workers {
            while let Some(taken) = worker.claim.revoke_of(Some(core), |_| ()) {
                let span = Span { block: taken.block, start: taken.start, len: taken.len, began: false };
                // SAFETY: revoked for this call, from a claim of this function.
                unsafe { self.empty_span(span, |entry| entries.push(entry)) };
            }
        }
        self.update(|state| state.put_first(Priority::Normal, entries.into_iter()));
    }

    /// Ends everything that is queued as cancelled: how many.
    pub(crate) fn discard<R>(self) -> usize {
        let jobs = self.update(State::clear);
        jobs.into_iter().map(|entry| self.end::<R>(entry, JobError::Cancelled)).sum()
    }

    /// Ends a job without running it: 1, or 0 if its caller had cancelled it before.
    fn end<R>(self, entry: Entry<S>, error: JobError) -> usize {
        Discard::<S, R>::ended(self.core, entry.control, entry.stored, error)
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
            each(Entry { control, stored });
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

    fn announce(self, wakes: bool) {
        if wakes {
            // SAFETY: the vtable was made for this core.
            unsafe { (self.core.vtable.announce)(self.core) };
        }
    }
}

/// Whether the job of an entry was cancelled.
fn is_cancelled<S>(entry: &Entry<S>) -> bool {
    let slot = NonNull::new(entry.control).filter(|slot| slot.as_ptr() != detached());
    // SAFETY: the slab's slots live as long as the process.
    slot.is_some_and(|slot| unsafe { slot.as_ref() }.is_cancel_granted())
}

/// What a vtable needs of a managed queue, whatever its function runs.
pub(crate) struct Kept<S, R>(PhantomData<fn(S, R)>);

impl<S: Stored, R> Kept<S, R> {
    pub(crate) const TABLE: ManagedVtable = ManagedVtable {
        start_ending: Self::start_ending,
        close: Self::close,
        free: Self::free,
        startable: Self::startable,
        ended: Self::ended,
    };

    /// The engine began to end: what was accepted is to end.
    unsafe fn start_ending(core: &Core) {
        // SAFETY: passed on.
        if let Some(desk) = unsafe { desk::<S>(core) } {
            desk.update(State::start_ending);
        }
    }

    /// The function was closed: submits that wait are refused. Wakes no consumer set, for the registry is locked.
    unsafe fn close(core: &Core) {
        // SAFETY: passed on.
        let Some(desk) = (unsafe { desk::<S>(core) }) else { return };
        let wakes = {
            let mut inner = desk.lock();
            inner.state.close();
            if !core.shared().phase.is_discarding() {
                inner.state.start_ending();
            }
            desk.show(&mut inner)
        };
        desk.managed.room.notify_all();
        desk.announce(wakes && core.flags() & PULLED == 0);
    }

    /// How many jobs may start now.
    unsafe fn startable(core: &Core) -> usize {
        // SAFETY: passed on.
        unsafe { desk::<S>(core) }.map_or(0, |desk| desk.read(State::startable))
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
            drop(unsafe { Box::from_raw(managed) });
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

/// An entry of a job with or without a handle.
pub(crate) fn entry<S>(control: *mut ResultSlot, stored: S) -> Entry<S> {
    Entry { control, stored }
}

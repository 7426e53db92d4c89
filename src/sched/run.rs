//! The typed half of the scheduler: what a [`Vtable`] points to for one function.

use super::core::{Core, MANAGED, Node, PULLED, Recipe, Types, Vtable};
use super::deque::{self, Taken};
use super::managed::{self, Desk, Earlier, Ended, Kept, desk};
use super::tally::Batch;
use super::worker::Worker;
use crate::clock;
use crate::error::{JobError, Panic};
use crate::job::slot::ResultSlot;
use crate::queue::block::{JobSlot, Shape, detached};
use crate::queue::lane::{Claim, Lane, Span};
use crate::queue::managed::{Entry, State};
use crate::queue::pool::Link;
use crate::queue::priority::Priority;
use crate::queue::record::RecordId;
use crate::quiet::{quietly, swallow};
use crate::sync::{fence_light, prefetch_write};
use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};

/// Arguments above this size are boxed: one allocation a job, for jobs that move over half a kilobyte.
const INLINE_BYTES: usize = 512;

/// Jobs of a managed function that a worker runs before it looks at other functions.
const ROUND: usize = 32;

/// Whether arguments of type `A` lie in the queue itself.
pub(crate) const fn is_inline<A>() -> bool {
    size_of::<A>() <= INLINE_BYTES
}

/// How an argument is stored.
pub(crate) trait Stored {
    type Arg;
    fn wrap(arg: Self::Arg) -> Self;
    fn unwrap(self) -> Self::Arg;
    fn get(&self) -> &Self::Arg;
}

/// The argument itself.
pub(crate) struct Inline<A>(A);

impl<A> Stored for Inline<A> {
    type Arg = A;
    #[inline(always)]
    fn wrap(arg: A) -> Self {
        Inline(arg)
    }
    #[inline(always)]
    fn unwrap(self) -> A {
        self.0
    }
    fn get(&self) -> &A {
        &self.0
    }
}

impl<A> Stored for Box<A> {
    type Arg = A;
    fn wrap(arg: A) -> Self {
        Box::new(arg)
    }
    fn unwrap(self) -> A {
        *self
    }
    fn get(&self) -> &A {
        self
    }
}

/// Notes how long a job ran when it goes, also in an unwind.
struct Timed<'c> {
    core: &'c Core,
    started: u64,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.core.note_run(clock::now().saturating_sub(self.started));
    }
}

/// A function with a body of type `F`.
struct Typed<S, R, F>(PhantomData<fn(S, R, F)>);

/// The recipe of a function with a body.
pub(crate) fn with_body<A, R, F>(body: F) -> Recipe
where
    A: Send + 'static,
    R: Send + 'static,
    F: Fn(A) -> R + Send + Sync + 'static,
{
    let vtable = if is_inline::<A>() { &Typed::<Inline<A>, R, F>::TABLE } else { &Typed::<Box<A>, R, F>::TABLE };
    Recipe { vtable, body: Box::into_raw(Box::new(body)).cast(), pulled: false }
}

/// What is done with the jobs of a function besides running them, whether or not it has a body.
pub(crate) struct Discard<S, R>(PhantomData<fn(S, R)>);

impl<S: Stored, R> Discard<S, R> {
    /// Ends a job as cancelled.
    unsafe fn job(core: &Core, slot: &JobSlot<S>) -> usize {
        // SAFETY: the caller has claimed the job.
        let (control, stored) = unsafe { slot.take() };
        Self::taken(core, control, stored)
    }

    /// Ends a job that was moved out as cancelled: 1, or 0 if its caller had cancelled it before, or will run it himself.
    pub(crate) fn taken(core: &Core, control: *mut ResultSlot, stored: S) -> usize {
        Self::ended(core, control, stored, JobError::Cancelled)
    }

    /// The same with another reason.
    pub(crate) fn ended(core: &Core, control: *mut ResultSlot, stored: S, mut reason: JobError) -> usize {
        let mut discarded = usize::from(!core.is_internal());
        quietly(|| {
            if control != detached() {
                // SAFETY: the job's side of its slot; a control word other than `detached` is one.
                let slot = unsafe { NonNull::new_unchecked(control) };
                // SAFETY: the slab's slots live as long as the process.
                let this = unsafe { slot.as_ref() };
                if !this.begin() {
                    discarded = 0;
                    reason = JobError::Cancelled;
                    this.bury(core.origin());
                }
                core.count_end(&reason);
                // SAFETY: as above, last use.
                unsafe { ResultSlot::complete::<R>(slot, Err(reason)) };
            } else {
                core.count_end(&reason);
            }
            drop(stored);
        });
        discarded
    }

    pub(crate) unsafe fn span(core: &Core, span: Span) -> usize {
        let mut discarded = 0;
        for i in span.start..span.start + span.len {
            // SAFETY: claimed by the caller; the block is of this core's shape.
            let slot = unsafe { Shape::<S>::slot(span.block, i) };
            // SAFETY: as above.
            discarded += unsafe { Self::job(core, slot) };
        }
        // SAFETY: each slot was used once.
        unsafe { Shape::<S>::finish(&core.class().blocks, span.block, span.len) };
        discarded
    }

    pub(crate) unsafe fn nested(core: &Core, taken: Taken<'_, Core>) -> usize {
        // SAFETY: pushed by this function's submit.
        let (control, stored) = unsafe { unpack::<S>(taken, |node| core.class().nodes.put(node)) };
        Self::taken(core, control, stored)
    }

    pub(crate) unsafe fn queued(core: &Core) -> usize {
        // SAFETY: this vtable's core.
        let mut total = unsafe { desk::<S>(core) }.map_or(0, Desk::discard);
        for (_, lane) in core.lanes() {
            while let Claim::Jobs(span) = lane.claim::<S>(&core.class().blocks, usize::MAX) {
                // SAFETY: claimed above.
                total += unsafe { Self::span(core, span) };
            }
        }
        total
    }
}

/// What is asked of all lanes of a function.
pub(crate) struct Lanes<S>(PhantomData<fn(S)>);

impl<S: Stored> Lanes<S> {
    pub(crate) unsafe fn is_empty(core: &Core) -> bool {
        // SAFETY: this vtable's core.
        let none_kept = || unsafe { desk::<S>(core) }.is_none_or(|desk| desk.read(State::is_empty));
        Self::are_empty(core) && none_kept()
    }

    /// Whether nothing is queued or will be, once the function is closed.
    pub(crate) unsafe fn is_settled(core: &Core) -> bool {
        // SAFETY: this vtable's core.
        let desk = unsafe { desk::<S>(core) };
        Self::are_empty(core) && desk.is_none_or(|desk| desk.read(State::is_settled))
    }

    /// The lanes alone.
    fn are_empty(core: &Core) -> bool {
        core.lanes().all(|(_, lane)| lane.is_empty::<S>())
    }

    pub(crate) unsafe fn retire(core: &Core) -> bool {
        // Not `all`: each lane is to give its block back.
        core.lanes().filter(|(_, lane)| !lane.retire::<S>(&core.class().blocks)).count() == 0
    }

    pub(crate) unsafe fn queued(core: &Core, priority: Priority) -> usize {
        // SAFETY: this vtable's core.
        let kept = unsafe { desk::<S>(core) }.map_or(0, |desk| desk.read(|state| state.queued(priority)));
        kept + core.lane(priority).map_or(0, Lane::len::<S>)
    }

    /// Takes the first job of a lane.
    pub(crate) fn take_one(core: &Core, lane: &Lane) -> Option<(*mut ResultSlot, S, Span)> {
        let Claim::Jobs(span) = lane.claim::<S>(&core.class().blocks, 1) else { return None };
        // SAFETY: claimed above, one slot.
        let slot = unsafe { Shape::<S>::slot(span.block, span.start) };
        // SAFETY: as above, taken once.
        let (control, stored) = unsafe { slot.take() };
        // SAFETY: moved out above.
        unsafe { Shape::<S>::finish(&core.class().blocks, span.block, 1) };
        Some((control, stored, span))
    }
}

impl<S, A, R, F> Typed<S, R, F>
where
    S: Stored<Arg = A>,
    A: 'static,
    R: 'static,
    F: Fn(A) -> R,
{
    const TABLE: Vtable = Vtable {
        types: Types::of::<S::Arg, R>,
        retire: Lanes::<S>::retire,
        run_single: Self::run_single,
        run_ready: Self::run_ready,
        run_managed: Self::run_managed,
        run_span: Self::run_span,
        run_nested: Self::run_nested,
        panicked: |worker, payload| worker_panicked::<R>(worker, payload),
        discard_span: Discard::<S, R>::span,
        discard_nested: Discard::<S, R>::nested,
        discard_queued: Discard::<S, R>::queued,
        is_empty: Lanes::<S>::is_empty,
        is_settled: Lanes::<S>::is_settled,
        queued: Lanes::<S>::queued,
        drop_body: Self::drop_body,
        closed: |_| (),
        managed: Kept::<S, R>::TABLE,
        announce: |core| _ = core.shared().sleep.notify(),
    };

    unsafe fn drop_body(body: *mut ()) {
        // SAFETY: made by `Box::into_raw` in `with_body` for this type.
        drop(unsafe { Box::from_raw(body.cast::<F>()) });
    }

    unsafe fn run_ready(worker: &Worker, core: &Core) -> bool {
        debug_assert_eq!(core.flags() & PULLED, 0);
        let Claim::Jobs(span) = core.lane.claim::<S>(&core.class().blocks, usize::MAX) else {
            return Self::settle(worker, core, Priority::Normal);
        };
        if span.began {
            worker.holds(core.index);
        }
        // While nobody sleeps the bit may stay set though the lane is empty: whoever looks next clears it, and nobody falls
        // asleep over it. That saves the producer its line, and the next submit a look at the sleepers.
        let emptied = if worker.has_sleepers() {
            Self::settle(worker, core, Priority::Normal)
        } else {
            span.start + span.len < Shape::<S>::CAPACITY
        };
        // SAFETY: claimed above.
        unsafe { Self::run_span(worker, core, span, emptied) };
        true
    }

    /// Clears the function's bit if its lane is empty: whether it is.
    #[inline(always)]
    fn settle(worker: &Worker, core: &Core, priority: Priority) -> bool {
        let ready = worker.shared_arc().ready(priority);
        // A lane that was not made yet may be made while the bit of a function that had this index before is cleared. If the
        // function was made managed meanwhile, its jobs may be elsewhere, and the bit says that they may start.
        let is_empty = || core.lane(priority).is_none_or(Lane::is_empty::<S>) && core.flags() & MANAGED == 0;
        ready.settle(core.index as usize, is_empty, || worker.notify())
    }

    unsafe fn run_single(worker: &Worker, core: &Core, priority: Priority) -> bool {
        let first = core.lane(priority).and_then(|lane| Some((lane, Lanes::<S>::take_one(core, lane)?)));
        let Some((lane, (control, stored, span))) = first else { return Self::settle(worker, core, priority) };
        let sample = lane.take_stamp(span).map(|stamp| Self::waited(core, stamp));
        if span.began {
            worker.holds(core.index);
        }
        if !Self::settle(worker, core, priority) && worker.has_sleepers() {
            worker.notify();
        }
        worker.pass_on_if_last();
        // Between the take and the look at the flag, see `managed`.
        fence_light();
        let mut entry = Entry::new(control, stored);
        if core.flags() & MANAGED != 0 {
            // SAFETY: this vtable's core.
            let desk = unsafe { desk::<S>(core) }.expect("the flag is raised after it was made");
            match desk.give_back(entry, |state, entry| state.put_first(priority, std::iter::once(entry))) {
                Ok(()) => {
                    std::mem::forget(sample);
                    return true;
                }
                Err(kept) => entry = kept,
            }
        }
        let Entry { control, stored, .. } = entry;
        worker.ran(1);
        // SAFETY: the body lives until the engine has ended, and this worker is part of it.
        let body = unsafe { &*core.body_ptr().cast::<F>() };
        worker.begin(core);
        let _earlier = Earlier::new(core);
        // SAFETY: taken above.
        unsafe { Self::run_apart(worker, core, body, control, stored) };
        drop(sample);
        true
    }

    /// The first job of a claim is a sample: notes how long it waited since `stamp`, and how long it runs, which is from now
    /// on.
    #[cold]
    fn waited(core: &Core, stamp: u64) -> Timed<'_> {
        let started = clock::now();
        core.note_wait(started.saturating_sub(stamp));
        Timed { core, started }
    }

    /// Runs jobs that may start, one after the other: each is taken when the one before it has ended.
    unsafe fn run_managed(worker: &Worker, core: &Core, priority: Priority) -> bool {
        // SAFETY: this vtable's core.
        let desk = unsafe { desk::<S>(core) }.expect("the flag is raised after it was made");
        let Some(mut entry) = desk.start(priority) else { return Lanes::<S>::are_empty(core) };
        // SAFETY: the body lives until the engine has ended, and this worker is part of it.
        let body = unsafe { &*core.body_ptr().cast::<F>() };
        let mut left = ROUND;
        loop {
            let ended = Ended(desk);
            Self::run_entry(worker, core, desk, body, entry);
            left -= 1;
            // Others of the same priority have their turn, and whatever is more urgent.
            if left == 0 || priority == Priority::Low || worker.has_urgent() || worker.is_surplus() {
                return true;
            }
            std::mem::forget(ended);
            match desk.start_next(priority) {
                Some(next) => entry = next,
                None => return true,
            }
        }
    }

    fn run_entry(worker: &Worker, core: &Core, desk: Desk<'_, S>, body: &F, entry: Entry<S>) {
        let Entry { control, stored, record, stamp, .. } = entry;
        worker.pass_on_if_last();
        worker.ran(1);
        worker.begin(core);
        let sample = stamp.map(|stamp| Self::waited(core, stamp));
        if record == 0 {
            // SAFETY: taken by the caller.
            unsafe { Self::run_apart(worker, core, body, control, stored) };
        } else {
            Self::run_recorded(worker, desk, body, record, stored.unwrap());
        }
        drop(sample);
    }

    /// Runs a job that has a record: who hears of its end is decided then, and whether it is still wanted.
    fn run_recorded(worker: &Worker, desk: Desk<'_, S>, body: &F, record: RecordId, arg: A) {
        worker.set_record(record);
        worker.start();
        let outcome = catch_unwind(AssertUnwindSafe(|| body(arg)));
        worker.set_record(0);
        match outcome {
            Ok(value) => match desk.settle(record) {
                Some(record) => {
                    worker.end();
                    managed::deliver(record, value);
                }
                // Too late: it was told that its time is up, or there is another attempt.
                None => {
                    worker.end_undone();
                    quietly(|| drop(value));
                }
            },
            Err(payload) => {
                worker.end_undone();
                worker.panicked();
                desk.panicked(record, JobError::Panicked(Panic::new(payload)));
            }
        }
    }

    unsafe fn run_span(worker: &Worker, core: &Core, span: Span, emptied: bool) {
        // SAFETY: the body lives until the engine has ended, and this worker is part of it.
        let body = unsafe { &*core.body_ptr().cast::<F>() };
        Self::prefetch_results(span);
        let mut sample = core.lane.take_stamp(span);
        let claim = worker.claim();
        let mut remaining = claim.open(NonNull::from(core), span.block, span.start, span.len);
        worker.claimed(span.len, emptied);
        let earlier = Earlier::new(core);
        if earlier.is_none() {
            Self::give_claim_back(worker, core);
        }
        let ran = Cell::new(0);
        worker.begin(core);
        loop {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let mut batch = worker.batch(&ran);
                if let Some(stamp) = sample.take() {
                    if worker.has_urgent() {
                        worker.run_urgent_first();
                    }
                    let Some(i) = claim.start(&mut remaining) else { return };
                    ran.set(ran.get() + 1);
                    // SAFETY: the claim gave job `i` to this call.
                    let slot = unsafe { Shape::<S>::slot(span.block, i) };
                    // SAFETY: as above.
                    unsafe { Self::run_sample(worker, core, body, slot, stamp) };
                }
                loop {
                    // The whole claim can be revoked meanwhile.
                    if worker.has_urgent() {
                        batch.settle();
                        worker.run_urgent_first();
                    }
                    let Some(i) = claim.start(&mut remaining) else { return };
                    ran.set(ran.get() + 1);
                    // SAFETY: the claim gave job `i` to this call.
                    let slot = unsafe { Shape::<S>::slot(span.block, i) };
                    // SAFETY: as above.
                    let (control, stored) = unsafe { slot.take() };
                    // SAFETY: moved out above.
                    unsafe { Self::run_taken(worker, core, body, control, stored.unwrap(), &mut batch) };
                }
            }));
            match caught {
                Ok(()) => break,
                Err(payload) => worker_panicked::<R>(worker, payload),
            }
        }
        claim.close();
        let ran = ran.get();
        worker.ran(ran);
        if ran == 0 {
            std::mem::forget(earlier);
        } else {
            // Not when all were revoked: then the block is not ours to look at.
            // SAFETY: these jobs were moved out; others of the span were revoked and are their taker's to finish.
            unsafe { Shape::<S>::finish(&core.class().blocks, span.block, ran) };
        }
    }

    /// The function was made managed while its jobs were being claimed.
    #[cold]
    fn give_claim_back(worker: &Worker, core: &Core) {
        // SAFETY: this vtable's core.
        if let Some(desk) = unsafe { desk::<S>(core) } {
            desk.take_claims_back([worker.me()]);
        }
    }

    /// Fetches the result slots of a span while its first jobs run: each is a line that another core wrote last.
    #[inline(always)]
    fn prefetch_results(span: Span) {
        for i in span.start..span.start + span.len {
            // SAFETY: claimed by the caller; the block is of this core's shape.
            let control = unsafe { Shape::<S>::slot(span.block, i) }.peek();
            if control == detached() {
                // Jobs with and without handles are seldom mixed: not worth a pass over the rest.
                return;
            }
            prefetch_write(control);
        }
    }

    unsafe fn run_nested<'w>(
        worker: &'w Worker,
        core: &Core,
        mut taken: Taken<'w, Core>,
        budget: &Cell<usize>,
    ) -> Option<Taken<'w, Core>> {
        // SAFETY: the body lives until the engine has ended, and this worker is part of it.
        let body = unsafe { &*core.body_ptr().cast::<F>() };
        worker.begin(core);
        loop {
            // SAFETY: pushed by this function's submit.
            let (control, stored) = unsafe { unpack::<S>(taken, |node| worker.free_node(core.class(), node)) };
            // After the fence of the pop or the steal, see `managed`.
            if core.flags() & MANAGED != 0 {
                worker.apart(|| {
                    if let Err(Entry { control, stored, .. }) = Self::join_managed(core, control, stored) {
                        // SAFETY: moved out above.
                        unsafe { Self::run_apart(worker, core, body, control, stored) };
                    }
                });
            } else if control == detached() {
                Self::forget_result(|| body(stored.unwrap()));
            } else {
                // SAFETY: moved out above.
                worker.apart(|| unsafe { Self::run_apart(worker, core, body, control, stored) });
            }
            if budget.get() == 0 {
                return None;
            }
            if worker.has_urgent() {
                worker.interrupt(|| worker.run_urgent_first());
            }
            taken = worker.pop(budget)?;
            if !ptr::eq(taken.function().as_ptr(), core) || worker.is_discarding() {
                return Some(taken);
            }
        }
    }

    /// The function was made managed while this job lay in a deque.
    #[cold]
    #[inline(never)]
    fn join_managed(core: &Core, control: *mut ResultSlot, stored: S) -> Result<(), Entry<S>> {
        // SAFETY: this vtable's core.
        let desk = unsafe { desk::<S>(core) }.expect("the flag is raised after it was made");
        desk.give_back(Entry::new(control, stored), |state, entry| state.append(Priority::Normal, entry))
    }

    /// A call of its own, so that nested jobs without a handle need not save what it needs.
    #[inline(never)]
    unsafe fn run_apart(worker: &Worker, core: &Core, body: &F, control: *mut ResultSlot, stored: S) {
        // SAFETY: passed on from the caller.
        unsafe { Self::run_taken(worker, core, body, control, stored.unwrap(), &mut worker.batch(&Cell::new(1))) };
    }

    /// Runs a job, and notes how long it waited and runs.
    #[cold]
    #[inline(never)]
    unsafe fn run_sample(worker: &Worker, core: &Core, body: &F, job: &JobSlot<S>, stamp: u64) {
        let _timed = Self::waited(core, stamp);
        // SAFETY: passed on from the caller.
        let (control, stored) = unsafe { job.take() };
        // SAFETY: moved out above.
        unsafe { Self::run_apart(worker, core, body, control, stored) };
    }

    /// Runs a body for nobody. The job has ended when it returns, whatever the drop of what it returned does.
    #[inline(always)]
    fn forget_result(body: impl FnOnce() -> R) {
        let result = body();
        if std::mem::needs_drop::<R>() {
            quietly(|| drop(result));
        }
    }

    #[inline(always)]
    unsafe fn run_taken(
        worker: &Worker,
        core: &Core,
        body: &F,
        control: *mut ResultSlot,
        arg: A,
        batch: &mut Batch<'_, Core>,
    ) {
        if control == detached() {
            batch.enter();
            Self::forget_result(|| body(arg));
            batch.leave();
            return;
        }
        // SAFETY: a control word is null, `detached` or a slot; a taken job's is not null.
        let slot = unsafe { NonNull::new_unchecked(control) };
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        if !this.begin() {
            batch.skip();
            worker.cancelled();
            core.count_end(&JobError::Cancelled);
            this.bury(core.origin());
            // SAFETY: the job's side, last use.
            unsafe { ResultSlot::complete::<R>(slot, Err(JobError::Cancelled)) };
            quietly(|| drop(arg));
            return;
        }
        worker.set_job(control);
        batch.enter();
        let result = body(arg);
        worker.set_job(detached());
        batch.leave_for_all_to_see();
        // SAFETY: the job's side, last use.
        unsafe { ResultSlot::complete::<R>(slot, Ok(result)) };
    }
}

/// Queues a nested job on the worker that is running one, or hands the argument back when there is no room.
#[inline(always)]
pub(crate) fn pack<S>(worker: &Worker, core: &Core, control: *mut ResultSlot, stored: S) -> Result<(), S> {
    let slot = NonNull::new(control).filter(|_| control != detached());
    // SAFETY: the slab's slots live as long as the process.
    let slot = slot.map(|slot| unsafe { slot.as_ref() });
    if let Some(slot) = slot {
        slot.set_nested(true);
    }
    pack_in(worker, core, control, stored).inspect_err(|_| {
        if let Some(slot) = slot {
            slot.set_nested(false);
        }
    })
}

#[inline(always)]
fn pack_in<S>(worker: &Worker, core: &Core, control: *mut ResultSlot, stored: S) -> Result<(), S> {
    if deque::fits::<S>() {
        return worker.push(core, control, stored);
    }
    let Some(node) = worker.node(core.class()) else { return Err(stored) };
    // SAFETY: nodes of this core's class hold an `S`.
    let argument = &unsafe { node.cast::<Node<S>>().as_ref() }.argument;
    // SAFETY: the node is this call's.
    argument.with_mut(|p| unsafe { p.cast::<S>().write(stored) });
    worker.push(core, control, node).map_err(|node| {
        worker.free_node(core.class(), node);
        // SAFETY: written above and not shared.
        argument.with(|p| unsafe { p.cast::<S>().read() })
    })
}

/// Moves a nested job out of its entry, and out of its node if it has one.
///
/// # Safety
/// `taken` was pushed by `pack::<S>`.
#[inline(always)]
unsafe fn unpack<S>(taken: Taken<'_, Core>, free: impl FnOnce(NonNull<Link>)) -> (*mut ResultSlot, S) {
    if deque::fits::<S>() {
        // SAFETY: pushed as `S`.
        return unsafe { taken.empty::<S>() };
    }
    // SAFETY: pushed as a node.
    let (control, node) = unsafe { taken.empty::<NonNull<Link>>() };
    // SAFETY: nodes of this core's class hold an `S`.
    let argument = &unsafe { node.cast::<Node<S>>().as_ref() }.argument;
    // SAFETY: written by `pack`, read once.
    let stored = argument.with(|p| unsafe { p.cast::<S>().read() });
    free(node);
    (control, stored)
}

/// A body (or a drop of what it returned to nobody) panicked: reports it to the job's handle, if it has one.
#[cold]
#[inline(never)]
fn worker_panicked<R>(worker: &Worker, payload: Box<dyn Any + Send>) {
    worker.panicked();
    // SAFETY: the function of the job that panicked, which this worker is not past.
    let core = unsafe { &*worker.running().function };
    core.count(|events| &events.panicked, 1);
    worker.end_undone();
    let control = worker.running().job;
    if control == detached() {
        swallow(payload);
        return;
    }
    worker.set_job(detached());
    // SAFETY: `set_job` was given the slot of the job that was running.
    let slot = unsafe { NonNull::new_unchecked(control) };
    quietly(|| {
        // SAFETY: the job's side, last use.
        unsafe { ResultSlot::complete::<R>(slot, Err(JobError::Panicked(Panic::new(payload)))) };
    });
}

//! A function's key: the typed way to its queue.

mod explain;
mod limits;
mod stats;
mod wakeups;

use crate::batch::Batch;
use crate::error::{BatchError, CallError, SubmitError};
use crate::handle::JobHandle;
use crate::job::slot::ResultSlot;
use crate::queue::block::{Shape, detached};
use crate::queue::lane::Refused;
use crate::queue::managed::{Entry, NoRoom};
use crate::queue::priority::Priority;
use crate::queue::record::Terms;
use crate::sched::core::{CLOSED, Core, CoreRef, MANAGED, PULLED, REMOVED};
use crate::sched::managed;
use crate::sched::run::{self, Inline, Stored, is_inline};
use crate::sched::worker::Worker;
use crate::submit::Submit;
use arrayvec::ArrayVec;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{self, NonNull};

/// Jobs of a batch that are handed to the queue at a time.
const BATCH: usize = 64;
/// Bytes of arguments that are collected at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// Handles of a batch that room is made for at once, whatever its iterator promises.
const HANDLES: usize = 1 << 20;

/// A registered function with argument `A` and result `R`. Clones are keys to the same one.
///
/// A submit from outside the engine appends to the function's queue: jobs start in that order. A submit from inside a
/// job goes to the worker's own deque, newest first, and may be stolen; that is what makes trees of jobs cheap.
pub struct Function<A, R> {
    core: CoreRef,
    types: PhantomData<fn(A) -> R>,
}

impl<A, R> Function<A, R> {
    pub(crate) fn new(core: CoreRef) -> Self {
        Function { core, types: PhantomData }
    }

    pub(crate) fn core(&self) -> &CoreRef {
        &self.core
    }
}

impl<A: Send + 'static, R: Send + 'static> Function<A, R> {
    /// Queues a job and forgets it: the fastest way in. The result is dropped; a panic is counted.
    ///
    /// # Errors
    /// [`SubmitError::Closed`] after the function was removed or the engine began to end, [`SubmitError::Full`] when a
    /// billion jobs of this size are queued. Both hand the argument back.
    #[inline]
    pub fn send(&self, arg: A) -> Result<(), SubmitError<A>> {
        self.queue(detached(), arg)
    }

    /// Queues a job and returns its handle.
    ///
    /// # Errors
    /// As for [`send`](Self::send); also [`SubmitError::Full`] while the process has 16,777,215 handles to results of
    /// about this size.
    #[inline]
    pub fn submit(&self, arg: A) -> Result<JobHandle<R>, SubmitError<A>> {
        let Some(slot) = ResultSlot::acquire::<R>() else { return Err(SubmitError::Full(arg)) };
        self.handle(slot, self.queue(slot.as_ptr(), arg))
    }

    /// A job that needs more than its argument, such as a priority.
    pub fn job(&self, arg: A) -> Submit<'_, A, R> {
        Submit::new(self, arg)
    }

    /// Queues a job and waits for its result.
    ///
    /// # Errors
    /// What [`submit`](Self::submit) or [`JobHandle::wait`] report.
    pub fn call(&self, arg: A) -> Result<R, CallError<A, R>> {
        self.submit(arg).map_err(CallError::Submit)?.wait().map_err(CallError::Wait)
    }

    /// Queues many jobs without handles: how many. Jobs of one call start in order; others may come between.
    ///
    /// A panic of the iterator goes on to the caller; what it gave before is queued.
    ///
    /// # Errors
    /// [`BatchError`] with the arguments from the first refused one on.
    pub fn send_batch(&self, args: impl IntoIterator<Item = A>) -> Result<usize, BatchError<A>> {
        let mut accepted = 0;
        let sent = self.each_chunk(args, |chunk| {
            let n = self.queue_chunk(chunk, |_| detached());
            accepted += n;
            n
        });
        match sent {
            Ok(()) => Ok(accepted),
            Err(rest) => Err(BatchError { accepted, handles: Batch::new(Vec::new()), rest, full: !self.is_closed() }),
        }
    }

    /// Queues many jobs and returns their handles, in order.
    ///
    /// # Errors
    /// [`BatchError`] with the handles made so far and the arguments from the first refused one on.
    pub fn submit_batch(&self, args: impl IntoIterator<Item = A>) -> Result<Batch<R>, BatchError<A, R>> {
        let args = args.into_iter();
        let mut handles: Vec<JobHandle<R>> = Vec::with_capacity(args.size_hint().0.min(HANDLES));
        let sent = self.each_chunk(args, |chunk| {
            let before = handles.len();
            let slots: ArrayVec<_, BATCH> = chunk.iter().map_while(|_| ResultSlot::acquire::<R>()).collect();
            let n = self.queue_chunk(&mut chunk[..slots.len()], |i| slots[i].as_ptr());
            handles.extend(slots[..n].iter().map(|&slot| JobHandle::new(slot, self.core.origin())));
            slots[n..].iter().for_each(|&slot| ResultSlot::abandon(slot));
            handles.len() - before
        });
        match sent {
            Ok(()) => Ok(Batch::new(handles)),
            Err(rest) => {
                Err(BatchError { accepted: handles.len(), handles: Batch::new(handles), rest, full: !self.is_closed() })
            }
        }
    }

    /// The name it was registered under.
    pub fn name(&self) -> &str {
        self.core.name()
    }

    /// Jobs that are queued: not started, and not cancelled. Exact when nothing is submitted, started or taken out meanwhile;
    /// what is cancelled or too late is taken out by submits that want its room, and by the engine's clock. Jobs submitted from
    /// inside jobs are in the workers' deques and do not count.
    pub fn queued(&self) -> usize {
        self.core.count_queued()
    }

    /// Whether the function takes no more jobs from outside.
    pub fn is_closed(&self) -> bool {
        self.core.flags() & CLOSED != 0 || self.core.lane.is_closed()
    }

    pub(crate) fn send_with(&self, priority: Priority, arg: A, terms: Terms) -> Result<(), SubmitError<A>> {
        if priority == Priority::Normal && terms.is_empty() && !terms.beyond_limits {
            return self.send(arg);
        }
        self.queue_with(priority, detached(), arg, terms, true)
    }

    pub(crate) fn submit_with(&self, priority: Priority, arg: A, terms: Terms) -> Result<JobHandle<R>, SubmitError<A>> {
        if priority == Priority::Normal && terms.is_empty() && !terms.beyond_limits {
            return self.submit(arg);
        }
        let Some(slot) = ResultSlot::acquire::<R>() else { return Err(SubmitError::Full(arg)) };
        self.handle(slot, self.queue_with(priority, slot.as_ptr(), arg, terms, true))
    }

    /// [`submit`](Self::submit) with terms, from a thread that others wait for: where [`Overflow::Block`](crate::Overflow::Block)
    /// would make it wait, the function is full.
    #[cfg(feature = "gearman")]
    pub(crate) fn submit_at_once(
        &self,
        priority: Priority,
        arg: A,
        terms: Terms,
    ) -> Result<JobHandle<R>, SubmitError<A>> {
        let Some(slot) = ResultSlot::acquire::<R>() else { return Err(SubmitError::Full(arg)) };
        self.handle(slot, self.queue_with(priority, slot.as_ptr(), arg, terms, false))
    }

    /// The handle of a job that was queued, or not.
    #[inline(always)]
    fn handle(
        &self,
        slot: NonNull<ResultSlot>,
        queued: Result<(), SubmitError<A>>,
    ) -> Result<JobHandle<R>, SubmitError<A>> {
        match queued {
            Ok(()) => Ok(JobHandle::new(slot, self.core.origin())),
            Err(refused) => {
                ResultSlot::abandon(slot);
                Err(refused)
            }
        }
    }

    fn queue_with(
        &self,
        priority: Priority,
        control: *mut ResultSlot,
        arg: A,
        terms: Terms,
        may_wait: bool,
    ) -> Result<(), SubmitError<A>> {
        if !terms.is_empty() {
            self.manage();
        }
        if is_inline::<A>() {
            self.queue_stored_with(priority, control, Inline::wrap(arg), terms, may_wait)
        } else {
            self.queue_stored_with(priority, control, <Box<A>>::wrap(arg), terms, may_wait)
        }
    }

    /// From wherever, to the lane of a priority, or to wherever else this function's jobs go.
    fn queue_stored_with<S: Stored<Arg = A>>(
        &self,
        priority: Priority,
        control: *mut ResultSlot,
        stored: S,
        terms: Terms,
        may_wait: bool,
    ) -> Result<(), SubmitError<A>> {
        let core = &*self.core;
        let is_inside = Worker::with_current(|w| w.is_some_and(|w| ptr::eq(w.shared(), core.shared())));
        let is_pulled = core.flags() & PULLED != 0;
        let refusing = if is_inside && !is_pulled { REMOVED } else { CLOSED };
        if core.flags() & refusing != 0 {
            return Err(SubmitError::Closed(stored.unwrap()));
        }
        if core.flags() & MANAGED != 0 {
            return Self::submit_managed(core, priority, control, stored, terms, may_wait);
        }
        if core.lane(priority).is_none() {
            core.shared().make_side(core);
        }
        let lane = core.lane(priority).expect("made above");
        lane.push(&core.class().blocks, control, stored).map_err(Self::refused)?;
        if is_pulled {
            // SAFETY: the vtable was made for this core.
            unsafe { (core.vtable.announce)(core) };
        } else {
            Self::announce(core, priority);
        }
        Ok(())
    }

    /// A job was queued for the workers: wakes one if that is due.
    #[inline(always)]
    fn announce(core: &Core, priority: Priority) {
        let shared = core.shared();
        if shared.ready(priority).set(core.index as usize) && shared.sleep.notify() {
            Worker::with_current(|worker| worker.inspect(|worker| worker.woke(true)).is_some());
        }
    }

    #[inline(always)]
    fn queue(&self, control: *mut ResultSlot, arg: A) -> Result<(), SubmitError<A>> {
        if is_inline::<A>() {
            self.queue_stored(control, Inline::wrap(arg))
        } else {
            self.queue_stored(control, <Box<A>>::wrap(arg))
        }
    }

    /// The nested path is small and inlined where jobs submit jobs; the other is one call.
    #[inline(always)]
    fn queue_stored<S: Stored<Arg = A>>(&self, control: *mut ResultSlot, stored: S) -> Result<(), SubmitError<A>> {
        let core = &*self.core;
        // SAFETY: used within this call.
        if let Some(worker) = unsafe { Worker::current() }
            && ptr::eq(worker.shared(), core.shared())
            && core.flags() & (PULLED | REMOVED | MANAGED) == 0
        {
            return match run::pack(worker, core, control, stored) {
                Ok(()) => Ok(()),
                // The deque is full: the job goes where those from outside go.
                Err(stored) => Self::push(core, control, stored),
            };
        }
        if core.flags() == 0 {
            Self::push(core, control, stored)
        } else {
            self.queue_stored_with(Priority::Normal, control, stored, Terms::default(), true)
        }
    }

    /// Into the function's own queue.
    #[inline(never)]
    fn push<S: Stored<Arg = A>>(core: &Core, control: *mut ResultSlot, stored: S) -> Result<(), SubmitError<A>> {
        if let Err(refused) = core.lane.push(&core.class().blocks, control, stored) {
            return Err(Self::refused(refused));
        }
        Self::announce(core, Priority::Normal);
        Ok(())
    }

    #[cold]
    fn refused<S: Stored<Arg = A>>((why, stored): (Refused, S)) -> SubmitError<A> {
        match why {
            Refused::Closed => SubmitError::Closed(stored.unwrap()),
            Refused::Exhausted => SubmitError::Full(stored.unwrap()),
        }
    }

    /// To the queue of a managed function.
    #[cold]
    fn submit_managed<S: Stored<Arg = A>>(
        core: &Core,
        priority: Priority,
        control: *mut ResultSlot,
        stored: S,
        terms: Terms,
        may_wait: bool,
    ) -> Result<(), SubmitError<A>> {
        // SAFETY: this function's jobs are stored as `S`.
        let desk = unsafe { managed::desk::<S>(core) }.expect("the flag is raised after it was made");
        let may_wait = may_wait && Worker::with_current(|worker| worker.is_none());
        let submitted = desk.submit(priority, Entry::new(control, stored), terms, may_wait);
        submitted.map_err(|(why, entry)| match why {
            NoRoom::Closed => SubmitError::Closed(entry.stored.unwrap()),
            NoRoom::Full | NoRoom::Wait => {
                core.count(|events| &events.refused, 1);
                SubmitError::Full(entry.stored.unwrap())
            }
        })
    }

    /// Feeds the arguments to `queue` in chunks; on a refusal returns the rest.
    fn each_chunk(
        &self,
        args: impl IntoIterator<Item = A>,
        queue: impl FnMut(&mut [Option<A>]) -> usize,
    ) -> Result<(), Vec<A>> {
        // A chunk lies on the stack.
        if size_of::<A>() <= CHUNK_BYTES / BATCH {
            Self::each_chunk_of::<BATCH>(args, queue)
        } else {
            Self::each_chunk_of::<1>(args, queue)
        }
    }

    fn each_chunk_of<const N: usize>(
        args: impl IntoIterator<Item = A>,
        mut queue: impl FnMut(&mut [Option<A>]) -> usize,
    ) -> Result<(), Vec<A>> {
        let mut args = args.into_iter();
        loop {
            // Collected before slots are reserved: an iterator that panics must not leave a hole in the queue. What it
            // gave before is queued all the same.
            let mut chunk: ArrayVec<Option<A>, N> = ArrayVec::new();
            let fed = catch_unwind(AssertUnwindSafe(|| chunk.extend(args.by_ref().take(N).map(Some))));
            if queue(&mut chunk) < chunk.len() {
                return Err(chunk.into_iter().flatten().chain(args).collect());
            }
            if let Err(panic) = fed {
                resume_unwind(panic);
            }
            if chunk.is_empty() {
                return Ok(());
            }
        }
    }

    /// Queues a chunk, taking what is accepted out of it: how many.
    fn queue_chunk(&self, chunk: &mut [Option<A>], control: impl Fn(usize) -> *mut ResultSlot) -> usize {
        let core = &*self.core;
        // Boxes are made before slots are reserved.
        if !is_inline::<A>() || core.flags() != 0 || Worker::with_current(|w| w.is_some()) {
            return self.queue_singly(chunk, control);
        }
        let mut accepted = 0;
        while accepted < chunk.len() {
            let reserved = core.lane.reserve::<Inline<A>>(&core.class().blocks, chunk.len() - accepted);
            let Ok(span) = reserved else { break };
            for i in span.start..span.start + span.len {
                let arg = chunk[accepted].take().expect("each argument is taken once");
                // SAFETY: reserved above.
                unsafe { Shape::slot(span.block, i) }.publish(control(accepted), Inline::wrap(arg));
                accepted += 1;
            }
            Self::announce(core, Priority::Normal);
        }
        accepted
    }

    /// A chunk from inside a job, of large arguments, or for a function that needs care.
    fn queue_singly(&self, chunk: &mut [Option<A>], control: impl Fn(usize) -> *mut ResultSlot) -> usize {
        for (i, place) in chunk.iter_mut().enumerate() {
            let arg = place.take().expect("each argument is taken once");
            if let Err(refused) = self.queue(control(i), arg) {
                *place = Some(refused.into_arg());
                return i;
            }
        }
        chunk.len()
    }
}

impl<A, R> Clone for Function<A, R> {
    fn clone(&self) -> Self {
        Function { core: self.core.clone(), types: PhantomData }
    }
}

impl<A, R> fmt::Debug for Function<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("name", &self.core.name()).finish_non_exhaustive()
    }
}

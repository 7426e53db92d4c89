//! The result slot: one cell between the job that fills it and the handle that reads it.
//!
//! Two parties hold a slot, the job and the handle, and the last one frees it. All of that is in one word, `state`:
//!
//! ```text
//! PENDING --wait--> PARKED --------------------------+
//!    |  \--poll--> REGISTERING --> WAKER ------------+--job ends--> WRITING --> done
//!    |                                               |
//!    +-----------------------------------------------+
//!    \--handle dropped--> DETACHED: the job frees the slot
//! ```
//!
//! * The value's bytes belong to the job in WRITING, to the handle when done, and hold the waker in WAKER. In
//!   REGISTERING the handle is moving its waker there. These two states last a few instructions without foreign code;
//!   whoever meets the other side in one of them yields until it is over.
//! * Who parks is woken by a futex call on the word itself. The slot may be reused by then: memory is type-stable, so
//!   that is a spurious wake-up at worst, and every sleeper looks again.
//!
//! **Start or cancel** is decided by two bytes and an asymmetric pair of fences, so that it costs the worker two plain
//! stores and a load (Dekker's entry protocol): the worker stores STARTING, light fence, loads `cancel`; the canceller
//! stores `cancel`, heavy fence, loads `started`. At least one of them sees the other. If the canceller sees STARTING it
//! waits for the worker's next store, a few instructions away, which says what was decided. `cancel` itself moves by
//! exchanges, so that each cancelled job counts as a tombstone once: who asked settles the wish, or the worker that met it.

mod progress;

pub(crate) use progress::Progress;

use super::id::JobId;
use super::origin;
use super::slab::{self, Size};
use crate::error::JobError;
use crate::queue::pool::{Link, NIL};
use crate::quiet;
use crate::sync::{
    AtomicU8, AtomicU32, Ordering, UnsafeCell, fence_heavy, fence_light, futex_wait, futex_wake, spin_loop, yield_now,
};
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

// States of the slot. Above `NIL`, because the word is the free list's link while the slot is free.
const PENDING: u32 = NIL + 1;
/// A thread sleeps on the word.
const PARKED: u32 = NIL + 2;
/// The handle is writing its waker.
const REGISTERING: u32 = NIL + 3;
/// A waker is registered.
const WAKER: u32 = NIL + 4;
/// The job is writing the outcome.
const WRITING: u32 = NIL + 5;
/// The handle is gone.
const DETACHED: u32 = NIL + 6;
/// Done; everything from here on is.
const DONE_VALUE: u32 = NIL + 16;
const DONE_ERROR: u32 = NIL + 17;
const DONE_CANCELLED: u32 = NIL + 18;
const DONE_TIMED_OUT: u32 = NIL + 19;
const DONE_EVICTED: u32 = NIL + 20;
const DONE_LOST: u32 = NIL + 21;

// What the worker has said about starting.
const NOT_STARTED: u8 = 0;
const STARTING: u8 = 1;
const RUNNING: u8 = 2;
/// The worker saw the cancel and did not start.
const YIELDED: u8 = 3;

// What the handle has asked.
const NOT_ASKED: u8 = 0;
/// Somebody asked and is about to learn what comes of it.
const ASKED: u8 = 1;
/// The job will not run.
const GRANTED: u8 = 2;
/// It was running. Should it be put back, it will not run again.
const WISHED: u8 = 3;

/// Spins of a waiter before it parks, about 10 us: half of what a futex wake takes to answer.
const SPINS: u32 = if crate::sync::IS_MODEL { 0 } else { 400 };

/// Waits a moment: whether what is waited for has come about.
#[inline(always)]
// Models do not spin.
#[cfg_attr(any(layshaft_loom, layshaft_shuttle), allow(clippy::reversed_empty_ranges))]
pub(crate) fn spin_until(is_over: impl Fn() -> bool) -> bool {
    for i in 0..SPINS {
        if is_over() {
            return true;
        }
        if i % 64 == 63 { yield_now() } else { spin_loop() }
    }
    is_over()
}

/// One result slot: a header of 16 bytes; the value's bytes follow it in memory.
#[repr(C, align(16))]
pub(crate) struct ResultSlot {
    /// `link.next` is the state.
    link: Link,
    generation: AtomicU32,
    started: AtomicU8,
    cancel: AtomicU8,
    /// The job lies in a worker's deque and not in its function's lane.
    nested: AtomicU8,
    size: Size,
    /// Stands for the value's bytes, so that the model checker sees who touches them.
    value: UnsafeCell<()>,
}

/// How a value of type `R` is kept.
struct Place<R>(std::marker::PhantomData<R>);

impl<R> Place<R> {
    /// In the slot, or in a box of its own.
    const INLINE: bool = size_of::<R>() <= Size::Large.value_bytes() && align_of::<R>() <= 16;
    const SIZE: Size = if !Self::INLINE || size_of::<R>() <= Size::Tiny.value_bytes() {
        Size::Tiny
    } else if size_of::<R>() <= Size::Small.value_bytes() {
        Size::Small
    } else {
        Size::Large
    };
}

impl ResultSlot {
    /// A free slot.
    pub(crate) fn new(link: Link, size: Size) -> ResultSlot {
        ResultSlot {
            link,
            generation: AtomicU32::new(0),
            started: AtomicU8::new(NOT_STARTED),
            cancel: AtomicU8::new(NOT_ASKED),
            nested: AtomicU8::new(0),
            size,
            value: UnsafeCell::new(()),
        }
    }

    /// A slot for a job with result `R`. Nothing is written to it here: the exchange that queues the job would have to
    /// wait for the slot's line, which another core wrote last. It was made ready when it was freed.
    #[inline(always)]
    pub(crate) fn acquire<R>() -> Option<NonNull<ResultSlot>> {
        slab::acquire(Place::<R>::SIZE)
    }

    /// Makes a slot ready for its next use, after its state word was a free list's link.
    #[inline]
    pub(crate) fn reset(slot: NonNull<ResultSlot>) {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        // Ordering: Relaxed, whoever frees or fetches a slot owns it alone; published with the job.
        this.state().store(PENDING, Ordering::Relaxed);
    }

    #[inline(always)]
    fn state(&self) -> &AtomicU32 {
        &self.link.next
    }

    #[inline(always)]
    fn value_ptr(slot: NonNull<ResultSlot>) -> NonNull<u8> {
        // SAFETY: every slot is followed by its value's bytes.
        unsafe { slot.add(1).cast() }
    }

    /// Ends a use of the slot. The caller is the last party.
    #[inline(always)]
    fn free(slot: NonNull<ResultSlot>) {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        Self::reset(slot);
        // Ordering: Relaxed, as in `reset`; likewise below.
        let generation = this.generation.load(Ordering::Relaxed);
        // Ordering: Relaxed, as above.
        this.generation.store(generation.wrapping_add(1), Ordering::Relaxed);
        // Ordering: Relaxed, as above.
        this.started.store(NOT_STARTED, Ordering::Relaxed);
        // Ordering: Relaxed, as above.
        this.cancel.store(NOT_ASKED, Ordering::Relaxed);
        // Ordering: Relaxed, as above.
        this.nested.store(0, Ordering::Relaxed);
        slab::release(slot, this.size);
    }

    #[inline]
    pub(crate) fn id(&self) -> JobId {
        // Ordering: Relaxed, changes only between uses.
        let generation = self.generation.load(Ordering::Relaxed);
        JobId::new(slab::number(self.link.index, self.size), generation)
    }

    // The job's side.

    /// The job is about to start: `false` when it was cancelled, and must be finished as such without running.
    #[inline(always)]
    pub(crate) fn begin(&self) -> bool {
        // Ordering: Relaxed, ordered before the load below by the fences (`fence_heavy` in `cancel`).
        self.started.store(STARTING, Ordering::Relaxed);
        fence_light();
        // Ordering: Relaxed, ordered by the fences as above.
        if self.cancel.load(Ordering::Relaxed) != NOT_ASKED {
            return self.yield_to_cancel();
        }
        // Ordering: Relaxed, the value alone tells `cancel` what it wants to know.
        self.started.store(RUNNING, Ordering::Relaxed);
        true
    }

    #[cold]
    fn yield_to_cancel(&self) -> bool {
        // Ordering: Relaxed, the value alone decides; a wish that was refused stays what it is.
        let _ = self.cancel.compare_exchange(ASKED, GRANTED, Ordering::Relaxed, Ordering::Relaxed);
        // Ordering: Relaxed, as in `begin`.
        self.started.store(YIELDED, Ordering::Relaxed);
        false
    }

    /// A started job goes back to its queue.
    pub(crate) fn unbegin(&self) {
        // Ordering: Relaxed, published with the job when it is queued again.
        self.started.store(NOT_STARTED, Ordering::Relaxed);
    }

    /// Whether the caller asked to cancel: a running body may look and end early.
    #[inline]
    pub(crate) fn is_cancel_requested(&self) -> bool {
        // Ordering: Relaxed, a hint to the body.
        self.cancel.load(Ordering::Relaxed) != NOT_ASKED
    }

    /// The job has a record: cancelled ones are counted there.
    pub(crate) fn set_recorded(&self) {
        self.set_nested(true);
    }

    /// The job goes to a worker's deque, or back from there to its lane.
    #[inline]
    pub(crate) fn set_nested(&self, nested: bool) {
        // Ordering: Relaxed, published with the job.
        self.nested.store(u8::from(nested), Ordering::Relaxed);
    }

    /// A job that [`begin`](Self::begin) said no to was met in its queue: it is a tombstone no more, if it was one.
    pub(crate) fn bury(&self, origin: u32) {
        if self.is_cancel_granted() {
            self.count_tombstone(origin, u32::MAX);
        }
    }

    /// Jobs in a worker's deque are not counted, cancelled or not.
    fn count_tombstone(&self, origin: u32, n: u32) {
        // Ordering: Relaxed, written before the job was queued.
        if self.nested.load(Ordering::Relaxed) == 0 {
            origin::count_tombstones(origin, n);
        }
    }

    /// The job has ended; the job's side gives the slot up.
    ///
    /// # Safety
    /// The caller is the job's side of a slot acquired for `R`, and this is its last use.
    #[inline(always)]
    pub(crate) unsafe fn complete<R>(slot: NonNull<ResultSlot>, outcome: Result<R, JobError>) {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        // Ordering: Acquire on both sides: whatever the handle did with the value's bytes comes before our write.
        match this.state().compare_exchange(PENDING, WRITING, Ordering::Acquire, Ordering::Acquire) {
            // SAFETY: WRITING gives the value to the job's side.
            Ok(_) => unsafe { Self::announce(slot, outcome) },
            // SAFETY: as for this function.
            Err(seen) => unsafe { Self::complete_slow(slot, seen, outcome) },
        }
    }

    /// Writes the outcome and says so.
    #[inline(always)]
    unsafe fn announce<R>(slot: NonNull<ResultSlot>, outcome: Result<R, JobError>) {
        // SAFETY: passed on from the caller.
        let done = unsafe { Self::write(slot, outcome) };
        // Ordering: Release, pairs with the Acquire of the handle that sees `done`.
        // SAFETY: the slab's slots live as long as the process.
        unsafe { slot.as_ref() }.state().store(done, Ordering::Release);
    }

    #[cold]
    #[inline(never)]
    unsafe fn complete_slow<R>(slot: NonNull<ResultSlot>, mut state: u32, outcome: Result<R, JobError>) {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        loop {
            if state == DETACHED {
                Self::free(slot);
                // The job has ended well; who would have had its result is gone.
                quiet::quietly(|| drop(outcome));
                return;
            }
            if state == REGISTERING {
                // The handle is moving its waker into the value's place, a few instructions.
                yield_now();
                // Ordering: Acquire, as below.
                state = this.state().load(Ordering::Acquire);
                continue;
            }
            // Ordering: Acquire on both sides, as in `complete`; pairs with the Release in `poll`.
            match this.state().compare_exchange(state, WRITING, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => break,
                Err(seen) => state = seen,
            }
        }
        // SAFETY: WRITING gives the value's place to the job's side, and WAKER says that a waker is in it.
        let waker = (state == WAKER).then(|| unsafe { Self::take_waker(slot) });
        // SAFETY: as above.
        unsafe { Self::announce(slot, outcome) };
        match waker {
            Some(waker) => quiet::wake(waker),
            None if state == PARKED => futex_wake(this.state(), 1),
            None => {}
        }
    }

    /// Moves the waker out of the value's place.
    unsafe fn take_waker(slot: NonNull<ResultSlot>) -> Waker {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        // SAFETY: the caller owns the place, a waker was written to it, and is moved out once.
        this.value.with_mut(|_| unsafe { Self::value_ptr(slot).cast::<Waker>().read() })
    }

    /// Puts the outcome into the slot and returns the state that announces it.
    #[inline(always)]
    unsafe fn write<R>(slot: NonNull<ResultSlot>, outcome: Result<R, JobError>) -> u32 {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        let at = Self::value_ptr(slot);
        match outcome {
            Ok(value) if Place::<R>::INLINE => {
                // SAFETY: the place is large and aligned enough, and the caller owns it.
                this.value.with_mut(|_| unsafe { at.cast::<R>().write(value) });
                DONE_VALUE
            }
            Ok(value) => {
                let boxed = Box::into_raw(Box::new(value));
                // SAFETY: a pointer fits in every place.
                this.value.with_mut(|_| unsafe { at.cast::<*mut R>().write(boxed) });
                DONE_VALUE
            }
            Err(JobError::Cancelled) => DONE_CANCELLED,
            Err(JobError::TimedOut) => DONE_TIMED_OUT,
            Err(JobError::Evicted) => DONE_EVICTED,
            Err(JobError::Lost) => DONE_LOST,
            Err(error) => {
                let boxed = Box::into_raw(Box::new(error));
                // SAFETY: a pointer fits in every place.
                this.value.with_mut(|_| unsafe { at.cast::<*mut JobError>().write(boxed) });
                DONE_ERROR
            }
        }
    }

    /// Moves the outcome out and frees the slot.
    #[inline(always)]
    unsafe fn read<R>(slot: NonNull<ResultSlot>, done: u32) -> Result<R, JobError> {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        let at = Self::value_ptr(slot);
        let outcome = if done != DONE_VALUE {
            // SAFETY: as for this function.
            Err(unsafe { Self::read_error(slot, done) })
        } else if Place::<R>::INLINE {
            // SAFETY: DONE_VALUE says that `write` put an `R` here, and the caller is the only one left.
            Ok(this.value.with(|_| unsafe { at.cast::<R>().read() }))
        } else {
            // SAFETY: as above, boxed.
            let boxed = this.value.with(|_| unsafe { at.cast::<*mut R>().read() });
            // SAFETY: made by `Box::into_raw` in `write`, taken once.
            Ok(*unsafe { Box::from_raw(boxed) })
        };
        Self::free(slot);
        outcome
    }

    /// The reason why there is no result.
    #[cold]
    #[inline(never)]
    unsafe fn read_error(slot: NonNull<ResultSlot>, done: u32) -> JobError {
        match done {
            DONE_CANCELLED => JobError::Cancelled,
            DONE_TIMED_OUT => JobError::TimedOut,
            DONE_EVICTED => JobError::Evicted,
            DONE_LOST => JobError::Lost,
            _ => {
                // SAFETY: the slab's slots live as long as the process.
                let this = unsafe { slot.as_ref() };
                let at = Self::value_ptr(slot).cast::<*mut JobError>();
                // SAFETY: DONE_ERROR says that `write` put a boxed error here.
                let boxed = this.value.with(|_| unsafe { at.read() });
                // SAFETY: made by `Box::into_raw` in `write`, taken once.
                *unsafe { Box::from_raw(boxed) }
            }
        }
    }

    // The handle's side.

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        // Ordering: Acquire, pairs with the Release in `announce`.
        self.state().load(Ordering::Acquire) >= DONE_VALUE
    }

    /// Whether the job is done and gave a result.
    pub(crate) fn has_value(&self) -> bool {
        // Ordering: Relaxed, who gives the handle up acquires what led to it (`detach`).
        self.state().load(Ordering::Relaxed) == DONE_VALUE
    }

    /// Takes the outcome of a job that is done, and gives the slot up.
    ///
    /// # Safety
    /// The caller is the handle's side of a slot acquired for `R`, `is_done` said yes, and this is its last use.
    #[inline(always)]
    pub(crate) unsafe fn take<R>(slot: NonNull<ResultSlot>) -> Result<R, JobError> {
        // Ordering: Relaxed, `is_done` acquired it.
        // SAFETY: the slab's slots live as long as the process.
        let done = unsafe { slot.as_ref() }.state().load(Ordering::Relaxed);
        // SAFETY: passed on from the caller.
        unsafe { Self::read(slot, done) }
    }

    /// The handle goes away; the job goes on.
    ///
    /// # Safety
    /// The caller is the handle's side of a slot acquired for `R`, and this is its last use.
    pub(crate) unsafe fn detach<R>(slot: NonNull<ResultSlot>) {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        while !this.is_done() {
            drop(Self::unregister(slot));
            // Ordering: Release, so that the job's side frees the slot after our last use; Relaxed on failure, the loop
            // looks again.
            let gone = this.state().compare_exchange(PENDING, DETACHED, Ordering::Release, Ordering::Relaxed);
            if gone.is_ok() {
                return;
            }
            // The job's side is writing its result, a few instructions.
            yield_now();
        }
        // SAFETY: done, and passed on from the caller.
        drop(unsafe { Self::take::<R>(slot) });
    }

    /// Asks for the job not to run: `true` if it will not.
    pub(crate) fn cancel(slot: NonNull<ResultSlot>, origin: u32) -> bool {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        if this.is_done() {
            // Ordering: Relaxed, `is_done` acquired everything that led to it.
            return this.state().load(Ordering::Relaxed) == DONE_CANCELLED;
        }
        if !this.ask(origin) {
            return true;
        }
        fence_heavy();
        loop {
            // Ordering: Relaxed, ordered after the exchange in `ask` by the heavy fence; the value alone decides.
            match this.started.load(Ordering::Relaxed) {
                NOT_STARTED | YIELDED => break,
                RUNNING if this.settle_refused(origin) => return false,
                RUNNING => break,
                _ => yield_now(),
            }
        }
        // Ordering: Relaxed, the value alone decides; it fails when the job was met already.
        let _ = this.cancel.compare_exchange(ASKED, GRANTED, Ordering::Relaxed, Ordering::Relaxed);
        origin::count_cancel(origin);
        // Whoever polls the handle need not wait until the job is met in its queue.
        if let Some(waker) = Self::unregister(slot) {
            quiet::wake(waker);
        }
        true
    }

    /// Writes the wish down, unless it has been granted: whether there is something left to find out.
    fn ask(&self, origin: u32) -> bool {
        // Ordering: Relaxed, the exchange checks it.
        let mut seen = self.cancel.load(Ordering::Relaxed);
        loop {
            match seen {
                GRANTED => return false,
                ASKED => {
                    // Another thread cancels through the same handle and learns what comes of it.
                    yield_now();
                    // Ordering: Relaxed, as above.
                    seen = self.cancel.load(Ordering::Relaxed);
                }
                _ => {
                    // Before anybody can meet the job as cancelled, so that the count is never left wrong.
                    self.count_tombstone(origin, 1);
                    // Ordering: Relaxed, ordered before the load of `started` by the heavy fence (`fence_light` in `begin`).
                    match self.cancel.compare_exchange(seen, ASKED, Ordering::Relaxed, Ordering::Relaxed) {
                        Ok(_) => return true,
                        Err(now) => seen = now,
                    }
                    self.count_tombstone(origin, u32::MAX);
                }
            }
        }
    }

    /// The job runs: `false` when it has been put back and met as cancelled since.
    fn settle_refused(&self, origin: u32) -> bool {
        // Ordering: Relaxed, the value alone decides.
        let refused = self.cancel.compare_exchange(ASKED, WISHED, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if refused {
            self.count_tombstone(origin, u32::MAX);
        }
        refused
    }

    /// Whether [`cancel`](Self::cancel) said that the job will not run.
    #[inline]
    pub(crate) fn is_cancel_granted(&self) -> bool {
        // Ordering: Relaxed, the value alone tells.
        self.cancel.load(Ordering::Relaxed) == GRANTED
    }

    /// Gives up a slot whose job was never queued.
    pub(crate) fn abandon(slot: NonNull<ResultSlot>) {
        Self::free(slot);
    }

    /// Whether the handle is gone.
    pub(crate) fn is_abandoned(&self) -> bool {
        // Ordering: Relaxed, the value alone tells, and it is the slot's last but for its end.
        self.state().load(Ordering::Relaxed) == DETACHED
    }

    /// The job has ended without a value; the job's side gives the slot up.
    ///
    /// # Safety
    /// The caller is the job's side of the slot, and this is its last use.
    pub(crate) unsafe fn fail(slot: NonNull<ResultSlot>, error: JobError) {
        // SAFETY: passed on. The type says where a value lies, and there is none.
        unsafe { Self::complete::<()>(slot, Err(error)) };
    }

    /// Waits until the job is done, `limit` at most: whether it is.
    #[inline(always)]
    pub(crate) fn wait(slot: NonNull<ResultSlot>, limit: Option<Duration>) -> bool {
        // SAFETY: the slab's slots live as long as the process.
        unsafe { slot.as_ref() }.is_done() || Self::wait_slow(slot, limit)
    }

    #[cold]
    fn wait_slow(slot: NonNull<ResultSlot>, limit: Option<Duration>) -> bool {
        Self::spin(slot) || Self::park(slot, limit)
    }

    /// Waits a moment: whether the job is done.
    pub(crate) fn spin(slot: NonNull<ResultSlot>) -> bool {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        spin_until(|| this.is_done())
    }

    /// As [`wait`](Self::wait), without waiting a moment first.
    pub(crate) fn park(slot: NonNull<ResultSlot>, limit: Option<Duration>) -> bool {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        let end = limit.and_then(|d| Instant::now().checked_add(d));
        loop {
            drop(Self::unregister(slot));
            // Ordering: Acquire on both sides, pairs with the Release in `announce`.
            match this.state().compare_exchange(PENDING, PARKED, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) | Err(PARKED) => {}
                Err(seen) if seen >= DONE_VALUE => return true,
                Err(_) => {
                    yield_now();
                    continue;
                }
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                // Ordering: Relaxed on both sides: pending still, or the exchange above looks again.
                let gave_up = this.state().compare_exchange(PARKED, PENDING, Ordering::Relaxed, Ordering::Relaxed);
                if gave_up.is_ok() {
                    return false;
                }
                continue;
            }
            futex_wait(this.state(), PARKED, left);
        }
    }

    /// Registers the waker of `cx`, unless the job is done.
    pub(crate) fn poll(slot: NonNull<ResultSlot>, cx: &Context<'_>) -> Poll<()> {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        if this.is_done() {
            return Poll::Ready(());
        }
        // Cloned first: the state REGISTERING must not last through foreign code.
        let waker = cx.waker().clone();
        loop {
            drop(Self::unregister(slot));
            // Ordering: Acquire on both sides, pairs with the Release in `announce`.
            match this.state().compare_exchange(PENDING, REGISTERING, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => break,
                Err(seen) if seen >= DONE_VALUE => return Poll::Ready(()),
                Err(_) => yield_now(),
            }
        }
        // SAFETY: REGISTERING gives the value's place to the handle, and every place has room for a waker.
        this.value.with_mut(|_| unsafe { Self::value_ptr(slot).cast::<Waker>().write(waker) });
        // Ordering: Release, pairs with the Acquire of `complete_slow`.
        this.state().store(WAKER, Ordering::Release);
        Poll::Pending
    }

    /// Takes a registered waker out, so that the state is something else than WAKER.
    fn unregister(slot: NonNull<ResultSlot>) -> Option<Waker> {
        // SAFETY: the slab's slots live as long as the process.
        let this = unsafe { slot.as_ref() };
        // Ordering: Relaxed, the handle's side alone writes WAKER, so it has seen what it wrote before.
        this.state().compare_exchange(WAKER, REGISTERING, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        // SAFETY: REGISTERING gives the value's place to the handle; WAKER said that a waker is in it.
        let waker = unsafe { Self::take_waker(slot) };
        // Ordering: Release, so that the job's write comes after our read.
        this.state().store(PENDING, Ordering::Release);
        Some(waker)
    }
}
